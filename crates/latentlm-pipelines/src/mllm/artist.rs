//! A trained model of text and pictures, ready to draw, to caption and to write: all it needs is a
//! checkpoint.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::codec_image::Codec;
use latentlm::core::LatentCodecConfig;
use latentlm::{
    Continuation, GenerateOptions, LatentCodec, LatentLm, Piece, Prompt, SampleOptions, TextOptions,
};
use latentlm_data::{PICTURES, TextTokenizer, read_picture};

use super::prompt::PromptPiece;
use super::recipe::MllmRecipe;
use crate::checkpoint::Checkpoint;
use crate::error::PipelineError;
use crate::recipe::Recipe;
use crate::run::{Manifest, RunFolder, ema_file, weights_file};

/// Prompts that are gone on with at once: more would not be faster, and take more memory.
const BATCH: usize = 64;
/// Longest caption, in tokens.
const CAPTION_TOKENS: usize = 48;

/// Codec, language model and vocabulary of a checkpoint, with the averaged weights.
#[derive(Debug)]
pub struct MllmPipeline {
    recipe: MllmRecipe,
    codec: Codec,
    model: LatentLm,
    tokenizer: TextTokenizer,
    device: Device,
}

/// A piece of what came of a prompt.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "a tensor is a handle: a prompt has a few"
)]
pub enum Made {
    /// Text.
    Text(String),
    /// A picture, `[1, C, H, W]`, around `[-1, 1]`.
    Picture(Tensor<4>),
}

/// What came of a prompt.
#[derive(Debug, Clone)]
pub struct Generated {
    /// In order.
    pub pieces: Vec<Made>,
    /// The positions after which it was cut off, where it did not end of its own.
    pub cut: Option<usize>,
}

impl MllmPipeline {
    /// A pipeline of parts that were trained together.
    pub fn new(
        recipe: MllmRecipe,
        (codec, model): (Codec, LatentLm),
        tokenizer: TextTokenizer,
        device: Device,
    ) -> Self {
        Self {
            recipe,
            codec,
            model,
            tokenizer,
            device,
        }
    }

    /// Loads a run's newest checkpoint.
    ///
    /// # Errors
    /// If the folder is no run, has no finished checkpoint, or one that is damaged.
    pub fn from_run(path: &Path, device: &Device) -> Result<Self, PipelineError> {
        let (run, _) = RunFolder::<MllmRecipe>::open(path)?;
        let (folder, _) = run.require("lm")?;
        Self::from_checkpoint(&Checkpoint::open(&folder), device)
    }

    /// Loads a checkpoint of the language model's stage.
    ///
    /// # Errors
    /// If a file is missing, damaged or of another shape.
    pub fn from_checkpoint(
        checkpoint: &Checkpoint,
        device: &Device,
    ) -> Result<Self, PipelineError> {
        let manifest: Manifest<MllmRecipe> = checkpoint.manifest()?;
        let recipe = manifest.recipe;
        recipe.validate()?;
        let tokenizer = checkpoint.tokenizer()?;
        let codec = checkpoint.load(recipe.codec.init(device), &weights_file("codec"))?;
        let model = recipe.model(tokenizer.vocabulary()).init(device);
        let model = checkpoint.load_lm(model, &ema_file("model"))?;
        Ok(Self::new(recipe, (codec, model), tokenizer, device.clone()))
    }

    /// The recipe that it was trained with.
    pub fn recipe(&self) -> &MllmRecipe {
        &self.recipe
    }

    /// The language model.
    pub fn model(&self) -> &LatentLm {
        &self.model
    }

    /// The codec of pictures.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// Draws a picture for each text.
    ///
    /// # Shapes
    /// - returns: `[B, C, H, W]`, around `[-1, 1]`
    ///
    /// # Errors
    /// If a text can't be encoded or is too long, or the options ask for what the model can't do.
    pub fn draw(
        &self,
        texts: &[String],
        options: &SampleOptions,
        seed: u64,
    ) -> Result<Tensor<4>, PipelineError> {
        let latents = self.draw_latents(texts, options, seed)?;
        Ok(self.codec.decode(latents))
    }

