//! What the caller who leads a flight gets, kept for those who share it: its bytes as they are, and
//! what they mean.
//!
//! Pure: how much is kept, and who is woken, is for the owner to decide. A reader that has fallen
//! behind what is kept is told so; it never holds the others up.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::chat::Delta;
use crate::dialect::Dialect;
use crate::dispatch::tap::Tap;
use crate::failure::Failure;

/// What keeping a piece costs beside its bytes: its place, and what it means.
const PIECE_COST: usize = 128;

/// The pieces of an answer that are still kept, and who reads them.
#[derive(Debug)]
pub(super) struct Log {
    tap: Tap,
    pieces: VecDeque<Piece>,
    /// How many are not kept any more.
    dropped: u64,
    /// How many were read for what they mean.
    tapped: u64,
    /// After how many pieces nothing can be read, and why.
    broken: Option<(u64, Failure)>,
    cost: usize,
    is_over: bool,
    readers: HashMap<u64, Place>,
    /// How many of the readers want to know what the bytes mean.
    listeners: usize,
    next_key: u64,
}

#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    /// What it means, once somebody wants to know.
    deltas: Arc<[Delta]>,
}

/// Where a reader is.
#[derive(Debug)]
struct Place {
    /// How many pieces it has got.
    after: u64,
    listens: bool,
}

/// What a reader gets next.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::dispatch) enum Next<T> {
    /// This.
    Piece(T),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    Over,
    /// It came too late: what follows is not kept any more.
    TooLate,
    /// The answer broke off, or cannot be read.
    Broken(Failure),
}

// === impl Log ===

impl Log {
    /// For an answer in this dialect.
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            tap: Tap::new(dialect),
            pieces: VecDeque::new(),
            dropped: 0,
            tapped: 0,
            broken: None,
            cost: 0,
            is_over: false,
            readers: HashMap::new(),
            listeners: 0,
            next_key: 0,
        }
    }

    /// Begins to read from the beginning, which must still be kept; the key of the reader.
    pub(super) fn enter(&mut self, listens: bool) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.readers.insert(key, Place { after: 0, listens });
        if listens {
            self.listeners += 1;
            self.listen();
        }
        key
    }

    pub(super) fn leave(&mut self, key: u64) {
        if self.readers.remove(&key).is_some_and(|place| place.listens) {
            self.listeners -= 1;
        }
    }

    /// Whether anybody reads.
    pub(super) fn is_read(&self) -> bool {
        !self.readers.is_empty()
    }

    /// Whether there is something that cannot be read, or an error event, as far as anybody has
    /// listened.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// What is kept, in bytes.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// How many pieces are kept.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Takes the next piece; what it costs.
    pub(super) fn push(&mut self, bytes: Bytes) -> usize {
        let cost = cost_of(&bytes);
        self.cost += cost;
        self.pieces.push_back(Piece { bytes, deltas: Arc::default() });
        if self.listeners > 0 {
            self.listen();
        }
        cost
    }

    /// Drops the oldest piece; what it cost.
    pub(super) fn drop_oldest(&mut self) -> usize {
        let Some(piece) = self.pieces.pop_front() else { return 0 };
        self.dropped += 1;
        let cost = cost_of(&piece.bytes);
        self.cost -= cost;
        cost
    }

    /// Says that nothing follows.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    /// The next bytes for a reader.
    pub(super) fn bytes(&mut self, key: u64) -> Next<Bytes> {
        self.next(key, |piece| piece.bytes.clone())
    }

    /// What the next bytes mean, perhaps nothing.
    pub(super) fn deltas(&mut self, key: u64) -> Next<Arc<[Delta]>> {
        let after = self.readers.get(&key).map(|place| place.after);
        if let Some((_, failure)) = self.broken.as_ref().filter(|(at, _)| Some(*at) == after) {
            return Next::Broken(failure.clone());
        }
        self.next(key, |piece| Arc::clone(&piece.deltas))
    }

    /// Whether a reader has got everything so far.
    pub(super) fn is_caught_up(&self, key: u64) -> bool {
        self.readers.get(&key).is_none_or(|place| place.after == self.newest())
    }

    fn newest(&self) -> u64 {
        self.dropped + self.pieces.len() as u64
    }

    fn next<T>(&mut self, key: u64, of: impl Fn(&Piece) -> T) -> Next<T> {
        let Some(place) = self.readers.get_mut(&key) else { return Next::Over };
        let Some(at) = place.after.checked_sub(self.dropped) else { return Next::TooLate };
        match usize::try_from(at).ok().and_then(|at| self.pieces.get(at)) {
            Some(piece) => {
                place.after += 1;
                Next::Piece(of(piece))
            }
            None if self.is_over => Next::Over,
            None => Next::Nothing,
        }
    }

    /// Reads what was not read yet for what it means.
    fn listen(&mut self) {
        while self.broken.is_none()
            && let Some(at) = self.tapped.checked_sub(self.dropped)
            && let Some(piece) = usize::try_from(at).ok().and_then(|at| self.pieces.get_mut(at))
        {
            self.tapped += 1;
            let meant = self.tap.push(piece.bytes.clone()).map(Iterator::collect);
            match meant {
                Ok(deltas) => piece.deltas = deltas,
                Err(failure) => {
                    piece.deltas = self.tap.rest().collect();
                    self.broken = Some((self.tapped, failure));
                }
            }
        }
    }
}

