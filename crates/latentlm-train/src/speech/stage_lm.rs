//! The second stage: the language model on the codec's latents.

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::adapters::Whitening;
use latentlm::codec_audio::Codec;
use latentlm::core::bundle::save_module;
use latentlm::{LatentCodec, LatentHead, RandomStream, SpeechDocument, SpeechLm, SpeechLoss};
use latentlm_data::speech::write_wav;
use latentlm_data::{LatentCache, PackOrder, TextTokenizer};

use super::run::Context;
use super::speaker::{Speaker, TOKENIZER};
use super::spectrogram;
use super::stage_codec::{self, signal};
use crate::error::TrainError;
use crate::image::host_values;
use crate::optimize::{Player, StepReport};

const STAGE: &str = "lm";
const CACHE: &str = "latents.safetensors";

struct LmStage<'a> {
    context: &'a mut Context,
    model: Player<SpeechLm>,
    codec: Codec,
    cache: LatentCache,
    tokenizer: TextTokenizer,
    /// Tokens of every utterance of the cache.
    texts: Vec<Vec<u32>>,
    whitening: Whitening,
}

/// Trains the language model or takes up where it was left. Returns whether it is finished.
///
/// # Errors
/// If the codec or data can't be read, the loss is not finite, or a checkpoint can't be written.
pub(crate) fn train(context: &mut Context) -> Result<bool, TrainError> {
    let recipe = context.recipe.clone();
    if let Some((_, manifest)) = context.run.latest(STAGE)?
        && manifest.step >= recipe.lm_train.steps
    {
        return Ok(true);
    }
    let codec = stage_codec::load(&context.run, &context.device)?;
    let tokenizer = context.data.tokenizer(&recipe)?;
    let cache = latents(context, &codec)?;
    let texts = texts(context, &cache, &tokenizer)?;
    let whitening = measure(&codec, &cache, recipe.seed, &context.device)?;
    let device = context.device.clone().autodiff();
    device.seed(RandomStream::for_step(recipe.seed, "lm-init", 0).seed());
    let mut model = recipe.model(tokenizer.vocabulary()).init(&device);
    model.adapters.latent = model.adapters.latent.with_whitening(whitening);
    let mut stage = LmStage {
        model: Player::new(model, &recipe.lm_train),
        context,
        codec,
        cache,
        tokenizer,
        texts,
        whitening,
    };
    if let Some((folder, manifest)) = stage.context.run.latest(STAGE)? {
        stage.model.restore("model", &folder, manifest.step)?;
    }
    stage.run(&device)
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
    let hop = stage_codec::hop_samples(codec);
    for index in 0..context.data.len() {
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
        return Err(TrainError::Config {
            reason: "there is no utterance to train on".into(),
        });
    }
    cache.write(&path)?;
    Ok(cache)
}

fn texts(
    context: &mut Context,
    cache: &LatentCache,
    tokenizer: &TextTokenizer,
) -> Result<Vec<Vec<u32>>, TrainError> {
    let tokens = cache.labels.iter().map(|&index| {
        let text = context.data.text(index as usize);
        Ok(tokenizer.encode(&text)?)
    });
    tokens.collect()
}

