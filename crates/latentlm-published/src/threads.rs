//! How work on many bytes is shared among threads.

use std::num::NonZero;
use std::thread::available_parallelism;

/// Fewest bytes that are worth a thread.
const LEAST_BYTES: usize = 4 << 20;
/// Threads at most: the memory is shared.
const MOST_THREADS: usize = 8;

/// Bytes of each thread's part of `bytes`, at least 1. Few bytes are a single part.
pub(crate) fn bytes_a_thread(bytes: usize) -> usize {
    let threads = available_parallelism().map_or(1, NonZero::get);
    bytes.div_ceil(threads.min(MOST_THREADS)).max(LEAST_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_bytes_are_one_part() {
        for bytes in [0, 1, LEAST_BYTES] {
            assert_eq!(bytes_a_thread(bytes), LEAST_BYTES);
        }
        let many = 64 * LEAST_BYTES + 1;
        let part = bytes_a_thread(many);
        assert!(part <= many && part * MOST_THREADS >= many, "{part}");
    }
}
