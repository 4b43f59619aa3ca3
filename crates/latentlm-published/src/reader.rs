//! Tensors of a safetensors file, each read by its position when it is needed.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use burn::store::SafetensorsStoreError;
use burn::store::bridge::deferred;
use burn::store::burn_pack::{Error as PackError, Tensor as Stored};
use burn::tensor::{BoolStore, DType, Shape, TensorData};
use latentlm_core::bounds::{
    HeaderError, LENGTH_BYTES, MOST_HEADER_BYTES, MOST_HEADER_VALUES, check_values,
};
use latentlm_core::bundle::io_error;
use latentlm_kernels::at_once;
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::error::{PretrainedError, damaged, too_large};
use crate::threads::bytes_a_thread;

/// Bytes that are read at once: they are still in a core's second-level cache when their numbers are checked.
const PIECE_BYTES: usize = 1 << 20;

/// Why a tensor with infinity or NaN is refused.
pub(crate) const NOT_FINITE: &str = "it has numbers that are not finite";

/// The first tensor that can't be read. burn-store would tell it in the words of a programmer, or go on without it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unread(Arc<OnceLock<(PathBuf, String)>>);

impl Unread {
    /// Whether all tensors could be read so far.
    ///
    /// # Errors
    /// If there was such a tensor, with its name and file.
    pub(crate) fn check(&self) -> Result<(), PretrainedError> {
        match self.0.get() {
            None => Ok(()),
            Some((path, reason)) => Err(PretrainedError::Weights {
                path: path.clone(),
                reason: reason.clone(),
            }),
        }
    }
}

// burn-store maps the file instead: the pages that it reads count as memory of the process beside the tensors that
// are made from them, so that a model is there twice while it is loaded.
/// The tensors of a file. Only its header is read now. A tensor that later can't be read, or has numbers that are not
/// finite, is noted in `unread`.
///
/// # Errors
/// If the file can't be read, or its header is none.
pub(crate) fn tensors(path: &Path, unread: &Unread) -> Result<Vec<Stored>, PretrainedError> {
    let mut file = File::open(path).map_err(io_error("read", path))?;
    let bytes = file.metadata().map_err(io_error("read", path))?.len();
    let (metadata, data_start) = header(&mut file, bytes).map_err(|error| damaged(path, error))?;
    let file = Arc::new(file);
    let mut found: Vec<_> = metadata.tensors().into_iter().collect();
    found.sort_by_key(|(_, info)| info.data_offsets);
    let mut tensors = Vec::with_capacity(found.len());
    for (name, info) in found {
        let (start, end) = info.data_offsets;
        let dtype = burn_dtype(info.dtype).map_err(|error| damaged(path, error))?;
        let place = Place {
            file: Arc::clone(&file),
            path: path.to_owned(),
            name: name.clone(),
            start: data_start + start as u64,
            bytes: end - start,
            dtype,
            unread: unread.clone(),
        };
        let shape = Shape::from(info.shape.clone());
        let target = shape.clone();
        tensors.push(deferred(name, dtype, shape, None, move || {
            let bytes = place.read()?;
            Ok(TensorData::from_bytes_vec(bytes, target.clone(), dtype))
        }));
    }
    Ok(tensors)
}

/// The parsed header, and the offset of the tensors' numbers.
fn header(file: &mut File, bytes: u64) -> Result<(Metadata, u64), SafetensorsStoreError> {
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let data_start = LENGTH_BYTES.saturating_add(length);
    if data_start > bytes {
        let reason = format!("a header of {length} bytes in a file of {bytes}");
        return Err(SafetensorsStoreError::ValidationFailed(reason));
    }
    if length > MOST_HEADER_BYTES {
        return Err(too_large(HeaderError::Long { bytes: length }));
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text)?;
    check_values(&text, MOST_HEADER_VALUES).map_err(too_large)?;
    // The library checks that the tensors follow each other, and that their sizes are those of their shapes.
    let metadata: Metadata = serde_json::from_slice(&text)
        .map_err(|error| SafetensorsStoreError::ValidationFailed(error.to_string()))?;
    let wanted = data_start.saturating_add(metadata.data_len() as u64);
    if wanted != bytes {
        let reason = format!("{bytes} bytes, where its header wants {wanted}");
        return Err(SafetensorsStoreError::ValidationFailed(reason));
    }
    Ok((metadata, data_start))
}

/// Where the numbers of a tensor are.
pub(crate) struct Place {
    /// One handle for all tensors: if another file takes the place of this one, they still are of one file.
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
    /// The tensor's name in the file.
    pub(crate) name: String,
    /// Bytes of the file in front of the numbers.
    pub(crate) start: u64,
    pub(crate) bytes: usize,
    /// Type of the numbers. Floats are checked.
    pub(crate) dtype: DType,
    pub(crate) unread: Unread,
}

