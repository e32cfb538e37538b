//! The opening handshake: once per connection.

use criterion::Criterion;

use crate::operations::handshake::{BROWSER, accept, policy};

pub(crate) fn run(criterion: &mut Criterion) {
    let policy = policy();
    criterion.bench_function("handshake of a browser", |bencher| {
        bencher.iter(|| accept(BROWSER, &policy));
    });
}
