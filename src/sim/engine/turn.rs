//! One request on its way through the engine: its headers, its pace, and the answers that are not
//! the model's.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use super::{Plan, SimRequest};
use crate::chat::Usage;
use crate::dialect::Dialect;
use crate::sim::bill::Tab;
use crate::sim::dice::{Dice, Latency};
use crate::sim::error::Complaint;
use crate::sim::fault::Fault;
use crate::sim::limits::{Moment, Reading, insert};
use crate::sim::route::{ChatPath, Endpoint};
use crate::sim::script::{Opening, Script, Step};
use crate::sim::timing;

/// What goes on for one request.
#[derive(Debug)]
pub(in crate::sim) struct Turn<'a> {
    pub(in crate::sim) request: &'a SimRequest<'a>,
    pub(in crate::sim) now: Moment,
    pub(in crate::sim) dice: Dice,
    /// As it stands in `request-id` headers and error bodies.
    pub(in crate::sim) id: String,
    pub(in crate::sim) dialect: Dialect,
    /// Whom it is for, as far as that is known.
    pub(in crate::sim) place: Place,
}

/// Whom a request is for.
#[derive(Debug, Default)]
pub(in crate::sim) struct Place {
    pub(in crate::sim) model: String,
    /// The scenario's entry, where it has room.
    pub(in crate::sim) entry: String,
}

/// What one answer is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Act<'a> {
    pub(super) model: &'a str,
    /// How many tokens are paced.
    pub(super) tokens: usize,
    pub(super) stream: bool,
    /// The prompt, and all of the answer.
    pub(super) usage: Usage,
}

// === impl Turn ===

