//! Parts of a matrix that threads write at the same time.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Some rows and columns of a matrix that is written.
pub(crate) struct Window<'a> {
    start: *mut MaybeUninit<f32>,
    /// Numbers from one row to the next.
    line: usize,
    rows: usize,
    columns: usize,
    _of: PhantomData<&'a mut [MaybeUninit<f32>]>,
}

// SAFETY: no other window has any of its numbers.
#[allow(unsafe_code)]
unsafe impl Send for Window<'_> {}

#[allow(unsafe_code)]
impl<'a> Window<'a> {
    /// A whole matrix, row by row.
    ///
    /// # Panics
    /// If the last row is not whole.
    pub(crate) fn new(numbers: &'a mut [MaybeUninit<f32>], columns: usize) -> Self {
        assert_eq!(numbers.len() % columns.max(1), 0, "rows of {columns}");
        Self {
            start: numbers.as_mut_ptr(),
            line: columns,
            rows: numbers.len() / columns.max(1),
            columns,
            _of: PhantomData,
        }
    }

    /// The same for numbers that are there.
    ///
    /// # Panics
    /// If the last row is not whole.
    pub(crate) fn of(numbers: &'a mut [f32], columns: usize) -> Self {
        let numbers: *mut [f32] = numbers;
        // SAFETY: both types have the same layout, and whoever has a window writes nothing but float32 numbers.
        Self::new(
            unsafe { &mut *(numbers as *mut [MaybeUninit<f32>]) },
            columns,
        )
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Numbers from one row to the next.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// Place of the first number.
    pub(crate) fn start(&mut self) -> *mut f32 {
        self.start.cast()
    }

    /// The first rows, and the others.
    pub(crate) fn split_rows(self, first: usize) -> (Self, Self) {
        let (whole, columns) = (self.rows, 0..self.columns);
        let first = first.min(whole);
        (
            self.cut(0..first, columns.clone()),
            self.cut(first..whole, columns),
        )
    }

    /// The first columns, and the others.
    pub(crate) fn split_columns(self, first: usize) -> (Self, Self) {
        let (rows, whole) = (0..self.rows, self.columns);
        let first = first.min(whole);
        (
            self.cut(rows.clone(), 0..first),
            self.cut(rows, first..whole),
        )
    }

    /// A part, while the whole is not used.
    ///
    /// # Panics
    /// If it is not within.
    pub(crate) fn part(&mut self, rows: Range<usize>, columns: Range<usize>) -> Window<'_> {
        self.cut(rows, columns)
    }

    /// One row.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn row(&mut self, row: usize) -> &mut [MaybeUninit<f32>] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: the row is within the matrix, and nothing else can be borrowed as long as it is.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.line), self.columns) }
    }

    /// A part. Whoever calls it sees to it that none of its numbers is in another one.
    fn cut(&self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows);
        assert!(columns.start <= columns.end && columns.end <= self.columns);
        // An empty part may begin behind the last row.
        let at = rows.start * self.line + columns.start;
        Self {
            start: self.start.wrapping_add(at),
            line: self.line,
            rows: rows.len(),
            columns: columns.len(),
            _of: PhantomData,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_where_they_are_in_the_matrix() {
        let mut numbers = [MaybeUninit::new(0.0_f32); 5 * 7];
        let (mut above, below) = Window::new(&mut numbers, 7).split_rows(3);
        let (left, mut right) = below.split_columns(2);
        assert_eq!([above.rows(), above.columns()], [3, 7]);
        assert_eq!([left.rows(), left.columns()], [2, 2]);
        assert_eq!([right.rows(), right.columns(), right.line()], [2, 5, 7]);
        let mut part = above.part(1..3, 4..6);
        part.row(1)[1].write(2.0);
        right.row(0)[0].write(3.0);
        let (_, mut nothing) = right.split_rows(9);
        assert_eq!(nothing.part(0..0, 0..5).rows(), 0);
        // SAFETY: all of them were numbers from the beginning.
        #[allow(unsafe_code)]
        let numbers = numbers.map(|x| unsafe { x.assume_init() });
        for (index, x) in numbers.into_iter().enumerate() {
            let expected = match index {
                19 => 2.0,
                23 => 3.0,
                _ => 0.0,
            };
            assert_eq!(x, expected, "{index}");
        }
    }

    #[test]
    #[should_panic(expected = "row 2 of 2")]
    fn a_row_behind_the_last_is_refused() {
        let mut numbers = [MaybeUninit::new(0.0_f32); 6];
        Window::new(&mut numbers, 3).part(0..2, 0..1).row(2);
    }
}
