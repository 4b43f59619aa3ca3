//! The finished run that a language model begins from, and whose averaged weights teach it.

use std::fs;
use std::path::Path;

use latentlm::core::bundle::{BundleWriter, io_error, write_atomically};
use latentlm::core::{DistilledGuidance, FewStep, Process};
use latentlm_data::TextTokenizer;
use latentlm_pipelines::{
    Checkpoint, Found, Inventory, LmConfig, PipelineError, Recipe, RunFolder, TrainingData, Wanted,
    changed_keys,
};

use crate::context::{CACHE, Context, DATA};
use crate::error::{Result, TrainError};
use crate::lm_recipe::{LmRecipe, STAGE};
use crate::options::RunOptions;
use crate::weights;

/// Name of the codec's stage.
pub const CODEC: &str = "codec";
/// Keys, and beginnings of keys, in which a model may differ from the one that it begins from.
const FREE: [&str; 23] = [
    "seed",
    "sample.",
    "lm_train.",
    "lm.from",
    "lm.process",
    "lm.few_step",
    "lm.shortcut_",
    "lm.distilled_",
    "lm.times",
    "lm.time_",
    "lm.batch_mul",
    "lm.precision",
    "lm.recompute",
    "lm.condition_dropout",
    "lm.history_noise",
    "data.curriculum_steps",
    "text.history_dropout",
    "text.cut_prompts",
    "text.whole_prompts",
    "text.continuations",
    "text.prompts_without_words",
    "text.without_full_stop",
    "text.prompt_tokens",
];

/// The run that a recipe begins from, if it names one.
///
/// # Errors
/// If it is no run of this kind, was trained with another codec, other data or sizes, learned flow matching and the recipe
/// does not, or can't teach the guidance that the recipe asks for.
pub fn run_of<R: LmRecipe>(recipe: &R) -> Result<Option<RunFolder<R>>> {
    let from = &recipe.lm().model.from;
    if from.is_empty() {
        return Ok(None);
    }
    let (run, before) = RunFolder::<R>::open(Path::new(from))?;
    for key in changed_keys(&before, recipe).map_err(PipelineError::from)? {
        if !FREE.iter().any(|free| key.name.starts_with(free)) {
            return Err(TrainError::config(format!(
                "lm.from={from} was trained with {}={}, not {}: a model keeps that of the one it begins from",
                key.name, key.before, key.now
            )));
        }
    }
    if let Some(reason) = wrong_teacher(recipe.lm().model, before.lm().model) {
        return Err(TrainError::config(format!("lm.from={from} {reason}")));
    }
    Ok(Some(run))
}

/// The reason why no model may begin from a teacher, or not this student, as the end of a sentence about the teacher; `None`
/// if the student may.
pub fn wrong_teacher(student: &LmConfig, teacher: &LmConfig) -> Option<&'static str> {
    if teacher.method.distilled_guidance != DistilledGuidance::None {
        return Some(
            "learned its guidance from a teacher (lm.distilled_guidance), and would be guided twice: begin from \
             that teacher",
        );
    }
    // The other way round works: a velocity of diffusion gives one of flow matching.
    if teacher.method.process == Process::Flow && student.method.process == Process::Diffusion {
        return Some(
            "learned flow matching (lm.process = \"flow\"), and a model of diffusion can't begin from it",
        );
    }
    if student.method.distilled_guidance == DistilledGuidance::None {
        return None;
    }
    if teacher.method.few_step == FewStep::Energy {
        return Some(
            "draws in one step (lm.few_step = \"energy\"), and can't teach lm.distilled_guidance: it knows no latents \
             between noise and result",
        );
    }
    if teacher.condition_dropout == 0.0 {
        return Some(
            "was trained with lm.condition_dropout=0, and can't teach lm.distilled_guidance: it knows nothing without \
             a label or text",
        );
    }
    None
}

