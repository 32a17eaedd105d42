//! Jobs: requests that are answered later, kept in the store until then and for a while after.
//!
//! A job is a row that workers of any node take, see `queue`; what becomes of it is decided by
//! [`policy::job`](crate::policy::job). It ends in one transaction that writes its state, its
//! result and the webhook that tells of it, so that none of the three is ever without the others.
//!
//! What is promised: a job that was accepted ends, and ends once. What is not: that its provider is
//! asked once. Between a provider's answer and our commit a node may be killed, and the job is then
//! run again: at most one call more for each job that the node had in hand.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::RngExt;
use tokio::sync::Notify;

use crate::idempotency::{Owner, Rows};
use crate::policy::turns::{Head, Turns};
use crate::store::{Store, StoreError};

mod caller;
pub(crate) mod outbox;
pub(crate) mod queue;
mod record;
mod settings;
mod submission;
#[cfg(test)]
mod tests;
mod worker;

pub use caller::Found;
pub use outbox::{Delivery, Outgoing, StoredReceiver};
pub use record::{Job, JobError, JobResult, Particulars};
pub use settings::{JobSettings, WebhookSettings};
pub use submission::{Accepted, NewJob, NewWebhook, Once, SubmitError, Submitted};
pub use worker::{End, Held, Lost, Taken};

use queue::Queue;
use submission::Total;

/// All jobs and the webhooks that tell of them. Clones are the same.
#[derive(Debug, Clone)]
pub struct Jobs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    /// What is known of requests that came with a key.
    keys: Rows,
    /// What the requests of all jobs that wait took when it was last counted.
    total: Mutex<Option<Total>>,
    jobs: Queue,
    deliveries: Queue,
    /// A job has come in here.
    job_waits: Notify,
    /// A webhook has.
    webhook_waits: Notify,
    /// A job has been cancelled here.
    cancelled: Notify,
}

// === impl Jobs ===

impl Jobs {
    /// Jobs in `store`. Nothing is opened yet.
    pub fn new(store: Store) -> Self {
        let kind = store.kind();
        // A key is claimed and its outcome written in one transaction: nobody else ever sees a row
        // that is not done, so that owners need not be told apart.
        let keys = Rows::new(store.clone(), Owner::new("jobs"));
        Self {
            shared: Arc::new(Shared {
                store,
                keys,
                total: Mutex::default(),
                jobs: Queue::new("jobs", kind),
                deliveries: Queue::new("webhook_deliveries", kind),
                job_waits: Notify::new(),
                webhook_waits: Notify::new(),
                cancelled: Notify::new(),
            }),
        }
    }

    /// Waits until a job comes in through this process. Others are found by looking.
    pub async fn job_waits(&self) {
        self.shared.job_waits.notified().await;
    }

    /// Waits until a webhook is to be sent of a job that ended in this process.
    pub async fn webhook_waits(&self) {
        self.shared.webhook_waits.notified().await;
    }

    /// Waits until a job is cancelled through this process.
    pub async fn cancelled(&self) {
        self.shared.cancelled.notified().await;
    }
}

// === impl Shared ===

impl Shared {
    /// Who waits in a queue, and how much of each lane is being worked on; nothing where nobody
    /// waits. A look that finds nothing holds up nobody who writes.
    async fn waiting(
        &self,
        queue: Queue,
        turns: &Turns,
    ) -> Result<Option<(Vec<Head>, HashMap<String, u32>)>, StoreError> {
        let failed = StoreError::query("look who waits");
        let mut connection = self.store.reader().await?;
        let heads = queue.heads(&mut connection, turns.last()).await.map_err(&failed)?;
        if heads.is_empty() {
            return Ok(None);
        }
        let running = queue.running(&mut connection).await.map_err(&failed)?;
        Ok(Some((heads, running)))
    }
}

/// Whether a text may be the id of a job: `job_` and 32 hexadecimal digits.
pub fn is_job_id(text: &str) -> bool {
    let digits = text.strip_prefix("job_");
    digits.is_some_and(|digits| {
        digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// An id that sorts by the time it was made: `prefix`, the millisecond, 80 random bits.
fn new_id(prefix: &str, now_ms: u64) -> String {
    let mut id = String::with_capacity(prefix.len() + 32);
    let random: u128 = rand::rng().random::<u128>() >> 48;
    // Writing to a string cannot fail.
    let _ = write!(id, "{prefix}{:012x}{random:020x}", now_ms & ((1 << 48) - 1));
    id
}
