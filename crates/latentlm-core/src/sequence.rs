//! Documents of text and latents of any modality, and the layout of packed documents in a sequence
//! (paper §2.2: text, `<BOD>`, latents, `<EOD>`, text).
//!
//! A class and its picture, a text and its speech, captions and pictures, text alone: each is a
//! document. A layout consists of indices on the host, with which models gather tensors.

/// Stands in the place of the token that a latent says where nobody tells it, as in a voice prompt. Such a latent is read
/// with [`ControlTokens::more`], and the softmax head learns nothing about what it says.
pub const UNTOLD: u32 = u32::MAX;

/// The tokens around a modality's latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlTokens {
    /// `<BOD>`: latents begin.
    pub begin: u32,
    /// `<EOD>`: latents have ended.
    pub end: u32,
    /// Target token of the softmax head if another latent follows.
    pub more: u32,
}

impl ControlTokens {
    /// Number of these tokens.
    pub const COUNT: usize = 3;

    /// The tokens right after a vocabulary of `text` tokens.
    pub fn after(text: usize) -> Self {
        let first = text as u32;
        Self {
            begin: first,
            end: first + 1,
            more: first + 2,
        }
    }
}

/// The tokens after the text vocabulary of a model that writes text too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `<BOS>`: a document begins.
    pub start: u32,
    /// `<EOS>`: the document has ended.
    pub stop: u32,
    /// The tokens around latents, for each modality.
    pub modalities: Vec<ControlTokens>,
}

impl SpecialTokens {
    /// Number of these tokens, given the number of modalities.
    pub fn count(modalities: usize) -> usize {
        2 + modalities * ControlTokens::COUNT
    }

    /// The tokens right after a vocabulary of `text` tokens.
    pub fn after(text: usize, modalities: usize) -> Self {
        let of = |modality| ControlTokens::after(text + 2 + modality * ControlTokens::COUNT);
        Self {
            start: text as u32,
            stop: text as u32 + 1,
            modalities: (0..modalities).map(of).collect(),
        }
    }
}

/// A segment of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A class label. It takes one position.
    Label {
        /// The class, which is a row of the label table.
        class: u32,
    },
    /// Text or other tokens.
    Text {
        /// Token ids.
        tokens: Vec<u32>,
        /// Whether the model learns to predict them. The first token of a document is never learned.
        learned: bool,
    },
    /// `<BOD>`, latents, and `<EOD>` if another segment follows.
    Latents {
        /// Index of the modality.
        modality: usize,
        /// Number of latents, at least one.
        frames: usize,
        /// Whether the softmax head predicts at each latent whether another follows, as in speech. Otherwise the
        /// number of latents is known, as in the grid of a picture.
        open_ended: bool,
        /// The token that each latent of an open-ended run says, if it is known, or else empty. It takes the place
        /// of [`ControlTokens::more`] as the target of the softmax head. Where only some of it is known, the other
        /// latents have [`UNTOLD`].
        said: Vec<u32>,
        /// Whether the model learns to predict the latents. Their `<BOD>` is then learned too if the segment
        /// before is.
        learned: bool,
    },
    /// Latents without tokens around them, as in the picture of a class. If the segment is learned and ends its
    /// document, its last latent has no position: nothing is predicted from it.
    Bare {
        /// Index of the modality.
        modality: usize,
        /// Number of latents, at least one.
        frames: usize,
        /// Whether the model learns to predict the latents.
        learned: bool,
    },
}

/// Segments that see each other and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// Segments in the order of reading.
    pub segments: Vec<Segment>,
}

impl Document {
    /// A class and its picture, modality 0.
    pub fn of_class(class: u32, frames: usize) -> Self {
        let picture = Segment::Bare {
            modality: 0,
            frames,
            learned: true,
        };
        Self {
            segments: vec![Segment::Label { class }, picture],
        }
    }

    /// A text and its speech, modality 0. The text is not learned, and the model predicts where speech ends.
    /// `said` holds the token that each latent says, or [`UNTOLD`], or is empty.
    pub fn of_speech(text: Vec<u32>, frames: usize, said: Vec<u32>) -> Self {
        let text = Segment::Text {
            tokens: text,
            learned: false,
        };
        let speech = Segment::Latents {
            modality: 0,
            frames,
            open_ended: true,
            said,
            learned: true,
        };
        Self {
            segments: vec![text, speech],
        }
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        let last = self.segments.len().saturating_sub(1);
        let mut positions = 0_usize;
        for (index, segment) in self.segments.iter().enumerate() {
            positions += match segment {
                Segment::Label { .. } => 1,
                Segment::Text { tokens, .. } => tokens.len(),
                Segment::Latents { frames, .. } => 1 + *frames + usize::from(index < last),
                Segment::Bare {
                    frames, learned, ..
                } => frames.saturating_sub(usize::from(*learned && index == last)),
            };
        }
        positions
    }

