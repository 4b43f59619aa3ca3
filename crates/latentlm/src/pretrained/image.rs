//! The official image Transformer.

use std::path::Path;

use latentlm_core::bundle::BundleWriter;

use super::naming::Naming;
use super::store::{Format, PretrainedError, StoredDType, load, save};
use crate::image::ImageLm;

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
                "head.layers.{}.modulation",
            ),
            (
                "diffusion_blocks.{}.mlp.fc1",
                "head.layers.{}.up.linear_inner",
            ),
            (
                "diffusion_blocks.{}.mlp.gate",
                "head.layers.{}.up.linear_outer",
            ),
            ("diffusion_blocks.{}.mlp.fc2", "head.layers.{}.down"),
            ("final_layer.adaLN_modulation.1", "head.modulation"),
            ("final_layer.linear", "head.output"),
            ("t_embedder.mlp.0", "head.timestep.up"),
            ("t_embedder.mlp.2", "head.timestep.down"),
            ("y_embedder.embedding_table", "adapters.label.table"),
            ("noisy_x_embedder.proj", "head.input"),
            ("x_embedder.proj", "adapters.latent.projection"),
        ]),
        joined: None,
        pixels: &["head.input.weight", "adapters.latent.projection.weight"],
        // The reference keeps the whitening in a side file.
        own: &[
            "adapters.latent.whitening.bias",
            "adapters.latent.whitening.scale",
        ],
    }
}

/// Loads the official implementation's weights of the image Transformer, from a safetensors file or
/// a folder that holds `model.safetensors`, whole or in shards. The whitening, which the reference
/// keeps in a side file, stays as it is.
///
/// # Errors
/// If a file can't be read, or a tensor is missing, unknown or of another shape.
pub fn load_image(model: ImageLm, path: &Path) -> Result<ImageLm, PretrainedError> {
    load(model, path, &format())
}

/// Writes `folder/model.safetensors` as the official implementation reads it, without the
/// whitening. A folder of that name is replaced.
///
/// # Errors
/// If the folder can't be written.
pub fn save_image(
    model: &ImageLm,
    folder: &Path,
    dtype: StoredDType,
) -> Result<(), PretrainedError> {
    let writer = BundleWriter::begin(folder)?;
    save(model, &writer, dtype, &format())?;
    writer.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::naming::check_round_trip;
    use super::*;
    use crate::image::ImageLmConfig;
    use crate::sizes::LmSizes;
    use latentlm_core::conformance::seeded;

    #[test]
    fn every_name_comes_back() {
        let sizes = LmSizes::new().with_width(64).with_depth(2).with_heads(4);
        let config = ImageLmConfig::new(3, 4, 2).with_sizes(sizes);
        let device = burn::tensor::Device::default();
        let model = seeded(1, &device, |device| config.init(device));
        let format = format();
        check_round_trip(&model, &format.naming, format.own);
    }
}
