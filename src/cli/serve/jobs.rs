//! The thread of jobs and webhooks, beside those that serve callers.

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use tokio::sync::watch;

use super::{IDLE_TIMEOUT, MAX_IDLE_CONNECTIONS};
use crate::clock::SystemWallClock;
use crate::config::ServerSettings;
use crate::control::jobs::{Worker, upkeep};
use crate::control::tasks::Tasks;
use crate::control::webhooks::{Sender, system_resolver};
use crate::dispatch::{Lane, Stop};
use crate::gateway::{Gateway, JobRunner};
use crate::sim::{Scenario, SimTransport};
use crate::upstream::live::LiveTransport;
use crate::upstream::{Transport, Transports};

/// Works on jobs and sends webhooks until told to stop.
///
/// # Errors
///
/// Where no thread is to be had.
pub(super) fn start(
    gateway: &Arc<Gateway>,
    settings: &ServerSettings,
    closing: &watch::Receiver<bool>,
) -> anyhow::Result<JoinHandle<()>> {
    let (gateway, settings, closing) = (Arc::clone(gateway), settings.clone(), closing.clone());
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(run(gateway, settings, closing)),
            Err(error) => tracing::error!("the thread of jobs ended: {error}"),
        }
    };
    std::thread::Builder::new()
        .name("jobs".to_owned())
        .spawn(work)
        .context("cannot start the thread of jobs")
}

async fn run(gateway: Arc<Gateway>, settings: ServerSettings, closing: watch::Receiver<bool>) {
    let live = Arc::new(LiveTransport::new(MAX_IDLE_CONNECTIONS, IDLE_TIMEOUT));
    let sim: Arc<dyn Transport> = Arc::new(SimTransport::new(Scenario::default()));
    let besides = Tasks::new();
    besides.spawn(Arc::clone(&live).sweep_idle());
    let jobs = gateway.jobs().clone();
    let metrics = Arc::clone(&gateway.metrics);
    let look = Arc::clone(&gateway);
    besides.spawn(upkeep(jobs.clone(), move || look.snapshot().settings.jobs.clone()));

    let look = Arc::clone(&gateway);
    let sender = Sender::new(
        jobs.clone(),
        system_resolver(),
        move || look.snapshot().settings.webhooks.clone(),
        Arc::new(SystemWallClock),
        Arc::clone(&metrics),
    );
    // Callers may read what was asked for a job, over a connection of this thread.
    let (flights, mut told) = (gateway.flights().clone(), closing.clone());
    let read_to_the_end = async {
        let _ = told.wait_for(|closing| *closing).await;
        let unread = super::until(|| flights.readers() == 0);
        let _ = tokio::time::timeout(settings.drain_timeout.0, unread).await;
    };
    // A job that does not end in time is begun again later, here or elsewhere.
    let lane = Lane { stop: Stop::default(), ..gateway.lane(Arc::new(Transports { live, sim })) };
    let runner = JobRunner::new(gateway, lane, settings.listen.ip().is_loopback());
    let worker = Worker::new(jobs, runner, metrics);
    let work = worker.run(closing.clone(), settings.drain_timeout.0);
    tokio::join!(work, sender.run(closing), read_to_the_end);
}
