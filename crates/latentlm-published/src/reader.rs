//! Tensors of a safetensors file, each read by its position when it is needed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use burn::store::SafetensorsStoreError;
use burn::store::bridge::deferred;
use burn::store::burn_pack::{Error as PackError, Tensor as Stored};
use burn::tensor::{BoolStore, DType, Shape, TensorData};
use latentlm_core::bundle::io_error;
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::shards::{LENGTH_BYTES, MOST_HEADER_BYTES};
use crate::store::{PretrainedError, damaged};

// burn-store maps the file instead: the pages that it reads count as memory of the process beside the tensors that
// are made from them, so that a model is there twice while it is loaded.
/// The tensors of a file. Only its header is read now.
///
/// # Errors
/// If the file can't be read, or its header is none.
pub(crate) fn tensors(path: &Path) -> Result<Vec<Stored>, PretrainedError> {
    let mut file = File::open(path).map_err(io_error("read", path))?;
    let bytes = file.metadata().map_err(io_error("read", path))?.len();
    let (metadata, data_start) = header(&mut file, bytes).map_err(|error| damaged(path, error))?;
    let mut found: Vec<_> = metadata.tensors().into_iter().collect();
    found.sort_by_key(|(_, info)| info.data_offsets);
    let mut tensors = Vec::with_capacity(found.len());
    for (name, info) in found {
        let (start, end) = info.data_offsets;
        let place = Place {
            path: path.to_owned(),
            start: data_start + start as u64,
            bytes: end - start,
        };
        let dtype = burn_dtype(info.dtype).map_err(|error| damaged(path, error))?;
        let shape = Shape::from(info.shape.clone());
        let target = shape.clone();
        tensors.push(deferred(name, dtype, shape, None, move || {
            let bytes = place.read()?;
            Ok(TensorData::from_bytes_vec(bytes, target.clone(), dtype))
        }));
    }
    Ok(tensors)
}

/// What the header says, and where the numbers of the tensors begin.
fn header(file: &mut File, bytes: u64) -> Result<(Metadata, u64), SafetensorsStoreError> {
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let data_start = LENGTH_BYTES.saturating_add(length);
    if length > MOST_HEADER_BYTES || data_start > bytes {
        let reason = format!("a header of {length} bytes in a file of {bytes}");
        return Err(SafetensorsStoreError::ValidationFailed(reason));
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text)?;
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
struct Place {
    path: PathBuf,
    start: u64,
    bytes: usize,
}

impl Place {
    fn read(&self) -> Result<Vec<u8>, PackError> {
        let read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.start))?;
            let mut bytes = vec![0; self.bytes];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error: io::Error| {
            PackError::ValidationError(format!("{}: {error}", self.path.display()))
        })
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

        let tensors = tensors(&path).unwrap();
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
            let error = tensors(&path).unwrap_err().to_string();
            assert!(
                error.contains("cut.safetensors is damaged"),
                "{length}: {error}"
            );
        }
    }
}
