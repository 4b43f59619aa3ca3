//! Runs of speech: the codec of sound, then the language model of texts and the codec's latents of their
//! speech.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm::codec_audio::{Codec, CodecLossConfig};
use latentlm::core::{CodecObjectiveConfig, LatentCodecConfig};
use latentlm::sequence::Document;
use latentlm::{LatentCodec, RandomStream};
use latentlm_data::speech::write_wav;
use latentlm_data::{PackOrder, TextTokenizer};
use latentlm_eval::{CodeUsage, mel_distance_db, save_spectrograms, stoi, write_speech_report};
use latentlm_pipelines::{
    KNOWN_TEXT, PipelineError, SpeechData, SpeechPipeline, SpeechRecipe, StageConfig, TOKENIZER,
    TokenWeights, hop_samples, load_codec, reconstruct, signal,
};

use super::held_out::HeldOut;
use super::pieces::Pieces;
use super::prompts::Prompts;
use super::said::{Spoken, trained_text, without_text};
use crate::adversarial::CodecSetup;
use crate::codec_stage::{self, CodecTask, codec_setup};
use crate::context::{self, RunEnd};
use crate::error::{Result, TrainError};
use crate::latent_cache::LatentCache;
use crate::latents::{self, Encoded};
use crate::lm_recipe::{LmPlan, LmRecipe, STAGE};
use crate::lm_stage::{self, Corpus, LmSetup, PipelineTask};
use crate::memory::{Demand, Demanding, check_demands};
use crate::optimize::Trainer;
use crate::options::RunOptions;
use crate::progress::Encoding;
use crate::run::{Modality, check_tokenizer};
use crate::teacher;

/// A run of speech.
type Context = context::Context<SpeechRecipe, SpeechData>;
/// Training on texts and their speech.
type SpeechTask = PipelineTask<SpeechRecipe, SpeechData, Option<HeldOut>, 3>;

/// Held-out recordings that are decoded as training goes.
const DECODED: usize = 4;
/// The number of the only modality.
const SPEECH: usize = 0;
/// Latents that the whitening is measured on, at most: two numbers need no more, and all latents of a
/// large corpus at once would not fit into memory.
const MEASURED_LATENTS: usize = 1 << 19;

/// Training of a codec of sound.
struct SoundTask(Pieces);

impl CodecTask<3> for SoundTask {
    type Recipe = SpeechRecipe;
    type Data = SpeechData;
    type Objective = <CodecLossConfig as CodecObjectiveConfig<3>>::Objective;
    /// A signal is long enough to be worth a thread alone.
    const ROWS_A_SHARD: usize = 1;

    fn config(recipe: &SpeechRecipe) -> &StageConfig {
        &recipe.codec_train
    }

    fn setup(recipe: &SpeechRecipe, device: &Device) -> Result<CodecSetup<Self::Objective, 3>> {
        let setup = codec_setup(&recipe.codec, &recipe.codec_loss, device);
        Ok(setup.map_err(PipelineError::from)?)
    }

    fn open(context: &mut Context, _first_step: u64) -> Result<Self> {
        Ok(Self(Pieces::new(&mut context.data, &context.recipe)?))
    }

    fn batch(&mut self, _context: &Context, round: u64, device: &Device) -> Result<Tensor<3>> {
        Ok(self.0.batch(round, device)?)
    }

    /// Moves the codebooks towards what the encoder makes of the pieces of the step. The choice follows from
    /// weights, step and seed alone, so that a resume does the same.
    fn before_step(&mut self, context: &Context, codec: &mut Trainer<Codec>) {
        if codec.model().quantizer().is_none() {
            return;
        }
        let (recipe, step) = (&context.recipe, codec.step());
        let round = step * recipe.codec_train.grad_accumulation as u64;
        // The step reads the same pieces, and says what is wrong with them.
        let Ok(pieces) = self.0.batch(round, &context.device) else {
            return;
        };
        let parameters = codec.model().valid().encode_parameters(pieces);
        let parameters = Tensor::from_inner(parameters);
        let mut random = RandomStream::for_step(recipe.seed, "codes", step);
        codec.edit(|codec| codec.learn_codebooks(parameters, &mut random));
    }

