//! Large models have the published sizes, and take a step with fewer layers.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm::codec_image::CodecLossConfig;
use latentlm::core::{CodecObjectiveConfig, LatentCodecConfig};
use latentlm::sequence::{Document, Segment};
use latentlm::{Batch, LatentCodec, LatentHead, LmSizes, RandomStream};
use latentlm_pipelines::{MllmRecipe, Recipe, VideoRecipe};
use latentlm_tests::repository;
use latentlm_train::Trainer;

use super::{changed_recipe, recipe, speech_recipe};

/// Parameters of the official Transformer with 1,000 classes and 16 latent channels, counted from
/// its layers: embeddings, blocks, condition layer, diffusion blocks, final layer.
fn published_parameters(width: u64, depth: u64, head_depth: u64) -> u64 {
    let (classes, channels) = (1000, 16);
    let hidden = (width * 6 * 2 / 3) / 64 * 64;
    let embeddings = (classes + 1) * width + 2 * (channels * width + width);
    let timestep = 256 * width + width * width;
    let block = 4 * width * width + 3 * width * hidden;
    let head = 3 * width * width + 3 * width * hidden;
    let last = 2 * width * width + width * channels;
    embeddings + timestep + depth * block + width * width + head_depth * head + last
}

/// Parameters of a model of text and latents: those of the image models, but for a feed-forward ratio of 4 instead of
/// 6, key/value heads that queries may share, the channels of latents, and tokens instead of classes. These have a
/// table and a softmax head, also for the five tokens around documents and latents.
fn parameters_with_text(sizes: &LmSizes, vocabulary: usize, latent_dim: usize) -> u64 {
    let (classes, channels) = (1001, 16);
    let number = |size: usize| size as u64;
    let [width, depth, head_depth] = [sizes.width, sizes.depth, sizes.head_depth].map(number);
    let hidden = |ratio: u64| (width * ratio * 2 / 3) / 64 * 64;
    let narrower = (depth + head_depth) * 3 * width * (hidden(6) - hidden(4));
    let kv_heads = match sizes.kv_heads {
        0 => sizes.heads,
        fewer => fewer,
    };
    let kv_width = number(sizes.width / sizes.heads * kv_heads);
    let shared = depth * 2 * width * (width - kv_width);
    let same = published_parameters(width, depth, head_depth)
        - narrower
        - shared
        - classes * width
        - (2 * (channels * width + width) + width * channels);
    let (tokens, dim) = (number(vocabulary) + 5, number(latent_dim));
    // And the whitening: two numbers.
    same + 2 * tokens * width + 2 * (dim * width + width) + width * dim + 2
}

#[test]
fn large_models_have_the_published_sizes() {
    let sizes = [("base", 768, 12), ("medium", 1024, 24), ("large", 1536, 24)];
    for (name, width, depth) in sizes {
        let recipe = recipe(&format!("imagenet256-{name}.toml"));
        let model = recipe.model(1000).init(&Device::default());
        // Two more numbers than the reference: the whitening, which it keeps in a side file.
        let expected = published_parameters(width, depth, 3) + 2;
        assert_eq!(model.num_params() as u64, expected, "{name}");
    }
    // XL is 1.3 thousand million numbers: its configuration is checked, not its memory.
    let xl = recipe("imagenet256-xl.toml").model(1000).sizes;
    assert_eq!(
        (xl.width, xl.depth, xl.heads, xl.mlp_ratio),
        (2048, 24, 16, 6.0)
    );
    assert_eq!(published_parameters(768, 12, 3), 143_151_360);
}

/// The Base size with all widths and all layers of the head, but fewer of its equal blocks, and a quarter of a
/// picture: the whole takes four times as long.
#[test]
fn the_widths_of_the_base_size_take_a_step_of_both_stages() {
    let fewer = [
        "codec.image_size=128",
        "codec.vit.encoder_depth=4",
        "codec.vit.decoder_depth=4",
        "lm.depth=4",
    ];
    let recipe = changed_recipe("imagenet256-base.toml", &fewer);
    let (tokens, dim) = (64, 16);
    assert_eq!((recipe.tokens(), recipe.codec.latent_dim), (tokens, dim));
    let device = Device::default().autodiff();
    let mut random = RandomStream::new(1);

    let mut codec = Trainer::new(recipe.codec.init(&device), &recipe.codec_train);
    let picture = random.normal([1, 3, 128, 128], &device).clamp(-1.0, 1.0);
    let posterior = codec.model().encode(picture.clone());
    let loss = CodecLossConfig::default()
        .init(&recipe.codec, &device)
        .unwrap();
    let output = loss.forward(codec.model(), picture, &posterior, posterior.mode(), None);
    let report = codec.backward(output.total.clone());
    // Four accumulated passes make a step of this recipe: the first three return nothing.
    assert!(report.is_none() && output.total.into_scalar::<f32>().is_finite());
    drop(codec);

    let mut stage = recipe.lm_train.clone();
    stage.grad_accumulation = 1;
    let mut lm = Trainer::new(recipe.model(1000).init(&device), &stage);
    let latents = random.normal([tokens, dim], &device);
    let head = lm.model().head_of(0);
    let draws = head.draw(tokens * recipe.lm.batch_mul, &mut random, &device);
    let documents = vec![Document::of_class(207, tokens)];
    let batch = Batch::new(documents, vec![latents], vec![draws]);
    let loss = lm.model().loss(batch).diffusion.remove(0);
    let value = loss.clone().into_scalar::<f32>();
    let report = lm.backward(loss).unwrap();
    // The head starts as zero: the loss is the mean square of a velocity of unit variance. Its standard deviation is
    // about 0.03: sqrt(2 / 4096) if all numbers of 64 latents and four draws were independent, sqrt(2 / 1024) if draws
    // were equal.
    assert!((value - 1.0).abs() < 0.1, "{value}");
    assert!(report.gradient_norm.is_finite() && report.gradient_norm > 0.0);
}

