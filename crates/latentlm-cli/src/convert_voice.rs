//! `convert-voice`.

use std::fs;

use anyhow::Result;
use latentlm_args::{ConvertVoice, say};
use latentlm_data::DataError;
use latentlm_vibevoice::SavedVoice;

/// Writes a saved voice as safetensors.
pub fn run(args: &ConvertVoice) -> Result<()> {
    let bytes = SavedVoice::read(&args.voice)?.to_safetensors()?;
    fs::write(&args.out, &bytes).map_err(|source| DataError::Io {
        action: "write",
        path: args.out.clone(),
        source,
    })?;
    say!("{}: {} bytes", args.out.display(), bytes.len());
    Ok(())
}
