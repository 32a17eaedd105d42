//! The sentences of many hosts.

use super::*;

#[test]
fn a_callers_fault_is_made_exact_by_its_words() {
    use FailureKind as K;
    for (message, kind) in [
        (
            "This model's maximum context length is 1048565 tokens. However, you …",
            K::ContextTooLong,
        ),
        ("prompt too long; exceeded max context length by 9 tokens", K::ContextTooLong),
        ("prompt is too long: 208310 tokens > 200000 maximum", K::ContextTooLong),
        ("input length and `max_tokens` exceed context limit: 9 + 9 > 10", K::ContextTooLong),
        ("The input token count (1200000) exceeds the maximum number of …", K::ContextTooLong),
        ("Input is too long for requested model.", K::ContextTooLong),
        ("request (2009 tokens) exceeds the available context size (512)", K::ContextTooLong),
        ("Invalid model: definitely-not-a-model", K::NotServed),
        ("invalid_model is not a valid model ID", K::NotServed),
        ("The provided model identifier is invalid.", K::NotServed),
        ("Invalid 'temperature': decimal above maximum value.", K::CallerFault),
        ("Model m does not support parameter reasoningEffort.", K::CallerFault),
    ] {
        assert_eq!(refine(K::CallerFault, message), kind, "{message}");
    }
    let long = "prompt is too long";
    assert_eq!(refine(K::RateLimited, long), K::RateLimited, "another kind says more");
}

#[test]
fn silence_is_put_into_words() {
    let said =
        |message: &str, body: &[u8]| or_silence(message.to_owned(), StatusCode::NOT_FOUND, body);
    assert_eq!(said("gone", b"{..}"), "gone");
    assert_eq!(said("", b" \r\n"), "the provider answered 404 with an empty body");
    assert_eq!(said(" ", b"{}"), "the provider answered 404 without a message");
}
