//! What callers say of the answers they got: thumbs, scores, labels, that they asked again,
//! comments.
//!
//! A word is about a request, and only its caller may say it. There is one of each kind; the latest
//! counts, and the same word again changes nothing. With it the store keeps what the journal says
//! of the request: its route, its prompt, who served it.
//!
//! The journal writes in batches, and the node that served a request may be another one. So a word
//! about a request that is not in the journal is kept, too, where the id says that the request was
//! made a short while ago: it waits, in the store, and whichever node sees the request first joins
//! the two ([`Feedback::upkeep`]). What waits in vain is dropped and counted. Ids are unguessable,
//! so that the difference tells nobody of requests that are not theirs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, broadcast};

use crate::clock::WallClock;
use crate::ids::{CallerId, RequestId};
use crate::store::{self, Store, StoreError};
use crate::telemetry::Metrics;

mod opinion;
mod query;
mod row;
#[cfg(test)]
mod tests;
mod upkeep;

pub use opinion::{FeedbackKind, Opinion, Thumb};
pub use query::{FeedbackFilter, FeedbackScore, StoredFeedback};
pub use row::Variant;

use row::{About, Place, Written};

/// All that callers say of answers. Clones are the same.
#[derive(Clone)]
pub struct Feedback {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    /// How long words are kept; zero: for ever.
    retention: Duration,
    clock: Arc<dyn WallClock>,
    metrics: Arc<Metrics>,
    ratings: broadcast::Sender<Rated>,
    /// A word has come in that waits for its request.
    waits: Notify,
}

/// A request was rated by its caller.
#[derive(Debug, Clone, PartialEq)]
pub struct Rated {
    /// The request.
    pub request_id: RequestId,
    /// How good its answer was, from 0 to 1.
    pub score: f64,
    /// Whether its caller had not rated it before. One who changes his mind is heard again.
    pub is_first: bool,
    /// The part that the request took in a rollout, if it did in one.
    pub variant: Option<Variant>,
}

/// A word that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The id of all that this caller says of this request: `fb_` and 32 hexadecimal digits.
    pub id: String,
    /// Whether it changed anything.
    pub is_news: bool,
    /// Whether the request is not in the journal yet.
    pub waits: bool,
}

/// Why a word was not taken.
#[derive(Debug, thiserror::Error)]
pub enum FeedbackError {
    /// The caller made no such request, or it is no longer kept.
    #[error("there is no such request of this caller")]
    UnknownRequest,
    /// Too many of the caller's words wait for requests already.
    #[error("{} words of this caller wait for their requests already", Feedback::MAX_WAITING)]
    TooManyWaiting,
    /// The store is away.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Ratings that a listener may be behind.
const MAX_UNHEARD: usize = 4_096;
/// For how long a request may not be in the journal after it was made: as long as it runs, and as
/// long as its node cannot write.
const MAY_BE_UNWRITTEN: Duration = Duration::from_secs(3_600);
/// How far another node's clock may be ahead.
const MAY_BE_AHEAD: Duration = Duration::from_secs(60);

// === impl Feedback ===

impl Feedback {
    /// The most words of one caller that may wait for their requests.
    pub const MAX_WAITING: u32 = 1_000;

    /// Feedback in `store`, kept for `retention`; zero: for ever. Nothing is opened.
    pub fn new(
        store: Store,
        retention: Duration,
        clock: Arc<dyn WallClock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        // Bounded: who is too slow is told how many ratings it missed.
        let (ratings, _) = broadcast::channel(MAX_UNHEARD);
        let waits = Notify::new();
        Self { shared: Arc::new(Shared { store, retention, clock, metrics, ratings, waits }) }
    }

    /// Ratings as they come in through this node, or are joined with their requests by it: each is
    /// heard on one node. A listener that is over 4,096 behind misses the oldest and is told how
    /// many ([`Lagged`](broadcast::error::RecvError::Lagged)).
    pub fn hear(&self) -> broadcast::Receiver<Rated> {
        self.shared.ratings.subscribe()
    }

    /// Takes what a caller says of a request.
    ///
    /// # Errors
    ///
    /// [`FeedbackError`]; nothing is kept then.
    pub async fn give(
        &self,
        caller: &CallerId,
        request_id: &RequestId,
        opinion: &Opinion,
    ) -> Result<Given, FeedbackError> {
        let given = self.shared.give(caller, request_id, opinion).await;
        if let Err(FeedbackError::Store(_)) = &given {
            self.shared.metrics.feedback.lost(Lost::StoreAway.as_str(), 1);
        }
        given
    }
}

impl fmt::Debug for Feedback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feedback").field("store", &self.shared.store).finish_non_exhaustive()
    }
}

