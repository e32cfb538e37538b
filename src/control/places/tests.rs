//! Who gets a place, and whose place it was.

use super::*;
use futures_util::FutureExt as _;

/// A place for who comes when those that are there have had the time to ask.
fn take(places: &mut Places) -> Place {
    places.taken.iter().for_each(has_had_time);
    places.try_take(soon()).expect("there is a place")
}

fn has_had_time(connection: &Arc<Connection>) {
    connection.grace_is_over.store(true, Ordering::Relaxed);
}

/// When whoever came in this test has been idle for long enough. Times are whole milliseconds, and 1 at least.
fn soon() -> Instant {
    Instant::now() + GRACE + Duration::from_millis(1)
}

fn asked(place: &Place) -> Answering {
    place.0.trust();
    place.0.began(true)
}

/// Has a place, has asked, and has been silent since.
fn silent(places: &mut Places) -> Arc<Connection> {
    let opened = Instant::now().checked_sub(2 * KEPT).expect("the machine has run for longer");
    let connection = Arc::new(Connection::new(opened, false, Arc::default()));
    connection.trust();
    connection.last_request.store(1, Ordering::Relaxed);
    places.taken.push(Arc::clone(&connection));
    connection
}

fn is_evicted(place: &Place) -> bool {
    place.0.evicted.swap(0, Ordering::Relaxed) > 0
}

#[test]
fn the_idlest_makes_room() {
    let mut places = Places::default();
    let mut all: Vec<_> = (0..PLACES).map(|_| take(&mut places)).collect();
    assert!(places.try_take(Instant::now()).is_none(), "all have just come");
    for (place, asked) in all.iter().zip([3, 1, 2].into_iter().chain(4..)) {
        place.0.trust();
        place.0.last_request.store(asked * 1000, Ordering::Relaxed);
    }
    let busy = asked(&all[1]);

    let later = Instant::now() + Duration::from_secs(10);
    let newcomer = places.try_take(later).expect("there is a place");
    assert!(!newcomer.0.is_reserved());
    let evicted: Vec<_> = (0..PLACES).filter(|&at| is_evicted(&all[at])).collect();
    assert_eq!(evicted, [2], "the one before is being answered");
    drop(all.pop());
    drop(take(&mut places));
    assert!(!all.iter().any(is_evicted), "a free place is taken first");
    drop(busy);
}

/// While its thread is busy, its request may have come.
#[test]
fn who_was_not_looked_at_is_not_idle() {
    let mut places = Places::default();
    let all: Vec<_> = (0..PLACES).map(|_| places.add(false)).collect();
    let late = Instant::now() + 100 * GRACE;
    assert!(places.try_take(late).is_none());
    has_had_time(&all[5].0);
    assert!(!places.try_take(late).expect("there is a place").0.is_reserved());
    let evicted: Vec<_> = (0..PLACES).filter(|&at| is_evicted(&all[at])).collect();
    assert_eq!(evicted, [5]);
}

/// However long who has asked has been silent, and however fast others come that do not ask.
#[test]
fn who_has_asked_stays_where_others_come_that_may_not_ask() {
    let mut places = Places::default();
    let asked = silent(&mut places);
    let now = Instant::now();
    let others: Vec<_> = (1..PLACES).filter_map(|_| places.try_take(now)).collect();
    assert!(asked.is_idle(now) && others.iter().all(|other| other.0.has_just_come()));
    assert!(places.try_take(now).is_none());
    assert!(!take(&mut places).0.is_reserved() && !asked.was_evicted());
}

/// A few places that change hands all the time do not keep all others, which are idle, from doing so.
#[test]
fn who_has_asked_makes_room_where_few_others_come() {
    let mut places = Places::default();
    let silent: Vec<_> = (0..=PLACES - CROWD).map(|_| silent(&mut places)).collect();
    let mut others: Vec<_> = (1..CROWD).map(|_| places.add(false)).collect();
    let now = Instant::now();
    others.push(places.try_take(now).expect("a place of those that are silent"));
    assert!(!others[CROWD - 1].0.is_reserved());
    assert_eq!(silent.iter().filter(|connection| connection.was_evicted()).count(), 1);
    assert!(others.iter().all(|other| other.0.has_just_come()) && places.try_take(now).is_none());
}

