//! The memory of attention in training without a kernel, measured by the peak of a process that does nothing
//! else.
#![cfg(all(feature = "cpu", target_os = "linux"))]

use burn::tensor::{Device, Tensor, TensorData};
use latentlm_kernels::{PackedHeads, Rotary, causal_attention, without_kernels};

/// Width of the only head.
const WIDTH: usize = 8;

/// Peak memory of this process.
fn peak_bytes() -> u64 {
    let status =
        std::fs::read_to_string("/proc/self/status").expect("a process says what it takes");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    let kilobytes: u64 = peak
        .and_then(|peak| peak.parse().ok())
        .expect("VmHWM in kB");
    kilobytes * 1024
}

/// Queries, keys and values of one document.
fn packed(length: usize) -> Vec<f32> {
    let number = |index: usize| (index as f32 * 0.7).sin() + (index as f32 * 0.011).cos();
    (0..length * 3 * WIDTH).map(number).collect()
}

/// The result of attention at the last position, which sees all others, by the plain formula.
fn expected(packed: &[f32], length: usize) -> Vec<f64> {
    let part = |position: usize, index: usize| {
        let start = (position * 3 + index) * WIDTH;
        packed[start..start + WIDTH].iter().map(|x| f64::from(*x))
    };
    let score = |position: usize| -> f64 {
        let product = part(length - 1, 0).zip(part(position, 1));
        product.map(|(q, k)| q * k).sum::<f64>() / (WIDTH as f64).sqrt()
    };
    let scores: Vec<f64> = (0..length).map(score).collect();
    let largest = scores.iter().copied().fold(f64::MIN, f64::max);
    let (mut mixed, mut sum) = (vec![0.0; WIDTH], 0.0);
    for (position, score) in scores.iter().enumerate() {
        let weight = (score - largest).exp();
        sum += weight;
        for (mixed, v) in mixed.iter_mut().zip(part(position, 2)) {
            *mixed += weight * v;
        }
    }
    mixed.into_iter().map(|mixed| mixed / sum).collect()
}

/// Forward and backward over one document.
fn step(length: usize) {
    let device = Device::default().autodiff();
    let values = packed(length);
    let expected = expected(&values, length);
    let x = Tensor::<3>::from_data(TensorData::new(values, [1, length, 3 * WIDTH]), &device);
    let x = x.require_grad();
    let heads = PackedHeads {
        heads: 1,
        kv_heads: 1,
    };
    // All angles are zero.
    let rotary = Rotary::new(&vec![0.0; length * WIDTH / 2], length, true, &device);
    let y = causal_attention(x.clone(), heads, &rotary);
    let last = y.clone().narrow(1, length - 1, 1).into_data();
    let last: Vec<f32> = last.try_to_vec().expect("float32");
    for (got, expected) in last.into_iter().zip(expected) {
        // The sums have up to 16,384 numbers in float32.
        assert!(
            (f64::from(got) - expected).abs() < 1e-4,
            "{got} for {expected}"
        );
    }
    let gradients = y.sum().backward();
    let gradient = x.grad(&gradients).expect("a gradient");
    // The probabilities of a query sum to one, so the gradients of all values sum to the number of queries,
    // for each column.
    let value_sum = gradient
        .narrow(2, 2 * WIDTH, WIDTH)
        .sum()
        .into_scalar::<f32>();
    let rows = (length * WIDTH) as f32;
    assert!(
        (value_sum / rows - 1.0).abs() < 1e-3,
        "{value_sum} for {rows}"
    );
}

#[test]
fn memory_grows_with_the_length_and_not_with_its_square() {
    without_kernels(|| {
        // Allocations that happen once.
        step(64);
        let before = peak_bytes();
        let growth = [8192, 16_384].map(|length| {
            step(length);
            peak_bytes() - before
        });
        let ratio = growth[1] as f64 / growth[0] as f64;
        // The scores of all pairs of positions would grow four times for twice the length.
        assert!(ratio < 2.5, "{growth:?} bytes");
        // For 16,384 positions they would take 1 GiB, and a graph keeps them more than once.
        assert!(growth[1] < 1 << 30, "{growth:?} bytes");
    });
}
