//! Tests of what headers say of who calls.

use http::HeaderValue;

use super::*;

fn said(host: Option<&'static str>, origin: Option<&'static str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [(HOST, host), (ORIGIN, origin)] {
        headers.extend(value.map(|value| (name, HeaderValue::from_static(value))));
    }
    headers
}

#[test]
fn programs_of_this_machine_are_told_from_pages_of_the_world() {
    for (host, origin) in [
        (None, None),
        (Some("localhost"), None),
        (Some("LOCALHOST.:8080"), None),
        (Some("127.0.0.1:8080"), None),
        (Some("[::1]:8080"), None),
        (Some("192.168.1.7:8080"), None),
        (Some("gateway:8080"), None),
        (Some("chat.localhost:8080"), None),
        (Some("host.docker.internal:8080"), None),
        (Some("localhost:8080"), Some("http://localhost:3000")),
        (Some("localhost:8080"), Some("https://[::1]")),
    ] {
        assert!(is_from_here(&said(host, origin)), "{host:?} {origin:?}");
    }
    for (host, origin) in [
        (Some("evil.example"), None),
        (Some("evil.example:8080"), None),
        (Some("127.0.0.1.evil.example:8080"), None),
        (Some("localhost.evil.example"), None),
        (Some("evil-localhost.example"), None),
        (Some(""), None),
        (Some("."), None),
        (Some("a b"), None),
        (Some("user@evil.example"), None),
        (Some("localhost@evil.example:80"), None),
        (Some("localhost:8080"), Some("https://evil.example")),
        (Some("localhost:8080"), Some("https://localhost.evil.example")),
        (Some("localhost:8080"), Some("null")),
        (Some("localhost:8080"), Some("file://")),
        (Some("localhost:8080"), Some("chrome-extension://abcdef")),
    ] {
        assert!(!is_from_here(&said(host, origin)), "{host:?} {origin:?}");
    }
    let mut twice = said(Some("localhost"), None);
    twice.append(HOST, HeaderValue::from_static("evil.example"));
    assert!(!is_from_here(&twice));
}
