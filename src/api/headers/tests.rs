//! Tests of what headers ask for.

use http::HeaderValue;

use super::*;

fn wishes(headers: &[(&'static str, &str)]) -> Result<Wishes, Rejection> {
    let headers = headers.iter().map(|(name, value)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    });
    Wishes::read(&headers.collect())
}

#[test]
fn a_request_without_headers_wishes_for_nothing() {
    assert_eq!(wishes(&[]).unwrap(), Wishes::default());
}

#[test]
fn every_header_is_read() {
    let all = [
        ("x-tidegate-timeout-ms", "1500"),
        ("x-tidegate-priority", " 4 "),
        ("x-tidegate-midstream", "continue"),
        ("x-tidegate-user", "user 17"),
        ("x-stainless-retry-count", "2"),
        ("x-resumable", "true"),
        ("x-tidegate-cache", "exact"),
        ("cache-control", "No-Cache, max-age=\"60\", only-if-odd"),
        ("x-tidegate-tags", "team=search, env="),
    ];
    let tag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = Wishes {
        timeout: Some(Duration::from_millis(1_500)),
        priority: Some(Priority::LOWEST),
        midstream: Midstream::Continue,
        sticky: Some("user 17".to_owned()),
        client_retries: 2,
        resumable: true,
        cache: CacheWish {
            mode: Some(CacheMode::Exact),
            no_store: false,
            no_cache: true,
            max_age: Some(Duration::from_secs(60)),
        },
        tags: vec![tag("team", "search"), tag("env", "")],
    };
    assert_eq!(wishes(&all).unwrap(), expected);
    let defaults = [("x-tidegate-midstream", "terminate"), ("x-resumable", "false")];
    assert_eq!(wishes(&defaults).unwrap(), Wishes::default());
}

#[test]
fn a_header_that_means_nothing_is_refused_by_name() {
    let long = "x".repeat(257);
    let cases = [
        ("x-tidegate-timeout-ms", ["", "0", "86400001", "1.5", "-1", "soon"].as_slice()),
        ("x-tidegate-priority", &["", "5", "-1", "+1", "02", "high", "1,2"]),
        ("x-tidegate-midstream", &["", "restart", "Continue"]),
        ("x-tidegate-user", &["", "  ", &long, "J\u{fc}rgen"]),
        ("x-stainless-retry-count", &["", "-1", "4294967296", "one"]),
        ("x-resumable", &["", "1", "yes", "TRUE"]),
        ("x-tidegate-cache", &["", "on", "Exact"]),
        ("x-tidegate-tags", &["", "team", "=search", "team=search,,"]),
    ];
    for (name, values) in cases {
        for value in values {
            let rejection = wishes(&[(name, value)]).unwrap_err();
            assert_eq!(rejection.face().status, 400, "{name}: {value}");
            assert_eq!(rejection.param(), Some(name), "{value}");
            assert!(rejection.to_string().contains(&format!("`{name}` must ")), "{rejection}");
        }
    }
}

#[test]
fn the_preference_for_a_later_answer_is_found_among_others() {
    let prefers = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("prefer", HeaderValue::from_static(value));
        }
        prefers_async(&headers)
    };
    for values in [
        &["respond-async"][..],
        &["Respond-Async"],
        &["wait=10, respond-async"],
        &["respond-async; foo=\"bar\""],
        &["return=minimal", " respond-async ,wait=1"],
    ] {
        assert!(prefers(values), "{values:?}");
    }
    for values in [&[][..], &["wait=10"], &["respond-asynchronously"], &["return=respond-async"]] {
        assert!(!prefers(values), "{values:?}");
    }
}
