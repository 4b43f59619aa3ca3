//! The optimizer's state on disk, in the format of Burn's `ModuleOptimizer` of an AdamW.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamWState, AdaptiveMomentumState, DynState};
use burn::store::RecordError;
use burn::tensor::{DType, Tensor, TensorData};
use burn_pack::{Reader, Scalar, Writer};

use crate::adamw::AdamW;

/// The scalar beside a parameter's tensors that tells how many dimensions they have.
const RANK: &str = "__rank";
/// Tensors of a parameter, which have its shape.
const MOMENTS: [&str; 2] = ["momentum.moment_1", "momentum.moment_2"];
/// Most steps that a parameter can have taken: far more than a recipe's largest number of steps.
const MOST_STEPS: usize = 1 << 31;
/// Bytes of a file up to its description, of which the last four say how long it is.
const START_BYTES: usize = 10;
/// Largest description of the tensors that is read: in memory it takes many times as much. A parameter has 330 bytes of
/// it.
const MOST_DESCRIPTION_BYTES: u32 = 8 << 20;

impl AdamW {
    /// Writes the state of the parameters of a module into a file. Each tensor leaves the device as it is
    /// written: memory has one copy of the state, not three.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write<M: Module>(&self, module: &M, path: &Path) -> Result<(), RecordError> {
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
        Ok(writer.write_to_file_in_place(path)?)
    }

    /// Takes up the state in a file.
    ///
    /// # Errors
    /// If the file can't be read, is damaged or belongs to another module.
    pub fn load<M: Module>(&mut self, module: &M, path: &Path) -> Result<(), RecordError> {
        check_description(path)?;
        let reader = Reader::from_file(path)?;
        let scalars = reader.scalars().clone();
        let mut moments = HashMap::new();
        for tensor in reader.into_tensors()? {
            let (name, dtype, shape, _, bytes) = tensor.into_parts()?;
            let mut dims = shape.as_slice().iter();
            let size = dims.try_fold(dtype.size(), |size, dim| size.checked_mul(*dim));
            // Anything else is missing when its parameter looks for it.
            if dtype == DType::F32 && size == Some(bytes.len()) {
                moments.insert(name, TensorData::from_bytes(bytes, shape, dtype));
            }
        }
        self.states.clear();
        let mut unflatten = Unflatten {
            optimizer: self,
            scalars,
            moments,
            wrong: None,
        };
        module.visit(&mut unflatten);
        let wrong = unflatten.wrong.map(RecordError::Validation);
        wrong.map_or(Ok(()), Err)
    }
}

/// Refuses a file whose description would take too much memory. What is shorter than any is told by its reader.
fn check_description(path: &Path) -> Result<(), RecordError> {
    let mut start = [0; START_BYTES];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    let [.., a, b, c, d] = start;
    let bytes = u32::from_le_bytes([a, b, c, d]);
    if read.is_ok() && bytes > MOST_DESCRIPTION_BYTES {
        let reason = format!(
            "its description has {bytes} bytes, more than the {MOST_DESCRIPTION_BYTES} that are read"
        );
        return Err(RecordError::Validation(reason));
    }
    Ok(())
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
        let momentum = &state.downcast_ref::<AdamWState<D>>().momentum;
        let moments = [&momentum.moment_1, &momentum.moment_2];
        for (name, moment) in MOMENTS.into_iter().zip(moments) {
            let (moment, shape) = (moment.clone(), moment.shape());
            let bytes = shape.num_elements() * DType::F32.size();
            let read = move || {
                let (bytes, ..) = moment.clone().into_data().convert::<f32>().into_parts();
                Ok(bytes)
            };
            let name = format!("{id}.{name}");
            let tensor =
                burn_pack::Tensor::deferred(name, DType::F32, shape, Some(id), bytes, read);
            self.tensors.push(tensor);
        }
        let time = Scalar::from(momentum.time);
        self.scalars.push((format!("{id}.momentum.time"), time));
        self.scalars.push((format!("{id}.{RANK}"), Scalar::from(D)));
    }
}

struct Unflatten<'a> {
    optimizer: &'a mut AdamW,
    scalars: BTreeMap<String, Scalar>,
    moments: HashMap<String, TensorData>,
    wrong: Option<String>,
}

