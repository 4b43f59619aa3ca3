//! A trained codec language model of speech, ready to speak.

use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::codec_audio::Codec;
use latentlm::core::LatentCodecConfig;
use latentlm::{LatentCodec, SampleOptions, StreamingCodec};
use latentlm_baselines::{CodeLm, CodePrompt};
use latentlm_data::speech::read_audio;
use latentlm_eval::Speaker;
use latentlm_pipelines::{
    Checkpoint, Manifest, ModelRecipe, PipelineError, SpeakingTimes, Speech, TextVocabulary,
    Unheard, Vocabulary, ema_file, hop_samples, host_values, signal, weights_file,
};

use super::recipe::wrong;
use super::tts_recipe::CompareTtsRecipe;

/// Texts whose first codebooks are drawn at once.
const BATCH: usize = 16;
/// Frames that are decoded at once in a stream: a fifth of a second at 75 a second.
const CHUNK: usize = 16;

/// Codec, language model and vocabulary of a rival's run.
#[derive(Debug)]
pub struct CodeSpeaker {
    pub(crate) recipe: CompareTtsRecipe,
    pub(crate) codec: Codec,
    pub(crate) model: CodeLm,
    pub(crate) vocabulary: TextVocabulary,
    pub(crate) device: Device,
    /// What a user should know about the checkpoint, one line each: see [`Checkpoint::notes`].
    pub notes: Vec<String>,
}

/// A voice to continue: text and codes of a recording.
#[derive(Debug, Clone)]
pub struct CodeVoice {
    text: String,
    codes: Vec<i64>,
}

impl CodeSpeaker {
    /// Loads a run's newest checkpoint, with the averaged weights.
    ///
    /// # Errors
    /// If the folder is no run of a rival, has no finished checkpoint, or one that is damaged.
    pub fn from_run(path: &Path, device: &Device) -> Result<Self, PipelineError> {
        let checkpoint = Checkpoint::newest::<CompareTtsRecipe>(path, "lm")?;
        let manifest: Manifest<CompareTtsRecipe> = checkpoint.manifest()?;
        let vocabulary = TextVocabulary::read(&checkpoint, &manifest.classes)?;
        let recipe = manifest.recipe;
        let config = recipe.code_lm(vocabulary.size());
        config.validate().map_err(wrong)?;
        let (codes, file) = (recipe.codes(), weights_file("codec"));
        checkpoint.check_size(&file, codes.codec_parameter_count(device))?;
        Ok(Self {
            codec: checkpoint.load(codes.init_codec(device), &file)?,
            model: checkpoint.load(config.init(device), &ema_file("model"))?,
            vocabulary,
            device: device.clone(),
            notes: checkpoint.notes().to_vec(),
            recipe,
        })
    }

    /// The recipe of its run.
    pub fn recipe(&self) -> &CompareTtsRecipe {
        &self.recipe
    }

    /// The codec.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Samples per second.
    pub fn sample_rate_hz(&self) -> u32 {
        self.recipe.speech.codec.signal().sample_rate_hz
    }

    /// Characters and words of texts that never occurred in training.
    pub fn unheard(&self, texts: &[String]) -> Unheard {
        let known = self.vocabulary.known.as_ref();
        known.map_or_else(Unheard::default, |known| known.unheard(texts))
    }

    /// A voice to continue, from a sound file of any rate and its words, converted like the training data.
    ///
    /// # Errors
    /// If the file can't be read, or as [`voice`](Self::voice).
    pub fn voice_from(&self, path: &Path, text: &str) -> Result<CodeVoice, PipelineError> {
        let samples = self.recipe.speech.speech_spec().bring(read_audio(path)?);
        self.voice(text, samples)
    }

    /// A voice to continue, from a recording at [`sample_rate_hz`](Self::sample_rate_hz) and its words.
    ///
    /// # Errors
    /// If the recording is shorter than a frame or longer than what the model was trained on, or there are no words.
    pub fn voice(&self, text: &str, samples: Vec<f32>) -> Result<CodeVoice, PipelineError> {
        let hop = hop_samples(&self.codec);
        if text.trim().is_empty() {
            let reason = "its text is empty: say what is said in the recording";
            return Err(PipelineError::Voice(reason.into()));
        }
        if samples.len() < hop {
            let reason = format!("{} samples; one frame takes {hop}", samples.len());
            return Err(PipelineError::Voice(reason));
        }
        self.recipe.speech.check_voice(samples.len())?;
        let parameters = self
            .codec
            .encode_parameters(signal(samples, hop, &self.device));
        let quantizer = self.codec.quantizer();
        let codes = quantizer.map(|own| own.codes(parameters).into_data().convert::<i64>());
        let codes = codes.and_then(|codes| codes.try_into_vec().ok());
        Ok(CodeVoice {
            text: text.into(),
            codes: codes.unwrap_or_default(),
        })
    }

