//! The device that a user names.

use burn::tensor::Device;

/// A device that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No device has such a name.
    #[error("no device `{0}`; there are cpu, wgpu, wgpu:N, vulkan, vulkan:N, cuda, cuda:N")]
    Unknown(String),
    /// The program lacks the backend.
    #[error(
        "this program was built without `{0}`: name the feature `{0}` of the crate `latentlm` (or build \
         latentlm-cli with --features {0}; `cargo xtask` does so for --device)"
    )]
    NotBuilt(&'static str),
    /// The machine has no device of the kind.
    #[error("no {kind} adapter: {reason}")]
    Missing {
        /// The requested kind.
        kind: &'static str,
        /// What the machine lacks.
        reason: &'static str,
    },
    /// The machine has fewer adapters of the kind.
    #[error("no device `{kind}:{index}`; they count from 0 and this machine has {count}")]
    Beyond {
        /// The requested kind.
        kind: &'static str,
        /// The requested index.
        index: usize,
        /// Number of devices of the kind.
        count: usize,
    },
}

/// A kind of adapter that a machine may lack.
#[cfg(any(feature = "wgpu", feature = "cuda", test))]
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// Description of the adapters that are missing.
    missing: &'static str,
}

#[cfg(any(feature = "wgpu", test))]
const WGPU: Kind = Kind {
    name: "wgpu",
    missing: "no Vulkan, Metal or DirectX 12 driver answers; install the card's, or one in software \
              (mesa-vulkan-drivers on Debian)",
};

#[cfg(any(feature = "vulkan", test))]
const VULKAN: Kind = Kind {
    name: "vulkan",
    missing: "no Vulkan driver answers; install the card's, or one in software \
              (mesa-vulkan-drivers on Debian)",
};

#[cfg(any(feature = "cuda", test))]
const CUDA: Kind = Kind {
    name: "cuda",
    missing: "NVIDIA's driver (libcuda) is not installed or finds no card; nvidia-smi lists what it \
              finds",
};

/// The device of a name such as `cpu`, `wgpu` or `cuda:1`. Each kind is there in programs that were
/// built with the feature of its name.
///
/// ```
/// # fn main() -> Result<(), latentlm::DeviceError> {
/// # #[cfg(feature = "cpu")]
/// let device = latentlm::device("cpu")?;
/// let error = latentlm::device("gpu").unwrap_err();
/// assert!(error.to_string().contains("there are cpu, wgpu"));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If no device has such a name, the program was built without its kind, or the machine has none.
pub fn device(name: &str) -> Result<Device, DeviceError> {
    let unknown = || DeviceError::Unknown(name.into());
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) => (kind, Some(index.parse::<usize>().map_err(|_| unknown())?)),
        None => (name, None),
    };
    match (kind, index) {
        ("cpu", None) => cpu(),
        ("wgpu", index) => wgpu(index),
        ("vulkan", index) => vulkan(index),
        ("cuda", index) => cuda(index),
        _ => Err(unknown()),
    }
}

/// The devices of a list such as `cuda:0,1` or `cpu,cpu`: an index alone is of the kind before it.
/// Returns the first, and the others.
///
/// # Errors
/// As [`device()`], for the first name that fails.
pub fn devices(names: &str) -> Result<(Device, Vec<Device>), DeviceError> {
    let (first, others) = match names.split_once(',') {
        Some((first, others)) => (first, Some(others)),
        None => (names, None),
    };
    let kind = first.split(':').next().unwrap_or(first);
    let first = device(first)?;
    let mut further = Vec::new();
    for name in others.into_iter().flat_map(|others| others.split(',')) {
        further.push(match name.parse::<usize>() {
            Ok(_) => device(&format!("{kind}:{name}"))?,
            Err(_) => device(name)?,
        });
    }
    Ok((first, further))
}

#[cfg(feature = "cpu")]
fn cpu() -> Result<Device, DeviceError> {
    Ok(Device::flex())
}

#[cfg(not(feature = "cpu"))]
fn cpu() -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt("cpu"))
}

#[cfg(feature = "wgpu")]
fn wgpu(index: Option<usize>) -> Result<Device, DeviceError> {
    let found = enumerate(burn::tensor::DeviceType::Wgpu);
    match index {
        Some(index) => nth(WGPU, index, found),
        // Not the first, but the one that wgpu considers best.
        None => nth(WGPU, 0, found).map(|_| Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
    }
}

#[cfg(feature = "vulkan")]
fn vulkan(index: Option<usize>) -> Result<Device, DeviceError> {
    let found = enumerate(burn::tensor::DeviceType::Vulkan);
    match index {
        Some(index) => nth(VULKAN, index, found),
        None => {
            let best = burn::tensor::DeviceKind::DefaultDevice;
            nth(VULKAN, 0, found).map(|_| Device::vulkan(best))
        }
    }
}

#[cfg(not(feature = "vulkan"))]
fn vulkan(_index: Option<usize>) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt("vulkan"))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(_index: Option<usize>) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt("wgpu"))
}

#[cfg(feature = "cuda")]
fn cuda(index: Option<usize>) -> Result<Device, DeviceError> {
    let found = enumerate(burn::tensor::DeviceType::Cuda);
    nth(CUDA, index.unwrap_or(0), found)
}

#[cfg(not(feature = "cuda"))]
fn cuda(_index: Option<usize>) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt("cuda"))
}

