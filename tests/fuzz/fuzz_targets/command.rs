#![no_main]

use fanfare::codec::command::{Method, parse};

libfuzzer_sys::fuzz_target!(|line: &str| {
    if let Ok(command) = parse(line) {
        assert!(command.id > 0 || matches!(command.method, Method::Pong | Method::Send));
    }
});
