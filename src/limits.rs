//! What callers may use: the live state of all limits, and reservations of requests.
//!
//! Before a request goes to a provider, what it is expected to use is taken from all limits that
//! are about it, or from none ([`Limits::reserve`]). The [`Reservation`] travels with the request's
//! account and is settled with it, whatever its end: what was used takes the place of what was
//! expected. One that is dropped gives everything back.
//!
//! A limit may be about many subjects (callers, tags), which only exist while they are used: one
//! that is as a new one would be is forgotten, see `subjects`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::callers::Caller;
use crate::chat::Usage;
use crate::clock::{Instant, WallClock};
use crate::cluster::Cluster;
use crate::config::Route;
use crate::ids::{CallerId, RouteName};
use crate::quota::{
    Amounts, Counted, Crossing, LimitSettings, Moment, Outputs, Refusal, Rule, Subject, Verdict,
    reserve,
};
use crate::rejection::Rejection;
use crate::telemetry::Metrics;

mod reservation;
mod restore;
mod shared;
mod standing;
mod subjects;
mod view;

pub use reservation::{Flow, Reservation};
pub use restore::Restored;
use shared::Authority;
use shared::Refill;
pub use shared::Sharing;
pub use standing::{Level, Standing};
use subjects::{Locked, Subjects, lock};
pub use view::{Owner, Used};

/// Routes of which the length of answers is known. Names of models that callers make up are routes,
/// too: those beyond it are as if nothing were known of them.
const MAX_ROUTES: usize = 4_096;
/// How often a request asks the authority for what it lacks before it does without.
const MAX_FETCHES: usize = 4;
/// How long a request waits at most for an authority that has lost its memory to know again what
/// was used. It takes two seconds, and no node knows of it later than the server.
const UNSETTLED_AT_MOST: Duration = Duration::from_millis(2_500);
/// How often all subjects are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Told waits of this length or longer get up to [`JITTER`] on top, so that not all come back at
/// once.
const LONG_WAIT: Duration = Duration::from_secs(1);
const JITTER: Duration = Duration::from_millis(500);

/// The live state of all limits.
#[derive(Debug)]
pub struct Limits {
    authority: Arc<Authority>,
    /// `None` once it runs.
    refill: Mutex<Option<Refill>>,
    metrics: Arc<Metrics>,
    subjects: Subjects,
    outputs: Mutex<HashMap<RouteName, Outputs>>,
    /// Stands for the limits of keys where no other limit takes them.
    of_keys: Arc<Rule>,
    /// Stands for the limits of teams.
    of_teams: Arc<Rule>,
}

/// A request for which there is no room.
#[derive(Debug)]
pub struct Full {
    /// Why.
    pub rejection: Rejection,
    /// What is left.
    pub standing: Box<Standing>,
}

/// A request, as far as limits ask.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Whose it is.
    pub caller: &'a Caller,
    /// What the model that was asked for stands for.
    pub route: &'a Route,
    /// Its tags.
    pub tags: &'a [(String, String)],
    /// Tokens of its prompt, estimated from its length.
    pub input_tokens: u64,
    /// The caller's cap on the answer.
    pub max_output: Option<u64>,
    /// How many answers are asked for; 0 where the answer has no tokens.
    pub choices: u64,
    /// How long it may wait for nodes to tell each other what was used.
    pub patience: Duration,
}

/// Why nothing can be decided yet.
enum Undecided {
    /// This node has to ask for more first.
    Unasked,
    /// In so much time it is known what was used.
    Unsettled(Duration),
}

// === impl Limits ===

impl Limits {
    /// Limits of which nothing is used, shared with the nodes of a cluster. [`Self::upkeep`] must
    /// run beside them.
    pub fn new(wall: Arc<dyn WallClock>, metrics: Arc<Metrics>, cluster: Cluster) -> Self {
        let (authority, refill) = Authority::new(cluster, wall, Arc::clone(&metrics));
        Self {
            subjects: Subjects::new(authority.is_shared()),
            authority,
            refill: Mutex::new(Some(refill)),
            metrics,
            outputs: Mutex::default(),
            of_keys: Arc::new(Rule::of_keys()),
            of_teams: Arc::new(Rule::of_teams()),
        }
    }

    /// Whether nothing limits a caller.
    pub fn is_free(rules: &[Arc<Rule>], caller: &Caller) -> bool {
        let of_team = team(caller).and_then(|(_, limits)| limits);
        let is_unlimited = rules.is_empty() && own_limits(caller).is_none() && of_team.is_none();
        is_unlimited || caller.id == CallerId::gateway()
    }

