//! Tests of the cache: its times, its size, purges and models that are replaced.

use super::*;
use crate::chat::{Choice, Completion, FinishReason, Part};
use crate::clock::FixedWallClock;
use crate::dialect::Dialect;
use crate::ids::{CallerId, ModelName, ProviderId};
use crate::units::ByteCount;

fn cache(max_memory: u64) -> Cache {
    let settings = CacheSettings { max_memory: ByteCount(max_memory), ..CacheSettings::default() };
    Cache::new(&settings, Arc::new(FixedWallClock(1_000_000)))
}

fn key(number: u32) -> Key {
    let (provider, model) = (ProviderId::new("p"), ModelName::new("m"));
    let route = RouteIdentity::of(&RouteName::new("r"), [(0, &provider, &model)]);
    let body = format!("{{\"n\":{number}}}");
    let question = Question {
        tenant: Tenant::Caller(&CallerId::anonymous()),
        route: &route,
        prompt: None,
        endpoint: "chat",
        dialect: Dialect::OpenAiChat,
        headers: &[],
        body: body.as_bytes(),
    };
    Key::of(&question).unwrap()
}

fn kept(text: &str) -> Kept {
    let head = Head {
        form: Form::Completion,
        target: TargetId::new("p/m"),
        reported: "m-1".to_owned(),
        cost: MicroUsd(5),
        dropped: Vec::new(),
        made_at_ms: 990_000,
        ttl: Duration::from_secs(70),
        stale_for: Duration::from_secs(30),
        took: Duration::from_secs(1),
        owner: Owner {
            team: None,
            caller: CallerId::new("c"),
            route: RouteName::new("r"),
            prompt: None,
            tags: Vec::new(),
        },
    };
    let choice = Choice {
        parts: vec![Part::text(text)],
        finish: Some(FinishReason::Stop),
        ..Choice::default()
    };
    let completion = Completion { choices: vec![choice], ..Completion::default() };
    Kept::completion(head, &completion).unwrap()
}

fn found(cache: &Cache, key: &Key) -> Option<Kept> {
    match cache.look(key, None, 0.0, Instant::now()) {
        Look::Hit(kept) => Some(*kept),
        Look::Miss(_) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_found_until_its_time_is_over() {
    let cache = cache(1_000_000);
    cache.keep(key(1), kept("Paris."), cache.mark(), Instant::now()).unwrap();
    let hit = found(&cache, &key(1)).expect("a hit");
    let completion = hit.read().expect("a completion");
    assert_eq!(completion.choices[0].parts, [Part::text("Paris.")]);
    assert_eq!(cache.age(&hit.head), Duration::from_secs(10));
    assert!(matches!(cache.look(&key(2), None, 0.0, Instant::now()), Look::Miss(Miss::Absent)));
    let most = Some(Duration::from_secs(9));
    assert!(matches!(cache.look(&key(1), most, 0.0, Instant::now()), Look::Miss(Miss::TooOld)));
    tokio::time::advance(Duration::from_millis(59_999)).await;
    assert!(found(&cache, &key(1)).is_some());
    let early = cache.look(&key(1), None, 0.9, Instant::now());
    assert!(matches!(early, Look::Miss(Miss::Early)), "it took a second, and has a millisecond");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(found(&cache, &key(1)).is_none());
    let stale = cache.stale(&key(1), cache.mark()).await.expect("for bad times");
    assert_eq!(stale.read(), hit.read());
    tokio::time::advance(Duration::from_secs(30)).await;
    assert!(cache.stale(&key(1), cache.mark()).await.is_none(), "its time is over for good");
}

#[test]
fn what_another_model_of_the_same_name_said_is_not_given_again() {
    let cache = cache(1_000_000);
    let (target, now) = (TargetId::new("p/m"), Instant::now());
    cache.saw_model(&target, "m-1");
    cache.keep(key(1), kept("Paris."), cache.mark(), now).unwrap();
    assert!(found(&cache, &key(1)).is_some());
    cache.saw_model(&target, "");
    assert!(found(&cache, &key(1)).is_some(), "nothing was reported");
    cache.saw_model(&target, "m-2");
    assert!(matches!(cache.look(&key(1), None, 0.0, now), Look::Miss(Miss::OtherModel)));
    assert!(matches!(cache.look(&key(1), None, 0.0, now), Look::Miss(Miss::Absent)), "it is gone");
}

#[test]
fn a_purge_forgets_what_it_is_about_also_where_it_is_only_being_made() {
    let cache = cache(1_000_000);
    let before = cache.mark();
    cache.keep(key(1), kept("one"), cache.mark(), Instant::now()).unwrap();
    let other = Purge { route: Some("other".to_owned()), ..Purge::default() };
    assert_eq!(cache.purge(&other), 0);
    assert_eq!(cache.keep(key(2), kept("two"), before, Instant::now()), Ok(()));
    let of_caller = Purge { caller: Some("c".to_owned()), ..Purge::default() };
    assert_eq!(cache.purge(&of_caller), 2);
    assert!(found(&cache, &key(1)).is_none() && found(&cache, &key(2)).is_none());
    let late = cache.keep(key(3), kept("three"), before, Instant::now());
    assert_eq!(late, Err(Unkept::Purged));
    assert_eq!(cache.keep(key(3), kept("three"), cache.mark(), Instant::now()), Ok(()));
    // Of purges that are forgotten nobody knows what they were about.
    let long_before = cache.mark();
    (0..=purge::MOST_PURGES).for_each(|_| _ = cache.purge(&other));
    let late = cache.keep(key(4), kept("four"), long_before, Instant::now());
    assert_eq!(late, Err(Unkept::Purged));
}

#[test]
fn a_scan_of_many_keys_never_takes_more_than_there_is_room_for() {
    let cache = cache(1_000_000);
    let long = "x".repeat(5_000);
    for number in 0..3_000 {
        let text = long.get(..(number as usize * 37) % 5_000).unwrap();
        cache.keep(key(number), kept(text), cache.mark(), Instant::now()).unwrap();
        let fill = cache.fill();
        assert!(fill.bytes <= fill.max_bytes, "{fill:?}");
    }
    let fill = cache.fill();
    // An eighth is for answers as they were written, and nobody has asked for one.
    assert!(fill.entries > 100 && fill.bytes > 750_000, "it is used: {fill:?}");
}

#[test]
fn what_is_asked_for_often_outlives_a_scan() {
    let cache = cache(200_000);
    for _ in 0..20 {
        cache.keep(key(0), kept("often"), cache.mark(), Instant::now()).unwrap();
        assert!(found(&cache, &key(0)).is_some());
    }
    for number in 1..5_000 {
        _ = found(&cache, &key(number));
        cache.keep(key(number), kept("once"), cache.mark(), Instant::now()).unwrap();
        if number % 50 == 0 {
            assert!(found(&cache, &key(0)).is_some(), "after {number}");
        }
    }
}

#[test]
fn figures_are_kept_by_route() {
    let cache = cache(1_000_000);
    let (one, two) = (RouteName::new("one"), RouteName::new("two"));
    cache.count(&two, None);
    cache.count(&one, Some(MicroUsd(7)));
    cache.count(&one, Some(MicroUsd(5)));
    let figures = cache.figures();
    let of = |route: &str, hits, misses, saved| RouteFigures {
        route: route.to_owned(),
        hits,
        misses,
        saved: MicroUsd(saved),
    };
    assert_eq!(figures, [of("one", 2, 0, 12), of("two", 0, 1, 0)]);
}
