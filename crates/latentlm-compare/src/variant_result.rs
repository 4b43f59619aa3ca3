//! The measurements of a variant, and the columns of their tables.

use latentlm_eval::{ImageEvaluation, deviation, mean};
use serde::{Deserialize, Serialize};

use super::result::Column;

/// The measurements of a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantResult {
    /// Its name.
    pub name: String,
    /// Overrides that make it from the default recipe.
    pub changes: Vec<String>,
    /// Evaluations of the head for a latent, the mean over a picture's latents. With guidance each evaluation has two
    /// conditions.
    pub head_evaluations: f64,
    /// One for each training seed.
    pub runs: Vec<VariantRun>,
}

/// The measurements of a variant that was trained with one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantRun {
    /// The seed of its training.
    pub training_seed: u64,
    /// Its measurements.
    pub evaluation: ImageEvaluation,
}

impl VariantResult {
    /// The mean of a measurement over all training seeds.
    pub(crate) fn mean(&self, value: fn(&ImageEvaluation) -> f64) -> Option<f64> {
        mean(self.runs.iter().map(|run| value(&run.evaluation)))
    }

    /// The standard deviation of a measurement over training seeds; `None` if there is one seed.
    pub(crate) fn deviation(&self, value: fn(&ImageEvaluation) -> f64) -> Option<f64> {
        let values: Vec<f64> = self.runs.iter().map(|run| value(&run.evaluation)).collect();
        deviation(&values)
    }
}

/// Columns of both comparisons.
pub(crate) fn columns() -> Vec<Column<VariantResult>> {
    let column = Column::<VariantResult>::new;
    vec![
        column("head evaluations", 0, |own| Some(own.head_evaluations)),
        reconstruction(),
        column("class agreement", 3, |own| {
            own.mean(|e| e.verdict.class_agreement)
        }),
        column("agreement's deviation", 3, |own| {
            own.deviation(|e| e.verdict.class_agreement)
        }),
        distance(),
        column("distance's deviation", 2, |own| {
            own.deviation(|e| e.verdict.frechet_distance)
        }),
        column("distance to training pictures, of real", 3, |own| {
            own.mean(|e| e.nearest_training_distance / e.nearest_training_distance_of_real)
        }),
        column("diversity", 3, |own| own.mean(|e| e.diversity)),
        column("of the worst class", 3, |own| {
            own.mean(|e| e.worst_class_diversity)
        }),
        speed(),
    ]
}

/// PSNR of the codec's reconstructions, mean over training seeds.
pub(crate) fn reconstruction() -> Column<VariantResult> {
    Column::new("reconstruction, dB", 2, |own| {
        own.mean(|e| e.reconstruction.reconstruction_psnr_db)
    })
}

/// Frechet distance of the pictures, mean over training seeds.
pub(crate) fn distance() -> Column<VariantResult> {
    Column::new("Frechet distance", 2, |own| {
        own.mean(|e| e.verdict.frechet_distance)
    })
}

/// Pictures drawn in a second, mean over training seeds.
pub(crate) fn speed() -> Column<VariantResult> {
    Column::new("images a second", 1, |own| {
        own.mean(|e| e.samples_per_second)
    })
}

/// The values of a column as bars, one for each variant.
pub(crate) fn bars(
    results: &[VariantResult],
    column: &Column<VariantResult>,
) -> Vec<(String, f64)> {
    let bars = results.iter();
    bars.filter_map(|own| Some((own.name.clone(), (column.value)(own)?)))
        .collect()
}
