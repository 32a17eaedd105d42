//! A ring and those who read it: each gets every event from some place on, and nothing is dropped
//! that one of them has yet to get.
//!
//! Pure but for wakers: how much is kept is for the owner to decide, and locks are its own.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::ring::Ring;

/// The most that a reader is given at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// What readers are told while nothing comes.
const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// Events, those to come included, and who reads them.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Log {
    ring: Ring,
    /// Whether nothing follows.
    is_over: bool,
    /// How many comments there were. They are passed on and not kept.
    comments: u64,
    readers: Vec<Place>,
    next_key: u64,
}

/// Where a reader is.
#[derive(Debug)]
struct Place {
    key: u64,
    /// The last event it has got.
    after: u64,
    /// The last comment it has got.
    comments: u64,
    waker: Option<Waker>,
}

// === impl Log ===

impl Log {
    /// What is kept.
    pub(in crate::gateway) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Whether nothing follows.
    pub(in crate::gateway) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether anybody reads.
    pub(in crate::gateway) fn is_read(&self) -> bool {
        !self.readers.is_empty()
    }

    // What readers do.

    /// Begins to read after an event; 0 is the beginning. Gives the reader's key. Whether what
    /// follows is kept is for the owner to check.
    pub(in crate::gateway) fn enter(&mut self, after: u64) -> u64 {
        let (key, comments) = (self.next_key, self.comments);
        self.next_key += 1;
        self.readers.push(Place { key, after, comments, waker: None });
        key
    }

    pub(in crate::gateway) fn leave(&mut self, key: u64) {
        self.readers.retain(|place| place.key != key);
    }

    /// What a reader gets next; `None` at the end.
    pub(in crate::gateway) fn poll_read(
        &mut self,
        key: u64,
        cx: &Context<'_>,
    ) -> Poll<Option<Bytes>> {
        let Some(place) = self.readers.iter_mut().find(|place| place.key == key) else {
            return Poll::Ready(None);
        };
        if let Some((piece, last)) = self.ring.read(place.after, PIECE_BYTES) {
            (place.after, place.comments) = (last, self.comments);
            return Poll::Ready(Some(piece));
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        if place.comments != self.comments {
            place.comments = self.comments;
            return Poll::Ready(Some(KEEP_ALIVE));
        }
        place.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Has a reader woken when something happens.
    pub(in crate::gateway) fn wait(&mut self, key: u64, cx: &Context<'_>) {
        if let Some(place) = self.readers.iter_mut().find(|place| place.key == key) {
            place.waker = Some(cx.waker().clone());
        }
    }

    /// Whether a reader has got nothing yet.
    pub(in crate::gateway) fn is_untouched(&self, key: u64) -> bool {
        self.readers.iter().any(|place| place.key == key && place.after == 0)
    }

    // What the owner does.

    /// Takes the next event.
    pub(in crate::gateway) fn push(&mut self, event: Bytes) {
        self.ring.push(event);
        self.wake_readers();
    }

    /// Passes a comment on to those who have got everything else.
    pub(in crate::gateway) fn comment(&mut self) {
        self.comments += 1;
        self.wake_readers();
    }

    /// Drops the oldest event and says what it cost; `None` while a reader has yet to get it.
    pub(in crate::gateway) fn drop_oldest(&mut self) -> Option<usize> {
        let oldest = self.ring.oldest();
        let is_awaited = self.readers.iter().any(|place| place.after < oldest);
        (!is_awaited).then(|| self.ring.drop_oldest())
    }

    /// Says that nothing follows.
    pub(in crate::gateway) fn end(&mut self) {
        self.is_over = true;
        self.wake_readers();
    }

    pub(in crate::gateway) fn wake_readers(&mut self) {
        for place in &mut self.readers {
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
    }

    /// All of it as one piece, where nothing was dropped.
    pub(in crate::gateway) fn whole(&self) -> Option<Bytes> {
        (self.ring.oldest() == 1).then(|| {
            let all = self.ring.read(0, usize::MAX);
            all.map_or_else(Bytes::new, |(bytes, _)| bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: &mut Log, key: u64) -> Option<Option<Bytes>> {
        match log.poll_read(key, &Context::from_waker(Waker::noop())) {
            Poll::Ready(got) => Some(got),
            Poll::Pending => None,
        }
    }

    #[test]
    fn nothing_is_dropped_that_a_reader_has_yet_to_get() {
        let mut log = Log::default();
        let (slow, quick) = (log.enter(0), log.enter(0));
        log.push(Bytes::from_static(b"a"));
        log.push(Bytes::from_static(b"b"));
        assert_eq!(log.whole().unwrap(), "ab");
        assert_eq!(read(&mut log, quick), Some(Some(Bytes::from_static(b"ab"))));
        assert!(log.is_untouched(slow) && !log.is_untouched(quick));
        assert_eq!(log.drop_oldest(), None);
        log.leave(slow);
        assert!(log.drop_oldest().is_some_and(|cost| cost > 1));
        assert_eq!(log.whole(), None);
        log.end();
        assert_eq!(read(&mut log, quick), Some(None));
        assert_eq!(read(&mut log, slow), Some(None), "it has left");
    }

    #[test]
    fn comments_reach_those_who_wait_and_are_not_kept() {
        let mut log = Log::default();
        let early = log.enter(0);
        log.comment();
        log.comment();
        let late = log.enter(0);
        assert_eq!(read(&mut log, early), Some(Some(KEEP_ALIVE)));
        assert_eq!(read(&mut log, early), None, "one for both");
        assert_eq!(read(&mut log, late), None);
        log.comment();
        log.push(Bytes::from_static(b"a"));
        assert_eq!(read(&mut log, late), Some(Some(Bytes::from_static(b"a"))));
        assert_eq!(read(&mut log, late), None, "an event is sign enough");
    }
}
