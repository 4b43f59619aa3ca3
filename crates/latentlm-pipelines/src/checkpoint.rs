//! Where a pipeline is loaded from: a checkpoint's folder, or the same files in memory.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn::module::Module;
use latentlm::core::bundle::{
    BundleError, check_size, io_error, load_module, load_module_from_bytes,
};
use latentlm::{LatentLm, load_lm, load_lm_from_bytes};

use crate::error::{PipelineError, Result};
use crate::integrity::{FileSums, MANIFEST, Wanted, special_file, sum, sum_of, unchecked};
use crate::manifest::{AnyManifest, Manifest, manifest_bytes, parsed};
use crate::recipe::Recipe;
use crate::run::{Found, RunFolder};

/// The files of a checkpoint: `manifest.json`, weights and, where there is text, `tokenizer.json`. Each file is
/// compared with its checksum in the manifest when it is read; a checkpoint without checksums has a
/// [note](Self::notes).
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
pub struct Checkpoint {
    source: Source,
    /// Sizes and hashes that files are compared with.
    sums: FileSums,
    notes: Vec<String>,
}

#[derive(Clone)]
enum Source {
    Folder(PathBuf),
    Memory(HashMap<String, Vec<u8>>),
}

impl Checkpoint {
    /// A checkpoint's folder, `checkpoints/<stage>/step-N` of a run. Files besides the manifest are read when a
    /// pipeline asks for them.
    pub fn open(folder: &Path) -> Self {
        Self::of(Source::Folder(folder.to_owned()))
    }

    fn of(source: Source) -> Self {
        let name = match &source {
            Source::Folder(folder) => folder.display().to_string(),
            Source::Memory(_) => "the checkpoint".into(),
        };
        let mut checkpoint = Self {
            source,
            sums: FileSums::new(),
            notes: Vec::new(),
        };
        // A manifest that can't be read is an error of `manifest`.
        let json = checkpoint.bytes(MANIFEST).ok();
        let manifest: Option<AnyManifest> = json.and_then(|json| parsed(&json).ok());
        match manifest.map(|manifest| manifest.files) {
            Some(sums) if sums.is_empty() => checkpoint.notes.push(unchecked(&name)),
            Some(sums) => checkpoint.sums = sums,
            None => {}
        }
        checkpoint
    }

    /// The newest whole checkpoint of a run's stage, `codec` or `lm`. If a newer one is damaged, a
    /// [note](Self::notes) says so.
    ///
    /// # Errors
    /// If the folder is no run, or has no whole checkpoint of the stage.
    pub fn newest<R: Recipe>(run: &Path, stage: &str) -> Result<Self> {
        let (run, _) = RunFolder::<R>::open(run)?;
        Ok(Self::found(run.require(stage, Wanted::Weights)?))
    }

    /// A checkpoint that a run has found whole. Its files are not compared once more.
    pub fn found<R>(found: Found<R>) -> Self {
        Self {
            source: Source::Folder(found.folder),
            sums: FileSums::new(),
            notes: found.notes,
        }
    }

    /// What a user should know about the checkpoint, one line each: newer ones that are damaged, or that
    /// it has no checksums.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The files of such a folder, by name. Files that a pipeline does not need may be left out.
    pub fn from_files(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self::of(Source::Memory(files.into_iter().collect()))
    }

    /// The checkpoint's manifest.
    ///
    /// # Errors
    /// If it has no manifest, or one that is damaged, of another format or with a wrong recipe.
    pub fn manifest<R: Recipe>(&self) -> Result<Manifest<R>> {
        let manifest: Manifest<R> =
            Manifest::from_bytes(&self.bytes(MANIFEST)?, &self.path(MANIFEST))?;
        manifest.recipe.validate()?;
        Ok(manifest)
    }

    /// Refuses a file of weights that is too small for a model's `parameters`, before the model takes
    /// memory for them: sizes in a damaged manifest may ask for any amount.
    ///
    /// # Errors
    /// If there is no such file, or it has fewer than 2 bytes for each parameter.
    pub fn check_size(&self, file: &str, parameters: usize) -> Result<()> {
        let path = self.path(file);
        let bytes = match &self.source {
            Source::Folder(_) => fs::metadata(&path).map(|metadata| metadata.len()),
            Source::Memory(files) => match files.get(file) {
                Some(bytes) => Ok(bytes.len() as u64),
                None => Err(not_among()),
            },
        };
        let bytes = bytes.map_err(io_error("read", &path))?;
        Ok(check_size(&path, bytes, parameters, "manifest")?)
    }

