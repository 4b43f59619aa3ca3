//! `speak --model`: dialogues of published models. Realtime models: `realtime`.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use latentlm::core::LatentNoise;
use latentlm::{RandomStream, SampleOptions};
use latentlm_args::{ArgsError, Speak, numbered_voice, tell};
use latentlm_data::speech::read_audio;
use latentlm_data::{DataError, TextTokenizer};
use latentlm_published::{
    Member, Published, VibeVoiceJson, load_vibevoice_weights, read_vibevoice_config_with,
};
use latentlm_train::Interrupter;
use latentlm_vibevoice::{
    FrameNoise, Rules, Script, SpeakError, SpeakOptions, SpeechToken, VibeVoiceConfig,
    VibeVoicePrompt, VibeVoiceStream, VoiceLine, level_voice,
};
use serde_json::Value;

use crate::device::device;
use crate::kv_cache::cache_numbers;
use crate::published::{RATE_HZ, generation, read, seed, tokenizer, weight_type, with_flag};
use crate::said::{Output, Said, check_finite, check_sample, fold_apostrophes, sampler};
use crate::{realtime, sampling, signals};

/// Shorter recordings are hardly enough for a voice.
const SHORT_SECONDS: f64 = 1.0;
/// Longer ones make people wait for the first sound.
const LONG_SECONDS: f64 = 300.0;
/// Positions of a model whose configuration does not tell.
const CONTEXT: usize = 32_768;

/// Says a dialogue. Nothing is written before model, script and voices are read.
pub(crate) fn run(args: &Speak, folder: &Path) -> Result<()> {
    ensure!(
        args.out != Path::new("-") || !io::stdout().is_terminal(),
        "sound on a terminal helps nobody: pipe it on, or name a file with --out"
    );
    if Published::read(folder)?.member == Member::Realtime {
        return realtime::run(args, folder);
    }
    let begun = Instant::now();
    let settings = Settings::read(args, folder)?;
    let config = settings.json.model();
    let options = options(args, &settings);
    check_sample(&options.sample, config.head.num_train_timesteps)?;
    let script = script(args)?;
    let voices = voices(&script, &args.voice)?;
    let tokenizer = tokenizer(folder, args.dialogue.tokenizer.as_deref())?;
    let (weights, drawing) = (args.dialogue.weights, &args.drawing);
    let weights = weight_type(weights, drawing.precision, &drawing.device)?;
    let device = device(&args.drawing.device)?;
    let mut recordings = Vec::with_capacity(voices.len());
    for (_, file) in &voices {
        recordings.push(recording(file)?);
    }
    let numbers = cache_numbers(args.dialogue.kv_cache, &args.drawing.device)?;
    let hop_samples = config.codec.hop_samples();
    let speakers: Vec<u32> = voices.iter().map(|(speaker, _)| *speaker).collect();
    // What does not fit is told before gigabytes of weights are read.
    let prompt = prompt(&config, &tokenizer, script, &speakers, &recordings)?;
    let options = limited(args, &settings, hop_samples, &prompt, options)?;
    let mut model = load_vibevoice_weights(folder, &settings.json, weights, &device)?;
    model.lm = model.lm.prepared_for_sampling();
    model.lm.backbone.set_cache_numbers(numbers);
    let mut random = RandomStream::new(seed(args.drawing.seed));
    let features = (!recordings.is_empty()).then(|| {
        let shape = model.voice_shape(&recordings);
        let noise = LatentNoise::draw(shape, &mut random, &model.lm.device());
        let encoded = model.encode_voices(&recordings, Some(noise), options.rules);
        encoded.features
    });
    let noise = FrameNoise::Drawn(random);
    let mut stream = model.speak(prompt, features, options, noise)?;
    if let Some(frames) = args.dialogue.frames {
        stream.force(0, vec![SpeechToken::Audio; frames]);
    }
    // A pipe is opened before signals are caught: that waits for a reader, and Ctrl-C ends it.
    let Some(mut output) = Output::begin(&args.out)? else {
        return Ok(());
    };
    let interrupter = Interrupter::new();
    signals::stop_speech(&interrupter)?;
    let said = speak(&mut stream, &mut output, &interrupter, begun)?;
    let is_stream = output.is_stream();
    output.finish()?;
    let end = stream.end_of(0);
    if !said.nobody_listens {
        said.tell(args, end, is_stream);
    }
    check_finite(end)
}

/// Settings in a model's folder.
struct Settings {
    json: VibeVoiceJson,
    /// `generation_config.json`, or nothing.
    generation: Value,
}

impl Settings {
    fn read(args: &Speak, folder: &Path) -> Result<Self> {
        let tokenizer = args.dialogue.tokenizer.as_deref();
        let json = read_vibevoice_config_with(folder, tokenizer).map_err(with_flag)?;
        let generation = generation(folder)?;
        Ok(Self { json, generation })
    }

    /// Positions that the model was trained for.
    fn context(&self) -> usize {
        let most = self.json.text_config.max_positions();
        most.unwrap_or(CONTEXT)
    }

