//! Arguments of `speak` and `convert-voice`.

use super::*;

#[test]
fn a_dialogue_has_files_and_a_run_one_voice() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    run(dir, "voice");
    for file in ["model", "script", "a.wav", "b.wav"] {
        fs::write(dir.join(file), "").unwrap();
    }
    let dialogue = ["speak", "--out", "o.wav", "--model", "model", "--script"];
    let voices = ["script", "--voice", "1=a.wav", "--voice", "2=b.wav"];
    let words = [&dialogue[..], &voices].concat();
    parse(&words).unwrap().check(&Project::at(dir)).unwrap();
    let gone = [&dialogue[..], &["script", "--voice", "1=gone"]].concat();
    for words in [gone, [&dialogue[..], &["gone"]].concat()] {
        let (usage, message) = complaint(dir, &words);
        assert!(
            !usage && message.starts_with("cannot read gone: "),
            "{message}"
        );
    }
    let two = ["--voice", "a.wav", "--voice", "b.wav", "--voice-text", "a"];
    let (usage, message) = complaint(dir, &[&["speak", "--out", "o.wav"], &two[..]].concat());
    assert!(usage && message.contains("give --voice once"), "{message}");
    let mp3 = [
        "speak", "--model", "model", "--script", "script", "--out", "o.mp3",
    ];
    let (usage, message) = complaint(dir, &mp3);
    assert!(
        usage && message.ends_with("must be one of .wav"),
        "{message}"
    );
}

#[test]
fn sound_goes_where_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    run(dir, "voice");
    let check = |words: &[&str]| complaint(dir, &[&["speak", "--out"], words].concat());
    let message = (
        false,
        "--each writes files: name a folder for them with --out".to_owned(),
    );
    assert_eq!(check(&["-", "--each"]), message);
    let (usage, message) = check(&["runs"]);
    assert!(
        !usage && message.starts_with("cannot write runs: "),
        "{message}"
    );
}

#[test]
fn a_voice_is_converted_into_safetensors() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (usage, message) = complaint(dir, &["convert-voice", "gone.pt", "a.safetensors"]);
    assert!(
        !usage && message.starts_with("cannot read gone.pt: "),
        "{message}"
    );
    fs::write(dir.join("a.pt"), "").unwrap();
    let (usage, message) = complaint(dir, &["convert-voice", "a.pt", "b.pt"]);
    assert!(
        usage && message.ends_with("must be one of .safetensors"),
        "{message}"
    );
    let command = parse(&["convert-voice", "a.pt", "b.safetensors"]).unwrap();
    command.check(&Project::at(dir)).unwrap();
    assert!(command.devices().unwrap().is_empty());
}
