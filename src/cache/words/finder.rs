//! Finds any of some phrases in a text, as whole words.

use std::collections::{HashMap, VecDeque};

use aho_corasick::Anchored;
use aho_corasick::automaton::Automaton;
use aho_corasick::dfa::DFA;

/// Finds phrases in the [`plain`](super::plain) form of a text, without making it: prompts are
/// long, and making it costs as much as looking through it.
///
/// It is an automaton with a step per byte. What the plain form does to a byte (its case, runs of
/// anything but letters) is in the steps.
#[derive(Debug)]
pub(super) struct Finder {
    /// What each byte of a text is read as: a column of `steps`.
    columns: [u8; 256],
    /// The same for bytes of the plain form.
    plain: [u8; 256],
    /// Where each state goes, by column. A state is where its row begins.
    steps: Vec<u16>,
    /// Before the first letter.
    start: u16,
}

/// The column of anything but letters and digits.
const BLANK: u8 = 0;
/// The column of a letter or digit that is in no phrase.
const OTHER: u8 = 1;
/// What a byte beyond ASCII is read as: its character is read by itself.
const BEYOND: u8 = u8::MAX;
/// Columns of a row.
const WIDTH: u16 = 64;
/// Where a phrase has been found, and stays found.
const FOUND: u16 = 0;
/// A byte that is in no text.
const NO_TEXT: u8 = 0xFF;

// === impl Finder ===

impl Finder {
    /// Finds these phrases: lower case, words with a blank between. Of more than fit, some hundred,
    /// none is found; that is a mistake in the lists.
    pub(super) fn of<'a>(phrases: impl Iterator<Item = &'a &'a str>) -> Self {
        let phrases: Vec<_> = phrases.map(|phrase| format!(" {phrase} ")).collect();
        let mut plain = [OTHER; 256];
        let mut letters = vec![b' ', NO_TEXT];
        for byte in phrases.iter().flat_map(|phrase| phrase.bytes()) {
            if !letters.contains(&byte) {
                letters.push(byte);
            }
        }
        for (byte, column) in letters.iter().zip(BLANK..) {
            plain[usize::from(*byte)] = column;
        }
        let columns = std::array::from_fn(|byte| match u8::try_from(byte) {
            Ok(byte) if byte.is_ascii_alphanumeric() => {
                plain[usize::from(byte.to_ascii_lowercase())]
            }
            Ok(byte) if byte.is_ascii() => BLANK,
            Ok(_) | Err(_) => BEYOND,
        });
        let made = DFA::new(&phrases).ok().and_then(|found| rows(&found, &letters));
        debug_assert!(made.is_some(), "a few short phrases fit");
        let (steps, start) = made.unwrap_or_else(|| (vec![WIDTH; 2 * usize::from(WIDTH)], WIDTH));
        Self { columns, plain, steps, start }
    }

    /// Whether one of them stands in a text.
    pub(super) fn finds_in(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let mut state = self.start;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            at += 1;
            let column = self.columns[usize::from(byte)];
            if column != BEYOND {
                state = self.step(state, column);
                continue;
            }
            let Some(character) = letter(text, at - 1) else {
                state = self.step(state, BLANK);
                continue;
            };
            at += character.len_utf8() - 1;
            let mut buffer = [0; 4];
            for lower in character.to_lowercase() {
                for byte in lower.encode_utf8(&mut buffer).bytes() {
                    state = self.step(state, self.plain[usize::from(byte)]);
                }
            }
        }
        self.step(state, BLANK) == FOUND
    }

    fn step(&self, state: u16, column: u8) -> u16 {
        self.steps.get(usize::from(state) + usize::from(column)).copied().unwrap_or(FOUND)
    }
}

/// The rows of all states, and the one before the first letter. `letters` has the byte of each
/// column. `None` where there are too many.
fn rows(found: &DFA, letters: &[u8]) -> Option<(Vec<u16>, u16)> {
    let next = |state, byte| found.next_state(Anchored::No, state, byte);
    let begin = next(found.start_state(Anchored::No).ok()?, b' ');
    if letters.len() > usize::from(WIDTH) {
        return None;
    }
    // In the first row everything stays found.
    let mut steps = vec![FOUND; usize::from(WIDTH)];
    let mut places = HashMap::from([(begin, WIDTH)]);
    // Each with whether a blank leads to it; no letter does then, because all phrases begin with
    // one.
    let mut waiting = VecDeque::from([(begin, true)]);
    while let Some((state, is_blank)) = waiting.pop_front() {
        let row = steps.len();
        steps.resize(row + usize::from(WIDTH), FOUND);
        for (byte, at) in letters.iter().zip(row..) {
            // Runs of blanks are one.
            let stays = is_blank && *byte == b' ';
            let to = if stays { state } else { next(state, *byte) };
            if found.is_match(to) {
                continue;
            }
            let place = u16::try_from(places.len() + 1).ok()?.checked_mul(WIDTH)?;
            let place = *places.entry(to).or_insert_with(|| {
                waiting.push_back((to, *byte == b' '));
                place
            });
            if let Some(step) = steps.get_mut(at) {
                *step = place;
            }
        }
    }
    Some((steps, WIDTH))
}

/// The letter or digit that begins at a byte of a text, if one does.
fn letter(text: &str, at: usize) -> Option<char> {
    text.get(at..)?.chars().next().filter(|character| character.is_alphanumeric())
}
