//! For benchmarks: loops that only compute or only read, which tell what a processor can do at most, and the names of what
//! products use.

/// How often [`multiply_add`] changes each number. Loading and storing a number takes little time beside it.
pub const MULTIPLY_ADDS: usize = 16;

/// Changes each number [`MULTIPLY_ADDS`] times by a fused multiplication and addition, halfway towards 1. Numbers do not
/// depend on each other, so that a compiler computes as many at a time as fit in registers.
#[cfg_attr(feature = "cpu", multiversion::multiversion(targets = "simd"))]
pub fn multiply_add(block: &mut [f32]) {
    for number in block {
        let mut x = *number;
        for _ in 0..MULTIPLY_ADDS {
            x = x.mul_add(0.5, 0.5);
        }
        *number = x;
    }
}

/// Reads all numbers: their sum, which wraps around.
#[cfg_attr(feature = "cpu", multiversion::multiversion(targets = "simd"))]
pub fn wrapping_sum(numbers: &[u64]) -> u64 {
    let mut sum = 0_u64;
    for number in numbers {
        sum = sum.wrapping_add(*number);
    }
    sum
}

/// Names of the instructions that multiply many rows on this processor: bfloat16 numbers, and with weights of int8 or int4.
pub fn product_instructions() -> [&'static str; 2] {
    #[cfg(feature = "cpu")]
    return latentlm_products::instructions();
    #[cfg(not(feature = "cpu"))]
    ["Burn's operations"; 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_halfway_to_one_so_often() {
        for length in [1, 7, 64, 1001] {
            let mut block: Vec<f32> = (0..length).map(|i| (i % 3) as f32).collect();
            multiply_add(&mut block);
            let rest = 0.5_f32.powi(MULTIPLY_ADDS as i32);
            for (index, number) in block.iter().enumerate() {
                // 24 bits hold 1 and 2^-16 exactly.
                let expected = [1.0 - rest, 1.0, 1.0 + rest][index % 3];
                assert_eq!(*number, expected, "{index} of {length}");
            }
        }
    }

    #[test]
    fn all_numbers_are_summed() {
        let numbers: Vec<u64> = (1..=1001).collect();
        assert_eq!(wrapping_sum(&numbers), 501_501);
        assert_eq!(wrapping_sum(&[u64::MAX, 3]), 2);
        assert_eq!(wrapping_sum(&[]), 0);
    }
}
