//! Tests of the address rules.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn addresses_of_the_inside_are_not_public() {
    for inside in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.9",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "64:ff9b:1::1",
        "100::1",
        "2001:db8::1",
        "2001:0:1::1",
        "3fff::1",
        "5f00::1",
    ] {
        assert!(!is_public(ip(inside)), "{inside}");
        assert!(!may_receive(ip(inside), &[]), "{inside}");
    }
}

#[test]
fn an_ipv6_address_that_carries_an_ipv4_address_is_judged_by_it() {
    for inside in [
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:7f00:1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::10.0.0.1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
    ] {
        assert!(!is_public(ip(inside)), "{inside}");
    }
    for outside in ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"] {
        assert!(is_public(ip(outside)), "{outside}");
    }
}

#[test]
fn addresses_of_everybody_are_public() {
    for outside in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "128.0.0.1",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450::1",
    ] {
        assert!(is_public(ip(outside)), "{outside}");
    }
}

#[test]
fn networks_that_the_operator_allows_are_let_through_and_no_others() {
    let allowed: Vec<Network> =
        ["127.0.0.1", "10.20.0.0/16", "fd00::/8"].map(|text| text.parse().unwrap()).into();
    for inside in ["127.0.0.1", "10.20.255.1", "fd12::1", "::ffff:10.20.0.1"] {
        assert!(may_receive(ip(inside), &allowed), "{inside}");
    }
    for outside in ["127.0.0.2", "10.21.0.1", "fe80::1", "::1"] {
        assert!(!may_receive(ip(outside), &allowed), "{outside}");
    }
    let everything: Network = "0.0.0.0/0".parse().unwrap();
    assert!(everything.contains(ip("127.0.0.1")));
    assert!(!everything.contains(ip("::1")));
}

#[test]
fn what_is_no_network_is_refused_with_what_would_be_right() {
    for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "localhost", "10.0.0.0/-1", "10.0.0.0/x"]
    {
        let error = text.parse::<Network>().unwrap_err().to_string();
        assert!(error.contains("10.0.0.0/8"), "{text}: {error}");
    }
    assert_eq!("10.0.0.0/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
    assert_eq!("::1".parse::<Network>().unwrap().to_string(), "::1/128");
}