/// Who sends half a request is nobody's equal who has sent a whole one, however long ago that came.
#[test]
fn half_a_request_holds_no_place() {
    let mut places = Places::default();
    let mut all: Vec<_> = (0..PLACES).map(|_| take(&mut places)).collect();
    for place in &all {
        place.0.trust();
        place.0.last_request.store(1, Ordering::Relaxed);
    }
    all[7].0.last_request.store(0, Ordering::Relaxed);
    let half = all[7].0.began(false);
    all[7].0.wrote();
    let newcomer = take(&mut places);
    assert!(!newcomer.0.is_reserved() && is_evicted(&all[7]));
    drop(half);
    assert_eq!(all[7].0.in_flight.load(Ordering::Relaxed), 0);
    all[7] = newcomer;
    // Those that have asked keep their places for as long as they take their answers.
    let later = Instant::now() + KEPT + GRACE;
    let when = u64::try_from((later - all[0].0.opened).as_millis()).unwrap();
    let busy = asked(&all[7]);
    for (at, place) in all.iter().enumerate() {
        place.0.last_write.store(if at == 9 { 0 } else { when }, Ordering::Relaxed);
    }
    assert!(!places.try_take(later).expect("there is a place").0.is_reserved());
    assert!(is_evicted(&all[9]));
    drop(busy);
}

/// Who asks only for what is open to everybody, however often, does not keep others from the places in which more is
/// answered.
#[test]
fn who_asks_only_for_health_holds_no_place() {
    let mut places = Places::default();
    let mut all: Vec<_> = (0..PLACES).map(|_| take(&mut places)).collect();
    let mut health: Vec<_> = all.iter().map(|place| place.0.began(true)).collect();
    assert!(take(&mut places).0.is_reserved(), "everybody is being answered");
    health.truncate(1);
    let mut newcomers = Vec::new();
    for _ in 1..PLACES {
        let place = take(&mut places);
        assert!(!place.0.is_reserved());
        newcomers.push((asked(&place), place));
        all.retain(|place| !place.0.was_evicted());
    }
    assert!(all.len() == 1 && all[0].0.is_busy(), "this one is being answered");
    drop(health);
    assert!(!take(&mut places).0.is_reserved());
}

/// Those who make room are bounded as well, and keep nobody from a place that is free, or a reserved one.
#[test]
fn so_many_leave_at_once_and_no_more() {
    let mut places = Places::default();
    let mut all: Vec<_> = (0..PLACES).map(|_| take(&mut places)).collect();
    all.iter().for_each(|place| drop(place.0.began(true)));
    let mut newcomers = Vec::new();
    for _ in 0..LEAVING - RESERVED {
        let place = take(&mut places);
        assert!(!place.0.is_reserved());
        newcomers.push((asked(&place), place));
    }
    assert!(places.try_take(Instant::now()).is_none(), "one of them is gone in a moment");
    let reserved: Vec<_> = (0..2 * RESERVED).map(|_| take(&mut places)).collect();
    assert!(reserved.iter().all(|place| place.0.is_reserved()));
    assert!(places.try_take(soon()).is_none(), "as many are leaving as may");
    let stays = all.iter().position(|place| !place.0.was_evicted()).expect("most stay");
    drop(all.swap_remove(stays));
    newcomers.extend([take(&mut places)].map(|place| (asked(&place), place)));
    assert!(newcomers.iter().all(|(_, place)| !place.0.is_reserved()), "this one was free");
    all.retain(|place| !place.0.was_evicted());
    assert!(!take(&mut places).0.is_reserved());
}

