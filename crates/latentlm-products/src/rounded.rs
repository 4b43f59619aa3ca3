//! Matrix products of bfloat16 numbers with float32 sums, by an instruction of x86 processors with AVX-512
//! BF16. It multiplies 32 pairs of numbers, where the float32 instruction multiplies 16.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_mut))]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_loadu_si512,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_setzero_si512,
};

#[cfg(target_arch = "x86_64")]
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use crate::amx::{self, Columns, Lines, Sums, Tiles};
#[cfg(target_arch = "x86_64")]
use crate::blocks::threads_for;
#[cfg(target_arch = "x86_64")]
use crate::layout::lay_out;
#[cfg(target_arch = "x86_64")]
use crate::matrix::Matrix;
use crate::processor::has_bf16_products;
#[cfg(target_arch = "x86_64")]
use crate::window::Window;

/// Columns of a panel: as many as one register holds sums of.
const LANES: usize = 16;
/// Panels whose sums are kept in registers at the same time.
const PANELS: usize = 2;
// Each step of a tile loads 2 lines of weights and 12 pairs of inputs for 24 multiplications. With one row or one
// panel at a time, loads would outnumber them.
/// Rows whose sums are kept in registers at the same time. The sums of 12 rows and 2 panels take 24 of the 32
/// registers and leave 8 for the factors.
const ROWS: usize = 12;
/// Fewest rows for tiles: of one or two, registers are faster.
#[cfg(target_arch = "x86_64")]
const TILE_ROWS: usize = 3;

/// Memory that products with a [`Rounded`] matrix reuse.
#[derive(Debug)]
pub struct RoundedScratch<'a> {
    /// For the other factor's rows, rounded.
    pub rows: &'a mut Vec<u32>,
    /// For the columns that each thread computes.
    pub columns: &'a mut Vec<f32>,
}

/// A matrix rounded to bfloat16. The instruction adds the products of two neighboring numbers to each sum. So
/// the matrix is stored in panels of 16 columns; a panel has one line for each pair of rows, and a line
/// has, for each column, the column's two numbers in one `u32`.
pub struct Rounded {
    /// `[panel, pair of rows, column]`
    panels: Vec<u32>,
    /// Pairs of rows; with those that fill up a tile if `tiles`.
    pairs: usize,
    /// Whether the processor's tiles multiply, if there are [`TILE_ROWS`].
    tiles: bool,
    rows: usize,
    columns: usize,
}

impl Rounded {
    /// Rounds a matrix to the nearest bfloat16 numbers, ties to even. Zeros fill up the last pair of rows and
    /// the last panel.
    ///
    /// # Shapes
    /// - `numbers`: `[rows, columns]`
    ///
    /// # Panics
    /// If the processor does not have the instruction, or the number of numbers does not fit.
    pub fn new(numbers: &[f32], rows: usize, columns: usize) -> Self {
        Self::laid_out(numbers, rows, columns, has_tiles())
    }

    /// [`Self::new`] for tiles or for registers.
    #[allow(unsafe_code)]
    fn laid_out(numbers: &[f32], rows: usize, columns: usize, tiles: bool) -> Self {
        assert_eq!(numbers.len(), rows * columns, "a {rows} x {columns} matrix");
        assert!(
            has_bf16_products(),
            "this processor has no products of bfloat16"
        );
        let pairs = rows.div_ceil(if tiles { 2 * LANES } else { 2 });
        let pairs = if tiles { pairs * LANES } else { pairs };
        let mut panels = vec![0; columns.div_ceil(LANES) * pairs * LANES];
        #[cfg(target_arch = "x86_64")]
        if !panels.is_empty() {
            let lines = Matrix::new(numbers, rows, columns).transposed();
            // SAFETY: the processor has the features, see `has_bf16_products`.
            unsafe { lay_out::<LANES>(&mut panels, lines, pairs) };
        }
        Self {
            panels,
            pairs,
            tiles,
            rows,
            columns,
        }
    }

