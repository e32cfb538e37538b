//! Publications as values, in no codec's form.

/// One publication of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication<'a> {
    /// JSON that was checked, and is never parsed into values.
    pub data: &'a [u8],
    /// Its offset in the topic's history; 0: the topic has none.
    pub offset: u64,
}

/// Publications of one topic, in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publications {
    /// The data of all publications, concatenated.
    data: Vec<u8>,
    /// The offset of each publication, and the end of its data.
    entries: Vec<(u64, usize)>,
}

impl Publications {
    /// Adds a copy of a publication.
    pub fn push(&mut self, publication: &Publication<'_>) {
        self.data.extend_from_slice(publication.data);
        self.entries.push((publication.offset, self.data.len()));
    }

    /// All publications.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Publication<'_>> {
        self.entries.iter().enumerate().map(|(index, &(offset, end))| {
            let start = index.checked_sub(1).map_or(0, |before| self.entries[before].1);
            Publication { data: &self.data[start..end], offset }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_comes_out() {
        let some = [(&b"1"[..], 7), (b"", 8), (b"{}", 90)].map(|(data, offset)| Publication { data, offset });
        let mut all = Publications::default();
        assert_eq!(all.iter().len(), 0);
        some.iter().for_each(|publication| all.push(publication));
        assert_eq!(all.iter().collect::<Vec<_>>(), some);
    }
}
