//! The same numbers as the official implementation: weights in, everything it computed out.
//!
//! The cases lie in `tests/fixtures`; `LATENTLM_REFERENCE_CASES` names a folder of more, of the
//! same layout, which are then checked too.

#![allow(clippy::print_stdout)] // `--nocapture` shows the errors, a line a tensor.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Int, Shape, Tensor, TensorData};
use latentlm::core::number_parameters;
use latentlm::diffusion::{BetaSchedule, NoiseSchedule, Prediction, solver};
use latentlm::{
    ImageLm, ImageLmConfig, LatentHead, RandomStream, SampleOptions, Sampler, load_reference,
};
use latentlm_core::conformance::largest_error;
use safetensors::SafeTensors;
use serde_json::Value;

/// Bounds of the reference cases, on `max|a - b| / max(1, max|b|)`.
const FORWARD: f64 = 1e-4;
const GRADIENT: f64 = 1e-3;
const SAMPLING: f64 = 2e-3;

/// Folders of cases whose names begin so.
fn cases(kind: &str) -> Vec<PathBuf> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let more = std::env::var_os("LATENTLM_REFERENCE_CASES").map(PathBuf::from);
    let mut list: Vec<PathBuf> = [Some(shipped), more]
        .into_iter()
        .flatten()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(kind)
        })
        .collect();
    list.sort();
    assert!(!list.is_empty());
    list
}

struct Case {
    config: Value,
    bytes: Vec<u8>,
}

impl Case {
    fn read(folder: &Path) -> Self {
        let config = fs::read_to_string(folder.join("config.json")).unwrap();
        Self {
            config: serde_json::from_str(&config).unwrap(),
            bytes: fs::read(folder.join("io.safetensors")).unwrap(),
        }
    }

    fn number(&self, key: &str) -> usize {
        self.config[key].as_u64().unwrap() as usize
    }

    fn text(&self, key: &str) -> &str {
        self.config[key].as_str().unwrap()
    }

    fn float<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap();
        let word = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap());
        let values: Vec<f32> = view.data().chunks_exact(4).map(word).collect();
        Tensor::from_data(
            TensorData::new(values, Shape::from(view.shape().to_vec())),
            device,
        )
    }

    fn int(&self, name: &str, device: &Device) -> Tensor<1, Int> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap();
        let word = |b: &[u8]| i64::from(i32::from_le_bytes(b.try_into().unwrap()));
        let values: Vec<i64> = view.data().chunks_exact(4).map(word).collect();
        let count = values.len();
        Tensor::from_data(TensorData::new(values, [count]), device)
    }
}

fn prediction(name: &str) -> Prediction {
    match name {
        "epsilon" => Prediction::Epsilon,
        "v_prediction" => Prediction::Velocity,
        other => panic!("prediction type {other}"),
    }
}

fn model(case: &Case) -> ImageLmConfig {
    let side = case.number("input_size");
    ImageLmConfig::new(
        case.number("num_classes"),
        side * side,
        case.number("in_channels"),
    )
    .with_width(case.number("hidden_size"))
    .with_depth(case.number("depth"))
    .with_heads(case.number("num_heads"))
    .with_kv_heads(case.number("num_kv_heads"))
    .with_mlp_ratio(case.config["mlp_ratio"].as_f64().unwrap())
    .with_head_depth(case.number("diffusion_depth"))
    .with_prediction(prediction(case.text("prediction_type")))
}

fn assert_within<const D: usize>(what: &str, got: Tensor<D>, expected: Tensor<D>, bound: f64) {
    let error = largest_error(got, expected);
    println!("{what:<44} {error:9.2e}  bound {bound:.0e}");
    assert!(error <= bound, "{what}: {error:e} over {bound:e}");
}

/// `[B, C, S, S]` to `[B, S * S, C]`.
fn rows(pictures: Tensor<4>) -> Tensor<3> {
    let [batch, channels, height, width] = pictures.dims();
    pictures
        .reshape([batch, channels, height * width])
        .swap_dims(1, 2)
}

fn flat(latents: Tensor<3>) -> Tensor<2> {
    let [batch, tokens, dim] = latents.dims();
    latents.reshape([batch * tokens, dim])
}

#[test]
fn transformer_forward_loss_and_gradients() {
    let device = Device::default().autodiff();
    for folder in cases("transformer") {
        println!("{}", folder.display());
        let case = Case::read(&folder);
        let config = model(&case);
        let model = number_parameters(
            load_reference(config.init(&device), &folder.join("model.safetensors")).unwrap(),
        );
        let latents = rows(case.float("x_start", &device));
        let hidden = model.hidden(case.int("y", &device), latents.clone());
        assert_within(
            "condition",
            hidden.clone(),
            case.float("condition", &device),
            FORWARD,
        );

        let draws = case.number("batch_mul");
        let [batch, tokens, width] = hidden.dims();
        // The reference repeats each sample: row b * draws + j.
        let condition = hidden
            .unsqueeze_dim::<4>(1)
            .repeat_dim(1, draws)
            .reshape([batch * draws * tokens, width]);
        let noisy = rows(case.float("noisy", &device));
        let noise = flat(rows(case.float("noise", &device)));
        let velocity = flat(rows(case.float("velocity", &device)));
        let timesteps = case.int("timesteps", &device);
        let repeated = flat(latents.unsqueeze_dim::<4>(1).repeat_dim(1, draws).reshape([
            batch * draws,
            tokens,
            config.latent_dim,
        ]));
        let schedule = model.head.schedule();
        let ours = schedule.add_noise(repeated.clone(), noise.clone(), timesteps.clone());
        assert_within("noisy", ours, flat(noisy.clone()), FORWARD);
        let target = match config.prediction {
            Prediction::Epsilon => noise.clone(),
            Prediction::Velocity => velocity,
        };
        let ours = schedule.target(repeated, noise, timesteps.clone());
        assert_within("target", ours, target.clone(), FORWARD);

        let output = model.head.denoise(flat(noisy), timesteps, condition);
        let expected = flat(rows(case.float("output", &device)));
        assert_within("output", output.clone(), expected, FORWARD);
        let loss = (output - target).square().mean();
        assert_within("loss", loss.clone(), case.float("loss", &device), FORWARD);
        let gradients = folder.join("grads.safetensors");
        if gradients.exists() {
            check_gradients(&model, &loss, &config, &gradients, &device);
        }
    }
}

