//! `codec`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::{Tensor, TensorData};
use clap::{Args, Subcommand};
use latentlm::core::bundle::write_atomically;
use latentlm_data::DataError;
use latentlm_data::speech::{read_audio, write_wav};
use latentlm_eval::{mel_distance_db, si_sdr_db, stoi};
use latentlm_pipelines::SpeechCodec;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::device::device;
use crate::training::run_path;

/// Sound to latents and back, with the codec of a trained run
#[derive(Subcommand)]
#[command(after_help = "Examples:\n  \
    cargo xtask codec encode --run voice hello.wav hello.safetensors\n  \
    cargo xtask codec decode --run voice hello.safetensors again.wav\n  \
    cargo xtask codec reconstruct --run voice hello.wav again.wav")]
pub enum Codec {
    /// Writes the latents of a sound file: a tensor `latents`, [1, T, Z]
    Encode(Files),
    /// Writes the sound of latents
    Decode(Files),
    /// Encodes, decodes, and says how far the two sounds lie apart
    Reconstruct(Files),
}

#[derive(Args)]
pub struct Files {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "voice")]
    run: String,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    device: String,
    /// File to read
    input: PathBuf,
    /// File to write
    output: PathBuf,
}

impl Files {
    fn codec(&self) -> Result<SpeechCodec> {
        let device = device(&self.device)?;
        Ok(SpeechCodec::from_run(&run_path(&self.run), &device)?)
    }

    fn samples(&self, codec: &SpeechCodec) -> Result<Vec<f32>> {
        let audio = read_audio(&self.input)?;
        Ok(audio.resampled(codec.sample_rate_hz()).samples)
    }
}

impl Codec {
    pub fn run(self) -> Result<()> {
        match self {
            Self::Encode(files) => encode(&files),
            Self::Decode(files) => decode(&files),
            Self::Reconstruct(files) => reconstruct(&files),
        }
    }
}

fn encode(files: &Files) -> Result<()> {
    let codec = files.codec()?;
    let latents = codec.encode(files.samples(&codec)?);
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
    println!("{}: {frames} latents of {dim}", files.output.display());
    Ok(())
}

fn decode(files: &Files) -> Result<()> {
    let codec = files.codec()?;
    let latents = read_latents(&files.input, codec.latent_dim(), &device(&files.device)?)?;
    write_sound(
        &files.output,
        &codec.decode(latents),
        codec.sample_rate_hz(),
    )
}

fn reconstruct(files: &Files) -> Result<()> {
    let codec = files.codec()?;
    let (original, copy) = codec.reconstruct(files.samples(&codec)?);
    let rate = codec.sample_rate_hz();
    write_sound(&files.output, &copy, rate)?;
    println!(
        "mel distance {:.2} dB",
        mel_distance_db(&original, &copy, rate)
    );
    println!("SI-SDR {:.2} dB", si_sdr_db(&original, &copy));
    if let Some(value) = stoi(&original, &copy, rate) {
        println!("STOI {value:.3}");
    }
    Ok(())
}

fn write_sound(path: &Path, samples: &[f32], rate: u32) -> Result<()> {
    write_wav(path, samples, rate)?;
    println!(
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
