//! Heads and ways of drawing with one codec: quality against evaluations and speed.

use latentlm_eval::{Series, bar_chart, line_chart, stack};
use latentlm_train::{Result, RunEnd, RunOptions};

use super::variant::Variant;
use super::variant_result::{VariantResult, bars, distance, speed};
use super::variants::declare_variants;

/// Flow matching.
const FLOW: &[&str] = &["lm.process=flow", "sample.sampler=euler"];
/// A head that learns to draw in few steps.
const SHORTCUT: &[&str] = &[
    "lm.process=flow",
    "lm.few_step=shortcut",
    "sample.sampler=euler",
];
/// A head that draws in one step.
const ENERGY: &[&str] = &[
    "lm.process=flow",
    "lm.few_step=energy",
    "sample.sampler=euler",
    "sample.steps=1",
];
/// A teacher of three times the default's steps.
const LONG: &[&str] = &["lm_train.steps=3600"];
/// The default as a teacher of a head that draws in few steps and has guidance in its weights.
const FAST: &[&str] = &[
    "lm.from=default",
    "lm.process=flow",
    "lm.few_step=shortcut",
    "lm.shortcut_share=0.5",
    "lm.shortcut_divisions=32",
    "lm.distilled_guidance=scale",
    "lm.distilled_scale=3.0",
    "sample.sampler=euler",
];
/// The same head, of the longer teacher.
const LONG_FAST: &[&str] = &[
    "lm.from=long",
    "lm.process=flow",
    "lm.few_step=shortcut",
    "lm.shortcut_share=0.5",
    "lm.shortcut_divisions=32",
    "lm.distilled_guidance=scale",
    "lm.distilled_scale=3.0",
    "sample.sampler=euler",
    "sample.guidance_scale=1.15",
];

/// All variants. Those that differ in `sample.*` alone share a training. Each way of training is drawn with several scales
/// of guidance, because none is the best for all of them.
const VARIANTS: &[Variant] = &[
    Variant::new("default", &[]),
    Variant::new("steps-10", &["sample.steps=10"]),
    Variant::new("steps-4", &["sample.steps=4"]),
    Variant::new("steps-2", &["sample.steps=2"]),
    Variant::new("falling", &["sample.steps=20", "sample.steps_last=4"]),
    Variant::new("guidance-1", &["sample.guidance_scale=1.0"]),
    Variant::new("guidance-1.25", &["sample.guidance_scale=1.25"]),
    Variant::new("guidance-1.5", &["sample.guidance_scale=1.5"]),
    Variant::new("guidance-3", &["sample.guidance_scale=3.0"]),
    Variant::new("epsilon", &["lm.prediction=Epsilon"]),
    Variant::new(
        "epsilon-steps-4",
        &["lm.prediction=Epsilon", "sample.steps=4"],
    ),
    Variant::new("batch-mul-1", &["lm.batch_mul=1"]),
    Variant::new("flow", FLOW),
    Variant::with("flow-guidance-1.5", FLOW, &["sample.guidance_scale=1.5"]),
    Variant::with("flow-steps-4", FLOW, &["sample.steps=4"]),
    Variant::new(
        "flow-midpoint-4",
        &[
            "lm.process=flow",
            "sample.sampler=midpoint",
            "sample.steps=4",
        ],
    ),
    Variant::new(
        "flow-heun-4",
        &["lm.process=flow", "sample.sampler=heun", "sample.steps=4"],
    ),
    Variant::with("shortcut-4", SHORTCUT, &["sample.steps=4"]),
    Variant::with("shortcut-2", SHORTCUT, &["sample.steps=2"]),
    Variant::with("shortcut-1", SHORTCUT, &["sample.steps=1"]),
    Variant::with(
        "shortcut-4-guidance-1.5",
        SHORTCUT,
        &["sample.steps=4", "sample.guidance_scale=1.5"],
    ),
    Variant::with(
        "shortcut-2-guidance-1.5",
        SHORTCUT,
        &["sample.steps=2", "sample.guidance_scale=1.5"],
    ),
    Variant::new("energy", ENERGY),
    Variant::with("energy-guidance-1", ENERGY, &["sample.guidance_scale=1.0"]),
    Variant::with(
        "energy-guidance-1.5",
        ENERGY,
        &["sample.guidance_scale=1.5"],
    ),
    Variant::new(
        "distilled",
        &[
            "lm.from=default",
            "lm.distilled_guidance=fixed",
            "lm.distilled_scale=2.0",
            "sample.guidance_scale=2.0",
        ],
    ),
    Variant::with(
        "fast-4",
        FAST,
        &["sample.steps=4", "sample.guidance_scale=1.35"],
    ),
    Variant::with(
        "fast-2",
        FAST,
        &["sample.steps=2", "sample.guidance_scale=1.35"],
    ),
    Variant::with(
        "fast-1",
        FAST,
        &["sample.steps=1", "sample.guidance_scale=1.35"],
    ),
    Variant::new("long", LONG),
    Variant::with("long-guidance-1.25", LONG, &["sample.guidance_scale=1.25"]),
    Variant::with("long-guidance-1.5", LONG, &["sample.guidance_scale=1.5"]),
    Variant::with("long-fast-4", LONG_FAST, &["sample.steps=4"]),
    Variant::with("long-fast-2", LONG_FAST, &["sample.steps=2"]),
    Variant::with("long-fast-1", LONG_FAST, &["sample.steps=1"]),
];

