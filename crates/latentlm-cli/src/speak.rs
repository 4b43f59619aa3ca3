//! `speak`.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use anyhow::{Result, bail};
use latentlm::SampleOptions;
use latentlm_args::{Speak, run_path};
use latentlm_data::DataError;
use latentlm_data::speech::{WavFile, WavStream, write_wav};
use latentlm_pipelines::{PipelineError, SpeakingTimes, SpeechPipeline, Voice, sentences};

use crate::device::device;
use crate::sampling;

/// Length in characters above which a sentence is cut, if it has a place for it.
const LONGEST_SENTENCE: usize = 120;
/// Silence between sentences, in seconds.
const PAUSE_SECONDS: f64 = 0.25;
/// Number of texts that are spoken at once; their sound is held in memory until the files are written.
const TEXTS_AT_ONCE: usize = 16;

/// Speaks texts into a file, a folder or standard output.
pub fn run(args: Speak) -> Result<()> {
    let args = &args;
    let texts = texts(args).map_err(PipelineError::from)?;
    if texts.is_empty() {
        let reason = "there is nothing to say: the text is empty".into();
        return Err(PipelineError::Data(DataError::Text { reason }).into());
    }
    let device = device(&args.drawing.device)?;
    let speaker = SpeechPipeline::from_run(&run_path(&args.run), &device)?;
    let voice = match (&args.voice, &args.voice_text) {
        (Some(path), Some(text)) => Some(speaker.voice_from(path, text)?),
        _ => None,
    };
    let options = sampling::options(&args.drawing, speaker.recipe().sample_options())?;
    // Checks all sentences before the first is spoken.
    speaker.accepts(&texts.concat(), voice.as_ref(), &options)?;
    let unheard = speaker.unheard(&texts.concat());
    if !unheard.is_empty() {
        eprintln!("{unheard}: these may sound like anything");
    }
    let said = Said {
        speaker,
        voice,
        texts,
        options,
    };
    if args.each {
        return to_folder(args, &said);
    }
    if args.out == Path::new("-") {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            bail!("sound on a terminal helps nobody: pipe it on, or name a file with --out");
        }
        return to_stream(args, &said, stdout.lock());
    }
    // A pipe or device is written in place. `to_file` would replace it by a regular file.
    if args.out.exists() && !args.out.is_file() {
        let pipe = File::options().write(true).open(&args.out);
        return to_stream(args, &said, pipe.map_err(|source| unwritten(args, source))?);
    }
    to_file(args, &said)
}

/// The texts, each cut into sentences; empty texts are left out. Without --each, all input is one text.
fn texts(args: &Speak) -> Result<Vec<Vec<String>>, DataError> {
    let words = words(args)?;
    let mut texts: Vec<Vec<String>> = Vec::new();
    if args.each {
        for line in words.iter().flat_map(|text| text.lines()) {
            texts.push(sentences(line, LONGEST_SENTENCE));
        }
    } else {
        let mut all: Vec<String> = Vec::new();
        for text in &words {
            all.extend(sentences(text, LONGEST_SENTENCE));
        }
        texts.push(all);
    }
    texts.retain(|sentences| !sentences.is_empty());
    Ok(texts)
}

fn words(args: &Speak) -> Result<Vec<String>, DataError> {
    let unread = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| DataError::Io {
            action: "read",
            path,
            source,
        }
    };
    if !args.text.is_empty() {
        return Ok(args.text.clone());
    }
    if let Some(path) = &args.file {
        let text = std::fs::read_to_string(path).map_err(unread(path))?;
        return Ok(vec![text]);
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
    Ok(vec![text])
}

fn unwritten(args: &Speak, source: io::Error) -> PipelineError {
    PipelineError::Data(DataError::Io {
        action: "write",
        path: args.out.clone(),
        source,
    })
}

/// Writes sound while it is generated. If the reader closes the pipe, speech ends without an error.
fn to_stream(args: &Speak, said: &Said, writer: impl Write) -> Result<()> {
    let written = WavStream::begin(writer, said.speaker.sample_rate_hz())
        .map_err(|source| unwritten(args, source))
        .and_then(|mut wav| {
            say(args, said, |sound| {
                wav.write(sound).map_err(|source| unwritten(args, source))
            })
        });
    match written {
        Err(PipelineError::Data(DataError::Io { source, .. }))
            if source.kind() == io::ErrorKind::BrokenPipe =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok((_, cut)) => {
            said.tell_of_cuts(cut);
            Ok(())
        }
    }
}

