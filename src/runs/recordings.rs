//! Golden cases from traffic: the next answers to requests with a registered prompt, as an operator
//! wants them, in the memory of this process and for a short time.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::ledger::audit_event;
use super::{Runs, RunsError};
use crate::audit::{self, Actor};
use crate::clock::{Instant, rfc3339};
use crate::compat::Category;
use crate::compat::suite::{NewCase, redact, write_cases};
use crate::store::{self, StoreError};

#[cfg(test)]
mod tests;

/// What is to be recorded.
#[derive(Debug, Clone)]
pub struct NewRecording {
    /// The registered prompt.
    pub prompt: String,
    /// Cases, from 1 to 500.
    pub count: u32,
    /// For how long, up to a day.
    pub time: Duration,
    /// Whether personal things and secrets that have a form are replaced.
    pub redact: bool,
}

/// How far a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// It goes on.
    Recording,
    /// It has all its cases.
    Complete,
    /// Its time is over.
    TimedOut,
    /// It has taken the memory that it may.
    Full,
}

/// A recording as it is now.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its id: `rec_...`.
    pub id: String,
    /// What was wanted.
    pub wanted: NewRecording,
    /// How far it is.
    pub state: RecordingState,
    /// Cases there are.
    pub cases: usize,
    /// Answers that make no case: to requests with messages of their own, with variables that a
    /// case has already, broken, cut, too long, or without words.
    pub left_out: u64,
    /// When it began, in Unix milliseconds.
    pub began_ms: u64,
    /// The cases in promptfoo's YAML.
    pub text: String,
}

/// What a request and its answer make a case of.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    /// The request's id.
    pub(crate) request: String,
    /// Variables of the prompt.
    pub(crate) vars: Map<String, Value>,
    /// The answer.
    pub(crate) text: String,
    /// Who gave it.
    pub(crate) model: String,
    /// When, in Unix milliseconds.
    pub(crate) at_ms: u64,
}

/// The longest answer that makes a case, in bytes.
pub(crate) const MAX_ANSWER_BYTES: usize = 64 << 10;
/// What may be recorded.
const MAX_COUNT: u32 = 500;
const MAX_TIME: Duration = Duration::from_secs(86_400);
const MAX_BYTES: usize = 16 << 20;
/// Recordings that are kept, and for how long after their end.
const MOST_RECORDINGS: usize = 16;
const KEEP: Duration = Duration::from_secs(3_600);
/// Answers of one recording that are on their way at a time; others pass by.
const MOST_UNDER_WAY: u32 = 64;
/// How near an answer has to be to the recorded one.
const SIMILAR: f64 = 0.75;

/// All recordings. Clones are the same.
#[derive(Clone, Default)]
pub struct Recordings {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Whether any goes on: all that requests look at where none does.
    is_armed: AtomicBool,
    all: Mutex<BTreeMap<String, Recording>>,
}

struct Recording {
    wanted: NewRecording,
    began_ms: u64,
    until: Instant,
    ended: Option<(Instant, RecordingState)>,
    under_way: u32,
    cases: Vec<NewCase>,
    /// Variables that there is a case of.
    seen: HashSet<blake3::Hash>,
    bytes: usize,
    left_out: u64,
}

/// The place of an answer that is on its way.
pub(crate) struct Slot {
    recordings: Recordings,
    id: String,
    redacts: bool,
}

// === impl NewRecording ===

impl NewRecording {
    fn check(&self) -> Result<(), RunsError> {
        if !(1..=MAX_COUNT).contains(&self.count) {
            return Err(RunsError::invalid("count", format!("must be from 1 to {MAX_COUNT}")));
        }
        if self.time.is_zero() || self.time > MAX_TIME {
            let most = MAX_TIME.as_secs();
            return Err(RunsError::invalid("seconds", format!("must be from 1 to {most}")));
        }
        Ok(())
    }
}

// === impl Recordings ===

impl Recordings {
    /// Whether nothing is recorded now.
    pub(crate) fn is_idle(&self) -> bool {
        !self.shared.is_armed.load(Ordering::Relaxed)
    }

