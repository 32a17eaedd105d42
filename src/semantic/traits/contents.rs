//! Reads the pieces of a text: what it asks, whom it speaks of, and what it is about.

use std::collections::BTreeSet;

use super::Difference;
use super::language::Language;
use super::numbers;
use super::pieces::{Case, Piece};
use super::settle;
use super::tables::{self, Phrase, Tables};

/// What a text says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Kinds of questions, and whether they are of the past or the future.
    pub(super) asks: BTreeSet<String>,
    /// Persons other than the speaker, in order.
    pub(super) persons: Vec<String>,
    pub(super) contents: Vec<Content>,
    /// Whether a verb stands with "does", and so without its -s.
    pub(super) does: bool,
    /// Whether there is a form of "do", so that a word may be a verb.
    pub(super) auxiliary: bool,
    /// Whether there is a form of "be".
    pub(super) be: bool,
    /// Clauses that say something.
    pub(super) clauses: usize,
}

/// A word, number, quotation or piece of code that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    /// Equal for words that mean the same.
    pub(super) key: String,
    pub(super) kind: Kind,
    /// The preposition before it or before the words that it stands with; empty if there is none.
    pub(super) link: String,
    /// The word between it, or the words that it stands with, and the content before: "and", "or".
    pub(super) join: String,
    /// Words that stand together have the same number, and those after them the next.
    pub(super) run: usize,
    /// Whether it is part of a condition, or of what is told before the question.
    pub(super) condition: bool,
    /// Whether it stands before the question, as in "in France, what is".
    pub(super) front: bool,
    /// Whether its place means nothing.
    pub(super) floats: bool,
    /// The article before it, or before the words that it stands with.
    pub(super) article: Article,
}

/// What stands before a noun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Article {
    /// Nothing: "dogs", or a verb.
    Bare,
    /// "A dog".
    Indefinite,
    /// "The dog", "my dog", "this dog".
    Definite,
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

/// What a string takes beside its bytes.
const A_STRING: usize = size_of::<String>();

/// What the bytes of a string take: an allocator gives out no less than 16, and 16 more at a time.
fn allocated(text: &String) -> usize {
    text.capacity().next_multiple_of(16)
}

// === impl Reading ===

impl Reading {
    /// The memory that it takes beside the value itself, in bytes, about.
    pub(super) fn bytes(&self) -> usize {
        // A node of the set has room for 11.
        let nodes = self.asks.len().div_ceil(11) * 12 * A_STRING;
        let asks = nodes + self.asks.iter().map(allocated).sum::<usize>();
        let persons: usize = self.persons.iter().map(allocated).sum();
        let contents = self.contents.iter().map(|content| {
            let Content { key, link, join, .. } = content;
            allocated(key) + allocated(link) + allocated(join)
        });
        asks + persons
            + self.persons.capacity() * A_STRING
            + contents.sum::<usize>()
            + self.contents.capacity() * size_of::<Content>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.contents.is_empty() && self.asks.is_empty()
    }
}

/// Reads the pieces of a text of this language.
pub(super) fn read(pieces: &[Piece], language: Language) -> Reading {
    let mut reader = Reader::new(tables::of(language), language, case_tells(pieces, language));
    let any = |words: &[&str]| {
        pieces.iter().any(
            |piece| matches!(piece, Piece::Word { text, .. } if words.contains(&text.as_str())),
        )
    };
    reader.reading.does = any(&["does"]);
    reader.reading.be = any(&["is", "are", "am", "was", "were"]);
    reader.reading.auxiliary = any(&["do", "does", "did"]);
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
                    reader.clause_begun |= !phrase.put.is_empty();
                    phrase.put.iter().for_each(|word| reader.put(word));
                    phrase.words.len()
                }
                None => {
                    reader.clause_begun = true;
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
    /// The link, the join and the article of the words that stand together now.
    run: Option<(String, String, Article)>,
    join: String,
    /// The article that waits for a content.
    article: Article,
    condition: bool,
    /// Where the contents of this clause begin, and whether it asks something.
    clause: usize,
    clause_asks: bool,
    /// Whether it has begun, other than with courtesy.
    clause_begun: bool,
    runs: usize,
    /// Clauses so far that tell and do not ask.
    told: Vec<std::ops::Range<usize>>,
    /// Whether the last piece was a number that may go on.
    number_open: Number,
}

