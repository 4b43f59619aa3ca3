//! Value parsers for numbers within a range. Error messages name the range. NaN and infinity are refused.

use std::ops::RangeBounds;

use clap::builder::RangedU64ValueParser;

/// A whole number within a range.
pub(crate) fn whole(range: impl RangeBounds<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(range)
}

/// Parses a guidance scale, within the range of the recipes' `sample.guidance_scale`.
///
/// # Errors
/// If the text is not such a number.
pub fn guidance_scale(text: &str) -> Result<f64, String> {
    within(
        text,
        |x| (-1000.0..=1000.0).contains(&x),
        "must be a number from -1000 to 1000",
    )
}

/// Parses a factor of noise, within the range of the recipes' `sample.noise_temperature`.
///
/// # Errors
/// If the text is not such a number.
pub fn noise_temperature(text: &str) -> Result<f64, String> {
    within(
        text,
        |x| (0.0..=100.0).contains(&x),
        "must be a number from 0 to 100",
    )
}

/// Parses a frame rate in frames a second.
///
/// # Errors
/// If the text is not such a number.
pub(crate) fn clip_rate(text: &str) -> Result<f64, String> {
    within(
        text,
        |x| x > 0.0 && x <= 240.0,
        "must be a number above 0, at most 240",
    )
}

/// Parses a finite number of 0 or more.
///
/// # Errors
/// If the text is not such a number.
pub fn not_negative(text: &str) -> Result<f64, String> {
    within(
        text,
        |x| x.is_finite() && x >= 0.0,
        "must be a finite number of 0 or more",
    )
}

/// Parses a finite number above 0.
///
/// # Errors
/// If the text is not such a number.
pub fn positive(text: &str) -> Result<f64, String> {
    within(
        text,
        |x| x.is_finite() && x > 0.0,
        "must be a finite number above 0",
    )
}

/// Parses a number above 0 and at most 1.
///
/// # Errors
/// If the text is not such a number.
pub fn probability(text: &str) -> Result<f64, String> {
    within(
        text,
        |x| x > 0.0 && x <= 1.0,
        "must lie between 0 and 1, and not be 0",
    )
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
            for parse in [clip_rate, not_negative, positive, probability] {
                assert!(parse(text).is_err(), "{text}");
            }
            for parse in [guidance_scale, noise_temperature] {
                assert!(parse(text).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn ranges_hold_at_their_ends() {
        assert_eq!(guidance_scale("-2.5"), Ok(-2.5));
        assert_eq!(guidance_scale("-1000"), Ok(-1000.0));
        assert_eq!(guidance_scale("1000"), Ok(1000.0));
        for text in ["1e300", "-1e39", "1000.1", "-1001"] {
            let told = guidance_scale(text).unwrap_err();
            assert_eq!(told, "must be a number from -1000 to 1000");
        }
        assert_eq!(noise_temperature("0"), Ok(0.0));
        assert_eq!(noise_temperature("100"), Ok(100.0));
        for text in ["1e300", "100.1", "-0.1"] {
            let told = noise_temperature(text).unwrap_err();
            assert_eq!(told, "must be a number from 0 to 100");
        }
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
