//! The loop: every step reads one position of every sequence and makes the next.

use burn::tensor::Tensor;
use latentlm_adapters::packed::indices;
use latentlm_core::{CausalBackbone, LatentHead, RandomStream, SampleOptions};

use super::options::GenerateOptions;
use super::prompt::Prompt;
use super::row::{Mode, Next, Row, likeliest_but};
use super::run::{Branch, Run, take};
use crate::model::LatentLm;

/// Results of a step.
#[derive(Default)]
pub(super) struct Step {
    /// Sequences, and the token of text that each wrote.
    pub(super) written: Vec<(usize, u32)>,
    /// Latents, one entry per run.
    pub(super) drawn: Vec<Drawn>,
    /// Sequences whose run has ended, with the latent in `drawn` or before it.
    pub(super) ended: Vec<usize>,
}

/// The next latent of the sequences of a run.
pub(super) struct Drawn {
    pub(super) modality: usize,
    /// The sequences, in rising order.
    pub(super) rows: Vec<usize>,
    /// `[N, Z]`, whitened.
    pub(super) latents: Tensor<2>,
}

/// Drawn latents as the backbone reads them next, `[N, D]`.
struct ReadBack {
    /// For the sequences with condition: with the token that each latent says, in a model that reads it.
    conditional: Tensor<2>,
    /// For the sequences without condition; `None` if it is the same.
    unconditional: Option<Tensor<2>>,
}

/// Hidden states that latents are drawn from, `[N, D]` each.
struct States {
    conditional: Tensor<2>,
    /// `None` without guidance.
    null: Option<Tensor<2>>,
}

impl States {
    /// Selects rows, whose indices rise.
    fn take(&self, rows: &[usize]) -> Self {
        Self {
            conditional: take(&self.conditional, rows),
            null: self.null.as_ref().map(|null| take(null, rows)),
        }
    }
}

impl ReadBack {
    fn unconditional(&self) -> &Tensor<2> {
        self.unconditional.as_ref().unwrap_or(&self.conditional)
    }
}

/// Sequences that are continued step by step.
///
/// With guidance, a latent is drawn from two hidden states: one of its sequence, one of a sequence
/// without condition. In a model that writes no text, a sequence is one run of latents: those without
/// condition are the second half of the same batch. In one that writes text, each run has a second batch
/// of its own.
pub(super) struct Generation<'a, B: CausalBackbone, H> {
    model: &'a LatentLm<B, H>,
    options: GenerateOptions,
    pub(super) branch: Branch<B::State>,
    pub(super) rows: Vec<Row>,
    runs: Vec<Run<B::State>>,
    /// Whether the batch has a second half without condition.
    doubled: bool,
    /// Initial noise of the latents of each step, `[B, steps, Z]`; `None` if sequences draw their own.
    noise: Option<Tensor<3>>,
    positions: usize,
}

impl<'a, B: CausalBackbone, H: LatentHead> Generation<'a, B, H> {
    /// Begins the sequences. Each prompt has its own stream of noise.
    ///
    /// # Panics
    /// If there are no prompts, or one asks a model that writes no text for text.
    pub(super) fn new(
        model: &'a LatentLm<B, H>,
        prompts: &[Prompt],
        streams: Vec<RandomStream>,
        options: GenerateOptions,
    ) -> Self {
        assert!(!prompts.is_empty(), "no prompt");
        let draws = prompts.iter().all(|prompt| prompt.open.is_some());
        let writes = model.writes();
        assert!(writes || draws, "a prompt for text in a model of latents");
        let nulls: Vec<Prompt> = prompts.iter().map(|prompt| prompt.null(model)).collect();
        let doubled = model.reads_null(&options.sample) && !writes;
        let further = options.max_positions.saturating_sub(1);
        let branch = if doubled {
            Branch::new(model, &[prompts, &nulls[..]].concat(), further)
        } else {
            Branch::new(model, prompts, further)
        };
        let rows = nulls
            .into_iter()
            .zip(streams)
            .map(|(null, random)| Row::new(null, random));
        let mut generation = Self {
            model,
            options,
            branch,
            rows: rows.collect(),
            runs: Vec::new(),
            doubled,
            noise: None,
            positions: 0,
        };
        for modality in 0..model.latents.len() {
            let rows = (0..prompts.len()).filter(|&row| prompts[row].open == Some(modality));
            generation.open(modality, rows.collect());
        }
        generation
    }

