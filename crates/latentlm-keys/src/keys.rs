//! [`Keys`]: all keys of a recipe, and the check of values against them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::key::{Key, Kind, found};
use crate::text::{one_line, shown};

/// Largest edit distance between an unknown key and the key that the error message suggests.
const NEAR: usize = 3;
/// Largest number of keys that a message suggests.
const MOST_HINTS: usize = 3;

/// An unknown key, or a value that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The recipe has no such key.
    #[error("unknown key `{key}`{hint}")]
    Unknown {
        /// The dotted key.
        key: String,
        /// `; did you mean ...?`, or a list of the known keys.
        hint: String,
    },
    /// A value of the wrong type or out of range.
    #[error("`{key}` must be {expected}, not {found}")]
    Value {
        /// The dotted key.
        key: String,
        /// The allowed values.
        expected: String,
        /// The given value.
        found: String,
    },
}

/// All keys of a recipe.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keys {
    keys: BTreeMap<String, Key>,
    /// Tables without keys.
    tables: BTreeSet<String>,
    /// Tables of parts that declare no keys. Any key is accepted in them.
    open: Vec<String>,
    /// Files of a folder that together make a recipe, in the order in which they are applied.
    files: Vec<String>,
}

impl Keys {
    /// Checks a value for a key.
    ///
    /// # Errors
    /// If there is no such key, or the value is not allowed.
    pub fn check(&self, key: &str, value: &Value) -> Result<(), KeyError> {
        let mut words = key.rsplit('.');
        let last = words.next().unwrap_or_default();
        let innermost = Table::from_iter([(last.to_owned(), value.clone())]);
        let table = words.fold(innermost, |table, word| {
            Table::from_iter([(word.to_owned(), Value::Table(table))])
        });
        self.lay(&mut Table::new(), table)
    }

    /// Checks every value of a table.
    ///
    /// # Errors
    /// With the first unknown key or wrong value.
    pub fn check_all(&self, table: &Table) -> Result<(), KeyError> {
        self.lay(&mut Table::new(), table.clone())
    }

    /// A key by its dotted name.
    pub fn get(&self, key: &str) -> Option<&Key> {
        self.keys.get(key)
    }

