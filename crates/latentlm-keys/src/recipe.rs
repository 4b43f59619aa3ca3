//! Builds a recipe from a preset, a file and `key=value` overrides.
//!
//! Burn's derived `Config` requires every key in a file and silently accepts misspelt ones. So a recipe is
//! built in three steps instead: start from a preset that has every key, apply the file, apply the overrides
//! of the command line. Each key is checked against the key tables when it is applied.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::error::RecipeError;
use crate::keys::Keys;
use crate::overrides;
use crate::text::{one_line, shown};

/// Largest size of a file in bytes. Recipes have some thousand.
const MOST_BYTES: u64 = 1 << 20;

/// The text of a recipe's file. What is larger, or has no end, is none.
pub(crate) fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut file = File::open(path)?.take(MOST_BYTES + 1);
    file.read_to_string(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        let reason = format!("it has more than {MOST_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(text)
}

/// Builds a configuration: `preset`, changed by the file, then by the overrides. An override is
/// `a.b=value` with a value in TOML; bare words are taken as text. `file` may be a folder if
/// [`Keys::files`] lists the files in it.
///
/// # Errors
/// If a file can't be read or parsed, a key is unknown, or a value is not allowed.
pub fn resolve<T>(
    preset: &T,
    keys: &Keys,
    file: Option<&Path>,
    overrides: &[String],
) -> Result<T, RecipeError>
where
    T: Serialize + DeserializeOwned,
{
    let base = to_table(preset)?;
    let keys = keys.completed(&base);
    let table = lay(&keys, base, Path::new(""), file, overrides)?;
    Value::Table(table)
        .try_into()
        .map_err(|error: toml::de::Error| RecipeError::Invalid {
            origin: file.map_or_else(|| "recipe".into(), |path| path.display().to_string()),
            message: one_line(error.message()),
        })
}

/// Applies a file and overrides to the table of a recipe, and checks each key. A relative `file` is resolved
/// against `root`; error messages show it as it was given.
///
/// # Errors
/// As [`resolve`].
pub fn lay(
    keys: &Keys,
    mut base: Table,
    root: &Path,
    file: Option<&Path>,
    overrides: &[String],
) -> Result<Table, RecipeError> {
    let files: Vec<PathBuf> = match file {
        Some(folder) if !keys.files().is_empty() && root.join(folder).is_dir() => {
            keys.files().iter().map(|name| folder.join(name)).collect()
        }
        Some(file) => vec![file.to_owned()],
        None => Vec::new(),
    };
    for path in files {
        let text = text_of(&root.join(&path)).map_err(|source| RecipeError::Read {
            path: path.clone(),
            source,
        })?;
        let origin = path.display().to_string();
        let mut table = parse(&text, &origin)?;
        keys.complete_earlier(&mut table);
        keys.lay(&mut base, table)
            .map_err(|error| RecipeError::Key { origin, error })?;
    }
    for text in overrides {
        let table = overrides::parse(text).map_err(|error| error.with_example(keys))?;
        keys.lay(&mut base, table)
            .map_err(|error| RecipeError::Key {
                origin: format!("override `{}`", shown(text)),
                error,
            })?;
    }
    Ok(base)
}

/// Checks every value of a configuration against the keys.
///
/// # Errors
/// With the first unknown key or wrong value.
pub fn check<T: Serialize>(config: &T, keys: &Keys) -> Result<(), RecipeError> {
    let table = to_table(config)?;
    keys.completed(&table)
        .check_all(&table)
        .map_err(|error| RecipeError::Key {
            origin: "recipe".into(),
            error,
        })
}

/// Serializes a configuration to TOML.
///
/// # Errors
/// If TOML can't represent a value, such as `None`.
pub fn to_toml<T: Serialize>(config: &T) -> Result<String, RecipeError> {
    toml::to_string(config).map_err(unwritable)
}

fn to_table<T: Serialize>(config: &T) -> Result<Table, RecipeError> {
    Table::try_from(config).map_err(unwritable)
}

fn unwritable(error: toml::ser::Error) -> RecipeError {
    RecipeError::Invalid {
        origin: "configuration".into(),
        message: one_line(&error.to_string()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overrides::MOST_DOTS;
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
        resolve(&preset(), &Keys::default(), None, &list)
    }

    #[test]
    fn file_then_overrides() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("r.toml");
        std::fs::write(&file, "name = \"b\"\n[inner]\nsteps = 3\nrate = 1\n").unwrap();
        let got = resolve(
            &preset(),
            &Keys::default(),
            Some(&file),
            &["inner.steps=4".into()],
        )
        .unwrap();
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

    /// A file with all keys that were there from the beginning is older than a key; one with some relies on the default.
    #[test]
    fn files_that_are_older_than_a_key_have_its_earlier_value() {
        // `least` came later still, and no file here has it.
        let keys = "[inner]
            steps = { type = \"integer\", default = 10, earlier = 0, help = \"Steps\" }
            least = { type = \"integer\", default = 10, earlier = 0, help = \"Least\" }
            rate = { type = \"number\", default = 0.5, help = \"Rate\" }";
        let keys = Keys::parse(keys).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("r.toml");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            resolve(&preset(), &keys, Some(&file), &[]).unwrap().inner
        };
        for (text, steps, rate) in [
            ("name = \"b\"", 10, 0.5),
            ("[inner]\nrate = 2.0", 0, 2.0),
            ("[inner]\nrate = 2.0\nsteps = 3", 3, 2.0),
            ("[inner]\nsteps = 3", 3, 0.5),
        ] {
            assert_eq!(read(text), Inner { steps, rate }, "{text}");
        }
        let change = ["inner.rate=2.0".to_owned()];
        let got = resolve(&preset(), &keys, None, &change).unwrap();
        assert_eq!(got.inner.steps, 10, "overrides are no file");
    }

    /// The same outside of all tables, whatever the tables have.
    #[test]
    fn keys_outside_of_tables_have_earlier_values_too() {
        let keys = "early = { type = \"integer\", default = 1, help = \"Early\" }
            late = { type = \"integer\", default = 10, earlier = 0, help = \"Late\" }
            [inner]
            rate = { type = \"number\", default = 0.5, help = \"Rate\" }";
        let keys = Keys::parse(keys).unwrap();
        for (text, late) in [
            ("early = 2", Some(0)),
            ("early = 2\nlate = 3", Some(3)),
            ("[inner]\nrate = 2.0", None),
        ] {
            let mut table: Table = text.parse().unwrap();
            keys.complete_earlier(&mut table);
            let found = table.get("late").and_then(Value::as_integer);
            assert_eq!(found, late, "{text}");
        }
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
            (
                "inner.steps=word",
                "`inner.steps` must be a whole number, not \"word\"",
            ),
            ("inner.steps=-1", "invalid value"),
            ("inner=3", "`inner` must be a table, not 3"),
            (
                "inner.rate=nan",
                "`inner.rate` must be a finite number, not nan",
            ),
            ("steps", "not of the form key=value"),
            ("=3", "not of the form key=value"),
        ];
        for (text, part) in cases {
            let message = overrides(&[text]).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
            assert!(!message.contains('\n'), "{text}: {message}");
        }
    }

    /// A comparison has the keys of a model in a table.
    #[test]
    fn the_example_of_an_override_is_a_key_of_the_recipe() {
        let steps = "lm_train.steps = { type = \"integer\", default = 1, help = \"Steps\" }";
        for (keys, example) in [
            (steps.to_owned(), "key=value, e.g. lm_train.steps=200"),
            (
                format!("[image]\n{steps}"),
                "key=value, e.g. image.lm_train.steps=200",
            ),
            (String::new(), "key=value"),
        ] {
            let keys = Keys::parse(&keys).unwrap();
            let laid = lay(&keys, Table::new(), Path::new(""), None, &["steps".into()]);
            let message = laid.unwrap_err().to_string();
            assert!(message.ends_with(example), "{message}");
        }
    }

    #[test]
    fn ranges_hold_in_files_and_overrides_and_name_both() {
        let keys = Keys::parse(
            "[inner]\nsteps = { type = \"integer\", default = 1, min = 1, max = 99, help = \"Steps\" }",
        );
        let keys = keys.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("r.toml");
        std::fs::write(&file, "[inner]\nsteps = 100\n").unwrap();
        let message = resolve(&preset(), &keys, Some(&file), &[]).unwrap_err();
        let message = message.to_string();
        let end = "r.toml: `inner.steps` must be a whole number from 1 to 99, not 100";
        assert!(message.ends_with(end), "{message}");
        let change = ["inner.steps=0".to_owned()];
        let message = resolve(&preset(), &keys, None, &change).unwrap_err();
        assert_eq!(
            message.to_string(),
            "override `inner.steps=0`: `inner.steps` must be a whole number from 1 to 99, not 0"
        );
        let mut config = preset();
        check(&config, &keys).unwrap();
        config.inner.steps = 0;
        let message = check(&config, &keys).unwrap_err().to_string();
        assert!(
            message.starts_with("recipe: `inner.steps` must be"),
            "{message}"
        );
        // An undeclared key gets the type of its value.
        let change = ["inner.rate=2".to_owned(), "inner.steps=9".to_owned()];
        let got = resolve(&preset(), &keys, None, &change).unwrap();
        assert_eq!(
            got.inner,
            Inner {
                steps: 9,
                rate: 2.0
            }
        );
    }

    #[test]
    fn a_folder_is_a_recipe_where_its_files_are_known() {
        let keys = Keys::parse("files = [\"a.toml\", \"b.toml\"]").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("a.toml"),
            "name = \"a\"\n[inner]\nsteps = 1\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("b.toml"), "name = \"b\"\n").unwrap();
        let got = resolve(&preset(), &keys, Some(dir.path()), &[]).unwrap();
        assert_eq!((got.name.as_str(), got.inner.steps), ("b", 1));
        std::fs::remove_file(dir.path().join("b.toml")).unwrap();
        let message = resolve(&preset(), &keys, Some(dir.path()), &[]).unwrap_err();
        assert!(message.to_string().contains("b.toml"), "{message}");
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
        let start = "override `inner.\\u{1b}[2J=4`: a key is words";
        assert!(message.starts_with(start), "{message}");
        let message = overrides(&["inner.rate=\u{1b}[2J"])
            .unwrap_err()
            .to_string();
        assert!(!message.contains(char::is_control), "{message}");
    }

    #[test]
    fn a_file_larger_than_any_recipe_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("r.toml");
        let read = |text: String| {
            std::fs::write(&file, text).unwrap();
            resolve(&preset(), &Keys::default(), Some(&file), &[])
        };
        let lines = "\n".repeat(MOST_BYTES as usize);
        assert_eq!(read(lines.clone()).unwrap(), preset());
        let message = read(lines + "\n").unwrap_err().to_string();
        assert!(
            message.contains("it has more than 1048576 bytes"),
            "{message}"
        );
    }

    #[test]
    fn syntax_errors_name_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("r.toml");
        std::fs::write(&file, "name = \"b\"\n[inner\n").unwrap();
        let message = resolve(&preset(), &Keys::default(), Some(&file), &[])
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
