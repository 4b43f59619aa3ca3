//! Files of latents or codes of a sound, as `codec encode` writes them: safetensors with one tensor.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm::core::bounds::check_header;
use latentlm::core::bundle::write_atomically;
use latentlm::core::disk::bytes_within;
use latentlm_data::DataError;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};

use crate::error::Result;

/// Name of the tensor in files of codes.
const CODES: &str = "codes";
/// Name of the tensor in files of latents.
const LATENTS: &str = "latents";
/// Largest size of a file of latents or codes in bytes: a day and a half of speech at 7.5 latents of 64 numbers a second.
const MOST_BYTES: u64 = 256 << 20;

/// Writes latents, `[1, T, Z]`.
///
/// # Errors
/// If the file can't be written.
pub fn write_latents(path: &Path, latents: Tensor<3>) -> Result<()> {
    let shape = latents.dims();
    let values = latents.into_data().convert::<f32>();
    let values = values.as_slice::<f32>().unwrap_or_default().iter();
    let bytes: Vec<u8> = values.flat_map(|x| x.to_le_bytes()).collect();
    write(path, LATENTS, Dtype::F32, shape, &bytes)
}

/// Writes codes, `[1, T, K]`.
///
/// # Errors
/// If the file can't be written.
pub fn write_codes(path: &Path, codes: Tensor<3, Int>) -> Result<()> {
    let shape = codes.dims();
    let values = codes.into_data().convert::<i64>();
    let values = values.as_slice::<i64>().unwrap_or_default().iter();
    let bytes: Vec<u8> = values.flat_map(|x| x.to_le_bytes()).collect();
    write(path, CODES, Dtype::I64, shape, &bytes)
}

fn write(path: &Path, name: &str, dtype: Dtype, shape: [usize; 3], bytes: &[u8]) -> Result<()> {
    let wrong = |error: SafeTensorError| malformed(path, format!("can't be written: {error}"));
    let view = TensorView::new(dtype, shape.to_vec(), bytes).map_err(wrong)?;
    let file = safetensors::serialize([(name, view)], None::<HashMap<String, String>>);
    Ok(write_atomically(path, &file.map_err(wrong)?)?)
}

