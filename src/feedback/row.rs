//! Words as rows, and what is joined to them of the journal's rows.

use rand::RngExt;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::opinion::{FeedbackKind, Opinion, Word};
use crate::ids::{CallerId, RequestId};

/// The part that a request took in a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// The rollout.
    pub rollout: String,
    /// Which of its arms.
    pub arm: String,
    /// The candidate's share when the arm was drawn, in hundredths of a percent.
    pub share: u16,
    /// What tells its unit from others; `None` where each request is its own.
    pub unit: Option<u32>,
}

/// Whose word about which request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) request_id: &'a RequestId,
    pub(super) caller: &'a CallerId,
}

/// What the journal says of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    /// Whose request it was.
    pub(super) owner: String,
    pub(super) route: Option<String>,
    pub(super) prompt: Option<String>,
    pub(super) provider: Option<String>,
    pub(super) model: Option<String>,
    pub(super) variant: Option<Variant>,
}

/// What became of words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// Those that were news.
    pub(super) changed: Vec<FeedbackKind>,
    /// Whether this caller had not rated the request before.
    pub(super) is_first: bool,
}

/// A word whose request has come.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) request_id: RequestId,
    pub(super) caller: CallerId,
    pub(super) kind: Option<FeedbackKind>,
    pub(super) kind_word: String,
    pub(super) place: i64,
    pub(super) score_millionths: Option<i64>,
    pub(super) about: About,
}

/// The columns of `requests AS r` that [`About::read`] reads. Those of [`variant`] belong here,
/// too.
const OF_REQUEST: &str = "r.caller AS owner, r.route, r.prompt, r.provider, r.model_served, \
                          r.rollout, r.arm, r.share, r.unit";
/// Bits of a place below the millisecond.
const PLACE_BITS: u32 = 20;
/// Words that are joined at a time.
pub(super) const JOINED_AT_A_TIME: i64 = 500;

/// The smallest place of a millisecond.
pub(super) fn first_place_of(unix_ms: u64) -> i64 {
    let highest = i64::MAX.unsigned_abs() >> PLACE_BITS;
    i64::try_from(unix_ms.min(highest)).unwrap_or(i64::MAX) << PLACE_BITS
}

/// The millisecond of a place.
pub(super) fn at_ms(place: i64) -> u64 {
    place.max(0).unsigned_abs() >> PLACE_BITS
}

/// The part that a request took in a rollout, by columns of its row in the journal.
fn variant(row: &AnyRow) -> Result<Option<Variant>, sqlx::Error> {
    let (rollout, arm) = (row.try_get("rollout")?, row.try_get("arm")?);
    let (Some(rollout), Some(arm)) = (rollout, arm) else { return Ok(None) };
    let share: Option<i64> = row.try_get("share")?;
    let unit: Option<i64> = row.try_get("unit")?;
    let share = share.and_then(|share| u16::try_from(share).ok()).unwrap_or_default();
    let unit = unit.and_then(|unit| u32::try_from(unit).ok());
    Ok(Some(Variant { rollout, arm, share, unit }))
}

