//! Decodes every sample of a listing once, on all threads.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use latentlm_media::decode_whole;

use crate::error::DataError;
use crate::folder::{Entry, Source};
use crate::options::ReadOptions;
use crate::read_count::ReadCount;
use crate::sheet::Sheets;
use crate::stop::{Stop, check_stop};

/// Width and height in pixels, or why a sample can't be decoded.
pub(crate) type Size = Result<(u32, u32), DataError>;

/// Decodes every sample. Returns their sizes in the order of the entries.
///
/// # Errors
/// [`DataError::Stopped`] if a stop came.
pub(crate) fn verify(
    entries: &[Entry],
    sheets: &Sheets,
    options: &ReadOptions,
) -> Result<Vec<Size>, DataError> {
    on_all_threads(entries, |entry| size(entry, sheets, options))
}

/// Results of `work` for every item, in their order. Items are counted ([`ReadCount`]).
///
/// # Errors
/// [`DataError::Stopped`] if a stop came.
pub(crate) fn on_all_threads<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Result<Vec<R>, DataError> {
    let stop = Stop::current();
    let has_stopped = || stop.as_ref().is_some_and(Stop::came);
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let next = AtomicUsize::new(0);
    let count = ReadCount::begin(items.len());
    let found = Mutex::new(Vec::with_capacity(items.len()));
    let share = || {
        let mut own = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index).filter(|_| !has_stopped()) else {
                break;
            };
            own.push((index, work(item)));
            count.add();
        }
        if let Ok(mut found) = found.lock() {
            found.extend(own);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(items.len()) {
            scope.spawn(share);
        }
        share();
    });
    check_stop()?;
    let mut found = found.into_inner().unwrap_or_default();
    found.sort_by_key(|&(index, _)| index);
    Ok(found.into_iter().map(|(_, result)| result).collect())
}

fn size(entry: &Entry, sheets: &Sheets, options: &ReadOptions) -> Result<(u32, u32), DataError> {
    let picture = match &entry.source {
        Source::File(path) => decode_whole(path, options.max_picture_bytes())?,
        Source::Cell { .. } => sheets.picture(&entry.source, options)?,
    };
    Ok((picture.width(), picture.height()))
}
