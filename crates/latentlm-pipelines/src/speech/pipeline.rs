//! Speaks with a trained model.

use std::path::Path;
use std::time::Instant;

use burn::tensor::Tensor;
use latentlm::codec_audio::Codec;
use latentlm::core::LatentCodecConfig;
use latentlm::{LatentCodec, SampleOptions, SpeechPrompt, StreamingCodec};
use latentlm_data::check_stop;
use latentlm_data::speech::read_audio;

use super::codec::{DecoderState, decode, hop_samples, signal};
use super::recipe::SpeechRecipe;
use crate::error::{PipelineError, Result};
use crate::known::Unheard;
use crate::pipeline::Pipeline;
use crate::tensors::{finite, host_values};

/// Texts that are spoken at once: more would not be faster, and take more memory.
const BATCH: usize = 16;

/// Codec, language model and vocabulary of speech.
pub type SpeechPipeline = Pipeline<SpeechRecipe>;

/// A voice to continue: text and latents of a recording.
#[derive(Debug, Clone)]
pub struct Voice {
    text: String,
    /// `[P, Z]`
    latents: Tensor<2>,
}

/// Generated speech.
#[derive(Debug, Clone, PartialEq)]
pub struct Speech {
    /// Samples in `[-1, 1]`.
    pub samples: Vec<f32>,
    /// Whether it was cut because it did not end by itself.
    pub was_cut: bool,
}

/// How long speaking took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpeakingTimes {
    /// From the call to the first samples.
    pub first_audio_s: f64,
    /// From the call to the last.
    pub total_s: f64,
    /// Length of the speech.
    pub speech_s: f64,
    /// Whether it was cut because it did not end by itself.
    pub was_cut: bool,
}

impl SpeechPipeline {
    /// Samples per second.
    pub fn sample_rate_hz(&self) -> u32 {
        self.recipe().codec.signal().sample_rate_hz
    }

    /// A voice to continue, from a sound file of any rate and its words, converted like the training data:
    /// rate, loudness, no silence at the ends.
    ///
    /// # Errors
    /// If the file can't be read, or as [`voice`](Self::voice).
    pub fn voice_from(&self, path: &Path, text: &str) -> Result<Voice> {
        let samples = self.recipe().speech_spec().bring(read_audio(path)?);
        self.voice(text, samples)
    }

    /// A voice to continue, from a recording at [`sample_rate_hz`](Self::sample_rate_hz) and its words.
    ///
    /// # Errors
    /// If the recording is shorter than a latent or longer than what the model was trained on, or
    /// there are no words.
    pub fn voice(&self, text: &str, samples: Vec<f32>) -> Result<Voice> {
        let hop = hop_samples(&self.codec);
        let fail = |reason: String| Err(PipelineError::Voice(reason));
        if text.trim().is_empty() {
            return fail("its text is empty: say what is said in the recording".into());
        }
        if samples.len() < hop {
            let count = samples.len();
            return fail(format!("{count} samples; one latent takes {hop}"));
        }
        self.recipe().check_voice(samples.len())?;
        let latents = self.codec.encode(signal(samples, hop, &self.device)).mode();
        Ok(Voice {
            text: text.into(),
            latents: latents.squeeze_dim(0),
        })
    }

    /// Says texts, a batch at a time. The sound of a text depends on the text, the seed and its place in the list,
    /// not on its neighbours.
    ///
    /// # Errors
    /// If a text is empty, has characters outside the vocabulary or is longer than what the model was
    /// trained on, the options do not fit the model, or drawn latents are not finite.
    pub fn say(
        &self,
        texts: &[String],
        voice: Option<&Voice>,
        options: &SampleOptions,
        seed: u64,
    ) -> Result<Vec<Speech>> {
        let prompts = self.prompts(texts, voice, options, seed)?;
        let mut said = Vec::with_capacity(prompts.len());
        for batch in prompts.chunks(BATCH) {
            check_stop()?;
            said.extend(self.say_batch(batch, options)?);
        }
        Ok(said)
    }

    fn say_batch(&self, prompts: &[SpeechPrompt], options: &SampleOptions) -> Result<Vec<Speech>> {
        let frames = self.recipe().max_frames();
        let mut stream = self.model.speak(prompts, frames, *options);
        let (mut made, mut lengths) = (Vec::new(), vec![0; prompts.len()]);
        while let Some(frame) = stream.next_frame() {
            for (length, sounding) in lengths.iter_mut().zip(&frame.sounding) {
                *length += usize::from(*sounding);
            }
            made.push(frame.latents);
        }
        let mut latents = None;
        if !made.is_empty() {
            latents = Some(finite(Tensor::cat(made, 1))?);
        }
        let mut said = Vec::with_capacity(lengths.len());
        // Decoded one text at a time: the sound of all would take much more memory than their latents.
        for (row, length) in lengths.into_iter().enumerate() {
            let samples = match &latents {
                Some(all) if length > 0 => {
                    let own = all.clone().narrow(0, row, 1).narrow(1, 0, length);
                    decode(&self.codec, own)
                }
                _ => Vec::new(),
            };
            let was_cut = stream.was_cut(row);
            said.push(Speech { samples, was_cut });
        }
        Ok(said)
    }

