//! What the further attempts of a route may cost, and how long its answers are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::habits::Habits;
use super::warming::Warming;
use crate::clock::Instant;
use crate::config::Route;
use crate::ids::RouteName;
use crate::policy::ewma::Ewma;
use crate::policy::hedge::{self, HedgeBudget, SpendBudget};
use crate::policy::midstream::SpliceBudget;
use crate::policy::retry::{BudgetSettings, RetryBudget};
use crate::policy::window::Window;

/// How long the length of answers is remembered.
const OUTPUT_TAU: Duration = Duration::from_secs(600);
/// The length of an answer where none was seen yet, in tokens.
const DEFAULT_OUTPUT: f64 = 256.0;

/// Requests of the last 10 s below which the share of further attempts says nothing.
const MIN_REQUESTS: u32 = 20;
/// The share of further attempts above which somebody should look.
const TOO_MANY: f64 = 0.1;
/// How often that is said.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The budgets of one route, and what else outlives its configuration.
#[derive(Debug)]
pub(super) struct Budgets {
    route: RouteName,
    state: Mutex<State>,
    /// Attempts under way.
    in_flight: AtomicU32,
    /// What prefix caches can expect of its requests.
    pub(super) habits: Mutex<Habits>,
    /// What is being read for the first time.
    pub(super) warming: Arc<Warming>,
}

#[derive(Debug)]
struct State {
    retry: RetryBudget,
    hedges: HedgeBudget,
    spend: SpendBudget,
    splices: SpliceBudget,
    output_tokens: Ewma,
    /// Requests of the last 10 s, and the attempts that followed a failure.
    recent: Window<10, 2>,
    /// When it was last said that there are too many of those.
    said: Option<Instant>,
}

/// The right to one further attempt; given back when it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Extra {
    /// `None` once repaid.
    budgets: Option<Arc<Budgets>>,
}

// === impl Budgets ===

impl Budgets {
    pub(super) fn new(route: &Route) -> Self {
        let ratio = route.conduct.retry_budget;
        let retry = BudgetSettings { ratio, ..BudgetSettings::default() };
        let state = State {
            retry: RetryBudget::new(retry),
            hedges: HedgeBudget::new(),
            spend: SpendBudget::default(),
            splices: SpliceBudget::new(),
            output_tokens: Ewma::new(OUTPUT_TAU),
            recent: Window::new(Duration::from_secs(1)),
            said: None,
        };
        Self {
            route: route.name.clone(),
            state: Mutex::new(state),
            in_flight: AtomicU32::new(0),
            habits: Mutex::new(Habits::new()),
            warming: Arc::default(),
        }
    }

    /// A request came in, for a stream or not.
    pub(super) fn on_request(
        &self,
        hedge: Option<&hedge::Settings>,
        is_stream: bool,
        now: Instant,
    ) {
        let mut state = self.state.lock();
        if is_stream {
            state.splices.on_stream(now);
        }
        state.retry.deposit(now);
        state.recent.add([1, 0], now);
        if let Some(settings) = hedge {
            state.hedges.on_primary(settings);
        }
    }

    /// Pays for a further attempt, if there is anything to pay with.
    pub(super) fn extra(self: &Arc<Self>, now: Instant) -> Option<Extra> {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        let mut state = self.state.lock();
        if !state.retry.try_withdraw(in_flight, now) {
            return None;
        }
        state.recent.add([0, 1], now);
        let ratio = state.retry_ratio(now);
        let is_news = state.said.is_none_or(|at| now.saturating_duration_since(at) >= SAY_EVERY);
        let say = ratio > TOO_MANY && is_news;
        if say {
            state.said = Some(now);
        }
        drop(state);
        if say {
            tracing::warn!(
                route = %self.route,
                retry_ratio = ratio,
                "many attempts fail: more than one attempt in ten requests follows a failure"
            );
        }
        Some(Extra { budgets: Some(Arc::clone(self)) })
    }

    /// Attempts of the last 10 s that followed a failure, for each request; 0 where there were too
    /// few requests to say.
    pub(super) fn retry_ratio(&self, now: Instant) -> f64 {
        self.state.lock().retry_ratio(now)
    }

    /// Pays for the continuation of a stream that broke, if the route's share allows one more.
    pub(super) fn take_splice(&self, now: Instant) -> bool {
        self.state.lock().splices.try_splice(now)
    }

    /// Pays for a hedge that may cost `usd`, or says which budget has too little.
    pub(super) fn hedge(
        self: &Arc<Self>,
        usd: f64,
        settings: &hedge::Settings,
        now: Instant,
    ) -> Result<Extra, hedge::Why> {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        let mut state = self.state.lock();
        if !state.hedges.try_withdraw() {
            return Err(hedge::Why::RequestBudget);
        }
        if !state.spend.try_spend(usd, settings, now) {
            state.hedges.refund(settings);
            return Err(hedge::Why::SpendBudget);
        }
        if !state.retry.try_withdraw(in_flight, now) {
            state.hedges.refund(settings);
            state.spend.refund(usd, now);
            return Err(hedge::Why::RetryBudget);
        }
        Ok(Extra { budgets: Some(Arc::clone(self)) })
    }

    /// Gives back what was paid for a hedge that did not begin.
    pub(super) fn refund_hedge(&self, usd: f64, settings: &hedge::Settings, now: Instant) {
        let mut state = self.state.lock();
        state.hedges.refund(settings);
        state.spend.refund(usd, now);
    }

    /// Tokens that an answer is expected to have, at most `cap`.
    pub(super) fn expected_output(&self, cap: Option<u64>) -> f64 {
        let usual = self.state.lock().output_tokens.value().unwrap_or(DEFAULT_OUTPUT);
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        let cap = cap.map_or(f64::INFINITY, |cap| cap as f64);
        usual.min(cap)
    }

    /// An answer ended.
    pub(super) fn on_answer(&self, output_tokens: u64, usd: f64, now: Instant) {
        let mut state = self.state.lock();
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        state.output_tokens.add(output_tokens as f64, now);
        state.spend.on_spend(usd, now);
    }

    pub(super) fn on_start(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn on_end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl State ===

impl State {
    fn retry_ratio(&mut self, now: Instant) -> f64 {
        let [requests, further] = self.recent.sums(now);
        if requests < MIN_REQUESTS { 0.0 } else { f64::from(further) / f64::from(requests) }
    }
}

// === impl Extra ===

impl Extra {
    /// The attempt has begun to answer, or was never made, so it costs nothing.
    pub(super) fn repay(mut self, now: Instant) {
        if let Some(budgets) = self.budgets.take() {
            budgets.state.lock().retry.repay(now);
        }
    }
}

impl Drop for Extra {
    fn drop(&mut self) {
        if let Some(budgets) = &self.budgets {
            budgets.state.lock().retry.release();
        }
    }
}
