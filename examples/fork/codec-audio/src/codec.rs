//! The codec: hops, what they take over from the hop before, their coefficients, gains.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use latentlm_core::{
    LatentCodec, LatentCodecConfig, LatentSpec, NoiseScale, PartConfig, Posterior, SignalLayout,
    SoundSpec, StreamingCodec,
};

use crate::config::LappedSineConfig;
use crate::transform::{basis, fade};

/// A lapped sine transform with learned gains.
#[derive(Module, Debug)]
pub struct LappedSine {
    /// What the encoder multiplies each coefficient by, `[Z]`.
    encoder_gain: Param<Tensor<1>>,
    /// What the decoder multiplies each number of a latent by, `[Z]`.
    decoder_gain: Param<Tensor<1>>,
    sample_rate_hz: u32,
    hop_samples: usize,
    overlap_samples: usize,
    coefficients: usize,
    noise_std: f64,
}

/// What the encoder remembers: the end of the last hop, mirrored, `[B, 1, L]`. Nothing stands for silence.
#[derive(Debug, Clone, Default)]
pub struct EncoderState(Option<Tensor<3>>);

/// What the decoder remembers: the end of the last hop that it made, mirrored, `[B, 1, L]`.
#[derive(Debug, Clone, Default)]
pub struct DecoderState(Option<Tensor<3>>);

impl LappedSine {
    /// Gains begin at what gives latents of about one, and at its inverse.
    fn new(config: &LappedSineConfig, device: &Device) -> Self {
        let parameter = |value: f64| {
            Param::from_tensor(Tensor::<1>::full([config.coefficients], value, device))
        };
        Self {
            encoder_gain: parameter(1.0 / config.signal_rms),
            decoder_gain: parameter(config.signal_rms),
            sample_rate_hz: config.sample_rate_hz,
            hop_samples: config.hop_samples,
            overlap_samples: config.overlap_samples,
            coefficients: config.coefficients,
            noise_std: config.noise_std,
        }
    }

    /// The transform, `[1, N, Z]`.
    fn basis(&self, device: &Device) -> Tensor<3> {
        let shape = [1, self.hop_samples, self.coefficients];
        let values = basis(self.hop_samples, self.coefficients);
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// What each hop takes over from the one before it: that one's end, mirrored and faded out. `last` is
    /// the end before the first hop, and becomes that of the last one.
    ///
    /// The two ends of a hop do not overlap, so an end is the same whether the beginning has been taken out
    /// or not: all hops can be done at once.
    ///
    /// # Shapes
    /// - `hops`: `[B, T, N]`
    /// - returns: `[B, T, L]`
    fn taken_over(&self, hops: &Tensor<3>, last: &mut Option<Tensor<3>>) -> Tensor<3> {
        let [batch, count, hop] = hops.dims();
        let (overlap, device) = (self.overlap_samples, hops.device());
        let ends = hops.clone().narrow(2, hop - overlap, overlap).flip([2]);
        let silence = || Tensor::zeros([batch, 1, overlap], &device);
        let first = last.take().unwrap_or_else(silence);
        let ends = Tensor::cat(vec![first, ends], 1); // [B, 1 + T, L]
        *last = Some(ends.clone().narrow(1, count, 1));
        let fade = TensorData::new(fade(overlap), [1, 1, overlap]);
        let fade: Tensor<3> = Tensor::from_data(fade, &device);
        ends.narrow(1, 0, count) * fade
    }

    /// Adds to the beginning of each hop, `[B, T, N]`, the samples of `more`, `[B, T, L]`.
    fn add_to_beginnings(&self, hops: Tensor<3>, more: Tensor<3>) -> Tensor<3> {
        let (hop, overlap) = (self.hop_samples, self.overlap_samples);
        let beginnings = hops.clone().narrow(2, 0, overlap) + more;
        let rest = hops.narrow(2, overlap, hop - overlap);
        Tensor::cat(vec![beginnings, rest], 2)
    }

    /// # Shapes
    /// - `signal`: `[B, 1, samples]`; returns `[B, T, Z]`
    fn analyse(&self, signal: Tensor<3>, last: &mut Option<Tensor<3>>) -> Tensor<3> {
        let [batch, channels, samples] = signal.dims();
        assert_eq!(channels, 1, "a codec of one channel, not of {channels}");
        let (hop, count) = (self.hop_samples, samples / self.hop_samples);
        assert!(count > 0, "{samples} samples are less than a hop of {hop}");
        let hops = signal
            .narrow(2, 0, count * hop)
            .reshape([batch, count, hop]);
        let taken_over = self.taken_over(&hops, last);
        let hops = self.add_to_beginnings(hops, taken_over.neg());
        let basis = self.basis(&hops.device());
        hops.matmul(basis) * self.encoder_gain.val().unsqueeze::<3>()
    }

    /// # Shapes
    /// - `latents`: `[B, T, Z]`; returns `[B, 1, T * N]`
    fn synthesize(&self, latents: Tensor<3>, last: &mut Option<Tensor<3>>) -> Tensor<3> {
        let [batch, count, _] = latents.dims();
        let basis = self.basis(&latents.device()).swap_dims(1, 2);
        let hops = (latents * self.decoder_gain.val().unsqueeze::<3>()).matmul(basis);
        let taken_over = self.taken_over(&hops, last);
        let hops = self.add_to_beginnings(hops, taken_over);
        hops.reshape([batch, 1, count * self.hop_samples])
    }
}

impl LatentCodecConfig<3> for LappedSineConfig {
    type Codec = LappedSine;
    type Signal = SoundSpec;

    fn init(&self, device: &Device) -> LappedSine {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        LappedSine::new(self, device)
    }

    fn spec(&self) -> LatentSpec {
        LatentSpec {
            dim: self.coefficients,
            layout: SignalLayout::Frames {
                sample_rate_hz: self.sample_rate_hz,
                hop_samples: self.hop_samples,
            },
        }
    }

    fn signal(&self) -> SoundSpec {
        SoundSpec {
            channels: 1,
            sample_rate_hz: self.sample_rate_hz,
            hop_samples: self.hop_samples,
        }
    }
}

impl LatentCodec<3> for LappedSine {
    fn spec(&self) -> LatentSpec {
        LatentSpec {
            dim: self.coefficients,
            layout: SignalLayout::Frames {
                sample_rate_hz: self.sample_rate_hz,
                hop_samples: self.hop_samples,
            },
        }
    }

    /// # Shapes
    /// - `signal`: `[B, 1, samples]`; samples after the last whole hop are left out
    /// - returns: means `[B, T, Z]`
    ///
    /// # Panics
    /// If the signal is shorter than one hop or has several channels.
    fn encode_parameters(&self, signal: Tensor<3>) -> Tensor<3> {
        self.analyse(signal, &mut None)
    }

    fn posterior(&self, means: Tensor<3>) -> Posterior {
        Posterior {
            mean: means,
            noise: NoiseScale::PerSample {
                std: self.noise_std,
            },
        }
    }

    fn decode(&self, latents: Tensor<3>) -> Tensor<3> {
        self.synthesize(latents, &mut None)
    }
}

impl StreamingCodec for LappedSine {
    type EncoderState = EncoderState;
    type DecoderState = DecoderState;

    fn encode_step(&self, signal: Tensor<3>, state: &mut EncoderState) -> Posterior {
        self.posterior(self.analyse(signal, &mut state.0))
    }

    fn decode_step(&self, latents: Tensor<3>, state: &mut DecoderState) -> Tensor<3> {
        self.synthesize(latents, &mut state.0)
    }
}
