use super::*;

const ME: u64 = 1;
const OTHER: u64 = 2;
const GOAL: u64 = 900;

fn ping(nonce: u64) -> Marker {
    Marker { nonce, node: ME, claim: None }
}

fn claim(node: u64, epoch: &str, origin: Option<u64>) -> Marker {
    later(0, node, epoch, origin)
}

fn later(generation: u32, node: u64, epoch: &str, origin: Option<u64>) -> Marker {
    Marker { nonce: 7, node, claim: Some(Claim { epoch: epoch.into(), generation, origin }) }
}

fn caught_up(epoch: &str) -> MarkerEffect {
    MarkerEffect::CaughtUp(epoch.into())
}

fn renamed(epoch: &str) -> MarkerEffect {
    MarkerEffect::Renamed(epoch.into())
}

fn reading() -> Lineage {
    let mut lineage = Lineage::new(ME);
    lineage.begin(GOAL);
    lineage
}

/// What each of these markers changes, for a node that begins with them.
fn findings(markers: &[(u64, Marker)]) -> (Vec<MarkerEffect>, Lineage) {
    let mut lineage = reading();
    let findings = markers.iter().map(|(offset, marker)| lineage.marker(*offset, marker)).collect();
    (findings, lineage)
}

/// What is read, what comes of it, and which epoch holds at the end.
type Case = (&'static str, Vec<(u64, Marker)>, Vec<MarkerEffect>, Option<(&'static str, u64)>);

fn beginnings() -> Vec<Case> {
    use MarkerEffect::{Contested, NoEpoch, Nothing};
    vec![
        ("nobody was there", vec![(0, ping(GOAL))], vec![NoEpoch], None),
        (
            "the own proposal is the first",
            vec![(0, ping(GOAL)), (1, claim(ME, "a", None)), (2, claim(OTHER, "b", None))],
            vec![NoEpoch, caught_up("a"), Contested],
            Some(("a", 1)),
        ),
        (
            "another's proposal is the first",
            vec![(0, ping(GOAL)), (1, claim(OTHER, "b", None)), (2, claim(ME, "a", None))],
            vec![NoEpoch, caught_up("b"), Nothing],
            Some(("b", 1)),
        ),
        (
            "another's ping asks for no second proposal",
            vec![(0, ping(5)), (1, ping(GOAL)), (2, ping(6)), (3, claim(OTHER, "b", None))],
            vec![Nothing, NoEpoch, Nothing, caught_up("b")],
            Some(("b", 3)),
        ),
        (
            "an epoch whose first marker is long gone",
            vec![(100, claim(OTHER, "b", Some(3))), (101, ping(GOAL))],
            vec![Nothing, caught_up("b")],
            Some(("b", 3)),
        ),
    ]
}

fn disputes() -> Vec<Case> {
    use MarkerEffect::{NoEpoch, Nothing};
    vec![
        (
            "the lower origin wins, however late it is read",
            vec![
                (100, ping(GOAL)),
                (101, claim(ME, "a", None)),
                (102, claim(OTHER, "b", Some(3))),
                (103, claim(ME, "a", Some(101))),
                (104, claim(OTHER, "b", Some(3))),
            ],
            vec![NoEpoch, caught_up("a"), renamed("b"), Nothing, Nothing],
            Some(("b", 3)),
        ),
        (
            "while it is read back, a better claim is no news",
            vec![
                (10, claim(OTHER, "b", Some(9))),
                (11, claim(OTHER, "c", Some(3))),
                (12, claim(OTHER, "b", Some(9))),
                (13, ping(GOAL)),
            ],
            vec![Nothing, Nothing, Nothing, caught_up("c")],
            Some(("c", 3)),
        ),
        (
            "a claim from another stream, or two about the same marker",
            vec![
                (0, ping(GOAL)),
                (1, claim(OTHER, "x", Some(50))),
                (2, claim(ME, "a", None)),
                (3, claim(OTHER, "y", Some(2))),
            ],
            vec![NoEpoch, Nothing, caught_up("a"), Nothing],
            Some(("a", 2)),
        ),
        (
            "what was read before changes nothing",
            vec![(5, claim(OTHER, "b", None)), (6, ping(GOAL)), (5, claim(OTHER, "c", Some(0)))],
            vec![Nothing, caught_up("b"), Nothing],
            Some(("b", 5)),
        ),
    ]
}

