//! The published speech codec in a stream, one latent after the other.

use std::array::from_fn;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use latentlm::codec_audio::{
    AudioDecoder, AudioEncoder, CodecConfig, DecoderState, EncoderState, LEAST_BF16_NUMBERS,
};
use latentlm::core::Precision;

use crate::Unit;
use crate::inputs::Inputs;
use crate::sizes::CodecSizes;

/// Scale of the residual branches: that of an untrained codec, 1e-6, would silence them.
const LAYER_SCALE: f64 = 0.1;

/// The configuration of a codec with these sizes, whose latents have `latent_dim` numbers.
pub(super) fn config(sizes: CodecSizes, latent_dim: usize) -> CodecConfig {
    CodecConfig {
        latent_dim,
        width: sizes.width,
        ratios: sizes.ratios.to_vec(),
        depths: sizes.depths.to_vec(),
        layer_scale: LAYER_SCALE,
        ..CodecConfig::new()
    }
}

/// Each unit is the next latent of one stream.
pub(super) fn stream(sizes: CodecSizes, mut inputs: Inputs) -> Unit {
    let mut codec = Stream::new(sizes, &inputs.device);
    if sizes.weights == Precision::Bf16 {
        codec = codec.rounded();
    }
    let length = codec.input_length;
    Box::new(move || {
        let input = inputs.normal([1, 1, length]);
        codec.step(input);
    })
}

/// The halves of a codec that work, with their states.
#[derive(Clone)]
struct Stream {
    decoder: Option<AudioDecoder>,
    encoder: Option<AudioEncoder>,
    decoded: DecoderState,
    encoded: EncoderState,
    /// Numbers that go in for each latent: those of a latent, or samples if nothing is decoded.
    input_length: usize,
}

impl Stream {
    /// Halves with new weights, before the first latent.
    fn new(sizes: CodecSizes, device: &Device) -> Self {
        let acoustic = config(sizes, sizes.latent_dim);
        let semantic = config(sizes, sizes.semantic_dim);
        let (decodes, encodes) = (sizes.halves.decodes(), sizes.halves.encodes());
        Self {
            decoder: decodes.then(|| acoustic.init_decoder(device)),
            encoder: encodes.then(|| semantic.init_encoder(device)),
            decoded: DecoderState::default(),
            encoded: EncoderState::default(),
            input_length: if decodes {
                sizes.latent_dim
            } else {
                semantic.hop_samples()
            },
        }
    }

    /// With matrices in bfloat16.
    fn rounded(self) -> Self {
        Self {
            decoder: self.decoder.map(in_bfloat16),
            encoder: self.encoder.map(in_bfloat16),
            ..self
        }
    }

    /// What comes of the next latent, or of its sound if nothing is decoded.
    ///
    /// # Shapes
    /// - `input`: `[1, 1, Z]`, or `[1, 1, N]`
    /// - returns: `[1, 1, Z]`, or `[1, 1, N]` if nothing is encoded
    fn step(&mut self, input: Tensor<3>) -> Tensor<3> {
        let sound = match &self.decoder {
            Some(decoder) => decoder.step(input, &mut self.decoded),
            None => input,
        };
        match &self.encoder {
            Some(encoder) => encoder.step(sound, &mut self.encoded),
            None => sound,
        }
    }
}

/// Rounds the matrices of a half. Convolutions have their weights in float32 from the beginning and are rounded first.
/// Linear layers, which have most of the weights, draw theirs when they are read: one matrix at a time is in float32.
fn in_bfloat16<M: Module>(half: M) -> M {
    let half = half.map(&mut Rounding::of_drawn(true));
    half.map(&mut Rounding::of_drawn(false))
}

/// Rounds the matrices that loading a published model with weights in bfloat16 rounds: those of linear layers, and of
/// the convolutions between resolutions, if they have [`LEAST_BF16_NUMBERS`] numbers.
struct Rounding {
    /// Whether weights that are drawn already are rounded, or those that are not.
    drawn: bool,
    path: Vec<String>,
    /// Types of the modules around a parameter.
    containers: Vec<String>,
}

impl Rounding {
    fn of_drawn(drawn: bool) -> Self {
        Self {
            drawn,
            path: Vec::new(),
            containers: Vec::new(),
        }
    }

    /// How many of the last axes of a weight count outputs; `None` if it stays float32.
    fn output_axes(&self, axes: usize) -> Option<usize> {
        let between = self.path.first().is_some_and(|field| field == "stages");
        match (self.containers.last()?.as_str(), axes) {
            ("Struct:Linear", 2) => Some(1),
            ("Struct:CausalConv1d", 3) if between => Some(1),
            ("Struct:CausalConvTranspose1d", 4) if between => Some(2),
            _ => None,
        }
    }
}

impl ModuleMapper for Rounding {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push(name.to_owned());
        self.containers.push(container_type.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
        self.containers.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let numbers: usize = param.lazy_shape().as_slice().iter().product();
        if numbers < LEAST_BF16_NUMBERS || param.is_initialized() != self.drawn {
            return param;
        }
        let Some(outputs) = self.output_axes(D) else {
            return param;
        };
        let (id, weight) = (param.id, param.val());
        param.transform_for_load(rounded(weight, outputs), id)
    }
}

