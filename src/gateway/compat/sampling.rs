//! One sample, from its question to its grade.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::asking::{Asking, Unanswered};
use super::bench::Bench;
use super::plan::{Plan, Question};
use super::purse::{Hold, Purse, Tariff};
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
    /// What answers of the baseline and of the candidate cost.
    pub(super) tariffs: [Tariff; 2],
}

/// An answer and its grade, before it is a row.
struct Sampled {
    answer: Answer,
    grade: Option<Grade>,
    question: String,
    judging_micro_usd: u64,
    /// What is held for it.
    hold: Option<Hold>,
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
            if self.purse.is_empty() {
                return;
            }
            let Some(case) = self.plan.case(unit.case) else { continue };
            let told = match unit.of {
                Of::Baseline => self.one(case, (false, unit.sample), &tell).await,
                Of::Candidate => self.one(case, (true, unit.sample), &tell).await,
                Of::CandidateCompared => self.compared(case, unit.sample, None, &tell).await,
                Of::Both => self.both(case, unit.sample, &tell).await,
            };
            if told.is_none() {
                return;
            }
        }
    }

    /// Asks one side. `None`: there is no money left, or nobody who wants to know.
    async fn one(
        &self,
        case: &Case,
        (is_candidate, sample): (bool, u32),
        tell: &mpsc::Sender<NewSample>,
    ) -> Option<()> {
        let sampled = self.sample(case, is_candidate, sample).await?;
        self.tell(case, (is_candidate, sample), (sampled, None), tell).await
    }

    /// Asks both sides, and has their answers compared.
    async fn both(&self, case: &Case, sample: u32, tell: &mpsc::Sender<NewSample>) -> Option<()> {
        let baseline = self.sample(case, false, sample).await?;
        let kept = baseline.answer.clone();
        self.tell(case, (false, sample), (baseline, None), tell).await?;
        self.compared(case, sample, Some(kept), tell).await
    }

    /// Asks the candidate, and has its answer compared with the baseline's.
    async fn compared(
        &self,
        case: &Case,
        sample: u32,
        baseline: Option<Answer>,
        tell: &mpsc::Sender<NewSample>,
    ) -> Option<()> {
        let baseline = match baseline {
            Some(answer) => Some(answer),
            None => self.baseline(case, sample).await,
        };
        let mut sampled = self.sample(case, true, sample).await?;
        let mut preference = None;
        if let (Some(baseline), Some(criteria)) = (baseline, &case.prefer) {
            preference = self.prefer(&baseline, &mut sampled, criteria).await;
        }
        self.tell(case, (true, sample), (sampled, preference), tell).await
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

    /// Hands over a row. `None`: nobody wants it any more.
    async fn tell(
        &self,
        case: &Case,
        place: (bool, u32),
        (mut sampled, preference): (Sampled, Option<Preference>),
        tell: &mpsc::Sender<NewSample>,
    ) -> Option<()> {
        let cost = sampled.answer.cost_micro_usd.saturating_add(sampled.judging_micro_usd);
        if let Some(hold) = sampled.hold.take() {
            self.purse.settle(hold, cost);
        }
        let row = row(case, place, sampled, preference);
        let reuse_key = self.plan.reuse_key(case, row.is_candidate);
        tell.send(NewSample { row, reuse_key }).await.ok()
    }

    /// Asks once, and grades. `None`: there is no money left.
    async fn sample(&self, case: &Case, is_candidate: bool, sample: u32) -> Option<Sampled> {
        let Question { text, body } = match self.plan.question(case, is_candidate, sample) {
            Ok(question) => question,
            Err(why) => {
                let error = Some(format!("it cannot be asked: {why}"));
                let answer = Answer { error, ..Answer::default() };
                return Some(Sampled::ungraded(answer, String::new()));
            }
        };
        let [baseline, candidate] = &self.tariffs;
        let tariff = if is_candidate { candidate } else { baseline };
        let hold = self.purse.hold(tariff.quote(text.len())).await?;
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
        let mut sampled = if answer.error.is_none() {
            answer.latency_ms = asked.latency_ms;
            answer.served_by = asked.by;
            let tools = self.plan.side(is_candidate).tools.as_slice();
            self.graded(case, (answer, text), tools).await
        } else {
            Sampled::ungraded(answer, text)
        };
        sampled.hold = Some(hold);
        Some(sampled)
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
        Self { answer, grade: None, question, judging_micro_usd: 0, hold: None }
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