/// What nodes read that have not noticed by themselves that the stream was rewound.
fn generations() -> Vec<Case> {
    use MarkerEffect::Nothing;
    vec![
        (
            "live: the later generation wins, although its origin is higher, and the earlier one no more",
            vec![
                (100, claim(OTHER, "a", Some(3))),
                (101, ping(GOAL)),
                (102, later(1, OTHER, "b", None)),
                (103, claim(OTHER, "a", Some(3))),
                (104, claim(OTHER, "z", Some(0))),
            ],
            vec![Nothing, caught_up("a"), renamed("b"), Nothing, Nothing],
            Some(("b", 102)),
        ),
        (
            "two propose at once: the first of the generation holds",
            vec![
                (100, claim(OTHER, "a", Some(3))),
                (101, ping(GOAL)),
                (102, later(1, OTHER, "b", None)),
                (103, later(1, 3, "c", None)),
                (104, later(1, 3, "c", Some(103))),
            ],
            vec![Nothing, caught_up("a"), renamed("b"), Nothing, Nothing],
            Some(("b", 102)),
        ),
    ]
}

fn generations_read_later() -> Vec<Case> {
    use MarkerEffect::{Contested, NoEpoch, Nothing};
    vec![
        (
            "who starts later reads the two generations in either order",
            vec![
                (200, later(1, OTHER, "b", Some(102))),
                (201, claim(OTHER, "a", Some(3))),
                (202, ping(GOAL)),
                (203, claim(OTHER, "a", Some(3))),
            ],
            vec![Nothing, Nothing, caught_up("b"), Nothing],
            Some(("b", 102)),
        ),
        (
            "the other order",
            vec![
                (200, claim(OTHER, "a", Some(3))),
                (201, later(1, OTHER, "b", Some(102))),
                (202, ping(GOAL)),
            ],
            vec![Nothing, Nothing, caught_up("b")],
            Some(("b", 102)),
        ),
        (
            "who still claims an earlier generation is told",
            vec![
                (200, ping(GOAL)),
                (201, later(1, ME, "b", None)),
                (202, claim(OTHER, "a", Some(3))),
                (203, later(1, ME, "b", Some(201))),
            ],
            vec![NoEpoch, caught_up("b"), Contested, Nothing],
            Some(("b", 201)),
        ),
        (
            "a generation does not make up for an origin that is not there yet",
            vec![
                (200, claim(OTHER, "a", Some(3))),
                (201, ping(GOAL)),
                (202, later(1, OTHER, "b", Some(203))),
            ],
            vec![Nothing, caught_up("a"), Nothing],
            Some(("a", 3)),
        ),
    ]
}

#[test]
fn the_first_claim_in_the_stream_holds_for_everybody() {
    let later = generations().into_iter().chain(generations_read_later());
    for (case, markers, expected, epoch) in beginnings().into_iter().chain(disputes()).chain(later) {
        let (found, lineage) = findings(&markers);
        assert_eq!(found, expected, "{case}");
        let known = lineage.claim().map(|claim| (claim.epoch, claim.origin.unwrap()));
        assert_eq!(known, epoch.map(|(epoch, origin)| (epoch.into(), origin)), "{case}");
    }
}

