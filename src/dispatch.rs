//! A completion, from the caller's bytes to the last byte of the answer.
//!
//! ```text
//! plan ──▶ attempt ──▶ (next target while nothing was sent) ──▶ commit ──▶ stream ──▶ settle
//! ```
//!
//! One engine serves every endpoint, streaming or not. `plan` turns the caller's model into an
//! ordered list of targets and writes the request for each; `attempt` makes one upstream call and
//! holds the answer back until its first token; `stream` carries a committed answer to its end,
//! whatever that is; `settle` closes the account of every request that was opened, also of one
//! whose caller has left. A request is one future: dropping it drops everything it holds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use crate::callers::Caller;
use crate::config::{Snapshot, Target};
use crate::dialect::{Dialect, Dropped, Envelope, StreamSummary, encode_count_tokens};
use crate::failure::{Blame, Failure, FailureKind, Midstream, Retry};
use crate::fleet::Fleet;
use crate::ids::{RequestId, TargetId};
use crate::journal::EndpointKind;
use crate::rejection::Rejection;
use crate::units::{MicroUsd, Priority};
use crate::upstream::Transport;

mod attempt;
mod plan;
pub mod settle;
mod stream;
mod trace;
mod wire;

pub use settle::{Account, Ledger};
pub use stream::AnswerStream;

/// The request path of one data thread: the shared state, and the thread's own connections.
#[derive(Debug, Clone)]
pub struct Lane {
    /// The live side of all targets.
    pub fleet: Arc<Fleet>,
    /// Where accounts are settled.
    pub ledger: Arc<Ledger>,
    /// The way to providers.
    pub transport: Arc<dyn Transport>,
}

/// A request that was admitted and read.
#[derive(Debug)]
pub struct Call {
    /// Its id.
    pub request_id: RequestId,
    /// Whose it is.
    pub caller: Arc<Caller>,
    /// What was called.
    pub kind: EndpointKind,
    /// The wire the caller speaks.
    pub dialect: Dialect,
    /// The body, and what routing needs of it.
    pub envelope: Envelope,
    /// The caller's own limit for the whole request.
    pub timeout: Option<Duration>,
    /// How much it matters where not all can be served; never better than the caller may ask for.
    pub priority: Priority,
    /// What shall happen where the answer breaks off.
    pub midstream: Midstream,
    /// Who is behind the request, as the caller names them (1 to 256 bytes); what belongs to one
    /// of them should be treated alike.
    pub sticky: Option<String>,
    /// How often the caller's own client has sent this request before.
    pub client_retries: u32,
    /// Whether the caller may come back for the rest of a stream.
    pub resumable: bool,
    /// Headers that go upstream as they are, such as `traceparent` and `anthropic-beta`.
    pub forwarded: HeaderMap,
    /// The configuration the request is served by, whatever is loaded meanwhile.
    pub snapshot: Arc<Snapshot>,
}

/// What a call came to.
#[derive(Debug)]
pub enum Answer {
    /// The whole answer.
    Whole(Bytes, Served),
    /// An answer that is still coming.
    Stream(Box<AnswerStream>, Served),
}

/// How an answer came about, for the reply's headers.
#[derive(Debug, Clone, Default)]
pub struct Served {
    /// Who served it.
    pub by: Option<TargetId>,
    /// How many attempts were made.
    pub attempts: u32,
    /// Fields that the provider does not take and that were left out.
    pub dropped: Dropped,
    /// What it cost, where that is known already.
    pub cost: Option<MicroUsd>,
    /// The gateway's own part of the time so far.
    pub overhead: Duration,
}

/// A call that was refused or failed, and how it came to that.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub rejection: Rejection,
    /// What was tried.
    pub served: Served,
}

/// A complete answer with nothing in it, kept while one other target is asked: it may be what the
/// model means to say, or a fault of this provider.
struct Empty {
    answer: attempt::Whole,
    target: Arc<Target>,
    dropped: Dropped,
}

// === impl Lane ===

impl Lane {
    /// Serves a call. The account is settled when the answer has been sent, or dropped.
    ///
    /// # Errors
    ///
    /// [`Refused`] where no target answered; nothing was sent to the caller then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the attempt upstream and settles the account as abandoned.
    pub async fn complete(&self, call: Call, mut account: Account) -> Result<Answer, Box<Refused>> {
        if call.kind == EndpointKind::CountTokens && call.nobody_counts() {
            let counted = self.ledger.count_tokens(call.envelope.body()).await;
            let served = account.complete(&StreamSummary::default());
            return Ok(Answer::Whole(encode_count_tokens(counted).into(), served));
        }
        if call.envelope.stream {
            return self.complete_stream(call, account).await;
        }
        let result = self.serve(&call, &mut account).await;
        match result {
            Ok(attempt::Begun::Whole(whole)) => {
                whole.ticket.succeed(whole.ended);
                let served = account.complete(&whole.summary);
                Ok(Answer::Whole(whole.body, served))
            }
            // Only streams begin without being whole.
            Ok(attempt::Begun::Stream(live)) => Ok(AnswerStream::answer(*live, account)),
            Err(rejection) => Err(refuse(account, rejection)),
        }
    }

