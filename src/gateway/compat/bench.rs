//! Who answers what grading needs to know: a judge, or an embedder. Nobody is asked twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::OnceCell;

use super::asking::{Asking, Unanswered};
use super::stored;
use super::{reading, simulated};
use crate::compat::agreement::Agreement;
use crate::compat::judge::{MAX_TOKENS, PROTOCOL, Sitting, Step, TEMPERATURE, family};
use crate::compat::report::JudgeFacts;
use crate::compat::{Ask, AskKey, Reply};
use crate::config::Snapshot;
use crate::embed::{EmbedError, Embedder};
use crate::runs::Runs;

/// What cosines are kept by, in place of a judge's protocol.
const COSINE: &str = "cosine-1";
/// How often a busy embedder is asked, and the pause between.
const EMBED_TRIES: u32 = 20;
const EMBED_PAUSE: Duration = Duration::from_secs(3);

/// Whoever answers what grading needs to know, for one run.
#[derive(Debug)]
pub(super) struct Bench {
    asking: Asking,
    runs: Runs,
    /// The judge, and how far it agrees with people; or why there is none.
    judge: Result<(String, Agreement), String>,
    /// Whether what it says counts.
    pub(super) counts: bool,
    embedder: Result<Embedder, String>,
    /// What is being found out.
    asked: Mutex<HashMap<AskKey, Arc<OnceCell<Reply>>>>,
    /// Whose questions these are; nobody's, where a judge itself is tried.
    run: Option<String>,
    /// How often the judge was asked and could not say; the rest is in the store.
    unsaid: AtomicU64,
}

// === impl Bench ===

impl Bench {
    /// Chooses the judge: the first that is of another family than all of `models`; of simulated
    /// ones, where nobody is named, the simulator's.
    pub(super) async fn new(
        asking: Asking,
        runs: Runs,
        models: &[String],
        embedder: Result<Embedder, String>,
    ) -> Self {
        let mut settings = runs.settings().judge;
        let is_simulated = settings.models.is_empty() && simulated::are_all(models);
        if is_simulated {
            settings.models.push(simulated::JUDGE.to_owned());
        }
        let families: Vec<&str> = models.iter().map(|model| family(model)).collect();
        let other = |model: &&String| !families.contains(&family(model));
        let (judge, counts) = match settings.models.iter().find(other) {
            Some(judge) => {
                let found =
                    stored("read how far a judge agrees", || runs.calibration(judge, PROTOCOL));
                let agreement = found.await.map(|found| found.agreement).unwrap_or_default();
                let counts =
                    is_simulated || settings.trust_uncalibrated || agreement.is_calibrated();
                (Ok((judge.clone(), agreement)), counts)
            }
            None if settings.models.is_empty() => {
                (Err("nobody judges: `compat.judge.models` is empty".to_owned()), false)
            }
            None => {
                let families = families.join(" and ");
                let why = format!(
                    "nobody judges: all of `compat.judge.models` are of the families of the sides, \
                     {families}"
                );
                (Err(why), false)
            }
        };
        Self {
            asking,
            runs,
            judge,
            counts,
            embedder,
            asked: Mutex::default(),
            run: None,
            unsaid: AtomicU64::new(0),
        }
    }

    /// Has this one judge and no other, whether it may count or not: that is to be found out.
    pub(super) fn of(asking: Asking, runs: Runs, judge: String) -> Self {
        Self {
            asking,
            runs,
            judge: Ok((judge, Agreement::default())),
            counts: true,
            embedder: Err("judges measure no similarity".to_owned()),
            asked: Mutex::default(),
            run: None,
            unsaid: AtomicU64::new(0),
        }
    }

    /// For a run: what is asked is counted as its.
    pub(super) fn for_run(self, run: &str) -> Self {
        Self { run: Some(run.to_owned()), ..self }
    }

    /// The judge and its protocol, and whether what it says counts.
    pub(super) fn judge(&self) -> Option<(&str, &'static str, bool)> {
        let (judge, _) = self.judge.as_ref().ok()?;
        Some((judge, PROTOCOL, self.counts))
    }

    /// Who judges, and how often it was asked for this run, on whichever node.
    pub(super) async fn facts(&self) -> Option<JudgeFacts> {
        let ((model, agreement), run) = (self.judge.as_ref().ok()?, self.run.as_ref()?);
        let count = || self.runs.sittings((model, PROTOCOL), run);
        let (said, disagreed) = stored("count what a judge has said", count).await;
        Some(JudgeFacts {
            model: model.clone(),
            protocol: PROTOCOL.to_owned(),
            agreement: *agreement,
            counts: self.counts,
            asked: said.saturating_add(self.unsaid.load(Ordering::Relaxed)),
            disagreed,
        })
    }