/// Looks a request up in the journal.
pub(super) async fn find(
    connection: &mut AnyConnection,
    request_id: &RequestId,
) -> Result<Option<About>, sqlx::Error> {
    let sql = format!("SELECT {OF_REQUEST} FROM requests AS r WHERE r.request_id = $1 LIMIT 1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(request_id.as_str());
    row.fetch_optional(connection).await?.map(|row| About::read(&row)).transpose()
}

/// How many words of a caller wait for their requests.
pub(super) async fn waiting_of(
    connection: &mut AnyConnection,
    caller: &CallerId,
) -> Result<u64, sqlx::Error> {
    let sql = "SELECT count(*) FROM feedback WHERE waits = 1 AND caller = $1";
    let count = sqlx::query_scalar(sql).bind(caller.as_str()).fetch_one(connection).await;
    count.map(|count: i64| count.max(0).unsigned_abs())
}

/// Writes all words of an opinion. Those that are there already stay as they are.
pub(super) async fn write(
    connection: &mut AnyConnection,
    place: Place<'_>,
    opinion: &Opinion,
    about: Option<&About>,
    now_ms: u64,
) -> Result<Written, sqlx::Error> {
    let is_first = !is_rated(connection, place).await?;
    let mut changed = Vec::new();
    let start = first_place_of(now_ms) | rand::rng().random_range(0..1 << PLACE_BITS);
    for (at, word) in (start..).zip(opinion.words()) {
        if upsert(connection, place, &word, about, at).await? {
            changed.push(word.kind);
        }
    }
    Ok(Written { changed, is_first })
}

/// Whether a caller has rated a request, in words that do not wait.
pub(super) async fn is_rated(
    connection: &mut AnyConnection,
    Place { request_id, caller }: Place<'_>,
) -> Result<bool, sqlx::Error> {
    let sql = "SELECT count(*) FROM feedback WHERE request_id = $1 AND caller = $2
               AND score_millionths IS NOT NULL AND waits = 0";
    let count = sqlx::query_scalar(sql).bind(request_id.as_str()).bind(caller.as_str());
    count.fetch_one(connection).await.map(|count: i64| count > 0)
}

/// Writes one word; says whether it is news.
async fn upsert(
    connection: &mut AnyConnection,
    Place { request_id, caller }: Place<'_>,
    word: &Word,
    about: Option<&About>,
    place: i64,
) -> Result<bool, sqlx::Error> {
    let variant = about.and_then(|about| about.variant.as_ref());
    let written = sqlx::query(
        "INSERT INTO feedback (request_id, caller, kind, place, score_millionths, words, changes,
             waits, route, prompt, provider, model, rollout, arm)
         VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, $9, $10, $11, $12, $13)
         ON CONFLICT (request_id, caller, kind) DO UPDATE SET place = excluded.place,
             score_millionths = excluded.score_millionths, words = excluded.words,
             changes = feedback.changes + 1, waits = excluded.waits, route = excluded.route,
             prompt = excluded.prompt, provider = excluded.provider, model = excluded.model,
             rollout = excluded.rollout, arm = excluded.arm
         WHERE feedback.score_millionths IS DISTINCT FROM excluded.score_millionths
             OR feedback.words IS DISTINCT FROM excluded.words",
    )
    .bind(request_id.as_str())
    .bind(caller.as_str())
    .bind(word.kind.as_str())
    .bind(place)
    .bind(word.score_millionths)
    .bind(word.words.as_deref())
    .bind(i64::from(about.is_none()))
    .bind(about.and_then(|about| about.route.as_deref()))
    .bind(about.and_then(|about| about.prompt.as_deref()))
    .bind(about.and_then(|about| about.provider.as_deref()))
    .bind(about.and_then(|about| about.model.as_deref()))
    .bind(variant.map(|variant| variant.rollout.as_str()))
    .bind(variant.map(|variant| variant.arm.as_str()))
    .execute(connection)
    .await?;
    Ok(written.rows_affected() > 0)
}

