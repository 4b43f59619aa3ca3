//! The model against formulas, and documents in company against each alone.

use burn::tensor::TensorData;
use latentlm_core::conformance::{Stir, assert_close, seeded};
use latentlm_core::sequence::{Segment, SpecialTokens, UNTOLD};
use latentlm_core::{DistilledGuidance, FewStep, HeadMethod, Process, RandomStream, Sampler};

use super::*;
use crate::config::{LatentLmConfig, Modality};
use crate::sizes::LmSizes;

const DIM: usize = 4;
const DIMS: [usize; 2] = [4, 6];

fn built(config: LatentLmConfig) -> LatentLm {
    let sizes = LmSizes::new().with_width(32).with_depth(2).with_heads(4);
    let config = config.with_sizes(sizes.with_kv_heads(2));
    seeded(5, &Device::default(), |device| config.init(device))
}

fn speech() -> LatentLm {
    built(LatentLmConfig::speech(8, DIM, false))
}

fn mllm() -> LatentLm {
    let modalities = [(DIMS[0], 3), (DIMS[1], 0)].map(|(dim, frames)| Modality::new(dim, frames));
    built(LatentLmConfig::mllm(8, modalities.to_vec()).with_one_head(false))
}

fn texts() -> Vec<Document> {
    [(vec![1, 2, 3], 2), (vec![], 1), (vec![4], 3)]
        .map(|(text, frames)| Document::of_speech(text, frames, Vec::new()))
        .to_vec()
}

fn text(tokens: &[u32]) -> Segment {
    Segment::Text {
        tokens: tokens.to_vec(),
        learned: true,
    }
}

fn run(modality: usize, frames: usize, learned: bool) -> Segment {
    Segment::Latents {
        modality,
        frames,
        open_ended: modality == 1,
        said: Vec::new(),
        learned,
    }
}

/// A drawn picture, a picture that is read, both modalities, text alone.
fn mixed() -> Vec<Document> {
    [
        vec![text(&[8, 1, 2]), run(0, 3, true), text(&[9])],
        vec![text(&[8]), run(0, 2, false), text(&[3, 9])],
        vec![text(&[8, 4]), run(1, 2, true), run(0, 1, true), text(&[9])],
        vec![text(&[8, 5, 6, 7, 9])],
    ]
    .map(|segments| Document { segments })
    .to_vec()
}

fn latents_of_mixed(device: &Device) -> Vec<Tensor<2>> {
    let mut random = RandomStream::new(1);
    vec![
        random.normal([6, DIMS[0]], device),
        random.normal([2, DIMS[1]], device),
    ]
}

/// Documents in company give the hidden states that each gives alone, hence the same logits.
fn check_company(model: &LatentLm, documents: &[Document], latents: &[Tensor<2>]) {
    let all = model.hidden(&model.layout(documents), latents);
    let mut seen = vec![0; latents.len()];
    let mut position = 0;
    for document in documents {
        let own = latents.iter().zip(&mut seen).enumerate();
        let own = own.map(|(modality, (latents, seen))| {
            let first = *seen;
            *seen += document.frames(modality);
            latents.clone().slice(first..*seen)
        });
        let own: Vec<Tensor<2>> = own.collect();
        let alone = model.layout(std::slice::from_ref(document));
        let hidden = model.hidden(&alone, &own);
        let within = all.clone().narrow(0, position, document.positions());
        assert_close("a document's hidden states", within, hidden, 1e-5);
        position += document.positions();
    }
}

#[test]
fn company_changes_nothing() {
    let device = Device::default();
    let speech_latents = RandomStream::new(1).normal([6, DIM], &device);
    check_company(&speech(), &texts(), &[speech_latents]);
    check_company(&mllm(), &mixed(), &latents_of_mixed(&device));
    let images = built(LatentLmConfig::image(3, 4, DIM));
    let latents = RandomStream::new(2).normal([12, DIM], &device);
    let alike = [2, 0, 3].map(|class| Document::of_class(class, 4));
    check_company(&images, &alike, std::slice::from_ref(&latents));
    let unlike = [(2, 4), (0, 5), (1, 3)].map(|(class, frames)| Document::of_class(class, frames));
    check_company(&images, &unlike, &[latents]);
}

