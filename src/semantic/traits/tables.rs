//! The tables of words: what a language has for one thing, and what says nothing.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::Language;

/// What is known of one language.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// By their first words, the longest first.
    phrases: HashMap<String, Vec<Phrase>>,
    /// What `$name` stands for in a phrase.
    classes: HashMap<String, Vec<String>>,
    /// Words that say nothing.
    pub(super) stop: HashSet<String>,
    /// Prepositions.
    pub(super) link: HashSet<String>,
    /// Words between equals.
    pub(super) join: HashSet<String>,
    /// A word for the words of a group.
    same: HashMap<String, String>,
    /// Words that are not cut.
    intact: HashSet<String>,
    /// Forms made of the words of groups, and what stands for them. What is written out goes first.
    forms: Vec<(String, String)>,
    pub(super) time: HashSet<String>,
    pub(super) no: HashSet<String>,
    /// Whether endings are cut.
    stems: bool,
}

/// Words and what stands for them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Phrase {
    pub(super) words: Vec<String>,
    /// Only where a clause begins.
    pub(super) start: bool,
    /// Only where a clause ends.
    pub(super) end: bool,
    /// Whether it is a name, and so may have capitals.
    pub(super) name: bool,
    pub(super) put: Vec<String>,
}

static ENGLISH: LazyLock<Tables> =
    LazyLock::new(|| Tables::read(include_str!("../words/en.txt"), true));
static GERMAN: LazyLock<Tables> =
    LazyLock::new(|| Tables::read(include_str!("../words/de.txt"), false));
static FRENCH: LazyLock<Tables> =
    LazyLock::new(|| Tables::read(include_str!("../words/fr.txt"), false));
static SPANISH: LazyLock<Tables> =
    LazyLock::new(|| Tables::read(include_str!("../words/es.txt"), false));
static NONE: LazyLock<Tables> = LazyLock::new(Tables::default);

/// The tables of a language; empty ones where none are kept.
pub(super) fn of(language: Language) -> &'static Tables {
    match language {
        Language::English | Language::Unknown => &ENGLISH,
        Language::German => &GERMAN,
        Language::French => &FRENCH,
        Language::Spanish => &SPANISH,
        Language::Italian
        | Language::Portuguese
        | Language::Dutch
        | Language::Polish
        | Language::Russian
        | Language::Chinese
        | Language::Japanese
        | Language::Other => &NONE,
    }
}

