//! Paths of files and folders: looked for before anything runs.

use super::*;

#[test]
fn paths_that_are_not_there_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    run(dir, "all");
    let speak = ["speak", "--run", "all", "--out", "a.wav"];
    let voice = ["--text", "one", "--voice-text", "two", "--voice", "gone"];
    for (words, code, start) in [
        (
            vec!["train-image", "--config", "gone"],
            2,
            "cannot read the recipe gone: ",
        ),
        (
            [&speak[..], &["--file", "gone"]].concat(),
            1,
            "cannot read gone: ",
        ),
        ([&speak[..], &voice].concat(), 1, "cannot read gone: "),
        (
            vec!["caption", "--run", "all", "--image", "gone"],
            1,
            "cannot read gone: ",
        ),
        (
            vec!["caption", "--run", "all", "--video", "gone"],
            1,
            "cannot read gone: ",
        ),
        (
            "sample-video --run all --from gone --out a"
                .split(' ')
                .collect(),
            1,
            "cannot read gone: ",
        ),
        (
            vec![
                "generate",
                "--run",
                "all",
                "--prompt",
                "a <image> gone </image>",
            ],
            1,
            "cannot read gone: ",
        ),
        (
            vec!["codec", "encode", "--run", "all", "gone", "a"],
            1,
            "cannot read gone: ",
        ),
        (vec!["verify-reference", "gone"], 1, "cannot read gone: "),
        (
            vec!["data", "check", "gone"],
            1,
            "cannot open the dataset gone: ",
        ),
        (
            vec!["data", "espeak", "--out", "a", "--texts", "gone"],
            1,
            "cannot read gone: ",
        ),
        (
            vec!["data", "voices", "--out", "a", "--texts", "gone"],
            1,
            "cannot read gone: ",
        ),
    ] {
        let (usage, message) = complaint(dir, &words);
        assert!(message.starts_with(start), "{words:?}: {message}");
        assert_eq!(if usage { 2 } else { 1 }, code, "{words:?}");
    }
    // With the file there, nothing is wrong any more.
    fs::write(dir.join("gone"), "").unwrap();
    let words = [&speak[..], &voice].concat();
    parse(&words).unwrap().check(&Project::at(dir)).unwrap();
}

/// Every command that writes a file or a folder.
#[test]
fn places_that_cannot_be_written_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    run(dir, "all");
    fs::write(dir.join("in"), "").unwrap();
    fs::create_dir(dir.join("a.wav")).unwrap();
    let speak = ["speak", "--run", "all", "--out"];
    let dialogue = ["speak", "--model", "in", "--script", "in", "--out"];
    let sample = ["sample-image", "--grid", "--run", "all", "--out"];
    let generate = ["generate", "--prompt", "a", "--run", "all", "--out"];
    let clip = ["sample-video", "--prompt", "a", "--run", "all", "--out"];
    let codec = |command| ["codec", command, "--run", "all", "in"];
    for (words, place, start) in [
        (&sample[..], "in/a.png", "cannot write in in: "),
        (&sample, "runs", "cannot write runs: "),
        (&generate, "in/a.png", "cannot write in in: "),
        (&generate, "runs", "cannot write runs: "),
        (&clip, "in/a.gif", "cannot write in in: "),
        (&clip, "in/frames", "cannot write in in: "),
        (&clip, "in", "cannot write in in: "),
        (&speak, "a.wav", "cannot write a.wav: "),
        (&speak, "new/a.wav", "cannot write in new: "),
        (&dialogue, "new/a.wav", "cannot write in new: "),
        (
            &["speak", "--each", "--run", "all", "--out"],
            "in",
            "cannot write in: ",
        ),
        (
            &["speak", "--each", "--run", "all", "--out"],
            "in/a",
            "cannot write in in: ",
        ),
        (&codec("encode"), "a.wav", "cannot write a.wav: "),
        (&codec("encode"), "in/a", "cannot write in in: "),
        (&codec("decode"), "new/a.wav", "cannot write in new: "),
        (&codec("reconstruct"), "a.wav", "cannot write a.wav: "),
        (
            &["convert-voice", "in"],
            "in/a.safetensors",
            "cannot write in in: ",
        ),
        (
            &["make-model", "7b", "--out"],
            "in/a",
            "cannot write in in: ",
        ),
        (
            &["quantize", "--model", "in", "--out"],
            "in/a",
            "cannot write in in: ",
        ),
        (&["data", "espeak", "--out"], "in", "cannot write in: "),
        (&["data", "voices", "--out"], "in", "cannot write in: "),
        (&["bench-kernels", "--out"], "runs", "cannot write runs: "),
        (&["bench-scaling", "--out"], "in", "cannot write in: "),
    ] {
        let words = [words, &[place]].concat();
        let (usage, message) = complaint(dir, &words);
        assert!(!usage && message.starts_with(start), "{words:?}: {message}");
    }
    // Folders of pictures, latents and voices are made.
    for words in [
        [&sample[..], &["new/a.png"]].concat(),
        [&clip[..], &["new/a.gif"]].concat(),
        [&clip[..], &["new/frames"]].concat(),
        [&codec("encode")[..], &["new/a.safetensors"]].concat(),
        vec!["convert-voice", "in", "new/a.safetensors"],
        vec!["data", "espeak", "--out", "new/corpus"],
    ] {
        parse(&words).unwrap().check(&Project::at(dir)).unwrap();
    }
}

