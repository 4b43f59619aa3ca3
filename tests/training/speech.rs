//! Runs of speech.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use latentlm::SampleOptions;
use latentlm_compare::{FastTtsRecipe, StudentResult, compare_fast_tts};
use latentlm_eval::{EvaluateSpeechOptions, Listener, SpeechJudges, evaluate_speech, unshown};
use latentlm_pipelines::{PipelineError, Recipe, SpeechCodec, SpeechPipeline, SpeechRecipe};
use latentlm_tests::repository;
use latentlm_train::{RunEnd, TrainError, train_speech};

use crate::runs::{
    alone, check_bf16, check_resumes, check_two_devices, checkpoint_file, run_options, tensors,
};

/// What makes the default recipe so small that both stages take seconds.
fn small(data: &Path) -> Vec<String> {
    let mut overrides = vec![format!("data.path={}", data.display())];
    let small = [
        "data.composed=8",
        "data.codec_seconds=0.2",
        "data.pack_positions=200",
        "codec.ratios=[4, 4, 5, 8]",
        "codec.width=2",
        "codec.widths=[]",
        "codec.latent_dim=4",
        "codec.frames_per_latent=1",
        "codec.depths=[0, 1, 0, 0, 1]",
        "codec_loss.windows=[64, 256]",
        "codec_loss.mel_bands=[4, 8]",
        "codec_train.steps=3",
        "codec_train.batch_size=2",
        "codec_train.warmup_steps=2",
        "codec_train.log_every=1",
        "lm.width=32",
        "lm.depth=1",
        "lm.heads=2",
        "lm.kv_heads=1",
        "lm.head_depth=1",
        "lm.batch_mul=2",
        "lm_train.steps=3",
        "lm_train.warmup_steps=2",
        "lm_train.log_every=1",
        "sample.steps=2",
        "sample.max_seconds=0.4",
    ];
    overrides.extend(small.map(ToString::to_string));
    overrides
}

/// The default recipe on other data, so small, with changes.
pub fn tiny(data: &Path, changes: &[&str]) -> SpeechRecipe {
    let mut overrides = small(data);
    overrides.extend(changes.iter().map(ToString::to_string));
    SpeechRecipe::resolve(None, &overrides).unwrap()
}

/// The corpus that ships.
pub fn voice() -> std::path::PathBuf {
    repository("datasets/voice")
}

/// Begins or continues a run.
pub fn run(
    path: &Path,
    recipe: &SpeechRecipe,
    resume: bool,
    stop: bool,
) -> Result<RunEnd, TrainError> {
    train_speech(recipe.clone(), run_options(path, resume, stop))
}

#[test]
fn a_run_of_speech_stopped_after_every_step_equals_an_uninterrupted_one() {
    let recipe = tiny(
        &voice(),
        &[
            "codec_loss.adversarial_weight=1.0",
            "codec_loss.adversarial_start=1",
            "codec_loss.discriminator_windows=[64]",
            "codec_loss.discriminator_width=2",
            "lm_train.grad_accumulation=2",
        ],
    );
    check_resumes(&recipe, train_speech, 5);
}

#[test]
fn a_finished_run_speaks_repeatably_and_is_measured() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let end = run(&path, &tiny(&voice(), &[]), false, false).unwrap();
    let RunEnd::Finished { report, .. } = end else {
        panic!("not finished: {end:?}");
    };
    let html = fs::read_to_string(&report).unwrap();
    for part in ["<svg", "data:image/png;base64", "data:audio/wav;base64"] {
        assert!(html.contains(part), "{part}");
    }

    let device = Device::default();
    let pipeline = SpeechPipeline::from_run(&path, &device).unwrap();
    let options = SampleOptions {
        steps: 2,
        guidance_scale: 2.0,
        ..SampleOptions::default()
    };
    let text = "three five nine".to_owned();
    let texts = [text.clone(), "a".to_owned()];
    let say = |seed| pipeline.say(&texts, None, &options, seed).unwrap();
    assert_eq!(say(1), say(1));
    streams_what_it_says(&pipeline, &text, &options, 1);

    let message = |text: &str| {
        let said = pipeline.say(&[text.to_owned()], None, &options, 0);
        said.unwrap_err().to_string()
    };
    assert!(message("  ").contains("empty"), "{}", message("  "));
    let voice = pipeline.voice("one two", vec![0.1; 4000]).unwrap();
    let said = pipeline.say(&texts, Some(&voice), &options, 1).unwrap();
    assert_eq!(said.len(), 2);
    assert!(
        pipeline.voice("x", vec![0.1; 10]).is_err(),
        "shorter than a latent"
    );
    is_measured(&path, options);
}

