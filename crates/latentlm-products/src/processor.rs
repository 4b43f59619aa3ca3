//! What the processor can do.

/// Whether this processor multiplies bfloat16 numbers: has AVX-512 BF16, and loads of single bfloat16 numbers, which all that
/// have it know.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn has_bf16_products() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// Whether this processor multiplies bfloat16 numbers.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub fn has_bf16_products() -> bool {
    false
}