    async fn complete_stream(
        &self,
        call: Call,
        mut account: Account,
    ) -> Result<Answer, Box<Refused>> {
        let early = call.early_keep_alive();
        let named = stream::Named { request_id: call.request_id.clone(), dialect: call.dialect };
        let lane = self.clone();
        let mut opening: stream::Opening = Box::pin(async move {
            let begun = lane.serve(&call, &mut account).await;
            (begun, account)
        });
        let opened = match early {
            None => opening.await,
            // The caller would rather be kept alive than learn the status: commit when the model
            // has been silent for one interval.
            Some(every) => match tokio::time::timeout(every, &mut opening).await {
                Ok(opened) => opened,
                Err(_elapsed) => return Ok(AnswerStream::early(opening, named, every)),
            },
        };
        match opened {
            (Ok(begun), account) => Ok(AnswerStream::begin(begun, account)),
            (Err(rejection), account) => Err(refuse(account, rejection)),
        }
    }

    /// Tries targets until one answers. At most one attempt each: what a second attempt on the same
    /// target is worth is for a retry budget to decide.
    async fn serve(&self, call: &Call, account: &mut Account) -> Result<attempt::Begun, Rejection> {
        let mut plan = plan::Plan::new(call, &self.fleet)?;
        account.on_route(plan.route());
        let mut refusal = None;
        let mut worst: Option<Failure> = None;
        let mut empty: Option<Empty> = None;
        while let Some(target) = plan.next_target() {
            let mut prepared = match plan.prepare(call, &target) {
                Ok(prepared) => prepared,
                Err(rejection) => {
                    refusal.get_or_insert(rejection);
                    continue;
                }
            };
            account.on_attempt(&target, &prepared.dropped);
            account.trace_attempt(&target, &mut prepared.headers);
            let dropped = prepared.dropped.clone();
            match self.attempt(call, &plan, &target, prepared, account).await {
                Ok(attempt::Begun::Whole(answer))
                    if answer.is_empty && empty.is_none() && plan.targets_left() > 0 =>
                {
                    account.on_empty(&answer.summary);
                    empty = Some(Empty { answer, target, dropped });
                }
                Ok(begun) => {
                    if let Some(empty) = empty {
                        empty.give_up(&begun);
                    }
                    return Ok(begun);
                }
                Err(failure) => {
                    log_failure(call, &target, &failure);
                    account.on_failure(&failure);
                    // After an empty answer one other target is asked, and no third.
                    let ends = failure.kind.retry() == Retry::Never || empty.is_some();
                    keep_more_telling(&mut worst, failure);
                    if ends {
                        break;
                    }
                }
            }
            if plan.remaining().is_zero() && empty.is_none() {
                return Err(plan.deadline_passed());
            }
        }
        if let Some(Empty { answer, target, dropped }) = empty {
            account.on_empty_kept(&target, dropped, &answer);
            return Ok(attempt::Begun::Whole(answer));
        }
        match (worst, refusal) {
            (Some(failure), _) => {
                Err(Rejection::AttemptsFailed { attempts: account.attempts(), failure })
            }
            (None, Some(rejection)) => Err(rejection),
            (None, None) => Err(plan.nobody(call)),
        }
    }
}

// === impl Empty ===

impl Empty {
    /// Settles the attempt by what the other target made of the same request.
    fn give_up(self, other: &attempt::Begun) {
        let attempt::Whole { ticket, ended, .. } = self.answer;
        if other.is_empty() {
            ticket.succeed(ended);
        } else {
            ticket.fail(FailureKind::Degenerate);
        }
    }
}

// === impl Call ===

impl Call {
    /// Whether the model exists, and none of those who serve it count tokens.
    fn nobody_counts(&self) -> bool {
        self.snapshot.resolve(&self.envelope.model).is_ok_and(|route| {
            let mut targets = route.tiers.iter().flatten();
            targets.all(|target| target.endpoint.dialect != Dialect::Anthropic)
        })
    }

    /// After how long a silent model commits the reply, where that was asked for.
    fn early_keep_alive(&self) -> Option<Duration> {
        let route = self.snapshot.resolve(&self.envelope.model).ok()?;
        route.keep_alive.every.filter(|_| route.keep_alive.before_first_token)
    }
}

fn refuse(account: Account, rejection: Rejection) -> Box<Refused> {
    let served = account.served();
    account.reject(&rejection);
    Box::new(Refused { rejection, served })
}

fn log_failure(call: &Call, target: &Target, failure: &Failure) {
    tracing::debug!(
        request.id = %call.request_id,
        target.id = %target.id,
        failure.kind = failure.kind.as_str(),
        "attempt failed: {}",
        failure.loggable()
    );
}

/// Keeps the failure that tells the caller most: what is said about the caller's own request before
/// what is said about a provider, then what passes with time before what does not, and of equals
/// the last.
fn keep_more_telling(kept: &mut Option<Failure>, next: Failure) {
    let rank = |failure: &Failure| match (failure.kind.blame(), failure.kind.retry()) {
        (Blame::Caller, _) => 3,
        (Blame::Provider, _) => 2,
        (Blame::Credential, Retry::SameOrOther) => 1,
        (Blame::Credential, Retry::Other | Retry::Never) => 0,
    };
    let better = kept.as_ref().is_none_or(|kept| rank(&next) >= rank(kept));
    if better {
        *kept = Some(next);
    }
}
