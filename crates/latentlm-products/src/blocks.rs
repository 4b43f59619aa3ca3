//! Blocks of columns, for threads that share the rows of a product.

/// Cuts rows of `width` numbers into blocks of `step` columns, which threads can write at the same time. A block has
/// its part of every row.
pub(crate) fn column_blocks(out: &mut [f32], width: usize, step: usize) -> Vec<Vec<&mut [f32]>> {
    let rows = out.len() / width;
    let count = width.div_ceil(step);
    let mut blocks: Vec<Vec<&mut [f32]>> = Vec::with_capacity(count);
    blocks.resize_with(count, || Vec::with_capacity(rows));
    for row in out.chunks_exact_mut(width) {
        for (block, part) in blocks.iter_mut().zip(row.chunks_mut(step)) {
            block.push(part);
        }
    }
    blocks
}
