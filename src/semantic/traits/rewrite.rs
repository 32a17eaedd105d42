//! Puts the pieces of a text in the form that the reader knows: particles beside their verbs, the
//! passive in the active, mistyped words as they are spelled.
//!
//! Each rule moves words or replaces one form of a word by another. None drops a word that says
//! something.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::language::Language;
use super::pieces::{Case, Piece};

/// Rewrites the pieces of a text of this language.
pub(super) fn rewrite(mut pieces: Vec<Piece>, language: Language) -> Vec<Piece> {
    match language {
        Language::English | Language::Unknown => {
            spell(&mut pieces);
            calm(&mut pieces);
            gather(&mut pieces);
            activate(&mut pieces);
            superlative(&mut pieces);
            translate(&mut pieces);
        }
        Language::German => infinitive_german(&mut pieces),
        Language::Spanish => infinitive_spanish(&mut pieces),
        Language::French
        | Language::Italian
        | Language::Portuguese
        | Language::Dutch
        | Language::Polish
        | Language::Russian
        | Language::Chinese
        | Language::Japanese
        | Language::Other => {}
    }
    pieces
}

/// The word at a place; empty where there is none.
fn word(pieces: &[Piece], at: usize) -> &str {
    match pieces.get(at) {
        Some(Piece::Word { text, .. }) => text,
        Some(Piece::Code(_) | Piece::Quote(_) | Piece::Break) | None => "",
    }
}

fn set(pieces: &mut [Piece], at: usize, new: &str) {
    if let Some(Piece::Word { text, .. }) = pieces.get_mut(at) {
        new.clone_into(text);
    }
}

fn plain(text: &str) -> Piece {
    Piece::Word { text: text.to_owned(), case: Case::Lower, first: false }
}

/// Where the clause that has this place ends.
fn clause_end(pieces: &[Piece], at: usize) -> usize {
    let rest = pieces.get(at..).unwrap_or_default();
    rest.iter().position(|piece| *piece == Piece::Break).map_or(pieces.len(), |n| at + n)
}

/// Whether a clause begins at a place.
fn begins(pieces: &[Piece], at: usize) -> bool {
    at.checked_sub(1).is_none_or(|before| pieces.get(before) == Some(&Piece::Break))
}

// === Spelling ===

/// Frequent long words that have no neighbour among other words, by their first and last letter.
static FREQUENT: LazyLock<HashMap<(char, char), Vec<&str>>> = LazyLock::new(|| {
    let mut words: HashMap<_, Vec<&str>> = HashMap::new();
    for word in include_str!("../words/spelling.txt").lines().filter(|line| !line.starts_with('#'))
    {
        for word in word.split_whitespace() {
            if let Some(ends) = ends(word) {
                words.entry(ends).or_default().push(word);
            }
        }
    }
    words
});

/// Frequent slips in short words that are no words themselves.
const SLIPS: [(&str, &str); 10] = [
    ("teh", "the"),
    ("hte", "the"),
    ("wich", "which"),
    ("whcih", "which"),
    ("waht", "what"),
    ("wat", "what"),
    ("hwo", "how"),
    ("taht", "that"),
    ("adn", "and"),
    ("becuase", "because"),
];

fn ends(word: &str) -> Option<(char, char)> {
    Some((word.chars().next()?, word.chars().next_back()?))
}

/// Corrects words with one letter too many, too few, wrong or in the wrong place. The first and the
/// last letter must be right, so that no prefix and no ending is taken for a mistake.
fn spell(pieces: &mut [Piece]) {
    for piece in pieces {
        let Piece::Word { text, case, first } = piece else { continue };
        if let Some((_, word)) = SLIPS.iter().find(|(slip, _)| slip == text) {
            (*word).clone_into(text);
        } else if (*case == Case::Lower || *first)
            && text.len() >= 6
            && text.is_ascii()
            && let Some(known) = ends(text).and_then(|ends| FREQUENT.get(&ends))
            && !known.contains(&text.as_str())
        {
            let mut near = known.iter().filter(|word| is_slip(text.as_bytes(), word.as_bytes()));
            if let (Some(word), None) = (near.next(), near.next()) {
                (*word).clone_into(text);
            }
        }
    }
}

