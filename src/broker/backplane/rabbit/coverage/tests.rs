use super::*;

/// A node that is live from `from` on, and has heard that everything before `settled` is.
fn live(from: u64, settled: Option<u64>, now: Instant) -> Coverage {
    let mut coverage = Coverage::new(0);
    coverage.begin();
    if settled.is_some() {
        coverage.marker(from, settled, true, now);
    }
    coverage.live(from, now);
    coverage
}

fn reads(coverage: &mut Coverage, offsets: Range<u64>) {
    offsets.for_each(|offset| coverage.read(offset));
    coverage.looked_at_all();
}

/// The offsets that are looked at when the stream is read again to its end.
fn again(coverage: &mut Coverage, end: u64) -> Vec<u64> {
    let Some(first) = coverage.wanted() else { return Vec::new() };
    let mut looked = Vec::new();
    // RabbitMQ begins earlier than it was asked to.
    for offset in first.saturating_sub(2)..end {
        if coverage.read_again(offset) {
            looked.push(offset);
        }
        coverage.looked_at_all();
    }
    looked
}

#[test]
fn what_was_looked_at_is_settled_and_what_is_under_way_is_not() {
    let now = Instant::now();
    let mut coverage = live(5, Some(5), now);
    assert_eq!(coverage.settled(), Some(5));
    coverage.read(5);
    assert_eq!(coverage.settled(), Some(5), "it is not looked at yet");
    reads(&mut coverage, 6..8);
    assert_eq!(coverage.settled(), Some(8));
    let tickets = [8, 9].map(|offset| {
        coverage.read(offset);
        coverage.sends(offset)
    });
    reads(&mut coverage, 10..12);
    assert_eq!(coverage.settled(), Some(8));
    coverage.is_safe(tickets[1]);
    assert_eq!(coverage.settled(), Some(8));
    assert!(coverage.tells(now), "of what is settled before the first that is not safe");
    assert_eq!(coverage.settled(), Some(8));
    coverage.is_safe(tickets[0]);
    assert_eq!(coverage.settled(), Some(12));
}

#[test]
fn others_are_told_when_dead_letters_are_safe_and_when_they_take_over_but_not_of_every_message() {
    let now = Instant::now();
    let mut coverage = live(5, Some(5), now);
    reads(&mut coverage, 5..100);
    assert_eq!(coverage.due(), None, "the next claim is soon enough");
    let ticket = coverage.sends(100);
    reads(&mut coverage, 100..101);
    assert!(!coverage.tells(now));
    coverage.is_safe(ticket);
    assert!(coverage.tells(now) && !coverage.tells(now), "once, until it may have been read");
    assert!(coverage.tells(now + REPORT_EVERY), "it did not get there");
    coverage.marker(101, Some(101), false, now);
    reads(&mut coverage, 101..110);
    assert!(!coverage.tells(now + REPORT_EVERY * 2));
    coverage.handed_over(109);
    assert!(coverage.tells(now + REPORT_EVERY * 2));
}

#[test]
fn who_starts_waits_for_others_and_then_reads_again_from_what_is_settled_on() {
    let now = Instant::now();
    let mut coverage = live(10, Some(4), now);
    reads(&mut coverage, 10..20);
    assert_eq!((coverage.settled(), coverage.due()), (Some(4), Some(now + TIMEOUT)));
    assert!(!coverage.takes_over(now + TIMEOUT / 2) && coverage.wanted().is_none());
    coverage.marker(20, Some(6), false, now + TIMEOUT / 2);
    coverage.takes_over(now + TIMEOUT);
    assert_eq!(coverage.wanted(), None, "somebody is at it");
    assert!(!coverage.takes_over(now + TIMEOUT * 2), "it has claimed the stream at its start");
    assert_eq!(again(&mut coverage, 30), [6, 7, 8, 9], "the others it has looked at");
    assert_eq!((coverage.settled(), coverage.wanted()), (Some(20), None));
    assert!(coverage.tells(now + TIMEOUT * 2));
}

#[test]
fn who_starts_beside_somebody_that_looks_after_the_stream_reads_nothing_again() {
    let now = Instant::now();
    let mut coverage = live(10, Some(4), now);
    reads(&mut coverage, 10..12);
    coverage.marker(12, Some(12), false, now);
    coverage.takes_over(now + TIMEOUT * 10);
    assert_eq!((coverage.wanted(), coverage.due()), (None, None));
}

