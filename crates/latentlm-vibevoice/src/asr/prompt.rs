//! Prompts: what the model is asked about a recording.

use super::error::AsrError;

/// What stands in front of the recording's latents. Line ends are part of it.
const TASK: &str = "<|im_start|>system\nYou are a helpful assistant that transcribes audio input into text output \
                    in JSON format.<|im_end|>\n<|im_start|>user\n";
/// What the model is to write.
const KEYS: &str = " it with these keys: Start time, End time, Speaker ID, Content<|im_end|>\n";

/// The tokens around a recording, and those that end an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsrTokens {
    /// The recording begins.
    pub begin: u32,
    /// Stands where a latent does.
    pub audio: u32,
    /// The recording has ended.
    pub close: u32,
    /// Any of these ends the answer.
    pub ends: Vec<u32>,
}

/// The size of a recording, in whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsrSound {
    /// Its samples.
    pub samples: usize,
    /// Samples a second.
    pub sample_rate_hz: u32,
    /// Samples a latent.
    pub hop_samples: usize,
}

impl AsrSound {
    /// Latents; the last may stand for less than a hop.
    pub fn frames(&self) -> usize {
        self.samples.div_ceil(self.hop_samples)
    }

    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples as f64 / f64::from(self.sample_rate_hz)
    }
}

/// What the model reads before it writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsrPrompt {
    /// All tokens.
    pub tokens: Vec<u32>,
    /// Place of the first latent among the tokens.
    pub first_frame: usize,
    /// The recording; its latents stand one after the other.
    pub sound: AsrSound,
}

impl AsrPrompt {
    /// The prompt of a recording. `context` has names and words that may occur in it; a blank one is none. `encode`
    /// makes tokens of a text exactly as it is: it does not trim, and knows `<|im_start|>` and `<|im_end|>`.
    ///
    /// # Errors
    /// If `encode` fails.
    pub fn new<E>(
        sound: AsrSound,
        context: Option<&str>,
        special: &AsrTokens,
        mut encode: impl FnMut(&str) -> Result<Vec<u32>, E>,
    ) -> Result<Self, E> {
        let mut tokens = encode(TASK)?;
        tokens.push(special.begin);
        let first_frame = tokens.len();
        tokens.resize(first_frame + sound.frames(), special.audio);
        tokens.push(special.close);
        let seconds = sound.seconds();
        let context = context.map(str::trim).filter(|text| !text.is_empty());
        let asked = match context {
            Some(text) => format!("with extra info: {text}\n\nPlease transcribe"),
            None => "please transcribe".to_owned(),
        };
        let question = format!("\nThis is a {seconds:.2} seconds audio, {asked}{KEYS}");
        tokens.extend(encode(&question)?);
        Ok(Self {
            tokens,
            first_frame,
            sound,
        })
    }

    /// Checks that the prompt leaves room for an answer if there are `max_positions` positions.
    ///
    /// # Errors
    /// If it does not; the message tells how many seconds do.
    pub fn check(&self, max_positions: usize) -> Result<(), AsrError> {
        let positions = self.tokens.len();
        if positions < max_positions {
            return Ok(());
        }
        let words = positions - self.sound.frames();
        let most_frames = max_positions.saturating_sub(words + 1);
        let most = AsrSound {
            samples: most_frames.saturating_mul(self.sound.hop_samples),
            ..self.sound
        };
        Err(AsrError::TooLong {
            seconds: self.sound.seconds(),
            most_seconds: most.seconds(),
            max_positions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn special() -> AsrTokens {
        AsrTokens {
            begin: 1001,
            audio: 1002,
            close: 1003,
            ends: vec![1004],
        }
    }

    fn sound(samples: usize) -> AsrSound {
        AsrSound {
            samples,
            sample_rate_hz: 24_000,
            hop_samples: 3200,
        }
    }

    /// A token for each character.
    fn letters(text: &str) -> Result<Vec<u32>, ()> {
        Ok(text.chars().map(u32::from).collect())
    }

    fn prompt(samples: usize, context: Option<&str>) -> AsrPrompt {
        AsrPrompt::new(sound(samples), context, &special(), letters).unwrap()
    }

    /// Tokens as text again, special ones by name.
    fn spelled(tokens: &[u32]) -> String {
        let names = |token: &u32| match *token {
            1001 => "<begin>".to_owned(),
            1002 => "<audio>".to_owned(),
            1003 => "<close>".to_owned(),
            token => char::from_u32(token).unwrap().to_string(),
        };
        tokens.iter().map(names).collect()
    }

    #[test]
    fn a_prompt_is_spelled_as_published() {
        let made = prompt(6401, None);
        let expected = "<|im_start|>system\nYou are a helpful assistant that transcribes audio input into text \
                        output in JSON format.<|im_end|>\n<|im_start|>user\n<begin><audio><audio><audio><close>\n\
                        This is a 0.27 seconds audio, please transcribe it with these keys: Start time, End \
                        time, Speaker ID, Content<|im_end|>\n";
        assert_eq!(spelled(&made.tokens), expected);
        assert_eq!(made.tokens[made.first_frame..][..3], [1002; 3]);
    }

    #[test]
    fn a_context_stands_in_the_question_and_a_blank_one_is_none() {
        let made = prompt(240_000, Some(" Anna, Ben\n"));
        let text = spelled(&made.tokens);
        let expected = "10.00 seconds audio, with extra info: Anna, Ben\n\nPlease transcribe it with these keys: ";
        assert!(text.contains(expected), "{text}");
        assert_eq!(prompt(240_000, Some(" \n")), prompt(240_000, None));
    }

    /// As Python rounds them: a half to the even neighbour.
    #[test]
    fn seconds_have_two_places() {
        for (samples, seconds) in [(3000, "0.12"), (9000, "0.38"), (435, "0.02"), (1, "0.00")] {
            let text = spelled(&prompt(samples, None).tokens);
            assert!(text.contains(&format!("is a {seconds} s")), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told_in_seconds() {
        let made = prompt(32_000, None); // 10 latents
        let words = made.tokens.len() - 10;
        made.check(words + 11).unwrap();
        let told = made.check(words + 6).unwrap_err().to_string();
        assert!(told.contains("1.33 s") && told.contains("0.67 s"), "{told}");
        let told = made.check(3).unwrap_err().to_string();
        assert!(told.contains("0.00 s"), "{told}");
    }
}
