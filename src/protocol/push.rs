//! What clients are told without having asked.

use std::io::Write;

use super::codes::UnsubscribeCode;
use super::json;

/// Appends the line of a publication, closed by `\n`: encoded once, however many clients get it. `data` has
/// been checked to be JSON ([`json::Checker`]).
pub fn publication(out: &mut Vec<u8>, topic: &str, data: &[u8]) {
    begin(out, topic);
    out.extend_from_slice(b"\"pub\":{\"data\":");
    json::embed(out, data);
    out.extend_from_slice(b"}}}\n");
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
            appended(|out| publication(out, "a \"b\"", b"{\"n\" :\n1e400}")),
            "{\"push\":{\"channel\":\"a \\\"b\\\"\",\"pub\":{\"data\":{\"n\" : 1e400}}}}\n"
        );
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
