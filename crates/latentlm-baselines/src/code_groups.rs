//! The autoregressive half of a codec language model: a causal Transformer over text and the codes of the first
//! codebook, several codes a position (VALL-E 2, Chen et al. 2024, arXiv 2406.05370, §3).

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_adapters::packed::indices;
use latentlm_adapters::{TokenAdapter, TokenAdapterConfig};
use latentlm_backbone::Backbone;
use latentlm_core::sequence::UNTOLD;
use latentlm_core::{CausalBackbone, CausalBackboneConfig, RandomStream};
use latentlm_kernels::linear_layer;

use crate::block::linear;
use crate::code_config::CodeLmConfig;
use crate::code_sampling::{CodeOptions, draw_code};
use crate::quantizer::host_codes;
use crate::token::host_logits;

/// The model of the first codebook. A position is a token of text, the token that begins speech, or a group of `G`
/// consecutive codes; the codes of the next group are predicted at once, independent of each other given all
/// positions before. Speech ends with the code behind the last, which fills up the last group.
///
/// An aligned model reads with each group the token of text that is spoken in it, and predicts the token of the next
/// group beside its codes, as LatentLM does with latents (ours; VALL-E 2 has no times of words).
#[derive(Module, Debug)]
pub struct GroupedCodeLm {
    /// Embedding of text, and of the token that begins speech.
    text: TokenAdapter,
    /// Embedding of codes, and the softmax head over codes and the end.
    code: TokenAdapter,
    /// Embedding of what a group says, a token of text or silence behind them, and its softmax head; none in a model
    /// that is not aligned.
    said: Option<TokenAdapter>,
    /// From the embeddings of a group to a position; none for groups of one.
    group_in: Option<Linear>,
    /// From a hidden state to those of the next group's codes.
    group_out: Option<Linear>,
    backbone: Backbone,
    group: usize,
}

/// A text and the codes of the first codebook of its speech.
pub(crate) struct FirstCodes<'a> {
    pub(crate) text: &'a [u32],
    pub(crate) codes: Vec<i64>,
    /// The token that each code says, or [`UNTOLD`]; empty if that is not known.
    pub(crate) said: &'a [u32],
}

/// What a speech begins with.
pub(crate) struct Beginning<'a> {
    pub(crate) text: &'a [u32],
    /// Codes of a voice to continue, whole groups.
    pub(crate) voice: Vec<i64>,
    pub(crate) seed: u64,
}

/// Drawn codes of the first codebook, without those of the voice.
pub(crate) struct Drawn {
    pub(crate) codes: Vec<i64>,
    /// Whether there were as many as may be before the end.
    pub(crate) was_cut: bool,
}

/// Cross entropies in nats, `[M]` each.
pub(crate) struct Surprise {
    /// Cross entropy of each code and end.
    pub(crate) codes: Tensor<1>,
    /// Cross entropy of the token that each group says, without those that are not told; none in a model that is not
    /// aligned.
    pub(crate) said: Option<Tensor<1>>,
}

/// Packed documents as indices.
#[derive(Default)]
struct Packed {
    /// Texts and the tokens that begin speech.
    tokens: Vec<i64>,
    /// Codes of the groups that are read.
    groups: Vec<i64>,
    /// The token that each of these groups says.
    said: Vec<i64>,
    /// Row of each position in the stack of all tokens and all groups.
    rows: Vec<i64>,
    /// Positions that predict a group.
    asked: Vec<i64>,
    /// The codes that they predict.
    answers: Vec<i64>,
    /// Those of `asked`, by their place in it, whose group has a token that is told.
    told: Vec<i64>,
    /// The tokens of the groups that these predict.
    said_next: Vec<i64>,
    /// Positions of each document.
    lengths: Vec<usize>,
}