    /// Takes what a request is expected to use from all of `rules` that are about it, and from what
    /// its key and its team have for themselves. `None` where nothing limits it.
    ///
    /// Waits only where nodes share limits and this one holds nothing yet: no longer than the
    /// authority is waited for; and where the authority has lost its memory, for up to two seconds
    /// until nodes have told it what they had used, but no longer than the request's patience.
    ///
    /// # Errors
    ///
    /// [`Full`], whose rejection names the limit that takes longest.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes nothing.
    pub async fn reserve(
        self: &Arc<Self>,
        rules: &[Arc<Rule>],
        ask: &Ask<'_>,
    ) -> Result<Option<Reservation>, Full> {
        let moment = self.moment();
        let subjects = self.subjects_of(rules, ask, moment);
        if subjects.is_empty() {
            return Ok(None);
        }
        let expected = self.expect(ask, moment.now);
        let until = moment.now + ask.patience.min(UNSETTLED_AT_MOST);
        let mut fetches = 0;
        loop {
            let moment = self.moment();
            match self.decide(&subjects, ask, &expected, moment) {
                Ok(decided) => return decided.map(Some),
                Err(Undecided::Unasked) if fetches < MAX_FETCHES => {
                    fetches += 1;
                    Box::pin(self.authority.fetch(&subjects, &expected)).await;
                }
                Err(Undecided::Unsettled(wait)) if moment.now + wait < until => {
                    Box::pin(tokio::time::sleep(wait)).await;
                }
                Err(Undecided::Unasked | Undecided::Unsettled(_)) => break,
            }
        }
        // The authority is slow, which is not the caller's fault.
        let alone = self.authority.moment_alone();
        let decided = self.decide(&subjects, ask, &expected, alone);
        decided.map_or(Ok(None), |decided| decided.map(Some))
    }

    /// Decides on a request by what this node holds.
    fn decide(
        self: &Arc<Self>,
        subjects: &[Arc<subjects::Subject>],
        ask: &Ask<'_>,
        expected: &Amounts,
        moment: Moment,
    ) -> Result<Result<Reservation, Full>, Undecided> {
        let mut locked = lock(subjects, moment);
        let standing = match reserve(&mut locked, expected, moment) {
            Verdict::Admitted => standing::of(&locked, moment),
            Verdict::Refused(refusal) => {
                let full = self.refuse(&mut locked, refusal, expected, moment);
                return Ok(Err(full));
            }
            Verdict::Unasked => return Err(Undecided::Unasked),
            Verdict::Unsettled(wait) => return Err(Undecided::Unsettled(wait)),
        };
        drop(locked);
        self.authority.look_after(subjects);
        let taken = (moment, *expected, step_of(ask));
        let of = (ask.route.name.clone(), standing);
        let reservation = Reservation::new(Arc::clone(self), subjects.to_vec(), taken, of);
        Ok(Ok(reservation))
    }

    /// How limits are shared with other nodes.
    pub fn sharing(&self) -> Sharing {
        self.authority.sharing()
    }

    /// Sets those metrics that are counted elsewhere.
    pub fn look_up_metrics(&self) {
        let subjects = i64::try_from(self.subjects.len()).unwrap_or(i64::MAX);
        self.metrics.limits.subjects.set(subjects);
        let is_degraded = self.sharing().divided_by.is_some();
        self.metrics.limits.degraded.set(i64::from(is_degraded));
    }

