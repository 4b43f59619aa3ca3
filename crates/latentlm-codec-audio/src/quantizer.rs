//! Residual vector quantization, the rival of the sigma-VAE: a latent becomes a sum of entries, one of each
//! codebook, and every codebook quantizes what those before it left over (SoundStream, Zeghidour et al. 2021,
//! arXiv 2107.03312). Codebooks are moving averages of the latents next to their entries, and entries that are
//! hardly used are drawn anew (van den Oord et al. 2017, arXiv 1711.00937, appendix A.1; EnCodec, Défossez et al.
//! 2022, arXiv 2210.13438).

use std::f64::consts::FRAC_1_SQRT_2;

use burn::module::{Initializer, Module, Param};
use burn::serde::{Deserialize, Serialize};
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_core::{LatentQuantizer, RandomStream, mean_loss};

use crate::keys::KEYS;

/// Added to divisors that may be 0.
const TINY: f64 = 1e-12;

/// The table `[codec.quantizer]` of a recipe. Recipes of older versions lack it; then there are no codebooks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(crate = "burn::serde", from = "Option<Written>")]
pub struct QuantizerConfig {
    /// `Q`, number of codebooks; 0 for continuous latents.
    pub codebooks: usize,
    /// `V`, entries of each codebook.
    pub entries: usize,
    /// Share of training signals that are quantized by the first codebooks alone; how many is drawn for each.
    pub dropout: f64,
    /// Decay of the moving averages, for each training step.
    pub decay: f64,
    /// Entries that fewer latents are next to are drawn anew, relative to all entries used alike.
    pub restart_below: f64,
    /// Weight of the commitment loss, which moves latents to their entries.
    pub commitment_weight: f64,
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(crate = "burn::serde")]
struct Written {
    codebooks: usize,
    entries: usize,
    dropout: f64,
    decay: f64,
    restart_below: f64,
    commitment_weight: f64,
}

/// A missing field is read as `None`.
impl From<Option<Written>> for QuantizerConfig {
    fn from(written: Option<Written>) -> Self {
        written.map_or_else(Self::default, |own| Self {
            codebooks: own.codebooks,
            entries: own.entries,
            dropout: own.dropout,
            decay: own.decay,
            restart_below: own.restart_below,
            commitment_weight: own.commitment_weight,
        })
    }
}

impl Default for QuantizerConfig {
    fn default() -> Self {
        Self {
            codebooks: KEYS.default("codec.quantizer.codebooks"),
            entries: KEYS.default("codec.quantizer.entries"),
            dropout: KEYS.default("codec.quantizer.dropout"),
            decay: KEYS.default("codec.quantizer.decay"),
            restart_below: KEYS.default("codec.quantizer.restart_below"),
            commitment_weight: KEYS.default("codec.quantizer.commitment_weight"),
        }
    }
}

impl QuantizerConfig {
    /// What is wrong with it, if anything is.
    pub(crate) fn fault(&self) -> Option<String> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let fault = if self.codebooks == 0 {
            return None;
        } else if self.entries < 2 {
            "quantizer.entries must be 2 or more"
        } else if !share(self.dropout) || !share(self.decay) || self.decay == 1.0 {
            "quantizer.dropout must be in 0..=1, quantizer.decay in 0..1"
        } else if !(self.restart_below > 0.0 && self.restart_below < 1.0) {
            "quantizer.restart_below must be in 0..1, and not 0"
        } else if !(self.commitment_weight >= 0.0 && self.commitment_weight.is_finite()) {
            "quantizer.commitment_weight must be 0 or more"
        } else {
            return None;
        };
        Some(fault.into())
    }

    /// Number of parameters for latents of `dim` numbers.
    pub(crate) fn parameter_count(&self, dim: usize) -> usize {
        // Entries, and how often each is used.
        let of_entry = dim.saturating_add(1);
        let of_book = self.entries.saturating_mul(of_entry);
        self.codebooks.saturating_mul(of_book)
    }

    /// Builds the quantizer; `None` if there are no codebooks.
    pub(crate) fn init(&self, dim: usize, device: &Device) -> Option<ResidualQuantizer> {
        let books = (0..self.codebooks).map(|_| Codebook::new(self.entries, dim, device));
        (self.codebooks > 0).then(|| ResidualQuantizer {
            books: books.collect(),
            dropout: self.dropout,
            decay: self.decay,
            restart_below: self.restart_below,
            commitment_weight: self.commitment_weight,
        })
    }
}

