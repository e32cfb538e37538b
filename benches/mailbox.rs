//! The mailbox: what a mail costs on its way from one thread to another.

mod micro;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

use criterion::Throughput;
use fanfare::mailbox::{Wake, mailbox};

/// Mails in a shard's mailbox, as by default.
const CAPACITY: usize = 4096;
/// Mails between two wake-ups of a busy receiver.
const BATCH: u64 = 64;

/// A receiver that never sleeps.
struct Awake;

impl Wake for Awake {
    fn wake(&self) {}
}

fn main() {
    let mut criterion = micro::criterion();
    let mut group = criterion.benchmark_group("mailbox");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("64 mails in and out, one thread", |bencher| {
        let (sender, mut receiver) = mailbox::<[u64; 5]>(CAPACITY, Box::new(Awake));
        bencher.iter(|| {
            for number in 0..BATCH {
                sender.push(black_box([number; 5])).expect("there is room");
            }
            sender.notify();
            receiver.rearm();
            while let Some(mail) = receiver.take() {
                black_box(mail);
            }
        });
    });
    group.bench_function("64 mails in, another thread takes them out", |bencher| {
        let (sender, mut receiver) = mailbox::<[u64; 5]>(CAPACITY, Box::new(Awake));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    receiver.rearm();
                    while let Some(mail) = receiver.take() {
                        black_box(mail);
                    }
                    std::hint::spin_loop();
                }
            });
            bencher.iter(|| {
                for number in 0..BATCH {
                    let mut mail = [number; 5];
                    while let Err(back) = sender.push(mail) {
                        mail = back;
                        std::hint::spin_loop();
                    }
                }
                sender.notify();
            });
            over.store(true, Ordering::Relaxed);
        });
    });
    group.finish();
}
