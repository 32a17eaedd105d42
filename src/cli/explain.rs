//! `tidegate explain`: which targets a request would try, in which order, and why.

use std::io::{self, Write};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::SourceArgs;
use super::check::problems_json;
use super::client::{AdminArgs, ClientError, DEFAULT_URL, encoded};
use crate::admin::targets::{Asked, TargetList};
use crate::catalog::{Feature, Model, ModelKind, Prices, Rates};
use crate::clock::Instant;
use crate::config::{Environment, Route, Snapshot, Source, Target, load};
use crate::dialect::Dialect;
use crate::fleet::Fleet;
use crate::units::HumanDuration;

mod table;

/// Says which targets a request for a model would try, in which order, and why. Nothing is sent.
///
/// With --url, or with an admin key and no --config, it asks the running gateway and shows how its
/// targets stand now; else it reads files.
#[derive(Debug, Clone, Default, Args)]
#[command(
    after_help = "Examples:\n  tidegate explain --model openai/gpt-5\n  tidegate explain --model smart \
                  --input-tokens 20000 --tools\n  tidegate explain --model smart --url http://127.0.0.1:8080"
)]
pub struct ExplainArgs {
    /// What a client would send as `model`.
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// Where the configuration is.
    #[command(flatten)]
    pub source: SourceArgs,
    /// A running gateway to ask, usually http://127.0.0.1:8080.
    #[arg(long, value_name = "URL", env = "TIDEGATE_URL")]
    pub url: Option<String>,
    /// Its admin key.
    #[arg(long, value_name = "KEY", env = "TIDEGATE_ADMIN_KEY", hide_env_values = true)]
    pub admin_key: Option<SecretText>,
    /// Reads files without the keys of providers, which need not be there then.
    #[arg(long)]
    pub without_keys: bool,
    /// The request to rank for.
    #[command(flatten)]
    pub request: RequestArgs,
    /// Answers in JSON.
    #[arg(long)]
    pub json: bool,
}

/// What the request would be like.
#[derive(Debug, Clone, Default, Args)]
pub struct RequestArgs {
    /// Tokens of the prompt; 1000 if not given.
    #[arg(long, value_name = "N")]
    pub input_tokens: Option<u64>,
    /// The cap on the answer.
    #[arg(long, value_name = "N")]
    pub output_tokens: Option<u64>,
    /// It has tools.
    #[arg(long)]
    pub tools: bool,
    /// It wants JSON by a schema.
    #[arg(long)]
    pub json_schema: bool,
    /// It has pictures.
    #[arg(long)]
    pub images: bool,
    /// Whose it is, for routes that keep a user to one target.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
}

/// A text that is not shown.
#[derive(Clone)]
pub struct SecretText(String);

/// Runs the command. The answer is the exit code: 0 good, 1 nothing would serve the model, 2 the
/// configuration has problems, or the gateway that was named cannot be asked.
///
/// # Errors
///
/// Only where `out` cannot be written to.
pub fn run(args: &ExplainArgs, environment: Environment, out: &mut dyn Write) -> io::Result<u8> {
    if args.wants_gateway() {
        match args.ask_gateway() {
            Ok(list) => {
                if args.json {
                    writeln!(out, "{list:#}")?;
                } else {
                    table::live(&args.model, &args.url_or_default(), &list, out)?;
                }
                return Ok(0);
            }
            // An admin key may be there for other commands, and no gateway run.
            Err(ClientError::Unreachable { url, .. }) if args.url.is_none() => {
                if !args.json {
                    writeln!(out, "no gateway answers at {url}: this is what the files say\n")?;
                }
            }
            Err(error) => {
                if args.json {
                    let error = error.to_string();
                    writeln!(out, "{:#}", json!({ "model": args.model, "error": error }))?;
                } else {
                    writeln!(out, "{error}")?;
                }
                return Ok(error.exit_code());
            }
        }
    }
    from_files(args, environment, out)
}

