//! Arguments of `make-model`.

use std::fs;

use super::{complaint, parse};
use crate::Project;

#[test]
fn a_made_model_takes_a_new_folder() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let new = ["make-model", "7b", "--out", "new", "--transformers"];
    parse(&new).unwrap().check(&Project::at(dir)).unwrap();
    fs::write(dir.join("there"), "").unwrap();
    let there = ["make-model", "vibevoice-asr", "--out", "there"];
    let (usage, message) = complaint(dir, &there);
    assert!(
        !usage && message.starts_with("cannot create there: "),
        "{message}"
    );
    let other = ["make-model", "realtime", "--out", "new", "--transformers"];
    let (usage, message) = complaint(dir, &other);
    assert!(usage && message.contains("leave it out"), "{message}");
}
