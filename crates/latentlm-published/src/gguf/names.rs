//! Names that vibevoice.cpp's converter gives, and those of the original repository, from which it makes them.

use crate::naming::{Naming, below};

/// Below a block of a language model.
const BLOCK: [(&str, &str); 9] = [
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_o", "self_attn.o_proj"),
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Below a layer of a codec. The kind of the parameter is a part of the last word.
const LAYER: [(&str, &str); 10] = [
    ("norm", "norm.weight"),
    ("ffn_norm", "ffn_norm.weight"),
    ("gamma", "gamma"),
    ("ffn_gamma", "ffn_gamma"),
    ("mixer_weight", "mixer.conv.conv.conv.weight"),
    ("mixer_bias", "mixer.conv.conv.conv.bias"),
    ("ffn_linear1", "ffn.linear1.weight"),
    ("ffn_linear1_bias", "ffn.linear1.bias"),
    ("ffn_linear2", "ffn.linear2.weight"),
    ("ffn_linear2_bias", "ffn.linear2.bias"),
];

/// Parameters of the diffusion head, which are all weights.
const HEAD: [(&str, &str); 11] = [
    ("noisy_proj", "noisy_images_proj.weight"),
    ("cond_proj", "cond_proj.weight"),
    ("t_embed_lin1", "t_embedder.mlp.0.weight"),
    ("t_embed_lin2", "t_embedder.mlp.2.weight"),
    ("layer_{}.norm", "layers.{}.norm.weight"),
    ("layer_{}.adaln", "layers.{}.adaLN_modulation.1.weight"),
    ("layer_{}.ffn_gate", "layers.{}.ffn.gate_proj.weight"),
    ("layer_{}.ffn_up", "layers.{}.ffn.up_proj.weight"),
    ("layer_{}.ffn_down", "layers.{}.ffn.down_proj.weight"),
    ("final.proj", "final_layer.linear.weight"),
    ("final.adaln", "final_layer.adaLN_modulation.1.weight"),
];

/// Encoders and decoder with their roots, and what they call a change of resolution.
const TOWERS: [Tower; 3] = [
    Tower {
        theirs: "at.enc",
        original: "model.acoustic_tokenizer.encoder",
        step: ["down_{}", "downsample_layers.{}.0.conv.conv"],
        stem: "downsample_layers.0.0.conv.conv",
    },
    Tower {
        theirs: "st.enc",
        original: "model.semantic_tokenizer.encoder",
        step: ["down_{}", "downsample_layers.{}.0.conv.conv"],
        stem: "downsample_layers.0.0.conv.conv",
    },
    Tower {
        theirs: "at.dec",
        original: "model.acoustic_tokenizer.decoder",
        step: ["up_{}", "upsample_layers.{}.0.convtr.convtr"],
        stem: "upsample_layers.0.0.conv.conv",
    },
];

struct Tower {
    theirs: &'static str,
    original: &'static str,
    /// Theirs, and the original's.
    step: [&'static str; 2],
    stem: &'static str,
}

/// From the names of a GGUF file to those of the original repository.
pub(super) fn naming() -> Naming {
    let mut naming = Naming::default();
    for (theirs, original) in [
        ("lm", "model.language_model"),
        ("tlm", "model.tts_language_model"),
    ] {
        let whole = [("tok_embd", "embed_tokens"), ("output_norm", "norm")];
        naming = naming.and(theirs, original, &whole).and(
            &below(theirs, "blk.{}"),
            &below(original, "layers.{}"),
            &BLOCK,
        );
    }
    for tower in TOWERS {
        let [step, original_step] = tower.step;
        let rules = [
            ("stem", tower.stem),
            ("head", "head.conv.conv"),
            (step, original_step),
        ];
        naming = naming.and(tower.theirs, tower.original, &rules).and(
            &below(tower.theirs, "stage_{}_block_{}.weight"),
            &below(tower.original, "stages.{}.{}"),
            &LAYER,
        );
    }
    naming.and("dh", "model.prediction_head", &HEAD).and(
        "",
        "",
        &[
            ("ac", "model.acoustic_connector"),
            ("sc", "model.semantic_connector"),
            ("eos", "tts_eos_classifier"),
            ("tts.input_types", "model.tts_input_types"),
            ("speech.scaling", "model.speech_scaling_factor"),
            ("speech.bias", "model.speech_bias_factor"),
        ],
    )
}

/// Fewest axes of a parameter of the original. ggml leaves out axes of one in front of the others.
pub(super) fn axes(original: &str) -> usize {
    let is_convolution = original.contains(".conv.") || original.contains(".convtr.");
    if !original.ends_with(".weight") || original.ends_with("norm.weight") {
        0
    } else if is_convolution {
        3
    } else {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::renamed;

    /// Names as docs/conversion.md and the converter of vibevoice.cpp have them.
    #[test]
    fn names_are_those_of_the_converter() {
        let naming = naming();
        for (theirs, original, count) in [
            (
                "lm.tok_embd.weight",
                "model.language_model.embed_tokens.weight",
                2,
            ),
            (
                "lm.blk.27.attn_q.bias",
                "model.language_model.layers.27.self_attn.q_proj.bias",
                0,
            ),
            (
                "tlm.blk.3.ffn_norm.weight",
                "model.tts_language_model.layers.3.post_attention_layernorm.weight",
                0,
            ),
            (
                "tlm.output_norm.weight",
                "model.tts_language_model.norm.weight",
                0,
            ),
            (
                "at.enc.stem.weight",
                "model.acoustic_tokenizer.encoder.downsample_layers.0.0.conv.conv.weight",
                3,
            ),
            (
                "st.enc.down_6.bias",
                "model.semantic_tokenizer.encoder.downsample_layers.6.0.conv.conv.bias",
                0,
            ),
            (
                "at.dec.up_1.weight",
                "model.acoustic_tokenizer.decoder.upsample_layers.1.0.convtr.convtr.weight",
                3,
            ),
            (
                "at.dec.head.weight",
                "model.acoustic_tokenizer.decoder.head.conv.conv.weight",
                3,
            ),
            (
                "at.dec.stage_6_block_10.weight.mixer_weight",
                "model.acoustic_tokenizer.decoder.stages.6.10.mixer.conv.conv.conv.weight",
                3,
            ),
            (
                "st.enc.stage_0_block_2.weight.ffn_linear1",
                "model.semantic_tokenizer.encoder.stages.0.2.ffn.linear1.weight",
                2,
            ),
            (
                "st.enc.stage_0_block_2.weight.ffn_linear1_bias",
                "model.semantic_tokenizer.encoder.stages.0.2.ffn.linear1.bias",
                0,
            ),
            (
                "at.enc.stage_1_block_0.weight.ffn_gamma",
                "model.acoustic_tokenizer.encoder.stages.1.0.ffn_gamma",
                0,
            ),
            (
                "dh.layer_3.adaln",
                "model.prediction_head.layers.3.adaLN_modulation.1.weight",
                2,
            ),
            (
                "dh.t_embed_lin2",
                "model.prediction_head.t_embedder.mlp.2.weight",
                2,
            ),
            ("ac.norm.weight", "model.acoustic_connector.norm.weight", 0),
            ("eos.fc2.weight", "tts_eos_classifier.fc2.weight", 2),
            ("speech.bias", "model.speech_bias_factor", 0),
            ("lm_head.weight", "lm_head.weight", 2),
        ] {
            assert_eq!(renamed(&naming.import(), theirs), original);
            assert_eq!(naming.theirs(original), theirs);
            assert_eq!(axes(original), count, "{original}");
        }
    }
}