/// Words that wait and whose requests have come.
pub(super) async fn joined(connection: &mut AnyConnection) -> Result<Vec<Joined>, sqlx::Error> {
    let sql = format!(
        "SELECT f.request_id, f.caller, f.kind, f.place, f.score_millionths, {OF_REQUEST}
         FROM feedback AS f JOIN requests AS r ON r.request_id = f.request_id
         WHERE f.waits = 1 ORDER BY f.request_id, f.caller LIMIT $1"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(JOINED_AT_A_TIME);
    rows.fetch_all(connection).await?.iter().map(Joined::read).collect()
}

/// Takes a word out of those that wait, unless it was changed or taken meanwhile.
pub(super) async fn settle(
    connection: &mut AnyConnection,
    joined: &Joined,
) -> Result<bool, sqlx::Error> {
    let About { route, prompt, provider, model, variant, .. } = &joined.about;
    let settled = sqlx::query(
        "UPDATE feedback SET waits = 0, route = $1, prompt = $2, provider = $3, model = $4,
             rollout = $5, arm = $6
         WHERE request_id = $7 AND caller = $8 AND kind = $9 AND place = $10 AND waits = 1",
    )
    .bind(route.as_deref())
    .bind(prompt.as_deref())
    .bind(provider.as_deref())
    .bind(model.as_deref())
    .bind(variant.as_ref().map(|variant| variant.rollout.as_str()))
    .bind(variant.as_ref().map(|variant| variant.arm.as_str()))
    .bind(joined.request_id.as_str())
    .bind(joined.caller.as_str())
    .bind(joined.kind_word.as_str())
    .bind(joined.place)
    .execute(connection)
    .await?;
    Ok(settled.rows_affected() > 0)
}

/// Drops a word whose request is somebody else's; says whether this node did.
pub(super) async fn refuse(
    connection: &mut AnyConnection,
    joined: &Joined,
) -> Result<bool, sqlx::Error> {
    let sql = "DELETE FROM feedback
               WHERE request_id = $1 AND caller = $2 AND kind = $3 AND waits = 1";
    let dropped = sqlx::query(sql)
        .bind(joined.request_id.as_str())
        .bind(joined.caller.as_str())
        .bind(joined.kind_word.as_str())
        .execute(connection)
        .await?;
    Ok(dropped.rows_affected() > 0)
}

/// Drops what has waited since before a moment; says how many words that were.
pub(super) async fn drop_waiting(
    connection: &mut AnyConnection,
    before_ms: u64,
) -> Result<u64, sqlx::Error> {
    let sql = "DELETE FROM feedback WHERE waits = 1 AND place < $1";
    let dropped = sqlx::query(sql).bind(first_place_of(before_ms)).execute(connection).await?;
    Ok(dropped.rows_affected())
}

/// Whether any word waits.
pub(super) async fn any_waits(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    let sql = "SELECT request_id FROM feedback WHERE waits = 1 LIMIT 1";
    Ok(sqlx::query(sql).fetch_optional(connection).await?.is_some())
}

/// Deletes some of the words that were said before a moment; says how many.
pub(super) async fn delete_before(
    connection: &mut AnyConnection,
    before_ms: u64,
    at_most: i64,
) -> Result<u64, sqlx::Error> {
    let sql = "DELETE FROM feedback WHERE place <= (SELECT max(place) FROM
               (SELECT place FROM feedback WHERE place < $1 ORDER BY place LIMIT $2) AS oldest)";
    let deleted = sqlx::query(sql).bind(first_place_of(before_ms)).bind(at_most);
    Ok(deleted.execute(connection).await?.rows_affected())
}

// === impl About ===

impl About {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            owner: row.try_get("owner")?,
            route: row.try_get("route")?,
            prompt: row.try_get("prompt")?,
            provider: row.try_get("provider")?,
            model: row.try_get("model_served")?,
            variant: variant(row)?,
        })
    }
}

// === impl Joined ===

impl Joined {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let (request_id, caller): (String, String) =
            (row.try_get("request_id")?, row.try_get("caller")?);
        let kind_word: String = row.try_get("kind")?;
        Ok(Self {
            request_id: RequestId::new(request_id),
            caller: CallerId::new(caller),
            kind: FeedbackKind::parse(&kind_word),
            kind_word,
            place: row.try_get("place")?,
            score_millionths: row.try_get("score_millionths")?,
            about: About::read(row)?,
        })
    }

    /// Whether it is about the same request, by the same caller.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.request_id == other.request_id && self.caller == other.caller
    }

    /// Whether it was said by who made the request.
    pub(super) fn is_theirs(&self) -> bool {
        self.about.owner == self.caller.as_str()
    }
}
