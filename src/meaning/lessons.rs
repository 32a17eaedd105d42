//! What was learnt of each domain: from which similarity on its answers may be given to other
//! words, and whether that still holds.
//!
//! A lesson is known by its [`Domain`]: whoever changes the embedder, the judge or the error that
//! is allowed begins anew. Nodes that share a store share lessons: a label counts here at once, and
//! waits in line until it is in the store, where the labels of all nodes come together.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cache::Key;
use crate::ids::RouteName;
use crate::semantic::audit::{AUDITED, Audit, Verdict};
use crate::semantic::threshold::{self, Mode, Threshold};
use crate::units::MicroUsd;

/// What is learnt together.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    key: Key,
    /// What it stands for.
    pub terms: Terms,
}

/// One tenant's requests of one route, under one embedder and one judge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The route.
    pub route: RouteName,
    /// Whose requests: `team ID` or `key ID`.
    pub tenant: String,
    /// What makes the vectors, see [`Embedder::space`](crate::embed::Embedder::space).
    pub space: String,
    /// The model that judges.
    pub judge: String,
    /// What the route stands for, as hexadecimal digits.
    pub identity: String,
    /// What the threshold is held to.
    pub settings: threshold::Settings,
}

/// What a judge found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Label {
    pub(super) similarity: f64,
    /// Whether the kept answer would have done.
    pub(super) same: bool,
    /// Whether the kept answer would have been given, but for the audit.
    pub(super) is_audit: bool,
}

/// What all labels so far have led to. Takes about 2 KB.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Calibration {
    threshold: Threshold,
    /// There while answers are given.
    audit: Option<Audit>,
    /// How often an audit has ended the giving.
    alarms: u64,
    /// Tells the writing of it from all others. 0 where it never was written.
    #[serde(default)]
    writing: u64,
}

/// What to do with a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Give its answer.
    Give,
    /// Ask upstream, and have both answers compared.
    Compare {
        /// Whether its answer would have been given, as far as similarity goes.
        is_audit: bool,
        /// Whether it may still be given where nobody answers.
        may_be_given: bool,
    },
    /// Ask upstream.
    Leave,
}

/// A domain, and what is known of it.
#[derive(Debug)]
struct Lesson {
    domain: Arc<Domain>,
    /// As the store has it, and the version there; 0 where it has none.
    stored: Calibration,
    version: i64,
    /// Labels of this node that the store has not.
    pending: VecDeque<Label>,
    /// The writing whose outcome is not known, and how many labels are in it, the oldest pending.
    in_doubt: Option<(u64, usize)>,
    /// What is stored, with what is pending.
    now: Calibration,
    /// Audits in a row that came to no verdict.
    unjudged: u32,
    /// Whether the last comparison that a judge was needed for came to no verdict.
    is_judge_silent: bool,
    counts: Counts,
}

/// What this node has counted of a domain since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers that were given to other words.
    pub hits: u64,
    /// Neighbours that were not given: not proven yet, or less similar than what is.
    pub not_given: u64,
    /// Comparisons that came to a verdict.
    pub labelled: u64,
    /// Comparisons that did not: the judge failed, or had too much to do.
    pub unjudged: u64,
    /// Labels that never reached the store.
    pub lost_labels: u64,
    /// What the hits would have cost.
    pub saved: MicroUsd,
    /// What the judge has cost.
    pub judging: MicroUsd,
    /// What vectors have cost.
    pub embedding: MicroUsd,
}

/// A domain as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct LessonFigures {
    /// The domain.
    pub domain: Arc<Domain>,
    /// Whether it gives answers, from which similarity on, and the bound on errors per hit.
    pub mode: Mode,
    /// Whether the giving rests because audits come to no verdict.
    pub is_suspended: bool,
    /// Labels that are remembered.
    pub labels: u64,
    /// Labels at which the mode is decided next; at first as many as a record without a single
    /// error must have. None where no number is enough.
    pub labels_needed: Option<u64>,
    /// Of those at least as similar as what is given (of all in shadow): how many, and how many
    /// were wrong.
    pub seen: (u64, u64),
    /// Hits that were audited, those of them that were wrong, and the upper bound of the error per
    /// hit with 95 % confidence.
    pub audited: Option<(u64, u64, f64)>,
    /// How often an audit has ended the giving.
    pub alarms: u64,
    /// Since this node was started.
    pub counts: Counts,
}

/// All lessons of a node.
#[derive(Debug, Default)]
pub(super) struct Lessons {
    all: HashMap<Key, Lesson>,
}

/// Labels that wait for the store at most, a domain. More count here until the store is read again.
const MOST_PENDING: usize = 1_000;
/// After so many audits in a row without a verdict nothing is given until there is one again.
const MOST_UNJUDGED: u32 = 20;

// === impl Counts ===

impl Counts {
    /// Counts an answer that was given and would have cost so much.
    pub fn hit(&mut self, saved: MicroUsd) {
        self.hits += 1;
        self.saved = self.saved + saved;
    }
}

// === impl Domain ===