/// Streamed chunk by chunk, the same is heard as from the whole batch.
fn streams_what_it_says(pipeline: &SpeechPipeline, text: &str, options: &SampleOptions, seed: u64) {
    let mut streamed: Vec<f32> = Vec::new();
    let mut chunks = 0;
    let times = pipeline.stream(text, None, options, seed, |sound| {
        streamed.extend(sound);
        chunks += 1;
        Ok::<(), PipelineError>(())
    });
    let times = times.unwrap();
    assert!(times.first_audio_s <= times.total_s);
    let whole = pipeline.say(&[text.to_owned()], None, options, seed);
    let whole = whole.unwrap();
    assert_eq!(times.was_cut, whole[0].was_cut);
    let whole = &whole[0].samples;
    assert_eq!(streamed.len(), whole.len());
    assert_eq!(chunks, whole.len() / 640, "a chunk a latent");
    for (streamed, whole) in streamed.iter().zip(whole) {
        assert!((streamed - whole).abs() < 1e-4);
    }
    let mut heard = 0;
    let ended = pipeline.stream(text, None, options, seed, |_| {
        heard += 1;
        Err::<(), _>(PipelineError::Voice("heard enough".into()))
    });
    assert_eq!(heard, chunks.min(1), "no more is heard than is asked for");
    assert_eq!(ended.is_err(), chunks > 0);
}

/// Finds that the first recording suffered a little, and gives no number to the others.
fn pesq_judge(path: &Path) -> Listener {
    let script = path.join("judge it.sh");
    let text = "score=3.5; while [ $# -gt 0 ]; do
        printf '%s\\t%s\\n' \"$2\" $score; score=nan; shift 2; done";
    fs::write(&script, text).unwrap();
    Listener::parse(&format!("sh \"{}\"", script.display())).unwrap()
}

/// With a listener that hears the same in everything.
fn is_measured(path: &Path, sample: SampleOptions) {
    let script = path.join("listen.sh");
    fs::write(
        &script,
        "for f in \"$@\"; do printf '%s\\tone two\\n' \"$f\"; done",
    )
    .unwrap();
    let listener = Listener::parse(&format!("sh {}", script.display())).unwrap();
    let options = EvaluateSpeechOptions {
        samples: 2,
        seed: 3,
        sample,
        judges: SpeechJudges {
            recognizer: Some(listener.clone()),
            open_recognizer: Some(listener),
            pesq: Some(pesq_judge(path)),
            ..SpeechJudges::default()
        },
        hard_texts: 3,
        held_out_voices: None,
        weights: None,
        phase: unshown,
    };
    let measured = evaluate_speech(path, &options, &Device::default()).unwrap();
    let values = &measured.values;
    for name in [
        "codec_mel_distance_db",
        "codec_stoi",
        "recordings_word_error_rate_codec",
        "digits_word_error_rate_model",
        "digits_word_error_rate_prompted",
        "digits_words_behind_prompt",
        "digits_dropped_behind_prompt",
        "digits_longest_ratio",
        "real_time_factor",
        "first_audio_ms",
    ] {
        assert!(values.contains_key(name), "{name}: {measured:?}");
    }
    assert!(
        values["digits_word_error_rate_original"] > 0.0,
        "the listener is deaf"
    );
    let counts = [
        "hard_texts",
        "hard_texts_beyond",
        "longest_trained_text",
        "texts_said",
        "texts_refused",
        "latents_a_second",
    ];
    for (name, value) in values {
        let needs_none = counts.contains(&&name[..]) || !value.is_finite();
        let has_one = measured.intervals.contains_key(name);
        assert!(needs_none || has_one, "{name}: {measured:?}");
    }
    assert_eq!(values["codec_pesq"], 3.5);
    assert_eq!(measured.intervals["codec_pesq"], [3.5, 3.5]);
    assert!(values.contains_key("hard_texts"), "{measured:?}");
    assert!(path.join("evaluation.json").is_file());
}

