//! The target `codes`: `tests/src/fuzz/mod.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| latentlm_tests::fuzz::read("codes", bytes));
