//! A batch of documents cut for the devices or threads that there are, and what of its losses each shard
//! has.

use std::ops::Range;

use burn::tensor::{Device, Tensor};
use latentlm::core::DiffusionDraws;
use latentlm::sequence::{ControlTokens, Document, Layout};
use latentlm::{Batch, Loss};

use crate::spread::Portable;

/// A batch that can be cut between its documents.
pub trait Cut: Portable + Send {
    /// The documents.
    fn documents(&self) -> &[Document];

    /// The weight of each document's learned tokens in their mean.
    fn weights(&self) -> &[f64];

    /// Modalities that the documents may have.
    fn modalities(&self) -> usize;

    /// Some of the documents with what belongs to them.
    fn share(&self, share: &Share) -> Self;
}

/// Documents of a batch, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// Their places.
    pub documents: Range<usize>,
    /// Share of the weights of all learned tokens.
    pub of_tokens: f64,
    /// Their latents of each modality.
    pub latents: Vec<LatentShare>,
}

/// Latents of some documents among those of a batch, one modality's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatentShare {
    /// Their places.
    pub frames: Range<usize>,
    /// Places of the learned ones among all that are learned.
    learned: Range<usize>,
    /// Learned latents of the batch.
    all: usize,
}

impl Share {
    /// Cuts documents into at most `count` shares of about as many positions each.
    pub fn all(batch: &impl Cut, count: usize) -> Vec<Self> {
        let (documents, weights) = (batch.documents(), batch.weights());
        let measure = |own: Range<usize>| {
            let documents = &documents[own.clone()];
            Measure::of(documents, &weights[own], batch.modalities())
        };
        let whole = measure(0..documents.len());
        let mut ends = vec![(0, 0); batch.modalities()];
        let ranges = share_out(documents, count, Document::positions).into_iter();
        let shares = ranges.map(|documents| {
            let own = measure(documents.clone());
            let counts = own.latents.iter().zip(&whole.latents).zip(&mut ends);
            let latents = counts.map(|((own, whole), end)| {
                let (frame, learned) = *end;
                *end = (frame + own.frames, learned + own.learned);
                LatentShare {
                    frames: frame..end.0,
                    learned: learned..end.1,
                    all: whole.learned,
                }
            });
            Self {
                documents,
                of_tokens: if own.tokens > 0.0 {
                    own.tokens / whole.tokens
                } else {
                    0.0
                },
                latents: latents.collect(),
            }
        });
        shares.collect()
    }
}

impl LatentShare {
    /// Share of all learned latents.
    pub fn of_latents(&self) -> f64 {
        self.learned.len() as f64 / self.all.max(1) as f64
    }

    /// Their rows of a batch's draws for latents of `dim` numbers. A row may be for several latents, for
    /// all of a picture. Where none is learned it is the first row, at which nobody looks.
    pub fn draws(&self, draws: &DiffusionDraws, dim: usize) -> DiffusionDraws {
        let latents_a_row = draws.noise.dims()[1] / dim;
        let row = |latent: usize| latent / latents_a_row;
        let count = row(self.all).max(1);
        if self.learned.is_empty() {
            return draws.of_latents(0..1, count);
        }
        draws.of_latents(row(self.learned.start)..row(self.learned.end), count)
    }
}

/// What documents have.
struct Measure {
    /// Weights of all learned tokens together.
    tokens: f64,
    latents: Vec<LatentCount>,
}

struct LatentCount {
    frames: usize,
    learned: usize,
}

impl Measure {
    fn of(documents: &[Document], weights: &[f64], modalities: usize) -> Self {
        // Which tokens stand around latents makes no difference to how many there are.
        let layout = Layout::new(documents, &vec![ControlTokens::after(0); modalities]);
        let counts = layout.said.iter().zip(&layout.learned);
        let counts = counts.map(|(all, learned)| LatentCount {
            frames: all.len(),
            learned: learned.latents.len(),
        });
        Self {
            tokens: layout.answer_weights(weights).iter().sum(),
            latents: counts.collect(),
        }
    }
}

impl Cut for Batch {
    fn documents(&self) -> &[Document] {
        &self.documents
    }

    fn weights(&self) -> &[f64] {
        &self.weights
    }

    fn modalities(&self) -> usize {
        self.latents.len()
    }

    fn share(&self, share: &Share) -> Self {
        let some = |all: &[Tensor<2>]| -> Vec<Tensor<2>> {
            let all = all.iter().zip(&share.latents);
            all.map(|(all, own)| all.clone().slice(own.frames.clone()))
                .collect()
        };
        let draws = self.draws.iter().zip(&self.latents).zip(&share.latents);
        let draws = draws.map(|((draws, all), own)| own.draws(draws, all.dims()[1]));
        Self {
            documents: self.documents[share.documents.clone()].to_vec(),
            weights: self.weights[share.documents.clone()].to_vec(),
            heard: some(&self.heard),
            latents: some(&self.latents),
            draws: draws.collect(),
        }
    }
}

/// What one thread or device does of a batch.
pub struct Shard<B> {
    batch: B,
    of_tokens: f64,
    of_latents: Vec<f64>,
    token_weight: f64,
}