#[test]
fn the_newest_claims_writer_dead_letters_and_nobody_what_is_replayed() {
    let mut lineage = reading();
    let mut roles = Vec::new();
    let mut role = |lineage: &mut Lineage, offset| {
        roles.push(lineage.publication(offset, 0).map(|role| (role.replayed, role.is_dead_letterer)));
    };
    lineage.marker(0, &claim(ME, "a", None));
    role(&mut lineage, 1);
    lineage.marker(2, &ping(GOAL));
    role(&mut lineage, 3);
    lineage.marker(4, &claim(OTHER, "a", Some(0)));
    role(&mut lineage, 5);
    lineage.marker(6, &claim(OTHER, "x", Some(60)));
    lineage.marker(7, &claim(ME, "a", Some(0)));
    lineage.marker(8, &ping(5));
    role(&mut lineage, 9);
    role(&mut lineage, 9);
    let (replayed, is_dead_letterer, leaves) =
        (Some((true, false)), Some((false, true)), Some((false, false)));
    assert_eq!(roles, [replayed, is_dead_letterer, leaves, is_dead_letterer, None]);
}

#[test]
fn the_anchor_is_the_newest_marker_once_there_is_something_to_go_on_with() {
    let (_, mut lineage) = findings(&[(3, claim(OTHER, "a", None))]);
    assert_eq!(lineage.anchor(), None, "it must read back anew");
    lineage.marker(4, &ping(GOAL));
    lineage.publication(5, 0);
    lineage.publication(9, 0);
    assert_eq!(lineage.anchor(), Some(Anchor { offset: 4, nonce: GOAL }));
    assert_eq!(lineage.since_anchor(), 5);
    lineage.begin(GOAL);
    assert_eq!((lineage.anchor(), lineage.since_anchor(), lineage.claim()), (None, 0, None));
    // Another stream of that name, with smaller offsets.
    assert_eq!(lineage.marker(0, &ping(GOAL)), MarkerEffect::NoEpoch);
}

/// A node that has read these publications behind its anchor at 1, in an epoch of this generation.
fn live(generation: u32, publications: &[(u64, u64)]) -> Lineage {
    let (_, mut lineage) = findings(&[(0, later(generation, ME, "a", None)), (1, ping(GOAL))]);
    for &(offset, fingerprint) in publications {
        assert!(lineage.publication(offset, fingerprint).is_some(), "{offset} is new");
    }
    lineage
}

/// What is read over the next link.
#[derive(Clone, Copy, Debug)]
enum Read {
    Publication(u64, u64),
    Marker(u64),
}

#[test]
fn a_stream_that_gives_read_offsets_to_other_messages_was_rewound() {
    use Read::{Marker, Publication};
    const READ: [(u64, u64); 3] = [(2, 20), (3, 30), (4, 40)];
    let [same @ .., last] = READ.map(|(offset, fingerprint)| Publication(offset, fingerprint));
    let [two, three] = same;
    // Each ends with what shows it.
    for (case, read, is_rewound) in [
        ("nothing was lost", vec![two, three, last, Publication(5, 50), Marker(6)], false),
        ("nor is it known yet", vec![two, three], false),
        ("the end comes too early", vec![two, Marker(3)], true),
        ("all behind the anchor is gone", vec![Marker(2)], true),
        ("the last one is another", vec![two, three, Publication(4, 41)], true),
        ("an earlier one is another", vec![two, Publication(3, 31), last], true),
        ("two in another order", vec![Publication(2, 30), Publication(3, 20), last], true),
        ("a marker took the last one's place", vec![two, three, Marker(4)], true),
        ("the last one was passed over", vec![two, three, Publication(5, 50)], true),
    ] {
        let mut lineage = live(0, &READ);
        lineage.resume();
        for (n, &read_now) in read.iter().enumerate() {
            let is_new = match read_now {
                Publication(offset, fingerprint) => lineage.publication(offset, fingerprint).is_some(),
                Marker(offset) => {
                    assert_eq!(lineage.marker(offset, &ping(8)), MarkerEffect::Nothing, "{case}");
                    false
                }
            };
            assert_eq!(is_new, matches!(read_now, Publication(5, _)) && !is_rewound, "{case}");
            assert_eq!(lineage.is_blank(), is_rewound && n + 1 == read.len(), "{case}: {read_now:?}");
        }
        assert_eq!(lineage.anchor().is_none(), is_rewound, "{case}");
    }
}

