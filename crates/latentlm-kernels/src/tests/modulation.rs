//! Modulated operations, whose backward pass writes the modulation's gradient over the modulation.

use burn::tensor::Tensor;

use super::{Input, block, check, normal};
use crate::swiglu::{self, swiglu_block};
use crate::types::SwiGluBlock;
use crate::{modulated_rms_norm, norm};

#[test]
fn modulated_rms_norm_is_its_parts() {
    for (rows, width) in [(1, 1), (3, 5), (700, 16)] {
        let (x, modulation) = (normal([rows, width]), normal([rows, 2 * width]));
        let inputs = [Input::Matrix(x.clone()), Input::Matrix(modulation.clone())];
        // Half of it is no leaf: its gradient is written over it.
        let half = || modulation.clone().mul_scalar(0.5);
        check(
            "modulated norm",
            &inputs,
            || modulated_rms_norm(x.clone(), half(), 1e-6),
            || norm::modulated_composed(x.clone(), half(), 1e-6),
        );
        check(
            "modulated norm of a leaf",
            &inputs,
            || modulated_rms_norm(x.clone(), modulation.clone(), 1e-6),
            || norm::modulated_composed(x.clone(), modulation.clone(), 1e-6),
        );
    }
}

/// Here the modulation is no leaf, and read by one block alone or by two.
#[test]
fn a_modulation_is_overwritten_only_when_nobody_reads_it() {
    let (rows, width) = (50, 24);
    let (x, given) = (normal([rows, width]), normal([rows, 3 * width]));
    let blocks = [block(width, 64, false), block(width, 64, true)];
    let inputs = [Input::Matrix(x.clone()), Input::Matrix(given.clone())];
    for count in [1, 2] {
        let run = |of: fn(Tensor<2>, &SwiGluBlock, Option<Tensor<2>>) -> Tensor<2>| {
            let modulation = given.clone().mul_scalar(0.5);
            let blocks = blocks[..count].iter();
            blocks.fold(x.clone(), |x, block| of(x, block, Some(modulation.clone())))
        };
        let what = format!("{count} blocks of one modulation");
        check(
            &what,
            &inputs,
            || run(swiglu_block),
            || run(swiglu::composed),
        );
    }
}
