//! Weights that a run takes from elsewhere: from the run that it begins from, and for a perceptual loss. A list in
//! the run's folder has their hashes, which `--resume` compares, as it does with data.

use std::path::Path;

use latentlm::core::bundle::io_error;
use latentlm_data::{Content, Sample, file_sha256, sha256};
use latentlm_pipelines::{
    Found, Inventory, PipelineError, Recipe, RunFolder, TrainingData, ema_file, loss_weights,
};

use crate::context::Context;
use crate::error::Result;

/// List of the weights that a run takes from elsewhere, in its folder. Each is named by its key, not by its path, so
/// a file may be moved.
pub const WEIGHTS: &str = "weights.txt";

/// Weights that a key of a recipe names.
struct Weights {
    key: String,
    path: String,
    content: Content,
}

impl Weights {
    /// Their entry in the list.
    fn into_sample(self) -> Sample {
        Sample {
            name: self.key,
            about: String::new(),
            content: self.content,
        }
    }
}

/// Compares the weights of the codec's loss. `learned` tells whether the codec has learned with them already.
///
/// # Errors
/// If they are others than before and the user did not accept that, or a list can't be read or written.
pub fn compare_loss<R: Recipe, D: TrainingData>(
    context: &mut Context<R, D>,
    learned: bool,
) -> Result<()> {
    for (key, path) in loss_weights(&context.recipe).map_err(PipelineError::from)? {
        // If the loss needs a file that is missing, it says so itself.
        if Path::new(&path).is_file() {
            let content = Content::File(path.clone().into());
            let weights = Weights { key, path, content };
            compare(context, weights, learned)?;
        }
    }
    Ok(())
}

/// Compares the weights of the run that training begins from. `learned` tells whether training has begun already.
///
/// # Errors
/// As [`compare_loss`].
pub fn compare_teacher<R: Recipe, D: TrainingData>(
    context: &mut Context<R, D>,
    from: &RunFolder<R>,
    found: &Found<R>,
    learned: bool,
) -> Result<()> {
    let weights = of_teacher(from, found)?;
    compare(context, weights, learned)
}

/// Whether a run that goes on has taken over other weights than this one has now. A run of an older version, which has no
/// list, can't tell.
///
/// # Errors
/// If a list or file can't be read.
pub fn teacher_differs<R: Recipe>(
    run: &RunFolder<R>,
    from: &RunFolder<R>,
    found: &Found<R>,
) -> Result<bool> {
    let path = run.file(WEIGHTS);
    if !path.exists() {
        return Ok(false);
    }
    let now = Inventory::of(&[of_teacher(from, found)?.into_sample()], None);
    let changes = now.changes_since(&Inventory::read(&path)?);
    Ok(!changes.changed.is_empty())
}

/// The checkpoint of a run that training begins from: its manifest has a hash of every file.
fn of_teacher<R: Recipe>(from: &RunFolder<R>, found: &Found<R>) -> Result<Weights> {
    let mut text = format!("{:?}", found.manifest.whitening);
    for (name, file) in &found.manifest.files {
        text += &format!("\n{} {name}", file.sha256);
    }
    // Manifests of older versions have no hashes.
    if found.manifest.files.is_empty() {
        let path = found.folder.join(ema_file("model"));
        text += &file_sha256(&path).map_err(io_error("read", &path))?;
    }
    Ok(Weights {
        key: "lm.from".into(),
        path: from.path().display().to_string(),
        content: Content::Hash(sha256(text.as_bytes())),
    })
}

