//! What most tests with a RabbitMQ begin with: an engine on a virtual host of its own.

use super::engine::Engine;
use super::publisher::Publisher;
use super::rabbitmq::RabbitNode;
use super::script::Amqp;
use super::websocket::RawClient;

/// An engine, and the virtual host that it consumes.
#[derive(Debug)]
pub struct Harness {
    /// The RabbitMQ, which other tests use as well.
    pub node: &'static RabbitNode,
    /// The virtual host, as `amqp://` URL.
    pub url: String,
    /// It was ready when the test began.
    pub engine: Engine,
}

impl Harness {
    /// Adds a virtual host to the shared RabbitMQ, and starts an engine with this configuration on it.
    ///
    /// # Panics
    /// If another test has this virtual host, or the engine is not ready in time.
    #[track_caller]
    pub fn start(vhost: &str, config: &str) -> Self {
        let node = RabbitNode::shared();
        let url = node.new_vhost(vhost);
        let engine = Engine::consuming(&url, config);
        Self { node, url, engine }
    }

    /// A client of the engine, with these subscriptions.
    ///
    /// # Panics
    /// If one is refused.
    #[track_caller]
    pub fn subscriber(&self, topics: &[&str]) -> RawClient {
        self.engine.subscriber(topics)
    }

    /// Somebody else's connection to the virtual host.
    ///
    /// # Panics
    /// If RabbitMQ refuses.
    #[track_caller]
    pub fn publisher(&self) -> Publisher {
        Publisher::connect(&self.url)
    }

    /// The same from JavaScript, as a service in a shop.
    ///
    /// # Panics
    /// If RabbitMQ refuses.
    #[track_caller]
    pub fn service(&self) -> Amqp {
        Amqp::connect(&self.url)
    }
}
