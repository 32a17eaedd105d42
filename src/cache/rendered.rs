//! Answers as they were written for a caller, so that the next one need not have them written anew.
//!
//! A kept answer is in canonical words. Reading those and writing them in a caller's dialect costs
//! more than all the rest of a hit, and comes out the same but for the request's id and the time.
//! So what was written is kept a while, with the places of these two.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use moka::sync::Cache;

use super::Key;
use crate::dialect::Dialect;

/// In which form an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wording {
    /// What the answer is kept under.
    pub key: Key,
    /// When it was given, in milliseconds since 1970: another one may be kept under the same key
    /// later.
    pub made_at_ms: u64,
    /// The caller's wire.
    pub dialect: Dialect,
    /// The endpoint's word.
    pub endpoint: &'static str,
    /// Whether it is streamed.
    pub stream: bool,
    /// Whether a stream tells its usage.
    pub include_usage: bool,
    /// What it says of how it was found.
    pub found: &'static str,
}

/// An answer as it was written, but for what belongs to one request alone.
#[derive(Debug)]
pub struct Rendered {
    bytes: Bytes,
    /// Where the request's id and the time are, in order.
    places: Box<[(Range<usize>, Place)]>,
    /// The model's name as the caller had it.
    model: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    RequestId,
    Created,
}

/// What was written lately.
pub(super) struct Written {
    answers: Cache<Wording, std::sync::Arc<Rendered>>,
}

/// How long an answer stays that nobody asks for.
const IDLE: Duration = Duration::from_secs(300);
/// What it takes to find one, see `memory`.
const ENTRY_BYTES: usize = 640;
/// What stands before the time, on the wires that have it. Quotes within texts are escaped.
const CREATED: &[u8] = b"\"created\":";

// === impl Rendered ===

impl Rendered {
    /// Notes where the request's id and the time are. The id is one that no answer holds by chance.
    pub fn of(bytes: Bytes, request_id: &str, created: u64, model: &str) -> Self {
        let created = created.to_string();
        let ids = memchr::memmem::find_iter(&bytes, request_id.as_bytes())
            .map(|at| (at..at + request_id.len(), Place::RequestId));
        let times = memchr::memmem::find_iter(&bytes, CREATED)
            .map(|at| at + CREATED.len()..at + CREATED.len() + created.len())
            .filter(|range| bytes.get(range.clone()) == Some(created.as_bytes()))
            .map(|range| (range, Place::Created));
        let mut places: Vec<_> = ids.chain(times).collect();
        places.sort_unstable_by_key(|(range, _)| range.start);
        Self { places: places.into(), bytes, model: model.to_owned() }
    }

    /// The answer for another request that asks for the same model by the same name; `None` where
    /// it asks by another one.
    pub fn write(&self, request_id: &str, created: u64, model: &str) -> Option<Bytes> {
        if self.model != model {
            return None;
        }
        let mut number = itoa::Buffer::new();
        let created = number.format(created);
        let mut out = Vec::with_capacity(self.bytes.len() + 64);
        let mut at = 0;
        for (range, place) in &self.places {
            out.extend_from_slice(self.bytes.get(at..range.start)?);
            out.extend_from_slice(match place {
                Place::RequestId => request_id.as_bytes(),
                Place::Created => created.as_bytes(),
            });
            at = range.end;
        }
        out.extend_from_slice(self.bytes.get(at..)?);
        Some(out.into())
    }
}

// === impl Written ===

impl Written {
    /// Room for so many bytes.
    pub(super) fn new(max_bytes: u64) -> Self {
        let weight = |rendered: &Rendered| {
            rendered.bytes.len()
                + rendered.places.len() * size_of::<(Range<usize>, Place)>()
                + ENTRY_BYTES
        };
        let answers = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(move |_, rendered: &std::sync::Arc<Rendered>| {
                u32::try_from(weight(rendered)).unwrap_or(u32::MAX)
            })
            .time_to_idle(IDLE)
            .build();
        Self { answers }
    }

    pub(super) fn get(&self, form: &Wording) -> Option<std::sync::Arc<Rendered>> {
        self.answers.get(form)
    }

    pub(super) fn put(&self, form: Wording, rendered: Rendered) {
        self.answers.insert(form, std::sync::Arc::new(rendered));
    }

    /// Forgets everything: something was purged, and nobody shall find it here.
    pub(super) fn clear(&self) {
        self.answers.invalidate_all();
        self.answers.run_pending_tasks();
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> u64 {
        self.answers.weighted_size()
    }
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").field("bytes", &self.bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "req_0123456789abcdef";

    #[test]
    fn what_belongs_to_a_request_is_another_for_the_next_and_the_rest_is_the_same() {
        let said = r#"{"id":"chatcmpl-ID","created":1760000000,"text":"at 1760000000, \"created\":1760000000"}"#;
        let first = said.replace("ID", ID);
        let rendered = Rendered::of(first.clone().into(), ID, 1_760_000_000, "smart");
        let again = rendered.write(ID, 1_760_000_000, "smart").unwrap();
        assert_eq!(again, first.as_bytes());
        let next = rendered.write("req_f", 99, "smart").unwrap();
        let wanted = said.replace("ID", "req_f").replacen("1760000000", "99", 1);
        assert_eq!(next, wanted.as_bytes());
        assert_eq!(rendered.write(ID, 1, "clever"), None);
    }

    #[test]
    fn each_event_of_a_stream_has_both() {
        let event =
            |id: &str, created: u64| format!("data: {{\"id\":\"{id}\",\"created\":{created}}}\n\n");
        let rendered = Rendered::of(event(ID, 7).repeat(3).into(), ID, 7, "m");
        assert_eq!(
            rendered.write("req_9", 12, "m").unwrap(),
            event("req_9", 12).repeat(3).as_bytes()
        );
    }
}
