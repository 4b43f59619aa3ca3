//! `codec`.

use std::path::Path;

use anyhow::Result;
use latentlm_args::{Codec, CodecFiles, run_path};
use latentlm_data::speech::{read_audio, write_wav};
use latentlm_eval::{mel_distance_db, si_sdr_db, stoi};
use latentlm_pipelines::{SpeechCodec, read_codes, read_latents, write_codes, write_latents};

use crate::device::device;
use crate::{notes, written};

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
    let line = match codec.encode_codes(&samples) {
        Some(codes) => {
            let [_, frames, count] = codes.dims();
            write_codes(&files.output, codes)?;
            format!("{frames} frames of {count} codes")
        }
        None => {
            let latents = codec.encode(samples);
            let [_, frames, dim] = latents.dims();
            write_latents(&files.output, latents)?;
            format!("{frames} latents of {dim}")
        }
    };
    let line = format!("{}: {line}", files.output.display());
    written::show(&files.output, &line);
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_has_no_si_sdr() {
        let silence = si_sdr_db(&[0.0; 100], &[0.0; 100]);
        assert_eq!(si_sdr_line(silence), "SI-SDR is not defined for silence");
        assert_eq!(si_sdr_line(12.25), "SI-SDR 12.25 dB");
    }
}
