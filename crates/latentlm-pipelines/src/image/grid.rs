//! Grids of pictures.

use std::io::Cursor;
use std::path::Path;

use burn::tensor::Tensor;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, Rgb, RgbImage, imageops};
use latentlm::core::bundle::write_atomically;
use latentlm::core::disk::is_stream;
use latentlm_data::ImageSpec;

use crate::error::{PipelineError, Result};
use crate::tensors::host_values;

/// Pixels between pictures, before scaling.
const GAP: u32 = 1;
const BACKGROUND: Rgb<u8> = Rgb([96, 96, 96]);
/// Quality of JPEG files, at most 100.
const JPEG_QUALITY: u8 = 95;
/// Largest size of a grid in memory in bytes, three for a pixel.
const MOST_BYTES: u64 = 1 << 30;
/// Largest number of pixels along a side, for formats in which that is less than memory can hold.
const MOST_SIDE: [(&str, u64); 3] = [("jpg", 65_535), ("jpeg", 65_535), ("webp", 16_383)];

/// Refuses a grid of `count` pictures that is too large for memory, or for the format of its file's ending. Called before
/// they are drawn, which may take hours. The other parameters are those of [`image_grid`].
///
/// # Errors
/// If it is too large.
pub fn check_grid(
    picture: ImageSpec,
    count: usize,
    columns: usize,
    scale: u32,
    path: &Path,
) -> Result<()> {
    let columns = columns.clamp(1, count.max(1));
    let rows = count.div_ceil(columns);
    let gap = if count > 1 { u64::from(GAP) } else { 0 };
    let size = |pictures: usize, side: usize| {
        let all = (pictures as u64).saturating_mul(side as u64 + gap);
        all.saturating_add(gap).saturating_mul(u64::from(scale))
    };
    let (width, height) = (size(columns, picture.width), size(rows, picture.height));
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    let known = MOST_SIDE
        .iter()
        .find(|(format, _)| ending.eq_ignore_ascii_case(format));
    let most_side = known.map_or(u64::from(u32::MAX), |(_, most)| *most);
    let bytes = width.saturating_mul(height).saturating_mul(3);
    if bytes > MOST_BYTES || width.max(height) > most_side {
        return Err(PipelineError::GridSize { width, height });
    }
    Ok(())
}

/// Lays pictures out row by row, lines between and around them, and enlarges them `scale` times without
/// smoothing. One picture alone has no frame, so that it can be read again.
///
/// # Shapes
/// - `pictures`: `[B, 1 or 3, H, W]`, in `[-1, 1]`; numbers outside are clamped, NaN is black
pub fn image_grid(pictures: Tensor<4>, columns: usize, scale: u32) -> RgbImage {
    let [count, channels, height, width] = pictures.dims();
    let columns = columns.clamp(1, count.max(1));
    let rows = count.div_ceil(columns);
    let values = host_values(pictures);
    let (h, w) = (height as u32, width as u32);
    let gap = if count > 1 { GAP } else { 0 };
    let size = |n: usize, s: u32| n as u32 * (s + gap) + gap;
    let (across, down) = (size(columns, w), size(rows, h));
    let mut grid = RgbImage::from_pixel(across, down, BACKGROUND);
    for index in 0..count {
        let picture = RgbImage::from_fn(w, h, |x, y| {
            let at = |channel: usize| {
                let plane = index * channels + channel.min(channels - 1);
                byte(values[(plane * height + y as usize) * width + x as usize])
            };
            Rgb([at(0), at(1), at(2)])
        });
        let (row, column) = (index / columns, index % columns);
        let (left, top) = (size(column, w), size(row, h));
        imageops::replace(&mut grid, &picture, left.into(), top.into());
    }
    RgbImage::from_fn(across * scale, down * scale, |x, y| {
        *grid.get_pixel(x / scale, y / scale)
    })
}

/// `[-1, 1]` to `0..=255`.
pub(crate) fn byte(value: f32) -> u8 {
    // A cast saturates, and takes NaN to 0.
    ((value + 1.0) * 127.5).round() as u8
}

/// Writes the picture as PNG, whole or not at all; into a pipe or device.
///
/// # Errors
/// If it can't be encoded or written.
pub fn save_png(picture: &RgbImage, path: &Path) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(write_atomically(path, &bytes.into_inner())?)
}

