//! `convert-voice`.

use anyhow::Result;
use latentlm::core::bundle::write_atomically;
use latentlm_args::ConvertVoice;
use latentlm_published::read_voice;

use crate::written;

/// Writes a saved voice as safetensors.
pub fn run(args: &ConvertVoice) -> Result<()> {
    let bytes = read_voice(&args.voice)?.to_safetensors()?;
    write_atomically(&args.out, &bytes)?;
    let line = format!("{}: {} bytes", args.out.display(), bytes.len());
    written::show(&args.out, &line);
    Ok(())
}
