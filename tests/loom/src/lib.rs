//! No item is stranded: when senders have put their items in, and the receiver has looked and gone to
//! sleep, either it has got everything, or somebody has rung to wake it.

#[cfg(not(loom))]
compile_error!(r#"run this with RUSTFLAGS="--cfg loom" cargo test --release"#);

#[cfg(loom)]
#[path = "../../../src/base/mailbox.rs"]
pub mod mailbox;
#[cfg(loom)]
pub mod model;

/// A copy with one weakened ordering, made by `build.rs`.
#[cfg(loom)]
pub mod sender_relaxed {
    include!(concat!(env!("OUT_DIR"), "/sender_relaxed.rs"));
}
/// Another.
#[cfg(loom)]
pub mod receiver_relaxed {
    include!(concat!(env!("OUT_DIR"), "/receiver_relaxed.rs"));
}

#[cfg(all(test, loom))]
mod tests {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, Ordering};

    /// A model of one of the mailboxes: two senders, of which the first sends a batch of `$batch` items and
    /// the other one item, and a receiver that sleeps when it has found nothing and nobody has rung.
    ///
    /// `$preemptions` bounds how often a thread is interrupted, where trying everything takes too long.
    ///
    /// Sleeping is modelled by giving up, and waking by looking once more after the senders are done. A
    /// real sleep would end in loom's deadlock, which takes the whole process down.
    macro_rules! nothing_is_stranded {
        ($mailbox:ident, $batch:expr, $preemptions:expr) => {
            let mut builder = loom::model::Builder::new();
            builder.preemption_bound = $preemptions;
            builder.check(|| {
                use crate::$mailbox::{Receiver, Wake, mailbox};

                /// What the kernel does for a real waker: a ring is kept until the sleeper takes it, and
                /// what the ringer did before is visible to it then.
                struct Doorbell(Arc<AtomicBool>);
                impl Wake for Doorbell {
                    fn wake(&self) {
                        self.0.swap(true, Ordering::Release);
                    }
                }

                fn look(receiver: &mut Receiver<usize>, received: &mut Vec<usize>) {
                    receiver.rearm();
                    while let Some(item) = receiver.take() {
                        received.push(item);
                    }
                }

                let rung = Arc::new(AtomicBool::new(false));
                let (sender, mut receiver) = mailbox($batch + 1, Box::new(Doorbell(Arc::clone(&rung))));
                let other = sender.clone();
                let first = loom::thread::spawn(move || {
                    for item in 0..$batch {
                        sender.push(item).unwrap();
                    }
                    sender.notify();
                });
                let second = loom::thread::spawn(move || other.send($batch).unwrap());

                let mut received = Vec::new();
                look(&mut receiver, &mut received);
                while rung.swap(false, Ordering::Acquire) {
                    look(&mut receiver, &mut received);
                }
                first.join().unwrap();
                second.join().unwrap();
                if rung.swap(false, Ordering::Acquire) {
                    look(&mut receiver, &mut received);
                }

                assert_eq!(received.len(), $batch + 1, "stranded: nobody rang, and only {received:?} came");
                received.retain(|&item| item != $batch);
                assert_eq!(received, Vec::from_iter(0..$batch), "each once, a sender's in order");
            });
        };
    }

    #[test]
    fn the_mailbox_strands_nothing() {
        nothing_is_stranded!(mailbox, 1, None);
    }

    #[test]
    fn the_mailbox_strands_nothing_of_a_batch() {
        nothing_is_stranded!(mailbox, 2, Some(3));
    }

    #[test]
    #[should_panic(expected = "stranded")]
    fn with_a_relaxed_swap_of_the_sender_an_item_is_stranded() {
        nothing_is_stranded!(sender_relaxed, 1, None);
    }

    #[test]
    #[should_panic(expected = "stranded")]
    fn with_a_relaxed_swap_of_the_receiver_an_item_is_stranded() {
        nothing_is_stranded!(receiver_relaxed, 1, None);
    }
}
