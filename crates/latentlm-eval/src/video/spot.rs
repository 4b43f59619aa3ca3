//! What moves in a clip: bright pixels on black, followed from frame to frame.

use burn::tensor::Tensor;
use latentlm_pipelines::host_values;

/// Brightness from which a pixel belongs to a digit, between 0 for black and 1 for white.
const BRIGHT: f32 = 0.2;
/// Share of a frame's brightness below which a group of pixels is a speck, and is ignored.
const SPECK: f64 = 0.05;
/// About how many groups of pixels are tried as first places of two digits.
const SEEDS: usize = 6;
/// Rounds of assigning groups of pixels to digits.
const ROUNDS: usize = 20;
/// Height and width of a digit that was cut out.
pub const CUT: usize = 16;
/// Pixels around a digit that was cut out, before it is resized.
const MARGIN: f64 = 1.0;

/// Clips on the host, grey.
pub struct Footage {
    /// Brightness between 0 and 1, `[B, F, H, W]`.
    values: Vec<f32>,
    clips: usize,
    frames: usize,
    height: usize,
    width: usize,
}

impl Footage {
    /// Takes clips to the host.
    ///
    /// # Shapes
    /// - `clips`: `[B, F, C, H, W]`, around `[-1, 1]`
    pub fn of(clips: &Tensor<5>) -> Self {
        let [count, frames, _, height, width] = clips.dims();
        let grey = clips.clone().mean_dim(2).clamp(-1.0, 1.0);
        let values = host_values(grey).into_iter();
        Self {
            values: values.map(|value| (value + 1.0) / 2.0).collect(),
            clips: count,
            frames,
            height,
            width,
        }
    }

    /// Number of clips.
    pub fn clips(&self) -> usize {
        self.clips
    }

    /// Follows a number of digits, one or two, through a clip. Each has a spot in every frame, which is empty where
    /// it can't be seen. In the first frame they are ordered from top to bottom.
    pub fn follow(&self, clip: usize, digits: usize) -> Vec<Vec<Spot>> {
        let size = self.height * self.width;
        let mut tracks: Vec<Vec<Spot>> = vec![Vec::with_capacity(self.frames); digits];
        let mut centres: Option<Vec<Point>> = None;
        for frame in 0..self.frames {
            let values = &self.values[(clip * self.frames + frame) * size..][..size];
            let groups = groups(values, self.width, digits);
            let mut spots = assign(&groups, digits, centres.as_deref(), self.width);
            if centres.is_none() {
                spots.sort_by(|a, b| a.centre.y.total_cmp(&b.centre.y));
            }
            if spots.iter().all(|spot| !spot.is_empty()) {
                centres = Some(spots.iter().map(|spot| spot.centre).collect());
            }
            for (track, spot) in tracks.iter_mut().zip(spots) {
                track.push(spot);
            }
        }
        tracks
    }
}

/// A place in a frame, in pixels from the left and from the top.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    /// From the left.
    pub x: f64,
    /// From the top.
    pub y: f64,
}

impl Point {
    /// Square of the distance to another place.
    fn apart(self, other: Self) -> f64 {
        (self.x - other.x).powi(2) + (self.y - other.y).powi(2)
    }
}

/// A digit in a frame: the pixels that belong to it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spot {
    /// Index in the frame and brightness of each pixel.
    pixels: Vec<(usize, f32)>,
    /// Width of the frame.
    width: usize,
    /// Centre, weighted by brightness.
    pub centre: Point,
    /// Root mean square distance of its brightness from its centre, in pixels.
    pub radius: f64,
}

impl Spot {
    fn new(pixels: Vec<(usize, f32)>, width: usize) -> Self {
        let mut spot = Self {
            pixels,
            width,
            ..Self::default()
        };
        let weight = spot.weight();
        if weight == 0.0 {
            return spot;
        }
        for (place, value) in spot.places() {
            spot.centre.x += value * place.x;
            spot.centre.y += value * place.y;
        }
        spot.centre.x /= weight;
        spot.centre.y /= weight;
        let squares = spot.places().into_iter();
        let spread: f64 = squares
            .map(|(place, value)| value * place.apart(spot.centre))
            .sum();
        spot.radius = (spread / weight).sqrt();
        spot
    }

    /// Whether the digit can't be seen.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// Sum of its brightness.
    fn weight(&self) -> f64 {
        self.pixels.iter().map(|(_, value)| f64::from(*value)).sum()
    }

