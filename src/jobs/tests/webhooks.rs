//! Tests of the outbox.

use serde_json::Value;

use super::*;
use crate::jobs::outbox::{Attempted, Then};
use crate::webhook::signature::SigningSecret;

const DISABLE_AFTER_MS: u64 = 5 * 86_400_000;

fn hooked(url: &str, secret: Option<SigningSecret>) -> NewJob {
    let webhook = NewWebhook { receiver: url.parse().unwrap(), secret };
    NewJob { webhook: Some(webhook), ..new_job("key_alice") }
}

async fn take_webhooks(jobs: &Jobs) -> Vec<Outgoing> {
    jobs.take_webhooks(&mut Turns::default(), 100, "w", LEASE_MS).await.unwrap()
}

/// A job of which a webhook tells.
async fn ended(jobs: &Jobs, url: &str) -> Job {
    let job = submit(jobs, hooked(url, None)).await;
    for taken in take(jobs, "w").await {
        assert!(jobs.end(&taken.held, &success()).await.unwrap());
    }
    job
}

async fn attempt(jobs: &Jobs, outgoing: &Outgoing, status: u16, then: Then) {
    let attempted = Attempted { status: Some(status), error: None, then };
    assert!(jobs.attempted(outgoing, &attempted, DISABLE_AFTER_MS).await.unwrap());
}

#[tokio::test]
async fn the_end_of_a_job_and_its_webhook_are_written_together_and_the_id_stays() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let job = submit(&jobs, hooked("https://example.com/a", None)).await;
        assert!(take_webhooks(&jobs).await.is_empty(), "nothing has happened yet");
        let taken = take(&jobs, "w").await.pop().unwrap();
        assert!(jobs.end(&taken.held, &success()).await.unwrap());

        let outgoing = take_webhooks(&jobs).await.pop().unwrap();
        assert_eq!(outgoing.id, job.id.replace("job_", "msg_"));
        let said: Value = serde_json::from_str(&outgoing.body).unwrap();
        assert_eq!(said["type"], "job.succeeded");
        assert_eq!(said["data"]["id"], job.id.as_str());
        assert_eq!(said["data"]["metadata"]["k"], "v");
        assert_eq!(said["data"]["result_status"], 200);
        assert!(take_webhooks(&jobs).await.is_empty(), "somebody has it");

        let again = Then::Again { after_ms: 0, throttle_ms: None };
        attempt(&jobs, &outgoing, 500, again).await;
        let second = take_webhooks(&jobs).await.pop().unwrap();
        assert_eq!((&second.id, second.attempt), (&outgoing.id, 2));
        assert_eq!(second.body, outgoing.body);
        let late = Attempted { status: Some(200), error: None, then: Then::Delivered };
        assert!(!jobs.attempted(&outgoing, &late, DISABLE_AFTER_MS).await.unwrap());
        attempt(&jobs, &second, 204, Then::Delivered).await;
        let delivery = jobs.find(&alice(), &job.id).await.unwrap().unwrap().delivery.unwrap();
        assert_eq!((&*delivery.state, delivery.attempts), ("succeeded", 2));

        let receiver = jobs.receivers(None, 9).await.unwrap().pop().unwrap().id;
        let redelivered = jobs.redeliver(&receiver, &delivery.id).await.unwrap().unwrap();
        assert_eq!((&*redelivered.state, redelivered.attempts), ("queued", 0));
        assert_eq!(take_webhooks(&jobs).await.pop().unwrap().id, outgoing.id);
        assert!(jobs.redeliver(&receiver, "msg_none").await.unwrap().is_none());
        assert!(jobs.redeliver("whr_other", &delivery.id).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_receiver_has_one_secret_and_two_while_it_is_changed() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let url = "https://example.com/a";
        let first = jobs.submit(hooked(url, None), &many(), NOW_MS).await.unwrap();
        let old = first.secret.expect("made up, and shown");
        let second = jobs.submit(hooked(url, None), &many(), NOW_MS).await.unwrap();
        assert_eq!(second.secret, None, "shown once");
        assert_eq!(second.job.receiver, first.job.receiver);

        let new = SigningSecret::of(&[7; 32]);
        let now_ms = crate::clock::WallClock::unix_ms(&crate::clock::SystemWallClock);
        let third = jobs.submit(hooked(url, Some(new.clone())), &many(), now_ms).await.unwrap();
        assert_eq!((third.secret, &third.job.receiver), (None, &first.job.receiver));
        for taken in take(&jobs, "w").await {
            jobs.end(&taken.held, &success()).await.unwrap();
        }
        let to = take_webhooks(&jobs).await.pop().unwrap().to.unwrap();
        assert_eq!((&*to.url, &*to.secrets), (url, &[new.clone(), old][..]));

        execute(&place.store, "UPDATE webhook_receivers SET old_until_ms = 1").await;
        execute(&place.store, "UPDATE webhook_deliveries SET lease_until_ms = 0").await;
        assert_eq!(jobs.take_over_webhooks().await.unwrap(), 3);
        let to = take_webhooks(&jobs).await.pop().unwrap().to.unwrap();
        assert_eq!(to.secrets, [new]);
    }
}

