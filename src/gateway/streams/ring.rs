//! The last events of one stream, numbered from 1 without a gap.
//!
//! Pure: what to drop, and when, is for the owner to decide.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

/// What keeping an event costs beside its bytes.
const EVENT_COST: usize = 64;

/// A byte-order mark, which may open a stream.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The events that are still kept.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Ring {
    events: VecDeque<Bytes>,
    /// How many were dropped.
    dropped: u64,
    cost: usize,
}

/// Why nothing can be read after some event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Missing {
    /// What follows it is not kept any longer.
    Dropped {
        /// The first event that is.
        oldest: u64,
    },
    /// There is no such event yet.
    Ahead {
        /// The newest event.
        newest: u64,
    },
}

/// A frame as the event of this number; `None` for one that no client would make an event of, such
/// as a comment. Ids of the provider's own are left out: the last one in an event would count.
pub(super) fn numbered(frame: &[u8], number: u64) -> Option<Bytes> {
    let mut event = BytesMut::with_capacity(frame.len() + 24);
    event.extend_from_slice(b"id: ");
    event.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    event.extend_from_slice(b"\n");
    let mut has_data = false;
    let mut rest = frame.strip_prefix(BOM).unwrap_or(frame).trim_ascii_start();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at_checked(line_len(rest))?;
        rest = tail;
        let end = line.iter().position(|byte| matches!(byte, b':' | b'\r' | b'\n'));
        let field = line.get(..end.unwrap_or(line.len())).unwrap_or_default();
        has_data |= field == b"data";
        if field != b"id" {
            event.extend_from_slice(line);
        }
    }
    has_data.then(|| event.freeze())
}

/// The length of the first line, its end included.
fn line_len(bytes: &[u8]) -> usize {
    let Some(end) = memchr2(b'\n', b'\r', bytes) else { return bytes.len() };
    let is_crlf = bytes.get(end..end + 2) == Some(b"\r\n");
    end + 1 + usize::from(is_crlf)
}

// === impl Ring ===

impl Ring {
    /// What keeping this event would cost, in bytes.
    pub(in crate::gateway) fn cost_of(event: &Bytes) -> usize {
        event.len() + EVENT_COST
    }

    /// What keeping its events costs, in bytes.
    pub(in crate::gateway) fn cost(&self) -> usize {
        self.cost
    }

    /// The bytes of its events alone.
    pub(in crate::gateway) fn bytes(&self) -> usize {
        self.cost - EVENT_COST * self.events.len()
    }

    /// Whether no event is kept.
    pub(in crate::gateway) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The number of the oldest event that is kept, or of the next where none is.
    pub(in crate::gateway) fn oldest(&self) -> u64 {
        self.dropped + 1
    }

    /// The number of the newest event; 0 before the first.
    pub(in crate::gateway) fn newest(&self) -> u64 {
        self.dropped + u64::try_from(self.events.len()).unwrap_or(u64::MAX)
    }

    /// Takes the next event.
    pub(in crate::gateway) fn push(&mut self, event: Bytes) {
        self.cost += Self::cost_of(&event);
        self.events.push_back(event);
    }

    /// Drops the oldest event and says what it cost.
    pub(in crate::gateway) fn drop_oldest(&mut self) -> usize {
        let Some(event) = self.events.pop_front() else { return 0 };
        let cost = Self::cost_of(&event);
        self.dropped += 1;
        self.cost -= cost;
        cost
    }

    /// Whether everything after an event is here, as far as there is anything.
    ///
    /// # Errors
    ///
    /// [`Missing`] where it is gone, or no such event has come.
    pub(in crate::gateway) fn check(&self, after: u64) -> Result<(), Missing> {
        if after < self.dropped {
            return Err(Missing::Dropped { oldest: self.oldest() });
        }
        if after > self.newest() {
            return Err(Missing::Ahead { newest: self.newest() });
        }
        Ok(())
    }

