//! Tells the language of a text by its script and by words that nearly every text has.

use super::pieces::Piece;

/// The languages that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// Latin letters, and no word that would tell: "reset password".
    Unknown,
    /// English.
    English,
    /// German.
    German,
    /// French.
    French,
    /// Spanish.
    Spanish,
    /// Italian.
    Italian,
    /// Portuguese.
    Portuguese,
    /// Dutch.
    Dutch,
    /// Polish.
    Polish,
    /// Russian, and other languages in its script.
    Russian,
    /// Chinese.
    Chinese,
    /// Japanese.
    Japanese,
    /// Any other script.
    Other,
}

/// Words by which a language shows. Where two share a word, their others decide.
const WORDS: [(Language, &str); 9] = [
    (
        Language::English,
        "the a an is are was were do does did how what why when where who which can could should \
         would will i my me you your it this that of in on at for from to with and or not have has \
         please if there",
    ),
    (
        Language::German,
        "der die das den dem des ein eine einen einem einer ist sind war wie was warum wann wo wer \
         welche kann muss soll ich mein meine meinen meiner mich mir du dein sie ihr und oder nicht \
         kein keine im am zum zur mit von für auf aus bei nach über viel wird habe hat es gibt \
         in kostet können",
    ),
    (
        Language::French,
        "le la les un une des du de est sont était comment que quoi pourquoi quand où qui quel \
         quelle quels quelles puis je mon ma mes tu vous votre et ou ne pas en au aux avec pour sur \
         dans il elle ce cette combien y a-t-il l d qu c j n",
    ),
    (
        Language::Spanish,
        "el la los las un una de del es son está están cómo como qué que por cuándo cuando dónde \
         donde quién cuál cuáles cuánto cuánta puedo yo mi mis tu su se y o no en al con para hay \
         he ha debo debe tengo quiero pagar hacer cuesta",
    ),
    (
        Language::Italian,
        "il lo la i gli le un una di del della è sono come che cosa perché quando dove chi quale \
         quanto posso io mio mia miei e o non nel al con per ho c",
    ),
    (
        Language::Portuguese,
        "o a os as um uma de do da dos das é são como que por quando onde quem qual quanto posso \
         eu meu minha meus e ou não em no na ao com para há está você",
    ),
    (
        Language::Dutch,
        "de het een is zijn hoe wat waarom wanneer waar wie welke kan moet ik mijn me je jouw en \
         of niet geen in op met van voor uit bij naar er wordt heb heeft",
    ),
    (
        Language::Polish,
        "jest są jak co dlaczego kiedy gdzie kto który czy mogę ja mój moje moja mojego i lub nie \
         w na z ze do od dla po przez się mam ma to",
    ),
    (
        Language::Other,
        "att och är hur vad jag mitt min på inte för med kan ja ve bir nasıl için ne",
    ),
];

/// Letters and marks that only one of these languages has.
const SIGNS: [(Language, &str); 5] = [
    (Language::German, "ßẞ"),
    (Language::Spanish, "¿¡ñ"),
    (Language::French, "œ"),
    (Language::Portuguese, "ãõ"),
    (Language::Polish, "łąężźśń"),
];

/// The language of a text and its pieces.
pub(super) fn of(text: &str, pieces: &[Piece]) -> Language {
    if let Some(language) = script(text) {
        return language;
    }
    let words: Vec<&str> = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Word { text, .. } => Some(text.as_str()),
            Piece::Code(_) | Piece::Quote(_) | Piece::Break => None,
        })
        .collect();
    let mut best = (0, Language::Unknown);
    for (language, list) in WORDS {
        let known =
            words.iter().filter(|word| list.split(' ').any(|known| known == **word)).count();
        let signs = SIGNS.iter().find(|(of, _)| *of == language).map_or("", |(_, signs)| signs);
        let hits = known + 2 * usize::from(text.contains(|c| signs.contains(c)));
        if hits > best.0 {
            best = (hits, language);
        }
    }
    best.1
}

/// The language that a script alone tells; none for Latin letters.
fn script(text: &str) -> Option<Language> {
    let mut counts = [0_usize; 5];
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        let script = match c {
            'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' => 0,
            '\u{400}'..='\u{52f}' => 1,
            '\u{3040}'..='\u{30ff}' => 2,
            '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' => 3,
            _ => 4,
        };
        if let Some(count) = counts.get_mut(script) {
            *count += 1;
        }
    }
    let [latin, cyrillic, kana, han, other] = counts;
    if kana > 0 && kana + han > latin {
        return Some(Language::Japanese);
    }
    if han > latin {
        return Some(Language::Chinese);
    }
    if cyrillic > latin {
        return Some(Language::Russian);
    }
    (other > latin).then_some(Language::Other)
}

impl Language {
    /// Whether a text of this language and one of another may be of the same one.
    pub(super) fn may_be(self, other: Self) -> bool {
        self == other || self == Self::Unknown || other == Self::Unknown
    }
}
