//! Dense causal convolutions with channels last.

use burn::tensor::{DType, Tensor};
#[cfg(feature = "cpu")]
use latentlm_convolutions::TapOrder;

use crate::linear::linear;

/// Convolution over frames, each of which depends on itself and the `K - 1` frames before it.
///
/// Frames may consist of several samples, and the convolution then has as large a stride. `past` has the frames before
/// those of `x`, if there are any to see (`K > 1`); without it they are zeros.
///
/// # Shapes
/// - `x`: `[B, T, R C]`, frames of `R` samples; `past`: `[B, K - 1, R C]`
/// - `weight`: `[K R, C, O]`, oldest sample first; `bias`: `[O]`
/// - returns: `[B, T, O]`
///
/// # Panics
/// If sizes do not fit each other.
pub fn causal_conv(
    x: Tensor<3>,
    past: Option<Tensor<3>>,
    weight: Tensor<3>,
    bias: Tensor<1>,
) -> Tensor<3> {
    let [kernel, channels, output] = weight.dims();
    let [_, _, width] = x.dims();
    assert!(
        width.is_multiple_of(channels),
        "frames of {width} numbers are no whole samples of {channels} channels"
    );
    let taps = taps(&x, &past, kernel * channels);
    #[cfg(feature = "cpu")]
    if is_covered(&x, &past, &weight) {
        let weight = weight.reshape([taps, width, output]);
        return on_cpu(x, past, weight, bias, TapOrder::OldestFirst);
    }
    let frames = x.dims()[1];
    let is_whole = past.is_none();
    let x = extended(x, past, taps - 1);
    if is_whole && output < width && frames > 1 && weight.dtype() != DType::BF16 {
        // Fewer numbers leave than enter: multiply each row once, then add shifted results. The weight is
        // rearranged for that, which the few frames of a chunk are not worth, and which one in bfloat16 can't be.
        let weight = weight.reshape([taps, width, output]).swap_dims(0, 1);
        let rows = linear(x, weight.reshape([width, taps * output]), None); // [B, T + K - 1, K O]
        let sum = (0..taps)
            .map(|tap| {
                rows.clone()
                    .narrow(1, tap, frames)
                    .narrow(2, tap * output, output)
            })
            .reduce(|sum, part| sum + part)
            .expect("a kernel has a tap");
        return sum + bias.unsqueeze();
    }
    let windows = (0..taps).map(|tap| x.clone().narrow(1, tap, frames));
    linear(side_by_side(windows), matrix(weight, 1), Some(bias))
}

/// Transposed convolution over frames: each becomes `R` samples, which depend on the frame itself and the `K - 1` frames
/// before it. `past` as in [`causal_conv`].
///
/// # Shapes
/// - `x`: `[B, T, C]`; `past`: `[B, K - 1, C]`
/// - `weight`: `[K, C, R, O]`, newest frame first; `bias`: `[O]`
/// - returns: `[B, T R, O]`
///
/// # Panics
/// If sizes do not fit each other.
pub fn causal_conv_transpose(
    x: Tensor<3>,
    past: Option<Tensor<3>>,
    weight: Tensor<4>,
    bias: Tensor<1>,
) -> Tensor<3> {
    let [batch, frames, width] = x.dims();
    let [kernel, channels, samples, output] = weight.dims();
    assert_eq!(width, channels, "channels of the frames and of the weight");
    let taps = taps(&x, &past, kernel * channels);
    let out = [batch, frames * samples, output];
    #[cfg(feature = "cpu")]
    if is_covered(&x, &past, &weight) {
        let weight = weight.reshape([taps, width, samples * output]);
        return on_cpu(x, past, weight, bias, TapOrder::NewestFirst).reshape(out);
    }
    let x = extended(x, past, taps - 1);
    let windows = (0..taps).map(|age| x.clone().narrow(1, taps - 1 - age, frames));
    let y = linear(side_by_side(windows), matrix(weight, 2), None).reshape(out);
    let bias = bias.cast(y.dtype());
    y + bias.unsqueeze()
}

