//! Tests of taking, losing and taking over.

use super::*;

/// Lets every lease run out.
async fn leases_run_out(store: &Store) {
    execute(store, "UPDATE jobs SET lease_until_ms = 0 WHERE state = 'running'").await;
}

#[tokio::test]
async fn a_job_whose_worker_vanished_is_run_by_another_and_the_first_is_too_late() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let job = submit(&jobs, new_job("key_alice")).await;
        let first = take(&jobs, "first").await.pop().unwrap();
        assert_eq!(jobs.take_over().await.unwrap(), Lost::default(), "it is alive");
        leases_run_out(&place.store).await;
        assert_eq!(jobs.take_over().await.unwrap(), Lost { put_back: 1, failed: 0 });
        assert!(jobs.renew(std::slice::from_ref(&first.held), LEASE_MS).await.unwrap().is_empty());

        let second = take(&jobs, "second").await.pop().unwrap();
        assert_eq!((second.job.attempts, second.losses), (2, 1));
        assert!(!jobs.end(&first.held, &End::expired()).await.unwrap());
        assert!(jobs.end(&second.held, &success()).await.unwrap());
        assert!(!jobs.end(&first.held, &End::expired()).await.unwrap());
        assert!(!jobs.end(&second.held, &success()).await.unwrap(), "once");
        let found = jobs.find(&alice(), &job.id).await.unwrap().unwrap();
        assert_eq!((found.job.state, found.result), (JobState::Succeeded, Some(result())));
    }
}

#[tokio::test]
async fn a_late_answer_counts_while_nobody_else_has_begun() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let job = submit(&jobs, new_job("key_alice")).await;
        let taken = take(&jobs, "w").await.pop().unwrap();
        leases_run_out(&place.store).await;
        jobs.take_over().await.unwrap();
        assert!(jobs.end(&taken.held, &success()).await.unwrap());
        let found = jobs.find(&alice(), &job.id).await.unwrap().unwrap();
        assert_eq!(found.job.state, JobState::Succeeded);
        assert!(take(&jobs, "other").await.is_empty());
    }
}

#[tokio::test]
async fn a_lease_that_is_renewed_does_not_run_out() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        submit(&jobs, new_job("key_alice")).await;
        let taken = take(&jobs, "w").await.pop().unwrap();
        leases_run_out(&place.store).await;
        let held = [taken.held];
        assert_eq!(jobs.renew(&held, LEASE_MS).await.unwrap(), held);
        assert_eq!(jobs.take_over().await.unwrap(), Lost::default());
    }
}

/// The reply that said what was taken may have been lost: then nobody works on it.
#[tokio::test]
async fn a_job_that_its_worker_does_not_know_of_is_not_held_for_it() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        for _ in 0..2 {
            submit(&jobs, new_job("key_alice")).await;
        }
        let known = jobs.take(&mut Turns::default(), 1, 9, "w", LEASE_MS).await.unwrap();
        let known: Vec<_> = known.into_iter().map(|taken| taken.held).collect();
        assert_eq!(known.len(), 1);
        assert_eq!(take(&jobs, "w").await.len(), 1, "and nobody hears of it");
        leases_run_out(&place.store).await;
        assert_eq!(jobs.renew(&known, LEASE_MS).await.unwrap(), known);
        assert_eq!(jobs.take_over().await.unwrap(), Lost { put_back: 1, failed: 0 });
        assert_eq!(jobs.held("w").await.unwrap(), known);
    }
}

#[tokio::test]
async fn who_lost_a_job_does_not_renew_it_for_another_of_the_same_name() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        submit(&jobs, new_job("key_alice")).await;
        let first = [take(&jobs, "w").await.pop().unwrap().held];
        leases_run_out(&place.store).await;
        jobs.take_over().await.unwrap();
        let second = [take(&jobs, "w").await.pop().unwrap().held];
        leases_run_out(&place.store).await;
        assert_eq!(jobs.renew(&first, LEASE_MS).await.unwrap(), []);
        assert_eq!(jobs.renew(&second, LEASE_MS).await.unwrap(), second);
        assert_eq!(jobs.renew(&[], LEASE_MS).await.unwrap(), []);
    }
}

#[tokio::test]
async fn many_leases_are_renewed_some_at_a_time() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        for _ in 0..101 {
            submit(&jobs, new_job("key_alice")).await;
        }
        let taken = jobs.take(&mut Turns::default(), 200, 200, "w", LEASE_MS).await.unwrap();
        let held: Vec<_> = taken.into_iter().map(|taken| taken.held).collect();
        leases_run_out(&place.store).await;
        assert_eq!(jobs.renew(&held, LEASE_MS).await.unwrap().len(), 101);
        assert_eq!(jobs.take_over().await.unwrap(), Lost::default());
    }
}

#[tokio::test]
async fn a_job_that_is_put_back_twice_for_want_of_a_reply_failed_once() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        submit(&jobs, new_job("key_alice")).await;
        let taken = take(&jobs, "w").await.pop().unwrap();
        assert!(jobs.again(&taken.held, 0, true).await.unwrap());
        assert!(!jobs.again(&taken.held, 60_000, true).await.unwrap(), "it waits already");
        let again = take(&jobs, "w").await.pop().expect("the first pause is what counts");
        assert_eq!((again.job.failures, again.job.attempts), (1, 2));
    }
}