/// A folder is no file.
#[test]
fn folders_in_the_place_of_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    run(dir, "all");
    fs::write(dir.join("in"), "").unwrap();
    let speak = ["speak", "--out", "a.wav"];
    let run = ["--run", "all"];
    for words in [
        [&speak[..], &run, &["--file", "runs"]].concat(),
        [&speak[..], &run, &["--voice", "runs", "--voice-text", "a"]].concat(),
        [&speak[..], &["--model", "in", "--script", "runs"]].concat(),
        [&speak[..], &["--model", "in", "--tokenizer", "runs"]].concat(),
        [&speak[..], &["--model", "in", "--voice", "2=runs"]].concat(),
        vec!["transcribe", "--model", "in", "--audio", "runs"],
        vec!["caption", "--run", "all", "--image", "runs"],
        vec![
            "generate",
            "--run",
            "all",
            "--prompt",
            "<image>runs</image>",
        ],
        vec!["codec", "encode", "--run", "all", "runs", "a"],
        vec!["convert-voice", "runs", "a.safetensors"],
        vec!["data", "espeak", "--out", "a", "--texts", "runs"],
    ] {
        let (usage, message) = complaint(dir, &words);
        let told = "cannot read runs: is a directory";
        assert_eq!((usage, message.as_str()), (false, told), "{words:?}");
    }
}

#[test]
fn a_file_says_the_format_that_it_gets() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    run(dir, "all");
    fs::write(dir.join("in"), "").unwrap();
    let pictures = "must be one of .png, .jpg, .jpeg, .webp";
    let sounds = "must be one of .wav";
    let sheet = [
        "sample-video",
        "--prompt",
        "a",
        "--run",
        "all",
        "--out",
        "a",
    ];
    for (words, told) in [
        (
            &["sample-image", "--grid", "--run", "all", "--out", "a.gif"][..],
            pictures,
        ),
        (
            &["generate", "--prompt", "a", "--run", "all", "--out", "a"],
            pictures,
        ),
        (
            &[
                "sample-video",
                "--prompt",
                "a",
                "--run",
                "all",
                "--out",
                "a.mp4",
            ],
            "cannot write a clip to `a.mp4`: its ending must be one of .gif, .png, .apng",
        ),
        (
            &[&sheet[..], &["--contact-sheet", "a.gif"]].concat(),
            "cannot write a contact sheet to `a.gif`: its ending must be one of .png",
        ),
        (&["speak", "--run", "all", "--out", "a.mp3"], sounds),
        (&["codec", "decode", "--run", "all", "in", "a.flac"], sounds),
        (&["codec", "reconstruct", "--run", "all", "in", "a"], sounds),
    ] {
        let (usage, message) = complaint(dir, words);
        assert!(usage && message.ends_with(told), "{words:?}: {message}");
    }
    for words in [
        &["sample-image", "--grid", "--run", "all", "--out", "a.JPG"][..],
        &[
            "generate", "--prompt", "a", "--run", "all", "--out", "a.webp",
        ],
        &[
            "sample-video",
            "--prompt",
            "a",
            "--run",
            "all",
            "--out",
            "a.GIF",
        ],
        &[&sheet[..], &["--contact-sheet", "a.png"]].concat(),
        &[
            "sample-video",
            "--prompt",
            "a",
            "--run",
            "all",
            "--out",
            "-",
        ],
        &["speak", "--run", "all", "--out", "-"],
        &["speak", "--run", "all", "--each", "--out", "folder"],
        &["codec", "encode", "--run", "all", "in", "a.safetensors"],
    ] {
        parse(words).unwrap().check(&Project::at(dir)).unwrap();
    }
}

/// Otherwise a recording that is named twice would be lost.
#[test]
fn latents_take_the_place_of_no_recording() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    run(dir, "all");
    fs::write(dir.join("in.wav"), "").unwrap();
    let words = ["codec", "encode", "--run", "all", "in.wav", "in.wav"];
    let (usage, message) = complaint(dir, &words);
    let told = "cannot write a file of latents to `in.wav`: its ending must be one of .safetensors";
    assert_eq!((usage, message.as_str()), (true, told));
}
