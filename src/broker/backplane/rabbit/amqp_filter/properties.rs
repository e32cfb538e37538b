//! Content headers: the properties and headers of a message.

use super::super::headers::MEANINGFUL;

/// The first bytes of a content header: class, weight, size of the body.
pub(super) const PREFIX: usize = 12;

/// Begins the names of the headers by which the filter says what it found. A message's own headers with such names are
/// renamed, so that none can claim to be damaged, or not to be.
pub(in super::super) const NOTE: &str = "x-fanfare-bytes-";
/// The bytes of a routing key that is no text, in hex.
pub(in super::super) const ROUTING_KEY: &str = "x-fanfare-bytes-routing-key";
/// Why properties or headers are missing that may have meant something.
pub(in super::super) const LOST: &str = "x-fanfare-bytes-lost";
/// How many headers were dropped because the frame was too large.
const DROPPED: &str = "x-fanfare-bytes-dropped";
/// A header whose own name cannot stay: the name's bytes follow in hex.
const RENAMED: &str = "x-fanfare-name-";

/// Where RabbitMQ says that a message stands in its stream: known even if all else is lost.
const OFFSET: &[u8] = b"x-stream-offset";

/// Tables and lists within each other that are kept as such. lapin reads them by recursion, on a stack of 2 MiB, and
/// RabbitMQ passes 20,000 levels; deeper ones stay as byte arrays. RabbitMQ's own `x-death` has two levels.
const NESTING_MAX: usize = 16;
/// Bytes of a name that are told in full when it is renamed; a name has 255 bytes at most.
const NAME_MAX: usize = 119;
/// Room for the note on what was dropped.
const DROPPED_NOTE_MAX: usize = 128;
/// What a frame has around its payload.
const FRAMING: usize = 8;

/// How a property is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Table,
    Fixed(usize),
}

/// In the order of their flags, from the highest bit down, and of their values (AMQP 0.9.1, class `basic`).
const PROPERTIES: [(&str, Form); 14] = [
    ("content-type", Form::Text),
    ("content-encoding", Form::Text),
    ("headers", Form::Table),
    ("delivery-mode", Form::Fixed(1)),
    ("priority", Form::Fixed(1)),
    ("correlation-id", Form::Text),
    ("reply-to", Form::Text),
    ("expiration", Form::Text),
    ("message-id", Form::Text),
    ("timestamp", Form::Fixed(8)),
    ("type", Form::Text),
    ("user-id", Form::Text),
    ("app-id", Form::Text),
    ("cluster-id", Form::Text),
];
const HIGHEST_FLAG: u16 = 1 << 15;
const HEADERS_FLAG: u16 = HIGHEST_FLAG >> 2;

/// How a value in a table or list is written.
enum Value {
    Fixed(usize),
    Bytes,
    Table,
    List,
}

impl Value {
    /// By the type's letter, for those that lapin knows. They are all that RabbitMQ knows, and `U`.
    fn of(kind: u8) -> Option<Self> {
        Some(match kind {
            b'V' => Self::Fixed(0),
            b't' | b'b' | b'B' => Self::Fixed(1),
            b's' | b'u' | b'U' => Self::Fixed(2),
            b'I' | b'i' | b'f' => Self::Fixed(4),
            b'D' => Self::Fixed(5),
            b'L' | b'l' | b'd' | b'T' => Self::Fixed(8),
            b'S' | b'x' => Self::Bytes,
            b'F' => Self::Table,
            b'A' => Self::List,
            _ => return None,
        })
    }
}

/// Takes bytes from the front, as long as there are any.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// What follows a length of one byte.
    fn short(&mut self) -> Option<&'a [u8]> {
        let len = self.byte()?;
        self.take(len.into())
    }

    /// What follows a length of four bytes.
    fn long(&mut self) -> Option<&'a [u8]> {
        let len = self.take(4)?.try_into().ok()?;
        self.take(usize::try_from(u32::from_be_bytes(len)).ok()?)
    }

    fn flags(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }
}