declare_variants! {
    /// A comparison of heads.
    HeadsRecipe {
        name: heads,
        command: "compare heads",
        keys: "latentlm-compare/heads",
        all: VARIANTS,
        one_codec: true,
    }
}

/// Trains one codec and the language model of every variant with every seed, or continues, and writes
/// `heads.json`, `heads.md` and `heads.svg`.
///
/// # Errors
/// If the folder, recipe or data are wrong, a loss is not finite, or a file can't be written.
pub fn compare_heads(recipe: HeadsRecipe, options: RunOptions) -> Result<RunEnd> {
    RunEnd::of(recipe.variants().run(&recipe, options, figure))
}

fn figure(results: &[VariantResult]) -> String {
    let curves = [
        (
            "Frechet distance against head evaluations a latent",
            "evaluations",
            points(results, |own| Some(own.head_evaluations)),
        ),
        (
            "Frechet distance against speed",
            "images a second",
            points(results, speed().value),
        ),
    ];
    let mut charts = Vec::new();
    for (title, label, curves) in &curves {
        // A chart without curves would have an axis of made-up numbers.
        if !curves.is_empty() {
            charts.push((*title, line_chart(label, curves, false)));
        }
    }
    charts.push((
        "Frechet distance of each variant",
        bar_chart("Frechet distance", &bars(results, &distance())),
    ));
    charts.push((
        "speed of each variant",
        bar_chart("images a second", &bars(results, &speed())),
    ));
    stack(&charts)
}

/// The variants that differ from another in `sample.steps` alone, as curves over a value.
fn points(results: &[VariantResult], place: fn(&VariantResult) -> Option<f64>) -> Vec<Series<'_>> {
    let rest = |own: &VariantResult| {
        let changes = own.changes.iter();
        let rest = changes.filter(|change| !change.starts_with("sample.steps="));
        rest.cloned().collect::<Vec<String>>()
    };
    let mut curves: Vec<Series<'_>> = Vec::new();
    let mut drawn: Vec<Vec<String>> = Vec::new();
    for first in results {
        let own = rest(first);
        if drawn.contains(&own) {
            continue;
        }
        let same = results.iter().filter(|other| rest(other) == own);
        let same = same.filter_map(|other| Some((place(other)?, other)));
        let mut curve = distance().curve(&first.name, same);
        curve.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if curve.points.len() > 1 {
            curves.push(curve);
        }
        drawn.push(own);
    }
    curves
}

#[cfg(test)]
mod tests {
    use latentlm_pipelines::Recipe;

    use super::*;
    use crate::variants::{check_list, measured};

    #[test]
    fn every_variant_resolves() {
        check_list(&HeadsRecipe::default().variants());
    }

    /// Before anything is trained; those that learn no guidance may still be compared.
    #[test]
    fn teachers_that_can_not_teach_guidance_are_refused() {
        let told = |variants: &str| {
            let changes = [
                "image.lm.condition_dropout=0".to_owned(),
                format!("heads.variants={variants}"),
            ];
            let recipe = HeadsRecipe::resolve(None, &changes);
            recipe.map_or_else(|error| error.to_string(), |_| "nothing".into())
        };
        assert_eq!(told("default,flow"), "nothing");
        let message = told("default,fast-2");
        let part = "the variant default was trained with image.lm.condition_dropout=0";
        assert!(message.contains(part), "{message}");
    }

    /// The default with fewer steps is a curve, another guidance is not a part of it.
    #[test]
    fn curves_are_variants_of_other_steps() {
        let mut results = vec![
            measured("default", 20, &[30.0, 34.0]),
            measured("steps-4", 4, &[60.0, 64.0]),
            measured("guidance-3", 20, &[40.0, 40.0]),
        ];
        results[0].changes.clear();
        results[2].changes = vec!["sample.guidance_scale=3.0".into()];
        let curves = points(&results, |own| Some(own.head_evaluations));
        assert_eq!(curves.len(), 1);
        assert_eq!(curves[0].name, "default");
        assert_eq!(curves[0].points, [(4.0, 62.0), (20.0, 32.0)]);
        let curves = points(&results, speed().value);
        assert_eq!(curves[0].points, [(200.0, 32.0), (1000.0, 62.0)]);
        let whole = figure(&results);
        assert!(whole.contains("guidance-3") && !whole.contains("NaN"));
        // One variant alone has no curve, and no chart of curves.
        let one = figure(&results[..1]);
        for chart in ["against head evaluations", "against speed"] {
            assert!(whole.contains(chart) && !one.contains(chart), "{chart}");
        }
        assert!(one.contains("speed of each variant"));
    }
}
