//! What a second of speech costs a model, and what a step of its training costs, counted from its sizes.

use burn::module::Module;
use burn::tensor::Device;
use latentlm::backbone::BackboneConfig;
use latentlm::core::{CausalBackboneConfig, DistilledGuidance, LatentHeadConfig};
use latentlm_pipelines::TextConfig;
use serde::{Deserialize, Serialize};

use super::tts_budget::{MeanUtterance, Texts};
use super::tts_recipe::CompareTtsRecipe;

/// Passes of a training step, in units of a forward pass: the backward pass is worth two.
const PASSES: f64 = 3.0;
/// What else a step costs for each parameter, in multiply-adds: its gradient is clipped, AdamW updates it, and the
/// averages follow. That is no arithmetic to speak of, but it moves all of them through memory. Estimated from steps of
/// three models of 6.6 million parameters on two cores: 17 ms each beside their products at 10^11 a second.
const UPDATE: f64 = 250.0;
/// The share of an utterance whose codes the second network of a rival predicts in training: half of the utterances have
/// no voice, and the others one of up to half of their frames. A prompt before an utterance is not predicted; of one that
/// continues its own beginning, half is, which is not counted: logits are a hundredth of a step.
const PREDICTED: f64 = 7.0 / 8.0;

/// What a second of speech costs, and what it consists of. The text in front of it and the codec are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SpeechCounts {
    /// Steps of the autoregressive backbone a second, one after the other; both halves of guidance go together.
    pub backbone_steps: f64,
    /// Evaluations of the diffusion head a second, one after the other.
    pub head_evaluations: f64,
    /// Passes of the non-autoregressive network over an utterance, however long it is.
    pub passes: f64,
    /// The same a second of the corpus's mean utterance.
    pub passes_a_second: f64,
    /// Numbers of latents a second; 0 for codes.
    pub numbers: f64,
    /// Bits of codes a second; 0 for latents.
    pub bits: f64,
    /// Products of a weight with a number, and of numbers with each other in attention, a second of the corpus's mean
    /// utterance: both halves of guidance and all passes.
    pub multiply_adds: f64,
}

/// A stack of Transformer blocks.
#[derive(Debug, Clone, Copy)]
struct Blocks {
    /// Weights that every position passes.
    weights: f64,
    /// Multiply-adds of a position and another one that it attends to: scores and sums, in all blocks.
    pair: f64,
}

impl Blocks {
    fn of(config: &BackboneConfig, device: &Device) -> Self {
        Self {
            weights: config.init(device).num_params() as f64,
            pair: 2.0 * (config.width * config.depth) as f64,
        }
    }

    /// `count` positions that each attend to `before` positions and to those of their own before them.
    fn causal(&self, before: f64, count: f64) -> f64 {
        count * self.weights + self.pair * count * (before + count / 2.0)
    }

    /// `count` positions that each attend to `all`.
    fn full(&self, count: f64, all: f64) -> f64 {
        count * self.weights + self.pair * count * all
    }
}

/// Multiply-adds of LatentLM.
struct LatentCosts {
    backbone: Blocks,
    /// A latent that becomes a position.
    adapter: f64,
    /// Logits of what a position says or ends.
    softmax: f64,
    /// An evaluation of the head for a latent.
    head: f64,
}

impl LatentCosts {
    /// LatentLM with `frames` frames per latent and `vocabulary` tokens of text.
    fn of(recipe: &CompareTtsRecipe, frames: usize, vocabulary: usize, device: &Device) -> Self {
        let recipe = recipe.latentlm(frames);
        let (sizes, method) = (&recipe.lm.sizes, recipe.lm.method);
        let dim = recipe.codec.latent_dim;
        Self {
            backbone: Blocks::of(&sizes.backbone(), device),
            adapter: (dim * sizes.width) as f64,
            // Tokens of text, and those that begin speech, end it and say that it goes on.
            softmax: ((vocabulary + 3) * sizes.width) as f64,
            head: sizes.head(dim, method).init(device).num_params() as f64,
        }
    }
}

/// Multiply-adds of a rival.
struct CodeCosts {
    grouped: Blocks,
    /// A group of codes into a position and the next group out of it.
    group: f64,
    parallel: Blocks,
    /// Logits of a code of the second network.
    code: f64,
}

