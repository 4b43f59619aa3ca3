//! One key: its type, its range, and whether a value fits.

use serde::Deserialize;
use toml::Value;

use crate::text::shown;

/// The type of a key's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A whole number.
    Integer,
    /// A finite number. Whole numbers are accepted too.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Any text.
    #[serde(rename = "string")]
    Text,
    /// A file or folder that must exist when a command starts.
    Path,
    /// A file or folder, or `""` for none.
    OptionalPath,
    /// One of a few names.
    Choice,
    /// A list of whole numbers.
    Integers,
    /// A list of finite numbers.
    Numbers,
    /// Any list. Tables can't declare it; it is the type of a key inferred from a default value.
    #[serde(skip_deserializing)]
    List,
}

/// A recipe key, as declared in a key table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Type of the values.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Default value.
    pub default: Value,
    /// Description in one line.
    pub help: String,
    /// Smallest value (inclusive); of lists, smallest entry.
    pub min: Option<f64>,
    /// Lower bound (exclusive).
    pub above: Option<f64>,
    /// Largest value (inclusive); of lists, largest entry.
    pub max: Option<f64>,
    /// Upper bound (exclusive).
    pub below: Option<f64>,
    /// Whether 0 is allowed below the smallest value: 0 switches off what very small values would break.
    #[serde(default)]
    pub zero: bool,
    /// All allowed values; empty if any value of the type and range is allowed.
    #[serde(default)]
    pub choices: Vec<Value>,
    /// Largest number of entries of a list.
    pub longest: Option<usize>,
    /// Value in older files, which were written before there was this key: they have all keys of the table except
    /// those with this setting. If it is not set, older files have the default.
    pub earlier: Option<Value>,
}

impl Key {
    /// A key inferred from a default value: any value of the same type is allowed.
    pub(crate) fn like(value: &Value) -> Self {
        let kind = match value {
            Value::Integer(_) => Kind::Integer,
            Value::Float(_) => Kind::Number,
            Value::Boolean(_) => Kind::Boolean,
            Value::Array(_) => Kind::List,
            Value::String(_) | Value::Datetime(_) | Value::Table(_) => Kind::Text,
        };
        Self {
            kind,
            default: value.clone(),
            help: String::new(),
            min: None,
            above: None,
            max: None,
            below: None,
            zero: false,
            choices: Vec::new(),
            longest: None,
            earlier: None,
        }
    }

    /// Checks a value and returns it in the key's type: `2` becomes `2.0` if the key is a [`Kind::Number`].
    /// `None` if the value is not allowed.
    pub fn fit(&self, value: &Value) -> Option<Value> {
        let value = match (self.kind, value) {
            (Kind::Number, value) => number(value),
            (Kind::Numbers, Value::Array(list)) => Value::Array(list.iter().map(number).collect()),
            (_, value) => value.clone(),
        };
        self.holds(&value).then_some(value)
    }

    fn holds(&self, value: &Value) -> bool {
        let fits = match (self.kind, value) {
            (Kind::Integer, Value::Integer(whole)) => self.within(*whole as f64),
            (Kind::Number, Value::Float(number)) => self.within(*number),
            (Kind::Path, Value::String(path)) => !path.trim().is_empty(),
            (Kind::Text | Kind::OptionalPath | Kind::Choice, Value::String(_))
            | (Kind::Boolean, Value::Boolean(_))
            | (Kind::List, Value::Array(_)) => true,
            (Kind::Integers, Value::Array(list)) => {
                let fits =
                    |entry: &Value| entry.as_integer().is_some_and(|n| self.within(n as f64));
                self.not_too_long(list) && list.iter().all(fits)
            }
            (Kind::Numbers, Value::Array(list)) => {
                self.not_too_long(list)
                    && list
                        .iter()
                        .all(|entry| entry.as_float().is_some_and(|n| self.within(n)))
            }
            _ => false,
        };
        fits && (self.choices.is_empty() || self.choices.contains(value))
    }

    fn within(&self, value: f64) -> bool {
        let in_range = value.is_finite()
            && self.min.is_none_or(|min| value >= min)
            && self.above.is_none_or(|above| value > above)
            && self.max.is_none_or(|max| value <= max)
            && self.below.is_none_or(|below| value < below);
        in_range || (self.zero && value == 0.0)
    }

    fn not_too_long(&self, list: &[Value]) -> bool {
        self.longest.is_none_or(|longest| list.len() <= longest)
    }

    /// The allowed values, for an error message: `a whole number from 1 to 512`.
    pub fn expected(&self) -> String {
        if !self.choices.is_empty() {
            let choices: Vec<String> = self.choices.iter().map(Value::to_string).collect();
            return format!("one of {}", choices.join(", "));
        }
        let range = self.range();
        let zero = if self.zero { "0 or " } else { "" };
        let most = self
            .longest
            .map_or_else(String::new, |longest| format!("at most {longest} "));
        match self.kind {
            Kind::Integer => format!("{zero}a whole number{range}"),
            Kind::Number if range.is_empty() => "a finite number".into(),
            Kind::Number => format!("{zero}a number{range}"),
            Kind::Boolean => "true or false".into(),
            Kind::Text | Kind::Choice => "text".into(),
            Kind::Path => "the path of a file or folder".into(),
            Kind::OptionalPath => "a path, or \"\" for none".into(),
            Kind::Integers => format!("a list of {most}whole numbers{range}"),
            Kind::Numbers => format!("a list of {most}numbers{range}"),
            Kind::List => "a list".into(),
        }
    }

