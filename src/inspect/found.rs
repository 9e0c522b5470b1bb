//! What an inspection finds.

use crate::codec::Loss;
use crate::dtype::DType;

/// What [`Table::inspect`](crate::Table::inspect) found.
///
/// Counts are of all rows. What comes of a sample, where the table is large, says so.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Inspection {
    /// The rows that were looked at: all there are.
    pub rows: u64,
    /// The elements of the rows of finite numbers.
    pub values: Values,
    /// The lengths of the rows of finite numbers.
    pub norms: Norms,
    /// Rows of nothing but zeros.
    pub zero_rows: RowList,
    /// Rows that hold a NaN or an infinity. They take no part in other figures, but may be
    /// repeated.
    pub non_finite_rows: RowList,
    /// Elements that are NaN.
    pub nan: u64,
    /// Elements that are infinite.
    pub infinite: u64,
    /// Rows that are there several times, bit for bit. Rows of zeros are not counted among them.
    pub duplicates: Duplicates,
    /// How rows are spread over the space they lie in; `None` where fewer than two rows have a
    /// direction.
    pub directions: Option<Directions>,
    /// What other dtypes would cost.
    pub costs: Vec<Cost>,
    /// The rows that `costs` were found of.
    pub cost_rows: u64,
    /// Tokens beside rows; `None` for a table without tokens.
    pub tokens: Option<Tokens>,
}

/// The elements of a table. All zero where there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Values {
    /// How many there are.
    pub count: u64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub std: f64,
    /// The size of the one that is nearest to zero without being zero; 0 where all are zero.
    pub smallest: f64,
    /// Elements that are zero.
    pub zeros: u64,
    /// Elements whose size is beyond f16: they would be infinite there.
    pub beyond_f16: u64,
}

/// The lengths of rows. All zero where there are none.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Norms {
    /// The rows of finite numbers, those of zeros included.
    pub count: u64,
    /// The shortest, not counting rows of zeros.
    pub min: f64,
    /// The longest.
    pub max: f64,
    /// Their mean, not counting rows of zeros.
    pub mean: f64,
    /// Their standard deviation, not counting rows of zeros.
    pub std: f64,
    /// Pairs of a share and the length that this share of rows is not longer than, to 0.1 %; not
    /// counting rows of zeros.
    pub quantiles: Vec<(f64, f64)>,
    /// How many rows have lengths in each of some equal steps, which are of equal ratio where
    /// lengths differ by more than 50 times; the shortest and longest thousandth count in the
    /// first and the last.
    pub histogram: Vec<NormBin>,
    /// The shortest rows that are not zeros, the shortest first.
    pub shortest: Vec<NormedRow>,
    /// The longest rows, the longest first.
    pub longest: Vec<NormedRow>,
}

/// A step of lengths.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct NormBin {
    /// Where it starts.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// The rows in it.
    pub rows: u64,
}

/// A row and its length.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct NormedRow {
    /// The row.
    pub id: u64,
    /// Its length.
    pub norm: f64,
}

/// Rows of one kind: how many, and some of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowList {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub first: Vec<u64>,
}

/// Rows, or tokens, that are there several times.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Duplicates {
    /// True where all were compared, by hashes of 64 bits. Else `rows` and `groups` are estimated
    /// from a part of all hashes, and a group that takes up a hundredth of a percent of the
    /// table is missed with a chance of e^-0.4, one of a percent of e^-41.
    pub exact: bool,
    /// The part of all hashes that was kept.
    pub share: f64,
    /// How many repeat an earlier one: those that could be left out.
    pub rows: u64,
    /// How many are there several times, each counted once.
    pub groups: u64,
    /// The ones that are there most often, most frequent first.
    pub largest: Vec<Repeated>,
}

/// Something that is there several times.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repeated {
    /// How often.
    pub count: u64,
    /// Some of its ids.
    pub ids: Vec<u64>,
}

/// How rows are spread.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Directions {
    /// The mean of the cosines between any two different rows, all pairs of all rows: 0 where
    /// they point everywhere alike.
    pub mean_cosine: f64,
    /// The rows that the following figures were found of.
    pub rows: u64,
    /// The participation ratio of the variances along the principal axes, (sum)^2 / sum of
    /// squares: `dim` where all directions vary alike, 1 where all rows lie on a line. Of a
    /// sample, what it would be of all rows.
    pub effective_dim: f64,
    /// `IsoScore` (Rudman et al., 2022), which is (`effective_dim` - 1) / (`dim` - 1): 1 where all
    /// directions are used alike, 0 where one is.
    pub isotropy: f64,
    /// The squared length of the mean row over the mean squared length: the part of each row
    /// that all have in common.
    pub common: f64,
    /// The variance along the first principal axis, over all variance; `None` where axes were
    /// too many to be found.
    pub first_axis: Option<f64>,
    /// Pairs of a share of all variance and the number of principal axes that hold it.
    pub axes: Vec<(f64, u64)>,
}

/// What storing a table with another dtype would cost.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Cost {
    /// The dtype.
    pub dtype: DType,
    /// The bytes of a row, scales included.
    pub row_bytes: u64,
    /// What changes; `None` where some number cannot be held.
    pub loss: Option<Loss>,
}

/// Tokens and rows, side by side.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Tokens {
    /// The tokens that are there.
    pub count: u64,
    /// Rows that have no token.
    pub rows_without: RowList,
    /// Tokens whose id is no row.
    pub without_rows: RowList,
    /// Tokens of no bytes.
    pub empty: RowList,
    /// The longest, in bytes.
    pub longest: u64,
    /// Tokens that several rows have.
    pub duplicates: Duplicates,
}
