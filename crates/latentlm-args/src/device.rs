//! Names of devices.

use latentlm_keys::shown;

use crate::ArgsError;

/// A kind of device: the CPU, or an interface to GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// The CPU.
    Cpu,
    /// A GPU through Vulkan, Metal or DirectX 12.
    Wgpu,
    /// A GPU through Vulkan and SPIR-V.
    Vulkan,
    /// An NVIDIA GPU through CUDA.
    Cuda,
}

impl DeviceKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Wgpu, Self::Vulkan, Self::Cuda];

    /// The name in `--device`, which is also the name of the binary's cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
        }
    }
}

/// A device as a user names it: `cpu`, `wgpu`, `cuda:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceName {
    /// Kind of device.
    pub kind: DeviceKind,
    /// Index of the device among its kind, from 0; `None` for the default one.
    pub index: Option<usize>,
}

impl DeviceName {
    /// Parses a device name.
    ///
    /// # Errors
    /// If the name is not valid.
    pub fn parse(name: &str) -> Result<Self, ArgsError> {
        let unknown = || ArgsError::UnknownDevice(shown(name));
        let (kind, index) = match name.split_once(':') {
            Some((kind, index)) => (kind, Some(index.parse::<usize>().map_err(|_| unknown())?)),
            None => (name, None),
        };
        let mut kinds = DeviceKind::ALL.into_iter();
        match kinds.find(|known| known.name() == kind) {
            Some(DeviceKind::Cpu) if index.is_some() => Err(unknown()),
            Some(kind) => Ok(Self { kind, index }),
            None => Err(unknown()),
        }
    }

    /// Parses a list such as `cuda:0,1` or `cpu,cpu`. An index alone has the kind of the first name.
    ///
    /// # Errors
    /// If one of the names is not valid.
    pub fn parse_list(names: &str) -> Result<Vec<Self>, ArgsError> {
        let mut names = names.split(',');
        let first = Self::parse(names.next().unwrap_or_default())?;
        let mut devices = vec![first];
        for name in names {
            devices.push(match name.parse::<usize>() {
                Ok(index) => Self::parse(&format!("{}:{index}", first.kind.name()))?,
                Err(_) => Self::parse(name)?,
            });
        }
        Ok(devices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let device = |kind, index| DeviceName { kind, index };
        for (name, expected) in [
            ("cpu", device(DeviceKind::Cpu, None)),
            ("wgpu", device(DeviceKind::Wgpu, None)),
            ("vulkan:0", device(DeviceKind::Vulkan, Some(0))),
            ("cuda:12", device(DeviceKind::Cuda, Some(12))),
        ] {
            assert_eq!(DeviceName::parse(name).unwrap(), expected);
        }
        let cuda = [0, 1, 3].map(|index| device(DeviceKind::Cuda, Some(index)));
        assert_eq!(DeviceName::parse_list("cuda:0,1,cuda:3").unwrap(), cuda);
        let mixed = [DeviceKind::Cpu, DeviceKind::Wgpu].map(|kind| device(kind, None));
        assert_eq!(DeviceName::parse_list("cpu,wgpu").unwrap(), mixed);
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["gpu", "cpu:0", "cuda:x", "wgpu:", "", "CPU", "cuda:0,1"] {
            let message = DeviceName::parse(name).unwrap_err().to_string();
            let start = format!("no device `{name}`; there are cpu, wgpu");
            assert!(message.starts_with(&start), "{message}");
        }
        for list in ["cpu,", "cpu,1", "cpu,gpu", ",cpu", ""] {
            assert!(DeviceName::parse_list(list).is_err(), "{list}");
        }
    }
}
