//! Which of the paper's claims about speech hold for the models of a comparison (paper §3.3), and whether the rivals are good
//! ones.

use std::collections::BTreeSet;

use super::result::row;
use super::tts_result::{PARTS, SpeechModelResult};

/// How many times fewer steps the paper claims.
const FEWER: f64 = 10.0;

/// A claim of the paper, and the measurements that it is about.
struct Claim {
    words: &'static str,
    /// Whether it is about the measurement of that name.
    is_about: fn(&str) -> bool,
    /// Whether larger is better.
    larger: bool,
}

/// Name of the measurements of hard texts. Their word errors are a matter of robustness.
const HARD: &str = "hard_";
/// What tells of robustness in hard texts.
const ROBUST: [&str; 5] = [
    "word_error_rate_model",
    "words_dropped",
    "words_doubled",
    "words_inserted",
    "without_end",
];

const CLAIMS: [Claim; 3] = [
    Claim {
        words: "more alike in voice",
        is_about: |name| name.ends_with("_speaker_similarity"),
        larger: true,
    },
    Claim {
        words: "fewer word errors",
        // Texts of the training tell of memory.
        is_about: |name| {
            let is_new = !name.starts_with(HARD) && !name.starts_with("trained_");
            is_new && name.ends_with("_word_error_rate_model")
        },
        larger: false,
    },
    Claim {
        words: "more robust",
        is_about: |name| {
            let Some(measure) = name.strip_prefix(HARD) else {
                return false;
            };
            let mut parts = PARTS.into_iter();
            let whole = parts.find_map(|part| measure.strip_suffix(part));
            ROBUST.contains(&whole.unwrap_or(measure))
        },
        larger: false,
    },
];

/// A count of a model.
type Count = fn(&SpeechModelResult) -> f64;

/// Counts that the paper's "ten times fewer" may mean.
const COUNTS: [(&str, Count); 3] = [
    ("backbone steps", |own| own.counts.backbone_steps),
    ("evaluations of any network, one after the other", |own| {
        own.counts.backbone_steps + own.counts.head_evaluations + own.counts.passes_a_second
    }),
    ("multiply-adds", |own| own.counts.multiply_adds),
];

/// What a rival's codec reaches at least, relative to the first LatentLM's.
const NEARLY: f64 = 0.9;
/// How many more words of training texts may be wrong than in the codec's copies of their recordings, as a fraction.
const FEW_ERRORS: f64 = 0.05;

/// A model's measurement, the one that it is compared with, and whether it is good enough; none if one is missing.
type Check = fn(&SpeechModelResult, &SpeechModelResult) -> Option<(f64, f64, bool)>;

/// What makes a rival a good one. The second model is the first LatentLM.
const CHECKS: [(&str, Check); 4] = [
    (
        "least perplexity of a codebook: half its entries or more",
        |own, _| {
            let least = own.perplexities().into_iter().reduce(f64::min)?;
            let entries = own.measure("code_entries")?;
            Some((least, entries, 2.0 * least >= entries))
        },
    ),
    (
        "STOI of the codec: at most 10 % below the first LatentLM's",
        |own, first| nearly(own, first, "codec_stoi"),
    ),
    (
        "PESQ of the codec: at most 10 % below the first LatentLM's",
        |own, first| nearly(own, first, "codec_pesq"),
    ),
    (
        "word errors in training texts: at most 5 points above those of its codec's copies",
        |own, _| {
            let model = own.measure("trained_word_error_rate_model")?;
            let copies = own.measure("trained_word_error_rate_codec")?;
            Some((model, copies, model <= copies + FEW_ERRORS))
        },
    ),
];

fn nearly(
    own: &SpeechModelResult,
    first: &SpeechModelResult,
    name: &str,
) -> Option<(f64, f64, bool)> {
    let (own, first) = (own.measure(name)?, first.measure(name)?);
    Some((own, first, own >= NEARLY * first))
}

/// Tables in Markdown: which claims hold for each LatentLM, and whether the rivals are good ones. Of the rivals the best one in
/// a measurement counts, and a claim is decided if the 95 % intervals do not overlap. Empty if there is nothing to compare.
pub(crate) fn verdicts(models: &[SpeechModelResult]) -> String {
    let (rivals, latentlm): (Vec<_>, Vec<_>) = models
        .iter()
        .partition(|own| own.counts.head_evaluations == 0.0);
    if rivals.is_empty() || latentlm.is_empty() {
        return String::new();
    }
    let mut head = vec!["the paper's claim".to_owned(), "here".to_owned()];
    head.extend(latentlm.iter().map(|own| own.name.clone()));
    let mut text = format!("\n{}|{}\n", row(&head), "---|".repeat(head.len()));
    for rival in &rivals {
        for (name, count) in COUNTS {
            let mut cells = vec![
                "ten times fewer steps".to_owned(),
                format!("{name} a second, against {}", rival.name),
            ];
            cells.extend(latentlm.iter().map(|own| {
                let times = count(rival) / count(own);
                format!("{} ({times:.2} times)", holds(times >= FEWER))
            }));
            text += &row(&cells);
        }
    }
    let names = models.iter().flat_map(|own| own.evaluation.values.keys());
    let names: BTreeSet<&str> = names.map(String::as_str).collect();
    for claim in &CLAIMS {
        for name in names.iter().filter(|name| (claim.is_about)(name)) {
            let found = latentlm.iter();
            let found = found.map(|own| decided(own, &rivals, name, claim.larger));
            let found: Vec<String> = found.collect();
            if found.iter().any(|own| !own.is_empty()) {
                let mut cells = vec![claim.words.to_owned(), name.replace('_', " ")];
                cells.extend(found);
                text += &row(&cells);
            }
        }
    }
    text + &good_rivals(&rivals, latentlm[0])
}

