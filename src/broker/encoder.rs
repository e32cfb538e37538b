//! Encodes a batch of publications in each encoding.

use std::hash::RandomState;
use std::ops::Range;
use std::sync::Arc;

use crate::codec::deflate::Deflater;
use crate::codec::json::checker::Checker;
use crate::codec::push::Published;
use crate::domain::codec::Codec;
use crate::domain::encoding::Encoding;
use crate::domain::mail::{KeyedLine, Lines};
use crate::stats::BrokerStats;

use super::merge::Batch;

/// What encoding needs, kept between messages.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    pub(super) checker: Checker,
    pub(super) line: Vec<u8>,
    deflater: Deflater,
    /// Makes keys numbers: strongly, as two keys with one number would be one to slow subscribers.
    pub(super) keys: RandomState,
}

impl Encoder {
    /// Writes the line of a publication to `line`. Returns where its data stands in it.
    pub(super) fn write_line(&mut self, published: &Published<'_>) -> Range<usize> {
        let len = Codec::Json.publication_len(published);
        self.line.clear();
        self.line.reserve(len);
        Codec::Json.write_publication(&mut self.line, published)
    }

    /// What a batch is to those who want it in this encoding.
    pub(super) fn encode(
        &mut self,
        batch: &Batch,
        keyed: Option<&Arc<Vec<KeyedLine>>>,
        encoding: Encoding,
        min_bytes: usize,
        stats: &BrokerStats,
    ) -> Lines {
        let bytes = match encoding {
            Encoding::Json => Arc::clone(&batch.bytes),
            Encoding::Deflated => {
                let segment = self.deflater.segment(&batch.bytes, min_bytes);
                stats.encodings.add(batch.lines.into());
                stats.deflate_in.add(batch.bytes.len() as u64);
                stats.deflate_out.add(segment.len() as u64);
                Arc::new(segment.to_vec())
            }
        };
        // Batches fit into frames, whose limit would have to be beyond 4 GB.
        let plain_bytes = u32::try_from(batch.bytes.len()).unwrap_or(u32::MAX);
        let (count, offset) = (batch.lines, batch.offset);
        Lines { bytes, count, plain_bytes, offset, keyed: keyed.cloned() }
    }
}
