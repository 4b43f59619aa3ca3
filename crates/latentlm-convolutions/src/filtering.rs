//! The transforms of minimal filtering for weights, input tiles and output tiles, and the gradient of each.
//! `A`, `B` and `G` are the matrices of Lavin and Gray, and `'` transposes.

use std::ops::Range;

use multiversion::multiversion;

/// Places of a tile of 4 x 4 numbers.
pub const PLACES: usize = 16;
const TAPS: usize = 9;
/// Pairs of channels whose weights are transformed together, so that one vector instruction works on the same
/// tap of all of them.
// A tile is too small for vector registers by itself. All transforms here therefore run over many tiles or
// pairs at once, place by place. For weights this saved 3 to 6 % of a step, together with the gaps between
// places (docs/log.md, 2026-11-25).
const PAIRS: usize = 16;

/// `G w G'` for each pair of channels: `[place, output, input]`.
#[multiversion(targets = "simd")]
pub fn transform_weights(weight: &[f32]) -> Vec<f32> {
    let pairs = weight.len() / TAPS;
    let mut transformed = vec![0.0; PLACES * pairs];
    for (chunk, weight) in weight.chunks(PAIRS * TAPS).enumerate() {
        // In the weight the taps of a pair lie side by side. Here each tap lies side by side for all pairs.
        let mut taps = [[0.0; PAIRS]; TAPS];
        for (pair, weight) in weight.as_chunks::<TAPS>().0.iter().enumerate() {
            for (tap, weight) in taps.iter_mut().zip(weight) {
                tap[pair] = *weight;
            }
        }
        let mut places = [[0.0; PAIRS]; PLACES];
        for pair in 0..PAIRS {
            let column = |c: usize| filter([taps[c][pair], taps[c + 3][pair], taps[c + 6][pair]]);
            let columns = [column(0), column(1), column(2)];
            for row in 0..4 {
                let values = filter([columns[0][row], columns[1][row], columns[2][row]]);
                for (column, value) in values.into_iter().enumerate() {
                    places[4 * row + column][pair] = value;
                }
            }
        }
        let own = chunk * PAIRS..(chunk * PAIRS + PAIRS).min(pairs);
        for (place, to) in places.iter().zip(transformed.chunks_exact_mut(pairs)) {
            to[own.clone()].copy_from_slice(&place[..own.len()]);
        }
    }
    transformed
}

/// The gradient of [`transform_weights`]: `G' u G` for a gradient `u` of the transformed weights.
#[multiversion(targets = "simd")]
pub fn weight_gradient(transformed: &[f32]) -> Vec<f32> {
    let pairs = transformed.len() / PLACES;
    let mut gradient = vec![0.0; TAPS * pairs];
    for (chunk, gradient) in gradient.chunks_mut(PAIRS * TAPS).enumerate() {
        let own = chunk * PAIRS..(chunk * PAIRS + PAIRS).min(pairs);
        let mut places = [[0.0; PAIRS]; PLACES];
        for (place, from) in places.iter_mut().zip(transformed.chunks_exact(pairs)) {
            place[..own.len()].copy_from_slice(&from[own.clone()]);
        }
        let mut taps = [[0.0; PAIRS]; TAPS];
        for pair in 0..PAIRS {
            let at = |row: usize, column: usize| places[4 * row + column][pair];
            let column = |c: usize| filter_back([at(0, c), at(1, c), at(2, c), at(3, c)]);
            let columns = [column(0), column(1), column(2), column(3)];
            for row in 0..3 {
                let [a, b, c, d] = columns;
                let values = filter_back([a[row], b[row], c[row], d[row]]);
                for (column, value) in values.into_iter().enumerate() {
                    taps[3 * row + column][pair] = value;
                }
            }
        }
        for (pair, gradient) in gradient.as_chunks_mut::<TAPS>().0.iter_mut().enumerate() {
            for (gradient, tap) in gradient.iter_mut().zip(&taps) {
                *gradient = tap[pair];
            }
        }
    }
    gradient
}

