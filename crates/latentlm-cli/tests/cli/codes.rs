//! Tests of the rival on speech: a codec with codebooks, its commands, and the comparison with LatentLM.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;

use crate::earlier::copy;
use crate::speech::{TINY, corpus};
use crate::{expect, latentlm};

/// Runs a command that must succeed. Returns its standard output.
fn succeed(folder: &Path, args: &[String]) -> String {
    let words: Vec<&str> = args.iter().map(|own| &own[..]).collect();
    let output = latentlm(folder, &words).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Two codebooks of four entries, four steps, a checkpoint after each second.
fn train() -> Vec<String> {
    let mut args = words("train-tts --progress silent");
    let steps = TINY
        .iter()
        .filter(|own| !own.starts_with("codec_train.steps") && !own.starts_with("lm_train.steps"));
    args.extend(steps.map(|own| (*own).to_owned()));
    args.extend(words(
        "codec_train.steps=4 codec_train.checkpoint_every=2 lm_train.steps=1 \
         codec.quantizer.codebooks=2 codec.quantizer.entries=4",
    ));
    args
}

/// Entries, how often they are used, and everything else go on from a checkpoint as if nothing had happened.
#[test]
fn codebooks_go_on_bit_by_bit() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    corpus(&dir.join("corpus"));
    succeed(dir, &train());
    let run = dir.join("runs/voice");
    copy(&run, &dir.join("runs/again"));
    let stage = dir.join("runs/again/checkpoints/codec");
    fs::remove_dir_all(stage.join("step-4")).unwrap();
    succeed(
        dir,
        &words("train-tts --progress silent --run again --resume"),
    );
    for file in ["model.safetensors", "model-ema.safetensors"] {
        let read = |run: &str| {
            let path = format!("runs/{run}/checkpoints/codec/step-4/{file}");
            fs::read(dir.join(path)).unwrap()
        };
        let (whole, again) = (read("voice"), read("again"));
        assert!(whole == again, "{file} differs");
        let weights = SafeTensors::deserialize(&whole).unwrap();
        let names = weights.names();
        let kept = names.iter().filter(|name| name.contains("quantizer"));
        assert_eq!(
            kept.count(),
            4,
            "entries and usage of two codebooks: {names:?}"
        );
    }
    sound_goes_through_codes(dir);
}

