//! Where the published implementations of VibeVoice differ.

/// Differences between the original repository and `transformers` with the same weights and noise.
///
/// The default is the original, which the weights were trained and are used with. A comparison with numbers of
/// `transformers` needs its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// T1. Tokens are chosen with guidance too, whose second branch reads nothing but the tokens since the end
    /// of the prompt. `transformers` adds it because a `guidance_scale` is set; nobody wrote it for this model.
    pub guides_tokens: bool,
    /// O1. Decoder and semantic encoder forget what they heard where speech stops.
    pub resets_at_stop: bool,
    /// O2. Voices are not padded to whole hops: each convolution with a stride pads its own input.
    pub pads_each_convolution: bool,
    /// Numbers of speakers are lowered by 1 where none is 0.
    pub lowers_numbers: bool,
}

impl Rules {
    /// Rules of the original repository.
    pub const ORIGINAL: Self = Self {
        guides_tokens: false,
        resets_at_stop: true,
        pads_each_convolution: true,
        lowers_numbers: true,
    };

    /// Rules of `transformers` 5.
    pub const TRANSFORMERS: Self = Self {
        guides_tokens: true,
        resets_at_stop: false,
        pads_each_convolution: false,
        lowers_numbers: false,
    };
}

impl Default for Rules {
    fn default() -> Self {
        Self::ORIGINAL
    }
}