/// Writes the picture in the format of the file's ending, whole or not at all: `png`, `jpg`, `jpeg`, or `webp`
/// without loss. Pipes and devices may have any name; without an ending they get PNG.
///
/// # Errors
/// If a file's ending is another one, or the picture can't be encoded or written.
pub fn save_picture(picture: &RgbImage, path: &Path) -> Result<()> {
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    let mut bytes = Cursor::new(Vec::new());
    match ending.to_lowercase().as_str() {
        "png" => picture.write_to(&mut bytes, ImageFormat::Png)?,
        "webp" => picture.write_to(&mut bytes, ImageFormat::WebP)?,
        "jpg" | "jpeg" => {
            picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))?;
        }
        _ if is_stream(path) => picture.write_to(&mut bytes, ImageFormat::Png)?,
        _ => {
            return Err(PipelineError::Ending(path.to_owned()));
        }
    }
    Ok(write_atomically(path, &bytes.into_inner())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// The format is told from the bytes. PNG and WebP keep every pixel, JPEG nearly.
    #[test]
    fn a_picture_is_what_its_ending_says() {
        let dir = tempfile::tempdir().unwrap();
        let smooth = |x: u32, y: u32| Rgb([(x * 4) as u8, (y * 4) as u8, 128]);
        let picture = RgbImage::from_fn(32, 16, smooth);
        for (name, format, bound) in [
            ("a.png", ImageFormat::Png, 0),
            ("a.WEBP", ImageFormat::WebP, 0),
            // JPEG rounds frequencies: a smooth picture is off by a few levels.
            ("a.jpg", ImageFormat::Jpeg, 16),
            ("a.jpeg", ImageFormat::Jpeg, 16),
        ] {
            let path = dir.path().join(name);
            save_picture(&picture, &path).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(image::guess_format(&bytes).unwrap(), format, "{name}");
            let again = image::load_from_memory(&bytes).unwrap().into_rgb8();
            assert_eq!(again.dimensions(), (32, 16));
            let pairs = again.iter().zip(picture.iter());
            let error = pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(error <= bound, "{name}: {error}");
        }
        for name in ["a.gif", "a"] {
            let path = dir.path().join(name);
            let error = save_picture(&picture, &path).unwrap_err();
            assert!(
                error.is_usage() && error.to_string().contains(".webp"),
                "{error}"
            );
            assert!(!path.exists());
        }
    }

    /// The name says the format, and PNG is the format of a name that says none.
    #[cfg(unix)]
    #[test]
    fn a_picture_goes_into_a_pipe_of_any_name() {
        use std::io::Read;

        let dir = tempfile::tempdir().unwrap();
        let picture = RgbImage::from_fn(8, 4, |x, y| Rgb([x as u8, y as u8, 9]));
        for (name, format) in [("pipe", ImageFormat::Png), ("pipe.webp", ImageFormat::WebP)] {
            let pipe = dir.path().join(name);
            let made = std::process::Command::new("mkfifo").arg(&pipe).status();
            assert!(made.unwrap().success());
            // Opened for both, a pipe waits for nobody, and the small picture fits into its buffer.
            let mut both = std::fs::File::options();
            let mut reader = both.read(true).write(true).open(&pipe).unwrap();
            save_picture(&picture, &pipe).unwrap();
            let mut bytes = vec![0; 1 << 16];
            let count = reader.read(&mut bytes).unwrap();
            let again = image::load_from_memory_with_format(&bytes[..count], format);
            assert_eq!(again.unwrap().into_rgb8(), picture, "{name}");
        }
        // The pipes alone are there.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    /// What is allowed is as large as it is said to be.
    #[test]
    fn grids_that_nothing_can_hold_are_refused() {
        let spec = |side| ImageSpec {
            channels: 1,
            height: side,
            width: side,
        };
        let check = |side, count, columns, scale, path: &str| {
            check_grid(spec(side), count, columns, scale, Path::new(path))
        };
        let grid = image_grid(Tensor::zeros([5, 1, 2, 2], &Device::default()), 3, 4);
        assert_eq!(grid.dimensions(), (40, 28));
        // Three columns of 2 pixels and four lines, all four times as large; two rows.
        let (width, height) = (3 * 3 + 1, 2 * 3 + 1);
        assert_eq!((4 * width, 4 * height), grid.dimensions());
        check(32, 100, 10, 2, "a.png").unwrap();
        for (side, count, columns, scale, path) in [
            (32, 100_000, 10_000, 64, "a.png"),
            (usize::MAX >> 8, 10_000, 100, 64, "a.png"),
            (100, 1, 1, 164, "a.webp"),
            (1, 40_000, 40_000, 1, "a.JPG"),
        ] {
            let error = check(side, count, columns, scale, path).unwrap_err();
            assert!(error.is_usage(), "{error}");
            assert!(error.to_string().contains("too large"), "{error}");
        }
        check(100, 1, 1, 163, "a.webp").unwrap();
        check(1, 40_000, 40_000, 1, "a.png").unwrap();
        let told = check(8000, 1, 1, 3, "a.png").unwrap_err().to_string();
        let expected = "a picture of 24000 x 24000 pixels is too large: draw fewer pictures, or enlarge them less";
        assert_eq!(told, expected);
    }

    #[test]
    fn pixels_are_where_they_belong() {
        let device = Device::default();
        let values = [[[[-1.0f32, 1.0]]], [[[f32::NAN, 0.0]]], [[[7.0, -7.0]]]];
        let pictures = Tensor::<4>::from_floats(values, &device);
        let grid = image_grid(pictures, 2, 2);
        // Two columns of width 2 and gaps of 1, two rows of height 1, all doubled.
        assert_eq!(grid.dimensions(), (14, 10));
        let grey = |x, y| grid.get_pixel(x, y).0[0];
        assert_eq!((grey(2, 2), grey(4, 3)), (0, 255));
        assert_eq!((grey(8, 2), grey(10, 2)), (0, 128));
        assert_eq!((grey(2, 6), grey(5, 7)), (255, 0));
        assert_eq!(grid.get_pixel(0, 0), &BACKGROUND);
        let alone = image_grid(Tensor::from_floats([[[[-1.0f32, 1.0]]]], &device), 3, 2);
        assert_eq!(alone.dimensions(), (4, 2));
        assert_eq!(
            (alone.get_pixel(1, 1).0[0], alone.get_pixel(2, 0).0[0]),
            (0, 255)
        );
    }
}
