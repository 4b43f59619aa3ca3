//! Readers of recipes, manifests, weights, optimizers' records and logs.

use std::path::Path;

use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm::core::bundle::{BundleWriter, load_module, load_module_from_bytes, save_module};
use latentlm::{RandomStream, load_lm_from_bytes};
use latentlm_pipelines::{
    Checkpoint, ImagePipeline, ImageRecipe, Manifest, MetricsLog, MllmRecipe, Recipe, SkippedList,
    SpeechRecipe, StageConfig, VideoRecipe, read_codes, read_latents, series, write_codes,
    write_latents,
};
use latentlm_published::{
    WeightBits, WeightType, gguf_tokenizer, load_asr, load_realtime, load_tokenizer,
    load_vibevoice, quantize_folder, read_asr_config, read_realtime_config, read_tokenizer_config,
    read_vibevoice_config, read_voice,
};
use latentlm_train::Trainer;
use latentlm_vibevoice::{
    MOST_SPEAKERS, SavedVoice, Script, TranscriptFormat, TranscriptReader, TranscriptWriter,
};

use super::{Reader, Verdict, bytes_of, put, told};
use crate::repository;

/// A run's checkpoint that ships with the tests.
const CHECKPOINT: &str = "tests/earlier-runs/image/checkpoints/lm/step-2";
/// Published checkpoints that ship with the tests.
const TOKENIZER: &str = "tests/fixtures/vibevoice-tokenizer-small";
const VIBEVOICE: &str = "tests/fixtures/vibevoice-small";
const ASR: &str = "tests/fixtures/vibevoice-asr-one";

/// A recipe's file, of any modality.
pub(super) fn recipe(scratch: &Path) -> Reader {
    let (path, again) = (scratch.join("recipe.toml"), scratch.join("again.toml"));
    Box::new(move |bytes| {
        put(&path, bytes);
        let results = [
            resolved::<ImageRecipe>(Some(&path), &[], &again),
            resolved::<SpeechRecipe>(Some(&path), &[], &again),
            resolved::<MllmRecipe>(Some(&path), &[], &again),
            resolved::<VideoRecipe>(Some(&path), &[], &again),
        ];
        any(results)
    })
}

/// An override of a recipe, of any modality.
pub(super) fn recipe_override(scratch: &Path) -> Reader {
    let again = scratch.join("again.toml");
    Box::new(move |bytes| {
        let changes = [String::from_utf8_lossy(bytes).into_owned()];
        let results = [
            resolved::<ImageRecipe>(None, &changes, &again),
            resolved::<SpeechRecipe>(None, &changes, &again),
            resolved::<MllmRecipe>(None, &changes, &again),
            resolved::<VideoRecipe>(None, &changes, &again),
        ];
        any(results)
    })
}

/// Resolves a recipe. What is taken must read back as it was written.
fn resolved<R: Recipe>(file: Option<&Path>, changes: &[String], again: &Path) -> Verdict {
    let recipe = told(R::resolve(file, changes))?;
    let text = told(recipe.to_toml())?;
    put(again, text.as_bytes());
    let read = told(R::resolve(Some(again), &[])).expect("a recipe that was written");
    assert!(read == recipe, "another recipe is read back: {text}");
    Ok(())
}

/// Taken if one of the results is; otherwise the first message.
fn any<const N: usize>(results: [Verdict; N]) -> Verdict {
    if results.iter().any(Result::is_ok) {
        return Ok(());
    }
    results.into_iter().next().unwrap_or(Ok(()))
}

/// A checkpoint's manifest, of any modality.
pub(super) fn manifest(_: &Path) -> Reader {
    Box::new(move |bytes| {
        let results = [
            described::<ImageRecipe>(bytes),
            described::<SpeechRecipe>(bytes),
            described::<MllmRecipe>(bytes),
            described::<VideoRecipe>(bytes),
        ];
        any(results)
    })
}

fn described<R: Recipe>(bytes: &[u8]) -> Verdict {
    let manifest = told(Manifest::<R>::from_bytes(bytes, Path::new("manifest.json")))?;
    told(manifest.recipe.validate())
}

