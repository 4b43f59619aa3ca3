//! LatentLM at several rates of latents against codec language models, on the same speech (paper §3.3).

use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use latentlm::SampleOptions;
use latentlm::codec_audio::Codec;
use latentlm_eval::{
    EvaluateSpeechOptions, Speaker, SpeechEvaluation, bar_chart, evaluate_speaker, evaluate_speech,
    stack, unshown,
};
use latentlm_pipelines::{PipelineError, Recipe, RunFolder, SpeakingTimes, Speech, SpeechData};
use latentlm_train::{
    Result, RunEnd, RunOptions, TrainError, check_memory, encode_speech, open_run, train_speech,
};
use serde::{Deserialize, Serialize};

use super::result::{Column, end, table, write_result};
use super::tts_counts::SpeechCounts;
use super::tts_recipe::CompareTtsRecipe;
use super::tts_rival::train_code_lm;
use super::tts_speaker::{CodeSpeaker, CodeVoice};

/// Folder of the run of the codec with codebooks.
const CODEC: &str = "rival-codec";

/// All models, LatentLM first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TtsComparison {
    /// The models.
    pub models: Vec<SpeechModelResult>,
}

/// One model and its measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpeechModelResult {
    /// Name of its run within the comparison's folder.
    pub name: String,
    /// Numbers that are trained, without the codec.
    pub parameters: usize,
    /// What a second of its speech costs.
    pub counts: SpeechCounts,
    /// Its measurements, by name.
    pub evaluation: SpeechEvaluation,
}

/// A model of the list, and its run.
struct Entry {
    name: String,
    parameters: usize,
    counts: SpeechCounts,
}

/// The models of a recipe for a vocabulary of that many tokens of text: LatentLM at each rate, then the rivals.
///
/// # Errors
/// If the number of parameters of one differs from the first LatentLM's by more than the recipe allows.
fn entries(recipe: &CompareTtsRecipe, vocabulary: usize, device: &Device) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for frames in &recipe.frames_per_latent {
        let own = recipe.latentlm(*frames);
        entries.push(Entry {
            name: format!("latentlm-{}", own.frame_rate_hz()),
            parameters: own.model(vocabulary).init(device).num_params(),
            counts: SpeechCounts::of_latentlm(recipe, *frames, vocabulary, device),
        });
    }
    for group in &recipe.groups {
        let own = recipe.of_group(*group);
        entries.push(Entry {
            name: format!("rival-{group}"),
            parameters: own.code_lm(vocabulary).init(device).num_params(),
            counts: SpeechCounts::of_codes(&own, device),
        });
    }
    let first = entries[0].parameters;
    for own in &entries {
        let difference = own.parameters as f64 / first as f64 - 1.0;
        if difference.abs() > recipe.evaluate.parameter_tolerance {
            return Err(TrainError::config(format!(
                "{} has {} parameters, {:+.1} % of the first LatentLM's {first}: change its sizes, \
                 or evaluate.parameter_tolerance",
                own.name,
                own.parameters,
                difference * 100.0
            )));
        }
    }
    Ok(entries)
}

/// Trains LatentLM at each rate and the rivals, or continues, each a run within the run's folder, and writes
/// `compare.json`, `compare.md` and `compare.svg`.
///
/// # Errors
/// If the folder, recipe or data are wrong, a model has too many or too few parameters, a loss is not finite, or a
/// file can't be written.
pub fn compare_tts(recipe: CompareTtsRecipe, options: RunOptions) -> Result<RunEnd> {
    let started = Instant::now();
    let options = options.within("speech.");
    // Before the folder is made: a run that can't begin leaves nothing behind.
    check_memory(&recipe.speech, 1, &options)?;
    let data = SpeechData::open(&recipe.codes())?;
    let vocabulary = data.tokenizer(&recipe.speech)?.vocabulary();
    let entries = entries(&recipe, vocabulary, &options.device)?;
    let folder = open_run(&recipe, &options)?;
    let mut measured = Vec::with_capacity(entries.len());
    for (frames, own) in recipe.frames_per_latent.iter().zip(&entries) {
        let part = options.part(&own.name);
        let path = part.path.clone();
        let speech = recipe.latentlm(*frames);
        let evaluate = evaluation(&recipe, speech.sample_options());
        if train_speech(speech, part)? == RunEnd::Stopped {
            return Ok(RunEnd::Stopped);
        }
        measured.push(evaluate_speech(&path, &evaluate, &options.device)?);
    }
    let Some(samples) = encode_speech(recipe.codes(), options.part(CODEC))? else {
        return Ok(RunEnd::Stopped);
    };
    let rivals = &entries[recipe.frames_per_latent.len()..];
    for (group, own) in recipe.groups.iter().zip(rivals) {
        let part = options.part(&own.name);
        let path = part.path.clone();
        if !train_code_lm(recipe.of_group(*group), &samples, part)? {
            return Ok(RunEnd::Stopped);
        }
        let evaluate = evaluation(&recipe, SampleOptions::default());
        measured.push(evaluate_code_speech(&path, &evaluate, &options.device)?);
    }
    let models = entries.into_iter().zip(measured);
    let models = models.map(|(own, evaluation)| SpeechModelResult {
        name: own.name,
        parameters: own.parameters,
        counts: own.counts,
        evaluation,
    });
    let comparison = TtsComparison {
        models: models.collect(),
    };
    let (table, figure) = (comparison.table(), comparison.figure());
    write_result(&folder.run, "compare", &comparison, table, figure)?;
    Ok(end(&folder.run, "compare", started))
}