#[test]
fn a_stream_of_which_nobody_says_anything_is_read_from_its_beginning() {
    let now = Instant::now();
    let mut coverage = live(3, None, now);
    coverage.takes_over(now + TIMEOUT);
    assert_eq!(again(&mut coverage, 5), [0; 0], "nor does a marker");
    coverage.takes_over(now + TIMEOUT);
    assert_eq!(again(&mut coverage, 5), [0, 1, 2]);
}

/// Its claims are further back than what it has read back. All of it would be looked at, and dead-lettered again.
#[test]
fn who_has_read_back_no_word_on_what_is_settled_looks_for_one_from_its_start_backwards() {
    let now = Instant::now();
    let far = 10 * SEARCH_MESSAGES;
    let mut coverage = live(far, None, now);
    reads(&mut coverage, far..far + 5);
    // Of somebody that knew nothing either.
    coverage.marker(far + 5, Some(0), true, now);
    let later = now + TIMEOUT;
    for searched in [far - SEARCH_MESSAGES..far, far - 2 * SEARCH_MESSAGES..far - SEARCH_MESSAGES] {
        assert!(!coverage.takes_over(later));
        assert_eq!(coverage.pass(), Some((searched.clone(), true)));
        coverage.marker_again(searched.start + 1, Some(0), true);
        assert_eq!(again(&mut coverage, searched.end + 1), [0; 0]);
        assert_eq!((coverage.wanted(), coverage.settled(), coverage.due()), (None, Some(0), Some(later)));
    }
    coverage.takes_over(later);
    let third = far - 4 * SEARCH_MESSAGES;
    assert_eq!(coverage.pass(), Some((third..far - 2 * SEARCH_MESSAGES, true)));
    for (offset, settled) in [(third + 5, third - 7), (third + 9, third + 10), (third + 20, third - 8)] {
        coverage.marker_again(offset, Some(settled), true);
    }
    again(&mut coverage, far);
    assert_eq!(coverage.settled(), Some(third - 7), "the furthest that can be believed");
    coverage.takes_over(later);
    assert_eq!(coverage.pass(), Some((third - 7..far, false)));
    assert!(again(&mut coverage, far + 1).into_iter().eq(third - 7..far));
    assert_eq!((coverage.settled(), coverage.due()), (Some(far + 5), Some(now)));
}

/// After an upgrade and a long time without engines: else all that the earlier release dead-lettered is dead-lettered again.
#[test]
fn a_claim_of_an_earlier_release_that_is_looked_for_settles_what_is_before_it_unless_others_have_said_more() {
    let now = Instant::now();
    for (markers, settled) in [
        (&[(10, None), (20, None)][..], 21),
        (&[(10, None), (20, Some(5))], 11),
        (&[(10, Some(5)), (20, None)], 5),
        (&[(10, Some(0)), (20, None)], 21),
        (&[(10, None), (20, Some(15))], 15),
    ] {
        let mut coverage = live(30, None, now);
        coverage.marker(30, Some(0), true, now);
        coverage.takes_over(now + TIMEOUT);
        assert_eq!(coverage.pass(), Some((0..30, true)));
        markers.iter().for_each(|&(offset, settled)| coverage.marker_again(offset, settled, true));
        coverage.marker_again(25, None, false);
        again(&mut coverage, 31);
        assert_eq!(coverage.settled(), Some(settled), "{markers:?}");
        coverage.takes_over(now + TIMEOUT);
        assert_eq!(coverage.pass(), Some((settled..30, false)), "{markers:?}");
    }
}

#[test]
fn where_only_earlier_releases_claimed_the_stream_is_settled_up_to_the_newest_claim() {
    let now = Instant::now();
    let mut coverage = Coverage::new(0);
    coverage.begin();
    coverage.marker(5, None, true, now);
    coverage.marker(6, None, false, now);
    coverage.marker(7, None, true, now);
    coverage.live(20, now);
    assert_eq!(coverage.settled(), Some(8));
    coverage.marker(21, Some(9), true, now);
    coverage.marker(22, None, true, now);
    assert_eq!(coverage.settled(), Some(9), "from then on it is known");
    coverage.marker(23, Some(24), true, now);
    assert_eq!(coverage.settled(), Some(9), "nobody knows what comes");
}

