//! The ledger of one world. Left column: what was published and confirmed, by topic. Right column: what each
//! client was sent. At the end of a fault the two must say the same.
//!
//! Publications of a topic carry the numbers 1, 2, 3, and are begun in batches: the next batch is begun when
//! the last is confirmed altogether. So whatever happens on the way, batches come in order, and every number
//! comes once. Within a batch RabbitMQ has the word; but then all clients must have heard the same order.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use crate::page::{Page, Trouble};

/// Index of a topic, in the order in which the world names them.
pub type TopicIndex = usize;
/// Index of a client.
pub type ClientIndex = usize;

/// Lines kept of each client, to show what led to a violation.
const LINES_KEPT: usize = 2000;
/// Lines shown of those: the latest about the topic, or about the client's connection.
const LINES_SHOWN: usize = 30;

/// What a client says of itself, one line each; [`crate::clients`] reads them.
#[derive(Clone, Debug)]
pub enum Said {
    /// A publication came.
    Publication {
        /// Where it belongs.
        topic: TopicIndex,
        /// The number in its data.
        number: u64,
        /// Its offset.
        offset: u64,
    },
    /// A subscription stands.
    Subscribed {
        /// To what.
        topic: TopicIndex,
        /// The client had asked to go on where it was, and everything since will follow.
        recovered: bool,
        /// What offsets count from.
        epoch: String,
    },
    /// A subscription or a connection is over for good: no SDK comes back from that by itself.
    Over(String),
    /// Anything else, worth a look when something went wrong.
    Aside,
}

/// One topic, as it was published.
#[derive(Debug)]
struct Column {
    name: String,
    batch: u64,
    begun: u64,
    confirmed: u64,
    /// Which number was seen at which offset first, since the last [`Ledger::close`].
    order: HashMap<(String, u64), u64>,
}

/// What happened since the last [`Ledger::close`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Publications that RabbitMQ confirmed.
    pub confirmed: u64,
    /// Publications that clients were sent, all clients together.
    pub received: u64,
    /// Publications that a client was never sent, and not told about either.
    pub lost: u64,
    /// Publications that a client was sent twice, or out of order.
    pub repeated: u64,
    /// Publications that a client was never sent, after it was told that there would be some.
    pub announced: u64,
}

impl Sums {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.confirmed += other.confirmed;
        self.received += other.received;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.announced += other.announced;
    }
}

/// Something that must not happen.
#[derive(Clone, Debug)]
pub struct Violation {
    /// In words, with topic and number.
    pub text: String,
    /// The client's last lines.
    pub context: Vec<String>,
}

#[derive(Clone, Debug)]
struct Line {
    /// None: it is about the connection.
    topic: Option<TopicIndex>,
    text: String,
}

#[derive(Debug)]
struct Book {
    columns: Vec<Column>,
    /// By client, then by topic.
    pages: Vec<Vec<Page>>,
    lines: Vec<VecDeque<Line>>,
    /// Whether a client may be told that something is missing.
    allows_gaps: bool,
    sums: Sums,
    violations: Vec<Violation>,
}

/// The book behind a lock: publishers write left, clients write right, the test reads.
#[derive(Debug)]
pub struct Ledger {
    book: Mutex<Book>,
    opened: Instant,
}

impl Ledger {
    /// An empty book. Each topic comes with the size of its batches.
    pub fn new(topics: &[(String, u64)], clients: usize) -> Self {
        let columns = topics.iter().map(|(name, batch)| Column {
            name: name.clone(),
            batch: *batch,
            begun: 0,
            confirmed: 0,
            order: HashMap::new(),
        });
        let pages = || topics.iter().map(|&(_, batch)| Page::new(batch)).collect();
        let book = Book {
            columns: columns.collect(),
            pages: (0..clients).map(|_| pages()).collect(),
            lines: vec![VecDeque::new(); clients],
            allows_gaps: false,
            sums: Sums::default(),
            violations: Vec::new(),
        };
        Self { book: Mutex::new(book), opened: Instant::now() }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no holder panics")
    }

    /// The names of all topics.
    pub fn names(&self) -> Vec<String> {
        self.book().columns.iter().map(|column| column.name.clone()).collect()
    }

    /// The topic with this name.
    pub fn topic(&self, name: &str) -> Option<TopicIndex> {
        self.book().columns.iter().position(|column| column.name == name)
    }

    // The left column -----------------------------------------------------------------------------------------

    /// Begins the next batch of a topic: its numbers.
    ///
    /// # Panics
    /// If the last batch is not confirmed.
    pub fn begin(&self, topic: TopicIndex) -> std::ops::RangeInclusive<u64> {
        let column = &mut self.book().columns[topic];
        assert_eq!(column.confirmed, column.begun, "a batch of {} begins too early", column.name);
        let first = column.begun + 1;
        column.begun += column.batch;
        first..=column.begun
    }

    /// RabbitMQ has confirmed one publication more of this topic.
    pub fn confirm(&self, topic: TopicIndex) {
        let mut book = self.book();
        book.columns[topic].confirmed += 1;
        book.sums.confirmed += 1;
    }

