//! Between tensors and numbers on the host.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use latentlm::RandomStream;
use latentlm::core::Posterior;

use crate::error::{PipelineError, Result};

/// All numbers of a tensor, on the host.
pub fn host_values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let values = tensor.into_data().convert::<f32>();
    values.try_into_vec().unwrap_or_default()
}

/// Labels on a device, `[B]`.
pub fn label_tensor(labels: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = labels.iter().map(|&label| i64::from(label)).collect();
    Tensor::from_data(TensorData::new(values, [labels.len()]), device)
}

/// Latents drawn from a posterior with the noise of a stream.
pub fn draw_latents(posterior: &Posterior, random: &mut RandomStream) -> Tensor<3> {
    let device = posterior.mean.device();
    let shape = posterior.mean.dims();
    let scale = random.normal([shape[0]], &device);
    posterior.sample(scale, random.normal(shape, &device))
}

/// Drawn latents, if they are finite. Reads one number from the device.
///
/// # Errors
/// If one is NaN or infinite.
pub(crate) fn finite<const D: usize>(latents: Tensor<D>) -> Result<Tensor<D>> {
    // Zero, or NaN where a number is not finite: 0 times infinity is NaN too.
    let zero = latents.clone().mul_scalar(0.0).sum().cast(DType::F32);
    if zero.into_scalar::<f32>() == 0.0 {
        Ok(latents)
    } else {
        Err(PipelineError::NotFiniteLatents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_latent_that_is_not_finite_is_an_error() {
        let device = Device::default();
        let latents = |last: f32| Tensor::<2>::from_floats([[3e38, -3e38], [0.5, last]], &device);
        assert_eq!(host_values(finite(latents(3e38)).unwrap())[3], 3e38);
        for last in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = finite(latents(last)).unwrap_err();
            assert!(matches!(error, PipelineError::NotFiniteLatents), "{last}");
        }
    }
}
