//! Golden cases: what a request, an answer or a stream means, and how it is written again. Review
//! changes with `cargo insta review`.

use std::fs;
use std::path::Path;

use super::*;

/// Compares beside the case's own file.
fn beside(path: &Path, check: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(path.parent().unwrap());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_suffix("");
    settings.set_omit_expression(true);
    settings.bind(check);
}

#[test]
fn requests_mean_what_they_meant() {
    insta::glob!("../../../..", "tests/golden/openai-chat/*/request.json", |path| {
        let chat = codec().decode_request(&fs::read(path).unwrap()).unwrap();
        let quirks = Quirks::default();
        let target = RequestTarget {
            model: "acme-1",
            label: "acme/acme-1",
            quirks: &quirks,
            output_tokens: None,
        };
        let wire = codec().encode_request(&chat, &target, &mut Dropped::default()).unwrap();
        let wire: Value = serde_json::from_slice(&wire.body).unwrap();
        beside(path, || {
            insta::assert_json_snapshot!("request.decoded", chat);
            insta::assert_json_snapshot!("request.written", wire);
        });
    });
}

#[test]
fn answers_mean_what_they_meant() {
    insta::glob!("../../../..", "tests/golden/openai-chat/*/reply.json", |path| {
        let completion = codec().decode_reply(&fs::read(path).unwrap()).unwrap();
        let written = codec().encode_reply(&completion, &context());
        let written: Value = serde_json::from_slice(&written).unwrap();
        beside(path, || {
            insta::assert_json_snapshot!("reply.decoded", completion);
            insta::assert_json_snapshot!("reply.written", written);
        });
    });
}

#[test]
fn streams_mean_what_they_meant() {
    insta::glob!("../../../..", "tests/golden/openai-chat/*/stream.sse", |path| {
        let deltas = decode_stream(&fs::read(path).unwrap()).unwrap();
        let written = String::from_utf8(encode_stream(&deltas)).unwrap();
        beside(path, || {
            insta::assert_json_snapshot!("stream.decoded", deltas);
            insta::assert_snapshot!("stream.written", written);
        });
    });
}
