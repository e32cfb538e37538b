#![no_main]

use fanfare::codec::command::Method;
use fanfare::codec::json::read;

libfuzzer_sys::fuzz_target!(|line: &str| {
    if let Ok(command) = read::command(line.as_bytes()) {
        assert!(command.id > 0 || matches!(command.method, Method::Pong | Method::Send { .. }));
    }
});
