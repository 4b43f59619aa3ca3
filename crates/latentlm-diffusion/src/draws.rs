//! Timesteps, step lengths and guidance scales that a loss is computed at.
//!
//! Times of flow matching are numbers in `(0, 1]`, kept as one of `T` timesteps `k`: the time is `(k + 1) / T`. So draws
//! are whole numbers for every head.

use burn::tensor::{Device, Tensor, TensorData};
use latentlm_core::{
    DiffusionDraws, DistilledGuidance, FewStep, HeadMethod, Process, RandomStream, TimeSampling,
};

use crate::schedule::NoiseSchedule;

/// Timesteps, noise and what else the method needs for the loss of latents of a shape, `[N, Z]`.
pub(crate) fn draw(
    method: &HeadMethod,
    schedule: &NoiseSchedule,
    shape: [usize; 2],
    random: &mut RandomStream,
    device: &Device,
) -> DiffusionDraws {
    let ([rows, _], count) = (shape, schedule.timesteps());
    if method.process == Process::Diffusion {
        let timesteps = random.integers(rows, count, device);
        let noise = noise(method, shape, random, device);
        return DiffusionDraws {
            scales: scales(method, rows, random),
            ..DiffusionDraws::new(timesteps, noise)
        };
    }
    let mut drawn = timesteps(method, rows, count, random);
    let lengths = match method.few_step {
        FewStep::Shortcut => shortcut_lengths(method, &mut drawn, count, random),
        FewStep::None | FewStep::Energy => Vec::new(),
    };
    let drawn = Tensor::from_data(TensorData::new(drawn, [rows]), device);
    let noise = noise(method, shape, random, device);
    let compares = method.few_step == FewStep::Energy;
    DiffusionDraws {
        process: Process::Flow,
        second_noise: compares.then(|| random.normal(shape, device)),
        lengths,
        scales: scales(method, rows, random),
        ..DiffusionDraws::new(drawn, noise)
    }
}

/// Noise of the scale that latents will start from, `[N, Z]`, if a teacher's predictions are learned. These are known at
/// every point, also on the way from cooler noise, on which few points of the usual noise lie. The target that follows from
/// latents and noise is the right one at a scale of 1 alone.
fn noise(
    method: &HeadMethod,
    shape: [usize; 2],
    random: &mut RandomStream,
    device: &Device,
) -> Tensor<2> {
    let noise = random.normal(shape, device);
    let is_taught = method.distilled_guidance != DistilledGuidance::None;
    if !is_taught || method.distilled_temperature == 1.0 {
        return noise;
    }
    noise.mul_scalar(method.distilled_temperature)
}

/// The guidance scales that rows learn; none if they learn no guidance.
fn scales(method: &HeadMethod, rows: usize, random: &mut RandomStream) -> Vec<f32> {
    let most = method.distilled_scale;
    match method.distilled_guidance {
        DistilledGuidance::None => Vec::new(),
        DistilledGuidance::Fixed => vec![most as f32; rows],
        DistilledGuidance::Scale => {
            let scales = (0..rows).map(|_| 1.0 + (most - 1.0) * random.uniform());
            scales.map(|scale| scale as f32).collect()
        }
    }
}

/// Timesteps in `0..count` for the rows of a loss.
///
/// Log-normal times have the density of MeanFlow's `lognorm` (Geng et al. 2025, arXiv 2505.13447, section 4.3), which is
/// logit-normal: the logistic function of a normal number.
fn timesteps(
    method: &HeadMethod,
    rows: usize,
    count: usize,
    random: &mut RandomStream,
) -> Vec<i64> {
    let strata = match method.times {
        TimeSampling::Stratified => shuffled(rows, random),
        TimeSampling::Uniform | TimeSampling::LogNormal => (0..rows).collect(),
    };
    let mut timesteps = Vec::with_capacity(rows);
    for stratum in strata {
        let time = match method.times {
            TimeSampling::Uniform => random.uniform(),
            TimeSampling::LogNormal => {
                let logit = method.time_mean + method.time_deviation * normal(random);
                1.0 / (1.0 + (-logit).exp())
            }
            TimeSampling::Stratified => (stratum as f64 + random.uniform()) / rows as f64,
        };
        let timestep = (time * count as f64) as usize;
        timesteps.push(timestep.min(count - 1) as i64);
    }
    timesteps
}

