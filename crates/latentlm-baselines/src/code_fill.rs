//! The non-autoregressive half of a codec language model: a Transformer without a causal mask that predicts all
//! codes of a codebook at once, from the text and the codebooks before (VALL-E 2, Chen et al. 2024,
//! arXiv 2406.05370, §3).

use burn::module::{Initializer, Module};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_adapters::packed::indices;
use latentlm_adapters::{TokenAdapter, TokenAdapterConfig};
use latentlm_backbone::{Rope, RopeLayout};
use latentlm_kernels::{Mask, embedding, rms_norm};

use crate::code_config::CodeLmConfig;
use crate::quantizer::host_codes;
use crate::sizes::NORM_EPSILON;
use crate::transfusion::{ROPE_THETA, TransfusionBlock};

/// The model of all codebooks but the first. A document is the number of the codebook to be predicted, as a token
/// in front (ours; the paper leaves open how the network is told), the text, the token that begins speech, and a
/// position for each frame: the sum of the embeddings of its known codes. Every position sees all others.
#[derive(Module, Debug)]
pub struct ParallelCodeLm {
    /// Embedding of text, of the token that begins speech, and of the numbers of codebooks.
    text: TokenAdapter,
    /// Embeddings of the codes of all codebooks, `[Q * V, D]`, and their softmax heads.
    codes: Embedding,
    blocks: Vec<TransfusionBlock>,
    #[module(skip)]
    rope: Rope,
    entries: usize,
}

/// A speech whose codebooks before one are known.
pub(crate) struct Filling<'a> {
    pub(crate) text: &'a [u32],
    /// Codes of all codebooks, frame after frame; those that are to be predicted are not read.
    pub(crate) codes: &'a [i64],
    /// Frames at the beginning of which all codes are known: a voice.
    pub(crate) voice: usize,
    /// The codebook to be predicted, from 1.
    pub(crate) book: usize,
}

impl ParallelCodeLm {
    pub(crate) fn new(config: &CodeLmConfig, device: &Device) -> Self {
        let sizes = &config.parallel;
        let normal = Initializer::Normal {
            mean: 0.0,
            std: 0.02,
        };
        let vocabulary = config.text_vocabulary + config.codebooks;
        Self {
            text: TokenAdapterConfig::new(vocabulary, sizes.width).init(device),
            codes: EmbeddingConfig::new(config.codebooks * config.entries, sizes.width)
                .with_initializer(normal)
                .init(device),
            blocks: (0..sizes.depth)
                .map(|_| TransfusionBlock::new(sizes, device))
                .collect(),
            rope: Rope::new(RopeLayout::Interleaved, sizes.head_dim(), ROPE_THETA),
            entries: config.entries,
        }
    }

    /// `Q`, number of codebooks.
    pub(crate) fn codebooks(&self) -> usize {
        self.codes.weight.dims()[0] / self.entries
    }

    /// The token that begins speech; those of the codebooks from 1 follow.
    fn begin(&self) -> usize {
        self.text.vocabulary() - self.codebooks()
    }

