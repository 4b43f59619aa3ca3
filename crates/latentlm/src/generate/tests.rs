//! Text and latents: generation against whole sequences, and together against alone.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use latentlm_backbone::Backbone;
use latentlm_core::conformance::{Stir, assert_close, seeded};
use latentlm_core::sequence::{Document, Segment};
use latentlm_core::{
    DiffusionDraws, FallingSteps, LatentHead, RandomStream, SampleOptions, Sampler,
};

use super::*;
use crate::config::{LatentLmConfig, Modality};
use crate::model::LatentLm;
use crate::sizes::LmSizes;
use crate::text_sampling::TextOptions;

const DIM: usize = 4;

/// Text, pictures of three latents, sounds that end when the model says so.
fn model(seed: u64, depth: usize, device: &Device) -> LatentLm {
    let sizes = LmSizes::new()
        .with_width(32)
        .with_depth(depth)
        .with_heads(4);
    let sizes = sizes.with_kv_heads(2).with_head_depth(depth);
    let modalities = [3, 0].map(|frames| Modality::new(DIM, frames));
    let config = LatentLmConfig::mllm(8, modalities.to_vec()).with_sizes(sizes);
    let mut model = seeded(seed, device, |device| config.init(device));
    let mut stir = Stir(RandomStream::for_step(seed, "stir", 0));
    model.tokens = model.tokens.map(|tokens| tokens.map(&mut stir));
    model.heads = model.heads.map(&mut stir);
    model
}

fn options() -> GenerateOptions {
    GenerateOptions {
        text: TextOptions::default(),
        sample: SampleOptions {
            steps: 4,
            guidance_scale: 2.0,
            ..Default::default()
        },
        max_positions: 24,
    }
}

fn prompt(pieces: Vec<Piece>, open: Option<usize>, seed: u64) -> Prompt {
    Prompt {
        pieces,
        open,
        seed,
        ..Prompt::default()
    }
}

/// Prompts of all kinds and lengths. The last three begin an open-ended run at the same position.
fn prompts(device: &Device) -> Vec<Prompt> {
    let latents = RandomStream::new(3).normal([3, DIM], device);
    let picture = Piece::Latents {
        modality: 0,
        latents,
    };
    vec![
        prompt(vec![Piece::Text(vec![1, 2, 3, 4])], Some(0), 1),
        prompt(vec![picture.clone(), Piece::Text(vec![5])], None, 2),
        prompt(vec![], None, 3),
        prompt(vec![Piece::Text(vec![6])], Some(1), 4),
        prompt(vec![], Some(1), 5),
        prompt(vec![Piece::Text(vec![7, 0]), picture], Some(1), 6),
    ]
}

/// Lengths of the runs of latents.
fn runs(made: &Continuation) -> Vec<usize> {
    let length = |piece: &Piece| match piece {
        Piece::Latents { latents, .. } => Some(latents.dims()[0]),
        Piece::Text(_) => None,
    };
    made.pieces.iter().filter_map(length).collect()
}

