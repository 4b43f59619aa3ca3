//! Models that run their blocks and layers again for gradients: the same losses, the same gradients.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use latentlm::core::sequence::{Document, Segment};
use latentlm::{Batch, LatentHead, LatentLmConfig, LmSizes, Modality, RandomStream};
use latentlm_pipelines::MetricsLog;
use latentlm_tests::tiny_recipe;
use latentlm_train::train_image;

use crate::runs::{alone, run_options};

/// Draws every trained parameter: a head as it begins passes no gradient on.
struct Draw(RandomStream);

impl ModuleMapper for Draw {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.is_require_grad() {
            return param;
        }
        let drawn = self.0.normal(param.dims(), &param.device());
        param.map(|_| drawn.mul_scalar(0.1).require_grad())
    }
}

/// The gradients of all parameters, in their order.
struct Collect<'a> {
    gradients: &'a Gradients,
    found: Vec<Vec<f32>>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(self.gradients);
        let values = gradient.map(|gradient| gradient.into_data().try_to_vec().unwrap());
        self.found.push(values.unwrap_or_default());
    }
}

fn check<M: Module>(what: &str, build: impl Fn(LmSizes) -> M, loss: impl Fn(&M) -> Tensor<1>) {
    // A model that is built draws from the device's generator.
    let _turn = alone();
    let sizes = LmSizes::new()
        .with_width(32)
        .with_depth(3)
        .with_heads(4)
        .with_kv_heads(2);
    let [(value, kept), (same_value, again)] = [false, true].map(|recompute| {
        let model = build(sizes.clone().with_recompute(recompute));
        let model = model.map(&mut Draw(RandomStream::new(3)));
        let value = loss(&model);
        let gradients = value.backward();
        let mut collect = Collect {
            gradients: &gradients,
            found: Vec::new(),
        };
        model.visit(&mut collect);
        (value.into_scalar::<f32>(), collect.found)
    });
    assert!(
        (value - same_value).abs() <= 1e-6 * value.abs(),
        "{what}: {same_value} for {value}"
    );
    let largest = kept.iter().flatten().fold(0.0_f32, |a, x| a.max(x.abs()));
    assert!(largest > 0.0 && kept.len() == again.len(), "{what}");
    for (index, (kept, again)) in kept.iter().zip(&again).enumerate() {
        assert_eq!(kept.len(), again.len(), "{what}: parameter {index}");
        for (kept, again) in kept.iter().zip(again) {
            assert!(
                (kept - again).abs() <= 1e-6 * largest,
                "{what}: {again} for {kept} in parameter {index}"
            );
        }
    }
}

#[test]
fn images_have_the_same_gradients() {
    let device = Device::default().autodiff();
    let build = |sizes| {
        LatentLmConfig::image(10, 16, 8)
            .with_sizes(sizes)
            .init(&device)
    };
    check("images", build, |model| {
        let mut random = RandomStream::new(5);
        let latents = random.normal([3 * 16, 8], &device);
        let documents = [3, 7, 1].map(|class| Document::of_class(class, 16));
        let draws = model.head_of(0).draw(2 * 3 * 16, &mut random, &device);
        let batch = Batch::new(documents.to_vec(), vec![latents], vec![draws]);
        model.loss(batch).diffusion.remove(0)
    });
}

#[test]
fn speech_has_the_same_gradients() {
    let device = Device::default().autodiff();
    let documents = [(vec![1, 2, 3], 2), (vec![], 1), (vec![4], 3)]
        .map(|(text, frames)| Document::of_speech(text, frames, Vec::new()));
    let build = |sizes| {
        let config = LatentLmConfig::speech(8, 4, false);
        config.with_sizes(sizes).init(&device)
    };
    check("speech", build, |model| {
        let mut random = RandomStream::new(6);
        let latents: Tensor<2> = random.normal([6, 4], &device);
        let draws = model.head_of(0).draw(2 * 6, &mut random, &device);
        let batch = Batch::new(documents.to_vec(), vec![latents], vec![draws]);
        let mut loss = model.loss(batch);
        loss.token + loss.diffusion.remove(0)
    });
}

#[test]
fn text_and_pictures_have_the_same_gradients() {
    let device = Device::default().autodiff();
    let text = |tokens: &[u32]| Segment::Text {
        tokens: tokens.to_vec(),
        learned: true,
    };
    let latents = |modality, frames| Segment::Latents {
        modality,
        frames,
        open_ended: modality == 1,
        learned: true,
        said: Vec::new(),
    };
    let documents = [
        vec![text(&[8, 1, 2]), latents(0, 3), text(&[9])],
        vec![text(&[8, 4]), latents(1, 2), latents(0, 1), text(&[9])],
        vec![text(&[8, 5, 6, 7, 9])],
    ]
    .map(|segments| Document { segments });
    let build = |sizes| {
        let config = LatentLmConfig::mllm(8, vec![Modality::new(4, 3), Modality::new(6, 0)])
            .with_one_head(false);
        config.with_sizes(sizes).init(&device)
    };
    check("text and pictures", build, |model| {
        let mut random = RandomStream::new(7);
        let latents = vec![
            random.normal([4, 4], &device),
            random.normal([2, 6], &device),
        ];
        let draws = [(0, 4), (1, 2)]
            .map(|(modality, rows)| model.head_of(modality).draw(rows, &mut random, &device));
        let loss = model.loss(Batch::new(documents.to_vec(), latents, draws.to_vec()));
        let diffusion = loss.diffusion.into_iter();
        diffusion.fold(loss.token, |sum, part| sum + part)
    });
}

/// A whole run, its batches in parts on threads of their own: every number of the log stays.
#[test]
fn a_run_learns_the_same() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let logs = ["false", "true"].map(|recompute| {
        let path = dir.path().join(recompute);
        let recompute = format!("lm.recompute={recompute}");
        let recipe = tiny_recipe(&["lm.depth=2", "lm.head_depth=2", &recompute]);
        train_image(recipe, run_options(&path, false, false)).unwrap();
        MetricsLog::read(&path.join("metrics.jsonl")).unwrap()
    });
    assert!(logs[0].len() > 3 && logs[0].len() == logs[1].len());
    for (kept, again) in logs[0].iter().zip(&logs[1]) {
        assert_eq!((&kept.stage, kept.step), (&again.stage, again.step));
        for (name, value) in &kept.values {
            let (Some(kept), Some(again)) = (value, again.values[name]) else {
                continue;
            };
            // Rounding of a step is amplified by those that follow.
            assert!(
                (kept - again).abs() <= 1e-4 * kept.abs(),
                "{name}: {kept}, {again}"
            );
        }
    }
}
