//! Evaluation of a run of clips with text.

use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use latentlm_data::Caption;
use latentlm_pipelines::{RunFolder, VideoData, VideoPipeline, VideoRecipe, evenly, host_values};
use serde::Serialize;

use super::digits::{DigitMeasures, Digits};
use super::film::save_clips;
use super::report::write_video_report;
use crate::error::EvalError;
use crate::evaluation::{self, EvaluateOptions, MeasuredWeights};
use crate::image::{FEATURES, psnr, singular};
use crate::mllm::{CAPTIONS, caption_pairs, write_captions};
use crate::statistics::{median, share};

/// Clips in a batch of the codec.
const BATCH: usize = 50;
/// Clips in the picture of reconstructions, and drawn for its captions.
const SHOWN: usize = 12;
/// Clips that are timed; another one before them warms up.
const TIMED: usize = 5;
/// Range of pixels, which are in `[-1, 1]`.
const PIXEL_RANGE: f64 = 2.0;

/// The measurements. Shares are fractions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VideoEvaluation {
    /// Step of the checkpoint.
    pub step: u64,
    /// Number of clips of each measure, at most.
    pub samples: usize,
    /// Seed of the drawn clips.
    pub seed: u64,
    /// Guidance scale of the drawn clips.
    pub guidance_scale: f64,
    /// Solver steps per latent.
    pub solver_steps: usize,
    /// Type of the language model's weights.
    pub weights: MeasuredWeights,
    /// PSNR of held-out clips through the codec, without noise in the latents.
    pub clip_psnr_db: f64,
    /// PSNR of black clips instead of them.
    pub black_clip_psnr_db: f64,
    /// Held-out clips whose caption is exactly right.
    pub exact_clip_captions: f64,
    /// Time until the first frame of a clip is drawn.
    pub first_frame_ms: f64,
    /// Time until the whole clip is drawn.
    pub whole_clip_ms: f64,
    /// What is measured of clips that are composed of digits.
    #[serde(flatten)]
    pub digits: Option<DigitMeasures>,
    /// Number of changes from frame to frame in the drawn clips that Frechet distances are of.
    #[serde(skip)]
    pub frame_changes: usize,
}

impl VideoEvaluation {
    /// Why the Frechet distances are doubtful, in one line; `None` if they are not, or there are none.
    pub fn warning(&self) -> Option<String> {
        self.digits.as_ref()?;
        let changes = [(self.frame_changes, "changes from frame to frame")];
        singular(&changes, FEATURES)
    }
}

/// Measures a run and writes `evaluation.json`, `captions.tsv`, GIFs of samples and the report.
///
/// # Errors
/// If the run has no finished checkpoint, its data can't be read, or a file can't be written.
pub fn evaluate_video(
    path: &Path,
    options: &EvaluateOptions,
    device: &Device,
) -> Result<VideoEvaluation, EvalError> {
    let (run, recipe) = RunFolder::<VideoRecipe>::open(path)?;
    let pipeline = VideoPipeline::from_run(path, device)?;
    let pipeline = pipeline.with_small_weights(options.weights);
    let data = VideoData::open(&recipe)?;
    (options.phase)("measuring the codec");
    let picked = evenly(options.samples, data.test.len());
    let (real, read) = data.test.read_readable(&picked, device);
    if read.is_empty() {
        return Err(run.error("no held-out clip can be read").into());
    }
    let [clip_psnr_db, black_clip_psnr_db] = reconstruction(&pipeline, &real);
    let texts: Vec<String> = read
        .iter()
        .map(|&index| data.test.text(index).to_owned())
        .collect();

    (options.phase)(&format!("captioning {} clips", texts.len()));
    let said = pipeline.caption(real.clone())?;
    let asked = texts.iter().map(|text| Caption {
        text: text.clone(),
        category: None,
    });
    let captions = caption_pairs(&asked.collect::<Vec<Caption>>(), &said);
    let exact = share(captions.iter().map(|[asked, said]| asked == said));
    write_captions(&run.file(CAPTIONS), &[("test", captions)])?;

    (options.phase)("timing clips");
    let [first_frame_ms, whole_clip_ms] = speed(&pipeline, &texts, options)?;
    let shown = SHOWN.min(texts.len());
    let drawn = pipeline.draw(&texts[..shown], &options.sample, options.seed)?;
    let both = Tensor::cat(vec![real.narrow(0, 0, shown), drawn], 0);
    let file = run.file("samples/evaluation.gif");
    save_clips(&both, shown, pipeline.rate_hz(), &file)?;
    let digits = match data.test.composer() {
        Some(composer) => Some(Digits::new(&run, &pipeline, composer, options)?.measure()?),
        None => None,
    };
    let evaluation = VideoEvaluation {
        step: pipeline.manifest.step,
        samples: options.samples,
        seed: options.seed,
        guidance_scale: options.sample.guidance_scale,
        solver_steps: options.sample.steps,
        weights: options.weights.into(),
        clip_psnr_db,
        black_clip_psnr_db,
        exact_clip_captions: exact.unwrap_or_default(),
        first_frame_ms,
        whole_clip_ms,
        digits,
        frame_changes: options.samples * (pipeline.frames() - 1),
    };
    evaluation::write(&run, &evaluation, device)?;
    write_video_report(&run, &recipe)?;
    Ok(evaluation)
}

/// PSNR of clips through the codec, and of black clips.
fn reconstruction(pipeline: &VideoPipeline, real: &Tensor<5>) -> [f64; 2] {
    let mut copies = Vec::new();
    for batch in real.clone().split(BATCH, 0) {
        copies.extend(host_values(pipeline.reconstruct(batch).clamp(-1.0, 1.0)));
    }
    let original = host_values(real.clone());
    let black = vec![-1.0; original.len()];
    [copies, black].map(|other| psnr(&original, &other, PIXEL_RANGE))
}

/// Time until the first frame and until the last, in milliseconds: medians over some texts.
fn speed(
    pipeline: &VideoPipeline,
    texts: &[String],
    options: &EvaluateOptions,
) -> Result<[f64; 2], EvalError> {
    let (mut first_ms, mut whole_ms) = (Vec::new(), Vec::new());
    for (index, text) in texts.iter().cycle().take(TIMED + 1).enumerate() {
        let started = Instant::now();
        let mut times = Vec::new();
        pipeline.stream(
            text,
            None,
            &options.sample,
            options.seed,
            &mut |frames: Tensor<5>| {
                // Frames are there when they are on the host.
                host_values(frames);
                times.push(started.elapsed().as_secs_f64() * 1e3);
                true
            },
        )?;
        // The first text warms up.
        if index > 0
            && let (Some(first), Some(last)) = (times.first(), times.last())
        {
            first_ms.push(*first);
            whole_ms.push(*last);
        }
    }
    Ok([median(first_ms), median(whole_ms)])
}
