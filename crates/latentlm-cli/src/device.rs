//! The device that a user names.

use burn::tensor::Device;

/// A device that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No device has such a name.
    #[error("no device `{0}`; there are cpu, wgpu, wgpu:N, cuda, cuda:N")]
    Unknown(String),
    /// The binary lacks the backend.
    #[cfg_attr(
        all(feature = "cpu", feature = "wgpu", feature = "cuda"),
        expect(dead_code, reason = "a binary with every backend lacks none")
    )]
    #[error(
        "this binary was built without {0}; `cargo xtask` builds what --device needs, or build \
         latentlm-cli with --features {0}"
    )]
    NotBuilt(&'static str),
}

/// The device of a name such as `cpu`, `wgpu` or `cuda:1`.
pub fn device(name: &str) -> Result<Device, DeviceError> {
    let unknown = || DeviceError::Unknown(name.into());
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) => (kind, Some(index.parse::<usize>().map_err(|_| unknown())?)),
        None => (name, None),
    };
    match (kind, index) {
        ("cpu", None) => cpu(),
        ("wgpu", index) => wgpu(index),
        ("cuda", index) => cuda(index.unwrap_or(0)),
        _ => Err(unknown()),
    }
}

/// The devices of a list such as `cuda:0,1` or `cpu,cpu`: an index alone is of the kind before it.
pub fn devices(names: &str) -> Result<(Device, Vec<Device>), DeviceError> {
    let (first, others) = match names.split_once(',') {
        Some((first, others)) => (first, Some(others)),
        None => (names, None),
    };
    let kind = first.split(':').next().unwrap_or(first);
    let others = others.into_iter().flat_map(|others| others.split(','));
    let others = others.map(|name| match name.parse::<usize>() {
        Ok(_) => device(&format!("{kind}:{name}")),
        Err(_) => device(name),
    });
    Ok((device(first)?, others.collect::<Result<_, _>>()?))
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
    use burn::tensor::DeviceKind;
    Ok(Device::wgpu(match index {
        Some(index) => DeviceKind::DiscreteGpu(index),
        None => DeviceKind::DefaultDevice,
    }))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(_index: Option<usize>) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt("wgpu"))
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device, DeviceError> {
    Ok(Device::cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_index: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt("cuda"))
}

/// Names of what a device's kind finds on this machine, software adapters too; none where the
/// machine has nothing of the kind.
pub fn adapters(name: &str) -> Result<Vec<String>, DeviceError> {
    match name.split_once(':').map_or(name, |(kind, _)| kind) {
        "cpu" => cpu().map(|_| vec!["the processor".into()]),
        "wgpu" => wgpu_adapters(),
        "cuda" => cuda_adapters(),
        _ => Err(DeviceError::Unknown(name.into())),
    }
}

#[cfg(feature = "wgpu")]
fn wgpu_adapters() -> Result<Vec<String>, DeviceError> {
    Ok(names(burn::tensor::DeviceType::Wgpu))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu_adapters() -> Result<Vec<String>, DeviceError> {
    Err(DeviceError::NotBuilt("wgpu"))
}

#[cfg(feature = "cuda")]
fn cuda_adapters() -> Result<Vec<String>, DeviceError> {
    // Without a driver the enumeration panics: that is a machine without a device.
    let found = std::panic::catch_unwind(|| names(burn::tensor::DeviceType::Cuda));
    Ok(found.unwrap_or_default())
}

#[cfg(not(feature = "cuda"))]
fn cuda_adapters() -> Result<Vec<String>, DeviceError> {
    Err(DeviceError::NotBuilt("cuda"))
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn names(kind: burn::tensor::DeviceType) -> Vec<String> {
    let devices = Device::enumerate(kind).into_vec();
    let name = |device: &Device| match device.identity() {
        Some(identity) => identity.name,
        None => "an adapter without a name".into(),
    };
    devices.iter().map(name).collect()
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
        assert!(device("cpu").is_ok());
        assert_eq!(devices("cpu").unwrap().1.len(), 0);
        assert_eq!(devices("cpu,cpu").unwrap().1.len(), 1);
        for list in ["cpu,", "cpu,1", "cpu,gpu", ",cpu"] {
            assert!(
                matches!(devices(list), Err(DeviceError::Unknown(_))),
                "{list}"
            );
        }
        assert_eq!(adapters("cpu").unwrap().len(), 1);
        assert!(matches!(adapters("tpu"), Err(DeviceError::Unknown(_))));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_missing_backend_says_how_to_get_it() {
        let message = device("cuda:1").unwrap_err().to_string();
        assert!(message.contains("--features cuda"), "{message}");
    }
}