/// Makes a share of the rows learn whole steps (shortcut models, Frans et al. 2024, arXiv 2410.12557, section 3.1). Such
/// a row's timestep becomes one that a plan of equal steps of its length visits. Returns the lengths; other rows have 0.
fn shortcut_lengths(
    method: &HeadMethod,
    timesteps: &mut [i64],
    count: usize,
    random: &mut RandomStream,
) -> Vec<f32> {
    // Whole steps are 2, 4, ... of the smallest ones, up to all.
    let doublings = method.shortcut_divisions.ilog2() as usize;
    let mut lengths = Vec::with_capacity(timesteps.len());
    for timestep in timesteps {
        if !random.chance(method.shortcut_share) {
            lengths.push(0.0);
            continue;
        }
        let steps = 1usize << random.below(doublings);
        let end = (1 + random.below(steps)) as f64 / steps as f64;
        // Rounded up, so that the step does not lead beyond the latent.
        *timestep = (end * count as f64).ceil() as i64 - 1;
        lengths.push(1.0 / steps as f32);
    }
    lengths
}

/// The numbers from 0 to below `count` in random order.
fn shuffled(count: usize, random: &mut RandomStream) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        numbers.swap(last, random.below(last + 1));
    }
    numbers
}

/// A standard normal number (Box and Muller 1958).
fn normal(random: &mut RandomStream) -> f64 {
    // 1 - u is above 0.
    let radius = (-2.0 * (1.0 - random.uniform()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.uniform()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 1000;

    fn drawn(method: &HeadMethod, rows: usize) -> Vec<i64> {
        timesteps(method, rows, COUNT, &mut RandomStream::new(1))
    }

    /// The same numbers, times the temperature: for students of a teacher, of either process.
    #[test]
    fn students_learn_at_the_temperature_of_their_noise() {
        let device = Device::default();
        let values = |process, distilled_guidance, distilled_temperature| {
            let method = HeadMethod {
                process,
                distilled_guidance,
                distilled_temperature,
                ..HeadMethod::default()
            };
            let schedule = NoiseSchedule::flow(COUNT);
            let draws = draw(
                &method,
                &schedule,
                [3, 2],
                &mut RandomStream::new(1),
                &device,
            );
            let noise: Vec<f32> = draws.noise.into_data().try_to_vec().unwrap();
            noise
        };
        for process in [Process::Diffusion, Process::Flow] {
            let usual = values(process, DistilledGuidance::Scale, 1.0);
            let cooler: Vec<f32> = usual.iter().map(|x| x * 0.5).collect();
            assert_eq!(values(process, DistilledGuidance::Scale, 0.5), cooler);
            assert_eq!(values(process, DistilledGuidance::None, 0.5), usual);
        }
    }

    #[test]
    fn stratified_times_lie_in_an_interval_each() {
        let method = HeadMethod {
            times: TimeSampling::Stratified,
            ..HeadMethod::default()
        };
        let times = drawn(&method, 100);
        let mut intervals: Vec<i64> = times.iter().map(|time| time / 10).collect();
        assert_ne!(intervals, (0..100).collect::<Vec<i64>>(), "not in order");
        intervals.sort();
        assert_eq!(intervals, (0..100).collect::<Vec<i64>>());
    }

    #[test]
    fn logits_of_log_normal_times_have_mean_and_deviation() {
        let method = HeadMethod {
            times: TimeSampling::LogNormal,
            time_mean: -0.4,
            time_deviation: 0.5,
            ..HeadMethod::default()
        };
        let times = drawn(&method, 20_000);
        let logits = times.iter().map(|&timestep| {
            // The middle of the interval that was rounded to the timestep.
            let time = (timestep as f64 + 0.5) / COUNT as f64;
            (time / (1.0 - time)).ln()
        });
        let logits: Vec<f64> = logits.collect();
        let mean = logits.iter().sum::<f64>() / 2e4;
        let variance = logits.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2e4;
        // Deviations of the two: 0.5 / sqrt(20,000) = 0.0035, and 0.25 * sqrt(2 / 20,000) = 0.0025.
        assert!((mean + 0.4).abs() < 0.015, "{mean}");
        assert!((variance - 0.25).abs() < 0.012, "{variance}");
    }

    #[test]
    fn whole_steps_end_at_the_latent_or_before() {
        let method = HeadMethod {
            shortcut_divisions: 8,
            ..HeadMethod::default()
        };
        let mut times = vec![500; 4000];
        let random = &mut RandomStream::new(2);
        let lengths = shortcut_lengths(&method, &mut times, COUNT, random);
        let mut seen = [0usize; 4];
        for (time, length) in times.iter().zip(lengths) {
            let place = [0.0, 0.25, 0.5, 1.0].iter().position(|own| *own == length);
            seen[place.unwrap()] += 1;
            let end = (time + 1) as f64 / COUNT as f64;
            assert!(end >= f64::from(length) && end <= 1.0, "{end} {length}");
            if length == 0.0 {
                assert_eq!(*time, 500);
            } else {
                assert_eq!((end / f64::from(length)).fract(), 0.0, "{end} {length}");
            }
        }
        // A quarter of the rows, a third of these each: 333 with a deviation of 17.
        assert!(
            seen[1..].iter().all(|&rows| (250..420).contains(&rows)),
            "{seen:?}"
        );
    }
}
