//! The forward process: amplitudes of signal and noise at each timestep, and the prediction target.

use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_core::{BetaSchedule, Prediction, Process};

/// The forward process: the variance-preserving one `x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise`, or the straight
/// line of flow matching `x_t = (1 - t) x_0 + t noise` (Lipman et al. 2022, arXiv 2210.02747; Liu et al. 2022, arXiv
/// 2209.03003, equation 1). Timestep `k` of `T` of the line is time `(k + 1) / T`.
#[derive(Debug, Clone)]
pub struct NoiseSchedule {
    /// Cumulative products of `alpha` in the variance-preserving process; empty for flow matching.
    alphas_cumprod: Vec<f64>,
    /// Amplitude of the signal at every timestep.
    signal: Vec<f64>,
    /// Amplitude of the noise at every timestep.
    noise: Vec<f64>,
    prediction: Prediction,
    process: Process,
}

/// A point of diffusion with the signal-to-noise ratio of a time of flow matching.
struct FlowPoint {
    /// The angle whose tangent is noise by signal.
    angle: f64,
    /// The timestep of diffusion.
    timestep: f64,
}

impl NoiseSchedule {
    /// A schedule of diffusion with `timesteps` timesteps.
    ///
    /// # Panics
    /// If `timesteps` is 0.
    pub fn new(schedule: BetaSchedule, prediction: Prediction, timesteps: usize) -> Self {
        assert!(timesteps > 0, "a noise schedule needs timesteps");
        let mut product = 1.0;
        let alphas_cumprod: Vec<f64> = betas(schedule, timesteps)
            .map(|beta| {
                product *= 1.0 - beta;
                product
            })
            .collect();
        let bars = alphas_cumprod.iter();
        Self {
            signal: bars.clone().map(|abar| abar.sqrt()).collect(),
            noise: bars.map(|abar| (1.0 - abar).sqrt()).collect(),
            alphas_cumprod,
            prediction,
            process: Process::Diffusion,
        }
    }

    /// The straight line of flow matching with `timesteps` timesteps. The velocity `noise - x_0` is predicted.
    ///
    /// # Panics
    /// If `timesteps` is 0.
    pub fn flow(timesteps: usize) -> Self {
        assert!(timesteps > 0, "flow matching needs timesteps");
        let times = (1..=timesteps).map(|k| k as f64 / timesteps as f64);
        Self {
            alphas_cumprod: Vec::new(),
            signal: times.clone().map(|time| 1.0 - time).collect(),
            noise: times.collect(),
            prediction: Prediction::Velocity,
            process: Process::Flow,
        }
    }

    /// `T`, the number of timesteps.
    pub fn timesteps(&self) -> usize {
        self.signal.len()
    }

    /// The forward process.
    pub fn process(&self) -> Process {
        self.process
    }

    /// The prediction target.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// `alpha_bar` of every timestep; flow matching has none.
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas_cumprod
    }

    /// Amplitudes of signal and noise at each row's timestep: `(sqrt(abar), sqrt(1 - abar))`, or `(1 - t, t)`.
    ///
    /// # Shapes
    /// - `timesteps`: `[N]`
    /// - returns: `[N, 1]` each
    pub fn amplitudes(&self, timesteps: Tensor<1, Int>) -> (Tensor<2>, Tensor<2>) {
        let device = timesteps.device();
        let signal = column(&self.signal, &device).select(0, timesteps.clone());
        let noise = column(&self.noise, &device).select(0, timesteps);
        (signal, noise)
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
            Prediction::Velocity if self.process == Process::Flow => noise - latents,
            Prediction::Velocity => {
                let (signal, sigma) = self.amplitudes(timesteps);
                noise * signal - latents * sigma
            }
        }
    }

    /// The points of this diffusion with the signal-to-noise ratios of times of flow matching: amplitudes of signal and
    /// noise, `[N, 1]`, and the timesteps that have them, which lie between whole ones, `[N]`. If `x` is such a point and
    /// `v` the velocity of diffusion there, that of flow matching is `(noise - signal) x + (noise + signal) v`.
    ///
    /// # Shapes
    /// - `timesteps`: `[N]`, of [`flow`](Self::flow) with as many timesteps
    pub(crate) fn at_flow_times(
        &self,
        timesteps: Tensor<1, Int>,
    ) -> (Tensor<2>, Tensor<2>, Tensor<1>) {
        let device = timesteps.device();
        let points = self.flow_points();
        let rows = |numbers: Vec<f64>| column(&numbers, &device).select(0, timesteps.clone());
        let signal = rows(points.iter().map(|point| point.angle.cos()).collect());
        let noise = rows(points.iter().map(|point| point.angle.sin()).collect());
        let own = rows(points.iter().map(|point| point.timestep).collect());
        (signal, noise, own.squeeze_dim::<1>(1))
    }

    /// The point for each timestep of flow matching. The signal's amplitude is the cosine of its angle, the noise's the
    /// sine. Timesteps are interpolated linearly in the angle, which grows linearly in the cosine schedule.
    fn flow_points(&self) -> Vec<FlowPoint> {
        let angles = self.noise.iter().zip(&self.signal);
        let angles: Vec<f64> = angles.map(|(noise, signal)| noise.atan2(*signal)).collect();
        let count = self.timesteps();
        let mut points = Vec::with_capacity(count);
        for k in 1..=count {
            let time = k as f64 / count as f64;
            let angle = time.atan2(1.0 - time);
            let above = angles.partition_point(|own| *own < angle);
            let timestep = if above == 0 {
                0.0
            } else if above == count {
                (count - 1) as f64
            } else {
                let (before, behind) = (angles[above - 1], angles[above]);
                (above - 1) as f64 + (angle - before) / (behind - before)
            };
            points.push(FlowPoint { angle, timestep });
        }
        points
    }

    /// Factors `(a, b)` of the clean estimate `x_0 = a * x_t + b * prediction`, where `alpha` and
    /// `sigma` are the amplitudes of signal and noise of diffusion.
    pub(crate) fn clean_factors(&self, alpha: f64, sigma: f64) -> (f64, f64) {
        match self.prediction {
            Prediction::Epsilon => (1.0 / alpha, -sigma / alpha),
            Prediction::Velocity => (alpha, -sigma),
        }
    }
}

