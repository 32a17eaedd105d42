//! The signal that asks for a reload.

/// SIGHUP, where there is such a thing.
pub(super) struct Hangups {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

// === impl Hangups ===

impl Hangups {
    #[cfg(unix)]
    pub(super) fn new() -> Self {
        let hangup = tokio::signal::unix::SignalKind::hangup();
        Self { signal: tokio::signal::unix::signal(hangup).ok() }
    }

    #[cfg(not(unix))]
    pub(super) fn new() -> Self {
        Self {}
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
