//! Weights that stay in bfloat16.

use std::collections::HashMap;

use burn::module::{ModuleMapper, Param};
use burn::store::bridge::into_data;
use burn::store::burn_pack::{Error as PackError, Tensor as Stored};
use burn::tensor::{DType, Tensor};

/// The type of weights in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightType {
    /// Matrices that are bfloat16 in the file stay bfloat16; all others become float32.
    #[default]
    Stored,
    /// All weights in float32.
    Float32,
    /// All matrices in bfloat16, also those of a file in float32.
    Bfloat16,
}

impl WeightType {
    fn keeps(self, stored: DType) -> bool {
        match self {
            Self::Stored => stored == DType::BF16,
            Self::Float32 => false,
            Self::Bfloat16 => matches!(stored, DType::F32 | DType::F16 | DType::BF16),
        }
    }
}

/// Puts matrices into a module as they lie in the file. A linear layer's weight `[in, out]` is then a view of the
/// file's rows, one for each output, which is the order that products with few rows read it in. Biases, norms
/// and convolutions are left to others: together they are a few percent of a model.
pub(crate) struct Matrices {
    kept: WeightType,
    /// Tensors of the file by our names. Those that were put into the module are taken out.
    stored: HashMap<String, Stored>,
    /// Names of the parameters that were put into the module.
    placed: Vec<String>,
    path: Vec<String>,
    containers: Vec<String>,
    failed: Option<PackError>,
}

impl Matrices {
    pub(crate) fn new(kept: WeightType, tensors: Vec<Stored>) -> Self {
        let named = tensors
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor));
        Self {
            kept,
            stored: named.collect(),
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
    fn take(&mut self, name: &str, shape: &[usize]) -> Option<(Stored, Order)> {
        let order = match self.containers.last()?.as_str() {
            "Struct:Linear" => Order::Outputs,
            "Struct:Embedding" => Order::Same,
            _ => return None,
        };
        let stored = self.stored.get(name)?;
        let fits = match (order, shape, stored.shape.as_slice()) {
            (Order::Outputs, [inputs, outputs], [rows, columns]) => {
                inputs == columns && outputs == rows
            }
            (Order::Same, shape @ [_, _], stored) => shape == stored,
            _ => false,
        };
        if !fits || !self.kept.keeps(stored.dtype) {
            return None;
        }
        let stored = self.stored.remove(name)?;
        Some((stored, order))
    }
}

/// The axes of a stored matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Outputs first, as PyTorch has a linear layer's weight.
    Outputs,
    /// Those of the parameter.
    Same,
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
        let Some((stored, order)) = taken else {
            return param;
        };
        let data = match into_data(stored) {
            Ok(data) => data.convert_dtype(DType::BF16),
            Err(error) => {
                self.failed = Some(error);
                return param;
            }
        };
        let matrix = Tensor::from_data(data, (&param.lazy_device(), DType::BF16));
        let matrix = match order {
            Order::Outputs => matrix.swap_dims(0, 1),
            Order::Same => matrix,
        };
        self.placed.push(name);
        let id = param.id;
        param.transform_for_load(matrix, id)
    }
}