/// The run that training still needs, if the recipe names one. A resumed run has its weights already, and needs the
/// other run only for guidance.
///
/// # Errors
/// As [`run_of`], or if the run that goes on can't be read.
pub fn needed<R: LmRecipe>(recipe: &R, options: &RunOptions) -> Result<Option<RunFolder<R>>> {
    let plan = recipe.lm();
    if plan.model.from.is_empty() {
        return Ok(None);
    }
    if options.resume {
        let (own, _) = RunFolder::<R>::open(&options.path)?;
        if let Some(latest) = own.latest(STAGE, Wanted::Everything)? {
            let taught = plan.model.method.distilled_guidance != DistilledGuidance::None;
            if !taught || latest.manifest.step >= plan.train.steps {
                return Ok(None);
            }
            check_there(&plan.model.from, "it learns guidance from it at every step")?;
        } else {
            check_there(&plan.model.from, "it has not taken over the weights yet")?;
        }
    }
    run_of(recipe)
}

/// Checks that the run is still there that a run that goes on needs.
fn check_there(from: &str, why: &str) -> Result<()> {
    if Path::new(from).join("config.toml").is_file() {
        return Ok(());
    }
    let reason = format!(
        "is no run any more (lm.from), and the run that goes on needs it: {why}; put it back"
    );
    Err(PipelineError::Run(from.into(), reason).into())
}

/// Notes that a run goes on without the run that it began from, if that is gone or has other weights now.
///
/// # Errors
/// If a list or checkpoint can't be read.
pub fn tell_of_unneeded<R: LmRecipe, D: TrainingData>(context: &mut Context<R, D>) -> Result<()> {
    let from = context.recipe.lm().model.from.clone();
    if from.is_empty() {
        return Ok(());
    }
    let reason = if !Path::new(&from).join("config.toml").is_file() {
        "is gone"
    } else if has_changed(&context.run, Path::new(&from))? {
        "has other weights than it had when this run began"
    } else {
        return Ok(());
    };
    context.note(&format!(
        "lm.from={from} {reason}: that changes nothing, this run has taken over its weights and needs it no more"
    ));
    Ok(())
}

/// Whether a run has other weights than when another run took them over. A run that can't be read any more, for
/// example because it is trained again, counts as changed.
fn has_changed<R: LmRecipe>(run: &RunFolder<R>, from: &Path) -> Result<bool> {
    let read = RunFolder::<R>::open(from)
        .map_err(TrainError::from)
        .and_then(|(from, _)| Ok((finished(&from)?, from)));
    match read {
        Ok((found, from)) => weights::teacher_differs(run, &from, &found),
        Err(_) => Ok(true),
    }
}

/// The newest checkpoint of a run's language model, which must be the last one.
///
/// # Errors
/// If there is none, it is damaged, or training is not finished.
pub fn finished<R: LmRecipe>(run: &RunFolder<R>) -> Result<Found<R>> {
    let found = run.require(STAGE, Wanted::Weights)?;
    let (step, steps) = (found.manifest.step, found.manifest.recipe.lm().train.steps);
    if step < steps {
        let mut reason =
            format!("is at step {step} of {steps}: finish it before another begins from it");
        // The last step may be there, and damaged.
        let mut damaged = found.notes.iter();
        let damaged = damaged.position(|note| note.starts_with("using "));
        for note in &found.notes[..damaged.unwrap_or(0)] {
            reason += &format!("; {note}");
        }
        return Err(run.error(reason).into());
    }
    Ok(found)
}

/// The vocabulary of a model: that of its newest checkpoint, in the folder `latest`, or that of the model that it
/// begins from, because the weights belong to it. If there is neither, `make` makes a new one.
///
/// # Errors
/// If the model that it begins from is not finished, a file can't be read, or `make` fails.
pub fn tokenizer<R: LmRecipe>(
    recipe: &R,
    latest: Option<&Path>,
    make: impl FnOnce() -> Result<TextTokenizer, PipelineError>,
) -> Result<TextTokenizer> {
    if let Some(folder) = latest {
        return Ok(Checkpoint::open(folder).tokenizer()?);
    }
    match run_of(recipe)? {
        Some(run) => {
            let folder = finished(&run)?.folder;
            Ok(Checkpoint::open(&folder).tokenizer()?)
        }
        None => Ok(make()?),
    }
}