/// A checkpoint with whole weights and the input as its manifest.
pub(super) fn checkpoint(_: &Path) -> Reader {
    let folder = repository(CHECKPOINT);
    let weights = ["codec.safetensors", "model-ema.safetensors"];
    let weights = weights.map(|name| (name.to_owned(), bytes_of(&folder.join(name))));
    let device = Device::default();
    Box::new(move |bytes| {
        let manifest = ("manifest.json".to_owned(), bytes.to_vec());
        let files = weights.iter().cloned().chain([manifest]);
        let checkpoint = Checkpoint::from_files(files);
        told(ImagePipeline::from_checkpoint(&checkpoint, &device)).map(drop)
    })
}

fn linear(device: &Device) -> Linear {
    LinearConfig::new(3, 5).init(device)
}

/// Weights of a layer.
pub(super) fn weights(_: &Path) -> Reader {
    let layer = linear(&Device::default());
    Box::new(move |bytes| {
        let name = Path::new("layer.safetensors");
        let loaded = told(load_module_from_bytes(layer.clone(), bytes.to_vec(), name))?;
        // Values may be read when they are asked for.
        let _ = loaded.weight.val().into_data();
        let _ = loaded.bias.map(|bias| bias.val().into_data());
        Ok(())
    })
}

/// Weights as they are saved.
pub(super) fn whole_weights() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder for scratch files");
    let path = folder.path().join("layer.safetensors");
    save_module(&linear(&Device::default()), &path).expect("a small file");
    vec![bytes_of(&path)]
}

/// Weights of a language model.
pub(super) fn lm_weights(_: &Path) -> Reader {
    let manifest = Manifest::<ImageRecipe>::read(&repository(CHECKPOINT));
    let manifest = manifest.expect("the manifest of a whole checkpoint");
    let model = manifest.recipe.model(manifest.classes.len());
    let model = model.init(&Device::default());
    Box::new(move |bytes| {
        let name = Path::new("model.safetensors");
        told(load_lm_from_bytes(model.clone(), bytes.to_vec(), name)).map(drop)
    })
}

fn trainer(device: &Device) -> Trainer<Linear> {
    let config = StageConfig {
        warmup_steps: 0,
        ..ImageRecipe::default().codec_train
    };
    Trainer::new(linear(device), &config)
}

fn step(trainer: &mut Trainer<Linear>, device: &Device) {
    let x: Tensor<2> = RandomStream::new(1).normal([4, 3], device);
    trainer.backward_shards(vec![x], |model, x| (model.forward(x).square().mean(), ()));
}

/// Saves a layer after a step into a folder and returns the record of its optimizer.
fn saved(folder: &Path, device: &Device) -> Vec<u8> {
    let mut trainer = trainer(device);
    step(&mut trainer, device);
    let bundle = BundleWriter::begin(folder).expect("a scratch folder");
    trainer.save("model", &bundle).expect("a small checkpoint");
    bundle.commit().expect("a small checkpoint");
    bytes_of(&folder.join("model-optimizer.bpk"))
}

/// The record of an optimizer, from which training goes on.
pub(super) fn optimizer(scratch: &Path) -> Reader {
    let (folder, device) = (scratch.join("step-1"), Device::default().autodiff());
    saved(&folder, &device);
    Box::new(move |bytes| {
        put(&folder.join("model-optimizer.bpk"), bytes);
        let mut trainer = trainer(&device);
        told(trainer.restore("model", &folder, 1, load_module))?;
        step(&mut trainer, &device);
        Ok(())
    })
}

pub(super) fn whole_optimizer() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder for scratch files");
    let step = folder.path().join("step-1");
    vec![saved(&step, &Device::default().autodiff())]
}

