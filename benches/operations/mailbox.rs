//! A mail's way from one thread to another.

use std::hint::black_box;

use fanfare::base::mailbox::{Receiver, Sender, Wake};

/// Mails in a shard's mailbox, as by default.
const CAPACITY: usize = 4096;
/// Mails between two wake-ups of a busy receiver.
pub(crate) const BATCH: u64 = 64;

/// As large as what shards get.
pub(crate) type Mail = [u64; WORDS];
const WORDS: usize = size_of::<fanfare::domain::mail::Mail>() / size_of::<u64>();

/// A receiver that never sleeps.
struct Awake;

impl Wake for Awake {
    fn wake(&self) {}
}

/// A mailbox as a shard has it.
pub(crate) fn mailbox() -> (Sender<Mail>, Receiver<Mail>) {
    fanfare::base::mailbox::mailbox(CAPACITY, Box::new(Awake))
}

/// Puts a batch in.
pub(crate) fn send(sender: &Sender<Mail>) {
    for number in 0..BATCH {
        let mut mail = black_box([number; WORDS]);
        // It is full only if another thread is slow to take them out.
        while let Err(back) = sender.push(mail) {
            mail = back;
            std::hint::spin_loop();
        }
    }
    sender.notify();
}

/// Takes out what is there.
pub(crate) fn receive(receiver: &mut Receiver<Mail>) {
    receiver.rearm();
    while let Some(mail) = receiver.take() {
        black_box(mail);
    }
}