impl<B: Portable> Portable for Shard<B> {
    fn to_device(self, device: &Device) -> Self {
        Self {
            batch: self.batch.to_device(device),
            ..self
        }
    }
}

impl<B: Cut> Shard<B> {
    /// A batch, cut into at most `count` shards. `token_weight` is the weight of the cross entropy in the
    /// joint loss.
    pub fn all(batch: &B, token_weight: f64, count: usize) -> Vec<Self> {
        let shares = Share::all(batch, count).into_iter();
        let shards = shares.map(|share| Self {
            batch: batch.share(&share),
            of_tokens: share.of_tokens,
            of_latents: share.latents.iter().map(LatentShare::of_latents).collect(),
            token_weight,
        });
        shards.collect()
    }

    /// Its share of the batch's joint loss, and of the parts of that.
    pub fn loss(self, loss: impl FnOnce(B) -> Loss) -> (Tensor<1>, Loss) {
        let loss = loss(self.batch);
        let diffusion = loss.diffusion.into_iter().zip(self.of_latents);
        let loss = Loss {
            token: loss.token.mul_scalar(self.of_tokens),
            diffusion: diffusion
                .map(|(own, share)| own.mul_scalar(share))
                .collect(),
        };
        let token = loss.token.clone().mul_scalar(self.token_weight);
        let total = loss.diffusion.iter();
        let total = total.fold(token, |sum, own| sum + own.clone());
        (total, loss)
    }
}

/// Cuts documents one after the other into at most `parts` of about as many positions each.
fn share_out<T>(
    documents: &[T],
    parts: usize,
    positions: impl Fn(&T) -> usize,
) -> Vec<Range<usize>> {
    let total: usize = documents.iter().map(&positions).sum();
    let (mut position, mut counts) = (0, vec![0; parts]);
    for document in documents {
        let middle = position + positions(document) / 2;
        position += positions(document);
        counts[(middle * parts / total.max(1)).min(parts - 1)] += 1;
    }
    let mut start = 0;
    let ranges = counts.into_iter().map(|count| {
        let range = start..start + count;
        start = range.end;
        range
    });
    ranges.filter(|range| !range.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, ModuleMapper, Param};
    use burn::tensor::Int;
    use latentlm::core::conformance::seeded;
    use latentlm::sequence::Segment;
    use latentlm::{LatentHead, LatentLmConfig, LmSizes, Modality, RandomStream};
    use latentlm_pipelines::TokenWeights;

    #[test]
    fn a_pack_is_cut_where_positions_are_halved() {
        let cut = |lengths: &[usize], parts| share_out(lengths, parts, |length| *length);
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
        DiffusionDraws {
            timesteps: Tensor::<1, Int>::arange(0..rows, &device),
            noise: Tensor::zeros([rows as usize, 1], &device),
        }
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
        let batch = batch(weights);
        assert_eq!(batch.weights, [1.0, 4.0, 1.0, 1.0]);
        let shares = Share::all(&batch, 2);
        let places: Vec<Range<usize>> = shares.iter().map(|own| own.documents.clone()).collect();
        assert_eq!(places, [0..2, 2..4], "7 + 8 positions and 6 + 7");
        let of_tokens = [shares[0].of_tokens, shares[1].of_tokens];
        for (found, expected) in of_tokens.iter().zip([15.0 / 23.0, 8.0 / 23.0]) {
            assert!((found - expected).abs() < 1e-12, "{of_tokens:?}");
        }
        let [first, second] = [&shares[0].latents[0], &shares[1].latents[0]];
        assert_eq!((first.of_latents(), second.of_latents()), (0.5, 0.5));
        assert_eq!((&first.frames, &second.frames), (&(0..4), &(4..6)));
        assert_eq!(Share::all(&batch, 1).len(), 1);
        let alike = Share::all(&self::batch(0.5.into()), 2);
        assert!((alike[0].of_tokens - 6.0 / 14.0).abs() < 1e-12);
    }

    /// Four learned latents, or two pictures, with two draws each.
    #[test]
    fn draws_go_with_what_they_are_for() {
        let shares = Share::all(&batch(1.0.into()), 4);
        assert_eq!(shares.len(), 4);
        let steps = |share: &Share, draws: &DiffusionDraws| -> Vec<i64> {
            let draws = share.latents[0].draws(draws, 1);
            let data = draws.timesteps.into_data().convert::<i64>();
            data.try_into_vec().unwrap()
        };
        assert_eq!(steps(&shares[0], &numbered(8)), [0, 1, 4, 5]);
        assert_eq!(steps(&shares[3], &numbered(8)), [2, 3, 6, 7]);
        assert_eq!(steps(&shares[2], &numbered(8)), [0, 4], "no one looks");
        let of_pictures = DiffusionDraws {
            noise: Tensor::zeros([4, 2], &Device::default()),
            ..numbered(4)
        };
        assert_eq!(steps(&shares[3], &of_pictures), [1, 3]);
    }

    /// Weights that are far from where they begin: a fresh head predicts the same of everything.
    struct Stir(RandomStream);

    impl ModuleMapper for Stir {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let noise = self.0.normal(tensor.dims(), &tensor.device());
                tensor + noise.mul_scalar(0.2)
            })
        }
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
