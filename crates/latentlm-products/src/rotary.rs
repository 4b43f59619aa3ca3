//! Rotary position embedding of heads that lie within packed positions: the rows of a head are copied and turned in one
//! pass, and their gradients turned back and added in one.

use multiversion::multiversion;

use crate::matrix::Matrix;

/// At each position, pair `i` of a head is turned by an angle of its own.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// Cosines of the angles, `[length, head_dim / 2]`.
    pub cos: &'a [f32],
    /// Sines of the angles, `[length, head_dim / 2]`.
    pub sin: &'a [f32],
    /// Whether pair `i` is `(2i, 2i + 1)` or else `(i, i + head_dim / 2)`.
    pub interleaved: bool,
}

impl Rotation<'_> {
    /// The rotation of the positions from `start` on.
    #[inline]
    pub fn from(self, start: usize, head_dim: usize) -> Self {
        let at = start * head_dim / 2;
        Self {
            cos: &self.cos[at..],
            sin: &self.sin[at..],
            ..self
        }
    }

    /// Cosines and sines of a position, whose pairs are turned in the other direction if `direction` is -1.
    #[inline(always)]
    fn turn(&self, position: usize, head_dim: usize, direction: f32) -> Turn<'_> {
        assert!(head_dim.is_multiple_of(2), "numbers of a head are pairs");
        let half = head_dim / 2;
        Turn {
            cos: &self.cos[position * half..][..half],
            sin: &self.sin[position * half..][..half],
            interleaved: self.interleaved,
            direction,
        }
    }
}

/// The rotation of one position.
#[derive(Clone, Copy)]
struct Turn<'a> {
    cos: &'a [f32],
    sin: &'a [f32],
    interleaved: bool,
    direction: f32,
}

impl Turn<'_> {
    /// Writes a head's turned row, or adds it if `ADD`.
    #[inline(always)]
    fn write<const ADD: bool>(self, out: &mut [f32], row: &[f32]) {
        let angles = self.cos.iter().zip(self.sin);
        if self.interleaved {
            let pairs = out.chunks_exact_mut(2).zip(row.chunks_exact(2));
            for ((out, pair), (cos, sin)) in pairs.zip(angles) {
                let (a, b, sin) = (pair[0], pair[1], sin * self.direction);
                put::<ADD>(&mut out[0], a * cos - b * sin);
                put::<ADD>(&mut out[1], b * cos + a * sin);
            }
        } else {
            let (first, second) = out.split_at_mut(self.cos.len());
            let (a, b) = row.split_at(self.cos.len());
            let out = first.iter_mut().zip(second);
            for (((first, second), (a, b)), (cos, sin)) in out.zip(a.iter().zip(b)).zip(angles) {
                let sin = sin * self.direction;
                put::<ADD>(first, a * cos - b * sin);
                put::<ADD>(second, b * cos + a * sin);
            }
        }
    }
}

#[inline(always)]
fn put<const ADD: bool>(out: &mut f32, x: f32) {
    *out = if ADD { *out + x } else { x };
}

/// Copies the heads of one position, turned by the first angles of the rotation.
///
/// # Shapes
/// - `out`, `heads`: `[heads, head_dim]`
///
/// # Panics
/// If there are fewer angles than pairs of a head.
#[multiversion(targets = "simd")]
pub fn turn_heads(out: &mut [f32], heads: &[f32], rotation: Rotation<'_>, head_dim: usize) {
    let turn = rotation.turn(0, head_dim, 1.0);
    let heads = heads.chunks_exact(head_dim);
    for (out, head) in out.chunks_exact_mut(head_dim).zip(heads) {
        turn.write::<false>(out, head);
    }
}

/// Copies the rows of a head, turned if there is a rotation, one behind the other.
///
/// # Shapes
/// - `rows`: `[length, head_dim]`, with gaps between rows; an even `head_dim` if there is a rotation
/// - `out`: `[length, head_dim]`
///
/// # Panics
/// If `out` has more rows, or there are fewer angles than pairs of them.
#[multiversion(targets = "simd")]
pub fn load(out: &mut [f32], rows: Matrix<'_>, rotation: Option<Rotation<'_>>) {
    let head_dim = rows.columns;
    for (position, out) in out.chunks_exact_mut(head_dim).enumerate() {
        let row = &rows.data[position * rows.row_stride..][..head_dim];
        match &rotation {
            Some(rotation) => rotation
                .turn(position, head_dim, 1.0)
                .write::<false>(out, row),
            None => out.copy_from_slice(row),
        }
    }
}

