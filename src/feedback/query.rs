//! Questions to what was said: words, newest first, and mean scores.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::row::{at_ms, first_place_of};
use super::{Feedback, FeedbackKind, opinion, public_id};
use crate::store::{Sql, StoreError};

/// Which words. Fields that are not given do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedbackFilter {
    /// Of requests to this route.
    pub route: Option<String>,
    /// Of requests with this registered prompt: `id`, or `id@version`.
    pub prompt: Option<String>,
    /// Of answers by this model, or `provider/model`.
    pub model: Option<String>,
    /// By this caller.
    pub caller: Option<String>,
    /// About this request.
    pub request_id: Option<String>,
    /// Of this kind.
    pub kind: Option<FeedbackKind>,
    /// Said at this millisecond since 1970 or later.
    pub since_ms: Option<u64>,
    /// Said before this millisecond since 1970.
    pub until_ms: Option<u64>,
}

/// A word as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredFeedback {
    /// Its place among all words; the cursor of the page after it.
    pub place: i64,
    /// The id of all that this caller says of this request.
    pub id: String,
    /// When it was said, in milliseconds since 1970.
    pub at_ms: u64,
    /// About which request.
    pub request_id: String,
    /// By whom.
    pub caller: String,
    /// What kind of word it is: [`FeedbackKind::as_str`].
    pub kind: String,
    /// What it says of how good the answer was, from 0 to 1.
    pub score: Option<f64>,
    /// `up` or `down`, the label, or the comment.
    pub words: Option<String>,
    /// How many different words of this kind were said, this one included.
    pub changes: u64,
    /// Whether the journal did not have the request yet. What follows is then not known.
    pub waits: bool,
    /// The request's route.
    pub route: Option<String>,
    /// Its prompt, `id@version`.
    pub prompt: Option<String>,
    /// The provider that served it.
    pub provider: Option<String>,
    /// The model as the provider names it.
    pub model: Option<String>,
    /// The rollout it took part in.
    pub rollout: Option<String>,
    /// On which side.
    pub arm: Option<String>,
}

/// How good the answers of one prompt's version and one model were.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedbackScore {
    /// The prompt, `id@version`; none: those of requests without.
    pub prompt: Option<String>,
    /// The provider that served.
    pub provider: Option<String>,
    /// The model as the provider names it.
    pub model: Option<String>,
    /// Scores, thumbs and regenerations that were given.
    pub ratings: u64,
    /// Their mean, from 0 to 1.
    pub mean: f64,
}

const COLUMNS: &str = "request_id, caller, kind, place, score_millionths, words, changes, waits, \
                       route, prompt, provider, model, rollout, arm";

// === impl Feedback ===

impl Feedback {
    /// The most groups of [`Feedback::scores`].
    pub const MAX_SCORES: u32 = 1_000;

    /// Words, newest first: those before the one at `before`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    pub async fn list(
        &self,
        filter: &FeedbackFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<StoredFeedback>, StoreError> {
        let mut query = Sql::new("SELECT ");
        query.push(COLUMNS).push(" FROM feedback");
        filter.push(&mut query);
        if let Some(before) = before {
            query.push(" AND place < ").bind(before);
        }
        query.push(" ORDER BY place DESC LIMIT ").bind(i64::from(limit));
        let rows = self.read(query, "read feedback").await?;
        let failed = StoreError::query("read feedback");
        rows.iter().map(StoredFeedback::read).collect::<Result<_, _>>().map_err(failed)
    }

    /// Mean scores by prompt and model, those first that were rated most often, at most
    /// [`Feedback::MAX_SCORES`]. Words that wait for their requests are not among them.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    pub async fn scores(&self, filter: &FeedbackFilter) -> Result<Vec<FeedbackScore>, StoreError> {
        let mut query = Sql::new(
            "SELECT prompt, provider, model, count(*) AS ratings, \
             coalesce(sum(CAST(score_millionths AS DOUBLE PRECISION)), 0.0) AS total FROM feedback",
        );
        filter.push(&mut query);
        query.push(" AND score_millionths IS NOT NULL AND waits = 0");
        query
            .push(" GROUP BY prompt, provider, model ORDER BY count(*) DESC, prompt, model LIMIT ");
        query.bind(i64::from(Self::MAX_SCORES));
        let rows = self.read(query, "add up feedback").await?;
        let failed = StoreError::query("add up feedback");
        rows.iter().map(FeedbackScore::read).collect::<Result<_, _>>().map_err(failed)
    }

    async fn read(&self, query: Sql, operation: &'static str) -> Result<Vec<AnyRow>, StoreError> {
        let failed = StoreError::query(operation);
        let mut reader = self.shared.store.reader().await?;
        query.query().map_err(&failed)?.fetch_all(&mut *reader).await.map_err(failed)
    }
}

// === impl FeedbackFilter ===

impl FeedbackFilter {
    fn push(&self, query: &mut Sql) {
        query.push(" WHERE place >= ").bind(self.since_ms.map_or(0, first_place_of));
        if let Some(until_ms) = self.until_ms {
            query.push(" AND place < ").bind(first_place_of(until_ms));
        }
        query
            .and_is("route", self.route.as_deref())
            .and_is("caller", self.caller.as_deref())
            .and_is("request_id", self.request_id.as_deref())
            .and_is("kind", self.kind.map(FeedbackKind::as_str))
            .and_is_version("prompt", self.prompt.as_deref());
        if let Some(model) = &self.model {
            query.push(" AND (model = ").bind(model.clone());
            query.push(" OR provider || '/' || model = ").bind(model.clone()).push(")");
        }
    }
}

// === impl StoredFeedback ===

impl StoredFeedback {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let place = row.try_get("place")?;
        let (request_id, caller): (String, String) =
            (row.try_get("request_id")?, row.try_get("caller")?);
        let millionths: Option<i64> = row.try_get("score_millionths")?;
        #[expect(clippy::cast_precision_loss, reason = "at most a million")]
        let score = millionths.map(|millionths| opinion::score(millionths as f64));
        Ok(Self {
            place,
            id: public_id(&request_id, &caller),
            at_ms: at_ms(place),
            request_id,
            caller,
            kind: row.try_get("kind")?,
            score,
            words: row.try_get("words")?,
            changes: row.try_get::<i64, _>("changes")?.max(0).unsigned_abs(),
            waits: row.try_get::<i64, _>("waits")? != 0,
            route: row.try_get("route")?,
            prompt: row.try_get("prompt")?,
            provider: row.try_get("provider")?,
            model: row.try_get("model")?,
            rollout: row.try_get("rollout")?,
            arm: row.try_get("arm")?,
        })
    }
}

// === impl FeedbackScore ===

impl FeedbackScore {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let ratings = row.try_get::<i64, _>("ratings")?.max(0).unsigned_abs();
        let total: f64 = row.try_get("total")?;
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
        let mean = opinion::score(total / ratings.max(1) as f64);
        Ok(Self {
            prompt: row.try_get("prompt")?,
            provider: row.try_get("provider")?,
            model: row.try_get("model")?,
            ratings,
            mean,
        })
    }
}
