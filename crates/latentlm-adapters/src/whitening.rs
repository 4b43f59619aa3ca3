//! Whitening: what the language model sees of the codec's latents.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Tensor};

/// Two scalars measured on encoded training data: the language model sees
/// `(latents + bias) * scale`, of mean 0 and standard deviation 1 (spec §2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Whitening {
    /// Minus the mean.
    pub bias: f32,
    /// One over the standard deviation.
    pub scale: f32,
}

impl Whitening {
    /// No change.
    pub const IDENTITY: Self = Self {
        bias: 0.0,
        scale: 1.0,
    };

    /// Measures latents of any shape; `None` if they are empty, constant or not finite.
    pub fn measure(latents: &[f32]) -> Option<Self> {
        let count = latents.len() as f64;
        let mean = latents.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let square = |x: &f32| (f64::from(*x) - mean).powi(2);
        let std = (latents.iter().map(square).sum::<f64>() / count).sqrt();
        (std.is_finite() && std > 0.0).then_some(Self {
            bias: -mean as f32,
            scale: (1.0 / std) as f32,
        })
    }
}

/// A [`Whitening`] as two tensors of a module, so that it is saved and loaded with the weights it
/// belongs to. Not trained.
#[derive(Module, Debug)]
pub struct Whitener {
    /// `[1]`
    bias: Param<Tensor<1>>,
    /// `[1]`
    scale: Param<Tensor<1>>,
}

impl Whitener {
    /// The whitening on a device.
    pub fn new(whitening: Whitening, device: &Device) -> Self {
        let param = |value| fixed(ParamId::new(), value, device);
        Self {
            bias: param(whitening.bias),
            scale: param(whitening.scale),
        }
    }

    /// The same parameters with other values.
    pub fn set(self, whitening: Whitening) -> Self {
        let device = self.bias.device();
        let change = |param: Param<Tensor<1>>, value| fixed(param.consume().0, value, &device);
        Self {
            bias: change(self.bias, whitening.bias),
            scale: change(self.scale, whitening.scale),
        }
    }

    /// Where the whitening lies.
    pub fn device(&self) -> Device {
        self.bias.device()
    }

    /// The codec's latents as the language model sees them, of any rank.
    pub fn whiten<const R: usize>(&self, latents: Tensor<R>) -> Tensor<R> {
        (latents + self.bias.val().unsqueeze()) * self.scale.val().unsqueeze()
    }

    /// The language model's latents as the codec decodes them, of any rank.
    pub fn unwhiten<const R: usize>(&self, latents: Tensor<R>) -> Tensor<R> {
        latents / self.scale.val().unsqueeze() - self.bias.val().unsqueeze()
    }
}

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