    /// Held-out recordings through the codec, without noise: numbers, a picture, a sound.
    fn show(&mut self, context: &mut Context, codec: &Codec, step: u64) -> Result<()> {
        let (mut sounds, mut distance, mut likeness) = (Vec::new(), 0.0, 0.0);
        let mut usage = codec.quantizer().map(CodeUsage::new);
        let (rate, hop) = (
            context.recipe.codec.signal().sample_rate_hz,
            hop_samples(codec),
        );
        for index in 0..context.data.test.len().min(DECODED) {
            // A recording that turns out to be broken is left out.
            let Ok(original) = context.data.test.get(index) else {
                continue;
            };
            if let Some(usage) = &mut usage {
                let sound = signal(original.samples.clone(), hop, &context.device);
                usage.count(codec.encode_parameters(sound));
            }
            let (original, decoded) = reconstruct(codec, original.samples, &context.device);
            distance += mel_distance_db(&original, &decoded, rate);
            likeness += stoi(&original, &decoded, rate).unwrap_or_default();
            sounds.extend([original, decoded]);
        }
        if sounds.is_empty() {
            return Ok(());
        }
        let count = (sounds.len() / 2) as f64;
        let perplexities = usage.map_or_else(Vec::new, |usage| usage.perplexities());
        let mut values = vec![
            ("held_out_mel_distance_db", distance / count),
            ("held_out_stoi", likeness / count),
        ];
        values.extend(perplexities.iter().map(|(name, value)| (&name[..], *value)));
        context.log(Self::NAME, step, &values)?;
        let file = |ending| context.sample_file(Self::NAME, step, ending);
        save_spectrograms(&sounds[..2], &file("png"))?;
        Ok(write_wav(&file("wav"), &sounds[1], rate)?)
    }
}

impl Demanding for SpeechRecipe {
    fn demands(&self, device: &Device) -> [Demand; 2] {
        let piece = [self.codec_frames(), self.codec.signal().hop_samples, 1];
        let keys = &["data.codec_seconds"];
        let mut codec = Demand::of_codec(&self.codec, &self.codec_loss, piece, keys, device);
        codec.batch_size = self.codec_train.batch_size as u64;
        // How short an utterance may be is up to the corpus.
        [codec, Demand::of_lm(self, 1, device)]
    }
}

impl LmRecipe for SpeechRecipe {
    fn lm(&self) -> LmPlan<'_> {
        let tokens = TokenWeights::from(self.text.loss_weight);
        LmPlan::new(&self.lm, &self.lm_train, Some(tokens))
    }
}

/// Texts and their speech.
struct Utterances(Vec<Document>);

impl Corpus for Utterances {
    fn document(&self, sample: usize, dropped: bool) -> Document {
        let document = &self.0[sample];
        if dropped {
            without_text(document)
        } else {
            document.clone()
        }
    }
}

/// Trains a recipe, or continues a run.
///
/// # Errors
/// If the folder, recipe or data are wrong, the loss is not finite, or a file can't be written.
pub fn train_speech(recipe: SpeechRecipe, options: RunOptions) -> Result<RunEnd> {
    train_speech_with(recipe, None, options)
}

/// [`train_speech`], with the codec of the finished run in the folder `codec`, if one is named, instead of its own.
///
/// # Errors
/// As [`train_speech`]; if the folder is no run of speech, or was trained on other data.
pub fn train_speech_with(
    recipe: SpeechRecipe,
    codec: Option<&Path>,
    options: RunOptions,
) -> Result<RunEnd> {
    check_tokenizer(&recipe.text.tokenizer, &options)?;
    let modality = Modality::<SpeechRecipe, SpeechData> {
        open: SpeechData::open,
        has_codec: teacher::has_codec,
        adopt: teacher::adopt_codec,
        train: |context| {
            let coded = codec_stage::train::<SoundTask, 3>(context)?;
            context.data.list_skipped(&context.run)?;
            Ok(coded && lm_stage::train::<SpeechTask>(context, open)?)
        },
        report: write_speech_report,
        samples: "wav",
        train_samples: |data| data.train.len(),
    };
    modality.run_with(recipe, codec, options)
}

