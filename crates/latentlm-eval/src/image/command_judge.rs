//! A judge of pictures that is not ours: a command that names the class of each file.

use std::path::PathBuf;

use burn::tensor::Tensor;
use latentlm::core::bundle::{io_error, write_atomically};
use latentlm::core::disk;
use latentlm_pipelines::{image_grid, save_png};
use serde::{Deserialize, Serialize};

use super::judge::by_class;
use crate::error::Result;
use crate::speech::Listener;
use crate::statistics::mean;

/// Files that the command gets at once: the length of a command line is limited.
const FILES: usize = 500;
/// Value of `{kind}` in a command.
const KIND: &str = "pictures";

/// Measures of the command; empty if there is no command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CommandVerdict {
    /// Fraction of generated pictures that it assigns to the class they were generated for, averaged over
    /// classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge_class_agreement: Option<f64>,
    /// Fraction of held-out real pictures that it assigns to their class: its accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge_accuracy_of_real: Option<f64>,
}

/// A command that takes paths of PNG files after its own arguments, and prints a line for each: path, tab,
/// name of the class.
pub(super) struct CommandJudge<'a> {
    pub(super) command: &'a Listener,
    /// Folder of the pictures.
    pub(super) folder: PathBuf,
    /// Names of the classes.
    pub(super) classes: &'a [String],
}

impl CommandJudge<'_> {
    /// Fraction of pictures whose class the command names, averaged over classes. Writes the pictures, and
    /// `<name>.tsv` with wanted and named classes.
    ///
    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`; `labels`: `B`
    ///
    /// # Errors
    /// If the command fails or says nothing of a picture, or a file can't be written.
    pub(super) fn agreement(
        &self,
        name: &str,
        pictures: &Tensor<4>,
        labels: &[u32],
    ) -> Result<f64> {
        disk::create_folders(&self.folder).map_err(io_error("create", &self.folder))?;
        let mut files = Vec::with_capacity(labels.len());
        for index in 0..labels.len() {
            let picture = pictures.clone().narrow(0, index, 1);
            let path = self.folder.join(format!("{name}-{index:05}.png"));
            save_png(&image_grid(picture, 1, 1), &path)?;
            files.push(path);
        }
        let mut answers = Vec::with_capacity(files.len());
        for files in files.chunks(FILES) {
            answers.extend(self.command.listen(KIND, files)?);
        }
        let (mut named, mut lines) = (Vec::new(), String::new());
        for (answer, &label) in answers.iter().zip(labels) {
            let answer = answer.trim();
            let class = self.classes.iter().position(|class| class == answer);
            // A class that there is not is wrong for every picture.
            named.push(class.map_or(u32::MAX, |class| class as u32));
            lines += &format!("{}\t{answer}\n", self.classes[label as usize]);
        }
        let list = self.folder.join(format!("{name}.tsv"));
        write_atomically(&list, lines.as_bytes())?;
        let fractions = by_class(&named, labels, self.classes.len());
        Ok(mean(fractions).unwrap_or_default())
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;

    use burn::tensor::Device;

    use super::*;

    /// The command names the class by the size of a file: black pictures are smaller than noise.
    #[test]
    fn a_command_names_the_class_of_each_picture() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("judge.sh");
        let text = "for f in \"$@\"; do if [ $(wc -c < \"$f\") -gt 300 ]; then c=noise; else c=black; fi; \
                    printf '%s\\t%s\\n' \"$f\" \"$c\"; done";
        fs::write(&script, text).unwrap();
        let command = Listener::parse(&format!("sh {}", script.display())).unwrap();
        let classes = ["black", "noise"].map(str::to_owned);
        let judge = CommandJudge {
            command: &command,
            folder: dir.path().join("evaluation"),
            classes: &classes,
        };
        let device = Device::default();
        let noise = latentlm::RandomStream::new(1).normal([1, 1, 32, 32], &device);
        let black = Tensor::<4>::full([3, 1, 32, 32], -1.0, &device);
        let pictures = Tensor::cat(vec![black, noise], 0);
        let agreement = |labels: &[u32]| judge.agreement("drawn", &pictures, labels).unwrap();
        assert_eq!(agreement(&[0, 0, 0, 1]), 1.0);
        assert_eq!(agreement(&[0, 0, 1, 1]), 0.75);
        assert_eq!(agreement(&[1, 1, 1, 0]), 0.0);
        let list = fs::read_to_string(dir.path().join("evaluation/drawn.tsv")).unwrap();
        assert_eq!(
            list,
            "noise\tblack\nnoise\tblack\nnoise\tblack\nblack\tnoise\n"
        );
        let png = fs::read(dir.path().join("evaluation/drawn-00003.png")).unwrap();
        assert!(png.starts_with(b"\x89PNG"));
    }

    #[test]
    fn an_unknown_class_is_wrong_and_silence_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let classes = ["a", "b"].map(str::to_owned);
        let pictures = Tensor::<4>::zeros([2, 1, 4, 4], &Device::default());
        let judge = |line: &str| {
            let command = Listener::parse(line).unwrap();
            let judge = CommandJudge {
                command: &command,
                folder: dir.path().to_owned(),
                classes: &classes,
            };
            judge.agreement("drawn", &pictures, &[0, 1])
        };
        let script = dir.path().join("judge.sh");
        let text = "kind=$1; shift; for f in \"$@\"; do printf '%s\\t%s\\n' \"$f\" $kind; done";
        fs::write(&script, text).unwrap();
        let all = |class: &str| judge(&format!("sh {} {class}", script.display())).unwrap();
        assert_eq!((all("a"), all("{kind}")), (0.5, 0.0));
        let message = judge("true").unwrap_err().to_string();
        assert!(message.contains("said nothing of"), "{message}");
    }
}
