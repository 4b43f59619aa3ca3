//! `data check`, `data clips`, `data espeak` and `data voices`.

use std::fmt::Display;
use std::path::Path;

use anyhow::{Result, bail};
use latentlm_args::{ClipSplit, Data, DataCheck, DataClips, DataVoices, Espeak, say, tell};
use latentlm_compose::{
    ClipFiles, Composer, EspeakOptions, VoicesOptions, clip_spec, compose_voices, espeak_corpus,
    start_synthesizers, wordnet_sentences, write_clips,
};
use latentlm_data::speech::{SpeechDataset, check_speech_within, read_sentences};
use latentlm_data::{ClipSpec, ReadOptions, Split, check_clips, check_with, is_pictures};
use latentlm_pipelines::SpeechLimits;
use latentlm_train::{ProgressMode, reading};

/// Number of clips or utterances between two lines of progress.
const SHOWN_EVERY: usize = 1000;

/// Checks a dataset, composes clips, or synthesizes a speech corpus.
pub fn run(args: Data) -> Result<()> {
    match args {
        Data::Check(args) => check(&args),
        Data::Clips(args) => clips(args),
        Data::Espeak(args) => espeak(args),
        Data::Voices(args) => voices(args),
    }
}

fn clips(args: DataClips) -> Result<()> {
    let split = match args.split {
        ClipSplit::Train => Split::Train,
        ClipSplit::Test => Split::Test,
    };
    let composer = Composer::open(&args.digits, clip_spec(1), split)?;
    let total = args.count;
    let files = ClipFiles {
        folder: args.out,
        count: total,
        seed: args.seed,
        as_frames: args.frames,
    };
    write_clips(&composer, &files, |index| {
        if (index + 1).is_multiple_of(SHOWN_EVERY) {
            tell!("{} of {total} clips", index + 1);
        }
    })?;
    say!("{}: {total} clips", files.folder.display());
    Ok(())
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

fn voices(args: DataVoices) -> Result<()> {
    let sentences = match &args.texts {
        Some(path) => read_sentences(path)?,
        None => wordnet_sentences(&args.wordnet)?,
    };
    let mut synthesizers = start_synthesizers(&args.python, &args.only)?;
    let options = VoicesOptions {
        folder: args.out,
        hours: args.hours,
        speakers: args.only,
        sentences,
        seed: args.seed,
    };
    let corpus = compose_voices(&options, &mut synthesizers, |corpus| {
        if corpus.utterances.is_multiple_of(SHOWN_EVERY) {
            let hours = corpus.seconds / 3600.0;
            tell!("{hours:.2} of {:.2} hours", options.hours);
        }
    })?;
    say!(
        "{}: {} utterances, {} of held-out voices, {:.2} hours; {} sentences could not be said",
        options.folder.display(),
        corpus.utterances,
        corpus.held_out,
        corpus.seconds / 3600.0,
        corpus.failed
    );
    Ok(())
}

/// Reads a dataset. While that takes long, lines say how much of it is read.
fn told_while<T>(read: impl FnOnce() -> T) -> T {
    reading("reading data", ProgressMode::Plain, read)
}

/// Prints a report, with the names of `all` files that are left out or the first of each reason.
fn show(report: &impl Display, all: bool) {
    if all {
        say!("{report:#}");
    } else {
        say!("{report}");
    }
}

fn check(args: &DataCheck) -> Result<()> {
    let path: &Path = &args.path;
    let pictures = ReadOptions::default();
    let options = ReadOptions {
        outside: args.outside,
        max_picture_mb: args.max_picture_mb,
        max_idx_mb: args.max_idx_mb,
        max_table_mb: args.max_table_mb.unwrap_or(pictures.max_table_mb),
        max_records: args.max_records,
        max_clip_frames: args.max_clip_frames,
        max_total_frames: args.max_total_frames,
        ..pictures
    };
    let problems = if args.clips {
        let spec = ClipSpec {
            frames: args.clip_frames,
            rate_hz: args.clip_rate,
            ..clip_spec(3)
        };
        let report = told_while(|| check_clips(path, spec, &options))?;
        show(&report, args.all);
        report.problems.len()
    } else if !is_pictures(path) && SpeechDataset::is_speech(path) {
        let defaults = SpeechLimits::default();
        let limits = SpeechLimits {
            max_table_mb: args.max_table_mb.unwrap_or(defaults.max_table_mb),
            max_lines: args.max_lines,
            max_samples: args.max_samples,
        };
        let report = told_while(|| check_speech_within(path, limits.bounds(args.outside)))?;
        show(&report, args.all);
        report.problems.len()
    } else {
        let report = told_while(|| check_with(path, &options))?;
        show(&report, args.all);
        report.problems.len()
    };
    if problems > 0 {
        bail!("{} has {problems} problems", path.display());
    }
    Ok(())
}
