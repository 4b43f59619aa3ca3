//! Heads of other methods than the paper's diffusion: flow matching, few steps and guidance that is learned.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use latentlm_core::conformance::{assert_close, head, module};
use latentlm_core::{
    DiffusionDraws, DistilledGuidance, FewStep, HeadMethod, LatentHead, Process, RandomStream,
    SampleOptions, Sampler, TimeSampling,
};
use latentlm_diffusion::DiffusionHead;

use super::{config, init, loss, moved, sampled};

/// Flow matching, alone and with each way to few steps, and heads that learn guidance.
fn methods() -> [HeadMethod; 5] {
    let flow = HeadMethod {
        process: Process::Flow,
        ..HeadMethod::default()
    };
    [
        HeadMethod {
            times: TimeSampling::LogNormal,
            ..flow
        },
        HeadMethod {
            times: TimeSampling::Stratified,
            few_step: FewStep::Shortcut,
            shortcut_share: 0.5,
            shortcut_divisions: 8,
            ..flow
        },
        HeadMethod {
            few_step: FewStep::Energy,
            ..flow
        },
        HeadMethod {
            few_step: FewStep::Shortcut,
            distilled_guidance: DistilledGuidance::Scale,
            ..flow
        },
        HeadMethod {
            distilled_guidance: DistilledGuidance::Fixed,
            ..HeadMethod::default()
        },
    ]
}

#[test]
fn heads_of_other_methods_keep_the_contract() {
    let device = Device::default();
    for method in methods() {
        let config = config().with_method(method);
        let head = moved(&config, 9, &device.clone().autodiff()).valid();
        head::check(&head, 32, &device);
        module::save_load_is_bit_equal(&init(&config, 1, &device), || init(&config, 2, &device));
    }
}

#[test]
fn gradient_reaches_what_is_read_beside_the_timestep() {
    let device = Device::default().autodiff();
    for method in methods() {
        let head = moved(&config().with_method(method), 9, &device);
        let gradients = loss(&head, &device).backward();
        module::gradient_reaches_every_parameter(&head, &gradients);
    }
}

/// The kernel for a whole solver run agrees with the steps one by one: solvers of flow matching, and heads that read more
/// than the timestep.
#[test]
fn all_steps_of_a_flow_at_once_are_the_steps() {
    let device = Device::default();
    let graph = device.clone().autodiff();
    for method in &methods()[..4] {
        let head = moved(&config().with_method(*method), 9, &graph);
        for sampler in [Sampler::Euler, Sampler::Midpoint, Sampler::Heun] {
            if !head.follows(sampler) {
                continue;
            }
            for (rows, steps, guidance_scale) in [(1, 2, 1.0), (5, 4, 2.5), (60, 20, 1.5)] {
                let options = SampleOptions {
                    sampler,
                    steps,
                    guidance_scale,
                    ..SampleOptions::default()
                };
                let got = sampled(&head.valid(), 4, rows, &options, &device);
                let expected = sampled(&head, 4, rows, &options, &graph).inner();
                let what = format!("{method:?}, {rows} rows, {options:?}");
                assert_close(&what, got, expected, 1e-5);
            }
        }
    }
}

/// One step of Euler's method is the noise without the velocity at time 1, the last timestep.
#[test]
fn one_step_of_a_flow_subtracts_the_velocity() {
    let device = Device::default();
    let config = config().with_method(methods()[0]);
    let head = moved(&config, 9, &device.clone().autodiff()).valid();
    let mut random = RandomStream::new(3);
    let condition: Tensor<2> = random.normal([4, 32], &device);
    let noise: Tensor<2> = random.normal([4, 3], &device);
    let options = SampleOptions {
        sampler: Sampler::Euler,
        steps: 1,
        ..SampleOptions::default()
    };
    let got = head.sample(
        condition.clone(),
        None,
        noise.clone(),
        &options,
        &mut random,
    );
    let last = Tensor::<1>::from_floats([999.0; 4], &device);
    let expected = noise.clone() - head.denoise(noise, last, condition);
    assert_close("one step", got, expected, 1e-5);
}

/// A head of two smallest steps, so that halves of the whole step are the flow's own velocity, which `denoise` gives.
fn halver(seed: u64, device: &Device) -> DiffusionHead {
    let method = HeadMethod {
        shortcut_divisions: 2,
        ..methods()[1]
    };
    moved(&config().with_method(method), seed, device)
}