#[tokio::test]
async fn four_webhooks_at_a_time_go_to_one_receiver() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        for _ in 0..6 {
            ended(&jobs, "https://example.com/a").await;
        }
        ended(&jobs, "https://example.com/b").await;
        let first = take_webhooks(&jobs).await;
        assert_eq!(first.len(), 5);
        attempt(&jobs, &first[0], 200, Then::Delivered).await;
        let receiver_a = &first[0].to.as_ref().unwrap().url;
        let more = take_webhooks(&jobs).await.len();
        assert_eq!(more, usize::from(receiver_a.ends_with("/a")));
    }
}

#[tokio::test]
async fn a_receiver_that_is_gone_or_fails_for_days_is_switched_off_and_can_be_switched_on() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let job = ended(&jobs, "https://example.com/a").await;
        let outgoing = take_webhooks(&jobs).await.pop().unwrap();
        attempt(&jobs, &outgoing, 410, Then::Gone).await;
        let receiver = jobs.receivers(None, 9).await.unwrap().pop().unwrap();
        assert_eq!(receiver.disabled.as_ref().unwrap().1, "gone");
        jobs.redeliver(&receiver.id, &outgoing.id).await.unwrap().unwrap();
        let outgoing = take_webhooks(&jobs).await.pop().unwrap();
        assert!(outgoing.to.is_none(), "nothing is sent there");
        attempt(&jobs, &outgoing, 0, Then::GiveUp).await;

        let on = jobs.switch_receiver(&receiver.id, true).await.unwrap().unwrap();
        assert_eq!((on.disabled, on.failing_since_ms), (None, None));
        let again = Then::Again { after_ms: 0, throttle_ms: None };
        jobs.redeliver(&receiver.id, &outgoing.id).await.unwrap().unwrap();
        let outgoing = take_webhooks(&jobs).await.pop().unwrap();
        attempt(&jobs, &outgoing, 500, again).await;
        let failing = jobs.receiver(&receiver.id).await.unwrap().unwrap();
        assert!(failing.failing_since_ms.is_some() && failing.disabled.is_none(), "{failing:?}");
        execute(&place.store, "UPDATE webhook_receivers SET failing_since_ms = 1").await;
        let outgoing = take_webhooks(&jobs).await.pop().unwrap();
        attempt(&jobs, &outgoing, 500, again).await;
        let failing = jobs.receiver(&receiver.id).await.unwrap().unwrap();
        assert_eq!(failing.disabled.unwrap().1, "failing");
        let delivery = jobs.find(&alice(), &job.id).await.unwrap().unwrap().delivery.unwrap();
        assert_eq!(delivery.last_status, Some(500));
    }
}

#[tokio::test]
async fn a_receiver_that_has_too_much_to_do_is_left_alone() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        for _ in 0..5 {
            ended(&jobs, "https://example.com/a").await;
        }
        let outgoing = take_webhooks(&jobs).await;
        assert_eq!(outgoing.len(), 4);
        let pause = Then::Again { after_ms: 60_000, throttle_ms: Some(60_000) };
        attempt(&jobs, &outgoing[0], 429, pause).await;
        attempt(&jobs, &outgoing[1], 200, Then::Delivered).await;
        assert!(take_webhooks(&jobs).await.is_empty(), "the fifth waits, too");
        execute(&place.store, "UPDATE webhook_deliveries SET run_after_ms = 0").await;
        assert_eq!(take_webhooks(&jobs).await.len(), 2);
    }
}

#[tokio::test]
async fn a_job_is_kept_until_its_webhook_is_delivered_or_given_up() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        ended(&jobs, "https://example.com/a").await;
        execute(&place.store, "UPDATE jobs SET ended_at_ms = 1").await;
        assert_eq!(jobs.sweep(60_000).await.unwrap(), 0);
        let outgoing = take_webhooks(&jobs).await.pop().unwrap();
        attempt(&jobs, &outgoing, 500, Then::GiveUp).await;
        assert_eq!(jobs.sweep(60_000).await.unwrap(), 1);
        let receiver = jobs.receivers(None, 9).await.unwrap().pop().unwrap();
        let left = jobs.deliveries(&receiver.id, None, 9).await.unwrap();
        assert_eq!(left, []);
    }
}

#[tokio::test]
async fn a_caller_cannot_have_webhooks_sent_to_any_number_of_places() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        for number in 0..100 {
            submit(&jobs, hooked(&format!("https://example.com/{number}"), None)).await;
        }
        let more = hooked("https://example.com/more", None);
        let refused = jobs.submit(more, &many(), NOW_MS).await.unwrap_err();
        assert!(matches!(refused, SubmitError::TooManyReceivers { limit: 100 }), "{refused}");
        submit(&jobs, hooked("https://example.com/7", None)).await;
    }
}
