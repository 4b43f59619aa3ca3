//! Decodes pictures and brings them to one size and number of channels.

use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{
    DynamicImage, GrayImage, ImageBuffer, ImageDecoder, ImageError, ImageReader, Limits, Pixel,
    RgbImage,
};

use crate::caught::caught;
use crate::error::{Bound, MediaError, io_error};
use crate::files::open_regular;
use crate::jpeg;

/// Bytes of a megabyte, as limits and messages count them.
pub const MEGABYTE: u64 = 1 << 20;
/// Largest size in bytes of a decoded picture, and of its file, unless a caller allows another: 89 million
/// pixels of three colours.
pub const MAX_PICTURE_BYTES: u64 = 256 * MEGABYTE;
/// Longest side of a picture after resizing, in pixels.
const MAX_SIDE: usize = 16_384;

/// Size and channels that pictures are brought to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSpec {
    /// Number of channels: 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
}

impl ImageSpec {
    /// Size of one picture in bytes.
    pub fn bytes(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Checks that [`fit`] can produce this size. `path` is for the error message.
    ///
    /// # Errors
    /// If there are not 1 or 3 channels, or a side is 0 or longer than 16,384 pixels.
    pub fn validate(self, path: &Path) -> Result<(), MediaError> {
        let side = 1..=MAX_SIDE;
        if matches!(self.channels, 1 | 3)
            && side.contains(&self.height)
            && side.contains(&self.width)
        {
            return Ok(());
        }
        Err(MediaError::Spec {
            path: path.to_owned(),
            channels: self.channels,
            height: self.height,
            width: self.width,
            max_side: MAX_SIDE,
        })
    }
}

/// Reads a picture file, crops and resizes it to `spec`. Returns `[C, H, W]`.
///
/// # Errors
/// If the file can't be read, is not a picture, is truncated, takes more than [`MAX_PICTURE_BYTES`], or
/// `spec` is not a valid picture size.
pub fn read_picture(path: &Path, spec: ImageSpec) -> Result<Vec<u8>, MediaError> {
    spec.validate(path)?;
    Ok(fit(decode_whole(path, MAX_PICTURE_BYTES)?, spec))
}

/// Decodes a picture file, upright. The format is guessed from the content, not from the name. `limit` is the
/// largest size in bytes of the picture, and of its file.
///
/// # Errors
/// If the file can't be read, is not a picture, or takes more than `limit`.
pub fn decode(path: &Path, limit: u64) -> Result<DynamicImage, MediaError> {
    let (_read, bytes) = read_file(path, limit)?;
    let (_decoded, picture) = decode_bytes(path, &bytes, limit)?;
    Ok(picture)
}

/// As [`decode`], but a truncated JPEG is an error: decoders accept such files and fill the missing rows
/// with grey.
///
/// # Errors
/// As [`decode`], and if a JPEG lacks rows.
pub fn decode_whole(path: &Path, limit: u64) -> Result<DynamicImage, MediaError> {
    let (_read, bytes) = read_file(path, limit)?;
    let (_decoded, picture) = decode_bytes(path, &bytes, limit)?;
    let missing = jpeg::is_jpeg(&bytes).then(|| jpeg::missing(&bytes));
    match missing.flatten() {
        Some(reason) => Err(MediaError::malformed(path, reason)),
        None => Ok(picture),
    }
}

fn read_file(path: &Path, limit: u64) -> Result<(Permit<'static>, Vec<u8>), MediaError> {
    let file = open_regular(path).map_err(io_error("read", path))?;
    let size = file.metadata().map_err(io_error("read", path))?.len();
    let permit = FILES.enter(size.min(limit), limit);
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(io_error("read", path))?;
    if bytes.len() as u64 > limit {
        let reason = format!(
            "a picture file of more than the {} that are allowed",
            megabytes(limit)
        );
        Err(MediaError::too_large(path, reason, Bound::Picture))
    } else {
        Ok((permit, bytes))
    }
}

/// Decodes a picture. What else is done with a picture that may be refused is done under its permit, which is dropped
/// after it.
fn decode_bytes(
    path: &Path,
    bytes: &[u8],
    limit: u64,
) -> Result<(Permit<'static>, DynamicImage), MediaError> {
    let undecoded = |source| undecoded(path, limit, source);
    let decode = || -> Result<(Permit<'static>, DynamicImage), MediaError> {
        let mut reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(io_error("read", path))?;
        // Twice the limit, because decoders also count their working memory.
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(limit.saturating_mul(2));
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(undecoded)?;
        // A header can claim any size: check it before allocating.
        let ((width, height), total) = (decoder.dimensions(), decoder.total_bytes());
        if total > limit {
            let reason = format!(
                "a picture of {width} x {height} pixels takes {}, more than the {} that are allowed",
                megabytes(total),
                megabytes(limit)
            );
            return Err(MediaError::too_large(path, reason, Bound::Picture));
        }
        let permit = PICTURES.enter(total, limit);
        // Cameras store rotated pictures and record the rotation in the metadata.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut picture = DynamicImage::from_decoder(decoder).map_err(undecoded)?;
        picture.apply_orientation(orientation);
        Ok((permit, picture))
    };
    let (permit, picture) = caught("its decoder", decode)
        .map_err(|failed| MediaError::malformed(path, format!("a damaged picture: {failed}")))??;
    if picture.width() == 0 || picture.height() == 0 {
        return Err(MediaError::malformed(path, "a picture without pixels"));
    }
    Ok((permit, picture))
}

/// The error of a decoder, which may have come to the limit of its memory.
pub(crate) fn undecoded(path: &Path, limit: u64, source: ImageError) -> MediaError {
    match source {
        ImageError::Limits(_) => {
            let most = megabytes(limit);
            let reason = format!("decoding it takes too much memory where {most} are allowed");
            MediaError::too_large(path, reason, Bound::Picture)
        }
        source => MediaError::Picture {
            path: path.to_owned(),
            source,
        },
    }
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(MEGABYTE))
}

