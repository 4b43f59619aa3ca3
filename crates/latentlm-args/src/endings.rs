//! Endings of the files that commands write: they say the format.

use std::path::Path;

use crate::{ArgsError, Project};

/// Endings of pictures that can be written.
pub const PICTURE_ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// Endings of clips that can be written.
const CLIP_ENDINGS: [&str; 3] = ["gif", "png", "apng"];
/// Endings of sounds that can be written.
const SOUND_ENDINGS: [&str; 1] = ["wav"];

/// Checks that a picture can be written to a file of this name. Its folder is made if it is not there.
pub(crate) fn check_picture(path: &Path, project: &Project) -> Result<(), ArgsError> {
    project.find_place(path)?;
    check("picture", path, &PICTURE_ENDINGS, project)
}

/// Checks that clips can be written: to a file of this name and further ones with numbers, to a folder of frames if
/// the name has no ending, or a single one to standard output, a pipe or a device.
pub(crate) fn check_clips(path: &Path, count: u64, project: &Project) -> Result<(), ArgsError> {
    if path == Path::new("-") || project.is_stream(path) {
        return match count {
            1 => Ok(()),
            _ => Err(ArgsError::CountToStream),
        };
    }
    if path.extension().is_none() && path.file_name().is_some() {
        // A folder that is there already is refused by the command, which knows the names of all of them.
        return project.find_place(&path.join("0001.png"));
    }
    project.find_place(path)?;
    check("clip", path, &CLIP_ENDINGS, project)
}

/// Checks that a contact sheet can be written to a file of this name. Its folder is made if it is not there.
pub(crate) fn check_sheet(path: &Path, project: &Project) -> Result<(), ArgsError> {
    project.find_place(path)?;
    check("contact sheet", path, &["png"], project)
}

/// Checks that a sound can be written to a file of this name.
pub(crate) fn check_sound(path: &Path, project: &Project) -> Result<(), ArgsError> {
    project.find_place_in_folder(path)?;
    check("sound", path, &SOUND_ENDINGS, project)
}

/// Checks that latents or codes can be written to a file of this name. Its folder is made if it is not there.
pub(crate) fn check_latents(path: &Path, project: &Project) -> Result<(), ArgsError> {
    project.find_place(path)?;
    check("file of latents", path, &["safetensors"], project)
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

    #[test]
    fn a_clip_is_a_file_or_a_folder() {
        let here = Project::here();
        for name in ["a.gif", "b.PNG", "new/c.apng", "frames", "new/frames", "-"] {
            check_clips(Path::new(name), 1, &here).unwrap();
        }
        for name in ["a.mp4", "", "..", "a."] {
            assert!(check_clips(Path::new(name), 1, &here).is_err(), "{name}");
        }
        check_clips(Path::new("frames"), 2, &here).unwrap();
        check_sheet(Path::new("a.png"), &here).unwrap();
        assert!(check_sheet(Path::new("a.gif"), &here).is_err());
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
            check_clips(Path::new(path), 1, &project).unwrap();
            let two = check_clips(Path::new(path), 2, &project).unwrap_err();
            assert!(two.is_usage() && two.to_string().starts_with("--count"));
        }
        let error = check_picture(Path::new("/dev"), &project).unwrap_err();
        assert!(error.to_string().starts_with("cannot write /dev: "));
    }
}
