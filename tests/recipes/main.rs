//! Every shipped recipe resolves; its model has the published size; the large ones take a step.

mod sizes;

use burn::module::Module;
use burn::tensor::Device;
use latentlm::sequence::Document;
use latentlm_baselines::{DitNetwork, TransfusionNetwork};
use latentlm_compare::{
    CompareMllmRecipe, CompareRecipe, CompareTtsRecipe, FastMllmRecipe, FastTtsRecipe, HeadsRecipe,
    LatentsRecipe, SigmaRecipe,
};
use latentlm_pipelines::{ImageRecipe, MllmRecipe, Recipe, SpeechRecipe, VideoRecipe};
use latentlm_published::RandomSizes;
use latentlm_tests::repository;
use latentlm_vibevoice::SpeakOptions;

fn speech_recipe(name: &str, changes: &[&str]) -> SpeechRecipe {
    let path = repository("configs/tts").join(name);
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    SpeechRecipe::resolve(Some(&path), &changes).unwrap()
}

fn recipe(name: &str) -> ImageRecipe {
    changed_recipe(name, &[])
}

fn changed_recipe(name: &str, changes: &[&str]) -> ImageRecipe {
    let path = repository("configs/image").join(name);
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    ImageRecipe::resolve(Some(&path), &changes).unwrap()
}

#[test]
fn every_recipe_resolves() {
    let mut count = 0;
    for entry in std::fs::read_dir(repository("configs/image")).unwrap() {
        let path = entry.unwrap().path();
        ImageRecipe::resolve(Some(&path), &[]).unwrap();
        count += 1;
    }
    assert_eq!(count, 7);
    for entry in std::fs::read_dir(repository("configs/tts")).unwrap() {
        SpeechRecipe::resolve(Some(&entry.unwrap().path()), &[]).unwrap();
        count += 1;
    }
    assert_eq!(count, 13);
    for entry in std::fs::read_dir(repository("configs/mllm")).unwrap() {
        MllmRecipe::resolve(Some(&entry.unwrap().path()), &[]).unwrap();
        count += 1;
    }
    assert_eq!(count, 16);
    for entry in std::fs::read_dir(repository("configs/video")).unwrap() {
        VideoRecipe::resolve(Some(&entry.unwrap().path()), &[]).unwrap();
        count += 1;
    }
    assert_eq!(count, 18);
}

#[test]
fn the_default_is_the_shipped_recipe() {
    assert_eq!(recipe("mnist.toml"), ImageRecipe::default());
    assert_eq!(speech_recipe("voice.toml", &[]), SpeechRecipe::default());
    let mllm = repository("configs/mllm/twemoji.toml");
    let mllm = MllmRecipe::resolve(Some(&mllm), &[]).unwrap();
    assert_eq!(mllm, MllmRecipe::default());
    let video = repository("configs/video/digits.toml");
    let video = VideoRecipe::resolve(Some(&video), &[]).unwrap();
    assert_eq!(video, VideoRecipe::default());
}

/// The recipe of a run that was made before `lm.recompute` and `data.outside` were keys.
#[test]
fn keys_that_an_earlier_run_lacks_have_defaults() {
    let path = repository("tests/earlier-runs/image/config.toml");
    let recipe = ImageRecipe::resolve(Some(&path), &[]).unwrap();
    assert_eq!(
        (recipe.lm.sizes.width, recipe.lm.sizes.recompute),
        (16, false)
    );
    assert!(!recipe.data.options.outside);
}

/// What `data espeak` and `data voices` make fits the recipes for it: no words to compose, word times only of the
/// second, and the longest sentence in a pack.
#[test]
fn recipes_of_synthetic_speech_read_what_is_made() {
    for (name, folder, sample_rate_hz, frame_rate_hz, aligned) in [
        ("multi-speaker.toml", "speech-espeak", 16_000, 50.0, false),
        ("english.toml", "speech-english/seen", 24_000, 25.0, true),
    ] {
        let recipe = speech_recipe(name, &[]);
        let data = &recipe.data;
        assert_eq!((data.path.as_str(), data.composed), (folder, 0));
        assert_eq!(recipe.text.aligned, aligned);
        assert_eq!(recipe.codec.sample_rate_hz, sample_rate_hz);
        assert_eq!(recipe.frame_rate_hz(), frame_rate_hz);
        let longest = data.max_seconds * frame_rate_hz;
        // A whole prompt before it fits too.
        assert!(recipe.text.whole_prompts > 0.0);
        assert!(2.0 * longest < data.pack_positions as f64);
        assert_eq!(recipe.text.prompts_without_words, 1.0);
    }
}