    /// Whether all of some texts can be said.
    ///
    /// # Errors
    /// As [`say`](Self::say).
    pub fn accepts(
        &self,
        texts: &[String],
        voice: Option<&CodeVoice>,
    ) -> Result<(), PipelineError> {
        for text in texts {
            self.prompt(text, voice, 0)?;
        }
        Ok(())
    }

    /// Says texts, a batch at a time. The sound of a text depends on the text, the seed and its place in the list,
    /// not on its neighbours.
    ///
    /// # Errors
    /// If a text is empty, has characters outside the vocabulary, or is longer than what the model was trained on.
    pub fn say(
        &self,
        texts: &[String],
        voice: Option<&CodeVoice>,
        seed: u64,
    ) -> Result<Vec<Speech>, PipelineError> {
        let mut prompts = Vec::with_capacity(texts.len());
        for (text, place) in texts.iter().zip(0..) {
            prompts.push(self.prompt(text, voice, seed.wrapping_add(place))?);
        }
        let (most, options) = (self.recipe.codes().max_frames(), self.recipe.rival.drawing);
        let mut said = Vec::with_capacity(prompts.len());
        for batch in prompts.chunks(BATCH) {
            for speech in self.model.speak(batch, most, &options, &self.device) {
                said.push(Speech {
                    samples: self.decode(speech.codes),
                    was_cut: speech.was_cut,
                });
            }
        }
        Ok(said)
    }

    /// Says one text and hands out its sound while it is decoded. There is none before all codes are drawn: the second network
    /// reads the first codebook from its beginning to its end.
    ///
    /// # Errors
    /// As [`say`](Self::say), and what `hear` returns.
    pub fn stream<E: From<PipelineError>>(
        &self,
        text: &str,
        voice: Option<&CodeVoice>,
        seed: u64,
        mut hear: impl FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<SpeakingTimes, E> {
        let started = Instant::now();
        let prompt = [self.prompt(text, voice, seed)?];
        let (most, options) = (self.recipe.codes().max_frames(), self.recipe.rival.drawing);
        let (mut samples, mut first, mut was_cut) = (0, None, false);
        for speech in self.model.speak(&prompt, most, &options, &self.device) {
            was_cut = speech.was_cut;
            let mut state = <Codec as StreamingCodec>::DecoderState::default();
            for codes in speech.codes.chunks(CHUNK * self.model.codebooks()) {
                let Some(latents) = self.latents(codes.to_vec()) else {
                    break;
                };
                let sound = host_values(self.codec.decode_step(latents, &mut state));
                first.get_or_insert_with(|| started.elapsed().as_secs_f64());
                samples += sound.len();
                hear(&sound)?;
            }
        }
        let total_s = started.elapsed().as_secs_f64();
        Ok(SpeakingTimes {
            first_audio_s: first.unwrap_or(total_s),
            total_s,
            speech_s: samples as f64 / f64::from(self.sample_rate_hz()),
            was_cut,
        })
    }

    fn prompt(
        &self,
        text: &str,
        voice: Option<&CodeVoice>,
        seed: u64,
    ) -> Result<CodePrompt, PipelineError> {
        let tokenizer = &self.vocabulary.tokenizer;
        let (mut tokens, mut codes) = (Vec::new(), Vec::new());
        if let Some(voice) = voice {
            tokens = tokenizer.encode(&voice.text)?;
            codes.clone_from(&voice.codes);
        }
        tokens.extend(tokenizer.encode(text)?);
        let groups = codes.len() / self.model.codebooks() / self.recipe.rival.group;
        self.recipe.codes().check_prompt(tokens.len(), groups)?;
        Ok(CodePrompt {
            text: tokens,
            voice: codes,
            seed,
        })
    }

    /// Latents of codes, frame after frame, `[1, T, Z]`; none without codes.
    fn latents(&self, codes: Vec<i64>) -> Option<Tensor<3>> {
        let books = self.model.codebooks();
        let frames = codes.len() / books;
        let quantizer = self.codec.quantizer().filter(|_| frames > 0)?;
        let codes = TensorData::new(codes, [1, frames, books]);
        Some(quantizer.latents(Tensor::from_data(codes, &self.device)))
    }

    /// Samples of codes, frame after frame.
    fn decode(&self, codes: Vec<i64>) -> Vec<f32> {
        let latents = self.latents(codes);
        latents.map_or_else(Vec::new, |latents| host_values(self.codec.decode(latents)))
    }
}

impl Speaker for CodeSpeaker {
    type Voice = CodeVoice;