    /// A place for the answer to a request with this prompt, where it is to be recorded.
    pub(crate) fn claim(&self, prompt: &str) -> Option<Slot> {
        let mut all = self.shared.all.lock();
        self.end_late(&mut all, Instant::now());
        let (id, recording) =
            all.iter_mut().find(|(_, one)| one.ended.is_none() && one.wanted.prompt == prompt)?;
        let room = u64::from(recording.wanted.count).saturating_sub(recording.cases.len() as u64);
        if u64::from(recording.under_way) >= room.min(u64::from(MOST_UNDER_WAY)) {
            return None;
        }
        recording.under_way += 1;
        let (recordings, redacts) = (self.clone(), recording.wanted.redact);
        Some(Slot { recordings, id: id.clone(), redacts })
    }

    /// Ends what is late, and forgets what has ended long ago.
    pub(crate) fn sweep(&self) {
        let mut all = self.shared.all.lock();
        self.end_late(&mut all, Instant::now());
        all.retain(|_, one| one.ended.is_none_or(|(at, _)| at.elapsed() < KEEP));
    }

    /// A recording as it is now.
    pub fn find(&self, id: &str) -> Option<Recorded> {
        self.sweep();
        let all = self.shared.all.lock();
        let one = all.get(id)?;
        let (wanted, cases) = (one.wanted.clone(), one.cases.clone());
        let state = one.ended.map_or(RecordingState::Recording, |(_, state)| state);
        let (left_out, began_ms) = (one.left_out, one.began_ms);
        drop(all);
        Some(Recorded {
            id: id.to_owned(),
            wanted,
            state,
            cases: cases.len(),
            left_out,
            began_ms,
            text: write_cases(&cases),
        })
    }

    fn check(&self, new: &NewRecording) -> Result<(), RunsError> {
        new.check()?;
        self.sweep();
        let all = self.shared.all.lock();
        if all.values().any(|one| one.ended.is_none() && one.wanted.prompt == new.prompt) {
            return Err(RunsError::Recorded(new.prompt.clone()));
        }
        if all.len() >= MOST_RECORDINGS {
            let problem = format!("{MOST_RECORDINGS} recordings are kept already; end one");
            return Err(RunsError::invalid("prompt", problem));
        }
        Ok(())
    }

    fn begin(&self, new: NewRecording, began_ms: u64) -> Result<String, RunsError> {
        self.check(&new)?;
        let id = format!("rec_{:012x}", rand::random::<u64>() >> 16);
        let recording = Recording {
            until: Instant::now() + new.time,
            wanted: new,
            began_ms,
            ended: None,
            under_way: 0,
            cases: Vec::new(),
            seen: HashSet::new(),
            bytes: 0,
            left_out: 0,
        };
        let mut all = self.shared.all.lock();
        all.insert(id.clone(), recording);
        self.arm(&all);
        Ok(id)
    }

    fn forget(&self, id: &str) -> bool {
        let mut all = self.shared.all.lock();
        let was = all.remove(id);
        self.arm(&all);
        was.is_some()
    }

    fn end_late(&self, all: &mut BTreeMap<String, Recording>, now: Instant) {
        for one in all.values_mut().filter(|one| one.ended.is_none() && now >= one.until) {
            one.ended = Some((one.until, RecordingState::TimedOut));
        }
        self.arm(all);
    }

    fn arm(&self, all: &BTreeMap<String, Recording>) {
        let is_armed = all.values().any(|one| one.ended.is_none());
        self.shared.is_armed.store(is_armed, Ordering::Relaxed);
    }
}

impl fmt::Debug for Recordings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is recorded is nobody else's to read.
        f.debug_struct("Recordings").field("is_idle", &self.is_idle()).finish_non_exhaustive()
    }
}

// === impl Recording ===

impl Recording {
    /// Takes a case, of which `asked` tells what was asked before anything was replaced.
    fn take(&mut self, case: NewCase, asked: blake3::Hash, now: Instant) {
        let vars = Value::Object(case.vars.clone()).to_string().len();
        let bytes = vars + case.asserts.iter().map(|one| one.to_string().len()).sum::<usize>();
        if self.bytes + bytes > MAX_BYTES {
            self.ended = Some((now, RecordingState::Full));
            return;
        }
        if !self.seen.insert(asked) {
            self.left_out += 1;
            return;
        }
        self.bytes += bytes;
        self.cases.push(case);
        if self.cases.len() as u64 >= u64::from(self.wanted.count) {
            self.ended = Some((now, RecordingState::Complete));
        }
    }
}