#[tokio::test]
async fn a_worker_that_gives_back_has_nothing_left_and_loses_nothing() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        submit(&jobs, new_job("key_alice")).await;
        let taken = take(&jobs, "w").await.pop().unwrap();
        assert_eq!(jobs.give_back("other").await.unwrap(), 0);
        assert_eq!(jobs.give_back("w").await.unwrap(), 1);
        assert!(jobs.held("w").await.unwrap().is_empty());
        let again = take(&jobs, "other").await.pop().unwrap();
        assert_eq!((again.job.attempts, again.losses), (2, 0));
        assert!(!jobs.end(&taken.held, &success()).await.unwrap());
    }
}

#[tokio::test]
async fn a_job_that_takes_its_workers_with_it_fails_in_the_end() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let job = submit(&jobs, new_job("key_alice")).await;
        let mut lost = Lost::default();
        for _ in 0..10 {
            assert_eq!(take(&jobs, "w").await.len(), 1);
            leases_run_out(&place.store).await;
            let more = jobs.take_over().await.unwrap();
            lost.put_back += more.put_back;
            lost.failed += more.failed;
        }
        assert_eq!(lost, Lost { put_back: 9, failed: 1 });
        let found = jobs.find(&alice(), &job.id).await.unwrap().unwrap();
        assert_eq!(found.job.error.unwrap().code, "worker_lost");
    }
}

#[tokio::test]
async fn a_job_that_is_put_back_waits_for_its_time() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        submit(&jobs, new_job("key_alice")).await;
        let taken = take(&jobs, "w").await.pop().unwrap();
        assert!(jobs.again(&taken.held, 60_000, true).await.unwrap());
        assert!(take(&jobs, "w").await.is_empty(), "not yet");
        execute(&place.store, "UPDATE jobs SET run_after_ms = run_after_ms - 60000").await;
        let taken = take(&jobs, "w").await.pop().unwrap();
        assert_eq!((taken.job.attempts, taken.job.failures), (2, 1));
        assert!(jobs.again(&taken.held, 0, false).await.unwrap());
        assert_eq!(take(&jobs, "w").await.pop().unwrap().job.failures, 1);
    }
}

#[tokio::test]
async fn callers_take_turns_up_to_their_cap_and_the_more_important_jobs_go_first() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        for _ in 0..20 {
            submit(&jobs, new_job("key_flood")).await;
        }
        submit(&jobs, new_job("key_alice")).await;
        let urgent = NewJob { priority: Priority::HIGHEST, ..new_job("key_bob") };
        submit(&jobs, urgent).await;
        let mut turns = Turns::default();
        let mut order = Vec::new();
        for _ in 0..4 {
            let taken = jobs.take(&mut turns, 1, 2, "w", LEASE_MS).await.unwrap();
            order.extend(taken.into_iter().map(|taken| taken.job.caller.to_string()));
        }
        assert_eq!(order[0], "key_bob");
        assert!(order.contains(&"key_alice".to_owned()), "{order:?}");
        let rest = jobs.take(&mut turns, 50, 2, "w", LEASE_MS).await.unwrap();
        let flood = order.iter().filter(|caller| *caller == "key_flood").count() + rest.len();
        assert_eq!(flood, 2, "no more than its cap, though there is room");
    }
}

/// Six nodes take all jobs at the same time: each job once, and no caller above its cap.
#[tokio::test]
async fn many_nodes_never_take_the_same_job_nor_more_than_a_caller_may_have() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        for _ in 0..30 {
            submit(&jobs, new_job("key_alice")).await;
            submit(&jobs, new_job("key_bob")).await;
        }
        let node = async |number: usize| {
            let jobs = Jobs::new(place.again());
            let worker = format!("w{number}");
            jobs.take(&mut Turns::default(), 10, 7, &worker, LEASE_MS).await.unwrap()
        };
        let (a, b, c, d, e, f) = tokio::join!(node(1), node(2), node(3), node(4), node(5), node(6));
        let all: Vec<_> = [a, b, c, d, e, f].into_iter().flatten().collect();
        let ids: std::collections::HashSet<_> = all.iter().map(|taken| &taken.job.id).collect();
        assert_eq!(ids.len(), all.len());
        for caller in ["key_alice", "key_bob"] {
            let of = all.iter().filter(|taken| taken.job.caller.as_str() == caller).count();
            assert_eq!(of, 7, "{caller}");
        }
    }
}

/// `cargo nextest run --run-ignored all -E 'test(claims_a_second)' --no-capture`
#[tokio::test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "a measurement")]
async fn claims_a_second() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        for number in 0..4_000 {
            submit(&jobs, new_job(&format!("key_{}", number % 10))).await;
        }
        let started = crate::clock::Instant::now();
        let node = async |number: usize| {
            let jobs = Jobs::new(place.again());
            let (mut turns, mut count, worker) = (Turns::default(), 0, format!("w{number}"));
            loop {
                let taken = jobs.take(&mut turns, 32, 100_000, &worker, LEASE_MS).await.unwrap();
                count += taken.len();
                if taken.is_empty() {
                    return count;
                }
            }
        };
        let (a, b, c) = tokio::join!(node(1), node(2), node(3));
        let rate = (a + b + c) as f64 / started.elapsed().as_secs_f64();
        println!("{:?}: {} claims, {rate:.0} a second", place.store.kind(), a + b + c);
        assert_eq!(a + b + c, 4_000);
    }
}