/// A student of a teacher with the paper's diffusion: the teacher's codec and vocabulary, guidance without a second branch,
/// two evaluations a latent, all utterances from the first step on, and the temperature that it learned at.
#[test]
fn a_student_of_speech_begins_from_a_finished_run() {
    let dir = tempfile::tempdir().unwrap();
    let teacher = dir.path().join("teacher");
    let student = tiny(
        &voice(),
        &[
            "data.curriculum_steps=0",
            "lm.process=flow",
            "lm.few_step=shortcut",
            "lm.shortcut_share=0.5",
            "lm.shortcut_divisions=32",
            "lm.distilled_guidance=scale",
            "lm.distilled_temperature=0.6",
            &format!("lm.from={}", teacher.display()),
            "sample.sampler=euler",
        ],
    );
    let path = dir.path().join("student");
    {
        let _turn = alone();
        run(&teacher, &tiny(&voice(), &[]), false, false).unwrap();
        run(&path, &student, false, false).unwrap();
        let file = |run: &Path, name| checkpoint_file::<SpeechRecipe>(run, name);
        let [own, given] = [&path, &teacher].map(|run| tensors(&file(run, "codec.safetensors")));
        assert!(own == given, "another codec");
        let [own, given] =
            [&path, &teacher].map(|run| fs::read(file(run, "tokenizer.json")).unwrap());
        assert!(own == given, "another vocabulary");
        let pipeline = SpeechPipeline::from_run(&path, &Device::default()).unwrap();
        let options = student.sample_options();
        assert_eq!((options.steps, options.noise_temperature), (2, 0.6));
        assert!(!pipeline.model.reads_null(&options));
        streams_what_it_says(&pipeline, "three five nine", &options, 1);
        let told = |options| {
            let refused = pipeline.accepts(&["one".to_owned()], None, &options);
            refused.unwrap_err().to_string()
        };
        let warmer = SampleOptions {
            noise_temperature: 1.0,
            ..options
        };
        let part = "sample.noise_temperature must be 0.6";
        assert!(told(warmer).contains(part), "{}", told(warmer));
        let guided = SampleOptions {
            guidance_scale: 9.0,
            ..options
        };
        assert!(told(guided).contains("scales from 1 to 4"));
        is_measured(&path, options);
    }
    check_resumes(&student, train_speech, 3);
}

#[test]
fn a_codec_works_by_itself() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    run(&path, &tiny(&voice(), &[]), false, true).unwrap();
    let codec = SpeechCodec::from_run(&path, &Device::default()).unwrap();
    let sound: Vec<f32> = (0..3000).map(|i| 0.2 * (i as f32 * 0.1).sin()).collect();
    let latents = codec.encode(sound.clone());
    assert_eq!(
        latents.dims(),
        [1, 5, 4],
        "3000 samples are five hops of 640"
    );
    let decoded = codec.decode(latents);
    let (original, copy) = codec.reconstruct(sound.clone());
    assert_eq!((original.len(), copy.len()), (3000, 3000));
    assert_eq!(decoded[..3000], copy[..]);
}

/// Each a run of speech with the first one's codec, though the second seed composes other utterances.
#[test]
fn voices_and_their_fast_students_are_compared() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let speech = small(&voice()).into_iter();
    let speech = speech.map(|change| format!("speech.{change}"));
    let own = ["seeds=2", "samples=2", "student_steps=2"];
    let own = own.map(|change| format!("fast_tts.{change}"));
    let changes: Vec<String> = speech.chain(own).collect();
    let recipe = FastTtsRecipe::resolve(None, &changes).unwrap();
    let path = dir.path().join("r");
    let options = run_options(&path, false, false);
    let end = compare_fast_tts(recipe, SpeechJudges::default(), options).unwrap();
    assert!(matches!(end, RunEnd::Finished { .. }));
    let json = fs::read_to_string(path.join("fast-tts.json")).unwrap();
    let results: Vec<StudentResult> = serde_json::from_str(&json).unwrap();
    let names = results.iter().map(|own| (&own.name[..], own.runs.len()));
    assert_eq!(names.collect::<Vec<_>>(), [("default", 2), ("fast", 2)]);
    for own in &results {
        for run in &own.runs {
            assert!(run.values.contains_key("codec_stoi"), "{own:?}");
        }
    }
    let codec = |run: &str| {
        let run = path.join(run);
        tensors(&checkpoint_file::<SpeechRecipe>(&run, "codec.safetensors"))
    };
    for run in ["default-2", "fast-1", "fast-2"] {
        assert!(codec(run) == codec("default-1"), "{run}: another codec");
    }
}

#[test]
fn speech_is_learned_in_bf16() {
    check_bf16(|precision| tiny(&voice(), &[precision]), train_speech);
}

#[test]
fn two_devices_learn_speech_as_one() {
    check_two_devices(
        tiny(
            &voice(),
            &[
                "codec_loss.adversarial_weight=1.0",
                "codec_loss.adversarial_start=1",
                "codec_loss.discriminator_windows=[64]",
                "codec_loss.discriminator_width=2",
            ],
        ),
        train_speech,
    );
}
