//! `tidegate serve`: the gateway.
//!
//! The first thread runs what is not about a single request: the journal's writer, the keys, the
//! watch over files, estimates of tokens. Each data thread has a runtime of its own with one
//! thread, its own listener on the shared address and its own connections to providers, so that
//! the two halves of a request never cross threads.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::SourceArgs;
use crate::api::server::{ConnectionLimits, Server, bind};
use crate::callers::{Callers, SecretKey};
use crate::clock::SystemWallClock;
use crate::cluster::Cluster;
use crate::config::{
    Current, Environment, ServerSettings, Snapshot, Watcher, load, may_listen, reloading,
};
use crate::control::export::Exporter;
use crate::control::neighbours::{Changing, Neighbours};
use crate::control::tasks::Tasks;
use crate::gateway::Gateway;
use crate::journal::Journal;
use crate::registry::Registry;
use crate::store::{Store, StoreUrl};
use crate::telemetry::otlp::{OtlpSettings, Traces};
use crate::upstream::live::LiveTransport;

mod admin;
mod compat;
mod embedders;
mod jobs;
mod limits;
mod node;
mod rollouts;
mod threads;

use threads::start_data_threads;

/// Idle connections kept to each provider by each data thread.
const MAX_IDLE_CONNECTIONS: usize = 512;
/// Idle connections kept to a collector of telemetry.
const MAX_IDLE_COLLECTOR: usize = 2;
/// How long the last traces and metrics may take when the gateway stops.
const LAST_EXPORT: Duration = Duration::from_secs(5);
/// How long callers have to take the error that ends their request when the gateway stops: longer
/// than an idempotency key may take to be forgotten before.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How long a connection to a provider is kept idle. Providers close theirs after 60 s and more.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// How long a caller may take nothing of an answer that is there. A browser's tab in the background
/// goes on reading; a laptop that was closed does not.
const UNREAD_FOR: Duration = Duration::from_secs(60);

/// Options of `tidegate serve`.
#[derive(Debug, Clone, Default, Args)]
#[command(
    after_help = "Example:\n  tidegate serve --config config/tidegate.toml\n\nEnvironment:\n  \
    TIDEGATE_LOG  what is logged, such as debug, instead of what the configuration says\n  \
    OTEL_*        where traces and metrics go, such as \
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"
)]
pub struct ServeArgs {
    /// Where the configuration is.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The address to listen on, instead of the configuration's `server.listen`.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
}

/// Runs the gateway until it is told to stop.
///
/// # Errors
///
/// Where the gateway cannot start: an address in use, no thread to be had.
pub fn run(args: &ServeArgs, environment: Environment, out: &mut dyn Write) -> anyhow::Result<u8> {
    let admin_key = environment.get("TIDEGATE_ADMIN_KEY").map(SecretKey::new);
    let otlp = OtlpSettings::read(&|name| environment.get(name));
    let log = environment.get("TIDEGATE_LOG");
    let colour = environment.get("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut source = args.source.source(environment);
    source.listen = args.listen;
    let snapshot = match load(&source, None) {
        Ok(snapshot) => snapshot,
        Err(problems) => {
            writeln!(out, "{problems}")?;
            return Ok(2);
        }
    };
    super::logging::start(&snapshot.settings.telemetry, log, colour);
    for problem in &otlp.problems {
        tracing::warn!("{problem}");
    }
    if admin_key.as_ref().is_some_and(SecretKey::is_short) {
        tracing::warn!("TIDEGATE_ADMIN_KEY has less than 16 characters: it can be guessed");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (current, watcher) = reloading(source, snapshot, Arc::new(SystemWallClock));
        let tasks = Tasks::new();
        supervise((current, watcher), admin_key, otlp, &tasks, out).await
    })
}

