//! Whose kind a model is.

/// Beginnings of the names of models, and their families. The first that fits counts.
const BY_NAME: &[(&str, &str)] = &[
    ("gpt", "openai"),
    ("chatgpt", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("text-davinci", "openai"),
    ("claude", "anthropic"),
    ("gemini", "google"),
    ("gemma", "google"),
    ("palm", "google"),
    ("mistral", "mistral"),
    ("mixtral", "mistral"),
    ("ministral", "mistral"),
    ("magistral", "mistral"),
    ("codestral", "mistral"),
    ("devstral", "mistral"),
    ("pixtral", "mistral"),
    ("open-mistral", "mistral"),
    ("open-mixtral", "mistral"),
    ("llama", "meta"),
    ("meta-llama", "meta"),
    ("qwen", "qwen"),
    ("qwq", "qwen"),
    ("deepseek", "deepseek"),
    ("grok", "xai"),
    ("command", "cohere"),
    ("c4ai", "cohere"),
    ("kimi", "moonshot"),
    ("moonshot", "moonshot"),
    ("glm", "zai"),
    ("sonar", "perplexity"),
    ("phi", "microsoft"),
    ("nemotron", "nvidia"),
    ("tide", "tide"),
];

/// Providers whose models are all their own.
const BY_PROVIDER: &[(&str, &str)] = &[
    ("openai", "openai"),
    ("anthropic", "anthropic"),
    ("gemini", "google"),
    ("google", "google"),
    ("mistral", "mistral"),
    ("mistralai", "mistral"),
    ("meta", "meta"),
    ("meta-llama", "meta"),
    ("qwen", "qwen"),
    ("deepseek", "deepseek"),
    ("xai", "xai"),
    ("x-ai", "xai"),
    ("cohere", "cohere"),
    ("moonshot", "moonshot"),
    ("moonshotai", "moonshot"),
    ("zai", "zai"),
    ("z-ai", "zai"),
];

/// The family of a model, such as `openai`, `anthropic`, `meta`: by its own name, whoever serves
/// it, else by its provider. A model that nobody knows is a family of its own: what it was called.
///
/// `openrouter/anthropic/claude-sonnet-4` and `anthropic/claude-haiku-4-5#2` are of one family.
pub fn family(model: &str) -> &str {
    let path = model.split('#').next().unwrap_or(model);
    let name = path.rsplit('/').next().unwrap_or(path);
    // Fine-tuned models of OpenAI's: `ft:gpt-4o-mini:org::id`. Models of Bedrock's:
    // `anthropic.claude-…`.
    let name = name.strip_prefix("ft:").unwrap_or(name);
    let starts = |name: &str| {
        let fits = |(start, _): &&(&str, &'static str)| {
            name.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
        };
        BY_NAME.iter().find(fits).map(|(_, family)| *family)
    };
    let by_name = starts(name).or_else(|| name.split(['.', ':']).find_map(starts));
    let by_provider = || {
        let mut parts: Vec<&str> = path.split('/').collect();
        parts.pop();
        parts.iter().rev().find_map(|part| {
            let found = BY_PROVIDER.iter().find(|(name, _)| part.eq_ignore_ascii_case(name));
            found.map(|(_, family)| *family)
        })
    };
    by_name.or_else(by_provider).unwrap_or(path)
}
