//! Checkpoints in the naming of the official implementation (`models/Transformer.py`).

use std::path::Path;

use burn::store::bridge::map_data;
use burn::store::{
    KeyRemapper, ModuleAdapter, ModuleContext, PyTorchToBurnAdapter, SafetensorsStore, burn_pack,
};
use burn::tensor::{TensorData, shape};
use latentlm_core::bundle::{BundleError, load_mapped};

use crate::image::ImageLm;

/// From the reference's names to ours, in this order.
const NAMES: [(&str, &str); 12] = [
    (r"^blocks\.(\d+)\.", "backbone.blocks.$1."),
    (r"^condition_layer\.linear\.", "backbone.condition_layer."),
    (
        r"^diffusion_blocks\.(\d+)\.adaLN_modulation\.1\.",
        "head.layers.$1.modulation.",
    ),
    (r"^diffusion_blocks\.(\d+)\.mlp\.", "head.layers.$1."),
    (r"\.fc1\.", ".up.linear_inner."),
    (r"\.gate\.", ".up.linear_outer."),
    (r"\.fc2\.", ".down."),
    (r"^final_layer\.adaLN_modulation\.1\.", "head.modulation."),
    (r"^final_layer\.linear\.", "head.output."),
    (r"^t_embedder\.mlp\.0\.", "head.timestep.up."),
    (r"^t_embedder\.mlp\.2\.", "head.timestep.down."),
    (r"^y_embedder\.embedding_table\.", "adapters.label.table."),
];
const PROJECTIONS: [(&str, &str); 2] = [
    (r"^noisy_x_embedder\.proj\.", "head.input."),
    (r"^x_embedder\.proj\.", "adapters.latent.projection."),
];

/// Loads the official implementation's weights of the image Transformer. The whitening, which the
/// reference keeps in a side file, stays as it is.
///
/// # Errors
/// If the file can't be read or a tensor is missing, unknown or of another shape.
pub fn load_reference(model: ImageLm, path: &Path) -> Result<ImageLm, BundleError> {
    load_mapped(model, path, naming, &["adapters.latent.whitening"])
}

fn naming(store: SafetensorsStore) -> SafetensorsStore {
    let mut names = KeyRemapper::new();
    for (theirs, ours) in NAMES.iter().chain(&PROJECTIONS) {
        names = names
            .add_pattern(*theirs, *ours)
            .expect("the patterns above are valid");
    }
    store
        .remap(names)
        .with_from_adapter(PixelsAreLinear.chain(PyTorchToBurnAdapter))
}

/// The reference projects latents by convolutions of one pixel: `[D, Z, 1, 1]` is `[D, Z]`.
#[derive(Debug, Clone)]
struct PixelsAreLinear;

impl ModuleAdapter for PixelsAreLinear {
    fn adapt(&self, tensor: burn_pack::Tensor, _: ModuleContext<'_>) -> burn_pack::Tensor {
        match tensor.shape.as_slice() {
            &[outputs, inputs, 1, 1] => {
                let flat = shape![outputs, inputs];
                let (name, dtype) = (tensor.name.clone(), tensor.dtype);
                map_data(tensor, name, dtype, flat, move |data| {
                    TensorData::from_bytes(data.into_bytes(), [outputs, inputs], dtype)
                })
            }
            _ => tensor,
        }
    }

    fn clone_box(&self) -> Box<dyn ModuleAdapter> {
        Box::new(self.clone())
    }
}
