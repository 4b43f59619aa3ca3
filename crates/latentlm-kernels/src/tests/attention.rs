//! Attention and its masks.

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, Tensor, TensorData};

use super::{Input, assert_close, check, check_slope, device, normal, values};
use crate::attention::{self, Rotary, causal_attention, document_attention, full_attention};
use crate::mask::Mask;
use crate::types::PackedHeads;

fn rotary(length: usize, head_dim: usize, interleaved: bool) -> Rotary {
    rotary_from(0, length, head_dim, interleaved, &device())
}

/// The rotation of `length` positions, starting at position `start`.
pub(super) fn rotary_from(
    start: usize,
    length: usize,
    head_dim: usize,
    interleaved: bool,
    device: &Device,
) -> Rotary {
    let half = head_dim / 2;
    let angle = |i: usize| (start + i / half) as f64 * 0.7 / (1 + i % half) as f64;
    let angles: Vec<f64> = (0..length * half).map(angle).collect();
    Rotary::new(&angles, length, interleaved, device)
}

#[test]
fn attention_is_its_parts() {
    for (length, heads, kv_heads, head_dim) in [
        (1, 1, 1, 4),
        (5, 4, 2, 6),
        (33, 3, 1, 8),
        (16, 2, 2, 32),
        (28, 4, 2, 20),
        (64, 2, 1, 16),
        (65, 2, 1, 16),
    ] {
        let packed = PackedHeads { heads, kv_heads };
        let x = normal([2, length, (heads + 2 * kv_heads) * head_dim]);
        let inputs = [Input::Cube(x.clone())];
        let what = format!("attention of {length}, {heads} of {kv_heads} heads");
        for interleaved in [false, true] {
            let rotary = rotary(length, head_dim, interleaved);
            check(
                &what,
                &inputs,
                || causal_attention(x.clone(), packed, &rotary),
                || attention::composed(x.clone(), packed, Some(&rotary), &[Mask::causal(length)]),
            );
            check_slope(&what, x.clone(), |x| causal_attention(x, packed, &rotary));
        }
        check(
            &what,
            &inputs,
            || full_attention(x.clone(), packed),
            || attention::composed(x.clone(), packed, None, &[Mask::full(length)]),
        );
        check_slope(&what, x, |x| full_attention(x, packed));
    }
}

/// A document gives the same result in a packed sequence and alone, in kernel and composition.
#[test]
fn documents_do_not_see_each_other() {
    let documents = [3, 1, 9];
    let packed = PackedHeads {
        heads: 4,
        kv_heads: 2,
    };
    let x = normal([2, 13, 8 * 6]);
    let rotary = rotary(13, 6, true);
    let masks = documents.map(Mask::causal);
    let kernel = || document_attention(x.clone(), packed, &rotary, &masks);
    check(
        "attention in documents",
        &[Input::Cube(x.clone())],
        kernel,
        || attention::composed(x.clone(), packed, Some(&rotary), &masks),
    );
    check_slope("attention in documents", x.clone(), |x| {
        document_attention(x, packed, &rotary, &masks)
    });
    // Scores depend on relative positions only, so a document alone may start at position 0.
    let mut start = 0;
    for length in documents {
        let alone = causal_attention(
            x.clone().narrow(1, start, length),
            packed,
            &self::rotary(length, 6, true),
        );
        let within = kernel().narrow(1, start, length);
        assert_close("a document", &values(within), &values(alone), 1e-5);
        start += length;
    }
}

/// Against a softmax over masked scores. An image stands at different places of its document, and another
/// document follows.
#[test]
fn the_positions_of_an_image_see_each_other() {
    let (length, heads, width) = (9, 2, 6);
    let packed = PackedHeads {
        heads,
        kv_heads: heads,
    };
    let x = normal([2, length, 3 * heads * width]);
    let rotary = rotary(length, width, true);
    for mutual in [0..7, 1..7, 3..5, 0..2, 4..4] {
        let masked = || {
            let all = x.clone().reshape([2, length, 3 * heads, width]);
            let part = |index: usize| all.clone().narrow(2, index * heads, heads);
            let [q, k] = [0, 1].map(|index| rotary.apply(part(index)).swap_dims(1, 2));
            let hidden = (0..length * length).map(|at| {
                let (position, key) = (at / length, at % length);
                let both = mutual.contains(&position) && mutual.contains(&key);
                // The last two positions are another document.
                (key > position && !both) || (position > 6 && key < 7)
            });
            let hidden = TensorData::new(hidden.collect::<Vec<bool>>(), [1, 1, length, length]);
            let hidden = Tensor::<4, Bool>::from_data(hidden, &device());
            let scores = q
                .matmul(k.swap_dims(2, 3))
                .div_scalar((width as f64).sqrt());
            let hidden = hidden.expand([2, heads, length, length]);
            softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 3)
                .matmul(part(2).swap_dims(1, 2))
                .swap_dims(1, 2)
                .reshape([2, length, heads * width])
        };
        let what = format!("attention where {mutual:?} see each other");
        let masks = [Mask::mutual(7, mutual.clone()), Mask::causal(2)];
        let kernel = || document_attention(x.clone(), packed, &rotary, &masks);
        let composed = || attention::composed(x.clone(), packed, Some(&rotary), &masks);
        check(&what, &[Input::Cube(x.clone())], kernel, masked);
        check(&what, &[Input::Cube(x.clone())], composed, masked);
    }
}

/// Documents longer than two tiles of queries and no multiple of a tile; masks cross the edges of tiles.
#[test]
fn long_documents_are_worked_on_in_tiles() {
    let (length, head_dim) = (150, 6);
    let packed = PackedHeads {
        heads: 2,
        kv_heads: 1,
    };
    let x = normal([1, length, 4 * head_dim]);
    let rotary = rotary(length, head_dim, true);
    for masks in [
        vec![Mask::causal(length)],
        vec![Mask::full(length)],
        vec![Mask::mutual(length, 50..140)],
        vec![Mask::causal(20), Mask::mutual(130, 0..70)],
    ] {
        let what = format!("attention in tiles, {masks:?}");
        let kernel = || document_attention(x.clone(), packed, &rotary, &masks);
        let composed = || attention::composed(x.clone(), packed, Some(&rotary), &masks);
        check(&what, &[Input::Cube(x.clone())], kernel, composed);
        check_slope(&what, x.clone(), |x| {
            document_attention(x, packed, &rotary, &masks)
        });
    }
}

/// Documents whose gradients threads share: more than one wave of tiles and more than one block of keys, both not whole;
/// an image that crosses their edges.
#[test]
fn very_long_documents_are_shared_among_threads() {
    let (length, head_dim) = (1100, 6);
    let packed = PackedHeads {
        heads: 2,
        kv_heads: 1,
    };
    let x = normal([1, length, 4 * head_dim]);
    let rotary = rotary(length, head_dim, true);
    for mask in [
        Mask::causal(length),
        Mask::full(length),
        Mask::mutual(length, 200..900),
    ] {
        let what = format!("attention on all threads, {mask:?}");
        let kernel = || document_attention(x.clone(), packed, &rotary, &[mask]);
        let composed = || attention::composed(x.clone(), packed, Some(&rotary), &[mask]);
        check(&what, &[Input::Cube(x.clone())], kernel, composed);
    }
}
