//! `convert-voice`.

use anyhow::Result;
use latentlm::core::bundle::write_atomically;
use latentlm_args::ConvertVoice;
use latentlm_vibevoice::SavedVoice;

use crate::written;

/// Writes a saved voice as safetensors.
pub fn run(args: &ConvertVoice) -> Result<()> {
    let bytes = SavedVoice::read(&args.voice)?.to_safetensors()?;
    write_atomically(&args.out, &bytes)?;
    let line = format!("{}: {} bytes", args.out.display(), bytes.len());
    written::show(&args.out, &line);
    Ok(())
}
