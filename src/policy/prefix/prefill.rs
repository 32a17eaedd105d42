//! What a token of a prompt costs in time at a target, and how much of a prompt it usually has.

/// How fast old samples lose weight: two hundred count.
const FADE: f64 = 1.0 / 200.0;
/// What is taken for a token while nothing is known: twenty thousand a second.
const USUAL_SECONDS_A_TOKEN: f64 = 0.000_05;
/// The usual value counts as much as samples that vary by this, in tokens squared.
const PRIOR_VARIANCE: f64 = 500.0 * 500.0;
/// No prefill is slower than a thousand tokens a second.
const MAX_SECONDS_A_TOKEN: f64 = 0.001;
/// The part of a time to the first token that is left however much is cached.
const MIN_PART: f64 = 0.1;
/// Before so many samples nothing is believed of what the target says.
const MIN_REPORTS: f64 = 5.0;

/// A regression of the time to the first token on the tokens that had to be read, with fading
/// weights.
///
/// The average time to a first token, which is known already, is that of requests with the usual
/// cached share. A request with another share has so many tokens more or less to read, and takes so
/// much more or less time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Prefill {
    samples: f64,
    tokens: f64,
    seconds: f64,
    variance: f64,
    covariance: f64,
    /// Cached share of the prompts, as it came out.
    usual_share: f64,
    /// What came out of what was expected; see [`Prefill::trust`].
    reports: f64,
    expected: f64,
    found: f64,
}

// === impl Prefill ===

impl Prefill {
    /// A prompt of `tokens`, of which `share` was cached, had its first token after `seconds`.
    pub fn observe(&mut self, tokens: f64, share: f64, seconds: f64) {
        if !(tokens.is_finite() && share.is_finite() && seconds.is_finite()) {
            return;
        }
        let read = tokens * (1.0 - share.clamp(0.0, 1.0));
        self.samples += 1.0;
        let weight = FADE.max(1.0 / self.samples);
        let (more, later) = (read - self.tokens, seconds - self.seconds);
        self.tokens += weight * more;
        self.seconds += weight * later;
        self.variance = (1.0 - weight) * (self.variance + weight * more * more);
        self.covariance = (1.0 - weight) * (self.covariance + weight * more * later);
        self.usual_share += weight * (share.clamp(0.0, 1.0) - self.usual_share);
    }

    /// The target said how much of a prompt it had cached, of which `expected` was expected to be.
    pub fn report(&mut self, expected: f64, found: f64) {
        if expected < MIN_PART && found <= 0.0 {
            return;
        }
        self.reports += 1.0;
        let weight = FADE.max(1.0 / self.reports);
        self.expected += weight * (expected - self.expected);
        self.found += weight * (found.min(expected) - self.found);
    }

    /// Which part of what is expected to be cached is, 0 to 1. A target that never said that
    /// anything was is trusted: many do not say.
    pub fn trust(&self) -> f64 {
        if self.reports < MIN_REPORTS || self.found <= 0.0 || self.expected <= 0.0 {
            return 1.0;
        }
        (self.found / self.expected).clamp(0.0, 1.0)
    }

    /// Seconds that a token takes that is not cached.
    pub fn seconds_a_token(&self) -> f64 {
        let slope = (self.covariance + PRIOR_VARIANCE * USUAL_SECONDS_A_TOKEN)
            / (self.variance + PRIOR_VARIANCE);
        slope.clamp(0.0, MAX_SECONDS_A_TOKEN)
    }

    /// The cached share that its average times are those of, 0 to 1.
    pub fn usual_share(&self) -> f64 {
        self.usual_share
    }

    /// Seconds to the first token of a prompt of `tokens` with a cached share, where the average
    /// for its size is `seconds`.
    pub fn expected(&self, seconds: f64, tokens: f64, share: f64) -> f64 {
        let more = tokens * (self.usual_share - share) * self.seconds_a_token();
        (seconds + more).max(MIN_PART * seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 ms, and 0.2 ms a token that is not cached.
    fn taught() -> Prefill {
        let mut prefill = Prefill::default();
        for n in 0..400_u32 {
            let tokens = 2_000.0 + f64::from(n % 7) * 500.0;
            let share = f64::from(n % 5) * 0.2;
            let jitter = f64::from(n % 3) * 0.01;
            prefill.observe(tokens, share, 0.1 + 0.000_2 * tokens * (1.0 - share) + jitter);
        }
        prefill
    }

    #[test]
    fn the_time_a_token_takes_is_learnt() {
        assert_eq!(Prefill::default().seconds_a_token(), USUAL_SECONDS_A_TOKEN);
        let learnt = taught().seconds_a_token();
        assert!((learnt / 0.000_2 - 1.0).abs() < 0.15, "{learnt}");
        let usual = taught().usual_share();
        assert!((usual - 0.4).abs() < 0.02, "{usual}");
    }

    #[test]
    fn a_cached_prompt_is_expected_sooner_and_a_cold_one_later() {
        let prefill = taught();
        let usual = 0.1 + 0.000_2 * 3_500.0 * 0.6;
        let warm = prefill.expected(usual, 3_500.0, 0.9);
        let cold = prefill.expected(usual, 3_500.0, 0.0);
        assert!((warm - 0.17).abs() < 0.08, "{warm}");
        assert!((cold - 0.8).abs() < 0.08, "{cold}");
        assert!(prefill.expected(0.2, 1e6, 1.0) >= 0.02, "never nothing");
    }

    #[test]
    fn who_says_less_than_expected_is_trusted_less_and_who_says_nothing_is_trusted() {
        let mut prefill = Prefill::default();
        for _ in 0..50 {
            prefill.report(0.8, 0.0);
        }
        assert_eq!(prefill.trust(), 1.0);
        for _ in 0..50 {
            prefill.report(0.8, 0.4);
        }
        assert!((0.2..0.3).contains(&prefill.trust()), "{}", prefill.trust());
    }
}