/// Numbers as a column, `[T, 1]`.
fn column(numbers: &[f64], device: &Device) -> Tensor<2> {
    let values: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
    Tensor::from_data(TensorData::new(values, [numbers.len(), 1]), device)
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

    /// The line's points and its velocity in closed form: at time 1 the noise, at `1 / T` nearly the latent.
    #[test]
    fn flow_goes_in_a_straight_line() {
        let device = Device::default();
        let schedule = NoiseSchedule::flow(4);
        let latents = Tensor::<2>::from_floats([[2.0], [2.0], [2.0]], &device);
        let noise = Tensor::<2>::from_floats([[-1.0], [-1.0], [-1.0]], &device);
        let timesteps = Tensor::<1, Int>::from_ints([0, 1, 3], &device);
        let points = schedule.add_noise(latents.clone(), noise.clone(), timesteps.clone());
        let points: Vec<f32> = points.into_data().try_to_vec().unwrap();
        assert_eq!(points, [1.25, 0.5, -1.0]);
        let velocity = schedule.target(latents, noise, timesteps);
        let velocity: Vec<f32> = velocity.into_data().try_to_vec().unwrap();
        assert_eq!(velocity, [-3.0; 3]);
    }

    /// For Gaussian latents with variance `c^2` both optimal velocities are known. That of diffusion is
    /// `signal noise (1 - c^2) x / (signal^2 c^2 + noise^2)`, that of the line `(t - (1 - t) c^2) x / ((1 - t)^2 c^2 + t^2)`.
    #[test]
    fn the_velocity_of_diffusion_gives_that_of_the_line() {
        let variance = 0.3;
        for beta in [BetaSchedule::Cosine, BetaSchedule::Linear] {
            let schedule = NoiseSchedule::new(beta, Prediction::Velocity, 1000);
            let points = schedule.flow_points();
            for k in [0, 9, 249, 499, 800, 999] {
                let time = (k + 1) as f64 / 1000.0;
                let (signal, noise) = (points[k].angle.cos(), points[k].angle.sin());
                let x = 1.7;
                let own = x / time.hypot(1.0 - time);
                let velocity = signal * noise * (1.0 - variance) * own
                    / (signal * signal * variance + noise * noise);
                let got = (noise - signal) * own + (noise + signal) * velocity;
                let expected = (time - (1.0 - time) * variance) * x
                    / ((1.0 - time).powi(2) * variance + time * time);
                assert!((got - expected).abs() < 1e-9, "{k}: {got} {expected}");
                // The timesteps on both sides have more and less signal.
                let timestep = points[k].timestep;
                if timestep > 0.0 && timestep < 999.0 {
                    let bar = |at: f64| schedule.alphas_cumprod()[at as usize];
                    let (more, less) = (bar(timestep.floor()), bar(timestep.floor() + 1.0));
                    assert!(less <= signal * signal && signal * signal <= more, "{k}");
                }
            }
        }
    }

    /// Half signal and half noise is the middle of the cosine schedule but for its offset: the angle of timestep `k` is
    /// about `((k + 1) / T + 0.008) / 1.008` of a right angle.
    #[test]
    fn the_middle_of_the_line_is_the_middle_of_the_cosine() {
        let schedule = NoiseSchedule::new(BetaSchedule::Cosine, Prediction::Velocity, 1000);
        let middle = &schedule.flow_points()[499];
        let expected = 1000.0 * (0.5 * 1.008 - 0.008) - 1.0;
        // The schedule is divided by its value at 0, which moves the angle by less than a thousandth.
        let near = (middle.timestep - expected).abs() < 0.5;
        assert!(near, "{} for {expected}", middle.timestep);
    }
}
