//! Distances between pictures and between sets of pictures, on the host in float64.
//!
//! Burn's own measures (feature `vision` of its training crate) bring a downloader and a PyTorch reader into
//! every build, and its Frechet distance is tied to Inception.

use nalgebra::{DMatrix, DVector};

/// Mean and covariance of features.
#[derive(Debug, Clone)]
pub struct FeatureStats {
    mean: DVector<f64>,
    /// `[D, D]`.
    covariance: DMatrix<f64>,
}

impl FeatureStats {
    /// Measures features, one row per sample.
    ///
    /// # Panics
    /// If there are fewer than two rows or they differ in length.
    pub fn measure(rows: &[Vec<f32>]) -> Self {
        assert!(rows.len() > 1, "a covariance needs two samples or more");
        let (count, dim) = (rows.len() as f64, rows[0].len());
        let mut mean = DVector::<f64>::zeros(dim);
        for row in rows {
            assert_eq!(row.len(), dim, "features of different lengths");
            for (m, v) in mean.iter_mut().zip(row) {
                *m += f64::from(*v) / count;
            }
        }
        let centred = DMatrix::from_fn(dim, rows.len(), |feature, sample| {
            f64::from(rows[sample][feature]) - mean[feature]
        });
        let covariance = &centred * centred.transpose() / (count - 1.0);
        Self { mean, covariance }
    }
}

/// The Frechet distance of two Gaussians: `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`. NaN if a feature is
/// NaN.
///
/// # Panics
/// If the features differ in length.
pub fn frechet_distance(a: &FeatureStats, b: &FeatureStats) -> f64 {
    assert_eq!(a.mean.len(), b.mean.len(), "features of different lengths");
    let means = (&a.mean - &b.mean).norm_squared();
    let apart = means + a.covariance.trace() + b.covariance.trace();
    if !apart.is_finite() {
        return f64::NAN;
    }
    // The trace of (C1 C2)^(1/2) is the sum of the roots of C1 C2's eigenvalues. With C1 = F Ft and
    // C2 = G Gt these are the squares of the singular values of Ft G, and some zeros.
    let between = factor(&a.covariance).transpose() * factor(&b.covariance);
    if between.is_empty() {
        return apart;
    }
    let squares = if between.nrows() < between.ncols() {
        &between * between.transpose()
    } else {
        between.transpose() * &between
    };
    let values = squares.symmetric_eigenvalues();
    let cross: f64 = values.iter().map(|value| value.max(0.0).sqrt()).sum();
    apart - 2.0 * cross
}

/// A matrix `F` for which `F Ft` is a covariance, with as many columns as the rank of the covariance. It is
/// Cholesky's decomposition, which takes the feature with the largest remaining variance first. Fewer samples
/// than features make a covariance singular, and the ordinary decomposition would fail.
fn factor(covariance: &DMatrix<f64>) -> DMatrix<f64> {
    let size = covariance.nrows();
    let mut left = covariance.diagonal();
    let tolerance = size as f64 * f64::EPSILON * left.max();
    let mut factor = DMatrix::<f64>::zeros(size, size);
    for rank in 0..size {
        let (pivot, variance) = left.argmax();
        if variance <= tolerance {
            return factor.columns(0, rank).into_owned();
        }
        let done = factor.columns(0, rank);
        let mut column = covariance.column(pivot) - done * done.row(pivot).transpose();
        column /= variance.sqrt();
        left -= column.component_mul(&column);
        left[pivot] = 0.0;
        factor.set_column(rank, &column);
    }
    factor
}

/// A line that says why a Frechet distance is doubtful: with no more samples than features, a covariance is singular.
/// `None` if it is not doubtful. `sets` are numbers of samples with their names.
pub fn singular(sets: &[(usize, &str)], features: usize) -> Option<String> {
    let (samples, name) = sets.iter().min_by_key(|(samples, _)| *samples)?;
    (*samples <= features).then(|| {
        format!(
            "the Frechet distance is rough: {samples} {name} are not more than its {features} \
             features, so their covariance is singular; it takes at least {}",
            features + 1
        )
    })
}

/// Mean square difference of pixels.
pub fn mean_square(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2));
    squares.sum::<f64>() / a.len() as f64
}

/// Peak signal-to-noise ratio in decibels of pixels that span `range`.
pub fn psnr(a: &[f32], b: &[f32], range: f64) -> f64 {
    10.0 * (range * range / mean_square(a, b)).log10()
}

