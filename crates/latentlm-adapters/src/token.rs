//! Discrete tokens as positions, and the softmax head over the vocabulary.

use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_kernels::{embedding, linear, linear_layer};

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
                let logits = if rows.dtype() == table.dtype() {
                    rows.matmul(table.transpose())
                } else {
                    // A table in bfloat16 under float32 states: its rows are read where they lie.
                    linear(rows, table.transpose(), None)
                };
                logits.reshape([batch, length, self.vocabulary()])
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
        let head = match &self.output {
            Some(output) => output.weight.val(),
            None => self.table.weight.val().transpose(),
        };
        // Not `select`: on the CPU it would copy a whole head that is stored as `[V, D]`.
        let columns = tokens.iter();
        let columns = columns.map(|token| head.clone().narrow(1, *token as usize, 1));
        Tensor::cat(columns.collect(), 1)
    }

    /// Embeds tokens.
    ///
    /// # Shapes
    /// - `tokens`: `[B, T]`
    /// - returns: `[B, T, D]`
    pub fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        embedding(self.table.weight.val(), tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::DType;
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

    /// A table in bfloat16, as published models store it, gives float32 positions and logits.
    #[test]
    fn a_table_in_bfloat16_gives_float32() {
        let device = Device::default();
        let mut adapter = seeded(1, &device, |device| {
            TokenAdapterConfig::new(5, 3).init(device)
        });
        let table = adapter.table.weight.clone();
        adapter.table.weight = table.map(|table| table.cast(DType::BF16));
        let tokens = Tensor::<2, Int>::from_ints([[0, 1, 2, 3, 4]], &device);
        let table = adapter.embed(tokens); // [1, 5, 3]
        let hidden = RandomStream::new(1).normal([1, 2, 3], &device);
        let logits = adapter.logits(hidden.clone());
        assert_eq!([table.dtype(), logits.dtype()], [DType::F32; 2]);
        // The hidden states are rounded to 8 bits.
        let expected = hidden.clone().matmul(table.swap_dims(1, 2));
        assert_close("logits", logits.clone(), expected, 1e-2);
        let head = adapter.head_of(&[4, 1]).cast(DType::F32).unsqueeze();
        let expected = logits.select(2, indices(&[4, 1], &device));
        assert_close("logits of some", hidden.matmul(head), expected, 1e-2);
    }
}