impl Turn<'_> {
    /// The credential, from wherever the dialects put theirs; empty where there is none.
    pub(in crate::sim) fn key(&self) -> String {
        let header =
            |name: &str| self.request.headers.get(name).and_then(|value| value.to_str().ok());
        let bearer =
            header("authorization").map(|text| text.strip_prefix("Bearer ").unwrap_or(text));
        let query = self
            .request
            .path
            .split_once('?')
            .and_then(|(_, query)| query.split('&').find_map(|pair| pair.strip_prefix("key=")));
        let key = header("x-api-key").or(header("x-goog-api-key")).or(header("api-key"));
        key.or(bearer).or(query).unwrap_or_default().to_owned()
    }

    /// Headers of every answer.
    pub(in crate::sim) fn headers(&self, content_type: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let id = match self.dialect {
            Dialect::Anthropic => "request-id",
            Dialect::OpenAiChat | Dialect::Gemini => "x-request-id",
        };
        insert(&mut headers, id, self.id.clone());
        headers
    }

    /// An error answer.
    pub(super) fn refuse(&self, model: &str, complaint: &Complaint) -> Script {
        let body = complaint.body(self.dialect, &self.id).to_string().into_bytes();
        Script::whole(model, complaint.status, self.headers(JSON), body)
    }

    /// A good answer of an endpoint that takes no time.
    pub(in crate::sim) fn at_once(&self, model: &str, body: &Value) -> Script {
        let body = body.to_string().into_bytes();
        Script::whole(model, StatusCode::OK, self.headers(JSON), body)
    }

    /// Plays the plan: limits, then faults of the head, then the body that `render` writes.
    pub(super) fn perform(
        &mut self,
        act: Act<'_>,
        plan: &Plan,
        reading: Reading,
        render: impl FnOnce(&Self, &timing::Pace, Option<&Fault>) -> Vec<Step>,
    ) -> Script {
        let Act { model, tokens, stream, usage } = act;
        let pace = self.pace(plan, tokens, usage.input);
        let mut limits = HeaderMap::new();
        reading.write(self.dialect, self.now, &mut limits);
        if let Some((wait, what)) = reading.refused {
            let mut script = self.limited(model, what, wait);
            extend(&mut script, limits);
            return script;
        }
        let label = plan.wishes.label.clone().unwrap_or_default();
        if let Some(mut script) = self.fault_of_head(model, plan, &pace) {
            if script.opening == Opening::Stall {
                // It has begun, and never ends.
                script.tab = Some(Tab { label, usage, beats: Vec::new() });
            }
            extend(&mut script, limits);
            return script;
        }
        let made = if stream { timing::stop_at(plan.fault.as_ref(), tokens) } else { tokens };
        let tab = Some(Tab { label, usage, beats: pace.beats().take(made).collect() });
        let steps = render(self, &pace, plan.fault.as_ref());
        let content_type = match &plan.fault {
            Some(Fault::WrongContentType) => HTML,
            _ if stream && !self.is_array() => EVENT_STREAM,
            _ => JSON,
        };
        let after = if stream { pace.head() } else { pace.total() };
        let mut headers = self.headers(content_type);
        headers.extend(limits);
        let opening = Opening::Answer { after, status: StatusCode::OK, headers };
        Script { model: model.to_owned(), entry: String::new(), opening, steps, tab }
    }

    fn is_array(&self) -> bool {
        matches!(Endpoint::of(self.request), Endpoint::Chat(ChatPath { array: true, .. }))
    }

    /// The pace of an answer of so many tokens to a prompt with so many that are not cached.
    fn pace(&mut self, plan: &Plan, tokens: usize, unread: u64) -> timing::Pace {
        let behaviour = &plan.behaviour;
        let slow = self.dice.chance(behaviour.slow_share);
        let straggles = if slow { behaviour.slow_factor } else { 1.0 };
        let factor = straggles * plan.slower;
        let ttft = plan.wishes.ttft.map_or(behaviour.ttft, Latency::constant);
        let gap = plan.wishes.gap.map_or(behaviour.token_gap, Latency::constant);
        let prefill = behaviour.prefix_cache.as_ref();
        let prefill = prefill.map_or(Duration::ZERO, |cache| timing::prefill(cache, unread));
        timing::Pace {
            first_token: self.dice.latency(ttft, factor) + prefill.mul_f64(factor),
            gaps: (0..tokens).map(|_| self.dice.latency(gap, factor)).collect(),
        }
    }

    fn limited(&self, model: &str, what: &'static str, wait: Duration) -> Script {
        let mut complaint = Complaint::limited(what, model);
        let seconds = wait.as_secs_f64().ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a minute or so"
        )]
        let whole = seconds as u64;
        complaint.retry_seconds = Some(whole);
        let mut script = self.refuse(model, &complaint);
        if self.dialect != Dialect::Gemini {
            let mut headers = HeaderMap::new();
            insert(&mut headers, "retry-after", whole.to_string());
            if self.dialect == Dialect::OpenAiChat {
                let ms = wait.as_nanos().div_ceil(1_000_000);
                insert(&mut headers, "retry-after-ms", ms.to_string());
            }
            extend(&mut script, headers);
        }
        script
    }

    /// The script of a fault that leaves nothing of the real answer.
    fn fault_of_head(&self, model: &str, plan: &Plan, pace: &timing::Pace) -> Option<Script> {
        let silent = |opening| {
            let (model, entry) = (model.to_owned(), String::new());
            Some(Script { model, entry, opening, steps: Vec::new(), tab: None })
        };
        let mut script = match plan.fault.as_ref()? {
            Fault::ConnectRefused => return silent(Opening::Refuse),
            Fault::StallBeforeHead => return silent(Opening::Stall),
            Fault::Status { status, retry_after } => {
                let mut complaint = Complaint::of_status(*status, self.dialect, model);
                // Gemini answers 400 to a bad key; who asks for 401 shall see 401.
                complaint.status = *status;
                complaint.retry_seconds = retry_after.as_ref().and_then(|text| text.parse().ok());
                let mut script = self.refuse(model, &complaint);
                if let Some(value) = retry_after {
                    let mut headers = HeaderMap::new();
                    insert(&mut headers, RETRY_AFTER.as_str(), value.clone());
                    extend(&mut script, headers);
                }
                script
            }
            Fault::Html => {
                let page = b"<html><head><title>502 Bad Gateway</title></head>\
                    <body><h1>502 Bad Gateway</h1></body></html>";
                Script::whole(model, StatusCode::BAD_GATEWAY, self.headers(HTML), page.to_vec())
            }
            Fault::WrongContentType
            | Fault::StallAfterHead
            | Fault::StallAfter(_)
            | Fault::CutAfter(_)
            | Fault::CutInFrame(_)
            | Fault::ResetAfter(_)
            | Fault::NoTerminal
            | Fault::NoDoneMarker
            | Fault::MalformedFrame(_)
            | Fault::SplitUtf8
            | Fault::ErrorEvent(_)
            | Fault::Empty => return None,
        };
        if let Opening::Answer { after, .. } = &mut script.opening {
            *after = plan.behaviour.error_after.unwrap_or_else(|| pace.head());
        }
        Some(script)
    }
}

fn extend(script: &mut Script, more: HeaderMap) {
    if let Opening::Answer { headers, .. } = &mut script.opening {
        headers.extend(more);
    }
}

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";