    /// The events after one, as one piece of about `limit` bytes, and the number of the last of
    /// them. `None` where there are none, or no longer.
    pub(in crate::gateway) fn read(&self, after: u64, limit: usize) -> Option<(Bytes, u64)> {
        let index = usize::try_from(after.checked_sub(self.dropped)?).ok()?;
        let first = self.events.get(index)?;
        let more = self.events.get(index + 1).is_some_and(|next| first.len() + next.len() <= limit);
        if !more {
            return Some((first.clone(), after + 1));
        }
        let (mut piece, mut last) = (BytesMut::new(), after);
        for event in self.events.range(index..) {
            if !piece.is_empty() && piece.len() + event.len() > limit {
                break;
            }
            piece.extend_from_slice(event);
            last += 1;
        }
        Some((piece.freeze(), last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_get_a_number_and_lose_ids_of_their_own() {
        let cases: [(&str, Option<&str>); 11] = [
            ("data: x\n\n", Some("id: 7\ndata: x\n\n")),
            ("event: ping\ndata: {}\n\n", Some("id: 7\nevent: ping\ndata: {}\n\n")),
            ("id: 99\ndata: x\n\n", Some("id: 7\ndata: x\n\n")),
            ("data: x\nid: 99\n\n", Some("id: 7\ndata: x\n\n")),
            ("data: x\r\nid\r\n\r\n", Some("id: 7\ndata: x\r\n\r\n")),
            ("data: x\rid:9\r\r", Some("id: 7\ndata: x\r\r")),
            ("identity: 1\ndata: id: 3\n\n", Some("id: 7\nidentity: 1\ndata: id: 3\n\n")),
            ("\u{feff}\n\ndata: x\n\n", Some("id: 7\ndata: x\n\n")),
            ("data\n\n", Some("id: 7\ndata\n\n")),
            (": keep-alive\n\n", None),
            ("event: ping\nretry: 3\n\n", None),
        ];
        for (frame, wanted) in cases {
            let got = numbered(frame.as_bytes(), 7);
            assert_eq!(got.as_deref(), wanted.map(str::as_bytes), "{frame:?}");
        }
    }

    /// Five events `a` to `e`, the first two of them dropped.
    fn ring() -> Ring {
        let mut ring = Ring::default();
        for event in ["a", "b", "c", "d", "e"] {
            ring.push(Bytes::from_static(event.as_bytes()));
        }
        assert_eq!(ring.drop_oldest() + ring.drop_oldest(), 2 * (EVENT_COST + 1));
        ring
    }

    #[test]
    fn what_follows_an_event_is_read_in_pieces() {
        let ring = ring();
        assert_eq!((ring.oldest(), ring.newest(), ring.cost()), (3, 5, 3 * (EVENT_COST + 1)));
        // After which event, how many bytes; which events come then.
        let cases = [
            (0, 100, ""),
            (1, 100, ""),
            (2, 100, "cde"),
            (2, 2, "cd"),
            (2, 1, "c"),
            // One event is read whatever its size.
            (3, 0, "d"),
            (4, 100, "e"),
            (5, 100, ""),
            (u64::MAX, 100, ""),
        ];
        for (after, limit, wanted) in cases {
            let wanted = (!wanted.is_empty())
                .then(|| (Bytes::from_static(wanted.as_bytes()), after + wanted.len() as u64));
            assert_eq!(ring.read(after, limit), wanted, "after {after}, up to {limit}");
        }
    }

    #[test]
    fn positions_that_cannot_be_read_from_are_told_apart() {
        let (dropped, ahead) = (Missing::Dropped { oldest: 3 }, Missing::Ahead { newest: 5 });
        let cases = [
            (0, Err(dropped)),
            (1, Err(dropped)),
            (2, Ok(())),
            (5, Ok(())),
            (6, Err(ahead)),
            (u64::MAX, Err(ahead)),
        ];
        for (after, wanted) in cases {
            assert_eq!(ring().check(after), wanted, "after {after}");
        }
        assert_eq!(Ring::default().check(0), Ok(()));
        assert_eq!(Ring::default().check(1), Err(Missing::Ahead { newest: 0 }));
    }
}
