//! The real program, started for a test on a free port in a folder of its own.
//!
//! A started program dies with the value that stands for it. What it logged is shown when the test
//! that holds it panics.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tidegate::clock::Instant;

/// The admin key of every gateway that is started here.
pub(crate) const ADMIN_KEY: &str = "the-admin-key-of-the-tests";

/// Longer than anything here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running `tidegate serve` or `tidegate sim`.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where it runs, and keeps its database and its log.
    folder: TempDir,
}

/// An answer, read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The head after the status line, as it came.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A configuration with all three simulated dialects.
pub(crate) const EVERY_SIM: &str =
    "[providers.sim]\n[providers.sim-anthropic]\n[providers.sim-gemini]\n";

/// The program under test, with an environment that holds no provider's keys.
pub(crate) fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

/// Runs the program to its end.
pub(crate) fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    tidegate().args(arguments).stdin(Stdio::null()).output().expect("it runs")
}

/// Waits until something is so.
pub(crate) async fn eventually(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "it does not become so");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The folder of the package.
pub(crate) fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of the sentence model, or None where the tests are to be skipped.
#[cfg(feature = "local-embeddings")]
pub(crate) fn sentence_model() -> Option<std::path::PathBuf> {
    let wish = std::env::var_os("MODEL_TESTS");
    let home = package().join("target/models/all-MiniLM-L6-v2");
    let there = home.join("checked").exists();
    if wish.as_ref().is_some_and(|wish| wish == "skip") || (wish.is_none() && !there) {
        println!("SKIPPED: the sentence model is not installed; scripts/model-setup does it");
        return None;
    }
    assert!(there, "the sentence model is not installed: run scripts/model-setup");
    Some(home)
}

// === impl Program ===

impl Program {
    /// Starts a gateway with this text as its configuration, on a free port.
    pub(crate) fn gateway(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("tidegate.toml"), config).expect("written");
        Self::start(folder, &["serve", "--config", "tidegate.toml", "--listen", "127.0.0.1:0"])
    }

    /// Starts a gateway without a configuration and without any provider's key.
    pub(crate) fn bare_gateway() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::start(folder, &["serve", "--listen", "127.0.0.1:0"])
    }

    /// Starts simulated providers. The scenario is a path within the package.
    pub(crate) fn sim(scenario: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = scenario.map(|path| package().join(path).display().to_string());
        let mut arguments = vec!["sim", "--listen", "127.0.0.1:0"];
        if let Some(file) = &file {
            arguments.extend(["--scenario", file]);
        }
        Self::start(folder, &arguments)
    }

    fn start(folder: TempDir, arguments: &[&str]) -> Self {
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let mut child = tidegate()
            .args(arguments)
            .env("TIDEGATE_ADMIN_KEY", ADMIN_KEY)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("it starts");
        let mut said = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("its output"));
        let address = loop {
            let from = said.len();
            if lines.read_line(&mut said).expect("its output") == 0 {
                let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
                panic!("it ended before it listened: {said}{log}");
            }
            if let Some((_, address)) =
                said.get(from..).and_then(|line| line.split_once(" on http://"))
            {
                break address.trim().parse().expect("an address");
            }
        };
        // A pipe without a reader would break what is said later.
        child.stdout = Some(lines.into_inner());
        Self { child, address, folder }
    }

    /// Where it listens, as the front of a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Sends one request on a connection of its own and reads the answer to its end.
    pub(crate) fn ask(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        use std::fmt::Write as _;
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut head = format!("{line} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").expect("written");
        }
        if !body.is_empty() {
            head.push_str("content-type: application/json\r\n");
        }
        write!(head, "content-length: {}\r\n\r\n", body.len()).expect("written");
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(body.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the answer");
        Reply::parse(&answer)
    }

    /// Sends a body to a path.
    pub(crate) fn post(&self, path: &str, body: &str) -> Reply {
        self.ask(&format!("POST {path}"), &[], body)
    }

    /// Gets a path; of the admin API with its key.
    pub(crate) fn get(&self, path: &str) -> Reply {
        let key = format!("Bearer {ADMIN_KEY}");
        let headers = [("authorization", key.as_str())];
        let headers = if path.starts_with("/admin/") { &headers[..] } else { &[] };
        self.ask(&format!("GET {path}"), headers, "")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("what the program logged:\n{}", self.log());
        }
    }
}

// === impl Reply ===

impl Reply {
    fn parse(answer: &[u8]) -> Self {
        let text = String::from_utf8_lossy(answer);
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let (line, head) = head.split_once("\r\n").unwrap_or((head, ""));
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let reply = Self {
            status: status.expect("a status"),
            head: head.to_owned(),
            body: body.to_owned(),
        };
        match reply.header("transfer-encoding") {
            Some("chunked") => Self { body: whole(&reply.body), ..reply },
            _ => reply,
        }
    }

    /// The value of a header; its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The text of a chunked body. Chunks of a text may end within a character, so sizes are of bytes.
fn whole(chunked: &str) -> String {
    let mut rest = chunked.as_bytes();
    let mut bytes = Vec::new();
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let (size, after) = rest.split_at(end);
        let size =
            std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.expect("a chunk's size");
        if size == 0 {
            break;
        }
        let data = after.get(2..2 + size).expect("a whole chunk");
        bytes.extend_from_slice(data);
        rest = after.get(2 + size + 2..).unwrap_or_default();
    }
    String::from_utf8(bytes).expect("text")
}
