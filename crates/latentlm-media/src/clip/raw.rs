//! Frames in memory, and how a folder of them is named.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};

use crate::error::MediaError;
use crate::picture::ImageSpec;

/// Digits of a frame's number in its file's name, at least.
const DIGITS: usize = 4;

/// The frames of a clip in memory.
#[derive(Debug, Clone, Copy)]
pub struct RawClip<'a> {
    /// Pixel values 0 to 255, `[F, C, H, W]`, row-major.
    pub pixels: &'a [u8],
    /// Channels and size of a frame.
    pub spec: ImageSpec,
    /// Frames a second.
    pub rate_hz: f64,
}

impl RawClip<'_> {
    /// Number of frames.
    pub fn frames(&self) -> usize {
        self.pixels.len() / self.spec.bytes().max(1)
    }

    pub(super) fn check(&self, path: &Path) -> Result<(), MediaError> {
        self.spec.validate(path)?;
        let whole = self.pixels.len().is_multiple_of(self.spec.bytes());
        if whole && self.frames() > 0 && self.rate_hz.is_finite() && self.rate_hz > 0.0 {
            return Ok(());
        }
        let reason = format!(
            "cannot write a clip of {} values in frames of {}, at {} frames a second",
            self.pixels.len(),
            self.spec.bytes(),
            self.rate_hz
        );
        Err(MediaError::malformed(path, reason))
    }

    /// A frame as `[H, W, C]`.
    pub(super) fn packed(&self, index: usize) -> Vec<u8> {
        let size = self.spec.bytes();
        let frame = &self.pixels[index * size..(index + 1) * size];
        let plane = self.spec.height * self.spec.width;
        let pixels = 0..plane;
        pixels
            .flat_map(|at| frame.iter().skip(at).step_by(plane).copied())
            .collect()
    }

    pub(super) fn picture(&self, index: usize) -> DynamicImage {
        let (width, height) = (self.spec.width as u32, self.spec.height as u32);
        let packed = self.packed(index);
        if self.spec.channels == 1 {
            DynamicImage::ImageLuma8(GrayImage::from_raw(width, height, packed).unwrap_or_default())
        } else {
            DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, packed).unwrap_or_default())
        }
    }
}

/// Name of the file of a frame, counted from 0.
pub(super) fn frame_name(index: usize) -> String {
    format!("{:0DIGITS$}.png", index + 1)
}

/// A picture as a PNG; `path` is for errors.
///
/// # Errors
/// If the encoder refuses.
pub(super) fn png_bytes(picture: &DynamicImage, path: &Path) -> Result<Vec<u8>, MediaError> {
    let mut bytes = Cursor::new(Vec::new());
    match picture.write_to(&mut bytes, ImageFormat::Png) {
        Ok(()) => Ok(bytes.into_inner()),
        Err(error) => {
            let reason = format!("cannot be written as PNG: {error}");
            Err(MediaError::malformed(path, reason))
        }
    }
}

/// Frames of two clips in one folder would be one clip.
pub(super) fn refuse_existing(folder: &Path) -> Result<(), MediaError> {
    if folder.exists() {
        let reason = "exists already: name a new folder";
        return Err(MediaError::malformed(folder, reason));
    }
    Ok(())
}
