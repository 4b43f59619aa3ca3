//! `transcribe`: the text of a recording, by a published model.

use std::io::{self, ErrorKind, Write};

use anyhow::{Result, ensure};
use latentlm::RandomStream;
use latentlm::core::LatentNoise;
use latentlm_args::{Transcribe, Transcript, tell};
use latentlm_data::speech::read_audio;
use latentlm_data::{DataError, TextStream, TextTokenizer};
use latentlm_pipelines::printable;
use latentlm_published::{AsrJson, load_asr, read_asr_config};
use latentlm_train::Interrupter;
use latentlm_vibevoice::{
    AsrEnd, AsrOptions, AsrPrompt, AsrSound, AsrStream, AsrTokens, Rules, TranscriptFormat,
    TranscriptReader, TranscriptSegment, TranscriptWriter, level_voice,
};

use crate::device::device;
use crate::kv_cache::cache_numbers;
use crate::published::{RATE_HZ, generation, seed, tokenizer, weight_type};
use crate::{phase, signals};

/// Largest number of tokens of an answer, unless the model's folder sets another.
const MOST_TOKENS: usize = 32_768;

/// Transcribes a recording. Input that does not fit is refused before any weight is read.
pub(crate) fn run(args: &Transcribe) -> Result<()> {
    let json = read_asr_config(&args.model)?;
    let generation = generation(&args.model)?;
    let tokenizer = tokenizer(&args.model, args.tokenizer.as_deref())?;
    let tokens = json.tokens(&generation, |name| tokenizer.id_of(name))?;
    let mut recording = read_audio(&args.audio)?.resampled(RATE_HZ).samples;
    let prompt = prompt(args, &json, &tokenizer, &tokens, recording.len())?;
    let options = AsrOptions {
        ends: tokens.ends,
        max_tokens: generation["max_new_tokens"]
            .as_u64()
            .map_or(MOST_TOKENS, |most| most as usize),
        max_positions: json.max_positions(),
    };
    prompt.check(options.max_positions)?;
    let weights = weight_type(args.weights, args.precision, &args.device)?;
    let numbers = cache_numbers(args.kv_cache, &args.device)?;
    phase::show_long();
    phase::begin("reading the model");
    let mut model = load_asr(&args.model, weights, &device(&args.device)?)?;
    model.backbone.set_cache_numbers(numbers);
    level_voice(&mut recording);
    let mut random = RandomStream::new(seed(args.seed));
    let shape = model.noise_shape(recording.len());
    let noise = LatentNoise::draw(shape, &mut random, &model.device());
    phase::begin("listening to the recording");
    let heard = model.encode(&recording, Some(noise), Rules::ORIGINAL);
    let stream = model.transcribe(&prompt, heard.embedded, options)?;
    phase::begin("");
    let interrupter = Interrupter::new();
    signals::stop_transcript(&interrupter)?;
    transcribe(stream, &tokenizer, args.format, &interrupter)
}

/// The prompt of a recording of `samples` samples.
fn prompt(
    args: &Transcribe,
    json: &AsrJson,
    tokenizer: &TextTokenizer,
    tokens: &AsrTokens,
    samples: usize,
) -> Result<AsrPrompt> {
    let sound = AsrSound {
        samples,
        sample_rate_hz: RATE_HZ,
        hop_samples: json.model().acoustic.hop_samples(),
    };
    let context = args.context.as_deref();
    let prompt = AsrPrompt::new(sound, context, tokens, |text| tokenizer.encode_exact(text))?;
    let vocabulary = json.text_config.vocab_size;
    let largest = prompt.tokens.iter().max().copied().unwrap_or(0);
    ensure!(
        (largest as usize) < vocabulary,
        "the tokenizer is not the model's: it has a token {largest}, the model {vocabulary} tokens"
    );
    Ok(prompt)
}

/// Prints segments as they come, until the answer ends, repeats itself or somebody stops it.
fn transcribe(
    mut stream: AsrStream<'_>,
    tokenizer: &TextTokenizer,
    format: Transcript,
    interrupter: &Interrupter,
) -> Result<()> {
    let mut output = Output::new(format);
    let mut text = TextStream::new(tokenizer);
    let mut reader = TranscriptReader::default();
    while !interrupter.should_stop()
        && !reader.is_stuck()
        && let Some(step) = stream.next_token()
    {
        if stream.end() == Some(AsrEnd::Written) {
            break;
        }
        let piece = text.push(step.token)?;
        output.segments(reader.push(&piece))?;
        if output.nobody_reads {
            return Ok(());
        }
    }
    output.segments(reader.push(&text.finish()?))?;
    output.segments(reader.finish())?;
    output.finish(reader.words())?;
    let end = stream.end();
    ensure!(
        end != Some(AsrEnd::NotFinite),
        "the model's numbers are not finite: its weights are damaged"
    );
    if let Some(cut) = reader.cut(end == Some(AsrEnd::Written)) {
        tell!("{cut}");
    }
    Ok(())
}

/// Standard output with a transcript.
struct Output {
    writer: TranscriptWriter,
    is_json: bool,
    nobody_reads: bool,
}

impl Output {
    fn new(format: Transcript) -> Self {
        let is_json = format == Transcript::Json;
        let format = match format {
            Transcript::Text => TranscriptFormat::Text,
            Transcript::Json => TranscriptFormat::Json,
            Transcript::Srt => TranscriptFormat::Srt,
        };
        Self {
            writer: TranscriptWriter::new(format),
            is_json,
            nobody_reads: false,
        }
    }

    fn segments(&mut self, segments: &[TranscriptSegment]) -> Result<(), DataError> {
        for segment in segments {
            let piece = self.writer.segment(segment);
            self.put(&piece)?;
        }
        Ok(())
    }

    fn finish(&mut self, words: &str) -> Result<(), DataError> {
        let end = self.writer.finish(words);
        self.put(&end)
    }

    fn put(&mut self, text: &str) -> Result<(), DataError> {
        let text = if self.is_json {
            json_without_controls(text)
        } else {
            printable(text)
        };
        let mut stdout = io::stdout().lock();
        let written = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.nobody_reads = true,
            Err(source) => {
                return Err(DataError::Io {
                    action: "write",
                    path: "standard output".into(),
                    source,
                });
            }
            Ok(()) => {}
        }
        Ok(())
    }
}

/// JSON whose control characters are escaped as JSON has it, but for the line breaks between values. A model may write
/// anything, and they could steer a terminal.
fn json_without_controls(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_control() && character != '\n' {
            // All control characters are below 256.
            escaped += &format!("\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Subtitles and text escape them as all other output does.
    #[test]
    fn what_a_model_writes_cannot_steer_the_terminal() {
        let text = "a\u{7f}\u{9b}2J \u{fc}";
        let json = format!("[\n{}\n]\n", serde_json::to_string(text).unwrap());
        assert!(
            json.contains('\u{9b}'),
            "it is no control character of JSON"
        );
        let escaped = json_without_controls(&json);
        assert_eq!(escaped, "[\n\"a\\u007f\\u009b2J \u{fc}\"\n]\n");
        let read: Vec<String> = serde_json::from_str(&escaped).unwrap();
        assert_eq!(read, [text]);
    }
}
