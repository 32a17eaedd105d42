//! The program from a terminal: what it says, and its exit codes.

use crate::support::{EVERY_SIM, Program, run};

#[test]
fn help_of_each_command_has_an_example() {
    for command in ["serve", "check", "explain", "keys", "sim"] {
        let output = run([command, "--help"]);
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command}: {help}");
        assert!(
            help.contains("Example") && help.contains(&format!("\n  tidegate {command}")),
            "{command}: {help}"
        );
    }
}

#[test]
fn wrong_use_is_exit_code_2_and_names_the_way_out() {
    for arguments in [&["srve"][..], &["explain"], &["sim", "--listen", "everywhere"]] {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("--help"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_bare_gateway_answers_with_the_simulator() {
    let gateway = Program::bare_gateway();
    let body = r#"{"model":"tide-small","messages":[{"role":"user","content":"Hello"}]}"#;
    let reply = gateway.post("/v1/chat/completions", body);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("x-tidegate-served-by"), Some("sim/tide-small"), "{reply:?}");
    let reply = gateway.post("/v1/chat/completions", &body.replacen('{', r#"{"stream":true,"#, 1));
    assert!(reply.body.ends_with("data: [DONE]\n\n"), "{reply:?}");
}

#[test]
fn every_simulated_dialect_is_served_where_it_is_configured() {
    let gateway = Program::gateway(EVERY_SIM);
    let models = gateway.get("/v1/models").json();
    for id in ["sim/tide-embed", "sim-anthropic/tide-large", "sim-gemini/tide-small"] {
        let models = models["data"].as_array().expect("models");
        assert!(models.iter().any(|model| model["id"] == id), "{id}: {models:?}");
    }
}

#[test]
fn two_gateways_do_not_share_an_address() {
    let first = Program::bare_gateway();
    let output = run(["serve", "--listen", &first.address.to_string()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on {}", first.address)), "{said}");
}

#[test]
fn a_faulty_configuration_is_reported_with_its_line_and_exit_code_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("faulty.toml");
    std::fs::write(&file, "[server]\nlistn = \"127.0.0.1:1\"\n").expect("written");
    let path = file.display().to_string();
    for command in ["check", "serve"] {
        let output = run([command, "--config", &path]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(said.contains(&format!("{path}:2: server.listn")), "{command}: {said}");
        assert!(said.contains("listen"), "{command} suggests what was meant: {said}");
    }
}

#[test]
fn a_gateway_passes_requests_on_to_a_simulator_on_a_socket() {
    let sim = Program::sim(Some("tests/scenarios/two_providers.toml"));
    let gateway = Program::gateway(&format!(
        "[providers.far]\ndialect = \"openai-chat\"\nbase_url = \"{}/v1\"\n\
         credentials = [{{ none = true }}]\n[[providers.far.models]]\nid = \"steady\"\n",
        sim.url()
    ));
    let body = r#"{"model":"far/steady","messages":[{"role":"user","content":"Hello"}]}"#;
    let reply = gateway.post("/v1/chat/completions", body);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(sim.get("/sim/stats").json()["completed"], 1);
}
