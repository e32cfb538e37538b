//! `server.private_fd_tables`: each shard's descriptors are open in its own table and nowhere else, so that
//! what is closed there is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Instant;

use crate::support::engine::Engine;
use crate::support::peer::{Peer, UPGRADE};
use crate::support::process::TempDir;
use crate::support::rabbitmq::RabbitNode;
use crate::support::wait::{SOON, wait_for, wait_until};
use crate::support::websocket::RawClient;
use fanfare::config::host::DESCRIPTORS_RESERVE;
use serde_json::json;

const SHARDS: usize = 3;

/// Inodes of the sockets in each thread's table, by the thread's name.
fn sockets(pid: u32) -> BTreeMap<String, BTreeSet<u64>> {
    let mut tables = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("the engine runs") {
        let task = task.expect("a thread").path();
        let Ok(name) = fs::read_to_string(task.join("comm")) else { continue };
        let links = fs::read_dir(task.join("fd")).into_iter().flatten();
        let links = links.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        let inode =
            |link: &std::path::Path| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
        tables.insert(name.trim().to_owned(), links.filter_map(|link| inode(&link)).collect());
    }
    tables
}

/// A line of `/proc/net/tcp`: see `proc_pid_net(5)`.
struct Tcp {
    local_port: u16,
    remote_port: u16,
    listens: bool,
    inode: u64,
}

fn tcp() -> Vec<Tcp> {
    let port = |field: &str| u16::from_str_radix(&field[field.len() - 4..], 16).expect("hexadecimal");
    let parse = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        Tcp {
            local_port: port(fields[1]),
            remote_port: port(fields[2]),
            listens: fields[3] == "0A",
            inode: fields[9].parse().expect("a number"),
        }
    };
    fs::read_to_string("/proc/net/tcp").expect("Linux").lines().skip(1).map(parse).collect()
}

fn listeners(address: SocketAddr) -> Vec<u64> {
    let listens = |line: &Tcp| line.listens && line.local_port == address.port();
    tcp().iter().filter(|line| listens(line)).map(|line| line.inode).collect()
}