/// Which of the headers with a meaning were met in a table, by their place in [`MEANINGFUL`].
#[derive(Default)]
struct Met(u32);

impl Met {
    /// Whether a header may stay under its name: text, none of the filter's own, and no second one of those that mean
    /// something. RabbitMQ takes the first of several, and puts its own `x-stream-offset` there; lapin takes the last.
    fn allows(&mut self, name: &[u8]) -> bool {
        if !is_text(name) || name.starts_with(NOTE.as_bytes()) {
            return false;
        }
        let Some(number) = MEANINGFUL.iter().position(|known| known.as_bytes() == name) else { return true };
        let bit = 1 << number;
        let is_first = self.0 & bit == 0;
        self.0 |= bit;
        is_first
    }
}

/// Whether lapin reads this content header without a fault, and reads in it what RabbitMQ does: then it may pass as
/// it is. The look that every message gets.
pub(super) fn is_sound(payload: &[u8]) -> bool {
    sound_properties(payload).is_some()
}

fn sound_properties(payload: &[u8]) -> Option<()> {
    let mut at = Cursor(payload);
    at.take(PREFIX)?;
    let flags = at.flags()?;
    for (number, (_, form)) in PROPERTIES.iter().enumerate() {
        if flags & (HIGHEST_FLAG >> number) == 0 {
            continue;
        }
        match form {
            Form::Text => is_text(at.short()?).then_some(())?,
            Form::Table => sound_headers(at.long()?)?,
            Form::Fixed(count) => drop(at.take(*count)?),
        }
    }
    at.is_empty().then_some(())
}

fn sound_headers(table: &[u8]) -> Option<()> {
    let (mut at, mut met) = (Cursor(table), Met::default());
    while !at.is_empty() {
        if !met.allows(at.short()?) {
            return None;
        }
        sound_value(&mut at, NESTING_MAX)?;
    }
    Some(())
}

fn sound_value(at: &mut Cursor<'_>, depth: usize) -> Option<()> {
    match Value::of(at.byte()?)? {
        Value::Fixed(count) => drop(at.take(count)?),
        Value::Bytes => drop(at.long()?),
        nested => {
            let depth = depth.checked_sub(1)?;
            let is_table = matches!(nested, Value::Table);
            let mut at = Cursor(at.long()?);
            while !at.is_empty() {
                if is_table {
                    is_text(at.short()?).then_some(())?;
                }
                sound_value(&mut at, depth)?;
            }
        }
    }
    Some(())
}

/// A content header that is written anew.
#[derive(Default)]
struct Draft {
    flags: u16,
    /// Values of the properties before the headers, and of those behind them.
    before: Vec<u8>,
    behind: Vec<u8>,
    headers: Vec<Header>,
    lost: Option<&'static str>,
    /// Headers that were renamed, in nested tables too.
    renamed: usize,
}

/// A header with its name and value as they are written.
struct Header {
    bytes: Vec<u8>,
    /// It means something: where it has no room, the message is not what its publisher sent.
    is_kept: bool,
}

/// Writes a content header anew, so that lapin reads it: what is no text is left out and told in headers, `routing_key`
/// too, which is that of the delivery if it is no text. It fits into a frame of `frame_max` bytes, if that is 4096 at
/// least. `payload` has [`PREFIX`] bytes at least.
pub(super) fn mend(payload: &[u8], routing_key: Option<&[u8]>, frame_max: usize) -> Vec<u8> {
    let (prefix, properties) = payload.split_at(PREFIX);
    let mut draft = Draft::default();
    if draft.read(&mut Cursor(properties)).is_none() {
        draft.lost = Some("the properties cannot be read to their end");
    }
    if let Some(routing_key) = routing_key {
        draft.note(ROUTING_KEY, &hex(routing_key), true);
    }
    draft.fit(frame_max.saturating_sub(FRAMING));
    draft.written(prefix)
}