/// The `config.json` of a published model of any kind, or of a tokenizer. What is taken has a number of parameters.
pub(super) fn published_config(scratch: &Path) -> Reader {
    let (folder, device) = (scratch.to_owned(), Device::default());
    Box::new(move |bytes| {
        put(&folder.join("config.json"), bytes);
        let realtime = told(read_realtime_config(&folder));
        let recognizer = told(read_asr_config(&folder));
        let results = [
            told(read_vibevoice_config(&folder)).map(drop),
            told(read_tokenizer_config(&folder)).map(drop),
            realtime.map(|json| {
                json.model().parameter_count(&device);
            }),
            recognizer.map(|json| {
                json.model().parameter_count(&device);
            }),
        ];
        any(results)
    })
}

/// Copies a file of a published checkpoint into a scratch folder.
fn copy(from: &str, name: &str, to: &Path) {
    put(to, &bytes_of(&repository(from).join(name)));
}

/// A published model with whole weights and the input as its `config.json`.
pub(super) fn published(scratch: &Path) -> Reader {
    copy(
        VIBEVOICE,
        "model.safetensors",
        &scratch.join("model.safetensors"),
    );
    let (folder, device) = (scratch.to_owned(), Device::default());
    Box::new(move |bytes| {
        put(&folder.join("config.json"), bytes);
        told(load_vibevoice(&folder, &device)).map(drop)
    })
}

/// The weights of a published tokenizer.
pub(super) fn published_weights(scratch: &Path) -> Reader {
    copy(TOKENIZER, "config.json", &scratch.join("config.json"));
    let (folder, device) = (scratch.to_owned(), Device::default());
    Box::new(move |bytes| {
        put(&folder.join("model.safetensors"), bytes);
        told(load_tokenizer(&folder, &device)).map(drop)
    })
}

/// The weights of a published model whose backbone has 8 bits.
pub(super) fn quantized(scratch: &Path) -> Reader {
    let (folder, device) = (scratch.join("quantized"), Device::default());
    quantize_folder(&repository(ASR), &folder, WeightBits::Eight).expect("a whole model");
    Box::new(move |bytes| {
        put(&folder.join("model.safetensors"), bytes);
        told(load_asr(&folder, WeightType::Stored, &device)).map(drop)
    })
}

/// Weights of 8 bits as they are written.
pub(super) fn whole_quantized() -> Vec<Vec<u8>> {
    let scratch = tempfile::tempdir().expect("a folder for scratch files");
    let folder = scratch.path().join("quantized");
    quantize_folder(&repository(ASR), &folder, WeightBits::Eight).expect("a whole model");
    vec![bytes_of(&folder.join("model.safetensors"))]
}

/// The index of a published tokenizer in shards.
pub(super) fn published_index(scratch: &Path) -> Reader {
    copy(TOKENIZER, "config.json", &scratch.join("config.json"));
    copy(
        TOKENIZER,
        "model.safetensors",
        &scratch.join("a.safetensors"),
    );
    let (folder, device) = (scratch.to_owned(), Device::default());
    Box::new(move |bytes| {
        put(&folder.join("model.safetensors.index.json"), bytes);
        told(load_tokenizer(&folder, &device)).map(drop)
    })
}

/// A GGUF file: a model, a voice or a vocabulary.
pub(super) fn gguf(scratch: &Path) -> Reader {
    let (path, device) = (scratch.join("file.gguf"), Device::default());
    Box::new(move |bytes| {
        put(&path, bytes);
        let results = [
            told(load_realtime(&path, WeightType::Stored, &device)).map(drop),
            told(read_voice(&path)).map(drop),
            told(gguf_tokenizer(&path)).map(drop),
        ];
        any(results)
    })
}

/// What a model wrote about a recording: the segments are the same at once and letter by letter.
pub(super) fn transcript(_: &Path) -> Reader {
    Box::new(|bytes| {
        let answer = String::from_utf8_lossy(bytes);
        let mut whole = TranscriptReader::default();
        whole.push(&answer);
        whole.finish();
        let mut letters = TranscriptReader::default();
        for letter in answer.chars() {
            letters.push(letter.encode_utf8(&mut [0; 4]));
        }
        letters.finish();
        assert!(whole.segments() == letters.segments(), "other segments");
        assert!(whole.cut(true) == letters.cut(true), "another cut");
        for segment in whole.segments() {
            let fine = segment.start >= 0.0 && segment.end >= segment.start;
            assert!(fine && segment.end.is_finite(), "{segment:?}");
        }
        for format in [
            TranscriptFormat::Text,
            TranscriptFormat::Json,
            TranscriptFormat::Srt,
        ] {
            let mut writer = TranscriptWriter::new(format);
            for segment in whole.segments() {
                writer.segment(segment);
            }
            writer.finish(whole.words());
        }
        match whole.cut(true) {
            Some(cut) => Err(cut.to_string()),
            None => Ok(()),
        }
    })
}