    /// A publisher was told something that it must not be told.
    pub fn complain(&self, topic: TopicIndex, what: &str) {
        let mut book = self.book();
        let text = format!("{}: {what}", book.columns[topic].name);
        book.violations.push(Violation { text, context: Vec::new() });
    }

    /// Whether everything begun is confirmed.
    pub fn is_confirmed(&self) -> bool {
        self.book().columns.iter().all(|column| column.confirmed == column.begun)
    }

    // The right column ----------------------------------------------------------------------------------------

    /// A client has said something; `line` is how it said it.
    pub fn hear(&self, client: ClientIndex, line: &str, said: Said) {
        let mut book = self.book();
        let topic = book.columns.iter().position(|column| line.contains(&column.name));
        let lines = &mut book.lines[client];
        if lines.len() == LINES_KEPT {
            lines.pop_front();
        }
        let text = format!("{:9.3} {line}", self.opened.elapsed().as_secs_f64());
        lines.push_back(Line { topic, text });
        book.hear(client, said);
    }

    /// Whether every client is subscribed to everything.
    pub fn is_subscribed(&self) -> bool {
        self.book().pages.iter().flatten().all(Page::is_subscribed)
    }

    /// Whether every client has everything that was begun, or was told that it will not get it.
    pub fn is_complete(&self) -> bool {
        let book = self.book();
        let topics = book.columns.iter().map(|column| column.begun);
        book.pages
            .iter()
            .all(|pages| pages.iter().zip(topics.clone()).all(|(page, end)| page.is_complete(end)))
    }

    /// Publications received up to now since the last [`Self::close`], all clients together.
    pub fn sums(&self) -> Sums {
        self.book().sums
    }

    /// Says whether clients may be told, from now on, that something is missing.
    pub fn allow_gaps(&self, allowed: bool) {
        self.book().allows_gaps = allowed;
    }

    /// Takes the sums and the violations since the last time. What is missing now is missing for good.
    pub fn close(&self) -> (Sums, Vec<Violation>) {
        let mut book = self.book();
        for client in 0..book.pages.len() {
            for topic in 0..book.columns.len() {
                let end = book.columns[topic].begun;
                let troubles = book.pages[client][topic].close(end);
                book.note(client, topic, troubles);
            }
        }
        book.columns.iter_mut().for_each(|column| column.order.clear());
        (std::mem::take(&mut book.sums), std::mem::take(&mut book.violations))
    }
}

impl Book {
    fn hear(&mut self, client: ClientIndex, said: Said) {
        match said {
            Said::Publication { topic, number, offset } => self.received(client, topic, number, offset),
            Said::Subscribed { topic, recovered, epoch } => {
                let begun = self.columns[topic].begun;
                let told = self.pages[client][topic].subscribed(recovered, epoch, begun);
                if let Some(gap) = told
                    && !self.allows_gaps
                {
                    self.violate(client, topic, &format!("was told of a gap where there may be none: {gap}"));
                }
            }
            Said::Over(what) => self.violate(client, 0, &format!("gave up: {what}")),
            Said::Aside => {}
        }
    }

    fn received(&mut self, client: ClientIndex, topic: TopicIndex, number: u64, offset: u64) {
        self.sums.received += 1;
        let column = &mut self.columns[topic];
        let begun = column.begun;
        let page = &mut self.pages[client][topic];
        let known = *column.order.entry((page.epoch().to_owned(), offset)).or_insert(number);
        let mut troubles = page.received(number, offset, begun);
        if known != number {
            troubles.push(Trouble::Disagrees { offset, number, known });
        }
        self.note(client, topic, troubles);
    }

    fn note(&mut self, client: ClientIndex, topic: TopicIndex, troubles: Vec<Trouble>) {
        for trouble in troubles {
            match &trouble {
                Trouble::Lost(numbers) => self.sums.lost += numbers.len() as u64,
                Trouble::Announced(numbers) => self.sums.announced += numbers.len() as u64,
                Trouble::Repeated { .. } | Trouble::Disordered { .. } => self.sums.repeated += 1,
                Trouble::Backwards { .. } | Trouble::Disagrees { .. } | Trouble::Unknown { .. } => {}
            }
            // Whoever is told of a gap where there may be none has been noted when it was told.
            if !matches!(trouble, Trouble::Announced(_)) {
                self.violate(client, topic, &trouble.to_string());
            }
        }
    }

    fn violate(&mut self, client: ClientIndex, topic: TopicIndex, what: &str) {
        let text = format!("client {client}, {}: {what}", self.columns[topic].name);
        let concerns = |line: &&Line| line.topic.is_none_or(|its| its == topic);
        let lines = self.lines[client].iter().rev().filter(concerns).take(LINES_SHOWN);
        let mut context: Vec<_> = lines.map(|line| line.text.clone()).collect();
        context.reverse();
        self.violations.push(Violation { text, context });
    }
}
