//! Text and latents as they come: the heads are switched by the tokens that are made.

mod run;

use burn::tensor::{Device, Tensor};
use latentlm_core::sequence::{Document, Segment, SpecialTokens};
use latentlm_core::{CausalBackbone, LatentHead, ModalityAdapter, RandomStream, SampleOptions};
use latentlm_kernels::at_once;

use self::run::Run;
use crate::draw::draw_latents;
use crate::generate::independent_parts;
use crate::mixed::MixedAdapters;
use crate::model::LatentLm;
use crate::text_sampling::TextOptions;
use latentlm_adapters::packed::{embed, indices};

/// Prompts that are worth a thread of their own.
const PROMPTS_A_PART: usize = 4;

/// A piece of what is given or made.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "a tensor is a handle: a prompt has a few"
)]
pub enum Piece {
    /// Tokens of text.
    Text(Vec<u32>),
    /// Latents as their codec makes and decodes them, `[T, Z]`.
    Latents {
        /// Whose they are.
        modality: usize,
        /// `[T, Z]`
        latents: Tensor<2>,
    },
}

/// What is to be gone on with.
#[derive(Debug, Clone, Default)]
pub struct MixedPrompt {
    /// In the order in which they are read; `<BOS>`, `<BOD>` and `<EOD>` are put around them.
    pub pieces: Vec<Piece>,
    /// The modality whose latents are to come next; otherwise text comes, or what the text asks for.
    pub open: Option<usize>,
    /// Seed of this prompt's noise: what is made does not depend on the others of the batch.
    pub seed: u64,
}

/// How a model goes on with its prompts.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// How tokens are drawn.
    pub text: TextOptions,
    /// How latents are drawn.
    pub sample: SampleOptions,
    /// Latents of a run, one entry a modality; 0 where the softmax head says when it ends.
    pub frames: Vec<usize>,
    /// Most positions behind the prompt.
    pub max_positions: usize,
}

/// What came of a prompt.
#[derive(Debug, Clone)]
pub struct Continuation {
    /// In order; runs of latents without their `<BOD>` and `<EOD>`.
    pub pieces: Vec<Piece>,
    /// Whether it ran into the limit instead of `<EOS>`.
    pub cut: bool,
}

/// What a sequence does at its next position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Text,
    Latents,
    /// The last latent of a run of known length is read next, then `<EOD>`.
    Closing(usize),
    Done,
}

/// What a sequence reads next: a token, or a row of the latents drawn last.
#[derive(Debug, Clone, Copy)]
enum Next {
    Token(u32),
    Latent(i64),
}

struct Row {
    mode: Mode,
    next: Next,
    random: RandomStream,
    pieces: Vec<Piece>,
    /// Latents of the run under way, `[1, Z]` each.
    run: Vec<Tensor<2>>,
    cut: bool,
}

struct Generation<'a, B: CausalBackbone, H> {
    model: &'a LatentLm<MixedAdapters, B, Vec<H>>,
    options: &'a GenerateOptions,
    special: SpecialTokens,
    device: Device,
    kv_cache: B::State,
    rows: Vec<Row>,
    runs: Vec<Run<B::State>>,
    positions: usize,
}

impl<B: CausalBackbone, H: LatentHead> LatentLm<MixedAdapters, B, Vec<H>> {
    /// Goes on with prompts of any kinds and lengths, each as if it were alone.
    ///
    /// # Panics
    /// If there are no prompts, or `options.frames` has not one entry a modality.
    pub fn generate(
        &self,
        prompts: &[MixedPrompt],
        options: &GenerateOptions,
        device: &Device,
    ) -> Vec<Continuation> {
        assert!(!prompts.is_empty(), "no prompt");
        let modalities = self.adapters.latents.len();
        assert_eq!(options.frames.len(), modalities, "frames of each modality");
        let width = self.backbone.width();
        let shares = independent_parts(device, width, prompts.len(), PROMPTS_A_PART);
        let shares = shares.into_iter().map(|share| {
            // Modules may go to another thread, but not be shared with one.
            let model = Self {
                adapters: self.adapters.clone(),
                backbone: self.backbone.clone(),
                head: self.head.clone(),
            };
            (model, prompts[share].to_vec())
        });
        let made = at_once(shares.collect(), |(model, prompts)| {
            let (generation, input) = Generation::begin(&model, &prompts, options, device);
            generation.run(input)
        });
        made.into_iter().flatten().collect()
    }

