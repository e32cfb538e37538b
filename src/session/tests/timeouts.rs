//! Which time-out runs, and what follows.

use super::*;

#[test]
fn a_client_whose_transport_pings_it_is_told_of_no_others() {
    let world = World::new(|_| ());
    let mut session = Session::new(Moment::default());
    let action = world.handle(&mut session, connect(1), Facts { has_pings: true, ..ROOM });
    assert_eq!(show(&action), "1: connected, 0 s, false");
}

/// Which time-out runs, and what follows, in the course of a client's life.
#[test]
fn a_client_is_waited_for_one_thing_at_a_time() {
    let timeouts = Timeouts::default();
    let at = |seconds| Moment::default().after(Duration::from_secs(seconds));
    let world = World::new(|_| ());
    let mut session = Session::new(at(0));
    assert_eq!(
        (session.due(&timeouts), session.expiry(at(0), &timeouts)),
        (at(10), Expiry::Close(Silence::Connect))
    );
    assert!(!session.pong());
    world.handle(&mut session, connect(1), ROOM);
    session.time_from(at(3));
    for began in [3, 100] {
        session.time_from(at(began));
        assert_eq!(session.expiry(at(0), &timeouts), Expiry::Ping);
        assert_eq!(session.due(&timeouts), at(began).after(timeouts.ping.0));
        session.ping(at(50));
        assert_eq!(session.expiry(at(0), &timeouts), Expiry::Close(Silence::Pong));
        assert_eq!(session.due(&timeouts), at(50).after(timeouts.pong.0));
        assert!(session.pong() && !session.pong(), "one answer to one ping");
        assert_eq!(session.due(&timeouts), at(50).after(timeouts.ping.0), "the next ping is not put off");
    }
    assert_eq!(
        (Silence::Connect.reason(), Silence::Connect.grace(&timeouts)),
        (CloseReason::Stale, timeouts.connect)
    );
    assert_eq!(
        (Silence::Pong.reason(), Silence::Pong.grace(&timeouts)),
        (CloseReason::NoPong, timeouts.ping)
    );
    assert_eq!(
        (Silence::Token.reason(), Silence::Token.grace(&timeouts)),
        (CloseReason::Expired, timeouts.expired)
    );
}
