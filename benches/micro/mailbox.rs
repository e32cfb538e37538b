//! The mailbox: what a mail costs on its way from one thread to another.

use std::sync::atomic::{AtomicBool, Ordering};

use criterion::{Criterion, Throughput};

use crate::operations::mailbox::{BATCH, mailbox, receive, send};

pub(crate) fn run(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mailbox");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("64 mails in and out, one thread", |bencher| {
        let (sender, mut receiver) = mailbox();
        bencher.iter(|| {
            send(&sender);
            receive(&mut receiver);
        });
    });
    group.bench_function("64 mails in, another thread takes them out", |bencher| {
        let (sender, mut receiver) = mailbox();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    receive(&mut receiver);
                    std::hint::spin_loop();
                }
            });
            bencher.iter(|| send(&sender));
            over.store(true, Ordering::Relaxed);
        });
    });
    group.finish();
}
