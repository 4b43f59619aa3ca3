//! Recipes: a complete configuration out of a preset, a file and `key=value` overrides.
//!
//! Burn's derived `Config` demands every field and silently accepts misspelt ones, which makes
//! recipes both long and dangerous. Here a value is built in three moves: start from a preset that
//! has every key, lay the file's TOML over it, lay the command line's overrides over that. A key
//! that the preset lacks is an error, with the nearest known key in the message.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Most dots in the key of an override. Recipes nest three deep; without a limit a key of thousands of
/// dots becomes tables nested so deep that dropping them overflows the stack.
const MOST_DOTS: usize = 16;
/// Characters of an override that a message shows.
const SHOWN_CHARACTERS: usize = 120;

/// What can be wrong with a recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file can't be read.
    #[error("cannot read the recipe {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{origin} is not valid TOML: {message}")]
    Syntax {
        /// File or override.
        origin: String,
        /// The parser's message, on one line.
        message: String,
    },
    /// A key that no recipe of this kind has.
    #[error("{origin}: unknown key `{key}`{hint}")]
    UnknownKey {
        /// File or override.
        origin: String,
        /// The dotted key.
        key: String,
        /// `; did you mean ...?` or nothing.
        hint: String,
    },
    /// A value of another type than the preset's.
    #[error("{origin}: `{key}` must be {expected}, not {found}")]
    WrongType {
        /// File or override.
        origin: String,
        /// The dotted key.
        key: String,
        /// Type of the preset's value.
        expected: &'static str,
        /// Type that was given.
        found: &'static str,
    },
    /// An override that is not `key=value`.
    #[error("override `{0}` is not of the form key=value, e.g. lm_train.steps=200")]
    NotKeyValue(String),
    /// An override whose key is nested deeper than any recipe.
    #[error("{origin}: a key has at most {most} dots, not {dots}", most = MOST_DOTS)]
    DeepKey {
        /// The override.
        origin: String,
        /// Dots of its key.
        dots: usize,
    },
    /// A value that the configuration refuses (an unknown name of a choice, a negative size).
    #[error("{origin}: {message}")]
    Invalid {
        /// File or overrides.
        origin: String,
        /// What is wrong.
        message: String,
    },
}

/// Builds a configuration: `preset`, then the file's keys, then the overrides (`a.b=value`, the
/// value in TOML; bare words are taken as strings).
///
/// # Errors
/// If the file can't be read or parsed, or a key or a value does not fit the preset.
pub fn resolve<T>(preset: &T, file: Option<&Path>, overrides: &[String]) -> Result<T, RecipeError>
where
    T: Serialize + DeserializeOwned,
{
    let mut tree = to_table(preset)?;
    let mut origin = String::from("the preset");
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|source| RecipeError::Read {
            path: path.to_owned(),
            source,
        })?;
        origin = path.display().to_string();
        overlay(&mut tree, parse(&text, &origin)?, "", &origin)?;
    }
    for text in overrides {
        let origin = format!("override `{}`", shown(text));
        overlay(&mut tree, parse_override(text)?, "", &origin)?;
    }
    if !overrides.is_empty() {
        origin = format!("{origin} with overrides");
    }
    Value::Table(tree)
        .try_into()
        .map_err(|e: toml::de::Error| RecipeError::Invalid {
            origin,
            message: one_line(e.message()),
        })
}

/// Writes a configuration as TOML.
///
/// # Errors
/// If a value has no TOML form (a `None`).
pub fn to_toml<T: Serialize>(config: &T) -> Result<String, RecipeError> {
    toml::to_string(config).map_err(|e| RecipeError::Invalid {
        origin: "configuration".into(),
        message: one_line(&e.to_string()),
    })
}

fn to_table<T: Serialize>(preset: &T) -> Result<Table, RecipeError> {
    Table::try_from(preset).map_err(|e| RecipeError::Invalid {
        origin: "the preset".into(),
        message: one_line(&e.to_string()),
    })
}

fn parse(text: &str, origin: &str) -> Result<Table, RecipeError> {
    text.parse::<Table>().map_err(|e| RecipeError::Syntax {
        origin: origin.to_owned(),
        message: syntax_message(text, &e),
    })
}

fn syntax_message(text: &str, error: &toml::de::Error) -> String {
    let message = one_line(error.message());
    match error.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or_default();
            format!("line {}: {message}", before.matches('\n').count() + 1)
        }
        None => message,
    }
}

fn parse_override(text: &str) -> Result<Table, RecipeError> {
    let (key, value) = text
        .split_once('=')
        .filter(|(key, _)| !key.trim().is_empty())
        .ok_or_else(|| RecipeError::NotKeyValue(shown(text)))?;
    let dots = key.matches('.').count();
    if dots > MOST_DOTS {
        let origin = format!("override `{}`", shown(text));
        return Err(RecipeError::DeepKey { origin, dots });
    }
    let parsed = format!("value = {}", value.trim())
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(value.trim().to_owned()));
    let mut parts = key.trim().rsplit('.');
    let last = parts.next().unwrap_or_default();
    let mut table = Table::from_iter([(last.to_owned(), parsed)]);
    for part in parts {
        table = Table::from_iter([(part.to_owned(), Value::Table(table))]);
    }
    Ok(table)
}