#[test]
fn each_link_is_compared_from_the_anchor_on() {
    let mut lineage = live(0, &[(2, 20), (3, 30)]);
    lineage.resume();
    lineage.publication(2, 20);
    lineage.resume();
    assert_eq!((lineage.publication(2, 20), lineage.publication(3, 30)), (None, None));
    assert!(lineage.publication(4, 40).is_some());
    lineage.resume();
    for (offset, fingerprint) in [(2, 20), (3, 30), (4, 40)] {
        assert_eq!(lineage.publication(offset, fingerprint), None);
    }
    lineage.marker(5, &ping(8));
    lineage.resume();
    assert!(lineage.publication(6, 60).is_some(), "nothing was read behind this anchor");
    assert!(lineage.is_live());
}

/// What a node reads that has noticed it: the epoch before was "a", of generation 4.
#[test]
fn who_noticed_it_takes_no_earlier_generation() {
    use MarkerEffect::{NoEpoch, Nothing};
    let old = || later(4, OTHER, "a", Some(0));
    let cases = [
        (
            "the old epoch is still there",
            vec![(1, old()), (2, ping(GOAL)), (3, old()), (4, later(5, ME, "b", None))],
            vec![Nothing, NoEpoch, Nothing, caught_up("b")],
        ),
        (
            "there is nothing, or another stream that begins",
            vec![(0, ping(GOAL)), (1, claim(OTHER, "x", None)), (2, later(5, ME, "b", None))],
            vec![NoEpoch, Nothing, caught_up("b")],
        ),
        (
            "another one was the first to propose",
            vec![(1, old()), (2, ping(GOAL)), (3, later(5, OTHER, "c", None)), (4, later(5, ME, "b", None))],
            vec![Nothing, NoEpoch, caught_up("c"), Nothing],
        ),
        (
            "and before it was read back",
            vec![(1, old()), (2, later(5, OTHER, "c", None)), (3, ping(GOAL))],
            vec![Nothing, Nothing, caught_up("c")],
        ),
        (
            "others have seen more",
            vec![(1, later(9, OTHER, "d", None)), (2, ping(GOAL)), (3, later(5, ME, "b", None))],
            vec![Nothing, caught_up("d"), Nothing],
        ),
    ];
    for (case, markers, expected) in cases {
        let mut lineage = live(4, &[]);
        lineage.rewound();
        // Over one more lost link.
        lineage.begin(5);
        lineage.begin(GOAL);
        let proposal = lineage.proposal("b".into());
        assert_eq!((proposal.generation, proposal.origin), (5, None), "{case}");
        let found: Vec<_> = markers.iter().map(|(offset, marker)| lineage.marker(*offset, marker)).collect();
        assert_eq!(found, expected, "{case}");
    }
}

#[test]
fn generations_rise_with_each_time_and_have_an_end() {
    let mut lineage = live(0, &[]);
    for generation in 1..4 {
        lineage.rewound();
        lineage.rewound();
        lineage.begin(GOAL);
        let proposal = lineage.proposal("b".into());
        assert_eq!(proposal.generation, generation);
        assert_eq!(lineage.marker(0, &ping(GOAL)), MarkerEffect::NoEpoch);
        let proposal = Marker { claim: Some(proposal), ..ping(8) };
        assert_eq!(lineage.marker(1, &proposal), caught_up("b"));
        assert_eq!(lineage.claim().map(|claim| claim.generation), Some(generation));
    }
    // Behind the last one comes none: then what is found holds.
    let mut lineage = live(u32::MAX, &[]);
    lineage.rewound();
    lineage.begin(GOAL);
    lineage.marker(0, &claim(OTHER, "a", None));
    assert_eq!(lineage.marker(1, &ping(GOAL)), caught_up("a"));
}
