//! How long one turn lasts.

use super::*;
use crate::mail::MESSAGE_TOPICS_MAX;

/// Messages may be dear: the hand-over does not wait until hundreds of them have been taken.
#[test]
fn a_turn_ends_by_time_as_well_as_by_number() {
    const MESSAGES: usize = 400;
    let mut house = House::new(1, |config| {
        let kept = Namespace { history_size: 1, ..Namespace::default() };
        config.namespaces.insert("kept".to_owned(), kept);
    });
    house.attach(0, 0, "kept:0");
    let names: Vec<_> = (0..MESSAGE_TOPICS_MAX).map(|n| format!("kept:{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    (0..MESSAGES).for_each(|n| drop(house.publish(&names, &n.to_string())));
    let (mut came, mut largest) = (0, 0);
    while came < MESSAGES {
        let lines = house.batch(0).1.len();
        (came, largest) = (came + lines, largest.max(lines));
    }
    assert!(largest <= MESSAGES / 4, "{largest} messages were taken in one turn");
    house.stop();
}
