//! From a payload to a frame: its check, its line, a frame's header.

use std::hint::black_box;

use fanfare::codec::json::checker::Checker;
use fanfare::codec::push::Published;
use fanfare::domain::codec::Codec;
use fanfare::domain::publication::Publication as Value;
use fanfare::transport::websocket::encode::{Header, Opcode};

/// Levels of nesting, as by default.
const DEPTH_MAX: usize = 128;

/// A payload, and the buffers that a broker thread keeps from one to the next.
pub(crate) struct Publication {
    data: Vec<u8>,
    checker: Checker,
    line: Vec<u8>,
}

impl Publication {
    /// With a payload of about so many bytes, as applications send them.
    pub(crate) fn new(bytes: usize) -> Self {
        let item = r#"{"id":12345,"name":"fanfare","price":12.5,"tags":["a","b"]}"#;
        let items = vec![item; bytes.div_ceil(item.len())].join(",");
        Self { data: format!("[{items}]").into_bytes(), checker: Checker::default(), line: Vec::new() }
    }

    /// Bytes of the payload.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Whether the payload is JSON.
    pub(crate) fn check(&mut self) -> bool {
        self.checker.check(black_box(&self.data), DEPTH_MAX).is_ok()
    }

    /// Writes the line and returns its length.
    pub(crate) fn encode(&mut self) -> usize {
        self.line.clear();
        let publication = Value { data: black_box(&self.data), info: None, offset: 0 };
        let published = Published { topic: black_box("orders:1234"), publication, epoch: None };
        Codec::Json.write_publication(&mut self.line, &published);
        self.line.len()
    }
}

/// The header of a frame with so many bytes of payload.
pub(crate) fn header(payload: usize) -> Header {
    fanfare::transport::websocket::encode::header(Opcode::Text, black_box(payload))
}
