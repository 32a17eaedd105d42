//! What it costs to find the nearest of many vectors: `cargo bench --bench vectors`.

#![allow(missing_docs, reason = "criterion's macros make items without any")]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails, panics")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate::vectors::{Embedding, Index};

/// As many as all-MiniLM-L6-v2 has.
const DIMENSIONS: usize = 384;

fn vector(rng: &mut StdRng) -> Embedding {
    let values = (0..DIMENSIONS).map(|_| rng.random::<f32>() - 0.5).collect();
    Embedding::towards(values).unwrap()
}

fn nearest(c: &mut Criterion) {
    let mut rng = StdRng::seed_from_u64(1);
    let mut group = c.benchmark_group("nearest");
    for count in [1_000, 10_000, 100_000] {
        let vectors: Vec<Embedding> = (0..count).map(|_| vector(&mut rng)).collect();
        let index = Index::from_entries(DIMENSIONS, (0..).zip(&vectors));
        let to = vector(&mut rng);
        group.bench_function(format!("of {count}"), |b| {
            b.iter(|| black_box(index.nearest(black_box(&to), 4)));
        });
    }
    group.finish();
}

criterion_group!(benches, nearest);
criterion_main!(benches);