    /// The error for a file that does not match the manifest, or a manifest of an impossible model.
    pub(crate) fn mismatch(&self, file: &str, reason: &str) -> PipelineError {
        let path = self.path(file);
        let reason = reason.to_owned();
        BundleError::Mismatch { path, reason }.into()
    }

    /// Loads a module's parameters from a file of weights.
    ///
    /// # Errors
    /// If there is no such file, or one that is damaged, too small or does not fit.
    pub fn load<M: Module>(&self, module: M, file: &str) -> Result<M> {
        self.check_size(file, module.num_params())?;
        self.compare(file)?;
        let path = self.path(file);
        Ok(match &self.source {
            // Read directly from the file, which takes half the memory.
            Source::Folder(_) => load_module(module, &path)?,
            Source::Memory(_) => load_module_from_bytes(module, self.bytes(file)?, &path)?,
        })
    }

    /// Loads a language model's parameters, also from a file with the names of older versions.
    ///
    /// # Errors
    /// If there is no such file, or one that is damaged, too small or does not fit.
    pub fn load_lm(&self, model: LatentLm, file: &str) -> Result<LatentLm> {
        self.check_size(file, model.num_params())?;
        self.compare(file)?;
        let path = self.path(file);
        Ok(match &self.source {
            Source::Folder(_) => load_lm(model, &path)?,
            Source::Memory(_) => load_lm_from_bytes(model, self.bytes(file)?, &path)?,
        })
    }

    /// The vocabulary.
    ///
    /// # Errors
    /// If the file is missing or damaged.
    #[cfg(any(feature = "mllm", feature = "speech"))]
    pub fn tokenizer(&self) -> Result<latentlm_data::TextTokenizer> {
        self.compare(crate::TOKENIZER)?;
        let (bytes, path) = (self.bytes(crate::TOKENIZER)?, self.path(crate::TOKENIZER));
        let json = self.bytes(MANIFEST).ok();
        let manifest = json.and_then(|json| parsed::<Allowing>(&json).ok());
        let megabytes = manifest.map_or(0, |manifest| manifest.recipe.text.max_tokenizer_mb);
        let read = latentlm_data::TextTokenizer::from_bytes_allowed(&bytes, &path, megabytes);
        Ok(read?)
    }

    /// A text file that a checkpoint may lack.
    ///
    /// # Errors
    /// If it can't be read or is no text.
    #[cfg(any(feature = "mllm", feature = "speech"))]
    pub(crate) fn text(&self, file: &str) -> Result<Option<String>> {
        let path = self.path(file);
        let found = match &self.source {
            Source::Folder(_) => path.exists(),
            Source::Memory(files) => files.contains_key(file),
        };
        if !found {
            return Ok(None);
        }
        self.compare(file)?;
        let text = String::from_utf8(self.bytes(file)?);
        let invalid =
            |error| io_error("read", &path)(io::Error::new(io::ErrorKind::InvalidData, error));
        Ok(Some(text.map_err(invalid)?))
    }

    /// Compares a file with its size and hash, if the manifest has them.
    ///
    /// # Errors
    /// If it can't be read, or differs.
    fn compare(&self, file: &str) -> Result<()> {
        let Some(said) = self.sums.get(file) else {
            return Ok(());
        };
        let path = self.path(file);
        let found = match &self.source {
            Source::Folder(_) => sum(&path),
            Source::Memory(files) => files
                .get(file)
                .map(|bytes| sum_of(bytes))
                .ok_or_else(not_among),
        };
        let found = found.map_err(io_error("read", &path))?;
        if found == *said {
            return Ok(());
        }
        let difference = if found.bytes == said.bytes {
            "its checksum differs".to_owned()
        } else {
            format!("it has {} bytes instead of {}", found.bytes, said.bytes)
        };
        let reason = format!("damaged file: {difference}");
        Err(PipelineError::Run(path, reason))
    }

    /// Where a file lies; in memory, its name.
    fn path(&self, file: &str) -> PathBuf {
        match &self.source {
            Source::Folder(folder) => folder.join(file),
            Source::Memory(_) => file.into(),
        }
    }

    /// The bytes of a file. The manifest is the first that is read of a folder.
    fn bytes(&self, file: &str) -> Result<Vec<u8>> {
        if let Source::Folder(folder) = &self.source
            && let Some(reason) = special_file(folder)
        {
            return Err(PipelineError::Run(folder.clone(), reason));
        }
        let path = self.path(file);
        let bytes = match &self.source {
            Source::Folder(folder) if file == MANIFEST => manifest_bytes(folder),
            Source::Folder(_) => fs::read(&path),
            Source::Memory(files) => files.get(file).cloned().ok_or_else(not_among),
        };
        Ok(bytes.map_err(io_error("read", &path))?)
    }
}