fn cost_of(bytes: &Bytes) -> usize {
    bytes.len() + PIECE_COST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str) -> Bytes {
        let json = format!(
            "{{\"id\":\"x\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}"
        );
        format!("data: {json}\n\n").into()
    }

    /// The text that a listener gets until there is nothing for it, and what it is told then.
    fn heard(log: &mut Log, key: u64) -> (String, Next<()>) {
        let mut text = String::new();
        loop {
            match log.deltas(key) {
                Next::Piece(deltas) => {
                    for delta in deltas.iter() {
                        if let Delta::Text { text: more, .. } = delta {
                            text.push_str(more);
                        }
                    }
                }
                Next::Nothing => return (text, Next::Nothing),
                Next::Over => return (text, Next::Over),
                Next::TooLate => return (text, Next::TooLate),
                Next::Broken(failure) => return (text, Next::Broken(failure)),
            }
        }
    }

    #[test]
    fn who_comes_late_gets_everything_from_the_beginning() {
        let mut log = Log::new(Dialect::OpenAiChat);
        let leader = log.enter(false);
        log.push(chunk("a"));
        log.push(chunk("b"));
        assert_eq!(log.bytes(leader), Next::Piece(chunk("a")));
        let early = log.enter(true);
        assert_eq!(heard(&mut log, early), ("ab".to_owned(), Next::Nothing));
        log.push(chunk("c"));
        let late = log.enter(true);
        assert_eq!(heard(&mut log, late), ("abc".to_owned(), Next::Nothing));
        assert_eq!(heard(&mut log, early), ("c".to_owned(), Next::Nothing));
        log.end();
        assert!(!log.is_caught_up(leader) && log.is_caught_up(early));
        assert_eq!(log.bytes(leader), Next::Piece(chunk("b")));
        assert_eq!(log.bytes(leader), Next::Piece(chunk("c")));
        assert_eq!(log.bytes(leader), Next::Over);
        assert_eq!(heard(&mut log, late).1, Next::Over);
    }

    #[test]
    fn events_are_understood_wherever_their_bytes_are_cut() {
        let whole = [chunk("a"), chunk("b")].concat();
        for size in [1, 7, whole.len()] {
            let mut log = Log::new(Dialect::OpenAiChat);
            let key = log.enter(true);
            for piece in whole.chunks(size) {
                log.push(Bytes::copy_from_slice(piece));
            }
            assert_eq!(heard(&mut log, key), ("ab".to_owned(), Next::Nothing));
        }
    }

    #[test]
    fn who_falls_behind_what_is_kept_is_told_and_holds_nobody_up() {
        let mut log = Log::new(Dialect::OpenAiChat);
        let (slow, quick) = (log.enter(true), log.enter(true));
        let costs: usize = ["a", "b", "c"].map(|text| log.push(chunk(text))).iter().sum();
        assert_eq!(log.cost(), costs);
        assert_eq!(heard(&mut log, quick).0, "abc");
        let dropped = log.drop_oldest();
        assert_eq!((log.cost(), log.len()), (costs - dropped, 2));
        assert_eq!(heard(&mut log, slow), (String::new(), Next::TooLate));
        log.push(chunk("d"));
        assert_eq!(heard(&mut log, quick).0, "d");
        log.leave(quick);
        log.leave(slow);
        assert!(!log.is_read());
    }

    #[test]
    fn an_error_event_comes_after_what_was_said_before_it() {
        let error = Bytes::from_static(b"data: {\"error\":{\"message\":\"no\"}}\n\n");
        for pieces in [vec![chunk("a"), error.clone()], vec![[chunk("a"), error].concat().into()]] {
            let mut log = Log::new(Dialect::OpenAiChat);
            let early = log.enter(true);
            pieces.into_iter().for_each(|piece| _ = log.push(piece));
            let late = log.enter(true);
            for key in [early, late] {
                let (text, next) = heard(&mut log, key);
                assert_eq!(text, "a");
                assert!(matches!(next, Next::Broken(_)), "{next:?}");
            }
        }
    }
}
