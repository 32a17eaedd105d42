//! The threads that serve requests.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{IDLE_TIMEOUT, MAX_IDLE_CONNECTIONS, limits, until_drained};
use crate::api::server::Server;
use crate::api::{self, Edge};
use crate::config::ServerSettings;
use crate::control::tasks::Tasks;
use crate::gateway::Gateway;
use crate::sim::{Scenario, SimTransport};
use crate::upstream::live::LiveTransport;
use crate::upstream::{Transport, Transports};

/// One thread a listener, all of them on the same address.
pub(super) fn start_data_threads(
    gateway: &Arc<Gateway>,
    settings: &ServerSettings,
    closing: &watch::Receiver<bool>,
    admin: Option<Router>,
    listeners: Vec<std::net::TcpListener>,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let sim: Arc<dyn Transport> = Arc::new(SimTransport::new(Scenario::default()));
    let mut threads = Vec::with_capacity(listeners.len());
    for (index, listener) in listeners.into_iter().enumerate() {
        let thread = DataThread {
            gateway: Arc::clone(gateway),
            settings: settings.clone(),
            closing: closing.clone(),
            sim: Arc::clone(&sim),
            admin: admin.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("data-{index}"))
            .spawn(move || thread.run(listener))
            .context("cannot start a data thread")?;
        threads.push(thread);
    }
    Ok(threads)
}

/// What a data thread is made of.
struct DataThread {
    gateway: Arc<Gateway>,
    settings: ServerSettings,
    closing: watch::Receiver<bool>,
    sim: Arc<dyn Transport>,
    /// The admin API, where it shares the listener.
    admin: Option<Router>,
}

impl DataThread {
    fn run(self, listener: std::net::TcpListener) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let served = runtime.and_then(|runtime| runtime.block_on(self.serve(listener)));
        if let Err(error) = served {
            tracing::error!("a data thread ended: {error}");
        }
    }

    async fn serve(self, listener: std::net::TcpListener) -> io::Result<()> {
        let Self { gateway, settings, closing, sim, admin } = self;
        let live = Arc::new(LiveTransport::new(MAX_IDLE_CONNECTIONS, IDLE_TIMEOUT));
        // Ends with the thread: it is no request that a stop would wait for.
        let upkeep = Tasks::new();
        upkeep.spawn(Arc::clone(&live).sweep_idle());
        let lane = gateway.lane(Arc::new(Transports { live, sim }));
        let metrics = Arc::clone(&gateway.metrics);
        let (going_on, within) =
            (Arc::clone(&gateway), (settings.drain_timeout.0, Arc::clone(&gateway)));
        let edge = Edge { gateway, lane, is_loopback: settings.listen.ip().is_loopback() };
        let listener = TcpListener::from_std(listener)?;
        let router = match admin {
            Some(admin) => api::router(edge).merge(admin),
            None => api::router(edge),
        };
        let server = Server { listener, router, limits: limits(&settings), metrics };
        let streams = || going_on.going_on();
        until_drained(server, closing, within, streams).await;
        Ok(())
    }
}
