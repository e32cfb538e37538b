//! What clients are answered, and in what form.

use super::*;
use crate::domain::asked::{HistoryPage, Told};
use crate::domain::codec::Codec;
use crate::domain::mail::{Answer, AnswerBudget, CommandKey, Recover, ReplyAddress};
use crate::domain::reasons::{Closing, ErrorCode};
use crate::transport::refusal::Refusal;

impl Peer {
    fn reply_address(&self, id: u32) -> ReplyAddress {
        ReplyAddress { shard: 0, command: CommandKey { client: self.key, id }, codec: Codec::Json }
    }

    /// The answer to a publish of its.
    pub(in crate::shard) fn published(&self, id: u32) -> Mail {
        Mail::Answer { to: self.reply_address(id), budget: None, answer: Answer::Published }
    }

    /// The answer to a history command of its, with so many bytes of publications.
    pub(in crate::shard) fn history(&self, id: u32, bytes: usize) -> Mail {
        let position = Position { epoch: "e".into(), offset: 1 };
        let page = HistoryPage { position, publications: vec![b'1'; bytes] };
        let (to, budget) = (self.reply_address(id), Some(AnswerBudget::new(0)));
        Mail::Answer { to, budget, answer: Answer::Told(Box::new(Told::History(page))) }
    }
}

/// The answer to a recovery.
pub(in crate::shard) fn recovered(
    question: Recover,
    budget: Option<Arc<AnswerBudget>>,
    result: Result<Recovery, ErrorCode>,
) -> Mail {
    let (to, answer) = question.answer(result);
    Mail::Answer { to, budget, answer }
}

/// An application whose namespace has lost its history must learn that it missed something.
#[test]
fn who_goes_on_where_nothing_is_kept_is_told_that_it_did_not_recover() {
    let mut world = World::new(config(|_| {}));
    let (first, back) = (world.connect(), world.connect());
    world.subscribe(&first, "t");
    world.say(&back, r#"{"id":2,"subscribe":{"channel":"t","recover":true,"epoch":"e","offset":5}}"#);
    assert!(back.got().contains(r#"{"id":2,"subscribe":{"was_recovering":true}}"#));
    let strict = r#"{"id":3,"subscribe":{"channel":"u","recover":true,"epoch":"e","offset":5,"flag":2}}"#;
    world.say(&back, strict);
    let refused = back.got();
    assert!(refused.contains(r#""id":3,"error":{"code":112"#), "{refused}");
    assert!(world.requests.take().is_none(), "nobody has come to that topic");
}

#[test]
fn what_ends_a_client_waits_for_the_replies_to_what_was_before_it() {
    let mut world = World::new(config(|config| config.namespaces.extend([policy(SlowPolicy::Skip)])));
    let peer = world.connect();
    world.say(&peer, "{\"id\":2,\"subscribe\":{\"channel\":\"t\"}}\nwhat\n{\"id\":3,\"unsubscribe\":{}}");
    assert_eq!(peer.got(), "", "the broker has not answered");
    let Some(Request::Attach { topic, .. }) = world.requests.take() else { panic!("it is attached") };
    world.tell(Mail::Attached { topic, position: None });
    world.tick();
    let got = peer.got();
    assert!(got.contains(r#"{"id":2,"subscribe":{}}"#) && got.contains("bad request"), "{got}");
    assert!(!got.contains(r#""id":3"#), "{got}");
    assert_eq!(world.closes(CloseReason::BadRequest), 1);
}

#[test]
fn who_speaks_in_binary_frames_is_answered_in_them() {
    let mut world = World::new(config(|_| {}));
    let peer = world.arrive();
    peer.pipe().to_server.extend(UPGRADE.bytes());
    let binary = |text: &str| [0x82, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0].into_iter();
    for text in [r#"{"id":1,"connect":{}}"#, r#"{"id":2,"subscribe":{"channel":"t"}}"#] {
        peer.pipe().to_server.extend(binary(text).chain(text.bytes()));
    }
    world.shard.readable(peer.key.slot);
    world.tick();
    let Some(Request::Attach { topic, .. }) = world.requests.take() else { panic!("it is attached") };
    world.tell(Mail::Attached { topic, position: None });
    world.publish(topic, LINE);
    let all = std::mem::take(&mut peer.pipe().from_server);
    let frames = all.split(|&byte| byte == 0x82).skip(1).map(String::from_utf8_lossy);
    let frames: Vec<_> = frames.collect();
    assert_eq!(frames.len(), 3, "{frames:?}");
    assert!(frames[0].contains("connect") && frames[1].contains("subscribe") && frames[2].contains("ppp"));
}

#[test]
fn an_operator_closes_with_a_code_and_a_text_of_the_applications() {
    let mut world = World::new(config(|_| {}));
    let peer = world.connect();
    let closing = Closing::Application { code: 4567, text: "blocked".into() };
    world.tell(Mail::Disconnect { client: peer.key, closing });
    let frame = [&[0x88, 9][..], &4567_u16.to_be_bytes(), b"blocked"].concat();
    assert!(peer.pipe().from_server.ends_with(&frame), "{:?}", peer.pipe().from_server);
    assert_eq!(world.closes(CloseReason::Application), 1);
}

/// The limit is exact; who comes is told, and the first of them who leaves makes room.
#[test]
fn a_full_node_says_so() {
    let mut world = World::new(config(|_| {}));
    world.shard.admission = Admission::new(Arc::new(Capacity::new(2)));
    let inside = [world.connect(), world.connect()];
    let come = |world: &mut World| {
        let end = End::open();
        let key = world.shard.admit(end.clone(), None, world.now.monotonic);
        (key, end)
    };
    let refused: Vec<_> = (0..40).map(|_| come(&mut world)).collect();
    let answered = refused.iter().filter(|(key, _)| key.is_some()).count();
    assert!((10..40).contains(&answered), "{answered} of 40 hold a descriptor for their answer");
    for (_, end) in refused.iter().filter(|(key, _)| key.is_some()) {
        let answer = String::from_utf8_lossy(&end.0.borrow().from_server).into_owned();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("limits.clients"), "{answer}");
    }
    let full = Refusal::Full as usize;
    assert_eq!(world.shard.stats.refused_upgrades[full].value(), 40);
    for peer in refused
        .iter()
        .filter_map(|(key, end)| key.map(|key| Peer { key, end: end.clone() }))
        .chain([inside].into_iter().flatten().take(1))
    {
        peer.pipe().ended = true;
        world.shard.hung_up(peer.key.slot);
    }
    world.tick();
    world.connect();
    assert!(world.shard.capacity().is_full());
}
