//! What a comparison of models of text and pictures is made of. Every key stands in
//! `configs/compare/mllm.toml`, with its meaning beside it.

use std::sync::LazyLock;

use burn::config::Config;
use burn::tensor::Device;
use latentlm::backbone::BackboneConfig;
use latentlm::core::{LatentCodecConfig, Precision};
use latentlm::{LatentLm, SampleOptions};
use latentlm_baselines::{
    DenoiserSizes, MllmTransfusion, MllmVqLm, MllmVqLmConfig, TokenOptions, TransfusionConfig,
};
use latentlm_keys::Keys;
use latentlm_pipelines::{MllmRecipe, PipelineError, Recipe, recipe_keys};
use latentlm_train::TrainError;
use serde::Serialize;

use super::mllm::Documents;
use super::recipe::{
    CompareRecipe, DenoiserRecipe, EvaluateConfig, ImageCodec, VqRecipe, key_table, wrong,
};
use super::run::{check_sizes, size};

/// Data, codec, budget and LatentLM itself as a recipe of text and pictures, and its rivals.
#[derive(Config, Debug, PartialEq)]
pub struct CompareMllmRecipe {
    /// How quality is measured on the way.
    pub evaluate: EvaluateConfig,
    /// Transfusion.
    pub transfusion: DenoiserRecipe,
    /// The vector-quantized codec and its language model.
    pub vq: VqRecipe,
    /// Seed, data, codec, LatentLM, and the steps and packs that all have.
    pub mllm: MllmRecipe,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| recipe_keys("latentlm-compare/mllm", key_table));

/// The tables of a comparison that the codec's crate says.
#[derive(Serialize)]
struct MllmTable {
    mllm: ImageCodec,
}

impl Default for CompareMllmRecipe {
    /// The file `configs/compare/mllm.toml`.
    fn default() -> Self {
        KEYS.preset(&MllmTable {
            mllm: ImageCodec::preset("mllm/twemoji"),
        })
    }
}

impl Recipe for CompareMllmRecipe {
    const COMMAND: &'static str = "compare mllm";

    fn keys() -> &'static Keys {
        &KEYS
    }

    fn seed(&self) -> u64 {
        self.mllm.seed
    }

    fn check_together(&self) -> Result<(), PipelineError> {
        self.mllm.check_together()?;
        if self.mllm.lm.precision != Precision::F32 {
            let reason = "mllm.lm.precision must be \"f32\": rivals are compared in that";
            return Err(PipelineError::config(reason));
        }
        self.images().check_together()?;
        self.transfusion(1).validate().map_err(wrong)?;
        self.vq_lm(1).validate().map_err(wrong)?;
        if self.transfusion.batch_mul != 1 {
            return Err(PipelineError::config(
                "transfusion.batch_mul must be 1: a pack is read once a step",
            ));
        }
        Ok(())
    }
}

impl CompareMllmRecipe {
    /// The comparison of images that the codecs' stages belong to.
    pub(crate) fn images(&self) -> CompareRecipe {
        CompareRecipe {
            image: self.mllm.image(),
            evaluate: self.evaluate.clone(),
            vq: self.vq.clone(),
            ..CompareRecipe::default()
        }
    }

    /// Transfusion for a vocabulary of that many tokens of text.
    pub fn transfusion(&self, text_vocabulary: usize) -> TransfusionConfig {
        let (rival, lm) = (&self.transfusion, &self.mllm.lm);
        let (tokens, dim) = (self.mllm.tokens(), self.mllm.codec.spec().dim);
        let sizes = DenoiserSizes {
            width: rival.width,
            depth: rival.depth,
            heads: rival.heads,
            kv_heads: rival.kv_heads,
            mlp_ratio: rival.mlp_ratio,
            prediction: lm.prediction,
            schedule: lm.schedule,
            num_train_timesteps: lm.num_train_timesteps,
        };
        TransfusionConfig::new(text_vocabulary, tokens, dim).with_sizes(sizes)
    }

    /// The language model of text and codes.
    pub fn vq_lm(&self, text_vocabulary: usize) -> MllmVqLmConfig {
        let vq = &self.vq;
        let backbone = BackboneConfig::new(vq.width, vq.depth, vq.heads)
            .with_kv_heads(vq.kv_heads)
            .with_mlp_ratio(vq.mlp_ratio)
            .with_condition_layer(false);
        MllmVqLmConfig::new(text_vocabulary, vq.codes, self.mllm.text.tied, backbone)
    }

    /// Names and numbers of parameters of all models for a vocabulary of that many tokens of text,
    /// LatentLM's first.
    ///
    /// # Errors
    /// If a rival's differs from LatentLM's by more than `evaluate.parameter_tolerance`.
    pub fn parameters(
        &self,
        text_vocabulary: usize,
        device: &Device,
    ) -> Result<Vec<(&'static str, usize)>, TrainError> {
        let counts = vec![
            size::<Documents, LatentLm>(self, text_vocabulary, device),
            size::<Documents, MllmTransfusion>(self, text_vocabulary, device),
            size::<Documents, MllmVqLm>(self, text_vocabulary, device),
        ];
        check_sizes(&counts, self.evaluate.parameter_tolerance)?;
        Ok(counts)
    }

    /// How Transfusion draws: with LatentLM's solver and steps.
    pub(crate) fn sample_options(&self) -> SampleOptions {
        SampleOptions {
            guidance_scale: self.transfusion.guidance_scale,
            ..self.mllm.sample_options()
        }
    }

    /// How codes are drawn.
    pub(crate) fn token_options(&self) -> TokenOptions {
        self.images().token_options()
    }
}