/// `G w`.
#[inline(always)]
fn filter([a, b, c]: [f32; 3]) -> [f32; 4] {
    let (sum, difference) = (0.5 * (a + c), 0.5 * b);
    [a, sum + difference, sum - difference, c]
}

/// `G' u`.
#[inline(always)]
fn filter_back([a, b, c, d]: [f32; 4]) -> [f32; 3] {
    let (sum, difference) = (0.5 * (b + c), 0.5 * (b - c));
    [a + sum, difference, sum + d]
}

/// The pictures on one side of the convolution, and the grid of tiles that covers them.
#[derive(Clone, Copy)]
pub struct Stack {
    /// Channels of a picture.
    pub channels: usize,
    /// Rows and columns of a picture.
    pub size: [usize; 2],
    /// Rows and columns of padding before the picture, which the first tile covers.
    pub offset: [usize; 2],
    /// Rows and columns of tiles on a picture.
    pub tiles: [usize; 2],
}

/// One row of tiles in one channel.
struct TileRow {
    /// Index of the row of tiles, counted over all pictures.
    row: usize,
    channel: usize,
    /// Index of its first tile among the numbers of a place.
    at: usize,
}

impl Stack {
    /// Columns that a row of tiles of 4 x 4 covers.
    fn span(&self) -> usize {
        2 * self.tiles[1] + 2
    }

    /// The numbers of a row of pixels in the pictures. `row` counts from the first row of the tiles. `None` if
    /// the row lies outside the picture.
    fn row(&self, tile_row: usize, channel: usize, row: usize) -> Option<Range<usize>> {
        let [height, width] = self.size;
        let (picture, tile_row) = (tile_row / self.tiles[0], tile_row % self.tiles[0]);
        let row = (2 * tile_row + row).checked_sub(self.offset[0])?;
        let start = ((picture * self.channels + channel) * height + row) * width;
        (row < height).then_some(start..start + width)
    }

    /// All rows of tiles among `rows`, in all channels.
    fn each(&self, rows: &Range<usize>) -> impl Iterator<Item = TileRow> + use<> {
        let (rows, across, channels) = (rows.clone(), self.tiles[1], self.channels);
        let tiles = rows.len() * across;
        (0..channels).flat_map(move |channel| {
            let first = rows.start;
            rows.clone().map(move |row| TileRow {
                row,
                channel,
                at: channel * tiles + (row - first) * across,
            })
        })
    }
}

/// `out = f(a, b)` for each number.
#[inline(always)]
fn zip(out: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = f(*a, *b);
    }
}

/// `out = f(out, [a, b, c, d])` for each number.
#[inline(always)]
fn zip_four(out: &mut [f32], [a, b, c, d]: [&[f32]; 4], f: impl Fn(f32, [f32; 4]) -> f32) {
    let (first, second) = (a.iter().zip(b), c.iter().zip(d));
    for (out, ((a, b), (c, d))) in out.iter_mut().zip(first.zip(second)) {
        *out = f(*out, [*a, *b, *c, *d]);
    }
}

/// Interleaves even and odd columns to a line.
#[inline(always)]
fn join(line: &mut [f32], evens: &[f32], odds: &[f32]) {
    let pairs = line.as_chunks_mut::<2>().0.iter_mut();
    for ((pair, even), odd) in pairs.zip(evens).zip(odds) {
        *pair = [*even, *odd];
    }
}

/// Even and odd columns of a line.
struct Halves {
    /// Even columns.
    e: Vec<f32>,
    /// Odd columns.
    o: Vec<f32>,
}

impl Halves {
    fn new(len: usize) -> Self {
        let [e, o] = [(); 2].map(|()| vec![0.0; len]);
        Self { e, o }
    }
}

