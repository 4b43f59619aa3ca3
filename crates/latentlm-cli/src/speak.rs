//! `speak`.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use latentlm::SampleOptions;
use latentlm_data::DataError;
use latentlm_data::speech::{WavFile, WavStream};
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
        let sentences = sentences(&self.words().map_err(TrainError::from)?, LONGEST_SENTENCE);
        if sentences.is_empty() {
            let reason = "there is nothing to say: the text is empty".into();
            return Err(TrainError::Data(DataError::Text { reason }).into());
        }
        if self.out.is_dir() {
            return Err(self.unwritten(io::ErrorKind::IsADirectory.into()).into());
        }
        let device = device(&self.drawing.device)?;
        let speaker = Speaker::from_run(&run_path(&self.run), &device)?;
        let voice = match (&self.voice, &self.voice_text) {
            (Some(path), Some(text)) => Some(speaker.voice_from(path, text)?),
            _ => None,
        };
        let options = self.drawing.options(speaker.recipe().sample_options());
        // The last sentence too, before the first is heard.
        speaker.accepts(&sentences, voice.as_ref(), &options)?;
        let said = Said {
            speaker,
            voice,
            sentences,
            options,
        };
        if self.out == Path::new("-") {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                bail!("sound on a terminal helps nobody: pipe it on, or name a file with --out");
            }
            return self.to_stream(&said, stdout.lock());
        }
        // Pipes and devices are written to; a file of another name must not take their place.
        if self.out.exists() && !self.out.is_file() {
            let pipe = File::options().write(true).open(&self.out);
            return self.to_stream(&said, pipe.map_err(|source| self.unwritten(source))?);
        }
        self.to_file(&said)
    }

    fn words(&self) -> Result<String, DataError> {
        let unread = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| DataError::Io {
                action: "read",
                path,
                source,
            }
        };
        if let Some(text) = &self.text {
            return Ok(text.clone());
        }
        if let Some(path) = &self.file {
            return std::fs::read_to_string(path).map_err(unread(path));
        }
        let mut stdin = io::stdin();
        if stdin.is_terminal() {
            let reason = "there is nothing to say: give --text, --file, or text on standard input";
            let reason = reason.into();
            return Err(DataError::Text { reason });
        }
        let mut text = String::new();
        let read = stdin.read_to_string(&mut text);
        read.map_err(unread(Path::new("standard input")))?;
        Ok(text)
    }

    fn unwritten(&self, source: io::Error) -> TrainError {
        TrainError::Data(DataError::Io {
            action: "write",
            path: self.out.clone(),
            source,
        })
    }

    /// Sound by sound. Whoever has heard enough and closes the pipe ends it, which is no failure.
    fn to_stream(&self, said: &Said, writer: impl Write) -> Result<()> {
        let written = WavStream::begin(writer, said.speaker.sample_rate_hz())
            .map_err(|source| self.unwritten(source))
            .and_then(|mut wav| {
                self.say(said, |sound| {
                    wav.write(sound).map_err(|source| self.unwritten(source))
                })
            });
        match written {
            Err(TrainError::Data(DataError::Io { source, .. }))
                if source.kind() == io::ErrorKind::BrokenPipe =>
            {
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    /// The file gets its name when it is whole.
    fn to_file(&self, said: &Said) -> Result<()> {
        let mut file = WavFile::create(&self.out, said.speaker.sample_rate_hz())?;
        let times = self.say(said, |sound| Ok(file.write(sound)?))?;
        file.finish()?;
        println!(
            "{}: {:.2} s of speech in {:.2} s, the first sound after {:.0} ms",
            self.out.display(),
            times.speech_s,
            times.total_s,
            1e3 * times.first_audio_s
        );
        Ok(())
    }

    fn say(
        &self,
        said: &Said,
        mut hear: impl FnMut(&[f32]) -> Result<(), TrainError>,
    ) -> Result<SpeakingTimes, TrainError> {
        let rate = f64::from(said.speaker.sample_rate_hz());
        let pause = vec![0.0; (PAUSE_SECONDS * rate) as usize];
        let mut sum = SpeakingTimes {
            first_audio_s: 0.0,
            total_s: 0.0,
            speech_s: 0.0,
        };
        for (sentence, number) in said.sentences.iter().zip(0..) {
            if number > 0 {
                hear(&pause)?;
                sum.speech_s += PAUSE_SECONDS;
            }
            let how = (&said.options, self.drawing.seed.wrapping_add(number));
            let voice = said.voice.as_ref();
            let times = said.speaker.stream(sentence, voice, how, &mut hear)?;
            if number == 0 {
                sum.first_audio_s = times.first_audio_s;
            }
            sum.total_s += times.total_s;
            sum.speech_s += times.speech_s;
        }
        Ok(sum)
    }
}

/// What is said, by whom.
struct Said {
    speaker: Speaker,
    voice: Option<Voice>,
    sentences: Vec<String>,
    options: SampleOptions,
}
