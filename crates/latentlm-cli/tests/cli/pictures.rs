//! A dataset of small pictures, and what makes a model of them that trains in a second.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use image::{GrayImage, ImageFormat, Luma};

/// Changes of [`crate::TINY`] for pictures of 8x8 pixels, four latents each.
pub const SMALL: [&str; 8] = [
    "data.path=pictures",
    "codec.image_size=8",
    "codec.latent_dim=4",
    "codec.vit.patch_size=4",
    "codec.vit.heads=2",
    "codec_train.batch_size=4",
    "lm_train.batch_size=4",
    "lm_train.warmup_steps=2",
];
/// Pictures of each of the two classes.
pub const EACH: u8 = 12;

/// The folder of the pictures in a working folder.
pub fn write(folder: &Path) {
    for (class, first) in [("cat", 0), ("dog", 128)] {
        let class = folder.join(class);
        fs::create_dir_all(&class).unwrap();
        for index in 0..EACH {
            let bytes = png(first + 5 * index);
            fs::write(class.join(format!("{index}.png")), bytes).unwrap();
        }
    }
}

/// A picture of levels that begin with `first`.
fn png(first: u8) -> Vec<u8> {
    let level = |x: u32, y: u32| Luma([first.wrapping_add((x + 8 * y) as u8)]);
    let mut file = Cursor::new(Vec::new());
    let picture = GrayImage::from_fn(8, 8, level);
    picture.write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

/// Another picture whose file has as many bytes.
pub fn another(bytes: &[u8]) -> Vec<u8> {
    let mut all = (0..=u8::MAX).map(png);
    let other = all.find(|other| other.len() == bytes.len() && other != bytes);
    other.expect("one of 255 pictures has as many bytes")
}

/// The training of a model on `pictures` in a working folder, in the run `mnist`.
pub fn train(folder: &Path, args: &[&str]) -> Command {
    let mut command = crate::train(folder, &SMALL);
    command.args(args);
    command
}

/// The continuation of that run.
pub fn resume(folder: &Path, args: &[&str]) -> Command {
    let words = ["train-image", "--resume", "--progress", "plain"];
    let mut command = crate::latentlm(folder, &words);
    command.args(args);
    command
}

/// Runs a command that must succeed. Returns its standard error.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// A working folder with pictures and a run of `lm_train.steps` steps.
pub fn trained(steps: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("pictures"));
    let steps = format!("lm_train.steps={steps}");
    succeed(&mut train(dir.path(), &["--progress", "silent", &steps]));
    dir
}
