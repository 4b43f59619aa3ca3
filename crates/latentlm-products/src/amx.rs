//! The matrix instructions of x86 processors (AMX): registers that hold a tile of 16 rows of 64 bytes, and one that
//! multiplies two tiles of bfloat16 numbers and adds to a tile of float32 sums.
//!
//! Rust has no stable functions for them, so that they are written in assembly here, and nowhere else.

use std::arch::asm;
use std::arch::x86_64::{
    __cpuid_count, _mm512_add_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
};
use std::marker::PhantomData;
use std::sync::OnceLock;

use half::bf16;

use crate::layout::first_lanes;
use crate::processor::has_bf16_products;
use crate::window::Window;

/// Rows of a tile; also `u32`s of a row, each a pair of bfloat16 numbers, or a float32 number.
pub(crate) const SIDE: usize = 16;
// Two tiles of each factor make four of sums: eight registers, which is all there are. Each step loads four tiles for
// four multiplications.
/// Rows and columns of a product of two tiles by two.
pub(crate) const WIDTH: usize = 2 * SIDE;

/// Whether this processor has the instructions, and the system lets this process use them.
pub(crate) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_bf16_products() && has_instructions() && may_use_tiles())
}

/// Whether the processor has tiles and products of bfloat16.
fn has_instructions() -> bool {
    const TILES: u32 = 1 << 24;
    const BFLOAT16: u32 = 1 << 22;
    if __cpuid_count(0, 0).eax < 7 {
        return false;
    }
    __cpuid_count(7, 0).edx & (TILES | BFLOAT16) == TILES | BFLOAT16
}

/// Asks Linux for the right to use tiles, once for all threads: their 8 KB are saved with a thread's other registers
/// only where they are used.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn may_use_tiles() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let result: i64;
    // SAFETY: the call changes nothing but what this process may use. The kernel overwrites two registers.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn may_use_tiles() -> bool {
    false
}

/// What the instruction reads that configures tiles.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Configuration {
    /// Eight tiles with [`SIDE`] rows of 64 bytes, but so many rows for those of [`one_by_two`] that have the rows of the
    /// product.
    const fn new(rows: u8) -> Self {
        Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
            rows: [rows, rows, 16, 16, rows, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// Sums of two tiles by two, row by row.
#[repr(C, align(64))]
pub(crate) struct Sums(pub(crate) [[f32; WIDTH]; WIDTH]);

impl Sums {
    pub(crate) fn new() -> Self {
        Self([[0.0; WIDTH]; WIDTH])
    }

    /// Writes as many sums as there are places, or adds them to what is there.
    #[target_feature(enable = "avx512f")]
    #[allow(unsafe_code)]
    pub(crate) fn write(&self, mut out: Window<'_>, add: bool) {
        for (row, sums) in (0..out.rows()).zip(&self.0) {
            let out = out.row(row).chunks_mut(SIDE);
            for (out, sums) in out.zip(sums.chunks_exact(SIDE)) {
                let (at, mask) = (out.as_mut_ptr().cast::<f32>(), first_lanes(out.len()));
                // SAFETY: the mask covers the columns there are. They are read only if there are numbers.
                unsafe {
                    let mut sum = _mm512_loadu_ps(sums.as_ptr());
                    if add {
                        sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), sum);
                    }
                    _mm512_mask_storeu_ps(at, mask, sum);
                }
            }
        }
    }
}

/// This thread's tiles, ready for use until this is dropped.
pub(crate) struct Tiles {
    /// Rows that [`one_by_two`] multiplies.
    rows: usize,
    // Tiles belong to a thread.
    _of_this_thread: PhantomData<*const ()>,
}