    /// What [`draw`](Self::draw) decodes, `[B, T, Z]`.
    pub fn draw_latents(
        &self,
        texts: &[String],
        options: &SampleOptions,
        seed: u64,
    ) -> Result<Tensor<3>, PipelineError> {
        let prompts = (seed..).zip(texts).map(|(seed, text)| {
            Ok(Prompt {
                pieces: self.text(text)?.into_iter().collect(),
                open: Some(PICTURES),
                seed,
                ..Prompt::default()
            })
        });
        let prompts: Vec<Prompt> = prompts.collect::<Result<_, PipelineError>>()?;
        let frames = self.recipe.tokens();
        let made = self.go_on(&prompts, *options, TextOptions::GREEDY, frames + 1)?;
        let drawn = made
            .into_iter()
            .map(|made| match made.pieces.into_iter().next() {
                Some(Piece::Latents { latents, .. }) => latents.unsqueeze_dim::<3>(0),
                _ => Tensor::zeros([1, frames, self.codec.spec().dim], &self.device),
            });
        Ok(Tensor::cat(drawn.collect(), 0))
    }

    /// Says what pictures show, the likeliest token each time.
    ///
    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`, in `[-1, 1]`
    ///
    /// # Errors
    /// If the context is too short for a picture and its caption.
    pub fn caption(&self, pictures: Tensor<4>) -> Result<Vec<String>, PipelineError> {
        let count = pictures.dims()[0];
        let latents = self.codec.encode(pictures).mode();
        let prompts = (0..count).map(|index| Prompt {
            pieces: vec![Piece::Latents {
                modality: PICTURES,
                latents: latents.clone().narrow(0, index, 1).squeeze_dim(0),
            }],
            ..Prompt::default()
        });
        let prompts: Vec<Prompt> = prompts.collect();
        let sample = self.recipe.sample_options();
        let made = self.go_on(&prompts, sample, TextOptions::GREEDY, CAPTION_TOKENS)?;
        made.into_iter().map(|made| self.said(&made)).collect()
    }

    fn said(&self, made: &Continuation) -> Result<String, PipelineError> {
        match made.pieces.first() {
            Some(Piece::Text(tokens)) => Ok(self.tokenizer.decode(tokens)?),
            _ => Ok(String::new()),
        }
    }

    /// Goes on with a prompt: draws the picture that it asks for, or writes, and draws where its own
    /// words ask for a picture.
    ///
    /// # Errors
    /// If a picture can't be read, a text can't be encoded, the prompt is longer than the context, or
    /// the options ask for what the model can't do.
    pub fn generate(
        &self,
        prompt: &[PromptPiece],
        sample: &SampleOptions,
        text: TextOptions,
        (max_positions, seed): (usize, u64),
    ) -> Result<Generated, PipelineError> {
        let mut given = Prompt {
            seed,
            ..Prompt::default()
        };
        for piece in prompt {
            match piece {
                PromptPiece::Text(text) => given.pieces.extend(self.text(text)?),
                PromptPiece::Picture(file) => given.pieces.push(self.picture(file)?),
                PromptPiece::Draw => given.open = Some(PICTURES),
            }
        }
        let prompts = [given];
        let limit = self.limit(&prompts, max_positions)?;
        let made = self.go_on(&prompts, *sample, text, max_positions)?;
        let cut = made.iter().any(|made| made.cut);
        let pieces = made.into_iter().flat_map(|made| made.pieces);
        let pieces = pieces.map(|piece| self.made(piece));
        Ok(Generated {
            pieces: pieces.collect::<Result<Vec<Made>, PipelineError>>()?,
            cut: cut.then_some(limit),
        })
    }

    fn made(&self, piece: Piece) -> Result<Made, PipelineError> {
        match piece {
            Piece::Text(tokens) => Ok(Made::Text(self.tokenizer.decode(&tokens)?)),
            Piece::Latents { latents, .. } => {
                let latents = latents.unsqueeze_dim::<3>(0);
                let whole = latents.dims()[1] == self.recipe.tokens();
                match whole {
                    true => Ok(Made::Picture(self.codec.decode(latents))),
                    false => Ok(Made::Text(String::new())),
                }
            }
        }
    }

    fn text(&self, text: &str) -> Result<Option<Piece>, PipelineError> {
        match text.trim().is_empty() {
            true => Ok(None),
            false => Ok(Some(Piece::Text(self.tokenizer.encode(text)?))),
        }
    }

    /// A picture's file as latents, brought to the size that the codec was trained with.
    fn picture(&self, file: &Path) -> Result<Piece, PipelineError> {
        let pixels = self.read_picture(file)?;
        let latents = self.codec.encode(pixels).mode();
        Ok(Piece::Latents {
            modality: PICTURES,
            latents: latents.squeeze_dim(0),
        })
    }

    /// A picture's file, `[1, C, H, W]`, in `[-1, 1]`.
    ///
    /// # Errors
    /// If it can't be read or is no picture.
    pub fn read_picture(&self, file: &Path) -> Result<Tensor<4>, PipelineError> {
        let spec = self.recipe.image().image_spec();
        let bytes = read_picture(file, spec)?;
        let values: Vec<f32> = bytes.iter().map(|b| f32::from(*b) / 127.5 - 1.0).collect();
        let shape = [1, spec.channels, spec.height, spec.width];
        Ok(Tensor::from_data(
            TensorData::new(values, shape),
            &self.device,
        ))
    }

    fn go_on(
        &self,
        prompts: &[Prompt],
        sample: SampleOptions,
        text: TextOptions,
        max_positions: usize,
    ) -> Result<Vec<Continuation>, PipelineError> {
        let timesteps = self.recipe.lm.num_train_timesteps;
        if !(1..timesteps).contains(&sample.steps) || !sample.guidance_scale.is_finite() {
            return Err(PipelineError::Request {
                reason: format!(
                    "solver steps must be in 1..{timesteps}, not {}, and guidance a number, not {}",
                    sample.steps, sample.guidance_scale
                ),
            });
        }
        let options = GenerateOptions {
            text,
            sample,
            max_positions: self.limit(prompts, max_positions)?,
        };
        let batches = prompts.chunks(BATCH);
        let made = batches.flat_map(|batch| self.model.generate(batch, &options));
        Ok(made.collect())
    }

    /// Positions that are made for prompts: as many as asked for, but room for a picture that is asked
    /// for, and no more than the model was trained on.
    fn limit(&self, prompts: &[Prompt], asked: usize) -> Result<usize, PipelineError> {
        let limit = self.recipe.mix.pack_positions;
        let longest = prompts.iter().map(positions).max().unwrap_or(0);
        // A picture that is asked for has to fit behind the prompt.
        let least = match prompts.iter().any(|prompt| prompt.open.is_some()) {
            true => self.recipe.tokens() + 1,
            false => 1,
        };
        if longest + least > limit {
            return Err(PipelineError::Request {
                reason: format!(
                    "the prompt takes {longest} positions and what is asked for at least {least}, \
                     more than the {limit} that the model was trained on (mix.pack_positions)"
                ),
            });
        }
        Ok(asked.max(least).min(limit - longest))
    }
}

/// Positions that a prompt takes with the tokens around its pieces.
fn positions(prompt: &Prompt) -> usize {
    let piece = |piece: &Piece| match piece {
        Piece::Text(tokens) => tokens.len(),
        Piece::Latents { latents, .. } => latents.dims()[0] + 2,
    };
    1 + usize::from(prompt.open.is_some()) + prompt.pieces.iter().map(piece).sum::<usize>()
}
