//! A saved voice as vibevoice.cpp's converter writes it.

use std::path::Path;

use latentlm_vibevoice::SavedVoice;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::header::Value;
use super::{Gguf, is_gguf};
use crate::error::PretrainedError;
use crate::reader::Unread;

/// The `general.architecture` of a voice.
const VOICE: &str = "vibevoice-voice";
/// Most numbers of a voice; published ones have a few million.
const MOST_NUMBERS: u64 = 32 << 20;
/// Its contexts: of the text model and the speech model, then the same without condition.
const CONTEXTS: [&str; 4] = ["lm", "tts_lm", "neg_lm", "neg_tts_lm"];

/// Reads a saved voice: a GGUF file of vibevoice.cpp, or what [`SavedVoice::read`] takes.
///
/// # Errors
/// If the file can't be read or is no saved voice.
pub fn read_voice(path: &Path) -> Result<SavedVoice, PretrainedError> {
    if !is_gguf(path) {
        return Ok(SavedVoice::read(path)?);
    }
    let file = Gguf::open(path, VOICE)?;
    if file.value("voice.has_neg") != Some(&Value::Truth(true)) {
        return Err(file.wrong(
            "is a voice without the contexts that have no condition (voice.has_neg), which guidance needs",
        ));
    }
    let numbers: u64 = file.header.tensors.iter().map(|info| info.numbers).sum();
    if numbers > MOST_NUMBERS {
        return Err(file.wrong(format!(
            "has {numbers} numbers; a voice may have {MOST_NUMBERS}"
        )));
    }
    let mut tensors = Vec::new();
    for context in CONTEXTS {
        let hidden = file.saved(&format!("voice.{context}.last_hidden"), 2)?;
        tensors.push((format!("{context}.last_hidden_state"), hidden));
        let mut layer = 0;
        while file.tensor(&format!("voice.{context}.k.{layer}")).is_some() {
            for (theirs, ours) in [("k", "key"), ("v", "value")] {
                let name = format!("voice.{context}.{theirs}.{layer}");
                let tensor = file.saved(&name, 3)?.with_heads_first();
                tensors.push((format!("{context}.{ours}.{layer}"), tensor));
            }
            layer += 1;
        }
    }
    let bytes =
        as_safetensors(&tensors).map_err(|error| file.wrong(format!("is damaged: {error}")))?;
    Ok(SavedVoice::from_bytes(&bytes, path)?)
}

/// A tensor of one sequence.
struct Saved {
    /// The axes behind that of the sequences, of which there is one.
    shape: Vec<usize>,
    numbers: Vec<f32>,
}

impl Saved {
    /// The numbers of `[P, G, E]` as `[G, P, E]`.
    fn with_heads_first(self) -> Self {
        let [positions, heads, size] = self.shape[..] else {
            return self;
        };
        let mut numbers = Vec::with_capacity(self.numbers.len());
        for head in 0..heads {
            for position in 0..positions {
                let start = (position * heads + head) * size;
                numbers.extend_from_slice(&self.numbers[start..start + size]);
            }
        }
        Self {
            shape: vec![heads, positions, size],
            numbers,
        }
    }
}

impl Gguf {
    /// Reads a tensor of `axes` axes.
    fn saved(&self, name: &str, axes: usize) -> Result<Saved, PretrainedError> {
        let info = self.tensor(name).ok_or_else(|| self.lacks(name))?;
        let mut shape = info.shape.clone();
        // ggml leaves out axes of one in front of the others.
        while shape.len() < axes {
            shape.insert(0, 1);
        }
        if shape.len() != axes {
            return Err(self.wrong(format!("has `{name}` as {shape:?}, not of {axes} axes")));
        }
        let unread = Unread::default();
        let bytes = self.packed(info, &unread).read();
        unread.check()?;
        let bytes = bytes.map_err(|error| self.wrong(format!("can't be read: {error}")))?;
        Ok(Saved {
            shape,
            numbers: info.packing.numbers(&bytes),
        })
    }
}

/// The bytes of a safetensors file of these tensors, each with an axis for the one sequence.
fn as_safetensors(tensors: &[(String, Saved)]) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let shape: Vec<usize> = [1].iter().chain(&tensor.shape).copied().collect();
        let bytes: Vec<u8> = tensor
            .numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        stored.push((name, shape, bytes));
    }
    let mut views = Vec::with_capacity(stored.len());
    for (name, shape, bytes) in &stored {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes)?;
        views.push((name.as_str(), view));
    }
    safetensors::serialize(views, None)
}
