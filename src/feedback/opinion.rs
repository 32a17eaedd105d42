//! What a caller may say of an answer.

/// What a caller says of an answer, in one go.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Opinion {
    /// Thumb up or down.
    pub thumb: Option<Thumb>,
    /// How good it was, from 0 to 1. Kept to six digits.
    pub score: Option<f64>,
    /// A word of the caller's own, such as `wrong-language`.
    pub label: Option<String>,
    /// Whether its user asked for another answer.
    pub regenerate: bool,
    /// Free text.
    pub comment: Option<String>,
}

/// A thumb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Thumb {
    /// Good.
    Up,
    /// Bad.
    Down,
}

/// What kind of word it is. There is one of each kind for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FeedbackKind {
    /// A score: says most of how good an answer was.
    Score,
    /// A thumb.
    Thumb,
    /// Another answer was asked for.
    Regenerate,
    /// A label.
    Label,
    /// A comment.
    Comment,
}

/// One word, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) kind: FeedbackKind,
    pub(super) score_millionths: Option<i64>,
    pub(super) words: Option<String>,
}

/// Scores are kept as whole numbers, which every store adds up exactly.
const MILLION: f64 = 1e6;

/// A score as it is kept.
fn millionths(score: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "it is between 0 and a million")]
    let millionths = (score.clamp(0.0, 1.0) * MILLION).round() as i64;
    millionths
}

/// A score that was kept, or a mean of such.
pub(super) fn score(millionths: f64) -> f64 {
    (millionths / MILLION).clamp(0.0, 1.0)
}

// === impl Opinion ===

impl Opinion {
    /// Its words, those first that say most of how good the answer was.
    pub(super) fn words(&self) -> Vec<Word> {
        let rating = |kind, score: f64, words: Option<&str>| Word {
            kind,
            score_millionths: Some(millionths(score)),
            words: words.map(str::to_owned),
        };
        let text = |kind, words: &String| Word {
            kind,
            score_millionths: None,
            words: Some(words.clone()),
        };
        let thumb = |thumb: Thumb| rating(FeedbackKind::Thumb, thumb.score(), Some(thumb.as_str()));
        let words = [
            self.score.map(|score| rating(FeedbackKind::Score, score, None)),
            self.thumb.map(thumb),
            self.regenerate.then(|| rating(FeedbackKind::Regenerate, 0.0, None)),
            self.label.as_ref().map(|label| text(FeedbackKind::Label, label)),
            self.comment.as_ref().map(|comment| text(FeedbackKind::Comment, comment)),
        ];
        words.into_iter().flatten().collect()
    }

    /// How good the answer was, by those of its words that `counts`: a score says more than a
    /// thumb, and a thumb more than that another answer was asked for.
    pub(super) fn score_of(&self, counts: impl Fn(FeedbackKind) -> bool) -> Option<f64> {
        let words = self.words();
        let best = words.iter().find(|word| word.score_millionths.is_some() && counts(word.kind));
        #[expect(clippy::cast_precision_loss, reason = "at most a million")]
        best.and_then(|word| word.score_millionths).map(|millionths| score(millionths as f64))
    }
}

// === impl Thumb ===

impl Thumb {
    /// Up or down.
    pub const ALL: [Self; 2] = [Self::Up, Self::Down];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// What it means as a score.
    pub const fn score(self) -> f64 {
        match self {
            Self::Up => 1.0,
            Self::Down => 0.0,
        }
    }
}

// === impl FeedbackKind ===

impl FeedbackKind {
    /// All kinds, those first that say most of how good an answer was.
    pub const ALL: [Self; 5] =
        [Self::Score, Self::Thumb, Self::Regenerate, Self::Label, Self::Comment];

    /// The word for the store, the admin API and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Score => "score",
            Self::Thumb => "thumb",
            Self::Regenerate => "regenerate",
            Self::Label => "label",
            Self::Comment => "comment",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// How much it says of how good an answer was: less is more.
    pub(super) fn rank(self) -> usize {
        Self::ALL.into_iter().position(|kind| kind == self).unwrap_or(Self::ALL.len())
    }
}
