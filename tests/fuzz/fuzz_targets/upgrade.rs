#![no_main]

use fanfare::transport::credential::CredentialPlaces;
use fanfare::transport::origin::OriginPattern;
use fanfare::transport::upgrade::{Upgrade, UpgradePolicy, describe, upgrade};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let listed = ["https://a.example", "https://*.b.example", "http://localhost:*", "file://"];
    let allowed_origins = listed.map(|origin| OriginPattern::parse(origin).expect("an origin")).to_vec();
    let path = "/".to_owned();
    let policy = UpgradePolicy {
        path,
        head_bytes: 4096,
        allowed_origins,
        page_port: 9000,
        open_on_loopback: false,
        deflate: true,
        credentials: CredentialPlaces { cookie: "c".to_owned(), query: "q".to_owned() },
    };
    match upgrade(data, &policy) {
        Upgrade::Accepted { consumed, response, .. } => {
            assert!(consumed <= data.len() && response.starts_with(b"HTTP/1.1 101 "));
        }
        Upgrade::Refused(_) => {
            let request = describe(data);
            assert!(!request.path.unwrap_or_default().contains(char::is_control));
            assert!(!request.origin.unwrap_or_default().contains(char::is_control));
        }
        Upgrade::Incomplete => assert!(data.len() < policy.head_bytes),
    }
});
