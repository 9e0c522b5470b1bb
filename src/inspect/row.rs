//! The figures of one row.

/// The lanes of its sums: so many that the compiler uses vectors, and always as many, so that
/// every CPU finds the same.
const LANES: usize = 8;

/// The size from which an `f32` or `f64` rounds to an infinite `f16`.
const BEYOND_F16: f64 = 65_520.0;

/// What a row is like.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Row {
    pub(super) nan: u64,
    pub(super) infinite: u64,
    /// Of a row of finite numbers, as all that follows.
    pub(super) norm: f64,
    pub(super) sum: f64,
    pub(super) squares: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// The least size that is not zero; infinite where all are zero.
    pub(super) smallest: f64,
    pub(super) zeros: u64,
    pub(super) beyond_f16: u64,
}

impl Row {
    /// The figures of a row's elements.
    pub(super) fn of<T: Copy + Into<f64>>(row: &[T]) -> Self {
        let mut lanes = [Lane::default(); LANES];
        let mut chunks = row.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                lane.add((*value).into());
            }
        }
        for (lane, value) in lanes.iter_mut().zip(chunks.remainder()) {
            lane.add((*value).into());
        }
        let mut all = Lane::default();
        for lane in lanes {
            all.join(lane);
        }
        let mut found = Row {
            norm: all.squares.sqrt(),
            sum: all.sum,
            squares: all.squares,
            min: all.min,
            max: all.max,
            smallest: all.smallest,
            zeros: all.zeros,
            ..Row::default()
        };
        let size = all.max.max(-all.min);
        if !all.squares.is_finite() {
            let count = |is: fn(f64) -> bool| row.iter().filter(|it| is((**it).into())).count();
            found.nan = count(f64::is_nan) as u64;
            found.infinite = count(f64::is_infinite) as u64;
            let scaled = row.iter().map(|value| ((*value).into() / size).powi(2));
            found.norm = size * scaled.sum::<f64>().sqrt();
        }
        if size >= BEYOND_F16 {
            let beyond = |value: &&T| (**value).into().abs() >= BEYOND_F16;
            found.beyond_f16 = row.iter().filter(beyond).count() as u64;
        }
        found
    }

    pub(super) fn is_finite(&self) -> bool {
        self.nan + self.infinite == 0
    }

    pub(super) fn is_zero(&self) -> bool {
        self.smallest == f64::INFINITY
    }
}

#[derive(Clone, Copy)]
struct Lane {
    sum: f64,
    squares: f64,
    min: f64,
    max: f64,
    smallest: f64,
    zeros: u64,
}

impl Default for Lane {
    fn default() -> Self {
        Lane {
            sum: 0.0,
            squares: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            smallest: f64::INFINITY,
            zeros: 0,
        }
    }
}

impl Lane {
    #[inline]
    fn add(&mut self, value: f64) {
        let size = value.abs();
        let nonzero = if size == 0.0 { f64::INFINITY } else { size };
        self.sum += value;
        self.squares += value * value;
        self.min = if value < self.min { value } else { self.min };
        self.max = if value > self.max { value } else { self.max };
        self.smallest = if nonzero < self.smallest { nonzero } else { self.smallest };
        self.zeros += u64::from(size == 0.0);
    }

    fn join(&mut self, other: Self) {
        self.sum += other.sum;
        self.squares += other.squares;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.smallest = self.smallest.min(other.smallest);
        self.zeros += other.zeros;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_what_its_elements_say() {
        let row: Vec<f32> = (0..37u8).map(|at| f32::from(at % 11) - 4.0).collect();
        let found = Row::of(&row);
        let wide = || row.iter().map(|value| f64::from(*value));
        assert_eq!(found.sum, wide().sum::<f64>());
        assert_eq!(found.squares, wide().map(|value| value * value).sum::<f64>());
        assert_eq!(found.norm, found.squares.sqrt());
        assert_eq!((found.min, found.max, found.smallest), (-4.0, 6.0, 1.0));
        assert_eq!(found.zeros, 3);
        assert!(found.is_finite() && !found.is_zero());
    }

    #[test]
    fn odd_rows_are_seen_for_what_they_are() {
        let zeros = Row::of(&[0f32, -0.0, 0.0]);
        assert!(zeros.is_zero() && zeros.norm == 0.0 && zeros.zeros == 3);
        let odd = Row::of(&[1f32, f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        assert_eq!((odd.nan, odd.infinite), (1, 2));
        assert!(!odd.is_finite());
        assert!(!Row::of(&[f32::NAN]).is_finite());
        // Squares that no f64 holds: still a length.
        let huge = Row::of(&[3e200f64, -4e200]);
        assert!(huge.is_finite() && (huge.norm / 5e200 - 1.0).abs() < 1e-12);
        assert_eq!(huge.beyond_f16, 2);
        assert_eq!(Row::of(&[65_519.0f32, -65_520.0, 1.0]).beyond_f16, 1);
        assert!(half::f16::from_f32(65_519.0).is_finite());
        assert!(half::f16::from_f32(65_520.0).is_infinite());
        assert!(Row::of::<f32>(&[]).is_zero());
    }
}
