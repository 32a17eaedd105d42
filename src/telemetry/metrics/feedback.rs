//! What callers say of answers.

use prometheus::{CounterVec, IntCounterVec, Opts, Registry};

use super::register::{counters, register};

/// What is counted of feedback.
#[derive(Debug)]
pub struct FeedbackMetrics {
    given: IntCounterVec,
    lost: IntCounterVec,
    ratings: IntCounterVec,
    scores: CounterVec,
}

// === impl FeedbackMetrics ===

impl FeedbackMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let scores = Opts::new(
            "tidegate_feedback_score_sum_total",
            "The sum of ratings from 0 to 1, by registered prompt (id@version, or none): over \
             tidegate_feedback_ratings_total it is their mean.",
        );
        Self {
            given: counters(
                registry,
                "tidegate_feedback_total",
                "What callers said of answers, by kind: score, thumb, regenerate, label, comment. \
                 The same word again does not count.",
                &["kind"],
            ),
            lost: counters(
                registry,
                "tidegate_feedback_lost_total",
                "Feedback that is not kept: store_away (the caller was told to try again), \
                 no_request (its request never ended), not_theirs (it was somebody else's).",
                &["reason"],
            ),
            ratings: counters(
                registry,
                "tidegate_feedback_ratings_total",
                "Ratings from 0 to 1, by registered prompt (id@version, or none).",
                &["prompt"],
            ),
            scores: register(registry, CounterVec::new(scores, &["prompt"])),
        }
    }

    /// Counts a word that was news.
    pub fn given(&self, kind: &str) {
        self.given.with_label_values(&[kind]).inc();
    }

    /// Counts words that are not kept.
    pub fn lost(&self, reason: &str, words: u64) {
        self.lost.with_label_values(&[reason]).inc_by(words);
    }

    /// Counts a rating of an answer, from 0 to 1.
    pub fn rated(&self, prompt: Option<&str>, score: f64) {
        let prompt = [prompt.unwrap_or("none")];
        self.ratings.with_label_values(&prompt).inc();
        self.scores.with_label_values(&prompt).inc_by(score.clamp(0.0, 1.0));
    }
}
