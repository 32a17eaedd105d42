//! What the caller who leads a flight gets, kept for those who share it: its bytes as they are, and
//! what they mean.
//!
//! Pure: how much is kept, and who is woken, is for the owner to decide. A reader that has fallen
//! behind what is kept is told so; it never holds the others up.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

use crate::chat::Delta;
use crate::dialect::Dialect;
use crate::dispatch::tap::Tap;
use crate::failure::{Failure, FailureKind};

/// How much a block of pieces takes. A token's bytes are copied to the end of one: a piece of its
/// own would take two allocations and a place in a list, all of them far from each other when the
/// next token comes.
const BLOCK_BYTES: usize = 4 * 1024;

/// The most pieces in a block.
const BLOCK_PIECES: usize = 32;

/// What keeping a block costs beside its bytes: where its pieces end, and what they mean.
const BLOCK_COST: usize = BLOCK_PIECES * 128;

/// The pieces of an answer that are still kept, and who reads them.
#[derive(Debug)]
pub(super) struct Log {
    dialect: Dialect,
    blocks: VecDeque<Block>,
    /// Pieces that are not kept any more.
    dropped: u64,
    /// Pieces that are kept.
    kept: u64,
    /// What the oldest pieces that are kept mean, as far as somebody wanted to know.
    meant: VecDeque<Arc<[Delta]>>,
    /// Reads what they mean, once somebody wants to know.
    tap: Option<Tap>,
    /// How many were read for what they mean.
    tapped: u64,
    /// After how many pieces nothing can be read, and why.
    broken: Option<(u64, Failure)>,
    cost: usize,
    is_over: bool,
    /// By key, in its order; nearly always there is one.
    readers: Vec<Place>,
    /// How many of the readers want to know what the bytes mean.
    listeners: usize,
    next_key: u64,
}

/// Pieces that lie one after the other.
#[derive(Debug)]
struct Block {
    /// The first piece of it.
    first: u64,
    bytes: Vec<u8>,
    /// Where each piece ends.
    ends: Vec<u32>,
}

/// Where a reader is.
#[derive(Debug)]
struct Place {
    key: u64,
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
            dialect,
            blocks: VecDeque::new(),
            dropped: 0,
            kept: 0,
            meant: VecDeque::new(),
            tap: None,
            tapped: 0,
            broken: None,
            cost: 0,
            is_over: false,
            readers: Vec::new(),
            listeners: 0,
            next_key: 0,
        }
    }

    /// Begins to read from the beginning, which must still be kept; the key of the reader.
    pub(super) fn enter(&mut self, listens: bool) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.readers.push(Place { key, after: 0, listens });
        if listens {
            self.listeners += 1;
            self.listen();
        }
        key
    }

    pub(super) fn leave(&mut self, key: u64) {
        if let Some(at) = self.place(key)
            && self.readers.remove(at).listens
        {
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

    /// Room that is taken by what is kept, in bytes.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Whether nothing can be dropped but what came last.
    pub(super) fn is_short(&self) -> bool {
        self.blocks.len() <= 1
    }

    /// Takes the next piece, which is not empty; what keeping it costs more.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let has_room = |block: &Block| {
            let room = block.bytes.capacity() - block.bytes.len();
            room >= bytes.len() && block.ends.len() < BLOCK_PIECES
        };
        let cost = if self.blocks.back().is_some_and(has_room) {
            0
        } else {
            self.begin_block(bytes.len())
        };
        if let Some(block) = self.blocks.back_mut() {
            block.bytes.extend_from_slice(bytes);
            block.ends.push(u32::try_from(block.bytes.len()).unwrap_or(u32::MAX));
            self.kept += 1;
        }
        if self.listeners > 0 {
            self.listen();
        }
        cost
    }

    /// Drops the oldest pieces; what they cost.
    pub(super) fn drop_oldest(&mut self) -> usize {
        let Some(block) = self.blocks.pop_front() else { return 0 };
        let pieces = block.ends.len() as u64;
        self.dropped += pieces;
        self.kept -= pieces;
        self.meant.drain(..block.ends.len().min(self.meant.len()));
        let cost = block.cost();
        self.cost -= cost;
        cost
    }

    /// Says that nothing follows.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    /// Notes that a reader has got the piece that comes next. False where it has yet to get others.
    pub(super) fn pass(&mut self, key: u64) -> bool {
        let next = self.newest();
        let Some(at) = self.place(key) else { return false };
        let place = self.readers.get_mut(at).filter(|place| place.after == next);
        place.map(|place| place.after += 1).is_some()
    }

    /// The next bytes for a reader.
    pub(super) fn bytes(&mut self, key: u64) -> Next<Bytes> {
        self.next(key, |log, piece| log.piece(piece).map(Bytes::copy_from_slice))
    }

    /// What the next bytes mean, perhaps nothing.
    pub(super) fn deltas(&mut self, key: u64) -> Next<Arc<[Delta]>> {
        let after = self.place(key).and_then(|at| self.readers.get(at)).map(|place| place.after);
        if let Some((_, failure)) = self.broken.as_ref().filter(|(at, _)| Some(*at) == after) {
            return Next::Broken(failure.clone());
        }
        self.next(key, |log, piece| {
            let at = usize::try_from(piece - log.dropped).ok()?;
            // What came after something that cannot be read was not read.
            (piece < log.newest()).then(|| log.meant.get(at).cloned().unwrap_or_default())
        })
    }

    /// Whether a reader has got everything so far.
    pub(super) fn is_caught_up(&self, key: u64) -> bool {
        let place = self.place(key).and_then(|at| self.readers.get(at));
        place.is_none_or(|place| place.after == self.newest())
    }

    fn newest(&self) -> u64 {
        self.dropped + self.kept
    }

    fn place(&self, key: u64) -> Option<usize> {
        self.readers.binary_search_by_key(&key, |place| place.key).ok()
    }

    fn begin_block(&mut self, bytes: usize) -> usize {
        let bytes = Vec::with_capacity(bytes.max(BLOCK_BYTES));
        let block = Block { first: self.newest(), bytes, ends: Vec::new() };
        let cost = block.cost();
        self.cost += cost;
        self.blocks.push_back(block);
        cost
    }

    /// The bytes of a piece that is kept.
    fn piece(&self, piece: u64) -> Option<&[u8]> {
        let after = self.blocks.partition_point(|block| block.first <= piece);
        let block = self.blocks.get(after.checked_sub(1)?)?;
        let at = usize::try_from(piece - block.first).ok()?;
        let begin = at.checked_sub(1).map_or(Some(0), |before| block.ends.get(before).copied())?;
        let end = *block.ends.get(at)?;
        block.bytes.get(usize::try_from(begin).ok()?..usize::try_from(end).ok()?)
    }

    fn next<T>(&mut self, key: u64, of: impl Fn(&Self, u64) -> Option<T>) -> Next<T> {
        let Some(at) = self.place(key) else { return Next::Over };
        let Some(after) = self.readers.get(at).map(|place| place.after) else { return Next::Over };
        if after < self.dropped {
            return Next::TooLate;
        }
        match of(self, after) {
            Some(piece) => {
                if let Some(place) = self.readers.get_mut(at) {
                    place.after += 1;
                }
                Next::Piece(piece)
            }
            None if self.is_over => Next::Over,
            None => Next::Nothing,
        }
    }

    /// Reads what was not read yet for what it means.
    fn listen(&mut self) {
        while self.broken.is_none()
            && self.tapped >= self.dropped
            && let Some(piece) = self.piece(self.tapped).map(Bytes::copy_from_slice)
        {
            let tap = self.tap.get_or_insert_with(|| Tap::new(self.dialect));
            // A fault of ours must leave nobody waiting.
            let read = AssertUnwindSafe(|| tap.push(piece).map(Iterator::collect));
            let panicked = |_| Err(Failure::new(FailureKind::MidStream, "panic within a decoder"));
            let meant = match catch_unwind(read).unwrap_or_else(panicked) {
                Ok(deltas) => deltas,
                Err(failure) => {
                    self.broken = Some((self.tapped + 1, failure));
                    tap.rest().collect()
                }
            };
            self.meant.push_back(meant);
            self.tapped += 1;
        }
    }
}