/// What codes decode to is what the codec makes of a sound at once.
fn sound_goes_through_codes(dir: &Path) {
    let told = succeed(dir, &words("codec encode corpus/0.wav codes.safetensors"));
    assert!(told.contains("25 frames of 2 codes"), "{told}");
    let bytes = fs::read(dir.join("codes.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("codes").unwrap().shape(), [1, 25, 2]);
    succeed(dir, &words("codec decode codes.safetensors decoded.wav"));
    succeed(dir, &words("codec reconstruct corpus/0.wav again.wav"));
    let [decoded, again] = ["decoded.wav", "again.wav"].map(|name| fs::read(dir.join(name)));
    // One second is 25 whole frames of 640 samples.
    assert!(decoded.unwrap() == again.unwrap(), "not the same sound");
}

/// All models are trained, compared and of use afterwards; a second call has nothing left to train.
#[test]
fn speech_is_compared() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    corpus(&dir.join("corpus"));
    let mut args = words("compare tts --progress silent");
    let own = [
        "codec.latent_dim",
        "codec.frames_per_latent",
        "lm_train.steps",
    ];
    let shared = TINY
        .iter()
        .filter(|key| !own.iter().any(|own| key.starts_with(*own)));
    args.extend(shared.map(|key| format!("speech.{key}")));
    args.extend(words(
        "minutes=0 speech.lm_train.steps=2 frames_per_latent=[1,2] numbers_per_frame=4 groups=[1,2] \
         evaluate.samples=2 evaluate.hard_texts=3 evaluate.parameter_tolerance=1000 rival.codebooks=3 rival.entries=4 \
         rival.latent_dim=4 rival.width=32 rival.depth=1 rival.heads=2 rival.kv_heads=1 \
         rival.parallel_width=32 rival.parallel_depth=1 rival.parallel_heads=2 \
         rival.parallel_kv_heads=1",
    ));
    succeed(dir, &args);
    let run = dir.join("runs/compare-tts");
    let table = fs::read_to_string(run.join("compare.md")).unwrap();
    // 24,000 samples a second in frames of 640.
    for row in [
        "| latentlm-37.5 | ",
        "| latentlm-18.75 | ",
        "| rival-1 | ",
        "| rival-2 | ",
        "latentlm-18.75: 2.0 times fewer backbone steps than rival-1",
        "latentlm-18.75: 1.0 times fewer backbone steps than rival-2",
        "| measurement (95 % interval) | latentlm-37.5 | latentlm-18.75 | rival-1 | rival-2 |",
        "| hard without end | ",
        "| ten times fewer steps | backbone steps a second, against rival-1 | does not hold (1.00 times) | ",
        "Not measured: word errors (--recognizer, --open-recognizer)",
    ] {
        assert!(table.contains(row), "{row}: {table}");
    }
    let figure = fs::read_to_string(run.join("compare.svg")).unwrap();
    assert!(figure.contains("rival-2") && !figure.contains("NaN"));
    let html = fs::read_to_string(run.join("report.html")).unwrap();
    for run in ["latentlm-37.5", "latentlm-18.75", "rival-1", "rival-2"] {
        let link = format!("<a href=\"{run}/report.html\">{run}</a>");
        assert!(html.contains(&link), "{link}");
    }
    let html = fs::read_to_string(run.join("rival-1/report.html")).unwrap();
    assert!(html.contains("<td>evaluation of ") && html.contains("<td>hard without end"));
    let kept = ["checkpoints/lm/step-2/model.safetensors", "measured.json"];
    let written = || {
        kept.map(|file| {
            let path = run.join("rival-2").join(file);
            fs::metadata(path).unwrap().modified().unwrap()
        })
    };
    let before = written();
    succeed(dir, &words("compare tts --progress silent --resume"));
    assert_eq!(written(), before, "neither trained nor measured again");
    compared_models_are_of_use(dir);
    small_weights_are_for_latentlm(dir);
    rivals_speak_into_pipes(dir);
}

/// They speak, are evaluated alone, continue a voice, and their codec writes codes.
fn compared_models_are_of_use(dir: &Path) {
    for (run, rate) in [
        ("rival-1", "\"frames_a_second\": 37.5"),
        ("latentlm-18.75", "\"latents_a_second\": 18.75"),
    ] {
        let named = format!("--run runs/compare-tts/{run}");
        succeed(
            dir,
            &words(&format!("speak {named} --text one --out said.wav")),
        );
        assert!(fs::read(dir.join("said.wav")).unwrap().starts_with(b"RIFF"));
        let line =
            format!("eval-tts {named} --samples 1 --hard-texts 3 --held-out-voices corpus --json");
        let told = succeed(dir, &words(&line));
        // The corpus's letters are few, so that numbers can't be said.
        for part in [rate, "\"hard_texts\":", "\"texts_refused\":"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
    let voice = "speak --run runs/compare-tts/rival-2 --text one --voice corpus/0.wav \
                 --voice-text two --out said.wav";
    succeed(dir, &words(voice));
    let codec = "codec encode --run runs/compare-tts/rival-codec corpus/0.wav codes.safetensors";
    let told = succeed(dir, &words(codec));
    assert!(told.contains("frames of 3 codes"), "{told}");
}

/// Two sentences are as long in a pipe as in a file, and in two files without the pause of a quarter of a second.
fn rivals_speak_into_pipes(dir: &Path) {
    let speak = |out: &[&str]| {
        let two = ["speak", "--run", "runs/compare-tts/rival-1"];
        let two = [&two[..], &["--text", "one.", "--text", "two."], out].concat();
        let output = latentlm(dir, &two).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{out:?}: {error}");
        output.stdout
    };
    let piped = speak(&["--out", "-"]);
    assert!(piped.starts_with(b"RIFF"));
    speak(&["--out", "both.wav"]);
    let length = |file: &str| fs::read(dir.join(file)).unwrap().len();
    assert_eq!(piped.len(), length("both.wav"));
    speak(&["--each", "--out", "each"]);
    // A header has 44 bytes, a sample two.
    let files = length("each/001.wav") + length("each/002.wav") - 2 * 44;
    assert_eq!(piped.len() - 44, files + 2 * 6000);
}

/// It is measured in int8. Codes of rivals are drawn with the weights as they were trained.
fn small_weights_are_for_latentlm(dir: &Path) {
    let measure = |run: &str| {
        let named = format!("eval-tts --run runs/compare-tts/{run} --samples 1");
        words(&format!("{named} --json --weights int8"))
    };
    let told = succeed(dir, &measure("latentlm-18.75"));
    assert!(told.contains("\"weights\": \"int8\""), "{told}");
    let rival = measure("rival-1");
    let rival: Vec<&str> = rival.iter().map(|own| &own[..]).collect();
    expect(&mut latentlm(dir, &rival), 1, "leave --weights out");
}
