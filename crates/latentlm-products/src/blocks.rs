//! Blocks of columns, for threads that share the rows of a product.

use rayon::prelude::*;

/// Outputs whose sums are kept in registers at the same time. With one row alone they keep four streams of memory
/// busy.
pub(crate) const OUTPUTS: usize = 4;
/// Bytes of weights in a block of outputs: they stay in a core's second-level cache for all rows.
const BLOCK_BYTES: usize = 256 << 10;
/// Smallest number of multiplications for which all threads are used. With one row of bfloat16 weights that is half a
/// megabyte, which one thread reads in about 40 us.
const PARALLEL: usize = 1 << 18;

/// Cuts rows of `width` numbers into blocks of `step` columns, which threads can write at the same time. A block has
/// its part of every row.
pub(crate) fn column_blocks<T>(out: &mut [T], width: usize, step: usize) -> Vec<Vec<&mut [T]>> {
    let rows = out.len() / width;
    let count = width.div_ceil(step);
    let mut blocks: Vec<Vec<&mut [T]>> = Vec::with_capacity(count);
    blocks.resize_with(count, || Vec::with_capacity(rows));
    for row in out.chunks_exact_mut(width) {
        for (block, part) in blocks.iter_mut().zip(row.chunks_mut(step)) {
            block.push(part);
        }
    }
    blocks
}

/// Threads for a product, from its number of multiplications: one if `alone`, or if more do not pay.
pub(crate) fn threads_for(multiplications: usize, alone: bool) -> usize {
    if alone || multiplications < PARALLEL {
        1
    } else {
        rayon::current_num_threads()
    }
}

/// A matrix that is stored as a row of weights for each output.
pub(crate) struct OutputRows {
    pub(crate) outputs: usize,
    /// Bytes of a row.
    pub(crate) row_bytes: usize,
    /// Outputs that are multiplied at the same time.
    pub(crate) unit: usize,
    pub(crate) threads: usize,
}

impl OutputRows {
    /// Calls `multiply` for each block of outputs, with the first of them and their columns of `out`, on the matrix's
    /// number of threads.
    pub(crate) fn each_block(
        &self,
        out: &mut [f32],
        multiply: impl Fn(usize, &mut [&mut [f32]]) + Sync,
    ) {
        let step = self.outputs_a_block();
        let blocks = column_blocks(out, self.outputs, step);
        let run = |(index, mut block): (usize, Vec<&mut [f32]>)| {
            multiply(index * step, &mut block);
        };
        if self.threads == 1 {
            blocks.into_iter().enumerate().for_each(run);
        } else {
            // Each block is a task: a thread that is woken late, or held up, leaves its blocks to the others. By itself rayon
            // would give two threads 14 of 56 blocks at a time.
            let blocks = blocks.into_par_iter().enumerate();
            blocks.with_max_len(1).for_each(run);
        }
    }

    /// Outputs of a block: few enough that their weights stay in the cache, and that each thread gets several blocks.
    fn outputs_a_block(&self) -> usize {
        let cached = BLOCK_BYTES / self.row_bytes;
        let shared = if self.threads == 1 {
            self.outputs
        } else {
            self.outputs.div_ceil(4 * self.threads)
        };
        cached.min(shared).max(1).next_multiple_of(self.unit)
    }
}
