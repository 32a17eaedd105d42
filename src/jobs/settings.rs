//! The sections `[jobs]` and `[webhooks]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::job::RetryRule;
use crate::units::{ByteCount, HumanDuration};
use crate::webhook::address::Network;

/// Jobs: requests that are answered later (`POST /v1/jobs`, `Prefer: respond-async`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JobSettings {
    /// Jobs that this process works on at a time, at most 10000. 0: it accepts jobs and leaves the
    /// work to others. Takes effect at the next start.
    #[schemars(range(min = 0, max = 10_000))]
    pub workers: u32,
    /// Jobs of one caller that are worked on at a time, on all nodes together; 1 to 10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub per_caller: u32,
    /// Jobs of one caller that may wait; more are refused with 429. 1 to 10000000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_waiting: u32,
    /// What the requests of one caller's jobs that wait may take in the store, at least
    /// `request_limit`; more are refused with 429. A job that would wait alone never is.
    pub max_waiting_size: ByteCount,
    /// The same of all callers together, at least `max_waiting_size`. Added up once a second.
    pub max_total_waiting_size: ByteCount,
    /// Largest body of a job's request, 1KB to 64MiB.
    pub request_limit: ByteCount,
    /// Largest answer that is kept, 1KB to 64MiB; a job with a larger one fails.
    pub result_limit: ByteCount,
    /// Attempts at a job, each of them as thorough as that at any other request. 1 to 10.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u32,
    /// The pause after a job's first failure; four times as long after each further one.
    pub retry_pause: HumanDuration,
    /// The longest time that a job has, and the time of one that names no deadline. 1m to 30d.
    pub deadline: HumanDuration,
    /// How long a job belongs to its node without a sign of life; then others take it over. 2s to
    /// 10m; there are three signs in that time. Takes effect at the next start.
    pub lease: HumanDuration,
    /// How long a job that is over and its result are kept, at least 1m.
    pub retention: HumanDuration,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            workers: 16,
            per_caller: 8,
            max_waiting: 10_000,
            max_waiting_size: ByteCount(256_000_000),
            max_total_waiting_size: ByteCount(4_000_000_000),
            request_limit: ByteCount(4_000_000),
            result_limit: ByteCount(8_000_000),
            attempts: 3,
            retry_pause: HumanDuration::secs(2),
            deadline: HumanDuration::secs(86_400),
            lease: HumanDuration::secs(60),
            retention: HumanDuration::secs(3 * 86_400),
        }
    }
}

/// Webhooks, which tell callers that their jobs are over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookSettings {
    /// Networks that are not public and that webhooks may be sent to all the same, also without
    /// TLS, such as `["10.0.0.0/8", "::1"]`. Nothing else that is private, loopback, link-local or
    /// reserved is ever connected to, whatever name it goes by.
    pub allow_private: Vec<Network>,
    /// How long a receiver may take to answer, 1s to 30s.
    pub timeout: HumanDuration,
    /// After how long without a success nothing more is sent to a receiver, at least 1h. It can be
    /// switched on again by the admin API.
    pub disable_after: HumanDuration,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            allow_private: Vec::new(),
            timeout: HumanDuration::secs(15),
            disable_after: HumanDuration::secs(5 * 86_400),
        }
    }
}

/// What the types cannot rule out: the key, and what it must be.
type Faults = Vec<(&'static str, &'static str)>;

// === impl JobSettings ===

impl JobSettings {
    /// How often and when a job is tried again.
    pub fn retry_rule(&self) -> RetryRule {
        RetryRule { attempts: self.attempts, pause: self.retry_pause.0 }
    }

    /// What the types cannot rule out: the key, and what it must be.
    pub fn problems(&self) -> Faults {
        let size = 1_000..=64 << 20;
        let day = Duration::from_secs(86_400);
        let rules = [
            (self.workers <= 10_000, "workers", "must be 0 to 10000"),
            ((1..=10_000).contains(&self.per_caller), "per_caller", "must be 1 to 10000"),
            ((1..=10_000_000).contains(&self.max_waiting), "max_waiting", "must be 1 to 10000000"),
            (
                self.max_waiting_size >= self.request_limit,
                "max_waiting_size",
                "must be at least `request_limit`",
            ),
            (
                self.max_total_waiting_size >= self.max_waiting_size,
                "max_total_waiting_size",
                "must be at least `max_waiting_size`",
            ),
            (size.contains(&self.request_limit.0), "request_limit", "must be 1KB to 64MiB"),
            (size.contains(&self.result_limit.0), "result_limit", "must be 1KB to 64MiB"),
            ((1..=10).contains(&self.attempts), "attempts", "must be 1 to 10"),
            (
                (Duration::from_secs(60)..=30 * day).contains(&self.deadline.0),
                "deadline",
                "must be 1m to 30d",
            ),
            (
                (Duration::from_secs(2)..=Duration::from_secs(600)).contains(&self.lease.0),
                "lease",
                "must be 2s to 10m",
            ),
            (self.retention.0 >= Duration::from_secs(60), "retention", "must be at least 1m"),
        ];
        broken(&rules)
    }
}

// === impl WebhookSettings ===

impl WebhookSettings {
    /// What the types cannot rule out: the key, and what it must be.
    pub fn problems(&self) -> Faults {
        let timeouts = Duration::from_secs(1)..=Duration::from_secs(30);
        broken(&[
            (timeouts.contains(&self.timeout.0), "timeout", "must be 1s to 30s"),
            (
                self.disable_after.0 >= Duration::from_secs(3_600),
                "disable_after",
                "must be at least 1h",
            ),
        ])
    }
}

fn broken(rules: &[(bool, &'static str, &'static str)]) -> Faults {
    rules.iter().filter(|(holds, ..)| !holds).map(|(_, key, rule)| (*key, *rule)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named() {
        assert_eq!(JobSettings::default().problems(), []);
        assert_eq!(WebhookSettings::default().problems(), []);
        let wrong = JobSettings {
            workers: 10_001,
            per_caller: 0,
            max_waiting: 0,
            max_waiting_size: ByteCount(998),
            max_total_waiting_size: ByteCount(997),
            request_limit: ByteCount(999),
            result_limit: ByteCount(1 << 40),
            attempts: 0,
            retry_pause: HumanDuration::secs(1),
            deadline: HumanDuration::secs(59),
            lease: HumanDuration::secs(1),
            retention: HumanDuration::secs(59),
        };
        let keys: Vec<_> = wrong.problems().into_iter().map(|(key, _)| key).collect();
        let all = "workers per_caller max_waiting max_waiting_size max_total_waiting_size \
                   request_limit result_limit attempts deadline \
                   lease retention";
        assert_eq!(keys, all.split_whitespace().collect::<Vec<_>>());
        let wrong = WebhookSettings {
            timeout: HumanDuration::secs(31),
            disable_after: HumanDuration::secs(1),
            ..WebhookSettings::default()
        };
        let keys: Vec<_> = wrong.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["timeout", "disable_after"]);
    }
}
