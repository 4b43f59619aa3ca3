//! The official image Transformer.

use std::path::Path;

use burn::module::Module;
use latentlm::LatentLm;
use latentlm_core::bundle::BundleWriter;

use super::error::PretrainedError;
use super::naming::Naming;
use super::place::WeightType;
use super::store::{Format, StoredDType, check_claim, load, save};

fn format() -> Format {
    Format {
        naming: Naming::new(&[
            (
                "blocks.{}.mlp.fc1",
                "backbone.blocks.{}.mlp.up.linear_inner",
            ),
            (
                "blocks.{}.mlp.gate",
                "backbone.blocks.{}.mlp.up.linear_outer",
            ),
            ("blocks.{}.mlp.fc2", "backbone.blocks.{}.mlp.down"),
            ("blocks.{}", "backbone.blocks.{}"),
            ("condition_layer.linear", "backbone.condition_layer"),
            (
                "diffusion_blocks.{}.adaLN_modulation.1",
                "heads.0.layers.{}.modulation",
            ),
            (
                "diffusion_blocks.{}.mlp.fc1",
                "heads.0.layers.{}.up.linear_inner",
            ),
            (
                "diffusion_blocks.{}.mlp.gate",
                "heads.0.layers.{}.up.linear_outer",
            ),
            ("diffusion_blocks.{}.mlp.fc2", "heads.0.layers.{}.down"),
            ("final_layer.adaLN_modulation.1", "heads.0.modulation"),
            ("final_layer.linear", "heads.0.output"),
            ("t_embedder.mlp.0", "heads.0.timestep.up"),
            ("t_embedder.mlp.2", "heads.0.timestep.down"),
            ("y_embedder.embedding_table", "labels.table"),
            ("noisy_x_embedder.proj", "heads.0.input"),
            ("x_embedder.proj", "latents.0.projection"),
        ]),
        joined: None,
        pixels: &["heads.0.input.weight", "latents.0.projection.weight"],
        // The reference keeps the whitening in a side file.
        own: &["latents.0.whitening.bias", "latents.0.whitening.scale"],
        skipped: &[],
    }
}

/// Loads the official implementation's weights of the image Transformer, from a safetensors file or
/// a folder that holds `model.safetensors`, whole or in shards. The whitening, which the reference
/// keeps in a side file, stays as it is.
///
/// # Errors
/// If a file can't be read, is too small for the model, or a tensor is missing, unknown or of another shape.
pub fn load_image(model: LatentLm, path: &Path) -> Result<LatentLm, PretrainedError> {
    check_claim(path, model.num_params(), "configuration")?;
    load(model, path, &format(), WeightType::Float32)
}

/// Writes `folder/model.safetensors` as the official implementation reads it, without the
/// whitening. A folder of that name is replaced.
///
/// # Errors
/// If the folder can't be written.
pub fn save_image(
    model: &LatentLm,
    folder: &Path,
    dtype: StoredDType,
) -> Result<(), PretrainedError> {
    let writer = BundleWriter::begin_alone(folder)?;
    save(model, &writer, dtype, &format())?;
    writer.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::check_round_trip;
    use latentlm::{LatentLmConfig, LmSizes};
    use latentlm_core::conformance::seeded;

    #[test]
    fn every_name_comes_back() {
        let sizes = LmSizes::new().with_width(64).with_depth(2).with_heads(4);
        let config = LatentLmConfig::image(3, 4, 2).with_sizes(sizes);
        let device = burn::tensor::Device::default();
        let model = seeded(1, &device, |device| config.init(device));
        let format = format();
        check_round_trip(&model, &format.naming, format.own);
    }
}
