//! Whether an answer came whole.

use hyper::body::Bytes;
use memchr::memmem;
use serde::de::IgnoredAny;

use crate::wires::MARK;

/// Counts a word in a body that comes in pieces, wherever it was cut.
#[derive(Debug)]
struct Count {
    word: &'static [u8],
    seen: usize,
    /// The end of what has come, shorter by one than the word.
    end: Vec<u8>,
}

impl Count {
    fn new(word: &'static str) -> Self {
        Self { word: word.as_bytes(), seen: 0, end: Vec::with_capacity(2 * word.len()) }
    }

    /// How often the word was completed by this piece.
    fn push(&mut self, piece: &[u8]) -> usize {
        let keep = self.word.len() - 1;
        // What lies over the cut: neither side alone is long enough to hold the word.
        self.end.extend(piece.iter().take(keep));
        let mut found = memmem::find_iter(&self.end, self.word).count();
        found += memmem::find_iter(piece, self.word).count();
        if piece.len() >= keep {
            self.end.clear();
            self.end.extend(piece.iter().skip(piece.len() - keep));
        } else {
            let surplus = self.end.len().saturating_sub(keep);
            self.end.drain(..surplus);
        }
        self.seen += found;
        found
    }
}

/// What has come of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    is_stream: bool,
    tokens: Count,
    done: Count,
    /// The body, of a whole answer or a refusal.
    kept: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(is_stream: bool) -> Self {
        Self { is_stream, tokens: Count::new(MARK), done: Count::new("[DONE]"), kept: Vec::new() }
    }

    /// Takes the next piece and says how many tokens it completed.
    pub(crate) fn push(&mut self, piece: &Bytes) -> usize {
        if self.is_stream {
            self.done.push(piece);
        } else {
            self.kept.extend_from_slice(piece);
        }
        self.tokens.push(piece)
    }

    /// What is wrong with it now that it has ended.
    pub(crate) fn problem(&self, tokens: usize) -> Option<String> {
        let seen = self.tokens.seen;
        if seen != tokens {
            return Some(format!("{seen} tokens of {tokens}"));
        }
        if self.is_stream {
            return (self.done.seen != 1).then(|| format!("ended {} times", self.done.seen));
        }
        serde_json::from_slice::<IgnoredAny>(&self.kept)
            .err()
            .map(|error| format!("not JSON: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_wherever_it_is_cut() {
        let text = b"wave wawave wave, wavewave w";
        for size in 1..text.len() {
            let mut count = Count::new("wave");
            let found: usize = text.chunks(size).map(|piece| count.push(piece)).sum();
            assert_eq!((found, count.seen), (5, 5), "in pieces of {size}");
        }
    }

    #[test]
    fn a_stream_without_its_end_is_not_whole() {
        let mut answer = Answer::new(true);
        assert_eq!(answer.push(&Bytes::from_static(b"data: a wave\n\ndata: [DO")), 1);
        assert_eq!(answer.problem(1).unwrap(), "ended 0 times");
        answer.push(&Bytes::from_static(b"NE]\n\n"));
        assert_eq!(answer.problem(1), None);
        assert_eq!(answer.problem(2).unwrap(), "1 tokens of 2");
    }

    #[test]
    fn half_a_whole_answer_is_not_whole() {
        let mut answer = Answer::new(false);
        answer.push(&Bytes::from_static(br#"{"text":"wave""#));
        assert!(answer.problem(1).unwrap().starts_with("not JSON"));
    }
}
