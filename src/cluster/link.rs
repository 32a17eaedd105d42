//! A connection to the server that is made again whenever it is lost.
//!
//! [`Link::run`] alone connects. Callers find a connection or none: with none they fail at once, so
//! that a server which is away costs a request nothing and nobody queues for it. A call that is not
//! answered in time gives the connection up, because whatever is asked next would wait behind it;
//! the next connection shows whether the server answers again. That is why the client library's own
//! reconnecting connection is not used: it lets callers wait for the attempt, and connects on the
//! runtime of whoever asked, here a data thread that may end.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, PushInfo, ServerErrorKind};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Unreachable;
use super::settings::Address;
use crate::clock::Instant;

/// How long connecting, TLS and logging in may take together.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// Pauses between attempts to connect grow from the first to the second. The second keeps a server
/// that is back from going unnoticed for a second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// Commands that wait to be written; more wait in their callers, for as long as those do.
const WAITING_COMMANDS: usize = 1_024;

/// Takes messages that the server sends without being asked.
pub(super) type OnPush = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// Runs a connection; it works while this is polled, and ends with it.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How to reach the server.
pub(super) struct Dial {
    pub(super) address: Address,
    tls: OnceLock<Arc<ClientConfig>>,
}

/// What all links of a node count together.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Commands that were sent.
    pub(super) round_trips: AtomicU64,
    /// Calls that had no answer of use.
    pub(super) errors: AtomicU64,
    /// How long the last answer took, in microseconds.
    pub(super) latency_us: AtomicU64,
    /// What went wrong last.
    pub(super) last_error: Mutex<Option<String>>,
}

/// A connection for one purpose.
pub(super) struct Link {
    purpose: &'static str,
    dial: Arc<Dial>,
    counts: Arc<Counts>,
    live: ArcSwapOption<Live>,
    state: watch::Sender<bool>,
    /// A channel to listen to, and who hears it.
    channel: Option<(String, OnPush)>,
    /// Whether it was said that the server is away.
    is_told: AtomicBool,
}

/// A connection that works.
struct Live {
    connection: MultiplexedConnection,
    /// Told when the connection is given up.
    given_up: Notify,
}

/// A script and the name by which the server keeps it.
#[derive(Debug)]
pub(super) struct Script {
    code: &'static str,
    pub(super) hash: String,
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

// === impl Dial ===

impl Dial {
    pub(super) fn new(address: Address) -> Self {
        Self { address, tls: OnceLock::new() }
    }

    /// A connection that is logged in, and what must be polled for it to work.
    pub(super) async fn connect(
        &self,
        on_push: Option<OnPush>,
    ) -> Result<(MultiplexedConnection, Driver), String> {
        let connecting = async {
            let socket = self.socket().await.map_err(|error| error.to_string())?;
            let mut settings = AsyncConnectionConfig::new()
                .set_response_timeout(None)
                .set_pipeline_buffer_size(WAITING_COMMANDS);
            if let Some(on_push) = on_push {
                settings = settings.set_push_sender(move |push: PushInfo| {
                    on_push(push);
                    Ok::<_, redis::aio::SendError>(())
                });
            }
            let login = &self.address.login;
            let connected = MultiplexedConnection::new_with_config(login, socket, settings).await;
            let (connection, driver) = connected.map_err(|error| error.to_string())?;
            Ok((connection, Box::pin(driver) as Driver))
        };
        match timeout(CONNECT_WITHIN, Box::pin(connecting)).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(format!("no answer within {CONNECT_WITHIN:?}")),
        }
    }

    async fn socket(&self) -> io::Result<Box<dyn Socket>> {
        let Address { host, port, tls, .. } = &self.address;
        let tcp = TcpStream::connect((host.as_str(), *port)).await?;
        tcp.set_nodelay(true)?;
        if !tls {
            return Ok(Box::new(tcp));
        }
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        let tls = self.tls.get_or_init(client_tls).clone();
        Ok(Box::new(TlsConnector::from(tls).connect(name, tcp).await?))
    }
}

fn client_tls() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let (_added, _ignored) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        // A container without certificates: Mozilla's, as of the build.
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

// === impl Link ===

impl Link {
    pub(super) fn new(
        purpose: &'static str,
        dial: Arc<Dial>,
        counts: Arc<Counts>,
        channel: Option<(String, OnPush)>,
    ) -> Self {
        let state = watch::Sender::new(false);
        let live = ArcSwapOption::empty();
        Self { purpose, dial, counts, live, state, channel, is_told: AtomicBool::new(false) }
    }

    /// Whether there is a connection, and every change of that.
    pub(super) fn state(&self) -> watch::Receiver<bool> {
        self.state.subscribe()
    }

    pub(super) fn is_connected(&self) -> bool {
        *self.state.borrow()
    }

