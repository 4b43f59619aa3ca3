//! A language model of image codes: the causal Transformer of LatentLM with a softmax head only.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_adapters::{LabelAdapter, LabelAdapterConfig, TokenAdapter, TokenAdapterConfig};
use latentlm_backbone::{Backbone, BackboneConfig};
use latentlm_core::{CausalBackbone, CausalBackboneConfig, PartConfig, RandomStream};
use latentlm_kernels::{at_once, shards};

use crate::error::BaselineError;
use crate::token::{TokenOptions, cross_entropy, draw_token, guide, host_logits};

/// Configuration of a [`VqLm`].
#[derive(Config, Debug, PartialEq)]
pub struct VqLmConfig {
    /// Number of classes.
    pub classes: usize,
    /// `T`, codes per image.
    pub tokens: usize,
    /// `V`, entries of the codebook.
    pub codes: usize,
    /// Causal Transformer.
    pub backbone: BackboneConfig,
}

impl VqLmConfig {
    /// Checks the configuration.
    ///
    /// # Errors
    /// If a size is zero or sizes do not fit each other.
    pub fn validate(&self) -> Result<(), BaselineError> {
        self.backbone.validate()?;
        if self.classes == 0 || self.tokens == 0 || self.codes < 2 {
            return Err(BaselineError::Config {
                model: "VQ",
                reason: "classes and tokens must be positive, codes 2 or more".into(),
            });
        }
        Ok(())
    }

    /// Builds the model. Its parameters are drawn from the device's generator, so seed that first.
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

/// The class-conditional autoregressive model of discrete image tokens.
#[derive(Module, Debug)]
pub struct VqLm {
    /// Embedding of the class label, which is position 0.
    pub label: LabelAdapter,
    /// Embedding of codes, and the softmax head.
    pub token: TokenAdapter,
    /// Causal Transformer.
    pub backbone: Backbone,
    /// `T`, codes per image.
    pub tokens: usize,
}

impl VqLm {
    /// Logits of all codes with teacher forcing: position `i` predicts code `i`.
    ///
    /// # Shapes
    /// - `labels`: `[B]`; `codes`: `[B, T]`
    /// - returns: `[B, T, V]`
    pub fn logits(&self, labels: Tensor<1, Int>, codes: Tensor<2, Int>) -> Tensor<3> {
        let [_, tokens] = codes.dims();
        let label = self.label.embed(labels); // [B, 1, D]
        let x = if tokens == 1 {
            label
        } else {
            let past = self.token.embed(codes.narrow(1, 0, tokens - 1));
            Tensor::cat(vec![label, past], 1) // [B, T, D]
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

    /// Samples the codes of one image for each label, code by code with a KV cache. Guidance is
    /// applied to the logits: `null + scale * (cond - null)`, with the null half in the same batch.
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
        // One random number for each code. All are drawn before the images are split among threads,
        // so that images do not depend on the number of threads.
        let numbers: Vec<f64> = (0..batch * self.tokens).map(|_| random.uniform()).collect();
        let mut inputs = Vec::new();
        for rows in shards(&labels.device(), batch) {
            let numbers = numbers[rows.start * self.tokens..rows.end * self.tokens].to_vec();
            let labels = labels.clone().narrow(0, rows.start, rows.len());
            inputs.push((self.clone(), labels, numbers));
        }
        let codes = at_once(inputs, |(model, labels, numbers)| {
            model.generate_rows(labels, options, &numbers)
        });
        Tensor::cat(codes, 0)
    }

    /// [`generate`](Self::generate) on one thread, with the random numbers of all codes, `[B, T]`.
    fn generate_rows(
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
            let logits = host_logits(guide(logits, batch, options.guidance_scale));
            let mut drawn = Vec::with_capacity(batch);
            for (image, logits) in logits.chunks_exact(vocabulary).enumerate() {
                let number = numbers[image * self.tokens + position];
                drawn.push(draw_token(logits, options, number) as i64);
            }
            let next = TensorData::new(drawn, [batch, 1]);
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
