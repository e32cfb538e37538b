//! The tests' own RabbitMQ: what other tests rely on.

mod support;

use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};
use support::rabbitmq::{RabbitNode, Version};

#[test]
fn a_node_keeps_durable_things_and_ends_with_its_value() {
    let mut node = RabbitNode::start();
    let url = node.new_vhost("shop");
    assert!(url.ends_with(&format!(":{}/shop", node.port())), "{url}");
    let wanted = match Version::of_this_run() {
        Version::Three => "3.10.",
        Version::Four => "4.",
    };
    let version = node.ctl(&["version"]);
    assert!(version.starts_with(wanted), "{version}");

    let has_shop = |node: &RabbitNode| node.ctl(&["list_vhosts"]).lines().any(|line| line == "shop");
    node.stop();
    node.start_again();
    assert!(has_shop(&node));
    node.kill();
    node.start_again();
    assert!(has_shop(&node));
    crowds_do_not_keep_rabbitmqctl_from_starting(&node);
}

/// Where clients have all ports from which it takes one by default.
fn crowds_do_not_keep_rabbitmqctl_from_starting(node: &RabbitNode) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("bound");
    let crowd: Vec<_> = (35_672..=35_682).map(|port| connect_from(port, address)).collect();
    node.new_vhost("crowded");
    drop((crowd, server));
}

/// A connection from this port, unless somebody has it already.
fn connect_from(port: u16, server: SocketAddr) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).ok()?;
    socket.connect(&server.into()).expect("it listens");
    Some(socket)
}
