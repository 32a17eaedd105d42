//! From a request to a script: no clock, no I/O, all chance from the seed.

use std::collections::{HashMap, HashSet};

use http::{HeaderMap, Method, StatusCode};

use super::content::{self, Question, Said};
use super::dice::Dice;
use super::directive::{Block, Directives, blocks};
use super::error::Complaint;
use super::fault::Fault;
use super::limits::{Meter, Moment, Reading};
use super::prefix::BlockCache;
use super::route::{ChatPath, Endpoint};
use super::scenario::{Behaviour, Overload, PrefixCache, Scenario};
use super::script::Script;
use super::skill::Habits;
use super::stats::Busy;
use super::{count, plain, render, signature, timing};
use crate::chat::{ChatRequest, Usage};
use crate::dialect::Dialect;
use crate::rejection::Rejection;

mod turn;

pub(super) use turn::Turn;

use turn::{Act, Place};

/// A request as the engine sees it.
#[derive(Debug, Clone, Copy)]
pub struct SimRequest<'a> {
    /// The simulated host, `local` for instance; empty on a socket.
    pub host: &'a str,
    /// The method.
    pub method: &'a Method,
    /// Path and query.
    pub path: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a [u8],
}

/// All simulated providers: a scenario, and what they remember.
#[derive(Debug)]
pub struct Engine {
    scenario: Scenario,
    /// How many of its changes have happened.
    changed: usize,
    /// What is being answered, as whoever plays the scripts counts it.
    busy: Busy,
    /// All requests so far.
    ordinal: u64,
    /// Requests so far to each entry of the scenario and model.
    seen: HashMap<(String, String), u64>,
    /// How often a directive with `first` has come by.
    directives: HashMap<String, u64>,
    meter: Meter,
    prefixes: HashSet<u64>,
    /// Caches of self-hosted servers, by host and model.
    caches: HashMap<(String, String), BlockCache>,
}

/// What the scenario and the request's wishes come to.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) wishes: Directives,
    pub(super) fault: Option<Fault>,
    pub(super) behaviour: Behaviour,
    /// How many times slower than the behaviour says.
    pub(super) slower: f64,
    /// The scenario's entry, which is what limits are counted by.
    entry: String,
}

/// How a request ends early.
type Stop = Box<Complaint>;

// === impl Engine ===

impl Engine {
    /// Fresh providers that have seen nothing yet.
    pub fn new(scenario: Scenario) -> Self {
        Self {
            scenario,
            changed: 0,
            busy: Busy::default(),
            ordinal: 0,
            seen: HashMap::new(),
            directives: HashMap::new(),
            meter: Meter::default(),
            prefixes: HashSet::new(),
            caches: HashMap::new(),
        }
    }

    /// Where the players of scripts count what they are at: each script's entry, for as long as
    /// it is played.
    pub fn busy(&self) -> Busy {
        self.busy.clone()
    }

    /// The scenario as it is now, after the changes so far.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// What happens to this request.
    pub fn answer(&mut self, request: &SimRequest<'_>, now: Moment) -> Script {
        self.ordinal += 1;
        self.change(now);
        let endpoint = Endpoint::of(request);
        let mut dice = Dice::new(self.scenario.seed, self.ordinal);
        let id = format!("req_{:016x}", dice.between(0, u64::MAX));
        let place = Place::default();
        let mut turn = Turn { request, now, dice, id, dialect: endpoint.dialect(), place };
        let script = match self.check(&turn) {
            Err(complaint) => Err(complaint),
            Ok(()) => match endpoint {
                Endpoint::Chat(path) => self.chat(&mut turn, &path),
                Endpoint::LegacyCompletion => self.legacy(&mut turn),
                Endpoint::Embeddings => self.embeddings(&mut turn),
                Endpoint::GeminiEmbeddings { model, batch } => {
                    self.gemini_embeddings(&mut turn, &model, batch)
                }
                Endpoint::CountTokens { model, .. } => plain::count_tokens(&turn, &model),
                Endpoint::Models { id, .. } => plain::models(&turn, &self.scenario, id.as_deref()),
                Endpoint::Unknown { .. } => Err(Box::new(Complaint::new(
                    StatusCode::NOT_FOUND,
                    format!("Unknown request URL: {} {}", request.method, request.path),
                ))),
            },
        };
        let mut script =
            script.unwrap_or_else(|complaint| turn.refuse(&turn.place.model, &complaint));
        script.entry = turn.place.entry;
        script
    }

    /// Makes the changes that are due.
    fn change(&mut self, now: Moment) {
        while let Some(change) = self.scenario.changes.get(self.changed)
            && change.at <= now.since_start
        {
            let change = change.clone();
            self.scenario.set(&change.model, change.behaviour);
            self.changed += 1;
        }
    }

