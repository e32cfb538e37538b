//! Replies to commands, one JSON object each, appended without a line end: the caller joins them by `\n`.

use std::io::Write;

use serde_json::to_writer;

use crate::domain::reasons::ErrorCode;

/// What a client learns when it has connected.
#[derive(Clone, Copy, Debug)]
pub struct Connected<'a> {
    /// The client's id.
    pub client: &'a str,
    /// The engine's version.
    pub version: &'a str,
    /// Seconds between our pings. 0 is left out and means that none will come.
    pub ping: u32,
    /// Whether the client has to answer them. Left out when false.
    pub pong: bool,
}

/// Appends the reply to a connect.
pub fn connected(out: &mut Vec<u8>, id: u32, reply: &Connected<'_>) {
    put(out, format_args!("{{\"id\":{id},\"connect\":{{\"client\":"));
    put_string(out, reply.client);
    out.extend_from_slice(b",\"version\":");
    put_string(out, reply.version);
    if reply.ping > 0 {
        put(out, format_args!(",\"ping\":{}", reply.ping));
    }
    if reply.pong {
        out.extend_from_slice(b",\"pong\":true");
    }
    out.extend_from_slice(b"}}");
}

/// What a subscriber to a topic with history learns.
#[derive(Clone, Copy, Debug)]
pub struct Subscribed<'a> {
    /// In which numbering.
    pub epoch: &'a str,
    /// The newest publication that the client need not wait for; with `missed`, the one that it said it has.
    pub offset: u64,
    /// Whether the client may ask for what it missed, when it comes again.
    pub recoverable: bool,
    /// Whether it asked for it now.
    pub was_recovering: bool,
    /// If it asked and can have it: what it missed, as members of a JSON array, joined by commas.
    pub missed: Option<&'a [u8]>,
}

/// Appends the reply to a subscribe to a topic with history.
pub fn subscribed(out: &mut Vec<u8>, id: u32, reply: &Subscribed<'_>) {
    put(out, format_args!("{{\"id\":{id},\"subscribe\":{{\"positioned\":true,\"epoch\":"));
    put_string(out, reply.epoch);
    if reply.offset > 0 {
        put(out, format_args!(",\"offset\":{}", reply.offset));
    }
    let flags = [
        ("recoverable", reply.recoverable),
        ("was_recovering", reply.was_recovering),
        ("recovered", reply.missed.is_some()),
    ];
    for (name, _) in flags.into_iter().filter(|&(_, is_set)| is_set) {
        put(out, format_args!(",\"{name}\":true"));
    }
    if let Some(missed) = reply.missed.filter(|missed| !missed.is_empty()) {
        put_publications(out, missed);
    }
    out.extend_from_slice(b"}}");
}

/// Appends the reply to a subscribe that asked for what was missed in a topic of which nothing is kept: so its
/// application knows that it has to load it anew.
pub fn subscribed_unrecovered(out: &mut Vec<u8>, id: u32) {
    put(out, format_args!("{{\"id\":{id},\"subscribe\":{{\"was_recovering\":true}}}}"));
}

/// Appends the reply to a history command: where the topic stands, and some of its publications, as members
/// of a JSON array, joined by commas.
pub fn history(out: &mut Vec<u8>, id: u32, epoch: &str, offset: u64, publications: &[u8]) {
    put(out, format_args!("{{\"id\":{id},\"history\":{{\"epoch\":"));
    put_string(out, epoch);
    put(out, format_args!(",\"offset\":{offset}"));
    put_publications(out, publications);
    out.extend_from_slice(b"}}");
}

fn put_publications(out: &mut Vec<u8>, publications: &[u8]) {
    out.extend_from_slice(b",\"publications\":[");
    out.extend_from_slice(publications);
    out.push(b']');
}

/// Appends the reply to a command that has no more to say than that it was done. The name of the method
/// must be there, because SDKs look for it.
pub fn empty(out: &mut Vec<u8>, id: u32, method: &str) {
    put(out, format_args!("{{\"id\":{id},"));
    put_string(out, method);
    out.extend_from_slice(b":{}}");
}

