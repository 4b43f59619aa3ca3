//! Layers of gated linear recurrences.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig, SwiGlu, SwiGluConfig};
use burn::tensor::activation::{sigmoid, silu};
use burn::tensor::{Device, Tensor, TensorData};
use latentlm_core::{BackboneSizes, CausalBackbone, CausalBackboneConfig, PartConfig};

use crate::config::GatedRecurrenceConfig;
use crate::scan::scan;

/// One layer: `x += recurrence(norm(x))`, `x += mlp(norm(x))`.
#[derive(Module, Debug)]
struct Layer {
    norm: RmsNorm,
    /// Values, gates of the recurrence and gates of what it puts out, `D` to `3 D`.
    input: Linear,
    /// Added to the gates: numbers that remember long, and such that forget soon, `[D]`.
    decay: Param<Tensor<1>>,
    output: Linear,
    mlp_norm: RmsNorm,
    mlp: SwiGlu,
    mlp_output: Linear,
}

/// A gated linear recurrence with feed-forward networks between.
#[derive(Module, Debug)]
pub struct GatedRecurrence {
    layers: Vec<Layer>,
    norm: RmsNorm,
    width: usize,
}

/// What sequences leave behind: one vector a layer, however long they are.
#[derive(Debug, Clone)]
pub struct RecurrentState {
    /// `h` of the last position in each layer, `[B, 1, D]`.
    hidden: Vec<Tensor<3>>,
    /// Positions at the beginning of each sequence that nothing sees.
    padding: Vec<usize>,
    /// Positions so far, padding included.
    positions: usize,
}

/// Where a run over positions begins anew, or has nothing to read.
struct Marks {
    /// 0 at the first position of a document, else 1, `[1, T, 1]`; none where there is one document.
    goes_on: Option<Tensor<3>>,
    /// 0 in padding, else 1, `[B, T, 1]`; none where there is no padding.
    is_read: Option<Tensor<3>>,
}

impl Layer {
    fn new(config: &GatedRecurrenceConfig, device: &Device) -> Self {
        let (width, inner) = (config.width, config.mlp_width());
        let linear = |input, output| {
            LinearConfig::new(input, output)
                .with_bias(false)
                .init(device)
        };
        // Half-lives from one position to about a hundred.
        let decay = |at: usize| 5.0 * (at as f32 + 0.5) / width as f32;
        let decay: Vec<f32> = (0..width).map(decay).collect();
        let decay = Tensor::<1>::from_data(TensorData::new(decay, [width]), device);
        Self {
            norm: RmsNormConfig::new(width).init(device),
            input: linear(width, 3 * width),
            decay: Param::from_tensor(decay),
            output: linear(width, width),
            mlp_norm: RmsNormConfig::new(width).init(device),
            mlp: SwiGluConfig::new(width, inner).init(device),
            mlp_output: linear(inner, width),
        }
    }

    /// The next positions, and `h` of the last of them. Without `before` it is 0.
    ///
    /// # Shapes
    /// - `x`: `[B, T, D]`; `before`: `[B, 1, D]`
    /// - returns: `[B, T, D]` and `[B, 1, D]`
    fn forward(
        &self,
        x: Tensor<3>,
        before: Option<Tensor<3>>,
        marks: &Marks,
    ) -> (Tensor<3>, Tensor<3>) {
        let [_, length, width] = x.dims();
        let made = self.input.forward(self.norm.forward(x.clone())); // [B, T, 3D]
        let part = |index: usize| made.clone().narrow(2, index * width, width);
        let keep = sigmoid(part(1) + self.decay.val().unsqueeze::<3>());
        let mut added = part(0) * (keep.clone().neg() + 1.0);
        if let Some(is_read) = &marks.is_read {
            added = added * is_read.clone();
        }
        let keep = match &marks.goes_on {
            Some(goes_on) => keep * goes_on.clone(),
            None => keep,
        };
        let hidden = match before {
            // What came before is one more position in front, which the others go on from.
            Some(before) => {
                let keep = Tensor::cat(vec![before.ones_like(), keep], 1);
                scan(keep, Tensor::cat(vec![before, added], 1)).narrow(1, 1, length)
            }
            None => scan(keep, added),
        };
        let last = hidden.clone().narrow(1, length - 1, 1);
        let x = x + self.output.forward(hidden * silu(part(2)));
        let inner = self.mlp.forward(self.mlp_norm.forward(x.clone()));
        (x + self.mlp_output.forward(inner), last)
    }
}

