//! The load: callers in a closed loop, or requests at a rate.
//!
//! In a closed loop each connection asks again when it has its answer. At a rate requests are due
//! at fixed times whether or not earlier ones have been answered, and latency counts from when a
//! request was due: one that waits because the gateway is slow counts with its waiting
//! ("coordinated omission" is what leaving that out is called).

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use hyper::HeaderMap;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};

use crate::caller::{Asked, Caller};
use crate::tally::{Tally, Window};

/// Stands in a body where each request has its own number.
const NUMBER: &str = "<number>";

/// How long after the window a request that was due inside may still be sent. Later ones are
/// `unsent`.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Host and port of what is measured.
    target: String,
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    #[arg(long, default_value = "mock")]
    model: String,
    /// Sent as a bearer token.
    #[arg(long)]
    key: Option<String>,
    /// A further header, "name: value". May be given many times.
    #[arg(long)]
    header: Vec<String>,
    /// Asks for streams.
    #[arg(long)]
    stream: bool,
    /// Bytes of the prompt.
    #[arg(long, default_value_t = 400)]
    prompt_bytes: usize,
    /// Sends the same prompt every time. Else no two are alike, so that nothing comes from a cache.
    #[arg(long)]
    repeat: bool,
    /// A file with the body to send instead, where <number> stands for what differs.
    #[arg(long)]
    body: Option<PathBuf>,
    /// Tokens that each answer must have.
    #[arg(long, default_value_t = 30)]
    tokens: usize,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Requests a second. Absent: a closed loop.
    #[arg(long)]
    rate: Option<f64>,
    /// Over how many seconds connections begin, so that their tokens do not come all at once.
    #[arg(long, default_value_t = 0.0)]
    ramp: f64,
    /// Seconds before anything is counted.
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Seconds that are counted. "counting" and "counted" are printed where they begin and end.
    #[arg(long, default_value_t = 8.0)]
    secs: f64,
    /// Seconds that one request may take.
    #[arg(long, default_value_t = 60.0)]
    timeout: f64,
}

/// The body of a request, but for its number.
#[derive(Debug)]
struct Template {
    before: String,
    after: Option<String>,
    next: AtomicU64,
}

impl Template {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let text = match &args.body {
            Some(file) => std::fs::read_to_string(file)
                .with_context(|| format!("reading {}", file.display()))?,
            None => chat(args).to_string(),
        };
        let (before, after) = match text.split_once(NUMBER) {
            Some((before, after)) => (before.to_owned(), Some(after.to_owned())),
            None => (text, None),
        };
        // Another load of the same run does not begin where this one did.
        let next = AtomicU64::new(u64::from(std::process::id()) * 1_000_000_000);
        Ok(Self { before, after, next })
    }

    fn body(&self) -> Bytes {
        let Some(after) = &self.after else { return Bytes::from(self.before.clone()) };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Bytes::from(format!("{}{number}{after}", self.before))
    }
}

fn chat(args: &Args) -> serde_json::Value {
    let number = if args.repeat { "" } else { NUMBER };
    let words: String =
        "the tide comes in and goes out ".chars().cycle().take(args.prompt_bytes).collect();
    let mut body = json!({
        "model": args.model,
        "messages": [
            {"role": "system", "content": "You are a pilot."},
            {"role": "user", "content": format!("{number}: {words}")},
        ],
        "temperature": 0.7,
        "max_tokens": 256,
    });
    if args.stream {
        body["stream"] = true.into();
    }
    body
}

/// Requests that are due and not yet sent.
#[derive(Debug)]
struct Due {
    times: Mutex<VecDeque<Instant>>,
    ready: Semaphore,
}

impl Due {
    /// Makes requests due at a rate until `end`. A thread of its own, because it wakes up to a
    /// twentieth of a millisecond late where a timer of the runtime is up to two late.
    fn at_rate(rate: f64, start: Instant, end: Instant) -> Arc<Self> {
        let due = Arc::new(Self { times: Mutex::default(), ready: Semaphore::new(0) });
        let filled = Arc::clone(&due);
        thread::spawn(move || {
            for number in 0_u32.. {
                let at = start + Duration::from_secs_f64(f64::from(number) / rate);
                if at >= end {
                    break;
                }
                thread::sleep(at.saturating_duration_since(Instant::now()));
                filled.locked().push_back(at);
                filled.ready.add_permits(1);
            }
            filled.ready.close();
        });
        due
    }

    /// The next one; none when there will be no more.
    async fn next(&self) -> Option<Instant> {
        // Closed, it has no permits even where something is left.
        if let Ok(permit) = self.ready.acquire().await {
            permit.forget();
        }
        self.locked().pop_front()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, VecDeque<Instant>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the connections share.
struct Shared {
    asked: Asked,
    template: Template,
    tally: Mutex<Tally>,
    due: Option<Arc<Due>>,
}

impl Shared {
    /// When nothing more is sent. Requests that were due inside the window have a second longer.
    fn end(&self) -> Instant {
        let patience = if self.due.is_some() { PATIENCE } else { Duration::ZERO };
        self.asked.window.to + patience
    }
}

/// Runs the load and prints what came of it.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let start = Instant::now();
    let from = start + Duration::from_secs_f64(args.warmup);
    let window = Window { from, to: from + Duration::from_secs_f64(args.secs) };
    let shared = Arc::new(Shared {
        asked: asked(&args, window)?,
        template: Template::new(&args)?,
        tally: Mutex::new(Tally::new(window)?),
        due: args.rate.map(|rate| Due::at_rate(rate, start, window.to)),
    });
    let callers: Vec<_> = (0..args.connections)
        .map(|number| {
            let share = number as f64 / args.connections as f64;
            let begin = start + Duration::from_secs_f64(args.ramp * share);
            tokio::spawn(call(Arc::clone(&shared), begin))
        })
        .collect();
    sleep_until(window.from).await;
    say("counting")?;
    sleep_until(window.to).await;
    say("counted")?;
    for caller in callers {
        caller.await?;
    }
    let unsent = shared.due.as_ref().map_or(0, |due| due.locked().len());
    let tally = shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
    say(&tally.report(unsent).to_string())
}

/// Whoever runs this waits for the line.
fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// What one connection does until the window ends.
async fn call(shared: Arc<Shared>, begin: Instant) {
    sleep_until(begin).await;
    let mut caller = Caller::new(&shared.asked);
    loop {
        let due = match &shared.due {
            Some(due) => due.next().await,
            None => Some(Instant::now()),
        };
        let Some(due) = due.filter(|_| Instant::now() < shared.end()) else { return };
        let ended = caller.ask(shared.template.body(), due).await;
        let failed = ended.status == 0;
        shared.tally.lock().unwrap_or_else(PoisonError::into_inner).add(ended);
        if failed {
            // Nobody is there, or nobody listens: asking at once would only burn the processor.
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn asked(args: &Args, window: Window) -> anyhow::Result<Asked> {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_str(&args.target)?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(key) = &args.key {
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {key}"))?);
    }
    for header in &args.header {
        let (name, value) = header.split_once(':').context("--header takes \"name: value\"")?;
        headers.insert(HeaderName::try_from(name.trim())?, HeaderValue::from_str(value.trim())?);
    }
    Ok(Asked {
        address: args.target.clone(),
        path: args.path.parse()?,
        headers,
        is_stream: args.stream,
        tokens: args.tokens,
        timeout: Duration::from_secs_f64(args.timeout),
        window,
    })
}