/// Starts everything, waits for the signal to stop, and stops it in order.
async fn supervise(
    (current, watcher): (Current, Watcher),
    admin_key: Option<SecretKey>,
    otlp: OtlpSettings,
    tasks: &Tasks,
    out: &mut dyn Write,
) -> anyhow::Result<u8> {
    let snapshot = current.snapshot();
    let settings = &snapshot.settings;
    let store = Store::new(settings.store.url.parse::<StoreUrl>()?);
    let kept = Some(settings.store.snapshot.clone()).filter(|path| !path.as_os_str().is_empty());
    let callers = Callers::keeping(store.clone(), admin_key.as_ref(), kept);
    let audit = callers.audit().clone();
    tasks.spawn(watcher.telling(move |reloaded| admin::note_reload(&audit, reloaded)).run());
    read_keys(&callers, &store, out).await?;
    let server = &settings.server;
    let addresses = [Some(server.listen), server.admin_listen].into_iter().flatten();
    // A store that cannot be read now may hold keys: callers get 503 until it can.
    let any_key = callers.any_key_exists().unwrap_or(true);
    if let Err(problem) = may_listen(settings.auth.mode, addresses, any_key) {
        writeln!(out, "{problem}")?;
        return Ok(2);
    }
    let cluster = node::join(&settings.cluster)?;
    let (gateway, background) = assemble(&current, &callers, (store, cluster), otlp, tasks);
    tasks.spawn(callers.clone().run(|made| {
        // The store was not there at the start; now it is.
        let _ = announce(made, &mut io::stderr());
    }));
    read_prompts(&gateway, tasks).await;
    embedders::open(&gateway, tasks)?;
    look_after(&gateway, &current, tasks);
    let rolling = rollouts::start(&gateway, &current, tasks).await;
    limits::start(&gateway, tasks).await;
    let admin = admin::router(&gateway, &current);
    let separate = server.admin_listen.map(|address| bind(address, false)).transpose()?;
    let shared = separate.is_none().then(|| admin.clone());
    let listeners = listen(server.listen, thread_count(server))
        .with_context(|| format!("cannot listen on {}", server.listen))?;
    let address = listeners.first().map_or(Ok(server.listen), std::net::TcpListener::local_addr)?;
    let (close, closing) = watch::channel(false);
    let mut threads = start_data_threads(&gateway, server, &closing, shared, listeners)?;
    let serving = threads.len();
    threads.push(jobs::start(&gateway, server, &closing)?);
    threads.push(compat::start(&gateway, &closing)?);
    let admin_server = match separate {
        None => None,
        Some(listener) => {
            let server = admin_server(&gateway, server, TcpListener::from_std(listener)?, admin);
            let within = (settings.server.drain_timeout.0, Arc::clone(&gateway));
            Some(tasks.spawn(until_drained(server, closing.clone(), within, || 0)))
        }
    };
    greet(&snapshot, address, serving, out)?;

    stop_signal().await?;
    tracing::info!("stopping: no new requests, those in flight may finish");
    gateway.drain();
    let _ = close.send(true);
    // A server that is away must not hold up the stop; the others then notice by the silence.
    let _ = gateway.cluster.leave().await;
    join(threads).await;
    until(|| admin_server.as_ref().is_none_or(AbortHandle::is_finished)).await;
    rolling.stop().await;
    background.stop(&gateway).await;
    Ok(0)
}

/// Reads the keys before the first request.
///
/// # Errors
///
/// Where the database is a file that is not there and cannot be made. A server that is away may
/// come back, but this is a mistake, and nobody might notice that no request is written down.
async fn read_keys(callers: &Callers, store: &Store, out: &mut dyn Write) -> anyhow::Result<()> {
    match callers.load().await {
        Ok(Some(made)) => announce(&made, out)?,
        Err(error) if store.is_absent() && callers.any_key_exists().is_none() => {
            bail!("{}; let `store.url` name a place that can be written to", error.chain());
        }
        // What is wrong is logged, and the keys are read as soon as they can be.
        Ok(None) | Err(_) => {}
    }
    Ok(())
}

/// What runs beside requests and has to end in order.
struct Background {
    journal: Journal,
    estimating: AbortHandle,
    last_call: watch::Sender<bool>,
    writing: AbortHandle,
    exporting: Option<AbortHandle>,
    last_export: watch::Sender<bool>,
}

/// Builds the gateway and starts what runs beside it.
fn assemble(
    current: &Current,
    callers: &Callers,
    (store, cluster): (Store, Cluster),
    otlp: OtlpSettings,
    tasks: &Tasks,
) -> (Arc<Gateway>, Background) {
    let clock = Arc::new(SystemWallClock);
    let settings = &current.snapshot().settings;
    let (journal, writer) = Journal::new(&settings.journal, store, clock.clone());
    let traces = otlp.tracer();
    let tracer = traces.as_ref().map(|(tracer, _)| Arc::clone(tracer));
    let (gateway, estimator) = Gateway::traced(
        current.shared(),
        callers.clone(),
        journal.clone(),
        clock,
        (tracer, cluster.clone()),
    );
    let (fleet, current_too) = (gateway.shared_fleet(), current.clone());
    let changing = Changing {
        callers: callers.clone(),
        registry: gateway.registry().clone(),
        rollouts: gateway.rollout_ledger().clone(),
    };
    tasks.spawn(Neighbours::new(cluster, changing, fleet, current_too).run());
    gateway.watch_reloads(current.clone());
    let (last_call, last_called) = watch::channel(false);
    let (last_export, exported) = watch::channel(false);
    let exporting =
        otlp.is_on().then(|| tasks.spawn(exporter(&gateway, otlp, traces).run(exported)));
    let background = Background {
        journal,
        estimating: tasks.spawn(estimator.run(last_called)),
        last_call,
        writing: tasks.spawn(writer.run()),
        exporting,
        last_export,
    };
    (gateway, background)
}

impl Background {
    /// Ends everything in the order in which accounts travel: what is estimated last must still be
    /// written.
    async fn stop(self, gateway: &Gateway) {
        gateway.limits().hand_back().await;
        let _ = self.last_call.send(true);
        until(|| self.estimating.is_finished()).await;
        self.journal.shut_down();
        let _ = self.last_export.send(true);
        until(|| self.writing.is_finished()).await;
        let exported = until(|| self.exporting.as_ref().is_none_or(AbortHandle::is_finished));
        // A collector that is away must not hold up the stop.
        let _ = tokio::time::timeout(LAST_EXPORT, exported).await;
    }
}

