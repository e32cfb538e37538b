use std::net::SocketAddr;
use std::time::Duration;

use super::*;

fn plan() -> Plan {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    Plan {
        server: address,
        host: "h".to_owned(),
        path: "/p".to_owned(),
        control: address,
        api_key: String::new(),
        namespace: String::new(),
        clients: 100,
        slow_percent: 0,
        topics: 5,
        topics_per_client: 2,
        spread: Spread::Even,
        connect_rate: 1,
        rate: 1,
        payload: 64,
        length: Duration::ZERO,
        threads: 1,
    }
}

/// A client with the topics 4 and 0, and what it reads in small pieces.
struct Scene {
    client: Client,
    topics: Topics,
    tally: Tally,
    last: [u64; 2],
}

impl Scene {
    fn new() -> Self {
        let topics = Topics::new(&plan());
        let mut client = Client::new(&plan(), 2);
        client.begin(&plan());
        Self { client, topics, tally: Tally::new(), last: [0; 2] }
    }

    fn take(&mut self, input: &[u8]) -> Result<(), ClientError> {
        let Self { client, topics, tally, last } = self;
        let mut context = InputContext { topics, tally, now: 100 };
        input.chunks(7).try_for_each(|piece| client.take(piece, last, &mut context))
    }

    fn upgrade(&mut self) -> Result<(), ClientError> {
        self.take(format!("HTTP/1.1 101 X\r\nSec-WebSocket-Accept: {UPGRADE_ACCEPT}\r\n\r\n").as_bytes())
    }

    fn frame(&mut self, opcode: u8, payload: &[u8]) -> Result<(), ClientError> {
        let mut frame = crate::transport::websocket::encode::header(
            crate::transport::websocket::encode::Opcode::Text,
            payload.len(),
        )
        .as_bytes()
        .to_vec();
        frame[0] = 0x80 | opcode;
        frame.extend_from_slice(payload);
        self.take(&frame)
    }

    fn ready() -> Self {
        let mut scene = Self::new();
        let asked = scene.client.unsent.len();
        assert!(scene.client.unsent.ends_with(b"\r\n\r\n"), "nothing follows before the answer");
        scene.upgrade().unwrap();
        assert!(scene.client.unsent.len() > asked, "then the commands");
        let replies = b"{\"id\":1,\"connect\":{\"pong\":true}}\n{\"id\":2,\"subscribe\":{}}\n{\"id\":3,\"subscribe\":{}}";
        scene.frame(frames::TEXT, replies).unwrap();
        assert_eq!(scene.client.stage, ClientStage::Ready);
        scene.client.unsent.clear();
        scene
    }

    fn line(&self, topic: usize, number: u64) -> String {
        let name = self.topics.quoted(topic);
        format!("{{\"push\":{{\"channel\":{name},\"pub\":{{\"data\":{{\"n\":{number},\"t\":40}}}}}}}}\n")
    }
}

#[test]
fn publications_are_followed_by_topic_and_merged_frames_count_once() {
    let mut scene = Scene::ready();
    let merged = [scene.line(4, 1), scene.line(0, 1), scene.line(4, 2)].concat();
    scene.frame(frames::TEXT, merged.as_bytes()).unwrap();
    let single = scene.line(0, 3);
    scene.frame(frames::TEXT, single.as_bytes()).unwrap();
    assert_eq!(scene.last, [2, 3]);
    let Tally { lines, frames, lost, repeated, bytes, .. } = scene.tally;
    assert_eq!((lines, frames, lost, repeated), (4, 2, 1, 0));
    assert!(bytes > (merged.len() + single.len()) as u64, "with their heads");
    assert_eq!(scene.tally.latency.max(), 60);
}

#[test]
fn pings_of_both_kinds_are_answered() {
    let mut scene = Scene::ready();
    scene.frame(frames::TEXT, b"{}").unwrap();
    scene.frame(frames::PING, b"hi").unwrap();
    let mut expected = Vec::new();
    frames::write(&mut expected, frames::TEXT, b"{}");
    frames::write(&mut expected, frames::PONG, b"hi");
    assert_eq!(scene.client.unsent, expected);
    assert_eq!(scene.tally.frames, 0, "they bring no publication");
}

#[test]
fn what_a_server_may_do_wrong_has_a_name() {
    assert!(Scene::new().take(b"HTTP/1.1 503 Full\r\n\r\n").unwrap_err().to_string().contains("503 Full"));
    assert!(Scene::new().take(b"SSH-2.0\r\n\r\n").unwrap_err().to_string().contains("no HTTP"));
    assert!(Scene::new().take(&vec![b'x'; HEAD_MAX + 10]).unwrap_err().to_string().contains("no HTTP"));
    assert!(Scene::new().take(b"HTTP/1.1 101 X\r\n\r\n").unwrap_err().to_string().contains("wrong key"));
    let close = Scene::ready().frame(frames::CLOSE, b"\x0b\xc0slow");
    assert_eq!(close.unwrap_err().to_string(), "closed by the server: slow (3008)");
    assert!(Scene::ready().frame(2, b"x").unwrap_err().to_string().contains("kind 0x2"));
    let mut scene = Scene::ready();
    let line = scene.line(2, 1);
    assert!(scene.frame(frames::TEXT, line.as_bytes()).unwrap_err().to_string().contains("not subscribed"));
}

#[test]
fn clients_spread_as_planned() {
    let plan = Plan { slow_percent: 3, ..plan() };
    assert_eq!((0..100).filter(|&index| is_slow(&plan, index)).count(), 3);
    let even: Vec<usize> = (0..5).map(|index| first_topic(&plan, index)).collect();
    assert_eq!(even, [0, 2, 4, 1, 3]);
    let skewed = Plan { spread: Spread::Skewed, ..plan };
    let of = |topic| (0..64).filter(|&index| first_topic(&skewed, index) == topic).count();
    assert_eq!([of(0), of(1), of(2)], [33, 17, 8], "topic 5 of six is the first one again");
    let client = Client::new(&skewed, 15);
    assert_eq!(client.topics(5, 2).collect::<Vec<_>>(), [4, 0]);
}
