//! Asks models for runs, again and again where that may help: a sample is not lost because its
//! provider is busy.
//!
//! | what came | what it is |
//! |---|---|
//! | an answer | an answer |
//! | the provider's policy refuses the content | an answer, refused, with the finish reason `content_filter` |
//! | 429, 503, no connection, our own limits | asked again, after what was asked for, else 1 s to 60 s |
//! | no answer in time, an answer that breaks off or cannot be read | asked again, 5 times at most |
//! | a credential that is refused | asked again, 3 times at most |
//! | a request that is wrong, a model that is not there | no answer |

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::pace::Pace;
use crate::clock::Instant;
use crate::failure::FailureKind;
use crate::gateway::jobs::may_pass;
use crate::gateway::own::{Came, Errand, Own};
use crate::journal::EndpointKind;
use crate::prompt::Prompts;
use crate::rejection::{NobodyWhy, Rejection};
use crate::runs::Runs;
use crate::units::Ratio;

/// The longest that nobody looks whether a target has room.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// How long one request may take, where its route does not say less.
const TIMEOUT: Duration = Duration::from_secs(600);
/// The first and the longest pause before a request is made again.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The shortest and the longest pause that is kept because somebody asked for it.
const ASKED_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(900));
/// How often a request is made that finds no answer in time, or a broken one.
const MOST_BROKEN: u32 = 5;
/// How often a request is made whose credential is refused.
const MOST_REFUSED: u32 = 3;
/// Models of which is kept what was said of their credentials.
const MOST_REFUSALS: usize = 1_000;

/// Asks models, at the pace of all runs.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    own: Own,
    pace: Arc<Pace>,
    runs: Runs,
    refusals: Refusals,
}

/// What providers said when they refused a credential, by the model that was asked for: the gateway
/// does not ask them again for a while, and what it says then names no provider.
#[derive(Debug, Clone, Default)]
struct Refusals {
    last: Arc<Mutex<HashMap<String, String>>>,
}

/// What came of asking.
#[derive(Debug)]
pub(super) struct Asked {
    /// The whole reply; or why there is none.
    pub(super) reply: Result<bytes::Bytes, Unanswered>,
    /// What all tries cost, in millionths of a dollar.
    pub(super) cost_micro_usd: u64,
    /// Who answered: `provider/model`; empty where nobody did.
    pub(super) by: String,
    /// How long the last try took, in milliseconds.
    pub(super) latency_ms: u64,
}

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The provider's policy refuses the content.
    Policy,
    /// It cannot be asked, and why.
    Never(String),
}

/// What is done about a request that was not answered.
#[derive(Debug, PartialEq)]
enum Next {
    Again(Option<Duration>),
    Over(Unanswered),
}

/// How often a request was made in vain.
#[derive(Debug, Default)]
struct Tries {
    all: u32,
    broken: u32,
    refused: u32,
}

// === impl Asking ===

impl Asking {
    pub(super) fn new(own: Own, pace: Arc<Pace>, runs: Runs) -> Self {
        Self { own, pace, runs, refusals: Refusals::default() }
    }

    /// Requests that may be made at a time.
    pub(super) fn at_a_time(&self) -> usize {
        self.pace.at_a_time()
    }

    /// Asks, for as long as it takes. `body` is a chat completion's, and `prompts` has the one that
    /// it names.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the attempt upstream.
    pub(super) async fn ask(&self, body: &Value, prompts: Option<&Arc<Prompts>>) -> Asked {
        let mut asked = Asked {
            reply: Err(Unanswered::Policy),
            cost_micro_usd: 0,
            by: String::new(),
            latency_ms: 0,
        };
        let mut tries = Tries::default();
        let model = body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
        let body = body.to_string().into_bytes();
        loop {
            let share = self.runs.settings().share;
            let turn = self.turn(&model, share).await;
            let began = Instant::now();
            let errand = Errand {
                kind: EndpointKind::Chat,
                body: body.clone(),
                timeout: TIMEOUT,
                prompts: prompts.map(Arc::clone),
                share: Some(share),
            };
            let Came { body, cost, by } = self.own.ask(errand).await;
            drop(turn);
            asked.latency_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            asked.cost_micro_usd = asked.cost_micro_usd.saturating_add(cost.0);
            asked.by = by.as_ref().map(|by| plain(by.as_str())).unwrap_or_default();
            match body {
                Ok(body) => {
                    asked.reply = Ok(body);
                    return asked;
                }
                Err(rejection) => {
                    let told = self.refusals.why(&model, &rejection);
                    match tries.next(&rejection) {
                        Next::Again(after) => tokio::time::sleep(tries.pause(after)).await,
                        Next::Over(Unanswered::Never(_)) => {
                            asked.reply = Err(Unanswered::Never(told));
                            return asked;
                        }
                        Next::Over(Unanswered::Policy) => return asked,
                    }
                }
            }
        }
    }
}

