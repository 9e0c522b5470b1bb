//! The ids of several texts.

/// The ids of several texts, one after the other, as bags of
/// [`embedding_bag_into`](crate::Table::embedding_bag_into).
///
/// ```
/// # fn main() -> Result<(), embmap::Error> {
/// let table = embmap::Table::load("fixtures/minilm-2k")?;
/// let encoded = table.tokenizer()?.encode_batch(&["the cat", "", "sat"], false)?;
/// assert_eq!(encoded.len(), 3);
/// assert_eq!(encoded.get(0), Some(&[92, 1811][..]));
/// assert_eq!((encoded.ids(), encoded.offsets()), (&[92, 1811, 919][..], &[0, 2, 2, 3][..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    ids: Vec<u32>,
    /// One more than there are texts; the first is 0.
    offsets: Vec<u64>,
}

impl Encoded {
    pub(super) fn with_capacity(texts: usize) -> Self {
        let mut offsets = Vec::with_capacity(texts.saturating_add(1));
        offsets.push(0);
        Encoded { ids: Vec::new(), offsets }
    }

    /// Adds a text.
    pub(super) fn push(&mut self, ids: impl IntoIterator<Item = u32>) {
        self.ids.extend(ids);
        self.offsets.push(self.ids.len() as u64);
    }

    /// Adds the texts of another.
    pub(super) fn append(&mut self, other: &Encoded) {
        let before = self.ids.len() as u64;
        self.ids.extend_from_slice(&other.ids);
        self.offsets.extend(other.offsets.iter().skip(1).map(|offset| before + offset));
    }

    /// The number of texts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// True where there are no texts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids of all texts.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Where the ids of each text start, and where those of the last one end.
    #[must_use]
    pub fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    /// The ids of a text.
    #[must_use]
    pub fn get(&self, text: usize) -> Option<&[u32]> {
        let place = |offset: &u64| usize::try_from(*offset).ok();
        let start = place(self.offsets.get(text)?)?;
        let end = place(self.offsets.get(text.checked_add(1)?)?)?;
        self.ids.get(start..end)
    }

    /// The ids of each text, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.len()).filter_map(|text| self.get(text))
    }
}
