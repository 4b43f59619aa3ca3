//! Elementwise functions that the compiler can vectorize: they have no branches and call no library. `mul_add`
//! is one instruction where the compiler may use FMA, as in the vector versions of `multiversion`.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_PI, FRAC_PI_2};

/// `e^x` with an error of at most 2 units in the last place. Results beyond the normal numbers are clamped.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves the integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // Within these bounds n lies between -126 and 127, the exponents of normal numbers. Beyond them, the bits
    // put together below would form another number.
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // x - n ln 2, with ln 2 as a sum of two constants. The first ends in enough zero bits that n times
    // it is exact.
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    // The polynomial of Cephes' `expf`, which was fitted to |r| <= ln 2 / 2.
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 5e-1);
    let value = p.mul_add(r * r, r) + 1.0;
    // 2^n as bits: the low bits of `shifted` hold n, and an exponent is stored with 127 added.
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    value * f32::from_bits(exponent.wrapping_add(127) << 23)
}

/// The natural logarithm of a positive normal number, with a relative error of at most 1e-7 also near 1. NaN and infinity
/// give NaN; 0, subnormal and negative numbers are not meant.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    // x = 2^n (1 + m) with 1 + m between the root of 1/2, whose bits these are, and the root of 2.
    const ROOT: u32 = 0x3f35_04f3;
    let shifted = x.to_bits().wrapping_sub(ROOT);
    let n = (shifted.cast_signed() >> 23) as f32;
    let m = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(ROOT)) - 1.0;
    // The polynomial of Cephes' `logf`, which was fitted to this range, and its ln 2 as a sum of two constants.
    let p = 7.037_683_6e-2_f32;
    let p = p.mul_add(m, -1.151_461e-1);
    let p = p.mul_add(m, 1.167_699_87e-1);
    let p = p.mul_add(m, -1.242_014_1e-1);
    let p = p.mul_add(m, 1.424_932_3e-1);
    let p = p.mul_add(m, -1.666_805_8e-1);
    let p = p.mul_add(m, 2.000_071_4e-1);
    let p = p.mul_add(m, -2.499_999_4e-1);
    let p = p.mul_add(m, 3.333_333e-1);
    let square = m * m;
    let tail = n.mul_add(-2.121_944_4e-4, p * m * square);
    let tail = square.mul_add(-0.5, tail);
    // 0 times the number is 0, or NaN if it was not finite.
    n.mul_add(0.693_359_4, m + tail) + 0.0 * x
}

/// Largest angle that [`sin_cos`] is meant for.
pub const MOST_ANGLE: f32 = 65_536.0;

/// Sine and cosine of an angle in radians, each with an error of at most 1e-7. Angles beyond [`MOST_ANGLE`] are not meant; NaN
/// and infinity give NaN.
#[inline(always)]
pub fn sin_cos(x: f32) -> (f32, f32) {
    // As in `exp`: the nearest whole number of quarter turns.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x.mul_add(FRAC_2_PI, ROUND);
    let n = shifted - ROUND;
    // x - n pi/2, with pi/2 as a sum of two constants. What is left after the first is exact, since both numbers are
    // multiples of a last place that 24 bits reach from there.
    let r = n.mul_add(4.371_139e-8, n.mul_add(-FRAC_PI_2, x));
    let square = r * r;
    // The polynomials of Cephes' `sinf` and `cosf`, which were fitted to |r| <= pi / 4.
    let p = -1.951_529_6e-4_f32;
    let p = p.mul_add(square, 8.332_161e-3);
    let p = p.mul_add(square, -1.666_665_5e-1);
    let sine = (p * square).mul_add(r, r);
    let p = 2.443_315_7e-5_f32;
    let p = p.mul_add(square, -1.388_731_6e-3);
    let p = p.mul_add(square, 4.166_664_6e-2);
    let cosine = (p * square).mul_add(square, square.mul_add(-0.5, 1.0));
    // An odd quarter turn exchanges the two. The second and third turn the sign of the sine, the first and second that of
    // the cosine.
    let quarter = shifted.to_bits();
    let (sine, cosine) = if quarter & 1 == 1 {
        (cosine, sine)
    } else {
        (sine, cosine)
    };
    let sign = |quarter: u32| (quarter & 2) << 30;
    (
        f32::from_bits(sine.to_bits() ^ sign(quarter)),
        f32::from_bits(cosine.to_bits() ^ sign(quarter.wrapping_add(1))),
    )
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The error function with an error of at most 2e-7 (Abramowitz and Stegun, formula 7.1.26).
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    erf_and_bell(x).0
}

