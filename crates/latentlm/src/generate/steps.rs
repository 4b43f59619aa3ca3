//! The loop: every step reads one position of every sequence and makes the next.

use burn::tensor::Tensor;
use latentlm_adapters::packed::indices;
use latentlm_core::sequence::ControlTokens;
use latentlm_core::{CausalBackbone, LatentHead, RandomStream};

use super::prompt::Prompt;
use super::row::{Mode, Next, Row, likeliest_but};
use super::run::{Run, take};
use super::text::GenerateOptions;
use crate::model::LatentLm;

/// What a step made.
#[derive(Default)]
pub(super) struct Step {
    /// Sequences, and the token of text that each wrote.
    pub(super) written: Vec<(usize, u32)>,
    /// Latents, a run each.
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
    /// With what they say, in a model that is told.
    told: Tensor<2>,
    /// Without, for the sequences without condition; none where that is the same.
    untold: Option<Tensor<2>>,
}

impl ReadBack {
    fn untold(&self) -> &Tensor<2> {
        self.untold.as_ref().unwrap_or(&self.told)
    }
}

/// Sequences under way, which are continued step by step.
///
/// With guidance, latents are drawn from two hidden states: of the sequence and of one without
/// condition. Where sequences end with the run at their prompt's end, the latter are a second half of
/// the same batch; otherwise each run has a second batch of its own.
pub(super) struct Generation<'a, B: CausalBackbone, H> {
    model: &'a LatentLm<B, H>,
    options: GenerateOptions,
    state: B::State,
    /// What the backbone reads next, `[R, T, D]`: the prompts, then one position at a time.
    pub(super) input: Tensor<3>,
    pub(super) rows: Vec<Row>,
    runs: Vec<Run<B::State>>,
    /// Whether the batch has a second half without condition.
    doubled: bool,
    /// What the latents of each step begin as, `[B, steps, Z]`; none where sequences draw it.
    noise: Option<Tensor<3>>,
    positions: usize,
}

