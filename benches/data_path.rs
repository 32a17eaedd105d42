//! What a request and a token cost on the same-wire path, for people: `cargo bench`.
//!
//! The figures that count are those of `make bench`, which measures the whole process beside nginx.
//! These say where in it the time goes.

#![allow(missing_docs, reason = "criterion's macros make items without any")]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails, panics")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate::dialect::sse::{FrameBuffer, frames};
use tidegate::dialect::{Dialect, Envelope, PromptParts, Quirks, prompt_parts};
use tidegate::policy::prefix::{Chain, Parts};

fn request(prompt_bytes: usize) -> Bytes {
    let prompt = "the tide comes in and goes out ".repeat(prompt_bytes / 31 + 1);
    let messages = format!(r#"[{{"role":"user","content":"{prompt}"}}]"#);
    Bytes::from(format!(r#"{{"model":"default","stream":true,"messages":{messages}}}"#))
}

fn token(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAiChat => concat!(
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"#,
            r#""model":"m","choices":[{"index":0,"delta":{"content":" tide"},"finish_reason":null}]}"#,
            "\n\n"
        ),
        Dialect::Anthropic => concat!(
            "event: content_block_delta\n",
            r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" tide"}}"#,
            "\n\n"
        ),
        Dialect::Gemini => concat!(
            r#"data: {"candidates":[{"content":{"parts":[{"text":" tide"}],"role":"model"},"index":0}]}"#,
            "\r\n\r\n"
        ),
    }
}

fn envelopes(c: &mut Criterion) {
    let mut group = c.benchmark_group("envelope");
    for prompt_bytes in [400, 100_000, 1_000_000] {
        let body = request(prompt_bytes);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("read and splice {prompt_bytes} bytes"), |b| {
            b.iter(|| {
                let envelope = Envelope::read(black_box(body.clone())).unwrap();
                envelope.for_openai_chat("upstream-model", &Quirks::default(), true)
            });
        });
    }
    group.finish();
}

/// What it takes to know how a prompt begins.
fn prefixes(c: &mut Criterion) {
    let mut group = c.benchmark_group("prefix");
    for prompt_bytes in [400, 100_000, 1_000_000] {
        let envelope = Envelope::read(request(prompt_bytes)).unwrap();
        group.throughput(Throughput::Bytes(envelope.body().len() as u64));
        group.bench_function(format!("find and hash {prompt_bytes} bytes"), |b| {
            b.iter(|| {
                let PromptParts { base, instructions, opening, rest } =
                    prompt_parts(black_box(&envelope)).unwrap();
                Chain::of(1, &Parts { base, instructions, opening, rest })
            });
        });
    }
    group.finish();
}

fn tokens(c: &mut Criterion) {
    let mut group = c.benchmark_group("token");
    // As many frames as one read brings at full speed.
    const FRAMES: usize = 20;
    group.throughput(Throughput::Elements(FRAMES as u64));
    for dialect in Dialect::ALL {
        let chunk = Bytes::from(token(dialect).repeat(FRAMES));
        group.bench_function(dialect.as_str(), |b| {
            let mut scanner = dialect.codec().scanner();
            let mut buffer = FrameBuffer::new();
            b.iter(|| {
                let whole = buffer.push(black_box(chunk.clone())).unwrap();
                frames(&whole).for_each(|frame| drop(black_box(scanner.scan(frame))));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, envelopes, prefixes, tokens);
criterion_main!(benches);
