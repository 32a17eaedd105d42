//! What a request's headers ask for, beside its body.

use std::time::Duration;

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName};

use crate::cache::{CacheMode, CacheWish};
use crate::failure::Midstream;
use crate::rejection::Rejection;
use crate::units::Priority;

#[cfg(test)]
mod tests;

/// Headers of the caller that mean something to a provider and go upstream as they are.
static FORWARDED: [HeaderName; 5] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("anthropic-beta"),
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("openai-beta"),
];
static TIMEOUT_MS: HeaderName = HeaderName::from_static("x-tidegate-timeout-ms");
static PRIORITY: HeaderName = HeaderName::from_static("x-tidegate-priority");
static MIDSTREAM: HeaderName = HeaderName::from_static("x-tidegate-midstream");
static ALLOW_MODEL_CHANGE: HeaderName =
    HeaderName::from_static("x-tidegate-midstream-allow-model-change");
static USER: HeaderName = HeaderName::from_static("x-tidegate-user");
static RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");
static RESUMABLE: HeaderName = HeaderName::from_static("x-resumable");
static TAGS: HeaderName = HeaderName::from_static("x-tidegate-tags");
static CACHE: HeaderName = HeaderName::from_static("x-tidegate-cache");
static PREFER: HeaderName = HeaderName::from_static("prefer");
/// The longest name of whoever is behind a request.
const MAX_USER_BYTES: usize = 256;

/// What the caller asks of the gateway for one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// `x-tidegate-timeout-ms`: the caller's limit for the whole request.
    pub(super) timeout: Option<Duration>,
    /// `x-tidegate-priority`: from 0 (highest) to 4.
    pub(super) priority: Option<Priority>,
    /// `x-tidegate-midstream: terminate` or `continue`, and whether another model may, by
    /// `x-tidegate-midstream-allow-model-change: true`.
    pub(super) midstream: Midstream,
    /// `x-tidegate-user`: who is behind the request.
    pub(super) sticky: Option<String>,
    /// `x-stainless-retry-count`: what the official clients say about their own retries.
    pub(super) client_retries: u32,
    /// `x-resumable: true` or `false`: whether the caller may come back for the rest.
    pub(super) resumable: bool,
    /// `x-tidegate-cache: off`, `exact` or `semantic`, and `Cache-Control`.
    pub(super) cache: CacheWish,
    /// `x-tidegate-tags: team=search,env=prod`.
    pub(super) tags: Vec<(String, String)>,
}

/// Headers that go upstream as they are.
pub(super) fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut forwarded = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| FORWARDED.contains(name)) {
        forwarded.append(name.clone(), value.clone());
    }
    forwarded
}

/// Whether the caller would rather come back for the answer (`Prefer: respond-async`, RFC 7240).
/// Preferences that are not known are to be ignored, `wait` among them.
pub(super) fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all(&PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(','));
    preferences.any(|preference| {
        let name = preference.split([';', '=']).next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case("respond-async")
    })
}

// === impl Wishes ===

impl Wishes {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// [`Rejection::Invalid`] naming the header.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Rejection> {
        // Most requests wish for nothing, and a look at each name costs less than ten searches.
        if !headers.keys().any(is_wish) {
            return Ok(Self::default());
        }
        let timeout = read(
            headers,
            &TIMEOUT_MS,
            "be a whole number of milliseconds from 1 to 86400000",
            |value| {
                let ms = value.parse().ok().filter(|ms| (1..=86_400_000).contains(ms))?;
                Some(Duration::from_millis(ms))
            },
        )?;
        let priority =
            read(headers, &PRIORITY, "be a whole number from 0 (highest) to 4", |value| {
                value.parse().ok()
            })?;
        let midstream =
            read(headers, &MIDSTREAM, "be `terminate` or `continue`", |value| match value {
                "terminate" => Some(Midstream::Terminate),
                "continue" => Some(Midstream::Continue),
                _ => None,
            })?;
        let allows_other =
            read(headers, &ALLOW_MODEL_CHANGE, "be `true` or `false`", |value| value.parse().ok())?;
        let midstream = match (midstream.unwrap_or_default(), allows_other.unwrap_or_default()) {
            (Midstream::Continue, true) => Midstream::ContinueAnyModel,
            (midstream, _) => midstream,
        };
        let sticky = read(headers, &USER, "have 1 to 256 characters of ASCII", |value| {
            (1..=MAX_USER_BYTES).contains(&value.len()).then(|| value.to_owned())
        })?;
        let client_retries =
            read(headers, &RETRY_COUNT, "be a whole number", |value| value.parse().ok())?;
        let resumable =
            read(headers, &RESUMABLE, "be `true` or `false`", |value| value.parse().ok())?;
        let mode = read(headers, &CACHE, "be `off`, `exact` or `semantic`", |value| match value {
            "off" => Some(CacheMode::Off),
            "exact" => Some(CacheMode::Exact),
            "semantic" => Some(CacheMode::Semantic),
            _ => None,
        })?;
        let tags = read(headers, &TAGS, "look like `team=search,env=prod`", tags)?;
        Ok(Self {
            timeout,
            priority,
            midstream,
            sticky,
            client_retries: client_retries.unwrap_or_default(),
            resumable: resumable.unwrap_or_default(),
            cache: CacheWish { mode, ..cache_control(headers) },
            tags: tags.unwrap_or_default(),
        })
    }
}

/// Whether a header may ask for something.
fn is_wish(name: &HeaderName) -> bool {
    let is_ours = name.as_str().starts_with("x-tidegate-");
    is_ours || [&RETRY_COUNT, &RESUMABLE, &CACHE_CONTROL].contains(&name)
}

/// What `Cache-Control` says. Directives that are not known mean nothing, as RFC 9111 has it.
fn cache_control(headers: &HeaderMap) -> CacheWish {
    let mut wish = CacheWish::default();
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    for directive in values.flat_map(|value| value.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" => wish.no_store = true,
            "no-cache" => wish.no_cache = true,
            "max-age" => {
                let seconds = value.trim().trim_matches('"').parse().ok();
                wish.max_age = seconds.map(Duration::from_secs).or(wish.max_age);
            }
            _ => {}
        }
    }
    wish
}

/// One header, if it is there; `rule` says what it must do to be read.
fn read<T>(
    headers: &HeaderMap,
    name: &HeaderName,
    rule: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Rejection> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match value.to_str().ok().and_then(|value| parse(value.trim())) {
        Some(read) => Ok(Some(read)),
        None => Err(Rejection::invalid(name.as_str(), format!("the header `{name}` must {rule}"))),
    }
}

fn tags(value: &str) -> Option<Vec<(String, String)>> {
    let pairs = value.split(',').map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    });
    pairs.collect()
}