    /// The sum of the embeddings of the known codes of all frames.
    ///
    /// # Shapes
    /// - returns: `[1, N, D]`
    fn embed_frames(&self, documents: &[Filling<'_>], device: &Device) -> Tensor<3> {
        let books = self.codebooks();
        let (mut codes, mut known): (Vec<i64>, Vec<f32>) = (Vec::new(), Vec::new());
        for document in documents {
            for (frame, own) in document.codes.chunks_exact(books).enumerate() {
                for (book, code) in own.iter().enumerate() {
                    let is_known = frame < document.voice || book < document.book;
                    let code = if is_known { *code } else { 0 };
                    codes.push(code + (book * self.entries) as i64);
                    known.push(f32::from(is_known));
                }
            }
        }
        let count = codes.len() / books;
        let codes = Tensor::<2, Int>::from_data(TensorData::new(codes, [count, books]), device);
        let known = TensorData::new(known, [count, books, 1]);
        let known = Tensor::<3>::from_data(known, device);
        let embedded = embedding(self.codes.weight.val(), codes) * known; // [N, Q, D]
        embedded.sum_dim(1).swap_dims(0, 1)
    }

    /// Hidden states of the frames that are to be predicted, document after document.
    ///
    /// # Shapes
    /// - returns: `[N, D]`
    fn hidden(&self, documents: &[Filling<'_>], device: &Device) -> Tensor<2> {
        let books = self.codebooks();
        let all_tokens: usize = documents.iter().map(|own| own.text.len() + 2).sum();
        let (mut tokens, mut rows, mut asked, mut masks) = (vec![], vec![], vec![], vec![]);
        let mut next = all_tokens as i64;
        for document in documents {
            let first = tokens.len() as i64;
            tokens.push((self.begin() + document.book) as i64);
            tokens.extend(document.text.iter().map(|token| i64::from(*token)));
            tokens.push(self.begin() as i64);
            rows.extend(first..tokens.len() as i64);
            let frames = document.codes.len() / books;
            asked.extend((document.voice..frames).map(|frame| (rows.len() + frame) as i64));
            rows.extend(next..next + frames as i64);
            next += frames as i64;
            masks.push(Mask::full(document.text.len() + 2 + frames));
        }
        let text = self.text.embed(indices(&tokens, device).unsqueeze_dim(0));
        let stack = Tensor::cat(vec![text, self.embed_frames(documents, device)], 1);
        let mut x = stack.select(1, indices(&rows, device));
        let lengths: Vec<usize> = masks.iter().map(|mask| mask.length).collect();
        let rotary = self.rope.rotation(0, &lengths, device);
        for block in &self.blocks {
            x = block.forward(x, &rotary, &masks);
        }
        let hidden = rms_norm(x, None, NORM_EPSILON);
        hidden.select(1, indices(&asked, device)).squeeze_dim(0)
    }

    /// Logits of the codes of a codebook.
    ///
    /// # Shapes
    /// - `hidden`: `[N, D]`
    /// - returns: `[N, V]`
    fn logits(&self, hidden: Tensor<2>, book: usize) -> Tensor<2> {
        let table = self.codes.weight.val();
        let table = table.narrow(0, book * self.entries, self.entries);
        hidden.matmul(table.transpose())
    }

    /// Cross entropy of each code that is to be predicted, in nats, `[M]`, codebook after codebook.
    pub(crate) fn surprise(&self, documents: &[Filling<'_>], device: &Device) -> Tensor<1> {
        let books = self.codebooks();
        let hidden = self.hidden(documents, device);
        let mut parts = Vec::new();
        for book in 1..books {
            let (mut rows, mut answers, mut first) = (vec![], vec![], 0);
            for document in documents {
                let asked = document.codes.chunks_exact(books).skip(document.voice);
                let count = asked.len() as i64;
                if document.book == book {
                    rows.extend(first..first + count);
                    answers.extend(asked.map(|own| own[book]));
                }
                first += count;
            }
            if rows.is_empty() {
                continue;
            }
            let own = hidden.clone().select(0, indices(&rows, device));
            let answers = indices(&answers, device);
            parts.push(latentlm_kernels::cross_entropy(
                self.logits(own, book),
                answers,
            ));
        }
        Tensor::cat(parts, 0)
    }

    /// The most likely codes of the frames behind the voice, `N` of them, document after document. All documents
    /// want the same codebook.
    pub(crate) fn fill(&self, documents: &[Filling<'_>], device: &Device) -> Vec<i64> {
        let Some(book) = documents.first().map(|own| own.book) else {
            return Vec::new();
        };
        let logits = self.logits(self.hidden(documents, device), book);
        host_codes(logits.argmax(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes::DenoiserSizes;
    use latentlm_backbone::BackboneConfig;
    use latentlm_core::conformance::{assert_close, seeded};

    /// Texts of three tokens, three codebooks of five entries.
    fn model(device: &Device) -> ParallelCodeLm {
        let parallel = DenoiserSizes::new()
            .with_width(16)
            .with_depth(2)
            .with_heads(2)
            .with_mlp_ratio(6.0);
        let config = CodeLmConfig::new(3, 3, 5, BackboneConfig::new(16, 1, 2), parallel);
        seeded(1, device, |device| ParallelCodeLm::new(&config, device))
    }

    /// Three frames, the first of a voice.
    fn filling(codes: &[i64], book: usize) -> Filling<'_> {
        Filling {
            text: &[0, 2],
            codes,
            voice: 1,
            book,
        }
    }

    const CODES: [i64; 9] = [4, 3, 2, 1, 0, 4, 3, 2, 1];

    fn changed(place: usize) -> [i64; 9] {
        let mut codes = CODES;
        codes[place] = (codes[place] + 1) % 5;
        codes
    }

    /// Hidden states see the codebooks before in all frames, all codebooks of the voice, and nothing else.
    #[test]
    fn only_known_codes_are_read() {
        let device = Device::default();
        let model = model(&device);
        let hidden = |codes: &[i64], book| model.hidden(&[filling(codes, book)], &device);
        for book in [1, 2] {
            let own = hidden(&CODES, book);
            assert_eq!(own.dims(), [2, 16], "frames behind the voice");
            for place in 0..9 {
                let other = hidden(&changed(place), book);
                let difference = (other - own.clone()).abs().max().into_scalar::<f32>();
                let is_known = place < 3 || place % 3 < book;
                assert_eq!(difference > 0.0, is_known, "place {place}, book {book}");
            }
        }
        let books = hidden(&CODES, 1) - hidden(&CODES, 2);
        assert!(books.abs().max().into_scalar::<f32>() > 1e-4, "the number");
    }

    /// In a pack of documents with different codebooks, each is as if alone.
    #[test]
    fn documents_are_alone_in_a_pack() {
        let device = Device::default();
        let model = model(&device);
        let (first, second) = (filling(&CODES, 2), filling(&CODES[..6], 1));
        let both = model.surprise(&[first, second], &device);
        let alone = model.surprise(&[filling(&CODES[..6], 1)], &device);
        // Codebook after codebook: that of the second document comes first.
        assert_close("second", alone, both.clone().narrow(0, 0, 1), 1e-5);
        let alone = model.surprise(&[filling(&CODES, 2)], &device);
        assert_close("first", alone, both.narrow(0, 1, 2), 1e-5);
    }

    /// `-log softmax` of inner products with the codebook's embeddings, and their largest.
    #[test]
    fn logits_are_inner_products_with_the_codebook() {
        let device = Device::default();
        let model = model(&device);
        let hidden = model.hidden(&[filling(&CODES, 2)], &device);
        let table = model.codes.weight.val().narrow(0, 10, 5);
        let logits = hidden.matmul(table.transpose());
        let best: Vec<i64> = host_codes(logits.clone().argmax(1));
        assert_eq!(model.fill(&[filling(&CODES, 2)], &device), best);
        let sum = logits.clone().exp().sum_dim(1).log(); // [2, 1]
        let answers = Tensor::<2, Int>::from_ints([[4], [1]], &device);
        let expected = (sum - logits.gather(1, answers)).reshape([2]);
        let surprise = model.surprise(&[filling(&CODES, 2)], &device);
        assert_close("surprise", surprise, expected, 1e-5);
    }
}
