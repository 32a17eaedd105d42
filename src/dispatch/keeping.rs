//! Keeps answers on their way to their callers, once they are complete.

use std::sync::Arc;

use bytes::Bytes;

use super::cached::{Cacheable, without_credential};
use super::tap::{Gatherer, Missed, read_whole};
use super::{Account, Call, Lane, Ledger, Served};
use crate::cache::{Answered, Cache, Form, Head, Kept, Owner, Unkept, policy};
use crate::chat::{Choice, Completion, FinishReason, Part, Usage};
use crate::clock::Instant;
use crate::journal::EndpointKind;
use crate::meaning::Meanings;

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

impl Lane {
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
            prompt: call.prompted.as_ref().map(|prompted| prompted.prompt.name.to_string()),
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

// === impl Keeping ===

impl Keeping {
    /// Takes what the caller of a stream gets next.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        if let Some(gatherer) = &mut self.gatherer {
            gatherer.push(bytes);
        }
    }

    /// Keeps a whole answer, as the caller gets it. `said` is what the provider said, where that
    /// was read: what the caller's wire carries all of need not be read again.
    pub(super) fn whole(
        mut self,
        call: &Call,
        (body, said): (&Bytes, Option<Box<Completion>>),
        served: &Served,
        usage: Option<Usage>,
    ) {
        if self.kind == EndpointKind::Embeddings {
            let kept = self.vectors(body, served);
            return self.count(kept);
        }
        let is_chat = self.kind != EndpointKind::Completions;
        let completion = match said.filter(|said| is_chat && is_plain(said)) {
            _ if body.len() > self.max_wire_bytes() => Err(Unkept::TooLarge),
            Some(said) => Ok(*said),
            None => read_whole(call, body).map_err(|_| Unkept::Unreadable),
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

/// Whether every wire carries all that was said, so that it is the same when it is read back.
fn is_plain(said: &Completion) -> bool {
    let is_text = |part: &Part| matches!(part, Part::Text { opaque: None, .. });
    let is_told = |choice: &Choice| {
        choice.finish == Some(FinishReason::Stop) && choice.parts.iter().all(is_text)
    };
    said.extra.is_empty() && !said.model.is_empty() && said.choices.iter().all(is_told)
}
