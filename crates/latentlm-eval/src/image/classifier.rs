//! A small classifier of real pictures that evaluates generated ones. It is trained on real
//! pictures only and shares no weights with the generator.

use std::path::Path;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;
use latentlm::core::bundle::load_module;
use latentlm_data::{BatchOrder, ImageDataset, check_stop};
use latentlm_pipelines::{LearningRate, host_values, label_tensor, read_at};

use crate::error::Result;

/// Number of features of a picture: the input of the last layer, and of Frechet distances.
pub const FEATURES: usize = 64;
const BATCH: usize = 100;
/// Channels of the first convolution, and passes through the pictures, where pictures are judged.
pub(super) const WIDTH: usize = 16;
pub(super) const EPOCHS: u64 = 10;

/// Two convolutions with stride 2 and two linear layers.
#[derive(Module, Debug)]
pub struct Classifier {
    conv1: Conv2d,
    conv2: Conv2d,
    hidden: Linear,
    output: Linear,
}

/// Sizes of a classifier.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Channels of a picture.
    pub channels: usize,
    /// Height and width of a picture.
    pub side: usize,
    /// Number of classes.
    pub classes: usize,
    /// Channels of the first convolution; the second has twice as many.
    pub width: usize,
}

impl Sizes {
    /// Sizes of the classifier that judges pictures of a dataset.
    pub(super) fn of(data: &ImageDataset) -> Self {
        let spec = data.spec();
        Self {
            channels: spec.channels,
            side: spec.height,
            classes: data.classes().len(),
            width: WIDTH,
        }
    }
}

/// Training data and sizes of a classifier.
pub struct Lessons<'a> {
    /// Its sizes.
    pub sizes: Sizes,
    /// How often each picture is seen.
    pub epochs: u64,
    /// Class of each picture.
    pub labels: &'a [u32],
    /// Reads the pictures at some indices, `[B, C, H, W]`, in `[-1, 1]`.
    pub read: &'a dyn Fn(&[usize], &Device) -> Result<Tensor<4>>,
}

/// Predictions of the classifier for some pictures.
pub struct Predictions {
    /// Most likely class of each picture.
    pub classes: Vec<u32>,
    /// Features of each picture.
    pub features: Vec<Vec<f32>>,
    /// Logarithm of the probability of each class, for each picture.
    pub log_probabilities: Vec<Vec<f32>>,
}

impl Classifier {
    /// A classifier with initial weights.
    pub(super) fn new(sizes: Sizes, device: &Device) -> Self {
        let Sizes {
            channels,
            side,
            classes,
            width,
        } = sizes;
        let conv = |input, output| {
            Conv2dConfig::new([input, output], [4, 4])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
        };
        Self {
            conv1: conv(channels, width),
            conv2: conv(width, 2 * width),
            hidden: LinearConfig::new(2 * width * (side / 4) * (side / 4), FEATURES).init(device),
            output: LinearConfig::new(FEATURES, classes).init(device),
        }
    }

    /// Features of pictures: `[B, C, H, W]` to `[B, 64]`.
    fn features(&self, pictures: Tensor<4>) -> Tensor<2> {
        let x = relu(self.conv1.forward(pictures));
        let x = relu(self.conv2.forward(x));
        relu(self.hidden.forward(x.flatten(1, 3)))
    }

    /// Trains a classifier on real pictures.
    ///
    /// # Errors
    /// If a picture can't be read.
    pub fn train(data: &ImageDataset, device: &Device) -> Result<Self> {
        let labels: Vec<u32> = (0..data.len()).map(|index| data.label(index)).collect();
        let lessons = Lessons {
            sizes: Sizes::of(data),
            epochs: EPOCHS,
            labels: &labels,
            read: &|indices, device| Ok(read_at(data, indices, device)?),
        };
        Self::learn(&lessons, device)
    }

    /// A classifier of the pictures of a dataset, with weights from a file.
    ///
    /// # Errors
    /// If the file can't be read, or holds other weights.
    pub(super) fn load(data: &ImageDataset, path: &Path, device: &Device) -> Result<Self> {
        Ok(load_module(Self::new(Sizes::of(data), device), path)?)
    }

    /// Trains a classifier on pictures of any origin.
    ///
    /// # Errors
    /// If a picture can't be read.
    pub fn learn(lessons: &Lessons<'_>, device: &Device) -> Result<Self> {
        let device = device.clone().autodiff();
        device.seed(RandomStream::for_step(0, "classifier-init", 0).seed());
        let mut model = Self::new(lessons.sizes, &device);
        let mut optimizer = AdamConfig::new().init();
        let mut order = BatchOrder::new(lessons.labels.len(), BATCH, 0);
        let steps = lessons.epochs * order.batches_per_epoch();
        let rate = LearningRate {
            peak: 2e-3,
            warmup_steps: 20.min(steps),
            total_steps: steps,
            floor_ratio: 0.0,
        };
        let loss = CrossEntropyLossConfig::new().init(&device);
        for step in 0..steps {
            check_stop()?;
            let indices = order.batch(step);
            let labels: Vec<u32> = indices.iter().map(|&i| lessons.labels[i]).collect();
            let pictures = (lessons.read)(&indices, &device)?;
            let logits = model.output.forward(model.features(pictures));
            let error = loss.forward(logits, label_tensor(&labels, &device));
            let gradients = GradientsParams::from_grads(error.backward(), &model);
            model = optimizer.step(rate.at(step), model, gradients);
        }
        Ok(model.valid())
    }

    /// Classifies pictures.
    ///
    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`, in `[-1, 1]`
    pub fn classify(&self, pictures: Tensor<4>) -> Predictions {
        let mut predictions = Predictions {
            classes: Vec::new(),
            features: Vec::new(),
            log_probabilities: Vec::new(),
        };
        for batch in pictures.split(BATCH, 0) {
            let features = self.features(batch);
            let logits = self.output.forward(features.clone());
            let scores = log_softmax(logits.clone(), 1);
            let best = host_values(logits.argmax(1).float()).into_iter();
            predictions.classes.extend(best.map(|class| class as u32));
            predictions.features.extend(rows(features));
            predictions.log_probabilities.extend(rows(scores));
        }
        predictions
    }
}

/// Rows of a matrix, on the host.
fn rows(matrix: Tensor<2>) -> Vec<Vec<f32>> {
    let width = matrix.dims()[1];
    let values = host_values(matrix);
    values.chunks_exact(width).map(<[f32]>::to_vec).collect()
}
