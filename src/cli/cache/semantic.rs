//! How far semantic caches have come, as a table, from what `/admin/v1/cache` says.

use std::io::{self, Write};

use serde_json::Value;

use super::super::terms::{table, text};
use super::{items, plain};

/// One line for each route and tenant; nothing where no semantic cache was asked yet.
pub(super) fn shown(semantic: &Value, out: &mut dyn Write) -> io::Result<()> {
    let domains = items(&semantic["domains"]);
    let (now, former): (Vec<_>, Vec<_>) =
        domains.iter().partition(|domain| domain["current"] == true);
    if domains.is_empty() {
        return Ok(());
    }
    let members = ["entries", "bytes", "max_bytes"].map(|member| plain(&semantic[member]));
    let [entries, bytes, most] = members;
    writeln!(
        out,
        "\nto other words that mean the same: {entries} answers, {bytes} of {most} bytes"
    )?;
    if !now.is_empty() {
        let heading =
            ["ROUTE", "TENANT", "MODE", "THRESHOLD", "LABELS", "HITS", "ERROR", "NET SAVED USD"];
        let rows = now.iter().map(|domain| row(domain));
        let heading = std::iter::once(heading.map(str::to_owned));
        table(&heading.chain(rows).collect::<Vec<_>>(), out)?;
    }
    if now.iter().any(|domain| domain["mode"] == "shadow") {
        writeln!(
            out,
            "shadow: nothing is given yet. Each label is a comparison by the judge; with as many \
             labels as\nneeded, and none of them wrong, answers are given"
        )?;
    }
    if now.iter().any(|domain| domain["mode"] == "suspended") {
        writeln!(out, "suspended: nothing is given until the judge answers again")?;
    }
    match former.len() {
        0 => Ok(()),
        count => writeln!(out, "{count} more of former targets or settings; --json shows them"),
    }
}

fn row(domain: &Value) -> [String; 8] {
    let number = |member: &str| domain[member].as_f64();
    let dash = || "-".to_owned();
    let tenant = &domain["tenant"];
    [
        text(domain, "route"),
        format!("{} {}", text(tenant, "kind"), text(tenant, "id")),
        text(domain, "mode"),
        number("threshold").map_or_else(dash, |threshold| format!("{threshold:.2}")),
        labels(domain),
        plain(&domain["hits"]),
        number("bound").map_or_else(dash, |bound| format!("<= {:.2} %", bound * 100.0)),
        text(domain, "net_saved_usd"),
    ]
}

/// With how many are needed, while that matters.
fn labels(domain: &Value) -> String {
    match (domain["threshold"].is_null(), domain["labels_needed"].as_u64()) {
        (true, Some(needed)) => format!("{}/{needed}", domain["labels"]),
        (true, None) | (false, _) => plain(&domain["labels"]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(semantic: &Value) -> String {
        let mut out = Vec::new();
        shown(semantic, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn domain(mode: &str, threshold: Option<f64>) -> Value {
        json!({
            "route": "faq",
            "tenant": { "kind": "team", "id": "team_red" },
            "current": true,
            "mode": mode,
            "threshold": threshold,
            "bound": threshold.map(|_| 0.0083),
            "labels": 12,
            "labels_needed": 460,
            "hits": 7,
            "net_saved_usd": "-0.012000",
        })
    }

    #[test]
    fn nothing_is_said_where_no_semantic_cache_was_asked() {
        assert_eq!(said(&json!({ "entries": 0, "domains": [] })), "");
        // A gateway of an older version.
        assert_eq!(said(&Value::Null), "");
    }

    #[test]
    fn one_in_shadow_says_how_many_labels_it_lacks_and_one_that_serves_its_bound() {
        let mut former = domain("serve", Some(0.9));
        former["current"] = json!(false);
        let domains = [domain("shadow", None), domain("serve", Some(0.91)), former];
        let semantic = json!({ "entries": 3, "bytes": 9, "max_bytes": 10, "domains": domains });
        let heading = "\
ROUTE  TENANT         MODE    THRESHOLD  LABELS  HITS  ERROR      NET SAVED USD
faq    team team_red  shadow  -          12/460  7     -          -0.012000
faq    team team_red  serve   0.91       12      7     <= 0.83 %  -0.012000
";
        let said = said(&semantic);
        assert!(said.contains(heading), "{said}");
        assert!(said.contains("3 answers, 9 of 10 bytes\n"), "{said}");
        assert!(said.contains("shadow: nothing is given yet"), "{said}");
        assert!(!said.contains("suspended"), "{said}");
        assert!(
            said.ends_with("1 more of former targets or settings; --json shows them\n"),
            "{said}"
        );
    }

    #[test]
    fn one_whose_judge_is_silent_says_what_that_means() {
        let domains = [domain("suspended", Some(0.91))];
        let said = said(&json!({ "entries": 0, "bytes": 0, "max_bytes": 1, "domains": domains }));
        assert!(said.contains("suspended  0.91"), "{said}");
        assert!(said.contains("until the judge answers again"), "{said}");
        assert!(!said.contains("shadow"), "{said}");
    }
}
