//! RabbitMQ by TLS: the certificate's authority is named in the URL, and nobody else's is trusted.

use std::path::Path;

use crate::support::bytes::{BytesPublisher, property};
use crate::support::engine::{Engine, run_to_end, serve};
use crate::support::process::TempDir;
use crate::support::rabbitmq::{Identity, RabbitNode, answers_amqp};
use crate::support::wait::SOON;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;

/// An authority of the test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signed"))
    }

    /// A server that is known by this name or address, and no other.
    fn identity(&self, name: &str) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// The file to be named in `cacertfile`.
    fn pem(&self) -> String {
        self.0.pem()
    }
}

fn url(node: &RabbitNode, host: &str, authority: Option<&Path>) -> String {
    let parameter = authority.map_or_else(String::new, |file| format!("?cacertfile={}", file.display()));
    format!("amqps://guest:guest@{host}:{}/%2f{parameter}", node.port())
}

#[test]
fn what_is_published_by_tls_reaches_subscribers_and_nobody_unknown_is_trusted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let files = TempDir::new("tls");
    let trusted = files.write("authority.pem", &authority.pem());
    let other = files.write("stranger.pem", &stranger.pem());
    let mut node = RabbitNode::start_with_tls(&authority.identity("127.0.0.1"));
    assert!(!answers_amqp(node.port()), "the listener speaks AMQP without TLS");

    // The client here answers no ping while RabbitMQ starts, which takes its time on a busy machine.
    let patient = "[timeouts]\nping = \"1h\"\n";
    let engine = Engine::consuming(&url(&node, "127.0.0.1", Some(&trusted)), patient);
    let mut client = engine.subscriber(&["news"]);
    engine.publish("news", &json!({"by": "TLS"}));
    assert_eq!(client.publication("news"), r#"{"by":"TLS"}"#);
    BytesPublisher::connect(&url(&node, "127.0.0.1", None)).publish(
        b"news",
        &property(10, b"\xff"),
        "\"bytes\"",
    );
    assert_eq!(client.publication("news"), "\"bytes\"");
    assert_eq!(engine.metric("fanfare_rabbitmq_connects_total", &[]), 1.0);
    // RabbitMQ's own word for it, about both connections of the engine.
    let connections = node.ctl(&["list_connections", "ssl"]);
    assert_eq!(connections.lines().filter(|line| line.trim() == "true").count(), 2, "{connections}");
    assert!(!connections.contains("false"), "{connections}");

    // An authority that nobody named, one that did not sign, and a host that the certificate is not for.
    for (host, authority) in
        [("127.0.0.1", None), ("127.0.0.1", Some(&*other)), ("localhost", Some(&*trusted))]
    {
        let mut command = serve();
        command.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
        command.args(["--amqp", &url(&node, host, authority)]);
        let (status, _, stderr) = run_to_end(command, SOON);
        assert_eq!(status.code(), Some(1), "{host}, {authority:?}: {stderr}");
        assert!(!stderr.contains("serving clients"), "it listened: {stderr}");
        for word in ["no TLS with RabbitMQ", host, "cacertfile", "amqp.url"] {
            assert!(stderr.contains(word), "{word:?} is not in: {stderr}");
        }
        assert!(stderr.to_lowercase().contains("certificate"), "it is not said what is wrong: {stderr}");
    }

    // The authority is replaced while the engine runs, and RabbitMQ shows what the new one has signed.
    node.stop();
    files.write("authority.pem", &stranger.pem());
    node.change_identity(&stranger.identity("127.0.0.1"));
    node.start_again();
    engine.wait_until_ready();
    engine.publish("news", &json!({"by": "another"}));
    assert_eq!(client.publication("news"), r#"{"by":"another"}"#);
}

/// A plain port that is spoken to by TLS is told from a RabbitMQ that is away.
#[test]
fn a_port_without_tls_is_said_at_the_start() {
    let node = RabbitNode::shared();
    let mut command = serve();
    command.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
    command.args(["--amqp", &url(node, "127.0.0.1", None)]);
    let (status, _, stderr) = run_to_end(command, SOON);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no TLS with RabbitMQ") && stderr.contains("must be one for TLS"), "{stderr}");
}
