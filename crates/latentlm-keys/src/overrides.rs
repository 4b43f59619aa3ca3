//! Overrides of recipe keys on the command line: `KEY=VALUE`.
//!
//! Only the form is checked here. Whether the key exists and the value fits is checked by
//! [`Keys`](crate::Keys).

use toml::{Table, Value};

use crate::error::RecipeError;
use crate::text::shown;

pub use crate::error::MOST_DOTS;

/// Splits an override into key and value, without surrounding spaces.
///
/// ```
/// use latentlm_keys::overrides::split;
///
/// assert_eq!(split("lm.width = 96")?, ("lm.width", "96"));
/// assert!(split("lm.width").is_err());
/// # Ok::<(), latentlm_keys::RecipeError>(())
/// ```
///
/// # Errors
/// If there is no `=`, or no valid key before it.
pub fn split(text: &str) -> Result<(&str, &str), RecipeError> {
    let (key, value) = text.split_once('=').unwrap_or_default();
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() {
        return Err(RecipeError::NotKeyValue {
            text: shown(text),
            example: String::new(),
        });
    }
    let dots = key.matches('.').count();
    if dots > MOST_DOTS {
        let text = shown(text);
        return Err(RecipeError::DeepKey { text, dots });
    }
    if !key.split('.').all(is_word) {
        return Err(RecipeError::OddKey(shown(text)));
    }
    Ok((key, value))
}

/// Parses an override into a table. A value that is not valid TOML is taken as text, so that words need no
/// quotes.
pub(crate) fn parse(text: &str) -> Result<Table, RecipeError> {
    let (key, value) = split(text)?;
    let parsed = format!("value = {value}")
        .parse::<Table>()
        .ok()
        // A value with a line break may hold further keys.
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    let mut words = key.rsplit('.');
    let last = words.next().unwrap_or_default();
    let innermost = Table::from_iter([(last.to_owned(), parsed)]);
    Ok(words.fold(innermost, |table, word| {
        Table::from_iter([(word.to_owned(), Value::Table(table))])
    }))
}

fn is_word(part: &str) -> bool {
    !part.is_empty()
        && part
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_parted_at_the_first_equals() {
        for (text, key, value) in [
            ("lm.width=96", "lm.width", "96"),
            (" seed = 3 ", "seed", "3"),
            ("data.path=a=b", "data.path", "a=b"),
            ("data.path=", "data.path", ""),
            ("codec.ratios=[4, 4]", "codec.ratios", "[4, 4]"),
        ] {
            assert_eq!(split(text).unwrap(), (key, value));
        }
    }

    #[test]
    fn what_is_no_override_is_refused_in_one_line() {
        for (text, part) in [
            ("steps", "not of the form key=value"),
            ("=3", "not of the form key=value"),
            (" =3", "not of the form key=value"),
            ("a..b=3", "a key is words"),
            (".a=3", "a key is words"),
            ("a.=3", "a key is words"),
            ("a b=3", "a key is words"),
            ("schlüssel=3", "a key is words"),
            ("a\u{1b}[2Jb\n=3", "`a\\u{1b}[2Jb\\n=3`"),
        ] {
            let message = split(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
            assert!(!message.contains(char::is_control), "{message}");
        }
    }

    #[test]
    fn bare_words_are_text_and_the_rest_is_toml() {
        for (text, value) in [
            ("a.b=two", Value::String("two".into())),
            ("a.b=2", Value::Integer(2)),
            ("a.b=2.0", Value::Float(2.0)),
            ("a.b=true", Value::Boolean(true)),
            ("a.b=\"2\"", Value::String("2".into())),
            ("a.b=[1]", Value::Array(vec![Value::Integer(1)])),
            ("a.b=1\nc=2", Value::String("1\nc=2".into())),
            ("a.b=", Value::String(String::new())),
        ] {
            let table = parse(text).unwrap();
            assert_eq!(table["a"]["b"], value, "{text}");
        }
    }

    #[test]
    fn keys_are_as_deep_as_the_limit() {
        let deep = |dots: usize| format!("a{}=1", ".a".repeat(dots));
        assert!(split(&deep(MOST_DOTS)).is_ok());
        let message = split(&deep(60_000)).unwrap_err().to_string();
        assert!(message.contains("at most 16 dots, not 60000"), "{message}");
        assert!(message.len() < 300, "{}", message.len());
    }
}