    /// Uses given initial noise for the latents, `[B, steps, Z]`. All sequences must draw at every step.
    pub(super) fn with_noise(mut self, noise: Tensor<3>) -> Self {
        self.noise = Some(noise);
        self
    }

    /// Whether a sequence was stopped by the limit on positions.
    pub(super) fn was_cut(&self, row: usize) -> bool {
        let row = &self.rows[row];
        let limit = self.positions >= self.options.max_positions;
        row.cut || (limit && row.mode != Mode::Done)
    }

    fn is_alive(&self) -> bool {
        self.rows.iter().any(|row| row.mode != Mode::Done)
    }

    fn is_guided(&self) -> bool {
        self.model.reads_null(&self.options.sample)
    }

    /// The next position of every sequence; none when all have ended or the limit is reached.
    pub(super) fn step(&mut self) -> Option<Step> {
        if !self.is_alive() || self.positions >= self.options.max_positions {
            return None;
        }
        let hidden = self.branch.read(&self.model.backbone);
        self.positions += 1;
        let logits = self.logits(&hidden);
        let mut step = Step::default();
        let opened = self.write(&logits, &mut step);
        self.end_runs(&logits, &mut step);
        let drawn = self.draw(&hidden, &mut step);
        for (modality, rows) in opened.into_iter().enumerate() {
            self.open(modality, rows);
        }
        if self.is_alive() {
            self.branch.input = self.next_input(&drawn);
        }
        Some(step)
    }

    /// Begins a run of a modality in sequences whose last token was its `<BOD>`.
    fn open(&mut self, modality: usize, rows: Vec<usize>) {
        let model = self.model;
        let left = self.options.max_positions - self.positions;
        let mut begun = Vec::with_capacity(rows.len());
        for index in rows {
            let row = &mut self.rows[index];
            let given = row.null.begun.as_ref();
            row.latents = given.map_or(0, |given| given.dims()[0]);
            let frames = model.frames[modality].saturating_sub(row.latents);
            // A run of known length that does not fit is not begun.
            row.cut = frames + usize::from(model.writes()) > left;
            if row.cut {
                row.mode = Mode::Done;
            } else {
                row.mode = Mode::Latents;
                begun.push(index);
            }
        }
        if begun.is_empty() {
            return;
        }
        let null = if self.is_guided() && !self.doubled {
            let nulls = begun.iter().map(|&row| Prompt {
                open: Some(modality),
                ..self.rows[row].null.clone()
            });
            Some(Branch::new(model, &nulls.collect::<Vec<_>>(), left))
        } else {
            None
        };
        for &row in &begun {
            self.rows[row].null.begun = None;
        }
        self.runs.push(Run::new(modality, begun, null));
    }

    /// Logits of the next token, on the host, one row per sequence; empty if no sequence needs them.
    fn logits(&self, hidden: &Tensor<2>) -> Vec<Vec<f32>> {
        let frames = &self.model.frames;
        let open_ended = self.runs.iter().any(|run| frames[run.modality] == 0);
        let writing = self.rows.iter().any(|row| row.mode == Mode::Text);
        if !writing && !open_ended {
            return Vec::new();
        }
        let own = hidden.clone().narrow(0, 0, self.rows.len());
        let logits = self.model.token_adapter().logits(own.unsqueeze_dim(1));
        let vocabulary = logits.dims()[2];
        let logits = logits.into_data().convert::<f32>();
        let logits: &[f32] = logits.as_slice().expect("logits are numbers");
        logits.chunks(vocabulary).map(<[f32]>::to_vec).collect()
    }

    /// The next token of sequences that are not in a run of latents. Returns, for each modality, the
    /// sequences that begin a run.
    fn write(&mut self, logits: &[Vec<f32>], step: &mut Step) -> Vec<Vec<usize>> {
        let (model, options) = (self.model, self.options.text);
        let mut opened = vec![Vec::new(); model.control.len()];
        for (index, row) in self.rows.iter_mut().enumerate() {
            match (row.mode, model.document) {
                (Mode::Closing(modality), _) => {
                    row.next = Next::Token(model.control[modality].end);
                    row.mode = Mode::Text;
                }
                (Mode::Text, Some(document)) => {
                    let logits = logits[index].clone();
                    let token = row.write(document, &model.control, &options, logits);
                    let mut controls = model.control.iter();
                    if let Some(modality) = controls.position(|own| own.begin == token) {
                        opened[modality].push(index);
                    } else if token < document.start {
                        step.written.push((index, token));
                    }
                }
                (Mode::Latents, _) => {}
                (Mode::Done | Mode::Text, _) => row.next = Next::Nothing,
            }
        }
        opened
    }

