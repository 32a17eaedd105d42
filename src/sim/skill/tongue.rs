//! Languages: which one a text is in, and a small dictionary. What the dictionary does not have is
//! left out; names and numbers are the same everywhere.

/// A language that is spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tongue {
    English,
    German,
    French,
    Japanese,
}

/// English, German, French, Japanese. The first that a word begins with counts.
#[rustfmt::skip] // A table reads best as a table.
const WORDS: &[[&str; 4]] = &[
    ["order",     "Bestellung",  "commande",   "ご注文"],
    ["parcel",    "Paket",       "colis",      "荷物"],
    ["tent",      "Zelt",        "tente",      "テント"],
    ["shoe",      "Schuhe",      "chaussures", "靴"],
    ["boot",      "Stiefel",     "bottes",     "ブーツ"],
    ["jacket",    "Jacke",       "veste",      "ジャケット"],
    ["zip",       "Reißverschluss", "fermeture", "ファスナー"],
    ["stove",     "Kocher",      "réchaud",    "ストーブ"],
    ["warranty",  "Garantie",    "garantie",   "保証"],
    ["repair",    "Reparatur",   "réparation", "修理"],
    ["arrive",    "kommt an",    "arrive",     "届きます"],
    ["deliver",   "Lieferung",   "livraison",  "配送"],
    ["cancel",    "storniert werden",  "annulée",    "取り消し"],
    ["refund",    "Erstattung",  "remboursement", "返金"],
    ["sent",      "versandt",    "envoyée",    "発送"],
    ["not",       "nicht",       "pas",        "ない"],
    ["yet",       "bisher",      "encore",     "まだ"],
    ["can",       "kann",        "peut être",  "できます"],
    ["free",      "kostenlos",   "gratuit",    "無料"],
    ["open",      "geöffnet",    "ouvert",     "営業"],
    ["year",      "Jahre",       "ans",        "年"],
    ["day",       "Tage",        "jours",      "日"],
    ["week",      "Wochen",      "semaines",   "週間"],
    ["today",     "heute",       "aujourd'hui", "今日"],
    ["tomorrow",  "morgen",      "demain",     "明日"],
    ["monday",    "Montag",      "lundi",      "月曜日"],
    ["tuesday",   "Dienstag",    "mardi",      "火曜日"],
    ["wednesday", "Mittwoch",    "mercredi",   "水曜日"],
    ["thursday",  "Donnerstag",  "jeudi",      "木曜日"],
    ["friday",    "Freitag",     "vendredi",   "金曜日"],
    ["saturday",  "Samstag",     "samedi",     "土曜日"],
    ["sunday",    "Sonntag",     "dimanche",   "日曜日"],
    ["one",       "ein",         "un",         "1"],
    ["two",       "zwei",        "deux",       "2"],
    ["three",     "drei",        "trois",      "3"],
    ["four",      "vier",        "quatre",     "4"],
    ["five",      "fünf",        "cinq",       "5"],
    ["ten",       "zehn",        "dix",        "10"],
];

// === impl Tongue ===

impl Tongue {
    /// The language of a text; English where nothing speaks for another.
    pub(super) fn of(text: &str) -> Self {
        if has_kana(text) {
            return Self::Japanese;
        }
        const GERMAN: [&str; 12] = [
            "ich", "und", "nicht", "der", "die", "das", "ist", "meine", "bitte", "guten", "wir",
            "noch",
        ];
        const FRENCH: [&str; 12] =
            ["je", "et", "ne", "le", "la", "les", "est", "mon", "vous", "bonjour", "nous", "pas"];
        const ENGLISH: [&str; 12] =
            ["i", "and", "not", "the", "is", "my", "you", "we", "it", "a", "to", "of"];
        let words = super::words(text);
        let count = |of: &[&str]| words.iter().filter(|word| of.contains(&word.as_str())).count();
        let (english, german, french) = (count(&ENGLISH), count(&GERMAN), count(&FRENCH));
        if german > english && german > french {
            Self::German
        } else if french > english {
            Self::French
        } else {
            Self::English
        }
    }

    /// The language that a text names, such as `in French`.
    pub(super) fn named(text: &str) -> Option<Self> {
        let lower = text.to_lowercase();
        let names = [
            (Self::German, "german"),
            (Self::French, "french"),
            (Self::Japanese, "japanese"),
            (Self::English, "english"),
        ];
        names.into_iter().find(|(_, name)| lower.contains(name)).map(|(tongue, _)| tongue)
    }

    const fn column(self) -> usize {
        match self {
            Self::English => 0,
            Self::German => 1,
            Self::French => 2,
            Self::Japanese => 3,
        }
    }

    /// What of an English sentence can be said in this language.
    pub(super) fn gist(self, sentence: &str) -> String {
        let place = self.column();
        let said = sentence.split_whitespace().filter_map(|word| {
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
            let lower = bare.to_lowercase();
            let known = WORDS.iter().find(|row| row.first().is_some_and(|one| starts(&lower, one)));
            let known = known.and_then(|row| row.get(place)).map(|word| (*word).to_owned());
            let is_same = || bare.chars().any(|c| c.is_ascii_digit());
            known.or_else(|| is_same().then(|| bare.to_owned()))
        });
        let said: Vec<String> = said.collect();
        said.join(if self == Self::Japanese { "、" } else { " " })
    }
}

fn starts(word: &str, start: &str) -> bool {
    // "two" is not the beginning of another word, and neither is "can".
    word == start || (start.len() > 3 && word.starts_with(start))
}

/// Whether a text has an English word or its like in another language.
pub(super) fn says(text: &str, word: &str) -> bool {
    let row = WORDS.iter().find(|row| row.first().is_some_and(|one| starts(word, one)));
    let lower = text.to_lowercase();
    row.is_some_and(|row| row.iter().any(|other| lower.contains(&other.to_lowercase())))
}

/// Whether a text has signs of Japanese syllables.
pub(super) fn has_kana(text: &str) -> bool {
    text.chars().any(|c| ('\u{3040}'..='\u{30ff}').contains(&c))
}
