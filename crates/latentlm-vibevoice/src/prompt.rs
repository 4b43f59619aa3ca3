//! Prompts: a script and voices as tokens, with the places of the voices' latents.

use super::script::Turn;

/// The instruction at the start of a prompt. Leading spaces and line ends are part of it.
const TASK: &str = " Transform the text provided by various speakers into speech output, utilizing the \
                    distinct voice of each respective speaker.\n";

/// The four tokens that the model may choose while it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeechTokens {
    /// Speech begins.
    pub start: u32,
    /// Speech stops, for a pause or for good.
    pub stop: u32,
    /// A latent comes. In a prompt it stands where a voice's latents do.
    pub audio: u32,
    /// All is said.
    pub end: u32,
}

/// The recording of a speaker in a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoiceLine {
    /// The speaker's number, as in the turns.
    pub speaker: u32,
    /// Latents of the recording.
    pub frames: usize,
}

/// A prompt as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VibeVoicePrompt {
    /// All tokens. The last is the one that begins speech.
    pub tokens: Vec<u32>,
    /// Places of the voices' latents among the tokens, voice after voice.
    pub voice_positions: Vec<usize>,
}

impl VibeVoicePrompt {
    /// The prompt of some turns. `encode` makes tokens of a text exactly as it is: it neither trims nor adds
    /// tokens.
    ///
    /// # Errors
    /// If `encode` fails.
    pub fn new<E>(
        turns: &[Turn],
        voices: &[VoiceLine],
        special: SpeechTokens,
        mut encode: impl FnMut(&str) -> Result<Vec<u32>, E>,
    ) -> Result<Self, E> {
        let mut prompt = Self {
            tokens: Vec::new(),
            voice_positions: Vec::new(),
        };
        let mut text = TASK.to_owned();
        if !voices.is_empty() {
            text.push_str(" Voice input:\n");
        }
        for voice in voices {
            text.push_str(&format!(" Speaker {}:", voice.speaker));
            prompt.tokens.extend(encode(&text)?);
            prompt.tokens.push(special.start);
            let first = prompt.tokens.len();
            prompt.voice_positions.extend(first..first + voice.frames);
            prompt.tokens.resize(first + voice.frames, special.audio);
            prompt.tokens.push(special.stop);
            text = "\n".to_owned();
        }
        text.push_str(" Text input:\n");
        for turn in turns {
            text.push_str(&format!(" Speaker {}: {}\n", turn.speaker, turn.text));
        }
        text.push_str(" Speech output:\n");
        prompt.tokens.extend(encode(&text)?);
        prompt.tokens.push(special.start);
        Ok(prompt)
    }

    /// A prompt of given tokens: voices stand where `audio` tokens do.
    pub fn of_tokens(tokens: Vec<u32>, audio: u32) -> Self {
        let places = tokens.iter().enumerate();
        let places = places.filter(|(_, token)| **token == audio);
        Self {
            voice_positions: places.map(|(place, _)| place).collect(),
            tokens,
        }
    }

    /// For each token, whether a voice's latent stands in its place.
    pub fn voice_mask(&self) -> Vec<bool> {
        let mut mask = vec![false; self.tokens.len()];
        for &place in &self.voice_positions {
            mask[place] = true;
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIAL: SpeechTokens = SpeechTokens {
        start: 1001,
        stop: 1002,
        audio: 1003,
        end: 1004,
    };

    fn turn(speaker: u32, text: &str) -> Turn {
        Turn {
            speaker,
            text: text.to_owned(),
        }
    }

    /// A token for each character.
    fn letters(text: &str) -> Result<Vec<u32>, ()> {
        Ok(text.chars().map(u32::from).collect())
    }

    /// Tokens as text again, special ones by name.
    fn spelled(tokens: &[u32]) -> String {
        let names = |token: &u32| match *token {
            1001 => "<start>".to_owned(),
            1002 => "<stop>".to_owned(),
            1003 => "<audio>".to_owned(),
            token => char::from_u32(token).unwrap().to_string(),
        };
        tokens.iter().map(names).collect()
    }

    #[test]
    fn a_prompt_is_spelled_as_published() {
        let turns = [turn(0, "Hello."), turn(3, "Yes"), turn(3, "No")];
        let voices = [(3, 2), (0, 1)].map(|(speaker, frames)| VoiceLine { speaker, frames });
        let prompt = VibeVoicePrompt::new(&turns, &voices, SPECIAL, letters).unwrap();
        let expected = " Transform the text provided by various speakers into speech output, \
                        utilizing the distinct voice of each respective speaker.\n Voice input:\n \
                        Speaker 3:<start><audio><audio><stop>\n Speaker 0:<start><audio><stop>\n \
                        Text input:\n Speaker 0: Hello.\n Speaker 3: Yes\n Speaker 3: No\n Speech \
                        output:\n<start>";
        assert_eq!(spelled(&prompt.tokens), expected);
        assert_eq!(prompt.voice_positions.len(), 3);
        let read = VibeVoicePrompt::of_tokens(prompt.tokens.clone(), SPECIAL.audio);
        assert_eq!(read, prompt);
        let mask = prompt.voice_mask();
        for (masked, token) in mask.into_iter().zip(&prompt.tokens) {
            assert_eq!(masked, *token == SPECIAL.audio);
        }
    }

    #[test]
    fn without_voices_there_is_no_section_of_them() {
        let prompt = VibeVoicePrompt::new(&[turn(1, "a")], &[], SPECIAL, letters).unwrap();
        let text = spelled(&prompt.tokens);
        assert!(text.ends_with("speaker.\n Text input:\n Speaker 1: a\n Speech output:\n<start>"));
        assert!(prompt.voice_positions.is_empty());
    }

    /// A speaker may say the name of a special token: no latent stands there.
    #[test]
    fn words_do_not_become_places_of_voices() {
        let encode = |_: &str| Ok::<_, ()>(vec![SPECIAL.audio]);
        let prompt = VibeVoicePrompt::new(&[turn(1, "a")], &[], SPECIAL, encode).unwrap();
        assert_eq!(prompt.tokens, [SPECIAL.audio, SPECIAL.start]);
        assert!(prompt.voice_positions.is_empty());
    }
}
