//! Training end to end on a few steps: what is written, and that a stopped run continues exactly.

mod compare;
mod corpora;
mod image;
mod mllm;
mod recompute;
mod runs;
mod speech;
mod video;
