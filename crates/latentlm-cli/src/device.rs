//! Devices by the names that users type, from the facade.

pub use latentlm::{DeviceError, device, device_names as adapters, devices};
