#![no_main]

use fanfare::broker::amqp_filter::{Filter, Terms};

/// What the filter makes of bytes that are read in pieces of this length.
fn filtered(terms: &Terms, mut bytes: &[u8], piece: usize) -> Vec<u8> {
    let (mut filter, mut out, mut buffer) = (Filter::new(terms.clone()), Vec::new(), [0; 1024]);
    loop {
        let given = filter.give(&mut buffer);
        out.extend(&buffer[..given]);
        if given > 0 {
            continue;
        }
        if bytes.is_empty() {
            return out;
        }
        let direct = filter.direct().min(piece).min(bytes.len());
        let read = if direct > 0 {
            filter.passed_by(direct);
            out.extend(&bytes[..direct]);
            direct
        } else {
            let space = filter.space();
            let read = piece.min(bytes.len()).min(space.len());
            space[..read].copy_from_slice(&bytes[..read]);
            filter.filled(read);
            read
        };
        bytes = &bytes[read..];
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&first, properties)) = data.split_first() else { return };
    // As they came, and as the properties of a message.
    let len = (properties.len() as u32 + 12).to_be_bytes();
    let header = [&[2, 0, 1], &len[..], &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], properties, &[0xce]].concat();
    for bytes in [properties, &header] {
        let (plain, careful) = (Terms::new(false), Terms::new(true));
        for terms in [&plain, &careful] {
            terms.set_frame_max(4096 * (u32::from(first % 2) + 1));
        }
        let out = filtered(&plain, bytes, usize::MAX);
        assert_eq!(out, filtered(&plain, bytes, usize::from(first) + 1), "where reads end matters");
        // The careful one passes what lapin's parser reads.
        assert_eq!(out, filtered(&careful, bytes, usize::MAX), "lapin does not read it");
    }
});
