//! Asks the cache before anybody else is asked.
//!
//! A route without a cache costs one comparison. The cache is asked before a plan is made: an
//! answer that is kept is there also where no target is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::limit::Load;
use super::meant::{HeldBack, Meant};
use super::stream::AnswerStream;
use super::{Account, Answer, Call, Lane, prepare, replay};
use crate::cache::{
    Bypass, Cache, CacheMode, CacheScope, Fetch, Form, Head, Kept, Key, Look, Mark, Miss, Question,
    RouteCache, RouteCacheSettings, Tenant, policy,
};
use crate::clock::Instant;
use crate::config::Route;
use crate::dialect::{Dialect, PlainRequest};
use crate::ids::{CallerId, ProviderId, TargetId};
use crate::journal::{EndpointKind, Reuse};
use crate::meaning::Neighbour;
use crate::rejection::Rejection;
use crate::units::MicroUsd;

/// A call whose answer may be in the cache, or may be kept.
#[derive(Debug)]
pub(super) struct Cacheable {
    pub(super) key: Key,
    pub(super) route: Arc<Route>,
    pub(super) settings: Arc<RouteCache>,
    pub(super) ttl: Duration,
    pub(super) since: Mark,
    pub(super) asked: Instant,
    /// Whether an answer that is kept will do.
    reads: bool,
    /// Whether one is kept, and this request is the one that has it made anew.
    refreshes: bool,
    max_age: Option<Duration>,
    /// What it asks, where an answer to other words will do.
    pub(super) meant: Option<Box<Meant>>,
}

/// An answer that is kept, as its caller gets it.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) head: Head,
    pub(super) body: Bytes,
    pub(super) similarity: Option<f64>,
}

