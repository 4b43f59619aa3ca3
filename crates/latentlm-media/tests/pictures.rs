//! Tests of picture files, damaged in every format.

use std::fs;

use latentlm_core::RandomStream;
use latentlm_media::{ImageSpec, read_picture};

const GREY: ImageSpec = ImageSpec {
    channels: 1,
    height: 16,
    width: 16,
};

#[test]
fn no_damage_of_any_kind_panics() {
    let dir = tempfile::tempdir().unwrap();
    let picture = image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 20, y as u8, 7]));
    for ending in ["gif", "bmp", "tiff", "png", "webp", "jpg"] {
        let path = dir.path().join(format!("a.{ending}"));
        picture.save(&path).unwrap();
        let good = fs::read(&path).unwrap();
        let mut random = RandomStream::for_step(3, ending, 0);
        for at in 0..good.len().min(400) {
            let mut bytes = good.clone();
            bytes[at] = random.below(256) as u8;
            for bytes in [&bytes[..], &good[..at]] {
                fs::write(&path, bytes).unwrap();
                // Any result is fine, as long as the call returns.
                let _ = read_picture(&path, GREY);
            }
        }
    }
}
