//! Cuts a text into words, code, quotations and the marks between clauses.
//!
//! What is written differently and means the same becomes the same here: curly quotes, dashes, wide
//! letters, invisible characters, the short forms of English verbs. What is not recognised stays as
//! it stands, and so must be found in the other text as well.

use super::{MAX_BYTES, MAX_WORDS};

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A word in lower case, without marks around it.
    Word {
        text: String,
        /// How it was written.
        case: Case,
        /// Whether a sentence begins with it.
        first: bool,
    },
    /// Something with signs in it that no word has, as it stands.
    Code(String),
    /// What stood between quotation marks, as it stands.
    Quote(String),
    /// The end of a clause.
    Break,
}

/// How a word was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Lower,
    /// With a capital at its beginning.
    Title,
    /// In capitals only, of two letters or more; or with capitals inside it.
    Upper,
}

/// Marks that end a clause.
const BREAKS: &str = ".,;:!?…。，；：！？、";

/// Marks around a word that mean nothing.
const AROUND: &str = "()¿¡•·";

/// Signs that make code of a word.
const SIGNS: &str = "_/\\@#+=<>{}[]()$*&|~^%";

/// Opening quotation marks and what closes them.
const QUOTES: [(char, char); 4] = [('"', '"'), ('`', '`'), ('«', '»'), ('\'', '\'')];

/// The pieces of a text; none if it is too long.
pub(super) fn cut(text: &str) -> Option<Vec<Piece>> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let chars: Vec<char> = text.chars().filter_map(plain).collect();
    let mut cutter = Cutter::default();
    let mut at = 0;
    let mut chunk = String::new();
    while let Some(&c) = chars.get(at) {
        let opens = QUOTES.iter().any(|(open, _)| *open == c);
        let opens = opens && chunk.chars().all(|c| AROUND.contains(c));
        let inside = if opens { quoted(&chars, at) } else { None };
        if let Some((quote, end)) = inside {
            cutter.chunk(&std::mem::take(&mut chunk));
            cutter.pieces.push(Piece::Quote(quote));
            cutter.words += 1;
            cutter.first = false;
            at = end;
            continue;
        }
        if c.is_whitespace() {
            cutter.chunk(&std::mem::take(&mut chunk));
            if c == '\n' {
                cutter.end_clause(true);
            }
        } else {
            chunk.push(c);
        }
        at += 1;
    }
    cutter.chunk(&chunk);
    (cutter.words <= MAX_WORDS).then_some(cutter.pieces)
}

/// A character as it is usually written; none if it cannot be seen.
fn plain(c: char) -> Option<char> {
    Some(match c {
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' => return None,
        '\u{ad}' | '\u{feff}' | '\u{fe0f}' => return None,
        '‘' | '’' | '‚' | '‛' | '´' | 'ʼ' => '\'',
        '“' | '”' | '„' | '‟' | '″' => '"',
        '‐' | '‑' | '‒' | '−' => '-',
        // The wide forms of ASCII.
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        '\r' => '\n',
        c if c.is_whitespace() && c != '\n' => ' ',
        c => c,
    })
}

/// What is quoted from a place on, with one space for every gap, and where the quotation ends.
fn quoted(chars: &[char], at: usize) -> Option<(String, usize)> {
    let open = *chars.get(at)?;
    let (_, close) = *QUOTES.iter().find(|(mark, _)| *mark == open)?;
    let rest = chars.get(at + 1..)?;
    let end = rest.iter().enumerate().position(|(n, c)| {
        // An apostrophe inside a word closes nothing.
        let last = rest.get(n + 1).is_none_or(|next| !next.is_alphanumeric());
        *c == close && n > 0 && (close != '\'' || last)
    })?;
    let inside: String = rest.get(..end)?.iter().collect();
    Some((inside.split_whitespace().collect::<Vec<_>>().join(" "), at + end + 2))
}

#[derive(Debug)]
struct Cutter {
    pieces: Vec<Piece>,
    words: usize,
    /// Whether a sentence begins with the next word.
    first: bool,
}

