//! A client as the official SDKs are: it asks, reads to the end, and asks again where that may
//! help.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::listen::Listener;
use super::plan::Traffic;
use super::record::{Ending, Seen};
use crate::catalog::Origin;
use crate::clock::Instant;
use crate::dialect::Dialect;
use crate::upstream::{Transport, UpstreamRequest, collect, next_chunk};

/// Larger answers are not read on.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The SDKs' first and longest wait between two tries.
const BACKOFF: (f64, f64) = (0.5, 8.0);
/// A longer `retry-after` is not waited for, as by the SDKs.
const LONGEST_RETRY_AFTER: f64 = 60.0;

/// About how many tokens an answer has when it is part of a later turn.
const ANSWER_TOKENS: u64 = 50;

/// All clients of a run.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) front: Arc<dyn Transport>,
    pub(super) origin: Origin,
    pub(super) start: Instant,
    pub(super) traffic: Vec<(Traffic, Option<HeaderValue>)>,
    pub(super) seen: Mutex<Vec<Seen>>,
}

/// One call of a client: a request, and more where it is tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// Which traffic it belongs to.
    pub(super) traffic: usize,
    /// For all chance in it, and for a prompt unlike the others.
    pub(super) seed: u64,
}

// === impl Clients ===

impl Clients {
    /// All turns of one conversation, until one is not answered.
    pub(super) async fn conversation(self: Arc<Self>, call: Call) {
        let Some((traffic, _)) = self.traffic.get(call.traffic) else { return };
        let mut chance = StdRng::seed_from_u64(!call.seed);
        for turn in 0..traffic.turns {
            if turn > 0 {
                sleep(traffic.think.mul_f64(0.5 + chance.random::<f64>())).await;
            }
            if !self.call(call, turn).await {
                return;
            }
        }
    }

    /// Makes one call, to its end; whether it was answered.
    async fn call(&self, call: Call, turn: u64) -> bool {
        let Some((traffic, key)) = self.traffic.get(call.traffic) else { return false };
        let mut chance = StdRng::seed_from_u64(call.seed.wrapping_add(turn));
        let leaves = chance.random::<f64>() < traffic.aborts;
        let leave_after = leaves.then(|| traffic.abort_within.mul_f64(chance.random::<f64>()));
        let body = body(traffic, call.seed, turn);
        let began = self.start.elapsed();
        for tried in 0..=traffic.retries {
            let request = UpstreamRequest {
                origin: self.origin.clone(),
                path: path(traffic.dialect).to_owned(),
                headers: headers(traffic, key.as_ref(), tried),
                body: body.clone(),
                connect_timeout: traffic.timeout,
            };
            let (mut seen, again) = self.request(request, traffic, leave_after).await;
            let wait = again.filter(|_| tried < traffic.retries && seen.ending != Ending::Left);
            seen.traffic = call.traffic;
            seen.began = began;
            seen.last = wait.is_none();
            let is_answered = seen.ending == Ending::Complete;
            self.seen.lock().push(seen);
            let Some(asked) = wait else { return is_answered };
            sleep(asked.wait(tried, &mut chance)).await;
        }
        false
    }

    /// One request to its end; `Some` where an SDK would try again.
    async fn request(
        &self,
        request: UpstreamRequest,
        traffic: &Traffic,
        leave_after: Option<Duration>,
    ) -> (Seen, Option<Again>) {
        let started = Instant::now();
        let mut seen = Seen {
            traffic: 0,
            began: Duration::ZERO,
            sent: self.start.elapsed(),
            ended: Duration::ZERO,
            first_token: None,
            last: true,
            ending: Ending::Broken,
            served_by: None,
            attempts: 0,
            hedged: false,
            degradation: 0,
        };
        let patience = leave_after.map_or(traffic.timeout, |leave| leave.min(traffic.timeout));
        let read = self.read(request, traffic.stream, started, &mut seen);
        let again = match timeout(patience, read).await {
            Ok(again) => again,
            Err(_) if leave_after == Some(patience) => {
                seen.ending = Ending::Left;
                None
            }
            Err(_) => {
                seen.ending = Ending::Broken;
                // As with the SDKs, a stream that has begun is not begun again.
                seen.served_by.is_none().then(Again::default)
            }
        };
        seen.ended = self.start.elapsed();
        (seen, again)
    }