impl<'a, B: CausalBackbone, H: LatentHead> Generation<'a, B, H> {
    /// Begins, with a stream of noise for each prompt.
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
        let writes = model.document.is_some();
        let draws = prompts.iter().all(|prompt| prompt.open.is_some());
        assert!(writes || draws, "a prompt for text in a model of latents");
        let nulls = prompts.iter().map(|prompt| prompt.null(model));
        let nulls: Vec<Prompt> = nulls.collect();
        let doubled = options.sample.guidance_scale != 1.0 && !writes;
        let (input, padding) = if doubled {
            model.embed_prompts(&[prompts, &nulls[..]].concat())
        } else {
            model.embed_prompts(prompts)
        };
        let capacity = input.dims()[1] + options.max_positions.saturating_sub(1);
        let rows = nulls.into_iter().zip(streams);
        let rows = rows.map(|(null, random)| Row::new(null, random));
        let device = input.device();
        let mut generation = Self {
            model,
            options,
            state: model
                .backbone
                .init_padded_state(&padding, capacity, &device),
            input,
            rows: rows.collect(),
            runs: Vec::new(),
            doubled,
            noise: None,
            positions: 0,
        };
        for modality in 0..model.latents.len() {
            let opens = |row: &usize| prompts[*row].open == Some(modality);
            generation.open(modality, (0..prompts.len()).filter(opens).collect());
        }
        generation
    }

    /// The same with given noise that latents begin as, `[B, steps, Z]`. All sequences must draw at
    /// every step.
    pub(super) fn with_noise(mut self, noise: Tensor<3>) -> Self {
        self.noise = Some(noise);
        self
    }

    /// Whether a sequence ran into the limit instead of an end of its own.
    pub(super) fn was_cut(&self, row: usize) -> bool {
        let row = &self.rows[row];
        let limit = self.positions >= self.options.max_positions;
        row.cut || (limit && row.mode != Mode::Done)
    }

    fn is_alive(&self) -> bool {
        self.rows.iter().any(|row| row.mode != Mode::Done)
    }

    fn is_guided(&self) -> bool {
        self.options.sample.guidance_scale != 1.0
    }

    /// The next position of every sequence; none when all have ended or the limit is reached.
    pub(super) fn step(&mut self) -> Option<Step> {
        if !self.is_alive() || self.positions >= self.options.max_positions {
            return None;
        }
        let hidden = self.read();
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
            self.input = self.next_input(&drawn);
        }
        Some(step)
    }

    /// Begins runs of a modality in sequences whose last token was its `<BOD>`.
    fn open(&mut self, modality: usize, rows: Vec<usize>) {
        let model = self.model;
        let writes = model.document.is_some();
        let left = self.options.max_positions - self.positions;
        let mut begun = Vec::with_capacity(rows.len());
        for index in rows {
            let row = &mut self.rows[index];
            let given = row.null.begun.as_ref();
            row.latents = given.map_or(0, |given| given.dims()[0]);
            let frames = model.frames[modality].saturating_sub(row.latents);
            // A run of known length that does not fit is not begun.
            row.cut = frames + usize::from(writes) > left;
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
        let null = (self.is_guided() && !self.doubled).then(|| {
            let null = |&row: &usize| Prompt {
                open: Some(modality),
                ..self.rows[row].null.clone()
            };
            let nulls: Vec<Prompt> = begun.iter().map(null).collect();
            let (input, padding) = model.embed_prompts(&nulls);
            let capacity = input.dims()[1] + left;
            let device = input.device();
            let state = model
                .backbone
                .init_padded_state(&padding, capacity, &device);
            (state, input)
        });
        for &row in &begun {
            self.rows[row].null.begun = None;
        }
        self.runs.push(Run::new(modality, begun, null));
    }

    /// Hidden states after the next position, `[R, D]`.
    fn read(&mut self) -> Tensor<2> {
        let backbone = &self.model.backbone;
        let hidden = backbone.step(self.input.clone(), &mut self.state);
        let [rows, length, width] = hidden.dims();
        hidden.narrow(1, length - 1, 1).reshape([rows, width])
    }

    /// Scores of the next token, on the host, one row a sequence; none where nobody asks.
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

    /// The next token of sequences that read or write tokens. Returns those that begin a run, a
    /// modality each.
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
                    let begins = |control: &ControlTokens| control.begin == token;
                    if let Some(modality) = model.control.iter().position(begins) {
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

    /// Ends open-ended runs of sequences whose softmax head says so, before anything more is drawn for
    /// them. In a model that writes no text, or is told what latents say, every token but `<EOD>` stands
    /// for another latent: the likeliest is what that says.
    fn end_runs(&mut self, logits: &[Vec<f32>], step: &mut Step) {
        let (model, rows) = (self.model, &mut self.rows);
        let writes = model.document.is_some();
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
                // Amid text a run has at least one latent; speech alone may be none at all.
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

    /// The next latent of every run under way.
    fn draw(&mut self, hidden: &Tensor<2>, step: &mut Step) -> Vec<ReadBack> {
        let mut runs = std::mem::take(&mut self.runs);
        let mut first = 0;
        let mut drawn = Vec::with_capacity(runs.len());
        for run in &mut runs {
            let latents = self.draw_run(run, hidden, step);
            self.advance(run, first, step);
            first += latents.told.dims()[0] as i64;
            drawn.push(latents);
        }
        runs.retain(|run| !run.is_over());
        self.runs = runs;
        drawn
    }

    /// A latent for every sequence that goes on with the run.
    fn draw_run(
        &mut self,
        run: &mut Run<B::State>,
        hidden: &Tensor<2>,
        step: &mut Step,
    ) -> ReadBack {
        let (model, modality) = (self.model, run.modality);
        let rows = run.under_way();
        let condition = take(hidden, &rows);
        let null = if self.doubled {
            let second_half = rows.iter().map(|row| row + self.rows.len());
            Some(take(hidden, &second_half.collect::<Vec<usize>>()))
        } else {
            run.null_hidden(&model.backbone)
        };
        let latents = self.sample(modality, &rows, condition, null);
        let said: Vec<i64> = rows.iter().map(|&row| self.rows[row].said).collect();
        let told = model.embed_latents(modality, latents.clone(), &said);
        let untold = (self.is_guided() && model.said.is_some()).then(|| {
            let more = vec![i64::from(model.control[modality].more); rows.len()];
            model.embed_latents(modality, latents.clone(), &more)
        });
        let read = ReadBack { told, untold };
        run.read(read.untold());
        step.drawn.push(Drawn {
            modality,
            rows,
            latents,
        });
        read
    }

    /// Samples of the head for some sequences, `[N, Z]`, as if each were alone: the noise that a latent
    /// begins as, and then what samplers add on the way, come from the sequence's own stream. For no
    /// other sequence is anything drawn.
    fn sample(
        &mut self,
        modality: usize,
        rows: &[usize],
        condition: Tensor<2>,
        null: Option<Tensor<2>>,
    ) -> Tensor<2> {
        let (head, options) = (self.model.head_of(modality), self.options.sample);
        let shape = [rows.len(), head.latent_dim()];
        let device = condition.device();
        let given = self.noise.as_ref().map(|noise| {
            let own = noise.clone().narrow(1, self.positions - 1, 1);
            own.reshape(shape)
        });
        let streams = self.rows.iter_mut().enumerate();
        let streams = streams.filter(|(index, _)| rows.binary_search(index).is_ok());
        let streams = streams.map(|(_, row)| &mut row.random).collect();
        RandomStream::of_rows(streams, |random| {
            let noise = given.unwrap_or_else(|| random.normal(shape, &device));
            head.sample(condition, null, noise, &options, random)
        })
    }

    /// Counts a latent of each sequence of a run, the first of which is `first` among all that were
    /// drawn, and ends runs that have reached their length.
    fn advance(&mut self, run: &mut Run<B::State>, mut first: i64, step: &mut Step) {
        let (frames, writes) = (
            self.model.frames[run.modality],
            self.model.document.is_some(),
        );
        let (modality, rows) = (run.modality, &mut self.rows);
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

    /// What all sequences read next, `[R, 1, D]`.
    fn next_input(&self, drawn: &[ReadBack]) -> Tensor<3> {
        let halves = 1 + usize::from(self.doubled);
        if let [all] = drawn
            && all.told.dims()[0] == self.rows.len()
        {
            let halves = [&all.told, all.untold()].into_iter().take(halves);
            return Tensor::cat(halves.cloned().collect(), 0).unsqueeze_dim(1);
        }
        let latents: i64 = drawn.iter().map(|own| own.told.dims()[0] as i64).sum();
        let mut candidates: Vec<Tensor<2>> = drawn.iter().map(|own| own.told.clone()).collect();
        if self.doubled {
            candidates.extend(drawn.iter().map(|own| own.untold().clone()));
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
        let device = self.input.device();
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
