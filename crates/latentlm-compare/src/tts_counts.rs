//! What a second of speech costs a model, counted from its sizes.

use burn::module::Module;
use burn::tensor::Device;
use latentlm::backbone::BackboneConfig;
use latentlm::core::{CausalBackboneConfig, DistilledGuidance, LatentHeadConfig};
use serde::{Deserialize, Serialize};

use super::tts_recipe::CompareTtsRecipe;

/// What a second of speech costs. The text in front of it, attention's scores and the codec are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SpeechCounts {
    /// Steps of the autoregressive backbone a second, one after the other; both halves of guidance go together.
    pub backbone_steps: f64,
    /// Evaluations of the diffusion head a second, one after the other.
    pub head_evaluations: f64,
    /// Passes of the non-autoregressive network over an utterance, however long it is.
    pub passes: f64,
    /// Products of a weight with a number a second, both halves of guidance and all passes.
    pub multiply_adds: f64,
}

impl SpeechCounts {
    /// Counts of LatentLM with `frames` frames per latent and `vocabulary` tokens of text.
    pub(crate) fn of_latentlm(
        recipe: &CompareTtsRecipe,
        frames: usize,
        vocabulary: usize,
        device: &Device,
    ) -> Self {
        let recipe = recipe.latentlm(frames);
        let rate = recipe.frame_rate_hz();
        let (sizes, method) = (&recipe.lm.sizes, recipe.lm.method);
        let dim = recipe.codec.latent_dim;
        let backbone = sizes.backbone().init(device).num_params();
        let head = sizes.head(dim, method).init(device).num_params();
        // Tokens of text, and those that begin speech, end it and say that it goes on.
        let softmax = (vocabulary + 3) * sizes.width;
        let position = backbone + dim * sizes.width + softmax;
        let steps = recipe.sample.steps;
        // A head that has learned guidance is evaluated once.
        let is_guided = recipe.sample.guidance_scale != 1.0
            && method.distilled_guidance == DistilledGuidance::None;
        let halves = if is_guided { 2 } else { 1 };
        Self {
            backbone_steps: rate,
            head_evaluations: rate * steps as f64,
            passes: 0.0,
            multiply_adds: rate * (halves * (position + steps * head)) as f64,
        }
    }

    /// The rival of a recipe, for a vocabulary of that many tokens of text.
    pub(crate) fn of_codes(recipe: &CompareTtsRecipe, vocabulary: usize, device: &Device) -> Self {
        let (rate, rival) = (recipe.frame_rate_hz(), &recipe.rival);
        let config = recipe.code_lm(vocabulary);
        let weights = |sizes: &BackboneConfig| sizes.init(device).num_params();
        // Into a group and out of it; groups of one have no layers for that.
        let grouping = match rival.group {
            1 => 0,
            group => 2 * group * rival.width * rival.width,
        };
        let softmax = rival.group * (rival.entries + 1) * rival.width;
        // What a group says: a token of text, or silence.
        let said = if config.aligned {
            (vocabulary + 1) * rival.width
        } else {
            0
        };
        let group = weights(&config.grouped) + grouping + softmax + said;
        // The blocks of the second network are those of a backbone of its sizes.
        let parallel = weights(&config.parallel.backbone());
        let frame = parallel + rival.entries * rival.parallel_width;
        let (steps, passes) = (rate / rival.group as f64, (rival.codebooks - 1) as f64);
        Self {
            backbone_steps: steps,
            head_evaluations: 0.0,
            passes,
            multiply_adds: steps * group as f64 + rate * passes * frame as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> CompareTtsRecipe {
        let mut recipe = CompareTtsRecipe::default();
        // Blocks of 64 * (64 + 2 * 32) + 64 * 64 + 3 * 64 * 128 weights.
        recipe.rival.width = 64;
        recipe.rival.depth = 2;
        recipe.rival.heads = 2;
        recipe.rival.kv_heads = 1;
        recipe.rival.parallel_width = 64;
        recipe.rival.parallel_depth = 1;
        recipe.rival.parallel_heads = 2;
        recipe.rival.parallel_kv_heads = 1;
        recipe.rival.entries = 10;
        recipe.rival.codebooks = 3;
        recipe.rival.aligned = false;
        recipe
    }

    #[test]
    fn a_second_of_codes_is_counted_in_closed_form() {
        let device = Device::default();
        let block = 64 * 128 + 64 * 64 + 3 * 64 * 128;
        let one = SpeechCounts::of_codes(&recipe(), 100, &device);
        let frame = 2 * (block + 640);
        let expected = SpeechCounts {
            backbone_steps: 75.0,
            head_evaluations: 0.0,
            passes: 2.0,
            multiply_adds: (75 * (2 * block + 11 * 64 + frame)) as f64,
        };
        assert_eq!(one, expected);
        let mut aligned = recipe();
        aligned.rival.aligned = true;
        let said = SpeechCounts::of_codes(&aligned, 100, &device);
        let difference = said.multiply_adds - one.multiply_adds;
        assert_eq!(difference, (75 * 101 * 64) as f64);
        let two = SpeechCounts::of_codes(&recipe().of_group(2), 100, &device);
        let group = 2 * block + 2 * 2 * 64 * 64 + 2 * 11 * 64;
        assert_eq!(two.backbone_steps, 37.5);
        assert_eq!(two.multiply_adds, 37.5 * group as f64 + (75 * frame) as f64);
    }

    /// The rates of the paper at 24 kHz, and its claim: 7.5 steps against 75.
    #[test]
    fn steps_follow_from_the_hop() {
        let (recipe, device) = (CompareTtsRecipe::default(), Device::default());
        for (frames, hop, rate) in [(3, 960, 25.0), (6, 1920, 12.5), (10, 3200, 7.5)] {
            assert_eq!(recipe.latentlm(frames).codec.hop_samples(), hop);
            let counts = SpeechCounts::of_latentlm(&recipe, frames, 100, &device);
            assert_eq!(counts.backbone_steps, rate);
            let steps = recipe.speech.sample.steps as f64;
            assert_eq!(counts.head_evaluations, rate * steps);
        }
        assert_eq!(recipe.codes().codec.hop_samples(), 320);
        let codes = SpeechCounts::of_codes(&recipe, 100, &device);
        assert_eq!(codes.backbone_steps / 7.5, 10.0);
    }
}