#[test]
fn what_was_left_to_somebody_who_says_nothing_is_read_again_and_nothing_else() {
    let now = Instant::now();
    let mut coverage = live(0, Some(0), now);
    for offset in 0..20 {
        coverage.read(offset);
        if [3, 7, 8].contains(&offset) {
            coverage.leaves(offset, now);
        }
    }
    coverage.looked_at_all();
    assert_eq!(coverage.settled(), Some(3));
    coverage.marker(20, Some(4), false, now);
    let later = now + TAKE_OVER_AFTER;
    assert!(!coverage.takes_over(later - REPORT_EVERY));
    assert!(coverage.takes_over(later), "with a claim");
    assert!(!coverage.takes_over(later));
    assert_eq!(coverage.settled(), Some(7));
    let Some(first) = coverage.wanted() else { panic!("nothing is read again") };
    let mut tickets = Vec::new();
    for offset in first..12 {
        if coverage.read_again(offset) {
            tickets.push(coverage.sends(offset));
        }
        coverage.looked_at_all();
    }
    assert_eq!(tickets.len(), 2);
    assert_eq!((coverage.settled(), coverage.wanted()), (Some(7), None));
    tickets.into_iter().for_each(|ticket| coverage.is_safe(ticket));
    assert_eq!(coverage.settled(), Some(20));
}

#[test]
fn who_takes_charge_waits_less_for_what_it_has_left_to_others() {
    let now = Instant::now();
    let mut coverage = live(0, Some(0), now);
    reads(&mut coverage, 0..5);
    coverage.leaves(3, now);
    assert_eq!(coverage.due(), Some(now + TAKE_OVER_AFTER));
    coverage.takes_charge(now + REPORT_EVERY);
    assert_eq!(coverage.due(), Some(now + REPORT_EVERY + TIMEOUT));
    coverage.handed_over(4);
    assert_eq!(coverage.take_over_due(), Some(now + TAKE_OVER_AFTER));
}

#[test]
fn what_somebody_has_settled_is_not_taken_over() {
    let now = Instant::now();
    let mut coverage = live(0, Some(0), now);
    coverage.leaves(3, now);
    reads(&mut coverage, 0..5);
    coverage.marker(5, Some(4), false, now);
    assert_eq!((coverage.due(), coverage.settled()), (None, Some(5)));
    coverage.leaves(2, now);
    assert_eq!(coverage.due(), None);
}

#[test]
fn who_has_dead_letters_under_way_takes_over_nothing() {
    let now = Instant::now();
    let mut coverage = live(0, Some(0), now);
    reads(&mut coverage, 0..5);
    let ticket = coverage.sends(1);
    coverage.leaves(3, now);
    assert!(!coverage.takes_over(now + TAKE_OVER_AFTER * 2));
    coverage.is_safe(ticket);
    assert!(coverage.takes_over(now + TAKE_OVER_AFTER * 2));
}

#[test]
fn what_is_remembered_has_a_bound_and_is_read_again_beyond() {
    let now = Instant::now();
    let mut coverage = live(0, Some(0), now);
    let many = LEFT_MAX as u64 + 10;
    for offset in 0..many {
        coverage.read(offset);
        coverage.leaves(offset, now);
        assert!(coverage.left.len() <= LEFT_MAX);
    }
    coverage.looked_at_all();
    assert_eq!(coverage.settled(), Some(0));
    coverage.takes_over(now + TAKE_OVER_AFTER);
    let first = again(&mut coverage, many);
    assert!(first.iter().copied().eq(0..=LEFT_MAX as u64), "{} were looked at", first.len());
    coverage.takes_over(now + TAKE_OVER_AFTER);
    assert!(again(&mut coverage, many).into_iter().eq(LEFT_MAX as u64 + 1..many));
    assert_eq!(coverage.settled(), Some(many));
}

#[test]
fn dead_letters_of_a_stream_that_was_read_back_since_count_for_nothing() {
    let now = Instant::now();
    let mut coverage = live(0, Some(0), now);
    let old = coverage.sends(1);
    coverage.begin();
    coverage.live(0, now);
    reads(&mut coverage, 0..5);
    coverage.sends(1);
    coverage.is_safe(old);
    assert_eq!(coverage.settled(), Some(1));
}

#[test]
fn nodes_begin_one_after_the_other() {
    let now = Instant::now();
    let dues = [0, 1000, 2500].map(|node| {
        let mut coverage = Coverage::new(node);
        coverage.begin();
        coverage.live(5, now);
        coverage.due()
    });
    assert!(dues.is_sorted() && dues[0] < dues[1] && dues[1] < dues[2]);
}
