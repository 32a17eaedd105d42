//! Values that nodes keep for each other, each under a key that expires, and short lists that all
//! of them read.
//!
//! It has a connection of its own, which is made when somebody first wants it: values are large,
//! and what is slow here must not hold up limits or facts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::Unreachable;
use super::link::Link;

/// Values that nodes keep for each other. Clones are the same.
#[derive(Clone)]
pub struct Shelf {
    link: Arc<Link>,
    wanted: Arc<Notify>,
    namespace: Arc<str>,
}

/// The most keys that one step of a search looks at.
const SCANNED: usize = 500;

// === impl Shelf ===

impl Shelf {
    pub(super) fn new(link: Link, namespace: &str) -> Self {
        Self { link: Arc::new(link), wanted: Arc::default(), namespace: namespace.into() }
    }

    /// Has the connection made that this needs.
    pub fn open(&self) {
        self.wanted.notify_one();
    }

    /// Keeps the connection, once it is wanted, for ever.
    pub(super) async fn run(&self) {
        self.wanted.notified().await;
        self.link.run().await;
    }

    /// Whether there is a connection, and every change of that.
    pub fn state(&self) -> watch::Receiver<bool> {
        self.link.state()
    }

    /// The value under a key, if there is one.
    ///
    /// # Errors
    ///
    /// [`Unreachable`], `within` this time.
    pub async fn get(&self, key: &str, within: Duration) -> Result<Option<Bytes>, Unreachable> {
        let mut get = redis::cmd("GET");
        get.arg(self.full(key));
        let value: Option<Vec<u8>> = self.link.call(&get, within).await?;
        Ok(value.map(Bytes::from))
    }

    /// Puts a value under a key, for so long.
    ///
    /// # Errors
    ///
    /// [`Unreachable`], `within` this time.
    pub async fn put(
        &self,
        key: &str,
        value: &[u8],
        ttl: Duration,
        within: Duration,
    ) -> Result<(), Unreachable> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut put = redis::cmd("SET");
        put.arg(self.full(key)).arg(value).arg("PX").arg(ttl_ms);
        let _ok: String = self.link.call(&put, within).await?;
        Ok(())
    }

    /// Takes values away; says how many there were. The keys are as [`Shelf::some`] names them.
    ///
    /// # Errors
    ///
    /// [`Unreachable`], `within` this time.
    pub async fn remove(&self, keys: &[String], within: Duration) -> Result<u64, Unreachable> {
        if keys.is_empty() {
            return Ok(0);
        }
        let mut remove = redis::cmd("UNLINK");
        for key in keys {
            remove.arg(self.full(key));
        }
        self.link.call(&remove, within).await
    }

    /// Some of the keys that begin like this with their values, and where to go on; 0 where that
    /// was all. A key that is there all the time is found at least once.
    ///
    /// # Errors
    ///
    /// [`Unreachable`], `within` this time for each of two questions.
    pub async fn some(
        &self,
        prefix: &str,
        cursor: u64,
        within: Duration,
    ) -> Result<(u64, Vec<(String, Bytes)>), Unreachable> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{}*", self.full(prefix)));
        scan.arg("COUNT").arg(SCANNED);
        let (next, keys): (u64, Vec<String>) = self.link.call(&scan, within).await?;
        if keys.is_empty() {
            return Ok((next, Vec::new()));
        }
        let mut get = redis::cmd("MGET");
        get.arg(&keys);
        let values: Vec<Option<Vec<u8>>> = self.link.call(&get, within).await?;
        let own = self.full("").len();
        let found = keys
            .into_iter()
            .zip(values)
            .filter_map(|(key, value)| Some((key.get(own..)?.to_owned(), Bytes::from(value?))));
        Ok((next, found.collect()))
    }

    /// Adds a line to a list, of which the newest `most` are kept for so long.
    ///
    /// # Errors
    ///
    /// [`Unreachable`], `within` this time for each of three questions.
    pub async fn add_line(
        &self,
        list: &str,
        line: &str,
        (most, ttl): (usize, Duration),
        within: Duration,
    ) -> Result<(), Unreachable> {
        let list = self.full(list);
        let mut push = redis::cmd("LPUSH");
        push.arg(&list).arg(line);
        let _length: u64 = self.link.call(&push, within).await?;
        let mut trim = redis::cmd("LTRIM");
        trim.arg(&list).arg(0).arg(most.saturating_sub(1));
        let _ok: String = self.link.call(&trim, within).await?;
        let mut expire = redis::cmd("PEXPIRE");
        expire.arg(&list).arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let _known: i64 = self.link.call(&expire, within).await?;
        Ok(())
    }

    /// The lines of a list, newest first.
    ///
    /// # Errors
    ///
    /// [`Unreachable`], `within` this time.
    pub async fn lines(&self, list: &str, within: Duration) -> Result<Vec<String>, Unreachable> {
        let mut range = redis::cmd("LRANGE");
        range.arg(self.full(list)).arg(0).arg(-1);
        self.link.call(&range, within).await
    }

    fn full(&self, key: &str) -> String {
        format!("{{{}}}:{key}", self.namespace)
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}
