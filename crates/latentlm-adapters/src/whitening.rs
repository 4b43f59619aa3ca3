//! Whitening: normalization of the codec's latents for the language model.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Tensor};

/// Two scalars measured on encoded training data. The input of the language model is
/// `(latents + bias) * scale`, with mean 0 and standard deviation 1 (spec §2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Whitening {
    /// Minus the mean.
    pub bias: f32,
    /// One over the standard deviation.
    pub scale: f32,
}

impl Whitening {
    /// The whitening that changes nothing.
    pub const IDENTITY: Self = Self {
        bias: 0.0,
        scale: 1.0,
    };

    /// Measures mean and standard deviation over all elements. `None` if there are no elements, if
    /// all are equal, or if one is not finite.
    pub fn measure(latents: &[f32]) -> Option<Self> {
        let count = latents.len() as f64;
        let mean = latents.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let squares = latents.iter().map(|&x| (f64::from(x) - mean).powi(2));
        let std = (squares.sum::<f64>() / count).sqrt();
        (std.is_finite() && std > 0.0).then_some(Self {
            bias: -mean as f32,
            scale: (1.0 / std) as f32,
        })
    }
}

/// A [`Whitening`] as two tensors of a module, so that it is saved and loaded with the weights that
/// were trained on it. The tensors themselves are not trained.
#[derive(Module, Debug)]
pub struct Whitener {
    /// Minus the mean, `[1]`.
    bias: Param<Tensor<1>>,
    /// One over the standard deviation, `[1]`.
    scale: Param<Tensor<1>>,
}

impl Whitener {
    /// Puts a whitening on a device.
    pub fn new(whitening: Whitening, device: &Device) -> Self {
        let param = |value| fixed(ParamId::new(), value, device);
        Self {
            bias: param(whitening.bias),
            scale: param(whitening.scale),
        }
    }

    /// Replaces the values and keeps the ids of the parameters.
    pub fn set(self, whitening: Whitening) -> Self {
        let device = self.bias.device();
        let change = |param: Param<Tensor<1>>, value| fixed(param.consume().0, value, &device);
        Self {
            bias: change(self.bias, whitening.bias),
            scale: change(self.scale, whitening.scale),
        }
    }

    /// The device of the two tensors.
    pub fn device(&self) -> Device {
        self.bias.device()
    }

    /// Normalizes the codec's latents for the language model. Any rank.
    pub fn whiten<const R: usize>(&self, latents: Tensor<R>) -> Tensor<R> {
        (latents + self.bias.val().unsqueeze()) * self.scale.val().unsqueeze()
    }

    /// Undoes the whitening, so that the codec can decode. Any rank.
    pub fn unwhiten<const R: usize>(&self, latents: Tensor<R>) -> Tensor<R> {
        latents / self.scale.val().unsqueeze() - self.bias.val().unsqueeze()
    }
}

/// A parameter of one element that is not trained.
fn fixed(id: ParamId, value: f32, device: &Device) -> Param<Tensor<1>> {
    Param::initialized(id, Tensor::from_floats([value], device)).set_require_grad(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_or_broken_latents_have_no_whitening() {
        for latents in [&[][..], &[1.0, 1.0], &[1.0, f32::NAN]] {
            assert_eq!(Whitening::measure(latents), None, "{latents:?}");
        }
    }
}
