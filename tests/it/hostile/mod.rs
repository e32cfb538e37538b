//! Peers that do what no client should. Each is answered clearly, and nobody else notices: after each one a
//! healthy client of the same engine still gets what is published.

mod flooding;
mod frames;
mod leaving;
mod limits;
mod requests;

use crate::support::engine::Engine;
use crate::support::peer::Peer;
use crate::support::websocket::RawClient;

/// Healthy clients publish for themselves, so that the check needs nothing but their own connection; and
/// limits on time are short.
const CONFIG: &str = "[namespaces.alive]\nclient_publish = true\n\
                      [timeouts]\nupgrade = \"500ms\"\nconnect = \"500ms\"\nreplies = \"500ms\"\nclose = \"500ms\"\n";

/// An engine and its healthy client.
struct Scene {
    engine: Engine,
    healthy: RawClient,
    published: u32,
}

impl Scene {
    fn new() -> Self {
        Self::with(Engine::with_config(CONFIG))
    }

    fn with(engine: Engine) -> Self {
        let healthy = engine.subscriber(&["alive:1"]);
        Self { engine, healthy, published: 0 }
    }

    /// Someone who has connected in the protocol's sense.
    fn connected(&self) -> Peer {
        Peer::connected(self.engine.client_address())
    }

    /// Someone who has a WebSocket and said nothing.
    fn upgraded(&self) -> Peer {
        Peer::upgraded(self.engine.client_address())
    }

    /// Someone who has a connection and sent this.
    fn sends(&self, bytes: &[u8]) -> Peer {
        let mut peer = Peer::connect(self.engine.client_address());
        peer.send(bytes);
        peer
    }

    /// The healthy client still gets what is published.
    #[track_caller]
    fn is_unharmed(&mut self, after: &str) {
        self.published += 1;
        let data = self.published.to_string();
        let command = format!(r#""publish":{{"channel":"alive:1","data":{data}}}"#);
        let reply = self.healthy.command(&command);
        assert!(reply.contains(r#""publish":{}"#), "after {after}: {reply}");
        assert_eq!(self.healthy.publication("alive:1"), data, "after {after}");
    }
}
