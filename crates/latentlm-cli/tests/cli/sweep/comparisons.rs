//! Keys of comparisons at values that nobody means.

use latentlm_compare::{CompareMllmRecipe, CompareRecipe, CompareTtsRecipe, SigmaRecipe};

use super::*;

const IMAGE: Kind = Kind {
    command: "compare image",
    table: "image.",
    compared: &[
        "image.lm_train.sample_every=2",
        "evaluate.samples=4",
        "evaluate.parameter_tolerance=1000",
        "dit.width=32",
        "dit.depth=1",
        "dit.heads=2",
        "transfusion.width=32",
        "transfusion.depth=1",
        "transfusion.heads=2",
        "vq.width=32",
        "vq.depth=1",
        "vq.heads=2",
        "vq.codes=16",
        "vq.restart_every=2",
    ],
    ..IMAGES
};
const TEXT_AND_PICTURES: Kind = Kind {
    command: "compare mllm",
    table: "mllm.",
    compared: &[
        "mllm.lm_train.sample_every=2",
        "evaluate.samples=4",
        "evaluate.parameter_tolerance=1000",
        "transfusion.width=32",
        "transfusion.depth=1",
        "transfusion.heads=2",
        "vq.width=32",
        "vq.depth=1",
        "vq.heads=2",
        "vq.codes=16",
    ],
    ..MLLM
};
const SIGMA: Kind = Kind {
    command: "compare sigma",
    table: "image.",
    compared: &["noise_stds=[0.5]", "samples=4"],
    ..IMAGES
};
const VOICES: Kind = Kind {
    command: "compare tts",
    table: "speech.",
    compared: &[
        "minutes=0",
        "frames_per_latent=[1]",
        "numbers_per_frame=4",
        "groups=[1]",
        "evaluate.samples=2",
        "evaluate.hard_texts=3",
        "evaluate.parameter_tolerance=1000",
        "rival.codebooks=3",
        "rival.entries=4",
        "rival.latent_dim=4",
        "rival.width=32",
        "rival.depth=1",
        "rival.heads=2",
        "rival.kv_heads=1",
        "rival.parallel_width=32",
        "rival.parallel_depth=1",
        "rival.parallel_heads=2",
        "rival.parallel_kv_heads=1",
    ],
    ..SPEECH
};

/// Of the other comparisons no absurd value is taken but in the table that they train.
pub fn sweep() {
    Sweep::of::<CompareRecipe>(&IMAGE).run();
    Sweep::of::<CompareMllmRecipe>(&TEXT_AND_PICTURES).run();
    Sweep::of::<SigmaRecipe>(&SIGMA).run();
    Sweep::of::<CompareTtsRecipe>(&VOICES).run();
}
