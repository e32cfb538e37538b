//! What may happen to a world, one entry each. A fault happens while publications flow and clients listen,
//! and when its function returns, everything is up again.

use std::time::Duration;

use crate::clients::CLIENTS;
use crate::support::proxy::Way;
use crate::support::random::Random;
use crate::support::wait::{SOON, wait_until};
use crate::world::{GIVEN_UP, Place, World};

/// What must hold whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Every client gets every confirmed publication, exactly once and in order.
    Exact,
    /// A client may miss some, and is told so: `recovered: false`. Whatever it is not told of is exact.
    Told,
}

/// One kind of fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Its name in the closing table.
    pub name: &'static str,
    /// The world that it happens to.
    pub place: Place,
    /// What must hold.
    pub promise: Promise,
    /// Does it, and undoes it.
    pub strike: fn(&mut World, &mut Random),
}

/// Every kind.
pub const FAULTS: &[Fault] = &[
    exact("engine killed", Place::Stream, engine_killed),
    exact("engine stopped", Place::Stream, engine_stopped),
    exact("RabbitMQ killed", Place::Stream, rabbitmq_killed),
    exact("RabbitMQ frozen", Place::Stream, rabbitmq_frozen),
    exact("link cut", Place::Stream, link_cut),
    exact("link silent", Place::Stream, link_silent),
    exact("memory alarm", Place::Stream, memory_alarm),
    exact("clients cut", Place::Stream, clients_cut),
    exact("clock set", Place::Stream, clock_set),
    told("stream deleted", Place::Stream, stream_deleted),
    told("queue deleted", Place::Queue, queue_deleted),
    told("queue's link cut", Place::Queue, link_cut),
    exact("node killed", Place::Cluster, node_killed),
    exact("two nodes killed", Place::Cluster, two_nodes_killed),
    exact("engine lost", Place::Cluster, engine_lost),
];

const fn exact(name: &'static str, place: Place, strike: fn(&mut World, &mut Random)) -> Fault {
    Fault { name, place, promise: Promise::Exact, strike }
}

const fn told(name: &'static str, place: Place, strike: fn(&mut World, &mut Random)) -> Fault {
    Fault { name, place, promise: Promise::Told, strike }
}

/// How long something is away, where any time will do.
fn a_while(random: &mut Random) -> Duration {
    random.millis(0, 2500)
}

// The engine ----------------------------------------------------------------------------------------------------

fn engine_killed(world: &mut World, random: &mut Random) {
    world.kill_engine(0);
    let away = a_while(random);
    world.hold(random, away);
    world.start_engine(0);
}

fn engine_stopped(world: &mut World, random: &mut Random) {
    world.stop_engine(0);
    let away = a_while(random);
    world.hold(random, away);
    world.start_engine(0);
}

/// Clients that were on the other engine see nothing of it; the others move there, and go on.
fn engine_lost(world: &mut World, random: &mut Random) {
    let index = random.below(world.engine_count());
    world.kill_engine(index);
    world.reach(200);
    let away = a_while(random);
    world.hold(random, away);
    world.start_engine(index);
}

/// Started with a clock that is wrong already, then set while it runs.
fn clock_set(world: &mut World, random: &mut Random) {
    let wrong = hours(random);
    world.set_clock(wrong);
    world.stop_engine(0);
    world.start_engine_with_clock(0);
    world.expect_clock(0, wrong);
    for _ in 0..3 {
        world.set_clock(hours(random));
        world.flow(50);
        let while_wrong = a_while(random);
        world.hold(random, while_wrong);
    }
    world.stop_engine(0);
    world.start_engine(0);
}

/// Some seconds off, up to two hours either way.
fn hours(random: &mut Random) -> i64 {
    const MOST: usize = 2 * 3600;
    i64::try_from(random.below(2 * MOST)).expect("some hours") - i64::try_from(MOST).expect("two hours")
}

// RabbitMQ ------------------------------------------------------------------------------------------------------

fn rabbitmq_killed(world: &mut World, random: &mut Random) {
    world.nodes[0].kill();
    let away = a_while(random);
    world.hold(random, away);
    world.nodes[0].start_again();
}

/// It says nothing for so long that everybody has given it up, and then goes on as if nothing had been.
fn rabbitmq_frozen(world: &mut World, random: &mut Random) {
    world.nodes[0].signal("STOP");
    let longer = a_while(random);
    world.hold(random, GIVEN_UP + longer);
    world.nodes[0].signal("CONT");
}

