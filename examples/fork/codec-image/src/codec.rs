//! The codec: blocks, their coefficients, gains.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use latentlm_core::{
    LatentCodec, LatentCodecConfig, LatentSpec, NoiseScale, PartConfig, PictureSpec, Posterior,
    SignalLayout,
};

use crate::config::BlockCosineConfig;
use crate::transform::{basis, frequencies};

/// A block cosine transform with learned gains.
#[derive(Module, Debug)]
pub struct BlockCosine {
    /// What the encoder multiplies each coefficient by, `[Z]`.
    encoder_gain: Param<Tensor<1>>,
    /// What the decoder multiplies each number of a latent by, `[Z]`.
    decoder_gain: Param<Tensor<1>>,
    channels: usize,
    block: usize,
    coefficients: usize,
    grid: usize,
    noise_std: f64,
}

impl BlockCosine {
    /// Gains begin at what flattens the spectrum of most pictures, which falls with the frequency.
    fn new(config: &BlockCosineConfig, device: &Device) -> Self {
        let frequencies = frequencies(config.block, config.coefficients);
        let of_channel = frequencies
            .iter()
            .map(|(v, u)| (1 + v + u) as f32 * 2.0 / config.block as f32);
        let of_channel: Vec<f32> = of_channel.collect();
        let gains = of_channel.repeat(config.channels);
        let inverse: Vec<f32> = gains.iter().map(|gain| 1.0 / gain).collect();
        let parameter = |values: Vec<f32>| {
            let count = values.len();
            let values = TensorData::new(values, [count]);
            Param::from_tensor(Tensor::<1>::from_data(values, device))
        };
        Self {
            encoder_gain: parameter(gains),
            decoder_gain: parameter(inverse),
            channels: config.channels,
            block: config.block,
            coefficients: config.coefficients,
            grid: config.grid(),
            noise_std: config.noise_std,
        }
    }

    /// The transform, `[1, block * block, K]`. It is a thousand numbers or so: not worth keeping.
    fn basis(&self, device: &Device) -> Tensor<3> {
        let shape = [1, self.block * self.block, self.coefficients];
        let values = basis(self.block, self.coefficients);
        Tensor::from_data(TensorData::new(values, shape), device)
    }
}

impl LatentCodecConfig<4> for BlockCosineConfig {
    type Codec = BlockCosine;
    type Signal = PictureSpec;

    fn init(&self, device: &Device) -> BlockCosine {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        BlockCosine::new(self, device)
    }

    fn spec(&self) -> LatentSpec {
        LatentSpec {
            dim: self.channels * self.coefficients,
            layout: SignalLayout::Grid {
                height: self.grid(),
                width: self.grid(),
            },
        }
    }

    fn signal(&self) -> PictureSpec {
        PictureSpec {
            channels: self.channels,
            height: self.image_size,
            width: self.image_size,
        }
    }
}

impl LatentCodec<4> for BlockCosine {
    fn spec(&self) -> LatentSpec {
        LatentSpec {
            dim: self.channels * self.coefficients,
            layout: SignalLayout::Grid {
                height: self.grid,
                width: self.grid,
            },
        }
    }

    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`, in `[-1, 1]`
    /// - returns: means `[B, T, Z]`
    fn encode_parameters(&self, pictures: Tensor<4>) -> Tensor<3> {
        let batch = pictures.dims()[0];
        let (grid, block, tokens) = (self.grid, self.block, self.grid * self.grid);
        let basis = self.basis(&pictures.device());
        let coefficients = pictures
            .reshape([batch * self.channels, grid, block, grid, block])
            .permute([0, 1, 3, 2, 4])
            .reshape([batch * self.channels, tokens, block * block])
            .matmul(basis) // [B*C, T, K]
            .reshape([batch, self.channels, tokens, self.coefficients])
            .permute([0, 2, 1, 3])
            .reshape([batch, tokens, self.channels * self.coefficients]);
        coefficients * self.encoder_gain.val().unsqueeze::<3>()
    }

    fn posterior(&self, means: Tensor<3>) -> Posterior {
        Posterior {
            mean: means,
            noise: NoiseScale::PerSample {
                std: self.noise_std,
            },
        }
    }

    /// # Shapes
    /// - `latents`: `[B, T, Z]`
    /// - returns: `[B, C, H, W]`
    fn decode(&self, latents: Tensor<3>) -> Tensor<4> {
        let [batch, tokens, _] = latents.dims();
        let (grid, block, side) = (self.grid, self.block, self.grid * self.block);
        let basis = self.basis(&latents.device());
        (latents * self.decoder_gain.val().unsqueeze::<3>())
            .reshape([batch, tokens, self.channels, self.coefficients])
            .permute([0, 2, 1, 3])
            .reshape([batch * self.channels, tokens, self.coefficients])
            .matmul(basis.swap_dims(1, 2)) // [B*C, T, block * block]
            .reshape([batch * self.channels, grid, grid, block, block])
            .permute([0, 1, 3, 2, 4])
            .reshape([batch, self.channels, side, side])
    }
}