/// What may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Number {
    /// The last word was none.
    Closed,
    /// It was one in digits.
    Digits,
    /// It was one in words.
    Spelled,
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
            article: Article::Bare,
            condition: false,
            clause: 0,
            clause_asks: false,
            clause_begun: false,
            runs: 0,
            told: Vec::new(),
            number_open: Number::Closed,
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
        self.tables.phrases(text).iter().find(|phrase| {
            let here = pieces.get(at..at + phrase.words.len()).unwrap_or_default();
            let matches = here.len() == phrase.words.len()
                && here.iter().zip(&phrase.words).all(|(piece, word)| {
                    matches!(piece, Piece::Word { text, .. } if text == word)
                        && (phrase.name || !self.is_name(piece))
                });
            let ends = matches!(pieces.get(at + phrase.words.len()), None | Some(Piece::Break));
            matches && (!phrase.start || !self.clause_begun) && (ends || !phrase.end)
        })
    }

    /// Takes what a phrase stands for.
    fn put(&mut self, word: &str) {
        self.number_open = Number::Closed;
        if let Some(person) = word.strip_prefix("@p:") {
            self.run = None;
            self.article = Article::Definite;
            self.reading.persons.push(person.to_owned());
        } else if word == "@if" {
            self.run = None;
            self.condition = true;
        } else if word.starts_with('@') {
            self.run = None;
            self.article = Article::Bare;
            // A time is told, too: "my card was stolen".
            self.clause_asks |= !matches!(word, "@past" | "@future" | "@would" | "@perfect");
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
        let half = self.number_open != Number::Closed && matches!(text, "am" | "pm");
        if name && !half {
            return self.name(text);
        }
        let open = std::mem::replace(&mut self.number_open, Number::Closed);
        if open != Number::Closed && self.continues_number(text, open) {
            return;
        }
        if matches!(text, "has" | "have") && self.language != Language::French {
            return self.has(next);
        }
        if let Some(key) = numbers::key(text, self.language) {
            self.push(key, Kind::Number);
            let digits = text.starts_with(|c: char| c.is_ascii_digit());
            self.number_open = if digits { Number::Digits } else { Number::Spelled };
        } else if text == "one" && self.counts_one(next) {
            self.push("=1".to_owned(), Kind::Number);
        } else if self.tables.link.contains(text) {
            self.loose_link();
            text.clone_into(&mut self.link);
            self.run = None;
        } else if self.tables.join.contains(text) {
            text.clone_into(&mut self.join);
            self.run = None;
        } else if self.tables.stop.contains(text) {
            self.run = None;
            match text {
                "a" | "an" => self.article = Article::Indefinite,
                "the" | "this" | "that" | "these" | "those" | "its" | "my" | "mine" => {
                    self.article = Article::Definite;
                }
                _ => {}
            }
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

    /// "Has" is a verb of its own or only tells the time of another.
    fn has(&mut self, next: Option<&Piece>) {
        let next = match next {
            Some(Piece::Word { text, .. }) => text.as_str(),
            Some(Piece::Code(_) | Piece::Quote(_) | Piece::Break) | None => "",
        };
        let auxiliary = [
            "not",
            "never",
            "already",
            "just",
            "been",
            "gone",
            "lost",
            "forgotten",
            "sent",
            "got",
            "bought",
            "paid",
            "made",
            "done",
            "seen",
            "taken",
            "given",
            "found",
            "left",
            "broken",
        ];
        if auxiliary.contains(&next) {
            self.run = None;
        } else if next.ends_with("ed") && next.len() > 4 {
            self.run = None;
            self.reading.asks.insert("@perfect".to_owned());
        } else {
            self.push("have_".to_owned(), Kind::Word);
        }
    }

    fn name(&mut self, text: &str) {
        // Words that are something else without their capital.
        let other = [
            "turkey", "polish", "march", "mark", "bill", "frank", "nice", "reading", "us", "apple",
            "windows",
        ];
        let stem = self.tables.stem(text);
        let key = if other.contains(&text) { format!("{stem}^") } else { stem };
        self.number_open = Number::Closed;
        let kind = match () {
            () if text.contains(|c: char| c.is_ascii_digit()) => Kind::Number,
            () if self.tables.time.contains(&self.tables.stem(text)) => Kind::Time,
            () => Kind::Name,
        };
        self.push(key, kind);
    }

    /// Joins a word to the number before it, or takes it as its unit.
    fn continues_number(&mut self, text: &str, open: Number) -> bool {
        let language = if open == Number::Spelled { Some(self.language) } else { None };
        if let Some(last) = self.reading.contents.last_mut()
            && numbers::joins(&mut last.key, text, language)
        {
            self.number_open = open;
            return true;
        }
        let Some(unit) = numbers::unit(text) else { return false };
        let kind = if matches!(unit, "am" | "pm") { Kind::Time } else { Kind::Word };
        if let Some(last) = self.reading.contents.last_mut()
            && let Some(key) = numbers::time_of_day(&last.key, unit)
        {
            last.key = key;
            last.kind = kind;
            return true;
        }
        self.push(self.tables.key(unit), kind);
        true
    }

    /// Whether "one" is a number: "one dose", not "which one" or "one of them".
    fn counts_one(&self, next: Option<&Piece>) -> bool {
        let after = ["if", "when", "that", "which", "who", "while", "and", "or", "can", "should"];
        let counted = matches!(next, Some(Piece::Word { text, .. })
            if !self.tables.stop.contains(text)
                && !self.tables.link.contains(text)
                && !after.contains(&text.as_str()));
        counted && matches!(self.language, Language::English | Language::Unknown)
    }

    fn push(&mut self, key: String, kind: Kind) {
        let article = std::mem::replace(&mut self.article, Article::Bare);
        let own = (std::mem::take(&mut self.link), std::mem::take(&mut self.join), article);
        let (link, join, article) = self.run.take().unwrap_or_else(|| {
            self.runs += 1;
            own
        });
        self.run = Some((link.clone(), join.clone(), article));
        self.reading.contents.push(Content {
            key,
            kind,
            link,
            join,
            run: self.runs,
            condition: self.condition,
            front: false,
            floats: false,
            article,
        });
    }

    /// A preposition that nothing follows says something by itself: "is the light on".
    fn loose_link(&mut self) {
        let link = std::mem::take(&mut self.link);
        if !link.is_empty() {
            self.run = None;
            self.push(link, Kind::Word);
            self.run = None;
        }
    }

    fn end_clause(&mut self) {
        self.loose_link();
        let range = self.clause..self.reading.contents.len();
        self.clause = range.end;
        self.reading.clauses += usize::from(!range.is_empty());
        if self.clause_asks {
            // A bare "how?" asks about what was told.
            let bare = range.is_empty();
            self.set_before_question(bare);
        } else if !range.is_empty() {
            self.told.push(range);
        }
        self.clause_asks = false;
        self.clause_begun = false;
        self.condition = false;
        self.number_open = Number::Closed;
        self.run = None;
        self.join.clear();
        self.link.clear();
    }

    /// Marks what was told before a question: its condition, or where it applies.
    fn set_before_question(&mut self, bare: bool) {
        for range in std::mem::take(&mut self.told).into_iter().filter(|_| !bare) {
            let contents = self.reading.contents.get_mut(range).unwrap_or_default();
            let linked = contents.first().is_some_and(|content| !content.link.is_empty());
            for content in contents {
                content.front = linked;
                content.condition |= !linked;
            }
        }
    }

    fn finish(mut self) -> Reading {
        self.end_clause();
        settle::settle(&mut self.reading, self.language, &self.tables.key("cost"));
        self.reading
    }
}