/// A table of what makes the rivals good ones, as far as it was measured.
fn good_rivals(rivals: &[&SpeechModelResult], first: &SpeechModelResult) -> String {
    let mut head = vec!["a good rival".to_owned()];
    head.extend(rivals.iter().map(|own| own.name.clone()));
    let mut rows = String::new();
    for (words, check) in CHECKS {
        let found = rivals.iter().map(|own| match check(own, first) {
            Some((own, other, is_good)) => {
                let good = if is_good { "yes" } else { "no" };
                format!("{good} ({own:.3}, beside {other:.3})")
            }
            None => String::new(),
        });
        let found: Vec<String> = found.collect();
        if found.iter().any(|own| !own.is_empty()) {
            rows += &row(&[vec![words.to_owned()], found].concat());
        }
    }
    if rows.is_empty() {
        return rows;
    }
    format!("\n{}|{}\n{rows}", row(&head), "---|".repeat(head.len()))
}

fn holds(claim: bool) -> &'static str {
    if claim { "holds" } else { "does not hold" }
}

/// Whether a measurement of LatentLM is better than that of the best rival; empty if one of them is missing.
fn decided(
    own: &SpeechModelResult,
    rivals: &[&SpeechModelResult],
    name: &str,
    larger: bool,
) -> String {
    // Smaller is better, for all that follows.
    let sign = if larger { -1.0 } else { 1.0 };
    let measured = |model: &SpeechModelResult| {
        let value = model.measure(name)?;
        let interval = model.evaluation.intervals.get(name).copied();
        // Without an interval nothing is decided.
        let ends = interval.unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
        let ends = ends.map(|end| sign * end);
        Some((value, [ends[0].min(ends[1]), ends[0].max(ends[1])]))
    };
    let others = rivals.iter().copied();
    let others = others.filter_map(|rival| Some((&rival.name, measured(rival)?)));
    let best = others.min_by(|(_, (a, _)), (_, (b, _))| (sign * a).total_cmp(&(sign * b)));
    let (Some((value, [low, high])), Some((rival, (other, [other_low, other_high])))) =
        (measured(own), best)
    else {
        return String::new();
    };
    let verdict = if high < other_low {
        holds(true)
    } else if low > other_high {
        holds(false)
    } else {
        "not decided"
    };
    format!("{verdict} ({value:.3}, {rival} {other:.3})")
}

#[cfg(test)]
mod tests {
    use latentlm_eval::SpeechEvaluation;

    use super::*;
    use crate::tts_counts::SpeechCounts;

    fn model(name: &str, steps: f64, evaluations: f64) -> SpeechModelResult {
        SpeechModelResult {
            name: name.into(),
            parameters: 1000,
            steps: 20,
            minutes: None,
            counts: SpeechCounts {
                backbone_steps: steps,
                head_evaluations: evaluations,
                passes: 7.0,
                passes_a_second: if evaluations > 0.0 { 0.0 } else { 7.5 },
                numbers: 0.0,
                bits: 0.0,
                multiply_adds: 4.0 * steps,
            },
            evaluation: SpeechEvaluation::default(),
        }
    }

    /// A measurement with an interval of a tenth to both sides.
    fn measured(mut model: SpeechModelResult, name: &str, value: f64) -> SpeechModelResult {
        let SpeechEvaluation {
            values, intervals, ..
        } = &mut model.evaluation;
        values.insert(name.into(), value);
        intervals.insert(name.into(), [value - 0.1, value + 0.1]);
        model
    }

