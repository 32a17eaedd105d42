//! The thread of compatibility runs, beside those that serve callers: grading thousands of answers
//! must not hold up anything else.

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use tokio::sync::watch;

use super::{IDLE_TIMEOUT, MAX_IDLE_CONNECTIONS};
use crate::control::tasks::Tasks;
use crate::dispatch::{Lane, Stop};
use crate::gateway::Gateway;
use crate::sim::{Scenario, SimTransport};
use crate::upstream::live::LiveTransport;
use crate::upstream::{Transport, Transports};

/// Makes compatibility runs until told to stop; what is being asked then is asked again later.
///
/// # Errors
///
/// Where no thread is to be had.
pub(super) fn start(
    gateway: &Arc<Gateway>,
    closing: &watch::Receiver<bool>,
) -> anyhow::Result<JoinHandle<()>> {
    let (gateway, closing) = (Arc::clone(gateway), closing.clone());
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(run(gateway, closing)),
            Err(error) => tracing::error!("the thread of compatibility runs ended: {error}"),
        }
    };
    std::thread::Builder::new()
        .name("compat".to_owned())
        .spawn(work)
        .context("cannot start the thread of compatibility runs")
}

async fn run(gateway: Arc<Gateway>, closing: watch::Receiver<bool>) {
    let live = Arc::new(LiveTransport::new(MAX_IDLE_CONNECTIONS, IDLE_TIMEOUT));
    let sim: Arc<dyn Transport> = Arc::new(SimTransport::new(Scenario::default()));
    let besides = Tasks::new();
    besides.spawn(Arc::clone(&live).sweep_idle());
    // A run stops as soon as the gateway begins to.
    let lane = Lane { stop: Stop::default(), ..gateway.lane(Arc::new(Transports { live, sim })) };
    gateway.make_runs(lane, closing).await;
}
