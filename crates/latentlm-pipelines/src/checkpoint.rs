//! Where a pipeline is loaded from: a checkpoint's folder, or the same files in memory.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn::module::Module;
use latentlm::core::bundle::{io_error, load_module, load_module_from_bytes};
use latentlm::{LatentLm, load_lm, load_lm_from_bytes};

use crate::error::PipelineError;
use crate::recipe::Recipe;
use crate::run::{MANIFEST, Manifest, RunFolder};

/// The files of a checkpoint: `manifest.json`, weights and, where there is text, `tokenizer.json`.
///
/// ```no_run
/// use latentlm_pipelines::{Checkpoint, ImagePipeline};
///
/// # fn fetched(name: &str) -> Vec<u8> { name.into() }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Bytes out of a program's own memory, an archive, a network.
/// let names = ["manifest.json", "codec.safetensors", "model-ema.safetensors"];
/// let files = names.map(|name| (name.to_owned(), fetched(name)));
/// let device = latentlm::device("cpu")?;
/// let pipeline = ImagePipeline::from_checkpoint(&Checkpoint::from_files(files), &device)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Checkpoint(Source);

#[derive(Clone)]
enum Source {
    Folder(PathBuf),
    Memory(HashMap<String, Vec<u8>>),
}

impl Checkpoint {
    /// A checkpoint's folder, `checkpoints/<stage>/step-N` of a run. Files are read when a pipeline asks
    /// for them.
    pub fn open(folder: &Path) -> Self {
        Self(Source::Folder(folder.to_owned()))
    }

    /// The newest checkpoint of a run's stage, `codec` or `lm`.
    ///
    /// # Errors
    /// If the folder is no run, or has no finished checkpoint of the stage.
    pub fn newest<R: Recipe>(run: &Path, stage: &str) -> Result<Self, PipelineError> {
        let (run, _) = RunFolder::<R>::open(run)?;
        Ok(Self::open(&run.require(stage)?.0))
    }

    /// The files of such a folder, by name. Files that a pipeline does not need may be left out.
    pub fn from_files(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self(Source::Memory(files.into_iter().collect()))
    }

    /// What the checkpoint says of itself.
    ///
    /// # Errors
    /// If it has no manifest, or one that is damaged, of another format or with a wrong recipe.
    pub fn manifest<R: Recipe>(&self) -> Result<Manifest<R>, PipelineError> {
        let manifest: Manifest<R> =
            Manifest::from_bytes(&self.bytes(MANIFEST)?, &self.path(MANIFEST))?;
        manifest.recipe.validate()?;
        Ok(manifest)
    }

    /// Loads a module's parameters from a file of weights.
    ///
    /// # Errors
    /// If there is no such file, or one that is damaged or does not fit.
    pub fn load<M: Module>(&self, module: M, file: &str) -> Result<M, PipelineError> {
        let path = self.path(file);
        Ok(match &self.0 {
            // Out of the file itself, which takes half the memory.
            Source::Folder(_) => load_module(module, &path)?,
            Source::Memory(_) => load_module_from_bytes(module, self.bytes(file)?, &path)?,
        })
    }

    /// Loads a language model's parameters, also from a file with the names of older versions.
    ///
    /// # Errors
    /// If there is no such file, or one that is damaged or does not fit.
    pub fn load_lm(&self, model: LatentLm, file: &str) -> Result<LatentLm, PipelineError> {
        let path = self.path(file);
        Ok(match &self.0 {
            Source::Folder(_) => load_lm(model, &path)?,
            Source::Memory(_) => load_lm_from_bytes(model, self.bytes(file)?, &path)?,
        })
    }

    /// The vocabulary.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    #[cfg(any(feature = "mllm", feature = "speech"))]
    pub fn tokenizer(&self) -> Result<latentlm_data::TextTokenizer, PipelineError> {
        let (bytes, path) = (self.bytes(crate::TOKENIZER)?, self.path(crate::TOKENIZER));
        Ok(latentlm_data::TextTokenizer::from_bytes(&bytes, &path)?)
    }

