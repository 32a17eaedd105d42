//! Tests of shedding.

#![expect(clippy::print_stdout, reason = "a simulation prints its figures")]

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp, LogNormal};
use std::collections::HashMap;

const MS: Duration = Duration::from_millis(1);

fn shed(capacity: usize, max_queued: usize) -> (Shed, Instant) {
    let now = Instant::now();
    let settings = ShedSettings { max_queued, ..ShedSettings::default() };
    (Shed::new(settings, capacity, 42, now), now)
}

fn ticket(id: u64, priority: u8, caller: u64) -> Ticket {
    Ticket { id, priority, caller, cost: 1_000 }
}

const QUEUED: Verdict = Verdict::Queued { displaced: None };

#[test]
fn slots_go_to_the_first_then_requests_wait_their_turn() {
    let (mut shed, now) = shed(1, 10);
    assert_eq!(shed.offer(ticket(1, 2, 7), 0.5, now), Verdict::Admitted);
    assert_eq!(shed.offer(ticket(2, 3, 7), 0.5, now), QUEUED);
    assert_eq!(shed.offer(ticket(3, 1, 7), 0.5, now), QUEUED);
    assert_eq!(shed.offer(ticket(4, 3, 7), 0.5, now), QUEUED);
    assert_eq!(shed.next(now), None);
    for expected in [3, 2, 4] {
        shed.release(now);
        assert_eq!(shed.next(now), Some(expected));
        assert_eq!(shed.next(now), None);
    }
    shed.release(now);
    assert_eq!((shed.queued(), shed.in_use(), shed.next_deadline()), (0, 0, None));
}

#[test]
fn priority_zero_is_never_shed() {
    let (mut shed, now) = shed(0, 1);
    for id in 0..100 {
        assert_eq!(shed.would_reject(0, id, 0.999, now), None);
        assert_eq!(shed.offer(ticket(id, 0, id), 0.5, now), Verdict::Admitted);
    }
}

#[test]
fn callers_share_by_cost_whatever_they_queue() {
    let (mut shed, now) = shed(0, 10_000);
    // Caller 1 has many big requests, caller 2 many small ones, caller 3 a few very big ones.
    for id in 0..3_000_u64 {
        let (caller, cost) = [(1, 3_000), (2, 300), (3, 90_000)][(id % 3) as usize];
        assert_eq!(shed.offer(Ticket { id, priority: 2, caller, cost }, 0.5, now), QUEUED);
    }
    shed.set_capacity(880);
    let mut spent = HashMap::new();
    while let Some(id) = shed.next(now) {
        let (caller, cost) = [(1, 3_000), (2, 300), (3, 90_000)][(id % 3) as usize];
        *spent.entry(caller).or_insert(0_u64) += cost;
    }
    let (low, high) = (spent.values().min().unwrap(), spent.values().max().unwrap());
    assert!(high - low <= 93_000, "{spent:?} may differ by the largest request");
}

#[test]
fn a_full_queue_keeps_room_for_other_callers_and_displaces_lower_priorities() {
    let (mut shed, now) = shed(0, 8);
    for id in 0..4 {
        assert_eq!(shed.offer(ticket(id, 4, 1), 0.5, now), QUEUED);
    }
    let full = shed.offer(ticket(10, 4, 1), 0.0, now);
    assert!(matches!(full, Verdict::Rejected { .. }), "half of the free places: {full:?}");
    assert!(shed.would_reject(4, 1, 0.0, now).is_some());
    assert!(shed.would_reject(4, 2, 0.0, now).is_none());
    for (id, caller) in [(20, 2), (21, 2), (22, 3), (23, 4)] {
        assert_eq!(shed.offer(ticket(id, 4, caller), 0.5, now), QUEUED);
    }
    assert_eq!(shed.queued(), 8);
    let displacing = shed.offer(ticket(30, 1, 1), 0.5, now);
    assert_eq!(displacing, Verdict::Queued { displaced: Some(23) });
    assert_eq!(shed.queued(), 8);
    assert!(!shed.cancel(23), "it no longer waits");
}