// === impl Slot ===

impl Slot {
    /// Makes a case of it, where the recording goes on.
    pub(crate) fn keep(self, captured: Captured) {
        let asked = blake3::hash(Value::Object(captured.vars.clone()).to_string().as_bytes());
        let case = captured.case(self.redacts);
        let shared = &self.recordings.shared;
        let mut all = shared.all.lock();
        if let Some(one) = all.get_mut(&self.id).filter(|one| one.ended.is_none()) {
            one.take(case, asked, Instant::now());
        }
        self.recordings.arm(&all);
    }

    /// Counts an answer that makes no case.
    pub(crate) fn leave_out(self) {
        if let Some(one) = self.recordings.shared.all.lock().get_mut(&self.id) {
            one.left_out += 1;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(one) = self.recordings.shared.all.lock().get_mut(&self.id) {
            one.under_way = one.under_way.saturating_sub(1);
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("id", &self.id).finish_non_exhaustive()
    }
}

// === impl Captured ===

impl Captured {
    fn case(self, redacts: bool) -> NewCase {
        let Self { request, vars, text, model, at_ms } = self;
        let clean = |text: String| if redacts { redact(&text) } else { text };
        let vars = vars.into_iter().map(|(name, value)| (name, every_text(value, &clean)));
        let hex = blake3::hash(request.as_bytes()).to_hex();
        let metadata = json!({"recorded_at": rfc3339(at_ms), "model": model});
        NewCase {
            id: format!("recorded-{}", hex.chars().take(12).collect::<String>()),
            description: String::new(),
            category: Category::Semantic,
            is_critical: false,
            incident: None,
            tags: Vec::new(),
            metadata: metadata.as_object().cloned().unwrap_or_default(),
            vars: vars.collect(),
            asserts: vec![json!({"type": "similar", "value": clean(text), "threshold": SIMILAR})],
            threshold: None,
        }
    }
}

/// A value with each text in it changed; names stay.
fn every_text(value: Value, change: &dyn Fn(String) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(items) => items.into_iter().map(|item| every_text(item, change)).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            Value::Object(members.map(|(name, value)| (name, every_text(value, change))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

// === impl Runs ===

impl Runs {
    /// What is recorded from this process's traffic.
    pub fn recordings(&self) -> &Recordings {
        &self.shared.recordings
    }

    /// Records the next answers to requests with a prompt, once that is written in the audit log.
    /// Its id.
    ///
    /// # Errors
    ///
    /// [`RunsError::Invalid`], [`RunsError::Recorded`], and [`RunsError::Store`]: nothing is recorded then.
    pub async fn record(&self, new: NewRecording, by: &Actor) -> Result<String, RunsError> {
        self.recordings().check(&new)?;
        let after = json!({
            "count": new.count, "seconds": new.time.as_secs(), "redact": new.redact,
        });
        let resource = format!("compat/recordings/{}", new.prompt);
        self.note_recording(audit_event("compat.recording.begin", resource, after), by).await?;
        self.recordings().begin(new, self.now_ms())
    }

    /// Ends a recording and forgets what it has.
    ///
    /// # Errors
    ///
    /// [`RunsError::UnknownRecording`], and [`RunsError::Store`]: it is forgotten all the same.
    pub async fn forget_recording(&self, id: &str, by: &Actor) -> Result<(), RunsError> {
        if !self.recordings().forget(id) {
            return Err(RunsError::UnknownRecording(id.chars().take(64).collect()));
        }
        let resource = format!("compat/recordings/{id}");
        self.note_recording(audit_event("compat.recording.end", resource, json!({})), by).await
    }

    async fn note_recording(&self, event: audit::Event, by: &Actor) -> Result<(), RunsError> {
        let failed = StoreError::query("write who records traffic");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        audit::record(&mut transaction, by, &event, self.now_ms()).await.map_err(&failed)?;
        Ok(transaction.commit().await.map_err(failed)?)
    }
}
