//! Errors of a recipe that is a table of another one, as the recipe of the images of a comparison is: they name keys as the
//! user writes them.

use crate::error::{PipelineError, Result};
use crate::recipe::Recipe;

/// A message with keys as they are called in the whole recipe: in the table `image.` (with its dot), `sample.steps` becomes
/// `image.sample.steps`. `R` is the recipe in the table, or the whole one.
pub fn keys_within<R: Recipe>(message: &str, table: &str) -> String {
    let keys = R::keys();
    let is_whole = keys.iter().any(|(key, _)| key.starts_with(table));
    let is_key = |word: &str| {
        let mut name = word.to_owned();
        if is_whole {
            name.insert_str(0, table);
        }
        let is_at = |key: &str| {
            let rest = key.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        word.contains('.') && keys.iter().any(|(key, _)| is_at(key))
    };
    let mut told = String::with_capacity(message.len());
    for word in message.split_inclusive(|c: char| !is_of_word(c)) {
        // A full stop may end the sentence.
        if is_key(word.trim_end_matches(|c: char| !is_of_word(c) || c == '.')) {
            told += table;
        }
        told += word;
    }
    told
}

/// Whether a character may stand in a key, or in a path, which is none.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || "_-./".contains(c)
}

/// The outcome of a check of the recipe `R` that is the table `table` of another one, with [`keys_within`] in its error.
///
/// # Errors
/// If the check failed.
pub fn checked_within<R: Recipe, T>(table: &str, checked: Result<T>) -> Result<T> {
    checked.map_err(|error| {
        let message = error.to_string();
        match message.strip_prefix("recipe: ") {
            Some(reason) => PipelineError::config(keys_within::<R>(reason, table)),
            None => error,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ImageRecipe;

    #[test]
    fn keys_are_named_as_in_the_whole_recipe() {
        for (message, expected) in [
            (
                "sample.steps must be below lm.num_train_timesteps.",
                "image.sample.steps must be below image.lm.num_train_timesteps.",
            ),
            (
                "(data.max_broken); `lm.width`",
                "(image.data.max_broken); `image.lm.width`",
            ),
            ("codec.vit is a table", "image.codec.vit is a table"),
            (
                "a.png: too large; data.max_picture_mb (of `data check`: --max-picture-mb) allows more",
                "a.png: too large; image.data.max_picture_mb (of `data check`: --max-picture-mb) allows more",
            ),
            (
                "../a.png; data.outside=true (of `data check`: --outside) allows that",
                "../a.png; image.data.outside=true (of `data check`: --outside) allows that",
            ),
            // Once is enough, and what is no key stays.
            ("lower image.lm.width", "lower image.lm.width"),
            (
                "runs/lm.width/data.txt: `--steps` 1.5",
                "runs/lm.width/data.txt: `--steps` 1.5",
            ),
            ("lm.widt, data", "lm.widt, data"),
        ] {
            assert_eq!(keys_within::<ImageRecipe>(message, "image."), expected);
            assert_eq!(keys_within::<ImageRecipe>(message, ""), message);
        }
        let wrong = Err::<(), _>(PipelineError::config("lm.from: none"));
        let told = checked_within::<ImageRecipe, _>("image.", wrong).unwrap_err();
        assert_eq!(told.to_string(), "recipe: image.lm.from: none");
    }
}
