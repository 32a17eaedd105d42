//! Asks the cache before anybody else is asked, and keeps what was answered.
//!
//! A route without a cache costs one comparison. The cache is asked before a plan is made: an answer
//! that is kept is there also where no target is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::meant::Meant;
use super::stream::AnswerStream;
use super::tap::{Gatherer, Missed, read_whole};
use super::{Account, Answer, Call, Lane, Ledger, Served, prepare, replay};
use crate::cache::{
    Answered, Bypass, Cache, CacheMode, CacheScope, Fetch, Form, Head, Kept, Key, Look, Mark, Miss,
    Owner, Question, RouteCache, Tenant, Unkept, policy,
};
use crate::chat::{Completion, Usage};
use crate::clock::Instant;
use crate::config::Route;
use crate::ids::{CallerId, ProviderId, TargetId};
use crate::journal::{EndpointKind, Reuse};
use crate::meaning::{Meanings, Neighbour};
use crate::units::MicroUsd;

/// A call whose answer may be in the cache, or may be kept.
#[derive(Debug)]
pub(super) struct Cacheable {
    key: Key,
    route: Arc<Route>,
    settings: Arc<RouteCache>,
    ttl: Duration,
    since: Mark,
    asked: Instant,
    /// Whether an answer that is kept will do.
    reads: bool,
    /// Whether one is kept, and this request is the one that has it made anew.
    refreshes: bool,
    max_age: Option<Duration>,
    /// What it asks, where an answer to other words will do.
    meant: Option<Box<Meant>>,
}

/// An answer that is kept, as its caller gets it.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) head: Head,
    pub(super) body: Bytes,
    pub(super) similarity: Option<f64>,
}

/// An answer on its way that is kept when it is complete.
#[derive(Debug)]
pub(super) struct Keeping {
    cache: Cache,
    meanings: Meanings,
    ledger: Arc<Ledger>,
    asked: Cacheable,
    kind: EndpointKind,
    owner: Owner,
    /// Reads what the caller gets, where it is streamed.
    gatherer: Option<Gatherer>,
}

/// The largest request that is looked at. Reading a larger one would hold others up, and it does
/// not come twice.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Headers that go upstream and shape no answer.
const SHAPELESS_HEADERS: [&str; 2] = ["traceparent", "tracestate"];

impl Lane {
    /// What the cache has to do with a call; nothing where its route keeps nothing, or the call is
    /// not one for it.
    pub(super) fn cacheable(&self, call: &Call) -> Option<Cacheable> {
        if !call.snapshot.has_caches {
            return None;
        }
        let route = call.route().ok()?;
        let settings = Arc::clone(route.cache.as_ref()?);
        match Cacheable::of(call, route, settings, &self.cache) {
            Ok(cacheable) => Some(cacheable),
            Err(bypass) => {
                self.ledger.metrics().cache.bypassed(bypass.as_str());
                None
            }
        }
    }

    /// The answer that is kept for a call, if there is one that will do: to the same words, or to
    /// others that mean the same.
    pub(super) async fn find(&self, call: &Call, asked: &mut Cacheable) -> Option<Given> {
        if let Some(kept) = self.look(asked).await
            && let Some(given) = self.given(call, *kept, None)
        {
            return Some(given);
        }
        if asked.is_of_meaning(call) {
            // In a box: most calls have none of this.
            let found = Box::pin(self.look_for_meaning(call, asked)).await;
            if let Some(neighbour) = found {
                let Neighbour { kept, similarity, .. } = *neighbour;
                if let Some(given) = self.given(call, kept, Some(similarity)) {
                    return Some(given);
                }
            }
        }
        if asked.reads {
            self.cache.count(&asked.route.name, None);
        }
        None
    }

    /// The answer that is kept to the same words: here, or where nodes share them.
    async fn look(&self, asked: &mut Cacheable) -> Option<Box<Kept>> {
        let metrics = &self.ledger.metrics().cache;
        if !asked.reads {
            metrics.looked("refresh");
            return None;
        }
        let found = self.cache.look(&asked.key, asked.max_age, self.fleet.chance(), Instant::now());
        let miss = match found {
            Look::Hit(kept) => return Some(kept),
            Look::Miss(miss) => miss,
        };
        // One that is to be made anew is so for all nodes.
        if self.cache.is_shared() && miss != Miss::Early {
            let fetched = self.cache.fetch(&asked.key, asked.max_age, asked.since).await;
            metrics.fetched(fetched.as_str());
            if let Fetch::Hit(kept) = fetched {
                return Some(kept);
            }
        }
        metrics.looked(miss.as_str());
        asked.refreshes = miss == Miss::Early;
        None
    }

