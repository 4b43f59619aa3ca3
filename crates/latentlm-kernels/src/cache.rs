//! Keys and values of a KV cache: float32, or smaller numbers.

use std::ops::Range;

use burn::tensor::{DType, Device, Int, IntDType, Tensor};

/// Type of the numbers of a KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheNumbers {
    /// float32.
    #[default]
    F32,
    /// bfloat16: half the memory.
    Bf16,
    /// int8 with a float32 scale for each head of a position: about a quarter of the memory.
    Int8,
}

/// Keys, rotated, and values of one layer in a cache.
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one for each layer, and a step moves it twice"
)]
pub enum KeysValues {
    /// float32 or bfloat16, `[B, G, capacity, E]` each.
    Float([Tensor<4>; 2]),
    /// int8.
    Int8 {
        /// -127 to 127, `[B, G, capacity, E]` each.
        numbers: [Tensor<4, Int>; 2],
        /// Factors of the numbers of each row, `[B, G, capacity, 1]` each.
        scales: [Tensor<4>; 2],
    },
}

impl KeysValues {
    /// An empty cache; `shape` is `[B, G, capacity, E]`.
    pub fn zeros(numbers: CacheNumbers, shape: [usize; 4], device: &Device) -> Self {
        let [batch, groups, capacity, _] = shape;
        match numbers {
            CacheNumbers::F32 => Self::Float([(); 2].map(|()| Tensor::zeros(shape, device))),
            CacheNumbers::Bf16 => {
                Self::Float([(); 2].map(|()| Tensor::zeros(shape, (device, DType::BF16))))
            }
            CacheNumbers::Int8 => Self::Int8 {
                numbers: [(); 2].map(|()| Tensor::zeros(shape, (device, DType::I8))),
                scales: [(); 2].map(|()| Tensor::zeros([batch, groups, capacity, 1], device)),
            },
        }
    }

    /// Sizes of the cache, `[B, G, capacity, E]`.
    pub fn dims(&self) -> [usize; 4] {
        match self {
            Self::Float([keys, _]) => keys.dims(),
            Self::Int8 { numbers, .. } => numbers[0].dims(),
        }
    }

    /// Grows the cache to room for `capacity` positions. The positions so far are copied.
    ///
    /// # Panics
    /// If it has room for more.
    pub fn lengthened(self, capacity: usize) -> Self {
        match self {
            Self::Float(both) => Self::Float(both.map(|x| lengthen(x, capacity))),
            Self::Int8 { numbers, scales } => Self::Int8 {
                numbers: numbers.map(|x| {
                    let [batch, groups, held, width] = x.dims();
                    let shape = [batch, groups, capacity - held, width];
                    let fresh = Tensor::zeros(shape, (&x.device(), x.dtype()));
                    Tensor::cat(vec![x, fresh], 2)
                }),
                scales: scales.map(|x| lengthen(x, capacity)),
            },
        }
    }

    /// Converts the cache to another type of numbers.
    pub fn rounded(self, numbers: CacheNumbers) -> Self {
        let shape = self.dims();
        let both = self.exact(shape[2], DType::F32);
        if numbers == CacheNumbers::F32 {
            return Self::Float(both);
        }
        Self::zeros(numbers, shape, &both[0].device()).write(0, both)
    }

    /// Keys and values of the first `positions` positions, in a precision.
    ///
    /// # Shapes
    /// - returns: `[B, G, positions, E]` each
    pub fn exact(&self, positions: usize, dtype: DType) -> [Tensor<4>; 2] {
        match self {
            Self::Float(both) => both.each_ref().map(|x| {
                let x = x.clone().narrow(2, 0, positions);
                x.cast(dtype)
            }),
            Self::Int8 { numbers, scales } => [0, 1].map(|index| {
                let numbers = numbers[index].clone().narrow(2, 0, positions);
                let scales = scales[index].clone().narrow(2, 0, positions);
                (numbers.float().cast(DType::F32) * scales).cast(dtype)
            }),
        }
    }

    /// Writes new keys and values from position `start` on, with Burn's operations. Memory without another owner is
    /// written in place, so that a step copies nothing but the new positions.
    ///
    /// # Shapes
    /// - `new`: `[B, G, T, E]` each
    pub(crate) fn write(self, start: usize, new: [Tensor<4>; 2]) -> Self {
        let [batch, groups, length, width] = new[0].dims();
        let place = |width: usize| -> [Range<usize>; 4] {
            [0..batch, 0..groups, start..start + length, 0..width]
        };
        match self {
            Self::Float(both) => {
                let [keys, values] = both;
                let [k, v] = new;
                Self::Float([(keys, k), (values, v)].map(|(x, new)| {
                    let new = new.cast(x.dtype());
                    x.slice_assign(place(width), new)
                }))
            }
            Self::Int8 { numbers, scales } => {
                let [first, second] = new.map(rounded_rows);
                let ([k, v], [k_scales, v_scales]) = (numbers, scales);
                Self::Int8 {
                    numbers: [
                        k.slice_assign(place(width), first.0),
                        v.slice_assign(place(width), second.0),
                    ],
                    scales: [
                        k_scales.slice_assign(place(1), first.1),
                        v_scales.slice_assign(place(1), second.1),
                    ],
                }
            }
        }
    }
}

/// A buffer with room for `capacity` positions: `[B, G, P, W]` to `[B, G, capacity, W]`.
fn lengthen(buffer: Tensor<4>, capacity: usize) -> Tensor<4> {
    let [batch, groups, held, width] = buffer.dims();
    let shape = [batch, groups, capacity - held, width];
    let fresh = Tensor::zeros(shape, (&buffer.device(), buffer.dtype()));
    Tensor::cat(vec![buffer, fresh], 2)
}

/// Rows `[B, G, T, E]` rounded to int8, and their scales, `[B, G, T, 1]`. Rubbish (NaN) in a row, or infinity, makes its
/// scale rubbish.
fn rounded_rows(rows: Tensor<4>) -> (Tensor<4, Int>, Tensor<4>) {
    // A row of zeros has no inverse scale.
    const LEAST: f32 = 1e-36;
    let rows = rows.cast(DType::F32);
    let most = rows.clone().abs().max_dim(3);
    let inverse = most.clone().clamp_min(LEAST).recip().mul_scalar(127.0);
    // 0 for each finite number. Integers can't be NaN, and the largest number of a row is none everywhere.
    let rubbish = (rows.clone() - rows.clone()).sum_dim(3);
    let numbers = (rows * inverse).round().int().cast(IntDType::I8);
    (numbers, most.div_scalar(127.0) + rubbish)
}