    /// The range, to be appended to a noun: ` from 0 to below 1`.
    fn range(&self) -> String {
        let (low, joint) = match (self.min, self.above) {
            (_, Some(above)) => (format!(" above {}", plain(above)), " and "),
            (Some(min), None) => (format!(" from {}", plain(min)), " to "),
            (None, None) => (String::new(), " "),
        };
        let high = match (self.max, self.below) {
            (_, Some(below)) => format!("{joint}below {below}"),
            (Some(max), None) if joint == " to " => format!("{joint}{max}"),
            (Some(max), None) => format!("{joint}at most {max}"),
            (None, None) if joint == " to " => " on".into(),
            (None, None) => String::new(),
        };
        low + &high
    }
}

/// A bound, for an error message. Small numbers have an exponent: `1e-9`, not nine digits.
fn plain(bound: f64) -> String {
    if bound != 0.0 && bound.abs() < 1e-3 {
        format!("{bound:e}")
    } else {
        bound.to_string()
    }
}

/// Turns an integer into a float; returns any other value unchanged.
fn number(value: &Value) -> Value {
    match value {
        Value::Integer(whole) => Value::Float(*whole as f64),
        other => other.clone(),
    }
}

/// A value, for an error message.
pub(crate) fn found(value: &Value) -> String {
    match value {
        Value::Table(_) => "a table".into(),
        Value::Float(number) if number.is_nan() => "nan".into(),
        // Debug output writes large numbers with an exponent: `1e300`, not 301 digits.
        Value::Float(number) => format!("{number:?}"),
        other => shown(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        let text = format!("default = 0\nhelp = \"of a test\"\n{text}");
        toml::from_str(&text).unwrap()
    }

    fn value(text: &str) -> Value {
        let mut table: toml::Table = format!("value = {text}").parse().unwrap();
        table.remove("value").unwrap()
    }

    #[test]
    fn values_fit_type_and_range() {
        let cases = [
            (
                "type = \"integer\"\nmin = 1\nmax = 4",
                "1 4",
                "0 5 -1 1.0 \"1\" true [1]",
            ),
            (
                "type = \"number\"\nmin = 0\nbelow = 1",
                "0 0.0 0.99",
                "1 -0.1 nan inf -inf 1e300",
            ),
            (
                "type = \"number\"\nabove = 0\nmax = 1",
                "1 1.0 1e-9",
                "0 0.0 -0.0 1.1 nan",
            ),
            (
                "type = \"number\"\nmin = 1e-6\nzero = true",
                "0 0.0 -0.0 1e-6 7",
                "1e-7 1e-300 -1.0 nan",
            ),
            ("type = \"number\"", "-1e300 0 7", "nan inf -inf \"a\""),
            ("type = \"boolean\"", "true false", "0 1 \"true\""),
            ("type = \"string\"", "\"\" \"a\"", "1 true"),
            ("type = \"path\"", "\"a\"", "\"\" 1"),
            ("type = \"optional-path\"", "\"\" \"a\"", "1"),
            (
                "type = \"choice\"\nchoices = [\"a\", \"b\"]",
                "\"a\" \"b\"",
                "\"c\" 1",
            ),
            ("type = \"integer\"\nchoices = [1, 3]", "1 3", "2 \"1\""),
            (
                "type = \"integers\"\nmin = 1\nlongest = 2",
                "[] [1] [1,2]",
                "[0] [1,2,3] [1.5] 1",
            ),
            (
                "type = \"numbers\"\nabove = 0",
                "[] [1] [0.5,2]",
                "[0] [nan] [\"a\"]",
            ),
        ];
        for (declared, fitting, others) in cases {
            let key = key(declared);
            for text in fitting.split(' ') {
                assert!(key.fit(&value(text)).is_some(), "{declared}: {text}");
            }
            for text in others.split(' ') {
                assert_eq!(key.fit(&value(text)), None, "{declared}: {text}");
            }
        }
    }

    #[test]
    fn whole_numbers_become_fractions_where_those_are_kept() {
        assert_eq!(
            key("type = \"number\"").fit(&value("2")),
            Some(value("2.0"))
        );
        let list = key("type = \"numbers\"").fit(&value("[1, 2.5]"));
        assert_eq!(list, Some(value("[1.0, 2.5]")));
        assert_eq!(key("type = \"integer\"").fit(&value("2")), Some(value("2")));
    }

    #[test]
    fn what_would_fit_is_said() {
        for (declared, expected) in [
            (
                "type = \"integer\"\nmin = 1\nmax = 4",
                "a whole number from 1 to 4",
            ),
            ("type = \"integer\"\nmin = 1", "a whole number from 1 on"),
            ("type = \"number\"", "a finite number"),
            (
                "type = \"number\"\nmin = 0\nbelow = 1",
                "a number from 0 to below 1",
            ),
            (
                "type = \"number\"\nabove = 0\nmax = 10",
                "a number above 0 and at most 10",
            ),
            ("type = \"number\"\nabove = 0", "a number above 0"),
            (
                "type = \"number\"\nmin = 1e-6\nmax = 10\nzero = true",
                "0 or a number from 1e-6 to 10",
            ),
            (
                "type = \"choice\"\nchoices = [\"a\", \"b\"]",
                "one of \"a\", \"b\"",
            ),
            (
                "type = \"integers\"\nmin = 1\nmax = 8\nlongest = 3",
                "a list of at most 3 whole numbers from 1 to 8",
            ),
        ] {
            assert_eq!(key(declared).expected(), expected);
        }
    }

    #[test]
    fn large_values_are_short_in_a_message() {
        assert_eq!(found(&value("1e300")), "1e300");
        assert_eq!(found(&value("nan")), "nan");
        assert_eq!(found(&value("-inf")), "-inf");
        assert_eq!(found(&value("0.5")), "0.5");
        assert_eq!(found(&value("\"a\"")), "\"a\"");
        assert!(found(&Value::String("x".repeat(10_000))).len() < 200);
    }
}
