//! Checks that a device's driver is installed, before a build that takes minutes.

use std::ffi::OsStr;
use std::path::PathBuf;

use latentlm_args::{ArgsError, DeviceKind, DeviceName};

/// The Vulkan loader: the library through which programs reach Vulkan drivers.
const VULKAN_LOADER: &str = "libvulkan.so.1";
/// File names of NVIDIA's CUDA driver library.
const CUDA_DRIVER: [&str; 2] = ["libcuda.so.1", "libcuda.so"];
/// Library folders that the dynamic loader searches besides its cache.
const LIBRARIES: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"];
/// Cache of the dynamic loader, written by `ldconfig`.
const CACHE: &str = "/etc/ld.so.cache";
/// Folders where Vulkan drivers install their manifests, besides those named by environment variables.
const MANIFESTS: [&str; 5] = [
    "/etc/vulkan/icd.d",
    "/etc/xdg/vulkan/icd.d",
    "/usr/local/etc/vulkan/icd.d",
    "/usr/local/share/vulkan/icd.d",
    "/usr/share/vulkan/icd.d",
];

/// The places where this machine keeps libraries and drivers.
#[derive(Default)]
pub struct System {
    /// Library folders.
    libraries: Vec<PathBuf>,
    /// Content of the dynamic loader's cache. Without it, no library can be said to be missing.
    cache: Option<Vec<u8>>,
    /// Folders with manifests of Vulkan drivers.
    manifests: Vec<PathBuf>,
    /// Whether environment variables name Vulkan drivers directly.
    names_drivers: bool,
}

impl System {
    /// This machine. Only on Linux: on other systems every driver is assumed to be installed.
    pub fn here() -> Self {
        if !cfg!(target_os = "linux") {
            return Self::default();
        }
        let named = |name: &str| std::env::var_os(name).unwrap_or_default();
        let mut libraries = folders(&named("LD_LIBRARY_PATH"), "");
        libraries.extend(LIBRARIES.map(PathBuf::from));
        let mut manifests: Vec<PathBuf> = MANIFESTS.map(PathBuf::from).to_vec();
        for name in [
            "XDG_CONFIG_DIRS",
            "XDG_CONFIG_HOME",
            "XDG_DATA_DIRS",
            "XDG_DATA_HOME",
        ] {
            manifests.extend(folders(&named(name), "vulkan/icd.d"));
        }
        for below in [".config/vulkan/icd.d", ".local/share/vulkan/icd.d"] {
            manifests.extend(folders(&named("HOME"), below));
        }
        let own = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES"];
        Self {
            libraries,
            cache: std::fs::read(CACHE).ok(),
            manifests,
            names_drivers: own.iter().any(|name| !named(name).is_empty()),
        }
    }

    /// Checks that the driver of each device is installed.
    ///
    /// # Errors
    /// If a driver is missing. The message tells how to get it.
    pub fn check(&self, devices: &[DeviceName]) -> Result<(), ArgsError> {
        for device in devices {
            if let Some(reason) = self.missing(device.kind) {
                let kind = device.kind.name();
                return Err(ArgsError::NoDriver { kind, reason });
            }
        }
        Ok(())
    }

    /// The message about a missing driver for a kind of device, if it is missing.
    fn missing(&self, kind: DeviceKind) -> Option<String> {
        match kind {
            DeviceKind::Cpu => None,
            DeviceKind::Wgpu | DeviceKind::Vulkan if self.lacks(&[VULKAN_LOADER]) => Some(format!(
                "the Vulkan loader ({VULKAN_LOADER}) is not installed; install it with the card's \
                 driver, or with one in software (mesa-vulkan-drivers on Debian)"
            )),
            DeviceKind::Wgpu | DeviceKind::Vulkan if self.lacks_manifest() => Some(
                "the Vulkan loader finds no driver (no file in a folder vulkan/icd.d); install the \
                 card's, or one in software (mesa-vulkan-drivers on Debian)"
                    .into(),
            ),
            DeviceKind::Wgpu | DeviceKind::Vulkan => None,
            DeviceKind::Cuda => self.lacks(&CUDA_DRIVER).then(|| {
                let [name, _] = CUDA_DRIVER;
                format!("NVIDIA's driver ({name}) is not installed")
            }),
        }
    }

