//! What clients are told without having asked.

use std::io::Write;
use std::ops::Range;

use super::codes::UnsubscribeCode;
use super::json;

/// Appends the line of a publication, closed by `\n`: encoded once, however many clients get it. `data` has
/// been checked to be JSON ([`json::Checker`]). An `offset` of 0 is left out: the topic has no history.
///
/// Returns where in `out` the publication alone stands, as replies to a recovery have it.
pub fn publication(out: &mut Vec<u8>, topic: &str, data: &[u8], offset: u64) -> Range<usize> {
    begin(out, topic);
    out.extend_from_slice(b"\"pub\":");
    let start = out.len();
    out.extend_from_slice(b"{\"data\":");
    json::embed(out, data);
    if offset > 0 {
        write!(out, ",\"offset\":{offset}").expect("writing to memory does not fail");
    }
    out.push(b'}');
    let end = out.len();
    out.extend_from_slice(b"}}\n");
    start..end
}

/// Appends what a client is told when its subscription ends, without a line end: the caller joins.
pub fn unsubscribe(out: &mut Vec<u8>, topic: &str, code: UnsubscribeCode) {
    begin(out, topic);
    write!(out, "\"unsubscribe\":{{\"code\":{},\"reason\":\"{}\"}}}}}}", code.code(), code.text())
        .expect("writing to memory does not fail");
}

fn begin(out: &mut Vec<u8>, topic: &str) {
    out.extend_from_slice(b"{\"push\":{\"channel\":");
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
                publication(out, "a \"b\"", b"{\"n\" :\n1e400}", 0);
            }),
            "{\"push\":{\"channel\":\"a \\\"b\\\"\",\"pub\":{\"data\":{\"n\" : 1e400}}}}\n"
        );
    }

    #[test]
    fn a_publication_of_a_topic_with_history_says_where_it_stands() {
        let mut out = b"before\n".to_vec();
        let alone = publication(&mut out, "a", b"1", u64::MAX);
        assert_eq!(&out[alone], br#"{"data":1,"offset":18446744073709551615}"#);
        let line =
            "before\n{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":1,\"offset\":18446744073709551615}}}\n";
        assert_eq!(String::from_utf8(out).unwrap(), line);
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