fn from_files(args: &ExplainArgs, environment: Environment, out: &mut dyn Write) -> io::Result<u8> {
    let source = Source { without_keys: args.without_keys, ..args.source.source(environment) };
    let snapshot = match load(&source, None) {
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
            let demand = args.asked().demand();
            // A fleet without history.
            let fleet = Fleet::new(Arc::default());
            let views = fleet.look(&[Arc::clone(&route)], &demand, Instant::now());
            let list = views.first().map(|view| json!(TargetList::of_route(view, &demand)));
            let list = list.unwrap_or_default();
            if args.json {
                writeln!(out, "{:#}", in_json(&args.model, &route, &snapshot, &list))?;
            } else {
                in_words(&args.model, &route, &snapshot, &list, out)?;
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

fn in_json(asked: &str, route: &Route, snapshot: &Snapshot, list: &Value) -> Value {
    let mut shares = shares(list);
    let mut target = |target: &Arc<Target>| target_json(target, shares.next().unwrap_or_default());
    let tiers: Vec<Vec<_>> =
        route.tiers.iter().map(|tier| tier.iter().map(&mut target).collect()).collect();
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
        "ranking": list,
    })
}

/// Each target's share of its tier, 0 to 1, in order.
fn shares(list: &Value) -> impl Iterator<Item = f64> {
    let targets = list["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    targets.iter().map(|target| target["score"]["share_of_tier"].as_f64().unwrap_or_default())
}

fn target_json(target: &Target, share: f64) -> Value {
    let (endpoint, model) = (&target.endpoint, &target.model);
    let features: Vec<_> = model.features.iter().map(|feature| feature.as_str()).collect();
    let prices = model.prices.map(|prices| {
        let rates = |rates: Rates| {
            json!({
                "input": rates.input,
                "cached_input": rates.cached_input,
                "cache_write": rates.cache_write,
                "output": rates.output,
                "reasoning": rates.reasoning,
            })
        };
        let mut words = rates(prices.rates);
        if let Some(long) = prices.long_prompt {
            let mut dear = rates(long.rates);
            dear["over_tokens"] = json!(long.over_tokens);
            words["long_prompt"] = dear;
        }
        words
    });
    json!({
        "target": target.id.as_str(),
        "tier": target.tier,
        "weight": target.weight,
        "first_in_percent": (share * 1e4).round() / 1e2,
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
    list: &Value,
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
    table::conduct(&list["route"], out)?;
    let mut shares = shares(list);
    for (number, tier) in route.tiers.iter().enumerate() {
        writeln!(out)?;
        match (number, tier.len()) {
            (0, 1) => writeln!(out, "tier 0, tried first:")?,
            (0, _) => writeln!(
                out,
                "tier 0, tried first, each request in an order drawn by weight and score:"
            )?,
            (_, 1) => writeln!(out, "tier {number}, when no lower tier can serve:")?,
            _ => writeln!(
                out,
                "tier {number}, when no lower tier can serve, in an order drawn by weight and score:"
            )?,
        }
        for target in tier {
            let share = shares.next().filter(|_| tier.len() > 1);
            target_in_words(target, share, out)?;
        }
    }
    writeln!(out)?;
    table::ranking(list, out)?;
    table::excluded(list, out)
}

fn target_in_words(target: &Target, share: Option<f64>, out: &mut dyn Write) -> io::Result<()> {
    let (endpoint, model) = (&target.endpoint, &target.model);
    write!(out, "  {}", target.id)?;
    if let Some(share) = share {
        let percent = share * 100.0;
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
    let unable = [Feature::Tools, Feature::JsonSchema, Feature::Vision]
        .into_iter()
        .filter(|feature| model.listed && !model.features.has(*feature));
    let unable: Vec<_> = unable.map(Feature::as_str).collect();
    if !unable.is_empty() && model.kind == ModelKind::Chat {
        writeln!(out, "    passed over for requests that need {}", unable.join(" or "))?;
    }
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
    let rates = prices.rates;
    let thinking = match rates.reasoning == rates.output {
        true => String::new(),
        false => format!(", thinking ${}", rates.reasoning),
    };
    let long = prices.long_prompt.map_or_else(String::new, |long| {
        let (tokens, rates) = (long.over_tokens, long.rates);
        format!("; prompts over {tokens} tokens: input ${}, output ${}", rates.input, rates.output)
    });
    format!(
        "per million tokens: input ${}, cached ${}, cache write ${}, output ${}{} ({}){}",
        rates.input, rates.cached_input, rates.cache_write, rates.output, thinking, since, long,
    )
}

// === impl ExplainArgs ===

impl ExplainArgs {
    fn wants_gateway(&self) -> bool {
        self.url.is_some() || (self.admin_key.is_some() && self.source.config.is_none())
    }

    fn url_or_default(&self) -> String {
        self.url.clone().unwrap_or_else(|| DEFAULT_URL.to_owned())
    }

    fn ask_gateway(&self) -> Result<Value, ClientError> {
        let admin_key = self.admin_key.as_ref().map(|key| key.0.clone());
        let client = AdminArgs { url: self.url_or_default(), admin_key }.client()?;
        let mut path = format!("/targets?route={}", encoded(&self.model));
        let RequestArgs { input_tokens, output_tokens, tools, json_schema, images, user } =
            &self.request;
        let numbers = [("input_tokens", input_tokens), ("output_tokens", output_tokens)];
        for (name, number) in numbers {
            path.extend(number.map(|number| format!("&{name}={number}")));
        }
        for (name, is_set) in [("tools", tools), ("json_schema", json_schema), ("images", images)] {
            path.extend(is_set.then(|| format!("&{name}=true")));
        }
        path.extend(user.as_ref().map(|user| format!("&user={}", encoded(user))));
        client.call("GET", &path, None)
    }

    fn asked(&self) -> Asked {
        let request = self.request.clone();
        Asked {
            route: None,
            input_tokens: request.input_tokens,
            output_tokens: request.output_tokens,
            tools: request.tools,
            json_schema: request.json_schema,
            images: request.images,
            user: request.user,
        }
    }
}

// === impl SecretText ===

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}
