//! Draws, captions and writes with a trained model of text and pictures.

use std::path::Path;

use burn::tensor::Tensor;
use latentlm::{
    Continuation, GenerateOptions, LatentCodec, Piece, Prompt, SampleOptions, TextOptions,
};
use latentlm_data::{PICTURES, check_stop, read_picture};

use super::prompt::PromptPiece;
use super::recipe::MllmRecipe;
use crate::error::{PipelineError, Result};
use crate::image::HostBatch;
use crate::pipeline::Pipeline;
use crate::tensors::finite;

/// Prompts that are continued at once: more would not be faster, and take more memory.
const BATCH: usize = 64;
/// Longest caption, in tokens.
const CAPTION_TOKENS: usize = 48;

/// Codec, language model and vocabulary of text and pictures.
pub type MllmPipeline = Pipeline<MllmRecipe>;

/// A piece of a continuation.
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

/// The generated continuation of a prompt.
#[derive(Debug, Clone)]
pub struct Generated {
    /// In order.
    pub pieces: Vec<Made>,
    /// Number of positions after which it was cut; `None` if it ended by itself.
    pub cut: Option<usize>,
}

impl MllmPipeline {
    /// Draws a picture for each text.
    ///
    /// # Shapes
    /// - returns: `[B, C, H, W]`, around `[-1, 1]`
    ///
    /// # Errors
    /// If a text can't be encoded or is too long, the model does not support the options, or drawn latents
    /// are not finite.
    pub fn draw(&self, texts: &[String], options: &SampleOptions, seed: u64) -> Result<Tensor<4>> {
        let mut prompts = Vec::with_capacity(texts.len());
        for (seed, text) in (seed..).zip(texts) {
            prompts.push(Prompt {
                pieces: self.encode_text(text)?,
                open: Some(PICTURES),
                seed,
                ..Prompt::default()
            });
        }
        self.recipe().lm.check_options(options)?;
        self.limit(&prompts, 1)?;
        let mut latents = Vec::new();
        for batch in prompts.chunks(BATCH) {
            check_stop()?;
            latents.push(finite(self.model.draw_prompts(batch, options))?);
        }
        Ok(self.codec.decode(Tensor::cat(latents, 0)))
    }

