//! Training documents of text and pictures: caption then picture, picture then caption, and text alone
//! (paper §3.2).

use latentlm_core::sequence::{Document, Segment, SpecialTokens};
use serde::{Deserialize, Serialize};

use crate::dataset::ImageDataset;
use crate::error::DataError;
use crate::normal::normal_text;
use crate::text::TextTokenizer;

/// Modality index of pictures.
pub const PICTURES: usize = 0;

/// Number of documents of each kind per epoch; 0 leaves a kind out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mix {
    /// Documents per picture in which the picture follows its caption.
    pub draw: usize,
    /// Documents per picture in which the caption follows the picture.
    pub caption: usize,
    /// Documents per piece of text.
    pub text: usize,
}

impl Mix {
    /// Every caption, behind its picture, and every piece of text once.
    pub const ONCE: Self = Self {
        draw: 0,
        caption: 1,
        text: 1,
    };
}

/// Sizes of the segments in documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MllmSizes {
    /// Number of latents of a picture.
    pub frames: usize,
    /// Largest number of tokens of a piece of text.
    pub piece_tokens: usize,
}

/// The caption of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// Description of the picture.
    pub text: String,
    /// Name of the picture's class. `None` if there is only one class, or if `text` is the class name.
    pub category: Option<String>,
}

impl Caption {
    /// The captions of all pictures of a dataset, in the [normal form](normal_text) that a model learns and writes.
    /// Pictures without a caption get their class name.
    pub fn all(pictures: &ImageDataset) -> Vec<Self> {
        let classes = pictures.classes();
        let mut captions = Vec::with_capacity(pictures.len());
        for index in 0..pictures.len() {
            let class = normal_text(&classes[pictures.label(index) as usize].to_lowercase());
            let text = pictures.caption(index).map(normal_text).unwrap_or_default();
            captions.push(if text.is_empty() {
                Self {
                    text: class,
                    category: None,
                }
            } else {
                Self {
                    text,
                    category: (classes.len() > 1).then_some(class),
                }
            });
        }
        captions
    }

    /// The caption that a model learns to generate: `animals & nature: dog face`.
    pub fn said(&self) -> String {
        match &self.category {
            Some(category) => format!("{} {}", Self::beginning(category), self.text),
            None => self.text.clone(),
        }
    }

    /// The first words of every caption of a category: `animals & nature:`.
    pub fn beginning(category: &str) -> String {
        format!("{category}:")
    }

    /// Prompts for drawing the picture: the text alone, with an article, and with its category.
    pub fn asked(&self) -> Vec<String> {
        let mut asked = vec![self.text.clone(), format!("a {}", self.text)];
        asked.extend(self.category.as_ref().map(|_| self.said()));
        asked
    }

    /// The category in a generated caption.
    pub fn category_of(said: &str) -> Option<&str> {
        said.split_once(": ").map(|(category, _)| category)
    }
}

/// A sample that documents can describe.
pub trait Described {
    /// Prompts for drawing it, at least one.
    fn asked(&self) -> Vec<String>;

    /// The caption that a model learns to generate.
    fn said(&self) -> String;
}

impl Described for Caption {
    fn asked(&self) -> Vec<String> {
        Caption::asked(self)
    }

    fn said(&self) -> String {
        Caption::said(self)
    }
}

/// A text that is asked for and said as it is.
impl Described for String {
    fn asked(&self) -> Vec<String> {
        vec![self.clone()]
    }

    fn said(&self) -> String {
        self.clone()
    }
}

/// A document, by indices into the corpus.
#[derive(Debug, Clone, Copy)]
enum Item {
    /// A prompt and its picture. `way` selects the prompt.
    Draw {
        picture: usize,
        way: usize,
    },
    /// A picture and its caption.
    Caption {
        picture: usize,
    },
    Text {
        piece: usize,
    },
}

/// A text segment that counts in the loss.
fn learned(tokens: Vec<u32>) -> Segment {
    Segment::Text {
        tokens,
        learned: true,
    }
}

/// Tokenized documents of text and pictures, for training or evaluation.
#[derive(Debug, Clone)]
pub struct MllmCorpus {
    /// Tokens of each prompt of each picture.
    asked: Vec<Vec<Vec<u32>>>,
    /// Tokens of each picture's caption.
    said: Vec<Vec<u32>>,
    /// Tokens of the pieces of text.
    pieces: Vec<Vec<u32>>,
    /// All documents.
    items: Vec<Item>,
    special: SpecialTokens,
    frames: usize,
}

