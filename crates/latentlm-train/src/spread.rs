//! One batch on several devices: each takes a part with a copy of the weights, and gradients are added
//! up on the first (data parallel training).

use std::ops::Range;

use burn::tensor::kind::Basic;
use burn::tensor::{Device, Tensor};
use latentlm::core::DiffusionDraws;
use latentlm_kernels::{cut, shards_of};

/// The devices of a run, the first of which has the weights, the optimizer and all that is not a
/// training step.
#[derive(Debug, Clone, Default)]
pub struct DataParallel(Vec<Device>);

impl DataParallel {
    /// Steps on these devices; none or one leaves everything where it is.
    pub fn over(devices: impl IntoIterator<Item = Device>) -> Self {
        Self(devices.into_iter().collect())
    }

    /// Where a part is worked on, if not where it lies.
    pub fn device(&self, part: usize) -> Option<&Device> {
        match self.0.len() {
            0 | 1 => None,
            count => Some(&self.0[part % count]),
        }
    }

    /// Cuts rows of a batch on `device`: a part for each device, or on one CPU for each thread, of at
    /// least so many rows.
    pub fn parts(&self, device: &Device, rows: usize, least: usize) -> Vec<Range<usize>> {
        match self.0.len() {
            0 | 1 => shards_of(device, rows, least),
            count => cut(rows, count.min(rows)),
        }
    }
}

/// What can be worked on on another device.
pub trait ToDevice {
    /// The same there.
    fn to_device(self, device: &Device) -> Self;
}

impl<const D: usize, K: Basic> ToDevice for Tensor<D, K> {
    fn to_device(self, device: &Device) -> Self {
        Tensor::to_device(self, device)
    }
}

impl ToDevice for f64 {
    fn to_device(self, _: &Device) -> Self {
        self
    }
}

impl ToDevice for DiffusionDraws {
    fn to_device(self, device: &Device) -> Self {
        Self {
            timesteps: self.timesteps.to_device(device),
            noise: self.noise.to_device(device),
        }
    }
}

impl ToDevice for latentlm::Batch {
    fn to_device(self, device: &Device) -> Self {
        fn moved<T: ToDevice>(all: Vec<T>, device: &Device) -> Vec<T> {
            all.into_iter().map(|own| own.to_device(device)).collect()
        }
        Self {
            heard: moved(self.heard, device),
            latents: moved(self.latents, device),
            draws: moved(self.draws, device),
            ..self
        }
    }
}

macro_rules! portable_tuple {
    ($($name:ident),+) => {
        impl<$($name: ToDevice),+> ToDevice for ($($name,)+) {
            #[allow(non_snake_case)]
            fn to_device(self, device: &Device) -> Self {
                let ($($name,)+) = self;
                ($($name.to_device(device),)+)
            }
        }
    };
}

portable_tuple!(A, B);
portable_tuple!(A, B, C);
portable_tuple!(A, B, C, D);
