//! A limit of the configuration: what it allows, and to whom.

use std::sync::Arc;
use std::time::Duration;

use super::Moment;
use super::allowance::Allowance;
use super::bucket::{Bucket, Rate};
use super::meter::Meter;
use super::pool::Shared;
use super::settings::{Counted, Dimension, LimitSettings, OnStreamCap};
use super::slots::Slots;
use super::window::Window;
use crate::policy::rank;

/// The limit that keys have limits of their own beside; see [`Rule::takes_own`].
pub const DEFAULT_RULE: &str = "default";
/// How much of a rate may be used at once, where a limit does not say.
const USUAL_BURST: Duration = Duration::from_secs(10);
/// A burst is no less than this, where the limit is not: a few requests that belong together, and a
/// prompt of some pages.
const LEAST_BURST_REQUESTS: u64 = 10;
const LEAST_BURST_TOKENS: u64 = 5_000;
/// The longest value that stands in a subject as it is.
const MAX_VALUE_BYTES: usize = 128;

/// What use is added up by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum By {
    /// Whose key it is.
    Caller,
    /// To whose team the key belongs.
    Team,
    /// What was asked for, as a route.
    Route,
    /// What answers first: the model of the route's first target.
    Model,
    /// The value of a tag.
    Tag(String),
}

/// A limit, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: Arc<str>,
    /// Each combination of these is a subject of its own; none: all requests together are one.
    pub by: Vec<By>,
    /// The routes it is about; none: all. As for models and teams.
    pub routes: Vec<String>,
    /// The models, as `provider/model`.
    pub models: Vec<String>,
    /// The teams.
    pub teams: Vec<String>,
    /// What is allowed.
    pub limits: LimitSettings,
    /// How much of a rate may be used at once.
    pub burst: Option<Duration>,
    /// What a token of the prompt counts that the provider had kept, in thousandths of another one.
    pub cached_permille: u16,
    /// What becomes of a stream that gets to the limit.
    pub on_stream_cap: OnStreamCap,
}

/// Of whom a request is, as far as limits ask.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The public id of the key.
    pub caller: &'a str,
    /// The caller's team.
    pub team: Option<&'a str>,
    /// The route.
    pub route: &'a str,
    /// `provider/model` of the route's first target.
    pub model: &'a str,
    /// Tags.
    pub tags: &'a [(String, String)],
}

// === impl By ===

impl By {
    /// Reads one as it stands in a configuration.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "caller" => Some(Self::Caller),
            "team" => Some(Self::Team),
            "route" => Some(Self::Route),
            "model" => Some(Self::Model),
            _ => {
                let tag = text.strip_prefix("tag:").filter(|tag| !tag.is_empty())?;
                Some(Self::Tag(tag.to_owned()))
            }
        }
    }

    /// The value that a request has; `None` where it has none and so is no concern of the limit.
    /// Requests without a tag are taken together: a limit must not end where a tag is left out.
    fn value<'a>(&self, subject: &Subject<'a>) -> Option<(&str, &'a str)> {
        Some(match self {
            Self::Caller => ("caller", subject.caller),
            Self::Team => ("team", subject.team?),
            Self::Route => ("route", subject.route),
            Self::Model => ("model", subject.model),
            Self::Tag(name) => {
                let tag = subject.tags.iter().find(|(tag, _)| tag == name);
                (name.as_str(), tag.map_or("", |(_, value)| value.as_str()))
            }
        })
    }
}

// === impl Rule ===

impl Rule {
    /// The limits that a key has for itself, where no [`DEFAULT_RULE`] is there to take them.
    pub fn of_keys() -> Self {
        Self {
            name: "key".into(),
            by: vec![By::Caller],
            routes: Vec::new(),
            models: Vec::new(),
            teams: Vec::new(),
            limits: LimitSettings::default(),
            burst: None,
            cached_permille: 0,
            on_stream_cap: OnStreamCap::default(),
        }
    }

    /// The limits that a team has for itself.
    pub fn of_teams() -> Self {
        Self { name: "team".into(), by: vec![By::Team], ..Self::of_keys() }
    }

    /// Whether the limits that a key has for itself take the place of this one's.
    pub fn takes_own(&self) -> bool {
        &*self.name == DEFAULT_RULE && self.by == [By::Caller]
    }

