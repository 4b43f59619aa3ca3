//! A small classifier of real pictures that evaluates generated ones. It is trained on real
//! pictures only and shares no weights with the generator.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;
use latentlm_data::{BatchOrder, ImageDataset};
use latentlm_pipelines::{LearningRate, host_values, label_tensor, read_at};

use crate::error::EvalError;

/// Number of features of a picture: the input of the last layer, and of Frechet distances.
pub const FEATURES: usize = 64;
const BATCH: usize = 100;
const EPOCHS: u64 = 10;

/// Two convolutions with stride 2 and two linear layers.
#[derive(Module, Debug)]
pub struct Classifier {
    conv1: Conv2d,
    conv2: Conv2d,
    hidden: Linear,
    output: Linear,
}

/// Predictions of the classifier for some pictures.
pub struct Predictions {
    /// Most likely class of each picture.
    pub classes: Vec<u32>,
    /// Features of each picture.
    pub features: Vec<Vec<f32>>,
}

impl Classifier {
    fn new(channels: usize, side: usize, classes: usize, device: &Device) -> Self {
        let conv = |input, output| {
            Conv2dConfig::new([input, output], [4, 4])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
        };
        Self {
            conv1: conv(channels, 16),
            conv2: conv(16, 32),
            hidden: LinearConfig::new(32 * (side / 4) * (side / 4), FEATURES).init(device),
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
    pub fn train(data: &ImageDataset, device: &Device) -> Result<Self, EvalError> {
        let device = device.clone().autodiff();
        device.seed(RandomStream::for_step(0, "classifier-init", 0).seed());
        let spec = data.spec();
        let classes = data.classes().len();
        let mut model = Self::new(spec.channels, spec.height, classes, &device);
        let mut optimizer = AdamConfig::new().init();
        let mut order = BatchOrder::new(data.len(), BATCH, 0);
        let steps = EPOCHS * order.batches_per_epoch();
        let rate = LearningRate {
            peak: 2e-3,
            warmup_steps: 20.min(steps),
            total_steps: steps,
            floor_ratio: 0.0,
        };
        let loss = CrossEntropyLossConfig::new().init(&device);
        for step in 0..steps {
            let indices = order.batch(step);
            let labels: Vec<u32> = indices.iter().map(|&i| data.label(i)).collect();
            let pictures = read_at(data, &indices, &device)?;
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
        };
        for batch in pictures.split(BATCH, 0) {
            let features = self.features(batch);
            let logits = self.output.forward(features.clone());
            let best = logits.argmax(1).into_data().convert::<i64>();
            let best: Vec<i64> = best.try_into_vec().unwrap_or_default();
            let classes = best.into_iter().map(|class| class as u32);
            predictions.classes.extend(classes);
            let rows = host_values(features);
            predictions
                .features
                .extend(rows.chunks_exact(FEATURES).map(<[f32]>::to_vec));
        }
        predictions
    }
}
