//! What a question says, read word by word: the guard in front of every similarity.
//!
//! # What is read
//!
//! A text is cut into words, numbers, quotations and code, and its language is told by
//! script and by its most frequent words. Phrases of that language are then rewritten by a table:
//! courtesy disappears, "what is the best way to" becomes the question *how*, "am I allowed to" the
//! question *can*, "turn on" the word *enable*. Before that words are put as the tables expect
//! them: "turn the light off" as "turn off the light", "how can a burn be treated" as "how can I
//! treat a burn", and a slip of the keyboard in a long word as the only word it can be. What
//! remains is
//!
//! - the **kind of question**: how, why, when, where, who, how much; whether, can, should, must;
//!   past or future;
//! - **persons** other than the speaker, in order;
//! - the **contents**: every other word, every number (as digits, however it was written), every
//!   negation, quotation and piece of code, in order, each with the preposition before it.
//!
//! # When two texts agree
//!
//! Each of these must be equal, word by word; the only words that may replace each other are the
//! few hundred synonyms of the table. Contents must come in the same order, too, except where an
//! order means nothing: "the capital of France" and "France's capital", "A and B" and "B and A", a
//! condition before or after what it conditions.
//!
//! So a difference need not be foreseen to be seen. Another name, number, unit, weekday, product,
//! quantifier, adjective or role is a word that one text has and the other has not. The tables only
//! say what may be *ignored*, and a word that is in no table never is.
//!
//! # Limits
//!
//! Texts of more than [`MAX_WORDS`] words or [`MAX_BYTES`] bytes agree with nothing: an embedding
//! of 256 word pieces does not see the end of them. Of a longer text nothing is read, so time and
//! memory are bounded. Languages other than English, German, French and Spanish have no synonyms,
//! and those that are written without spaces agree only where punctuation and width differ.

use std::collections::BTreeMap;
use std::fmt;

use self::contents::{Content, Reading};

mod contents;
mod forms;
mod language;
mod numbers;
mod order;
mod pieces;
mod rewrite;
mod settle;
mod tables;

pub use self::language::Language;

/// Words that a text may have.
pub const MAX_WORDS: usize = 200;

/// Bytes that a text may have.
pub const MAX_BYTES: usize = 4_096;

/// What a text says. Takes some 100 bytes a word; made in a few microseconds per word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traits {
    /// None of a text that is too long, or has no word.
    reading: Option<Reading>,
    language: Language,
}

/// The first thing found in which two texts differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Difference {
    /// One of them is too long, or says nothing.
    Unreadable,
    /// They are in different languages.
    Language,
    /// They quote different things.
    Quotation,
    /// Other code, paths, flags, addresses or names with signs in them.
    Code,
    /// Other numbers.
    Number,
    /// One denies what the other says.
    Negation,
    /// They ask for something else: how and why, can and should, did and will.
    Question,
    /// They speak of other persons.
    Person,
    /// Another day, month or time of day.
    Time,
    /// Another name.
    Name,
    /// A word of one has no partner in the other.
    Word,
    /// A word is related to the rest in another way: from and to, with and by.
    Relation,
    /// The same words in another order.
    Order,
}

/// Whether two texts ask for the same, as far as words can tell. Symmetric. Equal texts agree,
/// unless they are too long or say nothing.
///
/// # Errors
///
/// The first [`Difference`] found. A doubt is one.
pub fn agree(a: &Traits, b: &Traits) -> Result<(), Difference> {
    let (Some(left), Some(right)) = (&a.reading, &b.reading) else {
        return Err(Difference::Unreadable);
    };
    if !a.language.may_be(b.language) {
        return Err(Difference::Language);
    }
    let (left, right) = (&forms::of(left, right), &forms::of(right, left));
    if let Some(content) = odd_one_out(&left.contents, &right.contents) {
        return Err(content.difference());
    }
    if left.asks != right.asks && !forms::is_heading(left, right) && !forms::is_heading(right, left)
    {
        return Err(Difference::Question);
    }
    if left.persons != right.persons {
        return Err(Difference::Person);
    }
    order::agree(&left.contents, &right.contents)
}

/// A content that one side has more often than the other; the most telling one.
fn odd_one_out<'a>(left: &'a [Content], right: &'a [Content]) -> Option<&'a Content> {
    let mut balance: BTreeMap<&str, (i32, &Content)> = BTreeMap::new();
    for (contents, step) in [(left, 1), (right, -1)] {
        for content in contents {
            balance.entry(&content.key).or_insert((0, content)).0 += step;
        }
    }
    let odd = balance.into_values().filter(|(count, _)| *count != 0).map(|(_, content)| content);
    odd.min_by_key(|content| content.difference())
}

// === impl Traits ===

impl Traits {
    /// Reads a text: the last user message of a request.
    pub fn of(text: &str) -> Self {
        let Some(pieces) = pieces::cut(text) else {
            return Self { reading: None, language: Language::Unknown };
        };
        let language = language::of(text, &pieces);
        let pieces = rewrite::rewrite(pieces, language);
        let reading = contents::read(&pieces, language);
        Self { reading: (!reading.is_empty()).then_some(reading), language }
    }

    /// The language, as far as it can be told.
    pub const fn language(&self) -> Language {
        self.language
    }

    /// The memory that they take beside the value itself, in bytes, about.
    pub fn bytes(&self) -> usize {
        self.reading.as_ref().map_or(0, Reading::bytes)
    }

    /// Whether it can agree with anything: it says something, and is not too long.
    pub const fn is_readable(&self) -> bool {
        self.reading.is_some()
    }
}

// === impl Difference ===

impl Difference {
    /// The word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Language => "language",
            Self::Quotation => "quotation",
            Self::Code => "code",
            Self::Number => "number",
            Self::Negation => "negation",
            Self::Question => "question",
            Self::Person => "person",
            Self::Time => "time",
            Self::Name => "name",
            Self::Word => "word",
            Self::Relation => "relation",
            Self::Order => "order",
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
