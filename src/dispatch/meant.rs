//! Answers that were given to other words: asked for after the same words were not found, compared
//! with the fresh answer where it is not known whether they would have done, and learnt from.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::cached::{Cacheable, with_question};
use super::{Call, Lane};
use crate::cache::{CacheScope, Head, Kept, Mark, RouteCache, Unkept};
use crate::chat::{Completion, Part};
use crate::clock::Instant;
use crate::embed::{EmbedError, Embedding};
use crate::meaning::{Domain, Found, Meanings, Neighbour, Query, Terms, Trial};
use crate::semantic::threshold;

/// What a call asks, and what was found of it.
#[derive(Debug)]
pub(super) struct Meant {
    pub(super) domain: Arc<Domain>,
    query: Query,
    vector: Embedding,
    space: Arc<str>,
    /// What its answer is to be compared with.
    against: Option<Against>,
    /// The same, where it was proven: for the case that nobody answers.
    pub(super) held_back: Option<Box<HeldBack>>,
}

/// An answer that was proven and held back for an audit.
#[derive(Debug)]
pub struct HeldBack {
    pub(super) domain: Arc<Domain>,
    pub(super) neighbour: Box<Neighbour>,
    pub(super) since: Mark,
}

/// A neighbour that the fresh answer is to be compared with. Where that does not come about
/// although somebody was asked for one it is counted.
#[derive(Debug)]
struct Against {
    meanings: Meanings,
    /// None once it was compared.
    trial: Option<Trial>,
    /// Whether this request asks upstream, and not another one that it follows.
    is_asked: bool,
}

impl Lane {
    /// The answer to other words that will do for a call, if there is one, and how similar both
    /// are; none where they turn out to be the same. Whatever goes wrong is counted, and the call
    /// is answered as if there were none. It takes no longer than `within`.
    pub(super) async fn look_for_meaning(
        &self,
        call: &Call,
        asked: &mut Cacheable,
        within: Duration,
    ) -> Option<(Kept, Option<f64>)> {
        let metrics = &self.ledger.metrics().semantic;
        let settings = Arc::clone(asked.settings());
        let name = settings.settings.embedder.as_deref().unwrap_or_default();
        let Some(embedder) = self.meanings.embedder(name) else {
            // One that was added to the configuration since the start.
            metrics.looked("no_embedder");
            return None;
        };
        let space: Arc<str> = embedder.space().into();
        let query = match with_question(call, &settings, |question| Query::of(question, &space)) {
            Ok(query) => query,
            Err(unfit) => {
                metrics.looked(unfit.as_str());
                return None;
            }
        };
        let max_age = asked.max_age();
        let may = |kept: &Kept| self.cache.may_give(kept, max_age);
        if let Some(kept) = self.meanings.recall(&query, may, Instant::now()) {
            metrics.looked("same_words");
            return Some((kept, None));
        }
        let domain = domain_of(call, asked, &settings, &space);
        let vector = embedder.embed_one(query.home(), query.text());
        let vector = tokio::time::timeout(within, vector);
        // Where the gateway stops it is a miss; whoever serves it then refuses it.
        let vector = self.stop.unless(pin!(vector)).await?.unwrap_or(Err(EmbedError::Busy));
        let vector = match vector {
            Ok((vector, cost)) => {
                self.meanings.count(&domain, |counts| counts.embedding = counts.embedding + cost);
                vector
            }
            Err(error) => {
                tracing::debug!(request.id = %call.request_id, "no vector: {error}");
                metrics.looked(error.as_str());
                return None;
            }
        };
        let found = self.meanings.look(
            &domain,
            (&query, &vector),
            may,
            (self.fleet.chance(), settings.settings.shadow),
            Instant::now(),
        );
        metrics.looked(found.as_str());
        let (hit, against, held_back) = match found {
            Found::Hit(neighbour) => (Some(neighbour), None, None),
            Found::Compare { neighbour, is_audit, may_be_given } => {
                let against = Against::of(&self.meanings, (&domain, &query), &neighbour, is_audit);
                let held_back = may_be_given.then(|| {
                    let domain = Arc::clone(&domain);
                    Box::new(HeldBack { domain, neighbour, since: asked.since() })
                });
                (None, Some(against), held_back)
            }
            Found::Below | Found::Differs(_) | Found::Nothing => (None, None, None),
        };
        asked.set_meant(Box::new(Meant { domain, query, vector, space, against, held_back }));
        hit.map(|neighbour| (neighbour.kept, Some(neighbour.similarity)))
    }
}

