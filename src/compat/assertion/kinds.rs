//! The names of assertions: those that are read, and those that are known and cannot be.

/// What is known of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::compat) enum Known {
    /// It is read.
    Supported,
    /// It is promptfoo's and cannot be read, and why.
    Unsupported(&'static str),
    /// Nobody knows it.
    Unknown,
}

/// Those that are read, without `not-`.
pub(super) const SUPPORTED: &[&str] = &[
    "bleu",
    "contains",
    "contains-all",
    "contains-any",
    "contains-json",
    "cost",
    "ends-with",
    "equals",
    "factuality",
    "finish-reason",
    "g-eval",
    "gleu",
    "icontains",
    "icontains-all",
    "icontains-any",
    "is-json",
    "is-refusal",
    "is-valid-function-call",
    "is-valid-openai-function-call",
    "is-valid-openai-tools-call",
    "latency",
    "length",
    "levenshtein",
    "llm-rubric",
    "model-graded-closedqa",
    "model-graded-factuality",
    "regex",
    "rouge-n",
    "similar",
    "similar:cosine",
    "starts-with",
    "tool-call-f1",
    "word-count",
];

const SCRIPT: &str = "suites run no code; say it with other assertions";
const MARKUP: &str = "there is no parser of it here; `regex` or `contains` say something near it";
const CONTEXT: &str =
    "it needs a retrieved context apart from the answer; say it with `llm-rubric`";
const TRACE: &str = "a gateway sees answers, not traces of an agent";
const ELSEWHERE: &str = "it asks a service that is not a model of a gateway";

/// Those of promptfoo's that cannot be read, and why.
#[rustfmt::skip] // A table reads best as a table.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("agent-rubric",            TRACE),
    ("answer-relevance",        "say it with `llm-rubric`"),
    ("classifier",              ELSEWHERE),
    ("contains-html",           MARKUP),
    ("contains-sql",            MARKUP),
    ("contains-xml",            MARKUP),
    ("context-faithfulness",    CONTEXT),
    ("context-recall",          CONTEXT),
    ("context-relevance",       CONTEXT),
    ("conversation-relevance",  "say it with `llm-rubric`"),
    ("f-score",                 "it is made of metrics over all cases; a case has one answer"),
    ("guardrails",              ELSEWHERE),
    ("human",                   "nobody is asked in a run"),
    ("is-html",                 MARKUP),
    ("is-sql",                  MARKUP),
    ("is-xml",                  MARKUP),
    ("javascript",              SCRIPT),
    ("max-score",               "a run compares two answers; `select-best` asks a judge which is better"),
    ("meteor",                  "it needs a lexicon of English; `rouge-n`, `bleu` and `gleu` are read"),
    ("moderation",              ELSEWHERE),
    ("perplexity",              "models here give no log probabilities to suites"),
    ("perplexity-score",        "models here give no log probabilities to suites"),
    ("pi",                      ELSEWHERE),
    ("python",                  SCRIPT),
    ("ruby",                    SCRIPT),
    ("search-rubric",           "a judge has no search; say it with `llm-rubric`"),
    ("similar:dot",             "vectors are compared by their cosine; use `similar`"),
    ("similar:euclidean",       "vectors are compared by their cosine; use `similar`"),
    ("skill-used",              TRACE),
    ("trace-error-spans",       TRACE),
    ("trace-span-count",        TRACE),
    ("trace-span-duration",     TRACE),
    ("trajectory:goal-success", TRACE),
    ("trajectory:step-count",   TRACE),
    ("trajectory:tool-args-match", TRACE),
    ("trajectory:tool-sequence", TRACE),
    ("trajectory:tool-used",    TRACE),
    ("webhook",                 SCRIPT),
];

/// What is known of a type, with or without `not-`. Neither `assert-set` nor `select-best`, which
/// are no tests of one answer.
pub(in crate::compat) fn known(kind: &str) -> Known {
    let name = kind.strip_prefix("not-").unwrap_or(kind);
    if SUPPORTED.contains(&name) {
        return Known::Supported;
    }
    if name.starts_with("promptfoo:redteam:") {
        return Known::Unsupported("red teaming is no part of a compatibility run");
    }
    let why = UNSUPPORTED.iter().find(|(unsupported, _)| *unsupported == name);
    why.map_or(Known::Unknown, |(_, why)| Known::Unsupported(why))
}

/// All names, for a suggestion.
pub(in crate::compat) fn names() -> impl Iterator<Item = &'static str> {
    let unsupported = UNSUPPORTED.iter().map(|(name, _)| *name);
    SUPPORTED.iter().copied().chain(unsupported).chain(["assert-set", "select-best"])
}
