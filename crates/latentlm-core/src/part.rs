//! The contract of a replaceable part's configuration, and the keys that it declares.

use std::error::Error;
use std::fmt::Debug;
use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// The configuration of a part of the model: a table of a recipe.
///
/// Only the part knows which keys its table has. A recipe starts from [`preset`](Self::preset), applies the
/// file's table and then the overrides, checks each value against the part's [`keys`](Self::keys), and calls
/// [`validate`](Self::validate).
pub trait PartConfig: Serialize + DeserializeOwned + Default + Clone + PartialEq + Debug {
    /// The error of an invalid configuration.
    type Error: Error + Send + Sync + 'static;

    /// Checks what [`keys`](Self::keys) can't express, such as relations between keys, and what `init` relies on.
    ///
    /// # Errors
    /// If a key is wrong; the message is one line that names the first such key.
    fn validate(&self) -> Result<(), Self::Error>;

    /// The values that a shipped recipe starts from. `recipe` is its path under `configs` without the extension,
    /// e.g. `image/mnist`. For other recipes these are the defaults.
    fn preset(recipe: &str) -> Self {
        let _ = recipe;
        Self::default()
    }

    /// The text of `keys.toml` in the part's folder, which declares the part's keys (see [`PartKeys`]). If it is
    /// empty, the keys are those of the default configuration, and only the types of values are checked.
    fn keys() -> &'static str {
        ""
    }
}

/// The keys of a part, as the file `keys.toml` in its folder declares them: type, range, default and help.
/// The part takes its defaults from here; `latentlm-keys` checks recipes against the same file.
///
/// ```
/// use latentlm_core::PartKeys;
///
/// static KEYS: PartKeys = PartKeys::new(
///     r#"
///     [codec]
///     width = { type = "integer", default = 64, min = 1, help = "Width of the network" }
///     gain = { type = "number", default = 1.0, help = "Factor of the latents" }
///     [presets."image/mnist".codec]
///     width = 16
///     "#,
/// );
/// assert_eq!(KEYS.default::<usize>("codec.width"), 64);
/// #[derive(serde::Deserialize, PartialEq, Debug)]
/// struct Codec { width: usize, gain: f64 }
/// let small: Codec = KEYS.preset("codec", "image/mnist");
/// assert_eq!(small, Codec { width: 16, gain: 1.0 });
/// ```
#[derive(Debug)]
pub struct PartKeys {
    text: &'static str,
    table: OnceLock<Table>,
}

impl PartKeys {
    /// The keys that the text of a `keys.toml` declares: `include_str!("../keys.toml")`.
    pub const fn new(text: &'static str) -> Self {
        Self {
            text,
            table: OnceLock::new(),
        }
    }

    /// The text of the file.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The default of a key, which is written with dots: `codec.width`.
    ///
    /// # Panics
    /// If the file does not declare the key, or declares it with another type.
    pub fn default<T: DeserializeOwned>(&self, key: &str) -> T {
        let declared = self.find(key).and_then(Value::as_table);
        let default = declared.and_then(|declared| declared.get("default"));
        match default.map(|value| value.clone().try_into()) {
            Some(Ok(value)) => value,
            Some(Err(error)) => panic!("the default of `{key}` in keys.toml: {error}"),
            None => panic!("keys.toml declares no key `{key}`"),
        }
    }

    /// The defaults of a table, with the values for a recipe from the file's `presets`.
    ///
    /// # Panics
    /// If the file does not declare all keys of the configuration.
    pub fn preset<T: DeserializeOwned>(&self, table: &str, recipe: &str) -> T {
        let declared = self.find(table).and_then(Value::as_table);
        let mut values = declared.map(defaults).unwrap_or_default();
        let preset = self.table().get("presets");
        let preset = preset.and_then(|presets| presets.get(recipe)?.get(table)?.as_table());
        if let Some(preset) = preset {
            cover(&mut values, preset);
        }
        match Value::Table(values).try_into() {
            Ok(config) => config,
            Err(error) => panic!("the table `{table}` of keys.toml: {error}"),
        }
    }

    /// The parsed file.
    fn table(&self) -> &Table {
        self.table.get_or_init(|| match self.text.parse::<Table>() {
            Ok(table) => table,
            Err(error) => panic!("keys.toml: {error}"),
        })
    }

    /// The entry of a key or table, whose name is written with dots.
    fn find(&self, key: &str) -> Option<&Value> {
        let (tables, last) = key.rsplit_once('.').unwrap_or(("", key));
        let mut inside = self.table();
        for name in tables.split('.').filter(|name| !name.is_empty()) {
            inside = inside.get(name)?.as_table()?;
        }
        inside.get(last)
    }
}

/// The defaults of all keys of a table and of the tables in it.
fn defaults(declared: &Table) -> Table {
    let mut values = Table::new();
    for (name, entry) in declared {
        let Some(entry) = entry.as_table() else {
            continue;
        };
        let value = match (entry.get("type"), entry.get("default")) {
            (Some(Value::String(_)), Some(default)) => default.clone(),
            _ => Value::Table(defaults(entry)),
        };
        values.insert(name.clone(), value);
    }
    values
}

/// Replaces the values in `base` that `over` has too, and adds those that `base` lacks.
fn cover(base: &mut Table, over: &Table) {
    for (name, value) in over {
        match (base.get_mut(name), value) {
            (Some(Value::Table(slot)), Value::Table(inner)) => cover(slot, inner),
            _ => {
                base.insert(name.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    static KEYS: PartKeys = PartKeys::new(
        r#"
        [codec]
        width = { type = "integer", default = 64, help = "Width" }
        [codec.deep]
        sizes = { type = "integers", default = [1, 2], help = "Sizes" }
        ratio = { type = "number", default = 2, help = "Ratio" }
        [presets."image/mnist".codec]
        width = 16
        [presets."image/mnist".codec.deep]
        sizes = [3]
        "#,
    );

    #[derive(Debug, PartialEq, Deserialize)]
    struct Codec {
        width: u32,
        deep: Deep,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Deep {
        sizes: Vec<usize>,
        ratio: f64,
    }

    #[test]
    fn presets_change_what_they_name() {
        let codec = |width, sizes| Codec {
            width,
            deep: Deep { sizes, ratio: 2.0 },
        };
        let preset = |recipe| KEYS.preset::<Codec>("codec", recipe);
        assert_eq!(preset("image/mnist"), codec(16, vec![3]));
        assert_eq!(preset("image/other"), codec(64, vec![1, 2]));
        let deep: Deep = KEYS.preset("codec.deep", "image/other");
        assert_eq!(deep.sizes, [1, 2]);
        assert_eq!(KEYS.default::<Vec<usize>>("codec.deep.sizes"), [1, 2]);
    }

    #[test]
    #[should_panic(expected = "keys.toml declares no key `codec.depth`")]
    fn a_default_must_be_declared() {
        KEYS.default::<usize>("codec.depth");
    }
}