    /// The answer that was kept since a look found none. Not counted: the look was.
    pub(super) fn look_again(&self, call: &Call, asked: &Cacheable) -> Option<Given> {
        // The chance with which none is to be made anew.
        let found = || self.cache.look(&asked.key, asked.max_age, 0.0, Instant::now());
        match (!asked.refreshes).then(found) {
            Some(Look::Hit(kept)) => self.given(call, *kept, None),
            Some(Look::Miss(_)) | None => None,
        }
    }

    /// A kept answer as its caller wants it. Nothing where it cannot be read.
    fn given(&self, call: &Call, kept: Kept, similarity: Option<f64>) -> Option<Given> {
        let body = match kept.head.form {
            Form::Vectors => kept.said.clone(),
            Form::Completion => {
                let reuse = if similarity.is_some() { Reuse::Semantic } else { Reuse::Exact };
                replay::write(call, &kept, reuse, self.ledger.unix_seconds())?
            }
        };
        Some(Given { head: kept.head, body, similarity })
    }

    /// An answer past its time, for a call that takes one.
    pub(super) async fn stale(&self, call: &Call) -> Option<Box<Stale>> {
        let (key, since) = call.stale?;
        let kept = self.cache.stale(&key, since).await?;
        let Given { head, body, .. } = self.given(call, kept, None)?;
        Some(Box::new(Stale { body, age: self.cache.age(&head), head, similarity: None }))
    }

    /// The answer that would have been given but for an audit.
    pub(super) fn held_back(&self, call: &Call) -> Option<Box<Stale>> {
        let Neighbour { kept, similarity, .. } = call.held_back.as_deref()?;
        let similarity = Some(*similarity);
        let Given { head, body, .. } = self.given(call, kept.clone(), similarity)?;
        Some(Box::new(Stale { body, age: self.cache.age(&head), head, similarity }))
    }

    /// Answers a call with what is kept.
    pub(super) fn replay(
        &self,
        call: &Call,
        asked: &Cacheable,
        given: Given,
        mut account: Account,
    ) -> Answer {
        let Given { head, body, similarity } = given;
        let metrics = &self.ledger.metrics().cache;
        if let (Some(_), Some(meant)) = (similarity, &asked.meant) {
            self.meanings.count(&meant.domain, |counts| {
                counts.hits += 1;
                counts.saved = counts.saved + head.cost;
            });
        } else {
            metrics.looked("exact");
        }
        metrics.saved(head.cost.0);
        self.cache.count(&asked.route.name, Some(head.cost));
        account.on_route(&asked.route);
        let served = account.replay(&head, FromCache { age: self.cache.age(&head), similarity });
        match call.envelope.stream {
            true => AnswerStream::of_bytes(body, served),
            false => Answer::Whole(body, served),
        }
    }

    /// Keeps the answer to a call when it is complete.
    pub(super) fn keeping(
        &self,
        call: &Call,
        mut asked: Cacheable,
        account: &Account,
    ) -> Box<Keeping> {
        if let Some(meant) = &mut asked.meant {
            meant.on_asked();
        }
        let owner = Owner {
            team: call.caller.team.as_ref().map(|team| team.id.clone()),
            caller: call.caller.id.clone(),
            route: asked.route.name.clone(),
            prompt: None,
            tags: account.tags().to_vec(),
        };
        let max_answer = asked.settings.max_answer;
        let gatherer = call.envelope.stream.then(|| Gatherer::new(call.dialect, max_answer));
        Box::new(Keeping {
            cache: self.cache.clone(),
            meanings: self.meanings.clone(),
            ledger: Arc::clone(&self.ledger),
            asked,
            kind: call.kind,
            owner,
            gatherer,
        })
    }
}

// === impl Cacheable ===

impl Cacheable {
    /// Where to look for an answer past its time, if the call would take one.
    pub(super) fn stale(&self, call: &Call) -> Option<(Key, Mark)> {
        let is_kept = !self.settings.stale_for.is_zero();
        (is_kept && call.cache.takes_stale()).then_some((self.key, self.since))
    }

    /// Whether another's answer to the same request will do, or this one's for others.
    pub(super) fn may_be_shared(&self) -> bool {
        self.reads
    }

    /// What makes it the same as another.
    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// When it came, seen from those who purge.
    pub(super) fn since(&self) -> Mark {
        self.since
    }

    pub(super) fn route(&self) -> &Arc<Route> {
        &self.route
    }

    pub(super) fn settings(&self) -> &Arc<RouteCache> {
        &self.settings
    }

    /// The oldest answer that will do.
    pub(super) fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    /// The answer that would be given but for an audit.
    pub(super) fn take_held_back(&mut self) -> Option<Box<Neighbour>> {
        self.meant.as_mut()?.held_back.take()
    }

    pub(super) fn set_meant(&mut self, meant: Box<Meant>) {
        self.meant = Some(meant);
    }

