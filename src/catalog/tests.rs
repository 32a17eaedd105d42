//! Tests of the catalog.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

fn parsed(text: &str) -> (Catalog, String) {
    let mut problems = Problems::new();
    let catalog = Catalog::parse([(Path::new("providers/acme.toml"), text)], &mut problems);
    (catalog, problems.to_string())
}

const FACTS: &str = r#"
id = "acme"
name = "Acme"
dialect = "openai-chat"
base_url = "https://${ACME_REGION}.acme.example/v1"
source = "https://acme.example/prices"
as_of = "2026-11-01"
"#;

#[test]
fn every_built_in_file_can_be_used() {
    let files: Vec<_> = builtin_files().collect();
    let mut problems = Problems::new();
    let catalog =
        Catalog::parse(files.iter().map(|(path, text)| (path.as_path(), *text)), &mut problems);
    assert_eq!(problems.to_string(), "");
    assert_eq!(catalog.providers.len(), files.len());
    assert!(files.len() >= 16, "{} providers", files.len());
}

#[test]
fn the_built_in_files_are_those_of_the_folder() {
    // A file that is added without a change of any source file would not be embedded.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("providers");
    let there: BTreeSet<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| Path::new("providers").join(entry.unwrap().file_name()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    let embedded: BTreeSet<_> = builtin_files().map(|(path, _)| path).collect();
    assert_eq!(embedded, there, "touch src/catalog/builtin.rs and build again");
}

#[test]
fn a_model_without_facts_of_its_own_has_those_of_its_file() {
    let models = "[[models]]\nid = \"a\"\n[[models]]\nid = \"b\"\nas_of = \"2026-11-02\"\n";
    let (catalog, problems) = parsed(&format!("{FACTS}{models}"));
    assert_eq!(problems, "");
    let provider = &catalog.providers["acme"];
    assert_eq!(provider.auth, AuthScheme::Bearer);
    let model = provider.model("a").unwrap();
    assert_eq!((model.kind, model.features, model.prices), (ModelKind::Chat, Features::ALL, None));
    assert_eq!(model.as_of, "2026-11-01");
    assert_eq!(provider.model("b").unwrap().as_of, "2026-11-02");
}

#[test]
fn what_is_wrong_in_a_provider_file_is_said_with_its_line() {
    let text = r#"id = "acne"
name = "Acme"
dialect = "openai-chat"
base_url = "ftp://acme.example/${ACME"
key_env = ["ACME API KEY"]
auth = "header:not a header"
headers = { authorization = "x" }
source = "a friend"
as_of = "yesterday"
rate_headers = { requests_left = "no header" }
models = [
  { id = "a", usd_per_million = { input = "0.1234567" } },
  { id = "b", usd_per_million = { input = "1" } },
  { id = "c", kind = "embedding", usd_per_million = { input = "1" } },
  { id = "c", context_tokens = 0 },
]
"#;
    let (catalog, problems) = parsed(text);
    assert!(catalog.providers.is_empty());
    let expected = [
        "providers/acme.toml:12: models[0].usd_per_million.input: `0.1234567` is no price; write \
         US dollars per million tokens like \"0.59\", with at most six decimals",
        "providers/acme.toml:1: id: \"acne\" must be the file's name, \"acme\"",
        "providers/acme.toml:4: base_url: `${` has no closing `}`",
        "providers/acme.toml:5: key_env[0]: \"ACME API KEY\" is no name of an environment variable",
        "providers/acme.toml:8: source: must be a link that starts with https://",
        "providers/acme.toml:9: as_of: \"yesterday\" is no date; write it like \"2026-11-01\"",
        "providers/acme.toml:6: auth: \"header:not a header\" is not one of \"bearer\", \"none\" \
         and \"header:\" with a header's name",
        "providers/acme.toml:7: headers.authorization: keys do not belong in headers; name them \
         under `credentials`",
        "providers/acme.toml:10: rate_headers.requests_left: \"no header\" is no name of a header",
        "providers/acme.toml:13: models[1].usd_per_million.output: missing; only embeddings have \
         no output",
        "providers/acme.toml:15: models[3].id: the model \"c\" is listed twice",
        "providers/acme.toml:15: models[3].context_tokens: must be at least 1; leave it out if \
         unknown",
    ];
    assert_eq!(problems, expected.join("\n"));
}

#[test]
fn a_base_url_is_scheme_host_port_and_path() {
    let cases = [
        ("https://api.openai.com/v1", true, "api.openai.com", 443, "/v1", "api.openai.com"),
        ("http://LOCALHOST:9100/v1/", false, "localhost", 9100, "/v1", "localhost:9100"),
        ("http://[2001:db8::1]", false, "2001:db8::1", 80, "", "[2001:db8::1]"),
        ("https://[::1]:8443/", true, "::1", 8443, "", "[::1]:8443"),
    ];
    for (text, https, host, port, path, authority) in cases {
        let url: BaseUrl = text.parse().unwrap();
        let Origin { sim, .. } = url.origin;
        assert_eq!(
            (url.origin.https, &*url.origin.host, url.origin.port, &*url.path, sim),
            (https, host, port, path, false)
        );
        assert_eq!(url.origin.authority(), authority);
    }
    let sim: BaseUrl = "sim://local".parse().unwrap();
    assert!(sim.origin.sim);
    assert_eq!(sim.to_string(), "sim://local");
}

#[test]
fn what_is_no_base_url_is_refused_with_the_reason() {
    let cases = [
        ("api.openai.com/v1", "it has no scheme"),
        ("ftp://x", "the scheme must be `https` or `http`"),
        ("https://", "it has"),
        ("https://user:pass@x/v1", "it must not hold credentials"),
        ("https://x/v1?key=1", "it must not have a query or a fragment"),
        ("https://x#y", "it must not have a query or a fragment"),
        ("https://x:0/", "the port must be 1 to 65535"),
        ("https://x:70000", "the port must be 1 to 65535"),
        ("https://a b/", "it has a character that does not belong there"),
        ("https://x/\u{e9}\r\n", "it has a character that does not belong there"),
    ];
    for (text, reason) in cases {
        let error = text.parse::<BaseUrl>().unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn placeholders_are_filled_or_named() {
    let fill = |text| {
        placeholder::fill(text, |name| match name {
            "A" => Ok("1".to_owned()),
            other => Err(other.to_owned()),
        })
    };
    assert_eq!(fill("x${A}y${A}$").unwrap(), "x1y1$");
    assert_eq!(fill("${B}").unwrap_err().to_string(), "the environment variable B is not set");
    assert_eq!(fill("${A").unwrap_err().to_string(), "`${` has no closing `}`");
}

#[test]
fn a_model_without_a_price_costs_nothing() {
    let usage = Usage { input: 1, output: 1, ..Usage::default() };
    assert_eq!(Model::unlisted("m").cost(&usage), MicroUsd(0));
}

#[test]
fn features_are_a_set() {
    let some: Features = [Feature::Tools, Feature::Cache].into_iter().collect();
    assert!(some.has(Feature::Tools) && !some.has(Feature::Stream));
    assert_eq!(some.iter().collect::<Vec<_>>(), [Feature::Tools, Feature::Cache]);
    assert_eq!(format!("{some:?}"), r#"{"tools", "cache"}"#);
    assert_eq!(Features::ALL.iter().count(), Feature::ALL.len());
}

#[test]
fn a_replacement_is_one_that_exists() {
    let models = r#"
[[models]]
id = "lab/old"
retires_on = "2027-01-31"
replacement = "lab/new"
[[models]]
id = "lab/new"
retires_on = "2028-01-31"
replacement = "acme/lab/newest"
[[models]]
id = "lab/newest"
"#;
    let (catalog, problems) = parsed(&format!("{FACTS}{models}"));
    assert_eq!(problems, "");
    let old = catalog.providers["acme"].model("lab/old").unwrap();
    assert_eq!(old.retires_on, Some("2027-01-31".parse().unwrap()));
    assert_eq!(old.replacement.as_deref(), Some("lab/new"));
    for (more, problem) in [
        ("retires_on = '2027-02-30'", "retires_on: \"2027-02-30\" is no date; write it like"),
        ("replacement = 'lab/new'", "replacement: has no effect without `retires_on`"),
        (
            "retires_on = '2027-01-31'\nreplacement = 'lab/nwe'",
            "replacement: unknown model \"lab/nwe\" (did you mean \"lab/new\"?)",
        ),
        (
            "retires_on = '2027-01-31'\nreplacement = 'acme/lab/newst'",
            "replacement: unknown model \"acme/lab/newst\" (did you mean \"acme/lab/newest\"?)",
        ),
        ("retires_on = '2027-01-31'\nreplacement = ''", "replacement: unknown model \"\""),
        ("retires_on = '2027-01-31'\nreplacement = 'x'", "replacement: is the model itself"),
        ("retires_on = '2027-01-31'\nreplacement = 'acme/x'", "replacement: is the model itself"),
    ] {
        let text = format!("{FACTS}{models}[[models]]\nid = \"x\"\n{more}\n");
        let (catalog, problems) = parsed(&text);
        assert!(catalog.providers.is_empty(), "{more}");
        assert!(problems.contains(problem), "{more}: {problems}");
        assert!(problems.starts_with("providers/acme.toml:"), "{problems}");
    }
}
