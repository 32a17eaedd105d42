//! Tests of receivers.

use super::*;

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn urls_are_taken_apart_and_put_together_again() {
    for (url, host, port, path) in [
        ("https://example.com", "example.com", 443, "/"),
        ("https://Example.com:8443/a/b?c=d", "example.com", 8443, "/a/b?c=d"),
        ("http://127.0.0.1:9/x", "127.0.0.1", 9, "/x"),
        ("https://[2606:4700::1111]/", "2606:4700::1111", 443, "/"),
        ("https://example.com?token=1", "example.com", 443, "/?token=1"),
    ] {
        let receiver: Receiver = url.parse().unwrap();
        assert_eq!((&*receiver.host, receiver.port, &*receiver.path), (host, port, path), "{url}");
        assert_eq!(receiver.to_string().parse::<Receiver>().unwrap(), receiver, "{url}");
    }
}

#[test]
fn what_is_no_receiver_is_refused_with_the_rule() {
    let long = format!("https://example.com/{}", "x".repeat(2_000));
    for (url, rule) in [
        ("", "a URL like"),
        ("example.com/x", "https://"),
        ("ftp://example.com", "https://"),
        ("file:///etc/passwd", "a URL like"),
        ("https://", "a URL like"),
        ("https://user:password@example.com", "user or a password"),
        ("https://example.com/#x", "fragment"),
        ("https://example.com:0/", "a URL like"),
        ("https://example.com:99999/", "a URL like"),
        ("https://[fe80::1%25eth0]/", "a URL like"),
        ("https://exa mple.com/", "a URL like"),
        ("https://example.com/caf\u{e9}", "%C3%A9"),
        ("https://example.com/?a=\u{e9}", "%C3%A9"),
        (&long, "2000"),
    ] {
        let error = url.parse::<Receiver>().unwrap_err().to_string();
        assert!(error.contains(rule), "{url}: {error}");
    }
}

#[test]
fn addresses_of_the_inside_are_refused_in_every_notation() {
    for host in [
        "127.0.0.1",
        "localhost",
        "a.localhost",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "127.1",
        "017700000001",
        "0177.0.0.1",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "10.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a00:1]",
        "0",
        "0.0.0.0",
    ] {
        let receiver: Receiver = format!("https://{host}/x").parse().unwrap();
        let error = receiver.check(&[]).unwrap_err().to_string();
        assert!(error.contains("webhooks.allow_private"), "{host}: {error}");
    }
    for host in ["8.8.8.8", "134744072", "example.com", "1.2.3.4.5", "0x.example", "256.1.1.1"] {
        let receiver: Receiver = format!("https://{host}/x").parse().unwrap();
        receiver.check(&[]).unwrap_or_else(|error| panic!("{host}: {error}"));
    }
}

#[test]
fn without_tls_only_the_operators_own_networks_are_sent_to() {
    let allowed = networks(&["127.0.0.0/8"]);
    let check = |url: &str, allowed: &[Network]| url.parse::<Receiver>().unwrap().check(allowed);
    check("http://127.0.0.1:80/x", &allowed).unwrap();
    check("http://in.house/x", &allowed).unwrap();
    check("http://in.house/x", &[]).unwrap_err();
    check("http://8.8.8.8/x", &allowed).unwrap_err();
    let named: Receiver = "http://in.house/x".parse().unwrap();
    assert!(named.may_connect("127.0.0.9".parse().unwrap(), &allowed));
    assert!(!named.may_connect("8.8.8.8".parse().unwrap(), &allowed));
    assert!(!named.may_connect("10.0.0.1".parse().unwrap(), &allowed));
    let encrypted: Receiver = "https://in.house/x".parse().unwrap();
    assert!(encrypted.may_connect("8.8.8.8".parse().unwrap(), &allowed));
    assert!(!encrypted.may_connect("10.0.0.1".parse().unwrap(), &allowed));
}