fn open(context: &mut Context, latest: Option<&Path>) -> Result<(SpeechTask, LmSetup)> {
    let (recipe, device) = (context.recipe.clone(), context.device.clone());
    let codec = load_codec(&context.run, &device)?;
    let tokenizer = teacher::tokenizer(&recipe, latest, || context.data.tokenizer(&recipe))?;
    let (cache, documents) = encoded(context, &codec, &tokenizer)?;
    let pick =
        |lengths: &[u32], random: &mut RandomStream| measured(lengths, MEASURED_LATENTS, random);
    let encoded = Encoded::measure(codec, cache, pick, recipe.seed, &device)?;
    let (data, aligned) = (&mut context.data, recipe.text.aligned);
    let held_out = HeldOut::new(data, &encoded.codec, &tokenizer, aligned, &device);
    // Before the first step: a run that goes on from the cache does not decode what is broken again.
    data.list_skipped(&context.run)?;
    let mut order = speech_order(&recipe, &documents);
    let setup = LmSetup {
        rows: |documents| documents.iter().map(|own| own.frames(SPEECH)).sum(),
        hidden: Some(recipe.text.history_dropout),
        files: vec![
            (TOKENIZER, tokenizer.to_json()?),
            (KNOWN_TEXT, data.known().to_json()?),
        ],
        ..LmSetup::new(Utterances(documents), move |round| order.pack(round))
    };
    let task = SpeechTask {
        encoded,
        vocabulary: tokenizer.into(),
        held_out,
        show,
    };
    Ok((task, setup))
}

/// What a run's finished codec makes of all utterances, with their documents. Utterances that are broken or whose
/// text can't become tokens are left out and listed.
fn encoded(
    context: &mut Context,
    codec: &Codec,
    tokenizer: &TextTokenizer,
) -> Result<(LatentCache, Vec<Document>)> {
    let hop = hop_samples(codec);
    let cache = latents::cached(context, |context, cache| {
        // Labels are numbers of utterances. Those whose recording is broken are missing.
        let mut encoding = Encoding::begin(context.data.utterances(), &context.options);
        for index in 0..context.data.utterances() {
            if let Some(samples) = context.data.utterance(index) {
                let sound = signal(samples, hop, &context.device);
                cache.add(codec.encode_parameters(sound), &[index as u32]);
            }
            encoding.count(1)?;
        }
        Ok(())
    })?;
    documents(context, cache, tokenizer, hop)
}

/// A trained codec of speech, and what it makes of all utterances.
pub struct SpokenSamples {
    /// Its averaged weights.
    pub codec: Codec,
    /// What the encoder puts out.
    pub cache: LatentCache,
    /// A document for each utterance of the cache.
    pub documents: Vec<Document>,
    /// The vocabulary of the texts.
    pub tokenizer: TextTokenizer,
}

/// Trains the codec as a speech run of its own, or continues, and encodes the utterances. `None` if it was stopped.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a file can't be written.
pub fn encode_speech(recipe: SpeechRecipe, options: RunOptions) -> Result<Option<SpokenSamples>> {
    let asked = options.clone();
    let opened = context::Context::open(recipe, options, |recipe| {
        let data = SpeechData::open(recipe)?;
        let [of_codec, _] = recipe.demands(&asked.device);
        check_demands(&[of_codec], data.train.len(), &asked.device, &asked.within)?;
        Ok(data)
    });
    let mut context = match opened {
        Err(TrainError::Stopped) => return Ok(None),
        opened => opened?,
    };
    context.report = Some(write_speech_report);
    let coded = codec_stage::train::<SoundTask, 3>(&mut context)?;
    context.data.list_skipped(&context.run)?;
    if !coded {
        return Ok(None);
    }
    let codec = load_codec(&context.run, &context.device)?;
    let tokenizer = context.data.tokenizer(&context.recipe)?;
    let (cache, documents) = match encoded(&mut context, &codec, &tokenizer) {
        Err(TrainError::Stopped) => return Ok(None),
        encoded => encoded?,
    };
    context.data.list_skipped(&context.run)?;
    Ok(Some(SpokenSamples {
        codec,
        cache,
        documents,
        tokenizer,
    }))
}

