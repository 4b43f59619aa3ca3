//! Some pictures of a split with their captions.

use burn::tensor::{Device, Tensor};
use latentlm_data::Caption;
use latentlm_pipelines::{MllmSplit, evenly, read_at, read_readable};

use crate::error::Result;

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
    /// Reads `count` pictures of a split, or all if there are fewer, spread evenly over it.
    ///
    /// # Errors
    /// If a picture can't be read.
    pub fn of(split: &MllmSplit, count: usize, device: &Device) -> Result<Self> {
        let picked = evenly(count, split.pictures.len());
        let pictures = read_at(&split.pictures, &picked, device)?;
        Ok(Self::new(split, pictures, &picked))
    }

    /// The same without the pictures that can't be read.
    pub fn of_readable(split: &MllmSplit, count: usize, device: &Device) -> Self {
        let picked = evenly(count, split.pictures.len());
        let (pictures, read) = read_readable(&split.pictures, &picked, device);
        Self::new(split, pictures, &read)
    }

    fn new(split: &MllmSplit, pictures: Tensor<4>, picked: &[usize]) -> Self {
        Self {
            pictures,
            captions: picked.iter().map(|&i| split.captions[i].clone()).collect(),
            labels: picked.iter().map(|&i| split.pictures.label(i)).collect(),
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
