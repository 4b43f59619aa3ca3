//! `codec`.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm::core::bundle::write_atomically;
use latentlm::core::disk::bytes_within;
use latentlm_args::{Codec, CodecFiles, run_path};
use latentlm_data::DataError;
use latentlm_data::speech::{read_audio, write_wav};
use latentlm_eval::{mel_distance_db, si_sdr_db, stoi};
use latentlm_pipelines::SpeechCodec;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::device::device;
use crate::{notes, written};

/// Name of the tensor in files of codes.
const CODES: &str = "codes";
/// Largest size of a file of latents or codes in bytes: a day and a half of speech at 7.5 latents of 64 numbers a second.
const MOST_BYTES: u64 = 256 << 20;

/// Encodes a sound file, decodes a file of latents or codes, or does both.
pub fn run(args: Codec) -> Result<()> {
    match &args {
        Codec::Encode(files) => encode(files),
        Codec::Decode(files) => decode(files),
        Codec::Reconstruct(files) => reconstruct(files),
    }
}

fn codec_of(files: &CodecFiles) -> Result<SpeechCodec> {
    let device = device(&files.device)?;
    let codec = SpeechCodec::from_run(&run_path(&files.run), &device)?;
    notes::show(&codec.notes);
    Ok(codec)
}

fn samples_of(files: &CodecFiles, codec: &SpeechCodec) -> Result<Vec<f32>> {
    let audio = read_audio(&files.input)?;
    Ok(audio.resampled(codec.sample_rate_hz()).samples)
}

fn encode(files: &CodecFiles) -> Result<()> {
    let codec = codec_of(files)?;
    let samples = samples_of(files, &codec)?;
    let (name, dtype, shape, bytes) = match codec.encode_codes(&samples) {
        Some(codes) => (CODES, Dtype::I64, codes.dims(), code_bytes(codes)),
        None => {
            let latents = codec.encode(samples);
            ("latents", Dtype::F32, latents.dims(), number_bytes(latents))
        }
    };
    let view = TensorView::new(dtype, shape.to_vec(), &bytes)?;
    let file = safetensors::serialize([(name, view)], None::<HashMap<String, String>>)?;
    write_atomically(&files.output, &file)?;
    let [_, frames, dim] = shape;
    let line = match name {
        CODES => format!("{frames} frames of {dim} codes"),
        _ => format!("{frames} latents of {dim}"),
    };
    let line = format!("{}: {line}", files.output.display());
    written::show(&files.output, &line);
    Ok(())
}

fn number_bytes(latents: Tensor<3>) -> Vec<u8> {
    let values = latents.into_data().convert::<f32>();
    let values = values.as_slice::<f32>().unwrap_or_default().iter();
    values.flat_map(|x| x.to_le_bytes()).collect()
}

fn code_bytes(codes: Tensor<3, Int>) -> Vec<u8> {
    let values = codes.into_data().convert::<i64>();
    let values = values.as_slice::<i64>().unwrap_or_default().iter();
    values.flat_map(|x| x.to_le_bytes()).collect()
}

fn decode(files: &CodecFiles) -> Result<()> {
    let codec = codec_of(files)?;
    let device = device(&files.device)?;
    let codes = match codec.quantizer() {
        Some(quantizer) => {
            let (books, entries) = (quantizer.codebooks(), quantizer.entries());
            Some(read_codes(&files.input, books, entries, &device)?)
        }
        None => None,
    };
    let samples = match codes.and_then(|codes| codec.decode_codes(codes)) {
        Some(samples) => samples,
        None => codec.decode(read_latents(&files.input, codec.latent_dim(), &device)?),
    };
    write_sound(&files.output, &samples, codec.sample_rate_hz())
}

fn reconstruct(files: &CodecFiles) -> Result<()> {
    let codec = codec_of(files)?;
    let (original, copy) = codec.reconstruct(samples_of(files, &codec)?);
    let rate = codec.sample_rate_hz();
    write_sound(&files.output, &copy, rate)?;
    let distance = mel_distance_db(&original, &copy, rate);
    let mut lines = vec![
        format!("mel distance {distance:.2} dB"),
        si_sdr_line(si_sdr_db(&original, &copy)),
    ];
    if let Some(value) = stoi(&original, &copy, rate) {
        lines.push(format!("STOI {value:.3}"));
    }
    for line in lines {
        written::show(&files.output, &line);
    }
    Ok(())
}

/// The line of a measured SI-SDR, which is NaN for silence.
fn si_sdr_line(decibels: f64) -> String {
    if decibels.is_nan() {
        "SI-SDR is not defined for silence".into()
    } else {
        format!("SI-SDR {decibels:.2} dB")
    }
}

fn write_sound(path: &Path, samples: &[f32], rate: u32) -> Result<()> {
    write_wav(path, samples, rate)?;
    let seconds = samples.len() as f64 / f64::from(rate);
    written::show(path, &format!("{}: {seconds:.2} s", path.display()));
    Ok(())
}

