//! The optimizer's state on disk, in the format of Burn's `ModuleOptimizer` of an AdamW.

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamWState, DynState, RecordState, StateSink, StateSource};
use burn::store::RecordError;
use burn::tensor::{Bytes, Device, Tensor, TensorData};
use burn_pack::{Reader, Scalar, Writer};

use crate::adamw::AdamW;

/// The scalar beside a parameter's tensors that tells how many dimensions they have.
const RANK: &str = "__rank";

impl AdamW {
    /// The state of the parameters of a module as a file.
    pub fn to_bytes<M: Module>(&self, module: &M) -> Result<Bytes, RecordError> {
        let mut flatten = Flatten {
            optimizer: self,
            tensors: Vec::new(),
            scalars: Vec::new(),
        };
        module.visit(&mut flatten);
        let mut writer = Writer::new(flatten.tensors);
        for (name, value) in &flatten.scalars {
            writer = writer.with_scalar(name, *value);
        }
        Ok(writer.into_bytes()?)
    }

    /// Takes up the state in a file.
    ///
    /// # Errors
    /// If the file can't be read or belongs to another module.
    pub fn load<M: Module>(&mut self, module: &M, path: &Path) -> Result<(), RecordError> {
        let reader = Reader::from_file(path)?;
        let mut source = StateSource::new(reader.scalars().clone());
        for tensor in reader.into_tensors()? {
            let (name, dtype, shape, _, bytes) = tensor.into_parts()?;
            source.insert_tensor(name, TensorData::from_bytes(bytes, shape, dtype));
        }
        self.states.clear();
        let mut unflatten = Unflatten {
            optimizer: self,
            source,
            wrong: None,
        };
        module.visit(&mut unflatten);
        let wrong = unflatten.wrong.map(RecordError::Validation);
        wrong.map_or(Ok(()), Err)
    }
}

struct Flatten<'a> {
    optimizer: &'a AdamW,
    tensors: Vec<burn_pack::Tensor>,
    scalars: Vec<(String, Scalar)>,
}

impl ModuleVisitor for Flatten<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(state) = self.optimizer.states.get(&param.id) else {
            return;
        };
        let id = param.id.val();
        let prefix = id.to_string();
        let mut sink = StateSink::default();
        let state = state.downcast_ref::<AdamWState<D>>();
        state.state_flatten(&prefix, &mut sink);
        sink.push_scalar(&prefix, RANK, Scalar::from(D));
        for (name, data) in sink.tensors {
            let (bytes, shape, dtype) = data.into_parts();
            let tensor = burn_pack::Tensor::new(name, dtype, shape, Some(id), bytes);
            self.tensors.push(tensor);
        }
        self.scalars.append(&mut sink.scalars);
    }
}

struct Unflatten<'a> {
    optimizer: &'a mut AdamW,
    source: StateSource,
    wrong: Option<String>,
}

impl ModuleVisitor for Unflatten<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let prefix = param.id.val().to_string();
        // A parameter that no loss has reached has no state.
        if !self.source.has_under(&prefix) {
            return;
        }
        // It moves to its parameter's device with the next step.
        let device = Device::default();
        let state = AdamWState::<D>::state_unflatten(&prefix, &mut self.source, &device);
        match state {
            Some(state) if state.momentum.moment_1.dims() == param.val().dims() => {
                let state = DynState::create(state, D);
                self.optimizer.states.insert(param.id, state);
            }
            _ => self.wrong = Some(format!("parameter {prefix} has another shape there")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adamw::EPSILON;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
    use latentlm::core::conformance::{assert_close, seeded};
    use latentlm::core::number_parameters;
    use latentlm_kernels::AdamWStep;

    fn settings() -> AdamWStep {
        let config = latentlm_pipelines::SpeechRecipe::default().codec_train;
        AdamWStep {
            learning_rate: 0.1,
            beta_1: config.beta_1,
            beta_2: config.beta_2,
            epsilon: EPSILON,
            weight_decay: config.weight_decay,
            time: 0,
            gradient_scale: 1.0,
            average_decay: 0.0,
        }
    }

    fn linear(inputs: usize, device: &Device) -> Linear {
        seeded(1, device, |device| {
            LinearConfig::new(inputs, 2).init(device)
        })
    }

    fn module() -> Linear {
        let device = Device::default().autodiff();
        number_parameters(linear(3, &device))
    }

    fn gradients(module: &Linear) -> GradientsParams {
        let mut gradients = GradientsParams::new();
        let gradient = module.weight.val().inner().mul_scalar(0.3).add_scalar(0.1);
        gradients.register(module.weight.id, gradient);
        gradients
    }

    /// A step after the file is the step without it, with ours and with Burn's optimizer.
    #[test]
    fn goes_on_from_a_file_as_burns_optimizer_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.bpk");
        let settings = settings();
        let mut optimizer = AdamW::default();
        let start = module();
        let own = gradients(&start);
        let (live, average) = optimizer.step(start.clone(), start.valid(), own, settings);
        std::fs::write(&path, &*optimizer.to_bytes(&live).unwrap()).unwrap();

        let mut restored = AdamW::default();
        restored.load(&live, &path).unwrap();
        let burns = AdamWConfig::new()
            .with_beta_1(settings.beta_1 as f32)
            .with_beta_2(settings.beta_2 as f32)
            .with_epsilon(EPSILON as f32)
            .with_weight_decay(settings.weight_decay as f32);
        let mut burns: ModuleOptimizer = burns.init().load(&path).unwrap();
        let burns = burns.step(0.1, live.clone(), gradients(&live));
        let own = gradients(&live);
        let (again, _) = restored.step(live.clone(), average.clone(), own, settings);
        let own = gradients(&live);
        let (expected, _) = optimizer.step(live, average, own, settings);
        let [again, burns, expected] =
            [again, burns, expected].map(|module| module.weight.val().inner());
        assert_close("ours", again, expected.clone(), 0.0);
        assert_close("Burn's", burns, expected, 1e-5);
    }

    #[test]
    fn state_of_another_module_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.bpk");
        let mut optimizer = AdamW::default();
        let start = module();
        let own = gradients(&start);
        let (live, _) = optimizer.step(start.clone(), start.valid(), own, settings());
        std::fs::write(&path, &*optimizer.to_bytes(&live).unwrap()).unwrap();
        let device = Device::default().autodiff();
        let wider = number_parameters(linear(4, &device));
        let error = optimizer.load(&wider, &path).unwrap_err().to_string();
        assert!(error.contains("another shape"), "{error}");
    }
}
