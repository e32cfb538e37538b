//! A client as others see it: `{"user":"u","client":"c","conn_info":{},"chan_info":{}}`. What is empty is left out,
//! except the client's id.

use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;
use thiserror::Error;

use super::checker::too_deep;
use super::read::Object;
use super::text::{embed, quote, quoted_len};
use crate::domain::client_info::ClientInfo;

const USER: &[u8] = b"\"user\":";
const CLIENT: &[u8] = b"\"client\":";
const CONN_INFO: &[u8] = b",\"conn_info\":";
const CHAN_INFO: &[u8] = b",\"chan_info\":";

/// Bytes that an object may have: it travels in a header of AMQP, and all headers of a message share a frame, which has 128 KiB
/// by default.
pub const BYTES_MAX: usize = 64 << 10;

/// Why a text is not the object of a client. Repeats nothing of the text, which says who somebody is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unusable {
    /// It has too many bytes.
    #[error("too long: it has {0} bytes, and at most {BYTES_MAX} are allowed")]
    TooLong(usize),
    /// It is nested too deeply.
    #[error("nested deeper than {0} levels (limits.json_depth)")]
    TooDeep(usize),
    /// It cannot be read.
    #[error("not JSON (line {line}, column {column})")]
    NotJson {
        /// From 1.
        line: usize,
        /// From 0.
        column: usize,
    },
    /// It is JSON of another form.
    #[error(
        "not an object of the texts `user` and `client` and the values `conn_info` and `chan_info`, all but `client` optional \
         (line {line}, column {column})"
    )]
    OtherForm {
        /// From 1.
        line: usize,
        /// From 0.
        column: usize,
    },
    /// It does not name the client.
    #[error("without the client's id (`client`)")]
    NoClient,
}

/// Appends the object of a client.
pub fn write(out: &mut Vec<u8>, info: &ClientInfo) {
    let ClientInfo { user, client, conn_info, chan_info } = info;
    out.push(b'{');
    if !user.is_empty() {
        out.extend_from_slice(USER);
        quote(out, user);
        out.push(b',');
    }
    out.extend_from_slice(CLIENT);
    quote(out, client);
    for (name, json) in [(CONN_INFO, conn_info), (CHAN_INFO, chan_info)] {
        if !json.is_empty() {
            out.extend_from_slice(name);
            embed(out, json);
        }
    }
    out.push(b'}');
}

/// How many bytes [`write()`] appends.
#[must_use]
pub fn len(info: &ClientInfo) -> usize {
    let ClientInfo { user, client, conn_info, chan_info } = info;
    let user = if user.is_empty() { 0 } else { USER.len() + quoted_len(user) + 1 };
    let member = |name: &[u8], json: &[u8]| if json.is_empty() { 0 } else { name.len() + json.len() };
    let members = member(CONN_INFO, conn_info) + member(CHAN_INFO, chan_info);
    1 + user + CLIENT.len() + quoted_len(client) + members + 1
}

/// Whether the object of a client has no more than [`BYTES_MAX`].
///
/// # Errors
/// [`Unusable::TooLong`].
pub fn check_len(info: &ClientInfo) -> Result<(), Unusable> {
    allow_len(len(info))
}

fn allow_len(len: usize) -> Result<(), Unusable> {
    if len > BYTES_MAX { Err(Unusable::TooLong(len)) } else { Ok(()) }
}

/// The members of an object. `null` counts as missing. Others are passed over: a later version on another node may have
/// more of them.
#[derive(Deserialize)]
struct Members<'a> {
    user: Option<Box<str>>,
    client: Option<Box<str>>,
    #[serde(borrow)]
    conn_info: Option<&'a RawValue>,
    #[serde(borrow)]
    chan_info: Option<&'a RawValue>,
}