/// A codebook. No gradient moves it; both tensors are part of checkpoints, so that a resumed training goes on
/// with the same averages.
#[derive(Module, Debug)]
struct Codebook {
    /// `[V, Z]`
    entries: Param<Tensor<2>>,
    /// Moving average of the number of latents next to each entry, `[V, 1]`.
    usage: Param<Tensor<2>>,
}

impl Codebook {
    /// Entries that start as N(0, 1), none of them used: the first step draws them from latents.
    fn new(entries: usize, dim: usize, device: &Device) -> Self {
        let normal = Initializer::Normal {
            mean: 0.0,
            std: 1.0,
        };
        let fixed = |param: Param<Tensor<2>>| param.set_require_grad(false);
        Self {
            entries: fixed(normal.init([entries, dim], device)),
            usage: fixed(Initializer::Zeros.init([entries, 1], device)),
        }
    }

    /// Number of entries.
    fn size(&self) -> usize {
        self.entries.dims()[0]
    }

    /// The entry next to each latent, without a gradient.
    ///
    /// # Shapes
    /// - `latents`: `[N, Z]`
    /// - returns: `[N]`
    fn nearest(&self, latents: Tensor<2>) -> Tensor<1, Int> {
        let count = latents.dims()[0];
        let entries = self.entries.val().detach();
        // |e - c|^2 without |e|^2, which is the same for all entries: one matrix product.
        let lengths = entries.clone().square().sum_dim(1).transpose(); // [1, V]
        let products = latents.detach().matmul(entries.transpose());
        let distances = lengths - products.mul_scalar(2.0); // [N, V]
        distances.argmin(1).reshape([count])
    }

    /// Entries of codes, without a gradient.
    ///
    /// # Shapes
    /// - `codes`: `[N]`
    /// - returns: `[N, Z]`
    fn embed(&self, codes: Tensor<1, Int>) -> Tensor<2> {
        self.entries.val().detach().select(0, codes)
    }

    /// Moves entries to the mean of the latents next to them, and draws those that are hardly used from the
    /// latents.
    ///
    /// # Shapes
    /// - `latents`: `[N, Z]`
    fn learn(
        self,
        latents: &Tensor<2>,
        decay: f64,
        restart_below: f64,
        random: &mut RandomStream,
    ) -> Self {
        let (size, count) = (self.size(), latents.dims()[0]);
        let device = latents.device();
        // As floats, which are the same type whatever integers a device has.
        let codes = self.nearest(latents.clone()).float().reshape([1, count]);
        let numbers = Tensor::<1, Int>::arange(0..size as i64, &device).float();
        let numbers = numbers.reshape([size, 1]);
        let own = numbers
            .repeat_dim(1, count)
            .equal(codes.repeat_dim(0, size))
            .float(); // [V, N]
        let (entries, usage) = (self.entries.val().detach(), self.usage.val().detach());
        let before = usage.mul_scalar(decay);
        let counts = own.clone().sum_dim(1); // [V, 1]
        let sums = own.matmul(latents.clone()); // [V, Z]
        let mut usage = before.clone() + counts.mul_scalar(1.0 - decay);
        let sums = entries * before + sums.mul_scalar(1.0 - decay);
        let mut entries = sums / usage.clone().clamp_min(TINY);

        let even = count as f64 / size as f64;
        let used = usage.clone().into_data().convert::<f32>();
        let used: Vec<f32> = used.try_into_vec().unwrap_or_default();
        // Row `i` of the new codebook is row `sources[i]` of the old one with the latents appended.
        let mut sources: Vec<i64> = (0..size as i64).collect();
        for (source, used) in sources.iter_mut().zip(&used) {
            if f64::from(*used) < restart_below * even {
                *source = (size + random.below(count)) as i64;
            }
        }
        if sources.iter().any(|source| *source >= size as i64) {
            let sources = TensorData::new(sources, [size]);
            let sources = Tensor::<1, Int>::from_data(sources, &device);
            let fresh = Tensor::full([count, 1], even, &device);
            entries = Tensor::cat(vec![entries, latents.clone()], 0).select(0, sources.clone());
            usage = Tensor::cat(vec![usage, fresh], 0).select(0, sources);
        }
        Self {
            entries: self.entries.map(|_| entries.set_require_grad(false)),
            usage: self.usage.map(|_| usage.set_require_grad(false)),
        }
    }
}

