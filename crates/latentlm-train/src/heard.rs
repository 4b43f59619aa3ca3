//! The latents of a batch: those that its documents have, and what the backbone reads in their place: with noise, or
//! with some hidden.

use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm::RandomStream;
use latentlm::sequence::Document;

/// The latents that documents use: the first ones of each sample. `lengths` is the number of latents of each sample.
///
/// # Shapes
/// - `drawn`: `[N, Z]`, for the sum `N` of `lengths`
/// - returns: `[N', Z]`, for the number `N'` of latents of the documents
pub fn first_latents(
    drawn: Tensor<2>,
    lengths: &[usize],
    documents: &[Document],
    modality: usize,
) -> Tensor<2> {
    let mut rows = Vec::new();
    let mut first = 0;
    for (length, document) in lengths.iter().zip(documents) {
        let kept = first + document.frames(modality) as i64;
        rows.extend(first..kept);
        first += *length as i64;
    }
    let count = rows.len();
    // Documents with all latents of their samples need no copy.
    if count == drawn.dims()[0] {
        return drawn;
    }
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &drawn.device());
    drawn.select(0, rows)
}

/// Latents with normal noise of a standard deviation. In sampling, the backbone reads drawn latents, which have
/// errors; a backbone that learned with noise trusts them less.
///
/// # Shapes
/// - `latents` and result: `[N, Z]`
pub fn noisy(latents: Tensor<2>, std: f64, random: &mut RandomStream) -> Tensor<2> {
    let noise = random.normal(latents.dims(), &latents.device());
    latents + noise.mul_scalar(std)
}

/// 1 for latents that the backbone sees, 0 for those that are hidden. What share is hidden is drawn for
/// every document, up to `most`. Without earlier latents a model has to learn from the text what comes
/// next; with them the next latent is nearly given, except where a word begins.
///
/// # Shapes
/// - returns: `[N, 1]`
pub fn seen(
    documents: &[Document],
    modality: usize,
    most: f64,
    random: &mut RandomStream,
    device: &Device,
) -> Tensor<2> {
    let mut values = Vec::new();
    for document in documents {
        let hidden = most * random.uniform();
        let frames = 0..document.frames(modality);
        values.extend(frames.map(|_| f32::from(!random.chance(hidden))));
    }
    let shape = [values.len(), 1];
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_pipelines::host_values;

    /// Documents of three samples with three latents each: all of the first, one of the second, no latents of a
    /// text, two of the last.
    #[test]
    fn documents_have_the_first_latents_of_their_samples() {
        let document = |frames| Document::of_speech(vec![1], frames, Vec::new());
        let documents = [document(3), document(1), Document::default(), document(2)];
        let numbers: Vec<f32> = (0..9).map(|own| own as f32).collect();
        let data = TensorData::new(numbers.clone(), [9, 1]);
        let drawn = Tensor::<2>::from_data(data, &Device::default());
        let kept = first_latents(drawn.clone(), &[3, 3, 0, 3], &documents, 0);
        assert_eq!(host_values(kept), [0.0, 1.0, 2.0, 3.0, 6.0, 7.0]);
        let whole = [document(3), document(3), document(3)];
        let all = first_latents(drawn, &[3, 3, 3], &whole, 0);
        assert_eq!(host_values(all), numbers);
    }

    #[test]
    fn noise_of_the_history_has_the_deviation_of_the_key() {
        let device = Device::default();
        let latents = RandomStream::new(1).normal([10_000, 4], &device);
        let heard = noisy(latents.clone(), 0.5, &mut RandomStream::new(2));
        let noise = host_values(heard - latents);
        let count = noise.len() as f64;
        let mean = noise.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let square = noise.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / count;
        // Four standard errors of 40,000 numbers.
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((square - 0.25).abs() < 0.007, "{square}");
    }

    #[test]
    fn hidden_latents_are_the_share_that_was_drawn() {
        let documents = vec![Document::of_speech(Vec::new(), 50, Vec::new()); 400];
        let seen = |most| {
            let random = &mut RandomStream::new(1);
            host_values(seen(&documents, 0, most, random, &Device::default()))
        };
        assert_eq!(seen(0.0), vec![1.0; 20_000]);
        let values = seen(0.6);
        assert!(values.iter().all(|&x| x == 0.0 || x == 1.0));
        // The mean of 400 shares, uniform in 0..0.6, deviates by 0.009.
        let mean = values.iter().sum::<f32>() / 20_000.0;
        assert!((mean - 0.7).abs() < 0.03, "{mean}");
    }
}