/// [`erf`], and `e^(-x^2)`, which it takes anyway.
#[inline(always)]
fn erf_and_bell(x: f32) -> (f32, f32) {
    // The formula holds for positive numbers. The sign is put back without a branch.
    let a = x.abs();
    let t = 1.0 / a.mul_add(0.327_591_1, 1.0);
    let p = 1.061_405_4_f32;
    let p = p.mul_add(t, -1.453_152);
    let p = p.mul_add(t, 1.421_413_7);
    let p = p.mul_add(t, -0.284_496_74);
    let p = p.mul_add(t, 0.254_829_6);
    let bell = exp(-a * a);
    let tail = p * t * bell;
    ((1.0 - tail).copysign(x), bell)
}

/// GELU: `x Phi(x)`, where `Phi` is the cumulative normal distribution.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))
}

/// [`gelu`] and its derivative. Both take the same exponential.
#[inline(always)]
pub fn gelu_and_slope(x: f32) -> (f32, f32) {
    const FRAC_1_SQRT_2PI: f32 = 0.398_942_3;
    let (erf, bell) = erf_and_bell(x * FRAC_1_SQRT_2);
    let phi = 0.5 * (1.0 + erf);
    (x * phi, phi + x * FRAC_1_SQRT_2PI * bell)
}

/// `1 / sqrt(mean(x^2) + epsilon)`, the factor of an RMSNorm.
#[inline(always)]
pub fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    let mean = sum_pairs(x, x, |a, b| a * b) / x.len() as f32;
    1.0 / (mean + epsilon).sqrt()
}

// As many as the widest registers have (AVX-512). The number is the same on processors with narrower ones,
// because the order of additions, and with it the last digit of a sum, must be the same.
/// Lanes of a sum. Several sums at the same time can be vectorized, one sum in order can't.
const LANES: usize = 16;

/// Sum of `f(a, b)` over pairs. The order of additions does not depend on the processor.
#[inline(always)]
pub fn sum_pairs(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut sum = 0.0;
    for (a, b) in a_chunks.remainder().iter().zip(b_chunks.remainder()) {
        sum += f(*a, *b);
    }
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += f(a[lane], b[lane]);
        }
    }
    sum + add_lanes(lanes)
}

/// Sum of all lanes. Half of the lanes are added to the other half, and so on: four additions wait for each
/// other instead of sixteen.
#[inline(always)]
fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The largest number.
#[inline(always)]
pub fn largest(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = lane.max(*x);
        }
    }
    rest.iter()
        .chain(&lanes)
        .fold(f32::NEG_INFINITY, |most, x| most.max(*x))
}

/// Maximum of a softmax's inputs, and the sum of its exponentials.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftmaxSum {
    /// The largest number.
    pub largest: f32,
    /// The sum of exponentials, each number less the largest.
    pub sum: f32,
}

