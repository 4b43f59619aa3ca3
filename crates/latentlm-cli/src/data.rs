//! `data check` and `data espeak`.

use std::path::Path;

use anyhow::{Result, bail};
use latentlm_args::{Data, DataCheck, Espeak, say, tell};
use latentlm_data::speech::{
    EspeakOptions, SoundLimits, SpeechBounds, SpeechDataset, check_speech_within, espeak_corpus,
    read_sentences,
};
use latentlm_data::{ReadOptions, check_with, is_pictures};

/// Number of utterances between two lines of progress.
const SHOWN_EVERY: usize = 1000;

/// Checks a dataset, or synthesizes a speech corpus.
pub fn run(args: Data) -> Result<()> {
    match args {
        Data::Check(args) => check(&args),
        Data::Espeak(args) => espeak(args),
    }
}

fn espeak(args: Espeak) -> Result<()> {
    let sentences = match &args.texts {
        Some(path) => read_sentences(path)?,
        None => Vec::new(),
    };
    let total = args.utterances;
    let options = EspeakOptions {
        program: args.program,
        folder: args.out,
        utterances: total,
        speakers: args.speakers,
        sentences,
        seed: args.seed,
    };
    let corpus = espeak_corpus(&options, |index| {
        if (index + 1).is_multiple_of(SHOWN_EVERY) {
            tell!("{} of {total} utterances", index + 1);
        }
    })?;
    say!(
        "{}: {} utterances of {} speakers, {:.1} min",
        options.folder.display(),
        corpus.utterances,
        options.speakers,
        corpus.seconds / 60.0
    );
    Ok(())
}

fn check(args: &DataCheck) -> Result<()> {
    let path: &Path = &args.path;
    let problems = if !is_pictures(path) && SpeechDataset::is_speech(path) {
        let bounds = SpeechBounds {
            outside: args.outside,
            sound: SoundLimits {
                samples: args.max_samples,
                ..SoundLimits::default()
            },
            ..SpeechBounds::default()
        };
        let report = check_speech_within(path, bounds)?;
        say!("{report}");
        report.problems.len()
    } else {
        let options = ReadOptions {
            outside: args.outside,
            max_picture_bytes: args.max_picture_mb.saturating_mul(ReadOptions::MEGABYTE),
            max_idx_bytes: args.max_idx_mb.saturating_mul(ReadOptions::MEGABYTE),
            ..ReadOptions::default()
        };
        let report = check_with(path, &options)?;
        say!("{report}");
        report.problems.len()
    };
    if problems > 0 {
        bail!("{} has {problems} problems", path.display());
    }
    Ok(())
}