    /// A prompt's positions, `[1, T, D]`.
    fn embed_pieces(&self, pieces: &[Piece], open: Option<usize>, device: &Device) -> Tensor<3> {
        let special = self.special_tokens();
        let text = |tokens: Vec<u32>| Segment::Text {
            tokens,
            learned: false,
        };
        let mut latents = vec![Vec::new(); special.modalities.len()];
        let mut segments = vec![text(vec![special.start])];
        for piece in pieces {
            segments.push(match piece {
                Piece::Text(tokens) => text(tokens.clone()),
                Piece::Latents {
                    modality,
                    latents: given,
                } => {
                    let own = &self.adapters.latents[*modality];
                    let whitened = own.whiten(given.clone().unsqueeze_dim(0));
                    latents[*modality].push(own.embed(whitened));
                    Segment::Latents {
                        modality: *modality,
                        frames: given.dims()[0],
                        open_ended: false,
                        learned: false,
                    }
                }
            });
        }
        // Behind latents `<EOD>` comes, whatever follows.
        segments.push(text(
            open.map(|m| special.modalities[m].begin)
                .into_iter()
                .collect(),
        ));
        let layout = self.layout(&[Document { segments }]);
        let latents = latents.into_iter().filter(|own| !own.is_empty());
        let latents = latents.map(|own| Tensor::cat(own, 1)).collect();
        embed(&self.adapters.token, &layout, latents, device)
    }
}

/// Fills rows of different lengths up in front, `[R, T, D]`, and says by how much.
fn pad(rows: Vec<Tensor<3>>, device: &Device) -> (Tensor<3>, Vec<usize>) {
    let length = rows.iter().map(|row| row.dims()[1]).max().unwrap_or(0);
    let padding: Vec<usize> = rows.iter().map(|row| length - row.dims()[1]).collect();
    let padded = rows.into_iter().zip(&padding).map(|(row, &missing)| {
        let width = row.dims()[2];
        match missing {
            0 => row,
            _ => Tensor::cat(vec![Tensor::zeros([1, missing, width], device), row], 1),
        }
    });
    (Tensor::cat(padded.collect(), 0), padding)
}

impl<'a, B: CausalBackbone, H: LatentHead> Generation<'a, B, H> {
    /// Reads the prompts, all but their last position.
    fn begin(
        model: &'a LatentLm<MixedAdapters, B, Vec<H>>,
        prompts: &[MixedPrompt],
        options: &'a GenerateOptions,
        device: &Device,
    ) -> (Self, Tensor<3>) {
        let special = model.special_tokens();
        let embedded = prompts
            .iter()
            .map(|prompt| model.embed_pieces(&prompt.pieces, prompt.open, device));
        let (input, padding) = pad(embedded.collect(), device);
        let capacity = input.dims()[1] + options.max_positions;
        let rows = prompts.iter().map(|prompt| Row {
            mode: Mode::Text,
            next: Next::Token(special.stop),
            random: RandomStream::for_step(prompt.seed, "mixed", 0),
            pieces: Vec::new(),
            run: Vec::new(),
            cut: false,
        });
        let mut generation = Self {
            model,
            options,
            kv_cache: model.backbone.init_padded_state(&padding, capacity, device),
            rows: rows.collect(),
            runs: Vec::new(),
            positions: 0,
            device: device.clone(),
            special,
        };
        for modality in 0..options.frames.len() {
            let open = |prompt: &MixedPrompt| prompt.open == Some(modality);
            let rows = (0..prompts.len()).filter(|&row| open(&prompts[row]));
            generation.open(modality, rows.collect());
        }
        (generation, input)
    }

    /// Sequences whose last token was `<BOD>`.
    fn open(&mut self, modality: usize, mut rows: Vec<usize>) {
        // A run of known length that does not fit is not begun.
        let left = self.options.max_positions - self.positions;
        if self.options.frames[modality] + 1 > left {
            for row in rows.drain(..) {
                self.rows[row].mode = Mode::Done;
                self.rows[row].cut = true;
            }
        }
        if rows.is_empty() {
            return;
        }
        for &row in &rows {
            self.rows[row].mode = Mode::Latents;
        }
        let null = (self.options.sample.guidance_scale != 1.0).then(|| {
            let prompt = self.model.embed_pieces(&[], Some(modality), &self.device);
            let capacity = prompt.dims()[1] + left;
            let backbone = &self.model.backbone;
            let state = backbone.init_state(rows.len(), capacity, &self.device);
            (state, prompt.repeat_dim(0, rows.len()))
        });
        self.runs.push(Run::new(modality, rows, null));
    }