/// The part of the cache that can be learned, with its documents. Utterances whose text can't become tokens
/// are left out and listed.
fn documents(
    context: &mut Context,
    cache: LatentCache,
    tokenizer: &TextTokenizer,
    hop: usize,
) -> Result<(LatentCache, Vec<Document>)> {
    let (data, recipe) = (&mut context.data, &context.recipe);
    let (mut kept, mut spoken) = (Vec::new(), Vec::new());
    for (place, (&index, &frames)) in cache.labels.iter().zip(&cache.lengths).enumerate() {
        let (index, frames) = (index as usize, frames as usize);
        let (text, words) = trained_text(data, recipe, index);
        let words = words.filter(|_| recipe.text.aligned);
        match Spoken::of(&text, words.as_deref(), frames, hop, tokenizer) {
            Ok(own) => {
                kept.push(place);
                spoken.push(own);
            }
            Err(error) => data.skip(index, &error),
        }
    }
    if spoken.is_empty() {
        let reason = "there is no utterance whose text the vocabulary has";
        return Err(TrainError::config(reason));
    }
    let prompts = Prompts {
        data: &*data,
        recipe,
        tokenizer,
        hop,
    };
    let (cache, spoken) = prompts.put_before(only(cache, &kept), spoken);
    Ok((cache, spoken.into_iter().map(Spoken::document).collect()))
}

/// Some utterances of a cache.
fn only(cache: LatentCache, kept: &[usize]) -> LatentCache {
    if kept.len() == cache.len() {
        return cache;
    }
    let of = |list: &[u32]| kept.iter().map(|&place| list[place]).collect();
    LatentCache {
        lengths: of(&cache.lengths),
        labels: of(&cache.labels),
        parameters: cache.gather(kept),
        ..cache
    }
}

/// The packs of every round. A curriculum is given in steps; a step may take several rounds.
pub fn speech_order(recipe: &SpeechRecipe, documents: &[Document]) -> PackOrder {
    let positions = documents.iter().map(|own| recipe.length_in_pack(own));
    let rounds_a_step = recipe.lm_train.grad_accumulation as u64;
    PackOrder::new(positions.collect(), recipe.data.pack_positions, recipe.seed)
        .short_first(recipe.data.curriculum_steps.saturating_mul(rounds_a_step))
}

/// Utterances with together at most `most` latents, chosen at random if all have more; at least one.
fn measured(lengths: &[u32], most: usize, random: &mut RandomStream) -> Vec<usize> {
    let mut all: Vec<usize> = (0..lengths.len()).collect();
    let total: usize = lengths.iter().map(|&length| length as usize).sum();
    if total <= most {
        return all;
    }
    let (mut taken, mut latents) = (0, 0);
    while latents <= most {
        let other = taken + random.below(all.len() - taken);
        all.swap(taken, other);
        latents += lengths[all[taken]] as usize;
        taken += 1;
    }
    // The last was one too many.
    all.truncate((taken - 1).max(1));
    all
}