/// Bytes of all files of pictures that are being decoded, over all threads.
static FILES: InFlight = InFlight::new();
/// Bytes of the pictures themselves. Who has a permit of these waits for nothing else, so that all come to their end.
static PICTURES: InFlight = InFlight::new();

/// Limits the memory of all threads that decode at the same time to the limit for one picture.
struct InFlight {
    bytes: Mutex<u64>,
    less: Condvar,
}

/// Memory that a decoder may take, as long as this is alive.
pub(crate) struct Permit<'a> {
    owner: &'a InFlight,
    bytes: u64,
}

/// Waits until an animation whose frames take `bytes` may be read, where all threads together may take `most`. A thread
/// that has one decodes nothing else.
#[cfg(feature = "clips")]
pub(crate) fn permit(bytes: u64, most: u64) -> Permit<'static> {
    PICTURES.enter(bytes, most)
}

impl InFlight {
    const fn new() -> Self {
        Self {
            bytes: Mutex::new(0),
            less: Condvar::new(),
        }
    }

    /// Waits until `bytes` more fit into `most`. Never waits if nothing else is being decoded.
    fn enter(&self, bytes: u64, most: u64) -> Permit<'_> {
        let mut used = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        while *used > 0 && used.saturating_add(bytes) > most {
            used = self.less.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
        Permit { owner: self, bytes }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut used = self
            .owner
            .bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *used -= self.bytes;
        drop(used);
        self.owner.less.notify_all();
    }
}

/// Brings a picture to `spec`: blends it over white, crops the centre to the target's aspect ratio and
/// resizes the crop. Returns `[C, H, W]`.
///
/// # Panics
/// If a side of the picture or of `spec` is 0, which [`decode`] and [`ImageSpec::validate`] refuse.
pub fn fit(picture: DynamicImage, spec: ImageSpec) -> Vec<u8> {
    // In colours, of which all are the same, a grey picture would take three times as much memory.
    let grey = match picture {
        DynamicImage::ImageLuma8(_) | DynamicImage::ImageLuma16(_) => picture.into_luma8(),
        DynamicImage::ImageLumaA8(_) | DynamicImage::ImageLumaA16(_) => grey_over_white(picture),
        picture => return planes(&scaled(&over_white(picture), spec), spec.channels),
    };
    scaled(&grey, spec).into_raw().repeat(spec.channels)
}

/// Crops the centre of a picture to the aspect ratio of `spec` and resizes it.
fn scaled<P: Pixel<Subpixel = u8> + 'static>(
    picture: &ImageBuffer<P, Vec<u8>>,
    spec: ImageSpec,
) -> ImageBuffer<P, Vec<u8>> {
    let (width, height) = picture.dimensions();
    let (target_w, target_h) = (spec.width as u32, spec.height as u32);
    // Largest centred crop with the target's aspect ratio.
    let cropped = |side: u32, by: u32, over: u32| u64::from(side) * u64::from(by) / u64::from(over);
    let crop_w = cropped(height, target_w, target_h).clamp(1, u64::from(width)) as u32;
    let crop_h = cropped(width, target_h, target_w).clamp(1, u64::from(height)) as u32;
    let crop = imageops::crop_imm(
        picture,
        (width - crop_w) / 2,
        (height - crop_h) / 2,
        crop_w,
        crop_h,
    );
    if (crop_w, crop_h) == (target_w, target_h) {
        crop.to_image()
    } else {
        let filter = if crop_w > target_w {
            FilterType::Lanczos3
        } else {
            FilterType::CatmullRom
        };
        imageops::resize(&*crop, target_w, target_h, filter)
    }
}