/// Codes in a file, `[1, T, K]`, of the first `K` of `books` codebooks with `entries` entries each.
///
/// # Errors
/// If the file can't be read, has more than 256 MiB or other content.
pub fn read_codes(
    path: &Path,
    books: usize,
    entries: usize,
    device: &Device,
) -> Result<Tensor<3, Int>> {
    let bytes = read(path)?;
    let tensor = tensor(path, &bytes, CODES)?;
    let found = (tensor.shape(), tensor.dtype());
    let fits = |frames: usize, count: usize| frames > 0 && (1..=books).contains(&count);
    let [frames, count] = match found {
        (&[1, frames, count], Dtype::I64) if fits(frames, count) => [frames, count],
        (shape, dtype) => {
            let reason = format!(
                "codes must be [1, T, K] of int64, K at most {books}, not {shape:?} of {dtype:?}"
            );
            return Err(malformed(path, reason).into());
        }
    };
    let words = tensor.data().chunks_exact(8);
    let words = words.map(|b| [b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
    let values: Vec<i64> = words.map(i64::from_le_bytes).collect();
    if !values.iter().all(|code| (0..entries as i64).contains(code)) {
        return Err(malformed(path, format!("codes must be in 0..{entries}")).into());
    }
    let codes = TensorData::new(values, [1, frames, count]);
    Ok(Tensor::from_data(codes, device))
}

/// Latents in a file, `[1, T, Z]`, of `dim` numbers each.
///
/// # Errors
/// If the file can't be read, has more than 256 MiB or other content, or a number is not finite.
pub fn read_latents(path: &Path, dim: usize, device: &Device) -> Result<Tensor<3>> {
    let bytes = read(path)?;
    let tensor = tensor(path, &bytes, LATENTS)?;
    let frames = match (tensor.shape(), tensor.dtype()) {
        (&[1, frames, width], Dtype::F32) if width == dim && frames > 0 => frames,
        (shape, dtype) => {
            let reason =
                format!("latents must be [1, T, {dim}] of float32, not {shape:?} of {dtype:?}");
            return Err(malformed(path, reason).into());
        }
    };
    let words = tensor.data().chunks_exact(4);
    let values: Vec<f32> = words
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    if !values.iter().all(|value| value.is_finite()) {
        return Err(malformed(path, "latents must be finite numbers").into());
    }
    let latents = TensorData::new(values, [1, frames, dim]);
    Ok(Tensor::from_data(latents, device))
}

/// The bytes of a file; a device may have no end.
fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let bytes = File::open(path).and_then(|file| bytes_within(file, MOST_BYTES));
    bytes.map_err(|source| DataError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

/// The tensor of a file.
fn tensor<'a>(path: &Path, bytes: &'a [u8], name: &str) -> Result<TensorView<'a>, DataError> {
    let wrong = |reason: String| malformed(path, format!("no file of {name}: {reason}"));
    check_header(bytes).map_err(|error| wrong(format!("its header {error}")))?;
    let file = SafeTensors::deserialize(bytes);
    let tensor = file.and_then(|file| file.tensor(name));
    tensor.map_err(|error| wrong(error.to_string()))
}

fn malformed(path: &Path, reason: impl Into<String>) -> DataError {
    DataError::Malformed {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use latentlm::core::bounds::MOST_HEADER_VALUES;

    use super::*;

    /// For two codebooks of four entries.
    #[test]
    fn codes_of_no_entry_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("codes.safetensors");
        let device = Device::default();
        let read = |codes: &[i64], shape: [usize; 3]| {
            let codes = Tensor::from_data(TensorData::new(codes.to_vec(), shape), &device);
            write_codes(&path, codes).unwrap();
            read_codes(&path, 2, 4, &device)
        };
        let codes = read(&[0, 3, 2, 1], [1, 2, 2]).unwrap().into_data();
        let codes = codes.convert::<i64>();
        assert_eq!(codes.as_slice::<i64>().unwrap(), [0, 3, 2, 1]);
        assert_eq!(read(&[0, 3], [1, 2, 1]).unwrap().dims(), [1, 2, 1]);
        for (codes, shape, told) in [
            (&[0, 4][..], [1, 1, 2], "in 0..4"),
            (&[0, -1], [1, 1, 2], "in 0..4"),
            (&[0, 1, 2], [1, 1, 3], "K at most 2"),
            (&[0, 1], [2, 1, 1], "K at most 2"),
        ] {
            let message = read(codes, shape).unwrap_err().to_string();
            assert!(message.contains(told), "{message}");
        }
        write(&path, CODES, Dtype::I64, [1, 0, 2], &[]).unwrap();
        let message = read_codes(&path, 2, 4, &device).unwrap_err().to_string();
        assert!(message.contains("K at most 2"), "{message}");
        let message = read_latents(&path, 2, &device).unwrap_err().to_string();
        assert!(
            message.contains("codes.safetensors: no file of latents: "),
            "{message}"
        );
    }

    #[test]
    fn a_header_of_too_many_values_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("codes.safetensors");
        let header = b",".repeat(MOST_HEADER_VALUES + 1);
        let length = (header.len() as u64).to_le_bytes();
        std::fs::write(&path, [length.as_slice(), &header].concat()).unwrap();
        let error = read_codes(&path, 2, 4, &Device::default()).unwrap_err();
        let message = error.to_string();
        let part = "codes.safetensors: no file of codes: its header has 2000001 values";
        assert!(message.contains(part), "{message}");
    }

    #[test]
    fn latents_that_are_not_finite_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latents.safetensors");
        let device = Device::default();
        let read = |last: f32| {
            let values = vec![1.0, -2.0, 3e38, last];
            let latents = Tensor::from_data(TensorData::new(values, [1, 2, 2]), &device);
            write_latents(&path, latents).unwrap();
            read_latents(&path, 2, &device)
        };
        let latents = read(0.5).unwrap().into_data();
        assert_eq!(latents.as_slice::<f32>().unwrap(), [1.0, -2.0, 3e38, 0.5]);
        for last in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let told = read(last).unwrap_err().to_string();
            assert!(told.ends_with("latents must be finite numbers"), "{told}");
        }
        let told = read_latents(&path, 3, &device).unwrap_err().to_string();
        assert!(
            told.contains("latents must be [1, T, 3] of float32, not [1, 2, 2] of F32"),
            "{told}"
        );
    }
}
