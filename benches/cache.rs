//! What kept answers take in memory, and how fast they are found, for people:
//! `cargo bench --bench cache`.
//!
//! Resident memory is read while a scan of distinct keys goes by, so that its slope per key shows;
//! hits are timed one by one over a real socket.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails, panics")]
#![expect(clippy::print_stdout, reason = "the figures are for people to read")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use tidegate::cache::{
    Cache, CacheSettings, Form, Head, Kept, Key, Owner, Question, RouteIdentity, Tenant,
};
use tidegate::callers::Callers;
use tidegate::chat::{Choice, Completion, FinishReason, Part};
use tidegate::clock::{Instant, SystemWallClock, WallClock};
use tidegate::config::{Environment, Source, load};
use tidegate::dialect::Dialect;
use tidegate::ids::{CallerId, ModelName, ProviderId, RouteName, TargetId};
use tidegate::rehearse::Stage;
use tidegate::sim::{Scenario, SimTransport};
use tidegate::store::Store;
use tidegate::units::{ByteCount, MicroUsd};

/// As the gateway has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MB: f64 = 1e6;

fn main() {
    let own = std::env::current_exe().unwrap();
    let again = |phase: &str| {
        assert!(std::process::Command::new(&own).arg(phase).status().unwrap().success());
    };
    // Each in a process of its own: what one gives back, the next would find.
    match std::env::args().nth(1).as_deref() {
        Some("small") => overhead(100_000, 10),
        Some("usual") => overhead(50_000, 1_000),
        Some("large") => overhead(10_000, 10_000),
        Some("scan") => scan(),
        Some("hits") => hits(),
        _ => {
            println!("-- memory of entries that all have room");
            ["small", "usual", "large", "scan", "hits"].into_iter().for_each(again);
        }
    }
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn cache(max_bytes: u64) -> Cache {
    let settings = CacheSettings { max_memory: ByteCount(max_bytes), ..CacheSettings::default() };
    Cache::new(&settings, Arc::new(SystemWallClock))
}

fn key(number: u64) -> Key {
    let (provider, model) = (ProviderId::new("p"), ModelName::new("m"));
    let body = format!("{{\"n\":{number}}}");
    let question = Question {
        tenant: Tenant::Caller(&CallerId::anonymous()),
        route: &RouteIdentity::of(&RouteName::new("r"), [(0, &provider, &model)]),
        prompt: None,
        endpoint: "chat",
        dialect: Dialect::OpenAiChat,
        headers: &[],
        body: body.as_bytes(),
    };
    Key::of(&question).unwrap()
}

fn kept(text: String, owner: &Owner) -> Kept {
    let head = Head {
        form: Form::Completion,
        target: TargetId::new("openai/gpt-5"),
        reported: "gpt-5-2025-08-07".to_owned(),
        cost: MicroUsd(5),
        dropped: Vec::new(),
        made_at_ms: SystemWallClock.unix_ms(),
        ttl: Duration::from_secs(3_600),
        stale_for: Duration::ZERO,
        took: Duration::from_secs(1),
        owner: owner.clone(),
    };
    let finish = Some(FinishReason::Stop);
    let choice = Choice { parts: vec![Part::text(text)], finish, ..Choice::default() };
    Kept::completion(head, &Completion { choices: vec![choice], ..Completion::default() }).unwrap()
}

fn owner() -> Owner {
    Owner {
        team: None,
        caller: CallerId::new("key_Ab3dE6gH9jK2"),
        route: RouteName::new("faq"),
        prompt: None,
        tags: vec![("env".to_owned(), "prod".to_owned())],
    }
}

/// Puts a key's answer, of a size between 100 bytes and 8 KB.
fn put(cache: &Cache, number: u64, owner: &Owner) {
    let size = 100 + (number.wrapping_mul(0x9E37_79B9) % 7_900) as usize;
    let kept = kept("x".repeat(size), owner);
    cache.keep(key(number), kept, cache.mark(), Instant::now()).unwrap();
}

/// What entries take against what they are taken for.
fn overhead(entries: u64, size: usize) {
    let (cache, owner) = (cache(4_000_000_000), owner());
    let before = resident();
    for number in 0..entries {
        let kept = kept("x".repeat(size), &owner);
        cache.keep(key(number), kept, cache.mark(), Instant::now()).unwrap();
    }
    let (taken, counted) = (resident().saturating_sub(before), cache.fill().bytes);
    println!(
        "{entries} of {size:>6} bytes: {:.1} MB resident, {:.1} MB counted ({:.2}), {} bytes each",
        taken as f64 / MB,
        counted as f64 / MB,
        taken as f64 / counted as f64,
        taken / entries,
    );
}

/// A scan of distinct keys through a cache that is far too small for them.
fn scan() {
    let max_bytes = 64_000_000;
    println!("-- a scan of distinct keys, 100 bytes to 8 KB, through {} MB", max_bytes / 1_000_000);
    let (cache, owner) = (cache(max_bytes), owner());
    let before = resident();
    let mut readings = Vec::new();
    let mut most = 0;
    for number in 1..=400_000 {
        put(&cache, number, &owner);
        if number % 1_000 == 0 {
            most = most.max(cache.fill().bytes);
            assert!(most <= max_bytes, "{most}");
        }
        if number % 50_000 == 0 {
            let taken = resident().saturating_sub(before);
            println!(
                "{number:>7} keys: {:.1} MB resident, {} entries, {:.1} MB counted",
                taken as f64 / MB,
                cache.fill().entries,
                cache.fill().bytes as f64 / MB
            );
            readings.push((number as f64, taken as f64));
        }
    }
    // Least squares over the second half, when it is full.
    let late: Vec<_> = readings.iter().filter(|(keys, _)| *keys >= 200_000.0).collect();
    let count = late.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| late.iter().map(|one| of(one)).sum::<f64>() / count;
    let (x, y) = (mean(|one| one.0), mean(|one| one.1));
    let above: f64 = late.iter().map(|one| (one.0 - x) * (one.1 - y)).sum();
    let slope = above / late.iter().map(|one| (one.0 - x).powi(2)).sum::<f64>();
    println!(
        "most counted {:.1} MB; slope from 200,000 to 400,000 keys {slope:.2} bytes a key; at \
         10,000,000 keys {:.1} MB resident",
        most as f64 / MB,
        (y + slope * (1e7 - x)) / MB
    );
}

/// Hits over a real socket, one after the other on one connection.
fn hits() {
    println!("-- exact hits over a socket, one connection, client's time from write to last byte");
    let address = serve();
    for (tokens, stream) in [(20, false), (400, false), (400, true)] {
        let body = format!(
            "{{\"model\":\"faq\",\"stream\":{stream},\"messages\":[{{\"role\":\"user\",\
             \"content\":\"What is the capital of France? [[sim:tokens={tokens}]]\"}}]}}"
        );
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        let mut took = Vec::new();
        for round in 0..3_000 {
            let started = Instant::now();
            socket.write_all(request.as_bytes()).unwrap();
            let answer = read(&mut socket);
            let elapsed = started.elapsed();
            assert!(round == 0 || answer.contains("x-tidegate-cache: exact"), "{answer}");
            if round > 200 {
                took.push(elapsed);
            }
        }
        took.sort_unstable();
        let at = |share: f64| took[(took.len() as f64 * share) as usize];
        println!(
            "{tokens} tokens, stream {stream}: p50 {:?}, p99 {:?}, p99.9 {:?} of {}",
            at(0.5),
            at(0.99),
            at(0.999),
            took.len()
        );
    }
}

/// A gateway over a simulated provider on a thread of its own, and where it listens.
fn serve() -> std::net::SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tidegate.toml");
        let config = "[auth]\nmode = \"open\"\n[journal]\nqueue_entries = 100000\n\
                      [providers.sim]\n[routes.faq]\ntargets = [{ model = \"sim/tide-small\" }]\n\
                      cache = { exact = true }\n";
        std::fs::write(&file, config).unwrap();
        let source = Source { file: Some(file), ..Source::environment(Environment::fixed([])) };
        let snapshot = load(&source, None).unwrap();
        let url = format!("sqlite:{}/tidegate.db", folder.path().display());
        let store = Store::new(url.parse().unwrap());
        let callers = Callers::new(store.clone(), None);
        let stage = Stage::new(snapshot, callers, store, Arc::new(SystemWallClock));
        let sim = SimTransport::new(Scenario::instant());
        let router = stage.router(Arc::new(sim));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let serving = axum::serve(
                axum::serve::ListenerExt::tap_io(listener, |socket| {
                    socket.set_nodelay(true).unwrap();
                }),
                router,
            );
            serving.await.unwrap();
        });
    });
    told.recv().unwrap()
}

/// One answer, whole or in chunks.
fn read(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        let count = socket.read(&mut buffer).unwrap();
        assert!(count > 0, "it closed");
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let is_whole = match length {
            Some(length) => body.len() >= length.trim().parse().unwrap(),
            None => body.ends_with("0\r\n\r\n"),
        };
        if is_whole {
            return text.into_owned();
        }
    }
}
