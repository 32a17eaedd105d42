//! What we answer, against OpenAI's own document.

use crate::sdk;
use crate::support::package;

#[test]
fn replies_are_as_openai_documents_them() {
    let spec = package().join("../shared/spec/openai-openapi.yaml");
    if !spec.exists() {
        println!("SKIPPED: OpenAI's document is not at {}", spec.display());
        return;
    }
    sdk::python("openai_schema.py", &[("SPEC", spec.as_os_str())]);
}