    fn of(
        call: &Call,
        route: Arc<Route>,
        settings: Arc<RouteCache>,
        cache: &Cache,
    ) -> Result<Self, Bypass> {
        call.cache.check()?;
        let body = call.envelope.body();
        if body.len() > MAX_BODY_BYTES {
            return Err(Bypass::TooLarge);
        }
        let temperature = match call.kind {
            EndpointKind::Chat | EndpointKind::Messages | EndpointKind::Completions => {
                let chat = prepare::decode(call).map_err(|_| Bypass::Unreadable)?;
                policy::may_ask(&chat, &settings.settings)?;
                chat.sampling.temperature
            }
            // The same text has the same vector.
            EndpointKind::Embeddings => Some(0.0),
            EndpointKind::CountTokens => return Err(Bypass::Off),
        };
        let key = with_question(call, &settings, Key::of).ok_or(Bypass::Unreadable)?;
        Ok(Self {
            key,
            ttl: settings.settings.ttl(temperature),
            since: cache.mark(),
            asked: Instant::now(),
            reads: !call.cache.no_cache,
            refreshes: false,
            max_age: call.cache.max_age,
            meant: None,
            route,
            settings,
        })
    }

    /// Whether an answer to other words will do.
    fn is_of_meaning(&self, call: &Call) -> bool {
        let is_conversation = match call.kind {
            EndpointKind::Chat | EndpointKind::Messages => true,
            EndpointKind::Completions | EndpointKind::Embeddings | EndpointKind::CountTokens => {
                false
            }
        };
        let wishes = match call.cache.mode {
            None | Some(CacheMode::Semantic) => true,
            Some(CacheMode::Exact | CacheMode::Off) => false,
        };
        // What is to be made anew would be found here as well.
        let settings = &self.settings.settings;
        settings.semantic && is_conversation && wishes && self.reads && !self.refreshes
    }
}

