//! The autoregressive half of a codec language model: a causal Transformer over text and the codes of the first
//! codebook, several codes a position (VALL-E 2, Chen et al. 2024, arXiv 2406.05370, §3).

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_adapters::packed::indices;
use latentlm_adapters::{TokenAdapter, TokenAdapterConfig};
use latentlm_backbone::Backbone;
use latentlm_core::{CausalBackbone, CausalBackboneConfig, RandomStream};
use latentlm_kernels::linear_layer;

use crate::block::linear;
use crate::code_config::CodeLmConfig;
use crate::code_sampling::{CodeOptions, draw_code};
use crate::token::host_logits;

/// The model of the first codebook. A position is a token of text, the token that begins speech, or a group of `G`
/// consecutive codes; the codes of the next group are predicted at once, independent of each other given all
/// positions before. Speech ends with the code behind the last, which fills up the last group.
#[derive(Module, Debug)]
pub struct GroupedCodeLm {
    /// Embedding of text, and of the token that begins speech.
    text: TokenAdapter,
    /// Embedding of codes, and the softmax head over codes and the end.
    code: TokenAdapter,
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

/// Packed documents as indices.
#[derive(Default)]
struct Packed {
    /// Texts and the tokens that begin speech.
    tokens: Vec<i64>,
    /// Codes of the groups that are read.
    groups: Vec<i64>,
    /// Row of each position in the stack of all tokens and all groups.
    rows: Vec<i64>,
    /// Positions that predict a group.
    asked: Vec<i64>,
    /// The codes that they predict.
    answers: Vec<i64>,
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

    /// Embeds text with the token that begins speech.
    ///
    /// # Shapes
    /// - returns: `[1, T, D]`
    fn embed_text(&self, tokens: &[i64], device: &Device) -> Tensor<3> {
        self.text.embed(indices(tokens, device).unsqueeze_dim(0))
    }

    /// Embeds groups of codes.
    ///
    /// # Shapes
    /// - `codes`: `[B, T * G]`
    /// - returns: `[B, T, D]`
    fn embed_groups(&self, codes: Tensor<2, Int>) -> Tensor<3> {
        let [batch, count] = codes.dims();
        let embedded = self.code.embed(codes); // [B, T * G, D]
        let Some(layer) = &self.group_in else {
            return embedded;
        };
        let width = embedded.dims()[2];
        let joined = embedded.reshape([batch, count / self.group, self.group * width]);
        linear_layer(layer, joined)
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
            packed.asked.push(packed.rows.len() as i64 - 1);
            let whole = document.codes.len() / self.group;
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

    /// Logits of all codes and ends of packed documents.
    ///
    /// # Shapes
    /// - returns: `[M, V + 1]`
    fn predict(&self, packed: &Packed, device: &Device) -> Tensor<2> {
        let mut stack = vec![self.embed_text(&packed.tokens, device)];
        if !packed.groups.is_empty() {
            let codes = indices(&packed.groups, device).unsqueeze_dim(0);
            stack.push(self.embed_groups(codes));
        }
        let x = Tensor::cat(stack, 1).select(1, indices(&packed.rows, device));
        let hidden = self.backbone.forward_documents(x, &packed.lengths);
        let hidden = hidden.select(1, indices(&packed.asked, device));
        self.logits(hidden).squeeze_dim(0)
    }

    /// Cross entropy of each code and end of packed documents, in nats, `[M]`.
    pub(crate) fn surprise(&self, documents: &[FirstCodes<'_>], device: &Device) -> Tensor<1> {
        let packed = self.pack(documents);
        let answers = indices(&packed.answers, device);
        latentlm_kernels::cross_entropy(self.predict(&packed, device), answers)
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
            parts.push(self.embed_groups(codes));
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
            let logits = self.logits(hidden.narrow(1, last, 1)); // [B, G, V + 1]
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
            input = self.embed_groups(Tensor::from_data(next, device));
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
        let grouped = BackboneConfig::new(16, 2, 2)
            .with_mlp_ratio(6.0)
            .with_condition_layer(false);
        let parallel = DenoiserSizes::new();
        let config = CodeLmConfig::new(3, 2, 5, grouped, parallel).with_group(group);
        seeded(1, device, |device| GroupedCodeLm::new(&config, device))
    }

    fn document<'a>(text: &'a [u32], codes: &[i64]) -> FirstCodes<'a> {
        FirstCodes {
            text,
            codes: codes.to_vec(),
        }
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
    }

    /// The logits of a pack are those of each document alone, and of a group they don't depend on its own codes.
    #[test]
    fn a_group_is_predicted_from_the_groups_before() {
        let device = Device::default();
        let model = model(2, &device);
        let predict = |documents: &[FirstCodes<'_>]| model.predict(&model.pack(documents), &device);
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
                let logits = model.predict(&model.pack(&[document(text, &codes)]), &device);
                let best = logits.argmax(1).into_data().convert::<i64>();
                let best: Vec<i64> = best.try_into_vec().unwrap();
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
