//! One sample, from its question to its grade.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::asking::{Asking, Unanswered};
use super::bench::Bench;
use super::plan::{Plan, Question};
use super::reading;
use super::stored;
use super::table::{Of, Unit};
use crate::compat::assertion::{GradeTerms, Graded};
use crate::compat::suite::Case;
use crate::compat::{Answer, Ask, AskKey, Grade, Preference, Reply};
use crate::runs::{NewSample, Runs, SamplePlace, SampleRow};

/// How often an answer is graded anew because replies have come; each time fewer are missing.
const MOST_ROUNDS: u32 = 8;

/// What the workers of a run share.
#[derive(Debug)]
pub(super) struct Sampling {
    pub(super) run: String,
    pub(super) plan: Plan,
    pub(super) asking: Asking,
    pub(super) bench: Bench,
    pub(super) runs: Runs,
    pub(super) purse: Purse,
}

/// What a run may spend.
#[derive(Debug)]
pub(super) struct Purse {
    cap_micro_usd: u64,
    spent_micro_usd: AtomicU64,
    /// Samples that were paid for.
    paid: AtomicU64,
    /// Samples that are being asked.
    in_hand: AtomicU64,
    is_empty: AtomicBool,
}

/// An answer and its grade, before it is a row.
struct Sampled {
    answer: Answer,
    grade: Option<Grade>,
    question: String,
    judging_micro_usd: u64,
}

// === impl Purse ===

impl Purse {
    /// Of so much, of which this is spent on so many samples.
    pub(super) fn new(cap_micro_usd: u64, spent_micro_usd: u64, paid: u64) -> Self {
        Self {
            cap_micro_usd,
            spent_micro_usd: AtomicU64::new(spent_micro_usd),
            paid: AtomicU64::new(paid),
            in_hand: AtomicU64::new(0),
            is_empty: AtomicBool::new(false),
        }
    }