impl Default for Cutter {
    fn default() -> Self {
        Self { pieces: Vec::new(), words: 0, first: true }
    }
}

impl Cutter {
    /// Takes what stood between two spaces.
    fn chunk(&mut self, chunk: &str) {
        if chunk.is_empty() || self.words > MAX_WORDS {
            return;
        }
        if chunk == "--" || chunk.chars().all(|c| c == '–' || c == '—' || c == '-') {
            // Between numbers it takes one from the other.
            let number = matches!(self.pieces.last(), Some(Piece::Word { text, .. })
                if text.ends_with(|c: char| c.is_ascii_digit()));
            return if number { self.code("-") } else { self.end_clause(false) };
        }
        if chunk.chars().all(|c| BREAKS.contains(c)) {
            return self.end_clause(!chunk.contains(','));
        }
        let mut body = chunk.trim_end_matches(|c| BREAKS.contains(c) || c == '"' || c == '\'');
        if body.ends_with(|c: char| c.is_ascii_digit()) {
            // Feet and inches.
            body = chunk.trim_end_matches(|c| BREAKS.contains(c));
        }
        let tail = chunk.strip_prefix(body).unwrap_or_default();
        self.body(body);
        if tail.chars().any(|c| BREAKS.contains(c)) {
            self.end_clause(!tail.contains(','));
        }
    }

    fn end_clause(&mut self, sentence: bool) {
        self.first |= sentence;
        if !matches!(self.pieces.last(), None | Some(Piece::Break)) {
            self.pieces.push(Piece::Break);
        }
    }

    fn body(&mut self, body: &str) {
        let body = emphasized(body);
        let bare = body.trim_matches(|c| AROUND.contains(c) || c == '"');
        match bare {
            "" if body == "*" => self.code(body),
            "" => {}
            "w/o" | "W/O" => self.word("without"),
            "w/" => self.word("with"),
            "km/h" | "kph" => self.word("kmh"),
            "a.m" | "A.M" => self.word("am"),
            "p.m" | "P.M" => self.word("pm"),
            "U.S" | "U.S.A" => self.word("usa"),
            "U.K" => self.word("uk"),
            "+" => self.word("plus"),
            _ if self.amount(bare) => {}
            _ if is_code(body) && is_code(bare) => self.code(bare),
            _ if is_code(body) && body.ends_with("()") => self.code(body),
            _ => match compound(&bare.to_lowercase()) {
                Some(word) => self.word(word),
                None => bare.split(['-', '–', '—']).for_each(|part| self.short_form(part)),
            },
        }
    }