impl Asking {
    /// Waits until a request may be made and its target has room.
    async fn turn(&self, model: &str, share: Ratio) -> Option<OwnedSemaphorePermit> {
        loop {
            // Not with a turn in hand, which other targets may have a use for.
            while let Some(wait) = self.own.share_wait(model, share) {
                tokio::time::sleep(wait.min(LONGEST_LOOK)).await;
            }
            let turn = self.pace.turn().await;
            if self.own.share_wait(model, share).is_none() {
                return turn;
            }
        }
    }
}

// === impl Refusals ===

impl Refusals {
    /// Why a model gave no answer. Notes what is said of a credential.
    fn why(&self, model: &str, rejection: &Rejection) -> String {
        let why = why(rejection);
        if let Rejection::AttemptsFailed { failure, .. } = rejection
            && matches!(failure.kind, FailureKind::AuthFault | FailureKind::HardQuota)
        {
            let mut last = self.last.lock();
            if last.len() < MOST_REFUSALS || last.contains_key(model) {
                last.insert(model.to_owned(), why.clone());
            }
        }
        if matches!(rejection, Rejection::NobodyReady { why: NobodyWhy::Credential, .. }) {
            return self.last.lock().get(model).cloned().unwrap_or(why);
        }
        why
    }
}

// === impl Tries ===

impl Tries {
    fn next(&mut self, rejection: &Rejection) -> Next {
        self.all = self.all.saturating_add(1);
        let never = || Next::Over(Unanswered::Never(why(rejection)));
        let mut bounded = |count: fn(&mut Self) -> &mut u32, most: u32| {
            *count(self) += 1;
            if *count(self) < most { Next::Again(None) } else { never() }
        };
        if let Rejection::AttemptsFailed { failure, .. } = rejection {
            return match failure.kind {
                FailureKind::Policy => Next::Over(Unanswered::Policy),
                FailureKind::SlowStart | FailureKind::MidStream | FailureKind::Degenerate => {
                    bounded(|tries| &mut tries.broken, MOST_BROKEN)
                }
                FailureKind::HardQuota | FailureKind::AuthFault => {
                    bounded(|tries| &mut tries.refused, MOST_REFUSED)
                }
                FailureKind::Transport
                | FailureKind::ServerFault
                | FailureKind::Overloaded
                | FailureKind::RateLimited => Next::Again(failure.retry_after),
                FailureKind::NotServed | FailureKind::CallerFault | FailureKind::ContextTooLong => {
                    never()
                }
            };
        }
        if matches!(rejection, Rejection::NobodyReady { why: NobodyWhy::Credential, .. }) {
            return bounded(|tries| &mut tries.refused, MOST_REFUSED);
        }
        if matches!(rejection, Rejection::DeadlinePassed { .. } | Rejection::Internal { .. }) {
            return bounded(|tries| &mut tries.broken, MOST_BROKEN);
        }
        if may_pass(rejection) { Next::Again(rejection.retry_after()) } else { never() }
    }

    /// How long to wait: a little longer than was asked for, so that not all come back at once;
    /// else longer with each try.
    fn pause(&self, asked: Option<Duration>) -> Duration {
        let random: f64 = rand::random();
        match asked {
            Some(asked) => asked.clamp(ASKED_PAUSE.0, ASKED_PAUSE.1).mul_f64(1.0 + random / 4.0),
            None => {
                let doubled = PAUSE.0.saturating_mul(1 << self.all.saturating_sub(1).min(10));
                doubled.min(PAUSE.1).mul_f64(0.5 + random / 2.0)
            }
        }
    }
}