const SSIM_RADIUS: usize = 5;
const SSIM_SIGMA: f64 = 1.5;

/// Structural similarity of two planes of `width` columns whose pixels span `range` (Wang et al.
/// 2004): Gaussian window of 11 pixels, the mean over positions where it fits.
pub fn ssim(a: &[f32], b: &[f32], width: usize, range: f64) -> f64 {
    let height = a.len() / width;
    let side = 2 * SSIM_RADIUS + 1;
    if height < side || width < side {
        return f64::NAN;
    }
    let weights = window();
    let (c1, c2) = ((0.01 * range).powi(2), (0.03 * range).powi(2));
    let mut sum = 0.0;
    for top in 0..=height - side {
        for left in 0..=width - side {
            let (mut ma, mut mb, mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0, 0.0, 0.0);
            for y in 0..side {
                let row = (top + y) * width + left;
                for x in 0..side {
                    let w = weights[y] * weights[x];
                    let (p, q) = (f64::from(a[row + x]), f64::from(b[row + x]));
                    ma += w * p;
                    mb += w * q;
                    aa += w * p * p;
                    bb += w * q * q;
                    ab += w * p * q;
                }
            }
            let (va, vb, cov) = (aa - ma * ma, bb - mb * mb, ab - ma * mb);
            sum += (2.0 * ma * mb + c1) * (2.0 * cov + c2)
                / ((ma * ma + mb * mb + c1) * (va + vb + c2));
        }
    }
    sum / ((height - side + 1) * (width - side + 1)) as f64
}

