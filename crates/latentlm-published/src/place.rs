//! Weights that stay in bfloat16, int8 or int4.

use std::array::from_fn;
use std::collections::HashMap;

use burn::module::{ModuleMapper, Param};
use burn::store::bridge::into_data;
use burn::store::burn_pack::{Error as PackError, Tensor as Stored};
use burn::tensor::{DType, Device, Tensor, TensorData};
use latentlm_codec_audio::LEAST_BF16_NUMBERS;
use latentlm_kernels::{WEIGHT_GROUP, WeightBits, quantized_weight, weight_of_parts};

use super::layout::permuted_bytes;
use super::quantized::{Pair, floats};

/// The type of weights in memory. Where matrices are bfloat16, a codec's with fewer than [`LEAST_BF16_NUMBERS`] numbers
/// are float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightType {
    /// Matrices that are bfloat16, int8 or int4 in the file stay so. float16 becomes bfloat16: as small, and there are
    /// products with it. All others become float32.
    #[default]
    Stored,
    /// All weights in float32.
    Float32,
    /// All matrices in bfloat16, also those of a file in float32.
    Bfloat16,
    /// The matrices of backbones in int8 or int4 with a scale for each group of 32 inputs, all other matrices in
    /// bfloat16: the head and the codecs are smaller, and what they make is heard as it is.
    Quantized(WeightBits),
}

/// The type of a matrix in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bfloat16,
    Quantized(WeightBits),
}

/// Puts matrices into a module as they lie in the file. A linear layer's weight `[in, out]` is then a view of the
/// file's rows, one for each output, which is the order that products with few rows read it in. The convolutions
/// between resolutions of a codec, which are products too, get that order here. Biases, norms, convolutions of samples
/// and of single channels, and small matrices of codecs are left to others: together they are less than a percent of a
/// model.
pub(crate) struct Matrices {
    kept: WeightType,
    /// Tensors of the file by our names. Those that were put into the module are taken out.
    stored: HashMap<String, Stored>,
    /// Quantized matrices of the file by our names, in the file's format.
    pairs: HashMap<String, Pair>,
    /// Names of the parameters that were put into the module.
    placed: Vec<String>,
    path: Vec<String>,
    containers: Vec<String>,
    failed: Option<PackError>,
}

impl Matrices {
    /// `tensors` and `pairs` as [`pair_up`](super::quantized::pair_up) returns them.
    pub(crate) fn new(
        kept: WeightType,
        tensors: Vec<Stored>,
        pairs: HashMap<String, Pair>,
    ) -> Self {
        let named = tensors
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor));
        Self {
            kept,
            stored: named.collect(),
            pairs,
            placed: Vec::new(),
            path: Vec::new(),
            containers: Vec::new(),
            failed: None,
        }
    }

    /// The tensors that are left, and the names of parameters that have their weights.
    ///
    /// # Errors
    /// If a tensor could not be read.
    pub(crate) fn finish(self) -> Result<(Vec<Stored>, Vec<String>), PackError> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok((self.stored.into_values().collect(), self.placed)),
        }
    }

    /// The matrix for a parameter of this shape, if it is one that stays as it is. Another shape is left for the
    /// check of shapes to name.
    fn take(&mut self, name: &str, shape: &[usize]) -> Option<Taken> {
        if self.failed.is_some() {
            return None;
        }
        let stored = self.stored.get(name)?;
        let order = Order::of(self.containers.last()?, name, stored.shape.as_slice())?;
        if order.shape() != shape {
            return None;
        }
        let kind = self.kind(name, &order, stored)?;
        let stored = self.stored.remove(name)?;
        let pair = self.pairs.remove(name);
        Some(Taken {
            stored,
            pair,
            order,
            kind,
        })
    }

    /// The type that the matrix `stored` gets in memory; `None` for float32.
    fn kind(&self, name: &str, order: &Order, stored: &Stored) -> Option<Kind> {
        let is_float = matches!(stored.dtype, DType::F32 | DType::F16 | DType::BF16);
        let kind = match self.kept {
            WeightType::Float32 => None,
            WeightType::Stored => match self.pairs.get(name) {
                Some(pair) if order.has_rows() => Some(Kind::Quantized(pair.bits)),
                _ => matches!(stored.dtype, DType::BF16 | DType::F16).then_some(Kind::Bfloat16),
            },
            WeightType::Bfloat16 => is_float.then_some(Kind::Bfloat16),
            WeightType::Quantized(bits) => {
                let inputs = inputs(stored);
                let whole = inputs > 0 && inputs.is_multiple_of(WEIGHT_GROUP);
                let in_backbone = self.containers.iter().any(|of| of == BACKBONE);
                if order.has_rows() && in_backbone && whole {
                    is_float.then_some(Kind::Quantized(bits))
                } else {
                    is_float.then_some(Kind::Bfloat16)
                }
            }
        };
        kind.filter(|kind| *kind != Kind::Bfloat16 || !self.is_small_in_codec(stored))
    }

    /// Whether the matrix `stored` is one of a codec that stays float32 among bfloat16 weights.
    fn is_small_in_codec(&self, stored: &Stored) -> bool {
        let numbers: usize = stored.shape.as_slice().iter().product();
        let mut containers = self.containers.iter();
        numbers < LEAST_BF16_NUMBERS && containers.any(|of| CODEC_HALVES.contains(&of.as_str()))
    }
}