    /// Number of tokens, including those around latents.
    fn tokens(&self) -> usize {
        let last = self.segments.len().saturating_sub(1);
        let mut count = 0_usize;
        for (index, segment) in self.segments.iter().enumerate() {
            count += match segment {
                Segment::Text { tokens, .. } => tokens.len(),
                Segment::Latents { .. } => 1 + usize::from(index < last),
                Segment::Label { .. } | Segment::Bare { .. } => 0,
            };
        }
        count
    }

    /// Number of class labels.
    fn labels(&self) -> usize {
        self.segments
            .iter()
            .filter(|segment| matches!(segment, Segment::Label { .. }))
            .count()
    }

    /// Number of latents of a modality.
    pub fn frames(&self, modality: usize) -> usize {
        let mut count = 0_usize;
        for segment in &self.segments {
            count += match segment {
                Segment::Latents {
                    modality: own,
                    frames,
                    ..
                }
                | Segment::Bare {
                    modality: own,
                    frames,
                    ..
                } if *own == modality => *frames,
                _ => 0,
            };
        }
        count
    }

    /// Whether it has latents that are not learned: then the document teaches to write text about them.
    pub fn reads_latents(&self) -> bool {
        self.segments
            .iter()
            .any(|segment| matches!(segment, Segment::Latents { learned: false, .. }))
    }
}

/// Latents of one modality that are learned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LearnedLatents {
    /// For each latent the position before it, whose hidden state is the condition of the diffusion head.
    pub conditions: Vec<i64>,
    /// For each latent its index among all latents of the modality.
    pub latents: Vec<i64>,
}

/// Layout of packed documents, which follow each other without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Number of positions of each document.
    pub lengths: Vec<usize>,
    /// All tokens.
    pub tokens: Vec<i64>,
    /// All class labels.
    pub labels: Vec<i64>,
    /// For each modality the token that each of its latents says, or [`ControlTokens::more`] if it is not known.
    pub said: Vec<Vec<i64>>,
    /// For each position the row of its embedding in this stack: all tokens, then all labels, then the latents
    /// of the first modality, of the second, and so on.
    pub rows: Vec<i64>,
    /// Positions at which the softmax head predicts a token.
    pub asked: Vec<i64>,
    /// Target tokens at these positions.
    pub answers: Vec<i64>,
    /// Number of target tokens in each document.
    pub document_answers: Vec<usize>,
    /// For each modality the latents that the diffusion head learns.
    pub learned: Vec<LearnedLatents>,
}

impl Layout {
    /// The layout of documents. `modalities` holds the tokens around the latents of each modality.
    ///
    /// # Panics
    /// - If a document names an unknown modality.
    /// - If a run has no latents.
    /// - If only some latents of a run have a said token, or a run of known length has them.
    /// - If a document starts with latents that are to be learned: there is nothing to predict them from.
    pub fn new(documents: &[Document], modalities: &[ControlTokens]) -> Self {
        let first_label = documents.iter().map(Document::tokens).sum::<usize>() as i64;
        let labels = documents.iter().map(Document::labels).sum::<usize>();
        let mut next = first_label + labels as i64;
        let mut first_rows = Vec::with_capacity(modalities.len());
        for modality in 0..modalities.len() {
            first_rows.push(next);
            let frames: usize = documents.iter().map(|own| own.frames(modality)).sum();
            next += frames as i64;
        }
        let mut writer = Writer {
            layout: Self {
                lengths: documents.iter().map(Document::positions).collect(),
                tokens: Vec::new(),
                labels: Vec::with_capacity(labels),
                said: vec![Vec::new(); modalities.len()],
                rows: Vec::new(),
                asked: Vec::new(),
                answers: Vec::new(),
                document_answers: Vec::with_capacity(documents.len()),
                learned: vec![LearnedLatents::default(); modalities.len()],
            },
            modalities,
            first_label,
            first_rows,
        };
        for document in documents {
            let before = writer.layout.answers.len();
            writer.document(document);
            let own = writer.layout.answers.len() - before;
            writer.layout.document_answers.push(own);
        }
        writer.layout
    }

