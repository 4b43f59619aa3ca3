//! Endings of the files that commands write: they say the format.

use std::path::Path;

use crate::ArgsError;

/// Endings of pictures that can be written.
pub const PICTURE_ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// Endings of sounds that can be written.
const SOUND_ENDINGS: [&str; 1] = ["wav"];

/// Checks that a picture can be written to a file of this name.
pub(crate) fn check_picture(path: &Path) -> Result<(), ArgsError> {
    check("picture", path, &PICTURE_ENDINGS)
}

/// Checks that a sound can be written to a file of this name.
pub(crate) fn check_sound(path: &Path) -> Result<(), ArgsError> {
    check("sound", path, &SOUND_ENDINGS)
}

/// Checks that a voice can be written to a file of this name.
pub(crate) fn check_voice(path: &Path) -> Result<(), ArgsError> {
    check("voice", path, &["safetensors"])
}

fn check(what: &'static str, path: &Path, known: &[&str]) -> Result<(), ArgsError> {
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    if known.iter().any(|one| ending.eq_ignore_ascii_case(one)) {
        return Ok(());
    }
    let known: Vec<String> = known.iter().map(|one| format!(".{one}")).collect();
    Err(ArgsError::Ending {
        what,
        path: path.to_owned(),
        known: known.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_format_or_is_refused() {
        for name in ["a.png", "out/b.JPG", "c.jpeg", "d.e.webp"] {
            check_picture(Path::new(name)).unwrap();
        }
        check_sound(Path::new("a.WAV")).unwrap();
        for name in ["a", "a.gif", "png", ".png", "a.png.tmp", ""] {
            let error = check_picture(Path::new(name)).unwrap_err();
            let told = format!(
                "cannot write a picture to `{name}`: its ending must be one of .png, .jpg, .jpeg, .webp"
            );
            assert_eq!((error.is_usage(), error.to_string()), (true, told));
        }
        let error = check_sound(Path::new("a.mp3")).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot write a sound to `a.mp3`: its ending must be one of .wav"
        );
    }
}
