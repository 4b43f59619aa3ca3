//! Generation against whole sequences.

use super::*;
use crate::mixed::{MixedLm, MixedLmConfig};
use crate::sizes::LmSizes;
use latentlm_core::conformance::assert_close;

const DIM: usize = 4;

fn model(device: &Device) -> MixedLm {
    device.seed(5);
    let sizes = LmSizes::new().with_width(32).with_depth(2).with_heads(4);
    let mut model = MixedLmConfig::new(8, vec![DIM, DIM])
        .with_sizes(sizes.with_kv_heads(2))
        .init(device);
    // An untrained diffusion head predicts zero, whatever the condition: any trained one does not.
    let mut random = RandomStream::new(9);
    model.head = model
        .head
        .into_iter()
        .map(|head| stir(head, &mut random))
        .collect();
    model
}

fn stir<M: burn::module::Module>(module: M, random: &mut RandomStream) -> M {
    struct Stir<'a>(&'a mut RandomStream);
    impl burn::module::ModuleMapper for Stir<'_> {
        fn map_float<const D: usize>(
            &mut self,
            param: burn::module::Param<Tensor<D>>,
        ) -> burn::module::Param<Tensor<D>> {
            param.map(|tensor| {
                let noise = self.0.normal(tensor.dims(), &tensor.device());
                tensor + noise.mul_scalar(0.1)
            })
        }
    }
    module.map(&mut Stir(random))
}

fn options() -> GenerateOptions {
    GenerateOptions {
        text: TextOptions::default(),
        sample: SampleOptions {
            steps: 4,
            guidance_scale: 2.0,
            ..Default::default()
        },
        frames: vec![3, 0],
        max_positions: 24,
    }
}

fn prompt(pieces: Vec<Piece>, open: Option<usize>, seed: u64) -> MixedPrompt {
    MixedPrompt { pieces, open, seed }
}

fn prompts(device: &Device) -> Vec<MixedPrompt> {
    let latents = RandomStream::new(3).normal([3, DIM], device);
    let picture = Piece::Latents {
        modality: 0,
        latents,
    };
    vec![
        prompt(vec![Piece::Text(vec![1, 2, 3, 4])], Some(0), 1),
        prompt(vec![picture, Piece::Text(vec![5])], None, 2),
        prompt(vec![], None, 3),
        prompt(vec![Piece::Text(vec![6])], Some(1), 4),
    ]
}

/// Prompts of all kinds, together and each alone.
#[test]
fn a_prompt_does_not_see_its_neighbours() {
    let device = Device::default();
    let model = model(&device);
    let prompts = prompts(&device);
    let together = model.generate(&prompts, &options(), &device);
    let mut runs = 0;
    for (prompt, together) in prompts.iter().zip(together) {
        let alone = model.generate(std::slice::from_ref(prompt), &options(), &device);
        let [alone] = alone.try_into().unwrap();
        assert_eq!(alone.cut, together.cut);
        assert_eq!(alone.pieces.len(), together.pieces.len());
        for pair in alone.pieces.into_iter().zip(together.pieces) {
            match pair {
                (Piece::Text(alone), Piece::Text(together)) => assert_eq!(alone, together),
                (Piece::Latents { latents: alone, .. }, Piece::Latents { latents, .. }) => {
                    assert_close("a prompt's latents", latents, alone, 1e-4);
                    runs += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(runs >= 2, "{runs} runs of latents");
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
    let model = model(&device);
    let options = GenerateOptions {
        text: TextOptions::GREEDY,
        max_positions: 9,
        ..options()
    };
    let given = [1, 2, 3];
    let prompts = [prompt(vec![Piece::Text(given.to_vec())], Some(0), 7)];
    let [made] = model
        .generate(&prompts, &options, &device)
        .try_into()
        .unwrap();
    let Piece::Latents { latents, .. } = &made.pieces[0] else {
        panic!("{made:?}");
    };
    let special = model.special_tokens();
    let text = |tokens: Vec<u32>, learned| Segment::Text { tokens, learned };
    let picture = |frames| Segment::Latents {
        modality: 0,
        frames,
        open_ended: false,
        learned: true,
    };
    let hidden = |segments: Vec<Segment>, count: usize| {
        let document = [Document { segments }];
        let layout = model.layout(&document);
        let seen = [
            latents.clone().narrow(0, 0, count),
            Tensor::zeros([0, DIM], &device),
        ];
        (model.hidden(&document, &layout, &seen), layout)
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
    let expected = model.head[0].sample(
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
        .adapters
        .token
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

#[test]
fn the_limit_cuts() {
    let device = Device::default();
    let model = model(&device);
    let options = GenerateOptions {
        max_positions: 3,
        ..options()
    };
    let made = model.generate(&[prompt(vec![], Some(0), 1)], &options, &device);
    assert!(made[0].cut && made[0].pieces.is_empty());
}