/// The loss of a whole step and of a row that learns the velocity, in closed form: the whole step's prediction is what
/// sampling in one step subtracts from the noise, its target the mean of two velocities half a unit of time apart.
#[test]
fn a_whole_step_learns_two_halves() {
    let device = Device::default();
    let head = halver(9, &device.clone().autodiff()).valid();
    let mut random = RandomStream::new(3);
    let condition: Tensor<2> = random.normal([2, 32], &device);
    let latents: Tensor<2> = random.normal([2, 3], &device);
    let noise: Tensor<2> = random.normal([2, 3], &device);
    let timesteps = Tensor::<1, Int>::from_ints([399, 999], &device);
    let draws = DiffusionDraws {
        lengths: vec![0.0, 1.0],
        ..DiffusionDraws::new(timesteps, noise.clone())
    };
    let loss = head.loss_at(latents.clone(), condition.clone(), draws);

    let row = |x: &Tensor<2>, row| x.clone().narrow(0, row, 1);
    let velocity = |x: Tensor<2>, timestep: f32, row_of: usize| {
        let timestep = Tensor::<1>::from_floats([timestep], &device);
        head.denoise(x, timestep, row(&condition, row_of))
    };
    let (latent, start) = (row(&latents, 0), row(&noise, 0));
    let noisy = latent.clone().mul_scalar(0.6) + start.clone().mul_scalar(0.4);
    let plain = velocity(noisy, 399.0, 0) - (start - latent);

    let start = row(&noise, 1);
    let options = SampleOptions {
        sampler: Sampler::Euler,
        steps: 1,
        ..SampleOptions::default()
    };
    let end = head.sample(
        row(&condition, 1),
        None,
        start.clone(),
        &options,
        &mut random,
    );
    let first = velocity(start.clone(), 999.0, 1);
    let middle = start.clone() - first.clone().mul_scalar(0.5);
    let second = velocity(middle, 499.0, 1);
    let whole = (start - end) - (first + second).mul_scalar(0.5);
    let expected = Tensor::cat(vec![plain, whole], 0).square().mean();
    assert_close("the loss", loss, expected, 1e-5);
}

/// The velocity of a new head is zero everywhere: its trajectories are straight, and whole steps have nothing to learn,
/// neither have their gradients.
#[test]
fn straight_trajectories_are_consistent() {
    let device = Device::default().autodiff();
    let head = init(&config().with_method(methods()[1]), 1, &device);
    let mut random = RandomStream::new(3);
    let draws = DiffusionDraws {
        lengths: vec![1.0, 0.5, 0.25, 0.5],
        ..DiffusionDraws::new(
            Tensor::<1, Int>::from_ints([999, 999, 249, 499], &device),
            random.normal([4, 3], &device),
        )
    };
    let loss = head.loss_at(
        random.normal([4, 3], &device),
        random.normal([4, 32], &device),
        draws,
    );
    assert_eq!(loss.into_scalar::<f32>(), 0.0);
}

/// Targets of whole steps are constants: the gradient of the loss is that of the prediction alone. It is compared with
/// the one for a target that is given and has no graph.
#[test]
fn no_gradient_goes_through_the_halves() {
    let device = Device::default().autodiff();
    let head = halver(9, &device);
    let mut random = RandomStream::new(3);
    let latents: Tensor<2> = random.normal([2, 3], &device);
    let noise: Tensor<2> = random.normal([2, 3], &device);
    let hidden: Tensor<2> = random.normal([2, 32], &device);
    let timesteps = Tensor::<1, Int>::from_ints([999, 999], &device);
    let draws = DiffusionDraws {
        lengths: vec![1.0, 1.0],
        ..DiffusionDraws::new(timesteps, noise.clone())
    };
    let condition = hidden.clone().detach().require_grad();
    let loss = head.loss_at(latents.clone(), condition.clone(), draws.clone());
    let got = condition.grad(&loss.backward()).unwrap();
    // The target, from the loss of a head whose prediction is known: error = prediction - target.
    let plain = head.valid();
    let options = SampleOptions {
        sampler: Sampler::Euler,
        steps: 1,
        ..SampleOptions::default()
    };
    let start = noise.clone().inner();
    let condition = hidden.inner();
    let last = Tensor::<1>::from_floats([999.0; 2], &start.device());
    let middle_time = Tensor::<1>::from_floats([499.0; 2], &start.device());
    let first = plain.denoise(start.clone(), last, condition.clone());
    let middle = start.clone() - first.clone().mul_scalar(0.5);
    let second = plain.denoise(middle, middle_time, condition.clone());
    let target = (first + second).mul_scalar(0.5);
    let error = |condition: Tensor<2>| {
        let end = plain.sample(
            condition,
            None,
            start.clone(),
            &options,
            &mut RandomStream::new(0),
        );
        let error = start.clone() - end - target.clone();
        f64::from(error.square().mean().into_scalar::<f32>())
    };
    let direction: Tensor<2> = RandomStream::new(8).normal([2, 32], &start.device());
    let along = |size: f64| error(condition.clone() + direction.clone().mul_scalar(size));
    let difference = (along(1e-2) - along(-1e-2)) / 2e-2;
    let slope = f64::from((got * direction).sum().into_scalar::<f32>());
    // Errors of the difference: its third order, and float32 in the losses, 1e-7 / 1e-2.
    assert!(
        (slope - difference).abs() < 1e-3 + 0.02 * difference.abs(),
        "{slope} for {difference}"
    );
}

