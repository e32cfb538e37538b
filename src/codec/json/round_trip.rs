//! What is written is read again as the same value. The other half of each way, which only clients need, is here: a
//! writer of commands, and a reader of replies and pushes, both by `serde_json`.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::num::NonZeroU32;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{read, write};
use crate::codec::command::{Command, Connect, Method, Since, Subscribe, Token};
use crate::codec::push::{Published, Push};
use crate::codec::reply::{
    Connected, EncodedPublications, EncodedSubscriptions, Failure, Position, Refreshed, Reply, Subscribed,
};
use crate::domain::asked::{Asked, HistoryPage, HistoryRange, Told};
use crate::domain::position;
use crate::domain::publication::Publication;
use crate::domain::reasons::{ErrorCode, UnsubscribeCode};

const ERRORS: [ErrorCode; 12] = [
    ErrorCode::Internal,
    ErrorCode::UnknownChannel,
    ErrorCode::PermissionDenied,
    ErrorCode::MethodNotFound,
    ErrorCode::AlreadySubscribed,
    ErrorCode::LimitExceeded,
    ErrorCode::BadRequest,
    ErrorCode::NotAvailable,
    ErrorCode::TokenExpired,
    ErrorCode::Expired,
    ErrorCode::TooManyRequests,
    ErrorCode::UnrecoverablePosition,
];
const UNSUBSCRIBES: [UnsubscribeCode; 3] =
    [UnsubscribeCode::Server, UnsubscribeCode::InsufficientState, UnsubscribeCode::Expired];

/// Everything that values are made of; what a variant has no use for is left aside.
#[derive(Clone, Debug)]
struct Parts {
    id: u32,
    number: u32,
    offset: u64,
    limit: i32,
    flags: [bool; 4],
    text: Option<String>,
    other: Option<String>,
    topic: String,
    data: Vec<String>,
}

fn parts() -> impl Strategy<Value = Parts> {
    let numbers = (1_u32.., any::<u32>(), prop_oneof![Just(0), any::<u64>()], any::<i32>());
    let texts = (any::<Option<String>>(), any::<Option<String>>(), any::<String>());
    let data = prop::collection::vec(data(), 0..4);
    (numbers, any::<[bool; 4]>(), texts, data).prop_map(|(numbers, flags, texts, data)| Parts {
        id: numbers.0,
        number: numbers.1,
        offset: numbers.2,
        limit: numbers.3,
        flags,
        text: texts.0,
        other: texts.1,
        topic: texts.2,
        data,
    })
}

/// JSON as it is published.
fn data() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("[1e2, {\"a\": -0.5}]".to_owned()),
        any::<String>().prop_map(|text| Value::from(text).to_string()),
    ]
}

fn token(parts: &Parts) -> Token<'_> {
    Token(text(parts.text.as_ref()).unwrap_or_default())
}

fn text(part: Option<&String>) -> Option<Cow<'_, str>> {
    part.map(|text| Cow::Borrowed(text.as_str()))
}

/// What a command brings along: to say `null` is to say nothing.
fn said(parts: &Parts) -> Option<&[u8]> {
    parts.data.first().filter(|data| *data != "null").map(String::as_bytes)
}

/// One command of each kind.
fn commands(parts: &Parts) -> Vec<Command<'_>> {
    let topic = || Cow::Borrowed(parts.topic.as_str());
    let since = Since { epoch: text(parts.text.as_ref()).unwrap_or_default(), offset: parts.offset };
    let [recover, recoverable, positioned, rejects_unrecovered] = parts.flags;
    let connect = Connect {
        token: token(parts),
        name: text(parts.other.as_ref()),
        version: text(parts.other.as_ref()),
        data: said(parts),
        headers: vec![("authorization".into(), token(parts))],
        resumed: recover.then(|| (topic(), since.clone())).into_iter().collect(),
    };
    let subscribe = Subscribe {
        topic: topic(),
        token: token(parts),
        recover: recover.then(|| since.clone()),
        recoverable,
        positioned,
        rejects_unrecovered,
        data: said(parts),
        unsupported: parts.number.is_multiple_of(2),
    };
    let range = HistoryRange {
        limit: u32::try_from(parts.limit).ok(),
        since: recover.then(|| (&since).into()),
        reverse: recoverable,
    };
    let methods = [
        Method::Connect(connect),
        Method::Subscribe(subscribe),
        Method::Unsubscribe { topic: topic() },
        Method::Publish { topic: topic(), data: parts.data.first().map(String::as_bytes) },
        Method::Ask { topic: topic(), asked: Asked::History(range) },
        Method::Refresh { token: token(parts) },
        Method::RefreshSubscription { topic: topic(), token: token(parts) },
        Method::Rpc { method: topic(), data: parts.data.first().map(String::as_bytes) },
        Method::Send { data: parts.data.first().map(String::as_bytes) },
        Method::Unavailable,
        Method::Unknown,
    ];
    let mut commands: Vec<_> = methods.into_iter().map(|method| Command { id: parts.id, method }).collect();
    commands.push(Command { id: 0, method: Method::Pong });
    commands.push(Command { id: 0, method: Method::Send { data: None } });
    commands
}

