//! What clients are told without having asked.

use std::io::Write;
use std::ops::Range;

use super::json;
use crate::domain::reasons::UnsubscribeCode;

const BEGIN: &[u8] = b"{\"push\":{\"channel\":";
const PUBLICATION: &[u8] = b"\"pub\":";
const DATA: &[u8] = b"{\"data\":";
const OFFSET: &[u8] = b",\"offset\":";
const END: &[u8] = b"}}\n";

/// Appends the line of a publication, closed by `\n`: encoded once, however many clients get it. `data` has
/// been checked to be JSON ([`json::Checker`]). An `offset` of 0 is left out: the topic has no history. The first
/// publication of a topic has the `epoch`, for those who subscribed when there was none.
///
/// Returns where in `out` the publication alone stands, as replies to a recovery have it.
pub fn publication(
    out: &mut Vec<u8>,
    topic: &str,
    data: &[u8],
    offset: u64,
    epoch: Option<&str>,
) -> Range<usize> {
    begin(out, topic);
    out.extend_from_slice(PUBLICATION);
    let start = out.len();
    out.extend_from_slice(DATA);
    json::embed(out, data);
    if offset > 0 {
        out.extend_from_slice(OFFSET);
        write!(out, "{offset}").expect("writing to memory does not fail");
    }
    if let Some(epoch) = epoch {
        out.extend_from_slice(b",\"epoch\":");
        json::quote(out, epoch);
    }
    out.push(b'}');
    let end = out.len();
    out.extend_from_slice(END);
    start..end
}

/// How many bytes [`publication`] appends.
#[must_use]
pub fn publication_len(topic: &str, data: &[u8], offset: u64) -> usize {
    let digits = offset.checked_ilog10().map_or(0, |log| OFFSET.len() + 1 + log as usize);
    BEGIN.len()
        + json::quoted_len(topic)
        + 1
        + PUBLICATION.len()
        + DATA.len()
        + data.len()
        + digits
        + 1
        + END.len()
}

/// Appends what a client is told when its subscription ends, without a line end: the caller joins.
pub fn unsubscribe(out: &mut Vec<u8>, topic: &str, code: UnsubscribeCode) {
    begin(out, topic);
    write!(out, "\"unsubscribe\":{{\"code\":{},\"reason\":\"{}\"}}}}}}", code.code(), code.text())
        .expect("writing to memory does not fail");
}

fn begin(out: &mut Vec<u8>, topic: &str) {
    out.extend_from_slice(BEGIN);
    json::quote(out, topic);
    out.push(b',');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_publication_is_one_line_with_its_data_as_it_came() {
        assert_eq!(
            appended(|out| {
                publication(out, "a \"b\"", b"{\"n\" :\n1e400}", 0, None);
            }),
            "{\"push\":{\"channel\":\"a \\\"b\\\"\",\"pub\":{\"data\":{\"n\" : 1e400}}}}\n"
        );
    }

    #[test]
    fn a_publication_of_a_topic_with_history_says_where_it_stands() {
        let mut out = b"before\n".to_vec();
        let alone = publication(&mut out, "a", b"1", u64::MAX, None);
        assert_eq!(&out[alone], br#"{"data":1,"offset":18446744073709551615}"#);
        let line =
            "before\n{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":1,\"offset\":18446744073709551615}}}\n";
        assert_eq!(String::from_utf8(out).unwrap(), line);
    }

    #[test]
    fn how_long_a_line_is_can_be_known_before() {
        for topic in ["a", "chat:\u{e9}", "a \"b\" \\", "\u{1f600}"] {
            for offset in [0, 1, 9, 10, 99, 100, u64::MAX] {
                let mut out = Vec::new();
                publication(&mut out, topic, b"{\"n\":\n1}", offset, None);
                assert_eq!(publication_len(topic, b"{\"n\":\n1}", offset), out.len(), "{topic} {offset}");
            }
        }
    }

    #[test]
    fn the_first_publication_says_in_which_numbering_it_is() {
        let mut out = Vec::new();
        let alone = publication(&mut out, "a", b"1", 1, Some("e"));
        assert_eq!(&out[alone], br#"{"data":1,"offset":1,"epoch":"e"}"#);
    }

    #[test]
    fn an_unsubscribe_says_code_and_reason() {
        assert_eq!(
            appended(|out| unsubscribe(out, "news", UnsubscribeCode::InsufficientState)),
            r#"{"push":{"channel":"news","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#
        );
        assert_eq!(
            appended(|out| unsubscribe(out, "news", UnsubscribeCode::Server)),
            r#"{"push":{"channel":"news","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#
        );
    }
}
