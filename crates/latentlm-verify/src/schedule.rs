//! Verifies noise schedules and solver trajectories.

use std::cell::RefCell;

use burn::tensor::Tensor;
use latentlm::diffusion::{BetaSchedule, NoiseSchedule, Prediction, solver};
use latentlm::{RandomStream, Sampler};
use serde::Deserialize;

use crate::case::Case;
use crate::error::VerifyError;
use crate::expression;
use crate::report::{FORWARD, Report, SAMPLING};

/// A solver run in `config.json`.
#[derive(Deserialize)]
struct Run {
    key: String,
    steps: usize,
    prediction_type: String,
    #[serde(default = "dpm_solver")]
    algorithm: String,
    #[serde(default = "second")]
    solver_order: usize,
    #[serde(default)]
    beta_schedule: Option<String>,
    #[serde(default)]
    num_train_timesteps: Option<usize>,
    model: String,
}

fn dpm_solver() -> String {
    "dpmsolver++".into()
}

fn second() -> usize {
    2
}

pub(crate) fn prediction(name: &str) -> Result<Prediction, String> {
    match name {
        "epsilon" => Ok(Prediction::Epsilon),
        "v_prediction" => Ok(Prediction::Velocity),
        other => Err(format!("prediction_type `{other}` is not supported")),
    }
}

pub(crate) fn betas(name: &str) -> Result<BetaSchedule, String> {
    match name {
        "cosine" => Ok(BetaSchedule::Cosine),
        "linear" => Ok(BetaSchedule::Linear),
        other => Err(format!("beta_schedule `{other}` is not supported")),
    }
}

impl Run {
    fn sampler(&self) -> Result<Sampler, String> {
        match (self.algorithm.as_str(), self.solver_order) {
            // The first order of DPM-Solver++ is DDIM (arXiv 2211.01095, §4).
            ("dpmsolver++", 1) => Ok(Sampler::Ddim),
            ("dpmsolver++", 2) => Ok(Sampler::DpmSolverPlusPlus),
            (other, order) => Err(format!(
                "solver `{other}` of order {order} is not supported"
            )),
        }
    }

    fn schedule(&self) -> Result<NoiseSchedule, String> {
        let name = self.beta_schedule.as_deref().unwrap_or("cosine");
        let timesteps = self.num_train_timesteps.unwrap_or(1000);
        Ok(NoiseSchedule::new(
            betas(name)?,
            prediction(&self.prediction_type)?,
            timesteps,
        ))
    }
}

pub(crate) fn check(case: &Case, report: &mut Report) -> Result<(), VerifyError> {
    check_alphas(case, report)?;
    for run in case.config::<Vec<Run>>()? {
        check_run(case, &run, report)?;
    }
    Ok(())
}

fn check_alphas(case: &Case, report: &mut Report) -> Result<(), VerifyError> {
    let mut tensors = case.tensors()?;
    for name in ["cosine", "linear"] {
        let key = format!("alphas_cumprod.{name}");
        let reference: Tensor<1> = tensors.float(&key)?;
        let betas = betas(name).map_err(|reason| wrong(case, reason))?;
        let schedule = NoiseSchedule::new(betas, Prediction::Epsilon, reference.dims()[0]);
        let ours: Vec<f32> = schedule
            .alphas_cumprod()
            .iter()
            .map(|a| *a as f32)
            .collect();
        let ours = Tensor::from_floats(ours.as_slice(), &case.device);
        report.compare(&key, ours, reference, FORWARD);
    }
    Ok(())
}

fn wrong(case: &Case, reason: String) -> VerifyError {
    VerifyError::Case {
        path: case.folder.join("config.json"),
        reason,
    }
}

/// Compares every state of a trajectory, and the timesteps at which the solver evaluates the model.
fn check_run(case: &Case, run: &Run, report: &mut Report) -> Result<(), VerifyError> {
    let config = |reason| wrong(case, reason);
    let key = &run.key;
    let mut tensors = case.tensors()?;
    let schedule = run.schedule().map_err(config)?;
    let plan = solver::plan(run.sampler().map_err(config)?, &schedule, run.steps);
    let visited = tensors.integers(&format!("{key}.timesteps"))?;
    let agreeing = plan
        .iter()
        .zip(&visited)
        .filter(|(step, t)| step.timestep as i64 == **t)
        .count();
    let longest = plan.len().max(visited.len());
    report.equal(&format!("{key} timesteps that differ"), longest - agreeing);

    let initial: Tensor<2> = tensors.float(&format!("{key}.initial"))?;
    let trajectory: Tensor<3> = tensors.float(&format!("{key}.trajectory"))?;
    let states = RefCell::new(Vec::new());
    let mut failure = None;
    // The model is called with the state before each step; the last state of the trajectory is returned.
    let last = solver::integrate(&plan, initial, &mut RandomStream::new(0), |step, x| {
        states.borrow_mut().push(x.clone());
        let t = plan[step].timestep;
        expression::evaluate(&run.model, &x, t).unwrap_or_else(|reason| {
            failure = Some(reason);
            x
        })
    });
    if let Some(reason) = failure {
        return Err(wrong(case, reason));
    }
    let mut states = states.into_inner();
    states.push(last);
    for (step, state) in states.into_iter().skip(1).enumerate() {
        let name = format!("{key} state after step {}", step + 1);
        let reference = trajectory.clone().narrow(0, step, 1).squeeze_dim(0);
        report.compare(&name, state, reference, SAMPLING);
    }
    Ok(())
}