/// The adapter of a number among those found. Looked for before anything is made on it: Burn opens a
/// device when the first tensor is made, and panics where there is none.
#[cfg(any(feature = "wgpu", feature = "cuda", test))]
fn nth<T>(kind: Kind, index: usize, found: Vec<T>) -> Result<T, DeviceError> {
    let Kind {
        name: kind,
        missing: reason,
    } = kind;
    let count = found.len();
    match found.into_iter().nth(index) {
        Some(device) => Ok(device),
        None if count == 0 => Err(DeviceError::Missing { kind, reason }),
        None => Err(DeviceError::Beyond { kind, index, count }),
    }
}

/// Names of what a device's kind finds on this machine, software adapters too; none where the
/// machine has nothing of the kind.
///
/// # Errors
/// If there is no such kind, or the program was built without it.
pub fn device_names(name: &str) -> Result<Vec<String>, DeviceError> {
    match name.split_once(':').map_or(name, |(kind, _)| kind) {
        "cpu" => cpu().map(|_| vec!["the processor".into()]),
        "wgpu" => wgpu_adapters(),
        "vulkan" => vulkan_adapters(),
        "cuda" => cuda_adapters(),
        _ => Err(DeviceError::Unknown(name.into())),
    }
}

/// Name of what computes on a device, such as that of a graphics card; `the processor` if it is none that has a name.
pub fn adapter_name(device: &Device) -> String {
    identity(device).unwrap_or_else(|| "the processor".into())
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn identity(device: &Device) -> Option<String> {
    let identity = quietly(|| device.identity()).flatten()?;
    Some(identity.name)
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
fn identity(_device: &Device) -> Option<String> {
    None
}

#[cfg(feature = "wgpu")]
fn wgpu_adapters() -> Result<Vec<String>, DeviceError> {
    Ok(names(burn::tensor::DeviceType::Wgpu))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu_adapters() -> Result<Vec<String>, DeviceError> {
    Err(DeviceError::NotBuilt("wgpu"))
}

#[cfg(feature = "vulkan")]
fn vulkan_adapters() -> Result<Vec<String>, DeviceError> {
    Ok(names(burn::tensor::DeviceType::Vulkan))
}

#[cfg(not(feature = "vulkan"))]
fn vulkan_adapters() -> Result<Vec<String>, DeviceError> {
    Err(DeviceError::NotBuilt("vulkan"))
}

#[cfg(feature = "cuda")]
fn cuda_adapters() -> Result<Vec<String>, DeviceError> {
    Ok(names(burn::tensor::DeviceType::Cuda))
}

#[cfg(not(feature = "cuda"))]
fn cuda_adapters() -> Result<Vec<String>, DeviceError> {
    Err(DeviceError::NotBuilt("cuda"))
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn names(kind: burn::tensor::DeviceType) -> Vec<String> {
    let name = |device: &Device| match quietly(|| device.identity()).flatten() {
        Some(identity) => identity.name,
        None => "an adapter without a name".into(),
    };
    enumerate(kind).iter().map(name).collect()
}

/// What a kind finds on this machine; nothing where asking panics, as some drivers' absence does.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn enumerate(kind: burn::tensor::DeviceType) -> Vec<Device> {
    quietly(|| Device::enumerate(kind).into_vec()).unwrap_or_default()
}

/// The result of `work`, or nothing if it panics, of which the user then reads nothing either.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(work));
    set_hook(hook);
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in ["gpu", "cpu:0", "cuda:x", "wgpu:", ""] {
            assert!(
                matches!(device(name), Err(DeviceError::Unknown(_))),
                "{name}"
            );
        }
        assert!(matches!(device_names("tpu"), Err(DeviceError::Unknown(_))));
    }

    #[cfg(feature = "cpu")]
    #[test]
    fn lists_are_read() {
        assert!(device("cpu").is_ok());
        assert_eq!(devices("cpu").unwrap().1.len(), 0);
        assert_eq!(devices("cpu,cpu").unwrap().1.len(), 1);
        for list in ["cpu,", "cpu,1", "cpu,gpu", ",cpu"] {
            assert!(
                matches!(devices(list), Err(DeviceError::Unknown(_))),
                "{list}"
            );
        }
        assert_eq!(device_names("cpu").unwrap().len(), 1);
        let (first, others) = devices("cpu,cpu").unwrap();
        for device in [&first, &others[0]] {
            assert_eq!(adapter_name(device), "the processor");
        }
    }

    #[test]
    fn an_adapter_that_is_not_there_says_what_is_missing() {
        let found = || vec!["integrated", "discrete"];
        assert_eq!(nth(WGPU, 1, found()).unwrap(), "discrete");
        let message = nth(WGPU, 2, found()).unwrap_err().to_string();
        assert!(
            message.contains("`wgpu:2`") && message.contains("has 2"),
            "{message}"
        );
        for (kind, part) in [
            (WGPU, "mesa-vulkan-drivers"),
            (VULKAN, "mesa-vulkan-drivers"),
            (CUDA, "libcuda"),
        ] {
            let message = nth::<&str>(kind, 0, Vec::new()).unwrap_err().to_string();
            assert!(
                message.contains(part) && !message.contains('\n'),
                "{message}"
            );
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_missing_backend_says_how_to_get_it() {
        let message = device("cuda:1").unwrap_err().to_string();
        for part in ["the feature `cuda`", "--features cuda"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
