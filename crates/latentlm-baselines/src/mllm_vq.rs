//! Text and pictures as tokens of one vocabulary: a causal Transformer with a softmax head only.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_adapters::packed::{indices, surprise, weighted_mean};
use latentlm_adapters::{TokenAdapter, TokenAdapterConfig};
use latentlm_backbone::{Backbone, BackboneConfig};
use latentlm_core::sequence::{Document, Layout, SpecialTokens};
use latentlm_core::{CausalBackbone, CausalBackboneConfig, Loss, PartConfig, RandomStream};
use latentlm_kernels::{at_once, shards};

use crate::error::BaselineError;
use crate::token::{TokenOptions, draw_token, guide, host_logits};

/// Configuration of a [`MllmVqLm`].
#[derive(Config, Debug, PartialEq)]
pub struct MllmVqLmConfig {
    /// Size of the text vocabulary, without [`SpecialTokens`] and codes.
    pub text_vocabulary: usize,
    /// `V`, entries of the codebook.
    pub codes: usize,
    /// Whether the softmax head shares the weights of the embedding.
    pub tied: bool,
    /// Causal Transformer.
    pub backbone: BackboneConfig,
}

impl MllmVqLmConfig {
    /// Checks the configuration.
    ///
    /// # Errors
    /// If a size is zero or sizes do not fit each other.
    pub fn validate(&self) -> Result<(), BaselineError> {
        self.backbone.validate()?;
        if self.text_vocabulary == 0 || self.codes < 2 {
            return Err(BaselineError::Config {
                model: "VQ",
                reason: "text_vocabulary must be positive, codes 2 or more".into(),
            });
        }
        Ok(())
    }

    /// Builds the model. Its parameters are drawn from the device's generator, so seed that first.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> MllmVqLm {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let width = self.backbone.width;
        let vocabulary = self.text_vocabulary + SpecialTokens::count(1) + self.codes;
        let token = TokenAdapterConfig::new(vocabulary, width).with_tied(self.tied);
        // The same initialization as LatentLM's.
        let token = token.with_embedding_std(if self.tied { 0.02 } else { 1.0 });
        MllmVqLm {
            token: token.init(device),
            backbone: self.backbone.init(device),
            codes: self.codes,
        }
    }
}

/// The autoregressive model of text and of pictures as codes.
#[derive(Module, Debug)]
pub struct MllmVqLm {
    /// Embedding of text, [`SpecialTokens`] and codes, and the softmax head over all of them.
    pub token: TokenAdapter,
    /// Causal Transformer.
    pub backbone: Backbone,
    /// `V`, entries of the codebook.
    codes: usize,
}

impl MllmVqLm {
    /// The token of code 0.
    fn first_code(&self) -> usize {
        self.token.vocabulary() - self.codes
    }

    /// The special tokens, which follow the text in the vocabulary.
    pub fn special_tokens(&self) -> SpecialTokens {
        SpecialTokens::after(self.first_code() - SpecialTokens::count(1), 1)
    }

    /// The layout of packed documents.
    fn layout(&self, documents: &[Document]) -> Layout {
        Layout::new(documents, &self.special_tokens().modalities)
    }

    /// Cross entropy of each learned token of packed documents, then of each learned code, in nats,
    /// `[M]`. `codes` are the codes of all pictures, in the order of the documents.
    ///
    /// # Panics
    /// If the number of codes does not fit the documents, or nothing is learned.
    pub fn surprise(&self, documents: &[Document], codes: &[i64], device: &Device) -> Tensor<1> {
        self.surprise_at(&self.layout(documents), documents, codes, device)
    }

    /// [`surprise`](Self::surprise), given the layout of the documents.
    fn surprise_at(
        &self,
        layout: &Layout,
        documents: &[Document],
        codes: &[i64],
        device: &Device,
    ) -> Tensor<1> {
        let tokens = layout.tokens.len();
        assert_eq!(layout.rows.len() - tokens, codes.len(), "codes");
        let code_tokens: Vec<i64> = codes
            .iter()
            .map(|code| self.first_code() as i64 + code)
            .collect();
        // A row of the layout is a token, or after all tokens a code.
        let mut input = Vec::with_capacity(layout.rows.len());
        for &row in &layout.rows {
            let row = row as usize;
            input.push(if row < tokens {
                layout.tokens[row]
            } else {
                code_tokens[row - tokens]
            });
        }
        let lengths: Vec<usize> = documents.iter().map(Document::positions).collect();
        let x = self.token.embed(indices(&input, device).unsqueeze_dim(0));
        let hidden = self.backbone.forward_documents(x, &lengths); // [1, T, D]
        let learned = &layout.learned[0];
        let mut answers = layout.answers.clone();
        answers.extend(learned.latents.iter().map(|&at| code_tokens[at as usize]));
        let positions = [&layout.asked[..], &learned.conditions].concat();
        let positions = indices(&positions, device);
        let hidden = hidden.select(1, positions).squeeze_dim(0); // [M, D]
        surprise(&self.token, hidden, indices(&answers, device))
    }

