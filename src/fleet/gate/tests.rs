//! Slots are exact, those who wait come first, and nobody waits for ever.

#![expect(clippy::disallowed_methods, reason = "requests that wait need tasks of their own")]

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::telemetry::Metrics;

const MS: Duration = Duration::from_millis(1);

fn chance() -> Arc<Chance> {
    let chance = Chance::default();
    chance.seed(7);
    Arc::new(chance)
}

fn gate(limit: u32) -> Arc<Gate> {
    let gate = Gate::new(Metrics::new().gates.of_process(), chance(), Instant::now());
    gate.set_limit(limit);
    gate
}

fn ask(priority: u8, caller: u64) -> Ask {
    Ask { priority, caller, cost: 1_000, draw: 0.5 }
}

/// Waits for a slot and says who got it when.
fn enter(
    gate: &Arc<Gate>,
    ask: Ask,
    within: Duration,
) -> tokio::task::JoinHandle<Result<Slot, NoSlot>> {
    let gate = Arc::clone(gate);
    tokio::spawn(async move { gate.enter(&ask, within).await })
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

fn is_empty(gate: &Gate) {
    let line = gate.line.lock();
    assert_eq!((gate.in_use(), line.shed.queued(), line.waiting.len()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_is_given_back_goes_to_who_waits_and_not_to_a_newcomer() {
    let gate = gate(1);
    let first = gate.try_enter(&ask(2, 1)).unwrap();
    let waiting = enter(&gate, ask(3, 1), 60_000 * MS);
    settle().await;
    assert!(gate.is_full(&ask(1, 2)) && gate.queued() == 1);
    drop(first);
    assert!(gate.try_enter(&ask(1, 2)).is_none(), "the slot is the waiter's already");
    let slot = waiting.await.unwrap().unwrap();
    assert_eq!((gate.in_use(), gate.queued()), (1, 0));
    drop(slot);
    drop(gate.try_enter(&ask(4, 2)).expect("nobody waits any more"));
    is_empty(&gate);
}

#[tokio::test(start_paused = true)]
async fn the_more_important_come_first_and_callers_take_turns() {
    let gate = gate(1);
    let first = gate.try_enter(&ask(2, 9)).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    // Caller 1 floods before anybody else comes.
    for (priority, caller) in [(2, 1), (2, 1), (2, 1), (2, 1), (2, 2), (2, 2), (1, 3)] {
        let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let slot = gate.enter(&ask(priority, caller), 60_000 * MS).await.unwrap();
            order.lock().push(caller);
            tokio::time::sleep(10 * MS).await;
            drop(slot);
        }));
        settle().await;
    }
    drop(first);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock(), [3, 1, 2, 1, 2, 1, 1]);
    is_empty(&gate);
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_told_when_to_come_back() {
    let gate = gate(1);
    let slot = gate.try_enter(&ask(2, 1)).unwrap();
    let started = Instant::now();
    let told = gate.enter(&ask(2, 1), 60_000 * MS).await.unwrap_err();
    assert!(matches!(told, NoSlot::TurnedAway { retry_after } if retry_after >= 1_000 * MS));
    assert!((2_000 * MS..2_010 * MS).contains(&started.elapsed()), "{:?}", started.elapsed());
    let started = Instant::now();
    let told = gate.enter(&ask(2, 1), 30 * MS).await.unwrap_err();
    assert_eq!(told, NoSlot::OutOfTime, "its own time was shorter");
    assert!(started.elapsed() <= 35 * MS);
    gate.set_max_wait(Duration::ZERO);
    let started = Instant::now();
    assert!(gate.enter(&ask(2, 1), 60_000 * MS).await.is_err());
    assert!(started.elapsed() <= 2 * MS, "nobody waits");
    drop(slot);
    is_empty(&gate);
}

#[tokio::test(start_paused = true)]
async fn priority_zero_never_waits_and_counts() {
    let gate = gate(1);
    let slots: Vec<Slot> = (0..3).map(|n| gate.try_enter(&ask(0, n)).unwrap()).collect();
    assert_eq!(gate.in_use(), 3);
    assert!(gate.try_enter(&ask(1, 1)).is_none());
    drop(slots);
    is_empty(&gate);
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_lets_waiting_requests_in_at_once() {
    let gate = gate(1);
    let first = gate.try_enter(&ask(2, 1)).unwrap();
    let waiting: Vec<_> = (0..3).map(|_| enter(&gate, ask(2, 1), 60_000 * MS)).collect();
    settle().await;
    assert_eq!(gate.queued(), 3);
    gate.set_limit(3);
    assert_eq!((gate.in_use(), gate.queued()), (3, 1));
    gate.set_limit(0);
    assert_eq!((gate.in_use(), gate.queued()), (4, 0));
    for task in waiting {
        drop(task.await.unwrap().unwrap());
    }
    drop(first);
    is_empty(&gate);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_moment_it_is_admitted_leaves_the_slot_to_the_next() {
    let gate = gate(1);
    let first = gate.try_enter(&ask(2, 1)).unwrap();
    let leaves = enter(&gate, ask(2, 1), 60_000 * MS);
    settle().await;
    let stays = enter(&gate, ask(2, 1), 60_000 * MS);
    settle().await;
    drop(first);
    // Its slot is in the channel, and it never looks.
    leaves.abort();
    drop(stays.await.unwrap().unwrap());
    is_empty(&gate);
}

/// 1,000 requests for 8 slots on four threads; a third of them leave, wherever they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slots_are_exact_under_a_thousand_requests_and_aborts() {
    const LIMIT: usize = 8;
    let gate = gate(LIMIT as u32);
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let served = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for n in 0..1_000_u64 {
        let gate = Arc::clone(&gate);
        let (inside, most, served) = (Arc::clone(&inside), Arc::clone(&most), Arc::clone(&served));
        let task = tokio::spawn(async move {
            struct Inside(Arc<AtomicUsize>);
            impl Drop for Inside {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, Ordering::SeqCst);
                }
            }
            let ask = ask(1 + (n % 4) as u8, n % 10);
            let Ok(_slot) = gate.enter(&ask, Duration::from_secs(60)).await else { return };
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let _inside = Inside(inside);
            served.fetch_add(1, Ordering::SeqCst);
            for _ in 0..n % 7 {
                tokio::task::yield_now().await;
            }
        });
        if n % 3 == 0 {
            if n % 2 == 0 {
                tokio::task::yield_now().await;
            }
            task.abort();
        }
        tasks.push(task);
    }
    for task in tasks {
        let _ = task.await;
    }
    let (most, served) = (most.load(Ordering::SeqCst), served.load(Ordering::SeqCst));
    assert!(most <= LIMIT, "{most} at once");
    assert!(served >= 600, "{served} were served");
    is_empty(&gate);
    assert_eq!(gate.metrics.queued.get(), 0);
}
