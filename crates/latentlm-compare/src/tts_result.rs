//! The result of the comparison on speech: measurements with their intervals, tables, a figure.

use std::collections::{BTreeMap, BTreeSet};

use latentlm_eval::{Series, SpeechEvaluation, bar_chart, line_chart, stack};
use serde::{Deserialize, Serialize};

use super::result::{Column, row, table};
use super::tts_counts::SpeechCounts;

/// Measurements that need a command that listens: their name in text, a part of their names, and the option of the
/// command.
const JUDGED: [(&str, &str, &str); 5] = [
    (
        "word errors",
        "_word_error_rate_",
        "--recognizer, --open-recognizer",
    ),
    (
        "words dropped, doubled and inserted in hard texts",
        "hard_words_",
        "--open-recognizer",
    ),
    ("similarity of voices", "_similarity", "--speaker-judge"),
    ("naturalness", "_naturalness_", "--naturalness-judge"),
    ("PESQ of the codec", "codec_pesq", "--pesq-judge"),
];
/// Parts of the names of measurements that are in the file only.
const LEFT_OUT: [&str; 2] = ["_character_error_rate_", "_understood_"];

/// Ends of the names of what was measured apart: in hard texts that are not longer than those of the training, and in longer ones.
pub(crate) const PARTS: [&str; 2] = ["_within", "_beyond"];

/// Beginning of the names of what a second recognizer hears.
const SECOND: &str = "second_";
/// End of the names of what recognizers hear in recordings.
const RECORDED_ERRORS: &str = "_word_error_rate_original";

/// What stands beside the models: the recordings whose texts they say.
const RECORDINGS: &str = "recordings";

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
    /// Optimizer steps of the language model.
    pub steps: u64,
    /// Minutes that they took, as far as calls ended; none if an older version trained it.
    pub minutes: Option<f64>,
    /// What a second of its speech costs.
    pub counts: SpeechCounts,
    /// Its measurements.
    pub evaluation: SpeechEvaluation,
}

impl SpeechModelResult {
    /// A measurement by its name; none if it was not made, or is a mean of nothing.
    pub(crate) fn measure(&self, name: &str) -> Option<f64> {
        let value = self.evaluation.values.get(name).copied();
        value.filter(|value| value.is_finite())
    }

    /// A measurement with its interval, if it has one; empty if it was not measured.
    fn with_interval(&self, name: &str) -> String {
        let Some(value) = self.measure(name) else {
            return String::new();
        };
        match self.evaluation.intervals.get(name) {
            Some([low, high]) => format!("{value:.3} ({low:.3} to {high:.3})"),
            None => format!("{value:.3}"),
        }
    }

    /// Perplexities of its codebooks, the first first; none without codebooks.
    pub(crate) fn perplexities(&self) -> Vec<f64> {
        let numbered = (1..).map(|book| self.measure(&format!("code_perplexity_{book}")));
        numbered.map_while(|value| value).collect()
    }

    /// Percentage of the utterances of all kinds that did not end by themselves.
    fn without_end(&self) -> Option<f64> {
        if let Some(cut) = self.measure("texts_cut") {
            return Some(100.0 * cut);
        }
        // Models that an older version measured lack it.
        let said = self.measure("texts_said").filter(|said| *said > 0.0)?;
        let measures = self.evaluation.values.iter();
        let ends = measures.filter(|(name, _)| name.ends_with("_without_end"));
        let ends: f64 = ends.map(|(_, count)| count).sum();
        Some(100.0 * ends / said)
    }
}