/// In how many of the tables a socket is open, those of shards and that of all other threads.
fn tables_with(pid: u32, inode: u64) -> usize {
    let is_shard = |name: &String| name.starts_with("shard-");
    let (shards, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
        sockets(pid).into_iter().partition(|(name, _)| is_shard(name));
    let in_shards = shards.values().filter(|table| table.contains(&inode)).count();
    in_shards + usize::from(others.values().any(|table| table.contains(&inode)))
}

fn start(more: &str) -> Engine {
    let config = format!("server.private_fd_tables = true\n{more}");
    Engine::with_config_and(&config, &["--shards", &SHARDS.to_string()])
}

#[test]
fn each_listener_is_in_exactly_one_table() {
    let engine = start("");
    let clients = listeners(engine.client_address());
    assert_eq!(clients.len(), SHARDS, "a listener per shard");
    let operators = listeners(engine.control_address());
    assert_eq!(operators.len(), 1);
    for inode in clients.into_iter().chain(operators) {
        assert_eq!(tables_with(engine.pid(), inode), 1);
    }
}

#[test]
fn after_a_drain_the_port_refuses() {
    let mut engine = start("[stop]\nclients_per_second = 3\n");
    let mut clients: Vec<_> = (0..20).map(|_| engine.client()).collect();
    engine.signal("TERM");
    wait_until(SOON, "the port refuses", || TcpStream::connect(engine.client_address()).is_err());
    assert!(sockets(engine.pid()).values().any(|table| !table.is_empty()), "it still has clients");
    for client in &mut clients {
        assert_eq!(client.closed().0, 3001);
    }
    drop(clients);
    assert_eq!(engine.wait_for_exit(SOON).code(), Some(0));
}

#[test]
fn a_reconnect_to_rabbitmq_frees_the_old_sockets() {
    let mut node = RabbitNode::start();
    // A RabbitMQ that is killed milliseconds after it has declared its first stream may not find it again.
    let engine = start(&format!(
        "[amqp]\nurl = \"{}\"\nsource = \"queue\"\nreconnect_min = \"10ms\"\nreconnect_max = \"100ms\"\n",
        node.amqp_url()
    ));
    engine.wait_until_ready();
    let port = node.port();
    let connections = || -> Vec<u64> {
        let of_engine = |line: &&Tcp| line.remote_port == port && line.inode > 0;
        let all = tcp();
        all.iter()
            .filter(of_engine)
            .filter(|line| tables_with(engine.pid(), line.inode) > 0)
            .map(|line| line.inode)
            .collect()
    };
    let before = connections();
    assert_eq!(before.len(), 2, "one consumes, one publishes");
    node.kill();
    wait_until(SOON, "the loss is noticed", || engine.metric("fanfare_rabbitmq_ready", &[]) == 0.0);
    node.start_again();
    engine.wait_until_ready();
    let after = wait_for(SOON, "two connections again", || Some(connections()).filter(|now| now.len() == 2));
    assert!(before.iter().all(|inode| !after.contains(inode)));
    for inode in before {
        assert_eq!(tables_with(engine.pid(), inode), 0, "an old socket is still open");
    }
}

/// An engine that may have so many descriptors.
fn start_with_limit(limit: u32, config: &str, shards: usize) -> Engine {
    let files = TempDir::new("tables");
    let file = files.path().join("fanfare.toml");
    fs::write(&file, config).expect("the folder is ours");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_fanfare")]);
    command.args(["serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
    command.arg("--shards").arg(shards.to_string()).arg("--config").arg(&file);
    crate::support::engine::clear_settings(&mut command);
    Engine::launch(command, Some(files))
}

/// The descriptors that are not for clients stay free: who is one too many is told, and operators are answered.
#[test]
fn clients_beyond_the_descriptors_are_told_although_the_limit_on_clients_is_higher() {
    const LIMIT: u32 = 300;
    let engine = start_with_limit(LIMIT, "limits.clients = 1000\n", 1);
    assert!(engine.stderr().contain("limits.clients is 1,000, but the limit on descriptors"));
    let room = LIMIT as usize - DESCRIPTORS_RESERVE;
    let clients: Vec<_> = (0..room).map(|_| engine.client()).collect();
    let mut late: Vec<_> = (room..LIMIT as usize + 30).map(|_| refused(engine.client_address())).collect();
    for (number, stream) in late.iter_mut().enumerate() {
        let mut answer = String::new();
        // Beyond so many that are answered at a time, they are only closed.
        let _ = stream.read_to_string(&mut answer);
        assert!(number > 0 || answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    assert_eq!(engine.metric("fanfare_accept_failures_total", &[]), 0.0);
    drop(clients);
}

/// A node that is full of clients can ask its backends as many calls at the same time as it may.
#[test]
fn connections_to_backends_have_descriptors_that_no_client_takes() {
    const CONCURRENCY: usize = 20;
    let shop = "url = \"http://127.0.0.1:9/\"\nconcurrency = 20\n";
    let config = format!("[backends.shop]\n{shop}[rpc]\nsend = \"shop\"\n");
    let engine = start_with_limit(300, &config, 1);
    assert!(engine.stderr().contain("room for 24 clients besides 20 connections to backends"));
    let room = 300 - DESCRIPTORS_RESERVE - CONCURRENCY;
    let clients: Vec<_> = (0..room).map(|_| engine.client()).collect();
    let (_stream, status) = ask(engine.client_address()).expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 503");
    drop(clients);
}

/// Whoever is refused has no place: the first client that leaves makes room, in whichever table it was.
#[test]
fn a_full_node_takes_the_next_client_as_soon_as_one_has_left() {
    for shards in [1, SHARDS] {
        let engine = start_with_limit(300, "server.private_fd_tables = true\n", shards);
        let server = engine.client_address();
        let places = (300 - DESCRIPTORS_RESERVE) * shards;
        let mut clients: Vec<_> = (0..places).map(|_| RawClient::connect(server)).collect();
        let refused: Vec<_> = (0..6).map(|_| refused(server)).collect();
        // A table that is full takes nobody in while others have room: so it may take some tries.
        let answered = |with: &'static str| {
            let (stream, status) = ask(server)?;
            (status == with.as_bytes()).then_some(stream)
        };
        let mut later = Vec::new();
        for _ in 0..8 {
            drop(clients.remove(clients.len() / 2));
            later.push(wait_for(SOON, "a place", || answered("HTTP/1.1 101")));
        }
        wait_for(SOON, "a refusal", || answered("HTTP/1.1 503"));
        drop((refused, later));
    }
}

/// A connection that has asked for an upgrade, and the beginning of its answer.
fn ask(server: SocketAddr) -> Option<(TcpStream, [u8; 12])> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(SOON)).ok()?;
    stream.write_all(UPGRADE.as_bytes()).ok()?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).ok()?;
    Some((stream, status))
}

/// A connection that asks for an upgrade.
fn refused(server: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(server).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a socket");
    let head = format!("GET /connection/websocket HTTP/1.1\r\nHost: {server}\r\n\r\n");
    // It may be closed already.
    let _ = stream.write_all(head.as_bytes());
    stream
}

/// More clients than one table holds: what the option is for.
#[test]
fn the_limit_on_descriptors_counts_per_shard() {
    const LIMIT: u32 = 400;
    let engine = start_with_limit(LIMIT, "server.private_fd_tables = true\n", 8);
    let mut clients: Vec<_> = (0..600).map(|_| engine.client()).collect();
    clients.iter_mut().for_each(|client| client.subscribe("all"));
    engine.publish("all", &json!(1));
    for client in &mut clients {
        assert!(client.publication("all").contains('1'));
    }
    assert!(clients.len() > LIMIT as usize);
}

/// It takes nobody in for whom it has no descriptor; the others do, until the node is full. Who comes then is told.
#[test]
fn a_full_table_leaves_who_comes_to_other_shards_and_says_so_once_per_interval() {
    let begun = Instant::now();
    let engine = start_with_limit(300, "server.private_fd_tables = true\n", SHARDS);
    let limit: usize =
        engine.metric("fanfare_clients_limit", &[]).to_string().parse().expect("a whole number");
    let mut clients: Vec<_> = (0..limit).map(|_| engine.client()).collect();
    let closed = || engine.metric("fanfare_listeners_closed_total", &[]);
    // The one that becomes full last is there to say that the node is full.
    wait_until(SOON, "the others to listen no more", || closed() == SHARDS as f64 - 1.0);
    let error = Peer::connect(engine.client_address()).read_head();
    assert!(error.starts_with("HTTP/1.1 503 "), "{error}");
    let lines = engine.stderr().so_far();
    let said = lines.iter().filter(|line| line.contains("table of descriptors is full")).count();
    assert!((1..SHARDS).contains(&said), "each shard says it once in {:?}: {lines:?}", begun.elapsed());

    // They listen again when there is room.
    clients.clear();
    wait_until(SOON, "all to listen", || listeners(engine.client_address()).len() == SHARDS);
}
