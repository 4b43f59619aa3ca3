//! The threads that kernels run on.

use std::ops::Range;
#[cfg(feature = "cpu")]
use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;
#[cfg(feature = "cpu")]
use burn::tensor::Tensor;
#[cfg(feature = "cpu")]
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Runs a program's work on one of the threads that the kernels share.
///
/// Called from any other thread, every kernel would put that thread to sleep and wake another, twice
/// an operation; from one of their own they begin at once. Worth it for whatever runs many small
/// operations: sampling takes about a third less time. On a build without CPU kernels it just calls
/// `work`.
pub fn on_workers<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "cpu")]
    {
        // As large as a main thread's stack. Whoever has made the pool before keeps theirs.
        const STACK_BYTES: usize = 8 << 20;
        let pool = rayon::ThreadPoolBuilder::new().stack_size(STACK_BYTES);
        let _ = pool.build_global();
        rayon::scope(|_| work())
    }
    #[cfg(not(feature = "cpu"))]
    work()
}

/// Rows that a part has at least: with fewer, products are too small to be worth a thread.
pub const ROWS_A_PART: usize = 4;

/// Cuts `rows` independent rows into a part for each thread that kernels on the device run on; one
/// part on other devices than the CPU.
pub fn parts(device: &Device, rows: usize) -> Vec<Range<usize>> {
    parts_of(device, rows, ROWS_A_PART)
}

/// [`parts`] of at least `least` rows each, for rows that are long: a signal is worth a thread alone.
pub fn parts_of(device: &Device, rows: usize, least: usize) -> Vec<Range<usize>> {
    cut(rows, threads(device).min(rows / least).max(1))
}

/// Cuts `rows` into so many parts of about the same length.
pub fn cut(rows: usize, count: usize) -> Vec<Range<usize>> {
    let edge = |index: usize| index * rows / count;
    (0..count)
        .map(|index| edge(index)..edge(index + 1))
        .collect()
}

#[cfg(feature = "cpu")]
fn threads(device: &Device) -> usize {
    match crate::has_kernels(&Tensor::<1>::zeros([1], device)) {
        true => rayon::current_num_threads(),
        false => 1,
    }
}

#[cfg(not(feature = "cpu"))]
fn threads(_: &Device) -> usize {
    1
}

/// Does the work of all [`parts`] at once, each from beginning to end on one thread: threads that
/// meet at the end only, and not at every operation. Results come in order.
pub fn at_once<T: Send, R: Send>(inputs: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    if inputs.len() == 1 {
        return inputs.into_iter().map(work).collect();
    }
    on_threads(inputs, &work)
}

#[cfg(not(feature = "cpu"))]
fn on_threads<T: Send, R: Send>(inputs: Vec<T>, work: &(impl Fn(T) -> R + Sync)) -> Vec<R> {
    inputs.into_iter().map(work).collect()
}

#[cfg(feature = "cpu")]
fn on_threads<T: Send, R: Send>(inputs: Vec<T>, work: &(impl Fn(T) -> R + Sync)) -> Vec<R> {
    // Pools of one thread each: whatever a kernel would share out stays where it is.
    static POOLS: Mutex<Vec<ThreadPool>> = Mutex::new(Vec::new());
    let mut pools = std::mem::take(&mut *POOLS.lock().unwrap_or_else(PoisonError::into_inner));
    while pools.len() < inputs.len() {
        match ThreadPoolBuilder::new().num_threads(1).build() {
            Ok(pool) => pools.push(pool),
            // A system without threads to spare does it on this one.
            Err(_) => return inputs.into_iter().map(work).collect(),
        }
    }
    let results = std::thread::scope(|scope| {
        let started: Vec<_> = inputs
            .into_iter()
            .zip(&pools)
            .map(|(input, pool)| scope.spawn(move || pool.install(|| work(input))))
            .collect();
        let results = started.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.collect()
    });
    let mut free = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    free.append(&mut pools);
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_rows_in_order() {
        for rows in [1, 7, 8, 9, 64] {
            let parts = parts(&Device::default(), rows);
            assert!(parts.len() == 1 || rows >= 2 * ROWS_A_PART);
            for _ in 0..3 {
                let done = at_once(parts.clone(), |range| range.collect::<Vec<_>>());
                assert_eq!(done.concat(), (0..rows).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_work_is_done_and_its_result_returned() {
        let text = String::from("moved in");
        assert_eq!(on_workers(|| text.len()), 8);
    }
}
