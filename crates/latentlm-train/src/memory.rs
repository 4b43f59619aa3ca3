//! The least memory that a training takes, compared with the memory of the machine: a recipe that can't be trained
//! here is refused before its run begins.

use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use latentlm::core::{CodecObjectiveConfig, LatentCodecConfig};
use latentlm_eval::memory_bytes;
use latentlm_pipelines::ModelRecipe;

use crate::error::TrainError;
use crate::lm_recipe::LmRecipe;
use crate::options::RunOptions;

/// Bytes of a trained parameter: weight, gradient, two moments and moving average in float32.
const PARAMETER_BYTES: u64 = 5 * NUMBER_BYTES;
/// Bytes of a number.
const NUMBER_BYTES: u64 = 4;
/// Keys of the language model's size.
const LM_KEYS: [&str; 4] = ["lm.width", "lm.depth", "lm.mlp_ratio", "lm.head_depth"];

/// The least memory that a stage takes. It counts the activations of one sample only: the shards of a batch may
/// come one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Trained parameters, those of a discriminator too.
    pub parameters: u64,
    /// Bytes of the inputs and the noise of one sample. Those of a whole batch exist at the same time.
    pub sample_bytes: u64,
    /// The largest part of `sample_bytes` that is made at a time in the machine's memory, whatever the device.
    pub host_bytes: u64,
    /// Bytes of the activations of one sample.
    pub activation_bytes: u64,
    /// Samples of a batch, if there are as many.
    pub batch_size: u64,
    /// Keys that the number of parameters follows from; `codec.*` stands for sizes in a table.
    pub parameter_keys: &'static [&'static str],
    /// Keys that the size of a sample follows from.
    pub sample_keys: &'static [&'static str],
    /// Key of the batch's size.
    pub batch_key: &'static str,
}

impl Demand {
    /// Memory of a codec's stage, with its discriminator and batches of one. `sample` is the shape of a sample,
    /// `sample_keys` are the keys that it depends on.
    pub(crate) fn of_codec<L: CodecObjectiveConfig<D>, const D: usize>(
        codec: &L::CodecConfig,
        loss: &L,
        sample: [usize; 3],
        sample_keys: &'static [&'static str],
        device: &Device,
    ) -> Self {
        let discriminator = loss.init_discriminator(codec, device);
        let discriminator = discriminator.map_or(0, |network| network.num_params());
        let codec = LatentCodecConfig::parameter_count(codec, device);
        Self {
            parameters: codec.saturating_add(discriminator) as u64,
            sample_bytes: bytes_of(sample),
            host_bytes: bytes_of(sample),
            // The decoded sample.
            activation_bytes: bytes_of(sample),
            batch_size: 1,
            parameter_keys: &["codec.*", "codec_loss.*"],
            sample_keys,
            batch_key: "codec_train.batch_size",
        }
    }

    /// Memory of a language model's stage, with samples of `positions` latents.
    pub(crate) fn of_lm(
        recipe: &(impl ModelRecipe + LmRecipe),
        positions: usize,
        device: &Device,
    ) -> Self {
        let plan = recipe.lm();
        let modalities = recipe.model_config(1).modalities;
        let dim = modalities.first().map_or(0, |own| own.latent_dim);
        let latents = bytes_of([positions, dim, 1]);
        let noise = bytes_of([positions, dim, plan.model.batch_mul]);
        Self {
            // Its weights are made when they are first used: counting takes no memory.
            parameters: recipe.init_model(1, device).num_params() as u64,
            sample_bytes: latents.saturating_add(noise),
            host_bytes: latents.max(noise),
            // The input of the first block.
            activation_bytes: bytes_of([positions, plan.model.sizes.width, 1]),
            batch_size: plan.train.batch_size as u64,
            parameter_keys: &LM_KEYS,
            sample_keys: &["codec.*", "lm.batch_mul", "lm.width"],
            batch_key: "lm_train.batch_size",
        }
    }

    /// The samples of a batch, if there are `samples` in all.
    fn batch(&self, samples: u64) -> u64 {
        self.batch_size.min(samples)
    }

    /// All bytes, with `samples` samples to train on.
    pub fn bytes(&self, samples: u64) -> u64 {
        self.parameter_bytes()
            .saturating_add(self.batch_bytes(samples))
    }

    fn parameter_bytes(&self) -> u64 {
        self.parameters.saturating_mul(PARAMETER_BYTES)
    }

    fn batch_bytes(&self, samples: u64) -> u64 {
        let inputs = self.sample_bytes.saturating_mul(self.batch(samples));
        inputs.saturating_add(self.activation_bytes)
    }

    /// Bytes in the machine's memory: everything, or only the inputs of a batch if the rest is on another device.
    fn bytes_on(&self, machine: Machine, samples: u64) -> u64 {
        if machine.is_device {
            self.bytes(samples)
        } else {
            self.host_bytes.saturating_mul(self.batch(samples))
        }
    }

    /// The keys of the larger part.
    fn keys(&self, machine: Machine, samples: u64) -> Vec<&'static str> {
        if machine.is_device && self.parameter_bytes() >= self.batch_bytes(samples) {
            return self.parameter_keys.to_vec();
        }
        let mut keys = self.sample_keys.to_vec();
        if self.batch(samples) > 1 {
            keys.insert(0, self.batch_key);
        }
        keys
    }
}

