//! Random weights in the type that they have in memory. They are drawn in it: a float32 matrix that is rounded afterwards
//! would take up to seven times the memory.

use burn::tensor::{DType, Device, Tensor, TensorData, bf16, f16};
use latentlm::RandomStream;
use latentlm_kernels::{QuantizedParts, WEIGHT_GROUP, WeightBits, weight_of_parts};

use crate::sizes::DecodeWeights;

/// Bytes that are drawn for a matrix; a larger one repeats them. Eight times a prime, so that rows of a usual width
/// repeat only after more rows than most matrices have.
const DRAWN_BYTES: usize = 8 * 131_101;

/// A weight with random numbers around 0, whose variance is one over the inputs: products keep the size of what goes in.
/// `None` if the device has no products with such weights. `D` is 2: mappers of modules have it as a parameter.
///
/// # Shapes
/// - `sizes`: inputs `I` and outputs `O`
/// - returns: `[I, O]`
///
/// # Panics
/// If the weight is int8 or int4 and the inputs are no whole groups.
pub(crate) fn drawn_weight<const D: usize>(
    sizes: [usize; 2],
    weights: DecodeWeights,
    random: &mut RandomStream,
    device: &Device,
) -> Option<Tensor<D>> {
    let [inputs, outputs] = sizes;
    let count = inputs * outputs;
    // Numbers that are uniform between this and its negative have that variance.
    let bound = (3.0 / inputs as f32).sqrt();
    let bits = match weights {
        DecodeWeights::F32 => {
            let numbers = repeated(uniform(count, bound, random), count);
            let data = TensorData::new(numbers, sizes);
            return Some(Tensor::from_data(data, device));
        }
        DecodeWeights::Bf16 => {
            let numbers = uniform(count, bound, random).into_iter();
            let numbers: Vec<bf16> = numbers.map(bf16::from_f32).collect();
            // Row by row of outputs, the order that products with few rows read them in.
            let rows = TensorData::new(repeated(numbers, count), [outputs, inputs]);
            return Some(Tensor::<D>::from_data(rows, (device, DType::BF16)).transpose());
        }
        DecodeWeights::Int8 => WeightBits::Eight,
        DecodeWeights::Int4 => WeightBits::Four,
    };
    let (numbers, largest) = match bits {
        WeightBits::Eight => {
            // int8 weights have no -128.
            let numbers = bytes(count, random).into_iter();
            let numbers = numbers.map(|byte| byte.cast_signed().max(-127).cast_unsigned());
            (repeated(numbers.collect(), count), 127.0)
        }
        // Two numbers a byte.
        WeightBits::Four => (repeated(bytes(count / 2, random), count / 2), 8.0),
    };
    let scale = f16::from_f32(bound / largest).to_le_bytes();
    let parts = QuantizedParts {
        numbers,
        scales: scale.repeat(count / WEIGHT_GROUP),
    };
    weight_of_parts(&parts, inputs, bits, device)
}

/// Random bytes for a matrix of `count` bytes, or as many as are drawn for one.
fn bytes(count: usize, random: &mut RandomStream) -> Vec<u8> {
    let draws = count.min(DRAWN_BYTES).div_ceil(size_of::<u64>());
    (0..draws)
        .flat_map(|_| random.seed().to_le_bytes())
        .collect()
}

/// Uniform numbers for a matrix of `count` numbers, 16 random bits each, or as many as are drawn for one.
fn uniform(count: usize, bound: f32, random: &mut RandomStream) -> Vec<f32> {
    let drawn = bytes(2 * count, random);
    let levels = drawn
        .chunks_exact(2)
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
    levels
        .map(|level| f32::from(level) / 32_768.0 * bound)
        .collect()
}

/// `count` values: those that were drawn, again and again. Products take as long with them.
fn repeated<T: Copy>(mut drawn: Vec<T>, count: usize) -> Vec<T> {
    drawn.truncate(count);
    drawn.reserve_exact(count - drawn.len());
    while drawn.len() < count {
        let more = drawn.len().min(count - drawn.len());
        drawn.extend_from_within(..more);
    }
    drawn
}

#[cfg(test)]
mod tests {
    use latentlm_kernels::linear;

    use super::*;

    /// The bounds are four deviations of 6,144 numbers or more: 0.05 of the mean, 0.045 of the variance. The mean of int4
    /// is -1/16 of its bound, 0.11 deviations of a number.
    #[test]
    fn numbers_have_a_mean_and_a_variance() {
        let device = Device::default();
        for weights in [
            DecodeWeights::F32,
            DecodeWeights::Bf16,
            DecodeWeights::Int8,
            DecodeWeights::Int4,
        ] {
            let drawn = drawn_weight::<2>([96, 64], weights, &mut RandomStream::new(3), &device);
            // A build without kernels has no products with int8 and int4 weights.
            let Some(weight) = drawn else {
                assert!(matches!(weights, DecodeWeights::Int8 | DecodeWeights::Int4));
                continue;
            };
            assert_eq!(weight.dims(), [96, 64]);
            let numbers = linear(Tensor::eye(96, &device), weight, None).into_data();
            let numbers: Vec<f32> = numbers.convert::<f32>().try_to_vec().unwrap();
            let mean = numbers.iter().sum::<f32>() / numbers.len() as f32;
            let square = numbers.iter().map(|x| x * x).sum::<f32>() / numbers.len() as f32;
            let (mean, variance) = (mean * 96.0_f32.sqrt(), square * 96.0);
            assert!(mean.abs() < 0.17, "{weights:?}: {mean}");
            assert!((variance - 1.0).abs() < 0.06, "{weights:?}: {variance}");
        }
    }

    #[test]
    fn what_was_drawn_is_repeated() {
        for (count, expected) in [
            (2, &[1, 2][..]),
            (3, &[1, 2, 3]),
            (8, &[1, 2, 3, 1, 2, 3, 1, 2]),
        ] {
            assert_eq!(repeated(vec![1, 2, 3], count), expected);
        }
        let mut random = RandomStream::new(1);
        assert_eq!(bytes(9, &mut random).len(), 16);
        assert_eq!(bytes(1 << 30, &mut random).len(), DRAWN_BYTES);
    }
}
