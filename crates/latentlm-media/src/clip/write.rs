//! Writes clips: GIF, animated PNG, folders of numbered frames, contact sheets.

use std::io;
use std::path::Path;

use image::{DynamicImage, RgbImage, imageops};
use latentlm_core::disk;

use super::grow::GifStream;
use super::raw::{RawClip, frame_name, png_bytes, refuse_existing};
use crate::error::{MediaError, io_error};
use crate::files::write_whole;

/// Pixels between the frames of a contact sheet.
const GAP: u32 = 1;
/// Grey between the frames of a contact sheet.
const GAP_GREY: u8 = 96;

/// A clip as a GIF, as [`GifStream`] writes it; `path` is for errors.
///
/// # Errors
/// If the clip has no frames, or is larger than a GIF can be.
pub fn gif_bytes(clip: &RawClip, path: &Path) -> Result<Vec<u8>, MediaError> {
    clip.check(path)?;
    encode_gif(clip)
        .map_err(|error| MediaError::malformed(path, format!("cannot be written as GIF: {error}")))
}

fn encode_gif(clip: &RawClip) -> io::Result<Vec<u8>> {
    let mut gif = GifStream::begin(Vec::new(), clip.spec, clip.rate_hz)?;
    for frame in clip.pixels.chunks_exact(clip.spec.bytes()) {
        gif.write(frame)?;
    }
    gif.finish()
}

/// A clip as an animated PNG that repeats for ever, without loss. Programs that know no such files show the first
/// frame. `path` is for errors.
///
/// # Errors
/// If the clip has no frames.
pub fn apng_bytes(clip: &RawClip, path: &Path) -> Result<Vec<u8>, MediaError> {
    clip.check(path)?;
    let mut bytes = Vec::new();
    match encode_apng(clip, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => {
            let reason = format!("cannot be written as PNG: {error}");
            Err(MediaError::malformed(path, reason))
        }
    }
}

fn encode_apng(clip: &RawClip, bytes: &mut Vec<u8>) -> Result<(), png::EncodingError> {
    let (width, height) = (clip.spec.width as u32, clip.spec.height as u32);
    let mut encoder = png::Encoder::new(bytes, width, height);
    encoder.set_color(if clip.spec.channels == 1 {
        png::ColorType::Grayscale
    } else {
        png::ColorType::Rgb
    });
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_animated(clip.frames() as u32, 0)?;
    let (over, under) = seconds_of(clip.rate_hz);
    encoder.set_frame_delay(over, under)?;
    let mut writer = encoder.write_header()?;
    for index in 0..clip.frames() {
        writer.write_image_data(&clip.packed(index))?;
    }
    writer.finish()
}

/// Seconds of a frame as a fraction: exact for whole rates, else in milliseconds.
fn seconds_of(rate_hz: f64) -> (u16, u16) {
    if rate_hz.fract() == 0.0 && rate_hz <= f64::from(u16::MAX) {
        (1, rate_hz as u16)
    } else {
        let milliseconds = (1000.0 / rate_hz).round();
        (milliseconds.clamp(1.0, f64::from(u16::MAX)) as u16, 1000)
    }
}

/// Clips as one PNG: a row for each, its frames from left to right. `path` is for errors.
///
/// # Errors
/// If there are no clips, or one has no frames.
pub fn sheet_bytes(clips: &[RawClip], path: &Path) -> Result<Vec<u8>, MediaError> {
    let (mut width, mut height) = (0, 0);
    for clip in clips {
        clip.check(path)?;
        let (across, down) = (clip.spec.width as u32, clip.spec.height as u32);
        width = width.max(clip.frames() as u32 * (across + GAP) - GAP);
        height += down + GAP;
    }
    if clips.is_empty() {
        return Err(MediaError::malformed(path, "a contact sheet of no clips"));
    }
    let grey = image::Rgb([GAP_GREY; 3]);
    let mut sheet = RgbImage::from_pixel(width, height - GAP, grey);
    let mut top = 0;
    for clip in clips {
        for index in 0..clip.frames() {
            let left = index as i64 * i64::from(clip.spec.width as u32 + GAP);
            imageops::replace(&mut sheet, &clip.picture(index).into_rgb8(), left, top);
        }
        top += i64::from(clip.spec.height as u32 + GAP);
    }
    png_bytes(&DynamicImage::ImageRgb8(sheet), path)
}

/// Writes [`gif_bytes`], atomically.
///
/// # Errors
/// As [`gif_bytes`], and if the file can't be written.
pub fn write_gif(path: &Path, clip: &RawClip) -> Result<(), MediaError> {
    write_whole(path, &gif_bytes(clip, path)?)
}

/// Writes [`apng_bytes`], atomically.
///
/// # Errors
/// As [`apng_bytes`], and if the file can't be written.
pub fn write_apng(path: &Path, clip: &RawClip) -> Result<(), MediaError> {
    write_whole(path, &apng_bytes(clip, path)?)
}

/// Writes [`sheet_bytes`], atomically.
///
/// # Errors
/// As [`sheet_bytes`], and if the file can't be written.
pub fn write_sheet(path: &Path, clips: &[RawClip]) -> Result<(), MediaError> {
    write_whole(path, &sheet_bytes(clips, path)?)
}

/// Writes the frames of a clip into a new folder, as `0001.png`, `0002.png` and so on. The folder appears when it is
/// complete.
///
/// # Errors
/// If the folder is there already or can't be written, or the clip has no frames.
pub fn write_frames(folder: &Path, clip: &RawClip) -> Result<(), MediaError> {
    clip.check(folder)?;
    refuse_existing(folder)?;
    let above = disk::folder_of(folder);
    disk::create_folders(above).map_err(io_error("create", above))?;
    let unfinished = disk::temporary_folder(above).map_err(io_error("write in", above))?;
    for index in 0..clip.frames() {
        let bytes = png_bytes(&clip.picture(index), folder)?;
        let path = unfinished.path().join(frame_name(index));
        disk::write_file(&path, &bytes).map_err(io_error("write", &path))?;
    }
    disk::sync_folder(unfinished.path()).map_err(io_error("write", folder))?;
    disk::rename(unfinished.path(), folder).map_err(io_error("write", folder))?;
    // Its name is gone: there is nothing to remove.
    let _ = unfinished.keep();
    Ok(())
}