    fn alive(&self) -> bool {
        self.rows.iter().any(|row| row.mode != Mode::Done)
    }

    /// `[B, D]` after the next position of every sequence.
    fn read(&mut self, input: Tensor<3>) -> Tensor<2> {
        let hidden = self.model.backbone.step(input, &mut self.kv_cache);
        let [rows, length, width] = hidden.dims();
        hidden.narrow(1, length - 1, 1).reshape([rows, width])
    }

    /// Decides what each sequence reads next, given the hidden states `[B, D]` of its last position.
    /// Returns the latents that were drawn, embedded, `[N, 1, D]`.
    fn decide(&mut self, hidden: Tensor<2>) -> Vec<Tensor<3>> {
        let logits = self.logits(hidden.clone());
        let mut opened = vec![Vec::new(); self.special.modalities.len()];
        for (index, row) in self.rows.iter_mut().enumerate() {
            match row.mode {
                Mode::Done => row.next = Next::Token(self.special.stop),
                Mode::Closing(modality) => {
                    row.next = Next::Token(self.special.modalities[modality].end);
                    row.mode = Mode::Text;
                }
                Mode::Text => {
                    let options = &self.options.text;
                    let token = row.write(&self.special, options, logits[index].clone());
                    let begins = |c: &latentlm_core::sequence::ControlTokens| c.begin == token;
                    if let Some(modality) = self.special.modalities.iter().position(begins) {
                        opened[modality].push(index);
                    }
                }
                Mode::Latents => {}
            }
        }
        let drawn = self.draw(&hidden, &logits);
        for (modality, rows) in opened.into_iter().enumerate() {
            self.open(modality, rows);
        }
        drawn
    }

    /// Scores of the next token, on the host, one row a sequence; none where nobody asks.
    fn logits(&self, hidden: Tensor<2>) -> Vec<Vec<f32>> {
        let open_ended = self
            .runs
            .iter()
            .any(|run| self.options.frames[run.modality] == 0);
        let writing = self.rows.iter().any(|row| row.mode == Mode::Text);
        if !writing && !open_ended {
            return Vec::new();
        }
        let logits = self.model.adapters.token.logits(hidden.unsqueeze_dim(1));
        let vocabulary = logits.dims()[2];
        let logits = logits.into_data().convert::<f32>();
        let logits: &[f32] = logits.as_slice().expect("logits are numbers");
        logits.chunks(vocabulary).map(<[f32]>::to_vec).collect()
    }

    /// The next latent of every run under way.
    fn draw(&mut self, hidden: &Tensor<2>, logits: &[Vec<f32>]) -> Vec<Tensor<3>> {
        let mut runs = std::mem::take(&mut self.runs);
        let mut drawn = Vec::new();
        let mut first = 0;
        for run in &mut runs {
            self.end_rows(run, logits);
            if !run.is_over() {
                let latents = self.draw_run(run, hidden, first);
                first += latents.dims()[0] as i64;
                drawn.push(latents);
            }
        }
        runs.retain(|run| !run.is_over());
        self.runs = runs;
        drawn
    }

    /// Ends an open-ended run for the sequences whose softmax head says so, before anything more is
    /// drawn for them.
    fn end_rows(&mut self, run: &mut Run<B::State>, logits: &[Vec<f32>]) {
        let modality = run.modality;
        if self.options.frames[modality] != 0 || run.made == 0 {
            return;
        }
        let control = self.special.modalities[modality];
        let rows = &mut self.rows;
        run.end(|index| {
            let logits = &logits[index];
            let ends = logits[control.end as usize] > logits[control.more as usize];
            if ends {
                let row = &mut rows[index];
                row.end_run(modality);
                row.next = Next::Token(control.end);
                row.mode = Mode::Text;
            }
            ends
        });
    }

