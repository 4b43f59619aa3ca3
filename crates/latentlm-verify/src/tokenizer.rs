//! Verifies the VibeVoice speech tokenizer (the sigma-VAE codec).

use burn::tensor::Tensor;
use latentlm::codec_audio::{AudioSigmaVae, DecoderState, EncoderState};
use latentlm::{LatentCodec, StreamingCodec};
use latentlm_published::{load_tokenizer, read_tokenizer_config, save_tokenizer};

use crate::case::Case;
use crate::error::VerifyError;
use crate::export;
use crate::report::{FORWARD, Report, STREAM};

/// Chunk sizes for streaming, in frames.
const CHUNKS: [usize; 3] = [1, 2, 7];

pub(crate) fn check(case: &Case, report: &mut Report) -> Result<(), VerifyError> {
    let codec = load_tokenizer(&case.folder, &case.device)?;
    let json = read_tokenizer_config(&case.folder)?;
    let mut tensors = case.tensors()?;
    let sound: Tensor<3> = tensors.float("audio")?;
    let latents = codec.encode(sound.clone()).mode();
    let reference: Tensor<3> = tensors.float("latents")?;
    report.compare("latents", latents.clone(), reference.clone(), FORWARD);
    let decoded = codec.decode(reference);
    report.compare(
        "decoded",
        decoded.clone(),
        tensors.float("decoded")?,
        FORWARD,
    );

    let reference: Tensor<3> = tensors.float("latents")?;
    let hop = json.codec().hop_samples();
    for frames in CHUNKS {
        let streamed = encode_stream(&codec, &sound, hop, frames);
        let name = format!("latents, a stream of {frames}");
        report.compare(&name, streamed, latents.clone(), STREAM);
        let streamed = decode_stream(&codec, &reference, frames);
        let name = format!("decoded, a stream of {frames}");
        report.compare(&name, streamed, decoded.clone(), STREAM);
    }
    export::check(&case.folder, report, |folder, dtype| {
        save_tokenizer(&codec, &json, folder, dtype)
    })
}

fn encode_stream(codec: &AudioSigmaVae, sound: &Tensor<3>, hop: usize, frames: usize) -> Tensor<3> {
    let total = sound.dims()[2] / hop;
    let mut state = EncoderState::default();
    let chunks = (0..total).step_by(frames).map(|start| {
        let samples = frames.min(total - start) * hop;
        let chunk = sound.clone().narrow(2, start * hop, samples);
        codec.encode_step(chunk, &mut state).mode()
    });
    Tensor::cat(chunks.collect(), 1)
}

fn decode_stream(codec: &AudioSigmaVae, latents: &Tensor<3>, frames: usize) -> Tensor<3> {
    let total = latents.dims()[1];
    let mut state = DecoderState::default();
    let chunks = (0..total).step_by(frames).map(|start| {
        let chunk = latents.clone().narrow(1, start, frames.min(total - start));
        codec.decode_step(chunk, &mut state)
    });
    Tensor::cat(chunks.collect(), 2)
}