/// Why there is no answer, for whoever reads the report: with the provider's status and its own
/// word for it, which callers are not told. `401 authentication_error: the key is not known`
fn why(rejection: &Rejection) -> String {
    let Rejection::AttemptsFailed { failure, .. } = rejection else { return rejection.to_string() };
    let word = failure.code.as_deref().unwrap_or(failure.kind.as_str());
    let status = failure.status.map(|status| format!("{} ", status.as_u16())).unwrap_or_default();
    match failure.message.as_str() {
        "" => format!("{status}{word}"),
        message => format!("{status}{word}: {message}"),
    }
}

/// `openai/gpt-5` of a target's id, which may name its credential besides.
fn plain(target: &str) -> String {
    target.split_once('#').map_or(target, |(name, _)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    fn failed(kind: FailureKind, after: Option<u64>) -> Rejection {
        let mut failure = Failure::new(kind, "because");
        failure.retry_after = after.map(Duration::from_secs);
        Rejection::AttemptsFailed { attempts: 1, failure, is_futile: false }
    }

    #[test]
    fn a_busy_provider_is_asked_again_for_as_long_as_it_takes() {
        let mut tries = Tries::default();
        for _ in 0..1_000 {
            let next = tries.next(&failed(FailureKind::RateLimited, Some(7)));
            assert_eq!(next, Next::Again(Some(Duration::from_secs(7))));
            assert_eq!(tries.next(&failed(FailureKind::Overloaded, None)), Next::Again(None));
        }
        let overloaded = Rejection::Overloaded { retry_after: Duration::from_secs(2) };
        assert_eq!(tries.next(&overloaded), Next::Again(Some(Duration::from_secs(2))));
        let pause = tries.pause(Some(Duration::from_secs(7)));
        assert!(pause >= Duration::from_secs(7) && pause < Duration::from_secs(9), "{pause:?}");
        assert!(tries.pause(None) <= PAUSE.1);
    }

    #[test]
    fn what_breaks_every_time_is_no_answer_in_the_end() {
        let mut tries = Tries::default();
        for _ in 1..MOST_BROKEN {
            assert_eq!(tries.next(&failed(FailureKind::MidStream, None)), Next::Again(None));
        }
        let last = tries.next(&failed(FailureKind::Degenerate, None));
        assert!(matches!(last, Next::Over(Unanswered::Never(_))), "{last:?}");
        let mut tries = Tries::default();
        for _ in 1..MOST_REFUSED {
            assert_eq!(tries.next(&failed(FailureKind::AuthFault, None)), Next::Again(None));
        }
        assert!(matches!(tries.next(&failed(FailureKind::HardQuota, None)), Next::Over(_)));
    }

    #[test]
    fn the_report_is_told_the_providers_status_and_word() {
        let mut failure = Failure::new(FailureKind::AuthFault, "the key is not known");
        failure.status = Some(http::StatusCode::UNAUTHORIZED);
        failure.code = Some("authentication_error".to_owned());
        let said = |failure: Failure| {
            why(&Rejection::AttemptsFailed { attempts: 3, failure, is_futile: false })
        };
        assert_eq!(said(failure.clone()), "401 authentication_error: the key is not known");
        // What is not asked any more because of that says it, too.
        let refusals = Refusals::default();
        let refused = Rejection::AttemptsFailed { attempts: 1, failure, is_futile: false };
        let told = refusals.why("a/m", &refused);
        let nobody = Rejection::NobodyReady {
            route: "a/m".to_owned(),
            targets: Vec::new(),
            why: NobodyWhy::Credential,
            retry_after: None,
        };
        assert_eq!(refusals.why("a/m", &nobody), told);
        assert_eq!(refusals.why("a/other", &nobody), nobody.to_string());
        let failure = Failure::new(FailureKind::MidStream, "");
        assert_eq!(said(failure), FailureKind::MidStream.as_str());
        let unknown = Rejection::UnknownModel { model: "none".into(), near: Vec::new() };
        assert_eq!(why(&unknown), unknown.to_string());
    }

    #[test]
    fn a_policy_answers_and_a_wrong_request_never_is() {
        let mut tries = Tries::default();
        let policy = tries.next(&failed(FailureKind::Policy, None));
        assert_eq!(policy, Next::Over(Unanswered::Policy));
        let unknown = Rejection::UnknownModel { model: "none".into(), near: Vec::new() };
        for wrong in [failed(FailureKind::CallerFault, None), unknown] {
            let next = tries.next(&wrong);
            assert!(matches!(next, Next::Over(Unanswered::Never(_))), "{next:?}");
        }
    }
}
