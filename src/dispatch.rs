//! A completion, from the caller's bytes to the last byte of the answer.
//!
//! ```text
//! plan ──▶ race of one or two ──▶ (next target, less) ──▶ commit ──▶ stream ──▶ settle
//! ```
//!
//! One engine serves every endpoint, streaming or not. `plan` turns the caller's model into an
//! ordered list of targets; `prepare` writes the request for each; `race` runs one attempt, or two
//! where the first is late; `attempt` makes one upstream call and holds the answer back until its
//! first token; `degrade` tries with less where nobody answered; `stream` carries a committed
//! answer to its end, whatever that is; `settle` closes the account of every request that was
//! opened, also of one whose caller has left. A request is one future: dropping it drops everything
//! it holds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use crate::cache::{Cache, CacheWish, Key, Mark};
use crate::callers::Caller;
use crate::chat::Usage;
use crate::config::{Route, Snapshot, Target};
use crate::dialect::{Dialect, Dropped, Envelope, StreamSummary, encode_count_tokens};
use crate::failure::Midstream;
use crate::fleet::Fleet;
use crate::ids::{RequestId, TargetId};
use crate::journal::EndpointKind;
use crate::limits::{Limits, Standing};
use crate::meaning::Meanings;
use crate::policy::rollout::Arm;
use crate::prompt::Prompt;
use crate::rejection::Rejection;
use crate::runs::Recordings;
use crate::units::{MicroUsd, Priority, Ratio};
use crate::upstream::Transport;

mod attempt;
mod cached;
mod collect;
mod degrade;
mod expiry;
mod flight;
mod keeping;
mod limit;
mod live;
mod meant;
mod plan;
mod prefix;
mod prepare;
pub mod prompted;
mod race;
mod recorded;
mod replay;
pub mod rolled;
mod sequel;
mod serve;
pub mod settle;
pub mod shadow;
mod stop;
mod stream;
mod tap;
mod trace;
mod wire;

use cached::Cacheable;
pub use cached::FromCache;
pub use expiry::Expiry;
pub use flight::Flights;
use keeping::Keeping;
use limit::Load;
pub use meant::HeldBack;
pub use prompted::Prompted;
pub use rolled::{RolledRoute, Rolling, Whose};
use sequel::Sequel;
pub use settle::{Account, Ending, Ledger};
pub use stop::Stop;
pub use stream::AnswerStream;

/// The request path of one data thread: the shared state, and the thread's own connections.
#[derive(Debug, Clone)]
pub struct Lane {
    /// The live side of all targets.
    pub fleet: Arc<Fleet>,
    /// Where accounts are settled.
    pub ledger: Arc<Ledger>,
    /// What callers may use.
    pub limits: Arc<Limits>,
    /// Answers that are kept to be given again.
    pub cache: Cache,
    /// Answers that are found by what a question means.
    pub meanings: Meanings,
    /// Answers on their way that others may share.
    pub flights: Flights,
    /// What is rolled out.
    pub rolling: Rolling,
    /// What is recorded of traffic.
    pub recordings: Recordings,
    /// The way to providers.
    pub transport: Arc<dyn Transport>,
    /// When what is under way has to end.
    pub stop: Stop,
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
    /// The registered prompt that the body was made with.
    pub prompted: Option<Box<Prompted>>,
    /// Its side where its route's model is rolled out; set by [`Lane::complete`].
    pub rolled: Option<Box<RolledRoute>>,
    /// The caller's own limit for the whole request.
    pub timeout: Option<Duration>,
    /// How much it matters where not all can be served; never better than the caller may ask for.
    pub priority: Priority,
    /// The part of what a target is known to allow that requests of this kind may take together,
    /// and only while others do not need it; they wait for nothing. `None`: as much as there is.
    pub share: Option<Ratio>,
    /// What shall happen where the answer breaks off.
    pub midstream: Midstream,
    /// Who is behind the request, as the caller names them (1 to 256 bytes); what belongs to one
    /// of them should be treated alike.
    pub sticky: Option<String>,
    /// How often the caller's own client has sent this request before.
    pub client_retries: u32,
    /// Whether the caller may come back for the rest of a stream.
    pub resumable: bool,
    /// Whether a limit may end its stream, which must then be known to the letter; set by
    /// [`Lane::complete`].
    pub may_be_cut: bool,
    /// What the caller wants of the cache.
    pub cache: CacheWish,
    /// Where an answer past its time may be, if one will do; set by [`Lane::complete`].
    pub stale: Option<(Key, Mark)>,
    /// An answer that was proven and held back for an audit, which will do if there is no other;
    /// set by
    /// [`Lane::complete`].
    pub held_back: Option<Box<HeldBack>>,
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
    /// Whether two attempts were raced.
    pub hedged: bool,
    /// How far the answer was degraded, 0 to 4.
    pub degradation: u8,
    /// Fields that the provider does not take and that were left out.
    pub dropped: Dropped,
    /// What it cost, where that is known already.
    pub cost: Option<MicroUsd>,
    /// The wire the caller speaks, where it matters for what the reply says.
    pub dialect: Option<Dialect>,
    /// What is left of the caller's limits; `None` where there are none.
    pub limits: Option<Box<Standing>>,
    /// The gateway's own part of the time so far.
    pub overhead: Duration,
    /// Where it was kept, and nobody was asked.
    pub from_cache: Option<FromCache>,
    /// The registered prompt that was used.
    pub prompt: Option<Arc<Prompt>>,
    /// The rollout that the request took part in, and its side.
    pub rollout: Option<(Arc<str>, Arm)>,
    /// Whether it is another request's answer, shared as it comes.
    pub coalesced: bool,
}

