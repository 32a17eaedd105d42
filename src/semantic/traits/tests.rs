//! Tests of what is read out of texts.

use super::*;

fn differ(a: &str, b: &str) -> Option<Difference> {
    let (a, b) = (Traits::of(a), Traits::of(b));
    let found = agree(&a, &b).err();
    assert_eq!(agree(&b, &a).is_err(), found.is_some(), "not symmetric");
    found
}

#[test]
fn form_says_nothing() {
    for (a, b) in [
        ("How do I reset my password?", "how do i reset my password"),
        ("How do I reset my password?", "Hi, could you please tell me how to reset my password?"),
    ] {
        assert_eq!(differ(a, b), None, "{a} | {b}");
    }
}
