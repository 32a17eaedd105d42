//! Targets and the terms of their scores as tables, from what `/admin/v1/targets?route=` says.

use std::io::{self, Write};

use serde_json::Value;

/// How the targets of a running gateway stand.
pub(super) fn live(asked: &str, url: &str, list: &Value, out: &mut dyn Write) -> io::Result<()> {
    let route = &list["route"];
    let name = text(route, "name");
    let meant = if name == asked { String::new() } else { format!(", meant as `{name}`") };
    let targets = targets(list);
    let ready = targets.iter().filter(|target| target["excluded"].is_null()).count();
    let count = targets.len();
    writeln!(out, "`{asked}`{meant} at {url}: {ready} of {count} targets ready")?;
    if route["is_panic"] == true {
        writeln!(
            out,
            "PANIC: no target is well, so health is ignored and targets are tried all the same"
        )?;
    }
    conduct(route, out)?;
    writeln!(out)?;
    ranking(list, out)?;
    writeln!(out)?;
    health(list, out)?;
    excluded(list, out)
}

/// How the route treats its requests.
pub(super) fn conduct(route: &Value, out: &mut dyn Write) -> io::Result<()> {
    let conduct = &route["conduct"];
    writeln!(
        out,
        "timeouts: connect {}, first token {}, between tokens {}, total {}",
        text(conduct, "connect_timeout"),
        text(conduct, "first_token_timeout"),
        text(conduct, "between_tokens_timeout"),
        text(conduct, "total_timeout"),
    )?;
    writeln!(
        out,
        "attempts: at most {} a request; those after a failure at most {} of all requests, now {}",
        conduct["attempts"],
        percent(number(conduct, "retry_budget")),
        percent(number(route, "retry_ratio")),
    )?;
    let hedge = &conduct["hedge"];
    if hedge.is_null() {
        writeln!(out, "hedging: off")?;
    } else {
        writeln!(
            out,
            "hedging: a second attempt when the first token is late, for at most {} of requests \
             and {} of spending",
            percent(number(hedge, "max_extra_requests")),
            percent(number(hedge, "max_extra_spend")),
        )?;
    }
    writeln!(
        out,
        "hold back: {} tokens, for at most {}, while another target could take over",
        conduct["hold_back_tokens"],
        text(conduct, "hold_back_time"),
    )?;
    let sticky = if conduct["sticky"] == true { "; a user keeps to one target" } else { "" };
    let cache = &conduct["prefix_cache"];
    let is_on = |key: &str| if cache[key] == true { "on" } else { "off" };
    writeln!(
        out,
        "prefix caches: affinity {}, breakpoints {}, cache key {}, warm first {}",
        is_on("affinity"),
        is_on("breakpoints"),
        is_on("cache_key"),
        is_on("warm_first"),
    )?;
    writeln!(
        out,
        "ranking: $1 weighs as {} s of waiting; {} of the time after the first token counts{sticky}",
        short(number(conduct, "seconds_per_usd")),
        percent(number(conduct, "pace")),
    )?;
    kept(&route["cache"], out)
}

/// Which answers of the route are kept.
fn kept(cache: &Value, out: &mut dyn Write) -> io::Result<()> {
    if cache.is_null() {
        return writeln!(out, "cache: off");
    }
    let time = match cache["ttl"].as_str() {
        Some(ttl) => format!("for {ttl}"),
        None => "for 1h, or 1d at temperature 0".to_owned(),
    };
    let whose = match cache["scope"].as_str() {
        Some("caller") => "a key",
        Some("user") => "a user of a key",
        Some(_) | None => "a team",
    };
    writeln!(out, "cache: the same request of {whose} gets the same answer {time}")?;
    if cache["semantic"] != true {
        return Ok(());
    }
    let (embedder, judge) = (text(cache, "embedder"), text(cache, "judge"));
    let error = percent(number(cache, "max_error"));
    writeln!(
        out,
        "semantic cache: embedder {embedder}, judge {judge}, at most {error} of the answers given \
         to other words wrong"
    )?;
    if cache["shadow"] == true {
        writeln!(out, "semantic cache: shadow = true, so it learns and gives nothing")?;
    }
    Ok(())
}