impl Tiles {
    /// Configures the tiles of this thread.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn new() -> Self {
        Self::of_rows(SIDE)
    }

    /// Tiles for a product of so many rows, if less than [`SIDE`]: those do not read more, and take less time. For more they
    /// are those of [`Self::new`].
    ///
    /// # Panics
    /// If there are none.
    #[allow(unsafe_code)]
    pub(crate) fn of_rows(rows: usize) -> Self {
        assert!(available(), "this processor has no tiles");
        let rows = if (1..SIDE).contains(&rows) {
            rows
        } else {
            SIDE
        };
        let configuration = Configuration::new(rows as u8);
        // SAFETY: the processor has the instruction, and the process the right. The configuration is valid.
        unsafe {
            asm!(
                "ldtilecfg [{}]",
                in(reg) &raw const configuration,
                options(nostack, readonly, preserves_flags),
            );
        }
        Self {
            rows,
            _of_this_thread: PhantomData,
        }
    }

    /// The product of [`WIDTH`] rows with as many columns, or what is there and the product if `add`.
    ///
    /// # Shapes
    /// - `out`: `[WIDTH, WIDTH]`
    ///
    /// # Panics
    /// If sizes do not fit each other.
    #[allow(unsafe_code)]
    pub(crate) fn multiply(
        &self,
        mut out: Window<'_>,
        left: Lines<'_>,
        right: Columns<'_>,
        add: bool,
    ) {
        assert_eq!([out.rows(), out.columns()], [WIDTH; 2], "a product's sizes");
        assert_eq!(self.rows, SIDE, "rows of a tile");
        let steps = steps(left, right, WIDTH);
        let (start, out_line) = (out.start(), out.line());
        // SAFETY: tiles are configured as long as `self` lives. `steps` has checked both factors, and `out` has two tiles
        // by two.
        unsafe { two_by_two(start, out_line, left, right, steps, add) };
    }

    /// The product of less than [`WIDTH`] rows with as many columns: of the first [`SIDE`], or as many as a
    /// tile has, unless `both`.
    ///
    /// # Panics
    /// If sizes do not fit each other.
    #[allow(unsafe_code)]
    pub(crate) fn multiply_part(
        &self,
        sums: &mut Sums,
        left: Lines<'_>,
        right: Columns<'_>,
        both: bool,
    ) {
        assert!(self.rows == SIDE || !both, "rows of a tile");
        let steps = steps(left, right, if both { WIDTH } else { self.rows });
        let out = sums.0.as_mut_ptr().cast();
        // SAFETY: tiles are configured as long as `self` lives. `steps` has checked both factors, and `sums` has two tiles
        // by two.
        unsafe {
            if both {
                two_by_two(out, WIDTH, left, right, steps, false);
            } else {
                one_by_two(out, left, right, steps);
            }
        }
    }

    /// The product of [`WIDTH`] rows, which follow each other in memory, with the first [`SIDE`] columns.
    ///
    /// # Panics
    /// If sizes do not fit each other.
    #[allow(unsafe_code)]
    pub(crate) fn multiply_narrow(&self, sums: &mut Sums, left: Lines<'_>, right: Columns<'_>) {
        assert_eq!(self.rows, SIDE, "rows of a tile");
        let steps = steps(left, right, WIDTH);
        let out = sums.0.as_mut_ptr().cast();
        // SAFETY: tiles are configured as long as `self` lives. `steps` has checked both factors, and `sums` has two tiles
        // below each other.
        unsafe { two_by_one(out, left, right, steps) };
    }
}

/// Rows of bfloat16 numbers of a left factor, of any alignment.
#[derive(Clone, Copy)]
pub(crate) struct Lines<'a> {
    start: *const u8,
    bytes: usize,
    /// Bytes from one row to the next.
    line: usize,
    _of: PhantomData<&'a [u32]>,
}

impl<'a> Lines<'a> {
    /// Rows of pairs, each `line` of them behind the last one.
    pub(crate) fn of_pairs(pairs: &'a [u32], line: usize) -> Self {
        Self {
            start: pairs.as_ptr().cast(),
            bytes: size_of_val(pairs),
            line: line * size_of::<u32>(),
            _of: PhantomData,
        }
    }

    /// Rows of numbers, each `line` of them behind the last one.
    pub(crate) fn of_numbers(numbers: &'a [bf16], line: usize) -> Self {
        Self {
            start: numbers.as_ptr().cast(),
            bytes: size_of_val(numbers),
            line: line * size_of::<bf16>(),
            _of: PhantomData,
        }
    }
}

/// [`WIDTH`] columns of a right factor.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    pairs: &'a [u32],
    /// Pairs from one line to the next.
    line: usize,
    /// Where the second tile begins.
    second: usize,
}

impl<'a> Columns<'a> {
    /// A panel: `[pairs, WIDTH]`.
    pub(crate) fn panel(pairs: &'a [u32]) -> Self {
        Self {
            pairs,
            line: WIDTH,
            second: SIDE,
        }
    }

    /// A panel of [`SIDE`] columns: `[pairs, SIDE]`.
    pub(crate) fn narrow(pairs: &'a [u32]) -> Self {
        Self::narrow_panels(pairs, 1)
    }

    /// One or two panels: `[panel, pairs, SIDE]`. One is multiplied twice.
    pub(crate) fn narrow_panels(pairs: &'a [u32], panels: usize) -> Self {
        Self {
            pairs,
            line: SIDE,
            second: if panels == 1 { 0 } else { pairs.len() / 2 },
        }
    }

    /// Lines of a tile's columns.
    fn lines(&self) -> usize {
        let tile = if self.line == SIDE && self.second > 0 {
            self.second
        } else {
            self.pairs.len()
        };
        tile / self.line
    }
}

/// Multiplications of tiles for a tile of sums: [`SIDE`] pairs of each row of `left`, and as many lines of `right`.
fn steps(left: Lines<'_>, right: Columns<'_>, rows: usize) -> usize {
    let pairs = right.lines();
    assert!(pairs.is_multiple_of(SIDE) && pairs > 0, "whole tiles");
    assert!(right.pairs.len() >= right.second + (pairs - 1) * right.line + SIDE);
    assert!(left.bytes >= (rows - 1) * left.line + pairs * size_of::<u32>());
    pairs / SIDE
}

