//! Every way in which a token can be wrong. The client is closed with 3500, and nobody else notices.

use super::{SECRET, token};
use crate::support::engine::Engine;
use crate::support::process::TempDir;
use crate::support::websocket::RawClient;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare::auth::Signer;
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::json;

const ANN: &str = r#"{"sub":"ann"}"#;

/// An engine with a secret, and with a public key of each kind of signature: in a file, and in a key set.
struct Scene {
    engine: Engine,
    healthy: RawClient,
    published: u32,
    /// The pair whose public key the engine has.
    pair: KeyPair,
    _files: TempDir,
}

impl Scene {
    fn new() -> Self {
        let files = TempDir::new("tokens");
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a pair of keys");
        let public = files.write("public.pem", &pair.public_key_pem());
        // The key of RFC 8037, appendix A.2.
        let key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let set = files.write("keys.json", &format!("{{\"keys\":[{key}]}}"));
        let config = format!(
            "[tokens]\nhmac_keys = ['{SECRET}']\npublic_keys = ['{}']\n[jwks]\nfile = '{}'\n\
             [limits]\nmessage_bytes = 1_048_576\n[namespaces.alive]\nclient_publish = [\"user\"]\n",
            public.display(),
            set.display()
        );
        let engine = Engine::with_config(&config);
        let mut healthy = RawClient::open(engine.client_address());
        connect(&mut healthy, &token(&json!({"sub": "ann"})));
        healthy.line();
        healthy.subscribe("alive:1");
        Self { engine, healthy, published: 0, pair, _files: files }
    }

    /// How a client ends that shows this token.
    fn outcome(&self, token: &str) -> (u16, String) {
        let mut client = RawClient::open(self.engine.client_address());
        connect(&mut client, token);
        client.closed()
    }

