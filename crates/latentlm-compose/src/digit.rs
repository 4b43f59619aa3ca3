//! A written digit that can be drawn at any size, also between pixels.

/// Samples of a pixel along each side.
const SAMPLES: usize = 4;

/// The ink of a digit, without the black around it.
#[derive(Debug, Clone)]
pub(crate) struct Digit {
    /// Number of its picture within the split.
    pub(crate) picture: usize,
    width: usize,
    height: usize,
    ink: Vec<f32>,
    /// Middle of the ink, right and down, as fractions of width and height.
    middle: [f32; 2],
}

/// Where a digit is in a frame, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Placed {
    pub(crate) left: f32,
    pub(crate) top: f32,
    pub(crate) height: f32,
}

/// Weights of the source's pixels in an output pixel, along a row or column.
struct Taps {
    pixel: usize,
    weights: Vec<f32>,
}

impl Digit {
    /// Crops a grey picture `[side, side]` to its ink; `None` if it has none.
    pub(crate) fn of(picture: usize, pixels: &[u8], side: usize) -> Option<Self> {
        let inked = |(_, value): &(usize, &u8)| **value > 0;
        let (mut left, mut right, mut top, mut bottom) = (side, 0, side, 0);
        for (at, _) in pixels.iter().enumerate().filter(inked) {
            let (x, y) = (at % side, at / side);
            (left, right) = (left.min(x), right.max(x + 1));
            (top, bottom) = (top.min(y), bottom.max(y + 1));
        }
        if right == 0 {
            return None;
        }
        let (width, height) = (right - left, bottom - top);
        let mut ink = Vec::with_capacity(width * height);
        let (mut sum, mut across, mut down) = (0.0, 0.0, 0.0);
        for y in 0..height {
            for x in 0..width {
                let value = f32::from(pixels[(top + y) * side + left + x]);
                sum += value;
                across += value * (x as f32 + 0.5);
                down += value * (y as f32 + 0.5);
                ink.push(value);
            }
        }
        Some(Self {
            picture,
            width,
            height,
            ink,
            middle: [across / sum / width as f32, down / sum / height as f32],
        })
    }

    /// Appends its size and its ink.
    pub(crate) fn describe(&self, bytes: &mut Vec<u8>) {
        for size in [self.width, self.height] {
            bytes.extend((size as u64).to_le_bytes());
        }
        bytes.extend(self.ink.iter().map(|value| *value as u8));
    }

    /// Width divided by height.
    pub(crate) fn aspect(&self) -> f32 {
        self.width as f32 / self.height as f32
    }

    /// The middle of the ink in a frame, right and down.
    pub(crate) fn middle(&self, placed: Placed) -> [f32; 2] {
        let width = placed.height * self.aspect();
        [
            placed.left + self.middle[0] * width,
            placed.top + self.middle[1] * placed.height,
        ]
    }

    /// Draws into a grey frame `[side, side]`. Nothing outside of the digit's box changes.
    pub(crate) fn draw(&self, placed: Placed, frame: &mut [u8], side: usize) {
        let rows = taps(placed.top, placed.height, self.height, side);
        let columns = taps(placed.left, placed.height * self.aspect(), self.width, side);
        for row in &rows {
            let mut line = vec![0.0; self.width];
            for (weight, ink) in row.weights.iter().zip(self.ink.chunks(self.width)) {
                if *weight > 0.0 {
                    for (sum, ink) in line.iter_mut().zip(ink) {
                        *sum += weight * ink;
                    }
                }
            }
            for column in &columns {
                let pairs = column.weights.iter().zip(&line);
                let value: f32 = pairs.map(|(weight, ink)| weight * ink).sum();
                let pixel = &mut frame[row.pixel * side + column.pixel];
                *pixel = (*pixel).max(value.round().clamp(0.0, 255.0) as u8);
            }
        }
    }
}

/// The pixels of a side that a digit covers from `start` on, `size` long: each is the mean of samples, which lie
/// between two of the source's pixels.
fn taps(start: f32, size: f32, source: usize, side: usize) -> Vec<Taps> {
    let first = start.floor().max(0.0) as usize;
    let end = ((start + size).ceil().max(0.0) as usize).min(side);
    let step = source as f32 / size;
    let mut taps = Vec::with_capacity(end.saturating_sub(first));
    for pixel in first..end {
        let mut weights = vec![0.0; source];
        for sample in 0..SAMPLES {
            let at = pixel as f32 + (sample as f32 + 0.5) / SAMPLES as f32;
            let position = (at - start) * step;
            if !(0.0..source as f32).contains(&position) {
                continue;
            }
            let position = (position - 0.5).clamp(0.0, (source - 1) as f32);
            let (below, part) = (position.floor() as usize, position.fract());
            weights[below] += (1.0 - part) / SAMPLES as f32;
            if part > 0.0 {
                weights[below + 1] += part / SAMPLES as f32;
            }
        }
        taps.push(Taps { pixel, weights });
    }
    taps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A filled box of 4 x 8 pixels within 12 x 12.
    fn block() -> Digit {
        let mut pixels = [0; 144];
        for y in 2..10 {
            for x in 5..9 {
                pixels[y * 12 + x] = 200;
            }
        }
        Digit::of(3, &pixels, 12).unwrap()
    }

    fn drawn(left: f32, top: f32, height: f32) -> Vec<u8> {
        let mut frame = vec![0; 400];
        block().draw(Placed { left, top, height }, &mut frame, 20);
        frame
    }

    #[test]
    fn only_ink_is_kept() {
        let block = block();
        assert_eq!((block.width, block.height, block.picture), (4, 8, 3));
        assert_eq!(block.middle, [0.5, 0.5]);
        assert!(Digit::of(0, &[0; 4], 2).is_none());
    }

    #[test]
    fn a_digit_of_its_own_size_is_copied() {
        let frame = drawn(3.0, 4.0, 8.0);
        for (at, value) in frame.iter().enumerate() {
            let inside = (3..7).contains(&(at % 20)) && (4..12).contains(&(at / 20));
            assert_eq!(*value, if inside { 200 } else { 0 }, "{at}");
        }
    }

    /// A quarter of a pixel to the right: the column it leaves and the one it enters are grey.
    #[test]
    fn digits_stand_between_pixels() {
        let frame = drawn(3.25, 4.0, 8.0);
        assert_eq!(
            frame[6 * 20 + 2..6 * 20 + 9],
            [0, 150, 200, 200, 200, 50, 0]
        );
        let large = drawn(1.0, 1.0, 16.0);
        assert_eq!(large.iter().filter(|value| **value == 200).count(), 8 * 16);
    }

    #[test]
    fn what_is_outside_of_a_frame_is_cut() {
        let frame = drawn(-2.0, 15.0, 8.0);
        let inked = frame.iter().filter(|value| **value > 0).count();
        assert_eq!(inked, 2 * 5);
    }
}