/// Whether it makes room for somebody, or because of a stop.
#[test]
fn who_is_told_to_go_has_time_for_its_answers_and_no_more() {
    let at = Duration::from_millis;
    for (is_stop, is_trusted, last_write, may_close_at) in [
        (false, true, 0, 5010),
        (false, true, 5100, 5110),
        // Its peer goes on taking a little.
        (false, true, 5995, 6000),
        (false, false, 5005, 5010),
        (true, true, 0, 6000),
        (true, true, 5900, 6900),
        (true, true, 6995, 7000),
        (true, false, 5900, 5910),
        (true, false, 6995, 7000),
    ] {
        let connection = Arc::new(Connection::new(Instant::now(), false, Arc::default()));
        if is_trusted {
            connection.trust();
        }
        connection.last_request.store(5000, Ordering::Relaxed);
        connection.last_write.store(last_write, Ordering::Relaxed);
        connection.evicted.store(if is_stop { 0 } else { 5000 }, Ordering::Relaxed);
        connection.stopping.store(is_stop, Ordering::Relaxed);
        let may_close = |when: u64| connection.may_close(connection.opened + at(when));
        let about = format!("{is_stop} {is_trusted} {last_write}");
        assert!(!may_close(may_close_at - 1) && may_close(may_close_at), "{about}");
        let busy = connection.began(true);
        connection.last_request.store(5000, Ordering::Relaxed);
        assert!(!may_close(may_close_at + 60_000), "{about}");
        drop(busy);
    }
}

#[tokio::test]
async fn where_everybody_is_being_answered_the_reserved_places_are_left() {
    let mut places = Places::default();
    let mut all: Vec<_> = (0..PLACES).map(|_| take(&mut places)).collect();
    let mut busy: Vec<_> = all.iter().map(asked).collect();
    let reserved: Vec<_> = (0..RESERVED).map(|_| take(&mut places)).collect();
    assert!(reserved.iter().all(|place| place.0.is_reserved()));
    let last = take(&mut places);
    assert!(last.0.is_reserved());
    let evicted = reserved.iter().position(is_evicted).expect("one of them makes room");

    let stay = reserved.iter().enumerate().filter(|(at, _)| *at != evicted);
    let more: Vec<_> = stay.map(|(_, place)| asked(place)).chain([asked(&last)]).collect();
    assert!(places.try_take(soon()).is_none(), "everybody is being answered");
    drop((busy.pop(), all.pop()));
    let taken = places.take().now_or_never().expect("somebody has gone");
    assert!(!taken.0.is_reserved());
    drop(more);
}

#[test]
fn silence_ends_a_connection() {
    let first_head = Duration::from_secs(10);
    let mut places = Places::default();
    let place = take(&mut places);
    let connection = &place.0;
    let left = || connection.deadline(first_head) - connection.opened;
    assert_eq!(left(), first_head, "no request has come");
    let answering = connection.began(false);
    connection.last_head.store(4_000, Ordering::Relaxed);
    assert_eq!(left(), Duration::from_secs(4) + IDLE_MAX, "its body has its own time");
    answering.is_whole(4_000);
    assert!(left() >= IDLE_MAX, "it is being answered");
    drop(answering);
    connection.last_request.store(5_000, Ordering::Relaxed);
    assert_eq!(left(), Duration::from_secs(5) + IDLE_MAX);
    connection.last_write.store(7_000, Ordering::Relaxed);
    assert_eq!(left(), Duration::from_secs(7) + IDLE_MAX, "it has taken bytes since");
}

/// A peer that takes what it is sent now and then has no more time than any other, but for while it takes nothing.
#[test]
fn a_body_has_its_time_but_for_while_nothing_is_read() {
    let limit = Duration::from_secs(10);
    let opened = Instant::now().checked_sub(Duration::from_secs(60)).expect("the machine has run for longer");
    let connection = Connection::new(opened, false, Arc::default());
    let begun = opened + Duration::from_secs(1);
    connection.wrote();
    connection.set_reading(true);
    assert_eq!(connection.body_due(begun, limit), begun + limit, "it was read all the time");
    connection.set_reading(false);
    assert!(connection.body_due(begun, limit) >= opened + Duration::from_secs(60) + limit);
    connection.set_reading(true);
    let read_again = connection.body_due(begun, limit);
    assert!(read_again >= opened + Duration::from_secs(59) + limit && read_again <= Instant::now() + limit);
    connection.set_reading(true);
    connection.wrote();
    assert_eq!(connection.body_due(begun, limit), read_again);
}
