//! Some pictures of a split and what is said of them.

use burn::tensor::{Device, Tensor};
use latentlm_data::{Caption, ImageDataset};
use latentlm_pipelines::{HostBatch, evenly};

use crate::error::EvalError;

/// Pictures with their captions.
pub struct Sample {
    /// `[B, C, H, W]`
    pub pictures: Tensor<4>,
    /// Theirs.
    pub captions: Vec<Caption>,
    /// Theirs.
    pub labels: Vec<u32>,
}

impl Sample {
    /// As many as asked for or there are, spread evenly over the split.
    pub fn of(
        data: &ImageDataset,
        captions: &[Caption],
        count: usize,
        device: &Device,
    ) -> Result<Self, EvalError> {
        let picked = evenly(count, data.len());
        let pictures = HostBatch::read(data, &picked, &[])?;
        Ok(Self {
            pictures: pictures.tensor(device),
            captions: picked.iter().map(|&i| captions[i].clone()).collect(),
            labels: picked.iter().map(|&i| data.label(i)).collect(),
        })
    }

    /// What the pictures are asked for by.
    pub fn texts(&self) -> Vec<String> {
        let texts = self.captions.iter().map(|caption| caption.text.clone());
        texts.collect()
    }
}
