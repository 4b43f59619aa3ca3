//! Two-dimensional convolution of pictures.

use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
#[cfg(feature = "cpu")]
use latentlm_convolutions::Window;

/// The window of a layer. `None` if the kernel does not support the layer's groups or padding.
#[cfg(feature = "cpu")]
fn window_of(layer: &Conv2d) -> Option<Window> {
    use burn::nn::PaddingConfig2d::{Explicit, Valid};

    let padding = match layer.padding {
        Valid => [0, 0],
        Explicit(top, left, bottom, right) if top == bottom && left == right => [top, left],
        _ => return None,
    };
    (layer.groups == 1).then_some(Window {
        stride: layer.stride,
        padding,
        dilation: layer.dilation,
    })
}

/// Convolution with the parameters of a layer of Burn's.
///
/// # Shapes
/// - `x`: `[B, C, H, W]`
/// - returns: `[B, O, h, w]`, where `h` and `w` follow from stride, padding and dilation
///
/// # Panics
/// If the picture does not have as many channels as the layer, or is smaller than the layer's kernel.
pub fn conv2d_layer(layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if let Some(window) = window_of(layer)
        && crate::support::has_kernels(&x)
        && crate::support::has_kernels(&layer.weight.val())
    {
        return on_cpu(layer, x, window);
    }
    layer.forward(x)
}

#[cfg(feature = "cpu")]
fn on_cpu(layer: &Conv2d, x: Tensor<4>, window: Window) -> Tensor<4> {
    use crate::cpu::{CpuKernels, optional};
    use burn::backend::Dispatch;

    let bias = layer.bias.as_ref().map(|bias| bias.val());
    let weight = layer.weight.val();
    let y = Dispatch::kernel_conv2d(
        x.into_dispatch(),
        weight.into_dispatch(),
        optional(bias),
        window,
    );
    Tensor::from_dispatch(y)
}