/// A command as an SDK writes it.
fn write_command(command: &Command<'_>) -> String {
    let since = |since: &Since<'_>| json!({"epoch": since.epoch, "offset": since.offset});
    let (method, params) = match &command.method {
        Method::Pong => return "{}".to_owned(),
        Method::Connect(Connect { token, name, version, data, headers, resumed }) => {
            let (name_of_one, value) = &headers[0];
            let headers = json!({"X-Other": 1, &**name_of_one: value.0});
            let mut subs = json!({});
            for (topic, from) in resumed {
                let (epoch, offset) = (since(from)["epoch"].take(), since(from)["offset"].take());
                subs[&**topic] = json!({"recover": true, "epoch": epoch, "offset": offset});
            }
            let (token, headers) = (&token.0, &headers);
            let params =
                json!({"token": token, "name": name, "version": version, "headers": headers, "subs": subs});
            return with_data(command.id, "connect", &params, *data);
        }
        Method::Subscribe(subscribe) => {
            let mut params = json!({
                "channel": subscribe.topic,
                "token": subscribe.token.0,
                "recover": subscribe.recover.is_some(),
                "recoverable": subscribe.recoverable,
                "positioned": subscribe.positioned,
                "flag": 1 | i32::from(subscribe.rejects_unrecovered) << 1,
                "type": i32::from(subscribe.unsupported),
            });
            if let Some(from) = &subscribe.recover {
                params["epoch"] = since(from)["epoch"].take();
                params["offset"] = since(from)["offset"].take();
            }
            return with_data(command.id, "subscribe", &params, subscribe.data);
        }
        Method::Unsubscribe { topic } => ("unsubscribe", json!({"channel": topic})),
        Method::Publish { topic, data } => {
            return with_data(command.id, "publish", &json!({"channel": topic}), *data);
        }
        Method::Rpc { method, data } => {
            return with_data(command.id, "rpc", &json!({"method": method}), *data);
        }
        Method::Send { data } => return with_data(command.id, "send", &json!({"x": 1}), *data),
        Method::Ask { topic, asked: Asked::History(HistoryRange { limit, since, reverse }) } => {
            let from = since.as_ref().map(|since| json!({"epoch": since.epoch, "offset": since.offset}));
            let limit = limit.map_or(-1, i64::from);
            ("history", json!({"channel": topic, "limit": limit, "since": from, "reverse": reverse}))
        }
        Method::Refresh { token } => ("refresh", json!({"token": token.0})),
        Method::RefreshSubscription { topic, token } => {
            ("sub_refresh", json!({"channel": topic, "token": token.0}))
        }
        Method::Unavailable => ("ping", json!({})),
        Method::Unknown => ("dance", json!({})),
    };
    json!({"id": command.id, method: params}).to_string()
}

/// A command with data. Not by way of a value: the bytes of the data are the command's.
fn with_data(id: u32, method: &str, params: &Value, data: Option<&[u8]>) -> String {
    let params = params.to_string();
    let others = params.strip_suffix('}').unwrap();
    let data = data.map(|data| format!(",\"data\":{}", std::str::from_utf8(data).unwrap()));
    format!("{{\"{method}\":{others}{}}},\"id\":{id}}}", data.unwrap_or_default())
}

/// What the bytes that a codec has written say.
#[derive(Debug)]
struct Said {
    value: Value,
    /// What it tells, for a reply to borrow.
    told: OnceCell<Told>,
}

impl Said {
    fn read(line: &[u8]) -> Self {
        assert_eq!(memchr::memchr_iter(b'\n', line).collect::<Vec<_>>(), [line.len() - 1], "one line");
        Self { value: serde_json::from_slice(line).unwrap(), told: OnceCell::new() }
    }

    fn text(&self, path: &str) -> &str {
        self.value.pointer(path).map_or("", |text| text.as_str().unwrap())
    }

