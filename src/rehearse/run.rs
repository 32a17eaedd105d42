//! Sets the stage for a rehearsal, in process or on sockets, and runs it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::watch;

use super::drive::{Ready, drive};
use super::front::Front;
use super::plan::{Inline, Rehearsal};
use super::record::Record;
use super::redirect::Redirect;
use super::report::Report;
use super::scratch::Scratch;
use super::stage::Stage;
use super::{Options, RehearsalError};
use crate::api::server::{ConnectionLimits, Server};
use crate::callers::{AuthMode, Callers};
use crate::catalog::Origin;
use crate::clock::{Instant, WallClock};
use crate::config::{Environment, Snapshot, Source, load};
use crate::control::tasks::Tasks;
use crate::ids::CallerId;
use crate::problems::Problems;
use crate::sim::{SimTransport, serve};
use crate::store::{Store, StoreUrl};
use crate::units::Priority;
use crate::upstream::Transport;
use crate::upstream::live::LiveTransport;

/// When virtual time begins: 2027-01-15T08:00:00Z, so that dates are alike in every run.
const VIRTUAL_START_MS: u64 = 1_800_000_000_000;
/// Idle connections, and how long they are kept.
const IDLE: (usize, Duration) = (512, Duration::from_secs(50));

/// Runs a rehearsal, and its baseline where it has one, and says what came out. Takes as long as
/// that takes: on a runtime of its own, so it must not be called from one.
///
/// # Errors
///
/// Where the gateway's configuration is wrong, or a real run cannot listen.
pub fn run(rehearsal: &Rehearsal, options: &Options) -> Result<Report, RehearsalError> {
    let main = match &rehearsal.gateway {
        Some(inline) if !options.replace => configuration(inline)?,
        Some(_) | None => load(&options.source, None)?,
    };
    let baseline = rehearsal.baseline.as_ref().map(configuration).transpose()?;
    let main = one(rehearsal, main, options.real)?;
    let baseline = baseline.map(|snapshot| one(rehearsal, snapshot, options.real)).transpose()?;
    Ok(Report::new(rehearsal, &main, baseline.as_ref()))
}

/// Reads a configuration that stands in a scenario; its problems are told with the scenario's
/// lines.
pub(super) fn configuration(inline: &Inline) -> Result<Arc<Snapshot>, RehearsalError> {
    let scratch = Scratch::new()?;
    let file = scratch.path().join("gateway.toml");
    let written = std::fs::write(&file, &inline.text);
    written.map_err(|source| RehearsalError::Io { operation: "write a temporary file", source })?;
    let environment = Environment::fixed([]);
    let source =
        Source { file: Some(file.clone()), without_keys: true, ..Source::environment(environment) };
    load(&source, None).map_err(|found| {
        let mut problems = Problems::new();
        for problem in found.iter() {
            let here = problem.file == file;
            let line = match inline.before {
                Some(before) if problem.line > 0 => before + problem.line,
                Some(_) | None => 0,
            };
            let (file, line) =
                if here { (&inline.file, line) } else { (&problem.file, problem.line) };
            problems.add(file, line, problem.key.clone(), problem.message.clone());
        }
        problems.into()
    })
}

/// One run of a configuration.
pub(super) fn one(
    rehearsal: &Rehearsal,
    snapshot: Arc<Snapshot>,
    real: bool,
) -> Result<Record, RehearsalError> {
    let scratch = Scratch::new()?;
    // The database has its own threads, which a paused clock would not wait for: it is done before.
    let prepared = in_runtime(&mut Builder::new_current_thread(), prepare(rehearsal, &scratch))?;
    if real {
        return in_runtime(
            &mut Builder::new_multi_thread(),
            play(rehearsal, snapshot, real, prepared),
        );
    }
    // Timers tick in milliseconds since the runtime's start. Paused from there on, the clock stands
    // at a whole tick whenever one goes off, and every run rounds alike; paused later, it would
    // keep the fraction at which that happened.
    let paused = &mut Builder::new_current_thread();
    in_runtime(paused.start_paused(true), play(rehearsal, snapshot, real, prepared))
}

/// Runs a future to its end, on a runtime of its own.
fn in_runtime<T>(
    builder: &mut Builder,
    future: impl Future<Output = Result<T, RehearsalError>>,
) -> Result<T, RehearsalError> {
    let built = builder.enable_all().build();
    let runtime =
        built.map_err(|source| RehearsalError::Io { operation: "start a runtime", source })?;
    let outcome = runtime.block_on(future);
    runtime.shutdown_background();
    outcome
}

/// What is there before time begins.
struct Prepared {
    store: Store,
    callers: Callers,
    /// For each traffic the header of its caller.
    keys: Vec<Option<HeaderValue>>,
}

async fn prepare(rehearsal: &Rehearsal, scratch: &Scratch) -> Result<Prepared, RehearsalError> {
    let url = format!("sqlite:{}", scratch.path().join("tidegate.db").display());
    let url = url.parse::<StoreUrl>().map_err(|error| {
        let source = io::Error::other(error);
        RehearsalError::Io { operation: "use the folder for temporary files", source }
    })?;
    let store = Store::new(url);
    let callers = Callers::new(store.clone(), None);
    let keys = keys(rehearsal, &callers).await?;
    Ok(Prepared { store, callers, keys })
}