/// Splits lines into even and odd columns. A tile starts at every second column, so that column `c` of all
/// tiles in a row is a run of consecutive numbers in one of the halves.
#[inline(always)]
fn split_all(lines: &[Vec<f32>; 4], halves: &mut [Halves; 4]) {
    for (line, Halves { e, o }) in lines.iter().zip(halves) {
        let pairs = line.as_chunks::<2>().0.iter();
        for (([even, odd], e), o) in pairs.zip(e).zip(o) {
            (*e, *o) = (*even, *odd);
        }
    }
}

/// Transforms input tiles: `B' x B` for each tile.
#[multiversion(targets = "simd")]
pub fn from_pictures(pictures: &[f32], stack: Stack, rows: &Range<usize>, places: &mut [f32]) {
    let (across, left, width) = (stack.tiles[1], stack.offset[1], stack.size[1]);
    let stride = places.len() / PLACES;
    let zeros = vec![0.0; width];
    let mut lines: [Vec<f32>; 4] = [(); 4].map(|()| vec![0.0; stack.span()]);
    let mut halves = lines.each_ref().map(|_| Halves::new(across + 1));
    for TileRow { row, channel, at } in stack.each(rows) {
        let [a, b, c, d] = [0, 1, 2, 3].map(|below| match stack.row(row, channel, below) {
            Some(range) => &pictures[range],
            None => &zeros[..],
        });
        let [first, second, third, fourth] = &mut lines;
        let inside = left..left + width;
        zip(&mut first[inside.clone()], a, c, |a, c| a - c);
        zip(&mut second[inside.clone()], b, c, |b, c| b + c);
        zip(&mut third[inside.clone()], b, c, |b, c| c - b);
        zip(&mut fourth[inside], b, d, |b, d| b - d);
        // First all lines, then all halves, then all places. A load that overlaps a recent store at another
        // offset has to wait until the store has left the store buffer; this order keeps them apart. It saved
        // 1.5 % of the convolutional codec's step (docs/log.md, 2026-11-25).
        split_all(&lines, &mut halves);
        for (index, Halves { e, o }) in halves.iter().enumerate() {
            let mut place = |place: usize, a: &[f32], b: &[f32], f: fn(f32, f32) -> f32| {
                let start = (4 * index + place) * stride + at;
                zip(&mut places[start..start + across], a, b, f);
            };
            place(0, e, &e[1..], |a, b| a - b);
            place(1, o, &e[1..], |a, b| a + b);
            place(2, &e[1..], o, |a, b| a - b);
            place(3, o, &o[1..], |a, b| a - b);
        }
    }
}

/// The gradient of [`from_pictures`]. Numbers are added up where tiles overlap.
#[multiversion(targets = "simd")]
pub fn add_to_pictures(places: &[f32], stack: Stack, rows: &Range<usize>, pictures: &mut [f32]) {
    let (across, left, width) = (stack.tiles[1], stack.offset[1], stack.size[1]);
    let stride = places.len() / PLACES;
    let mut lines: [Vec<f32>; 4] = [(); 4].map(|()| vec![0.0; stack.span()]);
    let mut halves = lines.each_ref().map(|_| Halves::new(across + 1));
    for TileRow { row, channel, at } in stack.each(rows) {
        // Each step of `from_pictures` backwards: places to halves, halves to lines, lines to pixels.
        for (index, Halves { e, o }) in halves.iter_mut().enumerate() {
            let place = |place: usize| &places[(4 * index + place) * stride + at..][..across];
            let four = [0, 1, 2, 3].map(place);
            // A tile starts at every second column and is four wide, so its last two columns are the first two
            // of its neighbor: those sums go one further in the halves.
            e[..across].copy_from_slice(four[0]);
            e[across] = 0.0;
            zip_four(o, four, |_, [_, b, c, d]| b - c + d);
            o[across] = 0.0;
            zip_four(&mut e[1..], four, |e, [a, b, c, _]| e + b + c - a);
            zip_four(&mut o[1..], four, |o, [.., d]| o - d);
        }
        for (line, Halves { e, o }) in lines.iter_mut().zip(&halves) {
            join(line, e, o);
        }
        let lines = lines.each_ref().map(|line| &line[left..left + width]);
        let mut line = |below: usize, f: fn(f32, [f32; 4]) -> f32| {
            if let Some(range) = stack.row(row, channel, below) {
                zip_four(&mut pictures[range], lines, f);
            }
        };
        line(0, |x, [a, ..]| x + a);
        line(1, |x, [_, b, c, d]| x + b - c + d);
        line(2, |x, [a, b, c, _]| x + b + c - a);
        line(3, |x, [.., d]| x - d);
    }
}