impl Place {
    /// Reads the numbers.
    ///
    /// # Errors
    /// If the file can't be read, has become shorter, or has numbers that are not finite.
    pub(crate) fn read(&self) -> Result<Vec<u8>, PackError> {
        self.numbers().map_err(|error| self.refused(error))
    }

    /// Notes that the tensor can't be read.
    pub(crate) fn refused(&self, error: impl Display) -> PackError {
        let reason = format!("`{}` can't be read: {error}", self.name);
        // Only the first is told.
        let _ = self.unread.0.set((self.path.clone(), reason.clone()));
        PackError::ValidationError(reason)
    }

    /// Reads the numbers straight into their place, those of a large tensor on several threads.
    fn numbers(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes];
        // Whole pieces, so that no number is cut in two.
        let part_bytes = bytes_a_thread(self.bytes).next_multiple_of(PIECE_BYTES);
        let mut parts = Vec::new();
        let mut start = self.start;
        for part in bytes.chunks_mut(part_bytes) {
            let next = start + part.len() as u64;
            parts.push((start, part));
            start = next;
        }
        let read = at_once(parts, |(start, part)| self.fill(part, start));
        read.into_iter().collect::<io::Result<()>>()?;
        Ok(bytes)
    }

    /// Reads a part of the numbers, which begins at byte `start` of the file.
    fn fill(&self, part: &mut [u8], mut start: u64) -> io::Result<()> {
        for piece in part.chunks_mut(PIECE_BYTES) {
            read_at(&self.file, piece, start)?;
            start += piece.len() as u64;
            if !is_finite(piece, self.dtype) {
                return Err(io::Error::new(ErrorKind::InvalidData, NOT_FINITE));
            }
        }
        Ok(())
    }
}

/// Fills `bytes` with those of the file from byte `start` on.
#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], start: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    file.read_exact_at(bytes, start)
}

/// Fills `bytes` with those of the file from byte `start` on.
#[cfg(not(unix))]
fn read_at(mut file: &File, bytes: &mut [u8], start: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom};
    use std::sync::{Mutex, PoisonError};
    // All threads share the file's position.
    static POSITION: Mutex<()> = Mutex::new(());
    let _alone = POSITION.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(bytes)
}

/// Whether no float is infinite or NaN: these have an exponent of ones.
fn is_finite(bytes: &[u8], dtype: DType) -> bool {
    // Not `any`, which would stop at the first and so look at one number at a time.
    match dtype {
        DType::BF16 | DType::F16 => {
            let ones = if dtype == DType::BF16 { 0x7f80 } else { 0x7c00 };
            let numbers = bytes
                .chunks_exact(2)
                .map(|x| u16::from_le_bytes([x[0], x[1]]));
            !numbers.fold(false, |found, x| found | (x & ones == ones))
        }
        DType::F32 => {
            let ones = f32::INFINITY.to_bits();
            let numbers = bytes.chunks_exact(4);
            let numbers = numbers.map(|x| u32::from_le_bytes([x[0], x[1], x[2], x[3]]));
            !numbers.fold(false, |found, x| found | (x & ones == ones))
        }
        _ => true,
    }
}

