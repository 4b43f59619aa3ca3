//! Layouts of parameters: PyTorch's and ours.

use burn::store::bridge::map_data;
use burn::store::burn_pack::Tensor as Stored;
use burn::store::{BurnToPyTorchAdapter, ModuleAdapter, ModuleContext, PyTorchToBurnAdapter};
use burn::tensor::{Shape, TensorData};
use latentlm_kernels::at_once;

use super::threads::bytes_a_thread;

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

/// Elements of `size` bytes in the order of the permuted axes. Many are ordered on several threads.
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
    let mut dims: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
    let mut steps: Vec<usize> = axes.iter().map(|&axis| strides[axis]).collect();
    let mut result = vec![0; bytes.len()];
    if bytes.is_empty() {
        return result;
    }
    // Copies of a known size are single instructions.
    let fill: Gather = match size {
        2 => gather::<2>,
        4 => gather::<4>,
        _ => {
            dims.push(size);
            steps.push(1);
            gather::<1>
        }
    };
    let (Some((&count, dims)), Some((&step, steps))) = (dims.split_first(), steps.split_first())
    else {
        return bytes.to_vec();
    };
    // What one index of the first axis has lies together in the result.
    let slab = result.len() / count;
    let slabs_a_part = bytes_a_thread(result.len()).div_ceil(slab);
    let mut parts = Vec::new();
    for (part, out) in result.chunks_mut(slabs_a_part * slab).enumerate() {
        parts.push((part * slabs_a_part, out));
    }
    at_once(parts, |(first, out)| {
        for (index, out) in out.chunks_exact_mut(slab).enumerate() {
            fill(&bytes[(first + index) * step..], out, dims, steps);
        }
    });
    result
}

/// Fills `out` with the elements of axes of lengths `dims`, which are `steps` bytes apart.
type Gather = fn(bytes: &[u8], out: &mut [u8], dims: &[usize], steps: &[usize]);

/// A [`Gather`] of elements of `N` bytes.
fn gather<const N: usize>(bytes: &[u8], out: &mut [u8], dims: &[usize], steps: &[usize]) {
    match (dims, steps) {
        ([_], [step]) => {
            for (index, element) in out.chunks_exact_mut(N).enumerate() {
                let at = index * step;
                element.copy_from_slice(&bytes[at..at + N]);
            }
        }
        ([count, dims @ ..], [step, steps @ ..]) => {
            let slab = out.len() / count;
            for (index, out) in out.chunks_exact_mut(slab).enumerate() {
                gather::<N>(&bytes[index * step..], out, dims, steps);
            }
        }
        _ => out.copy_from_slice(&bytes[..N]),
    }
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

    /// Elements of all sizes, and tensors that several threads share, against the place of each element.
    #[test]
    fn elements_of_any_size_and_number_are_ordered() {
        let sizes: [&[usize]; 2] = [&[1, 2, 4, 8], &[4]];
        for (shape, axes, sizes) in [
            ([3, 5, 7], [0, 2, 1], sizes[0]),
            ([3, 5, 7], [2, 1, 0], sizes[0]),
            ([1, 9, 2], [1, 0, 2], sizes[0]),
            ([127, 66, 257], [0, 2, 1], sizes[1]),
            ([257, 127, 66], [2, 1, 0], sizes[1]),
        ] {
            let strides = [shape[1] * shape[2], shape[2], 1_usize];
            let steps = axes.map(|axis: usize| strides[axis]);
            let dims = axes.map(|axis| shape[axis]);
            let mut order = Vec::with_capacity(dims.iter().product());
            for i in 0..dims[0] {
                for j in 0..dims[1] {
                    let start = i * steps[0] + j * steps[1];
                    order.extend((0..dims[2]).map(|k| start + k * steps[2]));
                }
            }
            for &size in sizes {
                let (mut bytes, mut expected) = (Vec::new(), Vec::new());
                for (index, &place) in order.iter().enumerate() {
                    bytes.extend_from_slice(&index.to_le_bytes()[..size]);
                    expected.extend_from_slice(&place.to_le_bytes()[..size]);
                }
                let got = permuted_bytes(&bytes, size, &shape, &axes);
                assert!(got == expected, "{shape:?} {axes:?}, {size} bytes");
            }
        }
        assert_eq!(permuted_bytes(&[], 2, &[0, 3], &[1, 0]), [0_u8; 0]);
        assert_eq!(permuted_bytes(&[1, 2], 2, &[], &[]), [1, 2]);
    }
}
