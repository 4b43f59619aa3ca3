//! Value parsers for numbers within a range. Error messages name the range. NaN and infinity are refused.

use std::ops::RangeBounds;

use clap::builder::RangedU64ValueParser;

/// A whole number within a range.
pub(crate) fn whole(range: impl RangeBounds<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(range)
}

/// Parses a finite number.
///
/// # Errors
/// If the text is not a finite number.
pub fn finite(text: &str) -> Result<f64, String> {
    within(text, f64::is_finite, "must be a finite number")
}

/// Parses a finite number of 0 or more.
///
/// # Errors
/// If the text is not such a number.
pub fn not_negative(text: &str) -> Result<f64, String> {
    let fits = |x: f64| x.is_finite() && x >= 0.0;
    within(text, fits, "must be a finite number of 0 or more")
}

/// Parses a finite number above 0.
///
/// # Errors
/// If the text is not such a number.
pub fn positive(text: &str) -> Result<f64, String> {
    let fits = |x: f64| x.is_finite() && x > 0.0;
    within(text, fits, "must be a finite number above 0")
}

/// Parses a number above 0 and at most 1.
///
/// # Errors
/// If the text is not such a number.
pub fn probability(text: &str) -> Result<f64, String> {
    let fits = |x: f64| x > 0.0 && x <= 1.0;
    within(text, fits, "must lie between 0 and 1, and not be 0")
}

fn within(text: &str, fits: impl Fn(f64) -> bool, otherwise: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if fits(number) => Ok(number),
        _ => Err(otherwise.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_parser_takes_what_is_no_number() {
        for text in ["nan", "NaN", "inf", "-inf", "infinity", "1e999", "", "x"] {
            for parse in [finite, not_negative, positive, probability] {
                assert!(parse(text).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn ranges_hold_at_their_ends() {
        assert_eq!(finite("-2.5"), Ok(-2.5));
        assert_eq!(not_negative("0"), Ok(0.0));
        assert!(not_negative("-0.1").unwrap_err().contains("0 or more"));
        assert_eq!(probability("1"), Ok(1.0));
        assert_eq!(positive("0.1"), Ok(0.1));
        assert!(positive("0").unwrap_err().contains("above 0"));
        for text in ["0", "1.01", "-1"] {
            assert!(probability(text).is_err(), "{text}");
        }
    }
}