impl Domain {
    /// The domain of such terms: others are another one.
    pub fn of(terms: Terms) -> Arc<Self> {
        // Serialising a struct of strings and numbers does not fail.
        let key = Key::of_bytes(&serde_json::to_vec(&terms).unwrap_or_default());
        Arc::new(Self { key, terms })
    }

    /// What it is known by.
    pub fn key(&self) -> Key {
        self.key
    }
}

// === impl Calibration ===

impl Calibration {
    fn apply(&mut self, settings: &threshold::Settings, label: Label) {
        if label.is_audit
            && let Some(audit) = &mut self.audit
            && audit.on_hit(!label.same) == Verdict::Shadow
        {
            self.threshold.distrust();
            self.audit = None;
            self.alarms += 1;
        }
        let _ = self.threshold.on_label(settings, label.similarity, label.same);
        match (self.threshold.mode(), &self.audit) {
            (Mode::Shadow, _) => self.audit = None,
            (Mode::Serve { .. }, None) => self.audit = Some(Audit::new(settings.delta)),
            (Mode::Serve { .. }, Some(_)) => {}
        }
    }
}

// === impl Lesson ===

impl Lesson {
    fn new(domain: Arc<Domain>) -> Self {
        Self {
            domain,
            stored: Calibration::default(),
            version: 0,
            pending: VecDeque::new(),
            in_doubt: None,
            now: Calibration::default(),
            unjudged: 0,
            is_judge_silent: false,
            counts: Counts::default(),
        }
    }

    fn is_suspended(&self) -> bool {
        self.unjudged >= MOST_UNJUDGED
    }

    /// What is stored, with so many of the labels that are pending.
    fn with_pending(&self, labels: usize) -> Calibration {
        let mut all = self.stored.clone();
        for label in self.pending.iter().take(labels) {
            all.apply(&self.domain.terms.settings, *label);
        }
        all
    }

    fn come_together(&mut self) {
        self.now = self.with_pending(self.pending.len());
    }

    /// Takes the oldest labels out of the line: the store has them.
    fn drain(&mut self, labels: usize) {
        self.pending.drain(..labels.min(self.pending.len()));
    }

    fn figures(&self) -> LessonFigures {
        let threshold = &self.now.threshold;
        let mode = threshold.mode();
        let lowest = match mode {
            Mode::Shadow => 0.0,
            Mode::Serve { threshold, .. } => threshold,
        };
        let audited = self.now.audit.as_ref();
        LessonFigures {
            domain: Arc::clone(&self.domain),
            mode,
            is_suspended: self.is_suspended(),
            labels: threshold.labels(),
            labels_needed: threshold.next_look(&self.domain.terms.settings),
            seen: threshold.seen(lowest),
            audited: audited.map(|audit| (audit.hits(), audit.errors(), audit.bound())),
            alarms: self.now.alarms,
            counts: self.counts,
        }
    }
}

// === impl Lessons ===

impl Lessons {
    /// What to do with a neighbour of this similarity. `chance` is uniform in 0..1. Nothing is
    /// given where `only_shadow`.
    pub(super) fn decide(
        &mut self,
        domain: &Arc<Domain>,
        similarity: f64,
        chance: f64,
        only_shadow: bool,
    ) -> Decision {
        let lesson = self.of(domain);
        let mode = lesson.now.threshold.mode();
        let (is_learning, would_give) = (mode == Mode::Shadow, mode.serves(similarity));
        let gives = would_give && !only_shadow && !lesson.is_suspended();
        // Of what is near, the same part is compared whether it is given or not, so that labels
        // speak of all alike.
        let is_picked = is_learning || chance < AUDITED || lesson.is_suspended();
        let decision = match (is_picked, gives) {
            (true, _) => Decision::Compare { is_audit: would_give, may_be_given: gives },
            (false, true) => Decision::Give,
            (false, false) => Decision::Leave,
        };
        if decision != Decision::Give {
            lesson.counts.not_given += 1;
        }
        decision
    }

    /// Takes note of what a judge found.
    pub(super) fn learn(&mut self, domain: &Arc<Domain>, label: Label) {
        let lesson = self.of(domain);
        lesson.unjudged = 0;
        lesson.is_judge_silent = false;
        lesson.counts.labelled += 1;
        let before = lesson.now.threshold.mode();
        lesson.now.apply(&domain.terms.settings, label);
        if lesson.pending.len() < MOST_PENDING {
            lesson.pending.push_back(label);
        } else {
            lesson.counts.lost_labels += 1;
        }
        tell(domain, before, &lesson.now);
    }

    /// Takes note of two answers that are the same to the letter, for which no judge is needed.
    ///
    /// While a judge says nothing these would be the only labels, and all of them good. So they
    /// count only as long as answers that differ come to a verdict, too.
    pub(super) fn learn_same(&mut self, domain: &Arc<Domain>, similarity: f64, is_audit: bool) {
        if self.of(domain).is_judge_silent {
            return self.miss_judge(domain, is_audit);
        }
        self.learn(domain, Label { similarity, same: true, is_audit });
    }