/// A batch of pictures against the formula of the class-conditional model: position 0 holds the label,
/// position `i` the latent `i - 1`, hidden state `i` is what latent `i` is denoised with.
#[test]
fn pictures_of_classes_are_a_rectangle() {
    const CLASSES: [u32; 3] = [2, 0, 3];
    let device = Device::default();
    let mut model = built(LatentLmConfig::image(3, 4, DIM));
    let mut stir = Stir(RandomStream::new(6));
    model.heads = model.heads.map(&mut stir);
    let mut random = RandomStream::new(1);
    let latents = random.normal([3, 4, DIM], &device);
    let labels = indices(&CLASSES.map(i64::from), &device);
    let label = model.label_adapter().embed(labels); // [3, 1, D]
    let past = model.latents[0].embed(latents.clone().narrow(1, 0, 3));
    let hidden = model.backbone.forward(Tensor::cat(vec![label, past], 1));
    let rows = latents.reshape([12, DIM]);
    let draws = model.head_of(0).draw(24, &mut random, &device);
    let expected = model.heads[0].loss_at(
        rows.clone().repeat_dim(0, 2),
        hidden.clone().reshape([12, 32]).repeat_dim(0, 2),
        draws.clone(),
    );
    let documents = CLASSES.map(|class| Document::of_class(class, 4)).to_vec();
    let layout = model.layout(&documents);
    let found = model.hidden(&layout, std::slice::from_ref(&rows));
    assert_close("hidden", found, hidden.reshape([12, 32]), 1e-6);
    let loss = model.loss(Batch::new(documents, vec![rows], vec![draws]));
    assert_close("loss", loss.diffusion[0].clone(), expected, 1e-6);
    assert_eq!(loss.token.into_scalar::<f32>(), 0.0);
}

/// An untrained softmax head is near the uniform distribution, diffusion heads begin as zero, whose
/// error is the mean square of their target.
#[test]
fn losses_begin_at_their_closed_forms() {
    let device = Device::default();
    let model = speech();
    let mut random = RandomStream::new(2);
    let latents: Tensor<2> = random.normal([6, DIM], &device);
    let draws = model.head_of(0).draw(12, &mut random, &device);
    check_losses(
        &model,
        Batch::new(texts(), vec![latents.clone()], vec![draws]),
        &[latents],
    );

    let model = mllm();
    let latents = latents_of_mixed(&device);
    let mut random = RandomStream::new(2);
    // Of the first modality's six latents, two are read only.
    let draws = [(0, 4), (1, 2)].map(|(m, rows)| {
        let head = model.head_of(m);
        head.draw(2 * rows, &mut random, &device)
    });
    let drawn = latents[0].clone();
    let learned = Tensor::cat(
        vec![drawn.clone().narrow(0, 0, 3), drawn.narrow(0, 5, 1)],
        0,
    );
    let learned = [learned, latents[1].clone()];
    check_losses(
        &model,
        Batch::new(mixed(), latents, draws.to_vec()),
        &learned,
    );
}

/// Every learned latent has two draws.
fn check_losses(model: &LatentLm, batch: Batch, learned: &[Tensor<2>]) {
    let draws = batch.draws.clone();
    let loss = model.loss(batch);
    for (modality, draws) in draws.into_iter().enumerate() {
        let target = model.head_of(modality).schedule().target(
            learned[modality].clone().repeat_dim(0, 2),
            draws.noise,
            draws.timesteps,
        );
        let found = loss.diffusion[modality].clone();
        assert_close("diffusion", found, target.square().mean(), 1e-5);
    }
    let vocabulary = model.token_adapter().vocabulary();
    let token = loss.token.into_scalar::<f32>();
    assert!(
        (token - (vocabulary as f32).ln()).abs() < 0.2,
        "{token} for {vocabulary} tokens"
    );
}

/// What the backbone reads and what the head draws may differ: only the former reaches hidden states.
#[test]
fn what_is_hidden_is_drawn_all_the_same() {
    let device = Device::default();
    let mut model = speech();
    model.heads = model.heads.map(&mut Stir(RandomStream::new(7)));
    let mut random = RandomStream::new(2);
    let latents: Tensor<2> = random.normal([6, DIM], &device);
    let draws = model.head_of(0).draw(6, &mut random, &device);
    let heard = latents.clone().mul_scalar(0.0);
    let layout = model.layout(&texts());
    let hidden = model.hidden(&layout, std::slice::from_ref(&heard));
    let conditions = indices(&layout.learned[0].conditions, &device);
    let condition = hidden.select(0, conditions);
    let expected = model.heads[0].loss_at(latents.clone(), condition, draws.clone());
    let mut batch = Batch::new(texts(), vec![latents], vec![draws]);
    batch.heard = vec![heard];
    let found = model.loss(batch).diffusion[0].clone();
    assert_close("diffusion", found, expected, 1e-6);
}

