//! `speak --model` with a Realtime model: text is spoken while it arrives.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use latentlm::core::disk::bytes_within;
use latentlm::{LatentHead, RandomStream, SampleOptions};
use latentlm_args::{MOST_TEXT_BYTES, Speak, numbered_voice, tell};
use latentlm_data::{DataError, TextTokenizer};
use latentlm_published::{load_realtime, read_realtime_config, read_voice};
use latentlm_train::Interrupter;
use latentlm_vibevoice::{
    FrameNoise, RealtimeOptions, RealtimeStep, RealtimeStream, RealtimeText, SavedVoice,
};

use crate::device::device;
use crate::kv_cache::cache_numbers;
use crate::published::{RATE_HZ, drawn_seed, tokenizer, weight_type};
use crate::said::{Output, Said, check_finite, check_sample, fold_quotes, sampler};
use crate::{sampling, signals};

/// How long more text is waited for at a time, before the next look for a signal.
const MOMENT: Duration = Duration::from_millis(50);
/// Bytes of standard input that are read at once.
const PIECE: usize = 4096;
/// Pieces that may wait.
const PIECES: usize = 64;

/// Speaks a text. Nothing is written before model, voice and the first words are read.
pub(crate) fn run(args: &Speak, folder: &Path) -> Result<()> {
    let begun = Instant::now();
    ensure!(
        args.dialogue.script.is_none(),
        "a Realtime model says no dialogues: give --text, --file or standard input in the place of --script"
    );
    let json = read_realtime_config(folder)?;
    let default = RealtimeOptions::default();
    let sample = SampleOptions {
        sampler: sampler(args),
        ..default.sample
    };
    let sample = sampling::changed(&args.drawing, sample);
    check_sample(&sample, json.model().head.num_train_timesteps)?;
    let voice = saved_voice(&args.voice)?;
    let tokenizer = tokenizer(folder, args.dialogue.tokenizer.as_deref())?;
    let mut input = Input::open(args)?;
    let (weights, drawing) = (args.dialogue.weights, &args.drawing);
    let weights = weight_type(weights, drawing.precision, &drawing.device)?;
    let numbers = cache_numbers(args.dialogue.kv_cache, &drawing.device)?;
    let mut model = load_realtime(folder, weights, &device(&args.drawing.device)?)?;
    model.head.prepare_sampling();
    model.text_lm.set_cache_numbers(numbers);
    model.speech_lm.set_cache_numbers(numbers);
    ensure!(
        tokenizer.vocabulary() <= model.vocabulary(),
        "the tokenizer is not the model's: it has {} tokens, the model {}",
        tokenizer.vocabulary(),
        model.vocabulary()
    );
    let hop = model.hop_samples() as f64;
    let frames = |seconds: f64| (seconds * f64::from(RATE_HZ) / hop).ceil() as usize;
    let options = RealtimeOptions {
        sample,
        max_frames: args.dialogue.max_seconds.map_or(usize::MAX, frames),
        forced_frames: args.dialogue.frames,
        max_positions: json.max_positions().unwrap_or(default.max_positions),
    };
    let seed = args.drawing.seed.unwrap_or_else(drawn_seed);
    let noise = FrameNoise::Drawn(RandomStream::new(seed));
    let mut stream = model.speak(&voice, options, noise)?;
    while input.is_blank() {
        ensure!(
            input.is_open(),
            "there is nothing to say: the text is empty"
        );
        input.hand_on(&mut stream, &tokenizer, MOMENT)?;
    }
    if args.drawing.seed.is_none() {
        tell!("--seed {seed}");
    }
    // Until here nothing is written, and signals end the process at once.
    let Some(mut output) = Output::begin(&args.out)? else {
        return Ok(());
    };
    let interrupter = Interrupter::new();
    signals::stop_speech(&interrupter)?;
    let mut said = Said::default();
    let mut patience = Duration::ZERO;
    while !interrupter.should_stop() && !said.nobody_listens {
        input.hand_on(&mut stream, &tokenizer, patience)?;
        patience = Duration::ZERO;
        match stream.next_step() {
            None => break,
            Some(RealtimeStep::Text(_)) => {}
            Some(RealtimeStep::Waits) => patience = MOMENT,
            Some(RealtimeStep::Frame(frame)) => said.hear(frame.sound, &mut output, begun)?,
        }
    }
    said.end(begun);
    let is_stream = output.is_stream();
    output.finish()?;
    if !said.nobody_listens {
        said.tell(args, stream.end(), is_stream);
    }
    check_finite(stream.end())
}

