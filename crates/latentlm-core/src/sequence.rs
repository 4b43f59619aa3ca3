//! Sequences of any modalities: documents of text and latents, and where everything stands when
//! they are packed (paper §2.2: text, `<BOD>`, latents, `<EOD>`, text).
//!
//! A class and its picture, a text and its speech, captions and pictures, text alone: each is a
//! document. Everything here is indices on the host; models gather with them.

/// The tokens around a modality's latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlTokens {
    /// `<BOD>`: latents begin.
    pub begin: u32,
    /// `<EOD>`: they have ended.
    pub end: u32,
    /// Another latent comes.
    pub more: u32,
}

impl ControlTokens {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// Those of a vocabulary of `text` tokens of text.
    pub fn after(text: usize) -> Self {
        let first = text as u32;
        Self {
            begin: first,
            end: first + 1,
            more: first + 2,
        }
    }
}

/// The tokens behind the text's vocabulary of a model that writes text too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `<BOS>`: a document begins.
    pub start: u32,
    /// `<EOS>`: it has ended.
    pub stop: u32,
    /// One entry a modality.
    pub modalities: Vec<ControlTokens>,
}

impl SpecialTokens {
    /// How many there are with so many modalities.
    pub fn count(modalities: usize) -> usize {
        2 + modalities * ControlTokens::COUNT
    }

    /// Those of a vocabulary of `text` tokens of text.
    pub fn after(text: usize, modalities: usize) -> Self {
        let of = |modality| ControlTokens::after(text + 2 + modality * ControlTokens::COUNT);
        Self {
            start: text as u32,
            stop: text as u32 + 1,
            modalities: (0..modalities).map(of).collect(),
        }
    }
}

/// One piece of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A class label, one position.
    Label {
        /// The class, a row of the label table.
        class: u32,
    },
    /// Text, or any tokens.
    Text {
        /// Ids.
        tokens: Vec<u32>,
        /// Whether each is learned from what comes before it. A document's first never is.
        learned: bool,
    },
    /// `<BOD>`, latents, and `<EOD>` where anything follows.
    Latents {
        /// Whose latents they are.
        modality: usize,
        /// How many, at least one.
        frames: usize,
        /// Whether the softmax head says after each whether another comes (speech), or their number
        /// is known (the grid of a picture).
        open_ended: bool,
        /// The token that each latent of an open-ended run says, where that is known; else empty. The
        /// softmax head learns it in place of [`ControlTokens::more`].
        said: Vec<u32>,
        /// Whether they are learned, and their `<BOD>` too if what stands before it is.
        learned: bool,
    },
    /// Latents with no tokens around them: the picture of a class. A learned run that ends its
    /// document is not read to its end: nothing follows its last latent.
    Bare {
        /// Whose latents they are.
        modality: usize,
        /// How many, at least one.
        frames: usize,
        /// Whether each is learned from what comes before it.
        learned: bool,
    },
}

/// A sequence that sees no other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// In the order in which they are read.
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

    /// A text and its speech, modality 0: the text is given, the speech ends when the model says so.
    /// `said` is the token that each latent says, or empty.
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

    /// Positions that it takes.
    pub fn positions(&self) -> usize {
        let last = self.segments.len().saturating_sub(1);
        let positions = |(index, segment): (usize, &Segment)| match segment {
            Segment::Label { .. } => 1,
            Segment::Text { tokens, .. } => tokens.len(),
            Segment::Latents { frames, .. } => 1 + frames + usize::from(index < last),
            Segment::Bare {
                frames, learned, ..
            } => frames.saturating_sub(usize::from(*learned && index == last)),
        };
        self.segments.iter().enumerate().map(positions).sum()
    }

    /// Tokens that it has, those around latents included.
    fn tokens(&self) -> usize {
        let last = self.segments.len().saturating_sub(1);
        let tokens = |(index, segment): (usize, &Segment)| match segment {
            Segment::Text { tokens, .. } => tokens.len(),
            Segment::Latents { .. } => 1 + usize::from(index < last),
            Segment::Label { .. } | Segment::Bare { .. } => 0,
        };
        self.segments.iter().enumerate().map(tokens).sum()
    }

    /// Class labels that it has.
    fn labels(&self) -> usize {
        let label = |segment: &&Segment| matches!(segment, Segment::Label { .. });
        self.segments.iter().filter(label).count()
    }

    /// Latents of a modality that it has.
    pub fn frames(&self, modality: usize) -> usize {
        let frames = |segment: &Segment| match segment {
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
        self.segments.iter().map(frames).sum()
    }

    /// Whether it has latents that are read and not learned: what it teaches is said of them.
    pub fn reads_latents(&self) -> bool {
        let read = |segment: &Segment| matches!(segment, Segment::Latents { learned: false, .. });
        self.segments.iter().any(read)
    }
}