/// How an answer was found.
#[derive(Debug, Clone, Copy)]
enum Under<'a> {
    /// By the same words.
    Key(&'a Key),
    /// By what it means; how similar the words are, where they are others.
    Meaning(Option<f64>),
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

    /// The answer that is kept to the same words, if there is one.
    pub(super) async fn find(&self, call: &Call, asked: &mut Cacheable) -> Option<Given> {
        let kept = self.look(asked).await?;
        self.given(call, *kept, Under::Key(&asked.key))
    }

    /// The answer that is kept to words that mean the same, if there is one.
    ///
    /// The request is taken from its caller's limits before: who may ask no more is not to use the
    /// embedder, which all share. The time that it takes is the caller's.
    ///
    /// # Errors
    ///
    /// What the limits say.
    pub(super) async fn find_by_meaning(
        &self,
        call: &mut Call,
        asked: &mut Cacheable,
        account: &mut Account,
    ) -> Result<Option<Given>, Rejection> {
        self.take_limits(call, Load::NOTHING, account).await?;
        let total = asked.route.conduct.timeouts.total;
        let within = call.timeout.map_or(total, |timeout| timeout.min(total));
        let began = Instant::now();
        let found = self.look_for_meaning(call, asked, within).await;
        let given =
            found.and_then(|(kept, similarity)| self.given(call, kept, Under::Meaning(similarity)));
        if given.is_none() {
            // It is taken again with all that an answer needs.
            account.on_unshared();
            call.timeout = call.timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
        }
        Ok(given)
    }

    /// Counts a call for which nothing was kept.
    pub(super) fn count_miss(&self, asked: &Cacheable) {
        if asked.reads {
            self.cache.count(&asked.route.name, None);
        }
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
            Some(Look::Hit(kept)) => self.given(call, *kept, Under::Key(&asked.key)),
            Some(Look::Miss(_)) | None => None,
        }
    }

    /// A kept answer as its caller wants it. Nothing where it cannot be read.
    fn given(&self, call: &Call, kept: Kept, under: Under<'_>) -> Option<Given> {
        let body = match kept.head.form {
            Form::Vectors => kept.said.clone(),
            Form::Completion => {
                let now = self.ledger.unix_seconds();
                match under {
                    Under::Key(key) => {
                        let place = (&self.cache, key);
                        replay::write_again(call, place, &kept, Reuse::Exact, now)?
                    }
                    Under::Meaning(None) => replay::write(call, &kept, Reuse::Exact, now)?,
                    Under::Meaning(Some(_)) => replay::write(call, &kept, Reuse::Semantic, now)?,
                }
            }
        };
        let similarity = match under {
            Under::Key(_) => None,
            Under::Meaning(similarity) => similarity,
        };
        Some(Given { head: kept.head, body, similarity })
    }

    /// An answer past its time, for a call that takes one.
    pub(super) async fn stale(&self, call: &Call) -> Option<Box<Stale>> {
        let (key, since) = call.stale?;
        let kept = self.cache.stale(&key, since).await?;
        let Given { head, body, .. } = self.given(call, kept, Under::Key(&key))?;
        Some(Box::new(Stale { body, age: self.cache.age(&head), head, similarity: None }))
    }

    /// The answer that would have been given but for an audit.
    pub(super) fn held_back(&self, call: &Call) -> Option<Box<Stale>> {
        let HeldBack { domain, neighbour, since } = call.held_back.as_deref()?;
        let Neighbour { kept, similarity, .. } = &**neighbour;
        if self.cache.is_purged(*since, &kept.head.owner) || !self.cache.may_give(kept, None) {
            return None;
        }
        let similarity = Some(*similarity);
        let under = Under::Meaning(similarity);
        let Given { head, body, .. } = self.given(call, kept.clone(), under)?;
        self.meanings.count(domain, |counts| counts.hit(head.cost));
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
            self.meanings.count(&meant.domain, |counts| counts.hit(head.cost));
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
    pub(super) fn take_held_back(&mut self) -> Option<Box<HeldBack>> {
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
        if call.kind == EndpointKind::CountTokens {
            return Err(Bypass::Off);
        }
        let key = with_question(call, &settings, Key::of).ok_or(Bypass::Unreadable)?;
        let temperature = match call.kind {
            // The same text has the same vector.
            EndpointKind::Embeddings | EndpointKind::CountTokens => Some(0.0),
            // The policy looks at nothing that is not in the key, and has let one like it pass.
            // Reading the conversation costs as much as all the rest of a hit.
            EndpointKind::Chat | EndpointKind::Messages | EndpointKind::Completions
                if cache.holds(&key) =>
            {
                let temperature = call.envelope.raw("temperature");
                temperature.and_then(|raw| serde_json::from_slice(raw).ok())
            }
            EndpointKind::Chat | EndpointKind::Messages | EndpointKind::Completions => {
                may_ask(call, &settings.settings)?
            }
        };
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
    pub(super) fn is_of_meaning(&self, call: &Call) -> bool {
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

/// Whether the cache may be asked for the answer to a conversation, and the temperature of that.
fn may_ask(call: &Call, settings: &RouteCacheSettings) -> Result<Option<f64>, Bypass> {
    let is_chat = call.kind == EndpointKind::Chat && call.dialect == Dialect::OpenAiChat;
    if let Some(plain) = is_chat.then(|| PlainRequest::read(&call.envelope)).flatten() {
        policy::may_ask_texts(plain.texts(), plain.temperature, settings)?;
        return Ok(plain.temperature);
    }
    let chat = prepare::decode(call).map_err(|_| Bypass::Unreadable)?;
    policy::may_ask(&chat, settings)?;
    Ok(chat.sampling.temperature)
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
        prompt: call.prompted.as_ref().map(|prompted| &*prompted.prompt.name),
        endpoint: call.kind.as_str(),
        dialect: call.dialect,
        headers: &headers,
        body: call.envelope.body(),
    })
}

/// A kept answer for a call that nobody answered, as its caller gets it: one past its time, or one
/// that was proven and held back for an audit.
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
