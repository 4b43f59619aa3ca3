//! Shared code of dialogues and of texts that arrive: the solver, where the sound goes, and a summary.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use burn::tensor::Tensor;
use latentlm::{SampleOptions, Sampler};
use latentlm_args::{DialogueSampler, Speak, say, tell};
use latentlm_data::DataError;
use latentlm_data::speech::{GrowingWav, WavStream};
use latentlm_vibevoice::End;

use crate::phase::print;
use crate::published::RATE_HZ;
use crate::stream::{self, is_read};

/// The solver that was asked for.
pub(crate) fn sampler(args: &Speak) -> Sampler {
    match args.dialogue.sampler {
        Some(DialogueSampler::Sde) => Sampler::SdeDpmSolverPlusPlus,
        Some(DialogueSampler::Dpm) | None => Sampler::DpmSolverPlusPlus,
    }
}

/// Largest scale of guidance, as that of `--guidance`; the smallest is its negative.
const MOST_GUIDANCE: f64 = 1000.0;

/// Refuses sampling options that no solver can follow: a model's folder may ask for any. `timesteps` are the model's.
pub(crate) fn check_sample(sample: &SampleOptions, timesteps: usize) -> Result<()> {
    let (steps, guidance) = (sample.steps, sample.guidance_scale);
    ensure!(
        (1..timesteps).contains(&steps),
        "solver steps must be in 1..{timesteps}, not {steps}: give their number with --steps"
    );
    ensure!(
        guidance.abs() <= MOST_GUIDANCE,
        "the guidance must be a number from -{MOST_GUIDANCE} to {MOST_GUIDANCE}, not {guidance:e}: give it with --guidance"
    );
    Ok(())
}

/// Replaces the typographic apostrophe by a keyboard's: all that the demo of the models of dialogues folds.
pub(crate) fn fold_apostrophes(text: &str) -> String {
    text.replace('\u{2019}', "'")
}

/// Replaces the typographic apostrophe and double quotes by a keyboard's, as the demo of the Realtime model does.
pub(crate) fn fold_quotes(text: &str) -> String {
    fold_apostrophes(text).replace(['\u{201c}', '\u{201d}'], "\"")
}

/// Amount of speech, and the time that it took.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) samples: usize,
    /// Samples beyond full scale.
    clipped: usize,
    first_sound_s: f64,
    total_s: f64,
    pub(crate) nobody_listens: bool,
}

impl Said {
    /// Writes the sound of a frame, `[1, H]`, and shows how far it is.
    pub(crate) fn hear(
        &mut self,
        sound: Tensor<2>,
        output: &mut Output,
        begun: Instant,
    ) -> Result<(), DataError> {
        let sound = sound.into_data().convert::<f32>();
        let samples = sound.as_slice::<f32>().unwrap_or_default();
        if self.samples == 0 {
            self.first_sound_s = begun.elapsed().as_secs_f64();
        }
        self.samples += samples.len();
        self.clipped += samples.iter().filter(|sample| sample.abs() > 1.0).count();
        self.nobody_listens = !output.write(samples)?;
        self.total_s = begun.elapsed().as_secs_f64();
        if !self.nobody_listens && io::stderr().is_terminal() {
            print(&format!("\r{}  ", self.progress()));
        }
        Ok(())
    }

    /// Notes the time at the end.
    pub(crate) fn end(&mut self, begun: Instant) {
        self.total_s = begun.elapsed().as_secs_f64();
        if self.samples > 0 && io::stderr().is_terminal() {
            print("\n");
        }
    }

    /// Seconds of sound, and the real-time factor: the time since the first sound, divided by these seconds.
    fn progress(&self) -> String {
        let seconds = self.samples as f64 / f64::from(RATE_HZ);
        let factor = (self.total_s - self.first_sound_s) / seconds.max(f64::MIN_POSITIVE);
        format!("{seconds:.1} s of speech, real-time factor {factor:.2}")
    }

    /// Prints a summary; on standard error if sound may be on standard output.
    pub(crate) fn tell(&self, args: &Speak, end: Option<End>, is_stream: bool) {
        let line = format!(
            "{}: {} in {:.1} s, the first sound after {:.1} s",
            args.out.display(),
            self.progress(),
            self.total_s,
            self.first_sound_s
        );
        if is_stream {
            tell!("{line}");
        } else {
            say!("{line}");
        }
        let cut = match end {
            None => Some("it was stopped"),
            // Numbers that are not finite are an error of their own.
            Some(End::Spoken | End::Forced | End::NotFinite) => None,
            Some(End::Frames) => Some("--max-seconds was reached"),
            Some(End::Steps) => Some("the model's limit on tokens was reached"),
            Some(End::Positions) => Some("the model's context is full"),
        };
        if let Some(why) = cut {
            tell!("the dialogue was cut: {why}");
        }
        if self.clipped > 0 {
            tell!("{} samples beyond full scale were clipped", self.clipped);
        }
    }
}