impl CodeCosts {
    /// The rival of a recipe, for a vocabulary of that many tokens of text.
    fn of(recipe: &CompareTtsRecipe, vocabulary: usize, device: &Device) -> Self {
        let (rival, config) = (&recipe.rival, recipe.code_lm(vocabulary));
        // Groups of one have no layers for that.
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
        Self {
            grouped: Blocks::of(&config.grouped, device),
            group: (grouping + softmax + said) as f64,
            // The blocks of the second network are those of a backbone of its sizes.
            parallel: Blocks::of(&config.parallel.backbone(), device),
            code: (rival.entries * rival.parallel_width) as f64,
        }
    }
}

impl SpeechCounts {
    /// Counts of LatentLM with `frames` frames per latent.
    pub(crate) fn of_latentlm(
        recipe: &CompareTtsRecipe,
        frames: usize,
        texts: Texts,
        device: &Device,
    ) -> Self {
        let own = LatentCosts::of(recipe, frames, texts.vocabulary, device);
        let utterance = texts.utterance;
        let recipe = recipe.latentlm(frames);
        let (rate, steps) = (recipe.frame_rate_hz(), recipe.sample.steps as f64);
        let latents = rate * utterance.seconds;
        let latent = own.adapter + own.softmax + steps * own.head;
        let mut cost = own.backbone.causal(utterance.tokens, latents) + latents * latent;
        // A head that has learned guidance is evaluated once. The other half reads no text.
        let is_guided = recipe.sample.guidance_scale != 1.0
            && recipe.lm.method.distilled_guidance == DistilledGuidance::None;
        if is_guided {
            cost += own.backbone.causal(1.0, latents) + latents * latent;
        }
        Self {
            backbone_steps: rate,
            head_evaluations: rate * steps,
            passes: 0.0,
            passes_a_second: 0.0,
            numbers: rate * recipe.codec.latent_dim as f64,
            bits: 0.0,
            multiply_adds: cost / utterance.seconds,
        }
    }

    /// Counts of the rival of a recipe.
    pub(crate) fn of_codes(recipe: &CompareTtsRecipe, texts: Texts, device: &Device) -> Self {
        let own = CodeCosts::of(recipe, texts.vocabulary, device);
        let utterance = texts.utterance;
        let (rate, rival) = (recipe.frame_rate_hz(), &recipe.rival);
        let (steps, passes) = (rate / rival.group as f64, (rival.codebooks - 1) as f64);
        let (groups, frames) = (steps * utterance.seconds, rate * utterance.seconds);
        let grouped = own.grouped.causal(utterance.tokens, groups) + groups * own.group;
        let all = utterance.tokens + frames;
        let parallel = passes * (own.parallel.full(frames, all) + frames * own.code);
        Self {
            backbone_steps: steps,
            head_evaluations: 0.0,
            passes,
            passes_a_second: passes / utterance.seconds,
            numbers: 0.0,
            bits: rate * rival.codebooks as f64 * (rival.entries as f64).log2(),
            multiply_adds: (grouped + parallel) / utterance.seconds,
        }
    }
}

/// A document of training: an utterance, with its prompt if it has one.
#[derive(Debug, Clone, Copy)]
struct Trained {
    /// Its share of all documents.
    share: f64,
    /// Length of its speech in seconds.
    seconds: f64,
    /// Tokens of its text, with the one that begins speech.
    tokens: f64,
}

/// The documents of training for the mean utterance: alone or behind its own beginning, behind another that is cut in any
/// word, about half of it, and behind a whole one. Prompts that do not fit into a pack are counted too.
fn documents(text: &TextConfig, utterance: MeanUtterance) -> [Trained; 3] {
    let (cut, whole) = (text.cut_prompts, text.whole_prompts);
    [(1.0 - cut - whole, 1.0), (cut, 1.5), (whole, 2.0)].map(|(share, times)| Trained {
        share,
        seconds: times * utterance.seconds,
        tokens: times * (utterance.tokens - 1.0) + 1.0,
    })
}

/// Multiply-adds of a step that trains `parameters` parameters on packs. `costs` gives the positions that a document takes
/// of a pack, and its multiply-adds forward. One that is longer than a pack is a pack of its own.
fn step(
    pack: usize,
    documents: [Trained; 3],
    passes: f64,
    parameters: usize,
    costs: impl Fn(Trained) -> [f64; 2],
) -> f64 {
    let (mut length, mut forward) = (0.0, 0.0);
    for document in documents {
        let [positions, cost] = costs(document);
        length += document.share * positions;
        forward += document.share * cost;
    }
    let count = (pack as f64 / length).max(1.0);
    passes * count * forward + UPDATE * parameters as f64
}