    /// Rows and columns.
    #[inline]
    pub fn sizes(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// `out = x self` for rows `x`, which are rounded too: on this thread if `alone`, or else on all if that pays. The
    /// numbers are the same on any number of threads.
    ///
    /// # Shapes
    /// - `x`: `[N, rows]`
    /// - `out`: `[N, columns]`
    ///
    /// # Panics
    /// If the processor does not have the instruction, or sizes do not fit.
    pub fn product_over(
        &self,
        out: &mut [f32],
        x: &[f32],
        scratch: RoundedScratch<'_>,
        alone: bool,
    ) {
        let count = out.len() / self.columns.max(1);
        assert_eq!(out.len(), count * self.columns, "the product's size");
        assert_eq!(x.len(), count * self.rows, "{count} rows of {}", self.rows);
        assert!(
            has_bf16_products(),
            "this processor has no products of bfloat16"
        );
        #[cfg(target_arch = "x86_64")]
        self.multiply(out, x, scratch, alone);
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (scratch, alone);
    }

    /// [`Self::product_over`] on a processor that has the instruction.
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    fn multiply(&self, out: &mut [f32], x: &[f32], scratch: RoundedScratch<'_>, alone: bool) {
        let pairs = self.pairs;
        if pairs == 0 || out.is_empty() {
            return out.fill(0.0);
        }
        let RoundedScratch { rows, columns } = scratch;
        let count = out.len() / self.columns;
        let by_tiles = self.tiles && count >= TILE_ROWS;
        let room = if by_tiles && count > amx::SIDE {
            count.next_multiple_of(amx::WIDTH)
        } else {
            count
        };
        rows.clear();
        rows.resize(room * pairs, 0);
        for (rounded, x) in rows.chunks_exact_mut(pairs).zip(x.chunks_exact(self.rows)) {
            // SAFETY: the processor has both features, see `has_bf16_products`.
            unsafe { round(rounded, x) };
        }
        let rows = rows.as_slice();
        let threads = threads_for(count * self.rows * self.columns, alone);
        if by_tiles {
            return self.multiply_by_tiles(out, rows, threads);
        }
        if threads == 1 {
            // SAFETY: the processor has both features, see `has_bf16_products`.
            unsafe { multiply_panels(&self.panels, pairs, rows, out) };
            return;
        }
        // The columns of some panels are spread over all rows of `out`, which threads cannot borrow at the same time. So
        // each thread writes its columns to memory of its own, and they are copied afterwards.
        if columns.len() < out.len() {
            columns.resize(out.len(), 0.0);
        }
        let blocks = &mut columns[..out.len()];
        let width = PANELS * LANES;
        blocks
            .par_chunks_mut(count * width)
            .zip(self.panels.par_chunks(pairs * width))
            .for_each(|(block, panels)| {
                // SAFETY: the processor has both features, see `has_bf16_products`.
                unsafe { multiply_panels(panels, pairs, rows, block) };
            });
        for (row, out) in out.chunks_exact_mut(self.columns).enumerate() {
            let blocks = blocks.chunks(count * width);
            for (block, out) in blocks.zip(out.chunks_mut(width)) {
                out.copy_from_slice(&block[row * out.len()..][..out.len()]);
            }
        }
    }

    /// [`Self::multiply`] by the processor's tiles. There is room for rows that fill up the last tile.
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    fn multiply_by_tiles(&self, out: &mut [f32], rows: &[u32], threads: usize) {
        let out_rows = out.len() / self.columns;
        let panels = self.panels.chunks(PANELS * self.pairs * LANES);
        let mut parts = Vec::with_capacity(panels.len());
        let mut rest = Window::of(out, self.columns);
        for panels in panels {
            let (out, right) = rest.split_columns(PANELS * LANES);
            rest = right;
            parts.push((out, panels));
        }
        let tiles = || Tiles::of_rows(out_rows);
        let run = |tiles: &Tiles, (out, panels)| {
            // SAFETY: the processor has the feature, see `has_bf16_products`.
            unsafe { multiply_tiles(tiles, out, rows, panels, self.pairs) };
        };
        if threads == 1 {
            let tiles = tiles();
            parts.into_iter().for_each(|part| run(&tiles, part));
        } else {
            parts.into_par_iter().for_each(|part| run(&tiles(), part));
        }
    }
}

/// The product of rounded rows with one or two panels, whose columns are all that `out` has.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn multiply_tiles(tiles: &Tiles, mut out: Window<'_>, rows: &[u32], panels: &[u32], pairs: usize) {
    let mut sums = Sums::new();
    let right = Columns::narrow_panels(panels, panels.len() / (pairs * LANES));
    let [count, columns] = [out.rows(), out.columns()];
    for row in (0..count).step_by(amx::WIDTH) {
        let left = Lines::of_pairs(&rows[row * pairs..], pairs);
        let out = out.part(row..count.min(row + amx::WIDTH), 0..columns);
        if [out.rows(), columns] == [amx::WIDTH; 2] {
            tiles.multiply(out, left, right, false);
        } else {
            let both = out.rows() > amx::SIDE;
            tiles.multiply_part(&mut sums, left, right, both);
            sums.write(out, false);
        }
    }
}