/// What sends this gateway's traces and metrics to a collector.
fn exporter(gateway: &Arc<Gateway>, otlp: OtlpSettings, traces: Option<Traces>) -> Exporter {
    let transport = Arc::new(LiveTransport::new(MAX_IDLE_COLLECTOR, IDLE_TIMEOUT));
    let measured = Arc::clone(gateway);
    let gather = Box::new(move || measured.gather_metrics());
    Exporter::new(otlp, transport, Arc::new(SystemWallClock), gather, traces)
}

/// Starts what keeps the parts of a gateway in order beside requests.
fn look_after(gateway: &Arc<Gateway>, current: &Current, tasks: &Tasks) {
    tasks.spawn(gateway.callers.audit().clone().run());
    let (callers, registry) = (gateway.callers.clone(), gateway.registry().clone());
    tasks.spawn(read_again(callers, registry, current.clone()));
    let expiring = Arc::clone(gateway);
    tasks.spawn(async move { expiring.streams().upkeep().await });
    tasks.spawn(keep_keys(Arc::clone(gateway)));
    tasks.spawn(gateway.cache().clone().upkeep());
    tasks.spawn(gateway.feedback().clone().upkeep());
    embedders::learn(gateway, tasks);
    embedders::shadow(gateway, tasks);
    let (minding, reloads) = (Arc::clone(gateway), current.clone());
    tasks.spawn(async move { minding.mind_routes(reloads).await });
}

/// Reads what was pushed, so that it is there for the first request, and keeps it right.
async fn read_prompts(gateway: &Gateway, tasks: &Tasks) {
    // Where the store is away, the loop says so, and reads it later.
    let _ = gateway.registry().load().await;
    tasks.spawn(gateway.registry().clone().run());
}

/// Reads keys and prompts again with every reload of the configuration.
async fn read_again(callers: Callers, registry: Registry, mut current: Current) {
    while current.changed().await {
        callers.reload();
        registry.reload();
    }
}

/// Looks after the rows of idempotency keys.
async fn keep_keys(gateway: Arc<Gateway>) {
    gateway.executions().upkeep(|| gateway.snapshot().settings.idempotency.clone()).await;
}

/// The admin API on a listener of its own.
fn admin_server(
    gateway: &Gateway,
    settings: &ServerSettings,
    listener: TcpListener,
    router: Router,
) -> Server {
    let metrics = Arc::clone(&gateway.metrics);
    Server { listener, router, limits: limits(settings), metrics }
}

/// What a connection may cost, by the configuration.
fn limits(settings: &ServerSettings) -> ConnectionLimits {
    ConnectionLimits {
        head_bytes: usize::try_from(settings.request_head_limit.0).unwrap_or(usize::MAX),
        head_within: settings.head_read_timeout.0,
        idle_for: settings.idle_timeout.0,
        unread_for: UNREAD_FOR,
    }
}

/// Serves until told to stop, and then for as long as requests may still go on. `streams_left`
/// says how many of them go on without a connection. What has not ended by then ends with an error.
async fn until_drained(
    server: Server,
    closing: watch::Receiver<bool>,
    (drain_timeout, gateway): (Duration, Arc<Gateway>),
    streams_left: impl Fn() -> usize,
) {
    let tasks = Tasks::new();
    let (call_time, over) = watch::channel(false);
    server.run(&tasks, closing, &over).await;
    // What is read on one thread may be made on another.
    let is_shared = || gateway.flights().readers() > 0;
    let is_drained = || tasks.is_empty() && streams_left() == 0 && !is_shared();
    if tokio::time::timeout(drain_timeout, until(is_drained)).await.is_ok() {
        return;
    }
    let (connections, streams) = (tasks.len(), streams_left());
    tracing::warn!("{connections} connections and {streams} streams did not finish in time");
    gateway.end_requests();
    let _ = call_time.send(true);
    let _ = tokio::time::timeout(LAST_WORDS, until(is_drained)).await;
}

fn thread_count(settings: &ServerSettings) -> usize {
    match settings.worker_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => usize::from(count),
    }
}

/// So many listeners on one address; port 0 takes a free one.
fn listen(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    // Alone first: listeners that share an address would quietly join those of another gateway.
    let alone = bind(address, false)?;
    if count == 1 {
        return Ok(vec![alone]);
    }
    let address = alone.local_addr()?;
    drop(alone);
    (0..count).map(|_| bind(address, true)).collect()
}

async fn stop_signal() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Waits for threads without blocking the one that still writes the journal.
async fn join(threads: Vec<JoinHandle<()>>) {
    until(|| threads.iter().all(JoinHandle::is_finished)).await;
}

/// Looks every ten milliseconds whether something is so.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Shows the admin key, the only time that it can be seen.
fn announce(made: &SecretKey, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "admin key, shown this once: {}", made.reveal())?;
    out.flush()
}

fn greet(
    snapshot: &Snapshot,
    address: SocketAddr,
    threads: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let models = snapshot.models().count();
    writeln!(out, "tidegate {} on http://{address}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "{models} models, {threads} data threads; GET /v1/models lists what to ask for")?;
    out.flush()
}
