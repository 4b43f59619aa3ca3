//! Distances between pictures and between sets of pictures, on the host in float64.
//!
//! Burn's own (feature `vision` of its training crate) bring a downloader and a PyTorch reader
//! into every build, and its Frechet distance is tied to Inception.

/// Mean and covariance of features.
#[derive(Debug, Clone)]
pub struct FeatureStats {
    mean: Vec<f64>,
    /// Row-major, `[D, D]`.
    covariance: Vec<f64>,
}

impl FeatureStats {
    /// Measures features, one row a sample.
    ///
    /// # Panics
    /// If there are fewer than two rows or they differ in length.
    pub fn measure(rows: &[Vec<f32>]) -> Self {
        assert!(rows.len() > 1, "a covariance needs two samples or more");
        let (count, dim) = (rows.len() as f64, rows[0].len());
        let mut mean = vec![0.0; dim];
        for row in rows {
            assert_eq!(row.len(), dim, "features of different lengths");
            for (m, v) in mean.iter_mut().zip(row) {
                *m += f64::from(*v) / count;
            }
        }
        let mut covariance = vec![0.0; dim * dim];
        for row in rows {
            let centred: Vec<f64> = row
                .iter()
                .zip(&mean)
                .map(|(v, m)| f64::from(*v) - m)
                .collect();
            for (i, a) in centred.iter().enumerate() {
                let line = &mut covariance[i * dim..(i + 1) * dim];
                for (slot, b) in line.iter_mut().zip(&centred) {
                    *slot += a * b / (count - 1.0);
                }
            }
        }
        Self { mean, covariance }
    }
}

/// The Frechet distance of two Gaussians: `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`.
///
/// # Panics
/// If the features differ in length.
pub fn frechet_distance(a: &FeatureStats, b: &FeatureStats) -> f64 {
    let dim = a.mean.len();
    assert_eq!(dim, b.mean.len(), "features of different lengths");
    let means: f64 = a
        .mean
        .iter()
        .zip(&b.mean)
        .map(|(x, y)| (x - y).powi(2))
        .sum();
    // The trace of (C1 C2)^(1/2) is that of (S C2 S)^(1/2) with S = C1^(1/2), which is symmetric.
    let root = square_root(&a.covariance, dim);
    let inner = product(&product(&root, &b.covariance, dim), &root, dim);
    let (values, _) = eigen(inner, dim);
    let cross: f64 = values.iter().map(|v| v.max(0.0).sqrt()).sum();
    means + trace(&a.covariance, dim) + trace(&b.covariance, dim) - 2.0 * cross
}

fn trace(matrix: &[f64], dim: usize) -> f64 {
    (0..dim).map(|i| matrix[i * dim + i]).sum()
}

fn product(a: &[f64], b: &[f64], dim: usize) -> Vec<f64> {
    let mut out = vec![0.0; dim * dim];
    for i in 0..dim {
        for k in 0..dim {
            let factor = a[i * dim + k];
            for j in 0..dim {
                out[i * dim + j] += factor * b[k * dim + j];
            }
        }
    }
    out
}

/// Root of a symmetric matrix without negative eigenvalues.
fn square_root(matrix: &[f64], dim: usize) -> Vec<f64> {
    let (values, vectors) = eigen(matrix.to_vec(), dim);
    let mut out = vec![0.0; dim * dim];
    for (k, value) in values.iter().enumerate() {
        let root = value.max(0.0).sqrt();
        for i in 0..dim {
            for j in 0..dim {
                out[i * dim + j] += root * vectors[i * dim + k] * vectors[j * dim + k];
            }
        }
    }
    out
}

/// Eigenvalues and eigenvectors (columns) of a symmetric matrix, by cyclic Jacobi rotations.
fn eigen(mut a: Vec<f64>, dim: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; dim * dim];
    for i in 0..dim {
        vectors[i * dim + i] = 1.0;
    }
    for _sweep in 0..50 {
        let mut off = 0.0;
        for p in 0..dim {
            for q in p + 1..dim {
                off += a[p * dim + q].powi(2);
                rotate(&mut a, &mut vectors, dim, p, q);
            }
        }
        if off < 1e-22 * (1.0 + trace(&a, dim).powi(2)) {
            break;
        }
    }
    ((0..dim).map(|i| a[i * dim + i]).collect(), vectors)
}

/// The rotation that makes element `(p, q)` zero.
fn rotate(a: &mut [f64], vectors: &mut [f64], dim: usize, p: usize, q: usize) {
    let element = a[p * dim + q];
    if element == 0.0 {
        return;
    }
    let theta = (a[q * dim + q] - a[p * dim + p]) / (2.0 * element);
    let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let t = if theta == 0.0 { 1.0 } else { t };
    let c = 1.0 / t.hypot(1.0);
    let s = t * c;
    for k in 0..dim {
        let (x, y) = (a[k * dim + p], a[k * dim + q]);
        a[k * dim + p] = c * x - s * y;
        a[k * dim + q] = s * x + c * y;
    }
    for k in 0..dim {
        let (x, y) = (a[p * dim + k], a[q * dim + k]);
        a[p * dim + k] = c * x - s * y;
        a[q * dim + k] = s * x + c * y;
        let (x, y) = (vectors[k * dim + p], vectors[k * dim + q]);
        vectors[k * dim + p] = c * x - s * y;
        vectors[k * dim + q] = s * x + c * y;
    }
}

/// Peak signal-to-noise ratio in decibels of pixels that span `range`.
pub fn psnr(a: &[f32], b: &[f32], range: f64) -> f64 {
    let square = |(x, y): (&f32, &f32)| f64::from(x - y).powi(2);
    let error = a.iter().zip(b).map(square).sum::<f64>() / a.len() as f64;
    10.0 * (range * range / error).log10()
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
        FeatureStats {
            mean: mean.into(),
            covariance: covariance.into(),
        }
    }

    #[test]
    fn eigenvectors_rebuild_the_matrix() {
        let matrix = vec![4.0, 1.0, -2.0, 1.0, 3.0, 0.5, -2.0, 0.5, 5.0];
        let (values, vectors) = eigen(matrix.clone(), 3);
        for i in 0..3 {
            for j in 0..3 {
                let rebuilt: f64 = (0..3)
                    .map(|k| values[k] * vectors[i * 3 + k] * vectors[j * 3 + k])
                    .sum();
                assert!((rebuilt - matrix[i * 3 + j]).abs() < 1e-9);
            }
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

    #[test]
    fn covariance_by_hand() {
        let got = FeatureStats::measure(&[vec![1.0, 2.0], vec![3.0, 6.0]]);
        assert_eq!(got.mean, [2.0, 4.0]);
        assert_eq!(got.covariance, [2.0, 4.0, 4.0, 8.0]);
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
