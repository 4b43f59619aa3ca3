//! The second stage: the language model on the codec's latents.

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::adapters::Whitening;
use latentlm::codec_audio::Codec;
use latentlm::core::LatentCodecConfig;
use latentlm::core::bundle::save_module;
use latentlm::sequence::Document;
use latentlm::{Batch, LatentCodec, LatentHead, LatentLm, RandomStream, load_lm};
use latentlm_data::speech::write_wav;
use latentlm_data::{LatentCache, PackOrder, TextTokenizer};
use latentlm_eval::save_spectrograms;
use latentlm_kernels::ROWS_A_PART;
use latentlm_pipelines::{
    KNOWN_TEXT, Speaker, SpeechData, SpeechRecipe, TOKENIZER, hop_samples, host_values,
    load_speech_codec, signal,
};

use super::held_out::HeldOut;
use super::run::Context;
use super::said::{document, without_text};
use crate::error::TrainError;
use crate::optimize::{Player, StepReport};
use crate::spread::Portable;
use crate::stage;
use crate::stage::{Stage, number, share_out};

const STAGE: &str = "lm";
const CACHE: &str = "latents.safetensors";
/// The one modality there is.
const SPEECH: usize = 0;
/// Latents that the whitening is measured on, at most: two numbers need no more, and all latents of a
/// large corpus at once would not fit into memory.
const MEASURED_LATENTS: usize = 1 << 19;

struct LmStage<'a> {
    context: &'a mut Context,
    model: Player<LatentLm>,
    codec: Codec,
    cache: LatentCache,
    tokenizer: TextTokenizer,
    /// The characters and words of the texts, for those who speak.
    known: String,
    /// Every utterance of the cache.
    documents: Vec<Document>,
    whitening: Whitening,
    order: PackOrder,
    held_out: Option<HeldOut>,
    device: Device,
}

/// Trains the language model or takes up where it was left. Returns whether it is finished.
///
/// # Errors
/// If the codec or data can't be read, the loss is not finite, or a checkpoint can't be written.
pub fn train(context: &mut Context) -> Result<bool, TrainError> {
    let recipe = context.recipe.clone();
    let latest = context.run.latest(STAGE)?;
    if let Some((_, manifest)) = &latest
        && manifest.step >= recipe.lm_train.steps
    {
        return Ok(true);
    }
    let codec = load_speech_codec(&context.run, &context.device)?;
    let tokenizer = match &latest {
        // Its weights belong to its vocabulary; one that is made anew may be another.
        Some((folder, _)) => TextTokenizer::read(&folder.join(TOKENIZER))?,
        None => context.data.tokenizer(&recipe)?,
    };
    let cache = latents(context, &codec)?;
    let hop = hop_samples(&codec);
    let (cache, documents) = documents(context, cache, &tokenizer, hop)?;
    let whitening = measure(&codec, &cache, recipe.seed, &context.device)?;
    let held_out = HeldOut::new(
        &mut context.data,
        &codec,
        &tokenizer,
        recipe.text.aligned,
        &context.device,
    );
    // Before the first step: a run that goes on from the cache does not decode what is broken again.
    context.data.list_skipped(&context.run)?;
    let device = context.device.clone().autodiff();
    device.seed(RandomStream::for_step(recipe.seed, "lm-init", 0).seed());
    let model = recipe.model(tokenizer.vocabulary()).init(&device);
    let model = model.with_whitening(SPEECH, whitening);
    let config = &recipe.lm_train;
    let mut model = Player::new(model, config)
        .with_precision(recipe.lm.precision)
        .with_spread(context.spread());
    if let Some((folder, manifest)) = latest {
        model.restore_with("model", &folder, manifest.step, load_lm)?;
    }
    let known = context.data.known().to_json()?;
    let stage = LmStage {
        held_out,
        order: order(&recipe, &documents),
        model,
        context,
        codec,
        cache,
        tokenizer,
        known,
        documents,
        whitening,
        device,
    };
    stage::run(stage, config)
}

