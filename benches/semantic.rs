//! What a hit takes whose question was asked in other words, with the sentence model of this
//! machine, for people: `cargo bench --bench semantic -- target/models/all-MiniLM-L6-v2`.
//!
//! A gateway over a simulated provider listens on loopback, and its client asks new questions at a
//! modest rate: no vector is remembered. What surrounds them in the namespace are questions with
//! the vectors of real ones, moved a little, so that the nearest are compared word by word, too.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that fails, panics")]
#![expect(clippy::print_stdout, reason = "the figures are for people to read")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate::callers::Callers;
use tidegate::clock::{Instant, SystemWallClock};
use tidegate::config::{Environment, Source, load};
use tidegate::embed::local::LocalEmbedder;
use tidegate::embed::{EmbedFuture, Embedded, Embedder, Embedding, Embeds};
use tidegate::gateway::Gateway;
use tidegate::meaning::Trial;
use tidegate::rehearse::Stage;
use tidegate::semantic::traits::{Traits, agree};
use tidegate::sim::{Scenario, SimTransport};
use tidegate::store::Store;
use tidegate::units::MicroUsd;
use tidegate::vectors::Index;

/// As the gateway has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONFIG: &str = r#"
[auth]
mode = "open"
[journal]
queue_entries = 100_000
[cache]
max_memory = "1GB"
max_semantic_memory = "1GB"
[embedders.small]
kind = "provider"
model = "sim/tide-embed"
dimensions = 384
[providers.sim]
[routes.faq]
targets = [{ model = "sim/tide-small" }]
cache = { semantic = true, judge = "sim/tide-large" }
"#;

/// Questions of each length in each namespace, and how often one is asked.
const QUESTIONS: usize = 400;
const EVERY: Duration = Duration::from_millis(25);
/// How many of the nearest a gateway compares word by word.
const LOOKED_AT: usize = 32;
const SIZES: [usize; 3] = [100, 10_000, 50_000];
/// Real questions, of which those that are kept are made.
const PAIRS: &str = include_str!("../tests/it/semantic/pairs.tsv");

const VERBS: [&str; 20] = [
    "reset", "replace", "clean", "open", "repair", "paint", "install", "remove", "store", "check",
    "sell", "move", "fold", "wash", "dry", "carry", "hide", "measure", "insure", "polish",
];
const THINGS: [&str; 20] = [
    "window", "door", "table", "carpet", "lamp", "mirror", "chair", "bench", "curtain", "clock",
    "kettle", "ladder", "basket", "drawer", "blanket", "bucket", "candle", "piano", "pillow",
    "fence",
];
const PLACES: [&str; 20] = [
    "kitchen", "garden", "cellar", "attic", "hotel", "office", "school", "garage", "church",
    "museum", "hospital", "station", "theatre", "library", "factory", "harbour", "bakery", "cabin",
    "castle", "barn",
];
const LONGER: &str =
    " of the old farmhouse without any special tools before the first winter storm";
const LONGEST: &str = " The frame is made of oak and the glass is original. The lower hinge is rusty \
    and the handle does not turn. The previous owner left a box with screws, a tin of varnish and a \
    broken chisel in the cellar. The wall around it is damp on the left side, and the plaster comes \
    off in large pieces. The road is closed after heavy rain.";