    #[test]
    fn claims_hold_against_the_best_rival_only() {
        let similar = "seen_voices_speaker_similarity";
        let errors = "hard_word_error_rate_model";
        let beyond = "hard_words_dropped_beyond";
        let own = [("latentlm-25", 25.0, 0.9), ("latentlm-7.5", 7.5, 0.75)];
        let mut models: Vec<SpeechModelResult> = own
            .into_iter()
            .map(|(name, rate, alike)| {
                let own = model(name, rate, 10.0 * rate);
                let own = measured(measured(own, similar, alike), errors, 0.5);
                measured(own, beyond, 1.0 - alike)
            })
            .collect();
        for (name, steps, alike, wrong) in
            [("rival-1", 75.0, 0.6, 0.2), ("rival-2", 37.5, 0.5, 0.9)]
        {
            let rival = measured(model(name, steps, 0.0), similar, alike);
            models.push(measured(measured(rival, errors, wrong), beyond, 0.5));
        }
        let table = verdicts(&models);
        for row in [
            "\n| the paper's claim | here | latentlm-25 | latentlm-7.5 |\n|---|---|---|---|\n",
            "| ten times fewer steps | backbone steps a second, against rival-1 | does not hold (3.00 times) | \
             holds (10.00 times) |\n",
            // 25 steps with 10 evaluations each are 275, 7.5 are 82.5; 75 steps and 7.5 passes are 82.5 too.
            "| ten times fewer steps | evaluations of any network, one after the other a second, against rival-1 | \
             does not hold (0.30 times) | does not hold (1.00 times) |\n",
            "backbone steps a second, against rival-2 | does not hold (1.50 times) | does not hold (5.00 times) |\n",
            "| more alike in voice | seen voices speaker similarity | holds (0.900, rival-1 0.600) | \
             not decided (0.750, rival-1 0.600) |\n",
            "| more robust | hard word error rate model | does not hold (0.500, rival-1 0.200) | \
             does not hold (0.500, rival-1 0.200) |\n",
            "| more robust | hard words dropped beyond | holds (0.100, rival-1 0.500) | \
             holds (0.250, rival-1 0.500) |\n",
        ] {
            assert!(table.contains(row), "{row}: {table}");
        }
        assert!(
            !table.contains("word errors"),
            "nobody measured them: {table}"
        );
        assert!(!table.contains("a good rival"), "{table}");
        assert_eq!(verdicts(&models[..2]), "");
    }

    /// Claims are about all kinds of utterances, also those composed of words. What lacks an interval decides nothing.
    #[test]
    fn claims_are_about_what_was_measured() {
        let errors = |name: &str, value: f64| {
            let model = model(name, 75.0, if value < 0.5 { 750.0 } else { 0.0 });
            let mut own = measured(model, "digits_word_error_rate_model", value);
            own = measured(own, "trained_word_error_rate_model", value);
            own = measured(own, "digits_word_error_rate_codec", value);
            own = measured(own, "second_continued_word_error_rate_model", value);
            own = measured(own, "digits_speaker_similarity", 1.0 - value);
            own.evaluation.intervals.remove("digits_speaker_similarity");
            own
        };
        let table = verdicts(&[errors("latentlm-25", 0.25), errors("rival-1", 0.75)]);
        for row in [
            "| fewer word errors | digits word error rate model | holds (0.250, rival-1 0.750) |\n",
            "| fewer word errors | second continued word error rate model | holds (0.250, rival-1 0.750) |\n",
            "| more alike in voice | digits speaker similarity | not decided (0.750, rival-1 0.250) |\n",
        ] {
            assert!(table.contains(row), "{row}: {table}");
        }
        let about = table.matches("| fewer word errors |").count();
        assert_eq!(
            about, 2,
            "neither copies nor texts of the training: {table}"
        );
    }

    #[test]
    fn claims_and_checks_are_explained() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compare/tts.md");
        let page = std::fs::read_to_string(page).unwrap();
        let claims = CLAIMS.iter().map(|claim| claim.words);
        let checks = CHECKS.iter().map(|(words, _)| *words);
        let rows = claims.chain(checks).chain(["ten times fewer steps"]);
        for words in rows {
            assert!(page.contains(&format!("\n| {words} | ")), "{words}");
        }
        for (words, _) in COUNTS {
            assert!(page.contains(&format!("`{words}`")), "{words}");
        }
    }

    #[test]
    fn rivals_are_good_or_not() {
        let mut first = measured(model("latentlm-25", 25.0, 250.0), "codec_stoi", 0.9);
        first = measured(first, "codec_pesq", 3.0);
        let rival = |name, perplexity, stoi, errors| {
            let mut own = measured(model(name, 75.0, 0.0), "code_entries", 256.0);
            own = measured(own, "code_perplexity_1", 200.0);
            own = measured(own, "code_perplexity_2", perplexity);
            own = measured(own, "codec_stoi", stoi);
            own = measured(own, "trained_word_error_rate_codec", 0.125);
            measured(own, "trained_word_error_rate_model", errors)
        };
        let models = [
            first,
            rival("rival-1", 128.0, 0.82, 0.16),
            rival("rival-2", 127.0, 0.8, 0.18),
        ];
        let table = verdicts(&models);
        for row in [
            "\n| a good rival | rival-1 | rival-2 |\n|---|---|---|\n",
            "entries or more | yes (128.000, beside 256.000) | no (127.000, beside 256.000) |\n",
            "| STOI of the codec: at most 10 % below the first LatentLM's | yes (0.820, beside 0.900) | \
             no (0.800, beside 0.900) |\n",
            "its codec's copies | yes (0.160, beside 0.125) | no (0.180, beside 0.125) |\n",
        ] {
            assert!(table.contains(row), "{row}: {table}");
        }
        assert!(
            !table.contains("PESQ"),
            "nobody measured the rivals': {table}"
        );
    }
}
