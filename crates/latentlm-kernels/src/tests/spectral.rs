//! Losses of spectra as an operation of the graph. Their values are compared with their definition in `latentlm-products`,
//! and with the composition of tensor operations in `latentlm-codec-audio`.

use burn::tensor::{Tensor, TensorData};

use super::{device, draw, values};
use crate::{SpectralFloors, SpectralLosses, SpectralWindow, spectral_losses, without_kernels};

/// Losses at one resolution, with a triangular window and two bands.
fn losses() -> SpectralLosses {
    let device = device();
    let window = [0.0, 0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25];
    let bands: Vec<f32> = (0..10).map(|index| index as f32 / 10.0).collect();
    let window = SpectralWindow {
        window: Tensor::from_floats(window, &device),
        scale: 0.5,
        bands: Tensor::from_data(TensorData::new(bands, [5, 2]), &device),
    };
    let floors = SpectralFloors {
        power: 1e-10,
        level: 3e-3,
        difference: 1e-30,
        divisor: 1e-6,
    };
    SpectralLosses::new(vec![window], floors)
}

/// The gradient of a weighted sum of both losses is the weighted sum of their gradients, whether the signals are views or
/// not, and the losses are the same without a graph.
#[test]
fn spectral_losses_are_one_operation_with_two_results() {
    let losses = losses();
    let (x, signal) = (draw([21, 3]).require_grad(), draw([21, 3]).transpose());
    let run = |x: &Tensor<2>| spectral_losses(x, &signal, &losses).expect("a kernel");
    let gradient = |weights: [f64; 2]| {
        let [mel, stft] = run(&x.clone().transpose());
        let sum = mel.mul_scalar(weights[0]) + stft.mul_scalar(weights[1]);
        values(x.grad(&sum.backward()).expect("a gradient"))
    };
    let (mel, stft, both) = (
        gradient([1.0, 0.0]),
        gradient([0.0, 1.0]),
        gradient([2.0, -3.0]),
    );
    let largest = both.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    assert!(largest > 0.0);
    for (both, (mel, stft)) in both.iter().zip(mel.iter().zip(&stft)) {
        assert!((both - (2.0 * mel - 3.0 * stft)).abs() < 1e-5 * largest);
    }
    let of_graph = run(&x.clone().transpose()).map(values);
    let untracked = x.clone().detach().transpose();
    assert_eq!(run(&untracked).map(values), of_graph);
    let plain = spectral_losses(&untracked.inner(), &signal.clone().inner(), &losses);
    assert_eq!(plain.expect("a kernel").map(values), of_graph);
}

/// Then the caller composes the losses.
#[test]
fn what_the_kernel_cannot_do_is_left_to_the_caller() {
    let losses = losses();
    let (x, signal) = (draw([2, 21]).require_grad(), draw([2, 21]));
    assert!(spectral_losses(&x, &signal, &losses).is_some());
    assert!(without_kernels(|| spectral_losses(&x, &signal, &losses)).is_none());
    let wanted = signal.clone().require_grad();
    assert!(spectral_losses(&x, &wanted, &losses).is_none());
    let double = |x: &Tensor<2>| x.clone().inner().cast(burn::tensor::DType::F64);
    assert!(spectral_losses(&double(&x), &double(&signal), &losses).is_none());
}
