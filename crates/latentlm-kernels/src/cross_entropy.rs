//! Cross entropy of tokens.

use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Int, Tensor};

/// `-log softmax(logits)[answer]` of every row, in float32. The logarithms of all probabilities are
/// never stored.
///
/// # Shapes
/// - `logits`: `[N, V]`; `answers`: `[N]`, below `V`
/// - returns: `[N]`
///
/// # Panics
/// If an answer is no number below `V`, where the kernel runs; a GPU does not look.
pub fn cross_entropy(logits: Tensor<2>, answers: Tensor<1, Int>) -> Tensor<1> {
    let logits = logits.cast(DType::F32);
    #[cfg(feature = "cpu")]
    if crate::has_kernels(&logits) {
        return on_cpu(logits, answers);
    }
    composed(logits, answers)
}

/// The same of Burn's operations.
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
    let answers = answers.into_data().convert::<i64>();
    let answers: Vec<i64> = answers
        .try_into_vec()
        .expect("answers are read as whole numbers");
    assert_eq!(answers.len(), rows, "answers to {rows} rows of logits");
    let token = |answer: i64| match usize::try_from(answer) {
        Ok(token) if token < vocabulary => token,
        _ => panic!("answer {answer} in a vocabulary of {vocabulary}"),
    };
    let answers = answers.into_iter().map(token).collect();
    let out = Dispatch::kernel_cross_entropy(logits.into_dispatch(), answers);
    Tensor::from_dispatch(out)
}