/// Latents as sums of entries.
pub(crate) struct QuantizedSound {
    /// `[B, T, Z]`. Their gradient is passed to the latents unchanged (straight-through estimator).
    pub(crate) latents: Tensor<3>,
    /// `mean((residual - sg(entry))^2)` of each codebook, averaged, `[1]`: moves latents to their entries.
    pub(crate) commitment: Tensor<1>,
}

/// Codebooks one after the other.
#[derive(Module, Debug)]
pub struct ResidualQuantizer {
    books: Vec<Codebook>,
    dropout: f64,
    decay: f64,
    restart_below: f64,
    commitment_weight: f64,
}

impl ResidualQuantizer {
    /// Weight of the commitment loss.
    pub(crate) fn commitment_weight(&self) -> f64 {
        self.commitment_weight
    }

    /// Quantizes latents for training: a share of the signals by the first codebooks alone, so that these carry
    /// what matters most (quantizer dropout).
    ///
    /// # Shapes
    /// - `latents`: `[B, T, Z]`; `draw`: `[B]`, standard normal, decides how many codebooks quantize a signal
    pub(crate) fn forward(&self, latents: Tensor<3>, draw: Tensor<1>) -> QuantizedSound {
        let [batch, length, dim] = latents.dims();
        let kept = self.kept(draw);
        let mut residual = latents.clone();
        let mut sum = latents.clone().detach().zeros_like();
        let mut commitments = Vec::with_capacity(self.books.len());
        for (index, book) in self.books.iter().enumerate() {
            let used = kept.clone().greater_elem(index as f64).float();
            let used = used.reshape([batch, 1, 1]);
            let rows = residual.clone().reshape([batch * length, dim]);
            let entries = book.embed(book.nearest(rows));
            let entries = entries.reshape([batch, length, dim]) * used.clone();
            residual = residual - entries.clone();
            commitments.push((residual.clone() * used).square().mean());
            sum = sum + entries;
        }
        QuantizedSound {
            latents: latents.clone() + (sum - latents).detach(),
            commitment: mean_loss(commitments.into_iter()),
        }
    }

    /// Number of codebooks that quantize each signal, `[B]`; all if it is more than there are. Uniform in `1..=Q`
    /// for the share of signals that lose some.
    fn kept(&self, draw: Tensor<1>) -> Tensor<1> {
        let books = self.books.len() as f64;
        if self.dropout == 0.0 {
            return Tensor::full(draw.dims(), books, &draw.device());
        }
        // The distribution function of normal numbers makes them uniform in 0..1.
        let uniform = draw.mul_scalar(FRAC_1_SQRT_2).erf().add_scalar(1.0);
        let scaled = uniform.mul_scalar(0.5 * books / self.dropout);
        scaled.floor().add_scalar(1.0)
    }

    /// The sum of the entries of all codebooks, without a gradient.
    ///
    /// # Shapes
    /// - `latents`, returns: `[B, T, Z]`
    pub(crate) fn quantize(&self, latents: Tensor<3>) -> Tensor<3> {
        self.latents(self.codes(latents))
    }

