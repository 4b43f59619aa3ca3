//! `speak` with the run of a rival: a language model of codes, which makes all sound at the end.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use latentlm::core::disk::{is_stream, open_stream};
use latentlm_args::{Speak, run_path, say, tell};
use latentlm_compare::{CodeSpeaker, CompareTtsRecipe};
use latentlm_data::speech::{WavStream, write_wav};
use latentlm_pipelines::RunFolder;

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
    let started = Instant::now();
    let said = speaker.say(&sentences, voice.as_ref(), args.drawing.seed())?;
    let seconds = started.elapsed().as_secs_f64();
    let cut = said.iter().filter(|speech| speech.was_cut).count();
    let rate = speaker.sample_rate_hz();
    let pause = vec![0.0; (PAUSE_SECONDS * f64::from(rate)) as usize];
    let mut sounds = said.into_iter().map(|speech| speech.samples);
    let mut spoken = Vec::with_capacity(texts.len());
    for text in texts {
        let own: Vec<Vec<f32>> = sounds.by_ref().take(text.sentences.len()).collect();
        spoken.push((text.number, own.join(&pause[..])));
    }
    if args.each {
        std::fs::create_dir_all(&args.out).map_err(|source| unwritten(args, source))?;
        let largest = texts.last().map_or(0, |text| text.number);
        let digits = largest.to_string().len().max(3);
        for (number, samples) in &spoken {
            let path = args.out.join(format!("{number:0digits$}.wav"));
            write_wav(&path, samples, rate)?;
            say!(
                "{}: {:.2} s",
                path.display(),
                samples.len() as f64 / f64::from(rate)
            );
        }
    } else {
        // Without --each all input is one text.
        let samples = spoken.pop().map_or_else(Vec::new, |(_, samples)| samples);
        write(args, &samples, rate, seconds)?;
    }
    if cut > 0 {
        let all = sentences.len();
        let most = speaker.recipe().speech.sample.own.max_seconds;
        tell!(
            "{cut} of {all} sentences did not end by themselves and were cut at {most} s \
             (speech.sample.max_seconds)"
        );
    }
    Ok(())
}

/// Writes one sound to where the arguments say.
fn write(args: &Speak, samples: &[f32], rate: u32, seconds: f64) -> Result<()> {
    if args.out == Path::new("-") {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            bail!("sound on a terminal helps nobody: pipe it on, or name a file with --out");
        }
        return to_stream(args, samples, rate, stdout.lock());
    }
    if is_stream(&args.out) {
        let pipe = open_stream(&args.out).map_err(|source| unwritten(args, source))?;
        return to_stream(args, samples, rate, pipe);
    }
    write_wav(&args.out, samples, rate)?;
    say!(
        "{}: {:.2} s of speech in {seconds:.2} s",
        args.out.display(),
        samples.len() as f64 / f64::from(rate)
    );
    Ok(())
}

/// Writes a sound into a pipe. If the reader closes it, speech ends without an error.
fn to_stream(args: &Speak, samples: &[f32], rate: u32, writer: impl Write) -> Result<()> {
    let written = WavStream::begin(writer, rate).and_then(|mut wav| wav.write(samples));
    match written {
        Err(source) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(source) => Err(unwritten(args, source).into()),
        Ok(()) => Ok(()),
    }
}
