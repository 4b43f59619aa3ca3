//! `--kv-cache`: the numbers of a KV cache.

use anyhow::{Result, ensure};
use latentlm::backbone::CacheNumbers;
use latentlm_args::CacheType;

/// The type of a KV cache's numbers: as `--kv-cache` asks for it.
///
/// # Errors
/// If the device has no attention over such a cache.
pub(crate) fn cache_numbers(kv_cache: Option<CacheType>, device: &str) -> Result<CacheNumbers> {
    let numbers = match kv_cache {
        None | Some(CacheType::F32) => CacheNumbers::F32,
        Some(CacheType::Bf16) => CacheNumbers::Bf16,
        Some(CacheType::Int8) => CacheNumbers::Int8,
    };
    ensure!(
        device == "cpu" || numbers == CacheNumbers::F32,
        "--kv-cache other than f32 wants --device cpu; leave it out"
    );
    Ok(numbers)
}
