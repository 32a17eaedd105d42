//! The whole file, and the sections of it that hold names: providers and routes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::conduct::{
    DegradeSettings, HedgeSettings, HoldBackSettings, PrefixCacheSettings, RankSettings,
    RetrySettings,
};
use super::embedders::EmbedderSettings;
use super::limits::LimitRuleSettings;
use super::patch::Patch;
use super::prompts::PromptSettings;
use super::settings::{
    AdmissionSettings, AuthSettings, DefaultsSettings, KeepAliveSettings, ServerSettings,
    StoreSettings, TelemetrySettings, TimeoutSettings,
};
use crate::cache::{CacheSettings, RouteCacheSettings};
use crate::catalog::PriceSettings;
use crate::catalog::file::{ModelSettings, RateHeaderSettings};
use crate::cluster::ClusterSettings;
use crate::dialect::{Dialect, Quirks};
use crate::idempotency::IdempotencySettings;
use crate::jobs::{JobSettings, WebhookSettings};
use crate::journal::JournalSettings;
use crate::rollout::RolloutSettings;
use crate::runs::CompatSettings;

/// Tidegate's configuration file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "config/tidegate.toml")]
pub(super) struct FileSettings {
    /// Where the gateway listens and what it takes from a caller. Addresses and threads take
    /// effect at the next start, the rest on reload.
    pub(super) server: ServerSettings,
    /// Who may ask.
    pub(super) auth: AuthSettings,
    /// How many requests are served at a time. Those beyond it wait, the more important ones first
    /// and callers in turn, and are refused with 503 and `retry-after` where that takes too long.
    pub(super) admission: AdmissionSettings,
    /// Where keys and the journal are kept. Takes effect at the next start.
    pub(super) store: StoreSettings,
    /// Where the gateway shares limits and what it knows of providers with other nodes. Takes
    /// effect at the next start.
    pub(super) cluster: ClusterSettings,
    /// What holds for models that are asked for without a route, and for routes that do not say
    /// otherwise.
    pub(super) defaults: DefaultsSettings,
    /// Logs. Traces and metrics are exported by OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
    /// Takes effect at the next start.
    pub(super) telemetry: TelemetrySettings,
    /// The record of every request. Takes effect at the next start.
    pub(super) journal: JournalSettings,
    /// Answers that are kept to be given again. Routes ask for it by `cache`.
    pub(super) cache: CacheSettings,
    /// How requests with an `Idempotency-Key` are kept from being carried out twice.
    pub(super) idempotency: IdempotencySettings,
    /// Jobs: requests that are answered later (`POST /v1/jobs`, `Prefer: respond-async`).
    pub(super) jobs: JobSettings,
    /// Webhooks, which tell callers that their jobs are over.
    pub(super) webhooks: WebhookSettings,
    /// Progressive rollouts of prompt versions and models. They are begun and led by the admin API.
    pub(super) rollouts: RolloutSettings,
    /// Compatibility runs: suites of cases that are asked a prompt or a model that may take another
    /// one's place. Their verdicts are what rollouts need to grow.
    pub(super) compat: CompatSettings,
    /// The providers that are on, by the id of a built-in one or by a name of your own. Without
    /// any, those whose keys are in the environment are on, and the simulated one where there is no
    /// key at all.
    pub(super) providers: BTreeMap<String, ProviderSettings>,
    /// Names that clients ask for, and where they are answered.
    pub(super) routes: BTreeMap<String, RouteSettings>,
    /// What callers may use. All limits that are about a request hold for it at once; what a key
    /// has for itself takes the place of the same in `[limits.default]`.
    pub(super) limits: BTreeMap<String, LimitRuleSettings>,
    /// Registered prompts: versions in files, and those that were pushed to a running gateway.
    pub(super) prompts: PromptSettings,
    /// What turns texts into vectors, for caches that know a question in other words. Takes effect
    /// at the next start.
    pub(super) embedders: BTreeMap<String, EmbedderSettings>,
}

/// A provider that is on. What is not said about a built-in provider comes from its file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProviderSettings {
    /// Keys, each by reference: the name of an environment variable, the path of a file, or none.
    /// Requests are spread over all of them. Absent: the first of the provider's own variables
    /// that is set, such as `OPENAI_API_KEY`.
    #[schemars(extend("examples" = [[{"env": "LOCAL_VLLM_API_KEY"}]]))]
    pub(super) credentials: Option<Vec<CredentialSettings>>,
    /// Where it answers; `${NAME}` stands for an environment variable. Absent: the variable
    /// `<ID>_BASE_URL`, such as `OPENAI_BASE_URL`, then the provider's file.
    #[schemars(extend("examples" = ["http://127.0.0.1:9100/v1"]))]
    pub(super) base_url: Option<String>,
    /// The wire format it speaks: `openai-chat`, `anthropic` or `gemini`. Needed for a provider of
    /// your own.
    #[schemars(extend("examples" = ["openai-chat"]))]
    pub(super) dialect: Option<Dialect>,
    /// The name for people. Absent: the provider's id.
    #[schemars(extend("examples" = ["Our own vLLM"]))]
    pub(super) name: Option<String>,
    /// How the key is sent: `bearer`, `header:NAME` or `none`. Absent: as the dialect's own
    /// company takes it.
    #[schemars(extend("examples" = ["bearer"]))]
    pub(super) auth: Option<String>,
    /// Headers that every request carries. Keys do not belong here.
    #[schemars(extend("examples" = [{"x-title": "Tidegate"}]))]
    pub(super) headers: BTreeMap<String, String>,
    /// Names of the response headers that say what is left of the rate limit.
    #[schemars(extend("examples" = [{"requests_left": "x-ratelimit-remaining-requests", "tokens_left": "x-ratelimit-remaining-tokens"}]))]
    pub(super) rate_headers: Option<RateHeaderSettings>,
    /// Where it departs from its dialect.
    #[schemars(extend("examples" = [{"max_tokens_param": "max_tokens", "drop_params": ["logit_bias"]}]))]
    pub(super) quirks: Patch<Quirks>,
    /// Whether it is asked for models that are not listed. Absent: as its file says; a provider of
    /// your own, where it lists no models.
    #[schemars(extend("examples" = [true]))]
    pub(super) open_models: Option<bool>,
    /// Models besides those of its file; one with the same id takes that one's place.
    pub(super) models: Vec<ModelSettings>,
}

