//! `speak` with the run of a rival: a language model of codes, which makes the sound of a sentence when all its codes are
//! drawn.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use latentlm::core::disk::{is_stream, open_stream};
use latentlm_args::{Speak, run_path, say, tell};
use latentlm_compare::{CodeSpeaker, CodeVoice, CompareTtsRecipe};
use latentlm_data::DataError;
use latentlm_data::speech::{WavStream, write_wav};
use latentlm_pipelines::{PipelineError, RunFolder};

use crate::device::device;
use crate::notes;
use crate::texts::{PAUSE_SECONDS, Text, sentences_of, unwritten};

/// Whether a run is one of a comparison on speech.
pub fn is_rival(path: &Path) -> bool {
    RunFolder::<CompareTtsRecipe>::open(path).is_ok()
}

/// Speaks texts into a file, a folder or standard output.
pub fn run(args: &Speak, texts: &[Text]) -> Result<()> {
    let device = device(&args.drawing.device)?;
    let speaker = CodeSpeaker::from_run(&run_path(&args.run), &device)?;
    notes::show(&speaker.notes);
    let voice = match (args.voice.first(), &args.voice_text) {
        (Some(path), Some(text)) => Some(speaker.voice_from(path, text)?),
        _ => None,
    };
    let sentences = sentences_of(texts);
    speaker.accepts(&sentences, voice.as_ref())?;
    let mut read = sentences.clone();
    read.extend(args.voice_text.clone());
    let unheard = speaker.unheard(&read);
    if !unheard.is_empty() {
        tell!("{unheard}: these may sound like anything");
    }
    let said = Said {
        args,
        speaker,
        voice,
        sentences,
    };
    let cut = said.write(texts)?;
    if cut > 0 {
        let all = said.sentences.len();
        let most = said.speaker.recipe().speech.sample.own.max_seconds;
        tell!(
            "{cut} of {all} sentences did not end by themselves and were cut at {most} s \
             (speech.sample.max_seconds)"
        );
    }
    Ok(())
}

/// A request to speak.
struct Said<'a> {
    args: &'a Speak,
    speaker: CodeSpeaker,
    voice: Option<CodeVoice>,
    sentences: Vec<String>,
}

impl Said<'_> {
    /// Writes sound to where the arguments say. Returns the number of sentences that were cut.
    fn write(&self, texts: &[Text]) -> Result<usize> {
        let args = self.args;
        if args.each {
            return self.to_folder(texts);
        }
        if args.out == Path::new("-") {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                bail!("sound on a terminal helps nobody: pipe it on, or name a file with --out");
            }
            return self.to_stream(stdout.lock());
        }
        if is_stream(&args.out) {
            let pipe = open_stream(&args.out).map_err(|source| unwritten(args, source))?;
            return self.to_stream(pipe);
        }
        self.to_file()
    }

    /// The sounds of all sentences, which are drawn together, and the number of those that were cut.
    fn say(&self) -> Result<(Vec<Vec<f32>>, usize)> {
        let (voice, seed) = (self.voice.as_ref(), self.args.drawing.seed());
        let said = self.speaker.say(&self.sentences, voice, seed)?;
        let cut = said.iter().filter(|speech| speech.was_cut).count();
        let sounds = said.into_iter().map(|speech| speech.samples);
        Ok((sounds.collect(), cut))
    }

    /// The silence between two sentences, in samples.
    fn pause(&self) -> Vec<f32> {
        let rate = f64::from(self.speaker.sample_rate_hz());
        vec![0.0; (PAUSE_SECONDS * rate) as usize]
    }

    /// Writes one file per text.
    fn to_folder(&self, texts: &[Text]) -> Result<usize> {
        let (args, rate) = (self.args, self.speaker.sample_rate_hz());
        let (sounds, cut) = self.say()?;
        let (mut sounds, pause) = (sounds.into_iter(), self.pause());
        std::fs::create_dir_all(&args.out).map_err(|source| unwritten(args, source))?;
        let largest = texts.last().map_or(0, |text| text.number);
        let digits = largest.to_string().len().max(3);
        for text in texts {
            let own: Vec<Vec<f32>> = sounds.by_ref().take(text.sentences.len()).collect();
            let (samples, number) = (own.join(&pause[..]), text.number);
            let path = args.out.join(format!("{number:0digits$}.wav"));
            write_wav(&path, &samples, rate)?;
            let seconds = samples.len() as f64 / f64::from(rate);
            say!("{}: {seconds:.2} s", path.display());
        }
        Ok(cut)
    }

    /// Writes all sentences as one text.
    fn to_file(&self) -> Result<usize> {
        let (path, rate) = (&self.args.out, self.speaker.sample_rate_hz());
        let started = Instant::now();
        let (sounds, cut) = self.say()?;
        let taken_s = started.elapsed().as_secs_f64();
        let samples = sounds.join(&self.pause()[..]);
        write_wav(path, &samples, rate)?;
        let seconds = samples.len() as f64 / f64::from(rate);
        say!(
            "{}: {seconds:.2} s of speech in {taken_s:.2} s",
            path.display()
        );
        Ok(cut)
    }

    /// Writes one sentence after the other into a pipe, each while it is decoded. If the reader closes the pipe, speech ends
    /// without an error.
    fn to_stream(&self, writer: impl Write) -> Result<usize> {
        let args = self.args;
        let written = WavStream::begin(writer, self.speaker.sample_rate_hz())
            .map_err(|source| unwritten(args, source))
            .and_then(|mut wav| {
                self.stream(|sound| wav.write(sound).map_err(|source| unwritten(args, source)))
            });
        match written {
            Err(PipelineError::Data(DataError::Io { source, .. }))
                if source.kind() == io::ErrorKind::BrokenPipe =>
            {
                Ok(0)
            }
            written => Ok(written?),
        }
    }

    /// Says one sentence after the other, each with the seed that it has in a file. Returns the number of those that were cut.
    fn stream(
        &self,
        mut hear: impl FnMut(&[f32]) -> Result<(), PipelineError>,
    ) -> Result<usize, PipelineError> {
        let (pause, mut cut) = (self.pause(), 0);
        for (sentence, number) in self.sentences.iter().zip(0..) {
            if number > 0 {
                hear(&pause)?;
            }
            let (voice, seed) = (self.voice.as_ref(), self.args.drawing.seed());
            let seed = seed.wrapping_add(number);
            let times = self.speaker.stream(sentence, voice, seed, &mut hear)?;
            cut += usize::from(times.was_cut);
        }
        Ok(cut)
    }
}