fn main() {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let folder = PathBuf::from(folder.unwrap_or_else(|| "target/models/all-MiniLM-L6-v2".into()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    parts(&runtime, &folder);
    let bed = Bed::serve(&folder);
    println!("-- hits over a socket, one connection, one request in {EVERY:?}");
    let (mut filled, mut number) = (0, 0);
    for size in SIZES {
        bed.fill(filled, size);
        filled = size;
        for length in Length::ALL {
            bed.measure(length, number, size);
            number += QUESTIONS;
        }
    }
}

/// How long a question is.
#[derive(Debug, Clone, Copy)]
enum Length {
    Short,
    Medium,
    Long,
}

impl Length {
    const ALL: [Self; 3] = [Self::Short, Self::Medium, Self::Long];

    /// The nth question, in two wordings.
    fn question(self, n: usize) -> [String; 2] {
        let of = |words: [&'static str; 20], n: usize| words[n % 20];
        let (verb, thing, place) = (of(VERBS, n), of(THINGS, n / 20), of(PLACES, n / 400));
        let (longer, longest) = match self {
            Self::Short => ("", ""),
            Self::Medium => (LONGER, ""),
            Self::Long => (LONGER, LONGEST),
        };
        [
            format!("How do I {verb} the {place} {thing}{longer}?{longest}"),
            format!("Hi, how can I {verb} the {place} {thing}{longer}?{longest}"),
        ]
    }
}

/// What the machine does beside this, by its own count.
fn busy() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(1).collect::<Vec<_>>().join(" ")
}

fn say(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!(
        "{what}: p50 {:.3} ms, p99 {:.3} ms, most {:.3} ms of {} (load {})",
        at(0.5).as_secs_f64() * 1e3,
        at(0.99).as_secs_f64() * 1e3,
        at(1.0).as_secs_f64() * 1e3,
        took.len(),
        busy()
    );
}

// === the parts alone ===

/// What an embedding takes, and what the search and the comparison of words take.
fn parts(runtime: &tokio::runtime::Runtime, folder: &Path) {
    let tokenizer = tokenizers::Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
    let model = LocalEmbedder::open(folder, 1).expect("a model");
    println!("-- an embedding alone, one thread, one request in {EVERY:?}");
    for length in Length::ALL {
        let texts: Vec<_> = (0..QUESTIONS).map(|n| length.question(n)[1].clone()).collect();
        let tokens = tokenizer.encode(texts[0].as_str(), true).unwrap();
        let pieces = tokens.get_attention_mask().iter().sum::<u32>();
        let mut took = Vec::new();
        for text in texts {
            std::thread::sleep(EVERY);
            let started = Instant::now();
            runtime.block_on(model.embed(vec![text])).expect("a vector");
            took.push(started.elapsed());
        }
        say(&format!("{pieces:>3} tokens"), took);
    }
    println!(
        "-- the nearest {LOOKED_AT} alone, and the words of a question with those of {LOOKED_AT}"
    );
    let crowd = Crowd::of(runtime, &model);
    for size in SIZES {
        let vectors: Vec<_> = (0..size).map(|n| crowd.vector(n)).collect();
        let index = Index::from_entries(384, (0..).zip(&vectors));
        let mut took = Vec::new();
        for n in 0..QUESTIONS {
            std::thread::sleep(Duration::from_millis(2));
            let to = crowd.vector(1_000_000 + n);
            let started = Instant::now();
            black_box(index.nearest(black_box(&to), LOOKED_AT));
            took.push(started.elapsed());
        }
        say(&format!("nearest of {size}"), took);
    }
    for length in Length::ALL {
        let [kept, _] = length.question(0);
        let others: Vec<_> =
            (0..LOOKED_AT).map(|n| Traits::of(&length.question(n + 1)[0])).collect();
        let mut took = Vec::new();
        for _ in 0..QUESTIONS {
            let started = Instant::now();
            let of = Traits::of(black_box(&kept));
            assert!(others.iter().all(|other| agree(&of, black_box(other)).is_err()));
            took.push(started.elapsed());
        }
        say(&format!("words, {length:?}"), took);
    }
}

/// Vectors near those of real questions.
#[derive(Debug)]
struct Crowd {
    texts: Vec<&'static str>,
    vectors: Vec<Embedding>,
}

impl Crowd {
    fn of(runtime: &tokio::runtime::Runtime, model: &LocalEmbedder) -> Self {
        let texts: Vec<&str> =
            PAIRS.lines().skip(1).filter_map(|line| line.split('\t').nth(4)).collect();
        let mut vectors = Vec::new();
        for some in texts.chunks(32) {
            let some = some.iter().map(|text| (*text).to_owned()).collect();
            vectors.extend(runtime.block_on(model.embed(some)).expect("vectors").vectors);
        }
        Self { texts, vectors }
    }

    /// The nth question that is kept beside those that are measured.
    fn text(&self, n: usize) -> String {
        format!("{} ({n})", self.texts[n % self.texts.len()])
    }

    /// A vector with a cosine of about 0.85 to that of a real question.
    fn vector(&self, n: usize) -> Embedding {
        let mut random = StdRng::seed_from_u64(n as u64);
        let near = self.vectors[n % self.vectors.len()].values();
        let mut noise = || (random.random::<f32>() - 0.5) * 0.11;
        Embedding::towards(near.iter().map(|value| value + noise()).collect()).unwrap()
    }
}

// === the gateway ===

/// Embeds what is measured with the model, and what is only there for its number at no cost.
#[derive(Debug)]
struct Mixed {
    model: LocalEmbedder,
    crowd: Crowd,
}

impl Embeds for Mixed {
    fn embed(&self, texts: Vec<String>) -> EmbedFuture<'_> {
        let number =
            texts[0].strip_suffix(')').and_then(|text| text.rsplit_once('(')?.1.parse().ok());
        match number {
            Some(number) => {
                let vectors = vec![self.crowd.vector(number)];
                Box::pin(async { Ok(Embedded { vectors, cost: MicroUsd(0) }) })
            }
            None => self.model.embed(texts),
        }
    }

    fn dimensions(&self) -> usize {
        self.model.dimensions()
    }

    fn space(&self) -> &str {
        self.model.space()
    }
}

struct Bed {
    gateway: Arc<Gateway>,
    address: SocketAddr,
    embeds: Arc<Mixed>,
}

impl Bed {
    /// A gateway on a thread of its own.
    fn serve(model: &Path) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        let model = LocalEmbedder::open(model, 1).expect("a model");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let crowd = Crowd::of(&runtime, &model);
        let embeds = Arc::new(Mixed { model, crowd });
        let small = Arc::clone(&embeds) as Arc<dyn Embeds>;
        std::thread::spawn(move || {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("tidegate.toml");
            std::fs::write(&file, CONFIG).unwrap();
            let source = Source { file: Some(file), ..Source::environment(Environment::fixed([])) };
            let snapshot = load(&source, None).unwrap();
            let url = format!("sqlite:{}/tidegate.db", folder.path().display());
            let store = Store::new(url.parse().unwrap());
            let callers = Callers::new(store.clone(), None);
            let stage = Stage::new(snapshot, callers, store, Arc::new(SystemWallClock));
            let small = Embedder::new("small", Duration::from_secs(1), small);
            stage.gateway.set_embedders(BTreeMap::from([("small".to_owned(), small)]));
            let router = stage.router(Arc::new(SimTransport::new(Scenario::instant())));
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                tell.send((Arc::clone(&stage.gateway), address)).unwrap();
                let quick = |socket: &mut tokio::net::TcpStream| socket.set_nodelay(true).unwrap();
                let listener = axum::serve::ListenerExt::tap_io(listener, quick);
                axum::serve(listener, router).await.unwrap();
            });
        });
        let (gateway, address) = told.recv().unwrap();
        let bed = Self { gateway, address, embeds };
        bed.teach();
        bed
    }

    /// Gives the namespace's lesson so many good labels that it gives answers.
    fn teach(&self) {
        let mut socket = self.connect();
        for text in Length::Short.question(7_999) {
            ask(&mut socket, &text);
        }
        let meanings = self.gateway.meanings();
        for figures in meanings.figures() {
            let trial = Trial {
                domain: figures.domain,
                question: "".into(),
                kept: "one".to_owned(),
                fresh: "two".to_owned(),
                similarity: 0.85,
                is_audit: false,
            };
            (0..600).for_each(|_| meanings.learn(&trial, true));
        }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    /// Brings the namespace to this size.
    fn fill(&self, from: usize, to: usize) {
        let mut socket = self.connect();
        for n in from..to {
            ask(&mut socket, &self.embeds.crowd.text(n));
        }
        let fill = self.gateway.meanings().fill();
        println!("{} entries, {} bytes each", fill.entries, fill.bytes / fill.entries);
    }

    /// Keeps new questions, and asks each in other words and then in these again.
    fn measure(&self, length: Length, from: usize, size: usize) {
        let mut socket = self.connect();
        let (mut semantic, mut exact, mut others) = (Vec::new(), Vec::new(), 0);
        for n in from..from + QUESTIONS {
            let [kept, asked] = length.question(n);
            ask(&mut socket, &kept);
            for (text, expected, took) in
                [(&asked, "semantic", &mut semantic), (&kept, "exact", &mut exact)]
            {
                std::thread::sleep(EVERY);
                let started = Instant::now();
                let answer = ask(&mut socket, text);
                let elapsed = started.elapsed();
                if answer.contains(&format!("x-tidegate-cache: {expected}")) {
                    took.push(elapsed);
                } else {
                    // An audit, or one that is not near enough.
                    others += 1;
                }
            }
        }
        println!("{size} entries, {length:?}: {others} of {} were no hits", 2 * QUESTIONS);
        say("   exact   ", exact);
        say("   semantic", semantic);
    }
}

fn ask(socket: &mut TcpStream, text: &str) -> String {
    let messages = serde_json::json!([{ "role": "user", "content": text }]);
    let body = serde_json::json!({ "model": "faq", "messages": messages }).to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).unwrap();
    let answer = read(socket);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// One answer with a length.
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
        if body.len() >= length.expect("a length").trim().parse().unwrap() {
            return text.into_owned();
        }
    }
}