    /// Place and brightness of each pixel.
    fn places(&self) -> Vec<(Point, f64)> {
        let mut places = Vec::with_capacity(self.pixels.len());
        for &(index, value) in &self.pixels {
            let (x, y) = (index % self.width, index / self.width);
            let place = Point {
                x: x as f64,
                y: y as f64,
            };
            places.push((place, f64::from(value)));
        }
        places
    }

    /// The digit alone, cut out as a square and resized: `[16, 16]` in `[-1, 1]`, row by row. Black if it can't be
    /// seen.
    pub fn cut_out(&self) -> Vec<f32> {
        let mut cut = vec![-1.0; CUT * CUT];
        if self.is_empty() {
            return cut;
        }
        let places = self.places();
        let bounds = |of: fn(&Point) -> f64| {
            let values = places.iter().map(|(place, _)| of(place));
            let low = values.clone().fold(f64::INFINITY, f64::min);
            (low, values.fold(f64::NEG_INFINITY, f64::max))
        };
        let (left, right) = bounds(|place| place.x);
        let (top, bottom) = bounds(|place| place.y);
        let side = (right - left).max(bottom - top) + 1.0 + 2.0 * MARGIN;
        let step = side / CUT as f64;
        // The middle of the first pixel of the square.
        let corner = Point {
            x: (left + right - side + step) / 2.0,
            y: (top + bottom - side + step) / 2.0,
        };
        for (index, out) in cut.iter_mut().enumerate() {
            let at = Point {
                x: corner.x + (index % CUT) as f64 * step,
                y: corner.y + (index / CUT) as f64 * step,
            };
            *out = (2.0 * brightness(&places, at) - 1.0) as f32;
        }
        cut
    }
}

/// Brightness between pixels, by linear interpolation of those at `places`.
fn brightness(places: &[(Point, f64)], at: Point) -> f64 {
    let mut sum = 0.0;
    for (place, value) in places {
        let (x, y) = ((place.x - at.x).abs(), (place.y - at.y).abs());
        sum += value * (1.0 - x).max(0.0) * (1.0 - y).max(0.0);
    }
    sum
}

/// Groups of bright pixels that touch, also at corners, heaviest first, without specks. If there are fewer than
/// `least`, every pixel is a group: digits that touch are told apart by their places alone.
fn groups(values: &[f32], width: usize, least: usize) -> Vec<Spot> {
    let mut open: Vec<bool> = values.iter().map(|value| *value >= BRIGHT).collect();
    let height = values.len() / width;
    let mut groups = Vec::new();
    for start in 0..values.len() {
        if !open[start] {
            continue;
        }
        open[start] = false;
        let (mut pixels, mut waiting) = (Vec::new(), vec![start]);
        while let Some(index) = waiting.pop() {
            pixels.push((index, values[index]));
            let (x, y) = (index % width, index / width);
            for row in y.saturating_sub(1)..(y + 2).min(height) {
                for column in x.saturating_sub(1)..(x + 2).min(width) {
                    let near = row * width + column;
                    if open[near] {
                        open[near] = false;
                        waiting.push(near);
                    }
                }
            }
        }
        groups.push(Spot::new(pixels, width));
    }
    let total: f64 = groups.iter().map(Spot::weight).sum();
    groups.retain(|group| group.weight() >= SPECK * total);
    groups.sort_by(|a, b| b.weight().total_cmp(&a.weight()));
    if groups.is_empty() || groups.len() >= least {
        return groups;
    }
    let pixels = groups.into_iter().flat_map(|group| group.pixels);
    pixels.map(|pixel| Spot::new(vec![pixel], width)).collect()
}

/// Assigns each group of pixels to the nearest digit. The search starts where the digits were in the frame before.
/// Without such places it starts from every pair of groups, and the best result counts.
fn assign(groups: &[Spot], digits: usize, before: Option<&[Point]>, width: usize) -> Vec<Spot> {
    if digits == 1 {
        let pixels = groups.iter().flat_map(|group| group.pixels.iter().copied());
        return vec![Spot::new(pixels.collect(), width)];
    }
    let mut starts: Vec<Vec<Point>> = before.map(<[Point]>::to_vec).into_iter().collect();
    if starts.is_empty() {
        // All groups if there are few. If every pixel is a group, some of them at regular distances in the list.
        let step = groups.len().div_ceil(SEEDS).max(1);
        let seeds: Vec<Point> = groups
            .iter()
            .step_by(step)
            .map(|group| group.centre)
            .collect();
        for (index, &first) in seeds.iter().enumerate() {
            starts.extend(seeds[..index].iter().map(|&second| vec![first, second]));
        }
    }
    let mut best: Option<(f64, Vec<Spot>)> = None;
    for start in starts {
        let (cost, spots) = settle(groups, start, width);
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, spots));
        }
    }
    best.map_or_else(|| vec![Spot::default(); digits], |(_, spots)| spots)
}

