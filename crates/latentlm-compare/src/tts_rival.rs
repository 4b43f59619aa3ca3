//! The stage of a codec language model of speech: codes of the codec with codebooks, in packs of utterances.

use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::codec_audio::Codec;
use latentlm::core::DiffusionDraws;
use latentlm::sequence::{Document, Segment, UNTOLD};
use latentlm::{Batch, LatentCodec, Loss, RandomStream};
use latentlm_baselines::{CodeLm, SpokenCodes};
use latentlm_data::speech::write_wav;
use latentlm_eval::{EvalError, save_spectrograms};
use latentlm_pipelines::{
    KNOWN_TEXT, RunFolder, SpeechData, TOKENIZER, TextVocabulary, Vocabulary, host_values,
};
use latentlm_train::{
    Coding, Context, Corpus, LatentCache, Learner, LmSetup, LmTask, Result, RunOptions,
    SpokenSamples, TrainError, speech_order, train_lm,
};

use super::result::report_of_stages;
use super::rival::Codes;
use super::tts_recipe::CompareTtsRecipe;
use super::tts_speaker::CodeSpeaker;

/// Name of the stage in logs.
const STAGE: &str = "lm";
/// Latents whose codes are found at once.
const CHUNK: usize = 1 << 13;
/// The second network gets a random share of an utterance without a prompt as its voice: a multiple of `1 / SHARES`.
const SHARES: usize = 1000;

/// A run of a rival.
type Run = Context<CompareTtsRecipe, SpeechData>;

/// Codes of encoded utterances.
///
/// # Errors
/// If the codec has no codebooks.
fn codes(samples: &SpokenSamples, device: &Device) -> Result<Codes<Codec>> {
    let Some(quantizer) = samples.codec.quantizer() else {
        let reason = "the codec of the rival has no codebooks: rival.codebooks is 0";
        return Err(TrainError::config(reason));
    };
    let cache = &samples.cache;
    let mut codes = Vec::with_capacity(cache.parameters.len());
    for chunk in cache.parameters.chunks(CHUNK * cache.dim.max(1)) {
        let shape = [1, chunk.len() / cache.dim.max(1), cache.dim];
        let chunk = Tensor::<3>::from_data(TensorData::new(chunk.to_vec(), shape), device);
        codes.extend(host_values(quantizer.codes(chunk).float()));
    }
    Ok(Codes {
        codec: samples.codec.clone(),
        cache: LatentCache {
            dim: quantizer.codebooks(),
            lengths: cache.lengths.clone(),
            parameters: codes,
            ..LatentCache::default()
        },
    })
}

/// Texts and their speech. No text is dropped: codes are drawn without guidance.
struct Utterances(Vec<Document>);

impl Corpus for Utterances {
    fn document(&self, sample: usize, _dropped: bool) -> Document {
        self.0[sample].clone()
    }
}

impl Learner<CompareTtsRecipe> for CodeLm {
    /// A random number for each frame. The number of a document's first frame decides what the second network learns
    /// from the document.
    fn draws(
        &self,
        _recipe: &CompareTtsRecipe,
        learned: &[usize],
        random: &mut RandomStream,
        device: &Device,
    ) -> Vec<DiffusionDraws> {
        let (rows, books) = (learned[0].max(1), self.codebooks());
        let numbers = random.integers(rows, (books - 1) * SHARES, device);
        let noise = Tensor::zeros([rows, books], device);
        vec![DiffusionDraws::new(numbers, noise)]
    }

    /// The sum of both networks' losses, and the cross entropy of the tokens that codes say. The networks share no
    /// weights, so each is trained by its own loss.
    fn loss(&self, batch: Batch) -> Loss {
        let device = batch.latents[0].device();
        let loss = CodeLm::loss(self, &spoken(&batch, self.group()), &device);
        Loss {
            token: loss.said,
            diffusion: vec![loss.first + loss.others],
        }
    }
}

