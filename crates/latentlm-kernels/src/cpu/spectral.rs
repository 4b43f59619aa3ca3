//! Losses of spectra, as one operation of the autodiff graph.

use std::sync::Arc;

use burn::backend::DispatchTensor;
use burn::tensor::Tensor;
use latentlm_convolutions::spectral::{Floors, Resolution, Spectra};

use super::plain::{flat, wrapped};
use super::storage::{numbers, tensor};
use crate::gradient::{is_recorded, record};
use crate::types::{SpectralFloors, SpectralWindow};

/// Tables of the kernel.
pub(crate) fn spectra(windows: Vec<SpectralWindow>, floors: SpectralFloors) -> Spectra {
    let resolutions = windows.into_iter().map(|one| {
        let scale = one.scale as f32;
        Resolution::new(host(one.window), scale, &host(one.bands))
    });
    let floors = Floors {
        power: floors.power as f32,
        level: floors.level as f32,
        difference: floors.difference,
        divisor: floors.divisor,
    };
    Spectra::new(resolutions.collect(), floors)
}

/// The numbers of a tensor on any device.
fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

/// Both losses, `[2]`, or `None` if the kernel can't compute them.
// The node keeps spectra, not signals. They belong to it alone and go when its gradient is computed.
pub(crate) fn spectral_losses(
    decoded: &Tensor<2>,
    signal: &Tensor<2>,
    spectra: &Arc<Spectra>,
) -> Option<Tensor<1>> {
    let (tracked, shape) = (decoded.is_tracked(), decoded.dims());
    assert_eq!(
        shape,
        signal.dims(),
        "shapes of decoded signals and signals"
    );
    // Who wants the gradient of the signal too, or Burn's own checkpointing, gets the composition.
    let beyond = signal.is_tracked() || (tracked && !is_recorded(decoded));
    if beyond || shape.contains(&0) || spectra.is_empty() {
        return None;
    }
    let x = flat(&decoded.clone().inner())?;
    let y = flat(&signal.clone().inner())?;
    let compared = spectra.compare(numbers(&x), numbers(&y), shape[1]);
    let losses: Tensor<1> = wrapped(tensor(compared.losses.to_vec(), [2]));
    if !tracked {
        let in_graph = decoded.is_autodiff();
        return Some(if in_graph { losses.autodiff() } else { losses });
    }
    let spectra = Arc::clone(spectra);
    let gradient = move |dlosses: DispatchTensor| {
        let dlosses = host(Tensor::<1>::from_dispatch(dlosses));
        let found = spectra.gradient(&compared, [dlosses[0], dlosses[1]]);
        let found: Tensor<2> = wrapped(tensor(found, shape));
        vec![Some(found.into_dispatch())]
    };
    let inputs = [decoded.clone().into_dispatch()];
    let recorded = record(&inputs, losses.into_dispatch(), Box::new(gradient));
    Some(Tensor::from_dispatch(recorded))
}