impl ModuleVisitor for Unflatten<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let (id, weights) = (param.id.val(), param.val());
        let time = self.scalars.get(&format!("{id}.momentum.time"));
        let moments = MOMENTS.map(|name| self.moments.remove(&format!("{id}.{name}")));
        // A parameter that no loss has reached has no state.
        if time.is_none() && moments.iter().all(Option::is_none) {
            return;
        }
        let fits = |moment: &TensorData| *moment.shape() == weights.shape();
        let [Some(first), Some(second)] = moments.map(|moment| moment.filter(fits)) else {
            self.wrong = Some(format!("parameter {id} has another shape there"));
            return;
        };
        match time.and_then(|time| usize::try_from(*time).ok()) {
            Some(time) if time <= MOST_STEPS => {
                // The state has no graph.
                let device = weights.device().inner();
                let [first, second] = [first, second].map(|own| Tensor::from_data(own, &device));
                let state = AdamWState::<D>::new(AdaptiveMomentumState::new(time, first, second));
                let state = DynState::create(state, D);
                self.optimizer.states.insert(param.id, state);
            }
            _ => self.wrong = Some(format!("parameter {id} has no number of steps there")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adamw::EPSILON;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
    use burn::tensor::Device;
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
        optimizer.write(&live, &path).unwrap();

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

    /// A file as Burn writes it, of a module with one weight of three by two, changed.
    fn loaded(change: impl Fn(&str, &mut Vec<usize>), steps: u64) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.bpk");
        let module = module();
        let id = module.weight.id.val();
        let mut tensors = Vec::new();
        for moment in MOMENTS {
            let mut shape = vec![3, 2];
            change(moment, &mut shape);
            let (bytes, shape, dtype) = TensorData::new(vec![0.5_f32; 6], shape).into_parts();
            let name = format!("{id}.{moment}");
            tensors.push(burn_pack::Tensor::new(name, dtype, shape, Some(id), bytes));
        }
        let bytes = Writer::new(tensors)
            .with_scalar(&format!("{id}.momentum.time"), Scalar::from(steps))
            .with_scalar(&format!("{id}.{RANK}"), Scalar::from(2_usize))
            .into_bytes()
            .unwrap();
        std::fs::write(&path, &*bytes).unwrap();
        let mut optimizer = AdamW::default();
        match optimizer.load(&module, &path) {
            Ok(()) => {
                let state = &optimizer.states[&module.weight.id];
                let momentum = &state.downcast_ref::<AdamWState<2>>().momentum;
                format!("{} steps", momentum.time)
            }
            Err(error) => error.to_string(),
        }
    }

    /// Moments of another rank or shape and absurd counters, at which Burn panics.
    #[test]
    fn damaged_state_is_refused() {
        assert_eq!(loaded(|_, _| (), 7), "7 steps");
        for moment in MOMENTS {
            for other in [vec![6], vec![2, 3], vec![3, 2, 1]] {
                let change = |name: &str, shape: &mut Vec<usize>| {
                    if name == moment {
                        shape.clone_from(&other);
                    }
                };
                let told = loaded(change, 7);
                assert!(told.contains("another shape"), "{moment} {other:?}: {told}");
            }
        }
        for steps in [u64::MAX, u64::MAX >> 1, 1 << 32] {
            let told = loaded(|_, _| (), steps);
            assert!(told.contains("no number of steps"), "{steps}: {told}");
        }
    }

    #[test]
    fn a_description_that_is_too_long_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.bpk");
        let told = |bytes: u32| {
            let start = [b"NRUB".as_slice(), &1_u16.to_le_bytes()].concat();
            let start = [start.as_slice(), &bytes.to_le_bytes()].concat();
            std::fs::write(&path, start).unwrap();
            let error = AdamW::default().load(&module(), &path).unwrap_err();
            error.to_string()
        };
        let part = "its description has 8388609 bytes, more than the 8388608 that are read";
        let message = told(MOST_DESCRIPTION_BYTES + 1);
        assert!(message.contains(part), "{message}");
        let message = told(MOST_DESCRIPTION_BYTES);
        assert!(!message.contains("its description"), "{message}");
    }

    #[test]
    fn state_of_another_module_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.bpk");
        let mut optimizer = AdamW::default();
        let start = module();
        let own = gradients(&start);
        let (live, _) = optimizer.step(start.clone(), start.valid(), own, settings());
        optimizer.write(&live, &path).unwrap();
        let device = Device::default().autodiff();
        let wider = number_parameters(linear(4, &device));
        let error = optimizer.load(&wider, &path).unwrap_err().to_string();
        assert!(error.contains("another shape"), "{error}");
    }
}