/// A call that was refused or failed, and how it came to that.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub rejection: Rejection,
    /// What was tried.
    pub served: Served,
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
    pub async fn complete(
        &self,
        mut call: Box<Call>,
        mut account: Account,
    ) -> Result<Answer, Box<Refused>> {
        if !self.rolling.rollouts.is_idle() {
            self.roll(&mut call, &mut account);
        }
        if call.kind == EndpointKind::CountTokens && call.nobody_counts() {
            let counted = self.ledger.count_tokens(call.envelope.body()).await;
            let served = account.complete(&StreamSummary::default());
            return Ok(Answer::Whole(encode_count_tokens(counted).into(), served));
        }
        let mut asked = self.cacheable(&call);
        if let Some(asked) = &mut asked {
            if let Some(given) = self.find(&call, asked).await {
                let taken = self.take_limits(&mut call, Load::NOTHING, &mut account).await;
                return match taken {
                    Ok(()) => Ok(self.replay(&call, asked, given, account)),
                    Err(rejection) => Err(refuse(account, rejection)),
                };
            }
            if asked.is_of_meaning(&call) {
                // In a box: most calls have none of this.
                let found = Box::pin(self.find_by_meaning(&mut call, asked, &mut account)).await;
                match found {
                    Ok(Some(given)) => return Ok(self.replay(&call, asked, given, account)),
                    Ok(None) => {}
                    Err(rejection) => return Err(refuse(account, rejection)),
                }
            }
            self.count_miss(asked);
        }
        if !self.rolling.rollouts.is_idle() {
            self.roll_shadow(&call, &mut account);
        }
        let recorder = (!self.recordings.is_idle()).then(|| self.recorder(&call)).flatten();
        let answer = match asked {
            // In a box: it is larger than what most calls need.
            Some(asked) if asked.may_be_shared() => {
                Box::pin(self.complete_shared(call, account, asked)).await?
            }
            asked => self.complete_alone(call, account, asked).await?,
        };
        Ok(match recorder {
            None => answer,
            Some(recorder) => recorder.watch(answer),
        })
    }

    /// Serves a call that shares its answer with nobody.
    async fn complete_alone(
        &self,
        mut call: Box<Call>,
        mut account: Account,
        asked: Option<Cacheable>,
    ) -> Result<Answer, Box<Refused>> {
        let load = Load::of(&call);
        if let Err(rejection) = self.take_limits(&mut call, load, &mut account).await {
            return Err(refuse(account, rejection));
        }
        self.carry_out(call, account, asked).await
    }

    /// Serves a call for which there is room within its caller's limits.
    async fn carry_out(
        &self,
        mut call: Box<Call>,
        mut account: Account,
        mut asked: Option<Cacheable>,
    ) -> Result<Answer, Box<Refused>> {
        call.stale = asked.as_ref().and_then(|asked| asked.stale(&call));
        call.held_back = asked.as_mut().and_then(Cacheable::take_held_back);
        let keeping = asked.map(|asked| self.keeping(&call, asked, &account));
        if call.envelope.stream {
            let answer = self.complete_stream(call, account, keeping).await?;
            return Ok(answer.heeding(&self.stop));
        }
        let result = self.serve(&call, &mut None, &mut account).await;
        match result {
            Ok(attempt::Begun::Whole(whole)) => {
                whole.ticket.succeed(whole.summary.usage, whole.ended);
                let served = account.complete(&whole.summary);
                if let Some(keeping) = keeping {
                    let answered = (&whole.body, whole.said);
                    keeping.whole(&call, answered, &served, whole.summary.usage);
                }
                Ok(Answer::Whole(whole.body, served))
            }
            // Only streams begin without being whole.
            Ok(attempt::Begun::Stream(live)) => {
                Ok(AnswerStream::answer(*live, account, None, None).heeding(&self.stop))
            }
            Ok(attempt::Begun::Scripted(body)) => Ok(Answer::Whole(body, account.script())),
            Ok(attempt::Begun::Stale(stale)) => {
                let served = account.replay_stale(&stale);
                Ok(Answer::Whole(stale.body, served))
            }
            Err(rejection) => Err(refuse(account, rejection)),
        }
    }

    async fn complete_stream(
        &self,
        call: Box<Call>,
        mut account: Account,
        keeping: Option<Box<Keeping>>,
    ) -> Result<Answer, Box<Refused>> {
        let early = call.early_keep_alive();
        let named = stream::Named { request_id: call.request_id.clone(), dialect: call.dialect };
        let so_far = account.served();
        let lane = self.clone();
        let mut opening: stream::Opening = Box::pin(async move {
            let mut left = None;
            let begun = lane.serve(&call, &mut left, &mut account).await;
            (begun, account, Sequel::of(lane, call, left))
        });
        let opened = match early {
            None => opening.await,
            // The caller would rather be kept alive than learn the status: commit when the model
            // has been silent for one interval.
            Some(every) => match tokio::time::timeout(every, &mut opening).await {
                Ok(opened) => opened,
                Err(_elapsed) => {
                    let early = AnswerStream::early(opening, named, every, keeping);
                    return Ok(Answer::Stream(early, so_far));
                }
            },
        };
        match opened {
            (Ok(begun), account, sequel) => {
                Ok(AnswerStream::begin(begun, account, sequel, keeping))
            }
            (Err(rejection), account, _) => Err(refuse(account, rejection)),
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Has a stream end where the gateway stops.
    fn heeding(mut self, stop: &Stop) -> Self {
        if let Self::Stream(stream, _) = &mut self {
            stream.heed(stop.clone());
        }
        self
    }
}

// === impl Call ===

impl Call {
    /// The body as its caller sent it: before a registered prompt was put in.
    pub fn sent(&self) -> &Bytes {
        self.prompted.as_ref().map_or(self.envelope.body(), |prompted| &prompted.sent)
    }

    /// Where what it asks for is answered, if the caller may ask for it.
    fn route(&self) -> Result<Arc<Route>, Rejection> {
        match self.rolled.as_ref().and_then(|rolled| rolled.route()) {
            Some(candidate) => Ok(Arc::clone(candidate)),
            None => self.snapshot.resolve_for(&self.caller, &self.envelope.model),
        }
    }

    /// Whether the model exists, and none of those who serve it count tokens.
    fn nobody_counts(&self) -> bool {
        self.route().is_ok_and(|route| {
            let mut targets = route.tiers.iter().flatten();
            targets.all(|target| target.endpoint.dialect != Dialect::Anthropic)
        })
    }

    /// Whether the caller wants a broken stream continued.
    fn wants_more(&self) -> bool {
        match self.midstream {
            Midstream::Terminate => false,
            Midstream::Continue | Midstream::ContinueAnyModel => self.envelope.stream,
        }
    }

    /// Whether the stream is continued if it breaks, as far as that can be known beforehand: its
    /// endpoint is one of conversations, and its route has two targets of which one goes on from an
    /// answer that was begun.
    fn is_continued(&self) -> bool {
        let is_conversation = match self.kind {
            EndpointKind::Chat | EndpointKind::Messages => true,
            EndpointKind::Completions | EndpointKind::Embeddings | EndpointKind::CountTokens => {
                false
            }
        };
        self.wants_more()
            && is_conversation
            && self.route().is_ok_and(|route| {
                let targets = || route.tiers.iter().flatten();
                targets().count() > 1 && targets().any(|target| target.native_prefill().is_known())
            })
    }

    /// After how long a silent model commits the reply, where that was asked for.
    fn early_keep_alive(&self) -> Option<Duration> {
        let route = self.route().ok()?;
        route.conduct.keep_alive.every.filter(|_| route.conduct.keep_alive.before_first_token)
    }
}

/// What an answer of a target would have cost that took so much.
fn share_cost(target: Option<&Target>, usage: Option<Usage>) -> MicroUsd {
    match (target, usage) {
        (Some(target), Some(usage)) => target.model.cost(&usage),
        (Some(_) | None, _) => MicroUsd::default(),
    }
}

fn refuse(account: Account, rejection: Rejection) -> Box<Refused> {
    let served = account.served();
    account.reject(&rejection);
    Box::new(Refused { rejection, served })
}