/// The same for a content header of which nothing can be read, for a reason. Where it is in a stream is kept if it is
/// found at the front of `payload`.
pub(super) fn without_all(payload: &[u8], routing_key: Option<&[u8]>, reason: &'static str) -> Vec<u8> {
    let (prefix, properties) = payload.split_at(PREFIX);
    let mut draft = Draft::default();
    // How far it can be read is of no interest.
    let _ = draft.read(&mut Cursor(properties));
    if let Some(routing_key) = routing_key {
        draft.note(ROUTING_KEY, &hex(routing_key), true);
    }
    draft.lose(reason);
    draft.written(prefix)
}

impl Draft {
    /// `None` where the properties cannot be read on. What came before is taken.
    fn read(&mut self, at: &mut Cursor<'_>) -> Option<()> {
        let flags = at.flags()?;
        for (number, (name, form)) in PROPERTIES.iter().enumerate() {
            let flag = HIGHEST_FLAG >> number;
            if flags & flag == 0 {
                continue;
            }
            let values = if flag > HEADERS_FLAG { &mut self.before } else { &mut self.behind };
            match form {
                Form::Text => {
                    let text = at.short()?;
                    if !is_text(text) {
                        self.note(&format!("{NOTE}{name}"), &hex(text), false);
                        continue;
                    }
                    put_short(values, text);
                }
                Form::Table => {
                    let Some(table) = at.long() else {
                        // The frame ends within it. What is here of it may say where the message was.
                        let _ = self.read_headers(&mut Cursor(at.0));
                        return None;
                    };
                    if self.read_headers(&mut Cursor(table)).is_none() {
                        self.lost = Some("the headers cannot be read to their end");
                    }
                    continue;
                }
                Form::Fixed(count) => values.extend(at.take(*count)?),
            }
            self.flags |= flag;
        }
        at.is_empty().then_some(())
    }

    fn read_headers(&mut self, at: &mut Cursor<'_>) -> Option<()> {
        let mut met = Met::default();
        while !at.is_empty() {
            let name = at.short()?;
            let mut header = Header { bytes: Vec::new(), is_kept: false };
            if met.allows(name) {
                header.is_kept = MEANINGFUL.iter().any(|known| known.as_bytes() == name);
                put_short(&mut header.bytes, name);
            } else {
                self.rename(&mut header.bytes, name);
            }
            self.copy_value(at, &mut header.bytes, NESTING_MAX)?;
            self.headers.push(header);
        }
        Some(())
    }

    fn rename(&mut self, bytes: &mut Vec<u8>, name: &[u8]) {
        let mut text = format!("{RENAMED}{}", hex(&name[..name.len().min(NAME_MAX)]));
        if name.len() > NAME_MAX {
            // Long names can differ behind what is told of them.
            text.truncate(RENAMED.len() + 2 * NAME_MAX - 12);
            text.push_str(&format!("-{}", self.renamed));
        }
        self.renamed += 1;
        put_short(bytes, text.as_bytes());
    }

    /// Copies a value; `None` where nobody knows where it ends. A table or list that cannot be read, or is too deep,
    /// becomes the array of its bytes.
    fn copy_value(&mut self, at: &mut Cursor<'_>, bytes: &mut Vec<u8>, depth: usize) -> Option<()> {
        let kind = at.byte()?;
        match Value::of(kind)? {
            Value::Fixed(count) => {
                bytes.push(kind);
                bytes.extend(at.take(count)?);
            }
            Value::Bytes => put_long(bytes, kind, at.long()?),
            nested => {
                let (content, begin) = (at.long()?, bytes.len());
                put_long(bytes, kind, b"");
                let copied = depth.checked_sub(1).and_then(|depth| {
                    self.copy_nested(content, bytes, matches!(nested, Value::Table), depth)
                });
                let len = u32::try_from(bytes.len() - begin - 5).ok();
                if let Some(len) = copied.and(len) {
                    bytes[begin + 1..begin + 5].copy_from_slice(&len.to_be_bytes());
                } else {
                    bytes.truncate(begin);
                    put_long(bytes, b'x', content);
                }
            }
        }
        Some(())
    }

