//! Tokens: verified, remembered, and refused.

use criterion::Criterion;

use crate::operations::token::{Place, full_cache, hs256, remembered, with_public_keys};

pub(crate) fn run(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("token");
    let secret = hs256();
    for case in [&secret].into_iter().chain(&with_public_keys()) {
        assert!(case.verify().is_some(), "{}", case.name);
        group.bench_function(format!("verified by {}", case.name), |bencher| bencher.iter(|| case.verify()));
    }
    let mut cache = full_cache(&secret);
    assert!(remembered(&mut cache, &secret).is_some());
    group.bench_function("remembered", |bencher| bencher.iter(|| remembered(&mut cache, &secret)));
    // Both take the same time: how long a refusal takes says nothing about the right signature.
    for (name, place) in [("first", Place::First), ("last", Place::Last)] {
        let token = secret.changed_at(place);
        assert!(secret.refuses(&token));
        group.bench_function(format!("refused for the {name} byte of the signature"), |bencher| {
            bencher.iter(|| secret.refuses(&token));
        });
    }
    group.finish();
}
