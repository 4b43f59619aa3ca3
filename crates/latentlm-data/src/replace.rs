//! Replacements for samples that can't be read.

use crate::error::DataError;

/// Failures in a row after which the files are probably gone altogether.
const TRIES: usize = 64;

/// Reads sample `index` of `count`, or a random replacement if it can't be read. `draw(n)` returns a random number below
/// `n`. Replacements come from the same class first.
///
/// # Errors
/// If none of the drawn samples can be read.
///
/// # Panics
/// If `index` or a drawn number is out of range.
pub(crate) fn get_or_draw<T>(
    count: usize,
    index: usize,
    label: impl Fn(usize) -> u32,
    get: impl Fn(usize) -> Result<T, DataError>,
    mut draw: impl FnMut(usize) -> usize,
) -> Result<T, DataError> {
    let first = get(index);
    if first.is_ok() {
        return first;
    }
    let all: Vec<usize> = (0..count).collect();
    let same_class: Vec<usize> = (0..count)
        .filter(|&other| other != index && label(other) == label(index))
        .collect();
    let mut sample = first;
    for attempt in 0..TRIES {
        let pool = if same_class.is_empty() || attempt >= TRIES / 2 {
            &all
        } else {
            &same_class
        };
        sample = get(pool[draw(pool.len())]);
        if sample.is_ok() {
            break;
        }
    }
    sample
}
