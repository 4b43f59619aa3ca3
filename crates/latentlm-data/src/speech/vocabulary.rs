//! The words of composed utterances, from `vocabulary.txt`: a line is the name of a list and some of its words.

use std::sync::LazyLock;

/// Words of a list.
type List = LazyLock<Vec<&'static str>>;

/// Words to be spelled.
pub(super) static SPELLED: List = LazyLock::new(|| words_of("spelled"));
/// Numbers below twenty.
pub(super) static UNITS: List = LazyLock::new(|| words_of("units"));
/// Names of the tens from twenty on.
pub(super) static TENS: List = LazyLock::new(|| words_of("tens"));
/// Days of the week.
pub(super) static DAYS: List = LazyLock::new(|| words_of("days"));
/// Months.
pub(super) static MONTHS: List = LazyLock::new(|| words_of("months"));
/// Days of a month up to the twentieth.
pub(super) static ORDINALS: List = LazyLock::new(|| words_of("ordinals"));

fn words_of(list: &str) -> Vec<&'static str> {
    let lines = include_str!("vocabulary.txt").lines();
    let own = lines.filter_map(|line| line.split_once(' ').filter(|(name, _)| *name == list));
    own.flat_map(|(_, words)| words.split(' ')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_all_their_words() {
        let sizes = [&UNITS, &TENS, &DAYS, &MONTHS, &ORDINALS].map(|list| list.len());
        assert_eq!(sizes, [20, 8, 7, 12, 20]);
        assert_eq!(
            (UNITS[13], TENS[0], ORDINALS[19]),
            ("thirteen", "twenty", "twentieth")
        );
        // A seed draws the same words as long as their number and order stay.
        assert_eq!(
            (SPELLED.len(), SPELLED[0], SPELLED[317]),
            (318, "able", "zone")
        );
    }
}
