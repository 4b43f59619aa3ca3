//! Texts and voices that a trained voice cannot say or take.

use super::*;

pub fn wrong_texts_exit_with_2(dir: &Path) {
    let refuse = |args: &[&str], part: &str| {
        expect(speak(dir, args).args(["--out", "none.wav"]), 2, part);
        assert!(!dir.join("none.wav").exists(), "{args:?}");
    };
    refuse(&["--text", ""], "there is nothing to say");
    refuse(&["--text", " \n "], "there is nothing to say");
    // Standard input is empty here.
    refuse(&[], "there is nothing to say");
    refuse(&["--text", "one über"], "`ü` is outside the vocabulary");
    // All sentences are checked before the first is spoken.
    let late = "one two, three. ".repeat(20) + "seven";
    refuse(&["--text", &late], "`s` is outside the vocabulary");
    refuse(
        &["--text", "one", "--file", "text.txt"],
        "cannot be used with",
    );
    refuse(&["--text", "one", "--voice", "corpus/0.wav"], "required");
    let text = "one two three ".repeat(20);
    let long = [
        "--text",
        "one",
        "--voice",
        "corpus/0.wav",
        "--voice-text",
        &text,
    ];
    refuse(&long, "more than the 200 that the model was trained on");
    refuse(
        &["--text", "one", "--guidance", "NaN"],
        "must be a number from -1000 to 1000",
    );
    let format = ["--text", "one", "--out", "none.mp3"];
    expect(&mut speak(dir, &format), 2, "must be one of .wav");
    let missing = ["--file", "nowhere.txt", "--out", "none.wav"];
    expect(&mut speak(dir, &missing), 1, "cannot read nowhere.txt: ");
    let missing = ["--text", "one", "--run", "nobody", "--out", "none.wav"];
    expect(&mut speak(dir, &missing), 1, "is no run");
}

/// A voice recording may have any sample rate: half a second always gives the same number of latents.
pub fn voices_of_any_rate_are_taken(dir: &Path) {
    for rate in [8_000, 16_000, 44_100] {
        write_wav(&dir.join("voice.wav"), &tone(rate, 0.5), rate).unwrap();
        let codec = ["codec", "encode", "voice.wav", "latents.safetensors"];
        let output = latentlm(dir, &codec).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("13 latents of 4"), "{rate}: {text}");
        let args = [
            "--text",
            "one",
            "--voice",
            "voice.wav",
            "--voice-text",
            "two",
        ];
        assert!(said(dir, &args).len() > 44);
    }
}

/// Words of the text and of the voice's text, in one line before the first sound.
pub fn unheard_words_are_named(dir: &Path) {
    for (text, voice_text, expected) in [
        ("one", "two", None),
        ("one", "tow two", Some("the word `tow`: ")),
        ("one neo", "two tow", Some("the words `neo`, `tow`: ")),
    ] {
        let voice = ["--voice", "corpus/0.wav", "--voice-text", voice_text];
        let output = speak(dir, &["--text", text, "--out", "said.wav"])
            .args(voice)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = told
            .lines()
            .find_map(|line| line.strip_prefix("training never had "));
        let expected = expected.map(|words| format!("{words}these may sound like anything"));
        assert_eq!(line, expected.as_deref(), "{told}");
    }
}

/// A WAV file of two channels, one the opposite of the other.
pub fn cancelling() -> Vec<u8> {
    let mut samples = Vec::new();
    for sample in tone(RATE, 0.5) {
        samples.extend([sample, -sample]);
    }
    let mut bytes = wav_bytes(&samples, RATE);
    bytes[22] = 2; // channels
    bytes[28..32].copy_from_slice(&(4 * RATE).to_le_bytes()); // bytes a second
    bytes[32] = 4; // bytes a frame
    bytes
}

pub fn broken_voices_are_named(dir: &Path) {
    let good = wav_bytes(&tone(RATE, 0.5), RATE);
    for (name, bytes, part) in [
        ("empty.wav", &b""[..], "empty.wav: is an empty file"),
        (
            "text.wav",
            b"this is no sound at all, is it?",
            "text.wav: is no WAV file",
        ),
        ("header.wav", &good[..30], "header.wav: is cut short"),
        (
            "half.wav",
            &good[..good.len() / 2],
            "half.wav: is cut short",
        ),
        (
            "silent.wav",
            &wav_bytes(&[], RATE),
            "silent.wav: holds no sound",
        ),
        (
            "against.wav",
            &cancelling(),
            "against.wav: is silent as one channel: its channels cancel each other out",
        ),
        (
            "short.wav",
            &wav_bytes(&tone(RATE, 0.02), RATE),
            "one latent takes 640",
        ),
        (
            "long.wav",
            &wav_bytes(&tone(RATE, 2.5), RATE),
            "at most 2 s",
        ),
    ] {
        fs::write(dir.join(name), bytes).unwrap();
        let voice = ["--voice", name, "--voice-text", "two", "--out", "none.wav"];
        expect(speak(dir, &["--text", "one"]).args(voice), 1, part);
    }
    let voice = [
        "--voice",
        "gone.wav",
        "--voice-text",
        "two",
        "--out",
        "none.wav",
    ];
    expect(speak(dir, &["--text", "one"]).args(voice), 1, "gone.wav");
    let voice = [
        "--voice",
        "corpus/0.wav",
        "--voice-text",
        " ",
        "--out",
        "none.wav",
    ];
    expect(
        speak(dir, &["--text", "one"]).args(voice),
        1,
        "its text is empty",
    );
    assert!(!dir.join("none.wav").exists());
}
