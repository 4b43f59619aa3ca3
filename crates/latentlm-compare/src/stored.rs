//! Measurements that stay in the folder of a comparison: one that continues does not repeat them.

use std::fs;
use std::path::Path;

use latentlm::core::bundle::write_atomically;
use latentlm_pipelines::{PipelineError, Recipe};
use latentlm_train::Result;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A measurement in a file.
#[derive(Serialize, Deserialize)]
struct Stored<M> {
    /// The recipe that was trained and drawn with, as TOML.
    recipe: String,
    evaluation: M,
}

/// The measurement in a file; `None` if there is none, it can't be read, or it is of another recipe.
pub(crate) fn stored<M: DeserializeOwned, R: Recipe>(path: &Path, recipe: &R) -> Option<M> {
    let stored: Stored<M> = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let [now, default] = [recipe, &R::default()].map(R::to_toml);
    is_same(&now.ok()?, &stored.recipe, &default.ok()?).then_some(stored.evaluation)
}

/// Writes the measurement of a recipe into a file.
///
/// # Errors
/// If it can't be written.
pub(crate) fn store<M: Serialize, R: Recipe>(
    path: &Path,
    recipe: &R,
    evaluation: &M,
) -> Result<()> {
    let stored = Stored {
        recipe: recipe.to_toml().map_err(PipelineError::from)?,
        evaluation,
    };
    let json = serde_json::to_string_pretty(&stored).unwrap_or_default();
    Ok(write_atomically(path, json.as_bytes())?)
}

/// Whether a recipe is the one of before, which may be of an older version: keys that it lacks are at their defaults. All
/// three are TOML.
fn is_same(now: &str, before: &str, default: &str) -> bool {
    let mut before = before.lines().peekable();
    let is_default = |line: &str| default.lines().any(|own| own == line);
    let mut now = now.lines();
    now.all(|line| before.next_if_eq(&line).is_some() || is_default(line))
        && before.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_pipelines::ImageRecipe;

    #[test]
    fn a_measurement_is_kept_for_its_recipe() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let recipe = |change: &str| ImageRecipe::resolve(None, &[change.to_owned()]).unwrap();
        let read = |change: &str| stored::<u32, _>(&path, &recipe(change));
        assert_eq!(read("seed=2"), None);
        store(&path, &recipe("seed=2"), &7).unwrap();
        assert_eq!(read("seed=2"), Some(7));
        assert_eq!(read("seed=1"), None);
        fs::write(&path, "{").unwrap();
        assert_eq!(read("seed=2"), None);
    }

    /// A key that is new since the measurement has its default, or makes another recipe.
    #[test]
    fn a_measurement_of_an_older_version_is_kept() {
        let default = "seed = 1\n\n[lm]\nwidth = 8\nnew = 0.5\n";
        let before = "seed = 2\n\n[lm]\nwidth = 8\n";
        for (now, expected) in [
            (before, true),
            ("seed = 2\n\n[lm]\nwidth = 8\nnew = 0.5\n", true),
            ("seed = 2\n\n[lm]\nwidth = 8\nnew = 0.25\n", false),
            ("seed = 1\n\n[lm]\nwidth = 8\nnew = 0.5\n", false),
            ("seed = 2\n\n[lm]\nnew = 0.5\n", false),
        ] {
            assert_eq!(is_same(now, before, default), expected, "{now}");
        }
    }
}