/// Whether this processor has tiles.
fn has_tiles() -> bool {
    #[cfg(target_arch = "x86_64")]
    return amx::available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The product of rounded rows of `pairs` pairs each with some panels, whose columns are all that a row of `out` has.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_panels(panels: &[u32], pairs: usize, rows: &[u32], out: &mut [f32]) {
    let columns = out.len() / (rows.len() / pairs);
    // Panels outside, rows inside: two panels are read from memory once and stay in the cache for all rows.
    for (index, panels) in panels.chunks(PANELS * pairs * LANES).enumerate() {
        let column = index * PANELS * LANES;
        let rows = rows.chunks(ROWS * pairs);
        for (x, out) in rows.zip(out.chunks_mut(ROWS * columns)) {
            let tile = Tile {
                pairs,
                panels,
                column,
                columns,
            };
            if panels.len() == PANELS * pairs * LANES {
                tile.rows::<PANELS>(x, out);
            } else {
                tile.rows::<1>(x, out);
            }
        }
    }
}

/// Rounds a row to bfloat16, two numbers in each `u32`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
#[allow(unsafe_code)]
pub(crate) fn round(out: &mut [u32], x: &[f32]) {
    for (out, x) in out.chunks_mut(LANES / 2).zip(x.chunks(LANES)) {
        let mask = u16::MAX >> (LANES - x.len());
        // SAFETY: the mask covers the numbers there are; sixteen of two bytes are eight of four.
        let pairs: [u32; LANES / 2] = unsafe {
            std::mem::transmute(_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x.as_ptr())))
        };
        out.copy_from_slice(&pairs[..out.len()]);
    }
}

/// Reinterprets 64 bytes as 32 bfloat16 numbers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
#[allow(unsafe_code)]
pub(crate) fn pairs_of(bits: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes of which every pattern is a value.
    unsafe { std::mem::transmute(bits) }
}

/// The columns of a product that belong to one or two panels.
#[cfg(target_arch = "x86_64")]
struct Tile<'a> {
    /// Pairs of numbers in a row of the left factor.
    pairs: usize,
    panels: &'a [u32],
    /// First column of the tile in the product.
    column: usize,
    /// Columns of the whole product.
    columns: usize,
}

