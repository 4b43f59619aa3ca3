//! The frame rate of a clip, brought to another one.

/// A frame that comes this much too late, in seconds, is still on time: GIF rounds times to hundredths of a
/// second.
const LATE_S: f64 = 0.005;

/// Shows the frames of a clip at a fixed rate: frame `k` of the result is the one on display at `k` divided by
/// the rate. Frames are repeated or left out, never blended.
#[derive(Debug, Clone)]
pub struct Pace {
    rate_hz: f64,
    late_s: f64,
    shown: usize,
    end_s: f64,
}

impl Pace {
    /// The start of a clip that is shown at `rate_hz` frames a second.
    pub fn new(rate_hz: f64) -> Self {
        Self {
            rate_hz,
            late_s: LATE_S.min(0.5 / rate_hz),
            shown: 0,
            end_s: 0.0,
        }
    }

    /// How many frames of the result show the next frame of the clip, which is on display for `seconds`. A frame
    /// whose time is not known is shown once.
    pub fn times(&mut self, seconds: Option<f64>) -> usize {
        let until = match seconds {
            None => self.shown.saturating_add(1),
            Some(seconds) => {
                self.end_s += seconds;
                // The first frame is on display at the start, however short it is.
                ((self.end_s - self.late_s) * self.rate_hz).ceil().max(1.0) as usize
            }
        };
        let times = until.saturating_sub(self.shown);
        self.shown = until.max(self.shown);
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(rate_hz: f64, seconds: &[f64]) -> Vec<usize> {
        let mut pace = Pace::new(rate_hz);
        seconds.iter().map(|s| pace.times(Some(*s))).collect()
    }

    #[test]
    fn a_clip_of_the_same_rate_stays() {
        assert_eq!(times(10.0, &[0.1; 1000]), vec![1; 1000]);
        assert_eq!(times(240.0, &[1.0 / 240.0; 500]), vec![1; 500]);
        // 15 a second, as GIF rounds it.
        assert_eq!(times(15.0, &[0.07, 0.06, 0.07, 0.07, 0.06, 0.07]), [1; 6]);
        let mut unknown = Pace::new(10.0);
        assert_eq!([unknown.times(None), unknown.times(None)], [1, 1]);
    }

    #[test]
    fn frames_are_repeated_or_left_out() {
        assert_eq!(times(10.0, &[1.0 / 30.0; 7]), [1, 0, 0, 1, 0, 0, 1]);
        assert_eq!(times(10.0, &[0.2, 0.1, 0.35]), [2, 1, 4]);
        assert_eq!(times(20.0, &[0.1; 3]), [2; 3]);
        assert_eq!(times(10.0, &[1.0]), [10]);
        assert_eq!(times(10.0, &[0.001, 0.15]), [1, 1]);
    }
}