    /// All keys with their dotted names, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Key)> {
        self.keys.iter().map(|(name, key)| (name.as_str(), key))
    }

    /// A recipe with the default of every key.
    pub fn default_table(&self) -> Table {
        let mut all = Table::new();
        for (name, key) in &self.keys {
            insert(&mut all, name, key.default.clone());
        }
        all
    }

    /// The default recipe, which files and overrides then change. `parts` holds tables whose defaults come
    /// from the parts themselves; a part without key tables has no other defaults.
    ///
    /// # Panics
    /// If the key tables and the Rust type disagree. This is a bug in the code or a table, never an error of
    /// the user.
    pub fn preset<T: DeserializeOwned>(&self, parts: &impl Serialize) -> T {
        let made = Table::try_from(parts).map_err(|e| e.to_string());
        let made = made.and_then(|parts| {
            let mut table = self.default_table();
            cover(&mut table, parts);
            Value::Table(table).try_into().map_err(|e| e.to_string())
        });
        match made {
            Ok(preset) => preset,
            Err(message) => panic!("the tables of keys do not fit the recipe: {message}"),
        }
    }

    /// The paths in a recipe, each with its key. Empty paths are left out.
    pub fn paths(&self, recipe: &Table) -> Vec<(String, String)> {
        let mut paths = Vec::new();
        for (name, key) in &self.keys {
            if is_path(key.kind)
                && let Some(path) = lookup(recipe, name).and_then(Value::as_str)
                && !path.is_empty()
            {
                paths.push((name.clone(), path.to_owned()));
            }
        }
        paths
    }

    /// The files of a folder that together make a recipe, in order. Empty if a recipe is a single file.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Adds a key for each value of `preset` that no table declares; its type is that of the value. The
    /// preset has all keys, so no table is open any more.
    pub fn completed(&self, preset: &Table) -> Self {
        let mut all = self.clone();
        all.infer("", preset);
        all.open.clear();
        all
    }

    fn infer(&mut self, prefix: &str, preset: &Table) {
        for (name, value) in preset {
            let path = joined(prefix, name);
            match value {
                Value::Table(inner) => {
                    self.infer(&path, inner);
                    self.tables.insert(path);
                }
                value => {
                    self.keys.entry(path).or_insert_with(|| Key::like(value));
                }
            }
        }
    }

    /// Adds the keys that a file lacks because it is older than they are ([`Key::earlier`]).
    pub(crate) fn complete_earlier(&self, file: &mut Table) {
        for (name, key) in &self.keys {
            let Some(value) = &key.earlier else {
                continue;
            };
            // The keys that were there from the beginning: several may have been added since.
            let first = self
                .keys
                .iter()
                .filter(|(other, key)| table_of(other) == table_of(name) && key.earlier.is_none());
            let first: Vec<&String> = first.map(|(other, _)| other).collect();
            let has = |name: &String| lookup(file, name).is_some();
            let is_complete = !first.is_empty() && first.into_iter().all(has);
            if is_complete && !has(name) {
                insert(file, name, value.clone());
            }
        }
    }

    /// Overwrites values of `base` with those of `over`, and checks each.
    ///
    /// # Errors
    /// With the first unknown key or wrong value. The values before it have been written to `base`.
    pub fn lay(&self, base: &mut Table, over: Table) -> Result<(), KeyError> {
        self.lay_below("", base, over)
    }

    fn lay_below(&self, prefix: &str, base: &mut Table, over: Table) -> Result<(), KeyError> {
        for (name, value) in over {
            let path = joined(prefix, &name);
            if let Some(key) = self.keys.get(&path) {
                let fitted = key.fit(&value);
                let fitted = fitted.ok_or_else(|| misfit(&path, key.expected(), &value))?;
                base.insert(name, fitted);
            } else if self.is_table(&path) {
                let Some(inner) = value.as_table() else {
                    return Err(misfit(&path, "a table".into(), &value));
                };
                let slot = base
                    .entry(name)
                    .or_insert_with(|| Value::Table(Table::new()));
                if let Value::Table(slot) = slot {
                    self.lay_below(&path, slot, inner.clone())?;
                }
            } else if self.is_open(&path) {
                base.insert(name, value);
            } else {
                return Err(self.unknown(&path));
            }
        }
        Ok(())
    }

    fn is_table(&self, path: &str) -> bool {
        let below = |name: &String| is_below(name, path);
        let open = |name: &String| name == path || below(name);
        self.tables.contains(path) || self.keys.keys().any(below) || self.open.iter().any(open)
    }

    fn is_open(&self, path: &str) -> bool {
        let mut open = self.open.iter();
        open.any(|table| table == path || is_below(path, table))
    }

    fn unknown(&self, path: &str) -> KeyError {
        let (table, name) = path.rsplit_once('.').unwrap_or(("", path));
        let mut known: Vec<&str> = Vec::new();
        for other in self.keys.keys().chain(&self.tables).chain(&self.open) {
            let inside = match table {
                "" => Some(other.as_str()),
                table if is_below(other, table) => other.get(table.len() + 1..),
                _ => None,
            };
            known.extend(inside.and_then(|rest| rest.split('.').next()));
        }
        known.sort_unstable();
        known.dedup();
        let near = known.iter().map(|other| (distance(name, other), *other));
        let near = near.min().filter(|(letters, _)| *letters <= NEAR);
        let elsewhere = self.same_word(table, name);
        let hint = match near {
            // A word that differs by more than a letter is a weaker guess than the same word elsewhere.
            Some((letters, other)) if letters <= 1 || elsewhere.is_empty() => {
                format!("; did you mean `{}`?", joined(table, other))
            }
            _ if !elsewhere.is_empty() => format!("; did you mean {}?", elsewhere.join(" or ")),
            _ => format!("; known here: {}", known.join(", ")),
        };
        let key = shown(path);
        KeyError::Unknown { key, hint }
    }

    /// The keys whose last word is `name`, in backquotes. If there are several, those whose beginning is most
    /// similar to `table`: `lm_train.steps` for `lm` and `steps`. Empty if there are too many.
    fn same_word(&self, table: &str, name: &str) -> Vec<String> {
        let alike = |key: &str| {
            let pairs = key.chars().zip(table.chars());
            pairs.take_while(|(a, b)| a == b).count()
        };
        let keys = self.keys.keys().map(String::as_str);
        let found: Vec<&str> = keys
            .filter(|key| key.rsplit('.').next() == Some(name))
            .collect();
        let most = found.iter().map(|key| alike(key)).max().unwrap_or(0);
        let nearest = found.iter().filter(|key| alike(key) == most);
        let nearest: Vec<String> = nearest.map(|key| format!("`{key}`")).collect();
        if nearest.len() > MOST_HINTS {
            return Vec::new();
        }
        nearest
    }

    /// Adds the keys of a table file below the table `at`.
    pub(crate) fn declare(&mut self, at: &str, table: Table) -> Result<(), String> {
        for (name, value) in table {
            let path = joined(at, &name);
            let Value::Table(inner) = value else {
                return Err(format!(
                    "`{path}` is neither a key with its `type` nor a table"
                ));
            };
            if !inner.get("type").is_some_and(Value::is_str) {
                self.declare(&path, inner)?;
                continue;
            }
            let key: Key = Value::Table(inner)
                .try_into()
                .map_err(|e: toml::de::Error| format!("`{path}`: {}", one_line(e.message())))?;
            self.add(path, key)?;
        }
        Ok(())
    }

    fn add(&mut self, path: String, mut key: Key) -> Result<(), String> {
        if key.help.trim().is_empty() || key.help.contains('\n') {
            return Err(format!("`{path}`: `help` must be one line"));
        }
        let fitted = key.fit(&key.default);
        let misfit = || misfit(&path, key.expected(), &key.default);
        key.default = fitted.ok_or_else(|| format!("the default of {}", misfit()))?;
        if self.keys.contains_key(&path) {
            return Err(format!("`{path}` is declared twice"));
        }
        self.keys.insert(path, key);
        Ok(())
    }

    /// Adds other keys below the table `at`.
    pub(crate) fn include(&mut self, at: &str, other: Self) -> Result<(), String> {
        for (name, key) in other.keys {
            self.add(joined(at, &name), key)?;
        }
        self.open_tables(at, &other.open);
        Ok(())
    }

    /// Opens the tables of a part that declares no keys: any key is accepted in them.
    pub(crate) fn open_tables(&mut self, at: &str, tables: &[String]) {
        self.open
            .extend(tables.iter().map(|table| joined(at, table)));
    }

    /// Sets the files of a folder that together make a recipe.
    pub(crate) fn set_files(&mut self, files: Vec<String>) {
        self.files = files;
    }

    /// Changes defaults. Values without a key are ignored: they may belong to a part that a fork has
    /// replaced.
    pub(crate) fn set_defaults(&mut self, values: &Table) -> Result<(), KeyError> {
        for (name, key) in &mut self.keys {
            if let Some(value) = lookup(values, name) {
                let fitted = key.fit(value);
                key.default = fitted.ok_or_else(|| misfit(name, key.expected(), value))?;
            }
        }
        Ok(())
    }
}

