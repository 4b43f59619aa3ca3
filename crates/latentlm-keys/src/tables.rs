//! Reads key tables and the tables that they include.
//!
//! A part's table is the file `keys.toml` in its folder; a crate with several tables has a folder `keys`.
//! A file declares keys. Before them may stand:
//!
//! ```toml
//! recipe = "image/mnist"     # name of the presets that apply, in this file and in included ones
//! files = ["a.toml"]         # files of a folder that together make a recipe
//! include = [
//!   # keys.toml of a part; without it, the tables `codec` and `codec_loss` accept any key
//!   { from = "latentlm-codec-image", serves = ["codec", "codec_loss"] },
//!   # keys/stage.toml of a crate; its keys are put below the table `lm_train`
//!   { from = "latentlm-pipelines/stage", at = "lm_train" },
//! ]
//!
//! [lm]
//! batch_mul = { type = "integer", default = 1, min = 1, max = 1024, help = "Noise samples per latent" }
//!
//! [presets."image/mnist".lm] # different defaults for a shipped recipe
//! batch_mul = 4
//! ```

use serde::Deserialize;
use toml::{Table, Value};

use crate::keys::Keys;
use crate::text::one_line;

/// Largest depth of includes. Files that include each other in a circle exceed it.
const DEEPEST: usize = 8;

/// An invalid table file. This is a mistake of the part's author, not of the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table of keys `{table}`: {reason}")]
pub struct TableError {
    /// The file, as an `include` names it.
    pub table: String,
    /// What is wrong.
    pub reason: String,
}

impl TableError {
    /// An error in a table file.
    pub fn new(table: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            table: table.into(),
            reason: reason.into(),
        }
    }
}

/// Reads a table file by name: `package` or `package/file`. Returns `None` if there is no such file.
pub type ReadTable<'a> = dyn Fn(&str) -> Result<Option<String>, TableError> + 'a;

/// The settings of a table file before its keys.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Head {
    recipe: Option<String>,
    files: Vec<String>,
    include: Vec<Include>,
    presets: Table,
}

impl Head {
    const KEYS: [&str; 4] = ["recipe", "files", "include", "presets"];
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Include {
    from: String,
    /// The table below which the keys are put.
    #[serde(default)]
    at: String,
    /// The part's tables. They accept any key if the part declares none.
    #[serde(default)]
    serves: Vec<String>,
}

/// Reads the keys of a table file and of all files that it includes.
///
/// # Errors
/// If a file can't be read or is invalid.
fn read(table: &str, read: &ReadTable<'_>) -> Result<Keys, TableError> {
    let text = read(table)?.ok_or_else(|| TableError::new(table, "there is no such file"))?;
    let reader = Reader { read, depth: 0 };
    reader.keys(table, &text, None)
}

struct Reader<'a> {
    read: &'a ReadTable<'a>,
    depth: usize,
}

impl Reader<'_> {
    fn keys(&self, table: &str, text: &str, preset: Option<&str>) -> Result<Keys, TableError> {
        let wrong = |reason: String| TableError::new(table, reason);
        if self.depth > DEEPEST {
            return Err(wrong("includes itself".into()));
        }
        let mut own: Table = text
            .parse()
            .map_err(|e: toml::de::Error| wrong(one_line(&e.to_string())))?;
        let head = Head::KEYS.map(|name| own.remove_entry(name));
        let head = Table::from_iter(head.into_iter().flatten());
        let head: Head = Value::Table(head)
            .try_into()
            .map_err(|e: toml::de::Error| wrong(one_line(e.message())))?;
        let preset = head.recipe.as_deref().or(preset);
        let mut keys = Keys::default();
        let inner = Reader {
            read: self.read,
            depth: self.depth + 1,
        };
        for Include { from, at, serves } in &head.include {
            match (self.read)(from)? {
                Some(text) => keys
                    .include(at, inner.keys(from, &text, preset)?)
                    .map_err(wrong)?,
                None => keys.open_tables(at, serves),
            }
        }
        keys.set_files(head.files);
        keys.declare("", own).map_err(wrong)?;
        let presets = preset.and_then(|recipe| head.presets.get(recipe));
        if let Some(values) = presets.and_then(Value::as_table) {
            keys.set_defaults(values)
                .map_err(|error| wrong(error.to_string()))?;
        }
        Ok(keys)
    }
}

