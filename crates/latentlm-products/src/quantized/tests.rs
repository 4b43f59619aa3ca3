//! Every way of every processor against sums in float64.

use half::{bf16, f16};
use rayon::ThreadPoolBuilder;

use super::*;
use crate::bits::widened;

const BOTH: [Bits; 2] = [Bits::Eight, Bits::Four];

fn numbers(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * seed).sin()).collect()
}

/// The matrix multiplied in each of the ways that this processor has.
fn matrices(packed: &[u8], bits: Bits, inputs: usize, outputs: usize) -> Vec<Quantized<'_>> {
    let ways = [Way::Portable, Way::Avx2, Way::Vnni, Way::Tiles].into_iter();
    let there = ways.filter(|way| way.is_there());
    there
        .map(|way| matrix(packed, bits, [inputs, outputs], way))
        .collect()
}

/// The matrix multiplied in one way.
fn matrix(packed: &[u8], bits: Bits, [inputs, outputs]: [usize; 2], way: Way) -> Quantized<'_> {
    Quantized {
        way,
        ..Quantized::new(packed, bits, inputs, outputs)
    }
}

fn product(weight: &Quantized<'_>, x: &[f32], rows: usize, alone: bool) -> Vec<f32> {
    let mut out = vec![9.0; rows * weight.sizes()[1]];
    weight.product_over(&mut out, x, &mut vec![7; 3], alone);
    out
}

/// What the ways with integers multiply in the place of `x`: the nearest of 255 numbers for each group.
fn rounded(x: &[f32]) -> Vec<f64> {
    let mut all = Vec::with_capacity(x.len());
    for x in x.chunks(GROUP) {
        let most = largest(x);
        let scale = most / 127.0;
        for x in x {
            let number = (x * (127.0 / most)).round_ties_even();
            let rounded = f64::from(number) * f64::from(scale);
            // Half a step, and what float32 leaves of 127 steps.
            assert!((rounded - f64::from(*x)).abs() <= f64::from(scale) * 0.501);
            all.push(rounded);
        }
    }
    all
}

/// The nearest bfloat16 number.
fn nearest(x: f32) -> f64 {
    bf16::from_f32(x).to_f64()
}

/// Sizes for tiles: fewest rows, and one more than fill two; the rows of several passes; one output, a part of a tile, several
/// blocks of outputs; inputs of a block, a group more, and several blocks.
const MANY: [[usize; 3]; 8] = [
    [16, 32, 33],
    [17, 512, 1],
    [33, 544, 31],
    [40, 1056, 70],
    [20, 96, 300],
    [64, 64, 64],
    [65, 1120, 5],
    [1057, 32, 40],
];

/// All numbers of rows and outputs that there are functions for, an odd and an even number of groups, several blocks,
/// nothing at all.
const SHAPES: [[usize; 3]; 13] = [
    [1, 32, 5],
    [2, 64, 4],
    [3, 96, 1],
    [4, 32, 7],
    [5, 64, 8],
    [6, 160, 3],
    [7, 128, 9],
    [13, 64, 22],
    [1, 1024, 301],
    [25, 128, 130],
    [37, 96, 6],
    [0, 32, 4],
    [3, 32, 0],
];

#[test]
fn products_are_those_of_exact_sums() {
    let shapes: Vec<_> = SHAPES.into_iter().chain(MANY).collect();
    for (bits, [rows, inputs, outputs]) in BOTH
        .into_iter()
        .flat_map(|bits| shapes.iter().map(move |shape| (bits, *shape)))
    {
        let packed = bits.quantize(&numbers(inputs * outputs, 1.3), inputs);
        let w = bits.widen(&packed, inputs);
        let x = numbers(rows * inputs, 0.7);
        let rounded = rounded(&x);
        for weight in matrices(&packed, bits, inputs, outputs) {
            assert_eq!(weight.sizes(), [inputs, outputs]);
            let got = product(&weight, &x, rows, true);
            assert_eq!(product(&weight, &x, rows, false), got);
            let by_tiles = weight.way == Way::Tiles && rows >= TILE_ROWS;
            for (index, got) in got.iter().enumerate() {
                let (row, output) = (index / outputs, index % outputs);
                let (mut expected, mut size) = (0.0, 0.0);
                for k in 0..inputs {
                    let (at, w) = (row * inputs + k, w[output * inputs + k]);
                    let product = match weight.way {
                        Way::Portable => f64::from(x[at]) * f64::from(w),
                        Way::Tiles if by_tiles => nearest(x[at]) * nearest(w),
                        Way::Tiles | Way::Vnni | Way::Avx2 => rounded[at] * f64::from(w),
                    };
                    expected += product;
                    size += product.abs();
                }
                // A product takes part in at most 3 roundings of half a unit, 2^-24, before the sum of groups: its own,
                // that with another, and that of the scale. Then there are as many as groups, and 5 in the sum of lanes.
                // In a float32 sum of n products, in any order, it takes part in at most n + 1.
                let roundings = if by_tiles {
                    inputs + 2
                } else {
                    inputs / GROUP + 9
                };
                let bound = roundings as f64 * size / f64::from(1 << 24);
                let error = (f64::from(*got) - expected).abs();
                let way = weight.way;
                assert!(
                    error <= bound,
                    "{bits:?} {way:?}: {rows} x {inputs} x {outputs} at {index}: {got} for {expected}"
                );
            }
        }
    }
}