    /// Ends open-ended runs where the softmax head prefers `<EOD>`, before their next latent is drawn. In
    /// a model that writes no text, or that reads the token each latent says, every other token stands for
    /// a further latent: the likeliest of them is the token that it says.
    fn end_runs(&mut self, logits: &[Vec<f32>], step: &mut Step) {
        let (model, rows) = (self.model, &mut self.rows);
        let writes = model.writes();
        for run in &mut self.runs {
            let control = model.control[run.modality];
            if model.frames[run.modality] > 0 {
                continue;
            }
            run.end(|index| {
                let (row, logits) = (&mut rows[index], &logits[index]);
                let said = if writes && model.said.is_none() {
                    control.more
                } else {
                    likeliest_but(control.end, logits).unwrap_or(control.more)
                };
                row.said = i64::from(said);
                // A run within text has at least one latent; a text may have no speech at all.
                let may_end = row.latents > 0 || !writes;
                let ends = may_end && logits[control.end as usize] > logits[said as usize];
                if ends {
                    row.end_open(control, writes);
                    step.ended.push(index);
                }
                ends
            });
        }
        self.runs.retain(|run| !run.is_over());
    }

    /// Draws the next latent of every run.
    fn draw(&mut self, hidden: &Tensor<2>, step: &mut Step) -> Vec<ReadBack> {
        let mut runs = std::mem::take(&mut self.runs);
        let mut first = 0;
        let mut drawn = Vec::with_capacity(runs.len());
        for run in &mut runs {
            let latents = self.draw_run(run, hidden, step);
            self.advance(run, first, step);
            first += latents.conditional.dims()[0] as i64;
            drawn.push(latents);
        }
        runs.retain(|run| !run.is_over());
        self.runs = runs;
        drawn
    }

    /// Draws a latent for every sequence of a run that has not ended.
    fn draw_run(
        &mut self,
        run: &mut Run<B::State>,
        hidden: &Tensor<2>,
        step: &mut Step,
    ) -> ReadBack {
        let (model, modality) = (self.model, run.modality);
        let rows = run.under_way();
        let conditional = take(hidden, &rows);
        let null = if self.doubled {
            let second_half = rows.iter().map(|row| row + self.rows.len());
            Some(take(hidden, &second_half.collect::<Vec<usize>>()))
        } else {
            run.null_hidden(&model.backbone)
        };
        let latents = self.sample(modality, &rows, States { conditional, null });
        let said: Vec<i64> = rows.iter().map(|&row| self.rows[row].said).collect();
        let conditional = model.embed_latents(modality, latents.clone(), &said);
        let unconditional = if self.is_guided() && model.said.is_some() {
            let more = vec![i64::from(model.control[modality].more); rows.len()];
            Some(model.embed_latents(modality, latents.clone(), &more))
        } else {
            None
        };
        let read = ReadBack {
            conditional,
            unconditional,
        };
        run.read(read.unconditional());
        step.drawn.push(Drawn {
            modality,
            rows,
            latents,
        });
        read
    }

    /// Samples the head for some sequences, `[N, Z]`. How many steps a latent takes depends on its place in its run:
    /// sequences whose latents take as many are sampled together.
    fn sample(&mut self, modality: usize, rows: &[usize], states: States) -> Tensor<2> {
        let (shared, length) = (self.options.sample, self.model.frames[modality]);
        let own = rows.iter().map(|&row| self.rows[row].latents);
        let own = own.map(|index| shared.of_latent(index, length));
        let own: Vec<SampleOptions> = own.collect();
        let mut left: Vec<usize> = (0..rows.len()).collect();
        let (mut parts, mut order) = (Vec::new(), Vec::with_capacity(rows.len()));
        while let Some(&first) = left.first() {
            let options = own[first];
            let (alike, rest): (Vec<usize>, Vec<usize>) =
                left.iter().partition(|&&place| own[place] == options);
            if alike.len() == rows.len() {
                return self.sample_alike(modality, rows, states, &options);
            }
            let some: Vec<usize> = alike.iter().map(|&place| rows[place]).collect();
            parts.push(self.sample_alike(modality, &some, states.take(&alike), &options));
            order.extend(alike);
            left = rest;
        }
        let mut places = vec![0; rows.len()];
        for (place, row) in order.into_iter().enumerate() {
            places[row] = place as i64;
        }
        let places = indices(&places, &states.conditional.device());
        Tensor::cat(parts, 0).select(0, places)
    }