impl GatedRecurrence {
    fn new(config: &GatedRecurrenceConfig, device: &Device) -> Self {
        Self {
            layers: (0..config.depth)
                .map(|_| Layer::new(config, device))
                .collect(),
            norm: RmsNormConfig::new(config.width).init(device),
            width: config.width,
        }
    }
}

impl CausalBackboneConfig for GatedRecurrenceConfig {
    type Backbone = GatedRecurrence;

    /// Heads mean nothing here, and blocks are never run again.
    fn of(sizes: &BackboneSizes) -> Self {
        Self::new()
            .with_width(sizes.width)
            .with_depth(sizes.depth)
            .with_mlp_ratio(sizes.mlp_ratio)
    }

    fn init(&self, device: &Device) -> GatedRecurrence {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        GatedRecurrence::new(self, device)
    }
}

impl CausalBackbone for GatedRecurrence {
    type State = RecurrentState;

    fn width(&self) -> usize {
        self.width
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let length = x.dims()[1];
        self.forward_documents(x, &[length])
    }

    /// All documents in one pass: nothing is kept from one to the next.
    fn forward_documents(&self, mut x: Tensor<3>, documents: &[usize]) -> Tensor<3> {
        let (given, length) = (documents.iter().sum::<usize>(), x.dims()[1]);
        assert_eq!(given, length, "documents of {given} positions in {length}");
        let goes_on = (documents.len() > 1).then(|| {
            let document = |&length: &usize| (0..length).map(|at| if at == 0 { 0.0 } else { 1.0 });
            let values: Vec<f32> = documents.iter().flat_map(document).collect();
            Tensor::from_data(TensorData::new(values, [1, length, 1]), &x.device())
        });
        let marks = Marks {
            goes_on,
            is_read: None,
        };
        for layer in &self.layers {
            (x, _) = layer.forward(x, None, &marks);
        }
        self.norm.forward(x)
    }

    /// A recurrence has room for any number of positions.
    fn init_state(&self, batch: usize, capacity: usize, device: &Device) -> RecurrentState {
        self.init_padded_state(&vec![0; batch], capacity, device)
    }

    fn init_padded_state(&self, padding: &[usize], _: usize, device: &Device) -> RecurrentState {
        let hidden = || Tensor::zeros([padding.len(), 1, self.width], device);
        RecurrentState {
            hidden: self.layers.iter().map(|_| hidden()).collect(),
            padding: padding.to_vec(),
            positions: 0,
        }
    }

    fn step(&self, mut x: Tensor<3>, state: &mut RecurrentState) -> Tensor<3> {
        let marks = Marks {
            goes_on: None,
            is_read: state.next_read(&x),
        };
        for (layer, hidden) in self.layers.iter().zip(&mut state.hidden) {
            (x, *hidden) = layer.forward(x, Some(hidden.clone()), &marks);
        }
        self.norm.forward(x)
    }
}

impl RecurrentState {
    /// Counts the next positions, and says which of them are read, `[B, T, 1]`; nothing where all are.
    fn next_read(&mut self, x: &Tensor<3>) -> Option<Tensor<3>> {
        let ([batch, length, _], known) = (x.dims(), self.padding.len());
        assert_eq!(batch, known, "a state of {known} sequences, not {batch}");
        let start = self.positions;
        self.positions += length;
        if self.padding.iter().all(|padding| *padding <= start) {
            return None;
        }
        let of_sequence = |padding: &usize| {
            let padding = *padding;
            (start..start + length).map(move |at| if at < padding { 0.0 } else { 1.0 })
        };
        let values: Vec<f32> = self.padding.iter().flat_map(of_sequence).collect();
        let values = TensorData::new(values, [batch, length, 1]);
        Some(Tensor::from_data(values, &x.device()))
    }
}
