//! The least memory that a training takes, held against what the machine has: a recipe that can't be trained here is
//! refused before its run begins.

use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use latentlm::core::{CodecObjectiveConfig, LatentCodecConfig};
use latentlm_pipelines::ModelRecipe;

use crate::context::RunOptions;
use crate::error::TrainError;

/// Bytes of a trained parameter: weight, gradient, two moments and moving average in float32.
const PARAMETER_BYTES: u64 = 5 * NUMBER_BYTES;
/// Bytes of a number.
const NUMBER_BYTES: u64 = 4;
/// Keys of the language model's size.
const LM_KEYS: [&str; 4] = ["lm.width", "lm.depth", "lm.mlp_ratio", "lm.head_depth"];

/// The least memory that a stage takes. Activations are not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Trained parameters, those of a discriminator too.
    pub parameters: u64,
    /// Bytes of one sample of a batch. A batch is as large as the data at most, whose size is not known yet.
    pub sample_bytes: u64,
    /// Keys that the number of parameters follows from; `codec.*` stands for sizes in a table.
    pub parameter_keys: &'static [&'static str],
    /// Keys that the size of a sample follows from.
    pub sample_keys: &'static [&'static str],
}

impl Demand {
    /// What the stage of a codec and its discriminator takes. `sample` is the shape of a sample, and
    /// `sample_keys` what it follows from.
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
            parameter_keys: &["codec.*", "codec_loss.*"],
            sample_keys,
        }
    }

    /// What the stage of a language model takes that reads `[positions, width]` numbers at a time.
    pub(crate) fn of_lm(
        recipe: &impl ModelRecipe,
        positions: usize,
        width: usize,
        device: &Device,
    ) -> Self {
        Self {
            // Its weights are made when they are first used: counting takes no memory.
            parameters: recipe.init_model(1, device).num_params() as u64,
            sample_bytes: bytes_of([positions, width, 1]),
            parameter_keys: &LM_KEYS,
            sample_keys: &["codec.*", "lm.width"],
        }
    }

    /// All bytes.
    pub fn bytes(&self) -> u64 {
        self.parameter_bytes().saturating_add(self.sample_bytes)
    }

    fn parameter_bytes(&self) -> u64 {
        self.parameters.saturating_mul(PARAMETER_BYTES)
    }

    /// The keys of the larger part.
    fn keys(&self) -> &'static [&'static str] {
        if self.sample_bytes > self.parameter_bytes() {
            self.sample_keys
        } else {
            self.parameter_keys
        }
    }
}

/// Bytes of a tensor of a shape.
fn bytes_of(shape: [usize; 3]) -> u64 {
    let dims = shape.into_iter();
    dims.fold(NUMBER_BYTES, |bytes, dim| bytes.saturating_mul(dim as u64))
}

/// A recipe that knows what its stages take.
pub trait Demanding: ModelRecipe {
    /// What the codec's stage and the language model's take. The vocabulary is not known before data are read: it
    /// counts as one class or token.
    fn demands(&self, device: &Device) -> [Demand; 2];
}

/// Refuses a recipe that needs more memory than the machine has, if it is trained on the processor. Does nothing
/// where the machine's memory is not known.
///
/// # Errors
/// If the larger stage takes more than there is; the message names the keys to lower.
pub fn check<R: Demanding>(recipe: &R, options: &RunOptions) -> Result<(), TrainError> {
    if !is_cpu(&options.device) {
        return Ok(());
    }
    match machine_bytes(Path::new("/")) {
        Some(bytes) => check_within(&recipe.demands(&options.device), bytes, &options.within),
        None => Ok(()),
    }
}

fn is_cpu(device: &Device) -> bool {
    latentlm::device("cpu").is_ok_and(|cpu| cpu == *device)
}

fn check_within(demands: &[Demand], there: u64, within: &str) -> Result<(), TrainError> {
    let largest = demands.iter().max_by_key(|demand| demand.bytes());
    let Some(demand) = largest.filter(|demand| demand.bytes() > there) else {
        return Ok(());
    };
    let keys = demand.keys().iter();
    let keys: Vec<String> = keys.map(|key| format!("{within}{key}")).collect();
    Err(TrainError::config(format!(
        "training takes {} of memory or more ({} parameters), this machine has {}: lower {}",
        gibibytes(demand.bytes()),
        demand.parameters,
        gibibytes(there),
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
    let total = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let machine = kibibytes.saturating_mul(1024);
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
    use latentlm_pipelines::{ImageRecipe, MllmRecipe, Recipe, SpeechRecipe};

    use crate::progress::ProgressMode;

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
        assert_eq!(of_codec.bytes(), 20 * codec.num_params() as u64 + 4096);
        let model = seeded(2, &device, |device| image.init_model(1, device));
        assert_eq!(of_lm.parameters, model.num_params() as u64);
        assert_eq!(of_lm.sample_bytes, 4 * 16 * 64);

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
        assert!(demands[0][0].bytes() > 100_000 * GIBIBYTE);
        assert!(demands[0][1].bytes() > 100_000 * GIBIBYTE);
        assert!(demands[1][0].bytes() > 100_000 * GIBIBYTE);
        assert!(demands.as_flattened().iter().all(|d| d.bytes() < u64::MAX));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_keys() {
        let demand = |parameters, sample_bytes| Demand {
            parameters,
            sample_bytes,
            parameter_keys: &["lm.width", "lm.depth"],
            sample_keys: &["data.codec_seconds"],
        };
        let fine = [demand(5, 0), demand(4, 19)];
        check_within(&fine, 100, "").unwrap();
        check_within(&fine, 99, "").unwrap_err();
        let told = |demand: Demand| {
            let error = check_within(&[fine[0], demand], GIBIBYTE, "image.").unwrap_err();
            assert!(error.is_usage());
            error.to_string()
        };
        let large = told(demand(GIBIBYTE / 8, 0));
        assert_eq!(
            large,
            "recipe: training takes 2.50 GiB of memory or more (134217728 parameters), this machine has \
             1.00 GiB: lower image.lm.width, image.lm.depth"
        );
        let long = told(demand(1, 2 * GIBIBYTE));
        assert!(long.ends_with("lower image.data.codec_seconds"), "{long}");
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
        check(&ImageRecipe::default(), &options).unwrap();
        if !is_cpu(&options.device) || machine_bytes(Path::new("/")).is_none() {
            return;
        }
        let absurd = recipe(&["lm.width=131072", "lm.depth=2048"]);
        let error = crate::train_image(absurd, options).unwrap_err().to_string();
        assert!(error.contains("lower lm.width, lm.depth"), "{error}");
        assert!(!path.exists());
    }
}
