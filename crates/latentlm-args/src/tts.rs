//! Speech: `train-tts`, `speak`, `eval-tts`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::endings::check_sound;
use crate::{ArgsError, DeviceName, Dialogue, Drawing, Project, Training, WeightNumbers};

/// Largest size of a text that `speak` reads, in bytes.
pub const MOST_TEXT_BYTES: u64 = 64 << 20;

/// Trains a speech codec and a text-to-speech language model on its latents
///
/// The default recipe is configs/tts/voice.toml, a single voice.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask train-tts\n  \
    cargo xtask train-tts --config configs/tts/ljspeech.toml --run lj data.path=LJSpeech-1.1\n  \
    cargo xtask train-tts --run voice --resume")]
pub struct TrainTts {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "voice")]
    pub run: String,
    /// Training options.
    #[command(flatten)]
    pub training: Training,
}

/// Speaks a text with a trained model, and writes the sound while it is generated
///
/// With --each every text gets a file of its own, which is written when it is complete; several texts are
/// spoken at once. With --model a published model says a dialogue of up to four speakers, or, if it is a
/// Realtime model, a text with a saved voice; text on standard input is spoken while it arrives.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask speak --run voice --text \"three five nine\" --out hello.wav\n  \
    echo \"monday may third\" | cargo xtask speak --out - | aplay\n  \
    cargo xtask speak --file story.txt --voice me.wav --voice-text \"what I say in it\" --out story.wav\n  \
    cargo xtask speak --each --file lines.txt --out spoken\n  \
    cargo xtask speak --model VibeVoice-1.5B --script dialogue.txt --voice 1=anna.wav --voice 2=ben.wav --out talk.wav\n  \
    cargo xtask speak --model VibeVoice-Realtime-0.5B --voice mike.pt --text \"Hello there.\" --out hello.wav")]
pub struct Speak {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "voice")]
    pub run: String,
    /// Sampling options.
    #[command(flatten)]
    pub drawing: Drawing,
    /// Text to speak; may be given several times; standard input if neither this nor --file is given
    #[arg(long, conflicts_with = "file")]
    pub text: Vec<String>,
    /// File with the text to speak
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Recording of the voice to speak with; in a dialogue N=FILE for each speaker N of the script; for a
    /// Realtime model a saved voice, .pt, .safetensors or .gguf
    #[arg(long, value_name = "FILE", requires = "voice_owner")]
    pub voice: Vec<PathBuf>,
    /// Transcript of the recording
    #[arg(long, value_name = "TEXT", group = "voice_owner", requires = "voice")]
    pub voice_text: Option<String>,
    /// Dialogues of published models.
    #[command(flatten)]
    pub dialogue: Dialogue,
    /// Writes a file for every line into the folder --out: line 3 is 003.wav; empty lines get none
    #[arg(long)]
    pub each: bool,
    /// WAV file to write; `-` for standard output; with --each a folder
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

impl Speak {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        if let Some(file) = &self.file {
            project.find_file(file)?;
        }
        if self.each && self.out == Path::new("-") {
            return Err(ArgsError::EachToStream);
        }
        match &self.dialogue.model {
            Some(model) => {
                DeviceName::parse(&self.drawing.device)?;
                self.dialogue.check(model, &self.voice, project)?;
            }
            None => self.check_run(project)?,
        }
        if self.each {
            return project.find_folder_place(&self.out);
        }
        if self.out == Path::new("-") {
            return Ok(());
        }
        check_sound(&self.out, project)
    }

    /// Checks the device, the run and its one voice.
    fn check_run(&self, project: &Project) -> Result<(), ArgsError> {
        project.find_device_and_voice(&self.drawing.device, &self.run)?;
        match &self.voice[..] {
            [] => Ok(()),
            [voice] => project.find_file(voice),
            _ => Err(ArgsError::SeveralVoices),
        }
    }
}

