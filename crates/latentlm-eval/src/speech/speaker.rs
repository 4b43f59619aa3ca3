//! The contract of what speaks and is measured.

use latentlm::SampleOptions;
use latentlm::codec_audio::Codec;
use latentlm_pipelines::{PipelineError, SpeakingTimes, Speech, SpeechPipeline, Voice};

/// What speaks: a pipeline, or a rival of it.
pub trait Speaker {
    /// A voice to continue.
    type Voice;

    /// The codec that decodes its speech.
    fn codec(&self) -> &Codec;

    /// Samples per second.
    fn sample_rate_hz(&self) -> u32;

    /// Latents per second, or frames of codes.
    fn frame_rate_hz(&self) -> f64;

    /// A voice to continue, from a recording at [`sample_rate_hz`](Self::sample_rate_hz) and its words.
    ///
    /// # Errors
    /// If the recording is too short or too long, or there are no words.
    fn voice(&self, text: &str, samples: Vec<f32>) -> Result<Self::Voice, PipelineError>;

    /// Whether all of some texts can be said.
    ///
    /// # Errors
    /// If a text is empty, too long, or has characters outside the vocabulary.
    fn accepts(
        &self,
        texts: &[String],
        voice: Option<&Self::Voice>,
        options: &SampleOptions,
    ) -> Result<(), PipelineError>;

    /// Says texts.
    ///
    /// # Errors
    /// As [`accepts`](Self::accepts).
    fn say(
        &self,
        texts: &[String],
        voice: Option<&Self::Voice>,
        options: &SampleOptions,
        seed: u64,
    ) -> Result<Vec<Speech>, PipelineError>;

    /// Says a text as fast as it can be heard, and tells how long that took.
    ///
    /// # Errors
    /// As [`accepts`](Self::accepts).
    fn time(
        &self,
        text: &str,
        options: &SampleOptions,
        seed: u64,
    ) -> Result<SpeakingTimes, PipelineError>;
}

impl Speaker for SpeechPipeline {
    type Voice = Voice;

    fn codec(&self) -> &Codec {
        &self.codec
    }

    fn sample_rate_hz(&self) -> u32 {
        SpeechPipeline::sample_rate_hz(self)
    }

    fn frame_rate_hz(&self) -> f64 {
        self.recipe().frame_rate_hz()
    }

    fn voice(&self, text: &str, samples: Vec<f32>) -> Result<Voice, PipelineError> {
        SpeechPipeline::voice(self, text, samples)
    }

    fn accepts(
        &self,
        texts: &[String],
        voice: Option<&Voice>,
        options: &SampleOptions,
    ) -> Result<(), PipelineError> {
        SpeechPipeline::accepts(self, texts, voice, options)
    }

    fn say(
        &self,
        texts: &[String],
        voice: Option<&Voice>,
        options: &SampleOptions,
        seed: u64,
    ) -> Result<Vec<Speech>, PipelineError> {
        SpeechPipeline::say(self, texts, voice, options, seed)
    }

    fn time(
        &self,
        text: &str,
        options: &SampleOptions,
        seed: u64,
    ) -> Result<SpeakingTimes, PipelineError> {
        self.stream(text, None, options, seed, |_| Ok::<(), PipelineError>(()))
    }
}
