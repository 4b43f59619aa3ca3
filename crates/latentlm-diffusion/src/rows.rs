//! Some rows of a batch, and results for them put back in their places.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Places of rows as a tensor, `[M]`.
pub(crate) fn places(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}

/// Some rows of a matrix: `[N, C]` to `[M, C]`.
pub(crate) fn some(matrix: &Tensor<2>, rows: &[usize]) -> Tensor<2> {
    matrix.clone().select(0, places(rows, &matrix.device()))
}

/// Results for some of `count` rows in their places, `[M, C]` to `[count, C]`. The other rows are zero.
pub(crate) fn in_place(found: Tensor<2>, rows: &[usize], count: usize) -> Tensor<2> {
    let [_, width] = found.dims();
    // Row 0 is what the others get.
    let zero = Tensor::zeros([1, width], &found.device());
    let mut sources = vec![0; count];
    for (place, &row) in rows.iter().enumerate() {
        sources[row] = place + 1;
    }
    some(&Tensor::cat(vec![zero, found], 0), &sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_to_their_places() {
        let device = Device::default();
        let matrix = Tensor::<2>::from_floats([[1.0], [2.0], [3.0], [4.0]], &device);
        let rows = [3, 1];
        let found = some(&matrix, &rows);
        let values = |x: Tensor<2>| -> Vec<f32> { x.into_data().try_to_vec().unwrap() };
        assert_eq!(values(found.clone()), [4.0, 2.0]);
        assert_eq!(values(in_place(found, &rows, 4)), [0.0, 2.0, 0.0, 4.0]);
    }
}