fn overlay(base: &mut Table, over: Table, prefix: &str, origin: &str) -> Result<(), RecipeError> {
    for (key, value) in over {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        let Some(slot) = base.get_mut(&key) else {
            return Err(RecipeError::UnknownKey {
                origin: origin.to_owned(),
                hint: hint(&key, base, prefix),
                key: shown(&path),
            });
        };
        match (slot, value) {
            (Value::Table(slot), Value::Table(value)) => overlay(slot, value, &path, origin)?,
            // A whole number where the preset has a fraction is what people write.
            (slot @ Value::Float(_), Value::Integer(value)) => *slot = Value::Float(value as f64),
            (slot, value) if slot.same_type(&value) => *slot = value,
            (slot, value) => {
                return Err(RecipeError::WrongType {
                    origin: origin.to_owned(),
                    key: path,
                    expected: slot.type_str(),
                    found: value.type_str(),
                });
            }
        }
    }
    Ok(())
}

fn hint(key: &str, known: &Table, prefix: &str) -> String {
    let nearest = known
        .keys()
        .map(|candidate| (distance(key, candidate), candidate))
        .min();
    match nearest {
        Some((d, candidate)) if d <= 3 => {
            let dot = if prefix.is_empty() { "" } else { "." };
            format!("; did you mean `{prefix}{dot}{candidate}`?")
        }
        _ => format!(
            "; known here: {}",
            known.keys().cloned().collect::<Vec<_>>().join(", ")
        ),
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

/// The beginning of an override, its control characters written out.
fn shown(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN_CHARACTERS {
            return out + "...";
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Outer {
        name: String,
        inner: Inner,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Inner {
        steps: usize,
        rate: f64,
    }

    fn preset() -> Outer {
        Outer {
            name: "a".into(),
            inner: Inner {
                steps: 10,
                rate: 0.5,
            },
        }
    }

    fn overrides(list: &[&str]) -> Result<Outer, RecipeError> {
        let list: Vec<String> = list.iter().map(ToString::to_string).collect();
        resolve(&preset(), None, &list)
    }

    #[test]
    fn file_then_overrides() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("r.toml");
        std::fs::write(&file, "name = \"b\"\n[inner]\nsteps = 3\nrate = 1\n").unwrap();
        let got = resolve(&preset(), Some(&file), &["inner.steps=4".into()]).unwrap();
        assert_eq!(
            got,
            Outer {
                name: "b".into(),
                inner: Inner {
                    steps: 4,
                    rate: 1.0
                }
            }
        );
    }

    #[test]
    fn bare_words_are_strings() {
        assert_eq!(overrides(&["name=two"]).unwrap().name, "two");
    }

    #[test]
    fn misspelt_key_is_named_with_a_hint() {
        let message = overrides(&["inner.stepz=4"]).unwrap_err().to_string();
        assert!(message.contains("unknown key `inner.stepz`"), "{message}");
        assert!(message.contains("did you mean `inner.steps`?"), "{message}");
    }

    #[test]
    fn wrong_values_are_refused() {
        let cases = [
            ("inner.steps=word", "must be integer, not string"),
            ("inner.steps=-1", "invalid value"),
            ("inner=3", "must be table, not integer"),
            ("steps", "not of the form key=value"),
            ("=3", "not of the form key=value"),
        ];
        for (text, part) in cases {
            let message = overrides(&[text]).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
            assert!(!message.contains('\n'), "{text}: {message}");
        }
    }

    #[test]
    fn a_key_of_many_dots_is_refused() {
        let deep = |dots: usize| format!("inner{}=1", ".a".repeat(dots));
        let known = overrides(&[&deep(MOST_DOTS)]).unwrap_err().to_string();
        assert!(known.contains("unknown key `inner.a`"), "{known}");
        let message = overrides(&[&deep(60_000)]).unwrap_err().to_string();
        assert!(message.contains("at most 16 dots, not 60000"), "{message}");
        assert!(message.len() < 300, "{} bytes", message.len());
    }

    #[test]
    fn control_characters_are_written_out() {
        let message = overrides(&["inner.\u{1b}[2J=4"]).unwrap_err().to_string();
        let start = "override `inner.\\u{1b}[2J=4`: unknown key `inner.\\u{1b}[2J`";
        assert!(message.starts_with(start), "{message}");
    }

    #[test]
    fn syntax_errors_name_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("r.toml");
        std::fs::write(&file, "name = \"b\"\n[inner\n").unwrap();
        let message = resolve(&preset(), Some(&file), &[])
            .unwrap_err()
            .to_string();
        assert!(message.contains("line 2"), "{message}");
    }

    #[test]
    fn resolved_config_reads_back() {
        let text = to_toml(&preset()).unwrap();
        assert_eq!(toml::from_str::<Outer>(&text).unwrap(), preset());
    }
}