/// Targets of whole steps that averaged weights made replace the head's own; rows that learn the velocity keep theirs.
#[test]
fn whole_steps_of_averaged_weights_are_the_target() {
    let device = Device::default();
    let [live, averaged] = [9, 10].map(|seed| halver(seed, &device.clone().autodiff()).valid());
    let mut random = RandomStream::new(3);
    let condition: Tensor<2> = random.normal([3, 32], &device);
    let latents: Tensor<2> = random.normal([3, 3], &device);
    let noise: Tensor<2> = random.normal([3, 3], &device);
    let mut draws = DiffusionDraws {
        lengths: vec![1.0, 0.0, 1.0],
        ..DiffusionDraws::new(
            Tensor::<1, Int>::from_ints([999, 399, 999], &device),
            noise.clone(),
        )
    };
    let (z, hidden) = (latents.clone(), condition.clone());
    let own = live.loss_at(z.clone(), hidden.clone(), draws.clone());
    draws.whole_steps = live.whole_steps(z, hidden, &draws);
    let given = live.loss_at(latents.clone(), condition.clone(), draws.clone());
    assert_close("its own whole steps", given, own, 1e-6);

    let other = averaged.whole_steps(latents.clone(), condition.clone(), &draws);
    let other = other.unwrap();
    let first = averaged.denoise(
        noise.clone(),
        Tensor::<1>::from_floats([999.0; 3], &device),
        condition.clone(),
    );
    let middle = noise.clone() - first.clone().mul_scalar(0.5);
    let middle_time = Tensor::<1>::from_floats([499.0; 3], &device);
    let second = averaged.denoise(middle, middle_time, condition.clone());
    let expected = (first + second).mul_scalar(0.5);
    let row = |x: &Tensor<2>, row| x.clone().narrow(0, row, 1);
    for whole in [0, 2] {
        assert_close("halves", row(&other, whole), row(&expected, whole), 1e-5);
    }
    let none = row(&other, 1).abs().max().into_scalar::<f32>();
    assert_eq!(none, 0.0, "a row that learns the velocity");

    draws.whole_steps = Some(other.clone());
    let got = live.loss_at(latents.clone(), condition.clone(), draws);
    let end = |row_of: usize| {
        let options = SampleOptions {
            sampler: Sampler::Euler,
            steps: 1,
            ..SampleOptions::default()
        };
        let start = row(&noise, row_of);
        let random = &mut RandomStream::new(0);
        start.clone() - live.sample(row(&condition, row_of), None, start, &options, random)
    };
    let noisy = row(&latents, 1).mul_scalar(0.6) + row(&noise, 1).mul_scalar(0.4);
    let time = Tensor::<1>::from_floats([399.0], &device);
    let velocity = live.denoise(noisy, time, row(&condition, 1));
    let errors = vec![
        end(0) - row(&other, 0),
        velocity - (row(&noise, 1) - row(&latents, 1)),
        end(2) - row(&other, 2),
    ];
    let expected = Tensor::cat(errors, 0).square().mean();
    assert_close("the loss", got, expected, 1e-5);
}

