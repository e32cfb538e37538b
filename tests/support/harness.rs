//! What tests with a RabbitMQ begin with: an engine on a virtual host of its own, two of them, or a virtual host behind
//! a proxy.

use super::engine::Engine;
use super::proxy::Proxy;
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

/// A virtual host with a proxy in front of it, whose connections a test can cut or hold up.
#[derive(Debug)]
pub struct ProxiedVhost {
    /// The RabbitMQ, which other tests use as well.
    pub node: &'static RabbitNode,
    /// The way past the proxy, as `amqp://` URL.
    pub url: String,
    /// The way through the proxy.
    pub proxied_url: String,
    /// It ends with the value.
    pub proxy: Proxy,
}

impl ProxiedVhost {
    /// Adds a virtual host to the shared RabbitMQ.
    ///
    /// # Panics
    /// If another test has this virtual host.
    #[track_caller]
    pub fn start(vhost: &str) -> Self {
        let node = RabbitNode::shared();
        let url = node.new_vhost(vhost);
        let proxy = Proxy::to(node.port());
        Self { node, proxied_url: proxy.instead_of(node.port(), &url), url, proxy }
    }
}

/// Adds a virtual host to the shared RabbitMQ, and starts two engines with this configuration on it: the virtual
/// host as `amqp://` URL, and the engines.
///
/// # Panics
/// If another test has this virtual host, or an engine is not ready in time.
#[track_caller]
pub fn start_two_nodes(vhost: &str, config: &str) -> (String, [Engine; 2]) {
    let url = RabbitNode::shared().new_vhost(vhost);
    // Both first start, and then become ready, so that neither waits for the other.
    let engines = [(); 2].map(|()| Engine::with_config_and(config, &["--amqp", &url]));
    engines.iter().for_each(Engine::wait_until_ready);
    (url, engines)
}
