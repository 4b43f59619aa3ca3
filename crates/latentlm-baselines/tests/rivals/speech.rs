//! The codec language model of speech.

use burn::module::Module;
use burn::tensor::Device;
use latentlm_backbone::BackboneConfig;
use latentlm_baselines::{
    CodeLm, CodeLmConfig, CodeOptions, CodePrompt, DenoiserSizes, SpokenCodes,
};
use latentlm_core::conformance::{module, seeded};

use crate::{block, learn, moved};

const TEXT: usize = 4;
const BOOKS: usize = 3;
const ENTRIES: usize = 7;
const WIDTH: usize = 32;

fn config(group: usize) -> CodeLmConfig {
    let grouped = BackboneConfig::new(WIDTH, 2, 4)
        .with_kv_heads(2)
        .with_mlp_ratio(3.0)
        .with_condition_layer(false);
    let parallel = DenoiserSizes::new()
        .with_width(WIDTH)
        .with_depth(1)
        .with_heads(4)
        .with_mlp_ratio(3.0);
    CodeLmConfig::new(TEXT, BOOKS, ENTRIES, grouped, parallel).with_group(group)
}

fn model(group: usize, device: &Device) -> CodeLm {
    seeded(5, device, |device| config(group).init(device))
}

/// Three texts of other lengths, each with its own speech.
fn documents(book: usize) -> Vec<SpokenCodes> {
    [(vec![0], 5), (vec![1, 2], 4), (vec![3, 1, 0], 6)]
        .into_iter()
        .zip(1..)
        .map(|((text, frames), number)| SpokenCodes {
            text,
            codes: (0..frames * BOOKS as i64)
                .map(|place| (place * place * number + number) % ENTRIES as i64)
                .collect(),
            said: Vec::new(),
            book,
            voice: 0,
        })
        .collect()
}

#[test]
fn parameters_are_those_of_the_closed_form() {
    let device = Device::default();
    // Text and the beginning; codes and the end; text, the beginning and two numbers; codes of all codebooks.
    let tables = (TEXT + 1) + (ENTRIES + 1) + (TEXT + BOOKS) + BOOKS * ENTRIES;
    let blocks = 2 * block(WIDTH, 4, 2, 64) + block(WIDTH, 4, 4, 64);
    let one = tables * WIDTH + blocks;
    assert_eq!(model(1, &device).num_params(), one);
    let groups = 2 * 4 * WIDTH * WIDTH;
    assert_eq!(model(4, &device).num_params(), one + groups);
    // What is said: text and silence.
    let aligned = seeded(5, &device, |device| {
        config(1).with_aligned(true).init(device)
    });
    assert_eq!(aligned.num_params(), one + (TEXT + 1) * WIDTH);
}

#[test]
fn gradient_reaches_every_parameter() {
    let device = Device::default().autodiff();
    for (group, aligned) in [(1, false), (2, false), (2, true)] {
        let config = config(group).with_aligned(aligned);
        let model = moved(seeded(5, &device, |device| config.init(device)));
        let mut documents = documents(1);
        documents[1].book = 2;
        // A voice, so that the last codebook is read too.
        documents[2].voice = 2;
        for document in documents.iter_mut().filter(|_| aligned) {
            document.said = vec![1; document.codes.len() / BOOKS];
        }
        let loss = model.loss(&documents, &device);
        assert_eq!(loss.said.clone().into_scalar::<f32>() > 0.0, aligned);
        let gradients = (loss.first + loss.others + loss.said).backward();
        module::gradient_reaches_every_parameter(&model, &gradients);
    }
}

/// Speech that was learned by heart is said again, in groups of each size, and ends by itself.
#[test]
fn learned_speech_is_said() {
    let device = Device::default().autodiff();
    for group in [1, 2, 4] {
        // The voice is the first two or four frames of the third speech.
        let frames = group.max(2);
        let (before, after, model) = learn(model(group, &device), 200, 1e-2, |model| {
            let loss = |book, voice| {
                let mut documents = documents(book);
                documents[2].voice = voice;
                let loss = model.loss(&documents, &device);
                loss.first + loss.others
            };
            loss(1, 0) + loss(2, 0) + loss(1, frames) + loss(2, frames)
        });
        assert!(after < 0.1 * before, "{before} to {after}");
        let documents = documents(1);
        let prompts = documents.iter().map(|own| CodePrompt {
            text: own.text.clone(),
            voice: Vec::new(),
            seed: 1,
        });
        let prompts: Vec<CodePrompt> = prompts.collect();
        let options = CodeOptions {
            temperature: 0.0,
            ..CodeOptions::default()
        };
        let model = model.valid();
        let device = Device::default();
        let said = model.speak(&prompts, 20, &options, &device);
        for (own, said) in documents.iter().zip(said) {
            assert!(!said.was_cut, "groups of {group}");
            assert_eq!(said.codes, own.codes, "groups of {group}");
        }
        let continued = CodePrompt {
            text: documents[2].text.clone(),
            voice: documents[2].codes[..frames * BOOKS].to_vec(),
            seed: 1,
        };
        let said = model.speak(&[continued], 20, &options, &device).remove(0);
        assert_eq!(said.codes, documents[2].codes[frames * BOOKS..]);
    }
}

#[test]
fn speech_that_does_not_end_is_cut() {
    let device = Device::default();
    let model = model(2, &device);
    let prompt = CodePrompt {
        text: vec![1],
        voice: Vec::new(),
        seed: 3,
    };
    let prompts = vec![prompt; 8].into_iter().zip(0..);
    let prompts = prompts.map(|(prompt, seed)| CodePrompt { seed, ..prompt });
    let prompts: Vec<CodePrompt> = prompts.collect();
    let said = model.speak(&prompts, 3, &CodeOptions::default(), &device);
    for own in said {
        let frames = own.codes.len() / BOOKS;
        assert!(frames <= 3 && own.was_cut == (frames == 3), "{own:?}");
        assert!(
            own.codes
                .iter()
                .all(|code| (0..ENTRIES as i64).contains(code))
        );
    }
    let none = model.speak(&[], 3, &CodeOptions::default(), &device);
    assert!(none.is_empty());
}

#[test]
fn wrong_sizes_are_refused() {
    config(1).validate().unwrap();
    let message = config(0).validate().unwrap_err().to_string();
    assert!(message.contains("group must be positive"), "{message}");
    let mut one = config(1);
    one.codebooks = 1;
    assert!(one.validate().is_err());
}
