//! `codec`.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::{Tensor, TensorData};
use latentlm::core::bundle::write_atomically;
use latentlm_args::{Codec, CodecFiles, run_path, say};
use latentlm_data::DataError;
use latentlm_data::speech::{read_audio, write_wav};
use latentlm_eval::{mel_distance_db, si_sdr_db, stoi};
use latentlm_pipelines::SpeechCodec;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::device::device;
use crate::notes;

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
    notes::show(codec.notes());
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
    say!("{}: {frames} latents of {dim}", files.output.display());
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
    say!(
        "mel distance {:.2} dB",
        mel_distance_db(&original, &copy, rate)
    );
    say!("SI-SDR {:.2} dB", si_sdr_db(&original, &copy));
    if let Some(value) = stoi(&original, &copy, rate) {
        say!("STOI {value:.3}");
    }
    Ok(())
}

fn write_sound(path: &Path, samples: &[f32], rate: u32) -> Result<()> {
    write_wav(path, samples, rate)?;
    say!(
        "{}: {:.2} s",
        path.display(),
        samples.len() as f64 / f64::from(rate)
    );
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
    Ok(Tensor::from_data(
        TensorData::new(values, [1, frames, dim]),
        device,
    ))
}
