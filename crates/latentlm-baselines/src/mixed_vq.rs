//! Text and pictures as tokens of one vocabulary: a causal Transformer with a softmax head alone.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_adapters::packed::{indices, surprise, weighted_mean};
use latentlm_adapters::{TokenAdapter, TokenAdapterConfig};
use latentlm_backbone::{Backbone, BackboneConfig};
use latentlm_core::sequence::{Document, Layout, SpecialTokens};
use latentlm_core::{CausalBackbone, RandomStream};
use latentlm_kernels::{at_once, parts};

use crate::error::BaselineError;
use crate::token::{TokenOptions, draw_token};
use crate::vq_lm::{guide, host_scores};

/// Configuration of a [`MixedVqLm`].
#[derive(Config, Debug, PartialEq)]
pub struct MixedVqLmConfig {
    /// Tokens of text; those of [`SpecialTokens`] and the codes come on top.
    pub text_vocabulary: usize,
    /// `V`, entries of the codebook.
    pub codes: usize,
    /// Whether the softmax head uses the embedding's table.
    pub tied: bool,
    /// The backbone.
    pub backbone: BackboneConfig,
}

impl MixedVqLmConfig {
    /// What is wrong with the configuration, if anything, in one line.
    ///
    /// # Errors
    /// If a size is zero or sizes do not fit each other.
    pub fn validate(&self) -> Result<(), BaselineError> {
        self.backbone.validate()?;
        if self.text_vocabulary == 0 || self.codes < 2 {
            return Err(BaselineError::Config {
                rival: "VQ",
                reason: "text_vocabulary must be positive, codes 2 or more".into(),
            });
        }
        Ok(())
    }

    /// Builds the model. Its parameters are drawn from the device's generator: seed that first.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> MixedVqLm {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let width = self.backbone.width;
        let vocabulary = self.text_vocabulary + SpecialTokens::count(1) + self.codes;
        let token = TokenAdapterConfig::new(vocabulary, width).with_tied(self.tied);
        // LatentLM's.
        let token = token.with_embedding_std(if self.tied { 0.02 } else { 1.0 });
        MixedVqLm {
            token: token.init(device),
            backbone: self.backbone.init(device),
            codes: self.codes,
        }
    }
}

/// The two parts of the joint loss, `[1]` each; 0 where nothing is learned.
#[derive(Debug, Clone)]
pub struct MixedVqLoss {
    /// Mean cross entropy of the learned tokens, each as heavy as its document.
    pub token: Tensor<1>,
    /// Mean cross entropy of the learned codes.
    pub code: Tensor<1>,
}

/// The autoregressive model of text and of pictures as codes.
#[derive(Module, Debug)]
pub struct MixedVqLm {
    /// Text, [`SpecialTokens`], codes, and the softmax head of all.
    pub token: TokenAdapter,
    /// Positions to hidden states.
    pub backbone: Backbone,
    /// `V`, entries of the codebook.
    codes: usize,
}

impl MixedVqLm {
    /// The first code's token.
    fn first_code(&self) -> usize {
        self.token.vocabulary() - self.codes
    }

    /// The tokens behind the text's vocabulary.
    pub fn special_tokens(&self) -> SpecialTokens {
        SpecialTokens::after(self.first_code() - SpecialTokens::count(1), 1)
    }

    /// Where everything stands in packed documents.
    fn layout(&self, documents: &[Document]) -> Layout {
        Layout::new(documents, &self.special_tokens().modalities)
    }

    /// `-log p` of every learned token of packed documents, then of every learned code, `[M]`.
    /// `codes` are those of all the documents' pictures, one after the other.
    ///
    /// # Panics
    /// If the documents' latents are not as many as the codes, or nothing is learned.
    pub fn surprise(&self, documents: &[Document], codes: &[i64], device: &Device) -> Tensor<1> {
        self.surprise_at(&self.layout(documents), documents, codes, device)
    }

    fn surprise_at(
        &self,
        layout: &Layout,
        documents: &[Document],
        codes: &[i64],
        device: &Device,
    ) -> Tensor<1> {
        let tokens = layout.tokens.len();
        assert_eq!(layout.rows.len() - tokens, codes.len(), "codes");
        let code = |code: i64| self.first_code() as i64 + code;
        let token = |row: &i64| match usize::try_from(*row).unwrap_or(0) {
            row if row < tokens => layout.tokens[row],
            row => code(codes[row - tokens]),
        };
        let read: Vec<i64> = layout.rows.iter().map(token).collect();
        let lengths: Vec<usize> = documents.iter().map(Document::positions).collect();
        let x = self.token.embed(indices(&read, device).unsqueeze_dim(0));
        let hidden = self.backbone.forward_documents(x, &lengths); // [1, T, D]
        let learned = &layout.learned[0];
        let coded = learned.latents.iter().map(|&at| code(codes[at as usize]));
        let answers: Vec<i64> = layout.answers.iter().copied().chain(coded).collect();
        let asked = [&layout.asked[..], &learned.conditions].concat();
        let asked = hidden.select(1, indices(&asked, device)).squeeze_dim(0);
        surprise(&self.token, asked, indices(&answers, device))
    }

