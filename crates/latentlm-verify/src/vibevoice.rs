//! Verifies a whole VibeVoice model.

use burn::tensor::{Int, Tensor};
use latentlm::LatentCodec;
use latentlm_published::{load_vibevoice, read_vibevoice_config, save_vibevoice};

use crate::case::Case;
use crate::error::VerifyError;
use crate::export;
use crate::report::{FORWARD, Report};

pub(crate) fn check(case: &Case, report: &mut Report) -> Result<(), VerifyError> {
    let model = load_vibevoice(&case.folder, &case.device)?;
    let json = read_vibevoice_config(&case.folder)?;
    let mut tensors = case.tensors()?;

    let sound: Tensor<3> = tensors.float("audio")?;
    let features = model.audio_features(sound.clone());
    let [batch, frames, dim] = features.dims();
    let features = features.reshape([batch * frames, dim]);
    let reference: Tensor<2> = tensors.float("audio_features")?;
    report.compare("audio_features", features, reference.clone(), FORWARD);
    let semantic = model.semantic.forward(sound);
    let expected: Tensor<3> = tensors.float("semantic_latents")?;
    report.compare("semantic_latents", semantic, expected, FORWARD);

    let tokens: Tensor<2, Int> = tensors.int("input_ids")?;
    let hidden = model.hidden(tokens, reference.clone());
    report.compare("hidden", hidden.clone(), tensors.float("hidden")?, FORWARD);
    let logits = model.lm.token_adapter().logits(hidden);
    report.compare("logits", logits, tensors.float("logits")?, FORWARD);

    let output = model.lm.head_of(0).denoise(
        tensors.float("head_noisy")?,
        tensors.float("head_t")?,
        tensors.float("head_cond")?,
    );
    report.compare("head_out", output, tensors.float("head_out")?, FORWARD);
    let decoded = model.codec.decode(reference.unsqueeze_dim(0));
    let expected: Tensor<3> = tensors.float("decoded_features")?;
    report.compare("decoded_features", decoded, expected, FORWARD);

    export::check(&case.folder, report, |folder, dtype| {
        save_vibevoice(&model, &json, folder, dtype)
    })
}
