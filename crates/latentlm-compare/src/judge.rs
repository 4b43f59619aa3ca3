//! How drawn pictures are judged.

use std::time::Instant;

use burn::tensor::{Device, Tensor};
use latentlm_eval::{Judge, Verdict};
use latentlm_pipelines::{ImageData, read_all};
use latentlm_train::TrainError;

/// The judge of a dataset's pictures. It needs at least two held-out ones.
///
/// # Errors
/// If a picture can't be read.
pub(crate) fn judge(data: &ImageData, device: &Device) -> Result<Judge, TrainError> {
    let ImageData { train, test } = data;
    let labels: Vec<u32> = (0..test.len()).map(|index| test.label(index)).collect();
    let held_out = read_all(test, device)?;
    Ok(Judge::train(train, held_out, &labels)?)
}

/// Pictures that were drawn and judged.
pub(crate) struct Judged {
    /// `[B, C, H, W]`
    pub(crate) pictures: Tensor<4>,
    pub(crate) verdict: Verdict,
    /// Pictures drawn per second.
    pub(crate) images_per_second: f64,
}

impl Judged {
    /// Times `draw` and judges its pictures, which were asked for by `labels`.
    ///
    /// # Errors
    /// If `draw` fails.
    pub(crate) fn measure(
        judge: &Judge,
        labels: &[u32],
        device: &Device,
        draw: impl FnOnce() -> Result<Tensor<4>, TrainError>,
    ) -> Result<Self, TrainError> {
        let started = Instant::now();
        let pictures = draw()?;
        // A device that fails here fails again at the next read.
        let _ = device.sync();
        let seconds = started.elapsed().as_secs_f64();
        Ok(Self {
            verdict: judge.measure(pictures.clone(), labels),
            images_per_second: labels.len() as f64 / seconds,
            pictures,
        })
    }
}
