//! One question to the authority, from the moment it is asked until its answer is taken in.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::Authority;
use crate::cluster::{Draw, Grant, Source, Unreachable, Want};
use crate::limits::subjects::{Locked, Subject, lock};
use crate::limits::tell;
use crate::quota::{Common, Crossing, Dimension, Granted, Meter, Moment, Need, Shared, Tell, When};

/// How long places stay held of which nothing is heard: those of a node that died.
pub(super) const SLOT_LEASE: Duration = Duration::from_secs(10);

/// Something that was asked or told, until it is answered.
pub(super) struct Asked {
    subject: Arc<Subject>,
    dimension: Dimension,
    common: Common,
    draw: Draw,
}

/// Questions on their way. What has no answer when it is dropped never gets one.
pub(super) struct OnTheWay<'a> {
    asked: Vec<Asked>,
    authority: &'a Authority,
    /// Whether the authority may have heard of those that are left.
    may_be_heard: bool,
}

// === impl Asked ===

impl Asked {
    /// The question for what is needed.
    pub(super) fn for_need(
        (subject, dimension): (&Arc<Subject>, Dimension),
        shared: &Shared,
        need: Need,
        moment: Moment,
    ) -> Self {
        let most = whole(need.want);
        let want = Want::Take { most, least: most.min(whole(need.at_least)) };
        Self::new((subject, dimension), shared, want, moment)
    }

    fn new(
        (subject, dimension): (&Arc<Subject>, Dimension),
        shared: &Shared,
        want: Want,
        moment: Moment,
    ) -> Self {
        let common = shared.common(moment);
        let key = format!("limits/{}/{}", subject.key(), dimension.as_str());
        let draw = Draw { key, of: source(&common), want };
        Self { subject: Arc::clone(subject), dimension, common, draw }
    }

    fn take_in(&self, grant: Grant, nodes: NonZeroU32, moment: Moment, authority: &Authority) {
        let whole = |number: i64| u64::try_from(number).unwrap_or_default();
        let Grant { granted, left, next_in, is_unsettled } = grant;
        // What was booked is no grant.
        let granted = if matches!(self.draw.want, Want::Take { .. }) { whole(granted) } else { 0 };
        let granted = Granted { granted, left: whole(left), next_in, is_unsettled };
        let only = [Arc::clone(&self.subject)];
        for mut locked in lock(&only, moment) {
            let Some(Meter::Shared(shared)) = locked.meter_mut(self.dimension) else { continue };
            let crossed = shared.on_grant(granted, &self.common, nodes, moment);
            if let Some(threshold) = crossed {
                let crossing = Crossing { dimension: self.dimension, threshold };
                tell(&authority.metrics, &locked, crossing);
            }
        }
    }
}

/// What the authority has to be told of a subject; taken as told from now on.
pub(super) fn told(
    subject: &Arc<Subject>,
    locked: &mut Locked<'_>,
    when: When,
    moment: Moment,
    asked: &mut Vec<Asked>,
) {
    for (dimension, meter) in locked.meters_mut() {
        let Meter::Shared(shared) = meter else { continue };
        let want = match shared.tell(when, moment) {
            Some(Tell::Return(left)) => Want::Return(whole(left)),
            Some(Tell::Book(owed)) => Want::Book(whole(owed)),
            // A window has it from its source; see `Source::Window`.
            Some(Tell::Held(held)) => Want::Hold(whole(held)),
            None => continue,
        };
        asked.push(Asked::new((subject, *dimension), shared, want, moment));
    }
}

// === impl OnTheWay ===

impl<'a> OnTheWay<'a> {
    pub(super) fn new(asked: Vec<Asked>, authority: &'a Authority) -> Self {
        Self { asked, authority, may_be_heard: false }
    }

    /// The next so many questions, which are sent now.
    pub(super) fn next(&mut self, most: usize) -> Option<Vec<Draw>> {
        let draws: Vec<_> = self.asked.iter().take(most).map(|asked| asked.draw.clone()).collect();
        self.may_be_heard = true;
        (!draws.is_empty()).then_some(draws)
    }

    /// The answers to those, in their order.
    pub(super) fn on_answers(&mut self, grants: Vec<Grant>) {
        let (moment, nodes) = (self.authority.moment(), self.authority.nodes());
        let count = grants.len().min(self.asked.len());
        let mut subjects: Vec<Arc<Subject>> = Vec::new();
        for (asked, grant) in self.asked.drain(..count).zip(grants) {
            asked.take_in(grant, nodes, moment, self.authority);
            subjects.push(asked.subject);
        }
        self.may_be_heard = false;
        // Who asked may have gone, and what was granted must not stay here for ever.
        self.authority.look_after(&subjects);
    }

    /// There are no answers.
    pub(super) fn on_lost(&mut self, why: &Unreachable) {
        self.may_be_heard = !why.is_undone();
    }
}

impl Drop for OnTheWay<'_> {
    fn drop(&mut self) {
        for asked in self.asked.drain(..) {
            let only = [Arc::clone(&asked.subject)];
            for mut locked in lock(&only, asked.subject.made_at()) {
                if let Some(Meter::Shared(shared)) = locked.meter_mut(asked.dimension) {
                    shared.on_lost(self.may_be_heard);
                }
            }
            self.authority.look_after(&only);
        }
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn source(common: &Common) -> Source {
    match *common {
        Common::Bucket { rate, burst, most } => Source::Bucket {
            rate_micro_per_s: whole(rate.micro_per_second()),
            burst: whole(burst),
            most: whole(most),
        },
        Common::Window { limit, start_ms, end_ms, held, heard, before, is_beside } => {
            Source::Window {
                limit: whole(limit),
                id: start_ms.to_string(),
                ends_at_ms: end_ms,
                held: Some(whole(held)),
                heard: whole(heard),
                before: whole(before),
                is_beside,
            }
        }
        Common::Slots { limit, held } => {
            Source::Slots { limit: whole(limit), lease: SLOT_LEASE, held: whole(held) }
        }
    }
}