/// A saved voice of a published model.
pub(super) fn voice(_: &Path) -> Reader {
    Box::new(|bytes| {
        let voice = told(SavedVoice::from_bytes(bytes, Path::new("voice.pt")))?;
        let again = told(voice.to_safetensors())?;
        told(SavedVoice::from_bytes(
            &again,
            Path::new("voice.safetensors"),
        ))
        .map(drop)
    })
}

/// Codebooks, their entries, and numbers of a latent of a speech codec.
const BOOKS: usize = 3;
const ENTRIES: usize = 8;
const DIM: usize = 2;

/// A file of codes or latents of a sound, as `codec decode` takes it.
pub(super) fn codes(scratch: &Path) -> Reader {
    let (path, device) = (scratch.join("codes.safetensors"), Device::default());
    Box::new(move |bytes| {
        put(&path, bytes);
        let codes = told(read_codes(&path, BOOKS, ENTRIES, &device)).map(|codes| {
            let [batch, frames, books] = codes.dims();
            let fits = batch == 1 && frames > 0 && (1..=BOOKS).contains(&books);
            assert!(fits, "codes of another shape");
        });
        let latents = told(read_latents(&path, DIM, &device)).map(|latents| {
            assert_eq!(latents.dims()[2], DIM, "latents of another size");
        });
        any([codes, latents])
    })
}

/// Codes and latents as `codec encode` writes them.
pub(super) fn whole_codes() -> Vec<Vec<u8>> {
    let (folder, device) = (
        tempfile::tempdir().expect("a folder for scratch files"),
        Device::default(),
    );
    let paths = ["codes", "latents"].map(|name| folder.path().join(name));
    let codes = TensorData::new(vec![0_i64, 7, 3, 1, 5, 2], [1, 2, BOOKS]);
    let codes = Tensor::<3, Int>::from_data(codes, &device);
    write_codes(&paths[0], codes).expect("a small file");
    let latents = TensorData::new(vec![0.5_f32, -1.0, 2.0, 0.0], [1, 2, DIM]);
    let latents = Tensor::<3>::from_data(latents, &device);
    write_latents(&paths[1], latents).expect("a small file");
    paths.iter().map(|path| bytes_of(path)).collect()
}

/// The log of a run that goes on.
pub(super) fn metrics(scratch: &Path) -> Reader {
    let path = scratch.join("metrics.jsonl");
    Box::new(move |bytes| {
        put(&path, bytes);
        let lines = told(MetricsLog::read(&path))?;
        series(&lines, "lm", "loss");
        let mut log = told(MetricsLog::open(&path))?;
        told(log.truncate_after("lm", 2))?;
        told(log.append("lm", 3, &[("loss", 0.5)]))
    })
}

/// Who says what.
pub(super) fn script(_: &Path) -> Reader {
    Box::new(|bytes| {
        let script = told(Script::parse(&String::from_utf8_lossy(bytes)))?;
        assert!((1..=MOST_SPEAKERS).contains(&script.speakers().len()));
        assert!(script.turns.iter().all(|turn| !turn.text.is_empty()));
        let count = script.speakers().len();
        assert!(script.lowered().speakers().len() == count, "other speakers");
        Ok(())
    })
}

/// The list of what a run left out.
pub(super) fn skipped(scratch: &Path) -> Reader {
    let path = scratch.join("skipped.txt");
    Box::new(move |bytes| {
        put(&path, bytes);
        told(SkippedList::default().keep_in(&path))
    })
}
