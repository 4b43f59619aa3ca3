//! How many entries of a codec's codebooks are in use.

use burn::tensor::Tensor;
use latentlm::core::LatentQuantizer;

use crate::statistics::perplexity;

/// How often each entry of each codebook was next to a latent.
pub struct CodeUsage<'a> {
    quantizer: &'a dyn LatentQuantizer,
    /// Counts of the entries, codebook after codebook.
    counts: Vec<usize>,
}

impl<'a> CodeUsage<'a> {
    /// Nothing counted yet.
    pub fn new(quantizer: &'a dyn LatentQuantizer) -> Self {
        let count = quantizer.codebooks() * quantizer.entries();
        Self {
            quantizer,
            counts: vec![0; count],
        }
    }

    /// Counts the codes of a sound.
    ///
    /// # Shapes
    /// - `parameters`: `[B, T, Z]`, what the encoder puts out
    pub fn count(&mut self, parameters: Tensor<3>) {
        let (books, entries) = (self.quantizer.codebooks(), self.quantizer.entries());
        let codes = self
            .quantizer
            .codes(parameters)
            .into_data()
            .convert::<i64>();
        let codes: Vec<i64> = codes.try_into_vec().unwrap_or_default();
        for (place, code) in codes.into_iter().enumerate() {
            self.counts[place % books * entries + code as usize] += 1;
        }
    }

    /// Name and perplexity of each codebook: the number of entries in use if all of them are used alike.
    pub fn perplexities(&self) -> Vec<(String, f64)> {
        let books = self.counts.chunks_exact(self.quantizer.entries());
        let named = books.zip(1..);
        named
            .map(|(counts, number)| (format!("code_perplexity_{number}"), perplexity(counts)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int};

    use super::*;

    /// Codes are the latents themselves.
    struct Rounding;

    impl LatentQuantizer for Rounding {
        fn codebooks(&self) -> usize {
            2
        }

        fn entries(&self) -> usize {
            3
        }

        fn codes(&self, parameters: Tensor<3>) -> Tensor<3, Int> {
            parameters.int()
        }

        fn latents(&self, codes: Tensor<3, Int>) -> Tensor<3> {
            codes.float()
        }
    }

    #[test]
    fn entries_that_are_used_alike_count_each() {
        let mut usage = CodeUsage::new(&Rounding);
        let device = Device::default();
        let codes = [[[0.0, 2.0], [1.0, 2.0]], [[0.0, 2.0], [1.0, 2.0]]];
        usage.count(Tensor::from_floats(codes, &device));
        let found = usage.perplexities();
        let names: Vec<&str> = found.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(names, ["code_perplexity_1", "code_perplexity_2"]);
        assert!((found[0].1 - 2.0).abs() < 1e-9 && (found[1].1 - 1.0).abs() < 1e-9);
    }
}