/// Latents of one modality that are learned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LearnedLatents {
    /// The position before each: its hidden state is the diffusion head's condition.
    pub conditions: Vec<i64>,
    /// Each one's place among all latents of the modality.
    pub latents: Vec<i64>,
}

/// Where everything stands in documents packed one after the other without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Positions of each document.
    pub lengths: Vec<usize>,
    /// All tokens.
    pub tokens: Vec<i64>,
    /// All class labels.
    pub labels: Vec<i64>,
    /// The token that each latent says, [`ControlTokens::more`] where that is not known; one list a
    /// modality.
    pub said: Vec<Vec<i64>>,
    /// For every position a row of the tokens, or behind them of the labels, or behind those of the
    /// first modality's latents, or behind those of the second's, and so on.
    pub rows: Vec<i64>,
    /// Positions at which the softmax head is asked.
    pub asked: Vec<i64>,
    /// What it should say there.
    pub answers: Vec<i64>,
    /// How many of the answers are each document's.
    pub document_answers: Vec<usize>,
    /// What the diffusion head should draw, one entry a modality.
    pub learned: Vec<LearnedLatents>,
}

impl Layout {
    /// Lays documents out. `modalities` are the tokens around each modality's latents.
    ///
    /// # Panics
    /// If a document names a modality that is not there, has a run of no latents, says tokens in some
    /// latents of a run only or in a run of known length, or begins with latents that are to be learned
    /// without anything before them.
    pub fn new(documents: &[Document], modalities: &[ControlTokens]) -> Self {
        let frames = |m| documents.iter().map(|d| d.frames(m)).sum::<usize>();
        let first_label = documents.iter().map(Document::tokens).sum::<usize>() as i64;
        let labels = documents.iter().map(Document::labels).sum::<usize>();
        let mut next = first_label + labels as i64;
        let mut first_rows = Vec::with_capacity(modalities.len());
        for modality in 0..modalities.len() {
            first_rows.push(next);
            next += frames(modality) as i64;
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

    /// Every answer's weight, given the documents'.
    ///
    /// # Panics
    /// If there are not as many weights as documents.
    pub fn answer_weights(&self, documents: &[f64]) -> Vec<f64> {
        let counts = &self.document_answers;
        let (given, wanted) = (documents.len(), counts.len());
        assert_eq!(given, wanted, "{given} weights of {wanted} documents");
        let own = |(&weight, &count): (&f64, &usize)| std::iter::repeat_n(weight, count);
        documents.iter().zip(counts).flat_map(own).collect()
    }
}

/// Latents one after the other.
struct Run<'a> {
    frames: usize,
    /// The token that each says, where that is known.
    said: &'a [u32],
    learned: bool,
    /// Whether the softmax head is asked before each and behind the last.
    asked: bool,
}

struct Writer<'a> {
    layout: Layout,
    modalities: &'a [ControlTokens],
    /// Row of the first label.
    first_label: i64,
    /// Row of the first latent, a modality each.
    first_rows: Vec<i64>,
}

impl Writer<'_> {
    fn document(&mut self, document: &Document) {
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
                    if *learned && index == last {
                        self.layout.rows.pop();
                    }
                    (begun, before_learned) = (true, *learned);
                }
            }
        }
    }

    fn token(&mut self, token: u32, learned: bool) {
        if learned {
            self.ask(token);
        }
        self.layout.rows.push(self.layout.tokens.len() as i64);
        self.layout.tokens.push(i64::from(token));
    }

    fn latents(&mut self, modality: usize, run: Run<'_>) {
        assert!(run.frames > 0, "a run of no latents");
        let control = self.modalities[modality];
        for index in 0..run.frames {
            let latent = self.layout.said[modality].len() as i64;
            let said = run.said.get(index).copied().unwrap_or(control.more);
            if run.learned {
                let learned = &mut self.layout.learned[modality];
                learned.conditions.push(self.layout.rows.len() as i64 - 1);
                learned.latents.push(latent);
            }
            if run.asked {
                self.ask(said);
            }
            self.layout.said[modality].push(i64::from(said));
            self.layout.rows.push(self.first_rows[modality] + latent);
        }
        if run.asked {
            self.ask(control.end);
        }
    }

    /// The softmax head is asked at the newest position.
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

    /// Speech: text that is given, latents that end when the model says so.
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

    /// The last latent of a class's picture is only learned.
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

    /// Where it is known what latents say, the softmax head learns that, but at the end.
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