impl GroupedCodeLm {
    pub(crate) fn new(config: &CodeLmConfig, device: &Device) -> Self {
        let (group, width) = (config.group, config.grouped.width);
        let adapter = |vocabulary| TokenAdapterConfig::new(vocabulary, width).init(device);
        let wide = group * width;
        Self {
            text: adapter(config.text_vocabulary + 1),
            code: adapter(config.entries + 1),
            group_in: (group > 1).then(|| linear(wide, width, device)),
            group_out: (group > 1).then(|| linear(width, wide, device)),
            backbone: config.grouped.init(device),
            group,
            // Last: the weights of a model without it are drawn as they always were.
            said: config.aligned.then(|| adapter(config.text_vocabulary + 1)),
        }
    }

    /// The token that begins speech.
    fn begin(&self) -> i64 {
        self.text.vocabulary() as i64 - 1
    }

    /// The code that ends speech.
    fn end(&self) -> i64 {
        self.code.vocabulary() as i64 - 1
    }

    /// The token of silence: the first behind the text, as the one that begins speech.
    fn silence(&self) -> i64 {
        self.begin()
    }

    /// The token that each of some groups says: silence if a frame of it does, as where a word begins, or if that is
    /// not known.
    fn said_of_groups(&self, said: &[u32], groups: usize) -> Vec<i64> {
        let silence = self.silence();
        let mut tokens = Vec::with_capacity(groups);
        for group in 0..groups {
            let end = said.len().min((group + 1) * self.group);
            let own = said.get(group * self.group..end).unwrap_or_default();
            let speaks = own.iter().all(|token| i64::from(*token) < silence);
            let last = own.last().filter(|_| speaks);
            tokens.push(last.map_or(silence, |token| i64::from(*token)));
        }
        tokens
    }

    /// Whether the token that a group says is told, or silence by default.
    fn is_told(&self, said: &[u32], group: usize) -> bool {
        let mut own = said.iter().skip(group * self.group).take(self.group);
        own.all(|token| *token != UNTOLD)
    }

    /// Embeds text with the token that begins speech.
    ///
    /// # Shapes
    /// - returns: `[1, T, D]`
    fn embed_text(&self, tokens: &[i64], device: &Device) -> Tensor<3> {
        self.text.embed(indices(tokens, device).unsqueeze_dim(0))
    }

    /// Embeds groups of codes, in an aligned model with the token that each says.
    ///
    /// # Shapes
    /// - `codes`: `[B, T * G]`; `said`: `B * T` tokens
    /// - returns: `[B, T, D]`
    fn embed_groups(&self, codes: Tensor<2, Int>, said: &[i64]) -> Tensor<3> {
        let [batch, count] = codes.dims();
        let mut embedded = self.code.embed(codes); // [B, T * G, D]
        if let Some(layer) = &self.group_in {
            let width = embedded.dims()[2];
            let joined = embedded.reshape([batch, count / self.group, self.group * width]);
            embedded = linear_layer(layer, joined);
        }
        let Some(adapter) = &self.said else {
            return embedded;
        };
        let said = indices(said, &embedded.device());
        embedded + adapter.embed(said.reshape([batch, count / self.group]))
    }

