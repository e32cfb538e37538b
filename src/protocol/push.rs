//! What the server says of its own accord.

use crate::protocol::codes::UnsubscribeCode;
use crate::protocol::json;

/// Appends a publication as a line, the line end included. `data` is JSON that has been checked.
pub fn publication(out: &mut Vec<u8>, topic: &str, data: &[u8]) {
    begin(out, topic);
    out.extend_from_slice(b"\"pub\":{\"data\":");
    json::embed(out, data);
    out.extend_from_slice(b"}}}\n");
}

/// Appends the end of a subscription, without a line end.
pub fn unsubscribe(out: &mut Vec<u8>, topic: &str, code: UnsubscribeCode) {
    begin(out, topic);
    out.extend_from_slice(format!("\"unsubscribe\":{{\"code\":{},\"reason\":", code.code()).as_bytes());
    json::quote(out, code.text());
    out.extend_from_slice(b"}}}");
}

fn begin(out: &mut Vec<u8>, topic: &str) {
    out.extend_from_slice(b"{\"push\":{\"channel\":");
    json::quote(out, topic);
    out.push(b',');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_is_one_line_with_its_data_byte_for_byte() {
        let mut line = Vec::new();
        publication(&mut line, "a\"b", b"{\"n\":123456789012345678901234567890,\n \"s\":\"\\u2028\"}");
        let expected = r#"{"push":{"channel":"a\"b","pub":{"data":{"n":123456789012345678901234567890,  "s":"\u2028"}}}}"#;
        assert_eq!(String::from_utf8(line).unwrap(), format!("{expected}\n"));
    }

    #[test]
    fn an_unsubscribe_has_code_and_reason() {
        let mut line = Vec::new();
        unsubscribe(&mut line, "t", UnsubscribeCode::InsufficientState);
        assert_eq!(
            line,
            br#"{"push":{"channel":"t","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#
        );
    }
}
