//! Endings of the files that commands write: they say the format.

use std::path::Path;

use crate::{ArgsError, Project};

/// Endings of pictures that can be written.
pub const PICTURE_ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// Endings of sounds that can be written.
const SOUND_ENDINGS: [&str; 1] = ["wav"];

/// Checks that a picture can be written to a file of this name. Its folder is made if it is not there.
pub(crate) fn check_picture(path: &Path, project: &Project) -> Result<(), ArgsError> {
    project.find_place(path)?;
    check("picture", path, &PICTURE_ENDINGS, project)
}

/// Checks that a sound can be written to a file of this name.
pub(crate) fn check_sound(path: &Path, project: &Project) -> Result<(), ArgsError> {
    project.find_place_in_folder(path)?;
    check("sound", path, &SOUND_ENDINGS, project)
}

/// Checks that a voice can be written to a file of this name. Its folder is made if it is not there.
pub(crate) fn check_voice(path: &Path, project: &Project) -> Result<(), ArgsError> {
    project.find_place(path)?;
    check("voice", path, &["safetensors"], project)
}

/// Checks the ending of a file's name. Pipes and devices take a stream of any name.
fn check(
    what: &'static str,
    path: &Path,
    known: &[&str],
    project: &Project,
) -> Result<(), ArgsError> {
    if project.is_stream(path) {
        return Ok(());
    }
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
        let here = Project::here();
        for name in ["a.png", "out/b.JPG", "c.jpeg", "d.e.webp"] {
            check_picture(Path::new(name), &here).unwrap();
        }
        check_sound(Path::new("a.WAV"), &here).unwrap();
        for name in ["a", "a.gif", "png", ".png", "a.png.tmp", ""] {
            let error = check_picture(Path::new(name), &here).unwrap_err();
            let told = format!(
                "cannot write a picture to `{name}`: its ending must be one of .png, .jpg, .jpeg, .webp"
            );
            assert_eq!((error.is_usage(), error.to_string()), (true, told));
        }
        let error = check_sound(Path::new("a.mp3"), &here).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot write a sound to `a.mp3`: its ending must be one of .wav"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_stream_has_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let project = Project::at(dir.path());
        for path in ["pipe", "/dev/null", "/dev/stdout"] {
            check_picture(Path::new(path), &project).unwrap();
            check_sound(Path::new(path), &project).unwrap();
            check_voice(Path::new(path), &project).unwrap();
        }
        let error = check_picture(Path::new("/dev"), &project).unwrap_err();
        assert!(error.to_string().starts_with("cannot write /dev: "));
    }
}
