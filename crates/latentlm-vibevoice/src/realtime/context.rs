//! What the two language models have read of a voice.

use burn::tensor::{Device, Tensor, TensorData};
use latentlm_backbone::{Backbone, CacheNumbers, KvCache};
use latentlm_core::CausalBackbone;

/// The contexts of a voice, as files name them: of the text model and the speech model, and the same without
/// condition.
pub(super) const CONTEXTS: [&str; 4] = ["lm", "tts_lm", "neg_lm", "neg_tts_lm"];

/// State of one of the models after the voice: hidden states and KV cache.
#[derive(Debug, Clone)]
pub(super) struct SavedContext {
    /// `[1, P, D]`
    pub(super) hidden: TensorData,
    /// Keys, rotated, and values of each layer, `[1, G, P, E]`.
    pub(super) layers: Vec<[TensorData; 2]>,
}

impl SavedContext {
    /// Checks that tensors belong together; `name` is for messages.
    ///
    /// # Errors
    /// With what is wrong.
    pub(super) fn new(
        name: &str,
        hidden: TensorData,
        layers: Vec<[TensorData; 2]>,
    ) -> Result<Self, String> {
        let &[1, positions, width] = hidden.shape().as_slice() else {
            let shape = hidden.shape().as_slice();
            return Err(format!(
                "has a `{name}` whose hidden states are {shape:?}, not of one sequence"
            ));
        };
        let Some([first, _]) = layers.first() else {
            return Err(format!("has a `{name}` without layers"));
        };
        let shape = first.shape().as_slice().to_vec();
        let fits = matches!(shape[..], [1, _, count, _] if count == positions);
        if !fits || positions == 0 || width == 0 {
            return Err(format!(
                "has a `{name}` whose keys are {shape:?} for {positions} hidden states"
            ));
        }
        for tensor in layers.iter().flatten() {
            if tensor.shape().as_slice() != shape {
                let other = tensor.shape().as_slice();
                return Err(format!(
                    "has a `{name}` with layers of {shape:?} and of {other:?}"
                ));
            }
        }
        let context = Self { hidden, layers };
        for tensor in context.tensors() {
            if !is_finite(tensor) {
                return Err(format!("has a `{name}` with numbers that are not finite"));
            }
        }
        Ok(context)
    }

    fn tensors(&self) -> impl Iterator<Item = &TensorData> {
        self.layers.iter().flatten().chain([&self.hidden])
    }

    /// Positions that were read.
    pub(super) fn positions(&self) -> usize {
        self.hidden.shape().as_slice()[1]
    }

    /// A cache of these positions.
    pub(super) fn cache(&self, capacity: usize, numbers: CacheNumbers, device: &Device) -> KvCache {
        let load = |data: &TensorData| Tensor::from_data(data.clone().convert::<f32>(), device);
        let layers = self.layers.iter().map(|layer| layer.each_ref().map(load));
        KvCache::filled(layers.collect(), capacity, numbers)
    }

    /// The hidden state of the last position, `[1, D]`.
    pub(super) fn last_hidden(&self, device: &Device) -> Tensor<2> {
        let data = self.hidden.clone().convert::<f32>();
        let hidden: Tensor<3> = Tensor::from_data(data, device);
        hidden.narrow(1, self.positions() - 1, 1).squeeze_dim(1)
    }

    /// How the context differs from what a model reads, if it does.
    pub(super) fn misfit(&self, model: &Backbone) -> Option<String> {
        let positions = self.positions();
        let (depth, shape) = (model.depth(), model.cache_shape(positions));
        let own = self.layers[0][0].shape().as_slice();
        if self.layers.len() != depth || own != shape {
            return Some(format!(
                "has {} layers of {own:?}, the model {depth} layers of {shape:?}",
                self.layers.len()
            ));
        }
        let (own, wanted) = (
            self.hidden.shape().as_slice(),
            [1, positions, model.width()],
        );
        (own != wanted).then(|| format!("has hidden states of {own:?}, the model {wanted:?}"))
    }
}

fn is_finite(tensor: &TensorData) -> bool {
    let numbers = tensor.clone().convert::<f32>();
    let numbers = numbers.as_slice::<f32>();
    numbers.is_ok_and(|numbers| numbers.iter().all(|number| number.is_finite()))
}