    /// What every endpoint wants: a key, where the scenario has any, and Anthropic's version.
    fn check(&self, turn: &Turn<'_>) -> Result<(), Stop> {
        let keys = &self.scenario.keys;
        if !keys.is_empty() && !keys.iter().any(|key| *key == turn.key()) {
            return Err(Box::new(Complaint::unauthorized(turn.dialect)));
        }
        if turn.dialect == Dialect::Anthropic
            && !turn.request.headers.contains_key("anthropic-version")
        {
            return Err(Box::new(Complaint::invalid(
                "anthropic-version: header is required",
                None,
            )));
        }
        Ok(())
    }

    fn chat(&mut self, turn: &mut Turn<'_>, path: &ChatPath) -> Result<Script, Stop> {
        let decoded = path.dialect.codec().decode_request(turn.request.body);
        let mut chat = decoded.map_err(|rejection| Box::new(complaint_of(&rejection)))?;
        if let Some(model) = &path.model {
            chat.model.clone_from(model);
        }
        chat.stream = path.stream.unwrap_or(chat.stream);
        let plan = self.plan(turn, &chat.model, &content::last_user_text(&chat))?;
        if content::thinks(&chat)
            && let Err(problem) = signature::check(self.scenario.seed, path.dialect, &chat)
        {
            return Err(Box::new(Complaint::invalid(problem, None)));
        }
        let (said, usage) = self.say(turn, &chat, &plan);
        let reading = self.take(turn, &plan, &chat.model, usage.total());
        let act =
            Act { model: &chat.model, tokens: pace_tokens(&said), stream: chat.stream, usage };
        Ok(turn.perform(act, &plan, reading, |turn, pace, fault| {
            render::completion(turn, &chat, &said, usage, &render::Form { path, pace, fault })
        }))
    }

    fn legacy(&mut self, turn: &mut Turn<'_>) -> Result<Script, Stop> {
        let legacy = plain::LegacyRequest::parse(turn.request.body)?;
        let plan = self.plan(turn, &legacy.model, &legacy.text())?;
        let mut all = Vec::new();
        let mut usage = Usage::default();
        for chat in legacy.chats() {
            let (said, cost) = self.say(turn, &chat, &plan);
            usage.input += cost.total_input();
            usage.output += cost.total_output();
            all.extend(said);
        }
        let reading = self.take(turn, &plan, &legacy.model, usage.total());
        let act =
            Act { model: &legacy.model, tokens: pace_tokens(&all), stream: legacy.stream, usage };
        Ok(turn.perform(act, &plan, reading, |turn, pace, fault| {
            legacy.render(turn, &all, usage, pace, fault)
        }))
    }

    fn embeddings(&mut self, turn: &mut Turn<'_>) -> Result<Script, Stop> {
        let wanted = plain::EmbeddingRequest::parse(turn.request.body)?;
        let plan = self.plan(turn, &wanted.model, &wanted.text())?;
        let reading = self.take(turn, &plan, &wanted.model, wanted.tokens());
        let usage = Usage { input: wanted.tokens(), ..Usage::default() };
        let act = Act { model: &wanted.model, tokens: 0, stream: false, usage };
        Ok(turn.perform(act, &plan, reading, |_, _, fault| {
            timing::whole(wanted.render().to_string().into_bytes(), fault)
        }))
    }

    fn gemini_embeddings(
        &mut self,
        turn: &mut Turn<'_>,
        model: &str,
        batch: bool,
    ) -> Result<Script, Stop> {
        let body = plain::gemini_embeddings(turn.request.body, batch)?;
        let plan = self.plan(turn, model, "")?;
        let reading = self.take(turn, &plan, model, 1);
        let act = Act { model, tokens: 0, stream: false, usage: Usage::default() };
        Ok(turn.perform(act, &plan, reading, |_, _, fault| {
            timing::whole(body.to_string().into_bytes(), fault)
        }))
    }

    /// Finds the behaviour, the wishes of this request, and what will go wrong.
    fn plan(&mut self, turn: &mut Turn<'_>, model: &str, text: &str) -> Result<Plan, Stop> {
        let found = self.scenario.behaviour(turn.request.host, model);
        let Some((entry, behaviour)) =
            found.map(|(entry, found)| (entry.to_owned(), found.clone()))
        else {
            return Err(Box::new(Complaint::unknown_model(turn.dialect, model)));
        };
        turn.place.model = model.to_owned();
        let slower = behaviour.slower * self.crowding(turn, &entry, &behaviour)?;
        turn.place.entry.clone_from(&entry);
        let mut wishes = Directives::default();
        let header = turn.request.headers.get("x-sim-fault").and_then(|value| value.to_str().ok());
        let header = header.map(Block::new);
        for block in header.into_iter().chain(blocks(text)) {
            if block.is_for(model) && self.is_due(&block, model) {
                wishes
                    .apply(&block)
                    .map_err(|problem| Box::new(Complaint::invalid(problem, None)))?;
            }
        }
        let ordinal = bump(&mut self.seen, (entry.clone(), model.to_owned()));
        let mut fault = None;
        for rule in &behaviour.faults {
            // Every rule rolls, so that one rule's luck does not shift another's.
            let due = if rule.on_requests.is_empty() {
                turn.dice.chance(rule.share)
            } else {
                rule.on_requests.contains(&ordinal)
            };
            if due && fault.is_none() {
                fault = Some(rule.fault.clone());
            }
        }
        let fault = wishes.fault.clone().or(fault);
        Ok(Plan { wishes, fault, behaviour, slower, entry })
    }