fn energy_head(device: &Device) -> DiffusionHead {
    moved(&config().with_method(methods()[2]), 9, device)
}

fn energy_draws(device: &Device) -> DiffusionDraws {
    let mut random = RandomStream::new(4);
    // Draws do not depend on weights, and `moved` needs a device with autodiff.
    let head = init(&config().with_method(methods()[2]), 9, device);
    head.draw(6, &mut random, device)
}

/// A new head draws its noise, so that its energy score is a sum of distances of noise and latents.
#[test]
fn energy_score_of_noise_is_its_closed_form() {
    let device = Device::default();
    let head = init(&config().with_method(methods()[2]), 1, &device);
    let draws = energy_draws(&device);
    let mut random = RandomStream::new(5);
    let latents: Tensor<2> = random.normal([6, 3], &device);
    let hidden: Tensor<2> = random.normal([6, 32], &device);
    let rows = |x: Tensor<2>| -> Vec<f32> { x.into_data().try_to_vec().unwrap() };
    let one = rows(draws.noise.clone());
    let other = rows(draws.second_noise.clone().unwrap());
    let truth = rows(latents.clone());
    let distance = |a: &[f32], b: &[f32]| {
        let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
        squares.sum::<f64>().sqrt()
    };
    let mut expected = 0.0;
    for row in 0..6 {
        let own = 3 * row..3 * row + 3;
        let (one, other, truth) = (&one[own.clone()], &other[own.clone()], &truth[own]);
        let attraction = 0.5 * (distance(one, truth) + distance(other, truth));
        expected += (attraction - 0.5 * distance(one, other)) / 6.0 / 3f64.sqrt();
    }
    let got = f64::from(head.loss_at(latents, hidden, draws).into_scalar::<f32>());
    assert!((got - expected).abs() < 1e-5, "{got} {expected}");
}

/// Its gradient along a direction of the hidden states against a difference.
#[test]
fn gradient_of_the_energy_score_is_a_difference() {
    let device = Device::default();
    let graph = device.clone().autodiff();
    let mut random = RandomStream::new(5);
    let latents: Tensor<2> = random.normal([6, 3], &device);
    let hidden: Tensor<2> = random.normal([6, 32], &device);
    let direction: Tensor<2> = random.normal([6, 32], &device);

    let head = energy_head(&graph);
    let condition = hidden.clone().autodiff().require_grad();
    let loss = head.loss_at(
        latents.clone().autodiff(),
        condition.clone(),
        energy_draws(&graph),
    );
    let gradient = condition.grad(&loss.backward()).unwrap();
    let slope = f64::from((gradient * direction.clone()).sum().into_scalar::<f32>());

    let plain = head.valid();
    let along = |size: f64| {
        let moved = hidden.clone() + direction.clone().mul_scalar(size);
        let loss = plain.loss_at(latents.clone(), moved, energy_draws(&device));
        f64::from(loss.into_scalar::<f32>())
    };
    let difference = (along(1e-2) - along(-1e-2)) / 2e-2;
    // Errors of the difference: its third order, and float32 in the losses, 1e-7 / 1e-2.
    assert!(
        (slope - difference).abs() < 1e-3 + 0.02 * difference.abs(),
        "{slope} for {difference}"
    );
}

/// What a student learns is what guided sampling takes: `null + scale * (cond - null)`, each row at its own scale.
#[test]
fn guided_targets_are_what_two_branches_give() {
    let device = Device::default();
    for method in [methods()[0], HeadMethod::default()] {
        let head = moved(&config().with_method(method), 9, &device.clone().autodiff()).valid();
        let mut random = RandomStream::new(3);
        let latents: Tensor<2> = random.normal([3, 3], &device);
        let condition: Tensor<2> = random.normal([3, 32], &device);
        let null: Tensor<2> = random.normal([3, 32], &device);
        let draws = DiffusionDraws {
            scales: vec![1.0, 2.5, 0.0],
            ..head.draw(3, &mut random, &device)
        };
        let timesteps = draws.timesteps.clone();
        let schedule = head.schedule();
        let noisy = schedule.add_noise(latents.clone(), draws.noise.clone(), timesteps.clone());
        let cond = head.denoise(noisy.clone(), timesteps.clone().float(), condition.clone());
        let uncond = head.denoise(noisy, timesteps.float(), null.clone());
        let got = head.guided(latents, condition, null, &draws).unwrap();
        for (row, scale) in [1.0, 2.5, 0.0].into_iter().enumerate() {
            let own = |x: &Tensor<2>| x.clone().narrow(0, row, 1);
            let expected = own(&uncond) + (own(&cond) - own(&uncond)).mul_scalar(scale);
            assert_close("guided target", own(&got), expected, 1e-5);
        }
    }
}