    fn number(&self, path: &str) -> u64 {
        self.value.pointer(path).map_or(0, |number| number.as_u64().unwrap())
    }

    fn flag(&self, path: &str) -> bool {
        self.value.pointer(path).is_some_and(|flag| flag.as_bool().unwrap())
    }

    /// When what the reply is about expires. Whether it does stands in a field of its own.
    fn ttl(&self, path: &str) -> Option<NonZeroU32> {
        let seconds = self.number(&format!("{path}/ttl"));
        assert_eq!(self.flag(&format!("{path}/expires")), seconds > 0);
        NonZeroU32::new(u32::try_from(seconds).unwrap())
    }

    fn has(&self, path: &str) -> bool {
        self.value.pointer(path).is_some()
    }

    fn position(&self, path: &str) -> Position<'_> {
        Position {
            epoch: self.text(&format!("{path}/epoch")),
            offset: self.number(&format!("{path}/offset")),
        }
    }

    /// The reply; `list` is what its publications were written as, `data` what the token has for the client.
    fn reply<'a>(&'a self, list: &'a [u8], data: &'a str) -> Reply<'a> {
        let members = self.value.as_object().unwrap();
        let method = members.keys().find(|key| *key != "id").unwrap();
        let publications = |path: &str| {
            let found = self.value.pointer(path);
            let expected: Value = serde_json::from_slice(&[b"[", list, b"]"].concat()).unwrap();
            assert!(found.is_none_or(|found| *found == expected));
            EncodedPublications(if found.is_some() { list } else { b"" })
        };
        match method.as_str() {
            "connect" => Reply::Connect(Connected {
                client: self.text("/connect/client"),
                version: self.text("/connect/version"),
                ttl: self.ttl("/connect"),
                ping: u32::try_from(self.number("/connect/ping")).unwrap(),
                pong: self.flag("/connect/pong"),
                data: self.value.pointer("/connect/data").map(|found| {
                    assert_eq!(*found, serde_json::from_str::<Value>(data).unwrap());
                    data
                }),
                subscriptions: EncodedSubscriptions::default(),
            }),
            "subscribe" => Reply::Subscribe(Subscribed {
                position: self.flag("/subscribe/positioned").then(|| self.position("/subscribe")),
                ttl: self.ttl("/subscribe"),
                data: self.value.pointer("/subscribe/data").map(|found| {
                    assert_eq!(*found, serde_json::from_str::<Value>(data).unwrap());
                    data
                }),
                recoverable: self.flag("/subscribe/recoverable"),
                was_recovering: self.flag("/subscribe/was_recovering"),
                recovered: self.flag("/subscribe/recovered").then(|| publications("/subscribe/publications")),
            }),
            "refresh" => Reply::Refresh(Refreshed {
                client: self.text("/refresh/client"),
                version: self.text("/refresh/version"),
                ttl: self.ttl("/refresh"),
            }),
            "sub_refresh" => Reply::RefreshSubscription { ttl: self.ttl("/sub_refresh") },
            "unsubscribe" => Reply::Unsubscribe,
            "publish" => Reply::Publish,
            "rpc" => Reply::Rpc {
                data: self.value.pointer("/rpc/data").map_or(b"", |found| {
                    assert_eq!(*found, serde_json::from_str::<Value>(data).unwrap());
                    data.as_bytes()
                }),
            },
            "error" if self.number("/error/code") >= 400 => Reply::Failed(Failure {
                code: u32::try_from(self.number("/error/code")).unwrap(),
                message: self.text("/error/message"),
                is_temporary: self.flag("/error/temporary"),
            }),
            "history" => Reply::Told(self.told.get_or_init(|| {
                let Position { epoch, offset } = self.position("/history");
                let position = position::Position { epoch: epoch.into(), offset };
                let publications = publications("/history/publications").0.to_vec();
                Told::History(HistoryPage { position, publications })
            })),
            "error" => {
                let found = ERRORS.into_iter().find(|error| {
                    u64::from(error.code()) == self.number("/error/code")
                        && error.is_temporary() == self.flag("/error/temporary")
                        && error.text() == self.text("/error/message")
                });
                Reply::Error(found.unwrap())
            }
            other => panic!("{other}"),
        }
    }

    /// The push; `data` is what was published.
    fn push<'a>(&'a self, data: &'a [u8]) -> Push<'a> {
        let topic = self.text("/push/channel");
        if self.has("/push/pub") {
            assert_eq!(self.value["push"]["pub"]["data"], serde_json::from_slice::<Value>(data).unwrap());
            let publication = Publication { data, info: None, offset: self.number("/push/pub/offset") };
            let epoch = self.has("/push/pub/epoch").then(|| self.text("/push/pub/epoch"));
            Push::Publication(Published { topic, publication, epoch })
        } else if self.has("/push/unsubscribe") {
            let found = UNSUBSCRIBES.into_iter().find(|code| {
                u64::from(code.code()) == self.number("/push/unsubscribe/code")
                    && code.text() == self.text("/push/unsubscribe/reason")
            });
            Push::Unsubscribe { topic, code: found.unwrap() }
        } else {
            assert_eq!(self.value, json!({}));
            Push::Ping
        }
    }
}