    /// How many times slower it goes because of those that are served already; or no room.
    fn crowding(&self, turn: &Turn<'_>, entry: &str, behaviour: &Behaviour) -> Result<f64, Stop> {
        let busy = self.busy.of(entry);
        let Some(capacity) = behaviour.capacity.filter(|capacity| busy >= *capacity) else {
            return Ok(1.0);
        };
        match behaviour.over_capacity {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            Overload::Slow => Ok((busy + 1) as f64 / capacity.max(1) as f64),
            Overload::Refuse => {
                let status = match turn.dialect {
                    Dialect::Anthropic => StatusCode::from_u16(529),
                    Dialect::OpenAiChat | Dialect::Gemini => Ok(StatusCode::SERVICE_UNAVAILABLE),
                };
                let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                Err(Box::new(Complaint::of_status(status, turn.dialect, &turn.place.model)))
            }
        }
    }

    fn is_due(&mut self, block: &Block<'_>, model: &str) -> bool {
        block.first.is_none_or(|first| {
            bump(&mut self.directives, format!("{model}\0{}", block.body)) <= first
        })
    }

    /// Makes up all alternatives and counts their tokens.
    fn say(&mut self, turn: &mut Turn<'_>, chat: &ChatRequest, plan: &Plan) -> (Vec<Said>, Usage) {
        let mut usage = match &plan.behaviour.prefix_cache {
            None => count::prompt(chat, turn.dialect, &mut self.prefixes),
            Some(cache) => self.read(turn, chat, cache, plan),
        };
        let question = Question {
            chat,
            dialect: turn.dialect,
            wishes: &plan.wishes,
            tokens: plan.behaviour.tokens,
            habits: Habits::of(&chat.model, plan.behaviour.slips, plan.behaviour.bias),
            seed: self.scenario.seed,
        };
        let mut all = Vec::new();
        for _ in 0..chat.n.unwrap_or(1).clamp(1, 128) {
            let mut said = match plan.fault {
                Some(Fault::Empty) => Said::nothing(),
                _ => content::answer(&question, &mut turn.dice),
            };
            if plan.fault == Some(Fault::SplitUtf8) {
                said.ensure_multibyte();
            }
            usage.output += said.usage().output;
            usage.reasoning += said.usage().reasoning;
            all.push(said);
        }
        (all, usage)
    }

    /// Tokens of a prompt that a self-hosted server reads, and of what it has cached of it.
    fn read(
        &mut self,
        turn: &Turn<'_>,
        chat: &ChatRequest,
        cache: &PrefixCache,
        plan: &Plan,
    ) -> Usage {
        if self.caches.len() >= 10_000 {
            self.caches.clear();
        }
        let server = (turn.request.host.to_owned(), chat.model.clone());
        let (said, tokens) = count::read(chat);
        let ready = |cached: u64| {
            plan.behaviour.ttft.median + timing::prefill(cache, tokens.saturating_sub(cached))
        };
        let blocks = self.caches.entry(server).or_default();
        let cached = blocks.read((&said, tokens), cache, turn.now.since_start, ready);
        Usage { input: tokens - cached, cached_input: cached, ..Usage::default() }
    }

    fn take(&mut self, turn: &Turn<'_>, plan: &Plan, model: &str, tokens: u64) -> Reading {
        let bucket = format!("{}\0{model}", plan.entry);
        let now = turn.now.since_start;
        self.meter.take(plan.behaviour.limits, (&bucket, &turn.key()), tokens, now)
    }
}

/// Counts one more and says how many there are. Bounded: forgets everything when there is much.
fn bump<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u64>, key: K) -> u64 {
    if counts.len() >= 10_000 {
        counts.clear();
    }
    let count = counts.entry(key).or_default();
    *count += 1;
    *count
}

fn pace_tokens(all: &[Said]) -> usize {
    all.iter().map(|said| said.beats(0).len()).sum()
}

fn complaint_of(rejection: &Rejection) -> Complaint {
    Complaint::invalid(rejection.to_string(), rejection.param())
}