/// Voices are measured behind whole recordings, behind such that are cut, and behind the beginnings of recordings: all models
/// learn that, and alike. Two sentences of `data voices`, of at most 15 words, fit into a pack.
#[test]
fn speech_is_compared_behind_prompts_as_it_is_trained() {
    let recipe = CompareTtsRecipe::default();
    let mut models: Vec<SpeechRecipe> = recipe
        .frames_per_latent
        .iter()
        .map(|n| recipe.latentlm(*n))
        .collect();
    models.push(recipe.codes());
    for own in models {
        let text = &own.text;
        let shares = [text.cut_prompts, text.whole_prompts, text.continuations];
        assert!(shares.iter().all(|share| *share > 0.0), "{shares:?}");
        assert!(shares.iter().sum::<f64>() < 0.5, "{shares:?}");
        assert_eq!(text, &recipe.speech.text);
        assert_eq!(text.prompts_without_words, 1.0);
        let frames = (6.0 * own.frame_rate_hz()) as usize;
        let both = Document::of_speech(vec![0; 100], 2 * frames, Vec::new());
        assert!(own.length_in_pack(&both) <= own.data.pack_positions);
    }
}

/// The numbers of `docs/follow-a*.md` are the default recipes', those of a dialogue are VibeVoice-1.5B's.
#[test]
fn the_documents_say_the_default_numbers() {
    let says = |document: &str, numbers: &[(char, usize)]| {
        let text = std::fs::read_to_string(repository(document)).unwrap();
        for (letter, number) in numbers {
            let row = text
                .lines()
                .find(|l| l.starts_with(&format!("| `{letter}` |")));
            let row = row.unwrap_or_else(|| panic!("{document} has no `{letter}`"));
            assert!(
                row.ends_with(&format!("| {number} |")),
                "{document}: {row}, not {number}"
            );
        }
    };
    let speech = SpeechRecipe::default();
    says(
        "docs/follow-an-utterance.md",
        &[
            ('R', speech.codec.sample_rate_hz as usize),
            ('H', speech.codec.hop_samples()),
            ('Z', speech.codec.latent_dim),
            ('C', speech.codec.widths[0]),
            ('V', speech.text.tokenizer.vocabulary),
            ('D', speech.lm.sizes.width),
            ('K', speech.lm.batch_mul),
            ('P', speech.data.pack_positions),
            ('S', speech.sample.steps),
        ],
    );
    let image = ImageRecipe::default();
    says(
        "docs/follow-an-image.md",
        &[
            ('B', image.lm_train.batch_size),
            ('C', image.codec.channels),
            ('W', image.codec.image_size),
            ('Q', image.codec.vit.patch_size),
            ('T', image.codec.tokens()),
            ('Z', image.codec.latent_dim),
            ('D', image.lm.sizes.width),
            ('K', image.lm.batch_mul),
            ('S', image.sample.steps),
        ],
    );
    let video = VideoRecipe::default();
    says(
        "docs/follow-a-clip.md",
        &[
            ('F', video.data.frames),
            ('N', video.codec.frames_per_group),
            ('C', video.codec.channels),
            ('W', video.codec.image_size),
            ('Q', video.codec.patch_size),
            ('L', video.codec.first_latents()),
            ('M', video.codec.group_latents()),
            ('T', video.tokens()),
            ('Z', video.codec.latent_dim),
            ('D', video.lm.sizes.width),
            ('K', video.lm.batch_mul),
            ('P', video.mix.pack_positions),
            ('S', video.sample.steps),
        ],
    );
    let dialogue = RandomSizes::speech_1_5b();
    says(
        "docs/follow-a-dialogue.md",
        &[
            ('H', dialogue.ratios.iter().product::<usize>()),
            ('Z', dialogue.acoustic_dim),
            ('Y', dialogue.semantic_dim),
            ('D', dialogue.width),
            ('V', dialogue.vocabulary),
            ('C', dialogue.context),
            ('S', SpeakOptions::default().sample.steps),
        ],
    );
}

