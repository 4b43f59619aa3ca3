//! Weights of a language model in a file.

use std::path::Path;

use latentlm_core::bundle::{BundleError, load_renamed, load_renamed_from_bytes, remapper};
use latentlm_core::{CausalBackbone, LatentHead};

use crate::model::LatentLm;

/// Names of parameters in files of earlier versions, and now. The order of parameters has not changed, so
/// the state of an optimizer, which is stored by number, fits as it is.
const EARLIER_NAMES: [(&str, &str); 7] = [
    ("adapters.label", "labels"),
    ("adapters.token", "tokens"),
    ("adapters.latents.{}", "latents.{}"),
    ("adapters.latent", "latents.0"),
    ("adapters.said", "said"),
    ("head.{}", "heads.{}"),
    ("head", "heads.0"),
];

/// Loads a language model's weights from a file that this or an earlier version saved with
/// [`save_module`](latentlm_core::bundle::save_module).
///
/// # Errors
/// If the file can't be read or does not fit the model.
pub fn load_lm<B: CausalBackbone, H: LatentHead>(
    model: LatentLm<B, H>,
    path: &Path,
) -> Result<LatentLm<B, H>, BundleError> {
    load_renamed(model, path, remapper(EARLIER_NAMES.into_iter()))
}

/// [`load_lm`] from the bytes of a file. Errors call the bytes `name`.
///
/// # Errors
/// If the bytes are damaged or do not fit the model.
pub fn load_lm_from_bytes<B: CausalBackbone, H: LatentHead>(
    model: LatentLm<B, H>,
    bytes: Vec<u8>,
    name: &Path,
) -> Result<LatentLm<B, H>, BundleError> {
    let names = remapper(EARLIER_NAMES.into_iter());
    load_renamed_from_bytes(model, bytes, name, names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, ModuleDisplay, ModuleVisitor, Param};
    use burn::nn::Embedding;
    use burn::tensor::{Device, Tensor, TensorData};
    use latentlm_adapters::{LabelAdapter, LatentAdapter, TokenAdapter};
    use latentlm_backbone::Backbone;
    use latentlm_core::bundle::save_module;
    use latentlm_core::conformance::seeded;
    use latentlm_diffusion::Head;

    use crate::config::{LatentLmConfig, Modality};
    use crate::sizes::LmSizes;

    /// The models of before: their fields are the names in their files.
    #[derive(Module, Debug)]
    struct Earlier<A, H> {
        adapters: A,
        backbone: Backbone,
        head: H,
    }

    #[derive(Module, Debug)]
    struct OfImages {
        label: LabelAdapter,
        latent: LatentAdapter,
    }

    #[derive(Module, Debug)]
    struct OfSpeech {
        token: TokenAdapter,
        latent: LatentAdapter,
        said: Option<Embedding>,
    }

    #[derive(Module, Debug)]
    struct OfAll {
        token: TokenAdapter,
        latents: Vec<LatentAdapter>,
    }

    /// All parameters, in the order in which they are numbered.
    struct Parameters(Vec<TensorData>);

    impl ModuleVisitor for Parameters {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().into_data());
        }
    }

    fn parameters<M: Module>(module: &M) -> Vec<TensorData> {
        let mut parameters = Parameters(Vec::new());
        module.visit(&mut parameters);
        parameters.0
    }

    fn model(config: &LatentLmConfig, seed: u64) -> LatentLm {
        let sizes = LmSizes::new().with_width(32).with_depth(2).with_heads(4);
        let config = config.clone().with_sizes(sizes.with_head_depth(1));
        seeded(seed, &Device::default(), |device| config.init(device))
    }

    /// A file of before, and one of now, give every parameter, and number them alike.
    fn check<A: Module + ModuleDisplay, E: Module + ModuleDisplay>(
        config: &LatentLmConfig,
        earlier: impl FnOnce(LatentLm) -> Earlier<A, E>,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let model_of_now = model(config, 1);
        let expected = parameters(&model_of_now);
        save_module(&model_of_now, &path).unwrap();
        let loaded = load_lm(model(config, 2), &path).unwrap();
        assert!(parameters(&loaded) == expected, "a file of now");

        let earlier = earlier(model_of_now);
        assert!(parameters(&earlier) == expected, "the order of parameters");
        save_module(&earlier, &path).unwrap();
        let loaded = load_lm(model(config, 3), &path).unwrap();
        assert!(parameters(&loaded) == expected, "a file of before");
    }

    fn only<T>(mut parts: Vec<T>) -> T {
        assert_eq!(parts.len(), 1);
        parts.remove(0)
    }

    #[test]
    fn files_of_earlier_versions_are_read() {
        check(&LatentLmConfig::image(3, 4, 2), |model| Earlier {
            adapters: OfImages {
                label: model.labels.unwrap(),
                latent: only(model.latents),
            },
            backbone: model.backbone,
            head: only(model.heads),
        });
        check(&LatentLmConfig::speech(8, 4, true), |model| Earlier {
            adapters: OfSpeech {
                token: model.tokens.unwrap(),
                latent: only(model.latents),
                said: model.said,
            },
            backbone: model.backbone,
            head: only(model.heads),
        });
        let modalities = vec![Modality::new(4, 3), Modality::new(6, 0)];
        let mllm = LatentLmConfig::mllm(8, modalities).with_one_head(false);
        check(&mllm, |model| Earlier::<OfAll, Vec<Head>> {
            adapters: OfAll {
                token: model.tokens.unwrap(),
                latents: model.latents,
            },
            backbone: model.backbone,
            head: model.heads,
        });
    }

    /// Errors call parameters by their names of now.
    #[test]
    fn what_does_not_fit_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save_module(&model(&LatentLmConfig::image(3, 4, 2), 1), &path).unwrap();
        let other = model(&LatentLmConfig::image(5, 4, 2), 2);
        let message = load_lm(other, &path).unwrap_err().to_string();
        assert!(message.contains("`labels.table.weight`"), "{message}");
    }
}