impl Keys {
    /// Parses one table file without includes.
    ///
    /// ```
    /// use latentlm_keys::{Keys, Value};
    ///
    /// let keys = Keys::parse(
    ///     r#"
    ///     [lm]
    ///     width = { type = "integer", default = 128, min = 1, max = 65536, help = "Width of the model" }
    ///     "#,
    /// )?;
    /// assert_eq!(keys.default_table()["lm"]["width"], Value::Integer(128));
    /// assert!(keys.check("lm.width", &Value::Integer(96)).is_ok());
    /// let zero = keys.check("lm.width", &Value::Integer(0)).unwrap_err();
    /// assert_eq!(zero.to_string(), "`lm.width` must be a whole number from 1 to 65536, not 0");
    /// let misspelt = keys.check("lm.widht", &Value::Integer(96)).unwrap_err();
    /// assert_eq!(misspelt.to_string(), "unknown key `lm.widht`; did you mean `lm.width`?");
    /// # Ok::<(), latentlm_keys::TableError>(())
    /// ```
    ///
    /// # Errors
    /// If the text is not TOML or a key is declared incorrectly.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        read("keys", &|_| Ok(Some(text.to_owned())))
    }

    /// The keys of a recipe: those of the table file and of all files that it includes.
    ///
    /// # Errors
    /// If a file can't be read or is invalid.
    pub fn assemble(table: &str, read_table: &ReadTable<'_>) -> Result<Self, TableError> {
        read(table, read_table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODEC: &str = r#"
        [codec]
        size = { type = "integer", default = 32, min = 1, max = 64, help = "Pixels" }
        [presets."image/small".codec]
        size = 8
    "#;
    const STAGE: &str = r#"
        steps = { type = "integer", default = 10, min = 1, help = "Steps" }
        rate = { type = "number", default = 1, above = 0, help = "Rate" }
    "#;
    const RECIPE: &str = r#"
        recipe = "image/small"
        files = ["a.toml", "b.toml"]
        include = [
          { from = "codec", serves = ["codec"] },
          { from = "trainer/stage", at = "codec_train" },
          { from = "trainer/stage", at = "lm_train" },
        ]
        seed = { type = "integer", default = 1, min = 0, help = "Seed" }
        [presets."image/small".lm_train]
        rate = 3
    "#;

    fn files<'a>(
        list: &'a [(&'a str, &'a str)],
    ) -> impl Fn(&str) -> Result<Option<String>, TableError> + 'a {
        move |name| {
            let found = list.iter().find(|(other, _)| *other == name);
            Ok(found.map(|(_, text)| (*text).to_owned()))
        }
    }

    #[test]
    fn a_recipe_has_the_keys_of_its_parts() {
        let list = [
            ("image", RECIPE),
            ("codec", CODEC),
            ("trainer/stage", STAGE),
        ];
        let keys = Keys::assemble("image", &files(&list)).unwrap();
        let names: Vec<&str> = keys.iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "codec.size",
                "codec_train.rate",
                "codec_train.steps",
                "lm_train.rate",
                "lm_train.steps",
                "seed"
            ]
        );
        let defaults = keys.default_table();
        assert_eq!(defaults["codec"]["size"], Value::Integer(8));
        assert_eq!(defaults["codec_train"]["rate"], Value::Float(1.0));
        assert_eq!(defaults["lm_train"]["rate"], Value::Float(3.0));
        assert_eq!(keys.files(), ["a.toml", "b.toml"]);
    }

    /// A fork's part may declare no keys: its tables then accept any key.
    #[test]
    fn a_part_without_keys_leaves_its_tables_open() {
        let list = [("image", RECIPE), ("trainer/stage", STAGE)];
        let keys = Keys::assemble("image", &files(&list)).unwrap();
        assert!(keys.check("codec.anything", &Value::Integer(1)).is_ok());
        assert!(keys.check("codec.a.b", &Value::Integer(1)).is_ok());
        let error = keys.check("codex.size", &Value::Integer(1)).unwrap_err();
        assert!(
            error.to_string().ends_with("did you mean `codec`?"),
            "{error}"
        );
        let error = keys.check("codec", &Value::Integer(1)).unwrap_err();
        assert_eq!(error.to_string(), "`codec` must be a table, not 1");
        // With the part's own preset, its keys are known, and others are refused.
        let preset: Table = "[codec]\ngain = 1.0\n[empty]".parse().unwrap();
        let keys = keys.completed(&preset);
        assert!(keys.check("codec.gain", &Value::Integer(2)).is_ok());
        assert!(keys.check("empty", &Value::Table(Table::new())).is_ok());
        let error = keys.check("codec.gian", &Value::Integer(2)).unwrap_err();
        assert!(
            error.to_string().ends_with("did you mean `codec.gain`?"),
            "{error}"
        );
        let error = keys
            .check("codec.gain", &Value::Float(f64::NAN))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`codec.gain` must be a finite number, not nan"
        );
    }

    #[test]
    fn tables_that_are_wrong_name_file_and_key() {
        for (text, part) in [
            ("[a", "table of keys `keys`: "),
            ("a = 1", "`a` is neither a key"),
            (
                "a = { type = \"integer\", default = 1 }",
                "`a`: missing field `help`",
            ),
            (
                "a = { type = \"integer\", default = 1, help = \"\" }",
                "`help` must be one line",
            ),
            (
                "a = { type = \"whole\", default = 1, help = \"A\" }",
                "unknown variant",
            ),
            (
                "a = { type = \"integer\", default = 0, min = 1, help = \"A\" }",
                "the default of `a` must",
            ),
            (
                "a = { type = \"integer\", default = 1, mim = 1, help = \"A\" }",
                "unknown field `mim`",
            ),
            ("include = [{ from = \"keys\" }]", "includes itself"),
            (
                "recipe = \"r\"\n[presets.r.c]\na = 1.5\n[c]\na = { type = \"integer\", default = 1, help = \"A\" }",
                "`c.a` must be a whole number, not 1.5",
            ),
        ] {
            let message = Keys::parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
        let missing = Keys::assemble("image", &|_| Ok(None)).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "table of keys `image`: there is no such file"
        );
        let twice = [
            ("image", "include = [{ from = \"a\" }, { from = \"a\" }]"),
            ("a", CODEC),
        ];
        let twice = Keys::assemble("image", &files(&twice)).unwrap_err();
        assert!(
            twice.reason.contains("`codec.size` is declared twice"),
            "{twice}"
        );
    }
}