    /// Whether certainly none of these libraries is installed.
    fn lacks(&self, names: &[&str]) -> bool {
        let Some(cache) = &self.cache else {
            return false;
        };
        for name in names {
            if self
                .libraries
                .iter()
                .any(|folder| folder.join(name).exists())
            {
                return false;
            }
            let ending = format!("/{name}");
            let mut strings = cache.split(|byte| *byte == 0);
            if strings.any(|string| string.ends_with(ending.as_bytes())) {
                return false;
            }
        }
        true
    }

    /// Whether certainly no Vulkan driver has installed a manifest.
    fn lacks_manifest(&self) -> bool {
        if self.cache.is_none() || self.names_drivers {
            return false;
        }
        for folder in &self.manifests {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry
                    .path()
                    .extension()
                    .is_some_and(|ending| ending == "json")
                {
                    return false;
                }
            }
        }
        true
    }
}

/// Splits a list of folders, as in environment variables, and appends `below` to each folder.
fn folders(list: &OsStr, below: &str) -> Vec<PathBuf> {
    std::env::split_paths(list)
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(|folder| folder.join(below))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    impl System {
        /// A machine without any driver.
        pub(crate) fn without_drivers() -> Self {
            machine(Path::new("nowhere"))
        }
    }

    /// A machine without drivers in the loader's cache, with one library folder and one manifest folder.
    fn machine(folder: &Path) -> System {
        System {
            libraries: vec![folder.join("lib")],
            cache: Some(b"glibc-ld.so.cache1.1\0libc.so.6\0/lib/libc.so.6\0".to_vec()),
            manifests: vec![folder.join("icd.d")],
            names_drivers: false,
        }
    }

    fn refusal(system: &System, names: &str) -> Option<String> {
        let devices = DeviceName::parse_list(names).unwrap();
        let error = system.check(&devices).err()?;
        assert!(error.is_usage());
        Some(error.to_string())
    }

    #[test]
    fn missing_drivers_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let system = machine(dir.path());
        assert_eq!(refusal(&system, "cpu"), None);
        for (names, start, part) in [
            ("wgpu", "no wgpu adapter: ", "libvulkan.so.1"),
            ("vulkan:1", "no vulkan adapter: ", "mesa-vulkan-drivers"),
            ("cuda:0,1", "no cuda adapter: ", "libcuda.so.1"),
            ("cpu,cuda", "no cuda adapter: ", "NVIDIA"),
        ] {
            let message = refusal(&system, names).unwrap();
            assert!(
                message.starts_with(start) && message.contains(part),
                "{message}"
            );
        }
    }

    #[test]
    fn drivers_are_found_in_folders_and_in_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["lib", "icd.d"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let mut system = machine(dir.path());
        std::fs::write(dir.path().join("lib/libcuda.so"), "").unwrap();
        assert_eq!(refusal(&system, "cuda"), None);
        system.cache = Some(b"x\0/opt/lib/libvulkan.so.1\0".to_vec());
        // The loader alone is not enough: it needs a driver.
        let message = refusal(&system, "vulkan").unwrap();
        assert!(
            message.contains("no file in a folder vulkan/icd.d"),
            "{message}"
        );
        std::fs::write(dir.path().join("icd.d/card.json"), "{}").unwrap();
        assert_eq!(refusal(&system, "vulkan"), None);
        system.cache = Some(b"x\0/opt/lib/libvulkan.so.12\0".to_vec());
        assert!(refusal(&system, "vulkan").is_some());
    }

    #[test]
    fn who_keeps_no_cache_or_names_drivers_is_believed() {
        assert_eq!(refusal(&System::default(), "wgpu,cuda,vulkan"), None);
        let dir = tempfile::tempdir().unwrap();
        let mut system = machine(dir.path());
        system.cache = Some(b"\0/lib/libvulkan.so.1\0".to_vec());
        system.names_drivers = true;
        assert_eq!(refusal(&system, "wgpu"), None);
    }

    #[test]
    fn lists_of_folders_have_no_empty_ones() {
        let list = std::env::join_paths(["a", "", "b"]).unwrap();
        let expected = ["a", "b"].map(|folder| Path::new(folder).join("icd.d"));
        assert_eq!(folders(&list, "icd.d"), expected);
        assert!(folders(OsStr::new(""), "icd.d").is_empty());
    }
}