/// What a call asks, and all that shapes its answer.
pub(super) fn with_question<T>(
    call: &Call,
    cache: &RouteCache,
    then: impl FnOnce(&Question<'_>) -> T,
) -> T {
    let scope = cache.settings.scope;
    let user = user_of(call, scope);
    let mut headers: Vec<(&str, &[u8])> = call
        .forwarded
        .iter()
        .filter(|(name, _)| !SHAPELESS_HEADERS.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    headers.sort_unstable();
    then(&Question {
        tenant: tenant(call, scope, &user),
        route: &cache.identity,
        prompt: None,
        endpoint: call.kind.as_str(),
        dialect: call.dialect,
        headers: &headers,
        body: call.envelope.body(),
    })
}

/// A kept answer for a call that nobody answered, as its caller gets it: one past its time, or one that
/// was proven and held back for an audit.
#[derive(Debug)]
pub(super) struct Stale {
    pub(super) body: Bytes,
    pub(super) head: Head,
    pub(super) age: Duration,
    /// Of an answer to other words, which is not past its time.
    pub(super) similarity: Option<f64>,
}

/// Who shares the answer to a call.
fn tenant<'a>(call: &'a Call, scope: CacheScope, user: &'a [u8]) -> Tenant<'a> {
    let caller: &CallerId = &call.caller.id;
    match (scope, &call.caller.team) {
        (CacheScope::Team, Some(team)) => Tenant::Team(&team.id),
        (CacheScope::Team, None) | (CacheScope::Caller, _) => Tenant::Caller(caller),
        (CacheScope::User, _) => Tenant::User(caller, user),
    }
}

/// Who is behind a call, in all the words in which that may be said.
fn user_of(call: &Call, scope: CacheScope) -> Vec<u8> {
    if scope != CacheScope::User {
        return Vec::new();
    }
    let said = ["user", "safety_identifier", "metadata"].map(|name| call.envelope.raw(name));
    let sticky = call.sticky.as_deref().map(str::as_bytes);
    // Neither a header nor JSON holds this byte.
    [sticky].iter().chain(&said).map(|part| part.unwrap_or_default()).collect::<Vec<_>>().join(&0)
}

// === impl Keeping ===

impl Keeping {
    /// Takes what the caller of a stream gets next.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        if let Some(gatherer) = &mut self.gatherer {
            gatherer.push(bytes.clone());
        }
    }

    /// Keeps a whole answer, as the caller gets it.
    pub(super) fn whole(
        mut self,
        call: &Call,
        body: &Bytes,
        served: &Served,
        usage: Option<Usage>,
    ) {
        if self.kind == EndpointKind::Embeddings {
            let kept = self.vectors(body, served);
            return self.count(kept);
        }
        let completion = if body.len() > self.max_wire_bytes() {
            Err(Unkept::TooLarge)
        } else {
            read_whole(call, body).map_err(|_| Unkept::Unreadable)
        };
        let kept = completion.and_then(|said| self.keep(said, served, usage, false));
        self.count(kept);
    }

    /// Keeps a stream that the caller has got to its end.
    pub(super) fn streamed(mut self, served: &Served, usage: Option<Usage>, is_spliced: bool) {
        let gathered = match self.gatherer.take() {
            None => Err(Unkept::Unreadable),
            Some(gatherer) => gatherer.finish().map_err(|missed| match missed {
                Missed::TooLarge => Unkept::TooLarge,
                Missed::Broken => Unkept::Unreadable,
            }),
        };
        let kept = gathered.and_then(|said| self.keep(said, served, usage, is_spliced));
        self.count(kept);
    }

    fn keep(
        &mut self,
        mut completion: Completion,
        served: &Served,
        usage: Option<Usage>,
        is_spliced: bool,
    ) -> Result<(), Unkept> {
        let head = self.head(served, std::mem::take(&mut completion.model))?;
        self.cache.saw_model(&head.target, &head.reported);
        completion.usage = usage.or(completion.usage);
        let degradation = served.degradation;
        let answered = Answered { completion: &completion, degradation, is_spliced };
        let may = policy::may_keep(answered, &self.asked.settings.settings);
        let mut meant = self.asked.meant.take();
        if let Some(meant) = &mut meant {
            meant.compare(&completion, may);
        }
        may?;
        // Each repetition has its own.
        completion.id = String::new();
        completion.created = 0;
        completion.model = head.reported.clone();
        let kept = Kept::completion(head, &completion).ok_or(Unkept::Unreadable)?;
        self.put(kept.clone())?;
        meant.map_or(Ok(()), |meant| {
            let ttl = self.asked.settings.settings.semantic_ttl();
            meant.keep(&self.meanings, kept, ttl, self.asked.since)
        })
    }

    fn vectors(&self, body: &Bytes, served: &Served) -> Result<(), Unkept> {
        #[derive(serde::Deserialize)]
        struct Named {
            model: Option<String>,
        }
        if body.len() > self.asked.settings.max_answer {
            return Err(Unkept::TooLarge);
        }
        let named: Named = serde_json::from_slice(body).map_err(|_| Unkept::Unreadable)?;
        let head = self.head(served, named.model.unwrap_or_default())?;
        self.cache.saw_model(&head.target, &head.reported);
        if served.degradation != 0 {
            return Err(Unkept::Degraded);
        }
        self.put(Kept::vectors(head, body))
    }

    fn put(&self, kept: Kept) -> Result<(), Unkept> {
        if kept.said.len() > self.asked.settings.max_answer {
            return Err(Unkept::TooLarge);
        }
        self.cache.keep(self.asked.key, kept, self.asked.since, Instant::now())
    }

    fn head(&self, served: &Served, reported: String) -> Result<Head, Unkept> {
        // Without a target they are the gateway's own words.
        let by = served.by.as_ref().ok_or(Unkept::Degraded)?;
        Ok(Head {
            form: Form::Completion,
            target: without_credential(by),
            reported,
            cost: served.cost.unwrap_or_default(),
            dropped: served.dropped.0.clone(),
            made_at_ms: self.cache.unix_ms(),
            ttl: self.asked.ttl,
            stale_for: self.asked.settings.stale_for,
            took: self.asked.asked.elapsed(),
            owner: self.owner.clone(),
        })
    }

    /// A body on the wire says a little more than what is kept of it.
    fn max_wire_bytes(&self) -> usize {
        self.asked.settings.max_answer.saturating_mul(2)
    }

    fn count(&self, kept: Result<(), Unkept>) {
        let metrics = &self.ledger.metrics().cache;
        match kept {
            Ok(()) => metrics.kept.inc(),
            Err(unkept) => metrics.not_kept(unkept.as_str()),
        }
    }
}

/// A target, whichever of its provider's credentials was used.
pub(super) fn without_credential(target: &TargetId) -> TargetId {
    match target.as_str().split_once('#') {
        Some((name, _)) => TargetId::new(name),
        None => target.clone(),
    }
}

/// The provider and the model of a target.
pub(super) fn parts_of(target: &TargetId) -> Option<(ProviderId, crate::ids::ModelName)> {
    let (provider, model) = target.as_str().split_once('/')?;
    Some((ProviderId::new(provider), crate::ids::ModelName::new(model)))
}

/// How an answer from the cache came about, for the reply's headers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FromCache {
    /// How old it is.
    pub age: Duration,
    /// The cosine of the question and the one it was given to, where they are in other words.
    pub similarity: Option<f64>,
}

impl FromCache {
    /// What it cost: nothing.
    pub(super) const COST: MicroUsd = MicroUsd(0);

    /// Which cache it was.
    pub const fn reuse(&self) -> Reuse {
        match self.similarity {
            None => Reuse::Exact,
            Some(_) => Reuse::Semantic,
        }
    }
}