/// The utterances of a batch, for groups of `group` codes. The second network learns one codebook of each. Behind a prompt
/// whose words are not told, the prompt is its voice, as it is in speaking, without the first frames that make no whole
/// group. Of the others, half have no voice, and half up to half of their own frames.
fn spoken(batch: &Batch, group: usize) -> Vec<SpokenCodes> {
    let [_, books] = batch.latents[0].dims();
    let codes = host_values(batch.latents[0].clone());
    let numbers = batch.draws[0].timesteps.clone();
    let numbers = numbers.into_data().convert::<i64>();
    let numbers: Vec<i64> = numbers.try_into_vec().unwrap_or_default();
    let (mut first, mut all) = (0, Vec::with_capacity(batch.documents.len()));
    for document in &batch.documents {
        let frames = document.frames(0);
        let number = numbers[first] as usize;
        let share = (number / (books - 1)) as f64 / SHARES as f64;
        let (mut text, mut tokens_said) = (Vec::new(), Vec::new());
        for segment in &document.segments {
            match segment {
                Segment::Text { tokens, .. } => text.extend_from_slice(tokens),
                Segment::Latents { said, .. } => tokens_said.extend_from_slice(said),
                _ => {}
            }
        }
        let untold = tokens_said.iter().take_while(|own| **own == UNTOLD);
        let prompt = untold.count();
        let spare = prompt % group;
        let voice = match prompt {
            0 => ((share - 0.5).max(0.0) * frames as f64) as usize,
            prompt => prompt - spare,
        };
        let own = &codes[(first + spare) * books..(first + frames) * books];
        all.push(SpokenCodes {
            text,
            codes: own.iter().map(|code| *code as i64).collect(),
            said: tokens_said.split_off(spare),
            book: 1 + number % (books - 1),
            voice,
        });
        first += frames;
    }
    all
}

/// Training of a rival.
struct CodeTask {
    coding: Codes<Codec>,
    vocabulary: TextVocabulary,
}

impl LmTask for CodeTask {
    type Recipe = CompareTtsRecipe;
    type Data = SpeechData;
    type Model = CodeLm;

    fn init(&self, recipe: &CompareTtsRecipe, device: &Device) -> CodeLm {
        recipe.code_lm(self.vocabulary.size()).init(device)
    }

    fn coding(&self) -> &dyn Coding {
        &self.coding
    }

    /// Says held-out texts, with the same seed each time.
    fn show(&self, context: &mut Run, model: &CodeLm, step: u64) -> Result<()> {
        let speaker = CodeSpeaker {
            recipe: context.recipe.clone(),
            codec: self.coding.codec.clone(),
            model: model.clone(),
            vocabulary: self.vocabulary.clone(),
            device: context.device.clone(),
            notes: Vec::new(),
        };
        let can_be_said = |text: &str| speaker.accepts(&[text.to_owned()], None).is_ok();
        let texts = context.data.examples(can_be_said);
        let sounds = speaker.say(&texts, None, 0)?.into_iter();
        let sounds: Vec<Vec<f32>> = sounds.map(|sound| sound.samples).collect();
        let rate = speaker.sample_rate_hz();
        let pause = vec![0.0; rate as usize / 4];
        let file = |ending| context.sample_file(STAGE, step, ending);
        save_spectrograms(&sounds, &file("png"))?;
        Ok(write_wav(&file("wav"), &sounds.join(&pause[..]), rate)?)
    }
}

/// Writes the report of a rival's run.
///
/// # Errors
/// If the log can't be read or the report can't be written.
pub(crate) fn report(
    run: &RunFolder<CompareTtsRecipe>,
    recipe: &CompareTtsRecipe,
) -> Result<PathBuf, EvalError> {
    report_of_stages(run, recipe, &[STAGE])
}

