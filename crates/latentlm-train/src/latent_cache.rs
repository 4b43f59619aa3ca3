//! The latent cache: the codec's output for every picture or recording, encoded once. Encoding again in
//! each epoch would cost many times the language model's own step.

use std::collections::HashMap;
use std::iter::repeat_n;
use std::path::Path;

use burn::tensor::Tensor;
use latentlm::core::bounds::check_header;
use latentlm_data::DataError;
use latentlm_media::write_whole;
use latentlm_pipelines::host_values;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use sha2::{Digest, Sha256};

/// Bytes of a block that has a checksum of its own.
const BLOCK_BYTES: usize = 1 << 20;
const SUM_BYTES: usize = 32;
/// The tensor of these checksums; caches of older versions have none.
const CHECKSUMS: &str = "checksums";

/// The encoded samples of a dataset.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LatentCache {
    /// Numbers per latent: the mean, or mean and log-variance if the codec learns its variance.
    pub dim: usize,
    /// Number of latents of each sample.
    pub lengths: Vec<u32>,
    /// Class number of each sample; 0 if there are no classes.
    pub labels: Vec<u32>,
    /// Posterior parameters of all latents, sample after sample, `[sum of lengths, dim]`.
    pub parameters: Vec<f32>,
    /// Fingerprint of the dataset and the codec that made the latents.
    pub fingerprint: String,
}

impl LatentCache {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Adds a batch of samples.
    ///
    /// # Shapes
    /// - `parameters`: `[B, T, Z]`, what a codec's encoder puts out; `labels`: `B`
    pub fn add(&mut self, parameters: Tensor<3>, labels: &[u32]) {
        let [count, tokens, dim] = parameters.dims();
        self.dim = dim;
        self.lengths.extend(repeat_n(tokens as u32, count));
        self.labels.extend(labels);
        self.parameters.extend(host_values(parameters));
    }

    /// The latents of the samples `indices`, concatenated: `[sum of their lengths, dim]`.
    ///
    /// # Panics
    /// If an index is out of range.
    pub fn gather(&self, indices: &[usize]) -> Vec<f32> {
        let mut starts = Vec::with_capacity(self.len());
        let mut start = 0;
        for &length in &self.lengths {
            starts.push(start);
            start += length as usize * self.dim;
        }
        let sample = |&index: &usize| {
            let count = self.lengths[index] as usize * self.dim;
            &self.parameters[starts[index]..starts[index] + count]
        };
        indices.iter().flat_map(sample).copied().collect()
    }

    /// Writes the cache atomically, with a checksum of every block of a megabyte.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, path: &Path) -> Result<(), DataError> {
        let total: usize = self.lengths.iter().map(|&length| length as usize).sum();
        let shape = vec![total, self.dim];
        let lengths = bytes(&self.lengths, u32::to_le_bytes);
        let parameters = bytes(&self.parameters, f32::to_le_bytes);
        let labels = bytes(&self.labels, u32::to_le_bytes);
        let sums = checksums([&parameters, &lengths, &labels]);
        let sums_shape = vec![sums.len() / SUM_BYTES, SUM_BYTES];
        let fail = |error: SafeTensorError| malformed(path, error.to_string());
        let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes).map_err(fail);
        let tensors = [
            ("parameters", view(Dtype::F32, shape, &parameters)?),
            ("lengths", view(Dtype::U32, vec![self.len()], &lengths)?),
            (
                "labels",
                view(Dtype::U32, vec![self.labels.len()], &labels)?,
            ),
            (CHECKSUMS, view(Dtype::U8, sums_shape, &sums)?),
        ];
        let metadata = HashMap::from([("fingerprint".into(), self.fingerprint.clone())]);
        let encoded = safetensors::serialize(tensors, Some(metadata)).map_err(fail)?;
        Ok(write_whole(path, &encoded)?)
    }

    /// Reads a cache, and compares its blocks with their checksums.
    ///
    /// # Errors
    /// If the file can't be read, is not a latent cache or is damaged.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        Self::read_noting(path).map(|(cache, _)| cache)
    }

    /// Reads a cache as [`read`](Self::read) does. The note, one line, is for one that has no checksums.
    fn read_noting(path: &Path) -> Result<(Self, Option<String>), DataError> {
        let data = latentlm::core::disk::read_regular(path).map_err(|source| DataError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        let malformed =
            |reason: String| malformed(path, format!("{reason}; training makes it anew"));
        check_header(&data).map_err(|error| malformed(format!("its header {error}")))?;
        let (_, metadata) =
            SafeTensors::read_metadata(&data).map_err(|e| malformed(e.to_string()))?;
        let fingerprint = metadata
            .metadata()
            .as_ref()
            .and_then(|m| m.get("fingerprint").cloned())
            .ok_or_else(|| malformed("no latent cache: it has no fingerprint".into()))?;
        let file = SafeTensors::deserialize(&data).map_err(|e| malformed(e.to_string()))?;
        let tensor = |name| file.tensor(name).map_err(|e| malformed(e.to_string()));
        let parameters = tensor("parameters")?;
        let (lengths, labels) = (tensor("lengths")?, tensor("labels")?);
        let &[total, dim] = parameters.shape() else {
            return Err(malformed("its tensors have the wrong rank".into()));
        };
        let mut note = None;
        if let Ok(sums) = file.tensor(CHECKSUMS) {
            let found = checksums([parameters.data(), lengths.data(), labels.data()]);
            let mut blocks = sums.data().chunks(SUM_BYTES).zip(found.chunks(SUM_BYTES));
            let same_count = sums.data().len() == found.len();
            if let Some(block) = blocks.position(|(sum, found)| sum != found) {
                return Err(malformed(format!("its block {block} is damaged")));
            }
            if !same_count {
                return Err(malformed("it has checksums of another length".into()));
            }
        } else {
            let path = path.display();
            note = Some(format!(
                "{path} has no checksums: whether it is whole can't be checked"
            ));
        }
        let integers = lengths.dtype() == Dtype::U32 && labels.dtype() == Dtype::U32;
        let lengths: Vec<u32> = numbers(lengths.data(), u32::from_le_bytes);
        let cache = Self {
            dim,
            labels: numbers(labels.data(), u32::from_le_bytes),
            parameters: numbers(parameters.data(), f32::from_le_bytes),
            fingerprint,
            lengths,
        };
        let sum: u64 = cache.lengths.iter().map(|&length| u64::from(length)).sum();
        let fits = sum == total as u64 && cache.labels.len() == cache.len();
        if !fits || !integers || parameters.dtype() != Dtype::F32 {
            return Err(malformed("its tensors do not fit each other".into()));
        }
        Ok((cache, note))
    }

    /// Reads the cache if the file exists and its fingerprint matches. A cache of an older version has no checksums;
    /// then there is a note for the user, one line.
    ///
    /// # Errors
    /// If the file exists but is not a latent cache.
    pub fn read_matching(
        path: &Path,
        fingerprint: &str,
    ) -> Result<Option<(Self, Option<String>)>, DataError> {
        if !path.exists() {
            return Ok(None);
        }
        let read = Self::read_noting(path)?;
        Ok((read.0.fingerprint == fingerprint).then_some(read))
    }
}

