//! A weight of any type where it lies, as the right factor of products.

use crate::few_rows;
use crate::matrix::{Matrix, product_over};
use crate::quantized::{self, Quantized};
use crate::stored::{self, Stored};

/// Names of the instructions that multiply many rows on this processor: bfloat16 numbers, and with weights of int8 or int4.
pub fn instructions() -> [&'static str; 2] {
    [stored::instructions(), quantized::instructions()]
}

/// A matrix `[inputs, outputs]`.
#[derive(Debug, Clone, Copy)]
pub enum Factor<'a> {
    /// float32, row by row.
    Whole {
        /// `[inputs, outputs]`
        numbers: &'a [f32],
        /// Rows of the matrix.
        inputs: usize,
        /// Columns of the matrix.
        outputs: usize,
    },
    /// bfloat16, row by row of outputs.
    Stored(Stored<'a>),
    /// int8 or int4, row by row of outputs.
    Quantized(Quantized<'a>),
}

impl<'a> Factor<'a> {
    /// Inputs and outputs: rows and columns of the matrix.
    #[inline]
    pub fn sizes(&self) -> [usize; 2] {
        match self {
            Self::Whole {
                inputs, outputs, ..
            } => [*inputs, *outputs],
            Self::Stored(stored) => stored.sizes(),
            Self::Quantized(quantized) => quantized.sizes(),
        }
    }

    /// The matrix in float32; `None` if it is another type.
    pub fn whole(self) -> Option<Matrix<'a>> {
        match self {
            Self::Whole {
                numbers,
                inputs,
                outputs,
            } => Some(Matrix::new(numbers, inputs, outputs)),
            _ => None,
        }
    }

    /// `out = x self` for rows `x`: on this thread if `alone`, or else on all if that pays. `scratch` is memory for
    /// rounded rows.
    ///
    /// # Shapes
    /// - `x`: `[N, inputs]`
    /// - `out`: `[N, outputs]`
    ///
    /// # Panics
    /// If sizes do not fit each other.
    pub fn product_over(&self, out: &mut [f32], x: &[f32], scratch: &mut Vec<u32>, alone: bool) {
        match self {
            Self::Whole {
                numbers,
                inputs,
                outputs,
            } => {
                let rows = out.len() / (*outputs).max(1);
                if !alone && few_rows::pays(rows, *inputs, *outputs) {
                    return few_rows::product_over(out, x, numbers, [*inputs, *outputs]);
                }
                let weight = Matrix::new(numbers, *inputs, *outputs);
                product_over(out, Matrix::new(x, rows, *inputs), weight, alone);
            }
            Self::Stored(stored) => stored.product_over(out, x, scratch, alone),
            Self::Quantized(quantized) => quantized.product_over(out, x, scratch, alone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::Bits;
    use crate::processor::has_bf16_products;
    use half::bf16;

    #[test]
    fn instructions_are_those_of_the_processor() {
        let [rounded, quantized] = instructions();
        assert_eq!(rounded != "float32 instructions", has_bf16_products());
        assert!(!quantized.is_empty());
    }

    /// One matrix in each of the types; rows for one thread and for all, few and many.
    #[test]
    fn each_type_multiplies_the_same_matrix() {
        let (inputs, outputs) = (64, 70);
        let turned: Vec<f32> = (0..inputs * outputs).map(|i| (i as f32).sin()).collect();
        let whole: Vec<f32> = (0..inputs * outputs)
            .map(|i| turned[i % outputs * inputs + i / outputs])
            .collect();
        let rounded: Vec<bf16> = turned.iter().map(|x| bf16::from_f32(*x)).collect();
        let packed = Bits::Eight.quantize(&turned, inputs);
        let factors = [
            Factor::Whole {
                numbers: &whole,
                inputs,
                outputs,
            },
            Factor::Stored(Stored::new(&rounded, inputs, outputs)),
            Factor::Quantized(Quantized::new(&packed, Bits::Eight, inputs, outputs)),
        ];
        for rows in [1, 5, 33] {
            let x: Vec<f32> = (0..rows * inputs).map(|i| (i as f32 * 0.3).cos()).collect();
            let expected = Matrix::new(&x, rows, inputs);
            let expected = crate::product(expected, Matrix::new(&whole, inputs, outputs));
            for factor in factors {
                assert_eq!(factor.sizes(), [inputs, outputs]);
                for alone in [true, false] {
                    let mut got = vec![9.0; rows * outputs];
                    factor.product_over(&mut got, &x, &mut Vec::new(), alone);
                    for (got, expected) in got.iter().zip(&expected) {
                        // Both factors of 64 products, each at most 1, are rounded by at most 2^-8.
                        assert!((got - expected).abs() < 0.5, "{got} for {expected}");
                    }
                }
            }
        }
        assert!(factors[0].whole().is_some() && factors[1].whole().is_none());
    }
}
