//! How a call gets its answer where others may share it.
//!
//! - A leader that fails before anything was said leaves the seat to one follower, which asks in
//!   its turn, out of the route's retry budget, while the others follow that one. The same
//!   rejection twice is everybody's.
//! - A leader whose own limits refuse it, or may end its stream, asks for nobody else.
//! - A follower waits for the first token no longer than all but one in a hundred have taken. Then
//!   it leads a flight of its own, which others that have waited as long join.
//! - A follower uses a request of its limits, and neither tokens nor money.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::telling::cut_off;
use super::{Course, Entered, Flight, Next, Opened, Reader, Telling, Terms};
use crate::chat::{Assembler, Completion, Usage};
use crate::clock::Instant;
use crate::config::Target;
use crate::dialect::StreamSummary;
use crate::dispatch::cached::Cacheable;
use crate::dispatch::limit::Load;
use crate::dispatch::stream::Named;
use crate::dispatch::{
    Account, Answer, AnswerStream, Call, Lane, Refused, Stop, attempt, cached, plan, refuse,
    replay, share_cost, tap, wire,
};
use crate::ids::TargetId;
use crate::journal::EndpointKind;
use crate::rejection::Rejection;

/// The least time that a first token is waited for, however quick the targets are.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
/// How often a follower leaves a flight that it has waited for too long.
const MAX_LEFT: u32 = 2;
/// How many leaders a follower sees go without having asked, before it asks for itself.
const MAX_DISSOLVED: u32 = 2;

/// What a follower has been through.
#[derive(Debug)]
struct Past {
    deadline: Instant,
    /// Whether its request was taken from its limits.
    is_counted: bool,
    /// The last flight that it has followed in vain.
    left: Option<Arc<Flight>>,
    /// How many it has waited for too long.
    times_left: u32,
    times_dissolved: u32,
    /// How the last leader failed.
    failed: Option<Rejection>,
}

/// What following a flight came to.
enum Followed {
    /// An answer to be passed on as it comes, or as it is.
    Stream(Arc<Opened>),
    /// An answer that was put together.
    Whole(Box<Completion>, Arc<Opened>),
    Failed(Rejection),
    Dissolved,
    /// It took too long.
    Late,
    /// The follower's own time is over.
    OutOfTime,
}

impl Lane {
    /// Serves a call whose answer others may share, or that may share another's.
    pub(in crate::dispatch) async fn complete_shared(
        &self,
        mut call: Box<Call>,
        mut account: Account,
        asked: Cacheable,
    ) -> Result<Answer, Box<Refused>> {
        let total = asked.route().conduct.timeouts.total;
        let within = call.timeout.map_or(total, |timeout| timeout.min(total));
        let terms = Terms {
            key: asked.key(),
            dialect: call.dialect,
            priority: call.priority,
            within,
            since: asked.since(),
        };
        let mut past = Past::new(within);
        loop {
            let reader = match self.flights.enter(&terms, past.left.as_ref()) {
                Entered::Follow(reader) if past.times_dissolved < MAX_DISSOLVED => reader,
                entered @ (Entered::Follow(_) | Entered::Alone) => {
                    // A seat that nobody polls from would keep that flight's call going.
                    drop(entered);
                    past.forget(&mut call, &mut account);
                    return self.complete_alone(call, account, Some(asked)).await;
                }
                Entered::Lead(seat) => {
                    return self.lead(seat, call, (account, past), asked).await;
                }
            };
            if let Err(rejection) = self.count_request(&mut call, &mut account, &mut past).await {
                return Err(refuse(account, rejection));
            }
            let patience = self.patience(&call, &asked).filter(|_| past.times_left < MAX_LEFT);
            let followed = self.followed(&call, &reader, past.deadline, patience).await;
            let Some(followed) = followed else {
                return Err(refuse(account, Rejection::Draining));
            };
            match followed {
                Followed::Stream(opened) => {
                    let sharing = (reader, opened, past.deadline);
                    return Ok(self.share(&call, account, sharing, &asked));
                }
                Followed::Whole(completion, opened) => {
                    return Ok(self.share_whole(&call, account, (*completion, &opened), &asked));
                }
                Followed::Failed(rejection) => {
                    let code = |rejection: &Rejection| rejection.face().code;
                    if past.failed.as_ref().map(code) == Some(code(&rejection)) {
                        return Err(refuse(account, rejection));
                    }
                    past.failed = Some(rejection);
                }
                Followed::Dissolved => past.times_dissolved += 1,
                Followed::Late => {
                    self.ledger.metrics().cache.met("left");
                    past.times_left += 1;
                }
                Followed::OutOfTime => {
                    return Err(refuse(account, Rejection::DeadlinePassed { within }));
                }
            }
            // Whatever became of it, it is not for this call.
            past.left = Some(Arc::clone(reader.flight()));
        }
    }