impl Drop for Tiles {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the processor has the instruction. Nothing but this reads tiles.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// `steps` multiplications for each of two tiles by two, which are written to `out` or added to it.
#[allow(unsafe_code)]
unsafe fn two_by_two(
    out: *mut f32,
    out_line: usize,
    left: Lines<'_>,
    right: Columns<'_>,
    steps: usize,
    add: bool,
) {
    // SAFETY: the caller has checked all sizes.
    unsafe {
        asm!(
            "test {add:e}, {add:e}",
            "jnz 3f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 2f",
            "3:",
            "tileloadd tmm0, [{out} + {out_line}]",
            "tileloadd tmm1, [{out} + {out_line} + 64]",
            "tileloadd tmm2, [{out_below} + {out_line}]",
            "tileloadd tmm3, [{out_below} + {out_line} + 64]",
            "2:",
            "tileloadd tmm6, [{right} + {right_line}]",
            "tileloadd tmm4, [{left} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{second} + {right_line}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{below} + {line}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {left}, 64",
            "add {below}, 64",
            "add {right}, {right_step}",
            "add {second}, {right_step}",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {out_line}], tmm0",
            "tilestored [{out} + {out_line} + 64], tmm1",
            "tilestored [{out_below} + {out_line}], tmm2",
            "tilestored [{out_below} + {out_line} + 64], tmm3",
            add = in(reg) u32::from(add),
            out = in(reg) out,
            out_below = in(reg) out.add(SIDE * out_line),
            out_line = in(reg) out_line * size_of::<f32>(),
            left = inout(reg) left.start => _,
            below = inout(reg) left.start.add(SIDE * left.line) => _,
            line = in(reg) left.line,
            right = inout(reg) right.pairs.as_ptr() => _,
            second = inout(reg) right.pairs.as_ptr().add(right.second) => _,
            right_line = in(reg) right.line * size_of::<u32>(),
            right_step = in(reg) SIDE * right.line * size_of::<u32>(),
            steps = inout(reg) steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// [`two_by_two`] for the rows of one tile, written to rows of [`WIDTH`].
#[allow(unsafe_code)]
unsafe fn one_by_two(out: *mut f32, left: Lines<'_>, right: Columns<'_>, steps: usize) {
    // SAFETY: the caller has checked all sizes.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "2:",
            "tileloadd tmm4, [{left} + {line}]",
            "tileloadd tmm6, [{right} + {right_line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{second} + {right_line}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {left}, 64",
            "add {right}, {right_step}",
            "add {second}, {right_step}",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {out_line}], tmm0",
            "tilestored [{out} + {out_line} + 64], tmm1",
            out = in(reg) out,
            out_line = in(reg) WIDTH * size_of::<f32>(),
            left = inout(reg) left.start => _,
            line = in(reg) left.line,
            right = inout(reg) right.pairs.as_ptr() => _,
            second = inout(reg) right.pairs.as_ptr().add(right.second) => _,
            right_line = in(reg) right.line * size_of::<u32>(),
            right_step = in(reg) SIDE * right.line * size_of::<u32>(),
            steps = inout(reg) steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// [`two_by_two`] for the first [`SIDE`] columns, written to rows of [`WIDTH`].
// The rows of weights often come from the second-level cache, where 32 of them are not followed: four steps ahead they are
// asked for. Those that come from memory need no more than that; lines asked for in the order of memory, for the rows that are
// multiplied next, came a quarter slower.
#[allow(unsafe_code)]
unsafe fn two_by_one(out: *mut f32, left: Lines<'_>, right: Columns<'_>, steps: usize) {
    // SAFETY: the caller has checked all sizes. A prefetch reads nothing, wherever it points.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm2",
            "2:",
            "tileloadd tmm6, [{right} + {right_line}]",
            "tileloadd tmm4, [{left} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{below} + {line}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "mov {count:e}, 8",
            "mov {row}, {left}",
            "3:",
            "prefetcht0 [{row} + 256]",
            "add {row}, {line}",
            "prefetcht0 [{row} + 256]",
            "add {row}, {line}",
            "prefetcht0 [{row} + 256]",
            "add {row}, {line}",
            "prefetcht0 [{row} + 256]",
            "add {row}, {line}",
            "dec {count:e}",
            "jnz 3b",
            "add {left}, 64",
            "add {below}, 64",
            "add {right}, {right_step}",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {out_line}], tmm0",
            "tilestored [{out} + {out_line} + 2048], tmm2",
            out = in(reg) out,
            out_line = in(reg) WIDTH * size_of::<f32>(),
            left = inout(reg) left.start => _,
            below = inout(reg) left.start.add(SIDE * left.line) => _,
            row = out(reg) _,
            count = out(reg) _,
            line = in(reg) left.line,
            right = inout(reg) right.pairs.as_ptr() => _,
            right_line = in(reg) right.line * size_of::<u32>(),
            right_step = in(reg) SIDE * right.line * size_of::<u32>(),
            steps = inout(reg) steps => _,
            out("tmm0") _, out("tmm2") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            options(nostack),
        );
    }
}