    /// The joint loss of packed documents, from one pass over text and codes. `codes` are the codes
    /// of all pictures, in the order of the documents. `weights` has for each document the weight
    /// of its learned tokens in their mean.
    ///
    /// # Panics
    /// If the number of codes or weights does not fit the documents, or nothing is learned.
    pub fn loss(
        &self,
        documents: &[Document],
        codes: &[i64],
        weights: &[f64],
        device: &Device,
    ) -> Loss {
        let layout = self.layout(documents);
        let surprise = self.surprise_at(&layout, documents, codes, device);
        let tokens = layout.answers.len();
        let codes = surprise.dims()[0] - tokens;
        let token = if tokens == 0 {
            Tensor::zeros([1], device)
        } else {
            weighted_mean(surprise.clone().narrow(0, 0, tokens), &layout, weights)
        };
        let code = if codes == 0 {
            Tensor::zeros([1], device)
        } else {
            surprise.narrow(0, tokens, codes).mean()
        };
        Loss {
            token,
            diffusion: vec![code],
        }
    }

    /// Samples a picture of `tokens` codes for each text, code by code with a KV cache. Guidance is
    /// applied to the logits: `null + scale * (cond - null)`, where the null half has no text.
    ///
    /// # Shapes
    /// - returns: `[B, T]`, codes
    pub fn generate(
        &self,
        texts: &[Vec<u32>],
        tokens: usize,
        options: &TokenOptions,
        random: &mut RandomStream,
        device: &Device,
    ) -> Tensor<2, Int> {
        // One random number for each code. All are drawn before the pictures are split among
        // threads, so that pictures do not depend on the number of threads.
        let numbers: Vec<f64> = (0..texts.len() * tokens)
            .map(|_| random.uniform())
            .collect();
        let mut inputs = Vec::new();
        for rows in shards(device, texts.len()) {
            let numbers = numbers[rows.start * tokens..rows.end * tokens].to_vec();
            inputs.push((self.clone(), texts[rows].to_vec(), numbers));
        }
        let codes = at_once(inputs, |(model, texts, numbers)| {
            model.generate_rows(&texts, options, &numbers, device)
        });
        Tensor::cat(codes, 0)
    }

    /// Prompts `<BOS> text <BOD>`, left-padded to one length, `[B, P]`, and the padding of each.
    fn prompts(&self, texts: &[Vec<u32>], device: &Device) -> (Tensor<2, Int>, Vec<usize>) {
        let special = self.special_tokens();
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        let padding: Vec<usize> = texts.iter().map(|text| longest - text.len()).collect();
        let mut tokens: Vec<i64> = Vec::with_capacity(texts.len() * (longest + 2));
        for (text, &count) in texts.iter().zip(&padding) {
            tokens.extend(std::iter::repeat_n(i64::from(special.stop), count));
            tokens.push(i64::from(special.start));
            tokens.extend(text.iter().map(|token| i64::from(*token)));
            tokens.push(i64::from(special.modalities[0].begin));
        }
        let tokens = TensorData::new(tokens, [texts.len(), longest + 2]);
        (Tensor::from_data(tokens, device), padding)
    }

    /// [`generate`](Self::generate) on one thread, with the random numbers of all codes, `[B, T]`.
    fn generate_rows(
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
            let logits = host_logits(guide(logits, count, options.guidance_scale));
            let mut drawn = Vec::with_capacity(count);
            for (picture, logits) in logits.chunks_exact(self.codes).enumerate() {
                let number = numbers[picture * length + position];
                drawn.push(draw_token(logits, options, number) as i64);
            }
            let next = TensorData::new(drawn, [count, 1]);
            let next = Tensor::<2, Int>::from_data(next, device);
            let tokens = next.clone().add_scalar(self.first_code() as i64);
            input = self.token.embed(tokens); // [count, 1, D]
            if guided {
                input = input.repeat_dim(0, 2);
            }
            codes.push(next);
        }
        Tensor::cat(codes, 1)
    }
}
