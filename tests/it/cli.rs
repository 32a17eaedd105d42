//! The program from a terminal: what it says, and its exit codes.

use tidegate::clock::Instant;

use crate::support::{ADMIN_KEY, EVERY_SIM, PATIENCE, Program, run};

#[test]
fn help_of_each_command_has_an_example() {
    for command in ["serve", "check", "explain", "keys", "rollout", "sim", "usage"] {
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
fn a_configuration_can_be_looked_at_without_the_keys_of_its_providers() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keyed.toml");
    let config = "[providers.openai]\n[providers.far]\ndialect = \"openai-chat\"\n\
                  base_url = \"http://127.0.0.1:1/v1\"\nmodels = [{ id = \"alpha\" }]\n\
                  credentials = [{ env = \"NO_SUCH_KEY\" }, { file = \"/no/such/key\" }]\n";
    std::fs::write(&file, config).expect("written");
    let path = file.display().to_string();
    for command in [&["check"][..], &["explain", "--model", "far/alpha"]] {
        let output = run([command, &["--config", &path]].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
        for words in ["OPENAI_API_KEY", "NO_SUCH_KEY is not set", "/no/such/key cannot be read"] {
            assert!(said.contains(words), "{command:?}: {said}");
        }
        let output = run([command, &["--config", &path, "--without-keys"]].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{command:?}: {said}");
    }
}

#[test]
fn a_gateway_whose_database_cannot_be_made_does_not_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, blocked) = (folder.path().join("gate.toml"), folder.path().join("blocked"));
    std::fs::write(&blocked, "no folder").expect("written");
    let url = format!("sqlite:{}/tidegate.db", blocked.display());
    let config = format!("[store]\nurl = \"{url}\"\nsnapshot = \"\"\n[providers.sim]\n");
    std::fs::write(&file, config).expect("written");
    let output = run(["serve", "--listen", "127.0.0.1:0", "--config", &file.display().to_string()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot make the folder") && said.contains("store.url"), "{said}");
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

#[test]
fn usage_is_shown_as_a_table_as_json_and_for_spreadsheets() {
    let gateway = Program::bare_gateway();
    let body = r#"{"model":"tide-small","messages":[{"role":"user","content":"Hello"}]}"#;
    let tags = [("x-tidegate-tags", "team=search")];
    assert_eq!(gateway.ask("POST /v1/chat/completions", &tags, body).status, 200);
    let usage = |more: &[&str]| {
        let url = gateway.url();
        let by = ["usage", "--group-by", "tag:team,model", "--where", "tag:team=search"];
        let at = ["--url", &url, "--admin-key", ADMIN_KEY];
        let output = run(by.iter().chain(&at).chain(more));
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // The journal is written a moment later.
    let deadline = Instant::now() + PATIENCE;
    let (code, table) = loop {
        let (code, table) = usage(&[]);
        if table.contains("search") || Instant::now() > deadline {
            break (code, table);
        }
    };
    assert_eq!(code, Some(0), "{table}");
    assert!(table.starts_with("MODEL") || table.starts_with("TAG:TEAM"), "{table}");
    assert!(table.contains("tide-small"), "{table}");
    let (_, csv) = usage(&["--csv"]);
    assert!(csv.starts_with("tag:team,model,requests,"), "{csv}");
    assert!(csv.contains("\r\nsearch,tide-small,1,1,0,"), "{csv}");
    let (_, json) = usage(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["data"][0]["group"]["tag:team"], "search", "{json}");
    let (code, _) = usage(&["--where", "moon"]);
    assert_eq!(code, Some(2));
}

const KEEPING: &str = r#"
[providers.sim]
[routes.faq]
targets = [{ model = "sim/tide-small" }]
cache = { exact = true }
"#;

#[test]
fn the_cache_is_shown_and_purged_from_a_terminal() {
    let gateway = Program::gateway(KEEPING);
    let url = gateway.url();
    let cache = |words: &str| {
        let at = ["--url", &url, "--admin-key", ADMIN_KEY];
        let output = run(["cache"].into_iter().chain(words.split(' ')).chain(at));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let empty = "0 answers, 0 bytes of 256MB\nno route was asked yet that keeps answers; one does \
                 with `cache = { exact = true }`\n";
    assert_eq!(cache("show"), (Some(0), empty.to_owned(), String::new()));
    let nothing = (Some(0), "0 answers of this node are forgotten\n".to_owned(), String::new());
    assert_eq!(cache("purge --all"), nothing);

    let ask = |question: &str| {
        let message = format!(r#"{{"role":"user","content":"{question}"}}"#);
        let body = format!(r#"{{"model":"faq","messages":[{message}]}}"#);
        let reply = gateway.post("/v1/chat/completions", &body);
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    ["What is a tide?", "What is a tide?", "What is a gate?"].into_iter().for_each(ask);
    let (code, shown, _) = cache("show");
    let lines: Vec<_> = shown.lines().collect();
    assert!(
        lines[0].starts_with("2 answers, ") && lines[0].ends_with(" bytes of 256MB"),
        "{shown}"
    );
    assert_eq!(lines[1], "ROUTE  HITS  MISSES  HIT RATIO  SAVED USD", "{shown}");
    assert!(lines[2].starts_with("faq    1     2       0.3333     0.0000"), "{shown}");
    assert_eq!((code, lines.len()), (Some(0), 3), "{shown}");
    let (_, json, _) = cache("show --json");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["entries"], &json["routes"][0]["hits"]), (&2.into(), &1.into()), "{json}");

    assert_eq!(cache("purge --route other --tag env=prod"), nothing);
    let (_, purged, _) = cache("purge --route faq --json");
    let purged: serde_json::Value = serde_json::from_str(&purged).expect("JSON");
    assert_eq!(purged["purged"], 2);
    ask("What is a tide?");
    assert_eq!(cache("purge --all").1, "1 answer of this node is forgotten\n");

    for (words, said) in [
        ("purge", "--team <ID>|--caller <ID>|--route <NAME>"),
        ("purge --rout faq", "'--route'"),
        ("purge --all --route faq", "cannot be used with"),
        ("purge --tag prod", "write it like env=prod"),
        ("sho", "'show'"),
        ("show --url http://127.0.0.1:1 --json", ""),
    ] {
        let (code, out, err) = cache(words);
        assert_eq!(code, Some(2), "{words}: {out}{err}");
        assert!(err.contains(said), "{words}: {out}{err}");
    }
}
