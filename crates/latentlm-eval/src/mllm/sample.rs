//! Some pictures of a split with their captions.

use burn::tensor::{Device, Tensor};
use latentlm_data::{Caption, ImageDataset};
use latentlm_pipelines::{evenly, read_at, read_readable};

use crate::error::EvalError;

/// Pictures with their captions.
pub struct Sample {
    /// Pictures, `[B, C, H, W]`.
    pub pictures: Tensor<4>,
    /// Captions of the pictures.
    pub captions: Vec<Caption>,
    /// Class labels of the pictures.
    pub labels: Vec<u32>,
}

impl Sample {
    /// Reads `count` pictures, or all if there are fewer, spread evenly over the split.
    ///
    /// # Errors
    /// If a picture can't be read.
    pub fn of(
        data: &ImageDataset,
        captions: &[Caption],
        count: usize,
        device: &Device,
    ) -> Result<Self, EvalError> {
        let picked = evenly(count, data.len());
        let pictures = read_at(data, &picked, device)?;
        Ok(Self::new(data, captions, pictures, &picked))
    }

    /// The same without the pictures that can't be read.
    pub fn of_readable(
        data: &ImageDataset,
        captions: &[Caption],
        count: usize,
        device: &Device,
    ) -> Self {
        let picked = evenly(count, data.len());
        let (pictures, read) = read_readable(data, &picked, device);
        Self::new(data, captions, pictures, &read)
    }

    fn new(
        data: &ImageDataset,
        captions: &[Caption],
        pictures: Tensor<4>,
        picked: &[usize],
    ) -> Self {
        Self {
            pictures,
            captions: picked.iter().map(|&i| captions[i].clone()).collect(),
            labels: picked.iter().map(|&i| data.label(i)).collect(),
        }
    }

    /// Captions without their category, as prompts for pictures.
    pub fn texts(&self) -> Vec<String> {
        self.captions
            .iter()
            .map(|caption| caption.text.clone())
            .collect()
    }
}
