//! A language model of image codes: the causal Transformer of LatentLM with a softmax head alone.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_adapters::{LabelAdapter, LabelAdapterConfig, TokenAdapter, TokenAdapterConfig};
use latentlm_backbone::{Backbone, BackboneConfig};
use latentlm_core::{CausalBackbone, RandomStream};
use latentlm_kernels::{at_once, parts};

use crate::error::BaselineError;
use crate::token::{TokenOptions, cross_entropy, draw_token};

/// Configuration of a [`VqLm`].
#[derive(Config, Debug, PartialEq)]
pub struct VqLmConfig {
    /// Number of classes.
    pub classes: usize,
    /// `T`, codes an image.
    pub tokens: usize,
    /// `V`, entries of the codebook.
    pub codes: usize,
    /// The backbone.
    pub backbone: BackboneConfig,
}

impl VqLmConfig {
    /// What is wrong with the configuration, if anything, in one line.
    ///
    /// # Errors
    /// If a size is zero or sizes do not fit each other.
    pub fn validate(&self) -> Result<(), BaselineError> {
        self.backbone.validate()?;
        if self.classes == 0 || self.tokens == 0 || self.codes < 2 {
            return Err(BaselineError::Config {
                rival: "VQ",
                reason: "classes and tokens must be positive, codes 2 or more".into(),
            });
        }
        Ok(())
    }

    /// Builds the model. Its parameters are drawn from the device's generator: seed that first.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> VqLm {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let width = self.backbone.width;
        VqLm {
            label: LabelAdapterConfig::new(self.classes, width).init(device),
            token: TokenAdapterConfig::new(self.codes, width).init(device),
            backbone: self.backbone.init(device),
            tokens: self.tokens,
        }
    }
}

/// The autoregressive model of discrete image tokens, class-conditional.
#[derive(Module, Debug)]
pub struct VqLm {
    /// The class label, position 0.
    pub label: LabelAdapter,
    /// Codes, and the softmax head.
    pub token: TokenAdapter,
    /// Positions to hidden states.
    pub backbone: Backbone,
    /// `T`, codes an image.
    pub tokens: usize,
}

impl VqLm {
    /// Scores of every code: position `i` predicts code `i` (teacher forcing).
    ///
    /// # Shapes
    /// - `labels`: `[B]`; `codes`: `[B, T]`
    /// - returns: `[B, T, V]`
    pub fn logits(&self, labels: Tensor<1, Int>, codes: Tensor<2, Int>) -> Tensor<3> {
        let [_, tokens] = codes.dims();
        let label = self.label.embed(labels); // [B, 1, D]
        let x = match tokens {
            1 => label,
            _ => {
                let past = self.token.embed(codes.narrow(1, 0, tokens - 1));
                Tensor::cat(vec![label, past], 1) // [B, T, D]
            }
        };
        self.token.logits(self.backbone.forward(x))
    }

    /// The mean cross entropy of all codes.
    ///
    /// # Shapes
    /// - `labels`: `[B]`; `codes`: `[B, T]`
    /// - returns: `[1]`
    pub fn loss(&self, labels: Tensor<1, Int>, codes: Tensor<2, Int>) -> Tensor<1> {
        cross_entropy(self.logits(labels, codes.clone()), codes)
    }

    /// Draws the codes of one image a label, code by code with a KV cache. Guidance works on the
    /// scores: `null + scale * (cond - null)`, the null half in the same batch.
    ///
    /// # Shapes
    /// - `labels`: `[B]`
    /// - returns: `[B, T]`
    pub fn generate(
        &self,
        labels: Tensor<1, Int>,
        options: &TokenOptions,
        random: &mut RandomStream,
    ) -> Tensor<2, Int> {
        let [batch] = labels.dims();
        // One number a code, drawn before images are shared out among threads.
        let numbers: Vec<f64> = (0..batch * self.tokens).map(|_| random.uniform()).collect();
        let parts = parts(&labels.device(), batch).into_iter();
        let inputs = parts.map(|rows| {
            let own = numbers[rows.start * self.tokens..rows.end * self.tokens].to_vec();
            let labels = labels.clone().narrow(0, rows.start, rows.len());
            (self.clone(), labels, own)
        });
        let codes = at_once(inputs.collect(), |(model, labels, numbers)| {
            model.generate_part(labels, options, &numbers)
        });
        Tensor::cat(codes, 0)
    }

    fn generate_part(
        &self,
        labels: Tensor<1, Int>,
        options: &TokenOptions,
        numbers: &[f64],
    ) -> Tensor<2, Int> {
        let device = labels.device();
        let [batch] = labels.dims();
        let guided = options.guidance_scale != 1.0;
        let (labels, rows) = if guided {
            let null = self.label.null(batch, &device);
            (Tensor::cat(vec![labels, null], 0), 2 * batch)
        } else {
            (labels, batch)
        };
        let vocabulary = self.token.vocabulary();
        let mut kv_cache = self.backbone.init_state(rows, self.tokens, &device);
        let mut input = self.label.embed(labels); // [rows, 1, D]
        let mut codes = Vec::with_capacity(self.tokens);
        for position in 0..self.tokens {
            let hidden = self.backbone.step(input, &mut kv_cache);
            let logits = self.token.logits(hidden).reshape([rows, vocabulary]);
            let scores = host_scores(guide(logits, batch, options.guidance_scale));
            let drawn = scores.chunks_exact(vocabulary).enumerate();
            let drawn = drawn.map(|(image, scores)| {
                let number = numbers[image * self.tokens + position];
                draw_token(scores, options, number) as i64
            });
            let next = TensorData::new(drawn.collect::<Vec<i64>>(), [batch, 1]);
            let next = Tensor::<2, Int>::from_data(next, &device);
            input = self.token.embed(next.clone()); // [batch, 1, D]
            if guided {
                input = input.repeat_dim(0, 2);
            }
            codes.push(next);
        }
        Tensor::cat(codes, 1)
    }
}

/// The guided scores of `batch` images, where the rows behind theirs are the null half's.
pub(crate) fn guide(logits: Tensor<2>, batch: usize, scale: f64) -> Tensor<2> {
    if logits.dims()[0] == batch {
        return logits;
    }
    let cond = logits.clone().narrow(0, 0, batch);
    let null = logits.narrow(0, batch, batch);
    null.clone() + (cond - null).mul_scalar(scale)
}

pub(crate) fn host_scores(logits: Tensor<2>) -> Vec<f32> {
    let data = logits.into_data().convert::<f32>();
    data.try_into_vec().unwrap_or_default()
}
