//! A batch of documents, cut for devices or threads, and each shard's share of the losses.

use std::ops::Range;

use burn::tensor::{Device, Tensor};
use latentlm::sequence::{ControlTokens, Document, Layout};
use latentlm::{Batch, Loss};

use crate::spread::ToDevice;

/// The part of a batch that one thread or device works on.
pub struct Shard {
    /// Some of the batch's documents, with what belongs to them.
    batch: Batch,
    /// Share of the weights of all learned tokens.
    of_tokens: f64,
    /// Share of all learned latents, one entry a modality.
    of_latents: Vec<f64>,
    /// Weight of the cross entropy in the joint loss.
    token_weight: f64,
}

impl ToDevice for Shard {
    fn to_device(self, device: &Device) -> Self {
        Self {
            batch: self.batch.to_device(device),
            ..self
        }
    }
}

impl Shard {
    /// Cuts a batch between documents into at most `count` shards of about as many positions each.
    pub fn all(batch: &Batch, token_weight: f64, count: usize) -> Vec<Self> {
        let modalities = batch.latents.len();
        let whole = Learned::of(&batch.documents, &batch.weights, modalities);
        // Latents and learned latents of the shards before, for each modality.
        let mut ends = vec![(0, 0); modalities];
        let mut shards = Vec::with_capacity(count);
        let positions: Vec<usize> = batch.documents.iter().map(Document::positions).collect();
        for range in cut_evenly(&positions, count) {
            let documents = batch.documents[range.clone()].to_vec();
            let weights = batch.weights[range.clone()].to_vec();
            let nulls = batch.nulls.get(range).unwrap_or_default().to_vec();
            let learned = Learned::of(&documents, &weights, modalities);
            let mut own = Batch {
                weights,
                nulls,
                ..Batch::new(documents, Vec::new(), Vec::new())
            };
            let mut of_latents = Vec::with_capacity(modalities);
            for (modality, end) in ends.iter_mut().enumerate() {
                let all = whole.latents[modality];
                let frames: usize = own.documents.iter().map(|own| own.frames(modality)).sum();
                let frames = end.0..end.0 + frames;
                let drawn = end.1..end.1 + learned.latents[modality];
                *end = (frames.end, drawn.end);
                of_latents.push(drawn.len() as f64 / all.max(1) as f64);
                let latents = &batch.latents[modality];
                if let Some(draws) = batch.draws.get(modality) {
                    // A row may be for several latents, for all of a picture.
                    let latents_a_row = draws.noise.dims()[1] / latents.dims()[1];
                    let row = |latent: usize| latent / latents_a_row;
                    // For no latents it is the first row, which is not read.
                    let mut rows = 0..1;
                    if !drawn.is_empty() {
                        rows = row(drawn.start)..row(drawn.end);
                    }
                    own.draws.push(draws.of_latents(rows, row(all).max(1)));
                }
                let heard = batch.heard[modality].clone();
                own.heard.push(heard.slice(frames.clone()));
                own.latents.push(latents.clone().slice(frames));
            }
            let of_tokens = learned.tokens / whole.tokens;
            shards.push(Self {
                batch: own,
                of_tokens: if learned.tokens > 0.0 { of_tokens } else { 0.0 },
                of_latents,
                token_weight,
            });
        }
        shards
    }