    /// Moves all codebooks towards latents, each towards what those before it leave over.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, Z]`
    pub(crate) fn learn(mut self, latents: Tensor<3>, random: &mut RandomStream) -> Self {
        let [batch, length, dim] = latents.dims();
        let mut residual = latents.detach().reshape([batch * length, dim]);
        let mut books = Vec::with_capacity(self.books.len());
        for book in self.books {
            let book = book.learn(&residual, self.decay, self.restart_below, random);
            let entries = book.embed(book.nearest(residual.clone()));
            residual = residual - entries;
            books.push(book);
        }
        self.books = books;
        self
    }
}

impl LatentQuantizer for ResidualQuantizer {
    fn codebooks(&self) -> usize {
        self.books.len()
    }

    fn entries(&self) -> usize {
        self.books.first().map_or(0, Codebook::size)
    }

    fn codes(&self, parameters: Tensor<3>) -> Tensor<3, Int> {
        let [batch, length, dim] = parameters.dims();
        let mut residual = parameters.detach().reshape([batch * length, dim]);
        let mut all = Vec::with_capacity(self.books.len());
        for book in &self.books {
            let codes = book.nearest(residual.clone());
            residual = residual - book.embed(codes.clone());
            all.push(codes.reshape([batch, length, 1]));
        }
        Tensor::cat(all, 2)
    }

