//! From replies and pushes to bytes: the JSON codec's writer. Each is one line, closed by `\n`. What is empty, 0 or false
//! is left out.

use std::io::Write;
use std::num::NonZeroU32;
use std::ops::Range;

use super::client_info;
use super::text::{embed, quote, quoted_len};
use crate::codec::push::{Published, Push};
use crate::codec::reply::{Connected, EncodedPublications, Failure, Refreshed, Reply, Subscribed};
use crate::domain::asked::{HistoryPage, Told};
use crate::domain::publication::Publication;
use crate::domain::reasons::UnsubscribeCode;

const BEGIN: &[u8] = b"{\"push\":{\"channel\":";
const PUBLICATION: &[u8] = b"\"pub\":";
const DATA: &[u8] = b"{\"data\":";
const INFO: &[u8] = b",\"info\":";
const OFFSET: &[u8] = b",\"offset\":";
const END: &[u8] = b"}}\n";

/// Appends the reply to a command. The name of the method is there even if there is nothing to say, because SDKs look
/// for it.
pub fn reply(out: &mut Vec<u8>, id: u32, reply: &Reply<'_>) {
    put(out, format_args!("{{\"id\":{id},"));
    match reply {
        Reply::Connect(connected) => connect(out, connected),
        Reply::Subscribe(subscribed) => subscribe(out, subscribed),
        Reply::Refresh(refreshed) => refresh(out, refreshed),
        Reply::RefreshSubscription { ttl } => {
            out.extend_from_slice(b"\"sub_refresh\":{");
            expires(out, "", *ttl);
        }
        Reply::Unsubscribe => out.extend_from_slice(b"\"unsubscribe\":{"),
        Reply::Publish => out.extend_from_slice(b"\"publish\":{"),
        Reply::Told(Told::History(page)) => history(out, page),
        Reply::Rpc { data } => rpc(out, data),
        Reply::Error(code) => {
            let (message, is_temporary) = (code.text(), code.is_temporary());
            failure(out, &Failure { code: code.code().into(), message, is_temporary });
        }
        Reply::Failed(failed) => failure(out, failed),
    }
    out.extend_from_slice(b"}}\n");
}

fn connect(out: &mut Vec<u8>, connected: &Connected<'_>) {
    out.extend_from_slice(b"\"connect\":{");
    connection(out, connected.client, connected.version, connected.ttl);
    if connected.ping > 0 {
        put(out, format_args!(",\"ping\":{}", connected.ping));
    }
    if connected.pong {
        out.extend_from_slice(b",\"pong\":true");
    }
    if let Some(data) = connected.data {
        out.extend_from_slice(b",\"data\":");
        embed(out, data.as_bytes());
    }
    if !connected.subscriptions.0.is_empty() {
        out.extend_from_slice(b",\"subs\":{");
        out.extend_from_slice(connected.subscriptions.0);
        out.push(b'}');
    }
}

fn refresh(out: &mut Vec<u8>, refreshed: &Refreshed<'_>) {
    out.extend_from_slice(b"\"refresh\":{");
    connection(out, refreshed.client, refreshed.version, refreshed.ttl);
}

/// Appends what replies about the connection begin with.
fn connection(out: &mut Vec<u8>, client: &str, version: &str, ttl: Option<NonZeroU32>) {
    out.extend_from_slice(b"\"client\":");
    quote(out, client);
    out.extend_from_slice(b",\"version\":");
    quote(out, version);
    expires(out, ",", ttl);
}

/// Appends when something expires, if it does, behind `separator`.
fn expires(out: &mut Vec<u8>, separator: &str, ttl: Option<NonZeroU32>) {
    if let Some(seconds) = ttl {
        put(out, format_args!("{separator}\"expires\":true,\"ttl\":{seconds}"));
    }
}

/// Appends a subscription to a list of members of a JSON object.
pub fn add_subscription(list: &mut Vec<u8>, topic: &str, subscribed: &Subscribed<'_>) {
    if !list.is_empty() {
        list.push(b',');
    }
    quote(list, topic);
    list.extend_from_slice(b":{");
    subscription(list, subscribed);
    list.push(b'}');
}

fn subscribe(out: &mut Vec<u8>, subscribed: &Subscribed<'_>) {
    out.extend_from_slice(b"\"subscribe\":{");
    subscription(out, subscribed);
}

