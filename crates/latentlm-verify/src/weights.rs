//! Language models with weights of fewer bits. Every position reads what the reference read there, so that errors of
//! earlier positions are not heard.

use burn::tensor::{Int, Tensor, TensorData};
use latentlm::adapters::TokenAdapter;
use latentlm::backbone::Backbone;
use latentlm::core::CausalBackbone;
use latentlm_published::{WeightType, load_asr, load_vibevoice_weights, read_vibevoice_config};

use crate::case::{Case, Tensors};
use crate::error::VerifyError;
use crate::generation::different;
use crate::recognition;
use crate::report::{QUANTIZED, Report};

/// A whole VibeVoice model.
pub(crate) fn check_whole(
    case: &Case,
    weights: WeightType,
    report: &mut Report,
) -> Result<(), VerifyError> {
    let json = read_vibevoice_config(&case.folder)?;
    let model = load_vibevoice_weights(&case.folder, &json, weights, &case.device)?;
    let mut io = case.tensors()?;
    let tokens: Tensor<2, Int> = io.int("input_ids")?;
    let hidden = model.hidden(tokens, io.float("audio_features")?);
    let reference: Tensor<3> = io.float("hidden")?;
    report.near("hidden", hidden, reference, QUANTIZED);
    Ok(())
}

/// A dialogue.
pub(crate) fn check_dialogue(
    case: &Case,
    weights: WeightType,
    report: &mut Report,
) -> Result<(), VerifyError> {
    let json = read_vibevoice_config(&case.folder)?;
    let model = load_vibevoice_weights(&case.folder, &json, weights, &case.device)?;
    let mut io = case.tensors()?;
    let frames: Tensor<2> = io.float("embeds")?;
    let heard = if io.has("prompt_embeds") {
        Tensor::cat(vec![io.float("prompt_embeds")?, frames], 0)
    } else {
        frames
    };
    let read = Read {
        tokens: model.lm.token_adapter(),
        backbone: &model.lm.backbone,
        audio: i64::from(model.speech_tokens().audio),
        heard,
    };
    read.check(case, &mut io, report)
}

/// A recording that is transcribed.
pub(crate) fn check_transcript(
    case: &Case,
    weights: WeightType,
    report: &mut Report,
) -> Result<(), VerifyError> {
    let model = load_asr(&case.folder, weights, &case.device)?;
    let mut io = case.tensors()?;
    let read = Read {
        tokens: &model.tokens,
        backbone: &model.backbone,
        audio: recognition::audio_token(case)?,
        heard: io.float("embeds")?,
    };
    read.check(case, &mut io, report)
}

/// A model, and what the reference read.
struct Read<'a> {
    tokens: &'a TokenAdapter,
    backbone: &'a Backbone,
    /// The token in whose places sound is heard.
    audio: i64,
    /// Embeddings of the sound at these places, `[F, D]`, the prompt's first.
    heard: Tensor<2>,
}

impl Read<'_> {
    /// Compares the hidden states from which each token was chosen, and what has the highest score.
    fn check(&self, case: &Case, io: &mut Tensors, report: &mut Report) -> Result<(), VerifyError> {
        let mut ids = io.integers("input_ids")?;
        let chosen = io.integers("tokens")?;
        let (Some(first), Some((_, before_last))) = (ids.len().checked_sub(1), chosen.split_last())
        else {
            return Err(case.wrong("io.safetensors", "has no tokens"));
        };
        ids.extend(before_last);
        let places = ids.iter().filter(|id| **id == self.audio).count();
        let [heard, _] = self.heard.dims();
        if places > heard {
            let reason = format!("has {heard} rows of sound for {places} places");
            return Err(case.wrong("io.safetensors", reason));
        }
        let hidden = self.backbone.forward(self.embedded(&ids, &case.device));
        let hidden = hidden.narrow(1, first, chosen.len());
        let reference: Tensor<2> = io.float("hidden")?;
        report.near(
            "hidden",
            hidden.clone().squeeze_dim(0),
            reference,
            QUANTIZED,
        );
        let scores = self.tokens.logits(hidden).squeeze_dim::<2>(0);
        let differences = different(&best(scores), &best(io.float("logits")?));
        report.equal("tokens", differences);
        Ok(())
    }

    /// Positions `[1, T, D]` of tokens and of sound.
    fn embedded(&self, ids: &[i64], device: &burn::tensor::Device) -> Tensor<3> {
        let tokens = TensorData::new(ids.to_vec(), [1, ids.len()]);
        let table = self.tokens.embed(Tensor::from_data(tokens, device));
        let mut heard = 0;
        let mut positions = Vec::with_capacity(ids.len());
        for (position, id) in ids.iter().enumerate() {
            if *id == self.audio {
                let row = self.heard.clone().narrow(0, heard, 1);
                positions.push(row.unsqueeze_dim(0));
                heard += 1;
            } else {
                positions.push(table.clone().narrow(1, position, 1));
            }
        }
        Tensor::cat(positions, 1)
    }
}

/// The index of each row's highest number.
fn best(scores: Tensor<2>) -> Vec<i64> {
    let best = scores.argmax(1).into_data().convert::<i64>();
    best.try_to_vec().expect("indices are integers")
}