/// Every term of every score, one line a target.
pub(super) fn ranking(list: &Value, out: &mut dyn Write) -> io::Result<()> {
    let demand = &list["route"]["demand"];
    let needs: Vec<_> =
        demand["features"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let needs = if needs.is_empty() { String::new() } else { format!(", {}", needs.join(", ")) };
    writeln!(
        out,
        "scores for {} tokens in and {:.0} out{needs}:",
        demand["input_tokens"],
        number(demand, "output_tokens"),
    )?;
    let mut rows = vec![
        [
            "TARGET",
            "TIER",
            "WEIGHT",
            "SHARE",
            "SCORE s",
            "FIRST s",
            "OUTPUT s",
            "LOAD",
            "MONEY $",
            "MONEY s",
            "FAILURES s",
            "HEADROOM",
            "SUSPECT",
            "STICKY",
            "CACHED",
            "HOME",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(targets(list).iter().map(terms));
    table(&rows, out)?;
    writeln!(
        out,
        "score = ((first token + output) x load + money + failures) x headroom x suspect / sticky / \
         home; the lower, the more requests"
    )?;
    if targets(list).iter().any(|target| target["score"]["is_assumed"] == true) {
        writeln!(out, "~ never asked: the median of the others of its tier stands in, or 1 s")?;
    }
    Ok(())
}

fn terms(target: &Value) -> Vec<String> {
    let score = &target["score"];
    let place = &target["routes"][0];
    let seconds = |term| format!("{:.3}", number(score, term));
    let times = |term| format!("x{}", short(number(score, term)));
    let slow_start = number(score, "slow_start");
    let weight = if slow_start < 1.0 {
        format!("{} x{}", place["weight"], short(slow_start))
    } else {
        place["weight"].to_string()
    };
    let share = number(score, "expected_share");
    let is_out = !target["excluded"].is_null() && share == 0.0;
    let assumed = if score["is_assumed"] == true { "~" } else { "" };
    vec![
        text(target, "id"),
        place["tier"].to_string(),
        weight,
        if is_out { "out".to_owned() } else { percent(share) },
        seconds("total_seconds"),
        format!("{assumed}{}", seconds("first_token_seconds")),
        seconds("output_seconds"),
        times("load_factor"),
        format!("{:.6}", number(score, "money_usd")),
        seconds("money_seconds"),
        seconds("failure_seconds"),
        times("headroom_factor"),
        times("suspect_factor"),
        format!("/{}", short(number(score, "sticky_factor"))),
        percent(number(score, "cached_share")),
        format!("/{}", short(number(score, "home_factor"))),
    ]
}

/// What is known of each target.
fn health(list: &Value, out: &mut dyn Write) -> io::Result<()> {
    let mut rows = vec![
        [
            "TARGET",
            "BREAKER",
            "TTFT p50",
            "p95",
            "p99",
            "SAMPLES",
            "SUCCESS",
            "ERRORS",
            "TRAFFIC",
            "IN FLIGHT",
            "LIMIT",
            "HEADROOM",
            "CACHED",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(targets(list).iter().map(|target| {
        let ttft = &target["ttft_ms"];
        let ms = |quantile: &str| {
            ttft[quantile].as_f64().map_or("-".to_owned(), |ms| format!("{ms:.0} ms"))
        };
        vec![
            text(target, "id"),
            text(&target["breaker"], "state").replace('_', " "),
            ms("p50"),
            ms("p95"),
            ms("p99"),
            ttft["samples"].to_string(),
            percent(number(target, "success_probability")),
            percent(number(target, "error_rate")),
            percent(number(target, "traffic_share")),
            target["in_flight"].to_string(),
            target["limit"].as_u64().map_or("-".to_owned(), |limit| limit.to_string()),
            percent(number(target, "headroom")),
            percent(number(&target["prefix_cache"], "cached_share")),
        ]
    }));
    table(&rows, out)?;
    writeln!(out, "TTFT of the last 5 min; errors and traffic of the last minute, over all routes")
}

/// Why each target that is out is out.
pub(super) fn excluded(list: &Value, out: &mut dyn Write) -> io::Result<()> {
    let out_now: Vec<_> =
        targets(list).iter().filter(|target| !target["excluded"].is_null()).collect();
    if !out_now.is_empty() {
        writeln!(out)?;
    }
    for target in out_now {
        writeln!(out, "{} is out: {}", text(target, "id"), why(target))?;
    }
    Ok(())
}

fn why(target: &Value) -> String {
    let back =
        target["ready_in_seconds"].as_f64().map(|seconds| format!("{:.0} s", seconds.ceil()));
    let after = |words: &str| back.as_ref().map_or_else(String::new, |s| format!("; {words} {s}"));
    let breaker = &target["breaker"];
    match target["excluded"].as_str().unwrap_or_default() {
        "open" if breaker["state"] == "half_open" => {
            "its breaker is half open, and its trials are under way".to_owned()
        }
        "open" => {
            let reason = match breaker["reason"].as_str().unwrap_or_default() {
                "run" => "of many failures in a row",
                "failed" | "quiet_failed" => "too many attempts failed",
                "slow" => "too many answers were slow",
                "trials" => "trials failed",
                _ => "it failed",
            };
            format!("its breaker is open because {reason}{}", after("tried again in"))
        }
        "ejected" => format!("it is far worse than its siblings{}", after("back in")),
        "unauthorized" => format!("its key is not accepted{}", after("tried again in")),
        "quota_used_up" => format!("its quota is used up{}", after("tried again in")),
        "rate_limited" => {
            format!("hardly anything of its rate limit is left{}", after("back in"))
        }
        "full" => {
            format!("{} attempts are under way, as many as it may have", target["in_flight"])
        }
        "incapable" => {
            let lacking = target["score"]["lacking"].as_array();
            let lacking: Vec<_> = lacking.into_iter().flatten().filter_map(Value::as_str).collect();
            format!("it lacks {}", lacking.join(" and "))
        }
        "drained" => {
            "an operator drained it; PATCH /admin/v1/targets/ID with {\"drained\": false} \
                      puts it back"
                .to_owned()
        }
        other => other.to_owned(),
    }
}

fn targets(list: &Value) -> &[Value] {
    list["data"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Columns as wide as their widest cell; names to the left, numbers to the right.
fn table(rows: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  "))?;
    }
    Ok(())
}

fn text(object: &Value, member: &str) -> String {
    object[member].as_str().unwrap_or("-").to_owned()
}

fn number(object: &Value, member: &str) -> f64 {
    object[member].as_f64().unwrap_or_default()
}

/// With a decimal only where that says something.
fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    if percent > 0.0 && percent < 10.0 && (percent - percent.round()).abs() >= 0.05 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn why_a_target_is_out_is_said_with_when_it_may_be_back() {
        let target = |excluded: &str, state: &str, reason: &str| {
            json!({
                "excluded": excluded,
                "ready_in_seconds": 11.2,
                "in_flight": 8,
                "breaker": { "state": state, "reason": reason },
                "score": { "lacking": ["tools", "vision"] },
            })
        };
        for (excluded, state, reason, words) in [
            ("open", "open", "run", "because of many failures in a row; tried again in 12 s"),
            ("open", "half_open", "run", "its trials are under way"),
            ("open", "open", "slow", "too many answers were slow"),
            ("ejected", "closed", "", "far worse than its siblings; back in 12 s"),
            ("full", "closed", "", "8 attempts are under way"),
            ("incapable", "closed", "", "it lacks tools and vision"),
            ("drained", "closed", "", "an operator drained it"),
        ] {
            let said = why(&target(excluded, state, reason));
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn which_answers_are_kept_is_said_with_what_a_semantic_cache_is_held_to() {
        let said = |cache: &Value| {
            let mut out = Vec::new();
            kept(cache, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(said(&Value::Null), "cache: off\n");
        let mut cache = json!({ "exact": true, "semantic": false, "ttl": "6h", "scope": "caller" });
        let exact = "cache: the same request of a key gets the same answer for 6h\n";
        assert_eq!(said(&cache), exact);
        cache["semantic"] = json!(true);
        cache["embedder"] = json!("small");
        cache["judge"] = json!("sim/tide-large");
        cache["max_error"] = json!(0.015);
        cache["shadow"] = json!(false);
        let semantic = "semantic cache: embedder small, judge sim/tide-large, at most 1.5 % of the \
                        answers given to other words wrong\n";
        assert_eq!(said(&cache), format!("{exact}{semantic}"));
        cache["shadow"] = json!(true);
        assert!(said(&cache).ends_with("shadow = true, so it learns and gives nothing\n"));
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["NAME", "N"], ["a", "1000"]].map(|row| row.map(str::to_owned).to_vec());
        let mut out = Vec::new();
        table(&rows, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME     N\na     1000\n");
    }

    #[test]
    fn shares_have_a_decimal_only_where_it_says_something() {
        let said = [0.0, 0.004, 0.05, 0.083, 0.734, 1.0].map(percent);
        assert_eq!(said, ["0 %", "0.4 %", "5 %", "8.3 %", "73 %", "100 %"]);
    }
}