/// Whether one letter was added, left out or mistaken, or two neighbours changed places.
fn is_slip(typed: &[u8], word: &[u8]) -> bool {
    let head = typed.iter().zip(word).take_while(|(a, b)| a == b).count();
    let tail = typed.iter().rev().zip(word.iter().rev()).take_while(|(a, b)| a == b).count();
    let rest = |text: &[u8]| text.len().saturating_sub(head + tail);
    match (rest(typed), rest(word)) {
        (0 | 1, 0 | 1) => typed.len().abs_diff(word.len()) <= 1,
        (2, 2) => typed.get(head) == word.get(head + 1) && typed.get(head + 1) == word.get(head),
        _ => false,
    }
}

// === English ===

/// "Why the hell" is "why", and "how 2" "how to".
fn calm(pieces: &mut Vec<Piece>) {
    let mut at = 0;
    while at < pieces.len() {
        if word(pieces, at) == "how" && word(pieces, at + 1) == "2" {
            set(pieces, at + 1, "to");
        }
        let asks = ["why", "what", "how", "where", "when", "who"].contains(&word(pieces, at));
        let swears = matches!(
            (word(pieces, at + 1), word(pieces, at + 2)),
            ("the", "hell" | "heck" | "fuck") | ("on", "earth")
        );
        if asks && swears {
            pieces.drain(at + 1..at + 3);
        }
        at += 1;
    }
}

/// "Turn the lights off" is "turn off the lights".
fn gather(pieces: &mut [Piece]) {
    for at in 0..pieces.len() {
        if !matches!(word(pieces, at), "turn" | "switch" | "shut" | "turning" | "switching") {
            continue;
        }
        let is_particle = |n: usize| matches!(word(pieces, n), "on" | "off" | "up" | "down");
        let near = clause_end(pieces, at).min(at + 7);
        let Some(place) = (at + 1..near).find(|n| is_particle(*n)) else { continue };
        let after = word(pieces, place + 1);
        let ends = after.is_empty()
            && !matches!(pieces.get(place + 1), Some(Piece::Code(_) | Piece::Quote(_)));
        if ends || ["in", "at", "for", "from", "when", "if", "with", "using"].contains(&after) {
            pieces.get_mut(at + 1..=place).unwrap_or_default().rotate_right(1);
        }
    }
}

/// Participles that are not made regularly.
const PARTICIPLES: [(&str, &str); 40] = [
    ("frozen", "freeze"),
    ("made", "make"),
    ("done", "do"),
    ("eaten", "eat"),
    ("drunk", "drink"),
    ("taken", "take"),
    ("given", "give"),
    ("written", "write"),
    ("read", "read"),
    ("sent", "send"),
    ("bought", "buy"),
    ("sold", "sell"),
    ("paid", "pay"),
    ("kept", "keep"),
    ("built", "build"),
    ("found", "find"),
    ("held", "hold"),
    ("set", "set"),
    ("reset", "reset"),
    ("cut", "cut"),
    ("put", "put"),
    ("split", "split"),
    ("grown", "grow"),
    ("worn", "wear"),
    ("driven", "drive"),
    ("run", "run"),
    ("begun", "begin"),
    ("hidden", "hide"),
    ("shown", "show"),
    ("drawn", "draw"),
    ("thrown", "throw"),
    ("caught", "catch"),
    ("taught", "teach"),
    ("fed", "feed"),
    ("bred", "breed"),
    ("undone", "undo"),
    ("rebuilt", "rebuild"),
    ("spent", "spend"),
    ("lent", "lend"),
    ("sewn", "sew"),
];