    /// Says what pictures show, the likeliest token each time.
    ///
    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`, in `[-1, 1]`
    ///
    /// # Errors
    /// If the context is too short for a picture and its caption.
    pub fn caption(&self, pictures: Tensor<4>) -> Result<Vec<String>> {
        let prompts = self.encode_pictures(pictures).map(|piece| Prompt {
            pieces: vec![piece],
            ..Prompt::default()
        });
        let prompts: Vec<Prompt> = prompts.collect();
        let options = GenerateOptions {
            text: TextOptions::GREEDY,
            sample: self.recipe().sample_options(),
            max_positions: CAPTION_TOKENS,
        };
        let mut captions = Vec::with_capacity(prompts.len());
        for made in self.continued(&prompts, &options)? {
            captions.push(match made.pieces.first() {
                Some(Piece::Text(tokens)) => self.vocabulary.tokenizer.decode(tokens)?,
                _ => String::new(),
            });
        }
        Ok(captions)
    }

    /// Continues a prompt: draws the picture that it asks for, or writes, and draws where its own words
    /// ask for a picture.
    ///
    /// # Errors
    /// If a picture can't be read, a text can't be encoded, the prompt is longer than the context,
    /// the model does not support the options, or drawn latents are not finite.
    pub fn generate(
        &self,
        prompt: &[PromptPiece],
        options: &GenerateOptions,
        seed: u64,
    ) -> Result<Generated> {
        let mut given = Prompt {
            seed,
            ..Prompt::default()
        };
        for piece in prompt {
            match piece {
                PromptPiece::Text(text) => given.pieces.extend(self.encode_text(text)?),
                PromptPiece::Picture(file) => {
                    let pixels = self.read_picture(file)?;
                    given.pieces.extend(self.encode_pictures(pixels));
                }
                PromptPiece::Draw => given.open = Some(PICTURES),
            }
        }
        let prompts = [given];
        let limit = self.limit(&prompts, options.max_positions)?;
        let (mut pieces, mut cut) = (Vec::new(), None);
        for made in self.continued(&prompts, options)? {
            for piece in made.pieces {
                pieces.push(self.made(piece)?);
            }
            cut = made.cut.then_some(limit);
        }
        Ok(Generated { pieces, cut })
    }

    /// A picture without its end becomes an empty text.
    fn made(&self, piece: Piece) -> Result<Made> {
        Ok(match piece {
            Piece::Text(tokens) => Made::Text(self.vocabulary.tokenizer.decode(&tokens)?),
            Piece::Latents { latents, .. } if latents.dims()[0] == self.recipe().tokens() => {
                Made::Picture(self.codec.decode(finite(latents)?.unsqueeze_dim::<3>(0)))
            }
            Piece::Latents { .. } => Made::Text(String::new()),
        })
    }

    /// A text as a piece of a prompt; none for an empty one. Characters or words that the vocabulary lacks are an
    /// error that names them. A vocabulary of bytes, the default, lacks none: it has tokens for any word.
    fn encode_text(&self, text: &str) -> Result<Vec<Piece>> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Piece::Text(self.vocabulary.tokenizer.encode(text)?)])
    }

    /// Pictures, `[B, C, H, W]`, as pieces of prompts.
    fn encode_pictures(&self, pictures: Tensor<4>) -> impl Iterator<Item = Piece> {
        let count = pictures.dims()[0];
        let latents = self.codec.encode(pictures).mode();
        (0..count).map(move |index| Piece::Latents {
            modality: PICTURES,
            latents: latents.clone().narrow(0, index, 1).squeeze_dim(0),
        })
    }

    /// A picture's file brought to the size that the codec was trained with, `[1, C, H, W]`, in
    /// `[-1, 1]`.
    ///
    /// # Errors
    /// If it can't be read or is no picture.
    pub fn read_picture(&self, file: &Path) -> Result<Tensor<4>> {
        let spec = self.recipe().image().image_spec();
        let mut picture = HostBatch::new(spec, 1);
        picture.push(&read_picture(file, spec)?, false);
        Ok(picture.tensor(&self.device))
    }

    fn continued(
        &self,
        prompts: &[Prompt],
        options: &GenerateOptions,
    ) -> Result<Vec<Continuation>> {
        self.recipe().lm.check_options(&options.sample)?;
        let options = GenerateOptions {
            max_positions: self.limit(prompts, options.max_positions)?,
            ..*options
        };
        let mut made = Vec::with_capacity(prompts.len());
        for batch in prompts.chunks(BATCH) {
            made.extend(self.model.generate(batch, &options));
        }
        Ok(made)
    }

    /// Number of positions to generate: as many as asked for, but at least a requested picture, and with the
    /// prompts no more than the model was trained on.
    fn limit(&self, prompts: &[Prompt], asked: usize) -> Result<usize> {
        let limit = self.recipe().mix.pack_positions;
        let longest = prompts.iter().map(positions).max().unwrap_or(0);
        let mut least = 1;
        if prompts.iter().any(|prompt| prompt.open.is_some()) {
            least += self.recipe().tokens();
        }
        if longest + least > limit {
            return Err(PipelineError::Request(format!(
                "the prompt takes {longest} positions and what is asked for at least {least}, \
                 more than the {limit} that the model was trained on (mix.pack_positions)"
            )));
        }
        Ok(asked.max(least).min(limit - longest))
    }
}

/// Positions that a prompt takes with the tokens around its pieces.
fn positions(prompt: &Prompt) -> usize {
    let mut positions = 1 + usize::from(prompt.open.is_some());
    for piece in &prompt.pieces {
        positions += match piece {
            Piece::Text(tokens) => tokens.len(),
            Piece::Latents { latents, .. } => latents.dims()[0] + 2,
        };
    }
    positions
}
