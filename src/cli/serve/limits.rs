//! What callers have used: kept up while the gateway runs, and restored when it starts and when new
//! limits come in.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::callers::{CallersSource, Roster};
use crate::clock::{Instant, SystemWallClock, WallClock as _};
use crate::config::Snapshot;
use crate::control::tasks::Tasks;
use crate::gateway::Gateway;
use crate::limits::Restored;

/// How long the start waits for what limits have used, and how often that is tried again.
const RESTORE_WITHIN: Duration = Duration::from_secs(2);
const RESTORE_EVERY: Duration = Duration::from_secs(1);
/// How often it is said that it still cannot be done.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether new limits came in.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the journal may take to write what waits, before it is read as it is.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// Which configuration and which change of callers it is.
type Revision = (u64, (i64, CallersSource));

/// Starts what runs beside limits, and restores them. A store that is away must not hold up the
/// start: then they are restored as soon as it is back.
pub(super) async fn start(gateway: &Arc<Gateway>, tasks: &Tasks) {
    let limits = Arc::clone(gateway.limits());
    tasks.spawn(async move { limits.upkeep().await });
    let (restored, restoring) = oneshot::channel();
    let began_ms = SystemWallClock.unix_ms();
    tasks.spawn(keep_restored(Arc::clone(gateway), began_ms, restored));
    let _ = tokio::time::timeout(RESTORE_WITHIN, restoring).await;
}

/// Counts what earlier runs have used of limits, and what was used before a change brought them in.
/// `first` is told once the limits of the start are restored.
async fn keep_restored(gateway: Arc<Gateway>, began_ms: u64, first: oneshot::Sender<()>) {
    let (limits, journal) = (gateway.limits(), &gateway.journal);
    let mut first = Some(first);
    let mut restored = Restored::default();
    let mut seen = None;
    let mut complaints = Complaints::default();
    loop {
        let looked_at_ms = SystemWallClock.unix_ms();
        let Some((snapshot, roster, now)) = changed(&gateway, seen) else {
            restored.note_unchanged(looked_at_ms);
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        let before_ms = match seen {
            None => began_ms,
            Some(seen) => {
                // What has ended but is not written is read as if it had never been.
                let _ = tokio::time::timeout(FLUSH_WITHIN, journal.flush()).await;
                changed_at(&gateway, seen, (now, roster.read_at_ms))
            }
        };
        match limits.restore(&mut restored, journal, (&snapshot, &roster), before_ms).await {
            Ok(()) => {
                seen = Some(now);
                if complaints.end() {
                    tracing::info!("what limits have used is known again");
                }
                // An error means that the start did not wait for it.
                let _ = first.take().map(|first| first.send(()));
            }
            Err(error) => {
                if complaints.is_due(Instant::now()) {
                    tracing::warn!("what limits have used cannot be read yet: {error}");
                }
                tokio::time::sleep(RESTORE_EVERY).await;
            }
        }
    }
}

/// When it was last said that something cannot be done: once, and then from time to time.
#[derive(Debug, Default)]
struct Complaints {
    last: Option<Instant>,
}

impl Complaints {
    /// Whether to say it now.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_old = |last: Instant| now.saturating_duration_since(last) >= COMPLAIN_EVERY;
        let is_due = self.last.is_none_or(is_old);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }

    /// It can be done. Whether it was said before that it cannot.
    fn end(&mut self) -> bool {
        self.last.take().is_some()
    }
}

/// The configuration and the callers, where they are others than those that were `seen`.
fn changed(gateway: &Gateway, seen: Option<Revision>) -> Option<(Arc<Snapshot>, Roster, Revision)> {
    let snapshot = gateway.snapshot();
    let now = (snapshot.revision, gateway.callers.revision()?);
    let status = gateway.reload_status();
    let is_settled = status.is_none_or(|status| status.revision == snapshot.revision);
    if seen == Some(now) || !is_settled {
        return None;
    }
    let roster = gateway.callers.roster()?;
    let now = (snapshot.revision, roster.revision);
    Some((snapshot, roster, now))
}

/// When what was `seen` became what it is `now`. Where both changed it is the earlier time: a
/// little is forgotten then rather than counted twice.
fn changed_at(gateway: &Gateway, seen: Revision, (now, read_at_ms): (Revision, u64)) -> u64 {
    let of_callers = (seen.1 != now.1).then_some(read_at_ms);
    let loaded_at_ms = gateway.reload_status().map(|status| status.loaded_at_unix_ms);
    let of_configuration = loaded_at_ms.filter(|_| seen.0 != now.0);
    let times = [of_callers, of_configuration].into_iter().flatten();
    times.min().unwrap_or_else(|| SystemWallClock.unix_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_stays_away_is_complained_of_once_and_then_once_a_minute() {
        let start = Instant::now();
        let mut complaints = Complaints::default();
        let said = (0..180).filter(|s| complaints.is_due(start + Duration::from_secs(*s)));
        assert_eq!(said.collect::<Vec<_>>(), [0, 60, 120]);
        assert!(complaints.end());
        assert!(!complaints.end());
        assert!(complaints.is_due(start + Duration::from_secs(180)), "another outage");
    }
}
