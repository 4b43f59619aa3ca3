//! Why a recording can't be transcribed.

/// A recording that can't be transcribed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AsrError {
    /// A recording that leaves no room for an answer.
    #[error(
        "the recording lasts {seconds:.2} s; the model reads {max_positions} positions, which is {most_seconds:.2} s \
         beside the question: cut it into several"
    )]
    TooLong {
        /// Its length.
        seconds: f64,
        /// The longest that fits with the same question.
        most_seconds: f64,
        /// The limit on positions.
        max_positions: usize,
    },
    /// A token that neither the model's folder nor the tokenizer has.
    #[error("the tokenizer is not the model's: it has no token `{name}`")]
    NoToken {
        /// Its name.
        name: String,
    },
}
