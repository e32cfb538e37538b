//! Publications as values, in no codec's form.

use std::sync::Arc;

use crate::domain::client_info::ClientInfo;

/// One publication of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication<'a> {
    /// JSON that was checked, and is never parsed into values.
    pub data: &'a [u8],
    /// The client that published it. `None`: it came from a service, by RabbitMQ or the API.
    pub info: Option<&'a Arc<ClientInfo>>,
    /// Its offset in the topic's history; 0: the topic has none.
    pub offset: u64,
}

/// Publications of one topic, in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publications {
    /// The data of all publications, concatenated.
    data: Vec<u8>,
    entries: Vec<Entry>,
}

/// A publication beside its data.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    info: Option<Arc<ClientInfo>>,
    offset: u64,
    /// Where its data ends.
    end: usize,
}

impl Publications {
    /// Adds a publication. Its data is copied.
    pub fn push(&mut self, publication: &Publication<'_>) {
        let &Publication { data, info, offset } = publication;
        self.data.extend_from_slice(data);
        self.entries.push(Entry { info: info.cloned(), offset, end: self.data.len() });
    }

    /// All publications.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Publication<'_>> {
        self.entries.iter().enumerate().map(|(index, Entry { info, offset, end })| {
            let start = index.checked_sub(1).map_or(0, |before| self.entries[before].end);
            Publication { data: &self.data[start..*end], info: info.as_ref(), offset: *offset }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_comes_out() {
        let client = Arc::new(ClientInfo { user: "u".into(), ..ClientInfo::default() });
        let some = [(&b"1"[..], None, 7), (b"", Some(&client), 8), (b"{}", None, 90)]
            .map(|(data, info, offset)| Publication { data, info, offset });
        let mut all = Publications::default();
        assert_eq!(all.iter().len(), 0);
        some.iter().for_each(|publication| all.push(publication));
        assert_eq!(all.iter().collect::<Vec<_>>(), some);
    }
}