fn is_path(kind: Kind) -> bool {
    matches!(kind, Kind::Path | Kind::OptionalPath)
}

fn misfit(path: &str, expected: String, value: &Value) -> KeyError {
    KeyError::Value {
        key: shown(path),
        expected,
        found: found(value),
    }
}

fn joined(table: &str, name: &str) -> String {
    match (table, name) {
        ("", name) => name.into(),
        (table, "") => table.into(),
        (table, name) => format!("{table}.{name}"),
    }
}

fn is_below(path: &str, table: &str) -> bool {
    let rest = path.strip_prefix(table);
    rest.is_some_and(|rest| rest.starts_with('.'))
}

/// The value of a dotted key.
pub fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let (tables, last) = key.rsplit_once('.').unwrap_or(("", key));
    let mut inside = table;
    for name in tables.split('.').filter(|name| !name.is_empty()) {
        inside = inside.get(name)?.as_table()?;
    }
    inside.get(last)
}

/// The table of a key; empty for a key outside of all tables.
fn table_of(key: &str) -> &str {
    key.rsplit_once('.').map_or("", |(table, _)| table)
}

/// Sets the value of a dotted key.
fn insert(table: &mut Table, key: &str, value: Value) {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return;
    };
    let inside = table
        .entry(first)
        .or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inside) = inside {
        insert(inside, rest, value);
    }
}

/// Overwrites values of `base` with those of `over`, without checks.
fn cover(base: &mut Table, over: Table) {
    for (name, value) in over {
        match (base.get_mut(&name), value) {
            (Some(Value::Table(slot)), Value::Table(inner)) => cover(slot, inner),
            (_, value) => {
                base.insert(name, value);
            }
        }
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let steps = "{ type = \"integer\", default = 1, help = \"Steps\" }";
        let mut text = String::new();
        for table in ["codec_train", "lm_train", "sample"] {
            text += &format!("[{table}]\nsteps = {steps}\n");
        }
        text += &format!("[lm]\nwidth = {steps}\nstep = {steps}\n[data]\nstop = {steps}\n");
        Keys::parse(&text).unwrap()
    }

    #[test]
    fn a_key_of_another_table_is_found_by_its_last_word() {
        let mut keys = keys();
        let told = |keys: &Keys, key: &str| keys.unknown(key).to_string();
        // One letter is nearer than the same word in another table.
        let near = "unknown key `lm.steps`; did you mean `lm.step`?";
        assert_eq!(told(&keys, "lm.steps"), near);
        keys.keys.remove("lm.step");
        for (key, hint) in [
            ("lm.steps", "did you mean `lm_train.steps`?"),
            // Two letters from `data.stop`.
            (
                "data.steps",
                "did you mean `codec_train.steps` or `lm_train.steps` or `sample.steps`?",
            ),
            (
                "steps",
                "did you mean `codec_train.steps` or `lm_train.steps` or `sample.steps`?",
            ),
            ("lm.widht", "did you mean `lm.width`?"),
            ("lm.colour", "known here: width"),
        ] {
            let told = told(&keys, key);
            assert_eq!(told, format!("unknown key `{key}`; {hint}"));
        }
    }
}