    /// Says one text, handing out sound as it is made: the first samples come before the second
    /// latent is drawn.
    ///
    /// # Errors
    /// As [`say`](Self::say), and what `hear` returns.
    pub fn stream<E: From<PipelineError>>(
        &self,
        text: &str,
        voice: Option<&Voice>,
        options: &SampleOptions,
        seed: u64,
        mut hear: impl FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<SpeakingTimes, E> {
        let started = Instant::now();
        let prompts = self.prompts(&[text.to_owned()], voice, options, seed)?;
        let frames = self.recipe().max_frames();
        let mut stream = self.model.speak(&prompts, frames, *options);
        let (mut samples, mut first) = (0, None);
        let latents = std::iter::from_fn(|| {
            let frame = stream.next_frame()?;
            Some(finite(frame.latents).map_err(E::from))
        });
        hand_out(&self.codec, latents, |sound| {
            first.get_or_insert_with(|| started.elapsed().as_secs_f64());
            samples += sound.len();
            hear(sound)
        })?;
        let total_s = started.elapsed().as_secs_f64();
        Ok(SpeakingTimes {
            first_audio_s: first.unwrap_or(total_s),
            total_s,
            speech_s: samples as f64 / f64::from(self.sample_rate_hz()),
            was_cut: stream.was_cut(0),
        })
    }

    /// Whether all of some texts can be said, before a sound of the first is made.
    ///
    /// # Errors
    /// As [`say`](Self::say).
    pub fn accepts(
        &self,
        texts: &[String],
        voice: Option<&Voice>,
        options: &SampleOptions,
    ) -> Result<()> {
        self.prompts(texts, voice, options, 0).map(drop)
    }

    /// Characters and words of texts that never occurred in training. They may sound like anything. Empty if
    /// the checkpoint does not list the characters and words of its training text.
    pub fn unheard(&self, texts: &[String]) -> Unheard {
        let known = self.vocabulary.known.as_ref();
        known.map_or_else(Unheard::default, |known| known.unheard(texts))
    }

    /// Prompts for texts, a seed each. Options and lengths are checked.
    fn prompts(
        &self,
        texts: &[String],
        voice: Option<&Voice>,
        options: &SampleOptions,
        seed: u64,
    ) -> Result<Vec<SpeechPrompt>> {
        self.recipe().lm.check_options(options)?;
        let tokenizer = &self.vocabulary.tokenizer;
        let (mut before, mut frames) = (Vec::new(), 0);
        if let Some(voice) = voice {
            before = tokenizer.encode(&voice.text)?;
            frames = voice.latents.dims()[0];
        }
        let mut prompts = Vec::with_capacity(texts.len());
        for (words, place) in texts.iter().zip(0..) {
            let text = [&before[..], &tokenizer.encode(words)?[..]].concat();
            self.recipe().check_prompt(text.len(), frames)?;
            let voice = voice.map(|voice| voice.latents.clone());
            let seed = seed.wrapping_add(place);
            prompts.push(SpeechPrompt { text, voice, seed });
        }
        Ok(prompts)
    }
}

/// Passes the sound of each latent, `[1, 1, Z]`, to `hear` before it asks for the next latent.
fn hand_out<E>(
    codec: &Codec,
    latents: impl Iterator<Item = Result<Tensor<3>, E>>,
    mut hear: impl FnMut(&[f32]) -> Result<(), E>,
) -> Result<(), E> {
    let mut state = DecoderState::default();
    for latent in latents {
        hear(&host_values(codec.decode_step(latent?, &mut state)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use latentlm::codec_audio::CodecConfig;
    use latentlm::core::conformance::seeded;
    use std::cell::Cell;

    /// Four latents that count how many of them have been drawn.
    fn counted(
        drawn: &Cell<usize>,
        device: &Device,
    ) -> impl Iterator<Item = Result<Tensor<3>, &'static str>> {
        (0..4).map(move |_| {
            drawn.set(drawn.get() + 1);
            Ok(Tensor::ones([1, 1, 6], device))
        })
    }

    /// The first sound is made of one latent, before another is drawn. If `hear` stops, no more latents are
    /// drawn.
    #[test]
    fn a_latent_is_heard_before_the_next_is_drawn() {
        let device = Device::default();
        let config = CodecConfig::new()
            .with_ratios(vec![2, 4])
            .with_depths(vec![1, 1, 1])
            .with_width(4)
            .with_latent_dim(6);
        let codec = seeded(1, &device, |device| config.init(device));
        let drawn = Cell::new(0);
        let mut heard = Vec::new();
        let ended = hand_out(&codec, counted(&drawn, &device), |sound| {
            heard.push((drawn.get(), sound.len()));
            Ok::<(), &str>(())
        });
        assert_eq!(ended, Ok(()));
        assert_eq!(heard, [(1, 8), (2, 8), (3, 8), (4, 8)]);
        drawn.set(0);
        let ended = hand_out(&codec, counted(&drawn, &device), |_| Err("enough"));
        assert_eq!((ended, drawn.get()), (Err("enough"), 1));
        // What can't be drawn ends it, after all sound before.
        let (latents, mut heard) = (counted(&drawn, &device).take(2), 0);
        let ended = hand_out(&codec, latents.chain([Err("not finite")]), |_| {
            heard += 1;
            Ok(())
        });
        assert_eq!((ended, heard), (Err("not finite"), 2));
    }
}