/// Fails if speech ended because the model's numbers were not finite.
pub(crate) fn check_finite(end: Option<End>) -> Result<()> {
    ensure!(
        end != Some(End::NotFinite),
        "the model's numbers are not finite: its weights are damaged"
    );
    Ok(())
}

/// Where sound goes.
pub(crate) enum Output {
    File(GrowingWav),
    /// Standard output, a pipe or a device: nothing in it can be changed later, so its header leaves the length
    /// open.
    Stream {
        wav: WavStream<Box<dyn Write>>,
        path: PathBuf,
    },
}

impl Output {
    /// Writes a header; `None` if the reader is gone.
    pub(crate) fn begin(path: &Path) -> Result<Option<Self>, DataError> {
        let Some(writer) = stream::open(path)? else {
            return Ok(Some(Self::File(GrowingWav::create(path, RATE_HZ)?)));
        };
        match WavStream::begin(writer, RATE_HZ) {
            Ok(wav) => Ok(Some(Self::Stream {
                wav,
                path: path.to_owned(),
            })),
            Err(error) => {
                is_read(path, Err(error))?;
                Ok(None)
            }
        }
    }

    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream { .. })
    }

    /// Writes samples; false if the reader is gone.
    pub(crate) fn write(&mut self, samples: &[f32]) -> Result<bool, DataError> {
        match self {
            Self::File(file) => Ok(file.write(samples).map(|()| true)?),
            Self::Stream { wav, path } => Ok(is_read(path, wav.write(samples))?),
        }
    }

    pub(crate) fn finish(self) -> Result<(), DataError> {
        match self {
            Self::File(file) => Ok(file.finish()?),
            Self::Stream { wav, path } => {
                is_read(&path, wav.into_inner().flush())?;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn samples_beyond_full_scale_are_clipped_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wav");
        let mut output = Output::begin(&path).unwrap().unwrap();
        let mut said = Said::default();
        let device = Device::default();
        let sound = Tensor::<2>::from_floats([[0.5, -1.5, 1.0, 2.0, -1.0]], &device);
        said.hear(sound, &mut output, Instant::now()).unwrap();
        output.finish().unwrap();
        assert_eq!((said.samples, said.clipped), (5, 2));
        let bytes = std::fs::read(&path).unwrap();
        let words = bytes[44..].chunks_exact(2);
        let levels: Vec<i16> = words.map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
        assert_eq!(levels, [16_384, -32_768, 32_767, 32_767, -32_768]);
    }

    #[test]
    fn what_no_solver_can_follow_is_refused() {
        let fine = SampleOptions {
            steps: 10,
            guidance_scale: 1.3,
            ..SampleOptions::default()
        };
        let with_steps = |steps| SampleOptions { steps, ..fine };
        let guided = |guidance_scale| SampleOptions {
            guidance_scale,
            ..fine
        };
        for options in [fine, with_steps(1), with_steps(999), guided(-1000.0)] {
            check_sample(&options, 1000).unwrap();
        }
        for (options, part) in [
            (with_steps(0), "in 1..1000, not 0"),
            (with_steps(1000), "in 1..1000, not 1000"),
            (with_steps(usize::MAX), "--steps"),
            (guided(1e300), "from -1000 to 1000"),
            (guided(f64::NAN), "not NaN: give it with --guidance"),
        ] {
            let told = check_sample(&options, 1000).unwrap_err().to_string();
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn quotes_are_folded_as_each_demo_folds_them() {
        let text = "it\u{2019}s \u{201c}na\u{ef}ve\u{201d}, \u{2018}said\u{2019} \u{4f60}\u{597d}";
        let dialogue = "it's \u{201c}na\u{ef}ve\u{201d}, \u{2018}said' \u{4f60}\u{597d}";
        let realtime = "it's \"na\u{ef}ve\", \u{2018}said' \u{4f60}\u{597d}";
        assert_eq!(fold_apostrophes(text), dialogue);
        assert_eq!(fold_quotes(text), realtime);
    }
}