/// The reference's gradients have its parameters' names and shapes: loaded like weights, they make
/// a model whose parameters are gradients.
fn check_gradients(
    model: &ImageLm,
    loss: &Tensor<1>,
    config: &ImageLmConfig,
    path: &Path,
    device: &Device,
) {
    let expected = number_parameters(load_reference(config.init(device), path).unwrap());
    let mut values = Values(HashMap::new());
    expected.visit(&mut values);
    let gradients = loss.backward();
    let mut check = GradientCheck {
        expected: values.0,
        gradients,
        path: Vec::new(),
        checked: 0,
    };
    model.visit(&mut check);
    assert!(check.checked > 10);
}

struct Values(HashMap<ParamId, Vec<f32>>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let values = param.val().into_data().try_into_vec().unwrap();
        self.0.insert(param.id, values);
    }
}

struct GradientCheck {
    expected: HashMap<ParamId, Vec<f32>>,
    gradients: burn::tensor::Gradients,
    path: Vec<String>,
    checked: usize,
}

impl ModuleVisitor for GradientCheck {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let name = format!("gradient of {}", self.path.join("."));
        let ours = param.val().grad(&self.gradients).expect(&name);
        let expected = self.expected.remove(&param.id).expect(&name);
        let expected = TensorData::new(expected, ours.shape());
        let expected = Tensor::from_data(expected, &ours.device());
        assert_within(&name, ours, expected, GRADIENT);
        self.checked += 1;
    }
}

/// The whole guided loop, with the KV cache.
#[test]
fn transformer_guided_sampling() {
    let device = Device::default();
    for folder in cases("transformer") {
        println!("{}", folder.display());
        let case = Case::read(&folder);
        let config = model(&case);
        let weights = folder.join("model.safetensors");
        let model = load_reference(config.init(&device), &weights).unwrap();
        let options = SampleOptions {
            sampler: Sampler::DpmSolverPlusPlus,
            steps: case.number("sampling_steps"),
            guidance_scale: case.config["cfg_scale"].as_f64().unwrap(),
        };
        let plan = solver::plan(options.sampler, model.head.schedule(), options.steps);
        let visited: Vec<i64> = plan.iter().map(|step| step.timestep as i64).collect();
        let expected = case.int("solver_timesteps", &device).into_data();
        assert_eq!(
            visited,
            expected.convert::<i64>().try_to_vec::<i64>().unwrap()
        );

        let latents = model.generate_from(
            case.int("y", &device),
            case.float("sample_noise", &device),
            &options,
            &mut RandomStream::new(0),
        );
        let expected = rows(case.float("samples", &device));
        assert_within("samples", latents, expected, SAMPLING);
    }
}

/// Schedules, and every state of every trajectory of the solver.
#[test]
fn schedule_and_solver() {
    let device = Device::default();
    for folder in cases("schedule") {
        println!("{}", folder.display());
        let case = Case::read(&folder);
        for (name, betas) in [
            ("cosine", BetaSchedule::Cosine),
            ("linear", BetaSchedule::Linear),
        ] {
            let schedule = NoiseSchedule::new(betas, Prediction::Epsilon, 1000);
            let ours: Vec<f32> = schedule
                .alphas_cumprod()
                .iter()
                .map(|a| *a as f32)
                .collect();
            let key = format!("alphas_cumprod.{name}");
            let ours = Tensor::<1>::from_floats(ours.as_slice(), &device);
            assert_within(&key, ours, case.float(&key, &device), FORWARD);
        }
        for run in case.config.as_array().unwrap() {
            let key = run["key"].as_str().unwrap();
            assert_eq!(run["model"], "0.6*x + 0.3*sin(3*x) + 0.1*cos(t/100)");
            let prediction = prediction(run["prediction_type"].as_str().unwrap());
            let schedule = NoiseSchedule::new(BetaSchedule::Cosine, prediction, 1000);
            let steps = run["steps"].as_u64().unwrap() as usize;
            let plan = solver::plan(Sampler::DpmSolverPlusPlus, &schedule, steps);
            let expected: Tensor<3> = case.float(&format!("{key}.trajectory"), &device);
            // Cut off after n steps, the loop returns the state after n.
            for end in 1..=steps {
                let initial = case.float(&format!("{key}.initial"), &device);
                let mut random = RandomStream::new(0);
                let state = solver::integrate(&plan[..end], initial, &mut random, |step, x| {
                    let t = plan[step].timestep as f64;
                    x.clone().mul_scalar(0.6)
                        + x.mul_scalar(3.0).sin().mul_scalar(0.3)
                        + 0.1 * (t / 100.0).cos()
                });
                let at = expected.clone().narrow(0, end - 1, 1).squeeze_dim(0);
                assert_within(&format!("{key} step {end}"), state, at, SAMPLING);
            }
        }
    }
}