    /// The joint loss of packed documents, from one pass over text and codes. `codes` are those of
    /// all the documents' pictures, `weights` those of each document's learned tokens in their mean.
    ///
    /// # Panics
    /// If codes or weights are not as many as the documents say, or nothing is learned.
    pub fn loss(
        &self,
        documents: &[Document],
        codes: &[i64],
        weights: &[f64],
        device: &Device,
    ) -> MixedVqLoss {
        let layout = self.layout(documents);
        let surprise = self.surprise_at(&layout, documents, codes, device);
        let (all, words) = (surprise.dims()[0], layout.answers.len());
        MixedVqLoss {
            token: match words {
                0 => Tensor::zeros([1], device),
                _ => weighted_mean(surprise.clone().narrow(0, 0, words), &layout, weights),
            },
            code: match all - words {
                0 => Tensor::zeros([1], device),
                codes => surprise.narrow(0, words, codes).mean(),
            },
        }
    }

    /// Draws a picture of so many codes for each text, code by code with a KV cache. Guidance works
    /// on the scores: `null + scale * (cond - null)`, where null has read no text.
    ///
    /// # Shapes
    /// - returns: `[B, T]`
    pub fn generate(
        &self,
        texts: &[Vec<u32>],
        tokens: usize,
        options: &TokenOptions,
        (random, device): (&mut RandomStream, &Device),
    ) -> Tensor<2, Int> {
        // One number a code, drawn before pictures are shared out among threads.
        let numbers: Vec<f64> = (0..texts.len() * tokens)
            .map(|_| random.uniform())
            .collect();
        let parts = parts(device, texts.len()).into_iter();
        let inputs = parts.map(|rows| {
            let own = numbers[rows.start * tokens..rows.end * tokens].to_vec();
            (self.clone(), texts[rows].to_vec(), own)
        });
        let codes = at_once(inputs.collect(), |(model, texts, numbers)| {
            model.generate_part(&texts, options, &numbers, device)
        });
        Tensor::cat(codes, 0)
    }

    /// Prompts `<BOS> text <BOD>` filled up in front to one length, `[B, P]`, and by how much.
    fn prompts(&self, texts: &[Vec<u32>], device: &Device) -> (Tensor<2, Int>, Vec<usize>) {
        let special = self.special_tokens();
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        let padding: Vec<usize> = texts.iter().map(|text| longest - text.len()).collect();
        let tokens = texts.iter().zip(&padding).flat_map(|(text, &padding)| {
            let ends = ([special.start], [special.modalities[0].begin]);
            [&vec![special.stop; padding][..], &ends.0, text, &ends.1].concat()
        });
        let tokens: Vec<i64> = tokens.map(i64::from).collect();
        let tokens = TensorData::new(tokens, [texts.len(), longest + 2]);
        (Tensor::from_data(tokens, device), padding)
    }

    fn generate_part(
        &self,
        texts: &[Vec<u32>],
        options: &TokenOptions,
        numbers: &[f64],
        device: &Device,
    ) -> Tensor<2, Int> {
        let (count, length) = (texts.len(), numbers.len() / texts.len());
        let guided = options.guidance_scale != 1.0;
        let null = vec![Vec::new(); if guided { count } else { 0 }];
        let texts = [texts, &null].concat();
        let (prompts, padding) = self.prompts(&texts, device);
        let capacity = prompts.dims()[1] + length;
        let mut kv_cache = self.backbone.init_padded_state(&padding, capacity, device);
        let mut input = self.token.embed(prompts);
        let mut codes = Vec::with_capacity(length);
        for position in 0..length {
            let hidden = self.backbone.step(input, &mut kv_cache);
            let last = hidden.dims()[1] - 1;
            let logits = self.token.logits(hidden.narrow(1, last, 1));
            let logits = logits.narrow(2, self.first_code(), self.codes);
            let logits = logits.reshape([texts.len(), self.codes]);
            let scores = host_scores(guide(logits, count, options.guidance_scale));
            let drawn = scores.chunks_exact(self.codes).enumerate();
            let drawn = drawn.map(|(picture, scores)| {
                draw_token(scores, options, numbers[picture * length + position]) as i64
            });
            let next = TensorData::new(drawn.collect::<Vec<i64>>(), [count, 1]);
            let next = Tensor::<2, Int>::from_data(next, device);
            let read = next.clone().add_scalar(self.first_code() as i64);
            input = self.token.embed(read); // [count, 1, D]
            if guided {
                input = input.repeat_dim(0, 2);
            }
            codes.push(next);
        }
        Tensor::cat(codes, 1)
    }
}