fn over_white(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let rgba = picture.into_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0;
        image::Rgb([r, g, b].map(|value| blend(value, a)))
    })
}

fn grey_over_white(picture: DynamicImage) -> GrayImage {
    let grey = picture.into_luma_alpha8();
    GrayImage::from_fn(grey.width(), grey.height(), |x, y| {
        let [value, alpha] = grey.get_pixel(x, y).0;
        image::Luma([blend(value, alpha)])
    })
}

/// A value of a half transparent pixel in front of white.
fn blend(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// Turns `[H, W, 3]` into `[C, H, W]`.
fn planes(picture: &RgbImage, channels: usize) -> Vec<u8> {
    if channels == 1 {
        return DynamicImage::ImageRgb8(picture.clone())
            .to_luma8()
            .into_raw();
    }
    let mut out = Vec::with_capacity(picture.as_raw().len());
    for channel in 0..3 {
        out.extend(picture.pixels().map(|pixel| pixel.0[channel]));
    }
    out
}

/// Pads a grey bitmap `[rows, columns]` with black to `spec`, centred, as is usual for MNIST; larger ones are
/// resized. Returns `[C, H, W]`.
///
/// # Panics
/// If a side of the bitmap or of `spec` is 0.
pub fn pad_grey(pixels: &[u8], rows: usize, columns: usize, spec: ImageSpec) -> Vec<u8> {
    if rows > spec.height || columns > spec.width {
        let Some(grey) = image::GrayImage::from_raw(columns as u32, rows as u32, pixels.to_vec())
        else {
            return vec![0; spec.bytes()];
        };
        return fit(DynamicImage::ImageLuma8(grey), spec);
    }
    let mut plane = vec![0; spec.height * spec.width];
    let (top, left) = ((spec.height - rows) / 2, (spec.width - columns) / 2);
    for (row, line) in pixels.chunks_exact(columns).take(rows).enumerate() {
        let start = (top + row) * spec.width + left;
        plane[start..start + columns].copy_from_slice(line);
    }
    plane.repeat(spec.channels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbaImage;

    /// One that fits waits for nobody; one that does not waits until there is room.
    #[test]
    fn threads_share_the_bound() {
        static SHARED: InFlight = InFlight::new();
        let first = SHARED.enter(6, 10);
        drop(SHARED.enter(4, 10));
        let (entered, seen) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let second = SHARED.enter(5, 10);
                entered.send(*SHARED.bytes.lock().unwrap()).unwrap();
                drop(second);
            });
            // The sum is never above the bound, whenever the thread comes to it.
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(seen.try_recv().is_err());
            drop(first);
            assert_eq!(seen.recv().unwrap(), 5);
        });
        // Alone, one may be larger than the bound.
        drop(SHARED.enter(11, 10));
        assert_eq!(*SHARED.bytes.lock().unwrap(), 0);
    }

    /// The permit of a file is taken before it is read, and given back with the picture.
    #[test]
    fn files_and_pictures_give_their_permits_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        image::GrayImage::new(5, 4).save(&path).unwrap();
        let size = std::fs::metadata(&path).unwrap().len();
        let (read, bytes) = read_file(&path, MAX_PICTURE_BYTES).unwrap();
        assert_eq!((read.bytes, bytes.len() as u64), (size, size));
        let (decoded, picture) = decode_bytes(&path, &bytes, MAX_PICTURE_BYTES).unwrap();
        assert_eq!((decoded.bytes, picture.as_bytes().len()), (20, 20));
        assert!(std::ptr::eq(read.owner, &FILES) && std::ptr::eq(decoded.owner, &PICTURES));
    }

    #[test]
    fn padding_puts_the_bitmap_in_the_middle() {
        let spec = ImageSpec {
            channels: 1,
            height: 4,
            width: 4,
        };
        let padded = pad_grey(&[1, 2, 3, 4], 2, 2, spec);
        assert_eq!(padded, [0, 0, 0, 0, 0, 1, 2, 0, 0, 3, 4, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn transparent_parts_become_white() {
        let half = RgbaImage::from_pixel(2, 2, image::Rgba([255, 0, 0, 128]));
        let spec = ImageSpec {
            channels: 3,
            height: 2,
            width: 2,
        };
        let got = fit(DynamicImage::ImageRgba8(half), spec);
        assert_eq!(got, [[255; 4], [127; 4], [127; 4]].concat());
    }

    #[test]
    fn the_centre_is_cropped() {
        // Columns 0..4 have values 0, 10, 20, 30; a square crop keeps the middle two.
        let wide = image::GrayImage::from_fn(4, 2, |x, _| image::Luma([x as u8 * 10]));
        let spec = ImageSpec {
            channels: 1,
            height: 2,
            width: 2,
        };
        assert_eq!(fit(DynamicImage::ImageLuma8(wide), spec), [10, 20, 10, 20]);
    }

    /// Grey pictures are never in memory in colours.
    #[test]
    fn grey_pictures_are_scaled_as_their_copies_in_colours() {
        let value = |x: u32, y: u32| (x * 9_001 + y * y * 2_861) as u16;
        let alpha = |x: u32, y: u32| (x * y * 97 + 5_000) as u16;
        let opaque = ImageBuffer::from_fn(61, 47, |x, y| image::Luma([value(x, y)]));
        let opaque = DynamicImage::ImageLuma16(opaque);
        let veiled = ImageBuffer::from_fn(61, 47, |x, y| image::LumaA([value(x, y), alpha(x, y)]));
        let veiled = DynamicImage::ImageLumaA16(veiled);
        let in_colours = [opaque.to_rgb8().into(), veiled.to_rgba8().into()];
        let bytes = [opaque.to_luma8().into(), veiled.to_luma_alpha8().into()];
        for (grey, colours) in [opaque, veiled].iter().zip(&in_colours) {
            same_when_scaled(grey, colours);
        }
        for (grey, colours) in bytes.iter().zip(&in_colours) {
            same_when_scaled(grey, colours);
        }
    }

    fn same_when_scaled(grey: &DynamicImage, colours: &DynamicImage) {
        for (channels, height, width) in [
            (1, 9, 13),
            (3, 9, 13),
            (3, 90, 80),
            (1, 47, 61),
            (3, 47, 47),
        ] {
            let spec = ImageSpec {
                channels,
                height,
                width,
            };
            let got = fit(grey.clone(), spec);
            assert_eq!(got.len(), spec.bytes());
            assert_eq!(got, fit(colours.clone(), spec), "{spec:?}");
        }
    }

    #[test]
    fn sizes_follow_the_spec_and_flat_colours_stay() {
        let spec = ImageSpec {
            channels: 3,
            height: 5,
            width: 7,
        };
        for (width, height) in [(1, 1), (1, 300), (300, 1), (7, 5), (64, 48)] {
            let picture = RgbImage::from_pixel(width, height, image::Rgb([10, 20, 30]));
            let got = fit(DynamicImage::ImageRgb8(picture), spec);
            assert_eq!(
                got,
                [[10; 35], [20; 35], [30; 35]].concat(),
                "{width}x{height}"
            );
        }
    }

    #[test]
    fn only_geometries_of_pictures_are_valid() {
        let valid = |channels, height, width| {
            let spec = ImageSpec {
                channels,
                height,
                width,
            };
            spec.validate(Path::new("set")).is_ok()
        };
        assert!(valid(1, 1, 1) && valid(3, 32, MAX_SIDE));
        assert!(!valid(2, 32, 32) && !valid(0, 32, 32));
        assert!(!valid(3, 0, 32) && !valid(3, 32, 0) && !valid(3, MAX_SIDE + 1, 32));
    }

    #[test]
    fn pictures_of_a_turned_camera_are_upright() {
        use image::ImageEncoder;
        // A TIFF header with one entry: orientation (0x0112), a short, 6: turn right by 90 degrees.
        let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("turned.jpg");
        let file = std::fs::File::create(&path).unwrap();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(file, 100);
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        // Black on the left, white on the right; upright, black is on top.
        let lying =
            image::GrayImage::from_fn(32, 16, |x, _| image::Luma([if x < 16 { 0 } else { 255 }]));
        lying.write_with_encoder(encoder).unwrap();
        let upright = decode(&path, MAX_PICTURE_BYTES).unwrap().to_luma8();
        assert_eq!(upright.dimensions(), (16, 32));
        assert!(upright.get_pixel(8, 4).0[0] < 30 && upright.get_pixel(8, 28).0[0] > 225);
    }
}