impl MllmCorpus {
    /// Tokenizes captions and paragraphs and builds the documents of `mix`. Paragraphs are cut into pieces
    /// of at most `sizes.piece_tokens` tokens.
    ///
    /// # Errors
    /// If a text can't be encoded, or there are no documents.
    pub fn new<D: Described>(
        captions: &[D],
        paragraphs: &[String],
        tokenizer: &TextTokenizer,
        sizes: MllmSizes,
        mix: Mix,
    ) -> Result<Self, DataError> {
        let special = SpecialTokens::after(tokenizer.vocabulary(), 1);
        let encode = |texts: Vec<String>| -> Result<Vec<Vec<u32>>, DataError> {
            texts.iter().map(|text| tokenizer.encode(text)).collect()
        };
        let asked = captions.iter().map(|caption| encode(caption.asked()));
        let said = encode(captions.iter().map(Described::said).collect())?;
        let mut pieces = Vec::new();
        for tokens in encode(paragraphs.to_vec())? {
            let whole = [tokens, vec![special.stop]].concat();
            let pieces_of_whole = whole.chunks(sizes.piece_tokens.max(1));
            pieces.extend(pieces_of_whole.map(<[u32]>::to_vec));
        }
        let mut items = Vec::new();
        for picture in 0..captions.len() {
            items.extend((0..mix.draw).map(|way| Item::Draw { picture, way }));
            items.extend((0..mix.caption).map(|_| Item::Caption { picture }));
        }
        for piece in 0..pieces.len() {
            items.extend((0..mix.text).map(|_| Item::Text { piece }));
        }
        if items.is_empty() {
            return Err(DataError::Text {
                reason: "there are no captions and no text to learn from".into(),
            });
        }
        Ok(Self {
            asked: asked.collect::<Result<_, _>>()?,
            said,
            pieces,
            items,
            special,
            frames: sizes.frames,
        })
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no documents; always false.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Index of the picture in a document; `None` for text alone.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn picture(&self, index: usize) -> Option<usize> {
        match self.items[index] {
            Item::Draw { picture, .. } | Item::Caption { picture } => Some(picture),
            Item::Text { .. } => None,
        }
    }

    /// The document at `index`. With `dropped`, the prompt of a picture is left out: classifier-free
    /// guidance needs a model that also draws without a prompt.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn document(&self, index: usize, dropped: bool) -> Document {
        let start = self.special.start;
        let segments = match self.items[index] {
            Item::Draw { picture, way } => {
                let ways = &self.asked[picture];
                let asked = if dropped {
                    &[][..]
                } else {
                    &ways[way % ways.len()]
                };
                let begin = learned([&[start], asked].concat());
                let end = learned(vec![self.special.stop]);
                vec![begin, self.latents(true), end]
            }
            Item::Caption { picture } => {
                let said = [&self.said[picture][..], &[self.special.stop]].concat();
                return self.saying(said);
            }
            Item::Text { piece } => vec![learned([&[start], &self.pieces[piece][..]].concat())],
        };
        Document { segments }
    }

    /// A document of a picture and the tokens of its caption. The picture does not count in the loss.
    pub fn saying(&self, said: Vec<u32>) -> Document {
        let begin = learned(vec![self.special.start]);
        Document {
            segments: vec![begin, self.latents(false), learned(said)],
        }
    }

    /// The latents of a picture; `learned` tells whether they count in the loss.
    fn latents(&self, learned: bool) -> Segment {
        Segment::Latents {
            modality: PICTURES,
            frames: self.frames,
            open_ended: false,
            said: Vec::new(),
            learned,
        }
    }

