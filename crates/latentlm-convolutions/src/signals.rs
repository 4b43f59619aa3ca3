//! Signals and the frames before them, as causal convolutions see them.

use std::ops::Range;

/// Signals of frames, channels last, and the last frames before each.
#[derive(Debug, Clone, Copy)]
pub struct Signals<'a> {
    /// `[batch, frames, width]`
    pub x: &'a [f32],
    /// `[batch, reach, width]`; without it there are zeros before.
    pub past: Option<&'a [f32]>,
    /// Signals.
    pub batch: usize,
    /// Frames of a signal.
    pub frames: usize,
    /// Numbers of a frame.
    pub width: usize,
    /// Frames that an output sees before the newest one.
    pub reach: usize,
}

impl<'a> Signals<'a> {
    /// A frame of a signal, counted from the first of the past; `None` if it is all zeros.
    #[inline]
    pub(super) fn frame(&self, signal: usize, index: usize) -> Option<&'a [f32]> {
        let (numbers, at) = if index < self.reach {
            (self.past?, signal * self.reach + index)
        } else {
            (self.x, signal * self.frames + index - self.reach)
        };
        Some(&numbers[at * self.width..][..self.width])
    }

    /// All that a range of output frames of a signal sees, `[reach + frames, width]`: where it lies, or in `buffer` if
    /// that begins in the past.
    pub(super) fn seen<'b>(
        &self,
        signal: usize,
        frames: &Range<usize>,
        buffer: &'b mut Vec<f32>,
    ) -> &'b [f32]
    where
        'a: 'b,
    {
        let (width, reach) = (self.width, self.reach);
        let x = &self.x[signal * self.frames * width..][..self.frames * width];
        if frames.start >= reach {
            return &x[(frames.start - reach) * width..frames.end * width];
        }
        buffer.clear();
        match self.past {
            Some(past) => {
                let past = &past[signal * reach * width..][..reach * width];
                buffer.extend_from_slice(&past[frames.start * width..]);
            }
            None => buffer.resize((reach - frames.start) * width, 0.0),
        }
        buffer.extend_from_slice(&x[..frames.end * width]);
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every frame and every range of two signals against frames that are written down: with a past, and without one.
    #[test]
    fn frames_follow_their_past() {
        let x: Vec<f32> = (1..=16).map(|i| i as f32).collect();
        let past: Vec<f32> = (1..=12).map(|i| -(i as f32)).collect();
        for past in [Some(past.as_slice()), None] {
            let signals = Signals {
                x: &x,
                past,
                batch: 2,
                frames: 4,
                width: 2,
                reach: 3,
            };
            let mut buffer = vec![9.0; 5];
            for signal in 0..signals.batch {
                let mut all = match past {
                    Some(past) => past[signal * 6..][..6].to_vec(),
                    None => vec![0.0; 6],
                };
                all.extend(&x[signal * 8..][..8]);
                for (index, frame) in all.chunks(2).enumerate() {
                    let got = signals.frame(signal, index).unwrap_or(&[0.0, 0.0]);
                    assert_eq!(got, frame, "{index} of {signal}");
                }
                for start in 0..4 {
                    for end in start + 1..=4 {
                        let got = signals.seen(signal, &(start..end), &mut buffer);
                        assert_eq!(got, &all[start * 2..(end + 3) * 2], "{start} to {end}");
                    }
                }
            }
        }
    }
}