/// Writes a file. It gets its name only when it is complete.
fn to_file(args: &Speak, said: &Said) -> Result<()> {
    let mut file = WavFile::create(&args.out, said.speaker.sample_rate_hz())?;
    let (times, cut) = say(args, said, |sound| Ok(file.write(sound)?))?;
    file.finish()?;
    println!(
        "{}: {:.2} s of speech in {:.2} s, the first sound after {:.0} ms",
        args.out.display(),
        times.speech_s,
        times.total_s,
        1e3 * times.first_audio_s
    );
    said.tell_of_cuts(cut);
    Ok(())
}

/// Writes one file per text. The seed is increased by one for each sentence, as in a single file.
fn to_folder(args: &Speak, said: &Said) -> Result<()> {
    std::fs::create_dir_all(&args.out).map_err(|source| unwritten(args, source))?;
    let (rate, pause) = (said.speaker.sample_rate_hz(), said.pause());
    let digits = said.texts.len().to_string().len().max(3);
    let (mut number, mut seed, mut cut) = (0, args.drawing.seed, 0);
    for texts in said.texts.chunks(TEXTS_AT_ONCE) {
        let (sentences, voice) = (texts.concat(), said.voice.as_ref());
        let speech = said.speaker.say(&sentences, voice, &said.options, seed)?;
        seed = seed.wrapping_add(sentences.len() as u64);
        cut += speech.iter().filter(|speech| speech.was_cut).count();
        let mut sounds = speech.into_iter().map(|speech| speech.samples);
        for sentences in texts {
            let own: Vec<Vec<f32>> = sounds.by_ref().take(sentences.len()).collect();
            let samples = own.join(&pause[..]);
            number += 1;
            let path = args.out.join(format!("{number:0digits$}.wav"));
            write_wav(&path, &samples, rate)?;
            let seconds = samples.len() as f64 / f64::from(rate);
            println!("{}: {seconds:.2} s", path.display());
        }
    }
    said.tell_of_cuts(cut);
    Ok(())
}

/// Speaks all sentences. Returns the times, and the number of sentences that were cut.
fn say(
    args: &Speak,
    said: &Said,
    mut hear: impl FnMut(&[f32]) -> Result<(), PipelineError>,
) -> Result<(SpeakingTimes, usize), PipelineError> {
    let (pause, mut cut) = (said.pause(), 0);
    let mut sum = SpeakingTimes {
        first_audio_s: 0.0,
        total_s: 0.0,
        speech_s: 0.0,
        was_cut: false,
    };
    for (sentence, number) in said.texts.iter().flatten().zip(0..) {
        if number > 0 {
            hear(&pause)?;
            sum.speech_s += PAUSE_SECONDS;
        }
        let (options, voice) = (&said.options, said.voice.as_ref());
        let seed = args.drawing.seed.wrapping_add(number);
        let times = said
            .speaker
            .stream(sentence, voice, options, seed, &mut hear)?;
        if number == 0 {
            sum.first_audio_s = times.first_audio_s;
        }
        sum.total_s += times.total_s;
        sum.speech_s += times.speech_s;
        sum.was_cut |= times.was_cut;
        cut += usize::from(times.was_cut);
    }
    Ok((sum, cut))
}

/// A request to speak: texts, voice and options.
struct Said {
    speaker: SpeechPipeline,
    voice: Option<Voice>,
    /// The texts, each as a list of sentences.
    texts: Vec<Vec<String>>,
    options: SampleOptions,
}

impl Said {
    /// The silence between two sentences, in samples.
    fn pause(&self) -> Vec<f32> {
        let rate = f64::from(self.speaker.sample_rate_hz());
        vec![0.0; (PAUSE_SECONDS * rate) as usize]
    }

    /// Warns about sentences that did not end by themselves. On standard error, because standard output may
    /// carry the sound.
    fn tell_of_cuts(&self, cut: usize) {
        let all = self.texts.iter().flatten().count();
        let seconds = self.speaker.recipe().sample.max_seconds;
        if cut > 0 {
            eprintln!(
                "{cut} of {all} sentences did not end by themselves and were cut at {seconds} s \
                 (sample.max_seconds)"
            );
        }
    }
}
