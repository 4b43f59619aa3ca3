//! Which ways of drawing a head was trained for.

use latentlm::SampleOptions;
use latentlm::core::{DistilledGuidance, FallingSteps, FewStep, HeadMethod, Process, Sampler};

/// The reason why a head of a method can't be drawn from with some options; `None` if it can.
pub(crate) fn refusal(method: &HeadMethod, options: &SampleOptions) -> Option<String> {
    wrong_sampler(method, options)
        .or_else(|| wrong_steps(method, options))
        .or_else(|| wrong_guidance(method, options))
        .or_else(|| wrong_temperature(method, options))
}

fn wrong_sampler(method: &HeadMethod, options: &SampleOptions) -> Option<String> {
    let wanted = match (method.process, method.few_step) {
        (Process::Diffusion, _) => "\"dpm-solver-plus-plus\", \"ddim\" or \"ddpm\"",
        (Process::Flow, FewStep::None) => "\"euler\", \"midpoint\" or \"heun\"",
        (Process::Flow, FewStep::Shortcut | FewStep::Energy) => "\"euler\"",
    };
    let fine = options.sampler.process() == method.process
        && (method.few_step == FewStep::None || options.sampler == Sampler::Euler);
    (!fine).then(|| {
        let keys = match (method.process, method.few_step) {
            (Process::Diffusion, _) => "lm.process = \"diffusion\"",
            (Process::Flow, FewStep::None) => "lm.process = \"flow\"",
            (Process::Flow, FewStep::Shortcut) => "lm.few_step = \"shortcut\"",
            (Process::Flow, FewStep::Energy) => "lm.few_step = \"energy\"",
        };
        format!("sample.sampler must be {wanted} with {keys}")
    })
}

fn wrong_steps(method: &HeadMethod, options: &SampleOptions) -> Option<String> {
    let (steps, FallingSteps { last, over }) = (options.steps, options.falling);
    let divisions = method.shortcut_divisions;
    match method.few_step {
        FewStep::Energy if steps != 1 => {
            return Some(format!(
                "lm.few_step = \"energy\" draws in one step: sample.steps and --steps must be 1, not {steps}"
            ));
        }
        FewStep::Shortcut if !steps.is_power_of_two() || steps > divisions => {
            return Some(format!(
                "lm.few_step = \"shortcut\" knows steps of 1, 1/2, 1/4 and so on to 1/{divisions}: \
                 sample.steps and --steps must be such a number of them, not {steps}"
            ));
        }
        _ => {}
    }
    if last > 0 && method.few_step != FewStep::None {
        return Some("sample.steps_last must be 0 with lm.few_step".into());
    }
    if last > steps {
        return Some(format!(
            "sample.steps_last must be at most sample.steps, since steps fall: {last} is more than {steps}"
        ));
    }
    if (over > 0 && last == 0) || over == 1 {
        return Some("sample.steps_over must be 2 or more, and goes with sample.steps_last".into());
    }
    let each = options.sampler.evaluations();
    let odd = [steps, last]
        .into_iter()
        .find(|steps| !steps.is_multiple_of(each));
    odd.map(|steps| {
        format!(
            "sample.sampler evaluates the head {each} times in each interval: sample.steps, sample.steps_last and \
             --steps must be multiples of that, not {steps}"
        )
    })
}

fn wrong_guidance(method: &HeadMethod, options: &SampleOptions) -> Option<String> {
    let (scale, learned) = (options.guidance_scale, method.distilled_scale);
    match method.distilled_guidance {
        DistilledGuidance::Fixed if scale != learned => Some(format!(
            "guidance of {learned} is built into this model (lm.distilled_guidance = \"fixed\"): \
             leave --guidance out; sample.guidance_scale must be {learned}, not {scale}"
        )),
        DistilledGuidance::Scale if !(1.0..=learned).contains(&scale) => Some(format!(
            "this model reads guidance scales from 1 to {learned} (lm.distilled_scale): --guidance and \
             sample.guidance_scale can't be {scale}"
        )),
        _ => None,
    }
}

/// A student knows its teacher's predictions at the temperature of its training alone. At 1, the default, the user chooses,
/// as with any other model.
fn wrong_temperature(method: &HeadMethod, options: &SampleOptions) -> Option<String> {
    let (temperature, learned) = (options.noise_temperature, method.distilled_temperature);
    let is_taught = method.distilled_guidance != DistilledGuidance::None;
    (is_taught && learned != 1.0 && temperature != learned).then(|| {
        format!(
            "this model learned to draw from noise of the temperature {learned} (lm.distilled_temperature): leave \
             --noise-temperature out; sample.noise_temperature must be {learned}, not {temperature}"
        )
    })
}