impl TtsComparison {
    /// Columns of counts and measurements.
    fn columns() -> [Column<SpeechModelResult>; 17] {
        let column = Column::<SpeechModelResult>::new;
        [
            column("minutes of training", 1, |own| own.minutes),
            column("latents or frames a second", 1, |own| {
                let latents = own.measure("latents_a_second");
                latents.or_else(|| own.measure("frames_a_second"))
            }),
            column("backbone steps a second", 1, |own| {
                Some(own.counts.backbone_steps)
            }),
            column("head evaluations a second", 1, |own| {
                Some(own.counts.head_evaluations)
            }),
            column("passes an utterance", 0, |own| Some(own.counts.passes)),
            column("passes a second", 2, |own| Some(own.counts.passes_a_second)),
            column("numbers a second", 0, |own| some(own.counts.numbers)),
            column("bits a second", 0, |own| some(own.counts.bits)),
            column("million multiply-adds a second", 0, |own| {
                Some(own.counts.multiply_adds / 1e6)
            }),
            column("real-time factor", 3, |own| own.measure("real_time_factor")),
            column("first sound, ms", 0, |own| own.measure("first_audio_ms")),
            column("STOI of the codec", 3, |own| own.measure("codec_stoi")),
            column("mel distance of the codec, dB", 2, |own| {
                own.measure("codec_mel_distance_db")
            }),
            column("least codebook perplexity", 1, |own| {
                own.perplexities().into_iter().reduce(f64::min)
            }),
            column("texts refused", 0, |own| own.measure("texts_refused")),
            column("texts said", 0, |own| own.measure("texts_said")),
            column("without end, %", 1, SpeechModelResult::without_end),
        ]
    }

    /// Names of the measurements that have an interval or come from a listener, as far as tables and charts show them.
    fn measured(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        for own in &self.models {
            let SpeechEvaluation {
                values, intervals, ..
            } = &own.evaluation;
            for name in values.keys() {
                let is_judged = JUDGED.iter().any(|(_, part, _)| name.contains(part));
                let is_left_out = LEFT_OUT.iter().any(|part| name.contains(part));
                if (is_judged || intervals.contains_key(name)) && !is_left_out {
                    names.insert(name.as_str());
                }
            }
        }
        names
    }

    /// The measurement of recordings that one of speech stands beside, and a model in whose evaluation it is; none if
    /// models were not measured on the same recordings.
    fn recorded(&self, name: &str) -> Option<(String, &SpeechModelResult)> {
        let name = name_of_recordings(name)?;
        let mut all = self
            .models
            .iter()
            .filter(|own| own.measure(&name).is_some());
        let first = all.next()?;
        let value = first.with_interval(&name);
        let is_same = all.all(|own| own.with_interval(&name) == value);
        is_same.then_some((name, first))
    }

    /// A row for each measurement with its interval, a column for each model and one for the recordings: about the best that
    /// a model can reach. Then the names of measurements that are missing.
    fn measurements(&self) -> String {
        let mut head = vec!["measurement (95 % interval)".to_owned()];
        head.extend(self.models.iter().map(|own| own.name.clone()));
        let mut measured = self.measured();
        let recorded = measured.iter().filter_map(|name| self.recorded(name));
        let recorded: BTreeSet<String> = recorded.map(|(name, _)| name).collect();
        if !recorded.is_empty() {
            head.push(RECORDINGS.into());
        }
        let mut text = String::new();
        if !measured.is_empty() {
            text += &format!("\n{}|{}\n", row(&head), "---|".repeat(head.len()));
        }
        // They have no row of their own.
        measured.retain(|name| !recorded.contains(*name));
        for name in &measured {
            let mut cells = vec![name.replace('_', " ")];
            cells.extend(self.models.iter().map(|own| own.with_interval(name)));
            if !recorded.is_empty() {
                let own = self.recorded(name);
                cells.push(own.map_or_else(String::new, |(name, own)| own.with_interval(&name)));
            }
            text += &row(&cells);
        }
        text += &self.hard_texts();
        text += &self.recognizers();
        let missing = JUDGED.iter().filter(|(_, part, _)| !has(&measured, part));
        let missing = missing.map(|(what, _, options)| format!("{what} ({options})"));
        let missing: Vec<String> = missing.collect();
        if !missing.is_empty() {
            text += &format!("\nNot measured: {}.\n", missing.join("; "));
        }
        text
    }

