//! Questions that wait for something else than room for their answers.

use super::super::super::tests::answers::recovered;
use super::*;
use crate::domain::mail::{Recover, Recovery};
use crate::domain::reasons::ErrorCode;

fn position() -> Position {
    Position { epoch: "e".into(), offset: 5 }
}

/// Asks for what was missed in these topics, and is attached to them: the questions for the broker.
fn recover(world: &mut World, peer: &Peer, ids: std::ops::Range<u32>) -> Vec<Recover> {
    let recover = |id: u32| {
        format!(r#"{{"id":{id},"subscribe":{{"channel":"h:{id}","recover":true,"epoch":"e","offset":9}}}}"#)
    };
    world.say(peer, &ids.map(recover).collect::<Vec<_>>().join("\n"));
    while let Some(Request::Attach { topic, .. }) = world.requests.take() {
        assert!(world.mail.send(Mail::Attached { topic, position: Some(position()) }).is_ok());
    }
    world.tick();
    let questions = std::iter::from_fn(|| world.requests.take());
    let questions = questions.map(|request| match request {
        Request::Ask { question: Question::Recover(question), budget: Some(_) } => *question,
        other => panic!("{other:?}"),
    });
    questions.collect()
}

/// As the broker does where its node has not read as far as the client.
fn let_wait(world: &mut World, question: &mut Recover) {
    assert!(!question.has_waited);
    question.has_waited = true;
    world.tell(Mail::Waits { client: question.reply_to.command.client });
}

#[test]
fn a_question_that_waits_for_its_node_holds_no_room() {
    let mut world = with_little_room(20_000);
    let peers = [world.connect(), world.connect()];
    let mut questions = recover(&mut world, &peers[0], 2..3);
    let mut question = questions.remove(0);
    world.say(&peers[1], &ask(3..4));
    assert_eq!(asked(&world), 0, "there is no room for two answers");
    let_wait(&mut world, &mut question);
    assert_eq!(askers(&mut world, &peers), [1]);
    world.tell(Mail::AskAgain { question: Question::Recover(Box::new(question)), budget: None });
    assert_eq!(asked(&world), 0, "it waits for its turn in the line");
    world.tell(peers[1].history(3, 100));
    let Some(Request::Ask { question: Question::Recover(question), budget }) = world.requests.take() else {
        panic!("it is asked again")
    };
    assert!(question.has_waited && budget.is_some());
    let recovery = Recovery { position: position(), missed: Some(Arc::new([])) };
    world.tell(recovered(*question, budget, Ok(recovery)));
    assert!(peers[0].got().contains(r#""recovered":true"#));
    assert_eq!((world.shard.promised_bytes(), world.shard.answers.has_waiting()), (0, false));
    assert!(world.shard.clients[peers[0].key.slot].unfinished.is_none());
}

/// What is refused, or comes back, when it has waited, is in no budget: not in one of other questions either.
#[test]
fn who_goes_while_its_question_waits_leaves_nothing_behind() {
    let mut world = with_history(|_| {});
    let peer = world.connect();
    let mut questions = recover(&mut world, &peer, 2..4);
    questions.iter_mut().for_each(|question| let_wait(&mut world, question));
    assert_eq!(world.shard.promised_bytes(), 0);
    world.say(&peer, &ask(7..8));
    let promised = world.shard.promised_bytes();
    world.tell(recovered(questions.remove(0), None, Err(ErrorCode::Internal)));
    assert!(peer.got().contains(r#""id":2,"error""#));
    assert!(promised > 0 && world.shard.promised_bytes() == promised);
    world.tell(close(&peer));
    assert_eq!(world.shard.promised_bytes(), 0);
    world.tell(Mail::AskAgain { question: Question::Recover(Box::new(questions.remove(0))), budget: None });
    world.tell(peer.history(7, 100));
    world.later(Duration::from_secs(1));
    let detached = std::iter::from_fn(|| world.requests.take());
    assert_eq!(detached.filter(|request| matches!(request, Request::Detach { .. })).count(), 2);
    assert_eq!(world.shard.promised_bytes(), 0);
}

/// One question after the other, each asked before the one before it is answered.
#[test]
fn no_question_joins_a_budget_that_has_lasted_for_long() {
    let mut world = with_history(|_| {});
    let peer = world.connect();
    world.say(&peer, &ask(2..3));
    world.say(&peer, &ask(3..4));
    assert_eq!(asked(&world), 2);
    world.later(Duration::from_millis(400));
    world.say(&peer, &ask(4..5));
    assert_eq!(asked(&world), 2, "the third waits for the next budget");
    assert_eq!(answer_all(&mut world, &peer, |_| 10), [2, 3, 4]);
    assert_eq!(world.shard.promised_bytes(), 0);
}
