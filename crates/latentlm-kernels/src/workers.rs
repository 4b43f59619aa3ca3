//! The threads that kernels run on, and the cutting of a batch into shards for them.

use std::ops::Range;
#[cfg(feature = "cpu")]
use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;
#[cfg(feature = "cpu")]
use burn::tensor::Tensor;
#[cfg(feature = "cpu")]
use rayon::{ThreadPool, ThreadPoolBuilder};

#[cfg(feature = "cpu")]
use crate::fallback::Choice;

/// Runs a program's work on a thread of the kernels' thread pool.
///
/// A kernel that is called from any other thread puts that thread to sleep and wakes one of the pool,
/// twice an operation; on a thread of the pool it starts at once. Programs of many small operations gain
/// most: sampling took 28 % less time. A build without CPU kernels just calls `work`.
pub fn on_workers<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "cpu")]
    {
        // As large as the usual stack of a main thread, because the program's work now runs on a thread of the pool
        // as deep as it would there. A pool that exists already stays as it is.
        const STACK_BYTES: usize = 8 << 20;
        let pool = rayon::ThreadPoolBuilder::new().stack_size(STACK_BYTES);
        let _ = pool.build_global();
        // A thread of the pool that waits for others takes up any work, maybe amid a training with switches of its own.
        let choice = Choice::of_this_thread();
        rayon::scope(|_| choice.apply(work))
    }
    #[cfg(not(feature = "cpu"))]
    work()
}

/// Fewest rows of a shard: with fewer, its matrix products are too small to be worth a thread.
pub const ROWS_A_SHARD: usize = 4;

/// Cuts `rows` independent rows into shards, one for each thread that runs kernels on the device. On
/// devices other than the CPU all rows are one shard.
pub fn shards(device: &Device, rows: usize) -> Vec<Range<usize>> {
    shards_of(device, rows, ROWS_A_SHARD)
}

/// [`shards`] of at least `least` rows each. Long rows allow small shards: one audio signal alone is worth
/// a thread.
pub fn shards_of(device: &Device, rows: usize, least: usize) -> Vec<Range<usize>> {
    cut(rows, threads(device).min(rows / least).max(1))
}

/// Cuts `rows` into `count` consecutive ranges of about the same length.
pub fn cut(rows: usize, count: usize) -> Vec<Range<usize>> {
    (0..count)
        .map(|index| index * rows / count..(index + 1) * rows / count)
        .collect()
}

/// Whether [`rounded_products`](crate::rounded_products) rounds on a device: on the CPU backend, with kernels. With AVX-512
/// BF16 it saves time; other processors round by float32 instructions and get the same numbers but for the order of sums
/// and for products and sums below 1.2e-38, which the instruction takes for zero.
/// On other devices a model in bfloat16 has such products.
pub fn rounds_products(device: &Device) -> bool {
    #[cfg(feature = "cpu")]
    return crate::support::has_kernels(&Tensor::<1>::zeros([1], device));
    #[cfg(not(feature = "cpu"))]
    {
        let _ = device;
        false
    }
}

#[cfg(feature = "cpu")]
fn threads(device: &Device) -> usize {
    if crate::support::has_kernels(&Tensor::<1>::zeros([1], device)) {
        rayon::current_num_threads()
    } else {
        1
    }
}

#[cfg(not(feature = "cpu"))]
fn threads(_: &Device) -> usize {
    1
}

/// Processes all shards at the same time, each from start to end on one thread. Threads then wait for
/// each other once, at the end, instead of at every operation: sampling of 64 images took 520 ms when threads
/// shared every product, and takes 262 (docs/performance.md). Results keep the order of the inputs.
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
    // Pools of one thread each: a kernel finds no other thread in its pool and works alone.
    static POOLS: Mutex<Vec<ThreadPool>> = Mutex::new(Vec::new());
    // Taken out during the call: a call within a shard or from another thread makes new pools instead of
    // waiting.
    let mut pools = std::mem::take(&mut *POOLS.lock().unwrap_or_else(PoisonError::into_inner));
    while pools.len() < inputs.len() {
        match ThreadPoolBuilder::new().num_threads(1).build() {
            Ok(pool) => pools.push(pool),
            // The system allows no more threads: this one does all the work.
            Err(_) => return inputs.into_iter().map(work).collect(),
        }
    }
    let choice = Choice::of_this_thread();
    let results = std::thread::scope(|scope| {
        let started: Vec<_> = inputs
            .into_iter()
            .zip(&pools)
            .map(|(input, pool)| scope.spawn(move || pool.install(|| choice.apply(|| work(input)))))
            .collect();
        started
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    let mut free = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    free.append(&mut pools);
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_all_rows_in_order() {
        for rows in [1, 7, 8, 9, 64] {
            let shards = shards(&Device::default(), rows);
            assert!(shards.len() == 1 || rows >= 2 * ROWS_A_SHARD);
            for _ in 0..3 {
                let done = at_once(shards.clone(), |range| range.collect::<Vec<_>>());
                assert_eq!(done.concat(), (0..rows).collect::<Vec<_>>());
            }
        }
    }

    /// Also with one shard, which stays on the thread that asks.
    #[cfg(feature = "cpu")]
    #[test]
    fn switches_hold_where_the_work_is_done() {
        use crate::fallback::{precision, rounded_products};
        use latentlm_products::Precision;

        for count in [1, 3] {
            let shards = || at_once((0..count).collect(), |_: usize| precision());
            assert_eq!(rounded_products(shards), vec![Precision::Bf16; count]);
            assert_eq!(shards(), vec![Precision::F32; count]);
        }
        let on_worker = || on_workers(precision);
        assert_eq!(rounded_products(on_worker), Precision::Bf16);
        assert_eq!(on_worker(), Precision::F32);
    }

    #[test]
    fn the_work_is_done_and_its_result_returned() {
        let text = String::from("moved in");
        assert_eq!(on_workers(|| text.len()), 8);
    }
}