/// What is learnt by a call.
fn domain_of(call: &Call, asked: &Cacheable, cache: &RouteCache, space: &str) -> Arc<Domain> {
    let RouteCache { settings, identity, .. } = cache;
    // Users of one key ask alike: their answers are apart, what is learnt is not.
    let tenant = match (settings.scope, &call.caller.team) {
        (CacheScope::Team, Some(team)) => format!("team {}", team.id),
        (CacheScope::Team, None) | (CacheScope::Caller | CacheScope::User, _) => {
            format!("key {}", call.caller.id)
        }
    };
    Domain::of(Terms {
        route: asked.route().name.clone(),
        tenant,
        space: space.to_owned(),
        judge: settings.judge.clone().unwrap_or_default(),
        identity: format!("{identity:?}"),
        settings: threshold::Settings { delta: settings.max_error, ..Default::default() },
    })
}

// === impl Meant ===

impl Meant {
    /// Notes that a fresh answer is asked for.
    pub(super) fn on_asked(&mut self) {
        if let Some(against) = &mut self.against {
            against.is_asked = true;
        }
    }

    /// Has the fresh answer compared with the one that was found, where there is one. `may` is
    /// whether the fresh one may be kept.
    pub(super) fn compare(&mut self, fresh: &Completion, may: Result<(), Unkept>) {
        let Some(mut against) = self.against.take() else { return };
        match may {
            Ok(()) => against.with(text_of(fresh).unwrap_or_default()),
            // The model does something else now than it did for the other words. Left out, such
            // questions would be given answers to and never be learnt of.
            Err(
                Unkept::ToolCall
                | Unkept::Refusal
                | Unkept::Unfinished
                | Unkept::Empty
                | Unkept::ForeignParts
                | Unkept::SeveralChoices
                | Unkept::TimeSensitive
                | Unkept::TooLarge,
            ) => against.differs(),
            // That says nothing of the question.
            Err(Unkept::Degraded | Unkept::Spliced | Unkept::Unreadable | Unkept::Purged) => {
                drop(against);
            }
        }
    }

    /// Keeps an answer for those who ask the same in other words.
    ///
    /// # Errors
    ///
    /// [`Unkept::Purged`] where what it belongs to was purged meanwhile.
    pub(super) fn keep(
        self,
        meanings: &Meanings,
        kept: Kept,
        ttl: Duration,
        since: Mark,
    ) -> Result<(), Unkept> {
        let Self { query, vector, space, domain: _, against: _, held_back: _ } = self;
        let kept = Kept { head: Head { ttl, stale_for: Duration::ZERO, ..kept.head }, ..kept };
        meanings.keep((query, &space), &vector, kept, since, Instant::now())
    }
}

// === impl Against ===

impl Against {
    /// What has been given to other words, against what is still to come.
    fn of(
        meanings: &Meanings,
        (domain, query): (&Arc<Domain>, &Query),
        neighbour: &Neighbour,
        is_audit: bool,
    ) -> Self {
        let kept = neighbour.kept.read().and_then(|completion| text_of(&completion));
        let trial = Trial {
            domain: Arc::clone(domain),
            question: Arc::clone(query.text()),
            kept: kept.unwrap_or_default(),
            fresh: String::new(),
            similarity: neighbour.similarity,
            is_audit,
        };
        Self { meanings: meanings.clone(), trial: Some(trial), is_asked: false }
    }

    /// Has it compared with a fresh answer.
    fn with(&mut self, fresh: String) {
        if let Some(trial) = self.trial.take() {
            self.meanings.compare(Trial { fresh, ..trial });
        }
    }

    /// It would not have done.
    fn differs(&mut self) {
        if let Some(trial) = self.trial.take() {
            self.meanings.learn(&trial, false);
        }
    }
}

impl Drop for Against {
    fn drop(&mut self) {
        if let Some(trial) = self.trial.as_ref().filter(|_| self.is_asked) {
            self.meanings.miss(trial);
        }
    }
}

/// What an answer says, if it says anything in words.
fn text_of(completion: &Completion) -> Option<String> {
    let [choice] = completion.choices.as_slice() else { return None };
    let texts = choice.parts.iter().filter_map(|part| match part {
        Part::Text { text, .. } => Some(text.as_str()),
        Part::Media(_)
        | Part::ToolCall { .. }
        | Part::ToolResult { .. }
        | Part::Reasoning { .. }
        | Part::Refusal { .. }
        | Part::Other { .. } => None,
    });
    Some(texts.collect())
}