/// Bytes of a tensor of a shape.
fn bytes_of(shape: [usize; 3]) -> u64 {
    let dims = shape.into_iter();
    dims.fold(NUMBER_BYTES, |bytes, dim| bytes.saturating_mul(dim as u64))
}

/// A recipe that knows the memory of its stages.
pub trait Demanding: ModelRecipe {
    /// Memory of the codec's stage and of the language model's. The vocabulary is not known before data are read: it
    /// counts as one class or token.
    fn demands(&self, device: &Device) -> [Demand; 2];
}

/// The machine's memory.
#[derive(Debug, Clone, Copy)]
struct Machine {
    /// Bytes of its memory.
    bytes: u64,
    /// Whether the processor trains. Otherwise weights, optimizer and activations are on another device, whose memory
    /// is not known.
    is_device: bool,
}

impl Machine {
    /// This machine, of which training uses a device; `None` where its memory is not known.
    fn here(device: &Device) -> Option<Self> {
        Some(Self {
            bytes: machine_bytes(Path::new("/"))?,
            is_device: is_cpu(device),
        })
    }
}

/// Refuses a recipe that needs more memory than the machine has. `samples` is the number of training samples, which
/// limits a batch; 1 before it is known. If another device than the processor trains, only the inputs of a batch
/// count. Does nothing where the machine's memory is not known.
///
/// # Errors
/// If the larger stage takes more than there is; the message names the keys to lower.
pub fn check<R: Demanding>(
    recipe: &R,
    samples: usize,
    options: &RunOptions,
) -> Result<(), TrainError> {
    let demands = recipe.demands(&options.device);
    check_demands(&demands, samples, &options.device, &options.within)
}

/// [`check`] for stages whose memory is known. `within` is put before the names of keys.
///
/// # Errors
/// As [`check`].
pub fn check_demands(
    demands: &[Demand],
    samples: usize,
    device: &Device,
    within: &str,
) -> Result<(), TrainError> {
    match Machine::here(device) {
        Some(machine) => check_within(demands, samples as u64, machine, within),
        None => Ok(()),
    }
}

/// Refuses a model of `parameters` parameters that takes more memory in training than the machine has. `keys` are the
/// keys that its size depends on. Does nothing where the device's memory is not known.
///
/// # Errors
/// If it takes more than there is.
pub fn check_parameters(
    parameters: usize,
    keys: &'static [&'static str],
    device: &Device,
) -> Result<(), TrainError> {
    let demand = Demand {
        parameters: parameters as u64,
        sample_bytes: 0,
        host_bytes: 0,
        activation_bytes: 0,
        batch_size: 0,
        parameter_keys: keys,
        sample_keys: &[],
        batch_key: "",
    };
    check_demands(&[demand], 0, device, "")
}

fn is_cpu(device: &Device) -> bool {
    latentlm::device("cpu").is_ok_and(|cpu| cpu == *device)
}

