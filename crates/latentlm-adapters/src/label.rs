//! Class labels as positions.

use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor};
use latentlm_core::RandomStream;

/// Configuration of a [`LabelAdapter`].
#[derive(Config, Debug)]
pub struct LabelAdapterConfig {
    /// Number of classes; the table has one more row for the null label.
    pub classes: usize,
    /// `D`, width of a position.
    pub width: usize,
}

impl LabelAdapterConfig {
    /// Builds the adapter. The table starts as N(0, 0.02).
    pub fn init(&self, device: &Device) -> LabelAdapter {
        LabelAdapter {
            table: EmbeddingConfig::new(self.classes + 1, self.width)
                .with_initializer(Initializer::Normal {
                    mean: 0.0,
                    std: 0.02,
                })
                .init(device),
            classes: self.classes,
        }
    }
}

/// A table of class embeddings (reference `LabelEmbedder`). Label `classes` is the null label, the
/// input of unconditional generation.
#[derive(Module, Debug)]
pub struct LabelAdapter {
    table: Embedding,
    classes: usize,
}

impl LabelAdapter {
    /// Number of classes, without the null label.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The null label.
    pub fn null_class(&self) -> u32 {
        self.classes as u32
    }

    /// Null labels for a batch, `[B]`.
    pub fn null(&self, batch: usize, device: &Device) -> Tensor<1, Int> {
        Tensor::full([batch], self.classes as i64, device)
    }

    /// Replaces each label by the null label with probability `dropout`, so that one model learns
    /// the conditional and the unconditional distribution.
    ///
    /// # Panics
    /// If a label is not below the number of classes.
    pub fn drop_labels(&self, labels: &mut [u32], dropout: f64, random: &mut RandomStream) {
        for label in labels {
            assert!(
                (*label as usize) < self.classes,
                "label {label} of {} classes",
                self.classes
            );
            if random.chance(dropout) {
                *label = self.null_class();
            }
        }
    }

    /// Embeds labels.
    ///
    /// # Shapes
    /// - `labels`: `[B]`
    /// - returns: `[B, 1, D]`
    pub fn embed(&self, labels: Tensor<1, Int>) -> Tensor<3> {
        self.table.forward(labels.unsqueeze_dim(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::conformance::seeded;

    fn adapter(classes: usize, device: &Device) -> LabelAdapter {
        seeded(1, device, |device| {
            LabelAdapterConfig::new(classes, 4).init(device)
        })
    }

    #[test]
    fn drops_labels_with_the_given_probability() {
        let adapter = adapter(10, &Device::default());
        let mut labels = vec![3; 10_000];
        adapter.drop_labels(&mut labels, 0.1, &mut RandomStream::new(1));
        let dropped = labels.iter().filter(|&&l| l == 10).count();
        assert!((900..1100).contains(&dropped), "{dropped}");
        assert!(labels.iter().all(|&l| l == 3 || l == 10));
    }

    #[test]
    fn the_null_label_has_its_own_row() {
        let device = Device::default();
        let adapter = adapter(3, &device);
        let row = adapter.embed(adapter.null(1, &device)).reshape([4]);
        let expected = adapter.table.weight.val().narrow(0, 3, 1).reshape([4]);
        assert_eq!(row.into_data(), expected.into_data());
    }
}