    /// Largest number of chosen tokens: the setting, or else twice the prompt as in the original repository.
    fn max_steps(&self, prompt: usize) -> usize {
        let most = self.generation["max_new_tokens"].as_u64();
        most.map_or(2 * prompt, |most| most as usize)
    }
}

/// Sampling options of latents: from the arguments, else from the model's folder, else those of the original
/// repository.
fn options(args: &Speak, settings: &Settings) -> SpeakOptions {
    let default = SpeakOptions::default();
    let (guidance, steps) = (
        settings.generation["guidance_scale"].as_f64(),
        settings.generation["num_diffusion_steps"].as_u64(),
    );
    let sample = SampleOptions {
        guidance_scale: guidance.unwrap_or(default.sample.guidance_scale),
        steps: steps.map_or(default.sample.steps, |steps| steps as usize),
        sampler: sampler(args),
        ..default.sample
    };
    SpeakOptions {
        sample: sampling::changed(&args.drawing, sample),
        rules: Rules::ORIGINAL,
        ..default
    }
}

/// The options with the limits of a prompt, which must fit.
fn limited(
    args: &Speak,
    settings: &Settings,
    hop_samples: usize,
    prompt: &VibeVoicePrompt,
    options: SpeakOptions,
) -> Result<SpeakOptions> {
    let (positions, most) = (prompt.tokens.len(), settings.context());
    if positions > most {
        return Err(SpeakError::TooLong { positions, most }.into());
    }
    let hop = hop_samples as f64;
    let frames = |seconds: f64| (seconds * f64::from(RATE_HZ) / hop).ceil() as usize;
    Ok(SpeakOptions {
        max_frames: args.dialogue.max_seconds.map_or(usize::MAX, frames),
        max_steps: match args.dialogue.frames {
            Some(frames) => frames,
            None => settings.max_steps(positions),
        },
        max_positions: most,
        ..options
    })
}

/// Reads the script, and reports parts that are left out.
fn script(args: &Speak) -> Result<Script> {
    let path = args.dialogue.script.as_deref();
    let path = path.ok_or(ArgsError::NoScript)?;
    let mut text = read(path)?;
    if !args.dialogue.keep_characters {
        text = fold_apostrophes(&text);
    }
    let script = Script::parse(&text);
    let script = script.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    for warning in &script.warnings {
        tell!("{}: {warning}", path.display());
    }
    Ok(script)
}

/// The recording of each speaker who has one, in the order in which they first speak.
fn voices(script: &Script, given: &[PathBuf]) -> Result<Vec<(u32, PathBuf)>> {
    let speakers = script.speakers();
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for voice in given {
        let (number, file) = numbered_voice(voice);
        let speaker = match (number, &speakers[..]) {
            (Some(number), _) => number,
            (None, [only]) => *only,
            (None, _) => bail!(
                "--voice {}: the script has several speakers; say whose voice it is: --voice {}={0}",
                file.display(),
                speakers[0],
            ),
        };
        if !speakers.contains(&speaker) {
            tell!("--voice {speaker}=...: the script has no speaker {speaker}");
        } else if found.iter().any(|(known, _)| *known == speaker) {
            bail!("--voice {speaker}=...: speaker {speaker} has two voices; give one");
        } else {
            found.push((speaker, file.to_owned()));
        }
    }
    found.sort_by_key(|(speaker, _)| speakers.iter().position(|known| known == speaker));
    for speaker in speakers {
        if !found.iter().any(|(known, _)| *known == speaker) {
            tell!("speaker {speaker} has no --voice: the model makes one up");
        }
    }
    Ok(found)
}

/// A recording as voices are read: at the model's rate and loudness.
fn recording(path: &Path) -> Result<Vec<f32>> {
    let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
    ensure!(
        ending != "pt" && ending != "safetensors" && ending != "gguf",
        "{} is a saved voice, with which Realtime models speak; this model reads a recording of a voice",
        path.display()
    );
    let sound = read_audio(path)?;
    if sound.seconds() < SHORT_SECONDS {
        let seconds = sound.seconds();
        tell!("{}: {seconds:.2} s are hardly a voice", path.display());
    }
    if sound.seconds() > LONG_SECONDS {
        tell!(
            "{}: all {:.0} s are read before the first sound; half a minute is enough for a voice",
            path.display(),
            sound.seconds()
        );
    }
    let mut samples = sound.resampled(RATE_HZ).samples;
    level_voice(&mut samples);
    Ok(samples)
}

/// The prompt of a model with this configuration; `speakers` have the recordings.
fn prompt(
    config: &VibeVoiceConfig,
    tokenizer: &TextTokenizer,
    script: Script,
    speakers: &[u32],
    recordings: &[Vec<f32>],
) -> Result<VibeVoicePrompt> {
    let numbers = script.speakers();
    let script = script.lowered();
    let lowered = script.speakers();
    let hop_samples = config.codec.hop_samples();
    let mut voices = Vec::with_capacity(speakers.len());
    for (speaker, recording) in speakers.iter().zip(recordings) {
        // A voice's line has the number of its text lines.
        let place = numbers.iter().position(|number| number == speaker);
        voices.push(VoiceLine {
            speaker: place.map_or(*speaker, |place| lowered[place]),
            frames: recording.len().div_ceil(hop_samples),
        });
    }
    let special = config.speech_tokens();
    let prompt = VibeVoicePrompt::new(&script.turns, &voices, special, |text| {
        tokenizer.encode_exact(text)
    })?;
    let vocabulary = config.tokens.vocabulary;
    let largest = prompt.tokens.iter().max().copied().unwrap_or(0);
    ensure!(
        (largest as usize) < vocabulary,
        "the tokenizer is not the model's: it has a token {largest}, the model {vocabulary} tokens"
    );
    Ok(prompt)
}

