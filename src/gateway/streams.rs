//! Streams that outlive their caller's connection: whoever opened one with `x-resumable: true` may
//! come back for the rest.
//!
//! Such an answer is read by a task of its own, the *pump*, into a ring of numbered events, and
//! every reply, the first one included, is a reader of that ring. A reader that leaves stops
//! nothing. The pump waits for the slowest reader before it drops what that one has not got;
//! without readers it drops the oldest and goes on. A ring is kept for a while after its stream has
//! ended.
//!
//! Memory is bounded: for each stream, and for all of them. Near the bound over all of them new
//! streams are not resumable, and running ones keep less.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Instant;
use crate::control::tasks::Tasks;
use crate::dialect::Dialect;
use crate::dispatch::{AnswerStream, Served, Stop};
use crate::ids::{CallerId, RequestId};

mod log;
mod pump;
mod reader;
mod ring;
mod stream;
#[cfg(test)]
mod tests;

pub(in crate::gateway) use log::Log;
use pump::{Pump, Source};
pub use reader::Reader;
pub(in crate::gateway) use ring::Ring;
pub use stream::Stream;

/// How often streams whose time is over are looked for.
const UPKEEP: Duration = Duration::from_secs(10);

/// What may be kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of events of one stream. The newest event is kept whatever its size.
    pub per_stream: usize,
    /// Bytes of all streams together; a stream more is taken while three quarters are in use.
    pub total: usize,
    /// How long after its end a stream can be read.
    pub kept_for: Duration,
}

/// What is known of a stream before its first byte.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Its id: that of the request that opened it.
    pub id: RequestId,
    /// Who opened it; nobody else may read it.
    pub owner: CallerId,
    /// The wire it is written in.
    pub dialect: Dialect,
    /// How it came about.
    pub served: Served,
}

/// All resumable streams of a gateway.
#[derive(Debug)]
pub struct Streams {
    /// The pumps, each on the runtime of the thread that its request came in on.
    pumps: Tasks,
    kept: Arc<Kept>,
    stop: Stop,
}

/// What pumps and lookups share.
struct Kept {
    limits: Limits,
    budget: Budget,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    streams: HashMap<RequestId, Arc<Stream>>,
    /// When which stream ended, oldest first. Some may have been forgotten since.
    ended: VecDeque<(Instant, RequestId)>,
}

/// Bytes in use, over all streams.
#[derive(Debug, Clone, Default)]
pub(in crate::gateway) struct Budget(Arc<AtomicUsize>);

// === impl Limits ===

impl Default for Limits {
    /// 2 MB a stream, 64 MB in total, five minutes.
    fn default() -> Self {
        Self { per_stream: 2 << 20, total: 64 << 20, kept_for: Duration::from_secs(300) }
    }
}

// === impl Streams ===

impl Streams {
    /// No streams yet.
    pub fn new(limits: Limits) -> Self {
        let (budget, table) = (Budget::default(), Mutex::default());
        let kept = Arc::new(Kept { limits, budget, table });
        Self { pumps: Tasks::new(), kept, stop: Stop::default() }
    }

    /// Has them end where the gateway stops.
    #[must_use]
    pub fn heeding(self, stop: Stop) -> Self {
        Self { stop, ..self }
    }

    /// Lets an answer go on by itself, on the current runtime, and begins to read it.
    ///
    /// # Errors
    ///
    /// Gives the answer back where there is no room; it belongs to its caller then, as any.
    pub fn open(
        &self,
        answer: Box<AnswerStream>,
        opened: Opened,
    ) -> Result<Reader, Box<AnswerStream>> {
        self.start(answer, opened)
    }

    fn start<S: Source>(&self, source: S, opened: Opened) -> Result<Reader, S> {
        self.expire();
        let kept = &self.kept;
        if kept.budget.used() >= kept.limits.total / 4 * 3 {
            return Err(source);
        }
        let stream = Arc::new(Stream::new(opened, kept.limits, kept.budget.clone()));
        kept.table.lock().streams.insert(stream.opened.id.clone(), Arc::clone(&stream));
        let reader = Reader::new(Arc::clone(&stream), stream.enter_at_start());
        let (stop, pump) = (self.stop.clone(), Pump::new(source, stream, Arc::clone(kept)));
        self.pumps.spawn(async move { stop.heeded(pump).await });
        Ok(reader)
    }

    /// A stream that this caller has opened and that is still kept.
    pub fn find(&self, id: &str, caller: &CallerId) -> Option<Arc<Stream>> {
        self.expire();
        let table = self.kept.table.lock();
        table.streams.get(id).filter(|stream| stream.opened.owner == *caller).cloned()
    }

    /// Cancels a stream if it still goes on, and forgets it. Upstream it ends before long: its pump
    /// is woken on the thread where it runs.
    pub fn cancel(&self, stream: &Stream) {
        self.kept.table.lock().streams.remove(stream.opened.id.as_str());
        stream.cancel();
    }

    /// How many answers still go on.
    pub fn running(&self) -> usize {
        self.pumps.len()
    }

    /// How many streams can be read.
    pub fn len(&self) -> usize {
        self.kept.table.lock().streams.len()
    }

    /// Whether no stream can be read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What all streams keep, in bytes.
    pub fn bytes(&self) -> usize {
        self.kept.budget.used()
    }

    /// Forgets streams whose time is over, now and then, for as long as the future is polled.
    pub async fn upkeep(&self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.expire();
        }
    }

    fn expire(&self) {
        let now = Instant::now();
        let mut table = self.kept.table.lock();
        while let Some((ended, id)) = table.ended.front()
            && *ended + self.kept.limits.kept_for <= now
        {
            let id = id.clone();
            table.ended.pop_front();
            table.streams.remove(&id);
        }
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

// === impl Kept ===

impl Kept {
    /// Notes that a stream has ended.
    fn ended(&self, id: &RequestId) {
        let mut table = self.table.lock();
        if table.streams.contains_key(id) {
            table.ended.push_back((Instant::now(), id.clone()));
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("bytes", &self.budget.used()).finish_non_exhaustive()
    }
}

// === impl Budget ===

impl Budget {
    pub(in crate::gateway) fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(in crate::gateway) fn take(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(in crate::gateway) fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}
