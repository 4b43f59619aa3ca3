//! The splits of a dataset, and held-out samples of datasets that define none.

use sha2::{Digest, Sha256};

/// A split of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Training samples.
    Train,
    /// Held-out samples, for evaluation.
    Test,
}

impl Split {
    /// Both splits, training first.
    pub const ALL: [Self; 2] = [Self::Train, Self::Test];

    /// `train` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// The split by a hash of the sample's name: one in ten is held out. Adding files does not move other
/// samples.
pub fn held_out(key: &str) -> Split {
    match digest(key)[0] % 10 {
        0 => Split::Test,
        _ => Split::Train,
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The splits of samples, by hashes of their names. With two or more samples, neither split is empty:
/// if the hashes leave one empty, one sample is moved into it ([`fill_empty`]).
pub(crate) fn divide(keys: &[&str]) -> Vec<Split> {
    let mut splits: Vec<Split> = keys.iter().map(|key| held_out(key)).collect();
    fill_empty(keys, &mut splits);
    splits
}

/// Moves one sample into an empty split if there are two samples or more: the one with the smallest hash
/// into the held-out split, the one with the largest into the training split.
pub(crate) fn fill_empty(keys: &[&str], splits: &mut [Split]) {
    if keys.len() < 2 {
        return;
    }
    let by_hash = || (0..keys.len()).map(|index| (digest(keys[index]), index));
    if !splits.contains(&Split::Test)
        && let Some((_, index)) = by_hash().min()
    {
        splits[index] = Split::Test;
    }
    if !splits.contains(&Split::Train)
        && let Some((_, index)) = by_hash().max()
    {
        splits[index] = Split::Train;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_splits_have_a_sample_of_any_two() {
        for set in 0..300 {
            for count in 2..12 {
                let names: Vec<String> = (0..count).map(|i| format!("{set}/{i}")).collect();
                let keys: Vec<&str> = names.iter().map(String::as_str).collect();
                let splits = divide(&keys);
                assert!(splits.contains(&Split::Test), "{set}: {count}");
                assert!(splits.contains(&Split::Train), "{set}: {count}");
                // At most one sample is moved, and only if a split would be empty.
                let moved = keys.iter().zip(&splits).filter(|(k, s)| held_out(k) != **s);
                let hashed: Vec<Split> = keys.iter().map(|key| held_out(key)).collect();
                let empty = Split::ALL.iter().any(|split| !hashed.contains(split));
                assert_eq!(moved.count(), usize::from(empty), "{set}: {count}");
                // The order of the names does not matter.
                let turned: Vec<&str> = keys.iter().rev().copied().collect();
                let mut again = divide(&turned);
                again.reverse();
                assert_eq!(again, splits);
            }
        }
    }

    #[test]
    fn one_sample_is_in_one_split() {
        assert_eq!(divide(&["a"]), [held_out("a")]);
        assert!(divide(&[]).is_empty());
    }
}
