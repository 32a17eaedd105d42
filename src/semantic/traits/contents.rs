//! Reads the pieces of a text: what it asks, whom it speaks of, and what it is about.

use std::collections::BTreeSet;

use super::Difference;
use super::language::Language;
use super::numbers;
use super::pieces::{Case, Piece};
use super::tables::{self, Phrase, Tables};

/// What a text says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Kinds of questions, and whether they are of the past or the future.
    pub(super) asks: BTreeSet<String>,
    /// Persons other than the speaker, in order.
    pub(super) persons: Vec<String>,
    pub(super) contents: Vec<Content>,
}

/// A word, number, quotation or piece of code that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    /// Equal for words that mean the same.
    pub(super) key: String,
    pub(super) kind: Kind,
    /// The preposition before it or before the words that it stands with; empty if there is none.
    pub(super) link: String,
    /// The word between it and the content right before it: "and", "or".
    pub(super) join: String,
    /// Whether it is part of a condition, or of what is told before the question.
    pub(super) condition: bool,
    /// Whether its place means nothing.
    pub(super) floats: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    Name,
    Number,
    Code,
    Quote,
    Time,
    Negation,
}

// === impl Content ===

impl Content {
    /// What it is called if the other text does not have it.
    pub(super) const fn difference(&self) -> Difference {
        match self.kind {
            Kind::Word => Difference::Word,
            Kind::Name => Difference::Name,
            Kind::Number => Difference::Number,
            Kind::Code => Difference::Code,
            Kind::Quote => Difference::Quotation,
            Kind::Time => Difference::Time,
            Kind::Negation => Difference::Negation,
        }
    }
}

// === impl Reading ===

impl Reading {
    pub(super) fn is_empty(&self) -> bool {
        self.contents.is_empty() && self.asks.is_empty()
    }
}

/// Reads the pieces of a text of this language.
pub(super) fn read(pieces: &[Piece], language: Language) -> Reading {
    let mut reader = Reader::new(tables::of(language), language, case_tells(pieces, language));
    let mut at = 0;
    while let Some(piece) = pieces.get(at) {
        at += match piece {
            Piece::Break => {
                reader.end_clause();
                1
            }
            Piece::Code(text) => {
                reader.push(format!("`{text}"), Kind::Code);
                1
            }
            Piece::Quote(text) => {
                reader.push(format!("\"{text}"), Kind::Quote);
                1
            }
            Piece::Word { text, .. } => match reader.phrase(pieces, at) {
                Some(phrase) => {
                    phrase.put.iter().for_each(|word| reader.put(word));
                    phrase.words.len()
                }
                None => {
                    let name = reader.is_name(piece);
                    reader.word(text, name, pieces.get(at + 1));
                    1
                }
            },
        };
    }
    reader.finish()
}

/// Whether capitals mark names here: not in German, nor where most words have one, or all.
fn case_tells(pieces: &[Piece], language: Language) -> bool {
    let (mut words, mut capitals) = (0, 0);
    for piece in pieces {
        if let Piece::Word { text, case, first: false } = piece
            && text != "i"
        {
            words += 1;
            capitals += usize::from(*case != Case::Lower);
        }
    }
    language != Language::German && capitals * 2 <= words
}

struct Reader {
    tables: &'static Tables,
    language: Language,
    case_tells: bool,
    reading: Reading,
    /// The preposition that waits for a content.
    link: String,
    /// The link of the words that stand together now.
    run: Option<String>,
    join: String,
    condition: bool,
    /// Where the contents of this clause begin, and whether it asks something.
    clause: usize,
    clause_asks: bool,
    /// Clauses so far that tell and do not ask.
    told: Vec<std::ops::Range<usize>>,
    /// Whether the last piece was a number that may go on.
    number_open: bool,
}

impl Reader {
    fn new(tables: &'static Tables, language: Language, case_tells: bool) -> Self {
        Self {
            tables,
            language,
            case_tells,
            reading: Reading::default(),
            link: String::new(),
            run: None,
            join: String::new(),
            condition: false,
            clause: 0,
            clause_asks: false,
            told: Vec::new(),
            number_open: false,
        }
    }

    /// Whether a word is a name, because it has a capital that nothing else explains.
    fn is_name(&self, piece: &Piece) -> bool {
        match piece {
            Piece::Word { case: Case::Upper, text, .. } => {
                self.case_tells && text.chars().count() > 1
            }
            Piece::Word { case: Case::Title, first: false, text } => self.case_tells && text != "i",
            Piece::Word { .. } | Piece::Code(_) | Piece::Quote(_) | Piece::Break => false,
        }
    }

