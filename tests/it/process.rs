//! The real program on real sockets, and a client that says exactly what it is told to.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tidegate::clock::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const ADMIN_KEY: &str = "the-admin-key";

/// A running program; killed when dropped.
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    pub(crate) child: Child,
    folder: TempDir,
}

/// An answer, its body read to the end and without its chunks.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    /// Whether all of it came.
    pub(crate) is_whole: bool,
}

// === impl Program ===

impl Program {
    /// `tidegate serve` with this configuration, on a free port, its state in a folder of its own.
    pub(crate) fn serve(config: &str) -> Self {
        Self::serve_in(tempfile::tempdir().unwrap(), config, None)
    }

    /// The same in a folder that may hold the state of an earlier run. `shell` runs before it.
    pub(crate) fn serve_in(folder: TempDir, config: &str, shell: Option<&str>) -> Self {
        let file = folder.path().join("tidegate.toml");
        std::fs::write(&file, config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let binary = env!("CARGO_BIN_EXE_tidegate");
        let mut command = match shell {
            None => Command::new(binary),
            Some(shell) => {
                let mut command = Command::new("sh");
                command.args(["-c", &format!("{shell}; exec \"$0\" \"$@\""), binary]);
                command
            }
        };
        command.args(["serve", "--listen", &address.to_string(), "--config"]).arg(file);
        Self::start(command, address, folder)
    }

    /// `tidegate sim` on a free port.
    pub(crate) fn sim(scenario: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scenario.toml");
        std::fs::write(&file, scenario).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["sim", "--listen", "127.0.0.1:0", "--json", "--scenario"]).arg(file);
        Self::start(command, "127.0.0.1:0".parse().unwrap(), folder)
    }

    /// `tidegate serve` over this simulator's socket, which is the provider `far` with the model
    /// `alpha`. Callers need no key.
    pub(crate) fn serve_far(sim: &Self, config: &str) -> Self {
        Self::serve(&format!(
            r#"
            [auth]
            mode = "open"
            [providers.far]
            dialect = "openai-chat"
            base_url = "http://{}/v1"
            credentials = [{{ none = true }}]
            models = [{{ id = "alpha" }}]
            {config}
            "#,
            sim.address
        ))
    }

    /// Tells it to stop, as operators do.
    pub(crate) fn ask_to_stop(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Waits until it has stopped, and well.
    pub(crate) async fn stopped(mut self) -> Self {
        let waiting = tokio::task::spawn_blocking(move || (self.child.wait().unwrap(), self));
        let (code, stopped) = timeout(PATIENCE, waiting).await.expect("it stops").unwrap();
        assert!(code.success(), "{code}");
        stopped
    }

    fn start(mut command: Command, mut address: SocketAddr, folder: TempDir) -> Self {
        let errors = folder.path().join("stderr.log");
        let mut child = command
            .current_dir(folder.path())
            .env_clear()
            .env("TIDEGATE_ADMIN_KEY", ADMIN_KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&errors).unwrap())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The line that says it listens; none comes where it ends instead.
        let said = lines.by_ref().map_while(Result::ok).find(|line| line.contains("127.0.0.1:"));
        let Some(said) = said else {
            let said = std::fs::read_to_string(errors).unwrap_or_default();
            panic!("the program ended: {:?}, {said}", child.wait());
        };
        if let Ok(said) = serde_json::from_str::<Value>(&said) {
            address = said["listen"].as_str().unwrap().parse().unwrap();
        }
        // What it says later must not fill the pipe and stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { address, child, folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `kill -9`; gives the folder to whoever comes next.
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Sends bytes on a connection of their own and reads the answer.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect().await;
        // Whoever answers early may close before it has read everything.
        let _ = timeout(PATIENCE, stream.write_all(bytes.as_ref())).await.expect("it is read");
        read_answer(&mut stream).await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\nconnection: close\r\n\r\n"
        ))
        .await
    }

    pub(crate) async fn get_json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        answer.json()
    }

    /// Posts JSON.
    pub(crate) async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send(post(path, body.as_ref())).await
    }

    /// The value of a metric, its lines added up.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let all = self.get("/metrics").await.body;
        let lines = all.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Value::Null;
        let came = eventually(PATIENCE, async || {
            seen = self.get_json(path).await;
            is_so(&seen)
        });
        assert!(came.await, "{path} stays {seen}");
        seen
    }

    /// Kilobytes of memory in use.
    pub(crate) fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again and again whether something is so, for so long at most. Whether it is.
pub(crate) async fn eventually(patience: Duration, mut is_so: impl AsyncFnMut() -> bool) -> bool {
    let started = Instant::now();
    while !is_so().await {
        if started.elapsed() >= patience {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

/// A `POST` on a connection that closes afterwards.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Reads until the connection closes.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    loop {
        match timeout(PATIENCE, stream.read_buf(&mut bytes)).await.expect("it answers in time") {
            Ok(0) | Err(_) => return Answer::of(&bytes),
            Ok(_) => {}
        }
    }
}

// === impl Answer ===

impl Answer {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            let head = text.into_owned();
            return Self { status: 0, head, body: String::new(), is_whole: false };
        };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let head = head.to_ascii_lowercase();
        let (body, is_whole) = if head.contains("transfer-encoding: chunked") {
            dechunk(body)
        } else {
            (body.to_owned(), true)
        };
        Self { status, head, body, is_whole }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map_or("", str::trim)
    }
}

/// The bytes within chunks, and whether the last chunk came.
fn dechunk(body: &str) -> (String, bool) {
    let mut rest = body.as_bytes();
    let mut out = Vec::new();
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        rest = &rest[end + 2..];
        if size == 0 {
            return (String::from_utf8(out).unwrap(), true);
        }
        if rest.len() < size + 2 {
            out.extend_from_slice(rest);
            break;
        }
        out.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
    (String::from_utf8_lossy(&out).into_owned(), false)
}