/// The published speech codec, and a language model of the reference's Medium size on it. Both take a step of the
/// optimizer with fewer layers, but all widths: a thousand million weights would take half a minute.
#[test]
fn the_large_speech_recipe_has_the_published_sizes_and_takes_a_step() {
    let (name, text) = ("large-24khz-7.5hz.toml", 8192);
    let device = Device::default().autodiff();
    let recipe = speech_recipe(name, &[]);
    assert_eq!(recipe.frame_rate_hz(), 7.5);
    // As `transformers` counts the published tokenizer's encoder and decoder. Weights are drawn when they are read,
    // and nobody reads these.
    assert_eq!(recipe.codec.init(&device).num_params(), 687_392_001);
    let (width, depth, head_depth) = (1024, 24, 3);
    // The image model's, but for what reads labels and latents, and their channels; text has a table
    // and a softmax head of its own.
    let (classes, channels) = (1001, 16);
    let same = published_parameters(width, depth, head_depth)
        - classes * width
        - (2 * (channels * width + width) + width * channels);
    let dim = 64;
    let own = 2 * (text as u64 + 3) * width + 2 * (dim * width + width) + width * dim;
    let model = recipe.model(text).init(&device);
    assert_eq!(model.num_params() as u64, same + own + 2);

    let few_layers = [
        "codec.depths=[1, 1, 1, 1, 1, 1, 1]",
        "lm.depth=1",
        "lm.head_depth=1",
    ];
    let recipe = speech_recipe(name, &few_layers);
    let mut random = RandomStream::new(1);
    let mut codec = Trainer::new(recipe.codec.init(&device), &recipe.codec_train);
    let loss = recipe.codec_loss.init(&recipe.codec, &device).unwrap();
    let signal = random.normal([1, 1, 3200], &device).mul_scalar(0.1);
    let posterior = codec.model().encode(signal.clone());
    let decoded = codec.model().decode(posterior.mode());
    let output = loss.forward(decoded, signal, &posterior, None);
    let report = codec.backward(output.total).unwrap();
    assert!(report.gradient_norm.is_finite() && report.gradient_norm > 0.0);
    drop(codec);

    let mut model = Trainer::new(recipe.model(text).init(&device), &recipe.lm_train);
    let documents = vec![Document::of_speech(vec![1, 2, 3], 4, Vec::new())];
    let latents: Tensor<2> = random.normal([4, 64], &device);
    let draws = model.model().head_of(0).draw(4, &mut random, &device);
    let batch = Batch::new(documents, vec![latents], vec![draws]);
    let mut loss = model.model().loss(batch);
    let report = model
        .backward(loss.diffusion.remove(0) + loss.token)
        .unwrap();
    assert!(report.gradient_norm.is_finite() && report.gradient_norm > 0.0);
}

/// The size of the paper's multimodal models (§3.2) is too large for a test: one block and one layer of
/// the head are built, the rest is counted as the image models' is.
#[test]
fn the_large_model_of_text_and_pictures_has_the_size_of_the_papers() {
    let path = repository("configs/mllm/large.toml");
    let parameters = |recipe: &MllmRecipe| {
        let vocabulary = recipe.text.tokenizer.vocabulary;
        parameters_with_text(&recipe.lm.sizes, vocabulary, recipe.codec.latent_dim)
    };
    let changes = ["lm.depth=1".to_owned(), "lm.head_depth=1".to_owned()];
    let small = MllmRecipe::resolve(Some(&path), &changes).unwrap();
    let vocabulary = small.text.tokenizer.vocabulary;
    let model = small.model(vocabulary).init(&Device::default());
    assert_eq!(model.num_params() as u64, parameters(&small));
    let recipe = MllmRecipe::resolve(Some(&path), &[]).unwrap();
    let sizes = &recipe.lm.sizes;
    assert_eq!((sizes.width, sizes.depth), (2048, 24));
    let all = parameters(&recipe);
    assert!((1_300_000_000..1_700_000_000).contains(&all), "{all}");
}

