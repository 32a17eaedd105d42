//! The sender of webhooks: takes them out of the outbox and posts them.
//!
//! Where a webhook goes was chosen by a caller. So the name is resolved here, every address that it
//! stands for is looked at, and the connection is made to one of those and to nothing else: a name
//! that resolves differently the next moment changes nothing. Redirects are not followed.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::sync::{Notify, watch};

use super::jobs::{millis, note_failure, until_stored};
use super::tasks::Tasks;
use crate::catalog::Origin;
use crate::clock::WallClock;
use crate::dialect::retry_after;
use crate::jobs::outbox::{Addressee, Attempted, Outgoing, Then};
use crate::jobs::{Jobs, WebhookSettings};
use crate::policy::turns::Turns;
use crate::telemetry::Metrics;
use crate::upstream::UpstreamRequest;
use crate::upstream::live::LiveTransport;
use crate::webhook::receiver::Receiver;
use crate::webhook::schedule::{Verdict, pause_after};
use crate::webhook::signature::sign;

#[cfg(test)]
mod tests;

/// What a name stands for.
pub type Resolving = Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>>;
/// Asks what a name stands for.
pub type Resolve = Arc<dyn Fn(String) -> Resolving + Send + Sync>;

/// Sends webhooks.
pub struct Sender {
    jobs: Jobs,
    transport: LiveTransport,
    resolve: Resolve,
    settings: Box<dyn Fn() -> WebhookSettings + Send + Sync>,
    clock: Arc<dyn WallClock>,
    metrics: Arc<Metrics>,
    name: String,
    ended: Notify,
}

