//! Vector quantization: a latent becomes the nearest entry of a learned codebook (van den Oord et al.
//! 2017, arXiv 1711.00937).

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_core::RandomStream;

/// A codebook of `V` entries of dimension `Z`. A loss trains it instead of a moving average, so the
/// optimizer treats it like every other parameter.
#[derive(Module, Debug)]
pub struct Quantizer {
    /// Entries, `[V, Z]`.
    codebook: Param<Tensor<2>>,
}

/// Quantized latents, with the losses of codebook and encoder.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// Indices into the codebook, `[B, T]`.
    pub codes: Tensor<2, Int>,
    /// Entries of the codes, `[B, T, Z]`. Their gradient is passed to the latents unchanged
    /// (straight-through estimator).
    pub latents: Tensor<3>,
    /// `mean((sg(latents) - entries)^2)`, `[1]`: pulls the codebook to the encoder.
    pub codebook_loss: Tensor<1>,
    /// `mean((latents - sg(entries))^2)`, `[1]`: pulls the encoder to the codebook.
    pub commitment_loss: Tensor<1>,
}

impl Quantizer {
    /// A codebook that starts as N(0, 1).
    pub fn new(codes: usize, dim: usize, device: &Device) -> Self {
        Self {
            codebook: Initializer::Normal {
                mean: 0.0,
                std: 1.0,
            }
            .init([codes, dim], device),
        }
    }

    /// `V`, entries of the codebook.
    pub fn codes(&self) -> usize {
        self.codebook.dims()[0]
    }

    /// The code whose entry is nearest to each latent. It has no gradient.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, Z]`
    /// - returns: `[B, T]`
    pub fn nearest(&self, latents: Tensor<3>) -> Tensor<2, Int> {
        let [batch, tokens, dim] = latents.dims();
        let rows = latents.detach().reshape([batch * tokens, dim]);
        let codebook = self.codebook.val().detach();
        // |e - c|^2 without |e|^2, which is the same for all codes: one matrix product.
        let lengths = codebook.clone().square().sum_dim(1).transpose(); // [1, V]
        let distances = lengths - rows.matmul(codebook.transpose()).mul_scalar(2.0);
        distances.argmin(1).reshape([batch, tokens])
    }

    /// Looks up the entries of codes.
    ///
    /// # Shapes
    /// - `codes`: `[B, T]`
    /// - returns: `[B, T, Z]`
    pub fn embed(&self, codes: Tensor<2, Int>) -> Tensor<3> {
        let [batch, tokens] = codes.dims();
        let codebook = self.codebook.val();
        let dim = codebook.dims()[1];
        codebook
            .select(0, codes.reshape([batch * tokens]))
            .reshape([batch, tokens, dim])
    }

    /// Quantizes latents and computes both losses.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, Z]`
    pub fn forward(&self, latents: Tensor<3>) -> Quantized {
        let codes = self.nearest(latents.clone());
        let entries = self.embed(codes.clone());
        let codebook_loss = (latents.clone().detach() - entries.clone()).square().mean();
        let entries = entries.detach();
        Quantized {
            codes,
            commitment_loss: (latents.clone() - entries.clone()).square().mean(),
            latents: latents.clone() + (entries - latents).detach(),
            codebook_loss,
        }
    }

    /// Counts how often each of the `V` codes is used.
    ///
    /// # Shapes
    /// - `codes`: `[B, T]`
    pub fn usage(&self, codes: Tensor<2, Int>) -> Vec<usize> {
        let mut counts = vec![0; self.codes()];
        for code in host_codes(codes) {
            counts[code as usize] += 1;
        }
        counts
    }

    /// Replaces the entries of `codes` by latents drawn at random from `latents`. This is for all
    /// codes when training begins, and later for codes that are never used and so never get a
    /// gradient.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, Z]`
    ///
    /// # Panics
    /// If a code is not in the codebook.
    pub fn restart(
        mut self,
        codes: &[usize],
        latents: Tensor<3>,
        random: &mut RandomStream,
    ) -> Self {
        if codes.is_empty() {
            return self;
        }
        let (count, device) = (self.codes(), latents.device());
        let [batch, tokens, dim] = latents.dims();
        let rows = latents.reshape([batch * tokens, dim]);
        // Row `i` of the new codebook is row `sources[i]` of the old one with the latents appended.
        let mut sources: Vec<i64> = (0..count as i64).collect();
        for &code in codes {
            sources[code] = (count + random.below(batch * tokens)) as i64;
        }
        let sources = Tensor::<1, Int>::from_data(TensorData::new(sources, [count]), &device);
        self.codebook = self.codebook.map(|codebook| {
            let wants_gradient = codebook.is_require_grad();
            Tensor::cat(vec![codebook, rows], 0)
                .select(0, sources)
                .detach()
                .set_require_grad(wants_gradient)
        });
        self
    }
}