    /// Takes a sum of money, a percentage, or a number with its unit.
    fn amount(&mut self, text: &str) -> bool {
        let is_number = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_digit())
                && text.ends_with(|c: char| c.is_ascii_digit())
                && text.chars().all(|c| c.is_ascii_digit() || ".,:/-".contains(c))
        };
        if is_number(text) {
            self.word(text);
            return true;
        }
        for (sign, name) in [
            ("$", "dollar"),
            ("€", "euro"),
            ("£", "pound"),
            ("¥", "yen"),
            ("%", "percent"),
            ("°", "degree"),
        ] {
            let number = text.strip_prefix(sign).or_else(|| text.strip_suffix(sign));
            if let Some(number) = number.filter(|number| is_number(number)) {
                self.word(number);
                self.word(name);
                return true;
            }
        }
        let digits =
            text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let Some((number, unit)) = text.split_at_checked(digits).filter(|_| digits > 0) else {
            return false;
        };
        let unit = unit.trim_start_matches('°').to_lowercase();
        if !is_number(number) || !super::numbers::is_unit(&unit) {
            return false;
        }
        self.word(number);
        self.word(&unit);
        true
    }

    /// Takes a word that may be a verb in its short form, or have an article before its apostrophe.
    fn short_form(&mut self, text: &str) {
        let text = text.trim_matches('\'');
        if text.is_empty() {
            return;
        }
        let lower = text.to_lowercase();
        let full: &[&str] = match lower.as_str() {
            "can't" | "cant" | "cannot" => &["can", "not"],
            // "It won't start" says nothing of the future.
            "won't" | "wont" => &["not"],
            "shan't" => &["shall", "not"],
            "ain't" => &["is", "not"],
            "let's" => &["let", "us"],
            "y'all" => &["you"],
            "i'm" | "im" => &["i", "am"],
            "dont" => &["do", "not"],
            "doesnt" => &["does", "not"],
            "didnt" => &["did", "not"],
            "isnt" => &["is", "not"],
            "whats" => &["what", "is"],
            "hows" => &["how", "is"],
            "wheres" => &["where", "is"],
            _ => &[],
        };
        if !full.is_empty() {
            return full.iter().for_each(|word| self.word(word));
        }
        if let Some(verb) = lower.strip_suffix("n't") {
            self.word(verb);
            return self.word("not");
        }
        let Some((before, after)) = text.split_once('\'') else { return self.word(text) };
        match after.to_lowercase().as_str() {
            "re" => (self.word(before), self.word("are")),
            "ve" => (self.word(before), self.word("have")),
            "ll" => (self.word(before), self.word("will")),
            "d" => (self.word(before), self.word("would")),
            "m" => (self.word(before), self.word("am")),
            "s" if is_pronoun(&before.to_lowercase()) => (self.word(before), self.word("is")),
            // A possessive: the owner stands before what is owned.
            "s" | "" => (self.word(before), ()),
            // French and Italian: l'adresse, d'eau, qu'est, dell'arte.
            _ if before.chars().count() <= 5 => (self.word(before), self.short_form(after)),
            _ => (self.word(text), ()),
        };
    }

    fn word(&mut self, text: &str) {
        self.words += 1;
        let case = match text.chars().next() {
            Some(c) if c.is_uppercase() => {
                let more = text.chars().skip(1).any(char::is_uppercase);
                if more { Case::Upper } else { Case::Title }
            }
            _ if text.chars().any(char::is_uppercase) => Case::Upper,
            _ => Case::Lower,
        };
        self.pieces.push(Piece::Word { text: text.to_lowercase(), case, first: self.first });
        self.first = false;
    }

    fn code(&mut self, text: &str) {
        self.words += 1;
        // Case means something in a path or an expression, and nothing in an address or a file
        // name.
        let plain = text.chars().all(|c| c.is_alphanumeric() || ".@-/&+#".contains(c))
            && text.starts_with(char::is_alphanumeric);
        let text = if plain { text.to_lowercase() } else { text.to_owned() };
        self.pieces.push(Piece::Code(text));
        self.first = false;
    }
}

/// Words that are written with a hyphen or without one.
fn compound(text: &str) -> Option<&'static str> {
    let words =
        [("wi-fi", "wifi"), ("e-mail", "email"), ("e-mails", "emails"), ("t-shirt", "tshirt")];
    words.iter().find(|(hyphened, _)| *hyphened == text).map(|(_, word)| *word)
}

/// A word without the stars that set it off.
fn emphasized(text: &str) -> &str {
    let inner = text.trim_matches('*');
    let stars = text.len() - inner.len();
    let even = text.starts_with('*') && text.ends_with('*') && stars.is_multiple_of(2);
    if even && inner.chars().all(char::is_alphanumeric) && !inner.is_empty() { inner } else { text }
}

/// Whether 's after this word is a verb.
fn is_pronoun(word: &str) -> bool {
    let pronouns =
        ["what", "who", "where", "when", "how", "why", "it", "that", "there", "here", "he", "she"];
    pronouns.contains(&word)
}

/// Whether something has signs that no word has: a path, a flag, an address, an expression.
fn is_code(text: &str) -> bool {
    let mut chars = text.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        let next = chars.peek().copied().unwrap_or(' ');
        let inside = before.is_alphanumeric() && next.is_alphanumeric();
        if SIGNS.contains(c) || ((c == '.' || c == ':') && (inside || next.is_alphanumeric())) {
            return true;
        }
        if c == '-' && !before.is_alphanumeric() && next.is_alphanumeric() {
            return true;
        }
        before = c;
    }
    // A sign of its own, such as an emoji, says something, too.
    !text.chars().any(char::is_alphanumeric)
}
