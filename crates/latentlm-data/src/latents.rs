//! The latent cache: what the codec made of every picture, encoded once (encoding anew each epoch
//! costs many times the language model's own step).

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};

use crate::error::{DataError, io_error};

/// Encoded pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentCache {
    /// `T`, latents a picture.
    pub tokens: usize,
    /// Numbers a latent: the mean's, or mean and logarithm of the variance where that is learned.
    pub dim: usize,
    /// `[N, T, dim]`.
    pub parameters: Vec<f32>,
    /// Class of each picture, `[N]`.
    pub labels: Vec<u32>,
    /// What the latents were made from and with: dataset and codec.
    pub fingerprint: String,
}

impl LatentCache {
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// One picture's `[T, dim]`.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn get(&self, index: usize) -> &[f32] {
        let size = self.tokens * self.dim;
        &self.parameters[index * size..(index + 1) * size]
    }

    /// Writes the cache whole: temporary name, sync, rename.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, path: &Path) -> Result<(), DataError> {
        let shape = vec![self.len(), self.tokens, self.dim];
        let parameters = bytes(&self.parameters, f32::to_le_bytes);
        let labels = bytes(&self.labels, u32::to_le_bytes);
        let encode = || -> Result<Vec<u8>, SafeTensorError> {
            let tensors = [
                (
                    "parameters",
                    TensorView::new(Dtype::F32, shape, &parameters)?,
                ),
                (
                    "labels",
                    TensorView::new(Dtype::U32, vec![self.len()], &labels)?,
                ),
            ];
            let metadata = HashMap::from([("fingerprint".into(), self.fingerprint.clone())]);
            safetensors::serialize(tensors, Some(metadata))
        };
        let encoded = encode().map_err(|e| DataError::malformed(path, e.to_string()))?;
        // The parent of a bare file name is the empty path.
        let folder = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut file =
            tempfile::NamedTempFile::new_in(folder).map_err(io_error("write in", folder))?;
        file.write_all(&encoded)
            .and_then(|()| file.as_file().sync_all())
            .map_err(io_error("write", path))?;
        file.persist(path)
            .map_err(|e| io_error("write", path)(e.error))?;
        Ok(())
    }

    /// Reads a cache.
    ///
    /// # Errors
    /// If the file can't be read or is no latent cache.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let data = fs::read(path).map_err(io_error("read", path))?;
        let malformed = |reason: String| {
            DataError::malformed(path, format!("{reason}; delete it, it will be made anew"))
        };
        let (_, metadata) =
            SafeTensors::read_metadata(&data).map_err(|e| malformed(e.to_string()))?;
        let fingerprint = metadata
            .metadata()
            .as_ref()
            .and_then(|m| m.get("fingerprint").cloned())
            .ok_or_else(|| malformed("no latent cache: it has no fingerprint".into()))?;
        let file = SafeTensors::deserialize(&data).map_err(|e| malformed(e.to_string()))?;
        let tensor = |name| file.tensor(name).map_err(|e| malformed(e.to_string()));
        let (parameters, labels) = (tensor("parameters")?, tensor("labels")?);
        let (&[count, tokens, dim], &[label_count]) = (parameters.shape(), labels.shape()) else {
            return Err(malformed("its tensors have the wrong rank".into()));
        };
        let types = (parameters.dtype(), labels.dtype());
        if count != label_count || types != (Dtype::F32, Dtype::U32) {
            return Err(malformed("its tensors do not fit each other".into()));
        }
        Ok(Self {
            tokens,
            dim,
            parameters: numbers(parameters.data(), f32::from_le_bytes),
            labels: numbers(labels.data(), u32::from_le_bytes),
            fingerprint,
        })
    }

    /// The cache, if the file exists and was made from this dataset with this codec.
    ///
    /// # Errors
    /// If the file exists but is no latent cache.
    pub fn read_matching(path: &Path, fingerprint: &str) -> Result<Option<Self>, DataError> {
        if !path.exists() {
            return Ok(None);
        }
        let cache = Self::read(path)?;
        Ok((cache.fingerprint == fingerprint).then_some(cache))
    }
}

fn bytes<T: Copy>(values: &[T], encode: fn(T) -> [u8; 4]) -> Vec<u8> {
    values.iter().flat_map(|&value| encode(value)).collect()
}

fn numbers<T>(bytes: &[u8], decode: fn([u8; 4]) -> T) -> Vec<T> {
    let word = |b: &[u8]| decode([b[0], b[1], b[2], b[3]]);
    bytes.chunks_exact(4).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> LatentCache {
        LatentCache {
            tokens: 2,
            dim: 3,
            parameters: (0..12).map(|i| i as f32 * 0.3 - 1.0).collect(),
            labels: vec![4, 1],
            fingerprint: "abc".into(),
        }
    }

    #[test]
    fn reads_back_bit_equal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latents.safetensors");
        cache().write(&path).unwrap();
        assert_eq!(LatentCache::read(&path).unwrap(), cache());
        assert_eq!(cache().get(1)[0], 6.0 * 0.3 - 1.0);
        assert_eq!(LatentCache::read_matching(&path, "other").unwrap(), None);
        assert!(LatentCache::read_matching(&path, "abc").unwrap().is_some());
        let missing = dir.path().join("none");
        assert_eq!(LatentCache::read_matching(&missing, "abc").unwrap(), None);
    }

    #[test]
    fn a_cut_cache_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latents.safetensors");
        cache().write(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let message = LatentCache::read(&path).unwrap_err().to_string();
        assert!(message.contains("delete it"), "{message}");
    }

    #[test]
    fn numbers_that_do_not_fit_are_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latents.safetensors");
        let mut short = cache();
        short.parameters.pop();
        assert!(short.write(&path).is_err());
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            0,
            "nothing is left behind"
        );
    }

    #[test]
    fn every_cut_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latents.safetensors");
        cache().write(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        for end in 0..bytes.len() {
            fs::write(&path, &bytes[..end]).unwrap();
            assert!(LatentCache::read(&path).is_err(), "cut at {end}");
        }
    }
}