    /// The weight of each target token, given a weight for each document.
    ///
    /// # Panics
    /// If the number of weights is not the number of documents.
    pub fn answer_weights(&self, documents: &[f64]) -> Vec<f64> {
        let counts = &self.document_answers;
        let (given, wanted) = (documents.len(), counts.len());
        assert_eq!(given, wanted, "{given} weights of {wanted} documents");
        let mut weights = Vec::new();
        for (&weight, &count) in documents.iter().zip(counts) {
            weights.extend(std::iter::repeat_n(weight, count));
        }
        weights
    }
}

/// A run of latents of one segment.
struct Run<'a> {
    frames: usize,
    /// The token that each latent says or [`UNTOLD`], or empty.
    said: &'a [u32],
    learned: bool,
    /// Whether the softmax head predicts a token before each latent and after the last.
    asked: bool,
}

/// Writes a layout, document by document.
struct Writer<'a> {
    layout: Layout,
    modalities: &'a [ControlTokens],
    /// Row of the first label.
    first_label: i64,
    /// Row of the first latent of each modality.
    first_rows: Vec<i64>,
}

impl Writer<'_> {
    /// Adds a document.
    fn document(&mut self, document: &Document) {
        // Whether the document has a position yet, and whether the segment before is learned.
        let (mut begun, mut before_learned) = (false, false);
        let last = document.segments.len().saturating_sub(1);
        for (index, segment) in document.segments.iter().enumerate() {
            match segment {
                Segment::Label { class } => {
                    let row = self.first_label + self.layout.labels.len() as i64;
                    self.layout.rows.push(row);
                    self.layout.labels.push(i64::from(*class));
                    (begun, before_learned) = (true, false);
                }
                Segment::Text { tokens, learned } => {
                    for token in tokens {
                        self.token(*token, *learned && begun);
                        begun = true;
                    }
                    before_learned = *learned;
                }
                Segment::Latents {
                    modality,
                    frames,
                    open_ended,
                    said,
                    learned,
                } => {
                    let known = said.is_empty() || (*open_ended && said.len() == *frames);
                    let count = said.len();
                    assert!(known, "{count} tokens said by a run of {frames} latents");
                    let control = self.modalities[*modality];
                    self.token(control.begin, *learned && before_learned && begun);
                    let run = Run {
                        frames: *frames,
                        said,
                        learned: *learned,
                        asked: *learned && *open_ended,
                    };
                    self.latents(*modality, run);
                    if index < last {
                        self.token(control.end, false);
                    }
                    (begun, before_learned) = (true, *learned);
                }
                Segment::Bare {
                    modality,
                    frames,
                    learned,
                } => {
                    assert!(begun || !learned, "nothing stands before what is learned");
                    let run = Run {
                        frames: *frames,
                        said: &[],
                        learned: *learned,
                        asked: false,
                    };
                    self.latents(*modality, run);
                    // Nothing is predicted from the last latent, so it needs no position.
                    if *learned && index == last {
                        self.layout.rows.pop();
                    }
                    (begun, before_learned) = (true, *learned);
                }
            }
        }
    }

    /// Adds a position with a token, which is a target of the position before if it is learned.
    fn token(&mut self, token: u32, learned: bool) {
        if learned {
            self.ask(token);
        }
        self.layout.rows.push(self.layout.tokens.len() as i64);
        self.layout.tokens.push(i64::from(token));
    }

    /// Adds positions for a run of latents.
    fn latents(&mut self, modality: usize, run: Run<'_>) {
        assert!(run.frames > 0, "a run of no latents");
        let control = self.modalities[modality];
        for index in 0..run.frames {
            let latent = self.layout.said[modality].len() as i64;
            let said = run.said.get(index).copied().unwrap_or(control.more);
            let is_told = said != UNTOLD;
            let said = if is_told { said } else { control.more };
            if run.learned {
                let learned = &mut self.layout.learned[modality];
                learned.conditions.push(self.layout.rows.len() as i64 - 1);
                learned.latents.push(latent);
            }
            if run.asked && is_told {
                self.ask(said);
            }
            self.layout.said[modality].push(i64::from(said));
            self.layout.rows.push(self.first_rows[modality] + latent);
        }
        if run.asked {
            self.ask(control.end);
        }
    }

    /// Makes a token the target of the softmax head at the newest position.
    fn ask(&mut self, answer: u32) {
        self.layout.asked.push(self.layout.rows.len() as i64 - 1);
        self.layout.answers.push(i64::from(answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tokens: &[u32], learned: bool) -> Segment {
        Segment::Text {
            tokens: tokens.to_vec(),
            learned,
        }
    }

    fn latents(modality: usize, frames: usize, open_ended: bool, learned: bool) -> Segment {
        Segment::Latents {
            modality,
            frames,
            open_ended,
            said: Vec::new(),
            learned,
        }
    }

    fn document(segments: &[Segment]) -> Document {
        Document {
            segments: segments.to_vec(),
        }
    }

    /// Speech: text that is not learned, and latents whose end is predicted.
    #[test]
    fn utterances_stand_one_after_the_other() {
        let said = |tokens: &[u32], frames| {
            document(&[text(tokens, false), latents(0, frames, true, true)])
        };
        let documents = [said(&[1, 2, 3], 2), said(&[], 1), said(&[4], 3)];
        let layout = Layout::new(&documents, &[ControlTokens::after(8)]);
        assert_eq!(layout.tokens, [1, 2, 3, 8, 8, 4, 8]);
        assert_eq!(layout.rows, [0, 1, 2, 3, 7, 8, 4, 9, 5, 6, 10, 11, 12]);
        assert_eq!(layout.asked, [3, 4, 5, 6, 7, 9, 10, 11, 12]);
        assert_eq!(layout.answers, [10, 10, 9, 10, 9, 10, 10, 10, 9]);
        assert_eq!(layout.learned[0].conditions, [3, 4, 6, 9, 10, 11]);
        assert_eq!(layout.learned[0].latents, [0, 1, 2, 3, 4, 5]);
    }

    /// A caption and its picture, a picture and its caption, text and a sound, in one pack.
    #[test]
    fn modalities_alternate() {
        let special = SpecialTokens::after(10, 2); // 10 start, 11 stop, 12.. picture, 15.. sound
        assert_eq!(special.modalities[1].more, 17);
        assert_eq!(SpecialTokens::count(2), 8);
        let documents = [
            document(&[
                text(&[10, 1], true),
                latents(0, 2, false, true),
                text(&[11], true),
            ]),
            document(&[
                text(&[10], true),
                latents(0, 2, false, false),
                text(&[2, 11], true),
            ]),
            document(&[text(&[10, 3], true), latents(1, 1, true, true)]),
        ];
        let lengths: Vec<usize> = documents.iter().map(Document::positions).collect();
        assert_eq!(lengths, [7, 7, 4]);
        assert_eq!((documents[0].frames(0), documents[0].frames(1)), (2, 0));
        let layout = Layout::new(&documents, &special.modalities);
        let tokens = [10, 1, 12, 13, 11, 10, 12, 13, 2, 11, 10, 3, 15];
        assert_eq!(layout.tokens, tokens);
        let rows = [[0, 1, 2, 13, 14, 3, 4], [5, 6, 15, 16, 7, 8, 9]];
        assert_eq!(layout.rows[..14], rows.concat());
        assert_eq!(layout.rows[14..], [10, 11, 12, 17]);
        // The picture's end is known, what is said about it is not.
        assert_eq!(layout.asked, [0, 1, 5, 11, 12, 14, 15, 16, 17]);
        assert_eq!(layout.answers, [1, 12, 11, 2, 11, 3, 15, 17, 16]);
        assert_eq!(layout.document_answers, [3, 2, 4]);
        let weights = [1.0, 5.0, 2.0];
        let each = [1.0, 1.0, 1.0, 5.0, 5.0, 2.0, 2.0, 2.0, 2.0];
        assert_eq!(layout.answer_weights(&weights), each);
        let read: Vec<bool> = documents.iter().map(Document::reads_latents).collect();
        assert_eq!(read, [false, true, false]);
        assert_eq!(layout.learned[0].conditions, [2, 3]);
        assert_eq!(layout.learned[0].latents, [0, 1]);
        assert_eq!(layout.learned[1].conditions, [16]);
        assert_eq!(layout.learned[1].latents, [0]);
    }

    /// The last latent of a picture is learned and has no position.
    #[test]
    fn a_label_stands_where_the_picture_begins() {
        let documents = [(7, 3), (5, 1), (7, 2)].map(|(class, n)| Document::of_class(class, n));
        let layout = Layout::new(&documents, &[ControlTokens::after(0)]);
        assert_eq!(layout.lengths, [3, 1, 2]);
        assert_eq!(layout.labels, [7, 5, 7]);
        // Rows 0 to 2 are the labels, 3 to 8 the latents.
        assert_eq!(layout.rows, [0, 3, 4, 1, 2, 7]);
        assert_eq!(layout.learned[0].conditions, [0, 1, 2, 3, 4, 5]);
        assert_eq!(layout.learned[0].latents, [0, 1, 2, 3, 4, 5]);
        assert!(layout.tokens.is_empty() && layout.asked.is_empty());
    }

    /// Rows are tokens, then labels, then latents.
    #[test]
    fn labels_stand_between_tokens_and_latents() {
        let segments = [
            text(&[1, 2], true),
            Segment::Label { class: 3 },
            latents(0, 1, false, true),
            text(&[4], true),
        ];
        let layout = Layout::new(&[document(&segments)], &[ControlTokens::after(8)]);
        assert_eq!(layout.tokens, [1, 2, 8, 9, 4]);
        assert_eq!(layout.rows, [0, 1, 5, 2, 6, 3, 4]);
        assert_eq!(layout.lengths, [7]);
        // Latents behind a label are given to the model: their `<BOD>` is not learned.
        assert_eq!((layout.asked, layout.answers), (vec![0, 5], vec![2, 4]));
    }

    /// Said tokens are the targets if they are known, except at the end.
    #[test]
    fn latents_are_named() {
        let control = ControlTokens::after(8);
        let [more, end] = [control.more, control.end].map(i64::from);
        let documents = [
            Document::of_speech(vec![1, 2, 3], 2, Vec::new()),
            Document::of_speech(Vec::new(), 1, Vec::new()),
            Document::of_speech(vec![4], 3, vec![4, 4, control.more]),
        ];
        let layout = Layout::new(&documents, &[control]);
        let answers = [more, more, end, more, end, 4, 4, more, end];
        assert_eq!(layout.answers, answers);
        assert_eq!(layout.said, [vec![more, more, more, 4, 4, more]]);
    }

    /// Latents of which nobody tells what they say are read like those that say nothing, and what they say is no target.
    /// They are learned all the same, and what is said behind them is told at the last.
    #[test]
    fn what_is_untold_is_no_target() {
        let control = ControlTokens::after(8);
        let [more, end] = [control.more, control.end].map(i64::from);
        let said = vec![UNTOLD, UNTOLD, control.more, 4];
        let documents = [
            Document::of_speech(vec![3, 4], 4, said),
            Document::of_speech(vec![1], 1, vec![1]),
        ];
        let layout = Layout::new(&documents, &[control]);
        assert_eq!(layout.said, [vec![more, more, more, 4, 1]]);
        // Positions: two tokens, `<BOD>`, four latents; one token, `<BOD>`, one latent.
        assert_eq!(layout.lengths, [7, 3]);
        assert_eq!(layout.asked, [4, 5, 6, 8, 9]);
        assert_eq!(layout.answers, [more, 4, end, 1, end]);
        assert_eq!(layout.document_answers, [3, 2]);
        assert_eq!(layout.learned[0].conditions, [2, 3, 4, 5, 8]);
        assert_eq!(layout.learned[0].latents, [0, 1, 2, 3, 4]);
    }

    #[test]
    #[should_panic(expected = "1 tokens said by a run of 2 latents")]
    fn what_is_said_is_known_of_all_latents() {
        let document = Document::of_speech(vec![1], 2, vec![1]);
        Layout::new(&[document], &[ControlTokens::after(8)]);
    }

    #[test]
    #[should_panic(expected = "nothing stands before what is learned")]
    fn a_document_does_not_begin_with_what_is_learned() {
        let picture = Segment::Bare {
            modality: 0,
            frames: 2,
            learned: true,
        };
        Layout::new(&[document(&[picture])], &[ControlTokens::after(1)]);
    }

    #[test]
    #[should_panic(expected = "a run of no latents")]
    fn a_run_has_latents() {
        Layout::new(
            &[document(&[latents(0, 0, true, true)])],
            &[ControlTokens::after(1)],
        );
    }
}