/// Number of taps of a kernel with `inputs` numbers for an output.
fn taps(x: &Tensor<3>, past: &Option<Tensor<3>>, inputs: usize) -> usize {
    let width = x.dims()[2];
    assert!(
        inputs > 0 && inputs.is_multiple_of(width),
        "a kernel over {inputs} numbers has no whole frames of {width}"
    );
    let taps = inputs / width;
    check_past(x, past, taps);
    taps
}

/// Checks that the frames before those of `x` are as many as the taps see.
pub(crate) fn check_past(x: &Tensor<3>, past: &Option<Tensor<3>>, taps: usize) {
    let [batch, _, width] = x.dims();
    if let Some(past) = past {
        assert!(taps > 1, "one tap sees no past");
        assert_eq!(
            past.dims(),
            [batch, taps - 1, width],
            "the frames before {:?} for {taps} taps",
            x.dims()
        );
    }
}

/// `x`, `[B, T, C]`, behind the `count` frames before it: `past`, or zeros.
pub(crate) fn extended(x: Tensor<3>, past: Option<Tensor<3>>, count: usize) -> Tensor<3> {
    if count == 0 {
        return x;
    }
    let [batch, _, width] = x.dims();
    let zeros = || Tensor::zeros([batch, count, width], (&x.device(), x.dtype()));
    let past = past.unwrap_or_else(zeros);
    Tensor::cat(vec![past, x], 1)
}

/// A weight as the matrix `[inputs, outputs]` of a product. Its last `outputs` axes count outputs, those
/// before them inputs.
///
/// A weight that is only stored in bfloat16 has its outputs first in memory, see [`linear`]: it is seen as such rows
/// and transposed, which copies nothing. Any other layout gives the same numbers.
fn matrix<const D: usize>(weight: Tensor<D>, outputs: usize) -> Tensor<2> {
    let inputs = D - outputs;
    let dims = weight.dims();
    let rows: usize = dims[..inputs].iter().product();
    let columns: usize = dims[inputs..].iter().product();
    if weight.dtype() != DType::BF16 {
        return weight.reshape([rows, columns]);
    }
    let outputs_first = std::array::from_fn::<usize, D, _>(|axis| (axis + inputs) % D);
    let turned = weight.permute(outputs_first).reshape([columns, rows]);
    turned.transpose()
}

/// Windows side by side in the last axis. A single one is not copied.
fn side_by_side(windows: impl ExactSizeIterator<Item = Tensor<3>>) -> Tensor<3> {
    let mut windows: Vec<Tensor<3>> = windows.collect();
    if windows.len() == 1 {
        windows.remove(0)
    } else {
        Tensor::cat(windows, 2)
    }
}

/// Whether the kernel supports the tensors. Where the factors of products are rounded, [`linear`] does it.
#[cfg(feature = "cpu")]
fn is_covered<const D: usize>(x: &Tensor<3>, past: &Option<Tensor<3>>, weight: &Tensor<D>) -> bool {
    use crate::fallback::precision;
    use crate::support::has_kernels;
    use latentlm_products::Precision;

    precision() == Precision::F32
        && has_kernels(x)
        && has_kernels(weight)
        && past.as_ref().is_none_or(has_kernels)
}

#[cfg(feature = "cpu")]
fn on_cpu(
    x: Tensor<3>,
    past: Option<Tensor<3>>,
    weight: Tensor<3>,
    bias: Tensor<1>,
    order: TapOrder,
) -> Tensor<3> {
    use crate::cpu::{CpuKernels, optional};
    use burn::backend::Dispatch;

    let y = Dispatch::kernel_causal_conv(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.cast(DType::F32).into_dispatch(),
        optional(past),
        order,
    );
    Tensor::from_dispatch(y)
}