/// Tiles round each factor by at most half a unit of bfloat16, 2^-9 of the number, and the portable way rounds none. So a
/// product differs by a 256th and a little, and both ways round float32 sums.
#[test]
fn tiles_are_near_the_portable_way() {
    if !Way::Tiles.is_there() {
        return;
    }
    for (bits, [rows, inputs, outputs]) in BOTH.into_iter().flat_map(|b| MANY.map(|s| (b, s))) {
        let packed = bits.quantize(&numbers(inputs * outputs, 1.3), inputs);
        let w = bits.widen(&packed, inputs);
        let x = numbers(rows * inputs, 0.7);
        let [got, expected] = [Way::Tiles, Way::Portable].map(|way| {
            let weight = matrix(&packed, bits, [inputs, outputs], way);
            product(&weight, &x, rows, false)
        });
        assert_ne!(got, expected, "tiles did not multiply");
        for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let x = &x[index / outputs * inputs..][..inputs];
            let w = &w[index % outputs * inputs..][..inputs];
            let size: f32 = x.iter().zip(w).map(|(x, w)| (x * w).abs()).sum();
            assert!(
                (got - expected).abs() <= size / 250.0,
                "{bits:?}: {rows} x {inputs} x {outputs} at {index}: {got} for {expected}"
            );
        }
    }
}

/// A row alone or in a few, in every batch, on one thread and on several.
#[test]
fn a_row_does_not_depend_on_its_neighbours_nor_on_threads() {
    let (rows, inputs, outputs) = (38, 224, 70);
    let x = numbers(rows * inputs, 0.7);
    for bits in BOTH {
        let packed = bits.quantize(&numbers(inputs * outputs, 1.3), inputs);
        for weight in matrices(&packed, bits, inputs, outputs) {
            let expected: Vec<f32> = x
                .chunks(inputs)
                .flat_map(|x| product(&weight, x, 1, true))
                .collect();
            let together = product(&weight, &x, rows, true);
            for threads in [1, 2, 5] {
                let pool = ThreadPoolBuilder::new().num_threads(threads).build();
                let pool = pool.expect("a few threads");
                for count in 1..=rows {
                    let x = &x[..count * inputs];
                    let got = pool.install(|| product(&weight, x, count, false));
                    let way = weight.way;
                    let expected = if way == Way::Tiles && count >= TILE_ROWS {
                        &together
                    } else {
                        &expected
                    };
                    assert_eq!(
                        got,
                        expected[..count * outputs],
                        "{bits:?} {way:?}, {count} rows"
                    );
                }
            }
        }
    }
}

/// The largest numbers of both factors, all of one sign: no sum of integers overflows or saturates.
#[test]
fn the_largest_numbers_are_multiplied() {
    let inputs = 128;
    for (bits, (x_sign, w_sign)) in BOTH
        .into_iter()
        .flat_map(|bits| [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)].map(|s| (bits, s)))
    {
        let packed = bits.quantize(&vec![w_sign; inputs * 5], inputs);
        let x = vec![x_sign; inputs];
        for weight in matrices(&packed, bits, inputs, 5) {
            for got in product(&weight, &x, 1, true) {
                // A float16 scale has 11 bits.
                let expected = inputs as f32 * x_sign * w_sign;
                assert!((got / expected - 1.0).abs() < 5e-4, "{got}");
            }
        }
    }
}

