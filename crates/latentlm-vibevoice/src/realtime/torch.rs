//! Voices as `torch.save` writes them, in both layouts: objects of `transformers`, or plain dictionaries.

use burn::tensor::TensorData;

use super::archive::{Archive, MOST_BYTES};
use super::context::{CONTEXTS, SavedContext};
use super::pickle::{Pickle, Place, StoredTensor, Value};

/// Layers of a context at most.
const MOST_LAYERS: usize = 1024;
/// Letters of the name of a storage's file at most.
const MOST_LETTERS: usize = 40;
const NO_TENSOR: &str = "has something else in the place of a tensor";
const NO_CACHE: &str = "has a KV cache without lists of keys and values";

/// The contexts of a voice, in the order of [`CONTEXTS`].
///
/// # Errors
/// With what is wrong with the file.
pub(super) fn contexts(bytes: &[u8]) -> Result<[SavedContext; 4], String> {
    let mut archive = Archive::open(bytes)?;
    let folder = archive.folder_of("data.pkl");
    let folder = folder.ok_or("is an archive without data.pkl: torch.save did not write it")?;
    let order = archive.read(&format!("{folder}byteorder"))?;
    if order.is_some_and(|order| order.trim_ascii() != b"little") {
        return Err("was saved on a machine with the other order of bytes".into());
    }
    let pickle = archive.read(&format!("{folder}data.pkl"))?;
    let mut saved = Saved {
        pickle: Pickle::read(&pickle.unwrap_or_default())?,
        archive,
        folder,
        left: MOST_BYTES,
    };
    let mut contexts = Vec::with_capacity(CONTEXTS.len());
    for name in CONTEXTS {
        contexts.push(saved.context(name)?);
    }
    contexts
        .try_into()
        .map_err(|_| "has other contexts than a voice".to_owned())
}

/// An archive and its pickle.
struct Saved<'a> {
    pickle: Pickle,
    archive: Archive<'a>,
    folder: String,
    /// Bytes of tensors that may still be taken.
    left: usize,
}

impl Saved<'_> {
    fn context(&mut self, name: &str) -> Result<SavedContext, String> {
        let context = self.field(self.pickle.root(), name)?;
        let hidden = self.field(context, "last_hidden_state")?;
        let hidden = self.tensor(hidden)?;
        // Perhaps the lists lie in the context itself.
        let cache = self.pickle.field(context, "past_key_values");
        let places = self.layers(cache.unwrap_or(context))?;
        let mut layers = Vec::with_capacity(places.len());
        for [key, value] in places {
            layers.push([self.tensor(key)?, self.tensor(value)?]);
        }
        SavedContext::new(name, hidden, layers)
    }

    fn field(&self, object: Place, name: &str) -> Result<Place, String> {
        let field = self.pickle.field(object, name);
        field.ok_or_else(|| format!("lacks `{name}`, which a saved voice has"))
    }

    /// Keys and values of each layer: two lists, or a list of pairs.
    fn layers(&self, cache: Place) -> Result<Vec<[Place; 2]>, String> {
        let pickle = &self.pickle;
        let list = |names: [&str; 2]| {
            let mut names = names.into_iter();
            let list = names.find_map(|name| pickle.field(cache, name))?;
            pickle.items(list)
        };
        let mut layers = Vec::new();
        if let Some(pairs) = pickle.items(cache) {
            for pair in pairs.iter().take(MOST_LAYERS + 1) {
                let pair = pickle.items(*pair).and_then(|pair| pair.first_chunk::<2>());
                layers.push(*pair.ok_or(NO_CACHE)?);
            }
        } else {
            let keys = list(["key_cache", "keys"]).ok_or(NO_CACHE)?;
            let values = list(["value_cache", "values"]).ok_or(NO_CACHE)?;
            if keys.len() != values.len() {
                return Err(format!(
                    "has keys of {} layers and values of {}",
                    keys.len(),
                    values.len()
                ));
            }
            let pairs = keys.iter().zip(values).take(MOST_LAYERS + 1);
            layers.extend(pairs.map(|(key, value)| [*key, *value]));
        }
        if layers.len() > MOST_LAYERS {
            return Err(format!("has a KV cache of over {MOST_LAYERS} layers"));
        }
        Ok(layers)
    }

    fn tensor(&mut self, place: Place) -> Result<TensorData, String> {
        let Value::Tensor(tensor) = self.pickle.value(place) else {
            return Err(NO_TENSOR.into());
        };
        let Value::Storage { key, dtype } = self.pickle.value(tensor.storage) else {
            return Err(NO_TENSOR.into());
        };
        let file = self.pickle.text(*key).unwrap_or_default();
        if file.len() > MOST_LETTERS {
            return Err(NO_TENSOR.into());
        }
        let storage = self.archive.read(&format!("{}data/{file}", self.folder))?;
        let lacks = || format!("lacks the file of the storage `{}`", file.escape_debug());
        let storage = storage.ok_or_else(lacks)?;
        let bytes = gathered(tensor, &storage, dtype.size(), &mut self.left)?;
        Ok(TensorData::from_bytes_vec(
            bytes,
            tensor.shape.clone(),
            *dtype,
        ))
    }
}

/// The bytes of a tensor in the order of its axes. `size` is that of a number. A tensor has no more numbers
/// than its storage: strides of 0 could make any number of them out of one.
fn gathered(
    tensor: &StoredTensor,
    storage: &[u8],
    size: usize,
    left: &mut usize,
) -> Result<Vec<u8>, String> {
    let held = storage.len() / size;
    let StoredTensor {
        offset,
        shape,
        strides,
        ..
    } = tensor;
    let count = inside(*offset, shape, strides, held);
    let count = count.ok_or_else(|| {
        format!("has a tensor of shape {shape:?} that its storage of {held} numbers does not hold")
    })?;
    let rest = left.checked_sub(count * size);
    *left = rest.ok_or_else(|| format!("has tensors of over {MOST_BYTES} bytes"))?;
    let mut bytes = Vec::with_capacity(count * size);
    let mut index = vec![0; shape.len()];
    let mut at = *offset;
    for _ in 0..count {
        bytes.extend_from_slice(&storage[at * size..][..size]);
        // Counts like an odometer, the last axis fastest. The stride of an axis of length 1 may be anything.
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at = at.wrapping_add(strides[axis]);
            if index[axis] < shape[axis] {
                break;
            }
            at = at.wrapping_sub(strides[axis].wrapping_mul(shape[axis]));
            index[axis] = 0;
        }
    }
    Ok(bytes)
}

/// How many numbers a tensor has, if all lie within `held` numbers.
fn inside(offset: usize, shape: &[usize], strides: &[usize], held: usize) -> Option<usize> {
    let (mut count, mut last) = (1_usize, offset);
    for (length, stride) in shape.iter().zip(strides) {
        count = count.checked_mul(*length)?;
        last = last.checked_add(length.checked_sub(1)?.checked_mul(*stride)?)?;
    }
    (count <= held && last < held).then_some(count)
}