fn window() -> Vec<f64> {
    let side = 2 * SSIM_RADIUS + 1;
    let raw = (0..side).map(|i| {
        let distance = i as f64 - SSIM_RADIUS as f64;
        (-distance * distance / (2.0 * SSIM_SIGMA * SSIM_SIGMA)).exp()
    });
    let total: f64 = raw.clone().sum();
    raw.map(|w| w / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(mean: &[f64], covariance: &[f64]) -> FeatureStats {
        let dim = mean.len();
        FeatureStats {
            mean: DVector::from_row_slice(mean),
            covariance: DMatrix::from_row_slice(dim, dim, covariance),
        }
    }

    #[test]
    fn a_factor_rebuilds_its_covariance() {
        let whole = [4.0, 1.0, -2.0, 1.0, 3.0, 0.5, -2.0, 0.5, 5.0];
        // The third feature is the sum of the others: rank 2.
        let singular = [2.0, 1.0, 3.0, 1.0, 5.0, 6.0, 3.0, 6.0, 9.0];
        for (matrix, rank) in [(whole, 3), (singular, 2), ([0.0; 9], 0)] {
            let matrix = DMatrix::from_row_slice(3, 3, &matrix);
            let factor = factor(&matrix);
            assert_eq!(factor.ncols(), rank);
            let error = (&factor * factor.transpose() - matrix).amax();
            assert!(error < 1e-12, "rank {rank}: {error}");
        }
    }

    /// For diagonal covariances the distance is `|m1-m2|^2 + sum (s1 - s2)^2`.
    #[test]
    fn frechet_distance_in_closed_form() {
        let a = stats(&[1.0, 2.0], &[4.0, 0.0, 0.0, 9.0]);
        let b = stats(&[1.5, 0.0], &[1.0, 0.0, 0.0, 16.0]);
        assert!((frechet_distance(&a, &b) - (0.25 + 4.0 + 1.0 + 1.0)).abs() < 1e-9);
        let c = stats(&[0.0, 0.0], &[2.0, 1.2, 1.2, 3.0]);
        assert!(frechet_distance(&c, &c).abs() < 1e-9);
    }

    /// Covariances with the same eigenvectors, (1, 1) and (1, -1), commute: the distance is the sum of
    /// `(s1 - s2)^2` over the roots of their eigenvalues, here 9 and 1 against 4 and 16.
    #[test]
    fn commuting_covariances_in_closed_form() {
        let a = stats(&[0.0, 0.0], &[5.0, 4.0, 4.0, 5.0]);
        let b = stats(&[0.0, 0.0], &[10.0, -6.0, -6.0, 10.0]);
        assert!((frechet_distance(&a, &b) - (1.0 + 9.0)).abs() < 1e-9);
    }

    /// Where the second feature says nothing, the first decides; where no feature does, the means.
    #[test]
    fn singular_covariances_in_closed_form() {
        let a = stats(&[0.0, 0.0], &[4.0, 0.0, 0.0, 0.0]);
        let b = stats(&[1.0, 0.0], &[9.0, 0.0, 0.0, 25.0]);
        let nothing = stats(&[0.0, 3.0], &[0.0; 4]);
        for (a, b, expected) in [(&a, &b, 1.0 + 1.0 + 25.0), (&nothing, &a, 9.0 + 4.0)] {
            for got in [frechet_distance(a, b), frechet_distance(b, a)] {
                assert!((got - expected).abs() < 1e-9, "{got}, not {expected}");
            }
        }
    }

    #[test]
    fn no_number_stays_none() {
        let a = FeatureStats::measure(&[vec![1.0, 2.0], vec![3.0, f32::NAN]]);
        let b = FeatureStats::measure(&[vec![1.0, 2.0], vec![3.0, 6.0]]);
        assert!(frechet_distance(&a, &b).is_nan());
        assert!(frechet_distance(&b, &a).is_nan());
    }

    /// Features, each like its neighbour, of one to eight times a spread.
    fn features(seed: u64, count: usize, dim: usize) -> Vec<Vec<f32>> {
        let mut state = seed;
        let mut number = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u32 << 24) as f32
        };
        let row = |_| {
            let raw: Vec<f32> = (0..=dim).map(|_| number()).collect();
            let feature = |i: usize| (raw[i] + raw[i + 1]) * (1.0 + (i % 8) as f32);
            (0..dim).map(feature).collect()
        };
        (0..count).map(row).collect()
    }

    /// What Jacobi's rotations found, the algorithm of this file before it used a library. With fewer
    /// samples than features covariances are singular: their eigenvalues that should be 0 are of the size
    /// of rounding, and the roots of these, 1e-8 of the largest root each, add up.
    #[test]
    fn distances_are_those_of_another_algorithm() {
        for (samples, others, expected, bound) in [
            (600, 600, 127.006_765_249_0, 1e-9),
            (100, 80, 769.532_607, 1e-6),
            (600, 80, 646.844_90, 1e-6),
        ] {
            let a = FeatureStats::measure(&features(1, samples, 256));
            let b = FeatureStats::measure(&features(2, others, 256));
            for got in [frechet_distance(&a, &b), frechet_distance(&b, &a)] {
                let error = (got - expected).abs() / expected;
                assert!(error < bound, "{samples}, {others}: {got}, not {expected}");
            }
        }
    }

    #[test]
    fn too_few_samples_are_named() {
        let message = |drawn, held_out| {
            singular(
                &[(drawn, "drawn pictures"), (held_out, "held-out ones")],
                64,
            )
        };
        assert_eq!(message(65, 100), None);
        let few = message(64, 100).unwrap();
        assert!(
            few.contains("64 drawn pictures") && few.ends_with("at least 65"),
            "{few}"
        );
        assert!(message(500, 3).unwrap().contains("3 held-out ones"));
    }

    #[test]
    fn covariance_by_hand() {
        let got = FeatureStats::measure(&[vec![1.0, 2.0], vec![3.0, 6.0]]);
        assert_eq!(got.mean.as_slice(), [2.0, 4.0]);
        assert_eq!(got.covariance.as_slice(), [2.0, 4.0, 4.0, 8.0]);
    }

    #[test]
    fn psnr_of_a_known_error() {
        // An error of 0.2 in a range of 2: 20 log10(2 / 0.2) = 20 dB.
        let got = psnr(&[0.0, 0.5], &[0.2, 0.3], 2.0);
        assert!((got - 20.0).abs() < 1e-5, "{got}");
    }

    fn planes() -> (Vec<f32>, Vec<f32>) {
        let a = (0..16 * 16).map(|i| ((i * 37) % 101) as f32 / 100.0);
        let b =
            (0..16 * 16).map(|i| ((i * 37) % 101) as f32 / 125.0 + ((i * 13) % 7) as f32 / 40.0);
        (a.collect(), b.collect())
    }

    /// scikit-image 0.26 on the same planes, the mean over the valid region:
    /// `structural_similarity(a, b, data_range=1, gaussian_weights=True, sigma=1.5,
    /// use_sample_covariance=False)`.
    #[test]
    fn ssim_agrees_with_scikit_image() {
        let (a, b) = planes();
        assert!((ssim(&a, &a, 16, 1.0) - 1.0).abs() < 1e-9);
        let got = ssim(&a, &b, 16, 1.0);
        assert!((got - 0.956_891).abs() < 1e-5, "{got}");
    }
}