fn evaluation(recipe: &CompareTtsRecipe, sample: SampleOptions) -> EvaluateSpeechOptions {
    EvaluateSpeechOptions {
        samples: recipe.evaluate.samples,
        seed: recipe.seed(),
        sample,
        recognizer: None,
        open_recognizer: None,
        speaker_judge: None,
        pesq_judge: None,
        phase: unshown,
    }
}

/// Measures the run of a rival as [`evaluate_speech`] does those of LatentLM. Solver and guidance of `options` are
/// not read: codes are drawn as the recipe says.
///
/// # Errors
/// If the run has no finished checkpoint, its data can't be read, a listener fails, or a file can't be written.
pub fn evaluate_code_speech(
    path: &Path,
    options: &EvaluateSpeechOptions,
    device: &Device,
) -> Result<SpeechEvaluation, latentlm_eval::EvalError> {
    let (run, recipe) = RunFolder::<CompareTtsRecipe>::open(path)?;
    let data = SpeechData::open(&recipe.codes())?;
    let speaker = CodeSpeaker::from_run(path, device)?;
    evaluate_speaker(&run, &data, &speaker, options, device)
}

impl Speaker for CodeSpeaker {
    type Voice = CodeVoice;

    fn codec(&self) -> &Codec {
        &self.codec
    }

    fn sample_rate_hz(&self) -> u32 {
        CodeSpeaker::sample_rate_hz(self)
    }

    fn frame_rate_hz(&self) -> f64 {
        self.recipe.frame_rate_hz()
    }

    fn voice(&self, text: &str, samples: Vec<f32>) -> Result<CodeVoice, PipelineError> {
        CodeSpeaker::voice(self, text, samples)
    }

    fn accepts(
        &self,
        texts: &[String],
        voice: Option<&CodeVoice>,
        _: &SampleOptions,
    ) -> Result<(), PipelineError> {
        CodeSpeaker::accepts(self, texts, voice)
    }

    fn say(
        &self,
        texts: &[String],
        voice: Option<&CodeVoice>,
        _: &SampleOptions,
        seed: u64,
    ) -> Result<Vec<Speech>, PipelineError> {
        CodeSpeaker::say(self, texts, voice, seed)
    }

    fn time(
        &self,
        text: &str,
        _: &SampleOptions,
        seed: u64,
    ) -> Result<SpeakingTimes, PipelineError> {
        self.stream(text, None, seed, |_| Ok::<(), PipelineError>(()))
    }
}

impl SpeechModelResult {
    fn measure(&self, name: &str) -> Option<f64> {
        self.evaluation.get(name).copied()
    }

    /// Utterances of all kinds that did not end by themselves.
    fn without_end(&self) -> f64 {
        let measures = self.evaluation.iter();
        let ends = measures.filter(|(name, _)| name.ends_with("_without_end"));
        ends.map(|(_, count)| count).sum()
    }
}