/// Why a word is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// The store was away; the caller was told.
    StoreAway,
    /// No request came that it was about.
    NoRequest,
    /// The request was somebody else's.
    NotTheirs,
}

// === impl Lost ===

impl Lost {
    const fn as_str(self) -> &'static str {
        match self {
            Self::StoreAway => "store_away",
            Self::NoRequest => "no_request",
            Self::NotTheirs => "not_theirs",
        }
    }
}

// === impl Shared ===

impl Shared {
    async fn give(
        &self,
        caller: &CallerId,
        request_id: &RequestId,
        opinion: &Opinion,
    ) -> Result<Given, FeedbackError> {
        let now_ms = self.clock.unix_ms();
        let about = self.find(caller, request_id, now_ms).await?;
        let place = Place { request_id, caller };
        let written = self.write(place, opinion, about.as_ref(), now_ms).await?;
        for kind in &written.changed {
            self.metrics.feedback.given(kind.as_str());
        }
        match &about {
            None => self.waits.notify_one(),
            Some(about) => {
                let changed = |kind: FeedbackKind| written.changed.contains(&kind);
                self.tell(request_id, opinion.score_of(changed), written.is_first, about);
            }
        }
        Ok(Given {
            id: place.public_id(),
            is_news: !written.changed.is_empty(),
            waits: about.is_none(),
        })
    }

    /// What the journal says of a request of this caller; `None` where it may say so later.
    async fn find(
        &self,
        caller: &CallerId,
        request_id: &RequestId,
        now_ms: u64,
    ) -> Result<Option<About>, FeedbackError> {
        let failed = StoreError::query("look up a request for feedback");
        let mut reader = self.store.reader().await?;
        match row::find(&mut reader, request_id).await.map_err(failed)? {
            Some(about) if about.owner == caller.as_str() => Ok(Some(about)),
            None if may_come(request_id, now_ms) => Ok(None),
            Some(_) | None => Err(FeedbackError::UnknownRequest),
        }
    }

    async fn write(
        &self,
        place: Place<'_>,
        opinion: &Opinion,
        about: Option<&About>,
        now_ms: u64,
    ) -> Result<Written, FeedbackError> {
        let failed = StoreError::query("write feedback");
        let mut writer = self.store.writer().await?;
        let mut transaction =
            store::begin(&mut writer, self.store.kind()).await.map_err(&failed)?;
        let is_room = match about {
            Some(_) => Ok(true),
            None => row::waiting_of(&mut transaction, place.caller)
                .await
                .map(|waiting| waiting < u64::from(Feedback::MAX_WAITING)),
        };
        let written = match is_room {
            Ok(true) => row::write(&mut transaction, place, opinion, about, now_ms).await,
            Ok(false) => {
                let _ = transaction.rollback().await;
                return Err(FeedbackError::TooManyWaiting);
            }
            Err(error) => Err(error),
        };
        match written {
            Ok(written) => {
                transaction.commit().await.map_err(failed)?;
                Ok(written)
            }
            Err(error) => {
                // Waited for, so that the connection can be used again.
                let _ = transaction.rollback().await;
                Err(failed(error).into())
            }
        }
    }

    /// Tells of a rating, if it is one.
    fn tell(&self, request_id: &RequestId, score: Option<f64>, is_first: bool, about: &About) {
        let Some(score) = score else { return };
        self.metrics.feedback.rated(about.prompt.as_deref(), score);
        let variant = about.variant.clone();
        let rated = Rated { request_id: request_id.clone(), score, is_first, variant };
        // That nobody listens is no error.
        let _ = self.ratings.send(rated);
    }
}

/// Whether a request that is not in the journal may be so later, as far as its id says.
fn may_come(request_id: &RequestId, now_ms: u64) -> bool {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    request_id.made_at_ms().is_some_and(|made_at_ms| {
        made_at_ms <= now_ms.saturating_add(millis(MAY_BE_AHEAD))
            && now_ms.saturating_sub(made_at_ms) <= millis(MAY_BE_UNWRITTEN)
    })
}

// === impl Place ===

impl Place<'_> {
    /// The id of all that a caller says of a request: the same however often it is said.
    fn public_id(self) -> String {
        public_id(self.request_id.as_str(), self.caller.as_str())
    }
}

fn public_id(request_id: &str, caller: &str) -> String {
    let mut hash = Sha256::new();
    // No id of a caller has a NUL.
    hash.update(caller.as_bytes());
    hash.update([0]);
    hash.update(request_id.as_bytes());
    let digits =
        hash.finalize().iter().take(16).fold(0, |id: u128, byte| id << 8 | u128::from(*byte));
    format!("fb_{digits:032x}")
}