/// Replaces numbers by their softmax.
#[inline(always)]
pub fn softmax(x: &mut [f32]) -> SoftmaxSum {
    // The largest becomes e^0, so that no exponential overflows and the sum is at least 1.
    let most = largest(x);
    for x in x.iter_mut() {
        *x = exp(*x - most);
    }
    // One division for all, then multiplications: these are several times faster.
    let sum = sum_pairs(x, x, |x, _| x);
    let inverse_sum = 1.0 / sum;
    for x in x {
        *x *= inverse_sum;
    }
    SoftmaxSum { largest: most, sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_the_exponential() {
        for step in -8700..=8800 {
            let x = step as f32 / 100.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 3e-7, "{x}: {error:e}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(1000.0).is_finite() && exp(-1000.0) < 1e-37);
    }

    #[test]
    fn ln_is_the_natural_logarithm() {
        let wide = (-8700..=8800).map(|step| (step as f32 / 100.0).exp());
        // Where the logarithm is near 0.
        let near = (-20_000..=20_000).map(|step| 1.0 + step as f32 * 1e-5);
        for x in wide.chain(near) {
            let expected = f64::from(x).ln();
            let error = (f64::from(ln(x)) - expected).abs();
            // 7e-8 was found where `mul_add` is one instruction.
            assert!(error <= 1e-7 * expected.abs(), "{x}: {error:e}");
        }
        assert!(ln(f32::NAN).is_nan() && ln(f32::INFINITY).is_nan());
    }

    /// Everywhere, and near multiples of an eighth turn, where one of the two is small or its polynomial ends.
    #[test]
    fn sines_and_cosines_are_those_of_the_angle() {
        let wide = (-200_000..=200_000).map(|step| step as f32 * 0.327_68);
        let narrow = (-20_000..=20_000).map(|step| step as f32 * 1e-4);
        let eighths = (-83_400..=83_400).flat_map(|eighth| {
            let x = (f64::from(eighth) * std::f64::consts::FRAC_PI_4) as f32;
            [x.next_down(), x, x.next_up()]
        });
        for x in wide.chain(narrow).chain(eighths) {
            assert!(x.abs() <= MOST_ANGLE);
            let (sine, cosine) = sin_cos(x);
            let exact = f64::from(x).sin_cos();
            let errors = [f64::from(sine) - exact.0, f64::from(cosine) - exact.1];
            // 9.4e-8 was found.
            assert!(errors.iter().all(|e| e.abs() <= 1e-7), "{x}: {errors:?}");
        }
        assert_eq!(sin_cos(0.0), (0.0, 1.0));
        for rubbish in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (sine, cosine) = sin_cos(rubbish);
            assert!(sine.is_nan() && cosine.is_nan());
        }
    }

    /// The error function against its integral, by Simpson's rule.
    #[test]
    fn erf_is_the_integral() {
        for step in -40..=40 {
            let x = f64::from(step) / 10.0;
            let (parts, h) = (1000, x / 1000.0);
            let f = |i: u32| (-(f64::from(i) * h).powi(2)).exp();
            let inner = |from: u32| (from..parts).step_by(2).map(f).sum::<f64>();
            let sum = f(0) + 4.0 * inner(1) + 2.0 * inner(2) + f(parts);
            let expected = 2.0 / std::f64::consts::PI.sqrt() * h / 3.0 * sum;
            let error = (f64::from(erf(x as f32)) - expected).abs();
            assert!(error < 3e-7, "{x}: {error:e}");
        }
    }

    /// GELU against its formula in double precision, with the error function's integral by Simpson's rule, and its
    /// derivative against finite differences of that.
    #[test]
    fn gelu_is_its_formula() {
        let exact = |x: f64| {
            let z = x / 2.0_f64.sqrt();
            let (parts, h) = (1000, z / 1000.0);
            let f = |i: u32| (-(f64::from(i) * h).powi(2)).exp();
            let inner = |from: u32| (from..parts).step_by(2).map(f).sum::<f64>();
            let sum = f(0) + 4.0 * inner(1) + 2.0 * inner(2) + f(parts);
            0.5 * x * (1.0 + 2.0 / std::f64::consts::PI.sqrt() * h / 3.0 * sum)
        };
        for step in -60..=60 {
            let x = step as f32 / 10.0;
            let (value, slope) = gelu_and_slope(x);
            assert_eq!(value, gelu(x));
            let x = f64::from(x);
            // `erf` has an error of 2e-7, and half of it is multiplied by the number.
            assert!((f64::from(value) - exact(x)).abs() < 7e-7, "{x}: {value}");
            let expected = (exact(x + 1e-4) - exact(x - 1e-4)) / 2e-4;
            assert!((f64::from(slope) - expected).abs() < 7e-7, "{x}: {slope}");
        }
    }

    #[test]
    fn sums_take_in_every_pair() {
        let a: Vec<f32> = (0..37).map(|x| x as f32).collect();
        let expected: f32 = a.iter().map(|x| x * x).sum();
        assert_eq!(sum_pairs(&a, &a, |x, y| x * y), expected);
    }

    /// The largest number is in a lane, in the remainder, or in less than one row of lanes.
    #[test]
    fn the_largest_is_found_at_any_index() {
        for (length, at) in [(1, 0), (5, 4), (37, 3), (37, 20), (37, 36)] {
            let mut x: Vec<f32> = (0..length).map(|x| -(x as f32) - 1.0).collect();
            x[at] = -0.5;
            assert_eq!(largest(&x), -0.5, "{at} of {length}");
        }
    }

    #[test]
    fn a_softmax_is_exponentials_over_their_sum() {
        let scores: Vec<f32> = (0..37).map(|x| (x as f32 * 0.7).sin() * 9.0).collect();
        let sum: f64 = scores.iter().map(|x| f64::from(*x).exp()).sum();
        let mut got = scores.clone();
        let found = softmax(&mut got);
        assert_eq!(found.largest, largest(&scores));
        let parts = scores.iter().map(|x| f64::from(x - found.largest).exp());
        let part_sum: f64 = parts.sum();
        assert!((f64::from(found.sum) / part_sum - 1.0).abs() < 1e-5);
        for (got, x) in got.iter().zip(&scores) {
            assert!((f64::from(*got) - f64::from(*x).exp() / sum).abs() < 1e-6);
        }
    }
}