/// Multiply-adds of a step that trains the `parameters` parameters of LatentLM with `frames` frames per latent. Teachers
/// and whole steps are not counted.
pub(crate) fn step_of_latentlm(
    recipe: &CompareTtsRecipe,
    frames: usize,
    texts: Texts,
    parameters: usize,
    device: &Device,
) -> f64 {
    let own = LatentCosts::of(recipe, frames, texts.vocabulary, device);
    let recipe = recipe.latentlm(frames);
    let (rate, draws) = (recipe.frame_rate_hz(), recipe.lm.batch_mul as f64);
    let in_pack = if recipe.data.pack_frames {
        frames as f64
    } else {
        1.0
    };
    let passes = PASSES + f64::from(u8::from(recipe.lm.sizes.recompute));
    let passes = passes * recipe.lm_train.grad_accumulation as f64;
    let documents = documents(&recipe.text, texts.utterance);
    let pack = recipe.data.pack_positions;
    step(pack, documents, passes, parameters, |document| {
        let (tokens, latents) = (document.tokens, rate * document.seconds);
        let forward = own.backbone.causal(0.0, tokens + latents)
            + latents * (own.adapter + draws * own.head)
            + (latents + 1.0) * own.softmax;
        [tokens + latents * in_pack, forward]
    })
}