    fn codec(&self) -> &Codec {
        &self.codec
    }

    fn sample_rate_hz(&self) -> u32 {
        CodeSpeaker::sample_rate_hz(self)
    }

    fn frame_rate_hz(&self) -> f64 {
        self.recipe.frame_rate_hz()
    }

    fn voice(&self, text: &str, samples: Vec<f32>) -> Result<CodeVoice, PipelineError> {
        CodeSpeaker::voice(self, text, samples)
    }

    fn accepts(
        &self,
        texts: &[String],
        voice: Option<&CodeVoice>,
        _: &SampleOptions,
    ) -> Result<(), PipelineError> {
        CodeSpeaker::accepts(self, texts, voice)
    }

    fn say(
        &self,
        texts: &[String],
        voice: Option<&CodeVoice>,
        _: &SampleOptions,
        seed: u64,
    ) -> Result<Vec<Speech>, PipelineError> {
        CodeSpeaker::say(self, texts, voice, seed)
    }

    fn time(
        &self,
        text: &str,
        _: &SampleOptions,
        seed: u64,
    ) -> Result<SpeakingTimes, PipelineError> {
        self.stream(text, None, seed, |_| Ok::<(), PipelineError>(()))
    }
}

#[cfg(test)]
mod tests {
    use latentlm::codec_audio::CodecConfig;
    use latentlm_core::conformance::seeded;
    use latentlm_data::{TextTokenizer, TokenizerKind};

    use super::*;

    /// Two codebooks of 64 entries, four samples a frame, speech of at most 40 frames.
    fn speaker(seed: u64, device: &Device) -> CodeSpeaker {
        let mut recipe = CompareTtsRecipe::default();
        recipe.speech.codec = CodecConfig::new()
            .with_ratios(vec![4])
            .with_depths(vec![1, 1])
            .with_width(4);
        let rate_hz = f64::from(recipe.speech.codec.signal().sample_rate_hz);
        recipe.speech.sample.own.max_seconds = 40.0 * 4.0 / rate_hz;
        recipe.rival.codebooks = 2;
        recipe.rival.entries = 64;
        recipe.rival.latent_dim = 3;
        recipe.rival.aligned = false;
        recipe.rival.width = 32;
        recipe.rival.depth = 1;
        recipe.rival.heads = 2;
        recipe.rival.kv_heads = 1;
        recipe.rival.parallel_width = 32;
        recipe.rival.parallel_depth = 1;
        recipe.rival.parallel_heads = 2;
        recipe.rival.parallel_kv_heads = 1;
        let texts = ["ab".to_owned()];
        let vocabulary = TextVocabulary {
            tokenizer: TextTokenizer::train(TokenizerKind::Characters, &texts, 16).unwrap(),
            known: None,
        };
        let config = recipe.code_lm(vocabulary.size());
        CodeSpeaker {
            codec: seeded(seed, device, |device| recipe.codes().init_codec(device)),
            model: seeded(seed, device, |device| config.init(device)),
            vocabulary,
            device: device.clone(),
            notes: Vec::new(),
            recipe,
        }
    }

    /// Several models, since some end soon. Both ways differ by float32's rounding of sums over other numbers of rows.
    #[test]
    fn a_stream_is_what_is_said_at_once() {
        let device = Device::default();
        let mut long = 0;
        for seed in 0..6 {
            let speaker = speaker(seed, &device);
            let said = speaker.say(&["ab".to_owned()], None, seed).unwrap();
            let (mut heard, mut pieces) = (Vec::new(), 0);
            let times = speaker.stream("ab", None, seed, |sound| {
                heard.extend_from_slice(sound);
                pieces += 1;
                Ok::<(), PipelineError>(())
            });
            let times = times.unwrap();
            let samples = &said[0].samples;
            assert_eq!(heard.len(), samples.len(), "{seed}");
            assert_eq!(pieces, samples.len().div_ceil(4 * CHUNK), "{seed}");
            assert_eq!(times.was_cut, said[0].was_cut, "{seed}");
            assert!(times.first_audio_s <= times.total_s);
            for (streamed, whole) in heard.iter().zip(samples) {
                assert!(
                    (streamed - whole).abs() < 1e-5,
                    "{seed}: {streamed} {whole}"
                );
            }
            long += usize::from(pieces > 2);
        }
        assert!(long > 0, "all models end soon");
    }
}