/// Panics unless both are the same, latents within a bound.
fn assert_same(what: &str, together: &Continuation, alone: &Continuation, bound: f64) {
    assert_eq!(together.cut, alone.cut, "{what}");
    assert_eq!(together.pieces.len(), alone.pieces.len(), "{what}");
    for pair in together.pieces.iter().zip(&alone.pieces) {
        match pair {
            (Piece::Text(together), Piece::Text(alone)) => assert_eq!(together, alone, "{what}"),
            (
                Piece::Latents { modality, latents },
                Piece::Latents {
                    modality: expected_modality,
                    latents: expected,
                },
            ) => {
                assert_eq!(modality, expected_modality, "{what}");
                assert_close(what, latents.clone(), expected.clone(), bound);
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

/// How often something happened that a neighbour could disturb.
#[derive(Default)]
struct Seen {
    /// Batches in which runs that began together ended at different times.
    uneven: usize,
    /// Sequences with several runs.
    again: usize,
}

/// Goes on with all prompts, together and each alone. Latents may differ by `bound`.
fn check_neighbours<H: LatentHead>(
    what: &str,
    model: &LatentLm<Backbone, H>,
    options: &GenerateOptions,
    bound: f64,
    seen: &mut Seen,
) {
    let device = Device::default();
    let prompts = prompts(&device);
    // One batch, also where several threads would share it.
    let together = model.generate_part(&prompts, options);
    for (index, (prompt, together)) in prompts.iter().zip(&together).enumerate() {
        let alone = model.generate(std::slice::from_ref(prompt), options);
        let what = format!("{what}, prompt {index}");
        assert_same(&what, together, &alone[0], bound);
        seen.again += usize::from(runs(together).len() > 1);
    }
    let first = |made: &Continuation| runs(made).first().copied();
    let begun = together[3..].iter().map(first).collect::<Vec<_>>();
    seen.uneven += usize::from(begun.iter().any(|length| *length != begun[0]));
}

/// Whatever neighbours do: with 13 of 151 models a run that had ended went on for as long as a
/// neighbour's did, and noise on the way came from the first sequence's stream.
#[test]
fn a_prompt_does_not_see_its_neighbours() {
    const MODELS: u64 = 150;
    let (device, mut seen) = (Device::default(), Seen::default());
    for seed in 0..MODELS {
        let model = model(seed, 1, &device);
        let mut options = options();
        options.sample.steps = 3;
        options.sample.sampler = if seed % 2 == 0 {
            Sampler::DpmSolverPlusPlus
        } else {
            Sampler::Ddpm
        };
        // What is rounded is handed on from latent to latent; other noise is off by 1.
        check_neighbours(&format!("model {seed}"), &model, &options, 1e-3, &mut seen);
    }
    let Seen { uneven, again } = seen;
    assert!(uneven >= 15, "runs ended apart with {uneven} models only");
    assert!(again >= 50, "only {again} sequences began another run");
}

/// A head whose latents are its noise and what a sampler would add on the way.
#[derive(Module, Debug)]
struct Noise {
    dim: usize,
}

impl LatentHead for Noise {
    fn latent_dim(&self) -> usize {
        self.dim
    }

    fn loss_at(&self, latents: Tensor<2>, _: Tensor<2>, draws: DiffusionDraws) -> Tensor<1> {
        (latents - draws.noise).square().mean()
    }

    fn draw(&self, rows: usize, random: &mut RandomStream, device: &Device) -> DiffusionDraws {
        let timesteps = Tensor::<1, Int>::zeros([rows], device);
        DiffusionDraws::new(timesteps, random.normal([rows, self.dim], device))
    }

    fn sample(
        &self,
        condition: Tensor<2>,
        _null: Option<Tensor<2>>,
        noise: Tensor<2>,
        _options: &SampleOptions,
        random: &mut RandomStream,
    ) -> Tensor<2> {
        let way: Tensor<2> = random.normal(noise.dims(), &condition.device());
        noise + way.mul_scalar(0.5)
    }
}

/// The numbers that a sequence draws are the same to the last bit.
#[test]
fn noise_is_a_sequences_own() {
    const MODELS: u64 = 20;
    let (device, mut seen) = (Device::default(), Seen::default());
    for seed in 0..MODELS {
        let model = model(seed, 1, &device);
        let model = LatentLm {
            labels: model.labels,
            tokens: model.tokens,
            latents: model.latents,
            said: model.said,
            backbone: model.backbone,
            heads: vec![Noise { dim: DIM }],
            control: model.control,
            document: model.document,
            frames: model.frames,
        };
        check_neighbours(&format!("model {seed}"), &model, &options(), 0.0, &mut seen);
    }
    assert!(seen.uneven >= 2, "{} models", seen.uneven);
}

/// A head whose latents tell in how many steps they were drawn.
#[derive(Module, Debug)]
struct StepCounter {
    dim: usize,
}

impl LatentHead for StepCounter {
    fn latent_dim(&self) -> usize {
        self.dim
    }

    fn loss_at(&self, latents: Tensor<2>, _: Tensor<2>, draws: DiffusionDraws) -> Tensor<1> {
        (latents - draws.noise).square().mean()
    }

    fn draw(&self, rows: usize, random: &mut RandomStream, device: &Device) -> DiffusionDraws {
        let timesteps = Tensor::<1, Int>::zeros([rows], device);
        DiffusionDraws::new(timesteps, random.normal([rows, self.dim], device))
    }

    fn sample(
        &self,
        _condition: Tensor<2>,
        _null: Option<Tensor<2>>,
        noise: Tensor<2>,
        options: &SampleOptions,
        _random: &mut RandomStream,
    ) -> Tensor<2> {
        noise.zeros_like().add_scalar(options.steps as f64)
    }
}

/// Steps fall from 9 over 5 to 1 along a picture of three latents; one whose first latent is given begins with 5, beside
/// one that begins with 9.
#[test]
fn steps_fall_along_each_sequence() {
    let device = Device::default();
    let model = model(5, 1, &device);
    let model = LatentLm {
        labels: model.labels,
        tokens: model.tokens,
        latents: model.latents,
        said: model.said,
        backbone: model.backbone,
        heads: vec![StepCounter { dim: DIM }],
        control: model.control,
        document: model.document,
        frames: model.frames,
    };
    let mut options = GenerateOptions {
        max_positions: 4,
        ..options()
    };
    options.sample.steps = 9;
    options.sample.falling = FallingSteps { last: 1, over: 0 };
    let begun = Prompt {
        begun: Some(RandomStream::new(3).normal([1, DIM], &device)),
        ..prompt(vec![], Some(0), 2)
    };
    let prompts = [begun.clone(), prompt(vec![], Some(0), 1), begun];
    let made = model.generate_part(&prompts, &options);
    for (made, expected) in made
        .iter()
        .zip([&[5.0f32, 1.0][..], &[9.0, 5.0, 1.0], &[5.0, 1.0]])
    {
        let Some(Piece::Latents { latents, .. }) = made.pieces.first() else {
            panic!("{made:?}");
        };
        let whitened = model.latents[0].whiten(latents.clone());
        let steps: Vec<f32> = whitened.narrow(1, 0, 1).into_data().try_to_vec().unwrap();
        assert_eq!(steps, expected);
    }
}

/// The likeliest of the tokens that may be written.
fn likeliest(logits: Tensor<2>, stop: usize) -> Option<usize> {
    let row: Vec<f32> = logits.into_data().convert::<f32>().try_to_vec().unwrap();
    let allowed = |t: &usize| *t < 8 || *t == stop;
    let tokens = (0..row.len()).filter(allowed);
    tokens.max_by(|&a, &b| row[a].total_cmp(&row[b]))
}

/// What is generated step by step is what whole sequences predict: tokens are the likeliest
/// ones, the last latent of a picture is what the head draws of the whole sequence's hidden
/// state and the one of `<BOS> <BOD>` and the latents before.
#[test]
fn steps_are_what_whole_sequences_predict() {
    let device = Device::default();
    let model = model(5, 2, &device);
    let options = GenerateOptions {
        text: TextOptions::GREEDY,
        max_positions: 9,
        ..options()
    };
    let given = [1, 2, 3];
    let prompts = [prompt(vec![Piece::Text(given.to_vec())], Some(0), 7)];
    let [made] = model.generate(&prompts, &options).try_into().unwrap();
    let Piece::Latents { latents, .. } = &made.pieces[0] else {
        panic!("{made:?}");
    };
    let special = model.document.unwrap();
    let text = |tokens: Vec<u32>, learned| Segment::Text { tokens, learned };
    let picture = |frames| Segment::Latents {
        modality: 0,
        frames,
        open_ended: false,
        said: Vec::new(),
        learned: true,
    };
    let hidden = |segments: Vec<Segment>, count: usize| {
        let document = [Document { segments }];
        let layout = model.layout(&document);
        let seen = [
            latents.clone().narrow(0, 0, count),
            Tensor::zeros([0, DIM], &device),
        ];
        (model.hidden(&layout, &seen), layout)
    };
    let start = || text([vec![special.start], given.to_vec()].concat(), false);

    let last = |hidden: Tensor<2>| {
        let rows = hidden.dims()[0];
        hidden.narrow(0, rows - 1, 1)
    };
    let condition = last(hidden(vec![start(), picture(2)], 2).0);
    let null = last(hidden(vec![text(vec![special.start], false), picture(2)], 2).0);
    let mut random = RandomStream::for_step(7, "mixed", 0);
    let noise: Vec<Tensor<2>> = (0..3).map(|_| random.normal([1, DIM], &device)).collect();
    let expected = model.heads[0].sample(
        condition,
        Some(null),
        noise[2].clone(),
        &options.sample,
        &mut random,
    );
    assert_close(
        "last latent",
        latents.clone().narrow(0, 2, 1),
        expected,
        1e-4,
    );

    let Some(Piece::Text(written)) = made.pieces.get(1) else {
        return; // The picture was all.
    };
    let (hidden, layout) = hidden(vec![start(), picture(3), text(written.clone(), true)], 3);
    let logits = model
        .token_adapter()
        .logits(hidden.unsqueeze_dim(0))
        .squeeze_dim::<2>(0);
    for (position, answer) in layout.asked.iter().zip(&layout.answers).skip(1) {
        let row = logits.clone().narrow(0, *position as usize, 1);
        assert_eq!(
            likeliest(row, special.stop as usize),
            Some(*answer as usize)
        );
    }
}

/// Prompts of different lengths, drawn together and as the first pieces of what goes on.
#[test]
fn drawn_pictures_are_those_that_generation_begins_with() {
    let device = Device::default();
    let model = model(5, 1, &device);
    let prompts = [
        prompt(vec![Piece::Text(vec![1, 2, 3])], Some(0), 1),
        prompt(vec![], Some(0), 2),
    ];
    let drawn = model.draw_prompts(&prompts, &options().sample);
    assert_eq!(drawn.dims(), [2, 3, DIM]);
    for (row, made) in model.generate(&prompts, &options()).iter().enumerate() {
        let Some(Piece::Latents { latents, .. }) = made.pieces.first() else {
            panic!("{made:?}");
        };
        let own = drawn.clone().narrow(0, row, 1).squeeze_dim::<2>(0);
        // Further positions take further memory, but no other arithmetic.
        assert_close("latents", own, latents.clone(), 1e-5);
    }
}

#[test]
fn the_limit_cuts() {
    let device = Device::default();
    let model = model(5, 1, &device);
    let options = GenerateOptions {
        max_positions: 3,
        ..options()
    };
    let made = model.generate(&[prompt(vec![], Some(0), 1)], &options);
    assert!(made[0].cut && made[0].pieces.is_empty());
}

/// Latents of a run that are given are read as part of it, and only what is left is drawn.
#[test]
fn a_begun_run_is_finished() {
    let device = Device::default();
    let model = model(5, 1, &device);
    let given: Tensor<2> = RandomStream::new(3).normal([2, DIM], &device);
    let begun = Prompt {
        begun: Some(given.clone()),
        ..prompt(vec![Piece::Text(vec![1, 2])], Some(0), 7)
    };
    let unguided = GenerateOptions {
        sample: SampleOptions {
            guidance_scale: 1.0,
            ..options().sample
        },
        max_positions: 2,
        ..options()
    };
    let made = model.generate(&[begun], &unguided);
    assert_eq!(runs(&made[0]), [1]);
    let start = Segment::Text {
        tokens: vec![model.document.unwrap().start, 1, 2],
        learned: false,
    };
    let picture = Segment::Latents {
        modality: 0,
        frames: 2,
        open_ended: false,
        said: Vec::new(),
        learned: false,
    };
    let document = Document {
        segments: vec![start, picture],
    };
    let layout = model.layout(&[document]);
    let hidden = model.hidden(&layout, &[given, Tensor::zeros([0, DIM], &device)]);
    let last = hidden.narrow(0, layout.rows.len() - 1, 1);
    let mut random = RandomStream::for_step(7, "mixed", 0);
    let noise = random.normal([1, DIM], &device);
    let expected = model.heads[0].sample(last, None, noise, &unguided.sample, &mut random);
    let Piece::Latents { latents, .. } = &made[0].pieces[0] else {
        panic!("{made:?}");
    };
    assert_close("the last latent", latents.clone(), expected, 1e-5);
}

/// Latents of a stream are those that are drawn at once, also after latents that are given: these are kept, and
/// the run has its fixed length with them.
#[test]
fn a_stream_draws_the_same_latents() {
    let device = Device::default();
    let sample = options().sample;
    let given = RandomStream::new(5).normal([1, DIM], &device);
    for seed in 0..5 {
        let model = model(seed, 2, &device);
        for begun in [None, Some(given.clone())] {
            let left = 3 - usize::from(begun.is_some());
            let prompt = Prompt {
                begun,
                ..prompt(vec![Piece::Text(vec![1, 2])], Some(0), seed)
            };
            let whole = model.draw_prompts(std::slice::from_ref(&prompt), &sample);
            assert_eq!(whole.dims(), [1, left, DIM]);
            let drawn: Vec<Tensor<2>> = model.stream_prompt(&prompt, &sample).collect();
            assert_eq!(drawn.len(), left);
            let drawn = Tensor::cat(drawn, 0).unsqueeze_dim::<3>(0);
            // The same operations: rounding alone may differ.
            assert_close("stream", drawn, whole, 1e-5);
        }
    }
}