    /// Sends a command and waits for its answer `within` this time. The answer may be `None` where
    /// a script is called that the server does not know.
    async fn send<T: FromRedisValue>(
        &self,
        command: &Cmd,
        within: Duration,
    ) -> Result<Option<T>, Unreachable> {
        let Some(live) = self.live.load_full() else {
            self.counts.errors.fetch_add(1, Ordering::Relaxed);
            return Err(Unreachable::NotConnected);
        };
        let mut connection = live.connection.clone();
        self.counts.round_trips.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let failed = match timeout(within, command.query_async::<T>(&mut connection)).await {
            Ok(Ok(answer)) => {
                let took = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.counts.latency_us.store(took, Ordering::Relaxed);
                return Ok(Some(answer));
            }
            Ok(Err(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                return Ok(None);
            }
            Ok(Err(error)) => {
                if is_of_the_connection(&error) {
                    self.give_up(&live);
                }
                Unreachable::Refused(error.to_string())
            }
            Err(_elapsed) => {
                self.give_up(&live);
                Unreachable::TimedOut(within)
            }
        };
        self.counts.errors.fetch_add(1, Ordering::Relaxed);
        *self.counts.last_error.lock() = Some(format!("{}: {failed}", self.purpose));
        Err(failed)
    }

    /// As [`Self::send`], for what is no script.
    pub(super) async fn call<T: FromRedisValue>(
        &self,
        command: &Cmd,
        within: Duration,
    ) -> Result<T, Unreachable> {
        let answer = self.send(command, within).await?;
        answer.ok_or_else(|| Unreachable::Refused("a script is not known".to_owned()))
    }

    /// Calls a script by its hash, and loads it first where the server does not have it.
    pub(super) async fn run_script<T: FromRedisValue>(
        &self,
        script: &Script,
        command: &Cmd,
        within: Duration,
    ) -> Result<T, Unreachable> {
        if let Some(answer) = self.send(command, within).await? {
            return Ok(answer);
        }
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(script.code);
        let _hash: String = self.call(&load, within).await?;
        self.call(command, within).await
    }

    /// Keeps a connection, for ever.
    pub(super) async fn run(&self) {
        let mut failures = 0;
        loop {
            let on_push = self.channel.as_ref().map(|(_, on_push)| Arc::clone(on_push));
            let why = match self.dial.connect(on_push).await {
                Ok((connection, driver)) => {
                    failures = 0;
                    self.serve(connection, driver).await
                }
                Err(why) => why,
            };
            self.tell_lost(&why);
            tokio::time::sleep(pause(failures)).await;
            failures += 1;
        }
    }

    /// Lets callers use a connection until it ends; says why it did.
    async fn serve(&self, connection: MultiplexedConnection, driver: Driver) -> String {
        let live = Arc::new(Live { connection, given_up: Notify::new() });
        let serving = async {
            if let Some((channel, _)) = &self.channel {
                let mut connection = live.connection.clone();
                match timeout(CONNECT_WITHIN, connection.subscribe(channel)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return format!("cannot listen to {channel}: {error}"),
                    Err(_elapsed) => return format!("cannot listen to {channel}: no answer"),
                }
            }
            self.live.store(Some(Arc::clone(&live)));
            self.state.send_replace(true);
            if self.is_told.swap(false, Ordering::Relaxed) {
                let (purpose, address) = (self.purpose, &self.dial.address);
                tracing::info!("cluster: {address} is reached again for {purpose}");
            }
            live.given_up.notified().await;
            "it does not answer".to_owned()
        };
        let why = tokio::select! {
            () = driver => "it closed the connection".to_owned(),
            why = serving => why,
        };
        self.live.store(None);
        self.state.send_replace(false);
        why
    }

    fn give_up(&self, live: &Arc<Live>) {
        // From here on callers fail at once; the one that runs the link notices by the notice.
        let current = self.live.load();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, live)) {
            self.live.compare_and_swap(&current, None);
        }
        live.given_up.notify_one();
    }

    fn tell_lost(&self, why: &str) {
        let (purpose, address) = (self.purpose, &self.dial.address);
        *self.counts.last_error.lock() = Some(format!("{purpose}: {why}"));
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!("cluster: {address} is not reached for {purpose}: {why}");
        }
    }
}

/// Whether another connection may lead to another answer: this one is broken, or the server behind
/// it is no longer, or not yet, the one that may be written to.
fn is_of_the_connection(error: &redis::RedisError) -> bool {
    error.is_unrecoverable_error()
        || [ServerErrorKind::ReadOnly, ServerErrorKind::MasterDown, ServerErrorKind::BusyLoading]
            .into_iter()
            .any(|kind| error.kind() == ErrorKind::Server(kind))
}

/// Half of the pause is left to chance, so that nodes do not come back all at once.
fn pause(failures: u32) -> Duration {
    let (first, last) = PAUSES;
    let whole = first.saturating_mul(1 << failures.min(8)).min(last);
    whole.mul_f64(0.5 + 0.5 * rand::random::<f64>())
}

// === impl Script ===

impl Script {
    pub(super) fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }
}
