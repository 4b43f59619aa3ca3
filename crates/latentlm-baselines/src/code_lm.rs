//! A codec language model of speech after VALL-E 2 (Chen et al. 2024, arXiv 2406.05370): codes of the first codebook
//! one group after the other, then those of the other codebooks, each in one pass.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::code_config::CodeLmConfig;
use crate::code_fill::{Filling, ParallelCodeLm};
use crate::code_groups::{Beginning, FirstCodes, GroupedCodeLm};
use crate::code_sampling::CodeOptions;

impl CodeLmConfig {
    /// Builds the model. Its parameters are drawn from the device's generator, so seed that first.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> CodeLm {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        CodeLm {
            grouped: GroupedCodeLm::new(self, device),
            parallel: ParallelCodeLm::new(self, device),
            group: self.group,
        }
    }
}

/// The two networks, which share nothing but the data they learn from.
#[derive(Module, Debug)]
pub struct CodeLm {
    /// The first codebook.
    pub grouped: GroupedCodeLm,
    /// The other codebooks.
    pub parallel: ParallelCodeLm,
    group: usize,
}

/// A text and its speech in codes, with what the second network learns of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SpokenCodes {
    /// Tokens of the text.
    pub text: Vec<u32>,
    /// Codes, frame after frame, those of all codebooks for each.
    pub codes: Vec<i64>,
    /// The token of text that each frame says; empty if that is not known. A token behind the text's vocabulary
    /// stands for silence, and [`UNTOLD`](latentlm_core::sequence::UNTOLD) for one that is read like silence and not
    /// learned, as in a voice.
    pub said: Vec<u32>,
    /// The codebook that the second network predicts, from 1.
    pub book: usize,
    /// Frames at the beginning whose codes it is given: a voice. Fewer than there are frames.
    pub voice: usize,
}

/// The losses of both networks, `[1]` each. Only an aligned model has `said`; in another it is 0.
#[derive(Debug, Clone)]
pub struct CodeLmLoss {
    /// Mean cross entropy of the first codebook, and of the ends.
    pub first: Tensor<1>,
    /// Mean cross entropy of the other codebooks.
    pub others: Tensor<1>,
    /// Mean cross entropy of the tokens that groups say.
    pub said: Tensor<1>,
}

/// What is to be said.
#[derive(Debug, Clone, PartialEq)]
pub struct CodePrompt {
    /// Tokens of the text; with a voice, those of its text come first.
    pub text: Vec<u32>,
    /// Codes of a recording whose voice is continued, frame after frame; empty for none. The first frames, which
    /// make no whole group, are left out.
    pub voice: Vec<i64>,
    /// Seed of the drawn codes.
    pub seed: u64,
}

/// Speech in codes, without the voice it continues.
#[derive(Debug, Clone, PartialEq)]
pub struct CodeSpeech {
    /// Codes, frame after frame, those of all codebooks for each.
    pub codes: Vec<i64>,
    /// Whether it was cut because it did not end by itself.
    pub was_cut: bool,
}

impl CodeLm {
    /// `Q`, codebooks.
    pub fn codebooks(&self) -> usize {
        self.parallel.codebooks()
    }

    /// `G`, codes of the first codebook in a position.
    pub fn group(&self) -> usize {
        self.group
    }

    /// The losses of both networks on documents packed into one sequence each.
    ///
    /// # Panics
    /// If there is no document, a speech has no frame behind its voice, or what is said is known of some of its frames
    /// only.
    pub fn loss(&self, documents: &[SpokenCodes], device: &Device) -> CodeLmLoss {
        let books = self.codebooks();
        let (mut firsts, mut fillings) = (Vec::new(), Vec::new());
        for own in documents {
            assert!(
                own.codes.len() > own.voice * books,
                "a voice of {} frames in {} codes",
                own.voice,
                own.codes.len()
            );
            firsts.push(FirstCodes {
                text: &own.text,
                codes: first_codes(&own.codes, books),
                said: &own.said,
            });
            fillings.push(Filling {
                text: &own.text,
                codes: &own.codes,
                voice: own.voice,
                book: own.book,
            });
        }
        let grouped = self.grouped.surprise(&firsts, device);
        let said = grouped.said.map(Tensor::mean);
        CodeLmLoss {
            first: grouped.codes.mean(),
            others: self.parallel.surprise(&fillings, device).mean(),
            said: said.unwrap_or_else(|| Tensor::zeros([1], device)),
        }
    }

    /// Says texts: codes of the first codebook until speech ends or has `most` frames, then the other codebooks.
    /// What a text sounds like depends on its prompt alone. No sound can be made before the last code of the
    /// first codebook is drawn: the second network reads it from the beginning.
    ///
    /// # Panics
    /// If the codes of a voice are no whole frames.
    pub fn speak(
        &self,
        prompts: &[CodePrompt],
        most: usize,
        options: &CodeOptions,
        device: &Device,
    ) -> Vec<CodeSpeech> {
        if prompts.is_empty() {
            return Vec::new();
        }
        let books = self.codebooks();
        let (mut voices, mut beginnings) = (Vec::new(), Vec::new());
        for prompt in prompts {
            let count = prompt.voice.len();
            assert!(count.is_multiple_of(books), "{count} codes of a voice");
            let spare = count / books % self.group;
            let voice = &prompt.voice[spare * books..];
            beginnings.push(Beginning {
                text: &prompt.text,
                voice: first_codes(voice, books),
                seed: prompt.seed,
            });
            voices.push(voice);
        }
        let drawn = self.grouped.draw(&beginnings, most, options, device);
        let mut speeches = Vec::with_capacity(prompts.len());
        for ((prompt, voice), drawn) in prompts.iter().zip(voices).zip(drawn) {
            let frames = voice.len() / books;
            let mut codes = voice.to_vec();
            for code in drawn.codes {
                codes.push(code);
                codes.extend(std::iter::repeat_n(0, books - 1));
            }
            // One speech at a time: frames of several would be one long sequence.
            if codes.len() > voice.len() {
                for book in 1..books {
                    let filling = Filling {
                        text: &prompt.text,
                        codes: &codes,
                        voice: frames,
                        book,
                    };
                    let filled = self.parallel.fill(&[filling], device);
                    let behind = codes[frames * books..].chunks_exact_mut(books);
                    for (frame, code) in behind.zip(filled) {
                        frame[book] = code;
                    }
                }
            }
            speeches.push(CodeSpeech {
                codes: codes.split_off(frames * books),
                was_cut: drawn.was_cut,
            });
        }
        speeches
    }
}

/// The codes of the first codebook.
fn first_codes(codes: &[i64], books: usize) -> Vec<i64> {
    codes.iter().copied().step_by(books).collect()
}
