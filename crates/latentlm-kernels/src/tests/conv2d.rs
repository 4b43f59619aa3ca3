//! Convolution of pictures against Burn's.

use burn::module::{Param, ParamId};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};

use super::{Input, check, check_slope, device, draw, normal};
use crate::{conv2d_layer, without_kernels};

/// A layer with weights from this test's own stream, as large as Burn's. Burn's own come from a generator that
/// all tests share.
fn layer(config: &Conv2dConfig) -> Conv2d {
    let mut layer = config.init(&device());
    let [outputs, inputs, rows, columns] = layer.weight.dims();
    let deviation = 1.0 / ((3 * inputs * rows * columns) as f64).sqrt();
    let weight = draw([outputs, inputs, rows, columns]).mul_scalar(deviation);
    layer.weight = Param::initialized(ParamId::new(), weight.require_grad());
    layer.bias = layer.bias.map(|_| {
        let bias = draw([outputs]).mul_scalar(deviation);
        Param::initialized(ParamId::new(), bias.require_grad())
    });
    layer
}

fn check_layer(what: &str, layer: &Conv2d, size: [usize; 2]) {
    let channels = layer.weight.dims()[1];
    let x = normal([3, channels, size[0], size[1]]);
    let mut inputs = vec![
        Input::Pictures(x.clone()),
        Input::Pictures(layer.weight.val()),
    ];
    inputs.extend(layer.bias.as_ref().map(|bias| Input::Vector(bias.val())));
    check(
        what,
        &inputs,
        || conv2d_layer(layer, x.clone()),
        || without_kernels(|| conv2d_layer(layer, x.clone())),
    );
    check_slope(what, x, |x| conv2d_layer(layer, x));
}

fn explicit([rows, columns]: [usize; 2]) -> PaddingConfig2d {
    PaddingConfig2d::Explicit(rows, columns, rows, columns)
}

/// Kernels, strides, paddings, dilations and picture sizes: those of the codecs and discriminators, and unusual
/// ones, some with outputs that see only padding.
#[test]
fn conv2d_is_a_convolution() {
    for (kernel, stride, padding, dilation, size) in [
        ([3, 3], [1, 1], [1, 1], [1, 1], [8, 8]),
        ([1, 1], [1, 1], [0, 0], [1, 1], [3, 5]),
        ([4, 4], [2, 2], [1, 1], [1, 1], [8, 6]),
        ([3, 9], [1, 2], [2, 4], [2, 1], [7, 33]),
        ([2, 3], [3, 2], [0, 3], [1, 2], [8, 5]),
        ([3, 3], [2, 3], [4, 4], [1, 1], [1, 2]),
    ] {
        let config = Conv2dConfig::new([5, 7], kernel)
            .with_stride(stride)
            .with_dilation(dilation)
            .with_padding(explicit(padding));
        let what = format!("{kernel:?} by {stride:?}");
        check_layer(&what, &layer(&config), size);
    }
}

/// A layer without bias, so large that a picture is cut into bands.
#[test]
fn bands_are_one_picture() {
    let config = Conv2dConfig::new([64, 32], [3, 3])
        .with_padding(explicit([1, 1]))
        .with_bias(false);
    check_layer("bands", &layer(&config), [40, 24]);
}

/// Wide layers with 3 x 3 taps use minimal filtering. Sizes are odd and even, tiles reach over the edge,
/// pictures have several blocks and blocks have several pictures.
#[test]
fn minimal_filtering_is_a_convolution() {
    for (padding, size) in [
        ([1, 1], [16, 16]),
        ([1, 1], [13, 9]),
        ([0, 0], [12, 11]),
        ([2, 0], [9, 40]),
        ([0, 3], [70, 10]),
    ] {
        let config = Conv2dConfig::new([16, 24], [3, 3]).with_padding(explicit(padding));
        let what = format!("{size:?} padded by {padding:?}");
        check_layer(&what, &layer(&config), size);
    }
}

/// Burn's operation runs layers that the kernel does not support.
#[test]
fn groups_and_uneven_padding_are_convolved_too() {
    let x = draw([1, 4, 6, 6]);
    let config = Conv2dConfig::new([4, 4], [3, 3]);
    for config in [
        config.clone().with_groups(2),
        config.with_padding(PaddingConfig2d::Explicit(0, 1, 2, 1)),
    ] {
        let layer = layer(&config);
        let (got, expected) = (conv2d_layer(&layer, x.clone()), layer.forward(x.clone()));
        assert!(got.all_close(expected, None, Some(1e-6)));
    }
}