fn memory_alarm(world: &mut World, random: &mut Random) {
    world.nodes[0].ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    world.hold_still(a_while(random));
    world.nodes[0].ctl(&["set_vm_memory_high_watermark", "0.4"]);
}

/// The two others are a majority: for clients nothing stops for long.
fn node_killed(world: &mut World, random: &mut Random) {
    let index = random.below(world.nodes.len());
    world.nodes[index].kill();
    world.reach(200);
    let away = a_while(random);
    world.hold(random, away);
    world.nodes[index].start_again();
}

/// What is left has no majority: nothing is confirmed, and whoever asks is told so.
fn two_nodes_killed(world: &mut World, random: &mut Random) {
    let spared = random.below(world.nodes.len());
    let killed = |index: &usize| *index != spared;
    (0..world.nodes.len()).filter(killed).for_each(|index| world.nodes[index].kill());
    world.hold_still(a_while(random));
    world.wait_for_refusal();
    let nodes = world.nodes.iter_mut().enumerate().filter(|(index, _)| killed(index));
    std::thread::scope(|scope| {
        nodes.for_each(|(_, node)| {
            scope.spawn(|| node.start_again());
        });
    });
}

/// What was in the stream is gone with it, and what was on its way. The engine has to notice, and to say so.
fn stream_deleted(world: &mut World, random: &mut Random) {
    let streams = queues(world, "stream");
    assert_eq!(streams.len(), 1, "the engine has declared one stream: {streams:?}");
    let deleted = delete_queue(world, &streams[0], random.below(2) == 0);
    deleted.unwrap_or_else(|error| panic!("the stream is not deleted: {error}"));
}

/// One is consumed, and the other tells whether it overflows.
fn queue_deleted(world: &mut World, random: &mut Random) {
    let (which, is_waited_for) = (random.below(2), random.below(2) == 0);
    wait_until(SOON * 4, "one of the engine's two queues to be deleted", || {
        let queues = queues(world, "classic");
        let own: Vec<_> = queues.iter().filter(|name| *name != "fanfare.dead").collect();
        // They are others after each link that is lost, which happens by itself where the machine is slow.
        let [first, second] = own[..] else { return false };
        match delete_queue(world, [first, second][which], is_waited_for) {
            Ok(()) => true,
            // RabbitMQ was faster. It has taken the queue from an engine that waits for what was in it all the same.
            Err(error) if error.contains("not found") => is_waited_for,
            Err(error) => panic!("the queue is not deleted: {error}"),
        }
    });
}

/// Deletes a queue under its consumer; or while the engine waits for some of what was in it, which it will never
/// get.
fn delete_queue(world: &World, name: &str, is_waited_for: bool) -> Result<(), String> {
    if is_waited_for {
        world.link.hold(Way::Back);
    }
    world.flow(100);
    let deleted = world.nodes[0].try_ctl(&["delete_queue", name]);
    if is_waited_for {
        world.link.cut();
        world.link.resume();
    }
    deleted.map(drop)
}

/// The names of all queues of a type.
fn queues(world: &World, kind: &str) -> Vec<String> {
    let table = world.nodes[0].ctl(&["list_queues", "--no-table-headers", "name", "type"]);
    let rows = table.lines().filter_map(|line| line.split_once('\t'));
    rows.filter(|(_, its)| its.contains(kind)).map(|(name, _)| name.to_owned()).collect()
}

// The network ---------------------------------------------------------------------------------------------------

/// Cut some times, each time so many bytes on, one way or the other: in the middle of whatever is on its way then.
fn link_cut(world: &mut World, random: &mut Random) {
    for way in [Way::There, Way::Back, Way::There, Way::Back] {
        world.link.cut_after_going(way, random.below(5000));
        wait_until(SOON, "the link to be cut", || !world.link.is_to_cut());
        world.flow(50);
        let between = a_while(random);
        world.hold(random, between);
    }
}

/// Both ends stay open, and neither hears of the other any more.
fn link_silent(world: &mut World, random: &mut Random) {
    world.link.silence();
    let longer = a_while(random);
    world.hold(random, GIVEN_UP + longer);
}

/// One after the other, and now and then all at once, in the middle of a frame.
fn clients_cut(world: &mut World, random: &mut Random) {
    for _ in 0..30 {
        if random.below(10) == 0 {
            world.entrance.cut_after_going(Way::Back, random.below(2000));
        } else {
            world.clients.cut(random.below(CLIENTS));
        }
        std::thread::sleep(random.millis(0, 200));
    }
}