    async fn read(
        &self,
        request: UpstreamRequest,
        stream: bool,
        started: Instant,
        seen: &mut Seen,
    ) -> Option<Again> {
        let Ok(mut reply) = self.front.send(request).await else {
            return Some(Again::default());
        };
        note(&reply.headers, seen);
        if reply.status != StatusCode::OK {
            seen.ending = Ending::Refused(reply.status.as_u16());
            _ = collect(&mut *reply.body, MAX_ANSWER_BYTES).await;
            return Again::after(reply.status, &reply.headers);
        }
        if !stream {
            let whole = collect(&mut *reply.body, MAX_ANSWER_BYTES).await;
            seen.ending = match whole.map(|body| serde_json::from_slice::<Value>(&body)) {
                Ok(Ok(_)) => Ending::Complete,
                Ok(Err(_)) => Ending::Silent,
                Err(_) => Ending::Broken,
            };
            seen.first_token = (seen.ending == Ending::Complete).then(|| started.elapsed());
            return None;
        }
        let mut listener = Listener::new();
        while let Some(chunk) = next_chunk(&mut *reply.body).await {
            let Ok(chunk) = chunk else { return None };
            if listener.hear(chunk) {
                seen.first_token = Some(started.elapsed());
            }
        }
        seen.ending = listener.ending();
        None
    }
}

/// What a reply's headers say about how it came about.
fn note(headers: &HeaderMap, seen: &mut Seen) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let number = |name: &str| text(name).and_then(|text| text.parse().ok()).unwrap_or_default();
    seen.served_by = text("x-tidegate-served-by").map(Arc::from);
    seen.attempts = number("x-tidegate-attempts");
    seen.hedged = text("x-tidegate-hedged") == Some("true");
    seen.degradation = number("x-tidegate-degradation");
}

/// Another try, after so long if the reply said so.
#[derive(Debug, Clone, Copy, Default)]
struct Again(Option<Duration>);

// === impl Again ===

impl Again {
    /// Whether the SDKs try again after such a reply, and when it asks them to.
    fn after(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let again = match text("x-should-retry") {
            Some("true") => true,
            Some("false") => false,
            _ => matches!(status.as_u16(), 408 | 409 | 429 | 500..),
        };
        let number = |name: &str| text(name).and_then(|text| text.parse::<f64>().ok());
        let seconds = number("retry-after-ms").map(|ms| ms / 1_000.0);
        let seconds = seconds.or_else(|| number(RETRY_AFTER.as_str()));
        let asked = seconds.filter(|seconds| *seconds > 0.0 && *seconds <= LONGEST_RETRY_AFTER);
        again.then(|| Self(asked.map(Duration::from_secs_f64)))
    }

    fn wait(self, tried: u32, chance: &mut StdRng) -> Duration {
        self.0.unwrap_or_else(|| {
            let (first, longest) = BACKOFF;
            let wait = (first * 2.0_f64.powi(tried.min(10).cast_signed())).min(longest);
            Duration::from_secs_f64(wait * (1.0 - 0.25 * chance.random::<f64>()))
        })
    }
}

fn path(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "/v1/messages",
        Dialect::OpenAiChat | Dialect::Gemini => "/v1/chat/completions",
    }
}

/// The request of a turn, counted from 0: what was said before, made up as far as the model said
/// it, and another question.
fn body(traffic: &Traffic, seed: u64, turn: u64) -> Bytes {
    let filler = |tokens: u64| " tide".repeat(usize::try_from(tokens).unwrap_or_default());
    let ask = |turn: u64| {
        let (prompt, asked) = (&traffic.prompt, seed.wrapping_add(turn));
        json!({ "role": "user", "content": format!("{prompt} {asked:016x}{}", filler(traffic.prompt_tokens)) })
    };
    let mut messages = Vec::new();
    let anthropic = traffic.dialect == Dialect::Anthropic;
    let system = format!("You are {}.{}", traffic.name, filler(traffic.system_tokens));
    if traffic.system_tokens > 0 && !anthropic {
        messages.push(json!({ "role": "system", "content": system }));
    }
    for before in 0..turn {
        messages.push(ask(before));
        let said = format!("{:016x}{}", !seed.wrapping_add(before), filler(ANSWER_TOKENS));
        messages.push(json!({ "role": "assistant", "content": said }));
    }
    messages.push(ask(turn));
    let mut body = json!({
        "model": traffic.model,
        "stream": traffic.stream,
        "max_tokens": traffic.max_tokens,
        "messages": messages,
    });
    if traffic.system_tokens > 0 && anthropic {
        body["system"] = system.into();
    }
    Bytes::from(body.to_string())
}

fn headers(traffic: &Traffic, key: Option<&HeaderValue>, tried: u32) -> HeaderMap {
    let mut headers = traffic.headers.clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("x-stainless-retry-count"), HeaderValue::from(tried));
    if traffic.dialect == Dialect::Anthropic {
        let version = HeaderName::from_static("anthropic-version");
        headers.insert(version, HeaderValue::from_static("2023-06-01"));
    }
    if let Some(priority) = traffic.priority {
        let name = HeaderName::from_static("x-tidegate-priority");
        headers.insert(name, HeaderValue::from(u16::from(priority)));
    }
    if let Some(key) = key {
        headers.insert(AUTHORIZATION, key.clone());
    }
    headers
}