    /// What becomes of a flight for one who follows it; nothing where the gateway stops.
    async fn followed(
        &self,
        call: &Call,
        reader: &Reader,
        deadline: Instant,
        patience: Option<Duration>,
    ) -> Option<Followed> {
        let followed = self.stop.unless(pin!(follow(call, reader, deadline, patience))).await;
        // Whose answer it is has to end, too, and its failure is not what is to be told.
        followed.filter(|followed| !followed.is_over_by(&self.stop))
    }

    /// Asks, for those who follow as well.
    async fn lead(
        &self,
        seat: Reader,
        mut call: Box<Call>,
        (mut account, mut past): (Account, Past),
        asked: Cacheable,
    ) -> Result<Answer, Box<Refused>> {
        // It may have been kept between the look and the seat.
        if let Some(given) = self.look_again(&call, &asked) {
            if let Err(rejection) = self.count_request(&mut call, &mut account, &mut past).await {
                return Err(refuse(account, rejection));
            }
            return Ok(self.replay(&call, &asked, given, account));
        }
        // Held until an answer is there, as for any further attempt.
        let extra = match &past.failed {
            None => None,
            Some(rejection) => match self.fleet.group(asked.route()).extra(Instant::now()) {
                Some(extra) => Some(extra),
                None => {
                    seat.fail(rejection.clone());
                    return Err(refuse(account, rejection.clone()));
                }
            },
        };
        if extra.is_some() {
            self.ledger.metrics().cache.met("took_over");
        }
        past.forget(&mut call, &mut account);
        let load = Load::of(&call);
        if let Err(rejection) = self.take_limits(&mut call, load, &mut account).await {
            return Err(refuse(account, rejection));
        }
        if call.may_be_cut {
            drop(seat);
            return self.carry_out(call, account, Some(asked)).await;
        }
        let named = Named { request_id: call.request_id.clone(), dialect: call.dialect };
        let lane = self.clone();
        let opening = async move { lane.carry_out(call, account, Some(asked)).await };
        let answer = seat.ask(Box::pin(opening), named).await;
        drop(extra);
        answer.map(|answer| answer.heeding(&self.stop))
    }

    /// Takes the request, and nothing else, from its caller's limits; once.
    async fn count_request(
        &self,
        call: &mut Call,
        account: &mut Account,
        past: &mut Past,
    ) -> Result<(), Rejection> {
        if !past.is_counted {
            self.take_limits(call, Load::NOTHING, account).await?;
            past.is_counted = true;
        }
        Ok(())
    }

    /// How long a follower waits for the first token; no bound of its own where nothing is known.
    fn patience(&self, call: &Call, asked: &Cacheable) -> Option<Duration> {
        let group = self.fleet.group(asked.route());
        let demand = plan::demand(call, asked.route(), group.len());
        let most = asked.route().conduct.timeouts.first_token;
        let late = group.late_first_token(&demand, Instant::now()).unwrap_or(most);
        Some(late.max(LEAST_PATIENCE).min(most))
    }

    /// Passes an answer on as it comes, or as it is.
    fn share(
        &self,
        call: &Call,
        mut account: Account,
        (reader, opened, deadline): (Reader, Arc<Opened>, Instant),
        asked: &Cacheable,
    ) -> Answer {
        account.on_shared(&opened.served);
        let served = account.served_shared(&opened.served);
        if let Some(body) = &opened.body {
            // Vectors have neither an id nor a form.
            self.settle_whole(account, &opened, None, asked);
            return Answer::Whole(body.clone(), served);
        }
        let created = self.ledger.unix_seconds();
        let telling = Telling {
            reader,
            encoder: replay::encoder(call, created),
            summary: StreamSummary::default(),
            words: words(&opened),
            created,
            target: target_of(asked, opened.served.by.as_ref()),
            deadline,
            ledger: Arc::clone(&self.ledger),
        };
        let keep_alive = asked.route().conduct.keep_alive.every;
        AnswerStream::follow(telling, account, keep_alive, served).heeding(&self.stop)
    }

    /// Gives a whole answer in the caller's form.
    fn share_whole(
        &self,
        call: &Call,
        mut account: Account,
        (completion, opened): (Completion, &Opened),
        asked: &Cacheable,
    ) -> Answer {
        account.on_shared(&opened.served);
        let served = account.served_shared(&opened.served);
        let usage = completion.usage;
        let completion = Completion { id: String::new(), ..completion };
        let created = self.ledger.unix_seconds();
        let body = replay::write_completion(call, completion, created, &words(opened));
        self.settle_whole(account, opened, usage, asked);
        match call.envelope.stream {
            true => AnswerStream::of_bytes(body, served),
            false => Answer::Whole(body, served),
        }
    }