    /// Number of positions of each document.
    pub fn lengths(&self) -> Vec<usize> {
        let length = |index| self.document(index, false).positions();
        (0..self.len()).map(length).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::TokenizerKind;

    fn corpus(mix: Mix) -> (MllmCorpus, TextTokenizer) {
        let captions = [("dog", Some("animals")), ("7", None)].map(|(text, category)| Caption {
            text: text.into(),
            category: category.map(str::to_owned),
        });
        let paragraphs = ["god is a magnolia: 7".to_owned()];
        let texts: Vec<String> = captions.iter().flat_map(Caption::asked).collect();
        let texts = [texts, paragraphs.to_vec()].concat();
        let tokenizer = TextTokenizer::train(TokenizerKind::Characters, &texts, 64).unwrap();
        let sizes = MllmSizes {
            frames: 3,
            piece_tokens: 8,
        };
        let corpus = MllmCorpus::new(&captions, &paragraphs, &tokenizer, sizes, mix);
        (corpus.unwrap(), tokenizer)
    }

    fn words(document: &Document, tokenizer: &TextTokenizer) -> Vec<String> {
        let special = SpecialTokens::after(tokenizer.vocabulary(), 1);
        let word = |token: &u32| match *token {
            t if t == special.start => "<s>".into(),
            t if t == special.stop => "</s>".into(),
            t => tokenizer.decode(&[t]).unwrap(),
        };
        let segment = |segment: &Segment| match segment {
            Segment::Label { class } => format!("[{class}]"),
            Segment::Text { tokens, .. } => tokens.iter().map(word).collect::<String>(),
            Segment::Latents { learned, .. } | Segment::Bare { learned, .. } => {
                format!("[{learned}]")
            }
        };
        document.segments.iter().map(segment).collect()
    }

    #[test]
    fn documents_go_both_ways() {
        let mix = Mix {
            draw: 3,
            caption: 1,
            text: 1,
        };
        let (corpus, tokenizer) = corpus(mix);
        let read = |index, dropped| words(&corpus.document(index, dropped), &tokenizer);
        assert_eq!(read(0, false), ["<s>dog", "[true]", "</s>"]);
        assert_eq!(
            read(1, false)[0],
            "<s>adog",
            "one token a character, decoded alone"
        );
        assert_eq!(read(2, false)[0], "<s>animals:dog");
        assert_eq!(read(2, true), ["<s>", "[true]", "</s>"]);
        assert_eq!(read(3, false), ["<s>", "[false]", "animals:dog</s>"]);
        let beginning = tokenizer.encode(&Caption::beginning("animals")).unwrap();
        let said = words(&corpus.saying(beginning.clone()), &tokenizer);
        assert_eq!(said, ["<s>", "[false]", "animals:"]);
        let whole = tokenizer.encode("animals: dog").unwrap();
        assert!(whole.starts_with(&beginning), "{beginning:?} of {whole:?}");
        assert_eq!(
            read(6, false)[0],
            "<s>7",
            "the third way is the first again"
        );
        assert_eq!((corpus.picture(7), corpus.picture(8)), (Some(1), None));
        let pieces: Vec<String> = (8..corpus.len()).map(|i| read(i, false).concat()).collect();
        assert_eq!(pieces, ["<s>godisa", "<s>magnoli", "<s>a:7</s>"]);
        let lengths: Vec<usize> = corpus.lengths();
        assert_eq!(
            lengths[..4],
            [1 + 3 + 5 + 1, 1 + 5 + 5 + 1, 1 + 12 + 5 + 1, 1 + 5 + 13]
        );
    }

    /// What a model says is compared with the caption: a model that says it exactly is right, however the table
    /// writes it.
    #[test]
    fn captions_are_as_a_model_says_them() {
        let dir = tempfile::tempdir().unwrap();
        let records = [
            r#"{"file_name": "0.png", "label": "Cafe\u0301", "text": " two\u00a0 red\nhearts "}"#,
            r#"{"file_name": "1.png", "label": "Cafe\u0301", "text": "\ufeff"}"#,
            r#"{"file_name": "2.png", "label": "b", "text": "gro\u0308\u00dfe"}"#,
            r#"{"file_name": "3.png", "label": "b", "split": "test"}"#,
        ];
        std::fs::write(dir.path().join("metadata.jsonl"), records.join("\n")).unwrap();
        for number in 0..records.len() {
            let picture = dir.path().join(format!("{number}.png"));
            image::GrayImage::new(2, 2).save(picture).unwrap();
        }
        let spec = crate::ImageSpec {
            channels: 1,
            height: 2,
            width: 2,
        };
        let options = crate::ReadOptions::default();
        let [train, test] = ImageDataset::open_both(dir.path(), spec, options).unwrap();
        let mut said = Vec::new();
        for pictures in [train, test] {
            said.extend(Caption::all(&pictures).iter().map(Caption::said));
        }
        said.sort();
        let expected = [
            "b",
            "b: gr\u{f6}\u{df}e",
            "caf\u{e9}",
            "caf\u{e9}: two red hearts",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_category_is_read_back() {
        assert_eq!(
            Caption::category_of("animals & nature: dog"),
            Some("animals & nature")
        );
        assert_eq!(Caption::category_of("dog"), None);
    }
}
