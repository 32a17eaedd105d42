//! A Redis server of one test.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A running `redis-server`, or one that was stopped.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    port: u16,
    password: Option<&'static str>,
    folder: TempDir,
}

// === impl Redis ===

impl Redis {
    /// Starts an empty one on a free port. `None` where `SERVER_TESTS=skip` says that there is
    /// none.
    ///
    /// # Panics
    ///
    /// Where Redis is missing or does not start: a test that was not run did not pass.
    pub(crate) fn start() -> Option<Self> {
        Self::with(None)
    }

    /// Starts one that asks for a password.
    pub(crate) fn with_password(password: &'static str) -> Option<Self> {
        Self::with(Some(password))
    }

    fn with(password: Option<&'static str>) -> Option<Self> {
        if is_skipped() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        // Between looking for a port and using it, another may take it.
        for _ in 0..20 {
            let port = free_port();
            if let Some(child) = spawn(&folder, port, password) {
                return Some(Self { child, port, password, folder });
            }
        }
        panic!("redis-server does not start");
    }

    /// A port where none runs yet, and what starts one there.
    pub(crate) fn later() -> Option<(u16, impl FnOnce() -> Self)> {
        if is_skipped() {
            return None;
        }
        let port = free_port();
        let start = move || {
            let folder = tempfile::tempdir().expect("a folder");
            let child = spawn(&folder, port, None).expect("the port is still free");
            Self { child, port, password: None, folder }
        };
        Some((port, start))
    }

    /// Where it is, as the configuration takes it.
    pub(crate) fn url(&self) -> String {
        let login = self.password.map_or(String::new(), |password| format!(":{password}@"));
        format!("redis://{login}127.0.0.1:{}", self.port)
    }

    /// Ends it at once, as a crash would. It kept nothing on disk.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it ends");
        self.child.wait().expect("it ended");
    }

    /// Starts it again, empty, where it was.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.folder, self.port, self.password).expect("it starts again");
    }

    /// Stops it without ending it: its connections stay, and it answers nothing.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    /// A connection for looking behind the gateway's back.
    pub(crate) fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("a client");
        client.get_connection().expect("a connection")
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("sh runs");
        assert!(status.success(), "{kill}: {status}");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended before.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

const MISSING: &str = "Redis is missing: `scripts/need redis` installs it, SERVER_TESTS=skip leaves \
                       out what needs it";

fn is_skipped() -> bool {
    std::env::var_os("SERVER_TESTS").is_some_and(|tests| tests == "skip")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
    listener.local_addr().expect("its address").port()
}

/// Starts a server and waits until it takes connections; none where it ends before that.
fn spawn(folder: &TempDir, port: u16, password: Option<&str>) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--appendonly", "no", "--daemonize", "no"]);
    command.args(password.iter().flat_map(|password| ["--requirepass", password]));
    let mut child = command
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect(MISSING);
    let mut log = BufReader::new(child.stdout.take().expect("its output"));
    let mut line = String::new();
    while log.read_line(&mut line).is_ok_and(|read| read > 0) {
        if line.contains("Ready to accept connections") {
            // A pipe without a reader would break what it says later.
            child.stdout = Some(log.into_inner());
            return Some(child);
        }
        line.clear();
    }
    _ = child.wait();
    None
}
