//! Losses that compare the spectra of two signals at several resolutions.

use burn::tensor::Tensor;

use crate::types::{SpectralFloors, SpectralWindow};

/// Tables of [`spectral_losses`], made once for all calls.
#[derive(Debug, Clone)]
pub struct SpectralLosses {
    #[cfg(feature = "cpu")]
    spectra: std::sync::Arc<latentlm_convolutions::spectral::Spectra>,
}

impl SpectralLosses {
    /// Tables for losses at these resolutions.
    ///
    /// # Panics
    /// If there are kernels, and the length of a window or the number of bins is not what [`SpectralWindow`] says.
    pub fn new(windows: Vec<SpectralWindow>, floors: SpectralFloors) -> Self {
        #[cfg(feature = "cpu")]
        return Self {
            spectra: std::sync::Arc::new(crate::cpu::spectra(windows, floors)),
        };
        #[cfg(not(feature = "cpu"))]
        {
            let _ = (windows, floors);
            Self {}
        }
    }
}

/// Two losses of decoded signals, averaged over the resolutions: the mean absolute error of log10 mel bands; spectral
/// convergence plus the mean absolute error of the natural logarithms of levels. Levels are scaled magnitudes. Spectral
/// convergence is the root of the sum of squared differences of levels, over the root of the sum of the signal's squared
/// levels.
///
/// `None` if there is no kernel for the device and precision, if a gradient of `signal` is wanted, or if there is nothing
/// to compare. The caller then composes the same losses of tensor operations. The losses and their gradient do not depend
/// on the number of threads.
///
/// # Shapes
/// - `decoded`, `signal`: `[B, T]`, `B` signals of `T` samples
/// - returns: `[1]` each
///
/// # Panics
/// If the kernel runs and the two have different shapes.
pub fn spectral_losses(
    decoded: &Tensor<2>,
    signal: &Tensor<2>,
    losses: &SpectralLosses,
) -> Option<[Tensor<1>; 2]> {
    #[cfg(feature = "cpu")]
    {
        let found = crate::cpu::spectral_losses(decoded, signal, &losses.spectra)?;
        Some([0, 1].map(|which| found.clone().narrow(0, which, 1)))
    }
    #[cfg(not(feature = "cpu"))]
    {
        let _ = (decoded, signal, losses);
        None
    }
}
