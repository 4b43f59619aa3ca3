//! Data parallel training: each device works on a shard of a batch with a copy of the weights, and gradients
//! are added up on the first.

use std::ops::Range;

use burn::tensor::kind::Basic;
use burn::tensor::{Device, Tensor};
use latentlm::core::DiffusionDraws;
use latentlm_kernels::{at_once, cut, shards_of};

/// The devices of a run. The first has the weights and the optimizer, and does all that is not a training
/// step.
#[derive(Debug, Clone, Default)]
pub struct DataParallel(Vec<Device>);

impl DataParallel {
    /// Steps on these devices; none or one leaves everything where it is.
    pub fn over(devices: impl IntoIterator<Item = Device>) -> Self {
        Self(devices.into_iter().collect())
    }

    /// The device that works on a shard; none if it is worked on where it lies.
    pub fn device(&self, shard: usize) -> Option<&Device> {
        let count = self.0.len();
        (count > 1).then(|| &self.0[shard % count])
    }

    /// Cuts rows of a batch on `device`: a shard for each device, or on a CPU alone a shard for each thread, of
    /// at least `least` rows.
    pub fn shards(&self, device: &Device, rows: usize, least: usize) -> Vec<Range<usize>> {
        match self.0.len() {
            0 | 1 => shards_of(device, rows, least),
            count => cut(rows, count.min(rows)),
        }
    }

    /// Works on the shards of a batch at the same time, each on its device. `copy` makes what each needs of
    /// its own there. Results come in the order of the shards.
    pub fn at_once<T: ToDevice + Send, C: Send, R: Send>(
        &self,
        shards: Vec<T>,
        copy: impl Fn(Option<&Device>) -> C,
        work: impl Fn(C, T) -> R + Sync,
    ) -> Vec<R> {
        let inputs = shards.into_iter().enumerate().map(|(index, shard)| {
            let device = self.device(index);
            let shard = match device {
                Some(device) => shard.to_device(device),
                None => shard,
            };
            (copy(device), shard)
        });
        at_once(inputs.collect(), |(copy, shard)| work(copy, shard))
    }
}

/// Values that can be moved to another device.
pub trait ToDevice {
    /// Moves the value to a device.
    fn to_device(self, device: &Device) -> Self;
}

impl<const D: usize, K: Basic> ToDevice for Tensor<D, K> {
    fn to_device(self, device: &Device) -> Self {
        Tensor::to_device(self, device)
    }
}

/// Rows of a batch that the work itself takes from where it lies.
impl ToDevice for Range<usize> {
    fn to_device(self, _: &Device) -> Self {
        self
    }
}

impl ToDevice for DiffusionDraws {
    fn to_device(self, device: &Device) -> Self {
        Self {
            timesteps: self.timesteps.to_device(device),
            noise: self.noise.to_device(device),
            second_noise: self.second_noise.map(|noise| noise.to_device(device)),
            target: self.target.map(|target| target.to_device(device)),
            whole_steps: self.whole_steps.map(|target| target.to_device(device)),
            ..self
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