/// Speaks frame by frame until the dialogue ends, a signal stops it, or the reader is gone.
fn speak(
    stream: &mut VibeVoiceStream<'_>,
    output: &mut Output,
    interrupter: &Interrupter,
    begun: Instant,
) -> Result<Said, DataError> {
    let mut said = Said::default();
    while !interrupter.should_stop()
        && let Some(steps) = stream.next_step()
    {
        for frame in steps.into_iter().filter_map(|step| step.frame) {
            said.hear(frame.sound, output, begun)?;
            if said.nobody_listens {
                return Ok(said);
            }
        }
    }
    said.end(begun);
    Ok(said)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use safetensors::SafeTensors;

    use super::*;

    /// The arguments of `speak`, as they are typed.
    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        speak: Speak,
    }

    fn typed(arguments: &[&str]) -> Speak {
        let always = [
            "speak", "--model", "m", "--script", "s.txt", "--out", "o.wav",
        ];
        Typed::try_parse_from(always.iter().chain(arguments))
            .unwrap()
            .speak
    }

    fn case() -> PathBuf {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
        fixtures.join("vibevoice-generation-two")
    }

    /// Tokens of the case's script with two recordings, under other numbers of speakers.
    fn tokens(numbers: [u32; 2]) -> Vec<u32> {
        let config = read_vibevoice_config_with(&case(), None).unwrap().model();
        let tokenizer = TextTokenizer::read(&case().join("tokenizer.json")).unwrap();
        let text = std::fs::read_to_string(case().join("script.txt")).unwrap();
        let mut script = Script::parse(&text).unwrap();
        for turn in &mut script.turns {
            turn.speaker = numbers[turn.speaker as usize];
        }
        let files = ["voice0.wav", "voice1.wav"];
        let recordings = files.map(|file| recording(&case().join(file)).unwrap());
        let made = prompt(&config, &tokenizer, script, &numbers, &recordings);
        made.unwrap().tokens
    }

    #[test]
    fn steps_and_guidance_are_typed_or_the_folder_s_or_the_original_s() {
        let mut settings = Settings::read(&typed(&[]), &case()).unwrap();
        let chosen = |arguments: &[&str], settings: &Settings| {
            let sample = options(&typed(arguments), settings).sample;
            (sample.steps, sample.guidance_scale)
        };
        settings.generation = Value::Null;
        assert_eq!(chosen(&[], &settings), (10, 1.3));
        settings.generation = serde_json::json!({
            "num_diffusion_steps": 7,
            "guidance_scale": 2.5,
        });
        assert_eq!(chosen(&[], &settings), (7, 2.5));
        let arguments = ["--steps", "3", "--guidance", "1.75"];
        assert_eq!(chosen(&arguments, &settings), (3, 1.75));
    }

    #[test]
    fn a_prompt_is_that_of_the_reference() {
        let bytes = std::fs::read(case().join("io.safetensors")).unwrap();
        let io = SafeTensors::deserialize(&bytes).unwrap();
        let ids = io.tensor("input_ids").unwrap();
        let ids = ids.data().chunks_exact(4);
        let expected: Vec<u32> = ids
            .map(|id| u32::from_le_bytes(id.try_into().unwrap()))
            .collect();
        assert_eq!(tokens([0, 1]), expected);
        // None is 0: all are lowered, those of voices too.
        assert_eq!(tokens([1, 2]), expected);
        assert_ne!(tokens([2, 1]), expected);
        // The speaker of the first turn is 0 already, so that nobody is lowered.
        assert_ne!(tokens([0, 2]), expected);
    }

    #[test]
    fn voices_belong_to_the_numbers_of_the_script() {
        let paths =
            |voices: &[&str]| -> Vec<PathBuf> { voices.iter().map(PathBuf::from).collect() };
        let script = Script::parse("Speaker 3: a\nSpeaker 1: b\nSpeaker 2: c").unwrap();
        let found = voices(&script, &paths(&["1=a.wav", "7=d.wav", "3=c.wav"])).unwrap();
        assert_eq!(
            found,
            [(3, PathBuf::from("c.wav")), (1, PathBuf::from("a.wav"))]
        );
        for wrong in [&["a.wav"][..], &["1=a.wav", "1=b.wav"]] {
            assert!(voices(&script, &paths(wrong)).is_err(), "{wrong:?}");
        }
        let alone = Script::parse("Hello").unwrap();
        let found = voices(&alone, &paths(&["a.wav"])).unwrap();
        assert_eq!(found, [(1, PathBuf::from("a.wav"))]);
    }
}