/// Parameters of a codec of clips without motion, of which every group joins as many patches into a latent. Layers have
/// biases, norms a weight for each channel, and the places of patches are learned.
fn clip_codec_parameters(recipe: &VideoRecipe) -> usize {
    let codec = &recipe.codec;
    let linear = |input: usize, output: usize| input * output + output;
    let patches = (codec.image_size / codec.patch_size).pow(2);
    let numbers = codec.latent_dim / codec.latent_patches.pow(2);
    let first = codec.channels * codec.patch_size.pow(2);
    let later = codec.frames_per_group * first;
    let trunk = |width: usize, depth: usize| {
        let inner = codec.mlp_ratio * width;
        let time = linear(codec.time_taps * width, width);
        let attention = linear(width, 3 * width) + linear(width, width);
        let block = time + attention + linear(width, inner) + linear(inner, width) + 3 * width;
        patches * width + depth * block + width
    };
    let (read, write) = (codec.encoder_width, codec.decoder_width);
    let encoder = linear(first, read)
        + linear(later, read)
        + trunk(read, codec.encoder_depth)
        + linear(read, numbers);
    let decoder = linear(numbers, write)
        + trunk(write, codec.decoder_depth)
        + linear(write, write)
        + linear(write, first)
        + linear(write, later);
    encoder + decoder
}

/// The recipe for GPUs: both models whole, of which weights are drawn when they are read, and nobody reads these.
#[test]
fn the_large_recipe_of_clips_has_the_parameters_of_its_layers() {
    let path = repository("configs/video/large.toml");
    let recipe = VideoRecipe::resolve(Some(&path), &[]).unwrap();
    let device = Device::default();
    let codec = recipe.codec.init(&device).num_params();
    assert_eq!(codec, clip_codec_parameters(&recipe));
    assert_eq!(codec, 59_672_384);
    let (sizes, vocabulary) = (&recipe.lm.sizes, recipe.text.tokenizer.vocabulary);
    assert_eq!((sizes.width, sizes.depth), (1024, 24));
    let model = recipe.model(vocabulary).init(&device).num_params() as u64;
    let counted = parameters_with_text(sizes, vocabulary, recipe.codec.latent_dim);
    assert_eq!((model, counted), (counted, 368_324_610));
    // 17 frames are five groups of 8 x 8 latents.
    assert_eq!((recipe.data.frames, recipe.tokens()), (17, 320));
}

/// All widths and the whole size of a frame, but one block each, the first frame and one group after it, and a table of
/// few tokens: with gradients, averages and moments, the whole language model has 7 GB of numbers.
#[test]
fn the_widths_of_the_large_recipe_of_clips_take_a_step_of_both_stages() {
    let path = repository("configs/video/large.toml");
    let few = [
        "data.frames=5",
        "codec.encoder_depth=1",
        "codec.decoder_depth=1",
        "lm.depth=1",
        "lm.head_depth=1",
    ];
    let recipe = VideoRecipe::resolve(Some(&path), &few.map(str::to_owned)).unwrap();
    let (tokens, dim) = (128, 256);
    assert_eq!((recipe.tokens(), recipe.codec.latent_dim), (tokens, dim));
    let device = Device::default().autodiff();
    let mut random = RandomStream::new(1);

    // Eight accumulated passes make a step of this recipe.
    let mut stage = recipe.codec_train.clone();
    stage.grad_accumulation = 1;
    let mut codec = Trainer::new(recipe.codec.init(&device), &stage);
    let clip: Tensor<5> = random.normal([1, 5, 3, 256, 256], &device);
    let clip = clip.clamp(-1.0, 1.0);
    let posterior = codec.model().encode(clip.clone());
    let loss = recipe.codec_loss.init(&recipe.codec, &device).unwrap();
    // Its discriminator begins later.
    let output = loss.forward(codec.model(), clip, &posterior, posterior.mode(), None);
    let report = codec.backward(output.total).unwrap();
    assert!(report.gradient_norm.is_finite() && report.gradient_norm > 0.0);
    drop(codec);

    let mut stage = recipe.lm_train.clone();
    stage.grad_accumulation = 1;
    let mut lm = Trainer::new(recipe.model(1000).init(&device), &stage);
    let caption = Segment::Text {
        tokens: vec![1, 2, 3],
        learned: true,
    };
    let shown = Segment::Latents {
        modality: 0,
        frames: tokens,
        open_ended: false,
        said: Vec::new(),
        learned: true,
    };
    let documents = vec![Document {
        segments: vec![caption, shown],
    }];
    let latents: Tensor<2> = random.normal([tokens, dim], &device);
    let head = lm.model().head_of(0);
    let draws = head.draw(tokens * recipe.lm.batch_mul, &mut random, &device);
    let batch = Batch::new(documents, vec![latents], vec![draws]);
    let mut loss = lm.model().loss(batch);
    let diffusion = loss.diffusion.remove(0);
    let value = diffusion.clone().into_scalar::<f32>();
    // The head starts as zero: see the image model's step above.
    assert!((value - 1.0).abs() < 0.1, "{value}");
    let report = lm.backward(diffusion + loss.token).unwrap();
    assert!(report.gradient_norm.is_finite() && report.gradient_norm > 0.0);
}