// === impl Block ===

impl Block {
    fn cost(&self) -> usize {
        self.bytes.capacity() + BLOCK_COST
    }
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
        log.push(&chunk("a"));
        log.push(&chunk("b"));
        assert_eq!(log.bytes(leader), Next::Piece(chunk("a")));
        let early = log.enter(true);
        assert_eq!(heard(&mut log, early), ("ab".to_owned(), Next::Nothing));
        log.push(&chunk("c"));
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
    fn who_is_given_a_piece_gets_it_no_second_time() {
        let mut log = Log::new(Dialect::OpenAiChat);
        let (given, behind) = (log.enter(false), log.enter(false));
        assert!(log.pass(given) && log.pass(behind));
        log.push(&chunk("a"));
        assert!(log.pass(given));
        log.push(&chunk("b"));
        log.push(&chunk(&"c".repeat(2 * BLOCK_BYTES)));
        assert!(!log.pass(given), "it has yet to get another");
        assert_eq!(log.bytes(given), Next::Piece(chunk(&"c".repeat(2 * BLOCK_BYTES))));
        assert_eq!(log.bytes(given), Next::Nothing);
        assert_eq!(log.bytes(behind), Next::Piece(chunk("b")));
        assert!(!log.is_caught_up(behind));
        log.leave(behind);
        assert!(!log.pass(behind), "who has left");
    }

    #[test]
    fn events_are_understood_wherever_their_bytes_are_cut() {
        let whole = [chunk("a"), chunk("b")].concat();
        for size in [1, 7, whole.len()] {
            let mut log = Log::new(Dialect::OpenAiChat);
            let key = log.enter(true);
            for piece in whole.chunks(size) {
                log.push(piece);
            }
            assert_eq!(heard(&mut log, key), ("ab".to_owned(), Next::Nothing));
        }
    }

    #[test]
    fn who_falls_behind_what_is_kept_is_told_and_holds_nobody_up() {
        let mut log = Log::new(Dialect::OpenAiChat);
        let (slow, quick) = (log.enter(true), log.enter(true));
        // Two in a block.
        let long = "x".repeat(BLOCK_BYTES / 2 - chunk("").len());
        let costs: usize =
            [long.as_str(), &long, "c"].map(|text| log.push(&chunk(text))).iter().sum();
        assert_eq!((log.cost(), log.is_short()), (costs, false));
        assert_eq!(heard(&mut log, quick).0, format!("{long}{long}c"));
        let dropped = log.drop_oldest();
        assert_eq!((log.cost(), log.is_short()), (costs - dropped, true));
        assert_eq!(heard(&mut log, slow), (String::new(), Next::TooLate));
        log.push(&chunk("d"));
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
            pieces.iter().for_each(|piece| _ = log.push(piece));
            let late = log.enter(true);
            for key in [early, late] {
                let (text, next) = heard(&mut log, key);
                assert_eq!(text, "a");
                assert!(matches!(next, Next::Broken(_)), "{next:?}");
            }
        }
    }
}
