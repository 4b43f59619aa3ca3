//! Ends of errors about what is not read: the key that allows it.

/// The end of an error about a file outside of its dataset's folder.
pub(crate) const ALLOWS_OUTSIDE: &str =
    "data.outside=true (of `data check`: --outside) allows that";

/// The end of an error about too much of something: the key that allows more. Keys of `data` are options of `data
/// check` too.
pub(crate) fn allows_more(key: &str) -> String {
    match key.strip_prefix("data.") {
        Some(name) => {
            let flag = name.replace('_', "-");
            format!("{key} (of `data check`: --{flag}) allows more")
        }
        None => format!("{key} of a recipe allows more"),
    }
}

/// [`allows_more`] with the smallest value that is enough.
pub(crate) fn allows(key: &str, needed: u64) -> String {
    format!("{}: {needed} at least", allows_more(key))
}