impl TtsComparison {
    /// Columns of counts and measurements.
    fn columns() -> [Column<SpeechModelResult>; 9] {
        let column = Column::<SpeechModelResult>::new;
        [
            column("backbone steps a second", 1, |own| {
                Some(own.counts.backbone_steps)
            }),
            column("head evaluations a second", 1, |own| {
                Some(own.counts.head_evaluations)
            }),
            column("passes an utterance", 0, |own| Some(own.counts.passes)),
            column("million multiply-adds a second", 0, |own| {
                Some(own.counts.multiply_adds / 1e6)
            }),
            column("real-time factor", 3, |own| own.measure("real_time_factor")),
            column("first sound, ms", 0, |own| own.measure("first_audio_ms")),
            column("STOI of the codec", 3, |own| own.measure("codec_stoi")),
            column("mel distance of the codec, dB", 2, |own| {
                own.measure("codec_mel_distance_db")
            }),
            column("without end", 0, |own| Some(own.without_end())),
        ]
    }

    /// A row for each model, and how many times fewer steps each LatentLM takes than each rival.
    fn table(&self) -> String {
        let rows = self.models.iter().map(|own| {
            let labels = vec![own.name.clone(), own.parameters.to_string()];
            (labels, own)
        });
        let mut text = table(&["model", "parameters"], &Self::columns(), rows);
        let (rivals, latentlm): (Vec<_>, Vec<_>) = self
            .models
            .iter()
            .partition(|own| own.counts.head_evaluations == 0.0);
        for own in latentlm {
            for rival in &rivals {
                let steps = rival.counts.backbone_steps / own.counts.backbone_steps;
                let evaluations = rival.counts.backbone_steps / own.counts.head_evaluations;
                let work = rival.counts.multiply_adds / own.counts.multiply_adds;
                text += &format!(
                    "\n{}: {steps:.1} times fewer backbone steps than {}; head evaluations against its steps \
                     {evaluations:.2}, multiply-adds {work:.2}.\n",
                    own.name, rival.name
                );
            }
        }
        text
    }

    fn figure(&self) -> String {
        let mut charts = Vec::new();
        for column in Self::columns() {
            let bars = self.models.iter();
            let bars = bars.filter_map(|own| Some((own.name.clone(), (column.value)(own)?)));
            let bars: Vec<(String, f64)> = bars.collect();
            if !bars.is_empty() {
                charts.push((column.name, bar_chart(column.name, &bars)));
            }
        }
        stack(&charts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(name: &str, steps: f64, evaluations: f64) -> SpeechModelResult {
        let measures = [
            ("real_time_factor", 0.25),
            ("digits_without_end", 2.0),
            ("words_without_end", 1.0),
        ];
        SpeechModelResult {
            name: name.into(),
            parameters: 1000,
            counts: SpeechCounts {
                backbone_steps: steps,
                head_evaluations: evaluations,
                passes: 0.0,
                multiply_adds: 2e6 * steps,
            },
            evaluation: measures.map(|(name, x)| (name.to_owned(), x)).into(),
        }
    }

    #[test]
    fn the_table_counts_and_compares() {
        let comparison = TtsComparison {
            models: vec![
                result("latentlm-7.5", 7.5, 75.0),
                result("rival-1", 75.0, 0.0),
            ],
        };
        let table = comparison.table();
        let row = "| latentlm-7.5 | 1000 | 7.5 | 75.0 | 0 | 15 | 0.250 |  |  |  | 3 |";
        assert!(table.contains(row), "{table}");
        let told = "latentlm-7.5: 10.0 times fewer backbone steps than rival-1; head evaluations against its \
                    steps 1.00, multiply-adds 10.00.";
        assert!(table.contains(told), "{table}");
        let figure = comparison.figure();
        assert!(figure.contains("rival-1") && !figure.contains("NaN"));
        let json = serde_json::to_string(&comparison).unwrap();
        let read: TtsComparison = serde_json::from_str(&json).unwrap();
        assert_eq!(read, comparison);
    }

    /// Models of the default recipe are alike in size, for vocabularies of different sizes.
    #[test]
    fn default_models_have_as_many_parameters() {
        let (recipe, device) = (CompareTtsRecipe::default(), Device::default());
        for vocabulary in [100, 300, 512] {
            let entries = entries(&recipe, vocabulary, &device).unwrap();
            let names: Vec<&str> = entries.iter().map(|own| &own.name[..]).collect();
            assert_eq!(names, ["latentlm-25", "latentlm-7.5", "rival-1"]);
        }
        let mut small = recipe;
        small.rival.depth = 1;
        let message = entries(&small, 300, &device).err().unwrap().to_string();
        assert!(message.contains("rival-1 has"), "{message}");
    }
}