    /// Whose limit of a dimension it is, for the sentence that tells a caller: that of the key or
    /// the team itself (`own`), or the one of the configuration that has this name.
    pub fn whose(&self, own: Option<&LimitSettings>, dimension: Dimension) -> String {
        let has_own = own.is_some_and(|own| {
            own.each().into_iter().any(|(of, limit)| of == dimension && limit.is_some())
        });
        match (has_own, self.by.as_slice()) {
            (true, [By::Team]) => "the limit of the team itself".to_owned(),
            (true, _) => "the limit of the key itself".to_owned(),
            (false, _) => format!("the limit `{}`", self.name),
        }
    }

    /// Whose use is added up for a request, in the form `name|caller=…|route=…`; `None` where the
    /// limit is not about it.
    pub fn subject(&self, of: &Subject<'_>) -> Option<String> {
        let is_among = |list: &[String], value: &str| {
            list.is_empty() || list.iter().any(|listed| listed == value)
        };
        let about = is_among(&self.routes, of.route)
            && is_among(&self.models, of.model)
            && is_among(&self.teams, of.team.unwrap_or(""));
        if !about {
            return None;
        }
        let mut key = String::with_capacity(64);
        key.push_str(&self.name);
        for by in &self.by {
            let (name, value) = by.value(of)?;
            push_part(&mut key, name, value);
        }
        Some(key)
    }

    /// What is allowed to a subject that has used nothing. `own` are the limits that the key has
    /// for itself, which take the place of the same ones here. Some is `shared` with other nodes.
    pub fn allowance(&self, own: Option<&LimitSettings>, shared: bool, at: Moment) -> Allowance {
        let limits = self.limits.each().into_iter();
        let own = own.cloned().unwrap_or_default().each();
        let meters = limits.zip(own).filter_map(|((dimension, limit), (_, own))| {
            let limit = own.or(limit)?;
            Some((dimension, self.meter(dimension, limit, shared, at)))
        });
        Allowance::new(meters.collect(), self.cached_permille)
    }

    fn meter(&self, dimension: Dimension, limit: u64, shared: bool, at: Moment) -> Meter {
        let Some(period) = dimension.period else {
            return match shared {
                true => Meter::Shared(Box::new(Shared::slots(limit, at.now))),
                false => Meter::Slots(Slots::new(limit)),
            };
        };
        if dimension.flows() {
            let rate = Rate::per_minute(limit);
            let burst = self.burst_of(dimension.counted, rate);
            return match shared {
                true => Meter::Shared(Box::new(Shared::bucket(rate, burst, at.now))),
                false => Meter::Bucket(Bucket::new(rate, burst, at.now)),
            };
        }
        let window = Window::new(period, limit, at.unix_ms);
        match shared {
            true => Meter::Shared(Box::new(Shared::window(window, at.now))),
            false => Meter::Window(window),
        }
    }

    fn burst_of(&self, counted: Counted, rate: Rate) -> u64 {
        if let Some(burst) = self.burst {
            return rate.units_in(burst).max(1);
        }
        let least = match counted {
            Counted::Requests | Counted::Concurrent => LEAST_BURST_REQUESTS,
            Counted::Tokens | Counted::InputTokens | Counted::OutputTokens => LEAST_BURST_TOKENS,
            Counted::Money => 0,
        };
        rate.units_in(USUAL_BURST).max(least.min(rate.units()))
    }
}

/// Adds `|name=value`. What would look like another part is written otherwise, and what is long is
/// cut and told apart by its hash.
fn push_part(key: &mut String, name: &str, value: &str) {
    key.push('|');
    key.push_str(name);
    key.push('=');
    let cut = (0..=MAX_VALUE_BYTES.min(value.len())).rev().find(|at| value.is_char_boundary(*at));
    let head = cut.and_then(|at| value.get(..at)).unwrap_or_default();
    if head.contains(['|', '%']) {
        key.push_str(&head.replace('%', "%25").replace('|', "%7C"));
    } else {
        key.push_str(head);
    }
    if head.len() < value.len() {
        key.push_str(&format!("%{:016x}", rank::hash(value.as_bytes())));
    }
}