fn burn_dtype(dtype: Dtype) -> Result<DType, SafetensorsStoreError> {
    Ok(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U64 => DType::U64,
        Dtype::U32 => DType::U32,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool(BoolStore::Native),
        other => {
            let reason = format!("numbers of the type {other:?}");
            return Err(SafetensorsStoreError::ValidationFailed(reason));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::store::bridge::to_data;
    use safetensors::tensor::TensorView;

    #[test]
    fn numbers_come_from_their_own_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("two.safetensors");
        let (first, second) = ([1_f32, 2.0, 3.0], [4_i64, 5]);
        let first_bytes: Vec<u8> = first.iter().flat_map(|x| x.to_le_bytes()).collect();
        let second_bytes: Vec<u8> = second.iter().flat_map(|x| x.to_le_bytes()).collect();
        let views = [
            (
                "first",
                TensorView::new(Dtype::F32, vec![3, 1], &first_bytes).unwrap(),
            ),
            (
                "second",
                TensorView::new(Dtype::I64, vec![2], &second_bytes).unwrap(),
            ),
        ];
        safetensors::serialize_to_file(views, None, &path).unwrap();

        let tensors = tensors(&path, &Unread::default()).unwrap();
        for tensor in &tensors {
            let data = to_data(tensor).unwrap();
            match tensor.name.as_str() {
                "first" => {
                    assert_eq!(tensor.shape.as_slice(), [3, 1]);
                    assert_eq!(data.as_slice::<f32>().unwrap(), first);
                }
                _ => assert_eq!(data.as_slice::<i64>().unwrap(), second),
            }
        }
        assert_eq!(tensors.len(), 2);
    }

    /// More than one part, whose pieces must come in order; a number that is not finite is found in each of them.
    #[test]
    fn a_large_tensor_is_read_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let count = (9 << 20) / 4 + 1;
        let number = |index: usize| (index as f32 + 0.5).to_le_bytes();
        let bytes: Vec<u8> = (0..count).flat_map(number).collect();
        let path = one(dir.path(), Dtype::F32, &bytes);
        let unread = Unread::default();
        let read = to_data(&tensors(&path, &unread).unwrap()[0]).unwrap();
        assert!(read.as_bytes() == bytes);
        for place in [0, count / 2, count - 1] {
            let mut bytes = bytes.clone();
            bytes[4 * place..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
            let path = one(dir.path(), Dtype::F32, &bytes);
            let unread = Unread::default();
            assert!(to_data(&tensors(&path, &unread).unwrap()[0]).is_err());
            let message = unread.check().unwrap_err().to_string();
            assert!(message.contains(NOT_FINITE), "{message}");
        }
    }

    #[test]
    fn a_cut_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.safetensors");
        let numbers = [0_u8; 16];
        let view = TensorView::new(Dtype::F32, vec![4], &numbers).unwrap();
        safetensors::serialize_to_file([("x", view)], None, &path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 4, 8, 20, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = tensors(&path, &Unread::default());
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains("cut.safetensors is damaged"),
                "{length}: {error}"
            );
        }
    }

    #[test]
    fn a_header_of_too_many_values_is_refused_before_it_is_parsed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("many.safetensors");
        let header = b",".repeat(MOST_HEADER_VALUES + 1);
        let length = (header.len() as u64).to_le_bytes();
        std::fs::write(&path, [length.as_slice(), &header].concat()).unwrap();
        let error = tensors(&path, &Unread::default()).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("its header has 2000001 v"), "{message}");
    }

    /// A file with one tensor `x`.
    fn one(dir: &Path, dtype: Dtype, bytes: &[u8]) -> PathBuf {
        let path = dir.join("one.safetensors");
        let count = bytes.len() * 8 / dtype.bitsize();
        let view = TensorView::new(dtype, vec![count], bytes).unwrap();
        safetensors::serialize_to_file([("x", view)], None, &path).unwrap();
        path
    }

    /// The largest numbers of each type are read, infinity and NaN are not, wherever they stand.
    #[test]
    fn numbers_that_are_not_finite_are_told() {
        let dir = tempfile::tempdir().unwrap();
        type Case<'a> = (Dtype, &'a [u8], [&'a [u8]; 3]);
        let types: [Case<'_>; 3] = [
            (
                Dtype::BF16,
                &[0x7f, 0xff],
                [&[0x80, 0x7f], &[0x80, 0xff], &[0x81, 0x7f]],
            ),
            (
                Dtype::F16,
                &[0xff, 0xfb],
                [&[0x00, 0x7c], &[0x00, 0xfc], &[0x01, 0x7e]],
            ),
            (
                Dtype::F32,
                &[0xff, 0xff, 0x7f, 0xff],
                [
                    &[0, 0, 0x80, 0x7f],
                    &[0, 0, 0x80, 0xff],
                    &[1, 0, 0xc0, 0x7f],
                ],
            ),
        ];
        for (dtype, finite, others) in types {
            // More than a piece.
            let count = PIECE_BYTES / finite.len() + 3;
            for other in [finite].into_iter().chain(others) {
                for place in [0, 1, count - 1] {
                    let mut bytes = finite.repeat(count);
                    bytes[place * finite.len()..][..finite.len()].copy_from_slice(other);
                    let path = one(dir.path(), dtype, &bytes);
                    let unread = Unread::default();
                    let read = to_data(&tensors(&path, &unread).unwrap()[0]);
                    if other == finite {
                        assert_eq!(read.unwrap().as_bytes(), bytes);
                        unread.check().unwrap();
                    } else {
                        assert!(read.is_err(), "{dtype:?} {other:?} at {place}");
                        let message = unread.check().unwrap_err().to_string();
                        let part = "one.safetensors: `x` can't be read: it has numbers that are not finite";
                        assert!(message.ends_with(part), "{message}");
                    }
                }
            }
        }
    }

    /// A file that takes the place of the first one, or one that is cut while it is read.
    #[test]
    fn files_may_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = one(dir.path(), Dtype::F32, &[0; 16]);
        let unread = Unread::default();
        let before = tensors(&path, &unread).unwrap();
        if cfg!(unix) {
            std::fs::remove_file(&path).unwrap();
            one(dir.path(), Dtype::F32, &[1; 16]);
            assert_eq!(to_data(&before[0]).unwrap().as_bytes(), [0; 16]);
        }
        let before = tensors(&path, &unread).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        assert!(to_data(&before[0]).is_err());
        let message = unread.check().unwrap_err().to_string();
        assert!(message.contains("`x` can't be read"), "{message}");
    }
}