/// Appends the members of a subscribe reply.
fn subscription(out: &mut Vec<u8>, subscribed: &Subscribed<'_>) {
    let mut separator = "";
    if let Some(position) = subscribed.position {
        out.extend_from_slice(b"\"positioned\":true,\"epoch\":");
        quote(out, position.epoch);
        if position.offset > 0 {
            put(out, format_args!(",\"offset\":{}", position.offset));
        }
        separator = ",";
    }
    if subscribed.ttl.is_some() {
        expires(out, separator, subscribed.ttl);
        separator = ",";
    }
    if let Some(data) = subscribed.data {
        put(out, format_args!("{separator}\"data\":"));
        embed(out, data.as_bytes());
        separator = ",";
    }
    let flags = [
        ("recoverable", subscribed.recoverable),
        ("was_recovering", subscribed.was_recovering),
        ("recovered", subscribed.recovered.is_some()),
    ];
    for (name, _) in flags.into_iter().filter(|&(_, is_set)| is_set) {
        put(out, format_args!("{separator}\"{name}\":true"));
        separator = ",";
    }
    if let Some(recovered) = subscribed.recovered.filter(|recovered| !recovered.0.is_empty()) {
        publications(out, recovered);
    }
}

fn history(out: &mut Vec<u8>, page: &HistoryPage) {
    out.extend_from_slice(b"\"history\":{\"epoch\":");
    quote(out, &page.position.epoch);
    put(out, format_args!(",\"offset\":{}", page.position.offset));
    publications(out, EncodedPublications(&page.publications));
}

fn publications(out: &mut Vec<u8>, publications: EncodedPublications<'_>) {
    out.extend_from_slice(b",\"publications\":[");
    out.extend_from_slice(publications.0);
    out.push(b']');
}

fn rpc(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(b"\"rpc\":{");
    if !data.is_empty() {
        out.extend_from_slice(b"\"data\":");
        embed(out, data);
    }
}

fn failure(out: &mut Vec<u8>, Failure { code, message, is_temporary }: &Failure<'_>) {
    put(out, format_args!("\"error\":{{\"code\":{code},\"message\":"));
    quote(out, message);
    if *is_temporary {
        out.extend_from_slice(b",\"temporary\":true");
    }
}

/// Appends a push.
pub fn push(out: &mut Vec<u8>, push: &Push<'_>) {
    match push {
        Push::Publication(published) => drop(publication(out, published)),
        Push::Unsubscribe { topic, code } => unsubscribe(out, topic, *code),
        Push::Ping => out.extend_from_slice(b"{}\n"),
    }
}

/// Appends the line of a publication: encoded once, however many clients get it. Returns where in `out` its data stands.
pub fn publication(out: &mut Vec<u8>, published: &Published<'_>) -> Range<usize> {
    begin(out, published.topic);
    out.extend_from_slice(PUBLICATION);
    let data = begin_publication(out, &published.publication);
    if let Some(epoch) = published.epoch {
        out.extend_from_slice(b",\"epoch\":");
        quote(out, epoch);
    }
    out.push(b'}');
    out.extend_from_slice(END);
    data
}

/// How many bytes [`publication`] appends.
#[must_use]
pub fn publication_len(published: &Published<'_>) -> usize {
    const EPOCH: usize = ",\"epoch\":".len();
    BEGIN.len()
        + quoted_len(published.topic)
        + 1
        + PUBLICATION.len()
        + object_len(&published.publication)
        + published.epoch.map_or(0, |epoch| EPOCH + quoted_len(epoch))
        + END.len()
}

/// How many bytes the object of a publication has, without an epoch.
fn object_len(publication: &Publication<'_>) -> usize {
    let info = publication.info.map_or(0, |info| INFO.len() + client_info::len(info));
    let digits = publication.offset.checked_ilog10().map_or(0, |log| OFFSET.len() + 1 + log as usize);
    DATA.len() + publication.data.len() + info + digits + 1
}

/// Appends a publication to a list of members of a JSON array.
pub fn add_publication(list: &mut Vec<u8>, publication: &Publication<'_>) {
    if !list.is_empty() {
        list.push(b',');
    }
    begin_publication(list, publication);
    list.push(b'}');
}

/// How many bytes [`add_publication`] appends, a comma included.
#[must_use]
pub fn added_len(publication: &Publication<'_>) -> usize {
    1 + object_len(publication)
}

/// Appends a publication without its closing brace. Returns where in `out` its data stands.
fn begin_publication(out: &mut Vec<u8>, publication: &Publication<'_>) -> Range<usize> {
    out.extend_from_slice(DATA);
    let start = out.len();
    embed(out, publication.data);
    let end = out.len();
    if let Some(info) = publication.info {
        out.extend_from_slice(INFO);
        client_info::write(out, info);
    }
    if publication.offset > 0 {
        out.extend_from_slice(OFFSET);
        // Faster than formatting: an answer has up to thousands of these.
        serde_json::to_writer(&mut *out, &publication.offset).expect("writing to memory does not fail");
    }
    start..end
}

fn unsubscribe(out: &mut Vec<u8>, topic: &str, code: UnsubscribeCode) {
    begin(out, topic);
    put(out, format_args!("\"unsubscribe\":{{\"code\":{},\"reason\":", code.code()));
    quote(out, code.text());
    out.extend_from_slice(b"}}}\n");
}

fn begin(out: &mut Vec<u8>, topic: &str) {
    out.extend_from_slice(BEGIN);
    quote(out, topic);
    out.push(b',');
}

fn put(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests;