/// The error on held-out utterances, and held-out texts spoken with the same noise each time. Texts that
/// are too long or of other characters are left out.
fn show(
    context: &mut Context,
    pipeline: &SpeechPipeline,
    held_out: &Option<HeldOut>,
    step: u64,
) -> Result<()> {
    if let Some(held_out) = held_out {
        context.log(STAGE, step, &held_out.losses(&pipeline.model))?;
    }
    let options = context.recipe.sample_options();
    let can_be_said = |text: &str| pipeline.accepts(&[text.to_owned()], None, &options).is_ok();
    let texts = context.data.examples(can_be_said);
    let sounds = pipeline.say(&texts, None, &options, 0)?.into_iter();
    let sounds: Vec<Vec<f32>> = sounds.map(|sound| sound.samples).collect();
    let file = |ending| context.sample_file(STAGE, step, ending);
    save_spectrograms(&sounds, &file("png"))?;
    let rate = context.recipe.codec.sample_rate_hz;
    let pause = vec![0.0; rate as usize / 4];
    Ok(write_wav(&file("wav"), &sounds.join(&pause[..]), rate)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document_of(frames: usize) -> Document {
        Document::of_speech(Vec::new(), frames, Vec::new())
    }

    /// All documents fit into one pack: it holds as many as the curriculum has come to.
    #[test]
    fn a_curriculum_counts_steps_of_several_rounds() {
        let mut recipe = SpeechRecipe::default();
        recipe.data.curriculum_steps = 10;
        recipe.data.pack_positions = 100_000;
        recipe.lm_train.grad_accumulation = 3;
        let documents: Vec<Document> = (1..=100).map(document_of).collect();
        let mut order = speech_order(&recipe, &documents);
        // A tenth of them, and of the rest the square of the share of steps that is over.
        for (round, admitted) in [(0, 10), (15, 33), (30, 100)] {
            assert_eq!(order.pack(round).len(), admitted, "round {round}");
        }
    }

    /// Latents of ten frames and the frames themselves: the same utterances in each pack.
    #[test]
    fn packs_hold_as_much_speech_at_any_rate() {
        let order = |frames: usize| {
            let mut recipe = SpeechRecipe::default();
            recipe.codec.frames_per_latent = frames;
            recipe.data.pack_frames = true;
            recipe.data.pack_positions = 500;
            let documents: Vec<Document> = (1..=60).map(|i| document_of(i * 10 / frames)).collect();
            speech_order(&recipe, &documents)
        };
        let (mut frames, mut latents) = (order(1), order(10));
        for round in 0..100 {
            assert_eq!(frames.pack(round), latents.pack(round), "round {round}");
        }
    }

    #[test]
    fn the_whitening_is_measured_on_a_bounded_share() {
        let lengths: Vec<u32> = (0..100).map(|i| 1 + i % 7).collect();
        let measured = |most, seed| measured(&lengths, most, &mut RandomStream::new(seed));
        let latents = |taken: &[usize]| -> usize {
            let lengths = taken.iter().map(|&place| lengths[place] as usize);
            lengths.sum()
        };
        let all: Vec<usize> = (0..100).collect();
        assert_eq!(measured(latents(&all), 1), all, "all, in their order");
        let some = measured(100, 1);
        // One more of at most seven would have been too much.
        assert!((94..=100).contains(&latents(&some)), "{}", latents(&some));
        let mut different = some.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), some.len(), "none twice");
        assert_ne!(measured(100, 2), some, "drawn, not the first");
        assert_eq!(measured(0, 1).len(), 1);
    }

    #[test]
    fn what_cannot_be_learned_leaves_the_cache() {
        let cache = LatentCache {
            dim: 2,
            lengths: vec![1, 2, 1],
            labels: vec![5, 7, 8],
            parameters: (0..8).map(|i| i as f32).collect(),
            fingerprint: "f".into(),
        };
        assert_eq!(only(cache.clone(), &[0, 1, 2]), cache);
        let expected = LatentCache {
            dim: 2,
            lengths: vec![1, 1],
            labels: vec![5, 8],
            parameters: vec![0.0, 1.0, 6.0, 7.0],
            fingerprint: "f".into(),
        };
        assert_eq!(only(cache, &[0, 2]), expected);
    }
}