    fn copy_nested(
        &mut self,
        content: &[u8],
        bytes: &mut Vec<u8>,
        is_table: bool,
        depth: usize,
    ) -> Option<()> {
        let mut at = Cursor(content);
        while !at.is_empty() {
            if is_table {
                let name = at.short()?;
                if is_text(name) {
                    put_short(bytes, name);
                } else {
                    self.rename(bytes, name);
                }
            }
            self.copy_value(&mut at, bytes, depth)?;
        }
        Some(())
    }

    fn note(&mut self, name: &str, text: &str, is_kept: bool) {
        let mut bytes = Vec::new();
        put_short(&mut bytes, name.as_bytes());
        put_long(&mut bytes, b'S', text.as_bytes());
        self.headers.push(Header { bytes, is_kept });
    }

    /// Drops the longest headers without a meaning until the rest fits.
    fn fit(&mut self, max: usize) {
        if let Some(reason) = self.lost {
            self.note(LOST, reason, true);
        }
        let len = self.len();
        if len <= max {
            return;
        }
        let mut excess = len + DROPPED_NOTE_MAX - max;
        let mut lengths: Vec<_> =
            self.headers.iter().filter(|header| !header.is_kept).map(|header| header.bytes.len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        let is_needed = |len: &usize| {
            let is_needed = excess > 0;
            excess = excess.saturating_sub(*len);
            is_needed
        };
        let count = lengths.iter().copied().take_while(is_needed).count();
        let shortest = count.checked_sub(1).map_or(usize::MAX, |last| lengths[last]);
        // All that are longer go, and so many of this length.
        let mut left = count - lengths.partition_point(|&len| len > shortest);
        self.headers.retain(|header| {
            let len = header.bytes.len();
            let is_one_of_many = !header.is_kept && len == shortest && left > 0;
            left -= usize::from(is_one_of_many);
            header.is_kept || !(len > shortest || is_one_of_many)
        });
        self.note(DROPPED, &format!("{count}, for which a frame of AMQP had no room"), false);
        if self.len() > max {
            self.lose("the properties do not fit into a frame of AMQP");
        }
    }

    /// Keeps nothing but what says where the message was and why it is not here.
    fn lose(&mut self, reason: &'static str) {
        (self.flags, self.lost) = (0, Some(reason));
        self.before.clear();
        self.behind.clear();
        self.headers.retain(|header| {
            let name = Cursor(&header.bytes).short();
            name.is_some_and(|name| name == ROUTING_KEY.as_bytes())
                || (name == Some(OFFSET) && header.bytes.len() <= OFFSET.len() + 10)
        });
        self.note(LOST, reason, true);
    }

    fn len(&self) -> usize {
        let headers: usize = self.headers.iter().map(|header| header.bytes.len()).sum();
        PREFIX + 2 + self.before.len() + self.behind.len() + 4 + headers
    }

    fn written(self, prefix: &[u8]) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.len());
        payload.extend(prefix);
        let has_headers = !self.headers.is_empty();
        let flags = if has_headers { self.flags | HEADERS_FLAG } else { self.flags };
        payload.extend(flags.to_be_bytes());
        payload.extend(&self.before);
        if has_headers {
            let len: usize = self.headers.iter().map(|header| header.bytes.len()).sum();
            payload.extend(u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
            self.headers.iter().for_each(|header| payload.extend(&header.bytes));
        }
        payload.extend(&self.behind);
        payload
    }
}

fn put_short(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    bytes.extend(text);
}

fn put_long(bytes: &mut Vec<u8>, kind: u8, content: &[u8]) {
    bytes.push(kind);
    bytes.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(content);
}

/// Whether bytes are UTF-8: nearly always they are ASCII, which is seen sooner.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    bytes.is_ascii() || std::str::from_utf8(bytes).is_ok()
}

/// Bytes as people write them.
pub(in super::super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|half| DIGITS[usize::from(half)]).collect()
}
