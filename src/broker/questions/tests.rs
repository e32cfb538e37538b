//! How much of a history one answer has.

use std::time::Duration;

use super::super::history::{Addition, Keep};
use super::super::tests::fakes;
use super::*;
use crate::config::{Config, Namespace};
use crate::domain::client_info::ClientInfo;

/// A node with nine publications of `h:t`, and frames of at most so many bytes.
fn with_history(frame_bytes: usize) -> Broker {
    let mut config = Config::default();
    config.namespaces.insert("h".to_owned(), Namespace { history_size: 10, ..Namespace::default() });
    config.limits.frame_bytes = frame_bytes;
    let (mut broker, _) = fakes::broker(config, 1);
    let client = Arc::new(ClientInfo { client: "c".into(), ..ClientInfo::default() });
    for offset in 1..10_u8 {
        // No two are of the same size.
        let data = [b'7'; 10].repeat(offset.into());
        let info = offset.is_multiple_of(2).then_some(&client);
        let publication = Publication { data: &data, info, offset: offset.into() };
        let addition = Addition { publication, age: Some(Duration::ZERO), lifetime: None };
        let keep = Keep { size: 10, ttl: Duration::from_secs(60) };
        broker.history.add("h:t", &addition, keep, Instant::now());
    }
    broker
}

/// For everything, or so many publications.
fn range(limit: Option<u32>, reverse: bool) -> HistoryRange {
    HistoryRange { limit, since: None, reverse }
}

#[test]
fn a_page_of_history_has_as_many_publications_as_fit_into_a_frame_for_a_client_and_for_an_operator() {
    let mut ample = with_history(1 << 20);
    for reverse in [false, true] {
        for count in 1..10 {
            let encoded = ample.encoded_page("h:t", &range(Some(count), reverse), Codec::Json).unwrap();
            let bytes = encoded.publications.len();
            for (frame_bytes, fitting) in [(bytes, count), (bytes - 1, count - 1)] {
                let (mut broker, all) = (with_history(frame_bytes), range(None, reverse));
                let client = broker.encoded_page("h:t", &all, Codec::Json).unwrap().publications;
                assert!(client.len() <= frame_bytes && encoded.publications.starts_with(&client));
                let operator = broker.history_page("h:t", &all).unwrap().publications;
                let of_client = String::from_utf8(client).unwrap().matches(r#""offset""#).count();
                let counts = (of_client, operator.iter().len());
                assert_eq!(counts, (fitting as usize, fitting as usize), "{frame_bytes} bytes, {reverse}");
            }
        }
    }
}