    /// How many of the hard texts are longer than those of the training; empty if it is not known.
    fn hard_texts(&self) -> String {
        let mut told: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for own in &self.models {
            let counts = ["hard_texts", "hard_texts_beyond", "longest_trained_text"];
            let [Some(all), Some(beyond), Some(longest)] = counts.map(|name| own.measure(name))
            else {
                continue;
            };
            let counted = format!(
                "{all}, of which {beyond} are longer than any text of the training ({longest} characters). Rows that end \
                 with `beyond` are of these, `within` of the others, and the rest of all."
            );
            told.entry(counted).or_default().push(&own.name);
        }
        let is_one = told.len() == 1;
        let lines = told.into_iter().map(|(counted, models)| {
            if is_one {
                return format!("\nHard texts: {counted}\n");
            }
            format!("\nHard texts of {}: {counted}\n", models.join(", "))
        });
        lines.collect()
    }

    /// How many recognizers listened, and where a second one counts; empty if nobody listened.
    fn recognizers(&self) -> String {
        let measured = self.measured();
        if !has(&measured, "_word_error_rate_") {
            return String::new();
        }
        let [mut counts, mut does_not] = [Vec::new(), Vec::new()];
        for name in measured {
            let kind = name.strip_prefix(SECOND);
            let Some(kind) = kind.and_then(|own| own.strip_suffix(RECORDED_ERRORS)) else {
                continue;
            };
            let rates = self.models.iter().filter_map(|own| own.measure(name));
            let worst = rates.fold(0.0, f64::max);
            let told = format!("{} ({:.1} %)", kind.replace('_', " "), 100.0 * worst);
            let of_model = format!("{SECOND}{kind}_word_error_rate_model");
            let is_heard = |own: &SpeechModelResult| own.evaluation.values.contains_key(&of_model);
            if self.models.iter().any(is_heard) {
                counts.push(told);
            } else {
                does_not.push(told);
            }
        }
        let listed = |kinds: Vec<String>| match &kinds[..] {
            [] => "nothing".to_owned(),
            kinds => kinds.join(", "),
        };
        if counts.is_empty() && does_not.is_empty() {
            return "\nWord errors are by the ear of one recognizer; no second one listened (--second-recognizer).\n"
                .to_owned();
        }
        format!(
            "\nA second recognizer counts where it hears less than 10 % of the words of real recordings wrong: {}; it \
             does not count for: {}. All else is by the ear of one recognizer.\n",
            listed(counts),
            listed(does_not)
        )
    }

    /// All tables in Markdown.
    pub(crate) fn tables(&self) -> String {
        self.table() + &self.measurements()
    }