/// The digits around some centres (k-means), and the sum of the squares of distances, weighted by brightness.
fn settle(groups: &[Spot], mut centres: Vec<Point>, width: usize) -> (f64, Vec<Spot>) {
    let mut spots = Vec::new();
    let mut cost = 0.0;
    for _ in 0..ROUNDS {
        let mut pixels: Vec<Vec<(usize, f32)>> = vec![Vec::new(); centres.len()];
        cost = 0.0;
        for group in groups {
            let distances = centres.iter().map(|centre| centre.apart(group.centre));
            let nearest = distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
            if let Some((digit, distance)) = nearest {
                pixels[digit].extend_from_slice(&group.pixels);
                cost += group.weight() * (distance + group.radius.powi(2));
            }
        }
        spots = pixels
            .into_iter()
            .map(|own| Spot::new(own, width))
            .collect();
        let mut moved = false;
        for (centre, spot) in centres.iter_mut().zip(&spots) {
            if !spot.is_empty() {
                moved |= *centre != spot.centre;
                *centre = spot.centre;
            }
        }
        if !moved {
            break;
        }
    }
    (cost, spots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    /// Clips of squares: `squares` gives for each frame the left upper corners, all of one side.
    fn clip(side: usize, squares: &[Vec<[usize; 2]>]) -> Tensor<5> {
        let mut values = vec![-1.0f32; squares.len() * 32 * 32];
        for (frame, corners) in values.chunks_exact_mut(32 * 32).zip(squares) {
            for [left, top] in corners {
                for y in *top..top + side {
                    frame[y * 32 + left..y * 32 + left + side].fill(1.0);
                }
            }
        }
        let shape = [1, squares.len(), 1, 32, 32];
        Tensor::from_data(TensorData::new(values, shape), &Device::default())
    }

    #[test]
    fn a_square_is_measured() {
        let tracks = Footage::of(&clip(3, &[vec![[4, 10]]])).follow(0, 1);
        let spot = &tracks[0][0];
        assert_eq!(spot.centre, Point { x: 5.0, y: 11.0 });
        // Mean square distance of -1, 0 and 1 in two directions.
        assert!((spot.radius - (4.0f64 / 3.0).sqrt()).abs() < 1e-9);
        let cut = spot.cut_out();
        // Three white pixels and one black one on each side fill the square.
        assert_eq!((cut[0], cut[CUT * 8 + 8]), (-1.0, 1.0));
        let white = cut.iter().filter(|value| **value > 0.0).count() as f64;
        let share = white / (CUT * CUT) as f64;
        assert!((share - 9.0 / 25.0).abs() < 0.05, "{share}");
    }

    /// One falls on the left, one moves to the right below it, and a speck is no digit.
    #[test]
    fn two_squares_are_followed() {
        let mut frames = Vec::new();
        for t in 0..9 {
            frames.push(vec![[2, 1 + t], [8 + t, 24]]);
        }
        let mut clips = clip(6, &frames);
        clips = clips.slice_fill([0..1, 0..9, 0..1, 0..1, 31..32], 1.0);
        let tracks = Footage::of(&clips).follow(0, 2);
        for (t, (first, second)) in tracks[0].iter().zip(&tracks[1]).enumerate() {
            let place = |x: usize, y: usize| Point {
                x: x as f64 + 2.5,
                y: y as f64 + 2.5,
            };
            assert_eq!(first.centre, place(2, 1 + t), "{t}");
            assert_eq!(second.centre, place(8 + t, 24), "{t}");
        }
    }

    /// Digits that touch are divided between their places; an empty frame has empty spots.
    #[test]
    fn squares_that_touch_are_divided() {
        let tracks = Footage::of(&clip(6, &[vec![[2, 4], [8, 4]], Vec::new()])).follow(0, 2);
        let mut places: Vec<f64> = tracks.iter().map(|track| track[0].centre.x).collect();
        places.sort_by(f64::total_cmp);
        assert_eq!(places, [4.5, 10.5]);
        assert!(tracks.iter().all(|track| track[1].is_empty()));
        assert!(tracks[0][1].cut_out().iter().all(|value| *value == -1.0));
    }
}
