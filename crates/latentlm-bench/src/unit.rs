//! The unit of work of a workload.

/// A prepared workload: every call does one unit of work and waits for it.
pub type Unit = Box<dyn FnMut()>;