/// Measures a trained voice: codec quality, word errors, durations, speed
///
/// A recognizer is any command that takes WAV paths after its arguments and prints a line for each:
/// path, tab, transcript. {kind} in the command is replaced by digits, letters, dates, numbers or
/// recordings; paths with spaces need double quotes.
///
/// `cargo xtask eval-tts` without recognizers installs two below target/ and uses them. It also takes
/// --voices, which installs resemblyzer as --speaker-judge, --pesq, which installs pesq as --pesq-judge,
/// --natural, which installs speechmos as --naturalness-judge, --second, which installs moonshine-voice as
/// --second-recognizer, and --python PYTHON, a Python that has these packages already.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask eval-tts --run voice --samples 50 --seed 7\n  \
    cargo xtask eval-tts --run voice --voices --pesq\n  \
    cargo xtask eval-tts --run voices --voices --hard-texts 500 --held-out-voices speech-voices/held-out\n  \
    cargo xtask eval-tts --recognizer \"python3 xtask/python/recognize.py --grammar {kind}\"")]
pub struct EvalTts {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "voice")]
    pub run: String,
    /// Sampling options.
    #[command(flatten)]
    pub drawing: Drawing,
    /// Weights in memory, f32 by default: fewer bits take less memory. Others want the CPU
    #[arg(long, value_enum, conflicts_with = "precision")]
    pub weights: Option<WeightNumbers>,
    /// Number of held-out texts of each kind
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub samples: u64,
    /// Number of texts on which models stumble, made of the corpus's words: repeated words, numbers, long sentences
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub hard_texts: u64,
    /// Corpus of voices that training never heard, such as the folder held-out of `data voices`
    #[arg(long, value_name = "FOLDER")]
    pub held_out_voices: Option<PathBuf>,
    /// Prints the measurements as JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Commands that listen.
    #[command(flatten)]
    pub judges: Judges,
}

impl EvalTts {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        if let Some(folder) = &self.held_out_voices {
            project.find("read", folder)?;
        }
        project.find_device_and_voice(&self.drawing.device, &self.run)
    }
}

/// Commands that recognize speech or rate it.
#[derive(Debug, Clone, Default, Args)]
pub struct Judges {
    /// Command that recognizes composed utterances, whose vocabulary is known
    #[arg(long, value_name = "COMMAND")]
    pub recognizer: Option<String>,
    /// Command that recognizes recordings with any vocabulary
    #[arg(long, value_name = "COMMAND")]
    pub open_recognizer: Option<String>,
    /// Command that recognizes voices and continued recordings once more; it counts where it hears less than
    /// a tenth of the words of real recordings wrong
    #[arg(long, value_name = "COMMAND")]
    pub second_recognizer: Option<String>,
    /// Command that prints the similarity of each file's voice to that of the first file
    #[arg(long, value_name = "COMMAND")]
    pub speaker_judge: Option<String>,
    /// Command that takes pairs of a recording and its reconstruction by the codec, and prints the PESQ
    /// score of each pair
    #[arg(long, value_name = "COMMAND")]
    pub pesq_judge: Option<String>,
    /// Command that prints the naturalness of each file, from 1 to 5
    #[arg(long, value_name = "COMMAND")]
    pub naturalness_judge: Option<String>,
}

impl Judges {
    /// The arguments that name the same commands.
    pub fn words(&self) -> Vec<String> {
        let commands = [
            ("--recognizer", &self.recognizer),
            ("--open-recognizer", &self.open_recognizer),
            ("--second-recognizer", &self.second_recognizer),
            ("--speaker-judge", &self.speaker_judge),
            ("--pesq-judge", &self.pesq_judge),
            ("--naturalness-judge", &self.naturalness_judge),
        ];
        let mut words = Vec::new();
        for (option, command) in commands {
            if let Some(command) = command {
                words.extend([option.to_owned(), command.clone()]);
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        judges: Judges,
    }

    #[test]
    fn judges_are_said_as_they_were_named() {
        let options = [
            "--recognizer",
            "--open-recognizer",
            "--second-recognizer",
            "--speaker-judge",
            "--pesq-judge",
            "--naturalness-judge",
        ];
        let typed = options.iter().flat_map(|option| [*option, "a \"b c\""]);
        let typed: Vec<&str> = typed.collect();
        let judges = Cli::parse_from([&["cli"][..], &typed].concat()).judges;
        assert_eq!(judges.words(), typed);
        assert!(Judges::default().words().is_empty());
    }
}