/// Compares classes and data with those of the run that training begins from. Returns whether they are the same:
/// other data are accepted if the user said so.
///
/// # Errors
/// If they differ and the user did not accept that, or a list can't be read.
pub fn same_data<R: LmRecipe, D: TrainingData>(
    context: &mut Context<R, D>,
    from: &RunFolder<R>,
) -> Result<bool> {
    let mut differences = Vec::new();
    if finished(from)?.manifest.classes != context.data.classes() {
        differences.push("other classes".to_owned());
    }
    let list = from.file(DATA);
    // Runs of older versions have none.
    if list.is_file() {
        let now = Inventory::read(&context.run.file(DATA))?;
        let mut before = Inventory::read(&list)?;
        before.complete(&context.data.samples());
        let changes = now.changes_since(&before);
        if !changes.is_empty() {
            differences.push(changes.to_string());
        }
    }
    if differences.is_empty() {
        return Ok(true);
    }
    let differences = differences.join("; ");
    if !context.options.accept_changed_data {
        let reason = format!(
            "was trained on other data than the run that begins from it: {differences}; put them back, or begin on \
             what is there with --accept-changed-data"
        );
        return Err(from.error(reason).into());
    }
    context.note(&format!("beginning on changed data: {differences}"));
    Ok(false)
}

/// Whether a run has a codec already.
///
/// # Errors
/// If it can't be read.
pub fn has_codec<R: LmRecipe, D: TrainingData>(context: &Context<R, D>) -> Result<bool> {
    Ok(context.run.latest(CODEC, Wanted::Weights)?.is_some())
}

/// Takes over the codec of the run that training begins from, if there is none yet.
///
/// # Errors
/// As [`same_data`] and [`copy_codec`].
pub fn adopt_codec<R: LmRecipe, D: TrainingData>(
    context: &mut Context<R, D>,
    from: &RunFolder<R>,
) -> Result<()> {
    if has_codec(context)? {
        return Ok(());
    }
    let same = same_data(context, from)?;
    copy_codec(&context.run, from, same)
}

