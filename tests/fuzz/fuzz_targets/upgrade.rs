#![no_main]

use fanfare::wire::upgrade::{Upgrade, UpgradePolicy, upgrade};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (path, allowed_origins) = ("/".to_owned(), vec!["https://a.example".to_owned()]);
    let policy = UpgradePolicy { path, head_bytes: 4096, allowed_origins, open_on_loopback: false, deflate: true };
    match upgrade(data, &policy) {
        Upgrade::Accepted { consumed, response, .. } => {
            assert!(consumed <= data.len() && response.starts_with(b"HTTP/1.1 101 "));
        }
        Upgrade::Refused { status, response } => {
            assert!(response.starts_with(format!("HTTP/1.1 {status} ").as_bytes()));
        }
        Upgrade::Incomplete => assert!(data.len() < policy.head_bytes),
    }
});