    /// Logits of the codes of the next groups.
    ///
    /// # Shapes
    /// - `hidden`: `[B, T, D]`
    /// - returns: `[B, T * G, V + 1]`
    fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        let [batch, count, width] = hidden.dims();
        let hidden = match &self.group_out {
            Some(layer) => linear_layer(layer, hidden),
            None => hidden,
        };
        self.code
            .logits(hidden.reshape([batch, count * self.group, width]))
    }

    /// The layout of documents that follow each other in one sequence.
    fn pack(&self, documents: &[FirstCodes<'_>]) -> Packed {
        let all_tokens: usize = documents.iter().map(|own| own.text.len() + 1).sum();
        let (mut packed, mut next) = (Packed::default(), all_tokens as i64);
        for document in documents {
            let first = packed.tokens.len() as i64;
            packed
                .tokens
                .extend(document.text.iter().map(|token| i64::from(*token)));
            packed.tokens.push(self.begin());
            packed.rows.extend(first..packed.tokens.len() as i64);
            let first_asked = packed.asked.len();
            packed.asked.push(packed.rows.len() as i64 - 1);
            let whole = document.codes.len() / self.group;
            let known = document.said.is_empty() || document.said.len() == document.codes.len();
            assert!(known, "what is said is known of some frames only");
            let said = self.said_of_groups(document.said, whole + 1);
            packed.said.extend(&said[..whole]);
            for (group, token) in said.into_iter().enumerate() {
                if self.is_told(document.said, group) {
                    packed.told.push((first_asked + group) as i64);
                    packed.said_next.push(token);
                }
            }
            packed
                .groups
                .extend_from_slice(&document.codes[..whole * self.group]);
            packed
                .asked
                .extend((0..whole).map(|group| (packed.rows.len() + group) as i64));
            packed.rows.extend(next..next + whole as i64);
            next += whole as i64;
            packed.answers.extend_from_slice(&document.codes);
            let ends = (whole + 1) * self.group - document.codes.len();
            packed.answers.extend(std::iter::repeat_n(self.end(), ends));
            packed.lengths.push(document.text.len() + 1 + whole);
        }
        packed
    }

    /// Hidden states that predict the groups of packed documents.
    ///
    /// # Shapes
    /// - returns: `[1, T, D]`
    fn hidden(&self, packed: &Packed, device: &Device) -> Tensor<3> {
        let x = self.embedded(packed, device);
        let hidden = self.backbone.forward_documents(x, &packed.lengths);
        hidden.select(1, indices(&packed.asked, device))
    }

    /// The positions of packed documents.
    ///
    /// # Shapes
    /// - returns: `[1, T, D]`
    fn embedded(&self, packed: &Packed, device: &Device) -> Tensor<3> {
        let mut stack = vec![self.embed_text(&packed.tokens, device)];
        if !packed.groups.is_empty() {
            let codes = indices(&packed.groups, device).unsqueeze_dim(0);
            stack.push(self.embed_groups(codes, &packed.said));
        }
        Tensor::cat(stack, 1).select(1, indices(&packed.rows, device))
    }

    /// Cross entropies of packed documents.
    pub(crate) fn surprise(&self, documents: &[FirstCodes<'_>], device: &Device) -> Surprise {
        let packed = self.pack(documents);
        let hidden = self.hidden(&packed, device);
        let said = self.said.as_ref().map(|adapter| {
            let mut told = hidden.clone();
            if packed.told.len() < packed.asked.len() {
                told = told.select(1, indices(&packed.told, device));
            }
            let logits = adapter.logits(told).squeeze_dim(0); // [T, V]
            latentlm_kernels::cross_entropy(logits, indices(&packed.said_next, device))
        });
        let logits = self.logits(hidden).squeeze_dim(0); // [M, V + 1]
        let answers = indices(&packed.answers, device);
        Surprise {
            codes: latentlm_kernels::cross_entropy(logits, answers),
            said,
        }
    }

    /// The likeliest tokens that the next groups say, `B` of them; none in a model that is not aligned.
    ///
    /// # Shapes
    /// - `hidden`: `[B, 1, D]`
    fn likeliest_said(&self, hidden: Tensor<3>) -> Vec<i64> {
        let Some(adapter) = &self.said else {
            return Vec::new();
        };
        let logits: Tensor<2> = adapter.logits(hidden).squeeze_dim(1);
        host_codes(logits.argmax(1))
    }

    /// The positions of a prompt, behind `padding` empty ones, `[1, P, D]`.
    fn prompt(&self, beginning: &Beginning<'_>, padding: usize, device: &Device) -> Tensor<3> {
        let mut tokens: Vec<i64> = beginning.text.iter().map(|own| i64::from(*own)).collect();
        tokens.push(self.begin());
        let text = self.embed_text(&tokens, device);
        let mut parts = Vec::with_capacity(3);
        if padding > 0 {
            parts.push(Tensor::zeros([1, padding, text.dims()[2]], device));
        }
        parts.push(text);
        if !beginning.voice.is_empty() {
            let codes = indices(&beginning.voice, device).unsqueeze_dim(0);
            // Nobody tells which word of a recording is where: in training such codes are `UNTOLD`.
            let said = vec![self.silence(); beginning.voice.len() / self.group];
            parts.push(self.embed_groups(codes, &said));
        }
        Tensor::cat(parts, 1)
    }

    /// Draws codes until each speech has ended or has `most` codes, group by group with a KV cache. A speech
    /// depends on its own text, voice and seed.
    ///
    /// # Panics
    /// If there is nothing to say or a voice has no whole groups.
    pub(crate) fn draw(
        &self,
        beginnings: &[Beginning<'_>],
        most: usize,
        options: &CodeOptions,
        device: &Device,
    ) -> Vec<Drawn> {
        let (count, group) = (beginnings.len(), self.group);
        let lengths = beginnings.iter().map(|own| {
            let voice = own.voice.len();
            assert!(voice.is_multiple_of(group), "{voice} codes of a voice");
            own.text.len() + 1 + voice / group
        });
        let lengths: Vec<usize> = lengths.collect();
        let longest = lengths.iter().copied().max().expect("a text");
        let padding: Vec<usize> = lengths.iter().map(|length| longest - length).collect();
        let prompts = beginnings.iter().zip(&padding);
        let prompts = prompts.map(|(own, padding)| self.prompt(own, *padding, device));
        let mut input = Tensor::cat(prompts.collect(), 0); // [B, P, D]
        let capacity = longest + most / group + 1;
        let mut kv_cache = self.backbone.init_padded_state(&padding, capacity, device);
        let rows = beginnings.iter();
        let mut rows: Vec<Row> = rows.map(|own| Row::new(own, self.end(), most)).collect();
        loop {
            let hidden = self.backbone.step(input, &mut kv_cache);
            let last = hidden.dims()[1] - 1;
            let hidden = hidden.narrow(1, last, 1); // [B, 1, D]
            let said = self.likeliest_said(hidden.clone());
            let logits = self.logits(hidden); // [B, G, V + 1]
            let vocabulary = logits.dims()[2];
            let logits = host_logits(logits.reshape([count * group, vocabulary]));
            let mut next: Vec<i64> = Vec::with_capacity(count * group);
            for (row, logits) in rows.iter_mut().zip(logits.chunks_exact(group * vocabulary)) {
                for logits in logits.chunks_exact(vocabulary) {
                    next.push(row.draw(logits, options));
                }
            }
            if rows.iter().all(|row| row.has_ended) {
                break;
            }
            let next = TensorData::new(next, [count, group]);
            input = self.embed_groups(Tensor::from_data(next, device), &said);
        }
        rows.into_iter().map(Row::finish).collect()
    }
}

/// A speech that is being drawn.
struct Row {
    /// Codes of the voice and those drawn.
    codes: Vec<i64>,
    /// Number of codes of the voice.
    voice: usize,
    end: i64,
    most: usize,
    random: RandomStream,
    has_ended: bool,
    was_cut: bool,
}

impl Row {
    fn new(beginning: &Beginning<'_>, end: i64, most: usize) -> Self {
        Self {
            codes: beginning.voice.clone(),
            voice: beginning.voice.len(),
            end,
            most,
            random: RandomStream::new(beginning.seed),
            has_ended: most == 0,
            was_cut: most == 0,
        }
    }

    /// Draws the next code, and returns what the model reads next: any code, once the speech has ended.
    fn draw(&mut self, logits: &[f32], options: &CodeOptions) -> i64 {
        if self.has_ended {
            return 0;
        }
        let numbers = [self.random.uniform(), self.random.uniform()];
        let code = draw_code(logits, &self.codes, options, numbers) as i64;
        if code == self.end {
            self.has_ended = true;
            return 0;
        }
        self.codes.push(code);
        if self.codes.len() - self.voice == self.most {
            (self.has_ended, self.was_cut) = (true, true);
        }
        code
    }

    fn finish(mut self) -> Drawn {
        Drawn {
            codes: self.codes.split_off(self.voice),
            was_cut: self.was_cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes::DenoiserSizes;
    use latentlm_backbone::BackboneConfig;
    use latentlm_core::conformance::{assert_close, seeded};

    /// Texts of three tokens, which begin speech with token 3; codes of five entries, which end with code 5.
    fn model(group: usize, device: &Device) -> GroupedCodeLm {
        model_of(config(group), device)
    }

    fn model_of(config: CodeLmConfig, device: &Device) -> GroupedCodeLm {
        seeded(1, device, |device| GroupedCodeLm::new(&config, device))
    }

    fn config(group: usize) -> CodeLmConfig {
        let grouped = BackboneConfig::new(16, 2, 2)
            .with_mlp_ratio(6.0)
            .with_condition_layer(false);
        let parallel = DenoiserSizes::new();
        CodeLmConfig::new(3, 2, 5, grouped, parallel).with_group(group)
    }

    fn document<'a>(text: &'a [u32], codes: &[i64]) -> FirstCodes<'a> {
        FirstCodes {
            text,
            codes: codes.to_vec(),
            said: &[],
        }
    }

    /// Logits of all codes and ends, `[M, V + 1]`.
    fn predict(model: &GroupedCodeLm, documents: &[FirstCodes<'_>], device: &Device) -> Tensor<2> {
        let hidden = model.hidden(&model.pack(documents), device);
        model.logits(hidden).squeeze_dim(0)
    }

    fn likeliest(logits: Tensor<2>) -> Vec<i64> {
        host_codes(logits.argmax(1))
    }

    #[test]
    fn documents_are_laid_out_in_groups() {
        let model = model(2, &Device::default());
        let documents = [document(&[0, 2], &[4, 3, 2]), document(&[1], &[0, 1])];
        let packed = model.pack(&documents);
        assert_eq!(packed.tokens, [0, 2, 3, 1, 3]);
        assert_eq!(packed.groups, [4, 3, 0, 1]);
        // Tokens have rows 0 to 4, groups 5 and 6.
        assert_eq!(packed.rows, [0, 1, 2, 5, 3, 4, 6]);
        assert_eq!(packed.asked, [2, 3, 5, 6]);
        assert_eq!(packed.answers, [4, 3, 2, 5, 0, 1, 5, 5]);
        assert_eq!(packed.lengths, [4, 3]);
        // Silence is all that is known of what is said.
        assert_eq!(packed.said, [3, 3]);
        assert_eq!(packed.said_next, [3, 3, 3, 3]);
        assert_eq!(packed.told, [0, 1, 2, 3]);
    }

    /// A group in which a word begins says silence, as LatentLM's latents do; a half one says its last token.
    #[test]
    fn groups_say_the_tokens_of_their_frames() {
        let device = Device::default();
        // Silence has a number behind the text, whichever.
        let said = [5, 0, 0, 2, 5, 1, 1];
        let document = FirstCodes {
            said: &said,
            ..document(&[0, 2], &[4, 3, 2, 1, 0, 4, 3])
        };
        for (group, next) in [
            (1, &[3, 0, 0, 2, 3, 1, 1, 3][..]),
            (2, &[3, 2, 3, 1]),
            (4, &[3, 3]),
        ] {
            let packed = model(group, &device).pack(std::slice::from_ref(&document));
            assert_eq!(packed.said_next, next, "groups of {group}");
            assert_eq!(packed.said, next[..next.len() - 1]);
        }
    }

    /// A prompt whose words nobody tells is read as drawing reads a voice, and what it says is not predicted. The group behind
    /// it is told at its last position.
    #[test]
    fn an_untold_prompt_is_read_as_a_voice() {
        let device = Device::default();
        let (text, codes) = ([0, 2], [4, 3, 2, 1, 0, 4, 3]);
        let said = [UNTOLD, UNTOLD, UNTOLD, UNTOLD, 3, 1, 1];
        for (group, read, told, next) in [
            (
                1,
                &[3, 3, 3, 3, 3, 1, 1][..],
                &[4, 5, 6, 7][..],
                &[3, 1, 1, 3][..],
            ),
            (2, &[3, 3, 3], &[2, 3], &[3, 1]),
            // The half group behind is not read: speech ends in it.
            (4, &[3], &[1], &[3]),
        ] {
            let model = model_of(config(group).with_aligned(true), &device);
            let untold = FirstCodes {
                said: &said,
                ..document(&text, &codes)
            };
            let packed = model.pack(std::slice::from_ref(&untold));
            assert_eq!(packed.said, read, "groups of {group}");
            assert_eq!(packed.told, told, "groups of {group}");
            assert_eq!(packed.said_next, next, "groups of {group}");
            let beginning = Beginning {
                text: &text,
                voice: codes[..4].to_vec(),
                seed: 1,
            };
            let drawn = model.prompt(&beginning, 0, &device);
            let count = 3 + 4 / group;
            let trained = model.embedded(&packed, &device).narrow(1, 0, count);
            assert_close("positions", trained, drawn, 1e-6);
            // The same cross entropies as if silence were told, without those of the prompt.
            let surprise = |said: &[u32]| {
                let own = FirstCodes {
                    said,
                    ..document(&text, &codes)
                };
                model.surprise(&[own], &device)
            };
            let [untold, silent] = [said, [3, 3, 3, 3, 3, 1, 1]].map(|said| surprise(&said));
            let all = silent.said.unwrap();
            let first = told[0] as usize;
            let behind = all.narrow(0, first, told.len());
            assert_close("told", untold.said.unwrap(), behind, 1e-5);
            assert_close("codes", untold.codes, silent.codes, 1e-5);
        }
    }

    /// The logits of a pack are those of each document alone, and of a group they don't depend on its own codes.
    #[test]
    fn a_group_is_predicted_from_the_groups_before() {
        let device = Device::default();
        let model = model(2, &device);
        let predict = |documents: &[FirstCodes<'_>]| predict(&model, documents, &device);
        let documents = [document(&[0, 2], &[4, 3, 2]), document(&[1], &[0, 1])];
        let both = predict(&documents);
        let alone = predict(&documents[1..]);
        assert_close("alone", alone, both.clone().narrow(0, 4, 4), 1e-5);
        let other = predict(&[document(&[0, 2], &[1, 1, 2])]);
        let first = both.clone().narrow(0, 0, 2);
        assert_close("its own", other.clone().narrow(0, 0, 2), first, 1e-5);
        let difference = (other.narrow(0, 2, 2) - both.narrow(0, 2, 2)).abs().max();
        assert!(difference.into_scalar::<f32>() > 1e-4, "the group before");
    }

    /// What is drawn without chance, step by step with a cache and behind a voice, is what the whole sequence
    /// predicts, for texts of different lengths in one batch.
    #[test]
    fn drawing_agrees_with_the_whole_sequence() {
        let device = Device::default();
        for group in [1, 2, 4] {
            let model = model(group, &device);
            let texts: [&[u32]; 2] = [&[0, 1, 2, 1], &[2]];
            let voice = vec![3, 1, 4, 2];
            let beginnings = texts.map(|text| Beginning {
                text,
                voice: voice.clone(),
                seed: 1,
            });
            let greedy = CodeOptions {
                temperature: 0.0,
                ..CodeOptions::default()
            };
            let drawn = model.draw(&beginnings, 7, &greedy, &device);
            for (text, own) in texts.into_iter().zip(drawn) {
                assert_eq!(own.was_cut, own.codes.len() == 7);
                let codes = [&voice[..], &own.codes].concat();
                let best = likeliest(predict(&model, &[document(text, &codes)], &device));
                assert_eq!(
                    &best[4..4 + own.codes.len()],
                    own.codes,
                    "groups of {group}"
                );
                if !own.was_cut {
                    assert_eq!(best[codes.len()], 5, "the end");
                }
            }
        }
    }

    /// An aligned model reads with each group the token that it found likeliest before, and draws what the whole
    /// sequence with these tokens predicts.
    #[test]
    fn what_is_said_is_predicted_and_read() {
        let device = Device::default();
        let greedy = CodeOptions {
            temperature: 0.0,
            ..CodeOptions::default()
        };
        for group in [1, 2] {
            let mut model = model_of(config(group).with_aligned(true), &device);
            // Large embeddings, so that it matters which token is read.
            let adapter = TokenAdapterConfig::new(4, 16).with_embedding_std(2.0);
            model.said = Some(seeded(3, &device, |device| adapter.init(device)));
            let text: &[u32] = &[0, 1, 2, 1];
            let voice = vec![3i64, 1];
            let beginning = Beginning {
                text,
                voice: voice.clone(),
                seed: 1,
            };
            let drawn = model.draw(&[beginning], 6, &greedy, &device).remove(0);
            let codes = [&voice[..], &drawn.codes].concat();
            // The voice says silence. What the others say is found from all before them, one after the other.
            let mut said = vec![3; 2];
            while said.len() < codes.len() {
                let before = FirstCodes {
                    said: &said,
                    ..document(text, &codes[..said.len()])
                };
                let hidden = model.hidden(&model.pack(&[before]), &device);
                let last = hidden.dims()[1] - 1;
                let token = model.likeliest_said(hidden.narrow(1, last, 1))[0] as u32;
                let count = group.min(codes.len() - said.len());
                said.extend(std::iter::repeat_n(token, count));
            }
            let whole = FirstCodes {
                said: &said,
                ..document(text, &codes)
            };
            let logits = predict(&model, &[whole], &device);
            let best = likeliest(logits.clone());
            assert_eq!(&best[2..codes.len()], drawn.codes, "groups of {group}");
            let others: Vec<u32> = said.iter().map(|token| (token + 1) % 4).collect();
            let other = FirstCodes {
                said: &others,
                ..document(text, &codes)
            };
            let difference = (predict(&model, &[other], &device) - logits).abs().max();
            assert!(difference.into_scalar::<f32>() > 1e-4, "it is not read");
        }
    }

    /// `-log softmax` of inner products with the table of what is said.
    #[test]
    fn the_surprise_of_what_is_said_is_in_closed_form() {
        let device = Device::default();
        let model = model_of(config(1).with_aligned(true), &device);
        let document = FirstCodes {
            said: &[0, 2],
            ..document(&[0, 2], &[4, 3])
        };
        let packed = model.pack(std::slice::from_ref(&document));
        let hidden = model.hidden(&packed, &device); // [1, 3, D]
        let logits = model
            .said
            .as_ref()
            .unwrap()
            .logits(hidden)
            .squeeze_dim::<2>(0);
        let sum = logits.clone().exp().sum_dim(1).log(); // [3, 1]
        // Silence is behind the last.
        let answers = Tensor::<2, Int>::from_ints([[0], [2], [3]], &device);
        let expected = (sum - logits.gather(1, answers)).reshape([3]);
        let surprise = model.surprise(&[document], &device);
        assert_close("said", surprise.said.unwrap(), expected, 1e-5);
        assert!(model_of(config(1), &device).said.is_none());
    }

    #[test]
    fn a_speech_depends_on_its_own_seed() {
        let device = Device::default();
        let model = model(2, &device);
        let beginning = |text, seed| Beginning {
            text,
            voice: Vec::new(),
            seed,
        };
        let options = CodeOptions {
            top_p: 1.0,
            ..CodeOptions::default()
        };
        let draw = |beginnings: &[Beginning<'_>]| -> Vec<Vec<i64>> {
            let drawn = model.draw(beginnings, 12, &options, &device);
            drawn.into_iter().map(|own| own.codes).collect()
        };
        let both = draw(&[beginning(&[0, 1, 2], 7), beginning(&[1], 8)]);
        assert_eq!(draw(&[beginning(&[1], 8)])[0], both[1]);
        assert_ne!(draw(&[beginning(&[1], 9)])[0], both[1]);
        assert!(both[0].iter().all(|code| (0..5).contains(code)));
    }
}
