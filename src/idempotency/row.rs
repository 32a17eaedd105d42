//! What the store knows of a key, and what follows from it. Pure.

use bytes::Bytes;

use super::Fingerprint;

/// What the store knows of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What the request said that has the key.
    pub fingerprint: Fingerprint,
    /// When the row is as good as gone, in milliseconds since 1970, as all times here.
    pub expires_at_ms: i64,
    /// How far the request is.
    pub progress: Progress,
}

/// How far a request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Somebody carries it out.
    Running {
        /// Until when they are believed to.
        lease_until_ms: i64,
        /// The token of their claim.
        token: i64,
    },
    /// It has come to its end.
    Done(Kept),
}

/// An outcome as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The HTTP status.
    pub status: u16,
    /// The reply's headers, in their order.
    pub headers: Vec<(String, String)>,
    /// The reply's body; `None` where it was too long to be kept.
    pub body: Option<Bytes>,
}

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Carry it out: nobody has, or what came of it is no longer kept.
    Execute,
    /// Share in what comes of it: somebody carries it out.
    Join,
    /// Repeat what came of it.
    Replay,
    /// Refuse it: the key belongs to a request that said something else.
    Mismatch,
    /// Carry it out: whoever was to do it has not been heard of for longer than their lease.
    TakeOver,
}

/// What to do with a request that says `fingerprint`, where `row` is what is known of its key.
pub fn decide(row: Option<&Row>, fingerprint: Fingerprint, now_ms: i64) -> Decision {
    let Some(row) = row.filter(|row| now_ms < row.expires_at_ms) else { return Decision::Execute };
    if row.fingerprint != fingerprint {
        return Decision::Mismatch;
    }
    match row.progress {
        Progress::Done(_) => Decision::Replay,
        Progress::Running { lease_until_ms, .. } if now_ms < lease_until_ms => Decision::Join,
        Progress::Running { .. } => Decision::TakeOver,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_decides() {
        use Decision as D;
        let [ours, theirs] = [b"ours", b"othr"].map(|body| Fingerprint::of(body, []));
        let done = || Progress::Done(Kept { status: 200, headers: Vec::new(), body: None });
        let running = || Progress::Running { lease_until_ms: 1_000, token: 1 };
        // What the row says, how far it is, when it expires; what is to be done at 999 and at 1000.
        let cases = [
            (ours, running(), 9_000, D::Join, D::TakeOver),
            (ours, done(), 9_000, D::Replay, D::Replay),
            (theirs, running(), 9_000, D::Mismatch, D::Mismatch),
            (theirs, done(), 9_000, D::Mismatch, D::Mismatch),
            (ours, done(), 1_000, D::Replay, D::Execute),
            (theirs, done(), 1_000, D::Mismatch, D::Execute),
            (ours, running(), 1_000, D::Join, D::Execute),
            (theirs, running(), 1_000, D::Mismatch, D::Execute),
        ];
        for (fingerprint, progress, expires_at_ms, before, then) in cases {
            let row = Row { fingerprint, expires_at_ms, progress };
            assert_eq!(decide(Some(&row), ours, 999), before, "{row:?}");
            assert_eq!(decide(Some(&row), ours, 1_000), then, "{row:?}");
        }
        assert_eq!(decide(None, ours, 0), D::Execute);
    }
}