#[test]
fn who_waits_too_long_is_turned_away_with_a_time_to_come_back() {
    let (mut shed, now) = shed(0, 8);
    assert_eq!(shed.offer(ticket(1, 2, 1), 0.5, now), QUEUED);
    assert_eq!(shed.next_deadline(), Some(now + 2_000 * MS));
    assert_eq!(shed.expire(0.5, now + 1_999 * MS), None);
    let (id, retry_after) = shed.expire(0.5, now + 2_000 * MS).unwrap();
    assert_eq!(id, 1);
    assert!(retry_after >= 1_000 * MS && retry_after <= 60_000 * MS);
    assert_eq!(shed.next_deadline(), None);
}

#[test]
fn a_standing_queue_serves_the_newest_and_waits_short() {
    let (mut shed, now) = shed(0, 100);
    for id in 0..22 {
        let at = now + 100 * MS * id as u32;
        assert_eq!(shed.offer(ticket(id, 2, 1), 0.5, at), QUEUED);
        assert_eq!(shed.expire(0.5, at).map(|(id, _)| id), (id >= 20).then(|| id - 20));
    }
    let now = now + 2_100 * MS;
    let mut gone = 0;
    while shed.expire(0.5, now).is_some() {
        gone += 1;
    }
    assert_eq!(gone, 17, "all but those of the last 250 ms");
    assert_eq!(shed.next_deadline(), Some(now + 50 * MS));
    shed.set_capacity(1);
    assert_eq!(shed.next(now), Some(21), "the newest first");
    assert!(shed.cancel(19) && shed.cancel(20));
    // The queue has drained: patience is back, and the order of arrival.
    for id in 30..32 {
        assert_eq!(shed.offer(ticket(id, 2, 1), 0.5, now), QUEUED);
    }
    assert_eq!(shed.next_deadline(), Some(now + 2_000 * MS));
    shed.release(now);
    assert_eq!(shed.next(now), Some(30));
}

#[test]
fn memory_stays_bounded_when_callers_come_and_go() {
    let (mut shed, now) = shed(0, 16);
    assert_eq!(shed.offer(ticket(0, 2, 0), 0.5, now), QUEUED);
    for id in 1..10_000 {
        assert_eq!(shed.offer(ticket(id, 2, id), 0.5, now), QUEUED);
        assert!(shed.cancel(id));
    }
    assert!(format!("{shed:?}").len() < 40_000);
    assert_eq!(shed.queued(), 1);
}

// === Simulation ===

/// Requests a second of one caller and priority.
#[derive(Clone, Copy)]
struct Load {
    priority: u8,
    caller: u64,
    rate: f64,
}

#[derive(Default)]
struct Figures {
    offered: HashMap<(u8, u64), u32>,
    served: HashMap<(u8, u64), u32>,
    goodput: f64,
    /// Turned away by headers alone, of all turned away.
    early: u32,
    rejected: u32,
}

const CAPACITY: usize = 50;

/// Slots of mean service time one second against a load, for so many seconds; the figures leave
/// the first 30 out.
fn simulate(loads: &[Load], seconds: u32) -> Figures {
    let (mut shed, start) = shed(CAPACITY, 1_024);
    let mut rng = StdRng::seed_from_u64(5);
    let sigma = 0.8_f64;
    let service = LogNormal::new(-sigma * sigma / 2.0, sigma).unwrap();
    let mut arrivals: Vec<(Load, f64)> = loads.iter().map(|load| (*load, 0.0)).collect();
    let (mut running, mut waiting) = (Vec::new(), HashMap::new());
    let (mut figures, mut id) = (Figures::default(), 0);
    for tick in 0..seconds * 200 {
        let (now, time) = (start + 5 * MS * tick, f64::from(tick) / 200.0);
        let counts = u32::from(tick >= 6_000);
        running.retain(|(end, who)| {
            let is_running = *end > time;
            if !is_running {
                shed.release(now);
                *figures.served.entry(*who).or_default() += counts;
            }
            is_running
        });
        while shed.expire(rng.random(), now).is_some() {
            figures.rejected += counts;
        }
        for (load, next) in &mut arrivals {
            while *next <= time {
                *next += Exp::new(load.rate).unwrap().sample(&mut rng);
                id += 1;
                let who = (load.priority, load.caller);
                *figures.offered.entry(who).or_default() += counts;
                if shed.would_reject(load.priority, load.caller, rng.random(), now).is_some() {
                    figures.rejected += counts;
                    figures.early += counts;
                    continue;
                }
                match shed.offer(ticket(id, load.priority, load.caller), rng.random(), now) {
                    Verdict::Admitted => running.push((time + service.sample(&mut rng), who)),
                    Verdict::Queued { displaced } => {
                        figures.rejected += counts * u32::from(displaced.is_some());
                        waiting.insert(id, who);
                    }
                    Verdict::Rejected { .. } => figures.rejected += counts,
                }
            }
        }
        while let Some(id) = shed.next(now) {
            running.push((time + service.sample(&mut rng), waiting[&id]));
        }
    }
    let served: u32 = figures.served.values().sum();
    figures.goodput = f64::from(served) / f64::from(seconds - 30);
    figures
}