#[test]
fn zeros_stay_zeros_and_rubbish_shows() {
    let inputs = 64;
    for bits in BOTH {
        let zeros = bits.quantize(&vec![0.0; inputs * 3], inputs);
        assert!(bits.widen(&zeros, inputs).iter().all(|w| *w == 0.0));
        let packed = bits.quantize(&numbers(inputs * 3, 1.3), inputs);
        let weights = matrices(&packed, bits, inputs, 3).into_iter();
        for (weight, rows) in weights.flat_map(|weight| [(weight, 1), (weight, TILE_ROWS)]) {
            let same = |x: f32| product(&weight, &vec![x; rows * inputs], rows, true);
            assert!(same(0.0).iter().all(|y| *y == 0.0));
            let tiny = same(1e-40);
            assert!(tiny.iter().all(|y| y.abs() < 1e-37), "{tiny:?}");
            for rubbish in [f32::NAN, f32::INFINITY] {
                let mut x = numbers(rows * inputs, 0.7);
                x[40] = rubbish;
                let got = product(&weight, &x, rows, true);
                let (first, others) = got.split_at(3);
                assert!(first.iter().all(|y| !y.is_finite()), "{first:?}");
                assert!(others.iter().all(|y| y.is_finite()), "{others:?}");
            }
        }
    }
}

/// int8: half a step, a 127th of the largest magnitude, and as much again of float16's rounding. int4: the chosen scale
/// is no worse than the one that keeps the number of the largest magnitude, for which half a step is a 16th.
#[test]
fn weights_are_the_nearest() {
    let inputs = 96;
    for scale in [1.0, 1e-3, 40.0] {
        let rows: Vec<f32> = numbers(inputs * 9, 1.3).iter().map(|w| w * scale).collect();
        let eight = Bits::Eight.widen(&Bits::Eight.quantize(&rows, inputs), inputs);
        let four = Bits::Four.widen(&Bits::Four.quantize(&rows, inputs), inputs);
        let groups = eight.chunks(GROUP).zip(four.chunks(GROUP));
        for (exact, (eight, four)) in rows.chunks(GROUP).zip(groups) {
            let most = largest(exact);
            // Scales below 6e-5, float16's smallest normal number, have fewer bits: those of 1e-3 / 127.
            let half = most / 254.0 + most * 2e-3 + 4e-6;
            for (exact, got) in exact.iter().zip(eight) {
                assert!((exact - got).abs() <= half, "{got} for {exact}");
            }
            let square = |got: &[f32]| -> f32 {
                let errors = exact.iter().zip(got).map(|(exact, got)| exact - got);
                errors.map(|error| error * error).sum()
            };
            let plain: Vec<f32> = {
                let most = exact
                    .iter()
                    .fold(0.0_f32, |m, x| if x.abs() > m.abs() { *x } else { m });
                let scale = f16::from_f32(most / -8.0).to_f32();
                let number = |x: &f32| (x / scale).round_ties_even().clamp(-8.0, 7.0);
                exact.iter().map(|x| number(x) * scale).collect()
            };
            assert!(square(four) <= square(&plain) * 1.0001);
            assert!(square(four) <= GROUP as f32 * (most / 8.0).powi(2));
        }
    }
}

/// `Q4_0` and `Q8_0` of GGUF: byte `k` of an int4 group has the numbers `k` and `k + 16`.
#[test]
fn numbers_lie_as_said() {
    let mut row = vec![0.0; GROUP];
    (row[0], row[3], row[19]) = (-8.0, 5.0, -3.0);
    let packed = Bits::Four.quantize(&row, GROUP);
    assert_eq!(packed.len(), 2 * (16 + 2));
    assert_eq!((packed[0], packed[3]), (0x80, 0x5d));
    assert_eq!(packed[32..34], f16::from_f32(1.0).to_bits().to_le_bytes());
    (row[0], row[3], row[19]) = (-127.0, 5.0, -3.0);
    let packed = Bits::Eight.quantize(&row, GROUP);
    assert_eq!(packed.len(), 2 * (32 + 2));
    let at = |index: usize| packed[index].cast_signed();
    assert_eq!((at(0), at(3), at(19)), (-127, 5, -3));
    assert_eq!(packed[64..66], f16::from_f32(1.0).to_bits().to_le_bytes());
}

#[test]
fn rows_come_apart_and_together() {
    for (bits, inputs) in [(Bits::Eight, 96), (Bits::Four, 96), (Bits::Four, 128)] {
        let packed = bits.quantize(&numbers(inputs * 7, 1.3), inputs);
        let (numbers, scales) = bits.split(&packed, inputs);
        assert_eq!(numbers.len(), 7 * inputs / GROUP * bits.group_bytes());
        assert_eq!(scales.len(), 7 * inputs / GROUP * 2);
        assert_eq!(bits.join(&numbers, &scales, inputs), packed);
    }
}

#[test]
fn widened_scales_are_the_same() {
    for x in [0.0, -1.5, 6.0e-8, 3.1e-6, -6.2e-5, 65_504.0] {
        let scale = f16::from_f32(x);
        assert_eq!(widened(scale.to_bits()), scale.to_f32());
    }
}
