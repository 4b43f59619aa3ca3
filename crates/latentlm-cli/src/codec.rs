//! `codec`.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::{Tensor, TensorData};
use latentlm::core::bundle::write_atomically;
use latentlm_args::{Codec, CodecFiles, run_path};
use latentlm_data::DataError;
use latentlm_data::speech::{read_audio, write_wav};
use latentlm_eval::{mel_distance_db, si_sdr_db, stoi};
use latentlm_pipelines::SpeechCodec;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::device::device;
use crate::{notes, written};

/// Encodes a sound file, decodes a file of latents, or does both.
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
    let latents = codec.encode(samples_of(files, &codec)?);
    let [_, frames, dim] = latents.dims();
    let values = latents.into_data().convert::<f32>();
    let bytes: Vec<u8> = values
        .as_slice::<f32>()
        .unwrap_or_default()
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let view = TensorView::new(Dtype::F32, vec![1, frames, dim], &bytes)?;
    let file = safetensors::serialize([("latents", view)], None::<HashMap<String, String>>)?;
    write_atomically(&files.output, &file)?;
    let line = format!("{}: {frames} latents of {dim}", files.output.display());
    written::show(&files.output, &line);
    Ok(())
}

fn decode(files: &CodecFiles) -> Result<()> {
    let codec = codec_of(files)?;
    let latents = read_latents(&files.input, codec.latent_dim(), &device(&files.device)?)?;
    write_sound(
        &files.output,
        &codec.decode(latents),
        codec.sample_rate_hz(),
    )
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

fn read_latents(path: &Path, dim: usize, device: &burn::tensor::Device) -> Result<Tensor<3>> {
    let what = || format!("{}: no file of latents", path.display());
    let bytes = std::fs::read(path).map_err(|source| DataError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
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
    use burn::tensor::Device;

    #[test]
    fn silence_has_no_si_sdr() {
        let silence = si_sdr_db(&[0.0; 100], &[0.0; 100]);
        assert_eq!(si_sdr_line(silence), "SI-SDR is not defined for silence");
        assert_eq!(si_sdr_line(12.25), "SI-SDR 12.25 dB");
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