fn load(priority: u8, caller: u64, rate: f64) -> Load {
    Load { priority, caller, rate }
}

#[test]
fn at_twice_the_load_goodput_stays_and_priority_one_hardly_notices() {
    let peak = CAPACITY as f64;
    for factor in [2.0, 4.0] {
        let offered = peak * factor;
        let mut loads = vec![load(1, 1, 15.0), load(1, 2, 15.0)];
        for caller in 10..30 {
            let priority = 2 + (caller % 3) as u8;
            loads.push(load(priority, caller, (offered - 30.0) / 20.0));
        }
        let figures = simulate(&loads, 330);
        let first = |of: &HashMap<(u8, u64), u32>| -> u32 {
            of.iter().filter(|(who, _)| who.0 == 1).map(|(_, count)| *count).sum()
        };
        let success = f64::from(first(&figures.served)) / f64::from(first(&figures.offered));
        let goodput = figures.goodput / peak;
        let early = f64::from(figures.early) / f64::from(figures.rejected);
        println!(
            "{factor}x: goodput {goodput:.3} of peak, priority 1 {success:.4}, early {early:.2}"
        );
        assert!(goodput >= 0.95, "{goodput} of peak");
        assert!(success >= 0.99, "{success} of priority 1");
        assert!(early >= 0.8, "{early} of the rejections from headers alone");
    }
}

#[test]
fn a_caller_who_offers_ten_times_as_much_gets_no_more() {
    let figures = simulate(&[load(2, 1, 300.0), load(2, 2, 30.0)], 330);
    let rates = [1, 2].map(|caller| f64::from(figures.served[&(2, caller)]) / 300.0);
    let sum: f64 = rates.iter().sum();
    let jain = sum * sum / (2.0 * rates.iter().map(|rate| rate * rate).sum::<f64>());
    println!("served a second {rates:?}, Jain {jain:.3}, goodput {:.1}", figures.goodput);
    assert!(jain >= 0.9, "{rates:?}");
    assert!(figures.goodput >= 0.95 * CAPACITY as f64);
}

#[test]
fn when_the_load_falls_everybody_is_let_through_again() {
    let (mut shed, start) = shed(0, 1_024);
    let mut rng = StdRng::seed_from_u64(9);
    for tick in 0..6_000_u64 {
        let now = start + 5 * MS * tick as u32;
        while shed.expire(0.5, now).is_some() {}
        if shed.would_reject(3, tick % 7, rng.random(), now).is_none() {
            let _verdict = shed.offer(ticket(tick, 3, tick % 7), 0.5, now);
        }
    }
    assert!(shed.let_through()[3] < 0.5, "{:?}", shed.let_through());
    let mut now = start + 30_000 * MS;
    while shed.expire(0.5, now + 3_000 * MS).is_some() {}
    shed.set_capacity(1_000);
    let mut rejected = 0;
    for second in 0..200_u64 {
        for each in 0..20 {
            now += 50 * MS;
            let is_rejected = shed.would_reject(3, each, rng.random(), now).is_some();
            rejected = if second == 199 { rejected + u32::from(is_rejected) } else { 0 };
        }
    }
    assert_eq!(rejected, 0);
}

#[test]
fn turning_away_costs_next_to_nothing() {
    let (mut shed, now) = shed(0, 1_024);
    for id in 0..1_024 {
        let _verdict = shed.offer(ticket(id, 2, id), 0.5, now);
    }
    let rounds = 100_000;
    let started = Instant::now();
    let mut rejected = 0;
    for caller in 0..rounds {
        rejected += u32::from(shed.would_reject(4, caller, 0.5, now).is_some());
    }
    let each = started.elapsed() / rounds as u32;
    println!("{rejected} rejections, {each:?} each, not optimised");
    assert!(u64::from(rejected) == rounds && each < 50 * Duration::from_micros(1));
}