/// The targets of a batch against two passes by hand: with classes and without, each draw at its own scale.
#[test]
fn a_teacher_predicts_with_guidance() {
    let device = Device::default();
    let mut model = built(LatentLmConfig::image(3, 4, DIM));
    model.heads = model.heads.map(&mut Stir(RandomStream::new(6)));
    let mut random = RandomStream::new(1);
    let latents: Tensor<2> = random.normal([8, DIM], &device);
    let draws = DiffusionDraws {
        scales: (0..16).map(|row| 1.0 + row as f32 / 8.0).collect(),
        ..model.head_of(0).draw(16, &mut random, &device)
    };
    let documents = [2, 0].map(|class| Document::of_class(class, 4)).to_vec();
    let nulls = [3, 3].map(|class| Document::of_class(class, 4)).to_vec();
    let hidden = [&documents, &nulls].map(|documents| {
        let layout = model.layout(documents);
        let hidden = model.hidden(&layout, std::slice::from_ref(&latents));
        hidden.repeat_dim(0, 2)
    });
    let head = model.head_of(0);
    let noisy = head.schedule().add_noise(
        latents.clone().repeat_dim(0, 2),
        draws.noise.clone(),
        draws.timesteps.clone(),
    );
    let [conditional, null] = hidden.map(|hidden| {
        let timesteps = draws.timesteps.clone().float();
        head.denoise(noisy.clone(), timesteps, hidden)
    });
    let mut batch = Batch {
        nulls,
        ..Batch::new(documents, vec![latents], vec![draws])
    };
    model.teach(&mut batch).unwrap();
    let target = batch.draws[0].target.clone().unwrap();
    for row in 0..16 {
        let own = |x: &Tensor<2>| x.clone().narrow(0, row, 1);
        let scale = 1.0 + row as f64 / 8.0;
        let expected = own(&null) + (own(&conditional) - own(&null)).mul_scalar(scale);
        assert_close("target", own(&target), expected, 1e-5);
    }
}

/// Whole steps of other weights on their own hidden states: what their head makes of each learned latent's draws.
#[test]
fn averaged_weights_take_whole_steps() {
    let device = Device::default();
    let method = HeadMethod {
        process: Process::Flow,
        few_step: FewStep::Shortcut,
        shortcut_share: 0.5,
        ..HeadMethod::default()
    };
    let config = LatentLmConfig::image(3, 4, DIM).with_method(method);
    let averaged = built(config).map(&mut Stir(RandomStream::new(6)));
    let mut random = RandomStream::new(1);
    let latents: Tensor<2> = random.normal([8, DIM], &device);
    let draws = averaged.head_of(0).draw(16, &mut random, &device);
    let documents = [2, 0].map(|class| Document::of_class(class, 4)).to_vec();
    let layout = averaged.layout(&documents);
    let condition = averaged.hidden(&layout, std::slice::from_ref(&latents));
    let expected = averaged.head_of(0).whole_steps(
        latents.clone().repeat_dim(0, 2),
        condition.repeat_dim(0, 2),
        &draws,
    );
    let mut batch = Batch::new(documents, vec![latents], vec![draws]);
    averaged.take_whole_steps(&mut batch);
    let got = batch.draws[0].whole_steps.clone().unwrap();
    assert_close("whole steps", got.clone(), expected.unwrap(), 1e-5);
    for (row, length) in batch.draws[0].lengths.iter().enumerate() {
        let own = got.clone().narrow(0, row, 1).abs().max();
        assert_eq!(own.into_scalar::<f32>() > 0.0, *length > 0.0, "row {row}");
    }
}

/// A student has its teacher's weights, and draws what its teacher draws: what it reads besides has no effect at first.
#[test]
fn a_student_begins_as_its_teacher() {
    let flow = HeadMethod {
        process: Process::Flow,
        ..HeadMethod::default()
    };
    let method = HeadMethod {
        few_step: FewStep::Shortcut,
        distilled_guidance: DistilledGuidance::Scale,
        ..flow
    };
    let config = LatentLmConfig::image(3, 4, DIM);
    let teacher = built(config.clone().with_method(flow)).map(&mut Stir(RandomStream::new(6)));
    let student = built(config.with_method(method)).begin_from(teacher.clone());
    let draw = |model: &LatentLm| {
        let options = SampleOptions {
            sampler: Sampler::Euler,
            steps: 2,
            ..SampleOptions::default()
        };
        model.draw_images(&[2, 0], &options, &mut RandomStream::new(3))
    };
    assert_close("drawn", draw(&student), draw(&teacher), 1e-6);
    let guided = SampleOptions {
        guidance_scale: 2.0,
        ..SampleOptions::default()
    };
    assert!(teacher.reads_null(&guided) && !student.reads_null(&guided));
}

