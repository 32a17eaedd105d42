//! Who is at the other end of a connection, for the audit log.
//!
//! Each connection is served by one task, so that the address belongs to the task: no request has
//! to carry it.

use std::net::IpAddr;

tokio::task_local! {
    static PEER: IpAddr;
}

/// Serves a connection of `peer`.
pub async fn within<F: Future>(peer: IpAddr, serving: F) -> F::Output {
    PEER.scope(peer, serving).await
}

/// The other end of the connection that is served now; `None` outside of one.
pub fn current() -> Option<IpAddr> {
    PEER.try_with(|peer| *peer).ok()
}
