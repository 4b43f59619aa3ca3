//! What every replaceable part promises of its configuration.

use std::error::Error;
use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The configuration of a part of the model: a table of a recipe.
///
/// The part alone decides which keys its table has. A recipe begins with [`preset`](Self::preset),
/// lays the file's table and the overrides over it, and asks [`validate`](Self::validate).
pub trait PartConfig: Serialize + DeserializeOwned + Default + Clone + PartialEq + Debug {
    /// What can be wrong with it.
    type Error: Error + Send + Sync + 'static;

    /// Checks the configuration.
    ///
    /// # Errors
    /// With one line that names the first key that is wrong.
    fn validate(&self) -> Result<(), Self::Error>;

    /// The values that a shipped recipe begins with. `recipe` is its path under `configs` without
    /// the ending, e.g. `image/mnist`. A part that has none for this recipe begins with its default.
    fn preset(recipe: &str) -> Self {
        let _ = recipe;
        Self::default()
    }
}
