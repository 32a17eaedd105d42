//! Has answers compared, behind requests, and lets the semantic cache learn from it.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{Comparison, Gateway, Judge, JudgeError, Judged};
use crate::control::tasks::Tasks;
use crate::dispatch::Lane;
use crate::meaning::Trial;

/// Comparisons at a time. Each is two or three requests at the lowest priority.
const AT_A_TIME: usize = 4;

impl Gateway {
    /// Has all answers compared that requests leave to be compared, over `lane`, for ever. Only the
    /// first call does anything.
    pub async fn learn(self: Arc<Self>, lane: Lane) {
        let Some(mut trials) = self.meanings().trials() else { return };
        let judge = Judge::new(&self, lane);
        let (tasks, room) = (Tasks::new(), Arc::new(Semaphore::new(AT_A_TIME)));
        while let Some(trial) = trials.recv().await {
            // Nobody closes it.
            let Ok(turn) = Arc::clone(&room).acquire_owned().await else { return };
            let (gateway, judge) = (Arc::clone(&self), judge.clone());
            tasks.spawn(async move {
                gateway.put_to(&judge, trial).await;
                drop(turn);
            });
        }
    }

    async fn put_to(&self, judge: &Judge, trial: Trial) {
        if trial.kept == trial.fresh {
            return self.meanings().learn_same(&trial);
        }
        let Trial { question, kept, fresh, .. } = &trial;
        let comparison = Comparison { question, kept, fresh };
        let model = &trial.domain.terms.judge;
        let Judged { verdict, cost, .. } = judge.compare(model, &comparison).await;
        self.meanings().count(&trial.domain, |counts| counts.judging = counts.judging + cost);
        let word = match verdict {
            Ok(true) => "same",
            Ok(false) => "different",
            Err(ref error) => {
                let (route, judge) = (&trial.domain.terms.route, model.as_str());
                tracing::debug!(%route, judge, "two answers were not compared: {error}");
                error.as_str()
            }
        };
        self.metrics.semantic.judged(word, cost.0);
        match verdict {
            Ok(same) => self.meanings().learn(&trial, same),
            // Were they left out, what is proven of short and plain answers would be taken for all.
            Err(JudgeError::TooLong { .. } | JudgeError::Unreadable { .. }) => {
                self.meanings().learn(&trial, false);
            }
            Err(JudgeError::Empty | JudgeError::Failed { .. }) => self.meanings().miss(&trial),
        }
    }
}
