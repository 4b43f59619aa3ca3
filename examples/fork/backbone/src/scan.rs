//! A linear recurrence over all positions at once.

use burn::tensor::Tensor;

/// `h[t] = a[t] * h[t-1] + b[t]` for all `t`, from `h[-1] = 0`.
///
/// After the pass of distance `d`, `b[t]` is what `t` and the `2d - 1` positions before it add to `h[t]`, and
/// `a[t]` the factor of what lies before those. Distances double, so `log2 T` passes are enough.
///
/// # Shapes
/// - `a`, `b`: `[B, T, D]`
/// - returns: `[B, T, D]`
pub fn scan(a: Tensor<3>, b: Tensor<3>) -> Tensor<3> {
    let length = b.dims()[1];
    let (mut a, mut b) = (a, b);
    let mut distance = 1;
    while distance < length {
        let rest = length - distance;
        let of_all = |x: &Tensor<3>, start: usize, count: usize| x.clone().narrow(1, start, count);
        let factor = of_all(&a, distance, rest);
        let later_b = of_all(&b, distance, rest) + factor.clone() * of_all(&b, 0, rest);
        let later_a = factor * of_all(&a, 0, rest);
        // Positions below the distance have their whole past already.
        b = Tensor::cat(vec![of_all(&b, 0, distance), later_b], 1);
        a = Tensor::cat(vec![of_all(&a, 0, distance), later_a], 1);
        distance *= 2;
    }
    b
}
