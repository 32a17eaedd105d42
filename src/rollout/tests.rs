//! Tests of rollouts in the store: several nodes, several leaders, killed at any point.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::Row;

use super::*;
use crate::audit::Actor;
use crate::clock::{Instant, WallClock};
use crate::ids::RouteName;
use crate::policy::rollout::{
    Arm, Event, Guardrail, HardFailure, Observation, Pair, Phase, Plan, Readings, Rollout, Share,
    Stage, Traits,
};
use crate::store::places::{Place, places};
use crate::units::{HumanDuration, MicroUsd};

mod leading;
mod nodes;

const NOW: u64 = 1_700_000_000_000;

/// A clock that is set.
#[derive(Debug)]
struct Hands(AtomicU64);

impl WallClock for Hands {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A node: its rollouts, and where it writes what it notes.
struct Node {
    ledger: RolloutLedger,
    notebook: Notebook,
    clock: Arc<Hands>,
}

impl Node {
    fn of(place: &Place) -> Self {
        Self::keeping(place, None)
    }

    fn keeping(place: &Place, snapshot: Option<std::path::PathBuf>) -> Self {
        let clock = Arc::new(Hands(AtomicU64::new(NOW)));
        let wall: Arc<dyn WallClock> = Arc::<Hands>::clone(&clock);
        let around = Surroundings::none();
        let ledger =
            RolloutLedger::new(place.again(), Rollouts::new(), "a", snapshot, wall, around);
        Self { notebook: Notebook::new(ledger.clone()), ledger, clock }
    }

    /// What the route `smart` is steered by.
    fn share(&self) -> Option<f64> {
        let steering = self.ledger.rollouts().steering();
        steering.routes.get(&RouteName::new("smart")).map(|steered| steered.share.percent())
    }

    async fn begin(&self, plan: Plan) -> Record {
        self.ledger.begin(new_rollout(plan), None, &by(), |_| false).await.unwrap()
    }

    async fn command(&self, id: &str, event: Event) -> Result<Record, RolloutError> {
        let command = Command { event, if_revision: None, reason: None };
        self.ledger.command(id, &command, None, &by()).await
    }

    /// Notes requests, and writes what was noted.
    async fn note(&mut self, id: &str, seen: &[Observation]) {
        for seen in seen {
            let (arm, share, unit) = (seen.arm, seen.share, seen.unit);
            for noted in [Noted::Exposed { arm, share, unit }, Noted::Observed(seen.clone())] {
                self.ledger.rollouts().note(Note { rollout: id.into(), noted });
            }
        }
        self.notebook.flush().await.unwrap();
    }

    /// How many rows a question has.
    async fn count(&self, table: &'static str) -> i64 {
        let mut reader = self.ledger.shared.store.reader().await.unwrap();
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query(sql).fetch_one(&mut *reader).await.unwrap().try_get(0).unwrap()
    }
}

fn by() -> Actor {
    Actor { name: "admin".to_owned(), ..Actor::default() }
}

fn subject() -> Subject {
    Subject::of("route", "smart", "up/alpha", "up/beta").unwrap()
}

fn new_rollout(plan: Plan) -> NewRollout {
    let content = "route smart up/beta".to_owned();
    NewRollout { subject: subject(), content, plan, shadow: None, force: false, after: None }
}

/// Stages of these shares, each of a minute and so many requests.
fn plan(percents: &[f64], min_requests: u64) -> Plan {
    let stage = |percent: &f64| Stage {
        share: Share::from_percent(*percent).unwrap(),
        min_time: HumanDuration::secs(60),
        min_requests,
    };
    Plan { stages: percents.iter().map(stage).collect(), ..Plan::default() }
}

/// So many requests at 5 %, of which these parts fail.
fn traffic(seed: u64, count: u32, control_fails: f64, candidate_fails: f64) -> Vec<Observation> {
    let mut rng = StdRng::seed_from_u64(seed);
    let share = Share::from_percent(5.0).unwrap();
    let observation = |_| {
        let arm = if rng.random_bool(0.05) { Arm::Candidate } else { Arm::Control };
        let fails = if arm == Arm::Candidate { candidate_fails } else { control_fails };
        let has_failed = rng.random_bool(fails);
        let hard = Some(if has_failed { HardFailure::Failed } else { HardFailure::No });
        let readings = Readings::default().with_flag(Guardrail::Errors, has_failed);
        Observation { arm, share, unit: None, hard, readings, traits: Traits::default() }
    };
    (0..count).map(observation).collect()
}

/// The state machine of a rollout that has seen all of this and nothing twice.
fn reference(id: &str, plan: Plan, seen: &[Observation]) -> Rollout {
    let (mut rollout, _) = Rollout::begin(id, plan, NOW).unwrap();
    for seen in seen {
        let (arm, share, unit) = (seen.arm, seen.share, seen.unit);
        rollout.on(Event::Exposed { arm, share, unit }, NOW);
        rollout.on(Event::Observed(seen.clone()), NOW);
    }
    rollout
}

/// A leader and the time it lives in.
struct Led {
    leader: Leader,
    now: Instant,
}

impl Led {
    fn by(node: &Node) -> Self {
        Self { leader: Leader::new(node.ledger.clone()), now: Instant::now() }
    }

    /// A round, so much later than the one before.
    async fn after(&mut self, seconds: f64) -> &mut Self {
        self.now += Duration::from_secs_f64(seconds);
        self.leader.step(self.now, &RolloutSettings::default()).await.unwrap();
        self
    }

    /// Leads at last: the row of one who was killed has to grow old.
    async fn take_over(&mut self) {
        for _ in 0..5 {
            self.after(1.1).await;
        }
        assert!(self.leader.is_leading());
    }
}
