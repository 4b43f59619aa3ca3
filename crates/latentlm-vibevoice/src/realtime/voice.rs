//! Saved voices: what a Realtime model has read of a speaker, as KV caches. They are published as `.pt` files;
//! one can't be made from a recording, because the encoder is not published.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData};
use latentlm_core::bounds::check_header;
use latentlm_core::bundle::{BundleError, io_error};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::VibeVoiceRealtime;
use super::archive::MOST_BYTES;
use super::context::{CONTEXTS, SavedContext};
use super::torch;

const NO_VOICE: &str = "is no saved voice: a Realtime model speaks with a .pt or .safetensors file of a voice; \
                        a recording can't be made into one, since the encoder is not published";

/// A voice that can't be read or does not fit.
#[derive(Debug, thiserror::Error)]
pub enum VoiceError {
    /// A file that can't be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file that is no voice, or one of another model.
    #[error("voice {path}: {reason}")]
    Voice {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The voice of a speaker for a [`VibeVoiceRealtime`], in the type of numbers that it was saved in.
#[derive(Debug, Clone)]
pub struct SavedVoice {
    /// The file, for messages.
    name: PathBuf,
    /// Saved contexts of the models, in the order of [`CONTEXTS`].
    contexts: [SavedContext; 4],
}

impl SavedVoice {
    /// Reads a voice: a `.pt` file, or the same as safetensors.
    ///
    /// # Errors
    /// If the file can't be read or is no saved voice.
    pub fn read(path: &Path) -> Result<Self, VoiceError> {
        let file = File::open(path).map_err(io_error("read", path))?;
        let mut bytes = Vec::new();
        file.take(MOST_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(io_error("read", path))?;
        Self::from_bytes(&bytes, path)
    }

    /// [`read`](Self::read) from the bytes of a file; errors call it `name`. Nothing in them is run, and they
    /// make no more memory than they have bytes.
    ///
    /// # Errors
    /// If they are no saved voice.
    pub fn from_bytes(bytes: &[u8], name: &Path) -> Result<Self, VoiceError> {
        let contexts = if bytes.len() > MOST_BYTES {
            Err(format!(
                "is larger than {MOST_BYTES} bytes, the most that a voice may have"
            ))
        } else if bytes.starts_with(b"PK") {
            torch::contexts(bytes)
        } else if bytes.get(8) == Some(&b'{') {
            of_safetensors(bytes)
        } else {
            Err(NO_VOICE.into())
        };
        Ok(Self {
            contexts: contexts.map_err(|reason| wrong(name, reason))?,
            name: name.to_owned(),
        })
    }

    /// All tensors by name, in the type of numbers that they were saved in: `C.last_hidden_state` `[1, P, D]`,
    /// `C.key.I` and `C.value.I` `[1, G, P, E]`, for each layer `I` of the contexts `C`: `lm`, `tts_lm`,
    /// `neg_lm`, `neg_tts_lm`.
    pub fn tensors(&self) -> Vec<(String, &TensorData)> {
        let mut tensors = Vec::new();
        for (name, context) in CONTEXTS.iter().zip(&self.contexts) {
            tensors.push((format!("{name}.last_hidden_state"), &context.hidden));
            for (layer, [key, value]) in context.layers.iter().enumerate() {
                tensors.push((format!("{name}.key.{layer}"), key));
                tensors.push((format!("{name}.value.{layer}"), value));
            }
        }
        tensors
    }

    /// The bytes of a safetensors file, which [`read`](Self::read) takes.
    ///
    /// # Errors
    /// If the format refuses a tensor.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, VoiceError> {
        let failed =
            |error: SafeTensorError| wrong(&self.name, format!("can't be written: {error}"));
        let mut views = Vec::new();
        for (name, data) in self.tensors() {
            let dtype = match data.dtype() {
                DType::BF16 => Dtype::BF16,
                DType::F16 => Dtype::F16,
                _ => Dtype::F32,
            };
            let shape = data.shape().as_slice().to_vec();
            let view = TensorView::new(dtype, shape, data.as_bytes()).map_err(failed)?;
            views.push((name, view));
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize(views, Some(metadata)).map_err(failed)
    }

    /// Checks that a model can go on from this voice, within `most` positions.
    ///
    /// # Errors
    /// If layers, heads or width differ; the message has both shapes.
    pub(super) fn check(&self, model: &VibeVoiceRealtime, most: usize) -> Result<(), VoiceError> {
        let models = [&model.text_lm, &model.speech_lm];
        for (index, context) in self.contexts.iter().enumerate() {
            // With condition: text, speech; then the same without.
            if let Some(misfit) = context.misfit(models[index % 2]) {
                let reason = format!("does not fit: its `{}` {misfit}", CONTEXTS[index]);
                return Err(wrong(&self.name, reason));
            }
            let positions = context.positions();
            if positions > most {
                let reason = format!("takes {positions} positions, the model reads {most}");
                return Err(wrong(&self.name, reason));
            }
        }
        Ok(())
    }

    /// What the text model has read.
    pub(super) fn text(&self) -> &SavedContext {
        &self.contexts[0]
    }

    /// What the speech model has read.
    pub(super) fn speech(&self) -> &SavedContext {
        &self.contexts[1]
    }

    /// What the speech model has read without condition.
    pub(super) fn null_speech(&self) -> &SavedContext {
        &self.contexts[3]
    }
}

fn wrong(path: &Path, reason: String) -> VoiceError {
    VoiceError::Voice {
        path: path.to_owned(),
        reason,
    }
}

/// The contexts of a voice, in the order of [`CONTEXTS`].
fn of_safetensors(bytes: &[u8]) -> Result<[SavedContext; 4], String> {
    check_header(bytes).map_err(|error| format!("can't be read: its header {error}"))?;
    let file = SafeTensors::deserialize(bytes);
    let file = file.map_err(|error| format!("is damaged or no safetensors file: {error}"))?;
    let mut contexts = Vec::with_capacity(CONTEXTS.len());
    for name in CONTEXTS {
        let hidden = named(&file, &format!("{name}.last_hidden_state"))?;
        let mut layers = Vec::new();
        while file.tensor(&format!("{name}.key.{}", layers.len())).is_ok() {
            let layer = layers.len();
            layers.push([
                named(&file, &format!("{name}.key.{layer}"))?,
                named(&file, &format!("{name}.value.{layer}"))?,
            ]);
        }
        contexts.push(SavedContext::new(name, hidden, layers)?);
    }
    contexts
        .try_into()
        .map_err(|_| "has other contexts than a voice".to_owned())
}

fn named(file: &SafeTensors<'_>, name: &str) -> Result<TensorData, String> {
    let found = file.tensor(name);
    let view = found.map_err(|_| format!("lacks `{name}`, which a saved voice has"))?;
    let dtype = match view.dtype() {
        Dtype::F32 => DType::F32,
        Dtype::BF16 => DType::BF16,
        Dtype::F16 => DType::F16,
        other => {
            return Err(format!(
                "has `{name}` as {other:?}; F32, BF16 and F16 can be read"
            ));
        }
    };
    let (bytes, shape) = (view.data().to_vec(), view.shape().to_vec());
    Ok(TensorData::from_bytes_vec(bytes, shape, dtype))
}
