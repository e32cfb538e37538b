#![no_main]

use fanfare::wire::decode::{Decoded, decode};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (mut bytes, mut at, mut assembly) = (data.to_vec(), 0, None);
    while let Ok(Decoded::Frame { consumed, .. }) = decode(&mut bytes[at..], &mut assembly, 4096) {
        at += consumed;
    }
});