/// A teacher of the paper's diffusion and a student of flow matching. In the middle of the line signal and noise are
/// equal: its point divided by `sqrt(1/2)` is one of diffusion, whose velocity times `sqrt(2)` is the line's.
#[test]
fn a_teacher_of_diffusion_teaches_flow_matching() {
    let device = Device::default();
    let head = moved(&config(), 9, &device.clone().autodiff()).valid();
    let mut random = RandomStream::new(3);
    let latents: Tensor<2> = random.normal([3, 3], &device);
    let condition: Tensor<2> = random.normal([3, 32], &device);
    let null: Tensor<2> = random.normal([3, 32], &device);
    let noise: Tensor<2> = random.normal([3, 3], &device);
    let timesteps = Tensor::<1, Int>::from_ints([499; 3], &device);
    let draws = DiffusionDraws {
        process: Process::Flow,
        scales: vec![1.0, 2.5, 1.5],
        lengths: vec![0.0, 0.0, 0.25],
        ..DiffusionDraws::new(timesteps, noise.clone())
    };
    // The timestep of equal amplitudes, between two whole ones.
    let angles = head.schedule().alphas_cumprod().iter();
    let angles: Vec<f64> = angles
        .map(|bar| (1.0 - bar).sqrt().atan2(bar.sqrt()))
        .collect();
    let right = std::f64::consts::FRAC_PI_4;
    let above = angles.iter().position(|angle| *angle > right).unwrap();
    let part = (right - angles[above - 1]) / (angles[above] - angles[above - 1]);
    let timestep = (above as f64 - 1.0 + part) as f32;

    let noisy = (latents.clone() + noise).mul_scalar(0.5f64.sqrt());
    let times = Tensor::<1>::from_floats([timestep; 3], &device);
    let cond = head.denoise(noisy.clone(), times.clone(), condition.clone());
    let uncond = head.denoise(noisy, times, null.clone());
    let got = head.guided(latents, condition, null, &draws).unwrap();
    let own = |x: &Tensor<2>, row| x.clone().narrow(0, row, 1);
    for (row, scale) in [1.0, 2.5].into_iter().enumerate() {
        let guided = own(&uncond, row) + (own(&cond, row) - own(&uncond, row)).mul_scalar(scale);
        let expected = guided.mul_scalar(2f64.sqrt());
        assert_close("the line's velocity", own(&got, row), expected, 1e-4);
    }
    let none = own(&got, 2).abs().max().into_scalar::<f32>();
    assert_eq!(none, 0.0, "a row that learns a whole step");
}

/// Students take no second branch: whatever the unconditional states are, latents are the same. One that reads the scale
/// draws others at another scale.
#[test]
fn students_of_guidance_have_one_branch() {
    let device = Device::default();
    let mut random = RandomStream::new(3);
    let condition: Tensor<2> = random.normal([4, 32], &device);
    let noise: Tensor<2> = random.normal([4, 3], &device);
    let null: Tensor<2> = random.normal([4, 32], &device);
    for (method, sampler, reads) in [
        (methods()[3], Sampler::Euler, true),
        (methods()[4], Sampler::Ddim, false),
    ] {
        let head = moved(&config().with_method(method), 9, &device.clone().autodiff()).valid();
        let draw = |guidance_scale, null: Option<Tensor<2>>| {
            let options = SampleOptions {
                sampler,
                steps: 4,
                guidance_scale,
                ..SampleOptions::default()
            };
            assert!(!head.reads_null(&options));
            let random = &mut RandomStream::new(0);
            head.sample(condition.clone(), null, noise.clone(), &options, random)
        };
        let alone = draw(2.0, None);
        assert_close(
            "null states",
            draw(2.0, Some(null.clone())),
            alone.clone(),
            0.0,
        );
        let change = (draw(3.0, None) - alone).abs().max().into_scalar::<f32>();
        assert_eq!(change > 1e-4, reads, "{method:?}: {change}");
    }
}