    /// Samples the head for some sequences with the same options, `[N, Z]`, each as if it were alone: its initial noise,
    /// and the noise that samplers add later, come from the sequence's own stream. The streams of the others are not
    /// touched.
    fn sample_alike(
        &mut self,
        modality: usize,
        rows: &[usize],
        states: States,
        options: &SampleOptions,
    ) -> Tensor<2> {
        let head = self.model.head_of(modality);
        let shape = [rows.len(), head.latent_dim()];
        let device = states.conditional.device();
        let given = self.noise.as_ref().map(|noise| {
            let own = noise.clone().narrow(1, self.positions - 1, 1);
            own.reshape(shape)
        });
        let streams = self
            .rows
            .iter_mut()
            .enumerate()
            .filter(|(index, _)| rows.binary_search(index).is_ok())
            .map(|(_, row)| &mut row.random)
            .collect();
        let drawn = RandomStream::of_rows(streams, |random| {
            let noise = given.unwrap_or_else(|| random.normal(shape, &device));
            head.sample(states.conditional, states.null, noise, options, random)
        });
        self.model.latents[modality].settle(drawn)
    }

    /// Counts one more latent for each sequence and ends full runs. `first` is the run's first row among
    /// this step's latents.
    fn advance(&mut self, run: &mut Run<B::State>, mut first: i64, step: &mut Step) {
        let (modality, rows) = (run.modality, &mut self.rows);
        let frames = self.model.frames[modality];
        let writes = self.model.writes();
        run.end(|index| {
            let row = &mut rows[index];
            row.next = Next::Latent(first);
            row.latents += 1;
            first += 1;
            let ends = frames > 0 && row.latents >= frames;
            if ends {
                row.mode = if writes {
                    Mode::Closing(modality)
                } else {
                    Mode::Done
                };
                step.ended.push(index);
            }
            ends
        });
    }

    /// The next input of all sequences, `[R, 1, D]`.
    fn next_input(&self, drawn: &[ReadBack]) -> Tensor<3> {
        let halves = 1 + usize::from(self.doubled);
        if let [all] = drawn
            && all.conditional.dims()[0] == self.rows.len()
        {
            let halves = [&all.conditional, all.unconditional()]
                .into_iter()
                .take(halves);
            return Tensor::cat(halves.cloned().collect(), 0).unsqueeze_dim(1);
        }
        let conditional = drawn.iter().map(|own| own.conditional.clone());
        let mut candidates: Vec<Tensor<2>> = conditional.collect();
        let latents: i64 = candidates.iter().map(|own| own.dims()[0] as i64).sum();
        if self.doubled {
            candidates.extend(drawn.iter().map(|own| own.unconditional().clone()));
        }
        let mut tokens = Vec::new();
        let mut places = Vec::with_capacity(halves * self.rows.len());
        for row in &self.rows {
            places.push(match row.next {
                Next::Latent(place) => place,
                Next::Token(token) => {
                    tokens.push(i64::from(token));
                    halves as i64 * latents + tokens.len() as i64 - 1
                }
                Next::Nothing => 0,
            });
        }
        if self.doubled {
            let second_half: Vec<i64> = places.iter().map(|place| place + latents).collect();
            places.extend(second_half);
        }
        let device = self.branch.input.device();
        if !tokens.is_empty() {
            let tokens = indices(&tokens, &device).unsqueeze_dim(0);
            candidates.push(self.model.token_adapter().embed(tokens).squeeze_dim::<2>(0));
        }
        let places = indices(&places, &device);
        Tensor::cat(candidates, 0)
            .select(0, places)
            .unsqueeze_dim(1)
    }
}