/// One reply of each kind.
fn replies<'a>(parts: &'a Parts, list: &'a [u8], data: &'a str, told: &'a Told) -> Vec<Reply<'a>> {
    let [positioned, recoverable, was_recovering, is_recovered] = parts.flags;
    let position = Position { epoch: &parts.topic, offset: parts.offset };
    let publications = EncodedPublications(list);
    let (client, version, ttl) = (&*parts.topic, &*parts.topic, NonZeroU32::new(parts.number));
    let subscriptions = EncodedSubscriptions::default();
    let connected = Connected {
        client,
        version,
        ttl,
        ping: parts.number,
        pong: positioned,
        data: recoverable.then_some(data),
        subscriptions,
    };
    let subscribed = Subscribed {
        position: (positioned || is_recovered).then_some(position),
        ttl,
        data: recoverable.then_some(data),
        recoverable,
        was_recovering,
        recovered: is_recovered.then_some(publications),
    };
    let mut replies = vec![
        Reply::Connect(connected),
        Reply::Subscribe(subscribed),
        Reply::Refresh(Refreshed { client, version, ttl }),
        Reply::RefreshSubscription { ttl },
        Reply::Unsubscribe,
        Reply::Publish,
        Reply::Told(told),
        Reply::Rpc { data: if positioned { data.as_bytes() } else { b"" } },
        Reply::Failed(Failure {
            code: 400 + parts.number % 1600,
            message: &parts.topic,
            is_temporary: recoverable,
        }),
    ];
    replies.extend(ERRORS.map(Reply::Error));
    replies
}

/// One push of each kind.
fn pushes<'a>(parts: &'a Parts, data: &'a [u8]) -> Vec<Push<'a>> {
    let publication = Publication { data, info: None, offset: parts.offset };
    let published = Published { topic: &parts.topic, publication, epoch: parts.text.as_deref() };
    let mut pushes = vec![Push::Publication(published), Push::Ping];
    pushes.extend(UNSUBSCRIBES.map(|code| Push::Unsubscribe { topic: &parts.topic, code }));
    pushes
}

proptest! {
    #[test]
    fn commands_are_read_as_they_were_written(parts in parts()) {
        let commands = commands(&parts);
        let lines: Vec<_> = commands.iter().map(write_command).collect();
        let message = lines.join("\n").into_bytes();
        let mut rest = Some(&message[..]);
        for command in &commands {
            let (line, others) = read::split(rest.unwrap());
            prop_assert_eq!(&read::command(line).unwrap(), command);
            rest = others;
        }
        prop_assert_eq!(rest, None);
    }

    #[test]
    fn replies_are_written_as_they_can_be_read(parts in parts()) {
        let mut list = Vec::new();
        for data in &parts.data {
            let publication = Publication { data: data.as_bytes(), info: None, offset: parts.offset };
            write::add_publication(&mut list, &publication);
        }
        let position = position::Position { epoch: parts.topic.as_str().into(), offset: parts.offset };
        let told = Told::History(HistoryPage { position, publications: list.clone() });
        let data = parts.data.first().map_or("null", String::as_str);
        for reply in replies(&parts, &list, data, &told) {
            let mut line = Vec::new();
            write::reply(&mut line, parts.id, &reply);
            let said = Said::read(&line);
            prop_assert_eq!(said.number("/id"), u64::from(parts.id));
            prop_assert_eq!(said.reply(&list, data), reply);
        }
    }

    #[test]
    fn pushes_are_written_as_they_can_be_read(parts in parts()) {
        let data = parts.data.first().map_or("null", String::as_str);
        for push in pushes(&parts, data.as_bytes()) {
            let mut line = Vec::new();
            write::push(&mut line, &push);
            let said = Said::read(&line);
            prop_assert_eq!(said.push(data.as_bytes()), push);
        }
    }
}
