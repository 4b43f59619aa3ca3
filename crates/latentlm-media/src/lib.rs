//! Files of pictures, clips and sounds: decodes what programs, cameras and recorders write, within limits of memory,
//! and writes clips and WAV. Broken files are errors with the file's name, never panics. This crate knows no dataset.
//!
//! ```
//! use latentlm_media::{ImageSpec, MediaError, read_picture};
//!
//! let folder = tempfile::tempdir().unwrap();
//! let path = folder.path().join("red.png");
//! image::RgbImage::from_pixel(64, 48, image::Rgb([255, 0, 0])).save(&path).unwrap();
//!
//! // Cropped to a square and resized: a plane of red, then green, then blue.
//! let spec = ImageSpec { channels: 3, height: 2, width: 2 };
//! let pixels = read_picture(&path, spec)?;
//! assert_eq!(pixels, [255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0]);
//!
//! // A file that is no picture is named.
//! std::fs::write(&path, "red").unwrap();
//! assert_eq!(read_picture(&path, spec).unwrap_err().path(), path);
//! # Ok::<(), MediaError>(())
//! ```
//!
//! PNG, JPEG and WebP pictures and IDX files are always there; BMP, GIF and TIFF stand behind the feature `formats`, moving
//! pictures (the module `clip`) behind `clips`, sound (the module `sound`) behind `sound`. All are on by default.
//!
//! Letters in shapes: `F` frames, `C` channels, `H x W` pixels.

mod caught;
#[cfg(feature = "clips")]
pub mod clip;
mod error;
mod files;
mod idx;
mod jpeg;
mod picture;
#[cfg(feature = "sound")]
pub mod sound;

pub use caught::caught;
pub use error::{Bound, MediaError};
pub use files::{open_regular, write_whole};
pub use idx::{IdxImages, read_idx};
pub use picture::{
    ImageSpec, MAX_PICTURE_BYTES, MEGABYTE, decode, decode_whole, fit, pad_grey, read_picture,
};
