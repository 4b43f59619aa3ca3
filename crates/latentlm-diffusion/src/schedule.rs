//! The forward process: amplitudes of signal and noise at each timestep, and the prediction target.

use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_core::{BetaSchedule, Prediction};

/// The variance-preserving forward process `x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise`.
#[derive(Debug, Clone)]
pub struct NoiseSchedule {
    alphas_cumprod: Vec<f64>,
    prediction: Prediction,
}

impl NoiseSchedule {
    /// A schedule with `timesteps` timesteps.
    ///
    /// # Panics
    /// If `timesteps` is 0.
    pub fn new(schedule: BetaSchedule, prediction: Prediction, timesteps: usize) -> Self {
        assert!(timesteps > 0, "a noise schedule needs timesteps");
        let mut product = 1.0;
        let alphas_cumprod = betas(schedule, timesteps)
            .map(|beta| {
                product *= 1.0 - beta;
                product
            })
            .collect();
        Self {
            alphas_cumprod,
            prediction,
        }
    }

    /// `T`, the number of timesteps.
    pub fn timesteps(&self) -> usize {
        self.alphas_cumprod.len()
    }

    /// The prediction target.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// `alpha_bar` of every timestep.
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas_cumprod
    }

    /// Signal and noise amplitudes `(sqrt(abar), sqrt(1 - abar))` of each row's timestep.
    ///
    /// # Shapes
    /// - `timesteps`: `[N]`
    /// - returns: `[N, 1]` each
    pub fn amplitudes(&self, timesteps: Tensor<1, Int>) -> (Tensor<2>, Tensor<2>) {
        let device = timesteps.device();
        let table = |value: fn(f64) -> f64| self.table(value, &device);
        let signal = table(f64::sqrt).select(0, timesteps.clone());
        let noise = table(|abar| (1.0 - abar).sqrt()).select(0, timesteps);
        (signal, noise)
    }

    /// A function of `alpha_bar` at every timestep, `[T, 1]`.
    fn table(&self, value: fn(f64) -> f64, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = self
            .alphas_cumprod
            .iter()
            .map(|abar| value(*abar) as f32)
            .collect();
        Tensor::from_data(TensorData::new(values, [self.timesteps(), 1]), device)
    }

    /// Adds noise to clean latents, each row at its own timestep: `x_t`.
    ///
    /// # Shapes
    /// - `latents`, `noise`: `[N, Z]`; `timesteps`: `[N]`
    /// - returns: `[N, Z]`
    pub fn add_noise(
        &self,
        latents: Tensor<2>,
        noise: Tensor<2>,
        timesteps: Tensor<1, Int>,
    ) -> Tensor<2> {
        let (signal, sigma) = self.amplitudes(timesteps);
        latents * signal + noise * sigma
    }

    /// The training target: noise or velocity, as [`prediction`](Self::prediction) says.
    ///
    /// # Shapes
    /// - `latents`, `noise`: `[N, Z]`; `timesteps`: `[N]`
    /// - returns: `[N, Z]`
    pub fn target(
        &self,
        latents: Tensor<2>,
        noise: Tensor<2>,
        timesteps: Tensor<1, Int>,
    ) -> Tensor<2> {
        match self.prediction {
            Prediction::Epsilon => noise,
            Prediction::Velocity => {
                let (signal, sigma) = self.amplitudes(timesteps);
                noise * signal - latents * sigma
            }
        }
    }

    /// Factors `(a, b)` of the clean estimate `x_0 = a * x_t + b * prediction`, where `alpha` and
    /// `sigma` are the amplitudes of signal and noise.
    pub(crate) fn clean_factors(&self, alpha: f64, sigma: f64) -> (f64, f64) {
        match self.prediction {
            Prediction::Epsilon => (1.0 / alpha, -sigma / alpha),
            Prediction::Velocity => (alpha, -sigma),
        }
    }
}

fn betas(schedule: BetaSchedule, timesteps: usize) -> Box<dyn Iterator<Item = f64>> {
    match schedule {
        BetaSchedule::Cosine => {
            let bar = move |t: usize| {
                let phase = (t as f64 / timesteps as f64 + 0.008) / 1.008;
                (phase * std::f64::consts::FRAC_PI_2).cos().powi(2)
            };
            Box::new((0..timesteps).map(move |t| (1.0 - bar(t + 1) / bar(t)).min(0.999)))
        }
        BetaSchedule::Linear => {
            let (first, last) = (1e-4, 0.02);
            let gap = (last - first) / (timesteps.max(2) - 1) as f64;
            Box::new((0..timesteps).map(move |t| first + gap * t as f64))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::RandomStream;

    #[test]
    fn cosine_follows_its_closed_form_until_the_cap() {
        let schedule = NoiseSchedule::new(BetaSchedule::Cosine, Prediction::Epsilon, 1000);
        let bar = |t: f64| {
            ((t / 1000.0 + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2)
                .cos()
                .powi(2)
        };
        for t in [0, 1, 10, 500, 900] {
            let expected = bar(t as f64 + 1.0) / bar(0.0);
            let got = schedule.alphas_cumprod()[t];
            assert!((got - expected).abs() < 1e-9, "{t}: {got} {expected}");
        }
        let last = schedule.alphas_cumprod()[999];
        let before = schedule.alphas_cumprod()[998];
        assert!(
            (last / before - 0.001).abs() < 1e-12,
            "the last beta is capped"
        );
    }

    #[test]
    fn target_and_noise_give_back_the_latent() {
        let device = Device::default();
        let mut random = RandomStream::new(1);
        let latents = random.normal([6, 3], &device);
        let noise = random.normal([6, 3], &device);
        for prediction in [Prediction::Epsilon, Prediction::Velocity] {
            let schedule = NoiseSchedule::new(BetaSchedule::Cosine, prediction, 1000);
            let t = 400;
            let timesteps = Tensor::<1, Int>::from_ints([t; 6], &device);
            let noisy = schedule.add_noise(latents.clone(), noise.clone(), timesteps.clone());
            let target = schedule.target(latents.clone(), noise.clone(), timesteps);
            let abar = schedule.alphas_cumprod()[t as usize];
            let (a, b) = schedule.clean_factors(abar.sqrt(), (1.0 - abar).sqrt());
            let clean = noisy.mul_scalar(a) + target.mul_scalar(b);
            assert!(
                clean.all_close(latents.clone(), None, Some(1e-5)),
                "{prediction:?}"
            );
        }
    }
}
