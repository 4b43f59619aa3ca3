//! The second stage: the language model of texts and the codec's latents of their speech.

use std::path::Path;

use burn::tensor::Device;
use latentlm::codec_audio::Codec;
use latentlm::sequence::Document;
use latentlm::{LatentLm, RandomStream};
use latentlm_data::speech::write_wav;
use latentlm_data::{LatentCache, PackOrder, TextTokenizer};
use latentlm_eval::save_spectrograms;
use latentlm_pipelines::{
    KNOWN_TEXT, SpeechData, SpeechPipeline, SpeechRecipe, TOKENIZER, TokenWeights, hop_samples,
    load_codec, signal,
};

use super::held_out::HeldOut;
use super::run::Context;
use super::said::{document, without_text};
use crate::error::TrainError;
use crate::latents::{self, Coding, Encoded};
use crate::lm_stage::{self, Corpus, LmParts, LmPlan, LmRecipe, LmTask};

/// The one modality there is.
const SPEECH: usize = 0;
/// Latents that the whitening is measured on, at most: two numbers need no more, and all latents of a
/// large corpus at once would not fit into memory.
const MEASURED_LATENTS: usize = 1 << 19;

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

/// Training on texts and their speech.
struct SpeechTask {
    encoded: Encoded<Codec, 3>,
    tokenizer: TextTokenizer,
    held_out: Option<HeldOut>,
}

/// Trains the language model or takes up where it was left. Returns whether it is finished.
///
/// # Errors
/// If the codec or data can't be read, the loss is not finite, or a checkpoint can't be written.
pub fn train(context: &mut Context) -> Result<bool, TrainError> {
    lm_stage::train::<SpeechTask>(context, open)
}

fn open(context: &mut Context, latest: Option<&Path>) -> Result<(SpeechTask, LmParts), TrainError> {
    let (recipe, device) = (context.recipe.clone(), context.device.clone());
    let codec = load_codec(&context.run, &device)?;
    let tokenizer = match latest {
        // Its weights belong to its vocabulary; one that is made anew may be another.
        Some(folder) => TextTokenizer::read(&folder.join(TOKENIZER))?,
        None => context.data.tokenizer(&recipe)?,
    };
    let cache = latents::cached(context, |context, cache| encode_all(context, &codec, cache))?;
    let (cache, documents) = documents(context, cache, &tokenizer, hop_samples(&codec))?;
    let pick =
        |lengths: &[u32], random: &mut RandomStream| measured(lengths, MEASURED_LATENTS, random);
    let encoded = Encoded::measure(codec, cache, pick, recipe.seed, &device)?;
    let (data, aligned) = (&mut context.data, recipe.text.aligned);
    let held_out = HeldOut::new(data, &encoded.codec, &tokenizer, aligned, &device);
    // Before the first step: a run that goes on from the cache does not decode what is broken again.
    data.list_skipped(&context.run)?;
    let mut order = order(&recipe, &documents);
    let parts = LmParts {
        rows: latents_of,
        hidden: Some(recipe.text.history_dropout),
        files: vec![
            (TOKENIZER, tokenizer.to_json()?),
            (KNOWN_TEXT, data.known().to_json()?),
        ],
        ..LmParts::new(Utterances(documents), move |round| order.pack(round))
    };
    let task = SpeechTask {
        encoded,
        tokenizer,
        held_out,
    };
    Ok((task, parts))
}

fn latents_of(documents: &[Document]) -> usize {
    documents.iter().map(|own| own.frames(SPEECH)).sum()
}

/// All utterances. Labels are their numbers: those whose recording is broken are missing.
fn encode_all(
    context: &mut Context,
    codec: &Codec,
    cache: &mut LatentCache,
) -> Result<(), TrainError> {
    let hop = hop_samples(codec);
    for index in 0..context.data.utterances() {
        if let Some(samples) = context.data.utterance(index)? {
            let sound = signal(samples, hop, &context.device);
            latents::encode(codec, sound, &[index as u32], cache);
        }
    }
    Ok(())
}

/// What of the cache can be learned, and how: utterances whose text can't become tokens are listed.
fn documents(
    context: &mut Context,
    cache: LatentCache,
    tokenizer: &TextTokenizer,
    hop: usize,
) -> Result<(LatentCache, Vec<Document>), TrainError> {
    let (mut kept, mut documents) = (Vec::new(), Vec::new());
    for (place, (&index, &frames)) in cache.labels.iter().zip(&cache.lengths).enumerate() {
        let (index, frames) = (index as usize, frames as usize);
        let (text, words) = (context.data.text(index), context.data.words(index));
        let words = words.filter(|_| context.recipe.text.aligned);
        match document(&text, words.as_deref(), [frames, hop], tokenizer) {
            Ok(document) => {
                kept.push(place);
                documents.push(document);
            }
            Err(error) => context.data.skip_text(index, &error),
        }
    }
    if documents.is_empty() {
        return Err(TrainError::config(
            "there is no utterance whose text the vocabulary has",
        ));
    }
    Ok((only(cache, &kept), documents))
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

/// The packs of every round. A curriculum is told in steps; a step may take several rounds.
fn order(recipe: &SpeechRecipe, documents: &[Document]) -> PackOrder {
    let positions = documents.iter().map(Document::positions);
    let rounds_a_step = recipe.lm_train.grad_accumulation as u64;
    PackOrder::new(positions.collect(), recipe.data.pack_positions, recipe.seed)
        .short_first(recipe.data.curriculum_steps.saturating_mul(rounds_a_step))
}

/// Utterances of together at most so many latents, drawn if all have more, but at least one.
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

impl LmTask for SpeechTask {
    type Recipe = SpeechRecipe;
    type Data = SpeechData;
    type Model = LatentLm;

    fn init(&self, recipe: &SpeechRecipe, device: &Device) -> LatentLm {
        recipe.model(self.tokenizer.vocabulary()).init(device)
    }

    fn coding(&self) -> &dyn Coding {
        &self.encoded
    }

    /// The error on held-out utterances, held-out texts spoken with the same noise each time. Texts that
    /// the model can't say, being too long or of other characters, are passed over.
    fn show(&self, context: &mut Context, model: &LatentLm, step: u64) -> Result<(), TrainError> {
        if let Some(held_out) = &self.held_out {
            context.log(Self::NAME, step, &held_out.losses(model))?;
        }
        let speaker = SpeechPipeline::new(
            context.manifest(Self::NAME, step),
            self.encoded.codec.clone(),
            model.clone(),
            self.tokenizer.clone(),
            context.device.clone(),
        );
        let options = context.recipe.sample_options();
        let can_be_said = |text: &str| speaker.accepts(&[text.to_owned()], None, &options).is_ok();
        let texts = context.data.examples(can_be_said);
        let sounds = speaker.say(&texts, None, &options, 0)?;
        let file = |ending: &str| {
            let name = format!("samples/lm-step-{step}.{ending}");
            context.run.file(&name)
        };
        let sounds: Vec<Vec<f32>> = sounds.into_iter().map(|sound| sound.samples).collect();
        save_spectrograms(&sounds, &file("png"))?;
        let rate = context.recipe.codec.sample_rate_hz;
        let pause = vec![0.0; rate as usize / 4];
        write_wav(&file("wav"), &sounds.join(&pause[..]), rate)?;
        Ok(())
    }
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
        let mut order = order(&recipe, &documents);
        // A tenth of them, and of the rest the square of the share of steps that is over.
        for (round, admitted) in [(0, 10), (15, 33), (30, 100)] {
            assert_eq!(order.pack(round).len(), admitted, "round {round}");
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