/// Codes on the host, row by row.
pub(crate) fn host_codes(codes: Tensor<2, Int>) -> Vec<i64> {
    let data = codes.into_data().convert::<i64>();
    data.try_into_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::conformance::{assert_close, seeded};

    fn quantizer(device: &Device) -> (Quantizer, Tensor<3>) {
        let latents = RandomStream::new(2).normal([3, 5, 4], device);
        let quantizer = seeded(1, device, |device| Quantizer::new(7, 4, device));
        (quantizer, latents)
    }

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn the_nearest_code_is_that_of_a_search() {
        let (quantizer, latents) = quantizer(&Device::default());
        let codebook = values(quantizer.codebook.val());
        let codes = host_codes(quantizer.nearest(latents.clone()));
        for (latent, code) in values(latents).chunks_exact(4).zip(codes) {
            let distance = |entry: &[f32]| -> f32 {
                let square = |(a, b): (&f32, &f32)| (a - b).powi(2);
                latent.iter().zip(entry).map(square).sum()
            };
            let found = distance(&codebook[code as usize * 4..][..4]);
            let least = codebook.chunks_exact(4).map(distance);
            let least = least.fold(f32::INFINITY, f32::min);
            assert!((found - least).abs() < 1e-5, "{found} {least}");
        }
    }

    /// The gradient of `sum(w * quantized)` with respect to the latents is `w` itself, and the
    /// codebook gets none.
    #[test]
    fn gradient_goes_straight_through() {
        let device = Device::default().autodiff();
        let (quantizer, latents) = quantizer(&device);
        let latents = latents.require_grad();
        let quantized = quantizer.forward(latents.clone());
        let entries = quantizer.embed(quantized.codes);
        assert_close("values", quantized.latents.clone(), entries, 1e-6);
        let weights = RandomStream::new(3).normal([3, 5, 4], &device);
        let gradients = (quantized.latents * weights.clone()).sum().backward();
        let got = latents.grad(&gradients).unwrap();
        assert_eq!(got.into_data(), weights.inner().into_data());
        assert!(quantizer.codebook.val().grad(&gradients).is_none());
    }

    /// Each loss has a gradient on one side only, `2 (a - b) / count`.
    #[test]
    fn losses_stop_the_gradient_of_the_other_side() {
        let device = Device::default().autodiff();
        let (quantizer, latents) = quantizer(&device);
        let latents = latents.require_grad();
        let quantized = quantizer.forward(latents.clone());
        let entries = quantizer.embed(quantized.codes.clone());
        let gradients = quantized.commitment_loss.backward();
        let got = latents.grad(&gradients).unwrap();
        let expected = (latents.clone() - entries).mul_scalar(2.0 / 60.0);
        assert_close("commitment", got, expected.inner(), 1e-6);
        assert!(quantizer.codebook.val().grad(&gradients).is_none());
        let gradients = quantized.codebook_loss.backward();
        assert!(latents.grad(&gradients).is_none());
        assert!(quantizer.codebook.val().grad(&gradients).is_some());
    }

    #[test]
    fn a_restarted_code_is_one_of_the_latents() {
        let (quantizer, latents) = quantizer(&Device::default());
        let before = values(quantizer.codebook.val());
        let mut random = RandomStream::new(4);
        let quantizer = quantizer.restart(&[2, 6], latents.clone(), &mut random);
        let (after, latents) = (values(quantizer.codebook.val()), values(latents));
        for (code, entry) in after.chunks_exact(4).enumerate() {
            if [2, 6].contains(&code) {
                assert!(latents.chunks_exact(4).any(|latent| latent == entry));
            } else {
                assert_eq!(entry, &before[code * 4..][..4]);
            }
        }
    }
}
