//! Settings of a training run of images. Every key stands in the recipe files under `configs/image`, with its
//! meaning beside it.

use latentlm::LatentLmConfig;
use latentlm::core::{LatentCodecConfig, SampleOptions};
use latentlm_data::{ImageSpec, ReadOptions};
use serde::{Deserialize, Serialize};

use crate::pipeline::declare_model_recipe;

/// Where pictures come from. Checkpoints of older versions lack some of the options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataConfig {
    /// The folder.
    pub path: String,
    /// Whether training pictures are mirrored at random.
    pub horizontal_flip: bool,
    /// How the folder is read.
    #[serde(flatten)]
    pub options: ReadOptions,
}

/// Size of the grids of samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GridConfig {
    /// Pictures a class in a grid.
    pub per_class: usize,
}

declare_model_recipe! {
    /// A complete image recipe.
    ImageRecipe {
        command: "train-image",
        keys: "latentlm-pipelines/image",
        preset: "image/mnist",
        tables: {
            /// Where pictures come from.
            data: DataConfig,
        },
        codec: codec_image,
        sample: GridConfig,
        vocabulary: Vec<String>,
    }
}

impl ImageRecipe {
    /// Geometry of the pictures.
    pub fn image_spec(&self) -> ImageSpec {
        let picture = self.codec.signal();
        ImageSpec {
            channels: picture.channels,
            height: picture.height,
            width: picture.width,
        }
    }

    /// Latents per picture; 0, which no model accepts, where the codec's latents are not on a grid.
    pub fn tokens(&self) -> usize {
        self.codec.spec().tokens().unwrap_or_default()
    }

    /// The language model's configuration for that many classes.
    pub fn model(&self, classes: usize) -> LatentLmConfig {
        LatentLmConfig::image(classes, self.tokens(), self.codec.spec().dim)
            .with_on_sphere(self.codec.on_sphere())
            .with_sizes(self.lm.sizes.clone())
            .with_method(self.lm.method)
    }

    /// The options that samples are drawn with.
    pub fn sample_options(&self) -> SampleOptions {
        self.sample.options()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checkpoints of older versions lack keys, which then have the reader's defaults: the table's.
    #[test]
    fn keys_that_older_recipes_lack_have_the_tables_defaults() {
        let old = r#"{"path": "datasets/mnist", "horizontal_flip": false}"#;
        let data: DataConfig = serde_json::from_str(old).unwrap();
        assert_eq!(data, ImageRecipe::default().data);
    }
}