    /// Asks for what nodes share, and forgets subjects that have rested; runs for ever. The first
    /// call does the asking.
    pub async fn upkeep(&self) {
        let refill = self.refill.lock().take();
        let refilling = async {
            if let Some(refill) = refill {
                refill.run(&self.subjects).await;
            }
        };
        let sweeping = async {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                self.subjects.sweep(self.moment());
            }
        };
        tokio::join!(refilling, sweeping);
    }

    /// Gives back what this node holds of shared limits and does not use: the node ends. To be
    /// called when all requests have ended. Takes a second at most.
    pub async fn hand_back(&self) {
        self.authority.hand_back(&self.subjects).await;
    }

    fn moment(&self) -> Moment {
        self.authority.moment()
    }

    /// What a request is expected to use.
    fn expect(&self, ask: &Ask<'_>, now: Instant) -> Amounts {
        let usual = match self.outputs.lock().get_mut(&ask.route.name) {
            Some(outputs) => outputs.expect(ask.max_output, now),
            None => Outputs::new().expect(ask.max_output, now),
        };
        let output_tokens = usual.saturating_mul(ask.choices);
        let usage = Usage { input: ask.input_tokens, output: output_tokens, ..Usage::default() };
        Amounts {
            input_tokens: ask.input_tokens,
            cached_tokens: 0,
            output_tokens,
            micro_usd: dearest(ask.route, &usage),
        }
    }

    /// Learns how long the answers of a route are.
    fn observe(&self, route: &RouteName, output_tokens: u64, now: Instant) {
        let mut outputs = self.outputs.lock();
        if let Some(known) = outputs.get_mut(route) {
            known.observe(output_tokens, now);
        } else if outputs.len() < MAX_ROUTES {
            let mut first = Outputs::new();
            first.observe(output_tokens, now);
            outputs.insert(route.clone(), first);
        }
    }

    /// The subjects of a request, each once, in the order in which they are locked.
    fn subjects_of(
        &self,
        rules: &[Arc<Rule>],
        ask: &Ask<'_>,
        moment: Moment,
    ) -> Vec<Arc<subjects::Subject>> {
        let model = first_model(ask.route);
        let team = team(ask.caller);
        let of = Subject {
            caller: ask.caller.id.as_str(),
            team: team.map(|(id, _)| id),
            route: ask.route.name.as_str(),
            model: &model,
            tags: ask.tags,
        };
        let about = self.about(rules, ask.caller).filter_map(|(rule, own)| {
            Some(self.subjects.get(rule.subject(&of)?, rule, own, moment))
        });
        let mut subjects: Vec<_> = about.collect();
        subjects.sort_unstable_by_key(|subject| subject.order);
        subjects.dedup_by_key(|subject| subject.order);
        subjects
    }

    /// What may limit a caller: each rule, with the limits that the key or the team has for itself
    /// where they go with it.
    fn about<'a>(
        &'a self,
        rules: &'a [Arc<Rule>],
        caller: &'a Caller,
    ) -> impl Iterator<Item = (&'a Arc<Rule>, Option<&'a LimitSettings>)> {
        let own = own_limits(caller);
        let of_team = team(caller).and_then(|(_, limits)| limits);
        let is_taken = rules.iter().any(|rule| rule.takes_own());
        let of_keys = own.filter(|_| !is_taken).map(|own| (&self.of_keys, Some(own)));
        let of_teams = of_team.map(|limits| (&self.of_teams, Some(limits)));
        let listed = rules.iter().map(move |rule| (rule, own.filter(|_| rule.takes_own())));
        listed.chain(of_keys).chain(of_teams)
    }

    fn refuse(
        &self,
        locked: &mut [Locked<'_>],
        refusal: Refusal,
        expected: &Amounts,
        moment: Moment,
    ) -> Full {
        let Refusal { which, dimension, wait } = refusal;
        self.metrics.limits.rejected(dimension.as_str());
        let mut limit = String::new();
        if let Some(subject) = locked.get_mut(which) {
            limit = subject.whose(dimension);
            // What asks for more than there ever is says nothing of what is left.
            if wait.is_some()
                && let Some(crossing) = subject.exhausted(dimension, expected, moment)
            {
                tell(&self.metrics, subject, crossing);
            }
        }
        let rejection = Rejection::LimitReached {
            limit,
            dimension: dimension.as_str(),
            is_money: dimension.counted == Counted::Money,
            retry_after: wait,
        };
        Full { rejection, standing: Box::new(standing::of(locked, moment)) }
    }
}

// === impl Full ===

impl Full {
    /// The same where a long wait has up to half a second on top, as large as a chance in 0..1
    /// says.
    #[must_use]
    pub fn spread(mut self, chance: f64) -> Self {
        if let Rejection::LimitReached { retry_after: Some(wait), .. } = &mut self.rejection
            && *wait >= LONG_WAIT
        {
            *wait += JITTER.mul_f64(chance);
        }
        self
    }
}

/// Says that a part of a budget is used up.
fn tell(metrics: &Metrics, subject: &Locked<'_>, crossing: Crossing) {
    let Crossing { dimension, threshold } = crossing;
    metrics.limits.crossed(dimension.as_str(), threshold.percent());
    tracing::warn!(
        limit = &*subject.live().rule.name,
        subject = subject.key(),
        dimension = dimension.as_str(),
        percent = threshold.percent(),
        "a limit is used up to {} %",
        threshold.percent()
    );
}

/// The limits that a key has for itself.
fn own_limits(caller: &Caller) -> Option<&LimitSettings> {
    Some(&caller.limits).filter(|limits| !limits.is_empty())
}

/// To whose team a key belongs, and what the team has for itself.
fn team(caller: &Caller) -> Option<(&str, Option<&LimitSettings>)> {
    let team = caller.team.as_ref()?;
    Some((team.id.as_str(), Some(&team.limits).filter(|limits| !limits.is_empty())))
}

/// `provider/model` of what answers first.
fn first_model(route: &Route) -> String {
    let first = route.tiers.iter().flatten().next();
    first.map_or_else(String::new, |target| {
        format!("{}/{}", target.endpoint.provider, target.model.name)
    })
}

/// What `usage` costs at the dearest of the targets that are asked first.
fn dearest(route: &Route, usage: &Usage) -> u64 {
    let first = route.tiers.first().into_iter().flatten();
    first.map(|target| target.model.cost(usage).0).max().unwrap_or_default()
}

/// What a further piece of an answer comes to.
fn step_of(ask: &Ask<'_>) -> Amounts {
    let output_tokens = Reservation::STEP_TOKENS;
    let usage = Usage { output: output_tokens, ..Usage::default() };
    let micro_usd = dearest(ask.route, &usage);
    Amounts { output_tokens, micro_usd, ..Amounts::default() }
}
