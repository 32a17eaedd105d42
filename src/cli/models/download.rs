//! One file over HTTP: resumed where it stopped, checked, and in its place only when it is whole.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

use crate::catalog::BaseUrl;
use crate::upstream::live::LiveTransport;
use crate::upstream::{Transport, UpstreamReply, UpstreamRequest, next_chunk};

/// How many addresses may send us on to the next one.
const MAX_REDIRECTS: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes that are read from a file at a time.
const PIECE: usize = 1 << 16;

/// A file that is wanted.
pub(super) struct Download<'a> {
    /// Where it is.
    pub(super) url: String,
    /// Where it shall be.
    pub(super) path: PathBuf,
    /// Its size.
    pub(super) bytes: u64,
    /// Its digest in hexadecimal.
    pub(super) sha256: &'a str,
}

/// A file that grows.
struct Part {
    file: std::fs::File,
    digest: Sha256,
    bytes: u64,
}

// === impl Download ===

impl Download<'_> {
    /// Downloads the file unless it is there, and tells `progress` how many bytes there are. The
    /// result says how many came over the network.
    pub(super) async fn run(&self, progress: &mut dyn FnMut(u64)) -> anyhow::Result<u64> {
        if self.path.exists() {
            let there = Part::read(&self.path)?;
            if there.bytes == self.bytes && hexadecimal(there.digest) == self.sha256 {
                return Ok(0);
            }
        }
        let mut name = self.path.clone().into_os_string();
        name.push(".part");
        let part_path = PathBuf::from(name);
        let mut part = Part::read(&part_path)?;
        if part.bytes >= self.bytes {
            part = part.restart()?;
        }
        let mut reply = self.request(part.bytes).await?;
        let resumed = reply.status == StatusCode::PARTIAL_CONTENT;
        if !resumed && part.bytes > 0 {
            part = part.restart()?;
        }
        let before = part.bytes;
        progress(part.bytes);
        while let Some(chunk) = within(next_chunk(&mut *reply.body)).await? {
            let chunk = chunk.map_err(|failure| anyhow::anyhow!(failure.loggable()))?;
            if part.bytes + chunk.len() as u64 > self.bytes {
                drop(part.restart()?);
                bail!("{} sends more than {} bytes", self.url, self.bytes);
            }
            part.write(&chunk).with_context(|| format!("cannot write {}", part_path.display()))?;
            progress(part.bytes);
        }
        if part.bytes < self.bytes {
            let (have, all) = (part.bytes, self.bytes);
            bail!("{} broke off after {have} of {all} bytes; try again to go on", self.url);
        }
        let came = part.bytes - before;
        part.file.sync_all()?;
        let found = hexadecimal(part.digest);
        if found != self.sha256 {
            std::fs::remove_file(&part_path)?;
            let wanted = self.sha256;
            bail!("{} sent other bytes: their SHA-256 is {found}, not {wanted}", self.url);
        }
        std::fs::rename(&part_path, &self.path)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(came)
    }

    /// Asks for what follows the first `have` bytes, wherever the file has moved.
    async fn request(&self, have: u64) -> anyhow::Result<UpstreamReply> {
        let transport = LiveTransport::new(1, SILENCE);
        let mut headers = HeaderMap::new();
        let agent = concat!("tidegate/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        if have > 0 {
            headers.insert(header::RANGE, format!("bytes={have}-").parse()?);
        }
        let mut url = self.url.clone();
        for _ in 0..MAX_REDIRECTS {
            let (base, path) = address(&url)?;
            let request = UpstreamRequest {
                origin: base.origin.clone(),
                path,
                headers: headers.clone(),
                body: Bytes::new(),
                connect_timeout: CONNECT_TIMEOUT,
            };
            let reply = within(transport.send(request)).await?;
            let reply = reply.map_err(|failure| anyhow::anyhow!(failure.loggable()))?;
            match reply.status {
                StatusCode::OK => return Ok(reply),
                StatusCode::PARTIAL_CONTENT if starts_at(&reply.headers, have) => return Ok(reply),
                status if status.is_redirection() => {
                    let next = reply.headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
                    let next =
                        next.with_context(|| format!("{url} does not say where it moved"))?;
                    let is_https = url.starts_with("https://");
                    url = match next.strip_prefix('/') {
                        Some(path) => format!("{}/{path}", base.origin),
                        None => next.to_owned(),
                    };
                    if is_https && !url.starts_with("https://") {
                        bail!("{} leads to {url}, which is not encrypted", self.url);
                    }
                }
                status => bail!("{url} answers {status}"),
            }
        }
        bail!("{} leads from one address to the next", self.url)
    }
}

/// Whether a reply begins where the part ends.
fn starts_at(headers: &HeaderMap, have: u64) -> bool {
    let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {have}-")))
}

/// The server of an address, and its path with the query.
fn address(url: &str) -> anyhow::Result<(BaseUrl, String)> {
    let (start, query) = match url.split_once('?') {
        Some((start, query)) => (start, format!("?{query}")),
        None => (url, String::new()),
    };
    let base: BaseUrl = start.parse()?;
    let path = format!("{}{query}", base.path);
    Ok((base, path))
}

/// Waits no longer than a server may be silent.
async fn within<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(SILENCE, future).await.context("the server has been silent for 60 s")
}

// === impl Part ===

impl Part {
    /// What is there of a file, ready to be added to; nothing where there is no such file.
    fn read(path: &Path) -> anyhow::Result<Self> {
        let open = || -> io::Result<Self> {
            let mut file =
                std::fs::OpenOptions::new().read(true).append(true).create(true).open(path)?;
            let (mut digest, mut bytes) = (Sha256::new(), 0);
            let mut piece = vec![0; PIECE];
            loop {
                match file.read(&mut piece)? {
                    0 => return Ok(Self { file, digest, bytes }),
                    count => {
                        digest.update(piece.get(..count).unwrap_or_default());
                        bytes += count as u64;
                    }
                }
            }
        };
        open().with_context(|| format!("cannot open {}", path.display()))
    }

    fn restart(self) -> io::Result<Self> {
        self.file.set_len(0)?;
        Ok(Self { file: self.file, digest: Sha256::new(), bytes: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

fn hexadecimal(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