    /// Answers, and says what that cost, in millionths of a dollar. What was answered before, in
    /// whichever run, is not asked again.
    pub(super) async fn reply(&self, ask: Ask) -> (Reply, u64) {
        let key = ask.key();
        let cell = Arc::clone(self.asked.lock().entry(key.clone()).or_default());
        let mut cost = 0;
        let reply = cell.get_or_init(|| self.find_out(ask, &key, &mut cost)).await.clone();
        // Whoever comes later finds it in the store. One that failed is asked again then.
        self.asked.lock().remove(&key);
        (reply, cost)
    }

    async fn find_out(&self, ask: Ask, key: &AskKey, cost: &mut u64) -> Reply {
        let (by, protocol) = match (&ask, &self.judge, &self.embedder) {
            (Ask::Similarity { .. }, _, Ok(embedder)) => (embedder.space(), COSINE),
            (Ask::Similarity { .. }, _, Err(why)) => return Reply::Failed(why.clone()),
            (_, Ok((judge, _)), _) => (judge.as_str(), PROTOCOL),
            (_, Err(why), _) => return Reply::Failed(why.clone()),
        };
        let keys = std::slice::from_ref(key);
        let mut known =
            stored("read what a judge has said", || self.runs.replies((by, protocol), keys)).await;
        if let Some(reply) = known.remove(key) {
            return reply;
        }
        let (reply, contradicted) =
            if let (Ask::Similarity { text, reference }, Ok(embedder)) = (&ask, &self.embedder) {
                (similarity(embedder, text, reference, cost).await, false)
            } else {
                self.sit(by, ask, cost).await
            };
        if !matches!(reply, Reply::Failed(_)) {
            let run = (self.run.as_deref(), contradicted);
            let keep = || self.runs.keep_reply((by, protocol), (key, &reply), run);
            stored("keep what a judge has said", keep).await;
        }
        reply
    }

    /// Has a judge judge; what it says, and whether it said otherwise in the other order.
    async fn sit(&self, judge: &str, ask: Ask, cost: &mut u64) -> (Reply, bool) {
        let mut sitting = Sitting::new(ask, rand::random());
        let mut is_asked = false;
        loop {
            let messages = match sitting.next() {
                Step::Over(reply) => {
                    let is_unsaid = is_asked && matches!(reply, Reply::Failed(_));
                    self.unsaid.fetch_add(u64::from(is_unsaid), Ordering::Relaxed);
                    return (reply, sitting.is_contradicted());
                }
                Step::Say(messages) => messages,
            };
            is_asked = true;
            let body = json!({
                "model": judge, "messages": messages, "temperature": TEMPERATURE,
                "max_tokens": MAX_TOKENS,
            });
            let asked = self.asking.ask(&body, None).await;
            *cost = cost.saturating_add(asked.cost_micro_usd);
            let read = match asked.reply {
                Ok(body) => reading::read(&body),
                Err(Unanswered::Policy) => Err("its provider's policy refuses it".to_owned()),
                Err(Unanswered::Never(why)) => Err(why),
            };
            match &read {
                Ok(answer) => sitting.on_reply(Ok(&answer.text)),
                Err(why) => sitting.on_reply(Err(why)),
            }
        }
    }
}

/// The cosine of two texts.
async fn similarity(embedder: &Embedder, text: &str, reference: &str, cost: &mut u64) -> Reply {
    if text == reference {
        return Reply::Similarity(1.0);
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let embedded = embedder.embed(vec![text.to_owned(), reference.to_owned()]).await;
        let error = match embedded {
            Ok(embedded) => {
                *cost = cost.saturating_add(embedded.cost.0);
                return match &*embedded.vectors {
                    [one, other] => Reply::Similarity(f64::from(one.cosine(other))),
                    _ => Reply::Failed("the embedder gave other than two vectors".to_owned()),
                };
            }
            Err(error) => error,
        };
        let passes = matches!(error, EmbedError::Busy | EmbedError::Resting);
        if !passes || tries == EMBED_TRIES {
            return Reply::Failed(error.to_string());
        }
        tokio::time::sleep(EMBED_PAUSE).await;
    }
}

/// The models that may answer where this one is asked: those of a route, or itself.
pub(super) fn models_behind(snapshot: &Snapshot, model: &str) -> Vec<String> {
    let Ok(route) = snapshot.resolve(model) else { return vec![model.to_owned()] };
    let targets = route.tiers.iter().flatten();
    targets.map(|target| format!("{}/{}", target.endpoint.provider, target.model.name)).collect()
}