/// The whitening of sampled latents: the model is trained on `z`, not on the mean.
fn measure(
    codec: &Codec,
    cache: &LatentCache,
    seed: u64,
    device: &Device,
) -> Result<Whitening, TrainError> {
    let mut random = RandomStream::for_step(seed, "whitening", 0);
    let all: Vec<usize> = (0..cache.len()).collect();
    let latents = host_values(draw(codec, cache, &all, &mut random, device));
    Whitening::measure(&latents).ok_or_else(|| TrainError::Config {
        reason: "the codec's latents are constant or not finite; train it again".into(),
    })
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
    fn run(mut self, device: &Device) -> Result<bool, TrainError> {
        let recipe = self.context.recipe.clone();
        let config = &recipe.lm_train;
        let first = self.model.step();
        self.context.begin(STAGE, first, config.steps)?;
        let texts = self.texts.iter().zip(&self.cache.lengths);
        let positions = texts.map(|(text, frames)| text.len() + 1 + *frames as usize);
        let mut order =
            PackOrder::new(positions.collect(), recipe.data.pack_positions, recipe.seed);
        let accumulation = config.grad_accumulation as u64;
        for round in first * accumulation..config.steps * accumulation {
            let (report, loss) = self.round(&order.pack(round), round, device);
            let Some(report) = report else { continue };
            let step = self.model.step();
            let due = self.context.due(config, step);
            if due.log {
                self.log(step, report, loss)?;
            }
            if due.save {
                self.save(step)?;
            }
            if due.show {
                self.show(step)?;
            }
            if due.stop {
                break;
            }
        }
        self.context.end();
        Ok(self.model.step() >= config.steps)
    }

    fn round(
        &mut self,
        pack: &[usize],
        round: u64,
        device: &Device,
    ) -> (Option<StepReport>, SpeechLoss) {
        let recipe = &self.context.recipe;
        let mut random = RandomStream::for_step(recipe.seed, "lm-noise", round);
        let model = self.model.model();
        let latents = draw(&self.codec, &self.cache, pack, &mut random, device);
        let [count, dim] = latents.dims();
        let latents = model.adapters.latent.whiten(latents.unsqueeze_dim(0));
        let latents = latents.reshape([count, dim]);
        let documents: Vec<SpeechDocument> = pack
            .iter()
            .map(|&index| SpeechDocument {
                text: match random.chance(recipe.lm.condition_dropout) {
                    true => Vec::new(),
                    false => self.texts[index].clone(),
                },
                frames: self.cache.lengths[index] as usize,
            })
            .collect();
        let rows = recipe.lm.batch_mul * count;
        let draws = model.head.draw(rows, &mut random, device);
        let loss = model.loss(&documents, latents, draws);
        let total = loss.diffusion.clone() + loss.token.clone().mul_scalar(recipe.text.loss_weight);
        (self.model.backward(total), loss)
    }

    fn log(&mut self, step: u64, report: StepReport, loss: SpeechLoss) -> Result<(), TrainError> {
        let number = |x: Tensor<1>| f64::from(x.into_scalar::<f32>());
        let (diffusion, token) = (number(loss.diffusion), number(loss.token));
        if !(diffusion + token).is_finite() {
            return Err(TrainError::NotFinite { stage: STAGE, step });
        }
        let values = [
            ("loss", diffusion),
            ("token_loss", token),
            ("lr", report.learning_rate),
            ("gradient_norm", f64::from(report.gradient_norm)),
        ];
        self.context.log(STAGE, step, &values)
    }

    /// Held-out texts, spoken by the averaged model with the same noise each time.
    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        let texts = self.context.data.examples();
        let speaker = Speaker::new(
            self.context.recipe.clone(),
            (self.codec.clone(), self.model.ema().clone()),
            self.tokenizer.clone(),
            self.context.device.clone(),
        );
        let sounds = speaker.say(&texts, None, &self.context.recipe.sample_options(), 0)?;
        let file = |ending: &str| {
            let name = format!("samples/lm-step-{step}.{ending}");
            self.context.run.file(&name)
        };
        let sounds: Vec<Vec<f32>> = sounds.into_iter().map(|sound| sound.samples).collect();
        spectrogram::save(&sounds, &file("png"), &self.context.device)?;
        let rate = self.context.recipe.codec.sample_rate_hz;
        let pause = vec![0.0; rate as usize / 4];
        write_wav(&file("wav"), &sounds.join(&pause[..]), rate)?;
        Ok(())
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        let mut manifest = self.context.manifest(STAGE, step);
        manifest.whitening = Some([self.whitening.bias, self.whitening.scale]);
        let vocabulary = self.tokenizer.to_json()?;
        let folder = self.context.run.checkpoint(&manifest, |bundle| {
            self.model.save("model", bundle)?;
            bundle.write(TOKENIZER, vocabulary.as_bytes())?;
            // With the codec in it, the folder alone is enough to speak from.
            Ok(save_module(&self.codec, &bundle.path("codec.safetensors"))?)
        })?;
        self.context.note(&format!("saved {}", folder.display()));
        Ok(())
    }
}
