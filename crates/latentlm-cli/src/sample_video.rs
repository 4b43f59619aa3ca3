//! `sample-video`.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use burn::tensor::Tensor;
use latentlm::SampleOptions;
use latentlm::core::bundle::write_atomically;
use latentlm_args::{SampleVideo, escaped, run_path, say, tell};
use latentlm_media::clip::{RawClip, sheet_bytes};
use latentlm_pipelines::{VideoPipeline, clip_bytes};
use latentlm_train::Interrupter;

use crate::clip_output::{self, Growing, raw};
use crate::device::device;
use crate::generate::numbered;
use crate::phase::print;
use crate::{notes, sampling, signals, stream, written};

/// Draws clips, and writes their frames as they are drawn.
pub fn run(args: SampleVideo) -> Result<()> {
    ensure!(
        args.out != Path::new("-") || !io::stdout().is_terminal(),
        "a GIF on a terminal helps nobody: pipe it on, or name a file with --out"
    );
    let device = device(&args.drawing.device)?;
    let pipeline = VideoPipeline::from_run(&run_path(&args.run), &device)?;
    notes::show(&pipeline.notes);
    let options = sampling::options(&args.drawing, pipeline.recipe().sample_options())?;
    let given = match &args.from {
        Some(file) => {
            let given = pipeline.read_given(file)?;
            notes::show(given.note.as_slice());
            Some(given.frames)
        }
        None => None,
    };
    let spec = pipeline.clip_spec();
    // A pipe is opened before signals are caught: that waits for a reader, and Ctrl-C ends it.
    let mut stream = stream::open(&args.out)?;
    let is_stream = stream.is_some();
    let files: Vec<PathBuf> = (0..args.count as usize)
        .map(|index| numbered(&args.out, index))
        .collect();
    if !is_stream {
        for file in &files {
            clip_output::check(file, spec)?;
        }
    }
    let interrupter = Interrupter::new();
    signals::stop_drawing(&interrupter)?;
    let artist = Artist {
        pipeline: &pipeline,
        text: args.prompt.as_deref().unwrap_or_default(),
        given,
        options,
        interrupter,
    };
    let mut clips = Vec::new();
    for (file, index) in files.iter().zip(0..) {
        if artist.interrupter.should_stop() {
            break;
        }
        let mut output = Growing::begin(file, spec, stream.take())?;
        let drawn = artist.draw(args.drawing.seed().wrapping_add(index), &mut output)?;
        output.finish(&drawn.pixels)?;
        if drawn.nobody_looks {
            return Ok(());
        }
        drawn.tell(file, is_stream, spec.frames);
        if args.contact_sheet.is_some() {
            clips.push(drawn.pixels);
        }
    }
    if let (Some(sheet), false) = (&args.contact_sheet, clips.is_empty()) {
        let rows: Vec<RawClip<'_>> = clips.iter().map(|pixels| raw(pixels, spec)).collect();
        write_atomically(sheet, &sheet_bytes(&rows, sheet)?)?;
        let line = escaped(&sheet.display().to_string());
        if is_stream {
            tell!("{line}");
        } else {
            written::show(sheet, &line);
        }
    }
    Ok(())
}

/// Draws clips of one caption.
struct Artist<'a> {
    pipeline: &'a VideoPipeline,
    text: &'a str,
    /// Frames that the clips begin with, `[1, F', C, H, W]`.
    given: Option<Tensor<5>>,
    options: SampleOptions,
    interrupter: Interrupter,
}

impl Artist<'_> {
    /// Draws a clip, and hands out each group of frames as soon as it is there. It ends early after a signal, or if
    /// the reader is gone.
    fn draw(&self, seed: u64, output: &mut Growing) -> Result<Drawn> {
        let begun = Instant::now();
        let given = self.given.as_ref().map_or(0, |given| given.dims()[1]);
        let total = self.pipeline.frames();
        let mut drawn = Drawn::default();
        let mut is_read = Ok(true);
        let each = &mut |group: Tensor<5>| {
            let count = group.dims()[1];
            let pixels = clip_bytes(group.squeeze_dim(0));
            is_read = output.write(&pixels);
            drawn.total_s = begun.elapsed().as_secs_f64();
            if drawn.first_s.is_none() && drawn.frames >= given {
                drawn.first_s = Some(drawn.total_s);
            }
            drawn.frames += count;
            drawn.pixels.extend(pixels);
            if io::stderr().is_terminal() {
                let (frames, seconds) = (drawn.frames, drawn.total_s);
                print(&format!("\r{frames} of {total} frames, {seconds:.2} s  "));
            }
            matches!(is_read, Ok(true)) && !self.interrupter.should_stop()
        };
        let given = self.given.clone();
        let done = self
            .pipeline
            .stream(self.text, given, &self.options, seed, each);
        if drawn.frames > 0 && io::stderr().is_terminal() {
            print("\n");
        }
        done?;
        drawn.nobody_looks = !is_read?;
        Ok(drawn)
    }
}

/// A clip, and the time that it took.
#[derive(Default)]
struct Drawn {
    /// `[F, C, H, W]`.
    pixels: Vec<u8>,
    frames: usize,
    /// Until the first frame that was not given.
    first_s: Option<f64>,
    total_s: f64,
    nobody_looks: bool,
}

impl Drawn {
    /// Prints a line about the clip; on standard error if the clip may be on standard output.
    fn tell(&self, file: &Path, is_stream: bool, total: usize) {
        let mut line = format!(
            "{}: {} frames in {:.2} s",
            file.display(),
            self.frames,
            self.total_s
        );
        if let Some(first_s) = self.first_s {
            line += &format!(", the first after {first_s:.2} s");
        }
        let line = escaped(&line);
        if is_stream {
            tell!("{line}");
        } else {
            say!("{line}");
        }
        if self.frames < total {
            tell!(
                "the clip was cut: it was stopped before frame {}",
                self.frames + 1
            );
        }
    }
}