    /// Whether something was not asked because there is too little left.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty.load(Ordering::Relaxed)
    }

    /// What is spent.
    pub(super) fn spent_micro_usd(&self) -> u64 {
        self.spent_micro_usd.load(Ordering::Relaxed)
    }

    /// Whether there is enough for those in hand and one more, by what samples have cost so far.
    fn begin(&self) -> bool {
        let spent = self.spent_micro_usd();
        let mean = spent / self.paid.load(Ordering::Relaxed).max(1);
        let in_hand = self.in_hand.fetch_add(1, Ordering::Relaxed) + 1;
        let fits = spent < self.cap_micro_usd
            && spent.saturating_add(mean.saturating_mul(in_hand)) <= self.cap_micro_usd;
        if !fits {
            self.in_hand.fetch_sub(1, Ordering::Relaxed);
            self.is_empty.store(true, Ordering::Relaxed);
        }
        fits
    }

    fn end(&self, cost_micro_usd: u64) {
        self.spent_micro_usd.fetch_add(cost_micro_usd, Ordering::Relaxed);
        self.paid.fetch_add(1, Ordering::Relaxed);
        self.in_hand.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Sampling ===

impl Sampling {
    /// Asks what is in the queue, until it is empty or the purse is.
    pub(super) async fn work(
        self: Arc<Self>,
        queue: Arc<Mutex<std::vec::IntoIter<Unit>>>,
        tell: mpsc::Sender<NewSample>,
    ) {
        loop {
            let next = queue.lock().next();
            let Some(unit) = next else { return };
            if self.purse.is_empty() || !self.purse.begin() {
                return;
            }
            let Some(case) = self.plan.case(unit.case) else { continue };
            let told = match unit.of {
                Of::Baseline => self.one(case, (false, unit.sample), &tell).await,
                Of::Candidate => self.one(case, (true, unit.sample), &tell).await,
                Of::CandidateCompared => self.compared(case, unit.sample, None, &tell).await,
                Of::Both => {
                    let baseline = self.sample(case, false, unit.sample).await;
                    let kept = baseline.answer.clone();
                    let row = row(case, (false, unit.sample), baseline, None);
                    // Its other half is still in hand.
                    self.purse.in_hand.fetch_add(1, Ordering::Relaxed);
                    match self.tell(case, row, &tell).await {
                        true => self.compared(case, unit.sample, Some(kept), &tell).await,
                        false => false,
                    }
                }
            };
            if !told {
                return;
            }
        }
    }

    async fn one(
        &self,
        case: &Case,
        (is_candidate, sample): (bool, u32),
        tell: &mpsc::Sender<NewSample>,
    ) -> bool {
        let sampled = self.sample(case, is_candidate, sample).await;
        self.tell(case, row(case, (is_candidate, sample), sampled, None), tell).await
    }

    /// Asks the candidate, and has its answer compared with the baseline's.
    async fn compared(
        &self,
        case: &Case,
        sample: u32,
        baseline: Option<Answer>,
        tell: &mpsc::Sender<NewSample>,
    ) -> bool {
        let baseline = match baseline {
            Some(answer) => Some(answer),
            None => self.baseline(case, sample).await,
        };
        let mut sampled = self.sample(case, true, sample).await;
        let mut preference = None;
        if let (Some(baseline), Some(criteria)) = (baseline, &case.prefer) {
            preference = self.prefer(&baseline, &mut sampled, criteria).await;
        }
        self.tell(case, row(case, (true, sample), sampled, preference), tell).await
    }

    /// The baseline's answer, as the store has it.
    async fn baseline(&self, case: &Case, sample: u32) -> Option<Answer> {
        let place = SamplePlace { case: case.id.clone(), sample, is_candidate: false };
        let read = || self.runs.sample(&self.run, &place);
        stored("read a sample of a compatibility run", read).await.map(|row| row.answer)
    }

    async fn prefer(
        &self,
        baseline: &Answer,
        sampled: &mut Sampled,
        criteria: &str,
    ) -> Option<Preference> {
        if baseline.error.is_some() || sampled.answer.error.is_some() {
            return None;
        }
        let ask = Ask::Prefer {
            question: sampled.question.clone(),
            criteria: criteria.to_owned(),
            baseline: baseline.text.clone(),
            candidate: sampled.answer.text.clone(),
        };
        let (reply, cost) = self.bench.reply(ask).await;
        sampled.judging_micro_usd = sampled.judging_micro_usd.saturating_add(cost);
        match reply {
            Reply::Preferred(preference) => Some(preference),
            Reply::Similarity(_) | Reply::Rated { .. } | Reply::Failed(_) => None,
        }
    }

    /// Hands over a row. Whether anybody still wants it.
    async fn tell(&self, case: &Case, row: SampleRow, tell: &mpsc::Sender<NewSample>) -> bool {
        let cost = row.answer.cost_micro_usd.saturating_add(row.judging_micro_usd);
        self.purse.end(cost);
        let reuse_key = self.plan.reuse_key(case, row.is_candidate);
        tell.send(NewSample { row, reuse_key }).await.is_ok()
    }

    /// Asks once, and grades.
    async fn sample(&self, case: &Case, is_candidate: bool, sample: u32) -> Sampled {
        let Question { text, body } = match self.plan.question(case, is_candidate, sample) {
            Ok(question) => question,
            Err(why) => {
                let error = Some(format!("it cannot be asked: {why}"));
                let answer = Answer { error, ..Answer::default() };
                return Sampled::ungraded(answer, String::new());
            }
        };
        let asked = self.asking.ask(&body, Some(self.plan.prompts())).await;
        let read = match asked.reply {
            Ok(body) => reading::read(&body),
            // To refuse is an answer, whoever does it.
            Err(Unanswered::Policy) => Ok(Answer {
                refused: true,
                finish_reason: "content_filter".to_owned(),
                ..Answer::default()
            }),
            Err(Unanswered::Never(why)) => Err(why),
        };
        let mut answer = match read {
            Ok(answer) => answer,
            Err(why) => Answer { error: Some(why), ..Answer::default() },
        };
        answer.cost_micro_usd = asked.cost_micro_usd;
        if answer.error.is_none() {
            answer.latency_ms = asked.latency_ms;
            answer.served_by = asked.by;
            let tools = self.plan.side(is_candidate).tools.as_slice();
            return self.graded(case, (answer, text), tools).await;
        }
        Sampled::ungraded(answer, text)
    }

    async fn graded(
        &self,
        case: &Case,
        (answer, question): (Answer, String),
        tools: &[serde_json::Value],
    ) -> Sampled {
        let terms = GradeTerms { judges_count: self.bench.counts, tools };
        let mut known: HashMap<AskKey, Reply> = HashMap::new();
        let mut sampled = Sampled::ungraded(answer, question);
        for _ in 0..MOST_ROUNDS {
            let look = |key: &AskKey| known.get(key).cloned();
            match case.grade(&sampled.answer, &sampled.question, &look, terms) {
                Graded::Done(grade) => {
                    sampled.grade = Some(grade);
                    break;
                }
                Graded::Asks(asks) => {
                    for ask in asks {
                        let key = ask.key();
                        let (reply, cost) = self.bench.reply(ask).await;
                        let judging = sampled.judging_micro_usd.saturating_add(cost);
                        sampled.judging_micro_usd = judging;
                        known.insert(key, reply);
                    }
                }
            }
        }
        sampled
    }
}

// === impl Sampled ===

impl Sampled {
    fn ungraded(answer: Answer, question: String) -> Self {
        Self { answer, grade: None, question, judging_micro_usd: 0 }
    }
}

fn row(
    case: &Case,
    (is_candidate, sample): (bool, u32),
    sampled: Sampled,
    preference: Option<Preference>,
) -> SampleRow {
    SampleRow {
        case: case.id.clone(),
        is_candidate,
        sample,
        answer: sampled.answer,
        grade: sampled.grade,
        preference,
        reused_from: None,
        judging_micro_usd: sampled.judging_micro_usd,
    }
}
