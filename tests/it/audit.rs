//! What is in the audit log though nobody asked for it by the admin API.

use serde_json::{Value, json};

use crate::process::{PATIENCE, Program, eventually};

/// The newest change, once `actor` has made one.
async fn change_by(gate: &Program, actor: &str) -> Value {
    let path = format!("/admin/v1/audit?actor={actor}");
    let shown = gate.until(&path, |page| page["data"].get(0).is_some()).await;
    assert_eq!(shown["data"].as_array().map(Vec::len), Some(1), "{shown}");
    shown["data"][0].clone()
}

async fn revision(gate: &Program) -> Value {
    json!({ "revision": gate.get_json("/admin/v1/config").await["revision"] })
}

#[tokio::test]
async fn a_changed_file_and_a_signal_are_in_the_audit_log() {
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("key");
    std::fs::write(&secret, "one").unwrap();
    // Its log lies in the folder that is watched, and would be a change there.
    let log = "[telemetry]\nlog = \"off\"\n";
    let config = format!("{log}[providers.openai]\ncredentials = [{{ file = {secret:?} }}]\n");
    let gate = Program::serve(&config);
    let first = revision(&gate).await;

    // A folder that is watched.
    std::fs::write(gate.folder().join("tidegate.toml"), format!("{config}[providers.sim]\n"))
        .unwrap();
    let by_file = change_by(&gate, "file").await;
    let second = revision(&gate).await;
    assert_eq!(
        (&by_file["action"], &by_file["resource"]),
        (&json!("config.reload"), &json!("config"))
    );
    assert_eq!((&by_file["before"], &by_file["after"]), (&first, &second));
    assert_ne!(first, second);

    // One that is not.
    std::fs::write(&secret, "two").unwrap();
    let own = gate.child.id().to_string();
    let sent = std::process::Command::new("kill").args(["-HUP", &own]).status().unwrap();
    assert!(sent.success());
    let by_signal = change_by(&gate, "signal").await;
    assert_eq!((&by_signal["before"], &by_signal["after"]), (&second, &revision(&gate).await));
    assert_ne!(by_signal["after"], second);

    // A reload that changes nothing is no change. It must be over before the file changes again.
    let reloads = gate.metric("tidegate_config_reloads_total").await;
    let sent = std::process::Command::new("kill").args(["-HUP", &own]).status().unwrap();
    assert!(sent.success());
    let is_over = async || gate.metric("tidegate_config_reloads_total").await > reloads;
    assert!(eventually(PATIENCE, is_over).await);
    std::fs::write(gate.folder().join("tidegate.toml"), config).unwrap();
    let both = |page: &Value| page["data"].as_array().map(Vec::len) == Some(2);
    gate.until("/admin/v1/audit?actor=file", both).await;
    change_by(&gate, "signal").await;
}