    /// A latent for every sequence that goes on with the run, embedded, `[N, 1, D]`. `first` is the
    /// row that the first of them has among all latents drawn now.
    fn draw_run(&mut self, run: &mut Run<B::State>, hidden: &Tensor<2>, first: i64) -> Tensor<3> {
        let (model, modality) = (self.model, run.modality);
        let (head, adapter) = (model.head_of(modality), &model.adapters.latents[modality]);
        let sequences = run.under_way();
        let (count, dim) = (sequences.len(), head.latent_dim());
        let places: Vec<i64> = sequences.iter().map(|&row| row as i64).collect();
        let condition = hidden.clone().select(0, indices(&places, &self.device));
        let null = run.null_hidden(&model.backbone, &self.device);
        let streams = self.rows.iter_mut().enumerate();
        let streams = streams.filter(|(index, _)| sequences.contains(index));
        let streams = streams.map(|(_, row)| &mut row.random).collect();
        let latents = draw_latents(head, condition, null, &self.options.sample, streams);
        let latents = latents.reshape([count, 1, dim]);
        let embedded = adapter.embed(latents.clone());
        let decoded = adapter.unwhiten(latents).reshape([count, dim]);
        run.read(&embedded, &self.device);
        run.made += 1;
        let is_last = run.made == self.options.frames[modality];
        for (place, &index) in sequences.iter().enumerate() {
            let row = &mut self.rows[index];
            row.run.push(decoded.clone().narrow(0, place, 1));
            row.next = Next::Latent(first + place as i64);
            if is_last {
                row.end_run(modality);
                row.mode = Mode::Closing(modality);
            }
        }
        run.end(|_| is_last);
        embedded
    }

    /// What all sequences read next, `[B, 1, D]`.
    fn input(&self, drawn: Vec<Tensor<3>>) -> Tensor<3> {
        let count = self.rows.len() as i64;
        let mut tokens = Vec::with_capacity(self.rows.len());
        let mut places = Vec::with_capacity(self.rows.len());
        for (index, row) in self.rows.iter().enumerate() {
            let (token, place) = match row.next {
                Next::Token(token) => (token, index as i64),
                Next::Latent(drawn) => (self.special.stop, count + drawn),
            };
            tokens.push(i64::from(token));
            places.push(place);
        }
        let tokens = indices(&tokens, &self.device).unsqueeze_dim::<2>(1);
        let mut candidates = vec![self.model.adapters.token.embed(tokens)];
        candidates.extend(drawn);
        Tensor::cat(candidates, 0).select(0, indices(&places, &self.device))
    }

    fn run(mut self, mut input: Tensor<3>) -> Vec<Continuation> {
        while self.alive() && self.positions < self.options.max_positions {
            let hidden = self.read(input);
            self.positions += 1;
            let drawn = self.decide(hidden);
            input = self.input(drawn);
        }
        let runs = std::mem::take(&mut self.runs);
        for run in runs {
            for row in run.under_way() {
                self.rows[row].end_run(run.modality);
            }
        }
        let done = |row: Row| Continuation {
            cut: row.cut || row.mode != Mode::Done,
            pieces: row.pieces,
        };
        self.rows.into_iter().map(done).collect()
    }
}

impl Row {
    /// Draws the next token; returns it.
    fn write(
        &mut self,
        special: &SpecialTokens,
        options: &TextOptions,
        mut logits: Vec<f32>,
    ) -> u32 {
        logits[special.start as usize] = f32::NEG_INFINITY;
        for control in &special.modalities {
            logits[control.end as usize] = f32::NEG_INFINITY;
            logits[control.more as usize] = f32::NEG_INFINITY;
        }
        let token = options.choose(&logits, &mut self.random);
        self.next = Next::Token(token);
        if token == special.stop {
            self.mode = Mode::Done;
        } else if token < special.start {
            match self.pieces.last_mut() {
                Some(Piece::Text(tokens)) => tokens.push(token),
                _ => self.pieces.push(Piece::Text(vec![token])),
            }
        }
        token
    }

    fn end_run(&mut self, modality: usize) {
        let run = std::mem::take(&mut self.run);
        if !run.is_empty() {
            self.pieces.push(Piece::Latents {
                modality,
                latents: Tensor::cat(run, 0),
            });
        }
    }
}

#[cfg(test)]
mod tests;
