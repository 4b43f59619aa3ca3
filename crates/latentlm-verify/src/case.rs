//! Reads the files of a reference case.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use burn::store::bridge::to_data;
use burn::store::{ModuleStore, SafetensorsStore};
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm::core::bounds::{check_header_of, check_values};
use serde::de::DeserializeOwned;

use crate::error::VerifyError;

/// Most values of a JSON file, which take many times the memory of their text.
const MOST_VALUES: usize = 2_500_000;

/// A case's folder, and the device for our side of the comparison.
pub(crate) struct Case {
    pub(crate) folder: PathBuf,
    pub(crate) device: Device,
}

impl Case {
    pub(crate) fn read(folder: &Path, device: &Device) -> Result<Self, VerifyError> {
        Ok(Self {
            folder: folder.to_owned(),
            device: device.clone(),
        })
    }

    /// Reads `config.json`.
    pub(crate) fn config<T: DeserializeOwned>(&self) -> Result<T, VerifyError> {
        self.json("config.json")
    }

    /// Reads a JSON file.
    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, VerifyError> {
        let text = self.text(name)?;
        let checked = check_values(text.as_bytes(), MOST_VALUES);
        checked.map_err(|error| self.wrong(name, error))?;
        serde_json::from_str(&text).map_err(|error| self.wrong(name, error))
    }

    /// Reads a text file.
    pub(crate) fn text(&self, name: &str) -> Result<String, VerifyError> {
        let path = self.folder.join(name);
        fs::read_to_string(&path).map_err(|source| VerifyError::Read { path, source })
    }

    /// What is wrong with a file.
    pub(crate) fn wrong(&self, name: &str, reason: impl Display) -> VerifyError {
        VerifyError::Case {
            path: self.folder.join(name),
            reason: reason.to_string(),
        }
    }

    /// Whether there is a file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.folder.join(name).is_file()
    }

    /// Opens `io.safetensors`.
    pub(crate) fn tensors(&self) -> Result<Tensors, VerifyError> {
        self.tensors_of("io.safetensors")
    }

    /// Opens a file of tensors.
    pub(crate) fn tensors_of(&self, name: &str) -> Result<Tensors, VerifyError> {
        let path = self.folder.join(name);
        let checked = check_header_of(&path);
        checked.map_err(|error| self.wrong(name, format!("its header {error}")))?;
        let store = SafetensorsStore::from_file(&path);
        Ok(Tensors {
            path,
            store,
            device: self.device.clone(),
        })
    }
}

/// The tensors of a file.
pub(crate) struct Tensors {
    path: PathBuf,
    store: SafetensorsStore,
    device: Device,
}

impl Tensors {
    fn wrong(&self, reason: String) -> VerifyError {
        VerifyError::Case {
            path: self.path.clone(),
            reason,
        }
    }

    fn data(&mut self, name: &str) -> Result<TensorData, VerifyError> {
        let found = self
            .store
            .get_tensor(name)
            .map_err(|error| VerifyError::Case {
                path: self.path.clone(),
                reason: error.to_string(),
            })?;
        let data = found.map(to_data);
        let data = data.ok_or_else(|| self.wrong(format!("has no tensor `{name}`")))?;
        data.map_err(|error| self.wrong(error.to_string()))
    }

    /// Whether the file has a tensor.
    pub(crate) fn has(&mut self, name: &str) -> bool {
        let found = self.store.get_tensor(name);
        found.is_ok_and(|found| found.is_some())
    }

    /// A tensor's data, checked to have `D` axes.
    fn ranked<const D: usize>(&mut self, name: &str) -> Result<TensorData, VerifyError> {
        let data = self.data(name)?;
        if data.shape().len() != D {
            let reason = format!("`{name}` is {:?}, which has not {D} axes", data.shape());
            return Err(self.wrong(reason));
        }
        Ok(data)
    }

    /// A tensor of floats.
    pub(crate) fn float<const D: usize>(&mut self, name: &str) -> Result<Tensor<D>, VerifyError> {
        let data = self.ranked::<D>(name)?.convert::<f32>();
        Ok(Tensor::from_data(data, &self.device))
    }

    /// A tensor of integers.
    pub(crate) fn int<const D: usize>(
        &mut self,
        name: &str,
    ) -> Result<Tensor<D, Int>, VerifyError> {
        let data = self.ranked::<D>(name)?.convert::<i64>();
        Ok(Tensor::from_data(data, &self.device))
    }

    /// A list of integers on the host.
    pub(crate) fn integers(&mut self, name: &str) -> Result<Vec<i64>, VerifyError> {
        let data = self.data(name)?.convert::<i64>();
        data.try_to_vec()
            .map_err(|error| self.wrong(format!("{error:?}")))
    }
}
