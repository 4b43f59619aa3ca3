//! Verifies the official image Transformer with its diffusion head.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Gradients, Int, Tensor, TensorData};
use latentlm::core::number_parameters;
use latentlm::diffusion::{Prediction, solver};
use latentlm::sequence::Document;
use latentlm::{
    CausalBackbone, LatentHead, LatentLm, LatentLmConfig, LmSizes, RandomStream, SampleOptions,
    Sampler,
};
use latentlm_published::{load_image, save_image};
use serde::Deserialize;

use crate::case::{Case, Tensors};
use crate::error::VerifyError;
use crate::export;
use crate::report::{FORWARD, GRADIENT, ROUNDED, ROUNDED_GRADIENT, Report, SAMPLING, values};
use crate::rounded::round;
use crate::schedule::{betas, prediction};

/// `config.json`: arguments of the reference model's constructor, and settings of the run.
#[derive(Deserialize)]
struct Config {
    input_size: usize,
    in_channels: usize,
    hidden_size: usize,
    depth: usize,
    diffusion_depth: usize,
    num_heads: usize,
    num_kv_heads: usize,
    mlp_ratio: f64,
    num_classes: usize,
    batch_mul: usize,
    sampling_steps: usize,
    cfg_scale: f64,
    prediction_type: String,
    #[serde(default = "cosine")]
    beta_schedule: String,
    #[serde(default = "thousand")]
    num_train_timesteps: usize,
}

fn cosine() -> String {
    "cosine".into()
}

fn thousand() -> usize {
    1000
}

impl Config {
    fn model(&self) -> Result<LatentLmConfig, String> {
        let tokens = self.input_size * self.input_size;
        let sizes = LmSizes {
            width: self.hidden_size,
            depth: self.depth,
            heads: self.num_heads,
            kv_heads: self.num_kv_heads,
            mlp_ratio: self.mlp_ratio,
            head_depth: self.diffusion_depth,
            prediction: prediction(&self.prediction_type)?,
            schedule: betas(&self.beta_schedule)?,
            num_train_timesteps: self.num_train_timesteps,
            recompute: false,
        };
        let config = LatentLmConfig::image(self.num_classes, tokens, self.in_channels);
        Ok(config.with_sizes(sizes))
    }
}

pub(crate) fn check(case: &Case, report: &mut Report) -> Result<(), VerifyError> {
    let (config, model_config) = read(case)?;
    check_training(case, &config, &model_config, report)?;
    check_sampling(case, &config, &model_config, report)
}

/// Compares forward pass and gradients with weights in bfloat16 to the reference's in float32.
pub(crate) fn check_rounded(case: &Case, report: &mut Report) -> Result<(), VerifyError> {
    let (config, model_config) = read(case)?;
    let case = Case {
        folder: case.folder.clone(),
        device: case.device.clone().autodiff(),
    };
    let mut tensors = case.tensors()?;
    let weights = case.folder.join("model.safetensors");
    let model = number_parameters(load_image(model_config.init(&case.device), &weights)?);
    let rounded = round(model.clone());

    let latents = rows(tensors.float("x_start")?);
    let hidden = hidden(&rounded, &mut tensors, latents)?;
    let reference: Tensor<3> = tensors.float("condition")?;
    report.near("condition", hidden.clone(), reference, ROUNDED);
    let noisy = flat(rows(tensors.float("noisy")?));
    let timesteps = tensors.int::<2>("timesteps")?.float();
    let timesteps = timesteps.reshape([noisy.dims()[0]]);
    let condition = repeat(hidden, config.batch_mul);
    let output = rounded.head_of(0).denoise(noisy, timesteps, condition);
    let output = output.cast(DType::F32);
    let reference = flat(rows(tensors.float("output")?));
    report.near("output", output.clone(), reference, ROUNDED);
    let target = match prediction(&config.prediction_type) {
        Ok(Prediction::Velocity) => tensors.float("velocity")?,
        _ => tensors.float("noise")?,
    };
    let loss = (output - flat(rows(target))).square().mean();
    report.near("loss", loss.clone(), tensors.float("loss")?, ROUNDED);

    let gradients = case.folder.join("grads.safetensors");
    let expected = number_parameters(load_image(model_config.init(&case.device), &gradients)?);
    let mut found = AllGradients {
        expected: values_of(&expected),
        gradients: loss.backward(),
        ours: Vec::new(),
        reference: Vec::new(),
        missing: 0,
    };
    model.visit(&mut found);
    report.equal("parameters without a gradient", found.missing);
    let name = "gradients of all parameters";
    report.near_values(name, &found.ours, &found.reference, ROUNDED_GRADIENT);
    Ok(())
}