/// One key, by reference. Exactly one of the three.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CredentialSettings {
    /// The environment variable that holds the key.
    #[schemars(extend("examples" = ["OPENAI_API_KEY"]))]
    pub(super) env: Option<String>,
    /// The file that holds the key and nothing else.
    #[schemars(extend("examples" = ["/run/secrets/openai"]))]
    pub(super) file: Option<PathBuf>,
    /// `true`: no key is sent.
    #[schemars(extend("examples" = [true]))]
    pub(super) none: Option<bool>,
}

/// A name that clients ask for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RouteSettings {
    /// Where the name may be answered; at least one.
    #[schemars(extend("examples" = [[{"model": "local-vllm/llama-3.3-70b", "weight": 2}, {"model": "local-vllm/llama-3.1-8b", "tier": 1}]]))]
    pub(super) targets: Vec<TargetSettings>,
    /// How long each step may take. What is not written is as in `[defaults]`.
    #[schemars(extend("examples" = [{"first_token": "20s", "total": "300s"}]))]
    pub(super) timeouts: Patch<TimeoutSettings>,
    /// What a caller of a stream hears while the model is silent. What is not written is as in
    /// `[defaults]`.
    #[schemars(extend("examples" = [{"every": "10s", "before_first_token": true}]))]
    pub(super) keep_alive: Patch<KeepAliveSettings>,
    /// How much of a streamed answer is held back while another target could still take over. What
    /// is not written is as in `[defaults]`, here and below.
    #[schemars(extend("examples" = [{"tokens": 16, "time": "250ms"}]))]
    pub(super) hold_back: Patch<HoldBackSettings>,
    /// When a second attempt is raced against a first one that is late. It needs two targets of
    /// one tier that do not share a key.
    #[schemars(extend("examples" = [{"enabled": false, "max_extra_requests": "5%"}]))]
    pub(super) hedge: Patch<HedgeSettings>,
    /// What makes one target better than another.
    #[schemars(extend("examples" = [{"seconds_per_usd": 1000, "pace_percent": 100}]))]
    pub(super) rank: Patch<RankSettings>,
    /// How often a request is tried.
    #[schemars(extend("examples" = [{"attempts": 2}]))]
    pub(super) retry: Patch<RetrySettings>,
    /// Whether and which answers are kept to be given again. Absent: none.
    #[schemars(extend("examples" = [{"exact": true, "ttl": "1h"}]))]
    pub(super) cache: RouteCacheSettings,
    /// What is done for the prefix caches of providers and of one's own servers.
    #[schemars(extend("examples" = [{"affinity": true, "warm_first": true}]))]
    pub(super) prefix_cache: Patch<PrefixCacheSettings>,
    /// What a caller gets where no target can serve the request as it was asked.
    #[schemars(extend("examples" = [{"reduced_context": true, "scripted": "I'm having trouble right now. Please try again."}]))]
    pub(super) degrade: DegradeSettings,
    /// Whether requests of one user keep to one target while it is about as good as the others. The
    /// user is `x-tidegate-user`, else the request's `user` or `safety_identifier`, else the
    /// caller.
    #[schemars(extend("examples" = [true]))]
    pub(super) sticky: bool,
}

/// One place where a route may be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetSettings {
    /// `provider/model`.
    #[schemars(extend("examples" = ["openai/gpt-5"]))]
    pub(super) model: String,
    /// Its share among the targets of its tier, 1 to 1000.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub(super) weight: u32,
    /// Its tier, 0 to 99. Targets of a tier are tried only when no lower tier can serve.
    #[serde(default)]
    #[schemars(range(min = 0, max = 99))]
    pub(super) tier: u32,
    /// What tokens cost here, where that is not what the model's file says: a contract's prices.
    /// They take the place of all prices of the file.
    #[serde(default)]
    #[schemars(extend("examples" = [{"input": "0.10", "output": "0.30"}]))]
    pub(super) usd_per_million: Option<PriceSettings>,
}

const fn one() -> u32 {
    1
}
