//! Tests of signatures: the standard's own vector, and receivers that check.

use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::*;

const VECTOR_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

#[test]
fn the_vector_of_the_standard_comes_out() {
    let secret = SigningSecret::parse(VECTOR_SECRET).unwrap();
    let body = r#"{"email":"test@example.com","username":"test_user"}"#;
    let signature = sign(&[&secret], "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body);
    assert_eq!(signature, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
}

/// HMAC-SHA256 (RFC 2104) written out, so that the crate is not checked by itself alone.
fn by_hand(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |byte: u8| block.map(|key| key ^ byte);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

#[test]
fn another_hand_comes_to_the_same_signature() {
    let key = [7; 32];
    let secret = SigningSecret::of(&key);
    let expected = by_hand(&key, "msg_1.1.{\"ä\":1}".as_bytes());
    let expected = format!("v1,{}", STANDARD.encode(expected));
    assert_eq!(sign(&[&secret], "msg_1", 1, "{\"ä\":1}"), expected);
}

fn headers(signature: &str, seconds: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", "msg_1".parse().unwrap());
    headers.insert("webhook-timestamp", seconds.to_string().parse().unwrap());
    headers.insert("webhook-signature", signature.parse().unwrap());
    headers
}

#[test]
fn receivers_with_either_secret_accept_a_webhook_during_a_rotation_and_others_none() {
    let (old, new, other) =
        (SigningSecret::of(&[1; 32]), SigningSecret::of(&[2; 32]), SigningSecret::of(&[3; 32]));
    #[expect(clippy::disallowed_methods, reason = "the crate compares with the system's clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let signature = sign(&[&new, &old], "msg_1", now, "{}");
    assert_eq!(signature.split(' ').count(), 2, "{signature}");
    let verify = |secret: &SigningSecret, body: &[u8], seconds: u64| {
        Webhook::new(secret.reveal()).unwrap().verify(body, &headers(&signature, seconds)).is_ok()
    };
    assert!(verify(&old, b"{}", now));
    assert!(verify(&new, b"{}", now));
    assert!(!verify(&other, b"{}", now), "a secret that nobody signed with");
    assert!(!verify(&new, b"{ }", now), "another body");
    assert!(!verify(&new, b"{}", now - 1), "another second");
    let late = sign(&[&new], "msg_1", now - 600, "{}");
    let late = headers(&late, now - 600);
    assert!(Webhook::new(new.reveal()).unwrap().verify(b"{}", &late).is_err(), "ten minutes old");
}

#[test]
fn what_is_no_secret_is_refused_and_a_secret_does_not_print() {
    let short = format!("whsec_{}", STANDARD.encode([0; 23]));
    let long = format!("whsec_{}", STANDARD.encode([0; 65]));
    for text in [
        "",
        "whsec_",
        "secret",
        "whsec_###",
        &short,
        &long,
        VECTOR_SECRET.trim_start_matches("whsec_"),
    ] {
        assert_eq!(SigningSecret::parse(text), Err(SecretError), "{text}");
    }
    let secret = SigningSecret::of(&[9; 32]);
    assert_eq!(SigningSecret::parse(secret.reveal()).unwrap(), secret);
    assert_eq!(format!("{secret:?}"), "<secret>");
}
