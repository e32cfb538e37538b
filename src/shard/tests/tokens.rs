//! Tokens on their way through a shard: from the bytes of a command to the reply, and to the end of what has expired.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::auth::{JwksKeys, KeySet, Keys, Signer, Verifier};
use crate::config::Secret;
use crate::domain::codec::Codec;
use crate::domain::mail::{Answer, CommandKey, ReplyAddress};
use crate::transport::refusal::Refusal;

const SECRET: &str = "secret";

/// A shard that wants tokens, whose clients are not pinged meanwhile.
pub(super) fn guarded(change: impl FnOnce(&mut Config)) -> World {
    World::new(config(|config| {
        config.tokens.hmac_keys = vec![Secret::from(SECRET)].into();
        config.timeouts.expired = Interval::from_secs(5);
        change(config);
    }))
}

impl World {
    /// A token of the user `u`: `claims` are further ones, and `expires` in how many seconds it does.
    pub(super) fn token(&self, claims: &str, expires: u64) -> String {
        let micros = self.now.unix.as_micros() + 1_000_000 * expires;
        let exp = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        let signer = Signer::with_secret(SECRET.as_bytes()).expect("a secret");
        signer.sign(&format!(r#"{{"sub":"u",{claims}"exp":{exp}}}"#)).expect("it signs")
    }

    /// Somebody whose connection has become a WebSocket, and who has said this.
    pub(super) fn said(&mut self, text: &str) -> Peer {
        let peer = self.arrive();
        peer.pipe().to_server.extend(UPGRADE.bytes());
        self.say(&peer, text);
        peer
    }

    /// Somebody whose request has a further line, and who has said this.
    pub(super) fn asked(&mut self, line: &str, text: &str) -> Peer {
        let peer = self.arrive();
        peer.pipe().to_server.extend(UPGRADE.replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n")).bytes());
        self.say(&peer, text);
        peer
    }

    pub(super) fn connected(&mut self, expires: u64) -> Peer {
        let token = self.token("", expires);
        let peer = self.said(&format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
        let got = peer.got();
        assert!(got.contains(&format!(r#""expires":true,"ttl":{expires}"#)), "{got}");
        peer
    }

    pub(super) fn seconds(&mut self, seconds: u32) {
        (0..10 * seconds).for_each(|_| self.later(Duration::from_millis(100)));
    }
}

#[test]
fn who_shows_no_token_or_a_wrong_one_is_closed() {
    let mut world = guarded(|_| ());
    world.said(r#"{"id":1,"connect":{}}"#);
    assert_eq!((world.closes(CloseReason::BadRequest), world.closes(CloseReason::InvalidToken)), (1, 0));
    for token in ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
        world.said(&format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
    }
    assert_eq!((world.closes(CloseReason::BadRequest), world.closes(CloseReason::InvalidToken)), (1, 3));
    let expired = world.token("", 0);
    let peer = world.said(&format!(r#"{{"id":1,"connect":{{"token":"{expired}"}}}}"#));
    assert!(peer.got().contains(r#""error":{"code":109,"message":"token expired"}"#));
    assert!(world.is_alive(&peer), "it is answered, and not closed");
}

#[test]
fn a_client_whose_connect_was_refused_is_not_read_any_more_and_closed_if_it_stays() {
    let mut world = guarded(|config| config.timeouts.close = Interval::from_secs(3));
    let (expired, valid) = (world.token("", 0), world.token("", 60));
    let peer = world.said(&format!(r#"{{"id":1,"connect":{{"token":"{expired}"}}}}"#));
    peer.got();
    world.say(&peer, &format!(r#"{{"id":2,"connect":{{"token":"{valid}"}}}}"#));
    world.seconds(2);
    assert_eq!((peer.got(), world.closes(CloseReason::Expired)), (String::new(), 0));
    world.seconds(2);
    assert_eq!(world.closes(CloseReason::Expired), 1, "a code on which an SDK comes back");
    assert!(peer.got().contains("connection expired"));
}

/// Each token stands for the seconds after which it expires. Only a token of the client's own is one that it can renew.
#[test]
fn the_token_of_the_request_counts_unless_connect_has_one() {
    for (request, headers, own, counts) in [
        (Some(20), None, None, 20),
        (None, Some(20), None, 20),
        (Some(20), Some(10), None, 10),
        (Some(20), None, Some(10), 10),
        (Some(20), Some(15), Some(10), 10),
        (Some(0), None, Some(10), 10),
        (Some(0), Some(0), Some(10), 10),
    ] {
        let mut world = guarded(|_| ());
        let bearer = |world: &World, expires| format!("Bearer {}", world.token("", expires));
        let line = request.map_or_else(
            || "X-Other: 1".to_owned(),
            |expires| format!("Authorization: {}", bearer(&world, expires)),
        );
        let headers = headers.map_or_else(
            || "{}".to_owned(),
            |expires| format!(r#"{{"AUTHORIZATION":"{}"}}"#, bearer(&world, expires)),
        );
        let token = own.map_or(String::new(), |expires| world.token("", expires));
        let connect = format!(r#"{{"id":1,"connect":{{"token":"{token}","headers":{headers}}}}}"#);
        let peer = world.asked(&line, &connect);
        let got = peer.got();
        let told = own.map(|expires| format!(r#""expires":true,"ttl":{expires}"#));
        assert!(told.map_or_else(|| !got.contains("ttl"), |told| got.contains(&told)), "{got}");
        world.seconds(counts + 4);
        assert!(peer.got().is_empty(), "{line} {connect}");
        world.seconds(2);
        assert_eq!(world.closes(CloseReason::Expired), 1, "{line} {connect}");
    }
}

#[test]
fn a_forged_token_of_a_request_is_refused_before_the_upgrade_and_an_expired_one_behind_it() {
    let mut world = guarded(|_| ());
    let expired = world.token("", 0);
    let peer = world.asked(&format!("Authorization: Bearer {expired}"), r#"{"id":1,"connect":{}}"#);
    let got = peer.got();
    assert!(got.starts_with("HTTP/1.1 101") && got.contains(r#""error":{"code":109"#), "{got}");
    for line in ["Authorization: Bearer a.b.c", "Authorization: Bearer", "Authorization: Bearer \u{e9}"] {
        let got = world.asked(line, r#"{"id":1,"connect":{}}"#).got();
        assert!(got.starts_with("HTTP/1.1 401") && !got.contains("101 Switching"), "{got}");
        assert!(got.contains("www-authenticate: Bearer error=\"invalid_token\"\r\n"), "{got}");
    }
    assert_eq!(world.shard.stats.refused_upgrades[Refusal::InvalidToken as usize].value(), 3);
    assert_eq!(world.closes(CloseReason::UpgradeFailed), 3);
    let others = world.asked("Authorization: Basic YTpi", r#"{"id":1,"connect":{}}"#).got();
    assert!(others.starts_with("HTTP/1.1 101"), "it is not for the engine");
    assert_eq!(world.closes(CloseReason::BadRequest), 1, "and so it has no token");
}

#[test]
fn a_token_that_expires_between_request_and_connect_has_expired() {
    let mut world = guarded(|_| ());
    let token = world.token("", 2);
    let peer = world.arrive();
    let line = format!("\r\nAuthorization: Bearer {token}\r\n\r\n");
    peer.pipe().to_server.extend(UPGRADE.replace("\r\n\r\n", &line).bytes());
    world.shard.readable(peer.key.slot);
    world.seconds(3);
    world.say(&peer, r#"{"id":1,"connect":{}}"#);
    assert!(peer.got().contains(r#""error":{"code":109"#));
}

#[test]
fn without_a_key_a_header_for_somebody_else_does_no_harm() {
    let mut world = World::new(config(|_| ()));
    let got = world.asked("Authorization: Bearer opaque", r#"{"id":1,"connect":{}}"#).got();
    assert!(got.contains(r#""connect":{"#), "{got}");
}

#[test]
fn an_insecure_engine_looks_at_tokens_of_subscriptions_if_it_has_keys_for_them() {
    let mut world = World::new(config(|config| {
        config.server.insecure = true;
        config.subscription_tokens.hmac_keys = vec![Secret::from(SECRET)].into();
    }));
    let peer = world.said(r#"{"id":1,"connect":{"token":"not looked at"}}"#);
    world.say(&peer, r#"{"id":2,"subscribe":{"channel":"$t","token":"x"}}"#);
    assert!(peer.got().contains(r#"{"id":2,"error":{"code":103"#));
}

#[test]
fn without_a_key_a_token_is_refused_unless_the_operator_says_that_none_counts() {
    for (insecure, closes) in [(false, 1), (true, 0)] {
        let mut world = World::new(config(|config| config.server.insecure = insecure));
        let token = world.token("", 60);
        world.said(&format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
        assert_eq!(world.closes(CloseReason::InvalidToken), closes);
    }
}

#[test]
fn a_signature_is_checked_once_for_all_who_show_the_token() {
    let mut world = guarded(|_| ());
    let token = world.token("", 60);
    for _ in 0..3 {
        world.said(&format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
    }
    assert_eq!(world.shard.stats.tokens_verified.value(), 1);
}

fn verifier_by(secret: &str) -> Verifier {
    let mut connection = KeySet::default();
    connection.add_secret(secret.as_bytes()).expect("a secret");
    Verifier::new(&Config::default(), Keys { connection, ..Keys::default() })
}

#[test]
fn a_key_that_is_gone_accepts_nobody_else_and_who_is_there_stays() {
    let mut world = guarded(|_| ());
    let token = world.token("", 60);
    let connect = format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#);
    let stays = world.said(&connect);
    world.tell(Mail::Verifier(verifier_by("another secret")));
    world.said(&connect);
    assert_eq!(world.closes(CloseReason::InvalidToken), 1, "what the token said is forgotten");
    assert!(world.is_alive(&stays));
    world.tell(Mail::Verifier(verifier_by(SECRET)));
    world.said(&connect);
    assert_eq!(world.closes(CloseReason::InvalidToken), 1, "and so is that it was refused");
    assert_eq!(world.shard.stats.tokens_verified.value(), 3);
}

#[test]
fn what_tokens_said_is_remembered_while_the_keys_are_the_same() {
    let mut world = guarded(|_| ());
    let (token, verifier) = (world.token("", 60), verifier_by(SECRET));
    for verified in [1, 1, 2] {
        let next = if verified == 1 { verifier.clone() } else { verifier_by(SECRET) };
        world.tell(Mail::Verifier(next));
        world.said(&format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
        assert_eq!(world.shard.stats.tokens_verified.value(), verified);
    }
}

/// A pair of keys, whose public one has the name `a` in a key set.
struct Issuer(Ed25519KeyPair);

impl Issuer {
    fn new() -> Self {
        Self(Ed25519KeyPair::generate().expect("a key"))
    }

    fn token(&self, key: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let message =
            format!("{}.{}", part(&format!(r#"{{"alg":"EdDSA","kid":"{key}"}}"#)), part(r#"{"sub":"u"}"#));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.0.sign(message.as_bytes())))
    }

    fn keys(&self) -> Arc<KeySet> {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key());
        let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"a","x":"{x}"}}]}}"#);
        KeySet::from_jwks(set.as_bytes()).expect("a set").into()
    }
}

#[test]
fn a_token_whose_key_may_be_on_its_way_is_refused_for_a_while() {
    let mut world = guarded(|_| ());
    let issuer = Issuer::new();
    let connect = |token: &str| format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#);
    let (known, unknown) = (connect(&issuer.token("a")), connect(&issuer.token("b")));
    let undecided = r#"{"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}"#;
    world.tell(Mail::Verifier(verifier_by(SECRET).with_jwks(JwksKeys::Awaited)));
    assert!(world.said(&known).got().contains(undecided));
    let offered = format!("Authorization: Bearer {}", issuer.token("a"));
    let got = world.asked(&offered, r#"{"id":1,"connect":{}}"#).got();
    assert!(got.starts_with("HTTP/1.1 503 ") && got.contains("retry-after: 5\r\n"), "{got}");
    assert!(world.connected(60).got().is_empty(), "other keys are there");
    let fetched = |keys: &Arc<KeySet>, at| JwksKeys::Fetched { keys: Arc::clone(keys), at };
    let keys = issuer.keys();
    let verifier = verifier_by(SECRET);
    world.tell(Mail::Verifier(verifier.with_jwks(fetched(&keys, world.now.unix))));
    assert!(world.said(&known).got().contains(r#""connect":{"client""#));
    assert_eq!(world.shard.stats.tokens_undecided.value(), 2);
    // The set is new, so the key does not exist; later it may; and not if the set is the same and new again.
    world.said(&unknown);
    assert_eq!(world.closes(CloseReason::InvalidToken), 1);
    world.seconds(6);
    assert!(world.said(&unknown).got().contains(undecided));
    assert_eq!(world.shard.stats.tokens_undecided.value(), 3);
    let verified = world.shard.stats.tokens_verified.value();
    world.tell(Mail::Verifier(verifier.with_jwks(fetched(&keys, world.now.unix))));
    world.said(&unknown);
    world.said(&known);
    assert_eq!(
        (world.closes(CloseReason::InvalidToken), world.shard.stats.tokens_verified.value()),
        (2, verified)
    );
}

#[test]
fn few_signatures_of_one_client_are_checked_in_a_turn() {
    let mut world = guarded(|_| ());
    let peer = world.connected(60);
    let commands: Vec<_> = (2..12)
        .map(|id| {
            let token = world.token(&format!(r#""channel":"t{id}","#), 60);
            format!(r#"{{"id":{id},"subscribe":{{"channel":"t{id}","token":"{token}"}}}}"#)
        })
        .collect();
    world.say(&peer, &commands.join("\n"));
    let mut checked = vec![world.shard.stats.tokens_verified.value()];
    while *checked.last().expect("one") < 11 {
        world.tick();
        checked.push(world.shard.stats.tokens_verified.value());
        assert!(checked.len() < 20, "{checked:?}");
    }
    assert!(checked.windows(2).all(|two| two[1] - two[0] <= 2), "{checked:?}");
}

#[test]
fn every_key_that_may_have_signed_a_token_counts() {
    let mut world = guarded(|config| {
        config.tokens.hmac_keys = vec![Secret::from("a"), Secret::from("b"), Secret::from(SECRET)].into();
    });
    for (checks, token) in [(3, world.token("", 60)), (3, forged()), (0, "no.token".to_owned())] {
        let before = world.shard.stats.tokens_verified.value();
        world.said(&format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
        assert_eq!(world.shard.stats.tokens_verified.value() - before, checks);
    }
}

/// A token of another secret.
fn forged() -> String {
    Signer::with_secret(b"another").expect("a secret").sign("{}").expect("it signs")
}

#[test]
fn a_connection_that_has_expired_is_closed_when_its_time_for_another_token_is_over() {
    let mut world = guarded(|_| ());
    let (stays, goes) = (world.connected(10), world.connected(10));
    world.seconds(12);
    let token = world.token("", 60);
    world.say(&stays, &format!(r#"{{"id":2,"refresh":{{"token":"{token}"}}}}"#));
    let got = stays.got();
    assert!(got.contains(r#""refresh":{"client":""#) && got.contains(r#""expires":true,"ttl":60"#), "{got}");
    assert_eq!(world.closes(CloseReason::Expired), 0);
    world.seconds(4);
    assert_eq!(world.closes(CloseReason::Expired), 1);
    assert!(
        !world.is_alive(&goes) || goes.pipe().from_server.windows(2).any(|two| two == 3005_u16.to_be_bytes())
    );
    assert!(world.is_alive(&stays));
    world.seconds(70);
    assert_eq!(world.closes(CloseReason::Expired), 2);
}

/// Its commands wait for the broker, one behind the other.
#[test]
fn a_connection_that_has_expired_is_not_kept_by_commands_that_wait() {
    let mut world = guarded(|config| config.namespaces.extend([policy(SlowPolicy::Skip)]));
    let peer = world.connected(10);
    let publish = r#"{"id":5,"publish":{"channel":"n:t","data":1}}"#;
    world.say(&peer, &format!("{publish}\n{publish}"));
    assert!(world.shard.clients[peer.key.slot].is_stalled());
    world.seconds(40);
    assert_eq!(world.closes(CloseReason::Expired), 1);
}

#[test]
fn subscriptions_that_have_expired_end_together() {
    let mut world = guarded(|_| ());
    let peer = world.connected(1000);
    for id in 2..12 {
        let token = world.token(&format!(r#""channel":"t{id}","#), 10);
        world.say(&peer, &format!(r#"{{"id":{id},"subscribe":{{"channel":"t{id}","token":"{token}"}}}}"#));
        let Some(Request::Attach { topic, .. }) = world.requests.take() else { panic!("it is attached") };
        world.tell(Mail::Attached { topic, position: None });
    }
    world.seconds(14);
    peer.got();
    let mut ended = Vec::new();
    for _ in 0..20 {
        world.later(Duration::from_millis(100));
        ended.push(peer.got().matches("\"code\":2501").count());
    }
    assert_eq!(ended.iter().filter(|&&ended| ended > 0).collect::<Vec<_>>(), [&10], "{ended:?}");
}

#[test]
fn a_subscription_that_has_expired_is_ended_and_the_client_stays() {
    let mut world = guarded(|_| ());
    let peer = world.connected(1000);
    for (id, topic) in [(2, "t"), (3, "s")] {
        let token = world.token(&format!(r#""channel":"{topic}","data":{{"a":1}},"#), 10);
        world.say(&peer, &format!(r#"{{"id":{id},"subscribe":{{"channel":"{topic}","token":"{token}"}}}}"#));
        let Some(Request::Attach { topic, .. }) = world.requests.take() else { panic!("it is attached") };
        world.tell(Mail::Attached { topic, position: None });
        let got = peer.got();
        assert!(got.contains(r#""subscribe":{"expires":true,"ttl":10,"data":{"a":1}}"#), "{got}");
    }
    world.seconds(12);
    let token = world.token(r#""channel":"s","#, 60);
    world.say(&peer, &format!(r#"{{"id":4,"sub_refresh":{{"channel":"s","token":"{token}"}}}}"#));
    assert!(peer.got().contains(r#"{"id":4,"sub_refresh":{"expires":true,"ttl":60}}"#));
    world.seconds(4);
    let got = peer.got();
    let ended = r#"{"push":{"channel":"t","unsubscribe":{"code":2501,"reason":"subscription expired"}}}"#;
    assert!(got.contains(ended) && !got.contains(r#""channel":"s""#), "{got}");
    assert!(world.is_alive(&peer));
}

#[test]
fn a_publication_says_what_the_tokens_of_its_client_say() {
    let mut world = guarded(|config| config.namespaces.extend([policy(SlowPolicy::Skip)]));
    let token = world.token(r#""info":{"name":"U"},"#, 60);
    let peer = world.said(&format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
    let token = world.token(r#""channel":"n:t","info":[1],"#, 60);
    world.say(&peer, &format!(r#"{{"id":2,"subscribe":{{"channel":"n:t","token":"{token}"}}}}"#));
    let Some(Request::Attach { topic, .. }) = world.requests.take() else { panic!("it is attached") };
    world.tell(Mail::Attached { topic, position: None });
    for (topic, chan_info) in [("n:t", "[1]"), ("n:s", "")] {
        world.say(&peer, &format!(r#"{{"id":3,"publish":{{"channel":"{topic}","data":1}}}}"#));
        let Some(Request::Publish(publish)) = world.requests.take() else { panic!("it is published") };
        let info = publish.info.expect("a client publishes");
        let said = (&*info.user, &*info.conn_info, &*info.chan_info);
        assert_eq!(said, ("u", &br#"{"name":"U"}"#[..], chan_info.as_bytes()), "{topic}");
        let command = CommandKey { client: peer.key, id: 3 };
        let to = ReplyAddress { shard: 0, command, codec: Codec::Json };
        world.tell(Mail::Answer { to, budget: None, answer: Answer::Published });
    }
}

#[test]
fn the_token_of_another_user_or_topic_closes_and_a_forged_one_is_refused() {
    let mut world = guarded(|_| ());
    for (claims, code) in [(r#""channel":"s","#, 3500), (r#""channel":"t","client":"x","#, 3500)] {
        let peer = world.connected(60);
        let token = world.token(claims, 60);
        world.say(&peer, &format!(r#"{{"id":2,"subscribe":{{"channel":"t","token":"{token}"}}}}"#));
        let pipe = peer.pipe();
        assert!(pipe.from_server.windows(2).any(|two| two == u16::to_be_bytes(code)), "{claims}");
    }
    let peer = world.connected(60);
    world.say(&peer, r#"{"id":2,"subscribe":{"channel":"t","token":"a.b.c"}}"#);
    assert!(peer.got().contains(r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#));
}