    /// A row for each model, and how many times fewer steps each LatentLM takes than each rival.
    fn table(&self) -> String {
        let rows = self.models.iter().map(|own| {
            let [parameters, steps] = [own.parameters as u64, own.steps];
            let labels = vec![own.name.clone(), parameters.to_string(), steps.to_string()];
            (labels, own)
        });
        let mut text = table(
            &["model", "parameters", "training steps"],
            &Self::columns(),
            rows,
        );
        text += &self.codebooks();
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

    /// How many entries of each codebook are in use, a paragraph for each model that has some.
    fn codebooks(&self) -> String {
        let mut text = String::new();
        for own in &self.models {
            let (perplexities, entries) = (own.perplexities(), own.measure("code_entries"));
            if let (false, Some(entries)) = (perplexities.is_empty(), entries) {
                let half = perplexities.iter().filter(|own| 2.0 * **own >= entries);
                let (half, all) = (half.count(), perplexities.len());
                let listed = perplexities.iter().map(|own| format!("{own:.0}"));
                let listed = listed.collect::<Vec<String>>().join(", ");
                text += &format!(
                    "\n{}: perplexities of its codebooks {listed} of {entries:.0} entries; {half} of {all} are at \
                     least half.\n",
                    own.name
                );
            }
        }
        text
    }

    /// A chart for each column, and for what listeners found of the models, with the recordings beside them; this also over
    /// the steps a second.
    pub(crate) fn figure(&self) -> String {
        let mut charts = Vec::new();
        for column in Self::columns() {
            let bars = self.models.iter();
            let bars = bars.filter_map(|own| Some((own.name.clone(), (column.value)(own)?)));
            let bars: Vec<(String, f64)> = bars.collect();
            if !bars.is_empty() {
                charts.push((column.name.to_owned(), bar_chart(column.name, &bars)));
            }
        }
        let measured = self.measured();
        for &name in measured.iter().filter(|name| is_drawn(name)) {
            let words = name.replace('_', " ");
            let bars = self.models.iter();
            let bars = bars.filter_map(|own| Some((own.name.clone(), own.measure(name)?)));
            let mut bars: Vec<(String, f64)> = bars.collect();
            let recorded = self.recorded(name);
            let recorded = recorded.and_then(|(name, own)| own.measure(&name));
            bars.extend(recorded.map(|value| (RECORDINGS.to_owned(), value)));
            charts.push((words.clone(), bar_chart(&words, &bars)));
            charts.push((format!("{words}, by rate"), self.curves(name)));
        }
        let charts: Vec<(&str, String)> = charts
            .iter()
            .map(|(title, chart)| (title.as_str(), chart.clone()))
            .collect();
        stack(&charts)
    }

    /// A measurement over the steps a second, a curve for LatentLM at its rates and one for the rivals with their groups.
    fn curves(&self, name: &str) -> String {
        let series = [("LatentLM", false), ("codes", true)].map(|(series, codes)| {
            let models = self.models.iter();
            let models = models.filter(|own| (own.counts.head_evaluations == 0.0) == codes);
            let points =
                models.filter_map(|own| Some((own.counts.backbone_steps, own.measure(name)?)));
            let mut points: Vec<(f64, f64)> = points.collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Series {
                name: series,
                points,
            }
        });
        line_chart("backbone steps a second", &series, false)
    }
}

/// A number that is not 0.
fn some(number: f64) -> Option<f64> {
    Some(number).filter(|number| *number != 0.0)
}

/// Whether some measurements have a part in their names.
fn has(measured: &BTreeSet<&str>, part: &str) -> bool {
    measured.iter().any(|name| name.contains(part))
}

/// The name of what was measured of recordings, for a measurement of a model's speech or of a codec's copies; none if it is
/// of something else.
fn name_of_recordings(name: &str) -> Option<String> {
    if let Some(kind) = name.strip_suffix("_speaker_similarity") {
        return Some(format!("{kind}_similarity_of_same"));
    }
    let mut versions = ["_model", "_codec"].into_iter();
    let measure = versions.find_map(|version| name.strip_suffix(version))?;
    Some(format!("{measure}_original"))
}

/// Whether a listener's measurement has charts: if it is of a model's speech, and not of recordings, their reconstructions, or a
/// part of what another one is of.
fn is_drawn(name: &str) -> bool {
    let of_others = ["_original", "_codec", "_of_same", "_of_different"];
    let mut others = of_others.iter().chain(&PARTS);
    let is_own = !others.any(|ending| name.ends_with(ending));
    is_own && JUDGED.iter().any(|(_, part, _)| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(name: &str, steps: f64, evaluations: f64) -> SpeechModelResult {
        let measures = [
            ("texts_refused", 1.0),
            ("texts_said", 24.0),
            ("latents_a_second", 7.5),
            ("real_time_factor", 0.25),
            ("digits_without_end", 2.0),
            ("words_without_end", 1.0),
        ];
        SpeechModelResult {
            name: name.into(),
            parameters: 1000,
            steps: 20,
            minutes: Some(0.5),
            counts: SpeechCounts {
                backbone_steps: steps,
                head_evaluations: evaluations,
                passes: 0.0,
                passes_a_second: 0.0,
                numbers: 2400.0,
                bits: 0.0,
                multiply_adds: 2e6 * steps,
            },
            evaluation: SpeechEvaluation {
                values: measures.map(|(name, x)| (name.to_owned(), x)).into(),
                ..SpeechEvaluation::default()
            },
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
        let row = "| latentlm-7.5 | 1000 | 20 | 0.5 | 7.5 | 7.5 | 75.0 | 0 | 0.00 | 2400 |  | 15 | 0.250 |  |  |  |  | 1 | 24 | 12.5 |";
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

    /// The share of all texts has an interval of its own; what older versions measured has the same share without one.
    #[test]
    fn ends_are_counted_over_all_texts() {
        let older = result("latentlm-7.5", 7.5, 75.0);
        assert_eq!(older.without_end(), Some(12.5));
        let mut own = older;
        let evaluation = &mut own.evaluation;
        evaluation.values.insert("texts_cut".into(), 0.25);
        evaluation
            .intervals
            .insert("texts_cut".into(), [0.125, 0.375]);
        assert_eq!(own.without_end(), Some(25.0));
        let tables = TtsComparison { models: vec![own] }.tables();
        let row = "| texts cut | 0.250 (0.125 to 0.375) |\n";
        assert!(tables.contains(row), "{tables}");
    }

    /// The page that says what is printed.
    fn page() -> String {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compare/tts.md");
        std::fs::read_to_string(page).unwrap()
    }

    /// First cells of the rows of its table that begins with this one.
    fn explained(head: &str) -> Vec<String> {
        let page = page();
        let lines = page
            .lines()
            .skip_while(|line| !line.starts_with(&format!("| {head} |")));
        let rows = lines.skip(2).take_while(|line| line.starts_with("| "));
        let cells = rows.filter_map(|row| row[2..].split(" | ").next());
        cells.map(str::to_owned).collect()
    }

    #[test]
    fn every_column_is_explained() {
        let columns = TtsComparison::columns().map(|column| column.name);
        let labels = ["model", "parameters", "training steps"];
        assert_eq!(explained("column"), [&labels[..], &columns].concat());
    }

    /// Names of all shapes: a beginning, a measure, and of what it is.
    #[test]
    fn every_row_is_explained() {
        let beginnings = explained("beginning").join(", ");
        let beginnings: Vec<&str> = beginnings.split(", ").collect();
        let measures = explained("measure");
        for name in [
            "codec_mel_distance_db",
            "codec_pesq",
            "codec_si_sdr_db",
            "codec_stoi",
            "continued_similarity_of_same",
            "continued_speaker_similarity",
            "dates_doubled_behind_prompt",
            "digits_words_behind_prompt",
            "hard_without_end_beyond",
            "hard_word_error_rate_model_within",
            "hard_words_doubled",
            "hard_words_dropped_beyond",
            "hard_words_inserted",
            "held_out_voices_similarity_of_different",
            "letters_longest_ratio",
            "numbers_dropped_behind_prompt",
            "numbers_length_ratio",
            "numbers_word_error_rate_prompted",
            "recordings_naturalness_codec",
            "second_continued_word_error_rate_model",
            "seen_voices_naturalness_original",
            "trained_word_error_rate_codec",
            "words_without_end",
        ] {
            let words = name.replace('_', " ");
            let begins = beginnings.iter().any(|own| words.starts_with(own));
            let is_measure = measures.iter().any(|own| words.contains(own.as_str()));
            assert!(begins && is_measure, "{name}: {beginnings:?} {measures:?}");
        }
        for name in ["first audio ms", "real time factor", "texts cut"] {
            assert!(measures.iter().any(|own| own == name), "{name}");
        }
        let page = page();
        for end in ["original", "codec", "model", "prompted", "within", "beyond"] {
            assert!(page.contains(&format!("`{end}`")), "{end}");
        }
    }

    #[test]
    fn codebooks_are_listed_with_their_sizes() {
        let mut rival = result("rival-1", 75.0, 0.0);
        for (name, value) in [
            ("code_perplexity_1", 150.4),
            ("code_perplexity_2", 100.0),
            ("code_entries", 256.0),
        ] {
            rival.evaluation.values.insert(name.into(), value);
        }
        let models = vec![result("latentlm-7.5", 7.5, 75.0), rival];
        let table = TtsComparison { models }.table();
        let told = "\nrival-1: perplexities of its codebooks 150, 100 of 256 entries; 1 of 2 are at least half.\n";
        assert!(table.contains(told), "{table}");
        assert!(table.contains("|  | 100.0 | 1 | 24 |"), "{table}");
    }

    /// A model that was heard.
    fn heard(name: &str, steps: f64, evaluations: f64) -> SpeechModelResult {
        let mut heard = result(name, steps, evaluations);
        for (name, value, interval) in [
            ("seen_voices_speaker_similarity", 0.75, [0.7, 0.8]),
            ("seen_voices_similarity_of_same", 0.875, [0.85, 0.9]),
            ("seen_voices_understood_model", 0.5, [0.25, 0.75]),
            ("hard_words_dropped", 0.25, [0.125, 0.5]),
        ] {
            let evaluation = &mut heard.evaluation;
            evaluation.values.insert(name.into(), value);
            evaluation.intervals.insert(name.into(), interval);
        }
        heard
    }

    /// Every measurement of several utterances has its interval beside it, and that of the recordings; what nobody measured
    /// is named.
    #[test]
    fn measurements_have_their_intervals() {
        let comparison = TtsComparison {
            models: vec![
                heard("latentlm-7.5", 7.5, 75.0),
                result("rival-1", 75.0, 0.0),
            ],
        };
        let tables = comparison.tables();
        for part in [
            "\n| measurement (95 % interval) | latentlm-7.5 | rival-1 | recordings |\n|---|---|---|---|\n",
            "| seen voices speaker similarity | 0.750 (0.700 to 0.800) |  | 0.875 (0.850 to 0.900) |\n",
            "| hard words dropped | 0.250 (0.125 to 0.500) |  |  |\n",
            "\nNot measured: word errors (--recognizer, --open-recognizer); naturalness \
             (--naturalness-judge); PESQ of the codec (--pesq-judge).\n",
        ] {
            assert!(tables.contains(part), "{part}: {tables}");
        }
        assert!(!tables.contains("understood"), "{tables}");
        assert!(!tables.contains("| seen voices similarity of same"));
        let figure = comparison.figure();
        assert!(figure.contains("hard words dropped"), "{figure}");
        assert!(figure.contains("hard words dropped, by rate"), "{figure}");
        assert!(figure.contains("backbone steps a second"), "{figure}");
        assert!(!figure.contains("similarity of same"), "{figure}");
        assert!(figure.contains("recordings"), "{figure}");
    }

    /// One line if the models said the same texts, else one for each number.
    #[test]
    fn a_table_says_how_many_hard_texts_are_long() {
        let mut models = vec![
            heard("latentlm-7.5", 7.5, 75.0),
            heard("rival-1", 75.0, 0.0),
        ];
        let tables = |models: &[SpeechModelResult]| {
            let models = models.to_vec();
            TtsComparison { models }.tables()
        };
        assert!(!tables(&models).contains("Hard texts"), "an older version");
        for own in &mut models {
            let evaluation = &mut own.evaluation;
            for (name, value) in [
                ("hard_texts", 500.0),
                ("hard_texts_beyond", 167.0),
                ("longest_trained_text", 93.0),
                ("hard_words_dropped_beyond", 0.5),
                ("hard_without_end_beyond", 9.0),
            ] {
                evaluation.values.insert(name.into(), value);
                let interval = [0.5 * value, 2.0 * value];
                evaluation.intervals.insert(name.into(), interval);
            }
        }
        let table = tables(&models);
        for part in [
            "\nHard texts: 500, of which 167 are longer than any text of the training (93 characters). Rows that end with \
             `beyond` are of these, `within` of the others, and the rest of all.\n",
            "| hard words dropped | 0.250 (0.125 to 0.500) | 0.250 (0.125 to 0.500) |  |\n\
             | hard words dropped beyond | 0.500 (0.250 to 1.000) | 0.500 (0.250 to 1.000) |",
        ] {
            assert!(table.contains(part), "{part}: {table}");
        }
        assert_eq!(models[0].without_end(), Some(12.5), "counted once");
        let figure = TtsComparison {
            models: models.clone(),
        };
        assert!(!figure.figure().contains("dropped beyond"));
        let values = &mut models[1].evaluation.values;
        values.insert("hard_texts".into(), 498.0);
        let table = tables(&models);
        for part in [
            "\nHard texts of latentlm-7.5: 500, of which 167",
            "\nHard texts of rival-1: 498, of which 167",
        ] {
            assert!(table.contains(part), "{part}: {table}");
        }
    }

    /// Rows of the second recognizer stand beside its recordings; where it does not count, these have the only row.
    #[test]
    fn a_table_says_how_many_recognizers_listened() {
        let mut models = vec![
            heard("latentlm-7.5", 7.5, 75.0),
            heard("rival-1", 75.0, 0.0),
        ];
        let put = |models: &mut [SpeechModelResult], name: &str, value: f64| {
            for own in models {
                let evaluation = &mut own.evaluation;
                evaluation.values.insert(name.into(), value);
                evaluation.intervals.insert(name.into(), [value, value]);
            }
        };
        let tables = |models: &[SpeechModelResult]| {
            let models = models.to_vec();
            TtsComparison { models }.tables()
        };
        assert!(!tables(&models).contains("recognizer counts"));
        assert!(
            !tables(&models).contains("one recognizer"),
            "nobody listened"
        );
        put(&mut models, "continued_word_error_rate_model", 0.25);
        put(&mut models, "continued_word_error_rate_original", 0.0625);
        let told = "\nWord errors are by the ear of one recognizer; no second one listened (--second-recognizer).\n";
        assert!(tables(&models).contains(told), "{}", tables(&models));
        put(
            &mut models,
            "second_continued_word_error_rate_original",
            0.03125,
        );
        put(&mut models, "second_continued_word_error_rate_model", 0.5);
        put(
            &mut models,
            "second_held_out_voices_word_error_rate_original",
            0.125,
        );
        let tables = tables(&models);
        for part in [
            "\nA second recognizer counts where it hears less than 10 % of the words of real recordings wrong: \
             continued (3.1 %); it does not count for: held out voices (12.5 %). All else is by the ear of one recognizer.\n",
            "| second continued word error rate model | 0.500 (0.500 to 0.500) | 0.500 (0.500 to 0.500) | \
             0.031 (0.031 to 0.031) |\n",
            "| second held out voices word error rate original | 0.125 (0.125 to 0.125) | 0.125 (0.125 to 0.125) |",
        ] {
            assert!(tables.contains(part), "{part}: {tables}");
        }
        assert!(!tables.contains(told), "{tables}");
    }

    /// Recordings have a column only if they are the same for all models, else a row.
    #[test]
    fn recordings_stand_beside_what_is_said() {
        for (name, recorded) in [
            (
                "recordings_word_error_rate_model",
                Some("recordings_word_error_rate_original"),
            ),
            (
                "recordings_naturalness_codec",
                Some("recordings_naturalness_original"),
            ),
            (
                "continued_speaker_similarity",
                Some("continued_similarity_of_same"),
            ),
            ("recordings_naturalness_original", None),
            ("codec_pesq", None),
            ("hard_words_dropped", None),
        ] {
            assert_eq!(name_of_recordings(name).as_deref(), recorded, "{name}");
        }
        let mut models = vec![
            heard("latentlm-7.5", 7.5, 75.0),
            heard("rival-1", 75.0, 0.0),
        ];
        let comparison = TtsComparison {
            models: models.clone(),
        };
        let tables = comparison.tables();
        let row = "| seen voices speaker similarity | 0.750 (0.700 to 0.800) | 0.750 (0.700 to 0.800) | \
                   0.875 (0.850 to 0.900) |\n";
        assert!(tables.contains(row), "{tables}");
        let values = &mut models[1].evaluation.values;
        values.insert("seen_voices_similarity_of_same".into(), 0.86);
        let tables = TtsComparison { models }.tables();
        let row = "| seen voices similarity of same | 0.875 (0.850 to 0.900) | 0.860 (0.850 to 0.900) |\n";
        assert!(tables.contains(row), "{tables}");
        assert!(!tables.contains("| recordings |"), "{tables}");
    }

    #[test]
    fn a_comparison_without_listeners_says_so() {
        let comparison = TtsComparison {
            models: vec![result("rival-1", 75.0, 0.0)],
        };
        let tables = comparison.tables();
        assert!(!tables.contains("interval"), "{tables}");
        let missing = JUDGED.iter().map(|(what, _, _)| what);
        for what in missing {
            assert!(tables.contains(what), "{what}: {tables}");
        }
    }
}
