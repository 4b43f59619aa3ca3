//! `sample-video`.

use std::path::Path;

use anyhow::Result;
use burn::tensor::Tensor;
use latentlm::core::bundle::write_atomically;
use latentlm_args::{SampleVideo, run_path, say};
use latentlm_data::DataError;
use latentlm_media::clip::{RawClip, apng_bytes, gif_bytes, sheet_bytes, write_frames};
use latentlm_pipelines::{VideoPipeline, clip_bytes};

use crate::device::device;
use crate::generate::numbered;
use crate::{notes, phase, sampling};

/// Draws clips, and writes each when it is complete.
pub fn run(args: SampleVideo) -> Result<()> {
    let device = device(&args.drawing.device)?;
    let pipeline = VideoPipeline::from_run(&run_path(&args.run), &device)?;
    notes::show(&pipeline.notes);
    let options = sampling::options(&args.drawing, pipeline.recipe().sample_options())?;
    let given = match &args.from {
        Some(file) => Some(pipeline.read_given(file)?),
        None => None,
    };
    let text = args.prompt.as_deref().unwrap_or_default();
    let (count, total) = (args.count, pipeline.frames());
    phase::show();
    let mut clips = Vec::new();
    for index in 0..count {
        let seed = args.drawing.seed().wrapping_add(index);
        let mut frames = Vec::new();
        let mut drawn = 0;
        let mut keep = |some: Tensor<5>| {
            drawn += some.dims()[1];
            frames.extend(clip_bytes(some.squeeze_dim(0)));
            phase::begin(&format!(
                "clip {} of {count}: {drawn} of {total} frames",
                index + 1
            ));
            true
        };
        pipeline.stream(text, given.clone(), &options, seed, &mut keep)?;
        let file = numbered(&args.out, index as usize);
        write(&raw(&frames, &pipeline), &file)?;
        say!("{}", file.display());
        clips.push(frames);
    }
    phase::begin("");
    if let Some(sheet) = &args.contact_sheet {
        let rows: Vec<RawClip<'_>> = clips.iter().map(|frames| raw(frames, &pipeline)).collect();
        let bytes = sheet_bytes(&rows, sheet).map_err(DataError::from)?;
        write_atomically(sheet, &bytes)?;
        say!("{}", sheet.display());
    }
    Ok(())
}

fn raw<'a>(pixels: &'a [u8], pipeline: &VideoPipeline) -> RawClip<'a> {
    let spec = pipeline.clip_spec();
    RawClip {
        pixels,
        spec: spec.picture,
        rate_hz: spec.rate_hz,
    }
}

/// Writes a clip in the format of the file's ending; a folder of frames if it has none.
fn write(clip: &RawClip<'_>, file: &Path) -> Result<()> {
    let bytes = match file.extension() {
        None => return Ok(write_frames(file, clip).map_err(DataError::from)?),
        Some(ending) if ending.eq_ignore_ascii_case("gif") => gif_bytes(clip, file),
        Some(_) => apng_bytes(clip, file),
    };
    Ok(write_atomically(file, &bytes.map_err(DataError::from)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_data::ImageSpec;

    /// The format is told from the bytes.
    #[test]
    fn a_clip_is_what_its_name_says() {
        let dir = tempfile::tempdir().unwrap();
        let pixels: Vec<u8> = (0..3 * 16).map(|value| value * 5).collect();
        let clip = RawClip {
            pixels: &pixels,
            spec: ImageSpec {
                channels: 1,
                height: 4,
                width: 4,
            },
            rate_hz: 10.0,
        };
        for (name, magic) in [
            ("a.GIF", &b"GIF8"[..]),
            ("b.png", b"\x89PNG"),
            ("c.apng", b"\x89PNG"),
        ] {
            let file = dir.path().join("new").join(name);
            write(&clip, &file).unwrap();
            let bytes = std::fs::read(&file).unwrap();
            assert!(bytes.starts_with(magic), "{name}");
        }
        let folder = dir.path().join("frames");
        write(&clip, &folder).unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
        assert!(
            write(&clip, &folder).is_err(),
            "a folder is not written twice"
        );
    }
}
