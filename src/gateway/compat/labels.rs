//! Asks judges about answers that people have labelled, at the pace of runs and with the same
//! memory: what a judge has said is never asked again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use super::bench::Bench;
use super::{Engine, stored};
use crate::clock::Instant;
use crate::compat::judge::PROTOCOL;
use crate::compat::{Ask, AskKey, Reply};
use crate::control::tasks::Tasks;
use crate::runs::Judging;

/// Sets of questions that are asked at a time.
const MOST_AT_ONCE: usize = 4;
/// How long questions go on that were under way when the time was over.
const LINGER: Duration = Duration::from_secs(60);
/// Questions that the store is asked for together.
const LOOKED_UP_TOGETHER: usize = 200;
/// How long a question is left alone to which the judge had no answer.
const REST: Duration = Duration::from_secs(600);
/// Judges and failures that are remembered.
const MOST_JUDGES: usize = 16;
const MOST_FAILURES: usize = 10_000;

/// Asks one judge.
#[derive(Debug)]
struct Examination {
    engine: Arc<Engine>,
    judge: String,
    bench: Bench,
    /// Why there was no answer, and when; they are not kept in the store.
    failed: Mutex<HashMap<AskKey, (Instant, Reply)>>,
    tasks: Tasks,
}

/// Questions that nobody has taken yet.
type Queue = Arc<Mutex<std::vec::IntoIter<Ask>>>;

/// Asks what comes through the hatch, for as long as runs are made.
pub(super) async fn judge_labels(engine: Arc<Engine>) {
    let Some(mut judgings) = engine.runs.judgings() else { return };
    let room = Arc::new(Semaphore::new(MOST_AT_ONCE));
    let tasks = Tasks::new();
    let mut examinations: HashMap<String, Arc<Examination>> = HashMap::new();
    // Nobody closes the semaphore.
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let Some(judging) = judgings.recv().await else { return };
        if examinations.len() >= MOST_JUDGES && !examinations.contains_key(&judging.judge) {
            examinations.clear();
        }
        let judge = judging.judge.clone();
        let examination = examinations.entry(judge);
        let examination =
            examination.or_insert_with_key(|judge| Examination::new(&engine, judge.clone()));
        let examination = Arc::clone(examination);
        tasks.spawn(async move {
            examination.examine(judging).await;
            drop(permit);
        });
    }
}

// === impl Examination ===

impl Examination {
    fn new(engine: &Arc<Engine>, judge: String) -> Arc<Self> {
        Arc::new(Self {
            bench: Bench::of(engine.judging.clone(), engine.runs.clone(), judge.clone()),
            engine: Arc::clone(engine),
            judge,
            failed: Mutex::default(),
            tasks: Tasks::new(),
        })
    }

    /// Asks until all is known or the time is over, and tells what is known then.
    async fn examine(self: Arc<Self>, judging: Judging) {
        let Judging { asks, by, tell, .. } = judging;
        let keys: Vec<AskKey> = asks.iter().map(Ask::key).collect();
        let Ok(mut known) = tokio::time::timeout_at(by, self.known(&keys)).await else { return };
        let mut seen: HashSet<&AskKey> = HashSet::new();
        let missing: Vec<Ask> = asks
            .into_iter()
            .zip(&keys)
            .filter(|(_, key)| !known.contains_key(*key) && seen.insert(key))
            .map(|(ask, _)| ask)
            .collect();
        let workers = self.engine.judging.at_a_time().max(1).min(missing.len());
        let queue: Queue = Arc::new(Mutex::new(missing.into_iter()));
        let (say, mut said) = mpsc::channel(workers.max(1));
        for _ in 0..workers {
            self.tasks.spawn(Arc::clone(&self).ask(Arc::clone(&queue), by, say.clone()));
        }
        drop(say);
        while let Ok(Some((key, reply))) = tokio::time::timeout_at(by, said.recv()).await {
            known.insert(key, reply);
        }
        let replies: Vec<_> = keys.iter().map(|key| known.get(key).cloned()).collect();
        if replies.iter().all(Option::is_some) {
            // Who asks once more after that wants to know whether it has passed.
            let mut failed = self.failed.lock();
            keys.iter().for_each(|key| drop(failed.remove(key)));
        }
        // Whoever has left comes again.
        let _ = tell.send(replies);
    }

    /// What the judge has said before, and what it could not say a moment ago.
    async fn known(&self, keys: &[AskKey]) -> HashMap<AskKey, Reply> {
        let mut known = HashMap::new();
        for keys in keys.chunks(LOOKED_UP_TOGETHER) {
            let read = || self.engine.runs.replies((&self.judge, PROTOCOL), keys);
            known.extend(stored("read what a judge has said", read).await);
        }
        let mut failed = self.failed.lock();
        failed.retain(|_, (at, _)| at.elapsed() < REST);
        for key in keys {
            if let Some((_, reply)) = failed.get(key) {
                known.entry(key.clone()).or_insert_with(|| reply.clone());
            }
        }
        known
    }

    /// Asks one question after the other. One that is under way when the time is over goes on for a
    /// while: its answer is kept for whoever comes again.
    async fn ask(self: Arc<Self>, queue: Queue, by: Instant, say: mpsc::Sender<(AskKey, Reply)>) {
        while Instant::now() < by {
            let Some(ask) = queue.lock().next() else { return };
            let key = ask.key();
            let asked = tokio::time::timeout_at(by + LINGER, self.bench.reply(ask)).await;
            let Ok((reply, _)) = asked else { return };
            if matches!(reply, Reply::Failed(_)) {
                let mut failed = self.failed.lock();
                if failed.len() >= MOST_FAILURES {
                    failed.clear();
                }
                failed.insert(key.clone(), (Instant::now(), reply.clone()));
            }
            if say.send((key, reply)).await.is_err() {
                return;
            }
        }
    }
}
