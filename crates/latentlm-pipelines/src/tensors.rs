//! Between tensors and numbers on the host.

use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm::RandomStream;
use latentlm::core::Posterior;

/// All numbers of a tensor, on the host.
pub fn host_values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .try_into_vec()
        .unwrap_or_default()
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
