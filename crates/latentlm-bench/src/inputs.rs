//! What every measured work begins and ends with.

use std::time::Instant;

use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;

/// Random inputs on a device, the same in every run.
pub(crate) struct Inputs {
    pub(crate) random: RandomStream,
    pub(crate) device: Device,
}

impl Inputs {
    pub(crate) fn on(device: Device) -> Self {
        let random = RandomStream::new(0);
        Self { random, device }
    }

    /// Standard normal numbers.
    ///
    /// # Shapes
    /// - returns: `shape`
    pub(crate) fn normal<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        self.random.normal(shape, &self.device)
    }
}

/// What some work returns, and the seconds that pass until the device has finished it. The result is kept until then:
/// what nobody needs might never be computed.
pub(crate) fn timed<R>(device: &Device, work: impl FnOnce() -> R) -> (R, f64) {
    let started = Instant::now();
    let result = work();
    // A device that fails here fails again at the next read.
    let _ = device.sync();
    (result, started.elapsed().as_secs_f64())
}
