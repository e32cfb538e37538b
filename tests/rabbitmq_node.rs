//! The tests' own RabbitMQ: what other tests rely on.

mod support;

use support::rabbitmq::RabbitNode;

#[test]
fn a_node_keeps_durable_things_and_ends_with_its_value() {
    let mut node = RabbitNode::start();
    let url = node.new_vhost("shop");
    assert!(url.ends_with(&format!(":{}/shop", node.port())), "{url}");
    node.stop();
    node.start_again();
    assert!(node.ctl(&["list_vhosts"]).lines().any(|line| line == "shop"));
    node.kill();
    node.start_again();
    assert!(node.ctl(&["list_vhosts"]).lines().any(|line| line == "shop"));
}