/// Compares weights with those of their key in the list, and adds them where the list lacks them.
fn compare<R: Recipe, D: TrainingData>(
    context: &mut Context<R, D>,
    weights: Weights,
    learned: bool,
) -> Result<()> {
    let path = context.run.file(WEIGHTS);
    let before = if path.exists() {
        Inventory::read(&path)?
    } else {
        Inventory::of(&[], None)
    };
    let name = format!("{}={}", weights.key, weights.path);
    let now = Inventory::of(&[weights.into_sample()], Some(&before));
    let changes = now.changes_since(&before);
    if !changes.changed.is_empty() {
        if !context.options.accept_changed_data {
            let reason = format!(
                "was begun with other weights: those of {name} changed; put them back, or continue with what is there \
                 with --accept-changed-data"
            );
            return Err(context.run.error(reason).into());
        }
        context.note(&format!("continuing with changed weights: {name}"));
    }
    if !changes.added.is_empty() && learned {
        context.note(&format!(
            "the run was begun by a version that kept no hash of {name}: whether these weights are the same can't be \
             compared"
        ));
    }
    let mut list = before.clone();
    list.extend(now);
    if list != before {
        list.write(&path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use burn::tensor::Device;
    use burn::train::Interrupter;
    use latentlm_pipelines::{ImageRecipe, Manifest, Wanted};

    use super::*;
    use crate::context::NoData;
    use crate::error::TrainError;
    use crate::options::{ProgressMode, RunOptions};

    /// A run that goes on.
    fn resumed(
        path: &Path,
        recipe: &ImageRecipe,
        accept_changed_data: bool,
    ) -> Context<ImageRecipe, NoData> {
        let options = RunOptions {
            path: path.into(),
            resume: true,
            accept_changed_data,
            device: Device::default(),
            more_devices: Vec::new(),
            progress: ProgressMode::Silent,
            interrupter: Interrupter::new(),
            within: String::new(),
        };
        Context::open(recipe.clone(), options, |_| Ok(NoData)).unwrap()
    }

    #[test]
    fn a_run_goes_on_with_the_weights_of_its_loss_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (file, path) = (dir.path().join("lpips"), dir.path().join("run"));
        let key = format!("codec_loss.lpips_weights={}", file.display());
        let recipe = ImageRecipe::resolve(None, std::slice::from_ref(&key)).unwrap();
        drop(RunFolder::create(&path, &recipe).unwrap());
        let compared = |accept: bool| {
            let mut context = resumed(&path, &recipe, accept);
            compare_loss(&mut context, true).map_err(|error| error.to_string())
        };
        // The loss itself says what is missing.
        assert_eq!(compared(false), Ok(()));
        assert!(!path.join(WEIGHTS).exists());
        fs::write(&file, "own").unwrap();
        assert_eq!(compared(false), Ok(()));
        assert_eq!(compared(false), Ok(()));
        fs::write(&file, "two").unwrap();
        let told = compared(false).unwrap_err();
        assert!(
            told.contains(&format!("those of {key} changed")) && told.contains("--accept-changed"),
            "{told}"
        );
        assert!(compared(false).is_err(), "it was not accepted");
        assert_eq!(compared(true), Ok(()));
        assert_eq!(compared(false), Ok(()), "these are its weights now");

        // Somebody moves the file and names its new place in the run's recipe.
        let moved = dir.path().join("moved");
        fs::rename(&file, &moved).unwrap();
        let key = format!("codec_loss.lpips_weights={}", moved.display());
        let recipe = ImageRecipe::resolve(None, std::slice::from_ref(&key)).unwrap();
        let (run, _) = RunFolder::<ImageRecipe>::open(&path).unwrap();
        run.set_recipe(&recipe).unwrap();
        let compared = || {
            let mut context = resumed(&path, &recipe, false);
            compare_loss(&mut context, true).map_err(|error| error.to_string())
        };
        assert_eq!(compared(), Ok(()));
        fs::write(&moved, "three").unwrap();
        let told = compared().unwrap_err();
        assert!(told.contains(&format!("those of {key} changed")), "{told}");
    }

    #[test]
    fn another_teacher_differs_and_one_trained_alike_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, own) = (dir.path().join("teacher"), dir.path().join("own"));
        let recipe = ImageRecipe::default();
        let from = RunFolder::create(&path, &recipe).unwrap();
        let train = |step: u64, weights: &[u8]| {
            let manifest = Manifest {
                step,
                ..Manifest::new("lm", &recipe, &[], "f")
            };
            from.checkpoint::<TrainError>(&manifest, |bundle| {
                Ok(bundle.write("model-ema.safetensors", weights)?)
            })
            .unwrap();
            from.require("lm", Wanted::Weights).unwrap()
        };
        drop(RunFolder::create(&own, &recipe).unwrap());
        let first = train(1, b"first");
        let compared = |found: &Found<ImageRecipe>| {
            let mut context = resumed(&own, &recipe, false);
            let compared = compare_teacher(&mut context, &from, found, true);
            let told = compared.err().map(|error| error.to_string());
            (told, teacher_differs(&context.run, &from, found).unwrap())
        };
        assert_eq!(compared(&first), (None, false));
        assert_eq!(compared(&train(1, b"first")), (None, false));
        let (told, differs) = compared(&train(2, b"other"));
        let told = told.unwrap();
        assert!(
            told.contains("those of lm.from=") && differs,
            "{told} {differs}"
        );
        // A run of an older version can't tell.
        fs::remove_file(own.join(WEIGHTS)).unwrap();
        let context = resumed(&own, &recipe, false);
        assert!(!teacher_differs(&context.run, &from, &first).unwrap());
    }
}
