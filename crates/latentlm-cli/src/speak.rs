//! `speak`.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use latentlm_data::speech::{WavStream, finish_wav_stream, read_audio};
use latentlm_train::{Speaker, SpeakingTimes, TrainError, Voice, sentences};

use crate::device::device;
use crate::sampling::Drawing;
use crate::training::run_path;

/// Characters after which a sentence is cut where it can be.
const LONGEST_SENTENCE: usize = 120;
/// Silence between sentences, in seconds.
const PAUSE_SECONDS: f64 = 0.25;

/// Says a text in the voice of a trained model, sound by sound as it is made
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask speak --run voice --text \"three five nine\" --out hello.wav\n  \
    echo \"monday may third\" | cargo xtask speak --out - | aplay\n  \
    cargo xtask speak --file story.txt --voice me.wav --voice-text \"what I say in it\" --out story.wav")]
pub struct Speak {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "voice")]
    run: String,
    #[command(flatten)]
    drawing: Drawing,
    /// What to say; standard input if neither this nor --file is given
    #[arg(long, conflicts_with = "file")]
    text: Option<String>,
    /// File with what to say
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Recording of a voice to go on with
    #[arg(long, value_name = "FILE", requires = "voice_text")]
    voice: Option<PathBuf>,
    /// What is said in it
    #[arg(long, value_name = "TEXT", requires = "voice")]
    voice_text: Option<String>,
    /// WAV to write as it is made; `-` for standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Speak {
    pub fn run(self) -> Result<()> {
        let text = self.words()?;
        let device = device(&self.drawing.device)?;
        let speaker = Speaker::from_run(&run_path(&self.run), &device)?;
        let voice = match (&self.voice, &self.voice_text) {
            (Some(path), Some(text)) => {
                let audio = read_audio(path)?.resampled(speaker.sample_rate_hz());
                Some(speaker.voice(text, audio.samples)?)
            }
            _ => None,
        };
        let sentences = sentences(&text, LONGEST_SENTENCE);
        if sentences.is_empty() {
            return Err(TrainError::Config {
                reason: "there is nothing to say: the text is empty".into(),
            }
            .into());
        }
        if self.out == Path::new("-") {
            return self.to_stdout(&speaker, voice.as_ref(), &sentences);
        }
        let times = self.to_file(&speaker, voice.as_ref(), &sentences)?;
        println!(
            "{}: {:.2} s of speech in {:.2} s, the first sound after {:.0} ms",
            self.out.display(),
            times.speech_s,
            times.total_s,
            1e3 * times.first_audio_s
        );
        Ok(())
    }

    fn words(&self) -> Result<String> {
        if let Some(text) = &self.text {
            return Ok(text.clone());
        }
        if let Some(path) = &self.file {
            return std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()));
        }
        let mut stdin = std::io::stdin();
        if stdin.is_terminal() {
            bail!("nothing to say: give --text, --file, or text on standard input");
        }
        let mut text = String::new();
        stdin
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        Ok(text)
    }

    fn to_stdout(
        &self,
        speaker: &Speaker,
        voice: Option<&Voice>,
        sentences: &[String],
    ) -> Result<()> {
        let stdout = std::io::stdout();
        if stdout.is_terminal() {
            bail!("sound on a terminal helps nobody: pipe it on, or name a file with --out");
        }
        self.say(speaker, voice, sentences, stdout.lock())?;
        Ok(())
    }

    /// The file gets its name when it is whole.
    fn to_file(
        &self,
        speaker: &Speaker,
        voice: Option<&Voice>,
        sentences: &[String],
    ) -> Result<SpeakingTimes> {
        let context = || format!("cannot write {}", self.out.display());
        let mut file = File::create(&self.out).with_context(context)?;
        let times = self.say(speaker, voice, sentences, &mut file)?;
        finish_wav_stream(&mut file, speaker.sample_rate_hz()).with_context(context)?;
        Ok(times)
    }

    fn say(
        &self,
        speaker: &Speaker,
        voice: Option<&Voice>,
        sentences: &[String],
        writer: impl Write,
    ) -> Result<SpeakingTimes> {
        let rate = speaker.sample_rate_hz();
        let context = || format!("cannot write {}", self.out.display());
        let mut wav = WavStream::begin(writer, rate).with_context(context)?;
        let options = self.drawing.options(speaker.recipe().sample_options());
        let pause = vec![0.0; (PAUSE_SECONDS * f64::from(rate)) as usize];
        let mut sum: Option<SpeakingTimes> = None;
        for (sentence, number) in sentences.iter().zip(0..) {
            if number > 0 {
                wav.write(&pause).with_context(context)?;
            }
            let how = (&options, self.drawing.seed.wrapping_add(number));
            let times = speaker.stream(sentence, voice, how, |sound| -> Result<()> {
                wav.write(sound).with_context(context)
            })?;
            sum = Some(match sum {
                None => times,
                Some(sum) => SpeakingTimes {
                    total_s: sum.total_s + times.total_s,
                    speech_s: sum.speech_s + PAUSE_SECONDS + times.speech_s,
                    ..sum
                },
            });
        }
        sum.context("there is nothing to say")
    }
}