/// What a recipe of any kind with text says of the size of its tokenizer.
#[cfg(any(feature = "mllm", feature = "speech"))]
#[derive(serde::Deserialize)]
struct Allowing {
    #[serde(default)]
    text: AllowedText,
}

#[cfg(any(feature = "mllm", feature = "speech"))]
#[derive(Default, serde::Deserialize)]
struct AllowedText {
    #[serde(default)]
    max_tokenizer_mb: u64,
}

fn not_among() -> io::Error {
    let reason = "it is not among the files of the checkpoint";
    io::Error::new(io::ErrorKind::NotFound, reason)
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

    /// Overrides that make the model of any default recipe small.
    const SMALL: [&str; 5] = [
        "lm.width=32",
        "lm.depth=1",
        "lm.heads=2",
        "lm.head_depth=1",
        "sample.steps=2",
    ];
    /// Overrides that make the default image codec small.
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

    /// One bit of a file changes numbers, and no reader of the format sees it.
    #[test]
    fn files_are_compared_with_the_checksums_of_their_manifest() {
        let (dir, device) = (tempfile::tempdir().unwrap(), Device::default());
        tiny(dir.path(), &device);
        let older = Checkpoint::open(dir.path());
        let told = ImagePipeline::from_checkpoint(&older, &device).unwrap();
        let told = told.notes.join("\n");
        assert!(told.contains("has no checksums"), "{told}");

        let mut manifest = Manifest::<ImageRecipe>::read(dir.path()).unwrap();
        fs::remove_file(dir.path().join(MANIFEST)).unwrap();
        manifest.files = crate::integrity::sums(dir.path()).unwrap();
        let json = serde_json::to_vec(&manifest).unwrap();
        fs::write(dir.path().join(MANIFEST), json).unwrap();
        let load = |checkpoint: Checkpoint| {
            let loaded = ImagePipeline::from_checkpoint(&checkpoint, &device);
            loaded.map(|pipeline| pipeline.notes)
        };
        let both = || {
            let in_memory = Checkpoint::from_files(files(dir.path()));
            [Checkpoint::open(dir.path()), in_memory].map(load)
        };
        for loaded in both() {
            assert!(loaded.unwrap().is_empty());
        }
        for name in ["codec.safetensors", "model-ema.safetensors"] {
            let path = dir.path().join(name);
            let whole = fs::read(&path).unwrap();
            let mut bytes = whole.clone();
            bytes[whole.len() - 4] ^= 1;
            fs::write(&path, &bytes).unwrap();
            for loaded in both() {
                let told = loaded.unwrap_err().to_string();
                let part = format!("{name}: damaged file: its checksum differs");
                assert!(told.contains(&part), "{told}");
            }
            fs::write(&path, &bytes[..whole.len() - 4]).unwrap();
            for loaded in both() {
                let told = loaded.unwrap_err().to_string();
                assert!(told.contains("damaged file: it has "), "{told}");
            }
            fs::write(&path, &whole).unwrap();
        }
    }

    /// The error for a tiny model's weights beside another manifest.
    fn refused(manifest: Vec<u8>, whole: &HashMap<String, Vec<u8>>, device: &Device) -> String {
        let mut files = whole.clone();
        files.insert(MANIFEST.to_owned(), manifest);
        let loaded = ImagePipeline::from_checkpoint(&Checkpoint::from_files(files), device);
        loaded.unwrap_err().to_string()
    }

    /// Manifests that once ended in a panic or an abort of the allocator.
    #[test]
    fn damaged_manifests_are_refused() {
        let (dir, device) = (tempfile::tempdir().unwrap(), Device::default());
        tiny(dir.path(), &device);
        let whole = files(dir.path());
        let crashes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/checkpoint");
        for (name, part) in [
            ("manifest-6768aa6a", "names no classes"),
            ("manifest-7df2e4e9", "`lm.depth` must be"),
            ("manifest-88bc25f0", "`lm.mlp_ratio` must be"),
            ("manifest-a59c5614", "`lm.head_depth` must be"),
        ] {
            let message = refused(fs::read(crashes.join(name)).unwrap(), &whole, &device);
            assert!(message.contains(part), "{name}: {message}");
        }
    }

    /// Sizes within all ranges are held against the weights before a model of them takes memory.
    #[test]
    fn sizes_that_the_weights_can_not_have_are_refused() {
        let (dir, device) = (tempfile::tempdir().unwrap(), Device::default());
        tiny(dir.path(), &device);
        let whole = files(dir.path());
        let manifest: serde_json::Value = serde_json::from_slice(&whole[MANIFEST]).unwrap();
        for (key, value, file) in [
            ("/recipe/lm/width", 131_072, "model-ema.safetensors"),
            ("/recipe/lm/depth", 2048, "model-ema.safetensors"),
            ("/recipe/lm/head_depth", 1024, "model-ema.safetensors"),
            ("/recipe/codec/latent_dim", 4096, "codec.safetensors"),
            (
                "/recipe/codec/vit/decoder_width",
                32_768,
                "codec.safetensors",
            ),
        ] {
            let mut changed = manifest.clone();
            *changed.pointer_mut(key).unwrap() = value.into();
            let message = refused(changed.to_string().into_bytes(), &whole, &device);
            let part = format!("it has {} bytes, the model", whole[file].len());
            assert!(message.contains(&part), "{key}: {message}");
            assert!(message.starts_with(file), "{key}: {message}");
            assert!(message.contains("of its manifest needs"), "{message}");
        }
        let mut changed = manifest;
        changed["classes"] = serde_json::json!([]);
        let message = refused(changed.to_string().into_bytes(), &whole, &device);
        assert!(message.contains("names no classes"), "{message}");
    }

    /// A manifest and the recipe beside it agree to the bit, whatever the number of digits.
    #[test]
    fn numbers_come_back_to_the_bit() {
        let mut recipe = ImageRecipe::default();
        for number in [51.248_178_375_505_404, 0.1 + 0.2, 1.0 / 3.0, 5e-324] {
            recipe.codec_train.weight_decay = number;
            let json = serde_json::to_vec(&Manifest::new("codec", &recipe, &[], "")).unwrap();
            let read = Manifest::<ImageRecipe>::from_bytes(&json, Path::new(MANIFEST)).unwrap();
            let [read, toml] = [read.recipe.to_toml(), recipe.to_toml()].map(Result::unwrap);
            assert_eq!(read, toml);
        }
    }

    #[test]
    fn a_file_of_too_few_bytes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("codec.safetensors"), [0_u8; 9]).unwrap();
        for checkpoint in [
            Checkpoint::open(dir.path()),
            Checkpoint::from_files(files(dir.path())),
        ] {
            checkpoint.check_size("codec.safetensors", 4).unwrap();
            let error = checkpoint.check_size("codec.safetensors", 5).unwrap_err();
            let expected = "has 9 bytes, the model of its manifest needs 10";
            assert!(error.to_string().contains(expected), "{error}");
            let error = checkpoint.check_size("none.safetensors", 0).unwrap_err();
            assert!(error.to_string().contains("none.safetensors"), "{error}");
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

        // A codec of sound makes its weights at once: its sizes are looked at before.
        let mut files = files(dir.path());
        let mut manifest: serde_json::Value = serde_json::from_slice(&files[MANIFEST]).unwrap();
        manifest["recipe"]["codec"]["width"] = 4096.into();
        files.insert(MANIFEST.to_owned(), manifest.to_string().into_bytes());
        let loaded = SpeechPipeline::from_checkpoint(&Checkpoint::from_files(files), &device);
        let message = loaded.unwrap_err().to_string();
        let part = "of its manifest needs";
        assert!(message.contains(part), "{message}");
        assert!(message.starts_with("codec.safetensors"), "{message}");
    }

    /// A vocabulary that is beyond the usual limits.
    #[cfg(feature = "speech")]
    #[test]
    fn a_checkpoint_has_the_tokenizer_that_its_recipe_allowed() {
        use crate::speech::SpeechRecipe;

        let json = r#"{"version": "1.0", "model": {"type": "WordLevel", "unk_token": "a", "vocab": {"a": 0, "b": 5000000}}}"#;
        let read = |changes: &[&str]| {
            let recipe: SpeechRecipe = recipe(changes);
            let manifest = Manifest::new("lm", &recipe, &[], "f");
            let manifest = serde_json::to_vec(&manifest).unwrap();
            let files = [(MANIFEST, manifest), (crate::TOKENIZER, json.into())];
            let files = files.map(|(name, bytes)| (name.to_owned(), bytes));
            Checkpoint::from_files(files).tokenizer()
        };
        let larger = read(&["text.max_tokenizer_mb=128"]).unwrap();
        assert_eq!(larger.vocabulary(), 5_000_001);
        let message = read(&[]).unwrap_err().to_string();
        let part = "below 4194304 can be used; text.max_tokenizer_mb of a recipe allows more";
        assert!(message.contains(part), "{message}");
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
