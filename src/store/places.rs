//! Stores for tests: an empty one of each kind.

use tempfile::TempDir;

use super::Store;
use server::PostgresServer;

#[path = "../../tests/it/servers/postgres.rs"]
pub(crate) mod server;

/// An empty store, gone with this value.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) store: Store,
    pub(crate) server: Option<PostgresServer>,
    pub(crate) _folder: TempDir,
}

/// A store in a file, and one at a server, where `SERVER_TESTS` does not leave that out.
pub(crate) fn places() -> Vec<Place> {
    let server = PostgresServer::start();
    let at_server = server.map(|server| Place::at(&server.url(), Some(server)));
    std::iter::once(Place::file()).chain(at_server).collect()
}

// === impl Place ===

impl Place {
    fn at(url: &str, server: Option<PostgresServer>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: Store::new(url.parse().unwrap()), server, _folder: folder }
    }

    pub(crate) fn file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/data/tidegate.db", folder.path().display());
        Self { store: Store::new(url.parse().unwrap()), server: None, _folder: folder }
    }

    /// The same store, as another node knows it.
    pub(crate) fn again(&self) -> Store {
        Store::new(self.store.url().clone())
    }
}