/// Reads the object of a client, of at most [`BYTES_MAX`]. Its `conn_info` and `chan_info` have at most so many levels of
/// nesting.
///
/// # Errors
/// What is wrong with it; see [`Unusable`].
pub fn read(text: &str, depth_max: usize) -> Result<ClientInfo, Unusable> {
    allow_len(text.len())?;
    // The object itself is one more level.
    if too_deep(text.as_bytes(), depth_max + 1) {
        return Err(Unusable::TooDeep(depth_max));
    }
    let Object(members) =
        serde_json::from_str::<Object<Members<'_>>>(text).map_err(|error| unusable(&error))?;
    let client = members.client.filter(|client| !client.is_empty()).ok_or(Unusable::NoClient)?;
    let json = |value: Option<&RawValue>| value.map_or(&[][..], |value| value.get().as_bytes()).into();
    Ok(ClientInfo {
        user: members.user.unwrap_or_default(),
        client,
        conn_info: json(members.conn_info),
        chan_info: json(members.chan_info),
    })
}

fn unusable(error: &serde_json::Error) -> Unusable {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Data => Unusable::OtherForm { line, column },
        Category::Syntax | Category::Eof | Category::Io => Unusable::NotJson { line, column },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(info: &ClientInfo) -> String {
        let mut out = Vec::new();
        write(&mut out, info);
        assert_eq!(out.len(), len(info), "{info:?}");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn whatever_the_order_the_spaces_and_other_members_it_is_the_same_client() {
        let read =
            read(" {\"chan_info\" : [1], \"client\":\"\\u0063\",\n\"conn_info\": null, \"later\": {}}", 10);
        let client = ClientInfo { client: "c".into(), chan_info: b"[1]"[..].into(), ..ClientInfo::default() };
        assert_eq!(read, Ok(client));
    }

    #[test]
    fn what_is_not_the_object_of_a_client_is_refused_and_not_repeated() {
        let other = |line, column| Unusable::OtherForm { line, column };
        for (text, unusable) in [
            ("", Unusable::NotJson { line: 1, column: 0 }),
            ("secret", Unusable::NotJson { line: 1, column: 1 }),
            (r#"{"client":"c"} {}"#, Unusable::NotJson { line: 1, column: 16 }),
            (r#"{"client":"c","conn_info":secret}"#, Unusable::NotJson { line: 1, column: 27 }),
            (r#"{"client":"\ud83d"}"#, Unusable::NotJson { line: 1, column: 18 }),
            (r#""secret""#, other(1, 8)),
            (r#"["","c"]"#, other(1, 0)),
            (r#"{"client":7}"#, other(1, 11)),
            ("{\"client\":\"c\",\n\"user\":{\"secret\":1}}", other(2, 7)),
            (r#"{"client":"c","client":"d"}"#, other(1, 22)),
            ("{}", Unusable::NoClient),
            (r#"{"user":"u","client":""}"#, Unusable::NoClient),
            (r#"{"client":null}"#, Unusable::NoClient),
        ] {
            let found = read(text, 10).unwrap_err();
            assert_eq!(found, unusable, "{text}");
            assert!(!found.to_string().contains("secret"), "{found}");
        }
    }

    #[test]
    fn parts_have_so_many_levels_and_the_object_so_many_bytes() {
        let nested = |levels: usize| {
            let value = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            read(&format!(r#"{{"client":"c","conn_info":{value}}}"#), 10)
        };
        assert!(nested(10).is_ok());
        assert_eq!(nested(11), Err(Unusable::TooDeep(10)));
        assert_eq!(nested(8000), Err(Unusable::TooDeep(10)));
        for (more, is_allowed) in [(0, true), (1, false)] {
            let client = "c".repeat(BYTES_MAX - r#"{"client":""}"#.len() + more).into();
            let info = ClientInfo { client, ..ClientInfo::default() };
            let expected = if is_allowed { Ok(()) } else { Err(Unusable::TooLong(BYTES_MAX + 1)) };
            assert_eq!(check_len(&info), expected);
            assert_eq!(read(&written(&info), 10).map(drop), expected);
        }
    }

    proptest! {
        #[test]
        fn a_client_is_read_as_it_was_written(
            user in any::<String>(),
            client in ".+",
            json in prop::collection::vec(prop_oneof![Just(""), Just("0"), Just(r#"{"a" : [1e400, "\ud83d"]}"#)], 2),
        ) {
            let json = |at: usize| json[at].as_bytes().into();
            let info = ClientInfo { user: user.into(), client: client.into(), conn_info: json(0), chan_info: json(1) };
            prop_assert_eq!(read(&written(&info), 10), Ok(info));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(?s).*|[\\[{\":,a-z\\]} ]*") {
            let _ = read(&text, 10);
        }
    }
}