/// The bytes of a file of latents or codes; a device may have no end.
fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let bytes = File::open(path).and_then(|file| bytes_within(file, MOST_BYTES));
    bytes.map_err(|source| DataError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

/// Codes in a file, `[1, T, K]`, of the first `K` of `books` codebooks with `entries` entries each.
fn read_codes(
    path: &Path,
    books: usize,
    entries: usize,
    device: &Device,
) -> Result<Tensor<3, Int>> {
    let what = || format!("{}: no file of codes", path.display());
    let bytes = read(path)?;
    let file = SafeTensors::deserialize(&bytes).with_context(what)?;
    let tensor = file.tensor(CODES).with_context(what)?;
    let found = (tensor.shape(), tensor.dtype());
    let fits = |frames: usize, count: usize| frames > 0 && (1..=books).contains(&count);
    let [frames, count] = match found {
        (&[1, frames, count], Dtype::I64) if fits(frames, count) => [frames, count],
        (shape, dtype) => bail!(
            "{}: codes must be [1, T, K] of int64, K at most {books}, not {shape:?} of {dtype:?}",
            path.display()
        ),
    };
    let words = tensor.data().chunks_exact(8);
    let words = words.map(|b| [b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
    let values: Vec<i64> = words.map(i64::from_le_bytes).collect();
    if !values.iter().all(|code| (0..entries as i64).contains(code)) {
        bail!("{}: codes must be in 0..{entries}", path.display());
    }
    let codes = TensorData::new(values, [1, frames, count]);
    Ok(Tensor::from_data(codes, device))
}

fn read_latents(path: &Path, dim: usize, device: &Device) -> Result<Tensor<3>> {
    let what = || format!("{}: no file of latents", path.display());
    let bytes = read(path)?;
    let file = SafeTensors::deserialize(&bytes).with_context(what)?;
    let tensor = file.tensor("latents").with_context(what)?;
    let &[batch, frames, width] = tensor.shape() else {
        bail!("{}: latents must be [1, T, {dim}]", path.display());
    };
    if (batch, width, tensor.dtype()) != (1, dim, Dtype::F32) || frames == 0 {
        bail!(
            "{}: latents must be [1, T, {dim}] of float32, not {:?} of {:?}",
            path.display(),
            tensor.shape(),
            tensor.dtype()
        );
    }
    let words = tensor.data().chunks_exact(4);
    let values: Vec<f32> = words
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    if !values.iter().all(|value| value.is_finite()) {
        bail!("{}: latents must be finite numbers", path.display());
    }
    Ok(Tensor::from_data(
        TensorData::new(values, [1, frames, dim]),
        device,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_has_no_si_sdr() {
        let silence = si_sdr_db(&[0.0; 100], &[0.0; 100]);
        assert_eq!(si_sdr_line(silence), "SI-SDR is not defined for silence");
        assert_eq!(si_sdr_line(12.25), "SI-SDR 12.25 dB");
    }

    /// For two codebooks of four entries.
    #[test]
    fn codes_of_no_entry_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("codes.safetensors");
        let read = |codes: &[i64], shape: Vec<usize>| {
            let bytes: Vec<u8> = codes.iter().flat_map(|x| x.to_le_bytes()).collect();
            let view = TensorView::new(Dtype::I64, shape, &bytes).unwrap();
            let file = safetensors::serialize([(CODES, view)], None::<HashMap<String, String>>);
            std::fs::write(&path, file.unwrap()).unwrap();
            read_codes(&path, 2, 4, &Device::default())
        };
        let codes = read(&[0, 3, 2, 1], vec![1, 2, 2]).unwrap();
        assert_eq!(code_bytes(codes)[8], 3);
        assert_eq!(read(&[0, 3], vec![1, 2, 1]).unwrap().dims(), [1, 2, 1]);
        for (codes, shape, told) in [
            (&[0, 4][..], vec![1, 1, 2], "in 0..4"),
            (&[0, -1][..], vec![1, 1, 2], "in 0..4"),
            (&[0, 1, 2][..], vec![1, 1, 3], "K at most 2"),
            (&[0, 1][..], vec![2, 1, 1], "K at most 2"),
            (&[][..], vec![1, 0, 2], "K at most 2"),
        ] {
            let message = read(codes, shape).unwrap_err().to_string();
            assert!(message.contains(told), "{message}");
        }
    }

    #[test]
    fn latents_that_are_not_finite_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latents.safetensors");
        let read = |last: f32| {
            let values = [1.0, -2.0, 3e38, last];
            let bytes: Vec<u8> = values.iter().flat_map(|x: &f32| x.to_le_bytes()).collect();
            let view = TensorView::new(Dtype::F32, vec![1, 2, 2], &bytes).unwrap();
            let file = safetensors::serialize([("latents", view)], None::<HashMap<String, String>>);
            std::fs::write(&path, file.unwrap()).unwrap();
            read_latents(&path, 2, &Device::default())
        };
        let latents = read(0.5).unwrap().into_data();
        assert_eq!(latents.as_slice::<f32>().unwrap(), [1.0, -2.0, 3e38, 0.5]);
        for last in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let told = read(last).unwrap_err().to_string();
            assert!(told.ends_with("latents must be finite numbers"), "{told}");
        }
    }
}
