//! Keys in which recipes differ.

use latentlm_keys::{RecipeError, Table, Value, lookup};

use crate::recipe::Recipe;

/// A key whose value differs between two recipes.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedKey {
    /// The dotted key.
    pub name: String,
    /// The value in the first recipe.
    pub before: String,
    /// The value in the second.
    pub now: String,
}

/// The keys in which a recipe differs from another of its kind.
///
/// # Errors
/// If a recipe can't be written as TOML.
pub fn changed_keys<R: Recipe>(before: &R, now: &R) -> Result<Vec<ChangedKey>, RecipeError> {
    let table = |recipe: &R| Ok::<_, RecipeError>(recipe.to_toml()?.parse().unwrap_or_default());
    let tables: [Table; 2] = [table(before)?, table(now)?];
    let mut changed = Vec::new();
    for (name, _) in R::keys().completed(&tables[1]).iter() {
        let value = |table| lookup(table, name).map_or_else(String::new, Value::to_string);
        let [before, now] = tables.each_ref().map(value);
        if before != now {
            let name = name.into();
            changed.push(ChangedKey { name, before, now });
        }
    }
    Ok(changed)
}