/// Copies the codec of another run, with what it makes of the data if these are the same.
///
/// # Errors
/// If the other run has no codec, or a file can't be copied.
pub fn copy_codec<R: Recipe>(
    run: &RunFolder<R>,
    from: &RunFolder<R>,
    same_data: bool,
) -> Result<()> {
    let Some(found) = from.latest(CODEC, Wanted::Everything)? else {
        let reason = "has no codec of its own (checkpoints/codec), which a model that begins from it keeps: name a \
                      run that trained one";
        return Err(from.error(reason).into());
    };
    let name = format!("step-{}", found.manifest.step);
    let stage = run.file("checkpoints").join(CODEC);
    let bundle = BundleWriter::begin(&stage.join(&name))?;
    let unreadable = |error| io_error("read", &found.folder)(error);
    for entry in fs::read_dir(&found.folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        fs::copy(&path, bundle.path(file)).map_err(io_error("copy", &path))?;
        bundle.wrote(file)?;
    }
    bundle.commit()?;
    write_atomically(&stage.join("latest"), name.as_bytes())?;
    // Half a copy of the cache is damaged, and is made again.
    for name in [CACHE, DATA] {
        let (source, own) = (from.file(name), run.file(name));
        let wanted = same_data || name != CACHE;
        if wanted && source.is_file() && !own.exists() {
            fs::copy(&source, &own).map_err(io_error("copy", &source))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use burn::train::Interrupter;
    use latentlm_data::{Content, Sample};
    use latentlm_pipelines::{ImageRecipe, Manifest, MllmRecipe, SpeechRecipe};

    use super::*;
    use crate::options::ProgressMode;

    fn recipe(changes: &[&str]) -> ImageRecipe {
        let changes: Vec<String> = changes.iter().map(|change| (*change).into()).collect();
        ImageRecipe::resolve(None, &changes).unwrap()
    }

    /// A recipe that begins from a run in a folder.
    fn student(from: &Path, changes: &[&str]) -> ImageRecipe {
        let mut recipe = recipe(&[&["lm.from=elsewhere"][..], changes].concat());
        recipe.lm.from = from.to_string_lossy().into_owned();
        recipe
    }

    fn options(path: &Path, resume: bool) -> RunOptions {
        RunOptions {
            path: path.into(),
            resume,
            accept_changed_data: false,
            device: Device::default(),
            more_devices: Vec::new(),
            progress: ProgressMode::Silent,
            interrupter: Interrupter::new(),
            within: String::new(),
        }
    }

    /// Saves a checkpoint without weights.
    fn save(run: &RunFolder<ImageRecipe>, stage: &str, step: u64, recipe: &ImageRecipe) {
        let manifest = Manifest {
            step,
            ..Manifest::new(stage, recipe, &["cat".to_owned()], "f")
        };
        let saved = run.checkpoint(&manifest, |_| Ok::<(), TrainError>(()));
        saved.unwrap();
    }

    #[test]
    fn models_that_know_no_guidance_do_not_teach_it() {
        const GUIDED: [&str; 2] = ["lm.distilled_guidance=fixed", "sample.guidance_scale=4.0"];
        const FLOW: [&str; 2] = ["lm.process=flow", "sample.sampler=euler"];
        let refused = |teacher: &[&str], own: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("teacher");
            drop(RunFolder::create(&path, &recipe(teacher)).unwrap());
            match run_of(&student(&path, own)) {
                Ok(run) => run.map_or("no run".into(), |_| "nothing".into()),
                Err(error) => error.to_string(),
            }
        };
        let guided_teacher = [&["lm.from=elsewhere"][..], &GUIDED].concat();
        let energy = [&FLOW[..], &["lm.few_step=energy", "sample.steps=1"]].concat();
        let guided_flow = [&FLOW[..], &GUIDED].concat();
        assert_eq!(refused(&[], &GUIDED), "nothing");
        assert_eq!(refused(&FLOW, &guided_flow), "nothing");
        assert_eq!(refused(&[], &guided_flow), "nothing");
        assert_eq!(refused(&energy, &FLOW), "nothing");
        assert_eq!(refused(&["lm.condition_dropout=0.0"], &[]), "nothing");
        for (teacher, own, part) in [
            (&guided_teacher[..], &GUIDED[..], "would be guided twice"),
            (&guided_teacher[..], &[][..], "would be guided twice"),
            (&energy[..], &guided_flow[..], "draws in one step"),
            (&FLOW[..], &GUIDED[..], "a model of diffusion can't"),
            (&FLOW[..], &[][..], "a model of diffusion can't"),
            (
                &["lm.condition_dropout=0.0"][..],
                &GUIDED[..],
                "lm.condition_dropout=0",
            ),
        ] {
            let message = refused(teacher, own);
            assert!(
                message.contains("lm.from=") && message.contains(part),
                "{message}"
            );
        }
    }

    /// A recipe of `configs` names a run of the default recipe, and such a run may teach it.
    fn begins_from_the_default<R: LmRecipe>(file: &str, name: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("teacher");
        drop(RunFolder::create(&path, &R::default()).unwrap());
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        let resolve = |changes: &[String]| R::resolve(Some(&configs.join(file)), changes).unwrap();
        assert_eq!(resolve(&[]).lm().model.from, name);
        let own = resolve(&[format!("lm.from={}", path.display())]);
        assert!(run_of(&own).unwrap().is_some(), "{file}");
    }

    #[test]
    fn fast_recipes_begin_from_runs_of_the_defaults() {
        begins_from_the_default::<ImageRecipe>("image/fast-mnist.toml", "runs/mnist");
        begins_from_the_default::<SpeechRecipe>("tts/fast-voice.toml", "runs/voice");
        begins_from_the_default::<MllmRecipe>("mllm/fast-twemoji.toml", "runs/emoji");
    }

    /// Only guidance needs the teacher on the way.
    #[test]
    fn a_run_goes_on_without_the_folder_that_it_began_from() {
        let dir = tempfile::tempdir().unwrap();
        let (gone, path) = (dir.path().join("gone"), dir.path().join("own"));
        let plain = student(&gone, &["lm_train.steps=6"]);
        let guided = [
            "lm_train.steps=6",
            "lm.distilled_guidance=fixed",
            "sample.guidance_scale=4.0",
        ];
        let guided = student(&gone, &guided);
        let run = RunFolder::create(&path, &plain).unwrap();
        let needs = |recipe: &ImageRecipe, resume| match needed(recipe, &options(&path, resume)) {
            Ok(run) => run.is_some(),
            Err(error) => {
                assert!(error.to_string().contains("is no run"), "{error}");
                true
            }
        };
        assert!(
            needs(&plain, false) && needs(&plain, true),
            "nothing is taken over yet"
        );
        save(&run, STAGE, 3, &plain);
        assert!(!needs(&plain, true));
        assert!(needs(&guided, true));
        save(&run, STAGE, 6, &plain);
        assert!(!needs(&guided, true), "it is finished");
    }

    /// The run looks finished, and its last checkpoint is damaged.
    #[test]
    fn a_damaged_end_of_the_teacher_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let recipe = recipe(&["lm_train.steps=6"]);
        let run = RunFolder::create(&path, &recipe).unwrap();
        save(&run, STAGE, 5, &recipe);
        let told = finished(&run).unwrap_err().to_string();
        let part = "is at step 5 of 6: finish it before another begins from it";
        assert!(told.ends_with(part), "{told}");
        save(&run, STAGE, 6, &recipe);
        assert_eq!(finished(&run).unwrap().manifest.step, 6);
        let manifest = path.join("checkpoints/lm/step-6/manifest.json");
        fs::write(manifest, "{").unwrap();
        let told = finished(&run).unwrap_err().to_string();
        assert!(
            told.contains(part) && told.contains("damaged manifest"),
            "{told}"
        );
    }

    struct OneSample(&'static str);

    impl TrainingData for OneSample {
        fn fingerprint(&self) -> String {
            "f".into()
        }

        fn samples(&self) -> Vec<Sample> {
            vec![Sample {
                name: "a".into(),
                about: String::new(),
                content: Content::Hash(self.0.into()),
            }]
        }

        fn classes(&self) -> &[String] {
            static CLASSES: std::sync::LazyLock<[String; 1]> =
                std::sync::LazyLock::new(|| ["cat".to_owned()]);
            CLASSES.as_slice()
        }
    }

    /// A teacher with a finished model, with or without a codec, and a run that begins from it on its sample or another.
    #[test]
    fn a_codec_is_taken_over_where_there_is_one_and_data_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("teacher");
        let recipe = recipe(&["lm_train.steps=2", "codec_train.steps=5"]);
        let from = RunFolder::create(&path, &recipe).unwrap();
        save(&from, STAGE, 2, &recipe);
        Inventory::of(&OneSample("00").samples(), None)
            .write(&from.file(DATA))
            .unwrap();
        std::fs::write(from.file(CACHE), "latents").unwrap();
        let adopted = |name: &str, sample, accept_changed_data| {
            let options = RunOptions {
                accept_changed_data,
                ..options(&dir.path().join(name), false)
            };
            let own = student(&path, &["lm_train.steps=2", "codec_train.steps=5"]);
            let mut context = Context::open(own, options, |_| Ok(OneSample(sample))).unwrap();
            let told = adopt_codec(&mut context, &from).map_err(|error| error.to_string());
            let codec = context.run.latest(CODEC, Wanted::Everything).unwrap();
            let step = codec.map(|found| found.manifest.step);
            assert_eq!(has_codec(&context).unwrap(), step.is_some(), "{name}");
            (told, step, context.run.file(CACHE).is_file())
        };
        let (told, step, _) = adopted("no-codec", "00", false);
        assert!(told.unwrap_err().contains("has no codec of its own"));
        assert_eq!(step, None);
        save(&from, CODEC, 5, &recipe);
        assert_eq!(adopted("same", "00", false), (Ok(()), Some(5), true));
        let (told, step, _) = adopted("other", "11", false);
        let told = told.unwrap_err();
        assert!(
            told.contains("1 changed (a)") && told.contains("--accept-changed-data"),
            "{told}"
        );
        assert_eq!(step, None);
        // Latents of other data are made anew.
        assert_eq!(adopted("accepted", "11", true), (Ok(()), Some(5), false));
    }
}