/// Webhooks that this process sends at a time.
const PLACES: u32 = 16;
/// Beside sending a webhook, what became of it has to be written down within its lease.
const TO_NOTE: Duration = Duration::from_secs(5);
/// How often webhooks of jobs that ended elsewhere, and those to be sent again, are looked for.
const POLL: Duration = Duration::from_secs(1);
/// No name has honestly more addresses.
const MAX_ADDRESSES: usize = 64;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Asks the system's resolver.
pub fn system_resolver() -> Resolve {
    Arc::new(|host| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((&*host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

// === impl Sender ===

impl Sender {
    /// A sender that sends nothing yet.
    pub fn new(
        jobs: Jobs,
        resolve: Resolve,
        settings: impl Fn() -> WebhookSettings + Send + Sync + 'static,
        clock: Arc<dyn WallClock>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            jobs,
            // Connections are made to one address each and not kept.
            transport: LiveTransport::new(0, Duration::ZERO),
            resolve,
            settings: Box::new(settings),
            clock,
            metrics,
            name: format!("{:032x}", rand::random::<u128>()),
            ended: Notify::new(),
        })
    }

    /// Sends what is due until `closing` says to stop. What is being sent then is sent again by
    /// another node, under the same id.
    pub async fn run(self: Arc<Self>, mut closing: watch::Receiver<bool>) {
        let tasks = Tasks::new();
        let send = self.take_and_send(&tasks);
        tokio::select! {
            never = send => match never {},
            _ = closing.wait_for(|closing| *closing) => {}
        }
        let _ = tokio::time::timeout((self.settings)().timeout.0, tasks.wait()).await;
    }

    async fn take_and_send(self: &Arc<Self>, tasks: &Tasks) -> std::convert::Infallible {
        let mut turns = Turns::default();
        let mut failing = false;
        loop {
            let sending = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
            let free = PLACES.saturating_sub(sending);
            let mut took = 0;
            if free > 0 {
                let lease_ms = millis((self.settings)().timeout.0 + TO_NOTE);
                let taken = self.jobs.take_webhooks(&mut turns, free, &self.name, lease_ms).await;
                note_failure(&mut failing, "take webhooks", &taken);
                for outgoing in taken.unwrap_or_default() {
                    took += 1;
                    tasks.spawn(Arc::clone(self).deliver(outgoing));
                }
            }
            if took > 0 && took < free {
                continue;
            }
            tokio::select! {
                () = self.jobs.webhook_waits(), if took < free => {}
                () = self.ended.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Sends one webhook and writes down what became of it.
    async fn deliver(self: Arc<Self>, outgoing: Outgoing) {
        let settings = (self.settings)();
        let attempted = match &outgoing.to {
            None => given_up("the receiver is switched off"),
            Some(to) => {
                let post = self.post(&outgoing, to, &settings);
                let posted = tokio::time::timeout(settings.timeout.0, post).await;
                let posted = posted
                    .unwrap_or_else(|_| Err(format!("no answer within {:?}", settings.timeout.0)));
                judge(outgoing.attempt, posted)
            }
        };
        self.metrics.jobs.webhook(match attempted.then {
            Then::Delivered => "delivered",
            Then::Again { .. } => "failed",
            Then::GiveUp | Then::Gone => "given_up",
        });
        if let Some(error) = &attempted.error {
            let attempt = outgoing.attempt;
            tracing::info!(webhook.id = outgoing.id, attempt, "webhook not delivered: {error}");
        }
        let disable_after = u64::try_from(settings.disable_after.0.as_millis()).unwrap_or(u64::MAX);
        let note = until_stored("note the end of a webhook", || {
            self.jobs.attempted(&outgoing, &attempted, disable_after)
        });
        // When its lease is over another node sends it again; what became of this one is late then.
        let _ = tokio::time::timeout(TO_NOTE, note).await;
        self.ended.notify_one();
    }

    /// Posts a webhook, once. The answer's status, and the pause that it asks for.
    async fn post(
        &self,
        outgoing: &Outgoing,
        to: &Addressee,
        settings: &WebhookSettings,
    ) -> Result<(StatusCode, Option<Duration>), String> {
        let receiver: Receiver = to.url.parse().map_err(|error| format!("the URL {error}"))?;
        // The operator may have changed what is allowed since the URL was accepted.
        receiver.check(&settings.allow_private).map_err(|error| format!("the URL {error}"))?;
        let address = self.address_of(&receiver, settings).await?;
        let request = UpstreamRequest {
            origin: Origin {
                https: receiver.https,
                host: Arc::from(&*receiver.host),
                port: receiver.port,
                sim: false,
            },
            path: receiver.path,
            headers: self.headers(outgoing, to)?,
            body: Bytes::from(outgoing.body.clone()),
            connect_timeout: settings.timeout.0,
        };
        let reply = self.transport.send_to(address, request).await;
        let reply = reply.map_err(|failure| failure.message.to_string())?;
        // Its body says nothing that is wanted: dropping it closes the connection.
        Ok((reply.status, retry_after(&reply.headers)))
    }

    /// An address of the receiver that may be connected to. Where one of them may not, none is: a
    /// name that points inside and outside has something in mind.
    async fn address_of(
        &self,
        receiver: &Receiver,
        settings: &WebhookSettings,
    ) -> Result<SocketAddr, String> {
        let host = &receiver.host;
        let found = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => {
                let found = (self.resolve)(host.clone()).await;
                found.map_err(|error| format!("cannot resolve {host}: {error}"))?
            }
        };
        let may = |address: &IpAddr| receiver.may_connect(*address, &settings.allow_private);
        if let Some(inside) = found.iter().take(MAX_ADDRESSES).find(|address| !may(address)) {
            return Err(format!(
                "{host} is {inside}, which webhooks are not sent to (`webhooks.allow_private`)"
            ));
        }
        let first = found.first().ok_or_else(|| format!("{host} has no address"))?;
        Ok(SocketAddr::new(*first, receiver.port))
    }

    fn headers(&self, outgoing: &Outgoing, to: &Addressee) -> Result<HeaderMap, String> {
        let seconds = self.clock.unix_seconds();
        let secrets: Vec<_> = to.secrets.iter().collect();
        let signature = sign(&secrets, &outgoing.id, seconds, &outgoing.body);
        let value = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION"))),
        );
        headers.insert(WEBHOOK_ID, value(&outgoing.id)?);
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(seconds));
        headers.insert(WEBHOOK_SIGNATURE, value(&signature)?);
        Ok(headers)
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What follows an attempt.
fn judge(attempt: u32, posted: Result<(StatusCode, Option<Duration>), String>) -> Attempted {
    let (status, error, verdict) = match posted {
        Ok((status, after)) => {
            let error = (!status.is_success()).then(|| format!("the receiver answered {status}"));
            (Some(status.as_u16()), error, Verdict::of(status, after))
        }
        Err(error) => (None, Some(error), Verdict::Failed { throttle: None }),
    };
    let then = match verdict {
        Verdict::Delivered => Then::Delivered,
        Verdict::Gone => Then::Gone,
        Verdict::Failed { throttle } => match pause_after(attempt, throttle, rand::random()) {
            None => Then::GiveUp,
            Some(pause) => {
                let ms = |pause: Duration| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                Then::Again { after_ms: ms(pause), throttle_ms: throttle.map(ms) }
            }
        },
    };
    Attempted { status, error, then }
}

fn given_up(why: &str) -> Attempted {
    Attempted { status: None, error: Some(why.to_owned()), then: Then::GiveUp }
}
