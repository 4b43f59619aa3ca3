//! Cosines and sines of numbers, several at a time: Burn calls the library for each of them, on one thread.

use burn::tensor::Tensor;
use latentlm_products::math::{MOST_ANGLE, sin_cos};
use latentlm_products::tasks::each_row;
use multiversion::multiversion;

use super::plain::{flat, wrapped};
use super::storage::{numbers, tensor};

/// The kernel; `None` if the tensor is not of the CPU backend, or if its gradient is wanted: models learn no timesteps.
pub(crate) fn sinusoid(x: &Tensor<1>, frequencies: &[f32]) -> Option<Tensor<2>> {
    if x.is_tracked() {
        return None;
    }
    let plain = flat(&x.clone().inner())?;
    let shape = [x.dims()[0], 2 * frequencies.len()];
    if shape.contains(&0) {
        return None;
    }
    let encoded = tensor(encode(numbers(&plain), frequencies), shape);
    let encoded: Tensor<2> = wrapped(encoded);
    // Tensors of one graph have one strategy.
    Some(match x.gradient_checkpointing_strategy() {
        Some(strategy) => {
            let encoded = encoded.autodiff();
            encoded.with_gradient_checkpointing_strategy(strategy)
        }
        None => encoded,
    })
}

/// A row of cosines and sines for each number.
#[multiversion(targets = "simd")]
fn encode(x: &[f32], frequencies: &[f32]) -> Vec<f32> {
    let count = frequencies.len();
    let fastest = frequencies
        .iter()
        .fold(0.0, |most: f32, f| most.max(f.abs()));
    let mut out = vec![0.0; x.len() * 2 * count];
    each_row(&mut out, 2 * count, |row, out| {
        let x = x[row];
        let (cosines, sines) = out.split_at_mut(count);
        let places = cosines.iter_mut().zip(sines).zip(frequencies);
        if (x * fastest).abs() <= MOST_ANGLE {
            for ((cosine, sine), frequency) in places {
                let both = sin_cos(x * frequency);
                *sine = both.0;
                *cosine = both.1;
            }
        } else {
            for ((cosine, sine), frequency) in places {
                let both = (x * frequency).sin_cos();
                *sine = both.0;
                *cosine = both.1;
            }
        }
    });
    out
}