    /// The documents, and what belongs to them.
    pub fn batch_mut(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// The shard's share of the batch's joint loss, and of each part of it.
    pub fn loss(self, loss: impl FnOnce(Batch) -> Loss) -> (Tensor<1>, Loss) {
        let mut loss = loss(self.batch);
        loss.token = loss.token.mul_scalar(self.of_tokens);
        let mut total = loss.token.clone().mul_scalar(self.token_weight);
        for (own, share) in loss.diffusion.iter_mut().zip(self.of_latents) {
            *own = own.clone().mul_scalar(share);
            total = total + own.clone();
        }
        (total, loss)
    }
}

/// How many tokens and latents of documents are learned.
pub struct Learned {
    /// Weights of all learned tokens together.
    pub tokens: f64,
    /// Learned latents of each modality.
    pub latents: Vec<usize>,
}

impl Learned {
    /// Counts the learned tokens and latents of documents. Each document's tokens have its weight.
    pub fn of(documents: &[Document], weights: &[f64], modalities: usize) -> Self {
        // Which tokens stand around latents makes no difference.
        let layout = Layout::new(documents, &vec![ControlTokens::after(0); modalities]);
        let latents = layout.learned.iter().map(|own| own.latents.len());
        Self {
            tokens: layout.answer_weights(weights).iter().sum(),
            latents: latents.collect(),
        }
    }
}

/// Cuts documents that follow each other, each with its number of positions, into at most `count` ranges of similar
/// length.
fn cut_evenly(positions: &[usize], count: usize) -> Vec<Range<usize>> {
    let total: usize = positions.iter().sum();
    let (mut before, mut counts) = (0, vec![0; count]);
    for own in positions {
        let middle = before + own / 2;
        before += own;
        counts[(middle * count / total.max(1)).min(count - 1)] += 1;
    }
    let (mut start, mut ranges) = (0, Vec::with_capacity(count));
    for own in counts.into_iter().filter(|own| *own > 0) {
        ranges.push(start..start + own);
        start += own;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Module;
    use burn::tensor::Int;
    use latentlm::core::DiffusionDraws;
    use latentlm::core::conformance::{Stir, seeded};
    use latentlm::sequence::Segment;
    use latentlm::{LatentHead, LatentLmConfig, LmSizes, Modality, RandomStream};
    use latentlm_pipelines::TokenWeights;

    #[test]
    fn a_pack_is_cut_where_positions_are_halved() {
        let cut = cut_evenly;
        let lengths = [10, 5, 10, 5];
        assert_eq!(cut(&lengths, 1), vec![0..4]);
        assert_eq!(cut(&lengths, 2), vec![0..2, 2..4], "10 + 5 and 10 + 5");
        let each: Vec<usize> = cut(&[10, 1, 2, 8], 9).into_iter().flatten().collect();
        assert_eq!(each, [0, 1, 2, 3], "none twice, none left out");
        assert_eq!(cut(&lengths[..1], 3), vec![0..1]);
        assert_eq!(cut(&[16; 64], 4), vec![0..16, 16..32, 32..48, 48..64]);
    }

    fn text(tokens: &[u32]) -> Segment {
        Segment::Text {
            tokens: tokens.to_vec(),
            learned: true,
        }
    }

    fn latents(modality: usize, frames: usize, learned: bool) -> Segment {
        Segment::Latents {
            modality,
            frames,
            open_ended: modality == 1,
            said: Vec::new(),
            learned,
        }
    }

    /// A picture that is drawn, one that is read, text, another that is drawn. Start is 4, stop 5.
    fn documents() -> Vec<Document> {
        [
            vec![text(&[4, 1]), latents(0, 2, true), text(&[5])],
            vec![text(&[4]), latents(0, 2, false), text(&[2, 3, 5])],
            vec![text(&[4, 1, 2, 3, 0, 5])],
            vec![text(&[4, 3]), latents(0, 2, true), text(&[5])],
        ]
        .map(|segments| Document { segments })
        .to_vec()
    }

    /// Numbered draws: so many rows, each for one latent of one number.
    fn numbered(rows: i64) -> DiffusionDraws {
        let device = Device::default();
        let timesteps = Tensor::<1, Int>::arange(0..rows, &device);
        DiffusionDraws::new(timesteps, Tensor::zeros([rows as usize, 1], &device))
    }

    fn batch(weights: TokenWeights) -> Batch {
        let documents = documents();
        let latents = Tensor::zeros([6, 1], &Device::default());
        Batch {
            weights: weights.of(&documents),
            ..Batch::new(documents, vec![latents], vec![numbered(8)])
        }
    }

    /// Learned tokens are 3 (the word, `<BOD>`, the end), 3, 5 and 3; those of the second document
    /// count fourfold: 3 + 12 of 3 + 12 + 5 + 3.
    #[test]
    fn shares_are_of_weights_and_of_latents() {
        let weights = TokenWeights {
            loss: 0.5,
            caption: 4.0,
        };
        let shards = Shard::all(&batch(weights), 0.5, 2);
        let counts: Vec<usize> = shards.iter().map(|own| own.batch.documents.len()).collect();
        assert_eq!(counts, [2, 2], "7 + 8 positions and 6 + 7");
        assert_eq!(shards[0].batch.weights, [1.0, 4.0]);
        let of_tokens = [shards[0].of_tokens, shards[1].of_tokens];
        for (found, expected) in of_tokens.iter().zip([15.0 / 23.0, 8.0 / 23.0]) {
            assert!((found - expected).abs() < 1e-12, "{of_tokens:?}");
        }
        for (shard, latents) in shards.iter().zip([4, 2]) {
            assert_eq!(shard.of_latents, [0.5]);
            assert_eq!(shard.batch.latents[0].dims(), [latents, 1]);
        }
        assert_eq!(Shard::all(&batch(weights), 0.5, 1).len(), 1);
        let alike = Shard::all(&batch(0.5.into()), 0.5, 2);
        assert!((alike[0].of_tokens - 6.0 / 14.0).abs() < 1e-12);
    }

    /// Four learned latents, or two pictures, with two draws each.
    #[test]
    fn draws_go_with_what_they_are_for() {
        let steps = |shard: &Shard| -> Vec<i64> {
            let timesteps = shard.batch.draws[0].timesteps.clone();
            timesteps
                .into_data()
                .convert::<i64>()
                .try_into_vec()
                .unwrap()
        };
        let own = batch(1.0.into());
        let shards = Shard::all(&own, 1.0, 4);
        assert_eq!(shards.len(), 4);
        assert_eq!(steps(&shards[0]), [0, 1, 4, 5]);
        assert_eq!(steps(&shards[3]), [2, 3, 6, 7]);
        assert_eq!(steps(&shards[2]), [0, 4], "nobody looks at them");
        let of_pictures = DiffusionDraws {
            noise: Tensor::zeros([4, 2], &Device::default()),
            ..numbered(4)
        };
        let own = Batch {
            draws: vec![of_pictures],
            ..own
        };
        assert_eq!(steps(&Shard::all(&own, 1.0, 4)[3]), [1, 3]);
    }

    /// Documents of two modalities, text alone among them: the losses of shards add up to the batch's.
    #[test]
    fn shards_add_up_to_the_batch() {
        let device = Device::default();
        let modalities = [3, 2].map(|dim| Modality::new(dim, 0)).to_vec();
        let sizes = LmSizes::new().with_width(32).with_depth(1).with_heads(2);
        let config = LatentLmConfig::mllm(8, modalities).with_sizes(sizes);
        let config = config.with_one_head(false);
        let model = seeded(3, &device, |device| config.init(device));
        let model = model.map(&mut Stir(RandomStream::new(5)));
        let mut documents = documents();
        documents.push(Document {
            segments: vec![text(&[4, 2]), latents(1, 3, true), text(&[5])],
        });
        let mut random = RandomStream::new(7);
        let latents = vec![
            random.normal([6, 3], &device),
            random.normal([3, 2], &device),
        ];
        let draws = [(0, 8), (1, 6)];
        let draws = draws.map(|(own, rows)| model.head_of(own).draw(rows, &mut random, &device));
        let weights = TokenWeights {
            loss: 0.5,
            caption: 3.0,
        };
        let batch = Batch {
            weights: weights.of(&documents),
            heard: vec![latents[0].clone().mul_scalar(0.5), latents[1].clone()],
            ..Batch::new(documents, latents, draws.to_vec())
        };
        let losses = |count| {
            let shards = Shard::all(&batch, weights.loss, count);
            assert_eq!(shards.len(), count);
            let mut sums = [0.0; 4];
            for shard in shards {
                let (total, loss) = shard.loss(|batch| model.loss(batch));
                let parts = [&[total, loss.token][..], &loss.diffusion].concat();
                for (sum, part) in sums.iter_mut().zip(parts) {
                    *sum += part.into_scalar::<f32>();
                }
            }
            sums
        };
        let whole = losses(1);
        let joint = 0.5 * whole[1] + whole[2] + whole[3];
        assert!((whole[0] - joint).abs() < 1e-4 * joint, "{whole:?}");
        for count in [2, 5] {
            for (whole, parts) in whole.iter().zip(losses(count)) {
                let near = (whole - parts).abs() < 1e-4 * whole.abs();
                assert!(near, "{count} shards: {whole} and {parts}");
            }
        }
    }
}
