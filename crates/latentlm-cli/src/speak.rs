//! `speak`.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::{Result, bail};
use latentlm::SampleOptions;
use latentlm::core::disk::{is_stream, open_stream};
use latentlm_args::{Speak, run_path, say, tell};
use latentlm_data::DataError;
use latentlm_data::speech::{WavFile, WavStream, write_wav};
use latentlm_pipelines::{PipelineError, SpeakingTimes, SpeechPipeline, Voice};

use crate::device::device;
use crate::texts::{PAUSE_SECONDS, Text, sentences_of, texts, unwritten};
use crate::{notes, sampling};

/// Number of texts that are spoken at once; their sound is held in memory until the files are written.
const TEXTS_AT_ONCE: usize = 16;

/// Speaks texts into a file, a folder or standard output.
pub fn run(args: Speak) -> Result<()> {
    let args = &args;
    if let Some(model) = &args.dialogue.model {
        return dialogue(args, model);
    }
    let texts = texts(args).map_err(PipelineError::from)?;
    if texts.is_empty() {
        let reason = "there is nothing to say: the text is empty".into();
        return Err(PipelineError::Data(DataError::Text { reason }).into());
    }
    #[cfg(feature = "compare")]
    if crate::speak_codes::is_rival(&run_path(&args.run)) {
        return crate::speak_codes::run(args, &texts);
    }
    let device = device(&args.drawing.device)?;
    let speaker = SpeechPipeline::from_run(&run_path(&args.run), &device)?;
    notes::show(&speaker.notes);
    let voice = match (args.voice.first(), &args.voice_text) {
        (Some(path), Some(text)) => Some(speaker.voice_from(path, text)?),
        _ => None,
    };
    let options = sampling::options(&args.drawing, speaker.recipe().sample_options())?;
    // Checks all sentences before the first is spoken.
    let all = sentences_of(&texts);
    speaker.accepts(&all, voice.as_ref(), &options)?;
    // The text of the voice is read with them.
    let mut read = all.clone();
    read.extend(args.voice_text.clone());
    let unheard = speaker.unheard(&read);
    if !unheard.is_empty() {
        tell!("{unheard}: these may sound like anything");
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
    if is_stream(&args.out) {
        let pipe = open_stream(&args.out);
        return to_stream(args, &said, pipe.map_err(|source| unwritten(args, source))?);
    }
    to_file(args, &said)
}

#[cfg(feature = "published")]
fn dialogue(args: &Speak, model: &Path) -> Result<()> {
    crate::dialogue::run(args, model)
}

#[cfg(not(feature = "published"))]
fn dialogue(_: &Speak, model: &Path) -> Result<()> {
    bail!(
        "{}: this binary was built without the feature published, which a fork with parts of its own can't \
         have",
        model.display()
    )
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
    let (times, cut) = say(args, said, |sound| {
        Ok(file.write(sound).map_err(DataError::from)?)
    })?;
    file.finish()?;
    say!(
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
    let largest = said.texts.last().map_or(0, |text| text.number);
    let digits = largest.to_string().len().max(3);
    let (mut seed, mut cut) = (args.drawing.seed(), 0);
    for texts in said.texts.chunks(TEXTS_AT_ONCE) {
        let (sentences, voice) = (sentences_of(texts), said.voice.as_ref());
        let speech = said.speaker.say(&sentences, voice, &said.options, seed)?;
        seed = seed.wrapping_add(sentences.len() as u64);
        cut += speech.iter().filter(|speech| speech.was_cut).count();
        let mut sounds = speech.into_iter().map(|speech| speech.samples);
        for text in texts {
            let number = text.number;
            let own: Vec<Vec<f32>> = sounds.by_ref().take(text.sentences.len()).collect();
            let samples = own.join(&pause[..]);
            let path = args.out.join(format!("{number:0digits$}.wav"));
            write_wav(&path, &samples, rate)?;
            let seconds = samples.len() as f64 / f64::from(rate);
            say!("{}: {seconds:.2} s", path.display());
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
    for (sentence, number) in sentences_of(&said.texts).iter().zip(0..) {
        if number > 0 {
            hear(&pause)?;
            sum.speech_s += PAUSE_SECONDS;
        }
        let (options, voice) = (&said.options, said.voice.as_ref());
        let seed = args.drawing.seed().wrapping_add(number);
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
    texts: Vec<Text>,
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
        let all = sentences_of(&self.texts).len();
        let seconds = self.speaker.recipe().sample.own.max_seconds;
        if cut > 0 {
            tell!(
                "{cut} of {all} sentences did not end by themselves and were cut at {seconds} s \
                 (sample.max_seconds)"
            );
        }
    }
}