/// The verb of a participle.
fn verb(participle: &str) -> Option<String> {
    if let Some((_, verb)) = PARTICIPLES.iter().find(|(form, _)| *form == participle) {
        return Some((*verb).to_owned());
    }
    let stem = participle.strip_suffix("ed").filter(|stem| stem.len() >= 2 && stem.is_ascii())?;
    if let Some(stem) = stem.strip_suffix('i') {
        return Some(format!("{stem}y"));
    }
    let mut ends = stem.chars().rev();
    match (ends.next(), ends.next()) {
        (Some(a), Some(b)) if a == b && !"lsz".contains(a) => {
            Some(stem.get(..stem.len() - 1)?.to_owned())
        }
        // The last e is cut from all long words alike.
        _ => Some(format!("{stem}e")),
    }
}

/// Words that say who or whose: of them it matters who does it to them.
static SOMEONE: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "i me my mine he him his she her they them their it its we us our you your the this that these \
     those who someone anyone everyone nobody person people man woman men women boss manager employer \
     employee employees worker workers landlord landlords tenant tenants owner husband wife child children kid kids \
     parent parents teacher teachers student students doctor patient patients citizen citizens \
     president judge minor minors immigrant immigrants police politician politicians company companies \
     government country countries user users customer customers driver drivers buyer seller \
     not never no all some any only each every both neither none be by and or if"
        .split(' ')
        .collect()
});

/// "How can a burn be treated" is "how can I treat a burn"; "is a visa needed" is "do I need a
/// visa". Only of things, and of no certain ones: "can my salary be cut" is not "can I cut my
/// salary".
fn activate(pieces: &mut Vec<Piece>) {
    let mut at = 0;
    while at < pieces.len() {
        let asks = matches!(word(pieces, at), "how" | "when" | "where");
        let helper = at + usize::from(asks);
        if begins(pieces, at) {
            match word(pieces, helper) {
                "can" | "could" | "should" => passive(pieces, helper),
                "is" | "are" if !asks => need(pieces, helper),
                _ => {}
            }
        }
        at += 1;
    }
}

/// Whether these are the words for a thing.
fn is_thing(pieces: &[Piece]) -> bool {
    (1..=6).contains(&pieces.len())
        && pieces.iter().all(|piece| {
            matches!(piece, Piece::Word { text, case, .. }
                if !SOMEONE.contains(text.as_str()) && *case == Case::Lower)
        })
}

fn passive(pieces: &mut Vec<Piece>, helper: usize) {
    let end = clause_end(pieces, helper);
    let Some(be) = (helper + 1..end).find(|n| word(pieces, *n) == "be") else { return };
    let thing = pieces.get(helper + 1..be).unwrap_or_default();
    let by = (be + 2..end).any(|n| word(pieces, n) == "by");
    if let Some(verb) = verb(word(pieces, be + 1)).filter(|_| !by && is_thing(thing)) {
        set(pieces, be + 1, &verb);
        pieces.remove(be);
        pieces.get_mut(helper + 1..=be).unwrap_or_default().rotate_right(1);
        pieces.insert(helper + 1, plain("i"));
    }
}

fn need(pieces: &mut Vec<Piece>, helper: usize) {
    let end = clause_end(pieces, helper);
    let is_need = |n: &usize| matches!(word(pieces, *n), "needed" | "required" | "necessary");
    let Some(place) = (helper + 1..end).find(is_need) else { return };
    let thing = pieces.get(helper + 1..place).unwrap_or_default();
    let by = (place + 1..end).any(|n| word(pieces, n) == "by");
    if !by && is_thing(thing) {
        set(pieces, place, "need");
        set(pieces, helper, "do");
        pieces.get_mut(helper + 1..=place).unwrap_or_default().rotate_right(1);
        pieces.insert(helper + 1, plain("i"));
    }
}