/// Transforms the sums of products into output tiles: `A' m A` for each tile.
#[multiversion(targets = "simd")]
pub fn into_outputs(places: &[f32], stack: Stack, rows: &Range<usize>, outputs: &mut [f32]) {
    let across = stack.tiles[1];
    let stride = places.len() / PLACES;
    let mut sums: [Vec<f32>; 4] = [(); 4].map(|()| vec![0.0; across]);
    for TileRow { row, channel, at } in stack.each(rows) {
        for below in 0..2 {
            // The lower row of the last tiles lies outside of a picture of odd height.
            let Some(range) = stack.row(row, channel, below) else {
                continue;
            };
            for (column, sum) in sums.iter_mut().enumerate() {
                let place = |row: usize| &places[(4 * row + column) * stride + at..][..across];
                let four = [0, 1, 2, 3].map(place);
                if below == 0 {
                    zip_four(sum, four, |_, [a, b, c, _]| a + b + c);
                } else {
                    zip_four(sum, four, |_, [_, b, c, d]| b - c - d);
                }
            }
            let [a, b, c, d] = &sums;
            let (pairs, last) = outputs[range].as_chunks_mut::<2>();
            let four = a.iter().zip(b).zip(c.iter().zip(d));
            for (pair, ((a, b), (c, d))) in pairs.iter_mut().zip(four) {
                *pair = [a + b + c, b - c - d];
            }
            // In a picture of odd width the last tile has only its first column inside.
            if let [last] = last {
                *last = a[across - 1] + b[across - 1] + c[across - 1];
            }
        }
    }
}

/// The gradient of [`into_outputs`].
#[multiversion(targets = "simd")]
pub fn from_outputs(outputs: &[f32], stack: Stack, rows: &Range<usize>, places: &mut [f32]) {
    let (across, width) = (stack.tiles[1], stack.size[1]);
    let stride = places.len() / PLACES;
    let zeros = vec![0.0; width];
    let mut lines: [Vec<f32>; 4] = [(); 4].map(|()| vec![0.0; 2 * across]);
    let mut halves = lines.each_ref().map(|_| Halves::new(across));
    for TileRow { row, channel, at } in stack.each(rows) {
        let [a, b] = [0, 1].map(|below| match stack.row(row, channel, below) {
            Some(range) => &outputs[range],
            None => &zeros[..],
        });
        let [first, second, third, fourth] = lines.each_mut().map(|line| &mut line[..width]);
        first.copy_from_slice(a);
        zip(second, a, b, |a, b| a + b);
        zip(third, a, b, |a, b| a - b);
        zip(fourth, b, b, |b, _| -b);
        split_all(&lines, &mut halves);
        for (index, Halves { e, o }) in halves.iter().enumerate() {
            let mut place = |place: usize, f: fn(f32, f32) -> f32| {
                let start = (4 * index + place) * stride + at;
                zip(&mut places[start..start + across], e, o, f);
            };
            place(0, |e, _| e);
            place(1, |e, o| e + o);
            place(2, |e, o| e - o);
            place(3, |_, o| -o);
        }
    }
}