/// The case's settings, and the model that they describe.
fn read(case: &Case) -> Result<(Config, LatentLmConfig), VerifyError> {
    let config: Config = case.config()?;
    let read = config.model().and_then(|model_config| {
        let valid = model_config.validate();
        valid.map_err(|error| error.to_string())?;
        Ok(model_config)
    });
    let model_config = read.map_err(|reason| VerifyError::Case {
        path: case.folder.join("config.json"),
        reason,
    })?;
    Ok((config, model_config))
}

/// The class of each picture.
fn classes(tensors: &mut Tensors) -> Result<Vec<u32>, VerifyError> {
    let classes = tensors.integers("y")?.into_iter();
    Ok(classes.map(|class| class as u32).collect())
}

/// The hidden state before each latent, `[B, T, D]`, of pictures' latents `[B, T, Z]`.
fn hidden(
    model: &LatentLm,
    tensors: &mut Tensors,
    latents: Tensor<3>,
) -> Result<Tensor<3>, VerifyError> {
    let [batch, tokens, _] = latents.dims();
    let documents: Vec<Document> = classes(tensors)?
        .into_iter()
        .map(|class| Document::of_class(class, tokens))
        .collect();
    let layout = model.layout(&documents);
    let hidden = model.hidden(&layout, &[flat(latents)]);
    let [_, width] = hidden.dims();
    Ok(hidden.reshape([batch, tokens, width]))
}

/// `[B, C, S, S]` to `[B, S * S, C]`.
fn rows(pictures: Tensor<4>) -> Tensor<3> {
    let [batch, channels, height, width] = pictures.dims();
    pictures
        .reshape([batch, channels, height * width])
        .swap_dims(1, 2)
}

/// Turns `[B, T, Z]` into `[B * T, Z]`.
fn flat(latents: Tensor<3>) -> Tensor<2> {
    let [batch, tokens, dim] = latents.dims();
    latents.reshape([batch * tokens, dim])
}

/// Repeats each sample `times` times in the reference's order: `[B, T, D]` to `[B * times * T, D]`, where copy
/// `j` of sample `b` comes at `b * times + j`.
fn repeat(x: Tensor<3>, times: usize) -> Tensor<2> {
    let [batch, tokens, dim] = x.dims();
    x.unsqueeze_dim::<4>(1)
        .repeat_dim(1, times)
        .reshape([batch * times * tokens, dim])
}

fn check_training(
    case: &Case,
    config: &Config,
    model_config: &LatentLmConfig,
    report: &mut Report,
) -> Result<(), VerifyError> {
    let device = case.device.clone().autodiff();
    let case = Case {
        folder: case.folder.clone(),
        device: device.clone(),
    };
    let mut tensors = case.tensors()?;
    let weights = case.folder.join("model.safetensors");
    let model = number_parameters(load_image(model_config.init(&device), &weights)?);

    let latents = rows(tensors.float("x_start")?);
    let hidden = hidden(&model, &mut tensors, latents.clone())?;
    report.compare(
        "condition",
        hidden.clone(),
        tensors.float("condition")?,
        FORWARD,
    );
    let repeated = repeat(latents, config.batch_mul);
    let target = check_noising(&model, config, repeated, &mut tensors, report)?;

    let noisy = flat(rows(tensors.float("noisy")?));
    let timesteps = tensors.int::<2>("timesteps")?.float();
    let timesteps = timesteps.reshape([noisy.dims()[0]]);
    let condition = repeat(hidden, config.batch_mul);
    let output = model.head_of(0).denoise(noisy, timesteps, condition);
    let reference = flat(rows(tensors.float("output")?));
    report.compare("output", output.clone(), reference, FORWARD);
    let loss = (output - target).square().mean();
    report.compare("loss", loss.clone(), tensors.float("loss")?, FORWARD);

    // Gradients are stored under the names of their parameters: loaded like weights, they give a model whose
    // parameters are the reference's gradients.
    let gradients = case.folder.join("grads.safetensors");
    let expected = number_parameters(load_image(model_config.init(&device), &gradients)?);
    check_gradients(&model, &expected, loss.backward(), report);
    Ok(())
}

/// Compares the noised latents and the head's target. Returns the reference's target.
fn check_noising(
    model: &LatentLm,
    config: &Config,
    latents: Tensor<2>,
    tensors: &mut Tensors,
    report: &mut Report,
) -> Result<Tensor<2>, VerifyError> {
    let noise = flat(rows(tensors.float("noise")?));
    let timesteps = tensors.int::<2>("timesteps")?;
    let timesteps = timesteps.reshape([noise.dims()[0]]);
    let schedule = model.head_of(0).schedule();
    let noisy = schedule.add_noise(latents.clone(), noise.clone(), timesteps.clone());
    report.compare("noisy", noisy, flat(rows(tensors.float("noisy")?)), FORWARD);
    let velocity = flat(rows(tensors.float("velocity")?));
    let target = match prediction(&config.prediction_type) {
        Ok(Prediction::Velocity) => velocity,
        _ => noise.clone(),
    };
    let ours = schedule.target(latents, noise, timesteps);
    report.compare("target", ours, target.clone(), FORWARD);
    Ok(target)
}

