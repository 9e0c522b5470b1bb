//! The eigenvalues of a symmetric matrix.
//!
//! Householder's reflections make it tridiagonal (Martin, Reinsch and Wilkinson, "Householder's
//! tridiagonalization of a symmetric matrix", 1968), and QL iterations with implicit shifts
//! diagonal (Dubrulle, Martin and Wilkinson, "The implicit QL algorithm", 1968).

/// The iterations for one eigenvalue after which it is taken as it is; two are usual.
const MOST: usize = 60;

/// The eigenvalues of a matrix of `n` rows, of which the lower triangle is read and the whole is
/// overwritten; the largest first.
pub(super) fn eigenvalues(matrix: &mut [f64], n: usize) -> Vec<f64> {
    let (mut diagonal, mut beside) = tridiagonal(matrix, n);
    iterate(&mut diagonal, &mut beside);
    diagonal.sort_unstable_by(|a, b| b.total_cmp(a));
    diagonal
}

/// The diagonal of a tridiagonal matrix with the same eigenvalues, and what lies beside it.
fn tridiagonal(matrix: &mut [f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut beside = vec![0.0; n];
    let mut reflected = vec![0.0; n];
    for i in (1..n).rev() {
        let (above, row) = matrix.split_at_mut(i * n);
        let vector = &mut row[..i];
        let scale: f64 = vector[..i - 1].iter().map(|value| value.abs()).sum();
        if scale == 0.0 {
            beside[i - 1] = vector[i - 1];
            continue;
        }
        let scale = scale + vector[i - 1].abs();
        for value in &mut *vector {
            *value /= scale;
        }
        let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
        let last = vector[i - 1];
        let to = -length.copysign(last);
        beside[i - 1] = scale * to;
        let half = length * length - last * to;
        vector[i - 1] = last - to;
        // The matrix times the vector, by rows: each value of the triangle counts twice.
        let reflected = &mut reflected[..i];
        reflected.fill(0.0);
        for (j, row) in above.chunks_exact(n).enumerate() {
            let own = vector[j];
            let mut sum = row[j] * own;
            for ((value, other), out) in row[..j].iter().zip(&*vector).zip(reflected.iter_mut()) {
                sum += value * other;
                *out += value * own;
            }
            reflected[j] += sum;
        }
        let mut along = 0.0;
        for (value, own) in reflected.iter_mut().zip(&*vector) {
            *value /= half;
            along += *value * own;
        }
        let along = along / (2.0 * half);
        for (value, own) in reflected.iter_mut().zip(&*vector) {
            *value -= along * own;
        }
        for (j, row) in above.chunks_exact_mut(n).enumerate() {
            let (own, other) = (vector[j], reflected[j]);
            for ((value, a), b) in row[..=j].iter_mut().zip(&*vector).zip(&*reflected) {
                *value -= own * b + other * a;
            }
        }
    }
    ((0..n).map(|i| matrix[i * n + i]).collect(), beside)
}

#[expect(clippy::many_single_char_names, reason = "as the sources name them")]
fn iterate(diagonal: &mut [f64], beside: &mut [f64]) {
    let n = diagonal.len();
    for first in 0..n {
        for _ in 0..MOST {
            let small = |at: usize| {
                beside[at].abs() <= f64::EPSILON * (diagonal[at].abs() + diagonal[at + 1].abs())
            };
            let last = (first..n.saturating_sub(1)).find(|at| small(*at)).unwrap_or(n - 1);
            if last == first {
                break;
            }
            let mut g = (diagonal[first + 1] - diagonal[first]) / (2.0 * beside[first]);
            let r = g.hypot(1.0);
            g = diagonal[last] - diagonal[first] + beside[first] / (g + r.copysign(g));
            let (mut sine, mut cosine, mut shift) = (1.0, 1.0, 0.0);
            let mut ended = false;
            for i in (first..last).rev() {
                let f = sine * beside[i];
                let b = cosine * beside[i];
                let r = f.hypot(g);
                beside[i + 1] = r;
                if r == 0.0 {
                    diagonal[i + 1] -= shift;
                    beside[last] = 0.0;
                    ended = true;
                    break;
                }
                sine = f / r;
                cosine = g / r;
                g = diagonal[i + 1] - shift;
                let r = (diagonal[i] - g) * sine + 2.0 * cosine * b;
                shift = sine * r;
                diagonal[i + 1] = g + shift;
                g = cosine * r - b;
            }
            if !ended {
                diagonal[first] -= shift;
                beside[first] = g;
                beside[last] = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::needless_for_each
    )]

    use super::*;

    #[test]
    fn known_spectra_are_found() {
        assert!(eigenvalues(&mut [], 0).is_empty());
        assert_eq!(eigenvalues(&mut [-3.0], 1), [-3.0]);
        let two = eigenvalues(&mut [2.0, 9.0, 1.0, 2.0], 2);
        assert!((two[0] - 3.0).abs() < 1e-12 && (two[1] - 1.0).abs() < 1e-12, "{two:?}");
        // A string with fixed ends: 2 - 2 cos(pi k / (n + 1)).
        let n = 40;
        let mut string = vec![0.0; n * n];
        for i in 0..n {
            string[i * n + i] = 2.0;
            if i > 0 {
                string[i * n + i - 1] = -1.0;
            }
        }
        let found = eigenvalues(&mut string, n);
        for (k, value) in (1..=n).rev().zip(&found) {
            let expected = 2.0 - 2.0 * (std::f64::consts::PI * k as f64 / (n as f64 + 1.0)).cos();
            assert!((value - expected).abs() < 1e-12, "{k}: {value}, {expected}");
        }
        assert_eq!(eigenvalues(&mut [0.0; 25], 5), [0.0; 5]);
    }

    #[test]
    fn full_matrices_keep_trace_and_squares_and_are_rotations_of_their_spectrum() {
        // A diagonal, seen through a reflection: I - 2 v v' has the inverse of itself.
        let n = 60;
        let v: Vec<f64> = (0..n).map(|i| ((i * 37 % 11) as f64 - 5.0) / 10.0).collect();
        let length = v.iter().map(|value| value * value).sum::<f64>();
        let reflect = |i: usize, j: usize| f64::from(i == j) - 2.0 * v[i] * v[j] / length;
        let spectrum: Vec<f64> = (0..n).map(|i| 1000.0 * 0.8f64.powi(i as i32)).collect();
        let mut matrix = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..n {
                matrix[i * n + j] =
                    (0..n).map(|k| reflect(i, k) * spectrum[k] * reflect(k, j)).sum();
            }
        }
        let found = eigenvalues(&mut matrix, n);
        for (value, expected) in found.iter().zip(&spectrum) {
            assert!((value - expected).abs() < 1e-9, "{value}, {expected}");
        }
    }
}