#[test]
fn the_default_comparisons_are_the_shipped_files() {
    let folder = repository("configs/compare");
    let compare = CompareRecipe::resolve(Some(&folder), &[]).unwrap();
    assert_eq!(compare, CompareRecipe::default());
    let sigma = SigmaRecipe::resolve(Some(&folder.join("sigma.toml")), &[]).unwrap();
    assert_eq!(sigma, SigmaRecipe::default());
    let heads = HeadsRecipe::resolve(Some(&folder.join("heads.toml")), &[]).unwrap();
    assert_eq!(heads, HeadsRecipe::default());
    let latents = LatentsRecipe::resolve(Some(&folder.join("latents.toml")), &[]).unwrap();
    assert_eq!(latents, LatentsRecipe::default());
    let mllm = CompareMllmRecipe::resolve(Some(&folder.join("mllm.toml")), &[]).unwrap();
    assert_eq!(mllm, CompareMllmRecipe::default());
    let tts = CompareTtsRecipe::resolve(Some(&folder.join("tts.toml")), &[]).unwrap();
    assert_eq!(tts, CompareTtsRecipe::default());
    let fast = FastTtsRecipe::resolve(Some(&folder.join("fast_tts.toml")), &[]).unwrap();
    assert_eq!(fast, FastTtsRecipe::default());
    assert_eq!(fast.speech, SpeechRecipe::default());
    let fast = FastMllmRecipe::resolve(Some(&folder.join("fast_mllm.toml")), &[]).unwrap();
    assert_eq!(fast, FastMllmRecipe::default());
    assert_eq!(fast.mllm, MllmRecipe::default());
    let change = ["dit.depth=5".to_owned(), "image.seed=3".to_owned()];
    let changed = CompareRecipe::resolve(Some(&folder), &change).unwrap();
    assert_eq!((changed.dit.sizes.depth, changed.seed()), (5, 3));
    let message = CompareRecipe::resolve(None, &["vq.codes=1".into()]).unwrap_err();
    assert!(message.to_string().contains("codes"), "{message}");
}

/// Checks of several keys are those of the model, which has a table in the recipe.
#[test]
fn comparisons_name_keys_as_they_are_written() {
    fn refuses<R: Recipe>(table: &str) {
        let change = format!("{table}.sample.steps=1000");
        let message = R::resolve(None, &[change]).unwrap_err().to_string();
        let keys = [".sample.steps", ".lm.num_train_timesteps"];
        for key in keys.map(|key| format!("{table}{key}")) {
            assert!(message.contains(&key), "{}: {message}", R::COMMAND);
        }
    }
    refuses::<CompareRecipe>("image");
    refuses::<CompareMllmRecipe>("mllm");
    refuses::<CompareTtsRecipe>("speech");
    refuses::<SigmaRecipe>("image");
    refuses::<HeadsRecipe>("image");
    refuses::<LatentsRecipe>("image");
    refuses::<FastTtsRecipe>("speech");
    refuses::<FastMllmRecipe>("mllm");
}

#[test]
fn rivals_have_as_many_parameters() {
    let (recipe, device, classes) = (CompareRecipe::default(), Device::default(), 10);
    let own = recipe.image.model(classes).init(&device).num_params();
    let [dit, transfusion] =
        [&recipe.dit, &recipe.transfusion].map(|rival| rival.config(&recipe.image, classes));
    let rivals = [
        dit.init::<DitNetwork>(&device).num_params(),
        transfusion.init::<TransfusionNetwork>(&device).num_params(),
        recipe.vq_lm(classes).init(&device).num_params(),
    ];
    assert_eq!(own, 1_310_338);
    assert_eq!(rivals, [1_332_738, 1_259_010, 1_271_168]);
    for rival in rivals {
        let share = rival as f64 / own as f64 - 1.0;
        assert!(share.abs() < recipe.evaluate.parameter_tolerance);
    }
}

