//! Sends the traffic, waits for the end of it, and writes down what there is to see.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{sleep, sleep_until, timeout};

use super::client::{Call, Clients};
use super::plan::{Rehearsal, Traffic};
use super::record::Record;
use crate::catalog::Origin;
use crate::clock::Instant;
use crate::control::tasks::Tasks;
use crate::gateway::Gateway;
use crate::sim::SimTransport;
use crate::upstream::Transport;

/// How long after the last client has gone something may still be under way: the time of a
/// cancellation.
const SETTLE: Duration = Duration::from_secs(2);

/// One run, ready to start.
pub(super) struct Ready {
    pub(super) gateway: Arc<Gateway>,
    pub(super) sim: SimTransport,
    /// The way to the gateway.
    pub(super) front: Arc<dyn Transport>,
    pub(super) origin: Origin,
    /// For each traffic the header of its caller.
    pub(super) keys: Vec<Option<HeaderValue>>,
}

type Looks = Arc<Mutex<Vec<(Duration, String)>>>;

/// Runs the traffic of `rehearsal` from now on.
pub(super) async fn drive(rehearsal: &Rehearsal, ready: Ready) -> Record {
    let Ready { gateway, sim, front, origin, keys } = ready;
    let start = Instant::now();
    let traffic: Vec<_> = rehearsal.traffic.iter().cloned().zip(keys).collect();
    let seen = Mutex::default();
    let clients = Arc::new(Clients { front, origin, start, traffic, seen });
    let (drivers, calls) = (Tasks::new(), Arc::new(Tasks::new()));
    for (index, traffic) in rehearsal.traffic.iter().enumerate() {
        let seed = rehearsal.providers.seed.wrapping_add(SEED_STEP.wrapping_mul(index as u64 + 1));
        let (clients, calls) = (Arc::clone(&clients), Arc::clone(&calls));
        drivers.spawn(send(traffic.clone(), index, seed, clients, calls));
    }
    let looks: Looks = Arc::default();
    drivers.spawn(watch(rehearsal.looks(), start, Arc::clone(&gateway), Arc::clone(&looks)));
    drivers.wait().await;
    calls.wait().await;
    _ = timeout(SETTLE, sim.idle()).await;
    // The gateway hears of a cancellation as soon as it runs.
    sleep(Duration::from_millis(10)).await;
    let end = start.elapsed();
    looks.lock().push((end, gateway.render_metrics()));
    let (seen, looks) = (std::mem::take(&mut *clients.seen.lock()), looks.lock().clone());
    let in_flight = sim.stats().total.in_flight;
    let (arrivals, bills) = (sim.arrivals(), sim.bills());
    Record { seen, arrivals, bills, looks, end, in_flight }
}

/// An odd constant: seeds of different traffic have nothing in common.
const SEED_STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Starts the calls of one traffic, each at its time.
async fn send(traffic: Traffic, index: usize, seed: u64, clients: Arc<Clients>, calls: Arc<Tasks>) {
    let mut chance = StdRng::seed_from_u64(seed);
    let mean = 1.0 / traffic.rate;
    let mut at = traffic.from.as_secs_f64();
    loop {
        let gap = if traffic.even { mean } else { -(1.0 - chance.random::<f64>()).ln() * mean };
        at += gap;
        let due = Duration::try_from_secs_f64(at).unwrap_or(Duration::MAX);
        if due >= traffic.until {
            return;
        }
        sleep_until(clients.start + due).await;
        let call = Call { traffic: index, seed: chance.random() };
        calls.spawn(Arc::clone(&clients).conversation(call));
    }
}

/// Looks at the gateway's metrics at these times.
async fn watch(times: Vec<Duration>, start: Instant, gateway: Arc<Gateway>, looks: Looks) {
    for time in times {
        sleep_until(start + time).await;
        let text = gateway.render_metrics();
        looks.lock().push((time, text));
    }
}
