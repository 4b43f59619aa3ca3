//! Attention block by block against Burn's, whose graph keeps all scores.

use burn::tensor::{DType, Tensor};

use super::attention::rotary_from;
use super::{assert_close, device, draw, normal, values};
use crate::attention::{self, Rotary, causal_attention, document_attention, full_attention};
use crate::blockwise::{self, Limits};
use crate::mask::Mask;
use crate::types::PackedHeads;
use crate::without_kernels;

/// Limits for small tests: documents are cut into several blocks, and short ones share a piece.
const SMALL: Limits = Limits {
    scores: 400,
    least_queries: 2,
    most_queries: 7,
    together: 8,
};

/// Checks that both functions give the same result, and the same gradient of `x` for the same gradient of
/// the result.
fn same(
    what: &str,
    x: &Tensor<3>,
    got: impl Fn(Tensor<3>) -> Tensor<3>,
    expected: impl Fn(Tensor<3>) -> Tensor<3>,
) {
    let (got, expected) = (got(x.clone()), expected(x.clone()));
    let direction = draw(got.dims());
    assert_close(what, &values(got.clone()), &values(expected.clone()), 1e-5);
    let gradient = |y: Tensor<3>| {
        let gradients = (y * direction.clone()).sum().backward();
        values(x.grad(&gradients).expect("a gradient"))
    };
    let (got, expected) = (gradient(got), gradient(expected));
    assert_close(&format!("{what}: gradient"), &got, &expected, 1e-5);
}

fn documents() -> Vec<Vec<Mask>> {
    vec![
        vec![Mask::causal(1)],
        vec![Mask::causal(23)],
        vec![Mask::full(23)],
        vec![Mask::mutual(23, 4..17)],
        vec![Mask::mutual(23, 0..9), Mask::causal(3), Mask::full(2)],
        [3, 1, 9, 2, 4, 4, 15, 1].map(Mask::causal).to_vec(),
    ]
}

#[test]
fn blocks_give_what_all_scores_give() {
    for masks in documents() {
        let length: usize = masks.iter().map(|mask| mask.length).sum();
        for (heads, kv_heads, head_dim) in [(1, 1, 4), (4, 2, 6), (3, 1, 8), (2, 2, 4)] {
            let packed = PackedHeads { heads, kv_heads };
            let x = normal([2, length, (heads + 2 * kv_heads) * head_dim]);
            let rotary = rotary_from(0, length, head_dim, true, &device());
            let what = format!("{heads} heads of {kv_heads} over {masks:?}");
            for rotary in [Some(&rotary), None] {
                let blocks = |x, limits| {
                    blockwise::attention(attention::split(x, packed, rotary), &masks, limits)
                };
                let plain = |x| attention::composed(x, packed, rotary, &masks);
                same(&what, &x, |x| blocks(x, SMALL), plain);
                same(&what, &x, |x| blocks(x, Limits::USUAL), plain);
            }
        }
    }
}

/// The public functions, with more than one block of the usual size.
#[test]
fn a_device_without_kernels_trains_in_blocks() {
    let packed = PackedHeads {
        heads: 4,
        kv_heads: 2,
    };
    let (length, head_dim) = (1100, 4);
    let x = normal([1, length, 8 * head_dim]);
    let rotary = rotary_from(0, length, head_dim, false, &device());
    let composed =
        |x, rotary: Option<&Rotary>, masks: &[Mask]| attention::composed(x, packed, rotary, masks);
    same(
        "one document",
        &x,
        |x| without_kernels(|| causal_attention(x, packed, &rotary)),
        |x| composed(x, Some(&rotary), &[Mask::causal(length)]),
    );
    let masks = [30, 700, 100, 90, 30, 150].map(Mask::causal);
    same(
        "documents",
        &x,
        |x| without_kernels(|| document_attention(x, packed, &rotary, &masks)),
        |x| composed(x, Some(&rotary), &masks),
    );
    same(
        "full",
        &x,
        |x| without_kernels(|| full_attention(x, packed)),
        |x| composed(x, None, &[Mask::full(length)]),
    );
}

/// In bfloat16 products are rounded and the softmax is not. The result is near that of float32 and has the
/// type of the inputs.
#[test]
fn bfloat16_stays_near() {
    let packed = PackedHeads {
        heads: 2,
        kv_heads: 1,
    };
    let masks = [Mask::causal(19), Mask::causal(3)];
    let x = normal([1, 22, 4 * 8]);
    let direction = draw([1, 22, 2 * 8]);
    let attend = |x| blockwise::attention(attention::split(x, packed, None), &masks, SMALL);
    let (exact, rounded) = (attend(x.clone()), attend(x.clone().cast(DType::BF16)));
    assert_eq!(rounded.dtype(), DType::BF16);
    let rounded = rounded.cast(DType::F32);
    // bfloat16 has 8 significant bits: a product is off by up to 0.4 %, a sum of several by a few times that.
    let numbers = [&rounded, &exact].map(|y| values(y.clone()));
    assert_close("values", &numbers[0], &numbers[1], 0.03);
    let [got, expected] = [rounded, exact].map(|y| {
        let gradients = (y * direction.clone()).sum().backward();
        values(x.grad(&gradients).expect("a gradient"))
    });
    assert_close("gradient", &got, &expected, 0.05);
}