/// A weight in bfloat16, whose last `outputs` axes, those of outputs, come first in memory: the order that products with
/// few rows read it in.
///
/// # Shapes
/// - `weight`: inputs before outputs; returns the same
fn rounded<const D: usize>(weight: Tensor<D>, outputs: usize) -> Tensor<D> {
    let device = weight.device();
    let outputs_first = from_fn::<usize, D, _>(|axis| (axis + D - outputs) % D);
    let data = weight.permute(outputs_first).into_data();
    let data = data.convert_dtype(DType::BF16);
    let rows = Tensor::<D>::from_data(data, (&device, DType::BF16));
    rows.permute(from_fn::<usize, D, _>(|axis| (axis + outputs) % D))
}

#[cfg(test)]
mod tests {
    use burn::module::ModuleVisitor;
    use latentlm::RandomStream;

    use super::*;
    use crate::sizes::{CODEC, CodecHalves};

    /// Seven resolutions of 4 to 256 channels.
    const SMALL: CodecSizes = CodecSizes {
        latent_dim: 6,
        semantic_dim: 5,
        width: 4,
        ratios: [2, 1, 1, 1, 1, 2],
        depths: [1; 7],
        ..CODEC
    };

    /// Weights that do not depend on other tests.
    struct Drawn(RandomStream);

    impl ModuleMapper for Drawn {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|weight| {
                let drawn = self.0.normal(weight.dims(), &weight.device());
                drawn.mul_scalar(0.1)
            })
        }
    }

    fn exact(halves: CodecHalves) -> Stream {
        let new = Stream::new(CodecSizes { halves, ..SMALL }, &Device::default());
        Stream {
            decoder: new
                .decoder
                .map(|half| half.map(&mut Drawn(RandomStream::new(3)))),
            encoder: new
                .encoder
                .map(|half| half.map(&mut Drawn(RandomStream::new(4)))),
            ..new
        }
    }

    /// Names of the parameters in bfloat16.
    #[derive(Default)]
    struct Rounded {
        path: Vec<String>,
        names: Vec<String>,
    }

    impl ModuleVisitor for Rounded {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.val().dtype() == DType::BF16 {
                self.names.push(self.path.join("."));
            }
        }
    }

    fn rounded_in<M: Module>(half: &M) -> Vec<String> {
        let mut found = Rounded::default();
        half.visit(&mut found);
        found.names
    }

    #[test]
    fn the_sizes_are_those_that_were_published() {
        let expected = CodecConfig::new().with_layer_scale(LAYER_SCALE);
        assert_eq!(config(CODEC, CODEC.latent_dim), expected);
        let semantic = config(CODEC, CODEC.semantic_dim);
        for (count, millions) in [
            (expected.decoder_parameter_count(), 344),
            (semantic.encoder_parameter_count(), 345),
        ] {
            assert_eq!((count + 500_000) / 1_000_000, millions);
        }
    }

    /// Of a layer of 256 channels, and the convolution between these and 128, which has just enough numbers. Weights that
    /// are drawn when they are read are rounded too.
    #[test]
    fn large_matrices_are_rounded() {
        let drawn = exact(CodecHalves::Both).rounded();
        let lazy = Stream::new(SMALL, &Device::default()).rounded();
        for codec in [drawn, lazy] {
            assert_eq!(
                rounded_in(&codec.decoder.unwrap()),
                [
                    "layers.0.up.weight",
                    "layers.0.down.weight",
                    "stages.0.conv.weight"
                ]
            );
            assert_eq!(
                rounded_in(&codec.encoder.unwrap()),
                [
                    "stages.5.conv.weight",
                    "stages.5.layers.0.up.weight",
                    "stages.5.layers.0.down.weight"
                ]
            );
        }
    }

    /// What comes out with weights in bfloat16 is what float32 gives, up to the rounding of weights and rows: 2^-9 of each
    /// in a few products in a row. A matrix in another order would give something else.
    #[test]
    fn rounded_weights_compute_nearly_the_same() {
        for halves in [CodecHalves::Decode, CodecHalves::Encode, CodecHalves::Both] {
            let mut exact = exact(halves);
            let mut small = exact.clone().rounded();
            let mut random = RandomStream::new(1);
            for latent in 0..3 {
                let x = random.normal([1, 1, exact.input_length], &Device::default());
                let expected = exact.step(x.clone());
                let got = small.step(x);
                assert_eq!(got.dtype(), DType::F32);
                let size: f32 = expected.clone().square().sum().into_scalar();
                let error: f32 = (got - expected).square().sum().into_scalar();
                let relative = (error / size).sqrt();
                assert!(
                    relative > 0.0 && relative < 0.05,
                    "{halves:?}, latent {latent}: {relative}"
                );
            }
        }
    }
}