fn check_within(
    demands: &[Demand],
    samples: u64,
    machine: Machine,
    within: &str,
) -> Result<(), TrainError> {
    let bytes = |demand: &Demand| demand.bytes_on(machine, samples);
    let largest = demands.iter().max_by_key(|demand| bytes(demand));
    let Some(demand) = largest.filter(|demand| bytes(demand) > machine.bytes) else {
        return Ok(());
    };
    let keys = demand.keys(machine, samples).into_iter();
    let keys: Vec<String> = keys.map(|key| format!("{within}{key}")).collect();
    let mut of = vec![format!("{} parameters", demand.parameters)];
    if demand.batch(samples) > 1 {
        of.push(format!("batches of {}", demand.batch(samples)));
    }
    Err(TrainError::config(format!(
        "training takes {} of memory or more ({}), this machine has {}: lower {}",
        gibibytes(bytes(demand)),
        of.join(", "),
        gibibytes(machine.bytes),
        keys.join(", ")
    )))
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Bytes of memory that this process may have: those of the machine, or of the smallest control group around the
/// process. `None` on systems that do not say so as Linux does. `root` is the root of the file system.
fn machine_bytes(root: &Path) -> Option<u64> {
    let info = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let machine = memory_bytes(&info)? as u64;
    Some(group_limits(root).into_iter().fold(machine, u64::min))
}

/// Limits of the control groups around this process, of both versions of control groups.
fn group_limits(root: &Path) -> Vec<u64> {
    let mut limits = Vec::new();
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    for line in groups.lines() {
        // `0::/path` in version 2, `5:cpu,memory:/path` in version 1.
        let Some((controllers, path)) = line
            .split_once(':')
            .and_then(|(_, rest)| rest.split_once(':'))
        else {
            continue;
        };
        let (mount, file) = if controllers.is_empty() {
            ("sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        // In a container the path may be the host's, and the container's own group the mount itself.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let text = fs::read_to_string(root.join(mount).join(group).join(file));
            // A group without a limit says `max`.
            limits.extend(text.ok().and_then(|text| text.trim().parse::<u64>().ok()));
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::train::Interrupter;
    use latentlm::core::conformance::seeded;
    use latentlm_pipelines::{ImageRecipe, MllmRecipe, Recipe, SpeechRecipe, VideoRecipe};

    use crate::options::ProgressMode;

    const GIBIBYTE: u64 = 1 << 30;

    fn recipe<R: Recipe>(changes: &[&str]) -> R {
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        R::resolve(None, &changes).unwrap()
    }

    /// The sum over all tensors of models that are made, and the sample by hand.
    #[test]
    fn demands_are_counted() {
        let device = Device::default();
        let image: ImageRecipe = recipe(&["lm.width=64", "lm.depth=2", "lm.heads=2"]);
        let codec = seeded(1, &device, |device| image.init_codec(device));
        let [of_codec, of_lm] = image.demands(&device);
        assert_eq!(of_codec.parameters, codec.num_params() as u64);
        assert_eq!(of_codec.sample_bytes, 4 * 32 * 32);
        // 100 pictures, one of them decoded.
        let parameter_bytes = 20 * codec.num_params() as u64;
        assert_eq!(of_codec.bytes(60_000), parameter_bytes + 101 * 4096);
        assert_eq!(of_codec.bytes(7), parameter_bytes + 8 * 4096);
        let model = seeded(2, &device, |device| image.init_model(1, device));
        assert_eq!(of_lm.parameters, model.num_params() as u64);
        // 16 latents of 16 numbers, with noise for each of four draws; 64 pictures.
        assert_eq!(of_lm.sample_bytes, 4 * 16 * 16 * 5);
        assert_eq!(of_lm.host_bytes, 4 * 16 * 16 * 4);
        assert_eq!(of_lm.activation_bytes, 4 * 16 * 64);
        let parameter_bytes = 20 * model.num_params() as u64;
        let batch = 64 * of_lm.sample_bytes + of_lm.activation_bytes;
        assert_eq!(of_lm.bytes(60_000), parameter_bytes + batch);

        let speech: SpeechRecipe = recipe(&["data.codec_seconds=0.08"]);
        let [of_codec, _] = speech.demands(&device);
        let codec = seeded(3, &device, |device| speech.init_codec(device));
        assert_eq!(of_codec.parameters, codec.num_params() as u64);
        // Two latents of 640 samples.
        assert_eq!(of_codec.sample_bytes, 4 * 2 * 640);

        let with = "codec_loss.adversarial_weight=1.0";
        let adversarial: SpeechRecipe = recipe(&[with, "data.codec_seconds=0.08"]);
        let [more, _] = adversarial.demands(&device);
        assert!(more.parameters > of_codec.parameters);

        let video: VideoRecipe = recipe(&["data.frames=5", "lm.width=64", "lm.heads=2"]);
        let codec = seeded(4, &device, |device| video.init_codec(device));
        let [of_codec, of_lm] = video.demands(&device);
        assert_eq!(of_codec.parameters, codec.num_params() as u64);
        assert_eq!(of_codec.sample_bytes, 4 * 5 * 32 * 32);
        // 17 latents of 16 numbers, with noise for each of four draws.
        assert_eq!(of_lm.sample_bytes, 4 * (16 + 1) * 16 * 5);

        let mllm = MllmRecipe::default();
        assert_eq!(mllm.demands(&device)[0], mllm.image().demands(&device)[0]);
    }

    /// The largest sizes that recipes may have are counted, not made.
    #[test]
    fn the_largest_sizes_do_not_overflow() {
        let device = Device::default();
        let image: ImageRecipe = recipe(&[
            "lm.width=131072",
            "lm.depth=2048",
            "lm.head_depth=1024",
            "lm.mlp_ratio=64.0",
            "codec.vit.encoder_width=32768",
            "codec.vit.encoder_depth=512",
            "codec.vit.mlp_ratio=64",
            "codec.image_size=8192",
        ]);
        let speech: SpeechRecipe = recipe(&[
            "codec.widths=[65536, 65536, 65536, 65536]",
            "codec.depths=[256, 256, 256, 256]",
            "codec.kernel_size=1024",
            "codec.ffn_expansion=64",
        ]);
        let demands = [image.demands(&device), speech.demands(&device)];
        assert!(demands[0][0].bytes(1) > 100_000 * GIBIBYTE);
        assert!(demands[0][1].bytes(1) > 100_000 * GIBIBYTE);
        assert!(demands[1][0].bytes(1) > 100_000 * GIBIBYTE);
        assert!(demands.as_flattened().iter().all(|d| d.bytes(1) < u64::MAX));
    }

    /// A stage of so many parameters whose samples have inputs of so many bytes, in batches of up to 4.
    fn demand(parameters: u64, sample_bytes: u64) -> Demand {
        Demand {
            parameters,
            sample_bytes,
            host_bytes: sample_bytes / 2,
            activation_bytes: 0,
            batch_size: 4,
            parameter_keys: &["lm.width", "lm.depth"],
            sample_keys: &["data.codec_seconds"],
            batch_key: "codec_train.batch_size",
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_keys() {
        let machine = |bytes, is_device| Machine { bytes, is_device };
        let fine = [demand(5, 0), demand(4, 19)];
        check_within(&fine, 1, machine(100, true), "").unwrap();
        check_within(&fine, 1, machine(99, true), "").unwrap_err();
        let told = |demand: Demand, samples, is_device| {
            let machine = machine(GIBIBYTE, is_device);
            let error = check_within(&[fine[0], demand], samples, machine, "image.").unwrap_err();
            assert!(error.is_usage());
            error.to_string()
        };
        let large = told(demand(GIBIBYTE / 8, 0), 1, true);
        assert_eq!(
            large,
            "recipe: training takes 2.50 GiB of memory or more (134217728 parameters), this machine has \
             1.00 GiB: lower image.lm.width, image.lm.depth"
        );
        let long = told(demand(1, 2 * GIBIBYTE), 1, true);
        assert!(long.ends_with("lower image.data.codec_seconds"), "{long}");
        // Two samples fit, a batch of three does not.
        let wide = demand(0, GIBIBYTE / 2);
        check_within(&[wide], 2, machine(GIBIBYTE, true), "").unwrap();
        let many = told(wide, 3, true);
        assert_eq!(
            many,
            "recipe: training takes 1.50 GiB of memory or more (0 parameters, batches of 3), this machine has \
             1.00 GiB: lower image.codec_train.batch_size, image.data.codec_seconds"
        );
    }

    /// On another device only half of a sample is made in the machine's memory, and no weights are.
    #[test]
    fn what_lies_on_another_device_does_not_count() {
        let host = Machine {
            bytes: GIBIBYTE,
            is_device: false,
        };
        check_within(&[demand(GIBIBYTE, GIBIBYTE / 2)], 4, host, "").unwrap();
        let error = check_within(&[demand(1, GIBIBYTE)], 100, host, "").unwrap_err();
        let told = error.to_string();
        assert!(told.contains("takes 2.00 GiB"), "{told}");
        let end = "lower codec_train.batch_size, data.codec_seconds";
        assert!(told.ends_with(end), "{told}");
    }

    /// A batch is as large as the data at most: what would run is not refused.
    #[test]
    fn a_batch_counts_as_far_as_there_are_samples() {
        let device = Device::default();
        let huge: ImageRecipe = recipe(&["codec_train.batch_size=1048576"]);
        let [codec, _] = huge.demands(&device);
        let machine = Machine {
            bytes: 3 * GIBIBYTE,
            is_device: true,
        };
        check_within(&[codec], 60_000, machine, "").unwrap();
        // 4 KiB each.
        let error = check_within(&[codec], 1 << 20, machine, "").unwrap_err();
        let told = error.to_string();
        assert!(told.contains("batches of 1048576"), "{told}");
        assert!(told.contains("lower codec_train.batch_size"), "{told}");
    }

    /// A file below a root.
    fn put(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_smallest_limit_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(machine_bytes(root), None);
        put(
            root,
            "proc/meminfo",
            "MemFree: 1 kB\nMemTotal:     2048 kB\n",
        );
        assert_eq!(machine_bytes(root), Some(2048 << 10));
        put(root, "proc/self/cgroup", "0::/user/app\n");
        put(root, "sys/fs/cgroup/user/app/memory.max", "max\n");
        assert_eq!(machine_bytes(root), Some(2048 << 10));
        put(root, "sys/fs/cgroup/user/memory.max", "1000000\n");
        assert_eq!(machine_bytes(root), Some(1_000_000));
        put(root, "sys/fs/cgroup/user/app/memory.max", "900000\n");
        assert_eq!(machine_bytes(root), Some(900_000));
        // More than the machine has is no limit.
        put(
            root,
            "proc/self/cgroup",
            "7:cpu:/a\n5:cpu,memory:/docker/1\n",
        );
        put(
            root,
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        assert_eq!(machine_bytes(root), Some(2048 << 10));
        put(
            root,
            "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes",
            "800000\n",
        );
        assert_eq!(machine_bytes(root), Some(800_000));
        put(root, "proc/self/cgroup", "damaged\n");
        assert_eq!(machine_bytes(root), Some(2048 << 10));
    }

    #[test]
    fn models_beyond_the_memory_are_refused() {
        let device = Device::default();
        check_parameters(1000, &["dit.*"], &device).unwrap();
        if !is_cpu(&device) || machine_bytes(Path::new("/")).is_none() {
            return;
        }
        let error = check_parameters(1 << 50, &["dit.*"], &device).unwrap_err();
        let told = error.to_string();
        assert!(told.contains("(1125899906842624 parameters)"), "{told}");
        assert!(told.ends_with(": lower dit.*"), "{told}");
    }

    /// On this machine: nothing is left behind.
    #[test]
    fn absurd_sizes_are_refused_before_the_run_has_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        let options = RunOptions {
            accept_changed_data: false,
            path: path.clone(),
            resume: false,
            device: Device::default(),
            more_devices: Vec::new(),
            progress: ProgressMode::Plain,
            interrupter: Interrupter::new(),
            within: String::new(),
        };
        check(&ImageRecipe::default(), 60_000, &options).unwrap();
        if !is_cpu(&options.device) || machine_bytes(Path::new("/")).is_none() {
            return;
        }
        let absurd = recipe(&["lm.width=131072", "lm.depth=2048"]);
        let error = crate::train_image(absurd, options).unwrap_err().to_string();
        assert!(error.contains("lower lm.width, lm.depth"), "{error}");
        assert!(!path.exists());
    }
}
