//! The device that a user names: the facade's.

pub use latentlm::{DeviceError, device, device_names as adapters, devices};