/// The latent cache, made anew if data or codec changed. Labels are the utterances' numbers: those
/// whose recording is broken are missing.
fn latents(context: &mut Context, codec: &Codec) -> Result<LatentCache, TrainError> {
    let path = context.run.file(CACHE);
    let (_, manifest) = context.run.require("codec")?;
    let fingerprint = format!("{}-codec-step-{}", context.fingerprint(), manifest.step);
    if let Some(cache) = LatentCache::read_matching(&path, &fingerprint)? {
        return Ok(cache);
    }
    let mut cache = LatentCache {
        dim: codec.spec().dim,
        lengths: Vec::new(),
        labels: Vec::new(),
        parameters: Vec::new(),
        fingerprint,
    };
    let hop = hop_samples(codec);
    for index in 0..context.data.utterances() {
        let Some(samples) = context.data.utterance(index)? else {
            continue;
        };
        let sound = signal(samples, hop, &context.device);
        let mean = codec.encode(sound).mode();
        cache.lengths.push(mean.dims()[1] as u32);
        cache.labels.push(index as u32);
        cache.parameters.extend(host_values(mean));
    }
    if cache.is_empty() {
        return Err(TrainError::config("there is no utterance to train on"));
    }
    cache.write(&path)?;
    Ok(cache)
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

/// The whitening of sampled latents: the model is trained on `z`, not on the mean.
fn measure(
    codec: &Codec,
    cache: &LatentCache,
    seed: u64,
    device: &Device,
) -> Result<Whitening, TrainError> {
    let mut random = RandomStream::for_step(seed, "whitening", 0);
    let measured = measured(&cache.lengths, MEASURED_LATENTS, &mut random);
    let latents = host_values(draw(codec, cache, &measured, &mut random, device));
    Whitening::measure(&latents).ok_or_else(|| {
        TrainError::config("the codec's latents are constant or not finite; train it again")
    })
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

/// Latents of some utterances, one after the other, with the noise that the decoder was trained
/// with, one scale an utterance, `[N, Z]`.
fn draw(
    codec: &Codec,
    cache: &LatentCache,
    indices: &[usize],
    random: &mut RandomStream,
    device: &Device,
) -> Tensor<2> {
    let values = cache.gather(indices);
    let count = values.len() / cache.dim;
    // Every latent a batch row of its own, so that utterances of different lengths fit together.
    let mean = Tensor::from_data(TensorData::new(values, [count, 1, cache.dim]), device);
    let owner = indices.iter().enumerate().flat_map(|(place, &index)| {
        std::iter::repeat_n(place as i64, cache.lengths[index] as usize)
    });
    let owner = TensorData::new(owner.collect::<Vec<i64>>(), [count]);
    let scales: Tensor<1> = random.normal([indices.len()], device);
    let scales = scales.select(0, Tensor::from_data(owner, device));
    let eps = random.normal([count, 1, cache.dim], device);
    let latents = codec.posterior(mean).sample(scales, eps);
    latents.reshape([count, cache.dim])
}

impl LmStage<'_> {
    /// The documents of a pack, some without their text.
    fn documents(&self, pack: &[usize], random: &mut RandomStream) -> Vec<Document> {
        let dropout = self.context.recipe.lm.condition_dropout;
        let document = |&index: &usize| match random.chance(dropout) {
            true => without_text(&self.documents[index]),
            false => self.documents[index].clone(),
        };
        pack.iter().map(document).collect()
    }
}

/// What one thread does of a packed sequence.
struct Part {
    /// Of the sequence's latents.
    diffusion_share: f64,
    /// Of the positions at which the softmax head is asked.
    token_share: f64,
    /// Weight of the cross entropy.
    token_weight: f64,
    batch: Batch,
}

/// A part's share of the two parts of the joint loss, `[1]` each.
struct SpeechLoss {
    token: Tensor<1>,
    diffusion: Tensor<1>,
}

impl Portable for Part {
    fn to_device(self, device: &Device) -> Self {
        Self {
            batch: self.batch.to_device(device),
            ..self
        }
    }
}

impl Part {
    /// Its share of the joint loss, and of its two parts.
    fn loss(model: &LatentLm, part: Self) -> (Tensor<1>, SpeechLoss) {
        let mut loss = model.loss(part.batch);
        let diffusion = loss.diffusion.swap_remove(SPEECH);
        let loss = SpeechLoss {
            token: loss.token.mul_scalar(part.token_share),
            diffusion: diffusion.mul_scalar(part.diffusion_share),
        };
        let token = loss.token.clone().mul_scalar(part.token_weight);
        (loss.diffusion.clone() + token, loss)
    }
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

impl Stage for LmStage<'_> {
    type Recipe = SpeechRecipe;
    type Data = SpeechData;
    /// Every part's share of the losses.
    type Output = Vec<SpeechLoss>;
    const NAME: &'static str = STAGE;
    const TABLE: &'static str = "lm_train";

    fn context(&mut self) -> &mut Context {
        self.context
    }

    fn step(&self) -> u64 {
        self.model.step()
    }

    fn round(&mut self, round: u64) -> Result<(Option<StepReport>, Self::Output), TrainError> {
        let pack = self.order.pack(round);
        let (recipe, device) = (&self.context.recipe, &self.device);
        let mut random = RandomStream::for_step(recipe.seed, "lm-noise", round);
        let model = self.model.model();
        let latents = draw(&self.codec, &self.cache, &pack, &mut random, device);
        let [count, _] = latents.dims();
        let latents = model.latents[SPEECH].whiten(latents);
        let documents = self.documents(&pack, &mut random);
        let rows = recipe.lm.batch_mul * count;
        let dropout = recipe.text.history_dropout;
        let heard = latents.clone() * audible(&documents, dropout, &mut random, device);
        let draws = model.head_of(SPEECH).draw(rows, &mut random, device);
        let spread = self.model.spread();
        let threads = spread.parts(&self.context.device, count, ROWS_A_PART).len();
        let answered = (count + documents.len()) as f64;
        let mut start = 0;
        let shares = share_out(&documents, threads, Document::positions).into_iter();
        let parts = shares.map(|range| {
            let documents = documents[range].to_vec();
            let frames: usize = documents
                .iter()
                .map(|document| document.frames(SPEECH))
                .sum();
            let own = start..start + frames;
            start = own.end;
            Part {
                diffusion_share: frames as f64 / count as f64,
                token_share: (frames + documents.len()) as f64 / answered,
                token_weight: recipe.text.loss_weight,
                batch: Batch {
                    weights: vec![1.0; documents.len()],
                    documents,
                    heard: vec![heard.clone().narrow(0, own.start, frames)],
                    latents: vec![latents.clone().narrow(0, own.start, frames)],
                    draws: vec![draws.of_latents(own, count)],
                },
            }
        });
        let parts = parts.collect();
        Ok(self.model.backward_parts(parts, Part::loss))
    }

    fn values(losses: Self::Output) -> Vec<(&'static str, f64)> {
        let sum = |value: fn(&SpeechLoss) -> &Tensor<1>| {
            let values = losses.iter().map(|loss| number(value(loss).clone()));
            values.sum()
        };
        vec![
            ("loss", sum(|loss| &loss.diffusion)),
            ("token_loss", sum(|loss| &loss.token)),
        ]
    }

    /// The averaged model: its error on held-out utterances, held-out texts spoken with the same
    /// noise each time. Texts that it can't say, being too long or of other characters, are passed over.
    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        if let Some(held_out) = &self.held_out {
            let losses = held_out.losses(self.model.ema());
            self.context.log(STAGE, step, &losses)?;
        }
        let speaker = Speaker::new(
            self.context.recipe.clone(),
            (self.codec.clone(), self.model.ema().clone()),
            self.tokenizer.clone(),
            self.context.device.clone(),
        );
        let options = self.context.recipe.sample_options();
        let can_be_said = |text: &str| speaker.accepts(&[text.to_owned()], None, &options).is_ok();
        let texts = self.context.data.examples(can_be_said);
        let sounds = speaker.say(&texts, None, &options, 0)?;
        let file = |ending: &str| {
            let name = format!("samples/lm-step-{step}.{ending}");
            self.context.run.file(&name)
        };
        let sounds: Vec<Vec<f32>> = sounds.into_iter().map(|sound| sound.samples).collect();
        save_spectrograms(&sounds, &file("png"))?;
        let rate = self.context.recipe.codec.signal().sample_rate_hz;
        let pause = vec![0.0; rate as usize / 4];
        write_wav(&file("wav"), &sounds.join(&pause[..]), rate)?;
        Ok(())
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        let mut manifest = self.context.manifest(STAGE, step);
        manifest.whitening = Some([self.whitening.bias, self.whitening.scale]);
        let vocabulary = self.tokenizer.to_json()?;
        let folder =
            self.context
                .run
                .checkpoint(&manifest, |bundle| -> Result<(), TrainError> {
                    self.model.save("model", bundle)?;
                    bundle.write(TOKENIZER, vocabulary.as_bytes())?;
                    bundle.write(KNOWN_TEXT, self.known.as_bytes())?;
                    // With the codec in it, the folder alone is enough to speak from.
                    Ok(save_module(&self.codec, &bundle.path("codec.safetensors"))?)
                })?;
        self.context.note(&format!("saved {}", folder.display()));
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