#[test]
fn impossible_recipes_of_text_and_pictures_are_refused_in_one_line() {
    for (change, part) in [
        (
            "text.caption_weight=0.0",
            "`text.caption_weight` must be a number from 1e-6 to 1000000, not 0.0",
        ),
        ("text.caption_weight=-1.0", "`text.caption_weight` must be"),
        ("text.loss_weight=-1.0", "`text.loss_weight` must be"),
        ("text.vocabulary=0", "`text.vocabulary` must be"),
        ("sample.top_p=0", "`sample.top_p` must be"),
        ("lm_train.batch_size=2", "mix.pack_positions"),
    ] {
        let message = MllmRecipe::resolve(None, &[change.into()])
            .unwrap_err()
            .to_string();
        assert!(message.contains(part), "{change}: {message}");
        assert!(!message.contains('\n'), "{change}: {message}");
    }
}

#[test]
fn every_key_is_declared() {
    fn declared<R: Recipe>() {
        let preset = R::default();
        let table = latentlm_keys::Table::try_from(&preset).unwrap();
        assert_eq!(R::keys().default_table(), table, "{}", R::COMMAND);
        preset.validate().unwrap();
    }
    declared::<ImageRecipe>();
    declared::<SpeechRecipe>();
    declared::<MllmRecipe>();
    declared::<VideoRecipe>();
    declared::<CompareRecipe>();
    declared::<CompareMllmRecipe>();
    declared::<SigmaRecipe>();
    declared::<HeadsRecipe>();
    declared::<LatentsRecipe>();
    declared::<FastTtsRecipe>();
    declared::<FastMllmRecipe>();
}

#[test]
fn impossible_recipes_are_refused_in_one_line() {
    for (change, part) in [
        ("lm.widht=3", "did you mean `lm.width`?"),
        ("lm.width=130", "not a multiple of heads"),
        ("codec.vit.patch_size=5", "not a multiple"),
        (
            "lm_train.steps=0",
            "`lm_train.steps` must be a whole number from 1 to 100000000, not 0",
        ),
        (
            "codec_train.learning_rate=-1.0",
            "`codec_train.learning_rate` must be a number from 1e-9 to 1000, not -1.0",
        ),
        (
            "lm_train.learning_rate=1e-300",
            "`lm_train.learning_rate` must be a number from 1e-9 to 1000, not 1e-300",
        ),
        (
            "lm_train.clip_norm=1e-300",
            "`lm_train.clip_norm` must be 0 or a number from 1e-6 to 1000000, not 1e-300",
        ),
        (
            "lm_train.ema_decay=0.9999999999999999",
            "`lm_train.ema_decay` must be a number from 0 to 0.999999, not 0.9999999999999999",
        ),
        (
            "lm.condition_dropout=1.0",
            "`lm.condition_dropout` must be a number from 0 to below 1, not 1.0",
        ),
        (
            "codec_train.clip_norm=inf",
            "`codec_train.clip_norm` must be 0 or a number from 1e-6 to 1000000, not inf",
        ),
        ("sample.steps=1000", "sample.steps must be"),
        (
            "lm.prediction=Sample",
            "`lm.prediction` must be one of \"Velocity\", \"Epsilon\", not \"Sample\"",
        ),
        ("lm.batch_mul=0", "`lm.batch_mul` must be"),
        (
            "codec.channels=2",
            "`codec.channels` must be one of 1, 3, not 2",
        ),
        ("data.max_broken=1.5", "`data.max_broken` must be"),
        (
            "data.path=",
            "`data.path` must be the path of a file or folder",
        ),
    ] {
        let message = ImageRecipe::resolve(None, &[change.into()])
            .unwrap_err()
            .to_string();
        assert!(message.contains(part), "{change}: {message}");
        assert!(!message.contains('\n'), "{change}: {message}");
    }
}