/// "Which river is the longest" is "what is the longest river".
fn superlative(pieces: &mut [Piece]) {
    for at in 0..pieces.len() {
        if !begins(pieces, at) || !matches!(word(pieces, at), "which" | "what") {
            continue;
        }
        let is = |n: &usize| matches!(word(pieces, *n), "is" | "are");
        let Some(verb) = (at + 2..at + 4).find(is) else { continue };
        let most = usize::from(matches!(word(pieces, verb + 2), "most" | "least"));
        let how = word(pieces, verb + 2 + most);
        let best =
            most == 1 && !how.is_empty() || how.ends_with("est") || matches!(how, "best" | "worst");
        let last = verb + 2 + most;
        let after = word(pieces, last + 1);
        let ends = matches!(pieces.get(last + 1), None | Some(Piece::Break));
        if word(pieces, verb + 1) == "the"
            && best
            && (ends || ["in", "of", "on", "at"].contains(&after))
        {
            // "Which [river] [is the longest]": the noun goes behind.
            let nouns = verb - at - 1;
            pieces.get_mut(at + 1..=last).unwrap_or_default().rotate_left(nouns);
        }
    }
}

/// "How do I say "good morning" in Spanish" is "translate "good morning" to Spanish".
fn translate(pieces: &mut Vec<Piece>) {
    let words = ["how", "do", "", "say"];
    let asks = words.iter().enumerate().all(|(n, w)| w.is_empty() || word(pieces, n) == *w);
    let quotes = matches!(pieces.get(4), Some(Piece::Quote(_)));
    if asks && quotes && matches!(word(pieces, 2), "i" | "you") && word(pieces, 5) == "in" {
        set(pieces, 5, "to");
        pieces.splice(0..4, [plain("translate")]);
    }
}

// === German and Spanish ===

/// Parts of verbs that stand at the end: "lade ich ... herunter".
const PREFIXES: [&str; 22] = [
    "ab", "an", "auf", "aus", "ein", "her", "herunter", "hinzu", "hoch", "los", "mit", "nach",
    "um", "vor", "weg", "weiter", "wieder", "zu", "zurück", "fort", "frei", "fest",
];

/// "Wie kündige ich mein Abo" is "wie kann ich mein Abo kündigen".
fn infinitive_german(pieces: &mut Vec<Piece>) {
    let mut at = 0;
    while at < pieces.len() {
        let asks = matches!(word(pieces, at), "wie" | "wo") && word(pieces, at + 2) == "ich";
        let stem = word(pieces, at + 1).strip_suffix('e').filter(|stem| asks && stem.len() > 2);
        let Some(stem) = stem.map(str::to_owned) else {
            at += 1;
            continue;
        };
        let light = (stem.ends_with("er") || stem.ends_with("el")) && !stem.ends_with("ier");
        let mut verb = format!("{stem}{}", if light { "n" } else { "en" });
        let mut end = clause_end(pieces, at);
        let last = word(pieces, end - 1);
        if end - 1 > at + 2 && PREFIXES.contains(&last) {
            verb = format!("{last}{verb}");
            pieces.remove(end - 1);
            end -= 1;
        }
        pieces.insert(end, plain(&verb));
        set(pieces, at + 1, "kann");
        at = end;
    }
}

/// "Cómo cancelo mi pedido" is "cómo puedo cancelar mi pedido".
fn infinitive_spanish(pieces: &mut Vec<Piece>) {
    for at in (0..pieces.len()).rev() {
        if word(pieces, at) != "cómo" {
            continue;
        }
        let stem = word(pieces, at + 1).strip_suffix('o').filter(|stem| stem.len() > 2);
        if let Some(verb) = stem.filter(|stem| *stem != "pued").map(|stem| format!("{stem}ar")) {
            set(pieces, at + 1, &verb);
            pieces.insert(at + 1, plain("puedo"));
        }
    }
}
