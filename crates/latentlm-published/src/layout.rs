//! Layouts of parameters: PyTorch's and ours.

use burn::store::bridge::map_data;
use burn::store::burn_pack::Tensor as Stored;
use burn::store::{BurnToPyTorchAdapter, ModuleAdapter, ModuleContext, PyTorchToBurnAdapter};
use burn::tensor::{Shape, TensorData};

/// Which way a checkpoint goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Import,
    Export,
}

/// Changes layouts where ours differ from PyTorch's, then lets burn-store do what it knows: linears
/// transposed, norms renamed.
#[derive(Debug, Clone)]
pub(crate) struct Layouts {
    pub(crate) direction: Direction,
    /// Linears that the checkpoint keeps as convolutions of one pixel.
    pub(crate) pixels: &'static [&'static str],
}

impl Layouts {
    fn pixels(&self, tensor: &Stored) -> Option<Shape> {
        let is_pixel = self.pixels.contains(&tensor.name.as_str());
        match (self.direction, tensor.shape.as_slice()) {
            (Direction::Import, &[outputs, inputs, 1, 1]) if is_pixel => {
                Some(Shape::from([outputs, inputs]))
            }
            (Direction::Export, &[inputs, outputs]) if is_pixel => {
                Some(Shape::from([outputs, inputs, 1, 1]))
            }
            _ => None,
        }
    }

    fn own(&self, tensor: Stored, module: &str) -> Stored {
        let shape = tensor.shape.as_slice().to_vec();
        match (self.direction, module, shape.as_slice()) {
            // [out, in, kernel] and [kernel, in, out]
            (_, "Struct:CausalConv1d", &[_, _, _]) => permute(tensor, &shape, &[2, 1, 0], None),
            // [in, out, 2 * stride] to [2, in, stride, out]
            (Direction::Import, "Struct:CausalConvTranspose1d", &[input, output, kernel]) => {
                let seen = [input, output, 2, kernel / 2];
                permute(tensor, &seen, &[2, 0, 3, 1], None)
            }
            (Direction::Export, "Struct:CausalConvTranspose1d", &[taps, input, stride, output]) => {
                let stored = Shape::from([input, output, taps * stride]);
                permute(tensor, &shape, &[1, 3, 0, 2], Some(stored))
            }
            // The checkpoint's scalars have no axis.
            (Direction::Import, "Struct:Whitener", []) => reshape(tensor, Shape::from([1])),
            (Direction::Export, "Struct:Whitener", [1]) => {
                reshape(tensor, Shape::from(Vec::<usize>::new()))
            }
            _ => tensor,
        }
    }
}

impl ModuleAdapter for Layouts {
    fn adapt(&self, tensor: Stored, context: ModuleContext<'_>) -> Stored {
        let pixels = self.pixels(&tensor);
        let tensor = self.own(tensor, context.module_type().unwrap_or_default());
        match (self.direction, pixels) {
            (Direction::Import, Some(flat)) => {
                PyTorchToBurnAdapter.adapt(reshape(tensor, flat), context)
            }
            (Direction::Import, None) => PyTorchToBurnAdapter.adapt(tensor, context),
            (Direction::Export, pixels) => {
                let tensor = BurnToPyTorchAdapter.adapt(tensor, context);
                match pixels {
                    Some(shape) => reshape(tensor, shape),
                    None => tensor,
                }
            }
        }
    }

    fn get_alternative_param_name(&self, name: &str, container: &str) -> Option<String> {
        match self.direction {
            Direction::Import => PyTorchToBurnAdapter.get_alternative_param_name(name, container),
            Direction::Export => None,
        }
    }

    fn clone_box(&self) -> Box<dyn ModuleAdapter> {
        Box::new(self.clone())
    }
}

fn reshape(tensor: Stored, shape: Shape) -> Stored {
    let (name, dtype) = (tensor.name.clone(), tensor.dtype);
    let target = shape.clone();
    map_data(tensor, name, dtype, shape, move |data| {
        let dtype = data.dtype();
        TensorData::from_bytes(data.into_bytes(), target.clone(), dtype)
    })
}

/// Sees the tensor as `seen`, orders its axes anew, and calls the result `result` if that is given.
fn permute(tensor: Stored, seen: &[usize], axes: &[usize], result: Option<Shape>) -> Stored {
    if seen.iter().product::<usize>() != tensor.shape.iter().product::<usize>() {
        // An odd kernel: left as it is, for the shape check to name.
        return tensor;
    }
    let permuted: Vec<usize> = axes.iter().map(|&axis| seen[axis]).collect();
    let shape = result.unwrap_or_else(|| Shape::from(permuted));
    let (name, dtype) = (tensor.name.clone(), tensor.dtype);
    let (seen, axes, target) = (seen.to_vec(), axes.to_vec(), shape.clone());
    map_data(tensor, name, dtype, shape, move |data| {
        let bytes = permuted_bytes(data.as_bytes(), data.dtype().size(), &seen, &axes);
        TensorData::from_bytes_vec(bytes, target.clone(), data.dtype())
    })
}

/// Elements of `size` bytes in the order of the permuted axes.
pub(crate) fn permuted_bytes(
    bytes: &[u8],
    size: usize,
    shape: &[usize],
    axes: &[usize],
) -> Vec<u8> {
    let mut strides = vec![size; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    let dims: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
    let steps: Vec<usize> = axes.iter().map(|&axis| strides[axis]).collect();
    let mut result = Vec::with_capacity(bytes.len());
    let mut index = vec![0; dims.len()];
    let mut at = 0;
    for _ in 0..bytes.len() / size {
        result.extend_from_slice(&bytes[at..at + size]);
        // Counts like an odometer, the last axis fastest.
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            at += steps[axis];
            if index[axis] < dims[axis] {
                break;
            }
            at -= steps[axis] * dims[axis];
            index[axis] = 0;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tensor};

    /// Against Burn's own permutation.
    #[test]
    fn bytes_follow_the_axes() {
        let values: Vec<f32> = (0..2 * 3 * 4 * 5).map(|x| x as f32).collect();
        let data = TensorData::new(values, [2, 3, 4, 5]);
        for axes in [[2, 0, 3, 1], [1, 3, 0, 2], [0, 1, 2, 3], [3, 2, 1, 0]] {
            let tensor = Tensor::<4>::from_data(data.clone(), &Device::default());
            let expected = tensor.permute(axes.map(|a| a as isize)).into_data();
            let got = permuted_bytes(data.as_bytes(), 4, &[2, 3, 4, 5], &axes);
            assert_eq!(got, expected.as_bytes(), "{axes:?}");
        }
    }
}
