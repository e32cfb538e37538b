#![no_main]

use fanfare::codec::deflate::Inflater;
use fanfare::transport::websocket::decode::{Decoded, decode};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // The first byte says whether the client may compress.
    let Some((&first, frames)) = data.split_first() else { return };
    let (mut bytes, mut at, mut assembly, mut inflater) = (frames.to_vec(), 0, None, Inflater::default());
    loop {
        let inflater = (first % 2 == 1).then_some(&mut inflater);
        match decode(&mut bytes[at..], &mut assembly, 4096, inflater) {
            Ok(Decoded::Frame { consumed, .. }) => at += consumed,
            _ => return,
        }
    }
});