/// Adds the gradient of the rows of a head to what is there, turned back if there is a rotation: the gradient of a rotation
/// is the rotation back. `place` picks a position's numbers among its parts.
///
/// # Shapes
/// - `rows`: at each position, the parts among which `place` picks one, and the first number in it
/// - `gradient`: `[length, head_dim]`
///
/// # Panics
/// If a part has too few numbers.
#[multiversion(targets = "simd")]
pub fn add_back(
    rows: &mut [[&mut [f32]; 3]],
    place: (usize, usize),
    gradient: &[f32],
    rotation: Option<Rotation<'_>>,
    head_dim: usize,
) {
    let (part, at) = place;
    let gradient = gradient.chunks_exact(head_dim);
    for (position, (parts, gradient)) in rows.iter_mut().zip(gradient).enumerate() {
        let out = &mut parts[part][at..at + head_dim];
        match &rotation {
            Some(rotation) => {
                let turn = rotation.turn(position, head_dim, -1.0);
                turn.write::<true>(out, gradient);
            }
            None => {
                for (out, x) in out.iter_mut().zip(gradient) {
                    *out += x;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: usize = 5;
    const HEAD_DIM: usize = 38;

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * seed).sin()).collect()
    }

    /// Cosines and sines of angles.
    fn tables() -> [Vec<f32>; 2] {
        let angles: Vec<f32> = (0..LENGTH * HEAD_DIM / 2)
            .map(|i| i as f32 * 0.37)
            .collect();
        [f32::cos, f32::sin].map(|f| angles.iter().map(|x| f(*x)).collect())
    }

    /// Each pair as a complex number, multiplied by the one of its angle.
    #[test]
    fn pairs_are_turned_by_their_angles() {
        let [cos, sin] = tables();
        let data = numbers(LENGTH * 100, 0.7);
        let rows = Matrix::strided(&data[3..], LENGTH, HEAD_DIM, 100);
        for interleaved in [true, false] {
            let rotation = Rotation {
                cos: &cos,
                sin: &sin,
                interleaved,
            };
            let mut out = vec![9.0; LENGTH * HEAD_DIM];
            load(&mut out, rows, Some(rotation));
            for position in 0..LENGTH {
                let row = &data[3 + position * 100..][..HEAD_DIM];
                let got = &out[position * HEAD_DIM..][..HEAD_DIM];
                let mut heads = vec![9.0; 2 * HEAD_DIM];
                let both = [row, row].concat();
                turn_heads(
                    &mut heads,
                    &both,
                    rotation.from(position, HEAD_DIM),
                    HEAD_DIM,
                );
                assert_eq!(heads, [got, got].concat(), "two heads of a position");
                for pair in 0..HEAD_DIM / 2 {
                    let [first, second] = if interleaved {
                        [2 * pair, 2 * pair + 1]
                    } else {
                        [pair, pair + HEAD_DIM / 2]
                    };
                    let at = position * HEAD_DIM / 2 + pair;
                    let (cos, sin) = (f64::from(cos[at]), f64::from(sin[at]));
                    let (a, b) = (f64::from(row[first]), f64::from(row[second]));
                    let error = (f64::from(got[first]) - (a * cos - b * sin)).abs()
                        + (f64::from(got[second]) - (b * cos + a * sin)).abs();
                    assert!(error < 1e-6, "{interleaved}: pair {pair} of {position}");
                }
            }
        }
    }

    /// Turning back undoes turning, and adds to what is there, in the part and at the place asked for.
    #[test]
    fn gradients_are_turned_back_and_added() {
        let [cos, sin] = tables();
        let data = numbers(LENGTH * HEAD_DIM, 0.7);
        let rows = Matrix::new(&data, LENGTH, HEAD_DIM);
        let rotations = [Some(true), Some(false), None].map(|interleaved| {
            interleaved.map(|interleaved| Rotation {
                cos: &cos,
                sin: &sin,
                interleaved,
            })
        });
        for rotation in rotations {
            let mut turned = vec![9.0; LENGTH * HEAD_DIM];
            load(&mut turned, rows, rotation);
            let mut sums = vec![2.0; LENGTH * 3 * 2 * HEAD_DIM];
            let mut parts: Vec<[&mut [f32]; 3]> = Vec::new();
            for row in sums.chunks_exact_mut(6 * HEAD_DIM) {
                let (a, rest) = row.split_at_mut(2 * HEAD_DIM);
                let (b, c) = rest.split_at_mut(2 * HEAD_DIM);
                parts.push([a, b, c]);
            }
            add_back(&mut parts, (1, HEAD_DIM), &turned, rotation, HEAD_DIM);
            for (row, original) in sums.chunks_exact(6 * HEAD_DIM).zip(data.chunks(HEAD_DIM)) {
                for (index, x) in row.iter().enumerate() {
                    let place = index.wrapping_sub(3 * HEAD_DIM);
                    let expected = 2.0 + original.get(place).unwrap_or(&0.0);
                    assert!((x - expected).abs() < 1e-6, "{index}: {x} for {expected}");
                }
            }
        }
    }
}