/// Appends the reply to a command that failed.
pub fn error(out: &mut Vec<u8>, id: u32, error: ErrorCode) {
    put(out, format_args!("{{\"id\":{id},\"error\":{{\"code\":{},\"message\":", error.code()));
    put_string(out, error.text());
    if error.is_temporary() {
        out.extend_from_slice(b",\"temporary\":true");
    }
    out.extend_from_slice(b"}}");
}

fn put(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("writing to memory does not fail");
}

/// Appends `text` as a JSON string.
fn put_string(out: &mut Vec<u8>, text: &str) {
    to_writer(out, text).expect("writing to memory does not fail");
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
    fn connect_leaves_out_what_is_zero() {
        let full = Connected { client: "c-1", version: "0.1.0", ping: 25, pong: true };
        assert_eq!(
            appended(|out| connected(out, 1, &full)),
            r#"{"id":1,"connect":{"client":"c-1","version":"0.1.0","ping":25,"pong":true}}"#
        );
        let native = Connected { ping: 0, pong: false, version: "a \"quoted\" one\n", ..full };
        assert_eq!(
            appended(|out| connected(out, u32::MAX, &native)),
            r#"{"id":4294967295,"connect":{"client":"c-1","version":"a \"quoted\" one\n"}}"#
        );
    }

    #[test]
    fn who_cannot_recover_anything_is_told_that_it_asked() {
        let reply = r#"{"id":2,"subscribe":{"was_recovering":true}}"#;
        assert_eq!(appended(|out| subscribed_unrecovered(out, 2)), reply);
    }

    #[test]
    fn an_empty_reply_names_its_method() {
        assert_eq!(appended(|out| empty(out, 3, "unsubscribe")), r#"{"id":3,"unsubscribe":{}}"#);
    }

    #[test]
    fn an_error_is_temporary_only_where_trying_again_helps() {
        assert_eq!(
            appended(|out| error(out, 2, ErrorCode::Internal)),
            r#"{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}"#
        );
        assert_eq!(
            appended(|out| error(out, 7, ErrorCode::PermissionDenied)),
            r#"{"id":7,"error":{"code":103,"message":"permission denied"}}"#
        );
    }

    #[test]
    fn a_subscriber_learns_where_it_stands_and_what_it_missed() {
        let live =
            Subscribed { epoch: "e", offset: 0, recoverable: false, was_recovering: false, missed: None };
        let cases = [
            (live, r#""positioned":true,"epoch":"e""#),
            (
                Subscribed { offset: 7, recoverable: true, ..live },
                r#""positioned":true,"epoch":"e","offset":7,"recoverable":true"#,
            ),
            (
                Subscribed { offset: 7, recoverable: true, was_recovering: true, ..live },
                r#""positioned":true,"epoch":"e","offset":7,"recoverable":true,"was_recovering":true"#,
            ),
            (
                Subscribed { offset: 7, was_recovering: true, missed: Some(b""), ..live },
                r#""positioned":true,"epoch":"e","offset":7,"was_recovering":true,"recovered":true"#,
            ),
            (
                Subscribed { was_recovering: true, missed: Some(br#"{"data":1},{"data":2}"#), ..live },
                r#""positioned":true,"epoch":"e","was_recovering":true,"recovered":true,"publications":[{"data":1},{"data":2}]"#,
            ),
        ];
        for (reply, fields) in cases {
            let wanted = format!(r#"{{"id":2,"subscribe":{{{fields}}}}}"#);
            assert_eq!(appended(|out| subscribed(out, 2, &reply)), wanted);
        }
    }

    #[test]
    fn history_is_an_array_even_if_nothing_is_in_it() {
        assert_eq!(
            appended(|out| history(out, 5, "e", 0, b"")),
            r#"{"id":5,"history":{"epoch":"e","offset":0,"publications":[]}}"#
        );
    }

    #[test]
    fn replies_are_appended() {
        let joined = appended(|out| {
            empty(out, 1, "subscribe");
            out.push(b'\n');
            empty(out, 2, "publish");
        });
        assert_eq!(joined, "{\"id\":1,\"subscribe\":{}}\n{\"id\":2,\"publish\":{}}");
    }
}