async fn play(
    rehearsal: &Rehearsal,
    snapshot: Arc<Snapshot>,
    real: bool,
    prepared: Prepared,
) -> Result<Record, RehearsalError> {
    let Prepared { store, callers, keys } = prepared;
    let wall: Arc<dyn WallClock> = Arc::new(RunClock(Instant::now()));
    let stage = Stage::new(open(snapshot), callers, store, wall);
    stage.gateway.seed(rehearsal.providers.seed);
    let sim = SimTransport::starting_at(rehearsal.providers.clone(), VIRTUAL_START_MS);
    let sim = sim.with_arrivals().with_bills();
    let gateway = Arc::clone(&stage.gateway);
    if !real {
        let to = Redirect::new(&gateway.snapshot(), Arc::new(sim.clone()), None);
        let front = Arc::new(Front::new(stage.router(Arc::new(to))));
        let origin = loopback(80);
        return Ok(drive(rehearsal, Ready { gateway, sim, front, origin, keys }).await);
    }
    let tasks = Arc::new(Tasks::new());
    let sockets = sockets(&stage, sim.clone(), &tasks).await;
    let origin = sockets.map_err(|source| RehearsalError::Io { operation: "listen", source })?;
    let front = Arc::new(LiveTransport::new(IDLE.0, IDLE.1));
    Ok(drive(rehearsal, Ready { gateway, sim, front, origin, keys }).await)
}

/// Starts the simulator and the gateway on sockets of this machine; where the gateway listens.
async fn sockets(stage: &Stage, sim: SimTransport, tasks: &Arc<Tasks>) -> io::Result<Origin> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(any).await?;
    let simulator = loopback(listener.local_addr()?.port());
    tasks.spawn(async move {
        if let Err(error) = serve(listener, sim, std::future::pending()).await {
            tracing::error!("the simulator ended: {error}");
        }
    });
    let snapshot = stage.gateway.snapshot();
    let live: Arc<dyn Transport> = Arc::new(LiveTransport::new(IDLE.0, IDLE.1));
    let router = stage.router(Arc::new(Redirect::new(&snapshot, live, Some(simulator))));
    let listener = TcpListener::bind(any).await?;
    let origin = loopback(listener.local_addr()?.port());
    let server = &snapshot.settings.server;
    let limits = ConnectionLimits {
        head_bytes: usize::try_from(server.request_head_limit.0).unwrap_or(usize::MAX),
        head_within: server.head_read_timeout.0,
        idle_for: server.idle_timeout.0,
        unread_for: Duration::from_secs(60),
    };
    let metrics = Arc::clone(&stage.gateway.metrics);
    let server = Server { listener, router, limits, metrics };
    let (open, closing) = watch::channel(false);
    let connections = Arc::clone(tasks);
    tasks.spawn(async move {
        // Dropped, the sender would say that it is time to close.
        let _open = open;
        server.run(&connections, closing.clone(), &closing).await;
    });
    Ok(origin)
}

/// A key for every caller that the traffic names, in the order of the traffic.
async fn keys(
    rehearsal: &Rehearsal,
    callers: &Callers,
) -> Result<Vec<Option<HeaderValue>>, RehearsalError> {
    let mut made: Vec<(&str, HeaderValue)> = Vec::new();
    let mut keys = Vec::new();
    for traffic in &rehearsal.traffic {
        let Some(name) = traffic.caller.as_deref() else {
            keys.push(None);
            continue;
        };
        if let Some((_, key)) = made.iter().find(|(other, _)| *other == name) {
            keys.push(Some(key.clone()));
            continue;
        }
        let asked = traffic.priority.and_then(|level| Priority::try_from(u64::from(level)).ok());
        let priority = asked.unwrap_or_default().min(Priority::default());
        // Who calls is part of decisions, and so it is the same in every run.
        let id = CallerId::new(format!("key_rehearsal_{}", made.len() + 1));
        let created = callers.create_under(id, name, priority, VIRTUAL_START_MS).await;
        let secret =
            created.map_err(|source| RehearsalError::Caller { name: Arc::from(name), source })?;
        let key = HeaderValue::try_from(format!("Bearer {}", secret.reveal())).ok();
        made.extend(key.clone().map(|key| (name, key)));
        keys.push(key);
    }
    Ok(keys)
}

/// The same configuration, open to callers without a key: traffic has none unless it says so.
fn open(snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
    let mut snapshot = snapshot;
    if let Some(snapshot) = Arc::get_mut(&mut snapshot) {
        snapshot.settings.auth.mode = AuthMode::Open;
    }
    snapshot
}

fn loopback(port: u16) -> Origin {
    Origin { https: false, host: Arc::from("127.0.0.1"), port, sim: false }
}

/// A time of day that passes as the run's own time does.
#[derive(Debug)]
struct RunClock(Instant);

// === impl RunClock ===

impl WallClock for RunClock {
    fn unix_ms(&self) -> u64 {
        let passed = u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        VIRTUAL_START_MS.saturating_add(passed)
    }
}