fn check_gradients(
    model: &LatentLm,
    expected: &LatentLm,
    gradients: Gradients,
    report: &mut Report,
) {
    model.visit(&mut GradientCheck {
        expected: values_of(expected),
        gradients,
        path: Vec::new(),
        report,
    });
}

/// The parameters' values by their ids.
fn values_of(model: &LatentLm) -> HashMap<ParamId, TensorData> {
    let mut values = Values(HashMap::new());
    model.visit(&mut values);
    values.0
}

struct Values(HashMap<ParamId, TensorData>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.insert(param.id, param.val().into_data());
    }
}

struct GradientCheck<'a> {
    expected: HashMap<ParamId, TensorData>,
    gradients: Gradients,
    path: Vec<String>,
    report: &'a mut Report,
}

impl ModuleVisitor for GradientCheck<'_> {
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
        let expected = self.expected.remove(&param.id);
        let ours = param.val().grad(&self.gradients);
        let (Some(expected), Some(ours)) = (expected, ours) else {
            self.report.equal(&format!("{name}: missing"), 1);
            return;
        };
        let expected = Tensor::from_data(expected, &ours.device());
        self.report.compare(&name, ours, expected, GRADIENT);
    }
}

/// Collects the gradients of all parameters, concatenated.
struct AllGradients {
    expected: HashMap<ParamId, TensorData>,
    gradients: Gradients,
    ours: Vec<f32>,
    reference: Vec<f32>,
    missing: usize,
}

impl ModuleVisitor for AllGradients {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let expected = self.expected.remove(&param.id);
        match (expected, param.val().grad(&self.gradients)) {
            (Some(expected), Some(ours)) => {
                self.reference.extend(values(expected));
                self.ours.extend(values(ours.into_data()));
            }
            _ => self.missing += 1,
        }
    }
}

fn check_sampling(
    case: &Case,
    config: &Config,
    model_config: &LatentLmConfig,
    report: &mut Report,
) -> Result<(), VerifyError> {
    let mut tensors = case.tensors()?;
    let weights = case.folder.join("model.safetensors");
    let model = load_image(model_config.init(&case.device), &weights)?;
    let options = SampleOptions {
        sampler: Sampler::DpmSolverPlusPlus,
        steps: config.sampling_steps,
        guidance_scale: config.cfg_scale,
        ..SampleOptions::default()
    };
    let plan = solver::plan(options.sampler, model.head_of(0).schedule(), options.steps);
    let visited = tensors.integers("solver_timesteps")?;
    let agreeing = plan
        .iter()
        .zip(&visited)
        .filter(|(step, t)| step.timestep as i64 == **t)
        .count();
    let longest = plan.len().max(visited.len());
    report.equal("solver timesteps that differ", longest - agreeing);

    let reference = rows(tensors.float("samples")?);
    let noise: Tensor<3> = tensors.float("sample_noise")?;
    let labels = tensors.int("y")?;
    let classes = classes(&mut tensors)?;
    let random = &mut RandomStream::new(0);
    let latents = model.draw_images_from(&classes, noise.clone(), &options, random);
    report.compare("samples, KV cache", latents, reference.clone(), SAMPLING);
    let latents = without_cache(&model, labels, noise, &options);
    report.compare("samples, no KV cache", latents, reference, SAMPLING);
    export::check(&case.folder, report, |folder, dtype| {
        save_image(&model, folder, dtype)
    })
}

/// Guided sampling without a KV cache: a full forward pass over all positions for each latent, the conditional
/// and the unconditional sequence apart.
fn without_cache(
    model: &LatentLm,
    labels: Tensor<1, Int>,
    noise: Tensor<3>,
    options: &SampleOptions,
) -> Tensor<3> {
    let [batch, tokens, dim] = noise.dims();
    let adapter = model.label_adapter();
    let null = adapter.null(batch, &labels.device());
    let [conditional, unconditional] = [labels, null].map(|labels| adapter.embed(labels));
    let mut latents: Vec<Tensor<3>> = Vec::with_capacity(tokens);
    for position in 0..tokens {
        let hidden = |first: &Tensor<3>| {
            let past = latents.iter().map(|z| model.latents[0].embed(z.clone()));
            let sequence = std::iter::once(first.clone()).chain(past).collect();
            let hidden = model.backbone.forward(Tensor::cat(sequence, 1));
            let width = hidden.dims()[2];
            hidden.narrow(1, position, 1).reshape([batch, width])
        };
        let latent = model.head_of(0).sample(
            hidden(&conditional),
            Some(hidden(&unconditional)),
            noise.clone().narrow(1, position, 1).reshape([batch, dim]),
            options,
            &mut RandomStream::new(0),
        );
        latents.push(latent.reshape([batch, 1, dim]));
    }
    Tensor::cat(latents, 1)
}
