//! A PostgreSQL of a test's own: on a free port, in a folder of its own, gone with the test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;

/// A running server with one empty database. It ends with this value, and with the thread that
/// started it where that is killed.
#[derive(Debug)]
pub(crate) struct PostgresServer {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    server: Option<Child>,
}

/// The user under which a server runs that root starts: it refuses to be root.
const USER: &str = "postgres";
/// How often it is looked whether the server answers, and after which pause.
const LOOKS: u32 = 600;
const PAUSE: Duration = Duration::from_millis(50);

// === impl PostgresServer ===

impl PostgresServer {
    /// Starts one. `None` where `SERVER_TESTS=skip` says that there is none.
    ///
    /// # Panics
    ///
    /// Where PostgreSQL is missing or does not start: a test that was not run did not pass.
    pub(crate) fn start() -> Option<Self> {
        if std::env::var_os("SERVER_TESTS").is_some_and(|tests| tests == "skip") {
            return None;
        }
        let Some(programs) = programs() else {
            panic!(
                "PostgreSQL is missing: `scripts/need postgres` installs it, SERVER_TESTS=skip \
                 leaves out what needs it"
            );
        };
        let folder = tempfile::tempdir().expect("a folder");
        if is_root() {
            let user = format!("{USER}:");
            let changed = Command::new("chown").arg(user).arg(folder.path()).status();
            assert!(changed.is_ok_and(|it| it.success()), "there is no user `{USER}`");
        }
        let mut server = Self { programs, folder, port: 0, server: None };
        let made = server
            .command("initdb")
            .args(["-N", "-A", "trust", "-U", "tidegate", "-E", "UTF8", "--locale", "C"])
            .arg("-D")
            .arg(server.state())
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.start_again();
        Some(server)
    }

    /// Where its database is.
    pub(crate) fn url(&self) -> String {
        format!("postgres://tidegate@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it as a crash would: connections break, nothing is said.
    pub(crate) fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // An immediate shutdown takes its children with it, which a kill would not.
        let asked = Command::new("kill").args(["-QUIT", &server.id().to_string()]).status();
        if !asked.is_ok_and(|it| it.success()) {
            // It may have ended by itself.
            _ = server.kill();
        }
        _ = server.wait();
    }

    /// Starts it where it was, with what it held; waits until it answers.
    pub(crate) fn start_again(&mut self) {
        for _ in 0..5 {
            if self.port == 0 {
                let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
                self.port = free.expect("a free port").port();
            }
            if self.try_start() {
                return;
            }
            // Somebody else took the port.
            self.port = 0;
        }
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        panic!("PostgreSQL does not start: {log}");
    }

    fn try_start(&mut self) -> bool {
        let log = std::fs::File::create(self.log()).expect("a log");
        let mut server = self
            .command("postgres")
            .arg("-D")
            .arg(self.state())
            .args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={}", self.port)])
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off"])
            .args(["-c", "shared_buffers=16MB", "-c", "max_connections=100"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("postgres runs");
        for _ in 0..LOOKS {
            if server.try_wait().expect("its state").is_some() {
                return false;
            }
            let port = self.port.to_string();
            let mut look = Command::new(self.programs.join("pg_isready"));
            look.args(["-q", "-h", "127.0.0.1", "-p", &port]);
            if look.status().is_ok_and(|it| it.success()) {
                self.server = Some(server);
                return true;
            }
            sleep(PAUSE);
        }
        _ = server.kill();
        false
    }

    /// One of its programs, as a user that may run it.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = Command::new("setpriv");
        if !Command::new("setpriv").arg("--version").output().is_ok_and(|it| it.status.success()) {
            assert!(!is_root(), "without setpriv root cannot start PostgreSQL");
            command = Command::new(program);
        } else {
            if is_root() {
                command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
            }
            command.args(["--pdeathsig", "KILL"]).arg(program);
        }
        command.env_remove("LC_ALL").current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn log(&self) -> PathBuf {
        // Beside the folder that another user owns, root may write as well.
        self.folder.path().join("log")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The folder of the newest server on this machine. Debian keeps it out of the path.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        Some((number, version.path().join("bin")))
    });
    let newest = debian.filter(|(_, folder)| folder.join("initdb").exists()).max();
    newest.map(|(_, folder)| folder).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| is_there(folder))
    })
}

fn is_there(folder: &Path) -> bool {
    ["initdb", "postgres", "pg_isready"].iter().all(|program| folder.join(program).exists())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.starts_with(b"0\n"))
}