/// Multiply-adds of a step that trains the `parameters` parameters of the rival of a recipe. The second network learns one
/// codebook of each utterance.
pub(crate) fn step_of_codes(
    recipe: &CompareTtsRecipe,
    texts: Texts,
    parameters: usize,
    device: &Device,
) -> f64 {
    let own = CodeCosts::of(recipe, texts.vocabulary, device);
    let speech = recipe.codes();
    let (rate, group) = (speech.frame_rate_hz(), recipe.rival.group as f64);
    let predicted = PREDICTED * rate * texts.utterance.seconds;
    let passes = PASSES * speech.lm_train.grad_accumulation as f64;
    let documents = documents(&speech.text, texts.utterance);
    let pack = speech.data.pack_positions;
    step(pack, documents, passes, parameters, |document| {
        let (tokens, frames) = (document.tokens, rate * document.seconds);
        let groups = frames / group;
        // The second network reads the number of its codebook too.
        let all = tokens + 1.0 + frames;
        let forward = own.grouped.causal(0.0, tokens + groups)
            + (groups + 1.0) * own.group
            + own.parallel.full(all, all)
            + predicted * own.code;
        [tokens + frames, forward]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four seconds with 20 tokens of text.
    const TEXTS: Texts = Texts {
        vocabulary: 100,
        utterance: MeanUtterance {
            seconds: 4.0,
            tokens: 20.0,
        },
    };

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
        recipe.rival.entries = 16;
        recipe.rival.codebooks = 3;
        recipe.rival.aligned = false;
        recipe.rival.same_size = false;
        recipe.speech.text.cut_prompts = 0.0;
        recipe.speech.text.whole_prompts = 0.0;
        recipe
    }

    const BLOCK: usize = 64 * 128 + 64 * 64 + 3 * 64 * 128;

    #[test]
    fn a_second_of_codes_is_counted_in_closed_form() {
        let device = Device::default();
        let one = SpeechCounts::of_codes(&recipe(), TEXTS, &device);
        // A code attends to 20 tokens and on average to half of 300 codes, in 2 blocks; in a pass a frame attends to
        // 320 positions in one.
        let code = 2 * BLOCK + 17 * 64 + 2 * 2 * 64 * (20 + 150);
        let frame = 2 * (BLOCK + 16 * 64 + 2 * 64 * 320);
        let expected = SpeechCounts {
            backbone_steps: 75.0,
            head_evaluations: 0.0,
            passes: 2.0,
            passes_a_second: 0.5,
            numbers: 0.0,
            bits: 75.0 * 3.0 * 4.0,
            multiply_adds: (75 * (code + frame)) as f64,
        };
        assert_eq!(one, expected);
        let mut aligned = recipe();
        aligned.rival.aligned = true;
        let said = SpeechCounts::of_codes(&aligned, TEXTS, &device);
        let difference = said.multiply_adds - one.multiply_adds;
        assert_eq!(difference, (75 * 101 * 64) as f64);
        let two = SpeechCounts::of_codes(&recipe().of_group(2), TEXTS, &device);
        let group = 2 * BLOCK + 2 * 2 * 64 * 64 + 2 * 17 * 64 + 2 * 2 * 64 * (20 + 75);
        assert_eq!(two.backbone_steps, 37.5);
        assert_eq!(two.multiply_adds, 37.5 * group as f64 + (75 * frame) as f64);
    }

    /// Forward and backward over three utterances a pack, and the update of every parameter.
    #[test]
    fn a_step_is_counted_in_closed_form() {
        let device = Device::default();
        let mut recipe = recipe();
        recipe.speech.data.pack_positions = 960;
        let parameters = 1000;
        let step = step_of_codes(&recipe, TEXTS, parameters, &device);
        let grouped = 320 * 2 * BLOCK + 2 * 2 * 64 * 320 * 160 + 301 * 17 * 64;
        let parallel = 321 * BLOCK + 2 * 64 * 321 * 321;
        let codes = 7.0 / 8.0 * f64::from(300 * 16 * 64);
        let update = UPDATE * 1000.0;
        let expected = 9.0 * ((grouped + parallel) as f64 + codes) + update;
        assert_eq!(step, expected);
        recipe.speech.data.pack_positions = 10;
        let least = step_of_codes(&recipe, TEXTS, parameters, &device);
        assert_eq!(3.0 * (least - update), step - update, "one utterance");

        // A pack of as much speech: a latent counts as ten frames.
        let own = step_of_latentlm(&recipe, 10, TEXTS, parameters, &device);
        recipe.speech.data.pack_positions = 640;
        let two = step_of_latentlm(&recipe, 10, TEXTS, parameters, &device);
        let ratio = (two - update) / (own - update);
        assert!((ratio - 2.0).abs() < 1e-9, "{ratio}");
    }

    /// Half of the documents have a whole prompt: 600 frames and 39 tokens beside 300 and 20. A pack of 960 positions has
    /// two of 479.5 positions on average; attention costs more than in as many positions of single utterances.
    #[test]
    fn prompts_make_documents_longer() {
        let device = Device::default();
        let mut recipe = recipe();
        recipe.speech.data.pack_positions = 960;
        let alone = step_of_codes(&recipe, TEXTS, 0, &device);
        recipe.speech.text.whole_prompts = 0.5;
        let step = step_of_codes(&recipe, TEXTS, 0, &device);
        let forward = |tokens: usize, frames: usize| {
            let (all, more) = (tokens + frames, tokens + 1 + frames);
            let grouped = 2 * BLOCK * all + 2 * 64 * all * all + (frames + 1) * 17 * 64;
            let parallel = BLOCK * more + 2 * 64 * more * more;
            (grouped + parallel) as f64 + 7.0 / 8.0 * f64::from(300 * 16 * 64)
        };
        let documents = 960.0 / 479.5;
        let expected = 3.0 * documents * 0.5 * (forward(20, 300) + forward(39, 600));
        assert!((step / expected - 1.0).abs() < 1e-9, "{step} {expected}");
        assert!(step > alone, "{step} {alone}");
    }

    /// The rates of the paper at 24 kHz, and its claim: 7.5 steps against 75. All have as many numbers a second.
    #[test]
    fn steps_follow_from_the_hop() {
        let (recipe, device) = (CompareTtsRecipe::default(), Device::default());
        for (frames, hop, rate) in [(3, 960, 25.0), (6, 1920, 12.5), (10, 3200, 7.5)] {
            assert_eq!(recipe.latentlm(frames).codec.hop_samples(), hop);
            let counts = SpeechCounts::of_latentlm(&recipe, frames, TEXTS, &device);
            assert_eq!(counts.backbone_steps, rate);
            let steps = recipe.speech.sample.steps as f64;
            assert_eq!(counts.head_evaluations, rate * steps);
            assert_eq!(counts.numbers, 75.0 * recipe.numbers_per_frame as f64);
        }
        assert_eq!(recipe.codes().codec.hop_samples(), 320);
        let codes = SpeechCounts::of_codes(&recipe, TEXTS, &device);
        assert_eq!(codes.backbone_steps / 7.5, 10.0);
        assert_eq!(codes.bits, 4800.0, "eight codes of 8 bits");
    }
}
