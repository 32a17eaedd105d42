//! Questions about limits that nodes share, and their answers.
//!
//! All questions of one call are answered by one script on the server, by the server's clock and in
//! their order, so a call costs one round trip whatever its length, and two nodes cannot both take
//! what is there once. Numbers are doubles in the script: whole numbers up to 2^53 are exact,
//! larger ones are taken as 2^53.

use std::time::Duration;

use redis::Cmd;

/// One question: take something of `of`, or give it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    /// What is counted, such as `caller/7/tokens`. Questions about one key must be about one
    /// source.
    pub key: String,
    /// What it is taken from.
    pub of: Source,
    /// What is to be done.
    pub want: Want,
}

/// What is shared. Units are whole requests, tokens or micro-dollars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A token bucket that may go into debt, by the rules of [`crate::quota::Bucket`]: begins full,
    /// a burst is an advance on the seconds to come, debt is never forgiven.
    Bucket {
        /// What flows in, in millionths of a unit a second; at least 1.
        rate_micro_per_s: i64,
        /// The most it holds; at least 1.
        burst: i64,
        /// What there can be at most, as far as this node knows; counts where the server has
        /// forgotten.
        most: i64,
    },
    /// What may be used up until a time, such as a budget of a month.
    Window {
        /// The most that may be used.
        limit: i64,
        /// Which window, such as `2026-11`. Another id is another counter.
        id: String,
        /// When it ends, in milliseconds since 1970.
        ends_at_ms: u64,
        /// What this node has had of it, used or not; saying it again changes nothing. `None`
        /// leaves the count to the server.
        held: Option<i64>,
        /// What all nodes had had when this node last heard of it, and what it has had since;
        /// counts where the server has forgotten this node.
        heard: i64,
        /// What was used before this node counted. The counter never stands below this and what
        /// this node has had.
        before: i64,
        /// Whether that is what was used before there was the limit, so that what any node has had
        /// comes on top.
        is_beside: bool,
    },
    /// Places that are held for a while, such as requests in flight. What a node holds is free
    /// again when its lease ends; each question of the node about this key renews it.
    Slots {
        /// How many there are for all nodes together.
        limit: i64,
        /// How long what this node holds stays held when nothing is heard of it.
        lease: Duration,
        /// How many this node holds, as far as it knows; counts where the server has forgotten.
        held: i64,
    },
}

/// What is to be done. Amounts are not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Takes `most`, or less but not less than `least`, or nothing. `most: 0` only looks; `least:
    /// 0` takes what is there and is never refused. A bucket gives a `least` above its burst when
    /// it is full, and is in debt then; other sources never give more than there is.
    Take {
        /// The most that is of use.
        most: i64,
        /// The least that is of use, not above `most`.
        least: i64,
    },
    /// Takes as much whatever is left.
    Book(i64),
    /// Gives as much back.
    Return(i64),
    /// This node holds exactly so many slots. Heals what a question left behind whose answer was
    /// not heard. Other sources stay as they are.
    Hold(i64),
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// What was taken.
    pub granted: i64,
    /// What is left, rounded down; negative in debt and over budget.
    pub left: i64,
    /// When asking again for what was refused is of use, as far as anybody can know. Zero where
    /// something was granted.
    pub next_in: Duration,
    /// Whether the server has lost its memory, and nothing is granted of a window before all nodes
    /// can have told it again what they have had.
    pub is_unsettled: bool,
}

/// Doubles are exact up to here.
const MAX_EXACT: i64 = 1 << 53;

/// The call of the script by its hash.
pub(super) fn command(hash: &str, namespace: &str, node: &str, asks: &[Draw]) -> Cmd {
    let mut call = redis::cmd("EVALSHA");
    call.arg(hash).arg(asks.len() + 1);
    for ask in asks {
        call.arg(ask.full_key(namespace));
    }
    call.arg(memory_key(namespace));
    call.arg(node);
    for ask in asks {
        let (kind, numbers) = ask.of.arguments();
        let (want, most, least) = ask.want.arguments();
        call.arg(kind);
        for number in numbers {
            call.arg(exact(number));
        }
        call.arg(want).arg(exact(most)).arg(exact(least));
    }
    call
}

/// The key that says since when the server remembers anything.
pub(super) fn memory_key(namespace: &str) -> String {
    format!("{{{namespace}}}:memory")
}

/// The answers, if they are as many as the questions.
pub(super) fn grants(numbers: &[i64], asks: usize) -> Option<Vec<Grant>> {
    let answers = numbers.chunks_exact(3).filter_map(|answer| {
        let [granted, left, wait_us] = *answer else { return None };
        let next_in = Duration::from_micros(u64::try_from(wait_us).unwrap_or_default());
        Some(Grant { granted: granted.max(0), left, next_in, is_unsettled: granted < 0 })
    });
    let answers: Vec<_> = answers.collect();
    (answers.len() == asks && numbers.len() == asks * 3).then_some(answers)
}

fn exact(number: i64) -> i64 {
    number.clamp(-MAX_EXACT, MAX_EXACT)
}

// === impl Draw ===

impl Draw {
    /// The name of the key on the server. All keys have one hash tag, so that they are in one slot.
    fn full_key(&self, namespace: &str) -> String {
        let key = &self.key;
        match &self.of {
            Source::Bucket { .. } => format!("{{{namespace}}}:bucket:{key}"),
            Source::Window { id, .. } => format!("{{{namespace}}}:used:{key}:{id}"),
            Source::Slots { .. } => format!("{{{namespace}}}:slots:{key}"),
        }
    }
}

// === impl Source ===

impl Source {
    fn arguments(&self) -> (&'static str, [i64; 6]) {
        match self {
            Self::Bucket { rate_micro_per_s, burst, most } => {
                ("bucket", [(*rate_micro_per_s).max(1), (*burst).max(1), *most, 0, 0, 0])
            }
            Self::Window { limit, ends_at_ms, held, heard, before, is_beside, .. } => {
                let ends_at_ms = i64::try_from(*ends_at_ms).unwrap_or(i64::MAX);
                let held = held.unwrap_or(-1);
                let is_beside = i64::from(*is_beside);
                ("window", [*limit, ends_at_ms, held, *heard, (*before).max(0), is_beside])
            }
            Self::Slots { limit, lease, held } => {
                let lease_us = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
                ("slots", [*limit, lease_us.max(1), (*held).max(0), 0, 0, 0])
            }
        }
    }
}

// === impl Want ===

impl Want {
    fn arguments(self) -> (&'static str, i64, i64) {
        match self {
            Self::Take { most, least } => ("take", most.max(0), least.clamp(0, most.max(0))),
            Self::Book(amount) => ("book", amount.max(0), 0),
            Self::Return(amount) => ("return", amount.max(0), 0),
            Self::Hold(amount) => ("hold", amount.max(0), 0),
        }
    }
}