#[cfg(target_arch = "x86_64")]
impl Tile<'_> {
    /// The product of at most [`ROWS`] rows with `P` panels. Numbers of rows without a function of their own are
    /// split into larger and smaller ones that have one.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn rows<const P: usize>(&self, x: &[u32], out: &mut [f32]) {
        match x.len() / self.pairs {
            12 => self.sums::<12, P>(x, out),
            8..12 => self.split::<8, P>(x, out),
            4..8 => self.split::<4, P>(x, out),
            3 => self.sums::<3, P>(x, out),
            2 => self.sums::<2, P>(x, out),
            1 => self.sums::<1, P>(x, out),
            rows => unreachable!("{rows} rows of at most {ROWS}"),
        }
    }

    /// The first `R` rows, and then the others.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn split<const R: usize, const P: usize>(&self, x: &[u32], out: &mut [f32]) {
        let (first, rest) = x.split_at(R * self.pairs);
        let (out, rest_out) = out.split_at_mut(R * self.columns);
        self.sums::<R, P>(first, out);
        if !rest.is_empty() {
            self.rows::<P>(rest, rest_out);
        }
    }

    /// The product of `R` rows with `P` panels. `R` and `P` are constants, so that all sums stay in registers
    /// until the end.
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[allow(unsafe_code)]
    // Sums are float32: bfloat16 has 8 bits of precision, and a sum of hundreds of products would stop growing.
    fn sums<const R: usize, const P: usize>(&self, x: &[u32], out: &mut [f32]) {
        let pairs = self.pairs;
        assert!(x.len() == R * pairs && self.panels.len() == P * pairs * LANES);
        assert!(out.len() == R * self.columns && self.column < self.columns);
        let mut sums = [[_mm512_setzero_ps(); P]; R];
        for pair in 0..pairs {
            // SAFETY: `P` panels of `pairs` rows of sixteen lie in `panels`, `R` rows of `pairs` in
            // `x`: asserted.
            unsafe {
                let mut weights = [pairs_of(_mm512_setzero_si512()); P];
                for (panel, weights) in weights.iter_mut().enumerate() {
                    let at = self.panels.as_ptr().add((panel * pairs + pair) * LANES);
                    *weights = pairs_of(_mm512_loadu_si512(at.cast()));
                }
                // Each pair of numbers of a row is copied to all lanes and multiplied with the same pair of
                // rows of all columns.
                for (row, sums) in sums.iter_mut().enumerate() {
                    let both = *x.get_unchecked(row * pairs + pair);
                    let both = pairs_of(_mm512_set1_epi32(both.cast_signed()));
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        *sum = _mm512_dpbf16_ps(*sum, both, weights);
                    }
                }
            }
        }
        for (out, sums) in out.chunks_exact_mut(self.columns).zip(sums) {
            let columns = out[self.column..].chunks_mut(LANES);
            for (out, sum) in columns.zip(sums) {
                let mask = u16::MAX >> (LANES - out.len());
                // SAFETY: the mask covers the columns there are.
                unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, sum) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;
    use rayon::ThreadPoolBuilder;

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * seed).sin()).collect()
    }

    fn product(weight: &Rounded, out: &mut [f32], x: &[f32], alone: bool) {
        let scratch = RoundedScratch {
            rows: &mut vec![7; 3],
            columns: &mut vec![7.0; 3],
        };
        weight.product_over(out, x, scratch, alone);
    }

    fn nearest(x: f32) -> f64 {
        bf16::from_f32(x).to_f64()
    }

    /// All numbers of rows that there are functions for, odd sizes, and columns that do not fill a panel; on one thread
    /// and on several.
    #[test]
    fn products_are_those_of_rounded_numbers() {
        if !has_bf16_products() {
            return;
        }
        let pool = ThreadPoolBuilder::new().num_threads(3).build();
        let pool = pool.expect("a few threads");
        let shapes = (1..=26).map(|rows| (rows, 6, 5));
        let more = [
            (13, 7, 48),
            (5, 33, 33),
            (48, 128, 320),
            (2, 512, 300),
            (3, 600, 305),
            (2, 1, 100),
            (3, 0, 4),
            (0, 4, 4),
        ];
        let shapes: Vec<_> = shapes.chain(more).collect();
        let ways =
            [false, has_tiles()].map(|tiles| shapes.iter().map(move |shape| (tiles, *shape)));
        for (tiles, (rows, inner, columns)) in ways.into_iter().flatten() {
            let (x, w) = (numbers(rows * inner, 0.7), numbers(inner * columns, 1.3));
            let mut got = vec![9.0; rows * columns];
            let weight = Rounded::laid_out(&w, inner, columns, tiles);
            product(&weight, &mut got, &x, true);
            let mut shared = vec![9.0; rows * columns];
            pool.install(|| product(&weight, &mut shared, &x, false));
            assert_eq!(got, shared);
            for (index, got) in got.iter().enumerate() {
                let (row, column) = (index / columns, index % columns);
                let products = (0..inner)
                    .map(|k| nearest(x[row * inner + k]) * nearest(w[k * columns + column]));
                let size: f64 = products.clone().map(f64::abs).sum();
                let expected: f64 = products.sum();
                // In a float32 sum of n products, in any order, each product takes part in at most n + 1 roundings of
                // half a unit, 2^-24.
                let bound = (inner + 2) as f64 * size / f64::from(1 << 24);
                let error = (f64::from(*got) - expected).abs();
                assert!(
                    error <= bound,
                    "{rows} x {inner} x {columns} at {index}: {got} for {expected}"
                );
            }
        }
    }
}
