//! `tidegate explain`: which targets a request would try, in which order, and why.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Value, json};

use super::SourceArgs;
use super::check::problems_json;
use crate::catalog::{Model, Prices};
use crate::config::{Environment, Route, Snapshot, Target, load};
use crate::dialect::Dialect;
use crate::units::HumanDuration;

/// Says which targets a request for a model would try, in which order, and why. Nothing is sent.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Example:\n  tidegate explain --model openai/gpt-5")]
pub struct ExplainArgs {
    /// What a client would send as `model`.
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// Where the configuration is.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Answers in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command. The answer is the exit code: 0 good, 1 nothing would serve the model, 2 the
/// configuration has problems.
///
/// # Errors
///
/// Only where `out` cannot be written to.
pub fn run(args: &ExplainArgs, environment: Environment, out: &mut dyn Write) -> io::Result<u8> {
    let snapshot = match load(&args.source.source(environment), None) {
        Ok(snapshot) => snapshot,
        Err(problems) => {
            if args.json {
                writeln!(out, "{:#}", problems_json(&problems))?;
            } else {
                writeln!(out, "{problems}")?;
            }
            return Ok(2);
        }
    };
    match snapshot.resolve(&args.model) {
        Ok(route) => {
            if args.json {
                writeln!(out, "{:#}", in_json(&args.model, &route, &snapshot))?;
            } else {
                in_words(&args.model, &route, &snapshot, out)?;
            }
            Ok(0)
        }
        Err(rejection) => {
            if args.json {
                let message = rejection.to_string();
                writeln!(out, "{:#}", json!({ "model": args.model, "error": message }))?;
            } else {
                writeln!(out, "{rejection}")?;
            }
            Ok(1)
        }
    }
}

fn in_json(asked: &str, route: &Route, snapshot: &Snapshot) -> Value {
    let tiers: Vec<_> = route
        .tiers
        .iter()
        .map(|tier| tier.iter().map(|target| target_json(target, tier)).collect::<Vec<_>>())
        .collect();
    let timeouts = &route.conduct.timeouts;
    json!({
        "model": asked,
        "route": route.name.as_str(),
        "revision": snapshot.revision,
        "tiers": tiers,
        "timeouts": {
            "connect": HumanDuration(timeouts.connect),
            "first_token": HumanDuration(timeouts.first_token),
            "between_tokens": HumanDuration(timeouts.between_tokens),
            "total": HumanDuration(timeouts.total),
        },
        "keep_alive": {
            "every": HumanDuration(route.conduct.keep_alive.every.unwrap_or_default()),
            "before_first_token": route.conduct.keep_alive.before_first_token,
        },
    })
}

fn target_json(target: &Target, tier: &[std::sync::Arc<Target>]) -> Value {
    let (endpoint, model) = (&target.endpoint, &target.model);
    let features: Vec<_> = model.features.iter().map(|feature| feature.as_str()).collect();
    let prices = model.prices.map(|prices| {
        json!({
            "input": prices.input,
            "cached_input": prices.cached_input,
            "cache_write": prices.cache_write,
            "output": prices.output,
        })
    });
    json!({
        "target": target.id.as_str(),
        "tier": target.tier,
        "weight": target.weight,
        "first_in_percent": first_in_percent(target, tier),
        "endpoint": endpoint.id.as_str(),
        "url": endpoint.base.to_string(),
        "dialect": endpoint.dialect,
        "credential": &*endpoint.credential,
        "passes_through": [endpoint.dialect],
        "translates": Dialect::ALL.into_iter().filter(|d| *d != endpoint.dialect).collect::<Vec<_>>(),
        "model": model.name.as_str(),
        "kind": model.kind,
        "context_tokens": model.context_tokens,
        "output_tokens": model.output_tokens,
        "features": features,
        "usd_per_million": prices,
        "source": model.source,
        "as_of": model.as_of,
    })
}

fn in_words(
    asked: &str,
    route: &Route,
    snapshot: &Snapshot,
    out: &mut dyn Write,
) -> io::Result<()> {
    let is_route = snapshot
        .models()
        .any(|listed| listed.id == route.name.as_str() && listed.owned_by == "tidegate");
    match (is_route, asked == route.name.as_str()) {
        (true, _) => writeln!(out, "`{asked}` is a route")?,
        (false, true) => {
            writeln!(out, "`{asked}` is a model of a provider, asked for by its full name")?
        }
        (false, false) => {
            writeln!(out, "`{asked}` is served by one provider alone, as `{}`", route.name)?;
        }
    }
    let timeouts = &route.conduct.timeouts;
    writeln!(
        out,
        "timeouts: connect {}, first token {}, between tokens {}, total {}",
        HumanDuration(timeouts.connect),
        HumanDuration(timeouts.first_token),
        HumanDuration(timeouts.between_tokens),
        HumanDuration(timeouts.total),
    )?;
    for (number, tier) in route.tiers.iter().enumerate() {
        writeln!(out)?;
        match (number, tier.len()) {
            (0, 1) => writeln!(out, "tier 0, tried first:")?,
            (0, _) => {
                writeln!(out, "tier 0, tried first, each request in an order drawn by weight:")?
            }
            (_, 1) => writeln!(out, "tier {number}, when no lower tier can serve:")?,
            _ => writeln!(
                out,
                "tier {number}, when no lower tier can serve, in an order drawn by weight:"
            )?,
        }
        for target in tier {
            target_in_words(target, tier, out)?;
        }
    }
    Ok(())
}

fn target_in_words(
    target: &Target,
    tier: &[std::sync::Arc<Target>],
    out: &mut dyn Write,
) -> io::Result<()> {
    let (endpoint, model) = (&target.endpoint, &target.model);
    write!(out, "  {}", target.id)?;
    if tier.len() > 1 {
        let percent = first_in_percent(target, tier);
        write!(out, "  (weight {}, first for {percent:.0} % of requests)", target.weight)?;
    }
    writeln!(out)?;
    let key = match &*endpoint.credential {
        "none" => "no key".to_owned(),
        from => format!("key from {from}"),
    };
    writeln!(out, "    endpoint {} at {}, {key}", endpoint.id, endpoint.base)?;
    writeln!(
        out,
        "    speaks {}: bytes of the same dialect pass through, others are translated",
        endpoint.dialect
    )?;
    writeln!(out, "    {}", limits(model))?;
    match model.prices {
        Some(prices) => writeln!(out, "    {}", in_dollars(&prices, model))?,
        None => writeln!(out, "    price not known, counted as free")?,
    }
    Ok(())
}

fn limits(model: &Model) -> String {
    let tokens = |limit: Option<u64>| {
        limit.map_or_else(|| "not known".to_owned(), |limit| format!("{limit} tokens"))
    };
    format!(
        "{}; context {}, answer {}",
        model.kind,
        tokens(model.context_tokens),
        tokens(model.output_tokens)
    )
}

fn in_dollars(prices: &Prices, model: &Model) -> String {
    let since = match model.as_of.as_str() {
        "" => "from the configuration".to_owned(),
        day => format!("as of {day}"),
    };
    format!(
        "per million tokens: input ${}, cached ${}, cache write ${}, output ${} ({})",
        prices.input, prices.cached_input, prices.cache_write, prices.output, since,
    )
}

/// For how many requests of a hundred the target is the first to be tried in its tier.
fn first_in_percent(target: &Target, tier: &[std::sync::Arc<Target>]) -> f64 {
    let all: u64 = tier.iter().map(|target| u64::from(target.weight)).sum();
    #[expect(clippy::cast_precision_loss, reason = "weights are far below 2^53")]
    let percent = 100.0 * f64::from(target.weight) / all.max(1) as f64;
    percent
}
