//! Discrete tokens as positions, and the softmax head over the vocabulary.

use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_kernels::linear_layer;

/// Indices as a tensor.
pub fn indices(values: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

/// Configuration of a [`TokenAdapter`].
#[derive(Config, Debug)]
pub struct TokenAdapterConfig {
    /// `V`, size of the vocabulary.
    pub vocabulary: usize,
    /// `D`, width of a position.
    pub width: usize,
    /// Whether the softmax head shares the weights of the embedding.
    #[config(default = true)]
    pub tied: bool,
    /// Standard deviation of the initial embeddings.
    #[config(default = 0.02)]
    pub embedding_std: f64,
}

impl TokenAdapterConfig {
    /// Builds the adapter. A softmax head with weights of its own starts as N(0, 0.02).
    pub fn init(&self, device: &Device) -> TokenAdapter {
        let normal = |std| Initializer::Normal { mean: 0.0, std };
        TokenAdapter {
            table: EmbeddingConfig::new(self.vocabulary, self.width)
                .with_initializer(normal(self.embedding_std))
                .init(device),
            output: (!self.tied).then(|| {
                LinearConfig::new(self.width, self.vocabulary)
                    .with_bias(false)
                    .with_initializer(normal(0.02))
                    .init(device)
            }),
        }
    }
}

/// The token embedding and the softmax head, with shared weights or without (paper §2.2).
#[derive(Module, Debug)]
pub struct TokenAdapter {
    table: Embedding,
    output: Option<Linear>,
}

impl TokenAdapter {
    /// `V`, size of the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.table.weight.dims()[0]
    }

    /// Logits of the next token.
    ///
    /// # Shapes
    /// - `hidden`: `[B, T, D]`
    /// - returns: `[B, T, V]`
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        match &self.output {
            Some(output) => linear_layer(output, hidden),
            None => {
                let [batch, length, width] = hidden.dims();
                let table = self.table.weight.val(); // [V, D]
                let rows = hidden.reshape([batch * length, width]);
                rows.matmul(table.transpose())
                    .reshape([batch, length, self.vocabulary()])
            }
        }
    }

    /// The part of the softmax head that belongs to some tokens: a product of hidden states with it gives the
    /// logits of these tokens alone.
    ///
    /// # Shapes
    /// - `tokens`: `K` of them
    /// - returns: `[D, K]`
    pub fn head_of(&self, tokens: &[u32]) -> Tensor<2> {
        let device = self.table.weight.device();
        let tokens: Vec<i64> = tokens.iter().map(|token| i64::from(*token)).collect();
        let tokens = indices(&tokens, &device);
        match &self.output {
            Some(output) => output.weight.val().select(1, tokens),
            None => self.table.weight.val().select(0, tokens).transpose(),
        }
    }

    /// Embeds tokens.
    ///
    /// # Shapes
    /// - `tokens`: `[B, T]`
    /// - returns: `[B, T, D]`
    pub fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.table.forward(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::RandomStream;
    use latentlm_core::conformance::{assert_close, seeded};

    #[test]
    fn logits_of_some_tokens_are_those_of_the_whole_head() {
        let device = Device::default();
        for tied in [true, false] {
            let config = TokenAdapterConfig::new(7, 3).with_tied(tied);
            let adapter = seeded(1, &device, |device| config.init(device));
            let hidden = RandomStream::new(2).normal([2, 3], &device);
            let some = hidden.clone().matmul(adapter.head_of(&[6, 0, 4]));
            let all = adapter
                .logits(hidden.unsqueeze_dim(0))
                .squeeze_dim::<2>(0)
                .select(1, indices(&[6, 0, 4], &device));
            assert_close("logits of three tokens", some, all, 1e-6);
        }
    }

    /// With shared weights, logits are inner products of hidden state and embeddings.
    #[test]
    fn tied_logits_are_inner_products() {
        let device = Device::default();
        let adapter = seeded(1, &device, |device| {
            TokenAdapterConfig::new(5, 3).init(device)
        });
        let tokens = Tensor::<2, Int>::from_ints([[0, 1, 2, 3, 4]], &device);
        let table = adapter.embed(tokens); // [1, 5, 3]
        let hidden = RandomStream::new(1).normal([1, 2, 3], &device);
        let expected = hidden.clone().matmul(table.swap_dims(1, 2));
        assert_close("logits", adapter.logits(hidden), expected, 1e-6);
    }
}
