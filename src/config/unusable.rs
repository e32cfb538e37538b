//! Values that have the right type and cannot be used: they are out of their bounds, do not go together with another
//! value, or are not safe.

use std::net::SocketAddr;

use super::keys::quoted;
use super::{AmqpUrlsError, CpuListError, HttpUrlError, Interval, grouped};
use crate::base::printable::escaped;
use crate::domain::topic_pattern::TopicPatternError;
use crate::transport::origin::PatternError;

/// Why a value of the right type cannot be used, as a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct UnusableValue(#[from] UnusableKind);

/// What is wrong. `key` names a value, and `why` is the reason of its bound.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnusableKind {
    #[error("{key} is {} and must be {}: {why}", grouped(*value), range(*least, *most))]
    OutOfRange { key: String, value: usize, least: usize, most: usize, why: &'static str },
    #[error("{key} ({}) must not exceed {bound} ({}): {why}", grouped(*value), grouped(*most))]
    AboveOther { key: String, value: usize, bound: String, most: usize, why: &'static str },
    #[error("{key} is {time} and must be from 1ms to 24h")]
    BadTime { key: &'static str, time: Interval },
    #[error("{key} is {time} and must be at most 24h")]
    LongTime { key: String, time: Interval },

    #[error("server.listen is empty: no client could connect; name at least one address")]
    NoListener,
    #[error("server.listen names {0} twice")]
    ListensTwice(SocketAddr),
    #[error(
        "server.listen: {0} can be reached from other machines, and there is no key for tokens: anyone who reaches it \
         could connect. Name a key (tokens.hmac_keys, tokens.public_keys or jwks.url), or a backend that knows clients \
         (hooks.connect), or listen on 127.0.0.1, or say `--insecure` (server.insecure = true) if the network is yours"
    )]
    ClientsFromElsewhere(SocketAddr),
    #[error("server.cpus: {0}")]
    Cpus(CpuListError),
    #[error("server.allowed_origins: `{origin}` is no origin that a page can have: {error}")]
    AllowedOrigin { origin: String, error: PatternError },
    #[error(
        "server.token_cookie is `{0}`: expected the name of a cookie, with no other characters than HTTP allows there (RFC \
         6265, section 4.1.1)"
    )]
    CookieName(String),
    #[error(
        "server.token_cookie needs the origins of your pages in server.allowed_origins, and neither `*` nor `null` nor \
         `file://` among them: browsers send cookies along, whatever page connects"
    )]
    CookieForEveryPage,
    #[error(
        "server.token_query is `{0}`: expected the name of a parameter such as `token`, of letters, digits, `-` and `_`, \
         that means nothing else here"
    )]
    QueryName(String),
    #[error("server.path is `{0}`: expected a path such as `/connection/websocket`")]
    Path(String),
    #[error("server.namespace_boundary is a control character, which no topic's name may contain")]
    ControlAsBoundary,

    #[error(
        "control.listen: {0} can be reached from other machines, and without control.api_key anyone there could publish and \
         close clients. Set the key (FANFARE_CONTROL_API_KEY), or listen on 127.0.0.1"
    )]
    OperatorsFromElsewhere(SocketAddr),
    #[error("control.api_key has spaces or characters beyond ASCII: it could not stand in an HTTP header")]
    KeyNotInHeader,
    #[error(
        "control.listen and server.listen both name {0}: operators and clients come in by different doors"
    )]
    OneAddressForBoth(SocketAddr),

    #[error(
        "tokens.user_id_claim is `{0}`: expected the name of a claim that means nothing else here, such as `sub`"
    )]
    UserClaim(String),
    #[error("{0} has an empty secret, with which anybody can sign: leave it out, or fill it in")]
    EmptySecret(&'static str),
    #[error(
        "{0} has a key in PEM, and anybody who knows the public one could sign with it: name the file of the public key in \
         `public_keys` of the same table"
    )]
    KeyAsSecret(&'static str),

    #[error("jwks.url {0}")]
    JwksUrl(HttpUrlError),
    #[error("jwks.file and jwks.url both name a key set: leave one out")]
    TwoKeySets,
    #[error("jwks.ca_file says whom to trust for jwks.url, which is empty: leave it out, or name the URL")]
    AuthoritiesForNothing,
    #[error("jwks.refresh is {0} and must be from 10s to 24h: the issuer is asked so often")]
    JwksRefresh(Interval),

    #[error("amqp.url {0}")]
    Url(AmqpUrlsError),
    #[error("{0} is empty: RabbitMQ would take another one for it")]
    NoName(&'static str),
    #[error("{key}: `{name}` is longer than AMQP's {most} bytes")]
    LongName { key: &'static str, name: String, most: usize },
    #[error("{key} is {source_key}: what cannot be delivered would come back for ever")]
    DeadLettersComeBack { key: &'static str, source_key: &'static str },
    #[error("amqp.reconnect_min ({least}) must not exceed amqp.reconnect_max ({most})")]
    Reconnect { least: Interval, most: Interval },
    #[error("amqp.bindings is empty: nothing would ever arrive; \"all\" stands for everything")]
    NoBindings,
    #[error(
        "amqp.bindings is \"dynamic\", but amqp.source is \"stream\": all nodes read the stream, and it keeps what \
         subscribers will come back for, so it cannot follow those of one node; say amqp.source = \"queue\" (`--source \
         queue`), or amqp.bindings = \"all\""
    )]
    DynamicStream,
    #[error(
        "amqp.bindings is \"dynamic\", but amqp.queue names `{queue}`: it keeps what is sent while no engine and so no \
         subscriber is there, and its bindings are its owner's; leave amqp.queue empty, or say amqp.bindings = \"all\""
    )]
    DynamicQueue { queue: String },
    #[error(
        "amqp.queue names `{queue}`, but amqp.source is \"stream\": say amqp.source = \"queue\" (`--source queue`) to \
         consume it, or leave amqp.queue empty"
    )]
    QueueWithStream { queue: String },
    #[error(
        "amqp.replay_max_age is {time} and must be from 2m, so that a living node's marker is among what is read back, to \
         24h"
    )]
    ReplayAge { time: Interval },
    #[error(
        "amqp.stream_max_age is {time} and must be from amqp.replay_max_age ({replay}) to 8760h: what is read back has to \
         be there"
    )]
    StreamAge { time: Interval, replay: Interval },

    #[error("budgets.read_time is {0} and must be from 1ms to 1s: a part of each turn is for publications")]
    ReadTime(Interval),
    #[error(
        "timeouts.pong ({pong}) must be shorter than timeouts.ping ({ping}): each ping waits for its own pong"
    )]
    LatePong { pong: Interval, ping: Interval },
    #[error("timeouts.ping is {0}: the protocol tells clients whole seconds")]
    PartOfSecond(Interval),
    #[error("log.level is `{0}`: expected `error`, `warn`, `info` or `debug`")]
    LogLevel(String),

    #[error(
        "namespaces.`{}`: a topic's namespace is what stands before the first `{boundary}`, so no topic could be in this \
         one",
        escaped(.name)
    )]
    NamespaceName { name: String, boundary: char },
    #[error(
        "namespaces.`{}` begins with server.private_prefix (`{prefix}`), which is not part of a namespace's name: \
         `{prefix}chat:1` is a private topic of the namespace `chat`",
        escaped(.name)
    )]
    PrivateNamespace { name: String, prefix: String },
    #[error("{key} contains a comma, a control character or server.namespace_boundary (`{boundary}`)")]
    Marker { key: &'static str, boundary: char },
    #[error(
        "namespaces.{name}.client_subscribe names \"subscriber\": a client that is subscribed already needs no permission; \
         leave it out"
    )]
    SubscriberSubscribes { name: String },
    #[error("namespaces.{name}.topic_pattern is {error}")]
    Pattern { name: String, error: TopicPatternError },
    #[error(
        "namespaces.{name}.max_messages and namespaces.{name}.max_bytes say when waiting ends, but without \
         namespaces.{name}.max_delay nothing waits"
    )]
    NothingWaits { name: String },
    #[error(
        "namespaces.{name}.slow is \"skip\", which leaves publications out, or all but the latest of each key, and \
         namespaces.{name}.history_size promises that none is missing: choose one"
    )]
    SkipsHistory { name: String },

    #[error(
        "backends.`{}`: expected a name of 1 to {most} letters, digits, `-` and `_`, which metrics show",
        escaped(.name)
    )]
    BackendName { name: String, most: usize },
    #[error(
        "backends.{0}.url is empty: say where it is asked, such as `http://localhost:8080/fanfare`; the backend that is \
         reached through RabbitMQ is called `amqp`"
    )]
    NoBackendUrl(String),
    #[error("backends.{name}.url {error}")]
    BackendUrl { name: String, error: HttpUrlError },
    #[error(
        "backends.{0}.ca_file says whom to trust for `https://`, and backends.{0}.url begins with `http://`: leave it out, or \
         say `https://`"
    )]
    BackendAuthorities(String),
    #[error(
        "backends.amqp.{0} is for requests by HTTP, and the backend `amqp` is reached through RabbitMQ: leave it out, or give \
         the backend another name"
    )]
    OnlyByHttp(&'static str),
    #[error("{key} is {time} and must be from 1ms to 10m: clients wait for so long")]
    CallTime { key: String, time: Interval },
    #[error(
        "{key} names the header `{}`: expected a name such as `Cookie`, with no other characters than HTTP allows there (RFC \
         9110, section 5.6.2)",
        escaped(.header)
    )]
    HeaderName { key: String, header: String },
    #[error(
        "{key} names the header `{header}`, which the engine sets itself, or which is about one connection or its handshake: leave it out"
    )]
    OwnHeader { key: String, header: String },
    #[error("{key} names the header `{header}` twice")]
    HeaderTwice { key: String, header: String },
    #[error("{0} has a line break or another control character, which cannot stand in an HTTP header")]
    HeaderValue(String),
    #[error("{key} has two rules for the status {status}: leave one out")]
    StatusTwice { key: String, status: u16 },
    #[error(
        "{key} says of the status {status} nothing or two things: expected either `error` or `disconnect`"
    )]
    StatusMeaning { key: String, status: u16 },
    #[error("{key} names the backend `{}`, which is not configured{}", escaped(.name), instead(name, nearest.as_deref()))]
    UnknownBackend { key: String, name: String, nearest: Option<String> },
    #[error(
        "{key} names the backend `amqp`, which is reached through RabbitMQ, but amqp.url is empty: name RabbitMQ, or a backend \
         that is asked by HTTP"
    )]
    BackendWithoutRabbit { key: String },
    #[error(
        "{key} is no pattern of methods: it has at most {most} bytes, and a `*`, which stands for any characters, as its last \
         one only"
    )]
    MethodPattern { key: String, most: usize },
}

/// What could be meant by a backend that is not there.
fn instead(name: &str, nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("; the nearest is `{nearest}`"),
        None if name.is_empty() => "; the empty name is none".to_owned(),
        None => format!(": add [backends.{}]", quoted(name)),
    }
}

fn range(least: usize, most: usize) -> String {
    match most {
        usize::MAX => format!("at least {}", grouped(least)),
        _ => format!("from {} to {}", grouped(least), grouped(most)),
    }
}