/// Trains a rival on encoded utterances, or continues. Returns whether it is finished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be read or written.
pub(crate) fn train_code_lm(
    recipe: CompareTtsRecipe,
    samples: &SpokenSamples,
    options: RunOptions,
) -> Result<bool> {
    let opened = Context::open(recipe, options, |recipe| {
        Ok(SpeechData::open(&recipe.codes())?)
    });
    let mut context = match opened {
        Err(TrainError::Stopped) => return Ok(false),
        opened => opened?,
    };
    context.report = Some(report);
    train_lm::<CodeTask>(&mut context, |context, _| {
        let recipe = context.recipe.codes();
        let mut order = speech_order(&recipe, &samples.documents);
        let known = context.data.known();
        let setup = LmSetup {
            rows: |documents| documents.iter().map(|own| own.frames(0)).sum(),
            files: vec![
                (TOKENIZER, samples.tokenizer.to_json()?),
                (KNOWN_TEXT, known.to_json()?),
            ],
            ..LmSetup::new(Utterances(samples.documents.clone()), move |round| {
                order.pack(round)
            })
        };
        let task = CodeTask {
            coding: codes(samples, &context.device)?,
            vocabulary: TextVocabulary {
                tokenizer: samples.tokenizer.clone(),
                known: Some(known),
            },
        };
        Ok((task, setup))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm::codec_audio::{CodecConfig, QuantizerConfig};
    use latentlm::core::LatentCodecConfig;
    use latentlm_core::conformance::seeded;
    use latentlm_data::{TextTokenizer, TokenizerKind};

    fn samples(device: &Device) -> SpokenSamples {
        let config = CodecConfig::new()
            .with_ratios(vec![4])
            .with_depths(vec![1, 1])
            .with_width(4)
            .with_latent_dim(3)
            .with_quantizer(QuantizerConfig {
                codebooks: 2,
                entries: 5,
                ..QuantizerConfig::default()
            });
        let codec = seeded(1, device, |device| config.init(device));
        let parameters = RandomStream::new(2).normal::<1>([15], device);
        let texts = ["ab".to_owned()];
        SpokenSamples {
            codec,
            cache: LatentCache {
                dim: 3,
                lengths: vec![2, 3],
                labels: vec![0, 1],
                parameters: host_values(parameters),
                fingerprint: "f".into(),
            },
            documents: vec![
                Document::of_speech(vec![1], 2, Vec::new()),
                Document::of_speech(vec![0, 1], 3, vec![9, 0, 1]),
            ],
            tokenizer: TextTokenizer::train(TokenizerKind::Characters, &texts, 16).unwrap(),
        }
    }

    /// Codes of utterances in any order, and what a batch of them says to the model.
    #[test]
    fn a_batch_has_the_codes_of_its_utterances() {
        let device = Device::default();
        let samples = samples(&device);
        let coding = codes(&samples, &device).unwrap();
        let all = &coding.cache.parameters;
        assert_eq!((coding.length(0), coding.length(1)), (2, 3));
        let latents = coding.draw(&[1, 0], &mut RandomStream::new(1), &device);
        let drawn = host_values(latents[0].clone());
        assert_eq!(drawn, [&all[4..], &all[..4]].concat());
        let quantizer = samples.codec.quantizer().unwrap();
        let data = TensorData::new(samples.cache.parameters.clone(), [1, 5, 3]);
        let codes = quantizer.codes(Tensor::from_data(data, &device)).float();
        assert_eq!(*all, host_values(codes));

        // Two codebooks: the second network always learns the second. 900 and 999 of 1000.
        let documents = vec![samples.documents[1].clone(), samples.documents[0].clone()];
        let numbers = [900, 0, 0, 999, 0];
        let numbers = Tensor::from_ints(numbers, &device);
        let draws = DiffusionDraws::new(numbers, Tensor::zeros([5, 2], &device));
        let said = spoken(&Batch::new(documents, latents, vec![draws]), 1);
        let texts: Vec<&[u32]> = said.iter().map(|own| &own.text[..]).collect();
        assert_eq!(texts, [&[0u32, 1][..], &[1u32][..]]);
        // 0.4 of three frames is one, 0.499 of two is none.
        let voices: Vec<[usize; 2]> = said.iter().map(|own| [own.book, own.voice]).collect();
        assert_eq!(voices, [[1, 1], [1, 0]]);
        // Words with known times are told to the model, with silence where a word begins.
        assert_eq!(said[0].said, [9, 0, 1]);
        assert!(said[1].said.is_empty());
        let codes: Vec<i64> = drawn.iter().map(|code| *code as i64).collect();
        assert_eq!(said[0].codes, codes[..6]);
        assert_eq!(said[1].codes, codes[6..]);
    }

    /// Five frames of which the first three are a prompt whose words are not told, and four without a prompt: in groups of
    /// one, two and four the voice of the first is what speaking would read of it.
    #[test]
    fn a_prompt_is_the_voice_of_both_networks() {
        let device = Device::default();
        let more = 9;
        let documents = vec![
            Document::of_speech(vec![0, 1], 5, vec![UNTOLD, UNTOLD, UNTOLD, more, 1]),
            Document::of_speech(vec![1], 4, vec![more, 1, 1, more]),
        ];
        let all: Vec<i64> = (0..18).collect();
        let values: Vec<f32> = all.iter().map(|code| *code as f32).collect();
        let latents = Tensor::<2>::from_data(TensorData::new(values, [9, 2]), &device);
        // 999 of 1000: nearly half of the frames of one without a prompt.
        let numbers = Tensor::from_ints([999, 0, 0, 0, 0, 999, 0, 0, 0], &device);
        let draws = DiffusionDraws::new(numbers, Tensor::zeros([9, 2], &device));
        let batch = Batch::new(documents, vec![latents], vec![draws]);
        for (group, spare) in [(1, 0), (2, 1), (4, 3)] {
            let said = spoken(&batch, group);
            assert_eq!(said[0].voice, 3 - spare, "groups of {group}");
            assert_eq!(said[0].codes, all[2 * spare..10], "groups of {group}");
            let told = [UNTOLD, UNTOLD, UNTOLD, more, 1];
            assert_eq!(said[0].said, told[spare..], "groups of {group}");
            assert_eq!((said[0].text.len(), said[0].book), (2, 1));
            assert_eq!(said[1].voice, 1, "0.499 of four");
            assert_eq!(said[1].codes, all[10..]);
            assert_eq!(said[1].said, [more, 1, 1, more]);
        }
    }
}
