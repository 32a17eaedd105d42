//! What tests of meanings need, and tests of how answers come to a judge.

use std::time::Duration;

use super::*;
use crate::cache::{Form, Head, Owner, Question, RouteIdentity, Tenant};
use crate::clock::FixedWallClock;
use crate::dialect::Dialect;
use crate::ids::{CallerId, ModelName, ProviderId, RouteName, TargetId};
use crate::semantic::threshold::{self, Mode};
use crate::units::{ByteCount, MicroUsd};

/// What the clock of these tests says.
pub(super) const NOW_MS: u64 = 1_000_000;

pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// Asked by a caller, all else being usual.
pub(super) fn asked(caller: &str, body: &[u8]) -> Result<Query, Unfit> {
    let (provider, model) = (ProviderId::new("p"), ModelName::new("m"));
    let question = Question {
        tenant: Tenant::Caller(&CallerId::new(caller)),
        route: &RouteIdentity::of(&RouteName::new("faq"), [(0, &provider, &model)]),
        prompt: None,
        endpoint: "chat",
        dialect: Dialect::OpenAiChat,
        headers: &[],
        body,
    };
    Query::of(&question, "test-2")
}

/// These words, asked by a caller.
pub(super) fn words(caller: &str, text: &str) -> Query {
    let body = serde_json::json!({"messages": [{"role": "user", "content": text}]});
    asked(caller, body.to_string().as_bytes()).unwrap()
}

pub(super) fn owner(caller: &str) -> Owner {
    Owner {
        team: None,
        caller: CallerId::new(caller),
        route: RouteName::new("faq"),
        prompt: None,
        tags: Vec::new(),
    }
}

pub(super) fn kept(owner: Owner, said: &str) -> Kept {
    let head = Head {
        form: Form::Completion,
        target: TargetId::new("p/m"),
        reported: "m-1".to_owned(),
        cost: MicroUsd(5),
        dropped: Vec::new(),
        made_at_ms: NOW_MS,
        ttl: HOUR,
        stale_for: Duration::ZERO,
        took: Duration::from_secs(1),
        owner,
    };
    Kept { head, said: bytes::Bytes::copy_from_slice(said.as_bytes()) }
}

/// A vector that is so near to the one of 1.
pub(super) fn at(cosine: f32) -> Embedding {
    Embedding::towards(vec![cosine, (1.0 - cosine * cosine).max(0.0).sqrt()]).unwrap()
}

pub(super) fn meanings() -> Meanings {
    let settings =
        CacheSettings { max_semantic_memory: ByteCount(50_000_000), ..CacheSettings::default() };
    Meanings::new(&settings, Cache::new(&settings, Arc::new(FixedWallClock(NOW_MS))))
}

pub(super) fn domain(tenant: &str) -> Arc<Domain> {
    Domain::of(Terms {
        route: RouteName::new("faq"),
        tenant: tenant.to_owned(),
        space: "test-2".to_owned(),
        judge: "judge".to_owned(),
        identity: "00".to_owned(),
        settings: threshold::Settings::default(),
    })
}

fn trial(domain: &Arc<Domain>, kept: &str, fresh: &str) -> Trial {
    Trial {
        domain: Arc::clone(domain),
        question: "What is a hash map?".into(),
        kept: kept.to_owned(),
        fresh: fresh.to_owned(),
        similarity: 0.95,
        is_audit: false,
    }
}

#[test]
fn while_the_judge_says_nothing_equal_answers_prove_nothing() {
    let (meanings, domain) = (meanings(), domain("key a"));
    // Of two pairs one is the same to the letter; of the other nobody ever knows.
    for _ in 0..2_000 {
        meanings.learn_same(&trial(&domain, "a", "a"));
        meanings.miss(&trial(&domain, "a", "b"));
    }
    let [figures] = meanings.figures().try_into().unwrap();
    assert_eq!((figures.mode, figures.labels), (Mode::Shadow, 1), "{figures:?}");
    assert_eq!(figures.counts.unjudged, 3_999);
    // Since it says something they count again.
    meanings.learn(&trial(&domain, "a", "b"), true);
    for _ in 0..500 {
        meanings.learn_same(&trial(&domain, "a", "a"));
    }
    let [figures] = meanings.figures().try_into().unwrap();
    assert!(matches!(figures.mode, Mode::Serve { .. }), "{figures:?}");
}