/// The one voice.
fn saved_voice(given: &[PathBuf]) -> Result<SavedVoice> {
    let [voice] = given else {
        bail!(
            "a Realtime model speaks with one saved voice: give --voice FILE.pt once; the model's publisher has \
             some, and none can be made from a recording, since the encoder is not published"
        );
    };
    Ok(read_voice(numbered_voice(voice).1)?)
}

/// Text on its way to the model.
struct Input {
    arriving: Receiver<io::Result<Vec<u8>>>,
    /// Bytes of a character that has not come to its end.
    bytes: Vec<u8>,
    /// `None` once the text has ended.
    text: Option<RealtimeText>,
    keeps_characters: bool,
}

impl Input {
    fn open(args: &Speak) -> Result<Self, DataError> {
        let (sender, arriving) = mpsc::sync_channel(PIECES);
        let whole = if let Some(path) = &args.file {
            let read = File::open(path).and_then(|file| bytes_within(file, MOST_TEXT_BYTES));
            Some(read.map_err(|source| unread(path, source))?)
        } else if args.text.is_empty() {
            None
        } else {
            Some(args.text.join("\n").into_bytes())
        };
        match whole {
            // The channel has room for it, and its end is the end of the text.
            Some(text) => drop(sender.send(Ok(text))),
            None => drop(thread::spawn(move || {
                let mut stdin = io::stdin().lock();
                let mut piece = [0; PIECE];
                loop {
                    let read = match stdin.read(&mut piece) {
                        Ok(0) => return,
                        Ok(count) => Ok(piece[..count].to_vec()),
                        Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                        Err(error) => Err(error),
                    };
                    let failed = read.is_err();
                    if sender.send(read).is_err() || failed {
                        return;
                    }
                }
            })),
        }
        Ok(Self {
            arriving,
            bytes: Vec::new(),
            text: Some(RealtimeText::default()),
            keeps_characters: args.dialogue.keep_characters,
        })
    }

    fn is_open(&self) -> bool {
        self.text.is_some()
    }

    /// Whether no word has come yet.
    fn is_blank(&self) -> bool {
        self.text.as_ref().is_none_or(RealtimeText::is_blank)
    }

    /// Gives what has arrived to the stream; waits for something up to `patience`.
    fn hand_on(
        &mut self,
        stream: &mut RealtimeStream<'_>,
        tokenizer: &TextTokenizer,
        patience: Duration,
    ) -> Result<()> {
        let Some(text) = &mut self.text else {
            return Ok(());
        };
        let encode = |text: &str| tokenizer.encode_exact(text);
        match self.arriving.recv_timeout(patience) {
            Ok(piece) => {
                let piece = piece.map_err(|source| unread(Path::new("standard input"), source))?;
                self.bytes.extend(piece);
                let mut characters = characters(&mut self.bytes)?;
                characters.retain(|character| character != '\r');
                if !self.keeps_characters {
                    characters = fold_quotes(&characters);
                }
                stream.push(&text.push(&characters, encode)?);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                ensure!(self.bytes.is_empty(), "the text is no UTF-8");
                if let Some(text) = self.text.take()
                    && !text.is_blank()
                {
                    stream.push(&text.finish(encode)?);
                    stream.end_text();
                }
            }
        }
        Ok(())
    }
}

/// Takes the whole characters.
fn characters(bytes: &mut Vec<u8>) -> Result<String> {
    let whole = match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(error) => {
            ensure!(error.error_len().is_none(), "the text is no UTF-8");
            error.valid_up_to()
        }
    };
    let taken: Vec<u8> = bytes.drain(..whole).collect();
    Ok(String::from_utf8(taken)?)
}

fn unread(path: &Path, source: io::Error) -> DataError {
    DataError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_may_come_in_parts() {
        let mut bytes = "a\u{e9}".as_bytes()[..2].to_vec();
        assert_eq!(characters(&mut bytes).unwrap(), "a");
        assert_eq!(bytes.len(), 1);
        bytes.push(0xa9);
        assert_eq!(characters(&mut bytes).unwrap(), "\u{e9}");
        assert!(characters(&mut vec![b'a', 0xff, b'b']).is_err());
    }
}