fn malformed(path: &Path, reason: String) -> DataError {
    DataError::Malformed {
        path: path.to_owned(),
        reason,
    }
}

/// The checksum of each block of some arrays, one after the other.
fn checksums(arrays: [&[u8]; 3]) -> Vec<u8> {
    let blocks = arrays.iter().flat_map(|array| array.chunks(BLOCK_BYTES));
    blocks.flat_map(Sha256::digest).collect()
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
    use std::fs;

    use latentlm::core::bounds::MOST_HEADER_VALUES;

    use super::*;

    fn cache() -> LatentCache {
        LatentCache {
            dim: 3,
            lengths: vec![1, 3],
            labels: vec![4, 1],
            parameters: (0..12).map(|i| i as f32 * 0.3 - 1.0).collect(),
            fingerprint: "abc".into(),
        }
    }

    #[test]
    fn reads_back_bit_equal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latents.safetensors");
        cache().write(&path).unwrap();
        assert_eq!(LatentCache::read(&path).unwrap(), cache());
        assert_eq!(cache().gather(&[1])[0], 3.0 * 0.3 - 1.0);
        assert_eq!(cache().gather(&[1, 0]).len(), 12);
        assert_eq!(LatentCache::read_matching(&path, "other").unwrap(), None);
        let matching = LatentCache::read_matching(&path, "abc").unwrap();
        assert_eq!(matching, Some((cache(), None)));
        let missing = dir.path().join("none");
        assert_eq!(LatentCache::read_matching(&missing, "abc").unwrap(), None);
    }

    #[test]
    fn a_header_of_too_many_values_is_refused_before_it_is_parsed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latents.safetensors");
        let header = b",".repeat(MOST_HEADER_VALUES + 1);
        let length = (header.len() as u64).to_le_bytes();
        fs::write(&path, [length.as_slice(), &header].concat()).unwrap();
        let message = LatentCache::read(&path).unwrap_err().to_string();
        assert!(message.contains("its header has 2000001 v"), "{message}");
        assert!(message.ends_with("training makes it anew"), "{message}");
    }

    /// As older versions wrote it.
    #[test]
    fn a_cache_without_checksums_is_read_with_a_note() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latents.safetensors");
        cache().write(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&whole).unwrap();
        let mut tensors = SafeTensors::deserialize(&whole).unwrap().tensors();
        tensors.retain(|(name, _)| name != CHECKSUMS);
        assert_eq!(tensors.len(), 3);
        let old = safetensors::serialize(tensors, metadata.metadata().clone()).unwrap();
        fs::write(&path, old).unwrap();
        assert_eq!(LatentCache::read(&path).unwrap(), cache());
        let (read, note) = LatentCache::read_matching(&path, "abc").unwrap().unwrap();
        assert_eq!(read, cache());
        let told = format!(
            "{} has no checksums: whether it is whole can't be checked",
            path.display()
        );
        assert_eq!(note, Some(told));
        // One that is made anew needs no note.
        assert_eq!(LatentCache::read_matching(&path, "other").unwrap(), None);
    }

    #[test]
    fn a_cut_cache_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latents.safetensors");
        cache().write(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let message = LatentCache::read(&path).unwrap_err().to_string();
        assert!(message.contains("training makes it anew"), "{message}");
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
    fn every_flipped_bit_of_the_numbers_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latents.safetensors");
        cache().write(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        for at in header..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            let message = LatentCache::read(&path).unwrap_err().to_string();
            assert!(message.contains("damaged"), "byte {at}: {message}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_never_opened() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("latents.safetensors");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let message = LatentCache::read(&pipe).unwrap_err().to_string();
        assert!(message.contains("it is no regular file"), "{message}");
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
