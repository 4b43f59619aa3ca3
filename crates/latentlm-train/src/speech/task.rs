//! The second stage: the language model of texts and the codec's latents of their speech.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::adapters::Whitening;
use latentlm::codec_audio::Codec;
use latentlm::core::bundle::BundleWriter;
use latentlm::sequence::Document;
use latentlm::{LatentLm, RandomStream};
use latentlm_data::speech::write_wav;
use latentlm_data::{LatentCache, PackOrder, TextTokenizer};
use latentlm_eval::save_spectrograms;
use latentlm_pipelines::{
    KNOWN_TEXT, LmConfig, Speaker, SpeechData, SpeechRecipe, StageConfig, TOKENIZER, TokenWeights,
    hop_samples, load_speech_codec, signal,
};

use super::held_out::HeldOut;
use super::run::Context;
use super::said::{document, without_text};
use crate::error::TrainError;
use crate::latents::{self, Encoded};
use crate::lm_stage::{self, LmRecipe, LmTask, Order};

/// The one modality there is.
const SPEECH: usize = 0;
/// Latents that the whitening is measured on, at most: two numbers need no more, and all latents of a
/// large corpus at once would not fit into memory.
const MEASURED_LATENTS: usize = 1 << 19;

impl LmRecipe for SpeechRecipe {
    fn lm(&self) -> &LmConfig {
        &self.lm
    }

    fn lm_train(&self) -> &StageConfig {
        &self.lm_train
    }

    fn token_weights(&self) -> TokenWeights {
        TokenWeights::from(self.text.loss_weight)
    }
}

/// Training on texts and their speech.
struct SpeechTask {
    encoded: Encoded<Codec>,
    tokenizer: TextTokenizer,
    /// The characters and words of the texts, for those who speak.
    known: String,
    /// Every utterance of the cache.
    documents: Vec<Document>,
    history_dropout: f64,
    held_out: Option<HeldOut>,
}

/// Trains the language model or takes up where it was left. Returns whether it is finished.
///
/// # Errors
/// If the codec or data can't be read, the loss is not finite, or a checkpoint can't be written.
pub fn train(context: &mut Context) -> Result<bool, TrainError> {
    lm_stage::train::<SpeechTask>(context, SpeechTask::open)
}

impl SpeechTask {
    fn open(context: &mut Context, latest: Option<&Path>) -> Result<Self, TrainError> {
        let recipe = context.recipe.clone();
        let device = context.device.clone();
        let codec = load_speech_codec(&context.run, &device)?;
        let tokenizer = match latest {
            // Its weights belong to its vocabulary; one that is made anew may be another.
            Some(folder) => TextTokenizer::read(&folder.join(TOKENIZER))?,
            None => context.data.tokenizer(&recipe)?,
        };
        let cache = latents::cached(context, |context, cache| encode_all(context, &codec, cache))?;
        let (cache, documents) = documents(context, cache, &tokenizer, hop_samples(&codec))?;
        let pick = |lengths: &[u32], random: &mut RandomStream| {
            measured(lengths, MEASURED_LATENTS, random)
        };
        let encoded = Encoded::measure(codec, cache, pick, recipe.seed, &device)?;
        let (data, aligned) = (&mut context.data, recipe.text.aligned);
        let held_out = HeldOut::new(data, &encoded.codec, &tokenizer, aligned, &device);
        // Before the first step: a run that goes on from the cache does not decode what is broken again.
        data.list_skipped(&context.run)?;
        Ok(Self {
            known: data.known().to_json()?,
            encoded,
            tokenizer,
            documents,
            history_dropout: recipe.text.history_dropout,
            held_out,
        })
    }
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

/// 1 for latents that are heard, 0 for those that are hidden, `[N, 1]`. What share is hidden is drawn
/// for every utterance, up to `most`. Without its past a model has to learn from the text what comes
/// next; with it the next latent is nearly given, but where a word begins.
fn audible(
    documents: &[Document],
    most: f64,
    random: &mut RandomStream,
    device: &Device,
) -> Tensor<2> {
    let mut values = Vec::new();
    for document in documents {
        let hidden = most * random.uniform();
        let heard = (0..document.frames(SPEECH)).map(|_| f32::from(!random.chance(hidden)));
        values.extend(heard);
    }
    let shape = [values.len(), 1];
    Tensor::from_data(TensorData::new(values, shape), device)
}

impl LmTask for SpeechTask {
    type Recipe = SpeechRecipe;
    type Data = SpeechData;
    type Model = LatentLm;

    fn init(&self, recipe: &SpeechRecipe, device: &Device) -> LatentLm {
        recipe.model(self.tokenizer.vocabulary()).init(device)
    }

    fn whitening(&self) -> Option<Whitening> {
        Some(self.encoded.whitening)
    }

    fn order(&self, recipe: &SpeechRecipe) -> Order {
        Order::Packs(order(recipe, &self.documents))
    }

    fn inputs(
        &self,
        samples: &[usize],
        random: &mut RandomStream,
        device: &Device,
    ) -> Vec<Tensor<2>> {
        vec![self.encoded.draw(samples, random, device)]
    }

    fn document(&self, sample: usize, dropped: bool) -> Document {
        let document = &self.documents[sample];
        if dropped {
            without_text(document)
        } else {
            document.clone()
        }
    }

    fn seen(
        &self,
        documents: &[Document],
        random: &mut RandomStream,
        device: &Device,
    ) -> Vec<Tensor<2>> {
        vec![audible(documents, self.history_dropout, random, device)]
    }

    /// Their latents.
    fn rows(documents: &[Document]) -> usize {
        documents.iter().map(|own| own.frames(SPEECH)).sum()
    }

    /// The error on held-out utterances, held-out texts spoken with the same noise each time. Texts that
    /// the model can't say, being too long or of other characters, are passed over.
    fn show(
        &mut self,
        context: &mut Context,
        model: &LatentLm,
        step: u64,
    ) -> Result<(), TrainError> {
        if let Some(held_out) = &self.held_out {
            context.log(Self::NAME, step, &held_out.losses(model))?;
        }
        let speaker = Speaker::new(
            context.recipe.clone(),
            (self.encoded.codec.clone(), model.clone()),
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

    fn save(&self, bundle: &BundleWriter) -> Result<(), TrainError> {
        bundle.write(TOKENIZER, self.tokenizer.to_json()?.as_bytes())?;
        bundle.write(KNOWN_TEXT, self.known.as_bytes())?;
        self.encoded.save(bundle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_pipelines::host_values;

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

    #[test]
    fn hidden_latents_are_the_share_that_was_drawn() {
        let documents = vec![document_of(50); 400];
        let heard = |most| {
            let mut random = RandomStream::new(1);
            host_values(audible(&documents, most, &mut random, &Device::default()))
        };
        assert_eq!(heard(0.0), vec![1.0; 20_000]);
        let values = heard(0.6);
        assert!(values.iter().all(|&x| x == 0.0 || x == 1.0));
        // Of 400 shares uniform in 0..0.6 the mean deviates by 0.009.
        let mean = values.iter().sum::<f32>() / 20_000.0;
        assert!((mean - 0.7).abs() < 0.03, "{mean}");
    }
}
