//! Cross entropy of target tokens.

use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Int, Tensor};

/// `-log softmax(logits)[answer]` of each row, in float32, where `answer` is the row's target token. The
/// kernel never stores the log-probabilities.
///
/// # Shapes
/// - `logits`: `[N, V]`; `answers`: `[N]`, from 0 to `V - 1`
/// - returns: `[N]`
///
/// # Panics
/// If the kernel runs and an answer is not a token below `V`. Other devices do not check.
pub fn cross_entropy(logits: Tensor<2>, answers: Tensor<1, Int>) -> Tensor<1> {
    let logits = logits.cast(DType::F32);
    #[cfg(feature = "cpu")]
    if crate::support::has_kernels(&logits) {
        return on_cpu(logits, answers);
    }
    composed(logits, answers)
}

/// This operation as a composition of Burn's operations.
pub(crate) fn composed(logits: Tensor<2>, answers: Tensor<1, Int>) -> Tensor<1> {
    let [rows, _] = logits.dims();
    log_softmax(logits, 1)
        .gather(1, answers.reshape([rows, 1]))
        .neg()
        .reshape([rows])
}

#[cfg(feature = "cpu")]
fn on_cpu(logits: Tensor<2>, answers: Tensor<1, Int>) -> Tensor<1> {
    use crate::cpu::CpuKernels;
    use burn::backend::Dispatch;

    let [rows, vocabulary] = logits.dims();
    let answers: Vec<i64> = answers
        .into_data()
        .convert::<i64>()
        .try_into_vec()
        .expect("answers are read as whole numbers");
    assert_eq!(answers.len(), rows, "answers to {rows} rows of logits");
    let mut tokens = Vec::with_capacity(rows);
    for answer in answers {
        match usize::try_from(answer) {
            Ok(token) if token < vocabulary => tokens.push(token),
            _ => panic!("answer {answer} in a vocabulary of {vocabulary}"),
        }
    }
    let out = Dispatch::kernel_cross_entropy(logits.into_dispatch(), tokens);
    Tensor::from_dispatch(out)
}