    fn latents(&self, codes: Tensor<3, Int>) -> Tensor<3> {
        let [batch, length, count] = codes.dims();
        assert!(
            (1..=self.books.len()).contains(&count),
            "codes of {count} codebooks; there are {}",
            self.books.len()
        );
        let entries = self.books.iter().take(count).enumerate();
        let entries = entries.map(|(index, book)| {
            let own = codes.clone().narrow(2, index, 1);
            book.embed(own.reshape([batch * length]))
        });
        let sum = entries.reduce(|sum, own| sum + own);
        let sum = sum.expect("one codebook at least");
        let dim = sum.dims()[1];
        sum.reshape([batch, length, dim])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::conformance::{assert_close, seeded};

    fn config() -> QuantizerConfig {
        QuantizerConfig {
            codebooks: 3,
            entries: 5,
            decay: 0.5,
            ..QuantizerConfig::default()
        }
    }

    fn quantizer(config: &QuantizerConfig, device: &Device) -> ResidualQuantizer {
        seeded(1, device, |device| config.init(4, device)).unwrap()
    }

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    fn numbers(codes: Tensor<3, Int>) -> Vec<i64> {
        codes.into_data().convert::<i64>().try_to_vec().unwrap()
    }

    #[test]
    fn each_codebook_takes_the_nearest_entry_to_what_is_left() {
        let device = Device::default();
        let quantizer = quantizer(&config(), &device);
        let latents = RandomStream::new(2).normal([2, 3, 4], &device);
        let codes = numbers(quantizer.codes(latents.clone()));
        let tables = quantizer.books.iter();
        let tables: Vec<Vec<f32>> = tables.map(|book| values(book.entries.val())).collect();
        let sums = values(quantizer.quantize(latents.clone()));
        for (row, latent) in values(latents).chunks_exact(4).enumerate() {
            let mut left = latent.to_vec();
            for (table, code) in tables.iter().zip(&codes[row * 3..]) {
                let distance = |entry: &[f32]| -> f32 {
                    left.iter().zip(entry).map(|(a, b)| (a - b).powi(2)).sum()
                };
                let found = table[*code as usize * 4..][..4].to_vec();
                let least = table.chunks_exact(4).map(distance);
                let least = least.fold(f32::INFINITY, f32::min);
                assert!((distance(&found) - least).abs() < 1e-5);
                for (left, entry) in left.iter_mut().zip(found) {
                    *left -= entry;
                }
            }
            for ((latent, left), sum) in latent.iter().zip(left).zip(&sums[row * 4..]) {
                assert!((latent - left - sum).abs() < 1e-5, "sum of the entries");
            }
        }
    }

    #[test]
    fn codes_of_fewer_codebooks_are_the_first_terms_of_the_sum() {
        let device = Device::default();
        let quantizer = quantizer(&config(), &device);
        let codes = quantizer.codes(RandomStream::new(2).normal([1, 3, 4], &device));
        let first = quantizer.latents(codes.clone().narrow(2, 0, 1));
        let expected = quantizer.books[0].embed(codes.narrow(2, 0, 1).reshape([3]));
        assert_close("one", first.reshape([3, 4]), expected, 0.0);
    }

    /// Entries become means of the latents next to them, weighted by how often they were used before.
    #[test]
    fn entries_are_moving_averages() {
        let device = Device::default();
        let table = |rows: [[f32; 2]; 2]| Tensor::<2>::from_floats(rows, &device);
        let book = seeded(1, &device, |device| Codebook::new(2, 2, device));
        let book = Codebook {
            entries: book.entries.map(|_| table([[0.0, 0.0], [10.0, 10.0]])),
            usage: book
                .usage
                .map(|_| Tensor::from_floats([[2.0], [4.0]], &device)),
        };
        let latents = Tensor::<2>::from_floats([[1.0, 0.0], [3.0, 0.0], [10.0, 12.0]], &device);
        let book = book.learn(&latents, 0.5, 0.01, &mut RandomStream::new(1));
        // 0.5 * 2 + 0.5 * 2 and 0.5 * 4 + 0.5 * 1.
        assert_eq!(values(book.usage.val()), [2.0, 2.5]);
        // (0.5 * 2 * 0 + 0.5 * 4) / 2; (0.5 * 4 * 10 + 0.5 * [10, 12]) / 2.5.
        let expected = table([[1.0, 0.0], [10.0, 10.4]]);
        assert_close("entries", book.entries.val(), expected, 1e-6);
    }

    /// An entry that no latent is next to is used less with every step, and at last is one of the latents.
    #[test]
    fn a_dead_entry_is_drawn_from_the_latents() {
        let device = Device::default();
        let far = |rows: [[f32; 1]; 2]| Tensor::<2>::from_floats(rows, &device);
        let book = seeded(1, &device, |device| Codebook::new(2, 1, device));
        let mut book = Codebook {
            entries: book.entries.map(|_| far([[1.0], [100.0]])),
            usage: book.usage.map(|_| far([[2.0], [2.0]])),
        };
        let latents = Tensor::<2>::from_floats([[1.0], [2.0], [1.0], [2.0]], &device);
        let mut random = RandomStream::new(3);
        // 2, 1, 0.5, 0.25: below 0.2 * 2 after the third step.
        for step in 0..3 {
            let last = values(book.entries.val())[1];
            assert_eq!(last, 100.0, "step {step}");
            book = book.learn(&latents, 0.5, 0.2, &mut random);
        }
        let last = values(book.entries.val())[1];
        assert!(last == 1.0 || last == 2.0, "{last}");
        assert_eq!(
            values(book.usage.val())[1],
            2.0,
            "as if all were used alike"
        );
    }

    /// Steps bring entries nearer to what is to be quantized.
    #[test]
    fn learning_lowers_the_error() {
        let device = Device::default();
        let mut quantizer = quantizer(&config(), &device);
        let latents = RandomStream::new(2).normal([4, 50, 4], &device);
        let error = |quantizer: &ResidualQuantizer| {
            let left = latents.clone() - quantizer.quantize(latents.clone());
            left.square().mean().into_scalar::<f32>()
        };
        let before = error(&quantizer);
        let mut errors = Vec::new();
        for step in 0..20 {
            quantizer = quantizer.learn(latents.clone(), &mut RandomStream::new(step));
            errors.push(error(&quantizer));
        }
        // Three codebooks of five entries: 1 would be the latents' own variance.
        let [first, last] = [errors[0], errors[19]];
        assert!(last < first && last < 0.5 && last < before, "{errors:?}");
    }

    /// Two runs are the same to the bit.
    #[test]
    fn learning_repeats() {
        let device = Device::default();
        let latents = RandomStream::new(2).normal([2, 30, 4], &device);
        let learned = || {
            let mut quantizer = quantizer(&config(), &device);
            for step in 0..3 {
                quantizer = quantizer.learn(latents.clone(), &mut RandomStream::new(step));
            }
            let books = quantizer.books.iter();
            let books: Vec<Vec<f32>> = books.map(|book| values(book.entries.val())).collect();
            books
        };
        assert_eq!(learned(), learned());
    }

    /// The gradient of `sum(w * quantized)` is `w`, that of the commitment moves latents to the sums.
    #[test]
    fn gradients_go_straight_through() {
        let device = Device::default().autodiff();
        let one = QuantizerConfig {
            codebooks: 1,
            dropout: 0.0,
            ..config()
        };
        let quantizer = quantizer(&one, &device);
        let latents = RandomStream::new(2).normal([2, 3, 4], &device);
        let latents = latents.require_grad();
        let draw = Tensor::zeros([2], &device);
        let quantized = quantizer.forward(latents.clone(), draw);
        let sums = quantizer.quantize(latents.clone());
        assert_close("values", quantized.latents.clone(), sums.clone(), 1e-6);
        let weights = RandomStream::new(3).normal([2, 3, 4], &device);
        let gradients = (quantized.latents * weights.clone()).sum().backward();
        let got = latents.grad(&gradients).unwrap();
        assert_close("straight through", got, weights.inner(), 1e-6);
        let gradients = quantized.commitment.backward();
        let got = latents.grad(&gradients).unwrap();
        let expected = (latents.clone() - sums).mul_scalar(2.0 / 24.0);
        assert_close("commitment", got, expected.inner(), 1e-6);
    }

    /// Quantiles of the normal distribution: with half of the signals cut, a quarter of them keeps one codebook
    /// of two, a quarter is cut to both, and half keeps both anyway.
    #[test]
    fn dropout_keeps_the_first_codebooks() {
        let device = Device::default();
        let half = QuantizerConfig {
            codebooks: 2,
            dropout: 0.5,
            ..config()
        };
        let quantizer = quantizer(&half, &device);
        // The quartiles are at -0.6745, 0 and 0.6745.
        let draw = Tensor::<1>::from_floats([-0.7, -0.6, 0.1, 2.0], &device);
        assert_eq!(values(quantizer.kept(draw.clone())), [1.0, 2.0, 3.0, 4.0]);
        let latents = RandomStream::new(2).normal([4, 3, 4], &device);
        let codes = quantizer.codes(latents.clone());
        let quantized = quantizer.forward(latents, draw).latents;
        let first = quantizer.latents(codes.clone().narrow(2, 0, 1));
        let expected = vec![
            first.narrow(0, 0, 1),
            quantizer.latents(codes).narrow(0, 1, 3),
        ];
        assert_close("kept", quantized, Tensor::cat(expected, 0), 1e-6);
    }

    #[test]
    fn wrong_tables_are_refused() {
        let wrong = [
            QuantizerConfig {
                entries: 1,
                ..config()
            },
            QuantizerConfig {
                dropout: 1.5,
                ..config()
            },
            QuantizerConfig {
                decay: 1.0,
                ..config()
            },
            QuantizerConfig {
                restart_below: 0.0,
                ..config()
            },
            QuantizerConfig {
                commitment_weight: f64::NAN,
                ..config()
            },
        ];
        assert!(wrong.iter().all(|own| own.fault().is_some()));
        assert!(config().fault().is_none());
        let none = QuantizerConfig {
            codebooks: 0,
            ..wrong[0].clone()
        };
        assert!(none.fault().is_none(), "nothing reads it");
    }
}
