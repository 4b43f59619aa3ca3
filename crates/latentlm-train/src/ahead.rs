//! Batches that are read or made ahead of their use.

use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};

use latentlm_data::DataError;
use latentlm_pipelines::{Recipe, RunFolder, StageConfig};

use crate::error::Result;

/// Batches made ahead of their use.
const AHEAD: usize = 2;

/// The batches of a stage in their order, made by a thread of their own.
pub struct Ahead<T> {
    pub(crate) receiver: Receiver<Result<T, DataError>>,
}

impl<T: Send + 'static> Ahead<T> {
    /// Starts the thread. It ends with the last round, or when this is dropped.
    pub fn start(
        rounds: Range<u64>,
        mut make: impl FnMut(u64) -> Result<T, DataError> + Send + 'static,
    ) -> Self {
        let (sender, receiver) = sync_channel(AHEAD);
        std::thread::spawn(move || {
            for round in rounds {
                if sender.send(make(round)).is_err() {
                    return;
                }
            }
        });
        Self { receiver }
    }

    /// The batch of the next round.
    ///
    /// # Errors
    /// If it can't be made, or there are no more rounds.
    pub fn next_batch<R: Recipe>(&self, run: &RunFolder<R>) -> Result<T> {
        let batch = self.receiver.recv();
        let batch = batch.map_err(|_| run.error("the thread that reads the data ended"))?;
        Ok(batch?)
    }
}

/// The rounds of a stage from the step `first` on.
pub fn rounds(stage: &StageConfig, first: u64) -> Range<u64> {
    let accumulation = stage.grad_accumulation as u64;
    first * accumulation..stage.steps * accumulation
}