impl Tables {
    fn read(text: &str, stems: bool) -> Self {
        let mut tables = Self { stems, ..Self::default() };
        let mut section = "";
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name;
                continue;
            }
            let words = line.split_whitespace().map(str::to_owned);
            match section {
                "class" => tables.class(line),
                "phrases" => tables.phrase(line, false),
                "names" => tables.phrase(line, true),
                "same" => tables.group(line),
                "stop" => tables.stop.extend(words),
                "link" => tables.link.extend(words),
                "join" => tables.join.extend(words),
                "intact" => tables.intact.extend(words),
                "time" => tables.time.extend(words),
                "no" => tables.no.extend(words),
                _ => {}
            }
        }
        tables.ready()
    }

    /// Sorts what must be sorted, once everything is read.
    fn ready(mut self) -> Self {
        for phrases in self.phrases.values_mut() {
            phrases.sort_by_key(|phrase| {
                (std::cmp::Reverse(phrase.words.len()), !phrase.start, !phrase.end)
            });
        }
        for (from, to) in std::mem::take(&mut self.forms) {
            let (from, to) = (self.stem(&from), self.key(&to));
            self.same.entry(from).or_insert(to);
        }
        self.time = self.time.iter().map(|word| self.stem(word)).collect();
        self
    }

    /// `$know = tell me | do you know`
    fn class(&mut self, line: &str) {
        let Some((name, words)) = line.split_once('=') else { return };
        let words = words.split('|').map(|word| word.trim().to_owned()).collect();
        self.classes.insert(name.trim().to_owned(), words);
    }

    /// `^how come = @why`, or for each of several words `^can|could you write|list = \2`.
    fn phrase(&mut self, line: &str, name: bool) {
        let Some((from, to)) = line.split_once('=') else { return };
        let (end, to) = to.strip_prefix('$').map_or((false, to), |to| (true, to));
        let (late, to) = to.strip_prefix('^').map_or((false, to), |to| (true, to));
        let (early, from) = from.strip_prefix('^').map_or((false, from), |from| (true, from));
        for (words, choices) in self.expand(from) {
            let Some(first) = words.first().cloned() else { continue };
            let put = to.split_whitespace().flat_map(|word| {
                let choice = word.strip_prefix('\\').and_then(|n| n.parse::<usize>().ok());
                let chosen = choice.and_then(|n| choices.get(n.checked_sub(1)?));
                chosen
                    .map_or_else(|| word.to_owned(), Clone::clone)
                    .split(' ')
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            });
            let put = put.collect();
            let start = early || late;
            self.phrases.entry(first).or_default().push(Phrase { words, start, end, name, put });
        }
    }

    /// Every way to choose one of the words at each place, and what was chosen where there was a
    /// choice.
    fn expand(&self, text: &str) -> Vec<(Vec<String>, Vec<String>)> {
        let mut all = vec![(Vec::new(), Vec::new())];
        for part in text.split_whitespace() {
            let inline: Vec<String> = part.split('|').map(str::to_owned).collect();
            let options = self.classes.get(part).unwrap_or(&inline);
            all = all
                .iter()
                .flat_map(|(words, choices)| {
                    options.iter().map(move |option| {
                        let mut longer: (Vec<String>, Vec<String>) =
                            (words.clone(), choices.clone());
                        longer.0.extend(option.split(' ').map(str::to_owned));
                        longer.1.extend((options.len() > 1).then(|| option.clone()));
                        longer
                    })
                })
                .collect();
        }
        all
    }

    /// `v: fix = repair`, with all forms that are made regularly.
    fn group(&mut self, line: &str) {
        let (verbs, line) = line.strip_prefix("v:").map_or((false, line), |line| (true, line));
        let words: Vec<&str> = line.split('=').map(str::trim).collect();
        let Some(first) = words.first() else { return };
        for word in words.iter().skip(1) {
            if word.contains(' ') {
                self.phrase(&format!("{word} = {first}"), false);
                self.phrase(&format!("{} = {}", with_s(word), with_s(first)), false);
                continue;
            }
            self.same.insert(self.stem(word), self.stem(first));
            self.forms.push((with_s(word), with_s(first)));
            if verbs {
                self.forms.push((with_ed(word), with_ed(first)));
            }
        }
    }

    /// The phrases that begin with a word, the longest first.
    pub(super) fn phrases(&self, first: &str) -> &[Phrase] {
        self.phrases.get(first).map_or(&[], Vec::as_slice)
    }

    /// All words that are in the tables, and the stems of those that have synonyms.
    #[cfg(test)]
    pub(super) fn words(&self) -> HashSet<&str> {
        let groups = self.same.keys().chain(self.same.values());
        let phrases = self.phrases.values().flatten().flat_map(|phrase| &phrase.words);
        let sets = [&self.stop, &self.link, &self.join].into_iter().flatten();
        groups.chain(phrases).chain(sets).map(String::as_str).collect()
    }

    /// What stands for a word and all its synonyms.
    pub(super) fn key(&self, word: &str) -> String {
        let stem = self.stem(word);
        self.same.get(&stem).cloned().unwrap_or(stem)
    }

    /// A word without its ending, where that changes only its form.
    pub(super) fn stem(&self, word: &str) -> String {
        if !self.stems || self.intact.contains(word) { word.to_owned() } else { cut_ending(word) }
    }
}

/// The plural of a noun, or the third person of a verb.
fn with_s(word: &str) -> String {
    let before = word.chars().rev().nth(1).unwrap_or(' ');
    match word.strip_suffix('y') {
        Some(stem) if !"aeiou".contains(before) => format!("{stem}ies"),
        _ if ["s", "x", "z", "ch", "sh"].iter().any(|end| word.ends_with(end)) => {
            format!("{word}es")
        }
        _ => format!("{word}s"),
    }
}

/// The past of a regular verb.
fn with_ed(word: &str) -> String {
    match word.strip_suffix('y') {
        _ if word.ends_with('e') => format!("{word}d"),
        Some(stem) if !word.ends_with("oy") && !word.ends_with("ay") => format!("{stem}ied"),
        _ => format!("{word}ed"),
    }
}

/// Takes -ing and a last e off, so that "making" and "make" are one. A plural, a past, a comparison
/// stay: they say something.
pub(super) fn cut_ending(word: &str) -> String {
    let vowel = |text: &str| text.contains(['a', 'e', 'i', 'o', 'u', 'y']);
    let ascii = word.is_ascii() && word.len() >= 4;
    let stem = match word.strip_suffix("ing").filter(|stem| ascii && stem.len() >= 2 && vowel(stem))
    {
        Some(stem) => {
            let mut ends = stem.chars().rev();
            match (ends.next(), ends.next()) {
                // "Running", but "telling", "missing", "buzzing".
                (Some(a), Some(b)) if a == b && !"lszaeiou".contains(a) => {
                    stem.strip_suffix(a).unwrap_or(stem)
                }
                _ => stem,
            }
        }
        None => word,
    };
    let stem =
        if stem.len() >= 4 || stem != word { stem.strip_suffix('e').unwrap_or(stem) } else { stem };
    american(stem)
}

/// The spellings of British English in those of American.
fn american(word: &str) -> String {
    for (from, to) in [
        ("isation", "ization"),
        ("our", "or"),
        ("elled", "eled"),
        ("elling", "eling"),
        ("ell", "el"),
    ] {
        if let Some(stem) = word.strip_suffix(from).filter(|stem| stem.len() >= 4) {
            return format!("{stem}{to}");
        }
    }
    word.to_owned()
}

#[cfg(test)]
mod tests;