#[test]
fn a_model_that_always_answers_alike_is_learnt_of_without_a_judge() {
    let (meanings, domain) = (meanings(), domain("key a"));
    for _ in 0..600 {
        meanings.learn_same(&trial(&domain, "a", "a"));
        // A provider that fails says nothing of the judge.
        meanings.miss(&trial(&domain, "a", ""));
    }
    let [figures] = meanings.figures().try_into().unwrap();
    assert!(matches!(figures.mode, Mode::Serve { .. }), "{figures:?}");
}

#[test]
fn answers_without_words_are_not_taken_for_the_same() {
    let (meanings, domain) = (meanings(), domain("key a"));
    meanings.compare(trial(&domain, "", ""));
    meanings.compare(trial(&domain, "a", ""));
    meanings.compare(trial(&domain, "", "a"));
    let [figures] = meanings.figures().try_into().unwrap();
    assert_eq!((figures.counts.labelled, figures.counts.unjudged), (0, 3));
    assert!(meanings.trials().unwrap().try_recv().is_err(), "the judge is not asked");
}

#[test]
fn comparisons_beyond_the_line_are_counted_as_unjudged() {
    let (meanings, domain) = (meanings(), domain("key a"));
    for _ in 0..MOST_TRIALS + 7 {
        meanings.compare(trial(&domain, "a", "b"));
    }
    assert_eq!(meanings.figures()[0].counts.unjudged, 7);
    let mut waiting = meanings.trials().unwrap();
    assert!(meanings.trials().is_none(), "only one takes them");
    assert_eq!(std::iter::from_fn(|| waiting.try_recv().ok()).count(), MOST_TRIALS);
}

#[test]
fn what_a_purge_is_about_is_gone_and_does_not_come_back_from_before_it() {
    let meanings = meanings();
    let cache = meanings.core.cache.clone();
    let ask = |caller: &str| words(caller, "What is a hash map?");
    let keep = |caller: &str, since| {
        let kept = kept(owner(caller), "It maps.");
        meanings.keep((ask(caller), "test-2"), &at(1.0), kept, since, Instant::now())
    };
    let before = cache.mark();
    keep("ann", before).unwrap();
    keep("bob", before).unwrap();
    let purge = Purge { caller: Some("ann".to_owned()), ..Purge::default() };
    assert_eq!(cache.purge(&purge), 1);
    assert_eq!(meanings.fill().entries, 1);
    assert_eq!(keep("ann", before), Err(Unkept::Purged));
    keep("bob", before).unwrap();
    keep("ann", cache.mark()).unwrap();
    assert_eq!(meanings.fill().entries, 2);
}

#[test]
fn what_is_looked_for_is_given_only_where_it_is_proven() {
    let (meanings, domain, mark) = (meanings(), domain("key a"), Cache::mark);
    let (now, since) = (Instant::now(), mark(&meanings.core.cache));
    let kept = kept(owner("ann"), "It maps.");
    let query = words("ann", "What is a hash map?");
    meanings.keep((query, "test-2"), &at(1.0), kept, since, now).unwrap();
    let look = |text: &str, cosine: f32, only_shadow: bool| {
        let query = words("ann", text);
        let found =
            meanings.look(&domain, (&query, &at(cosine)), |_| true, (0.5, only_shadow), now);
        found.as_str()
    };
    assert_eq!(look("What's a hash map?", 0.97, false), "compared");
    for _ in 0..1_000 {
        meanings.learn(&trial(&domain, "a", "b"), true);
    }
    assert_eq!(look("What's a hash map?", 0.97, false), "hit");
    assert_eq!(look("What's a hash map?", 0.97, true), "below");
    assert_eq!(look("What's a hash map?", 0.90, false), "below");
    assert_eq!(look("What's a hash map?", 0.40, false), "miss");
    assert_eq!(look("What's a tree map?", 0.99, false), "differs");
}
