//! Replies to commands, one JSON object each, appended without a line end: the caller joins them by `\n`.

use std::io::Write;

use serde_json::to_writer;

use super::codes::ErrorCode;

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
    fn replies_are_appended() {
        let joined = appended(|out| {
            empty(out, 1, "subscribe");
            out.push(b'\n');
            empty(out, 2, "publish");
        });
        assert_eq!(joined, "{\"id\":1,\"subscribe\":{}}\n{\"id\":2,\"publish\":{}}");
    }
}