    fn settle_whole(
        &self,
        account: Account,
        opened: &Opened,
        usage: Option<Usage>,
        asked: &Cacheable,
    ) {
        let target = target_of(asked, opened.served.by.as_ref());
        let saved = opened.served.cost.unwrap_or_else(|| share_cost(target.as_deref(), usage));
        let metrics = &self.ledger.metrics().cache;
        metrics.met("shared");
        metrics.saved(saved.0);
        account.share(saved, &StreamSummary { usage, ..StreamSummary::default() });
    }
}

// === impl Followed ===

impl Followed {
    /// Whether nothing came of it, while the gateway stops.
    fn is_over_by(&self, stop: &Stop) -> bool {
        match self {
            Self::Stream(_) | Self::Whole(..) => false,
            Self::Failed(_) | Self::Dissolved | Self::Late | Self::OutOfTime => stop.is_ordered(),
        }
    }
}

// === impl Past ===

impl Past {
    fn new(within: Duration) -> Self {
        Self {
            deadline: Instant::now() + within,
            is_counted: false,
            left: None,
            times_left: 0,
            times_dissolved: 0,
            failed: None,
        }
    }

    /// Has a call that followed others ask for itself, in the time that it has left.
    fn forget(&self, call: &mut Call, account: &mut Account) {
        if self.is_counted {
            account.on_unshared();
            call.timeout = Some(self.deadline.saturating_duration_since(Instant::now()));
        }
    }
}

/// Waits for what becomes of a flight; where the answer is wanted whole, to its end.
async fn follow(
    call: &Call,
    reader: &Reader,
    deadline: Instant,
    patience: Option<Duration>,
) -> Followed {
    let late = patience.map_or(deadline, |patience| Instant::now() + patience);
    let course = match tokio::time::timeout_at(late.min(deadline), reader.course()).await {
        Ok(course) => course,
        Err(_elapsed) if late < deadline => return Followed::Late,
        Err(_elapsed) => return Followed::OutOfTime,
    };
    let opened = match course {
        Course::Opened(opened) => opened,
        Course::Failed(rejection) => return Followed::Failed(rejection),
        Course::Coming | Course::Dissolved => return Followed::Dissolved,
    };
    if opened.served.from_cache.is_some() && !call.cache.takes_stale() {
        return Followed::Dissolved;
    }
    let is_vectors = call.kind == EndpointKind::Embeddings;
    match &opened.body {
        Some(_) if is_vectors => Followed::Stream(opened),
        Some(body) => match tap::read_whole(call, body) {
            Ok(completion) => Followed::Whole(Box::new(completion), opened),
            Err(_unreadable) => Followed::Dissolved,
        },
        None if call.envelope.stream => Followed::Stream(opened),
        None => match tokio::time::timeout_at(deadline, collect(reader)).await {
            Ok(Ok(completion)) => Followed::Whole(Box::new(completion), opened),
            // It has nothing of the answer yet, and another may be whole.
            Ok(Err(rejection)) => Followed::Failed(rejection),
            Err(_elapsed) => Followed::OutOfTime,
        },
    }
}

/// Puts a shared stream together.
async fn collect(reader: &Reader) -> Result<Completion, Rejection> {
    let (mut assembler, mut summary) = (Assembler::default(), StreamSummary::default());
    while !assembler.is_ended() {
        let failure = match std::future::poll_fn(|cx| reader.poll_deltas(cx)).await {
            Next::Piece(deltas) => {
                for delta in deltas.iter() {
                    wire::note(&mut summary, delta);
                    assembler.push(delta.clone());
                }
                if summary.text.bytes() <= attempt::MAX_REPLY_BYTES as u64 {
                    continue;
                }
                cut_off()
            }
            Next::Broken(failure) => failure,
            Next::Over | Next::Nothing | Next::TooLate => cut_off(),
        };
        return Err(Rejection::StreamFailed { failure });
    }
    let mut completion = assembler.finish();
    // The leader's caller may not have asked for it.
    completion.usage = reader.usage().or(completion.usage);
    Ok(completion)
}

/// What the usage of a shared answer is told with.
fn words(opened: &Opened) -> Value {
    let by = opened.served.by.as_ref().map(cached::without_credential);
    let by = by.as_ref().map(TargetId::as_str);
    json!({ "served_by": by, "cost_usd": "0.000000", "cache": "coalesced" })
}

/// One of the targets of a route.
fn target_of(asked: &Cacheable, by: Option<&TargetId>) -> Option<Arc<Target>> {
    let by = by?;
    asked.route().tiers.iter().flatten().find(|target| target.id == *by).cloned()
}