    /// The longest phrase of the table that stands here.
    fn phrase(&self, pieces: &[Piece], at: usize) -> Option<&'static Phrase> {
        let Some(Piece::Word { text, .. }) = pieces.get(at) else { return None };
        let starts = self.reading.contents.len() == self.clause && !self.clause_asks;
        self.tables.phrases(text).iter().find(|phrase| {
            let here = pieces.get(at..at + phrase.words.len()).unwrap_or_default();
            let matches = here.len() == phrase.words.len()
                && here.iter().zip(&phrase.words).all(|(piece, word)| {
                    matches!(piece, Piece::Word { text, .. } if text == word) && !self.is_name(piece)
                });
            let ends = matches!(pieces.get(at + phrase.words.len()), None | Some(Piece::Break));
            matches && (starts || !phrase.start) && (ends || !phrase.end)
        })
    }

    /// Takes what a phrase stands for.
    fn put(&mut self, word: &str) {
        self.number_open = false;
        if let Some(person) = word.strip_prefix("@p:") {
            self.run = None;
            self.reading.persons.push(person.to_owned());
        } else if word == "@if" {
            self.run = None;
            self.condition = true;
        } else if word.starts_with('@') {
            self.run = None;
            self.clause_asks = true;
            self.reading.asks.insert(word.to_owned());
        } else if let Some(word) = word.strip_prefix('~') {
            self.push(self.tables.key(word), Kind::Word);
            self.run = None;
            if let Some(last) = self.reading.contents.last_mut() {
                last.floats = true;
            }
        } else {
            self.word(word, false, None);
        }
    }

    fn word(&mut self, text: &str, name: bool, next: Option<&Piece>) {
        if name {
            return self.name(text);
        }
        let open = std::mem::take(&mut self.number_open);
        if open && self.continues_number(text) {
            return;
        }
        if let Some(key) = numbers::key(text, self.language) {
            self.push(key, Kind::Number);
            self.number_open = true;
        } else if text == "one" && self.counts_one(next) {
            self.push("=1".to_owned(), Kind::Number);
        } else if self.tables.link.contains(text) {
            text.clone_into(&mut self.link);
            self.run = None;
        } else if self.tables.join.contains(text) {
            text.clone_into(&mut self.join);
            self.run = None;
        } else if self.tables.stop.contains(text) {
            self.run = None;
        } else {
            let kind = match () {
                () if self.tables.no.contains(text) => Kind::Negation,
                () if self.tables.time.contains(&self.tables.stem(text)) => Kind::Time,
                () if text.contains(|c: char| c.is_ascii_digit()) => Kind::Number,
                () => Kind::Word,
            };
            self.push(self.tables.key(text), kind);
        }
    }

    fn name(&mut self, text: &str) {
        // Words that are something else without their capital.
        let other = ["turkey", "polish", "march", "mark", "bill", "frank", "nice", "reading", "us"];
        let stem = self.tables.stem(text);
        let key = if other.contains(&text) { format!("{stem}^") } else { stem };
        self.number_open = false;
        let number = text.contains(|c: char| c.is_ascii_digit());
        self.push(key, if number { Kind::Number } else { Kind::Name });
    }

    /// Joins a word to the number before it, or takes it as its unit.
    fn continues_number(&mut self, text: &str) -> bool {
        if let Some(last) = self.reading.contents.last_mut()
            && numbers::joins(&mut last.key, text, self.language)
        {
            self.number_open = true;
            return true;
        }
        let Some(unit) = numbers::unit(text) else { return false };
        let kind = if matches!(unit, "am" | "pm") { Kind::Time } else { Kind::Word };
        self.push(self.tables.key(unit), kind);
        true
    }

    /// Whether "one" is a number: "one dose", not "which one" or "one of them".
    fn counts_one(&self, next: Option<&Piece>) -> bool {
        let counted = matches!(next, Some(Piece::Word { text, .. })
            if !self.tables.stop.contains(text) && !self.tables.link.contains(text));
        counted && matches!(self.language, Language::English | Language::Unknown)
    }

    fn push(&mut self, key: String, kind: Kind) {
        let own = std::mem::take(&mut self.link);
        let link = match self.run.take() {
            Some(link) if own.is_empty() => link,
            Some(_) | None => own,
        };
        self.run = Some(link.clone());
        let join = std::mem::take(&mut self.join);
        let condition = self.condition;
        self.reading.contents.push(Content { key, kind, link, join, condition, floats: false });
    }

    fn end_clause(&mut self) {
        let range = self.clause..self.reading.contents.len();
        let linked = self.reading.contents.get(range.start).is_some_and(|c| !c.link.is_empty());
        if !self.clause_asks && !range.is_empty() && !linked {
            self.told.push(range);
        }
        self.clause = self.reading.contents.len();
        self.clause_asks = false;
        self.condition = false;
        self.number_open = false;
        self.run = None;
        self.join.clear();
        self.link.clear();
    }

    /// What is told before the first question is its condition.
    fn finish(mut self) -> Reading {
        let asks_last = self.clause_asks;
        self.end_clause();
        if asks_last {
            for range in std::mem::take(&mut self.told) {
                for content in self.reading.contents.get_mut(range).unwrap_or_default() {
                    content.condition = true;
                }
            }
        }
        // "How much does it cost" is "what does it cost".
        let cost = self.tables.key("cost");
        let costs = self.reading.contents.iter().any(|content| content.key == cost);
        if costs && self.reading.asks.remove("@howmuch") {
            self.reading.asks.insert("@what".to_owned());
        }
        self.reading
    }
}