    /// Takes note of a comparison to which a judge said nothing.
    pub(super) fn miss_judge(&mut self, domain: &Arc<Domain>, is_audit: bool) {
        let lesson = self.of(domain);
        lesson.is_judge_silent = true;
        lesson.unjudged += u32::from(is_audit && !lesson.is_suspended());
        self.miss(domain);
    }

    /// Takes note of a comparison without a verdict.
    pub(super) fn miss(&mut self, domain: &Arc<Domain>) {
        self.of(domain).counts.unjudged += 1;
    }

    /// Counts for a domain.
    pub(super) fn count(&mut self, domain: &Arc<Domain>, count: impl FnOnce(&mut Counts)) {
        count(&mut self.of(domain).counts);
    }

    /// Takes over what the store has of a domain, if it is newer than what is known of it.
    pub(super) fn on_stored(&mut self, domain: &Arc<Domain>, stored: Calibration, version: i64) {
        if version > self.of(domain).version {
            self.take_over(domain, stored, version);
        }
    }

    /// Takes over what the store has in place of what was expected there, however old it is: it may
    /// have been forgotten, or brought back from a copy.
    pub(super) fn on_conflict(&mut self, domain: &Arc<Domain>, found: Option<(Calibration, i64)>) {
        match found {
            Some((stored, version)) => self.take_over(domain, stored, version),
            None => self.of(domain).version = 0,
        }
        self.of(domain).in_doubt = None;
    }

    fn take_over(&mut self, domain: &Arc<Domain>, stored: Calibration, version: i64) {
        let lesson = self.of(domain);
        let before = lesson.now.threshold.mode();
        // It was written after all, and only the answer was lost.
        if let Some((_, labels)) =
            lesson.in_doubt.take_if(|(writing, _)| *writing == stored.writing)
        {
            lesson.drain(labels);
        }
        (lesson.stored, lesson.version) = (stored, version);
        lesson.come_together();
        tell(domain, before, &lesson.now);
    }

    /// Domains with labels that the store has not, each as it should be there in place of
    /// `version`, and the number of labels in it.
    pub(super) fn unstored(&mut self) -> Vec<Unstored> {
        let waiting = self.all.values_mut().filter(|lesson| !lesson.pending.is_empty());
        waiting
            .map(|lesson| {
                // What may have been written is written again just so, until it is known.
                let fresh = (rand::random(), lesson.pending.len());
                let (writing, labels) = *lesson.in_doubt.get_or_insert(fresh);
                let calibration = Calibration { writing, ..lesson.with_pending(labels) };
                let (domain, version) = (Arc::clone(&lesson.domain), lesson.version);
                Unstored { domain, calibration, version, labels }
            })
            .collect()
    }

    /// Notes that the store has taken what [`Lessons::unstored`] said.
    pub(super) fn on_written(&mut self, written: Unstored) {
        let Unstored { domain, calibration, version, labels } = written;
        let lesson = self.of(&domain);
        if lesson.in_doubt.take_if(|(writing, _)| *writing == calibration.writing).is_none() {
            // It came back from the store before this.
            return;
        }
        lesson.drain(labels);
        if lesson.version <= version {
            (lesson.stored, lesson.version) = (calibration, version + 1);
        }
        lesson.come_together();
    }

    /// All domains, in the order of route and tenant.
    pub(super) fn figures(&self) -> Vec<LessonFigures> {
        let mut figures: Vec<_> = self.all.values().map(Lesson::figures).collect();
        figures.sort_by(|one, other| {
            let names = |figures: &LessonFigures| {
                let domain = &figures.domain.terms;
                (domain.route.clone(), domain.tenant.clone(), domain.identity.clone())
            };
            names(one).cmp(&names(other))
        });
        figures
    }

    fn of(&mut self, domain: &Arc<Domain>) -> &mut Lesson {
        self.all.entry(domain.key()).or_insert_with(|| Lesson::new(Arc::clone(domain)))
    }
}

/// A domain with labels that the store has not.
#[derive(Debug)]
pub(super) struct Unstored {
    pub(super) domain: Arc<Domain>,
    pub(super) calibration: Calibration,
    /// What the store has if nobody else has written meanwhile; 0 where it has none.
    pub(super) version: i64,
    labels: usize,
}

/// Says in the log what has changed for callers.
fn tell(domain: &Domain, before: Mode, now: &Calibration) {
    let (route, tenant) = (&domain.terms.route, domain.terms.tenant.as_str());
    match (before, now.threshold.mode()) {
        (Mode::Shadow, Mode::Serve { threshold, bound }) => {
            tracing::info!(%route, tenant, threshold, bound, "answers are given to other words");
        }
        (Mode::Serve { .. }, Mode::Shadow) => {
            tracing::warn!(
                %route,
                tenant,
                alarms = now.alarms,
                "answers are given to other words no more: too many were wrong"
            );
        }
        (Mode::Serve { .. }, Mode::Serve { .. }) | (Mode::Shadow, Mode::Shadow) => {}
    }
}

#[cfg(test)]
mod tests;