    /// A text file that a checkpoint may lack.
    ///
    /// # Errors
    /// If it can't be read or is no text.
    #[cfg(any(feature = "mllm", feature = "speech"))]
    pub(crate) fn text(&self, file: &str) -> Result<Option<String>, PipelineError> {
        let path = self.path(file);
        let found = match &self.0 {
            Source::Folder(_) => path.exists(),
            Source::Memory(files) => files.contains_key(file),
        };
        if !found {
            return Ok(None);
        }
        let text = String::from_utf8(self.bytes(file)?);
        let invalid =
            |error| io_error("read", &path)(io::Error::new(io::ErrorKind::InvalidData, error));
        Ok(Some(text.map_err(invalid)?))
    }

    /// Where a file lies; in memory, its name.
    fn path(&self, file: &str) -> PathBuf {
        match &self.0 {
            Source::Folder(folder) => folder.join(file),
            Source::Memory(_) => file.into(),
        }
    }

    fn bytes(&self, file: &str) -> Result<Vec<u8>, PipelineError> {
        let path = self.path(file);
        let bytes = match &self.0 {
            Source::Folder(_) => fs::read(&path),
            Source::Memory(files) => files.get(file).cloned().ok_or_else(|| {
                let reason = "it is not among the files of the checkpoint";
                io::Error::new(io::ErrorKind::NotFound, reason)
            }),
        };
        Ok(bytes.map_err(io_error("read", &path))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use latentlm::core::bundle::save_module;
    use latentlm::core::conformance::seeded;

    use crate::image::{ImagePipeline, ImageRecipe};
    use crate::pipeline::ModelRecipe;
    use crate::run::{ema_file, weights_file};
    use crate::tensors::host_values;

    /// What makes any default recipe's model small.
    const SMALL: [&str; 5] = [
        "lm.width=32",
        "lm.depth=1",
        "lm.heads=2",
        "lm.head_depth=1",
        "sample.steps=2",
    ];
    /// The same of pictures' codec.
    const SMALL_VIT: [&str; 5] = [
        "codec.vit.encoder_width=16",
        "codec.vit.decoder_width=16",
        "codec.vit.encoder_depth=1",
        "codec.vit.decoder_depth=1",
        "codec.vit.heads=2",
    ];

    fn recipe<R: Recipe>(changes: &[&str]) -> R {
        let overrides = SMALL.iter().chain(changes).map(ToString::to_string);
        R::resolve(None, &overrides.collect::<Vec<_>>()).unwrap()
    }

    /// Writes a checkpoint of the language model's stage, as training does.
    fn write<R: ModelRecipe>(folder: &Path, recipe: &R, vocabulary: usize, device: &Device) {
        let classes = ["a".to_owned(), "b".to_owned()];
        let manifest = Manifest::new("lm", recipe, &classes, "fingerprint");
        let json = serde_json::to_vec(&manifest).unwrap();
        fs::write(folder.join(MANIFEST), json).unwrap();
        let codec = seeded(1, device, |device| recipe.init_codec(device));
        let model = seeded(2, device, |device| recipe.init_model(vocabulary, device));
        save_module(&codec, &folder.join(weights_file("codec"))).unwrap();
        save_module(&model, &folder.join(ema_file("model"))).unwrap();
    }

    /// All files of a folder.
    fn files(folder: &Path) -> HashMap<String, Vec<u8>> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        let file = |entry: fs::DirEntry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).unwrap())
        };
        entries.map(file).collect()
    }

    /// The checkpoint of a tiny model of two classes.
    fn tiny(folder: &Path, device: &Device) {
        write(folder, &recipe::<ImageRecipe>(&SMALL_VIT), 2, device);
    }

    #[test]
    fn a_folder_and_its_bytes_draw_the_same() {
        let (dir, device) = (tempfile::tempdir().unwrap(), Device::default());
        tiny(dir.path(), &device);
        let in_memory = Checkpoint::from_files(files(dir.path()));
        let drawn = [Checkpoint::open(dir.path()), in_memory].map(|checkpoint| {
            let pipeline = ImagePipeline::from_checkpoint(&checkpoint, &device).unwrap();
            assert_eq!(pipeline.class("B").unwrap(), 1);
            let options = pipeline.recipe().sample_options();
            host_values(pipeline.draw(&[0, 1], &options, 3).unwrap())
        });
        assert_eq!(drawn[0].len(), 2 * 32 * 32);
        assert_eq!(drawn[0], drawn[1]);
    }

    #[test]
    fn missing_and_damaged_files_are_named() {
        let (dir, device) = (tempfile::tempdir().unwrap(), Device::default());
        tiny(dir.path(), &device);
        let whole = files(dir.path());
        let message = |files: HashMap<String, Vec<u8>>| {
            let loaded = ImagePipeline::from_checkpoint(&Checkpoint::from_files(files), &device);
            loaded.unwrap_err().to_string()
        };
        for file in [MANIFEST, "codec.safetensors", "model-ema.safetensors"] {
            let mut files = whole.clone();
            files.remove(file);
            let told = message(files);
            assert!(told.contains(file) && told.contains("not among"), "{told}");
            let mut files = whole.clone();
            let bytes = files.get_mut(file).unwrap();
            bytes.truncate(bytes.len() / 2);
            let told = message(files);
            assert!(told.contains(file) && told.contains("damaged"), "{told}");
        }
    }

    #[cfg(any(feature = "mllm", feature = "speech"))]
    fn vocabulary(folder: &Path) -> latentlm_data::TextTokenizer {
        use latentlm_data::{TextTokenizer, TokenizerKind};

        let texts = ["a red heart".to_owned()];
        let tokenizer = TextTokenizer::train(TokenizerKind::Characters, &texts, 64).unwrap();
        let json = tokenizer.to_json().unwrap();
        fs::write(folder.join(crate::TOKENIZER), json).unwrap();
        tokenizer
    }

    #[cfg(feature = "speech")]
    #[test]
    fn a_folder_and_its_bytes_speak_the_same() {
        use crate::speech::{SpeechPipeline, SpeechRecipe};

        let (dir, device) = (tempfile::tempdir().unwrap(), Device::default());
        let recipe: SpeechRecipe = recipe(&[
            "codec.ratios=[4, 4, 5, 8]",
            "codec.width=2",
            "codec.widths=[]",
            "codec.latent_dim=4",
            "codec.frames_per_latent=1",
            "codec.depths=[0, 1, 0, 0, 1]",
            "sample.max_seconds=0.4",
        ]);
        let words = vocabulary(dir.path()).vocabulary();
        write(dir.path(), &recipe, words, &device);
        let in_memory = Checkpoint::from_files(files(dir.path()));
        let said = [Checkpoint::open(dir.path()), in_memory].map(|checkpoint| {
            let pipeline = SpeechPipeline::from_checkpoint(&checkpoint, &device).unwrap();
            let options = pipeline.recipe().sample_options();
            let texts = ["a heart".to_owned(), "red".to_owned()];
            pipeline.say(&texts, None, &options, 3).unwrap()
        });
        assert_eq!(said[0].len(), 2);
        assert_eq!(said[0], said[1]);
    }

    #[cfg(feature = "mllm")]
    #[test]
    fn a_folder_and_its_bytes_draw_the_same_for_a_text() {
        use crate::mllm::{MllmPipeline, MllmRecipe};

        let (dir, device) = (tempfile::tempdir().unwrap(), Device::default());
        let recipe: MllmRecipe = recipe(&SMALL_VIT);
        let words = vocabulary(dir.path()).vocabulary();
        write(dir.path(), &recipe, words, &device);
        let in_memory = Checkpoint::from_files(files(dir.path()));
        let drawn = [Checkpoint::open(dir.path()), in_memory].map(|checkpoint| {
            let pipeline = MllmPipeline::from_checkpoint(&checkpoint, &device).unwrap();
            let options = pipeline.recipe().sample_options();
            let texts = ["a red heart".to_owned()];
            host_values(pipeline.draw(&texts, &options, 3).unwrap())
        });
        assert_eq!(drawn[0].len(), 3 * 32 * 32);
        assert_eq!(drawn[0], drawn[1]);
    }
}