    /// A client that has been here all the time still gets what is published.
    #[track_caller]
    fn is_unharmed(&mut self, after: &str) {
        self.published += 1;
        let data = self.published.to_string();
        let command = format!(r#""publish":{{"channel":"alive:1","data":{data}}}"#);
        assert!(self.healthy.command(&command).contains(r#""publish":{}"#), "after {after}");
        assert_eq!(self.healthy.publication("alive:1"), data, "after {after}");
    }
}

fn connect(client: &mut RawClient, token: &str) {
    client.send(&json!({"id": 1, "connect": {"token": token}}).to_string());
}

/// Headers of tokens that the secret signed with HMAC all the same, and that it must not vouch for.
const HEADERS: [&str; 21] = [
    r#"{"alg":"none"}"#,
    r#"{"alg":"None"}"#,
    r#"{"alg":"nOnE"}"#,
    r#"{"alg":""}"#,
    r#"{"alg":null}"#,
    r#"{"alg":["HS256"]}"#,
    r#"{"alg":"hs256"}"#,
    r#"{"alg":"HS1"}"#,
    r#"{"alg":"RS256"}"#,
    r#"{"alg":"PS256"}"#,
    r#"{"alg":"ES256"}"#,
    r#"{"alg":"ES384"}"#,
    r#"{"alg":"EdDSA"}"#,
    r#"{"alg":"HS256","alg":"none"}"#,
    r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
    r#"{"alg":"HS256","kid":7}"#,
    r#"{"alg":"ES256","kid":"../../../../etc/passwd"}"#,
    r#"{"alg":"ES256","kid":"https://example.org/keys"}"#,
    r#"{"alg":"ES256","jwk":{"kty":"oct","k":"AA"},"jku":"http://example.org"}"#,
    r#"{"typ":"JWT"}"#,
    "[]",
];

/// Claims that cannot be used, though the secret signed them.
const CLAIMS: [&str; 36] = [
    r#"{"exp":"2100-01-01"}"#,
    r#"{"exp":"4102444800"}"#,
    r#"{"exp":4102444800000}"#,
    r#"{"exp":[4102444800]}"#,
    r#"{"exp":1e400}"#,
    r#"{"exp":null}"#,
    r#"{"nbf":"now"}"#,
    r#"{"iat":"now"}"#,
    r#"{"expire_at":"0"}"#,
    r#"{"sub":42}"#,
    r#"{"sub":null}"#,
    r#"{"sub":{"id":42}}"#,
    r#"{"sub":"ann","sub":"eve"}"#,
    r#"{"iss":7}"#,
    r#"{"aud":{"a":1}}"#,
    r#"{"info":1,"b64info":"MQ=="}"#,
    r#"{"b64info":"*"}"#,
    r#"{"b64info":"Kg=="}"#,
    r#"{"channels":[""]}"#,
    r#"{"channels":["a\nb"]}"#,
    r#"{"channels":"news"}"#,
    r#"{"subs":["news"]}"#,
    r#"{"subs":{"news":{"override":{"presence":true}}}}"#,
    r#"{"caps":{"channels":["a"],"allow":["sub"]}}"#,
    r#"{"caps":[{"channels":["a"]}]}"#,
    r#"{"caps":[{"channels":["a"],"allow":["all"]}]}"#,
    r#"{"caps":[{"channels":["a"],"match":"glob","allow":["sub"]}]}"#,
    r#"{"caps":[{"channels":["("],"match":"regex","allow":["sub"]}]}"#,
    r#"{"caps":[{"channels":["(x{100}){100}"],"match":"regex","allow":["sub"]}]}"#,
    r#"{"channel":"alive:1"}"#,
    r#"{"sub":"ann"}{}"#,
    "[]",
    "7",
    "null",
    "{",
    "",
];

/// A token with this header, which the secret signed whatever the header says.
fn with_header(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// An object of as many claims that nobody knows.
fn unknown_claims(count: usize) -> String {
    let claims: Vec<_> = (0..count).map(|n| format!(r#""x{n}":{n}"#)).collect();
    format!("{{{}}}", claims.join(","))
}

/// Tokens that the secret signed.
fn of_the_secret() -> impl Iterator<Item = (String, String)> {
    let topics: Vec<_> = (0..10_000).map(|n| format!("t{n}")).collect();
    let capability = json!({"channels": ["a"], "allow": ["sub"]});
    let large = [
        json!({"sub": "u".repeat(257)}),
        json!({"info": "i".repeat(2048)}),
        json!({"channels": topics}),
        json!({"caps": vec![capability; 10_000]}),
        json!({"caps": [{"channels": topics, "allow": ["sub"]}]}),
    ];
    let nested = format!(r#"{{"info":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    let claims = CLAIMS.map(str::to_owned).into_iter().chain(large.map(|claims| claims.to_string()));
    let claims = claims.chain([nested]);
    let filled = claims.map(|claims| (claims.clone(), with_header(r#"{"alg":"HS256"}"#, &claims)));
    let long_name = json!({"alg": "ES256", "kid": "k".repeat(10_000)}).to_string();
    let long = json!({"alg": "none", "x": "x".repeat(375_000)}).to_string();
    let headers = HEADERS.map(str::to_owned).into_iter().chain([long_name, long]);
    filled.chain(headers.map(|header| (header.clone(), with_header(&header, ANN))))
}

/// Tokens that somebody else signed, or nobody.
fn of_others(pair: &KeyPair) -> impl Iterator<Item = (String, String)> {
    const OTHER: &[u8] = b"another secret, as long as that one";
    let right = token(&json!({"sub": "ann"}));
    let (message, signature) = right.rsplit_once('.').expect("three parts");
    let with_secret = |secret: &[u8], claims: &str| {
        Signer::with_secret(secret).expect("a secret").sign(claims).expect("it signs")
    };
    let stranger = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a pair of keys");
    let stranger = Signer::from_pem(stranger.serialize_pem().as_bytes()).expect("a private key");
    let tokens = [
        ("a text", "x".to_owned()),
        ("500 KB of dots", ".".repeat(500_000)),
        ("two parts", message.to_owned()),
        ("no signature", format!("{message}.")),
        ("no signature, and an algorithm that needs none", format!("{}.", unsigned("none"))),
        ("the signature of another token", format!("{}.{signature}", unsigned("HS256"))),
        ("a part of the signature", right[..right.len() - 4].to_owned()),
        ("another secret", with_secret(OTHER, ANN)),
        ("another private key", stranger.sign(ANN).expect("it signs")),
        // Everybody knows the public key. Whoever took it for a secret would let everybody sign.
        ("the public key as a secret", with_secret(pair.public_key_pem().as_bytes(), ANN)),
        ("the public key's bytes as a secret", with_secret(&pair.subject_public_key_info(), ANN)),
        ("10,000 claims of a stranger", with_secret(OTHER, &unknown_claims(10_000))),
        ("500 KB of a stranger", with_secret(OTHER, &json!({"x": "x".repeat(375_000)}).to_string())),
    ];
    tokens.into_iter().map(|(what, token)| (what.to_owned(), token))
}

/// Header and claims of a token, without a signature.
fn unsigned(algorithm: &str) -> String {
    let header = json!({"alg": algorithm, "typ": "jwt"}).to_string();
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(ANN))
}

#[test]
fn a_client_with_a_wrong_token_is_closed_and_nobody_else_notices() {
    let mut scene = Scene::new();
    let tokens: Vec<_> = of_others(&scene.pair).chain(of_the_secret()).collect();
    for (what, wrong) in &tokens {
        let what = what.get(..60).unwrap_or(what);
        println!("{what}");
        assert_eq!(scene.outcome(wrong), (3500, "invalid token".to_owned()), "{what}");
        scene.is_unharmed(what);
    }
    let closed = scene.engine.metric("fanfare_closes_total", &[("reason", "invalid_token")]);
    assert_eq!(closed, tokens.len() as f64);
    // Neither the log nor the metrics show any part of a token.
    let (log, metrics) = (scene.engine.stderr().so_far().join("\n"), scene.engine.get("/metrics").body);
    for (what, wrong) in &tokens {
        let mut parts = wrong.split('.').filter(|part| part.len() > 8);
        assert!(parts.all(|part| !log.contains(part) && !metrics.contains(part)), "{what}");
    }
}

/// They are passed over (RFC 7519, section 4), however many there are.
#[test]
fn claims_that_nobody_knows_do_no_harm() {
    let mut scene = Scene::new();
    let token = with_header(r#"{"alg":"HS256","typ":"JWT","kid":"any"}"#, &unknown_claims(10_000));
    let mut client = RawClient::open(scene.engine.client_address());
    connect(&mut client, &token);
    assert!(client.line().contains(r#""client":"#));
    scene.is_unharmed("10,000 claims");
}