/// The token that a latent says is added to it.
#[test]
fn what_latents_say_is_read() {
    let device = Device::default();
    let model = built(LatentLmConfig::speech(8, DIM, true));
    let latents: Tensor<2> = RandomStream::new(2).normal([2, DIM], &device);
    let document = Document::of_speech(vec![5], 2, vec![3, 10]);
    let layout = model.layout(&[document]);
    assert_eq!(layout.rows, [0, 1, 2, 3]);
    let found = model.embed(&layout, std::slice::from_ref(&latents));
    let table = model.said.as_ref().unwrap().weight.val();
    let said = table.select(0, indices(&[3, 10], &device));
    let expected = model.latents[0].embed(latents) + said;
    assert_close("latents", found.narrow(0, 2, 2), expected, 1e-6);
}

/// A prompt whose words nobody tells is read like silence. The cross entropy is that of the latents behind it alone,
/// whatever the prompt's positions predict, and its latents are denoised as ever.
#[test]
fn what_is_untold_is_read_and_not_learned() {
    let device = Device::default();
    let model = built(LatentLmConfig::speech(8, DIM, true)).map(&mut Stir(RandomStream::new(6)));
    let more = model.control[0].more;
    let latents: Tensor<2> = RandomStream::new(2).normal([4, DIM], &device);
    let [untold, silent] = [[UNTOLD; 2], [more; 2]].map(|prompt| {
        let said = [&prompt[..], &[3, more]].concat();
        Document::of_speech(vec![5], 4, said)
    });
    let layout = model.layout(std::slice::from_ref(&silent));
    let hidden = model.hidden(&layout, std::slice::from_ref(&latents));
    let nats = model.surprise(&layout, hidden); // [5]: four latents and the end
    let [untold, silent] = [untold, silent].map(|document| {
        let draws = model.head_of(0).draw(4, &mut RandomStream::new(3), &device);
        model.loss(Batch::new(
            vec![document],
            vec![latents.clone()],
            vec![draws],
        ))
    });
    let behind = nats.clone().narrow(0, 2, 3).mean();
    assert_close("behind the prompt", untold.token.clone(), behind, 1e-5);
    assert_close("all", silent.token.clone(), nats.mean(), 1e-5);
    let [own, other] = [untold, silent].map(|loss| loss.diffusion[0].clone());
    assert_close("diffusion", own, other, 1e-6);
}

/// Four, two, seven and four learned tokens: those of the picture that is read count threefold.
#[test]
fn a_document_weighs_as_much_as_it_is_told() {
    let device = Device::default();
    let model = mllm();
    let (documents, latents) = (mixed(), latents_of_mixed(&device));
    let layout = model.layout(&documents);
    assert_eq!(layout.document_answers, [4, 2, 7, 4]);
    let hidden = model.hidden(&layout, &latents);
    let nats: TensorData = model.surprise(&layout, hidden).into_data();
    let nats: Vec<f32> = nats.convert::<f32>().try_into_vec().unwrap();
    let sum = |range: std::ops::Range<usize>| nats[range].iter().sum::<f32>();
    let weighted = (sum(0..4) + 3.0 * sum(4..6) + sum(6..17)) / (4.0 + 3.0 * 2.0 + 11.0);
    let plain = sum(0..17) / 17.0;
    let token = |weights: &[f64]| {
        let mut random = RandomStream::new(2);
        let draws = [(0, 4), (1, 2)];
        let draws = draws.map(|(m, rows)| model.head_of(m).draw(rows, &mut random, &device));
        let batch = Batch {
            weights: weights.to_vec(),
            ..Batch::new(documents.clone(), latents.clone(), draws.to_vec())
        };
        model.loss(batch).token.into_scalar::<f32>()
    };
    // Sums of 17 float32 numbers near 3.
    assert!((token(&[1.0, 3.0, 1.0, 1.0]) - weighted).abs() < 1e-5);
    assert!((token(&[2.0; 4]) - plain).abs() < 1e-5);
    assert!((weighted - plain).abs() > 1e-4, "{weighted} and {plain}");
}

#[test]
fn special_tokens_are_those_of_sequences() {
    let special = SpecialTokens::after(8, 2);
    let model = mllm();
    let document = model.document.unwrap();
    assert_eq!(
        (document.start, document.stop),
        (special.start, special.stop)
    );
    assert_eq!(model.control, special.modalities);
    let vocabulary = 8 + SpecialTokens::count(2);
    assert_eq!(model.token_adapter().vocabulary(), vocabulary);
}

#[test]
#[should_panic(expected = "draws must be a multiple of the 6 latents, not 7")]
fn draws_are_for_all_latents() {
    let device = Device::default();
    let model = speech();
    let mut random = RandomStream::new(2);
    let latents = random.normal([6, DIM], &device);
    let draws = model.head_of(0).draw(7, &mut random, &device);
    model.loss(Batch::new(texts(), vec![latents], vec![draws]));
}