/// The type of a backbone among the containers of a parameter.
const BACKBONE: &str = "Struct:Transformer";
/// The types of a codec's halves among them.
const CODEC_HALVES: [&str; 2] = ["Struct:AudioEncoder", "Struct:AudioDecoder"];

/// A matrix that goes into a module.
struct Taken {
    /// The matrix as the file has it, or in float32 if the file has it quantized.
    stored: Stored,
    /// The matrix as the file has it, if that is quantized.
    pair: Option<Pair>,
    order: Order,
    kind: Kind,
}

impl Taken {
    /// The parameter's value; `None` if it would be quantized and the device has no products with such weights.
    fn value<const D: usize>(self, device: &Device) -> Result<Option<Tensor<D>>, PackError> {
        match (self.kind, self.pair) {
            (Kind::Bfloat16, _) => {
                let data = into_data(self.stored)?.convert_dtype(DType::BF16);
                let data = self.order.ordered(data);
                let matrix = Tensor::<D>::from_data(data, (device, DType::BF16));
                let outputs = self.order.outputs;
                let outputs_last = from_fn::<usize, D, _>(|axis| (axis + outputs) % D);
                Ok(Some(matrix.permute(outputs_last)))
            }
            (Kind::Quantized(bits), Some(pair)) if pair.bits == bits => {
                let inputs = inputs(&self.stored);
                Ok(weight_of_parts(&pair.parts()?, inputs, bits, device))
            }
            (Kind::Quantized(bits), _) => {
                let inputs = inputs(&self.stored);
                Ok(quantized_weight(
                    &floats(&self.stored)?,
                    inputs,
                    bits,
                    device,
                ))
            }
        }
    }
}

/// Inputs of a matrix `[O, I]`.
fn inputs(stored: &Stored) -> usize {
    stored.shape.as_slice().last().copied().unwrap_or(0)
}

/// The axes of a stored tensor, and their order in memory: those of outputs first.
struct Order {
    /// The axes of the file, some of them cut in two.
    seen: Vec<usize>,
    /// For each axis in memory, its index in `seen`.
    axes: &'static [usize],
    /// Axes of outputs. The parameter has them behind the others.
    outputs: usize,
}

impl Order {
    /// The order for a parameter in a layer of this type; `None` if it is no matrix. `stored` is its shape in the file.
    fn of(layer: &str, name: &str, stored: &[usize]) -> Option<Self> {
        let between = name.contains("stages.") && name.ends_with(".conv.weight");
        let (seen, axes, outputs): (_, &[usize], _) = match (layer, stored) {
            ("Struct:Linear", &[_, _]) => (stored.to_vec(), &[0, 1], 1),
            ("Struct:Embedding", &[_, _]) => (stored.to_vec(), &[0, 1], 0),
            // [out, in, kernel]
            ("Struct:CausalConv1d", &[_, _, _]) if between => (stored.to_vec(), &[0, 2, 1], 1),
            // [in, out, 2 * stride]
            ("Struct:CausalConvTranspose1d", &[inputs, outputs, kernel])
                if between && kernel.is_multiple_of(2) =>
            {
                (vec![inputs, outputs, 2, kernel / 2], &[3, 1, 2, 0], 2)
            }
            _ => return None,
        };
        Some(Self {
            seen,
            axes,
            outputs,
        })
    }

    /// Whether the parameter is the weight of a linear layer, `[O, I]`, whose rows may be quantized.
    fn has_rows(&self) -> bool {
        self.seen.len() == 2 && self.outputs == 1
    }

    /// Sizes of the axes in memory.
    fn in_memory(&self) -> Vec<usize> {
        self.axes.iter().map(|&axis| self.seen[axis]).collect()
    }

    /// The shape of the parameter.
    fn shape(&self) -> Vec<usize> {
        let mut shape = self.in_memory();
        shape.rotate_left(self.outputs);
        shape
    }

    /// The numbers of a file in the order of memory, which is that of the file for most.
    fn ordered(&self, data: TensorData) -> TensorData {
        if self.axes.is_sorted() {
            return data;
        }
        let dtype = data.dtype();
        let bytes = permuted_bytes(data.as_bytes(), dtype.size(), &self.seen, self.axes);
        TensorData::from_bytes_vec(bytes, self.in_memory(), dtype)
    }
}

impl ModuleMapper for Matrices {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push(name.to_owned());
        self.containers.push(container_type.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
        self.containers.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.join(".");
        let taken = self.take(&name, param.lazy_shape().as_slice());
        let Some(taken) = taken else {
            return param;
        };
        let stored = taken.stored.clone();
        let matrix = match taken.value(&param.lazy_device()) {
            Ok(Some(matrix)) => matrix,
            // It becomes float32, as all that is left.
            Ok(None) => {
                self.stored.insert(name, stored);
                return param;
            }
            Err(error) => {
                self.failed = Some(error);
                return param;
            }
        };
        self.placed.push(name);
        let id = param.id;
        param.transform_for_load(matrix, id)
    }
}
