//! A client for the admin API that is just enough: one request, one answer, over plain TCP.
//!
//! Commands talk to a gateway on this machine or through a tunnel. A TLS client would make the
//! program larger for a case that a tunnel solves; an `https` address is refused with these words.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

/// Where a gateway is that says nothing else.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// Where the gateway is and what opens its admin API.
#[derive(Clone, Args)]
pub struct AdminArgs {
    /// The gateway's address.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "TIDEGATE_URL",
        default_value = DEFAULT_URL
    )]
    pub url: String,
    /// The admin key; see what the gateway printed at its first start.
    #[arg(
        long,
        global = true,
        value_name = "KEY",
        env = "TIDEGATE_ADMIN_KEY",
        hide_env_values = true
    )]
    pub admin_key: Option<String>,
}

/// Why there is no good answer. `Display` says what to do next.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The command cannot be carried out as it was given.
    #[error("{0}")]
    Usage(String),
    /// The gateway cannot be reached, or does not answer as one.
    #[error("{url}: {problem}")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What happened.
        problem: String,
    },
    /// The gateway said no.
    #[error("{detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// In the gateway's words.
        detail: String,
    },
}

/// A gateway's admin API.
#[derive(Debug)]
pub(super) struct AdminClient {
    url: String,
    /// Host and port.
    authority: String,
    /// What comes before `/admin/v1`.
    base_path: String,
    key: String,
}

/// Longer than any admin request takes; the slowest adds up a whole journal.
const TIMEOUT: Duration = Duration::from_secs(30);
/// More than any page holds.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

// === impl AdminArgs ===

impl AdminArgs {
    /// The client these options describe.
    pub(super) fn client(&self) -> Result<AdminClient, ClientError> {
        let Some(rest) = self.url.strip_prefix("http://") else {
            return Err(ClientError::Usage(format!(
                "`{}`: the address must begin with http://; for a gateway behind TLS open a \
                 tunnel and give its local end, such as http://127.0.0.1:8080",
                self.url
            )));
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() || authority.contains('@') {
            return Err(ClientError::Usage(format!("`{}` names no host", self.url)));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| {
            !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
        });
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let base_path = path.trim_end_matches('/');
        let base_path = if base_path.is_empty() { String::new() } else { format!("/{base_path}") };
        let key = self.admin_key.clone().ok_or_else(|| {
            ClientError::Usage(
                "no admin key: set TIDEGATE_ADMIN_KEY or give --admin-key".to_owned(),
            )
        })?;
        // They become lines of the request.
        if [&authority, &base_path, &key].iter().any(|text| !text.bytes().all(is_visible)) {
            return Err(ClientError::Usage(
                "the address and the admin key must not hold spaces or control characters"
                    .to_owned(),
            ));
        }
        Ok(AdminClient { url: self.url.clone(), authority, base_path, key })
    }
}

impl std::fmt::Debug for AdminArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.admin_key.as_ref().map(|_| "<secret>");
        f.debug_struct("AdminArgs").field("url", &self.url).field("admin_key", &key).finish()
    }
}

// === impl ClientError ===

impl ClientError {
    /// The exit code: 1 the answer is no, 2 wrong use or no gateway.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { status, .. } if !matches!(status, 400 | 401) => 1,
            Self::Refused { .. } | Self::Usage(_) | Self::Unreachable { .. } => 2,
        }
    }
}

// === impl AdminClient ===

impl AdminClient {
    /// Sends a request below `/admin/v1` and returns the answer's JSON; `Null` where it has none.
    ///
    /// # Errors
    ///
    /// [`ClientError`] where there is no answer or it is a refusal.
    pub(super) fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        self.call_matching(method, path, body, None).map(|(_, answer)| answer)
    }

    /// The same for something that must still have this etag, where one is given; with the status.
    ///
    /// # Errors
    ///
    /// As [`AdminClient::call`].
    pub(super) fn call_matching(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        etag: Option<u64>,
    ) -> Result<(u16, Value), ClientError> {
        let (status, body) = self.bytes(method, path, body, etag)?;
        Ok((status, serde_json::from_slice::<Value>(&body).unwrap_or(Value::Null)))
    }

    /// Gets what is no JSON.
    ///
    /// # Errors
    ///
    /// As [`AdminClient::call`].
    pub(super) fn text(&self, path: &str) -> Result<String, ClientError> {
        let (_, body) = self.bytes("GET", path, None, None)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    fn bytes(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        etag: Option<u64>,
    ) -> Result<(u16, Vec<u8>), ClientError> {
        let unreachable =
            |problem: String| ClientError::Unreachable { url: self.url.clone(), problem };
        let answer = self.exchange(method, path, body, etag).map_err(|error| {
            unreachable(format!("{error}; is the gateway running, and is this its address?"))
        })?;
        let (status, body) = read_answer(&answer)
            .ok_or_else(|| unreachable("the answer is not one of a gateway".to_owned()))?;
        if (200..300).contains(&status) {
            return Ok((status, body));
        }
        let json = serde_json::from_slice::<Value>(&body).unwrap_or(Value::Null);
        let detail = match json.get("detail").and_then(Value::as_str) {
            Some(detail) => in_flags(detail),
            None => format!("the gateway answered with status {status}"),
        };
        let detail = match status {
            401 => format!("{detail} (`--admin-key`, or TIDEGATE_ADMIN_KEY)"),
            _ => detail,
        };
        Err(ClientError::Refused { status, detail })
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        etag: Option<u64>,
    ) -> io::Result<Vec<u8>> {
        let address =
            self.authority.to_socket_addrs()?.next().ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, "the host has no address")
            })?;
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let if_match = etag.map(|etag| format!("if-match: \"{etag}\"\r\n")).unwrap_or_default();
        let request = format!(
            "{method} {}/admin/v1{path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             user-agent: tidegate-cli/{}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{if_match}connection: close\r\n\r\n\
             {body}",
            self.base_path,
            self.authority,
            self.key,
            env!("CARGO_PKG_VERSION"),
            body.len(),
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// What the gateway says of members of a body, in the words of the command line.
fn in_flags(detail: &str) -> String {
    detail
        .replace("send {\"force\": true}", "give `--force`")
        .replace("say \"force\": true", "give `--force`")
        .replace("with \"force\": true", "with `--force`")
}

/// Takes apart an answer that was read to the end of the connection.
fn read_answer(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = head.parse(answer).ok()? else { return None };
    let body = answer.get(head_bytes..)?;
    let header =
        |name: &str| head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let is_chunked = header("transfer-encoding")
        .is_some_and(|header| header.value.eq_ignore_ascii_case(b"chunked"));
    let body = if is_chunked {
        unchunk(body)?
    } else {
        let length = header("content-length")
            .and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok())
            .unwrap_or(body.len());
        body.get(..length)?.to_vec()
    };
    Some((head.code?, body))
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let httparse::Status::Complete((start, length)) = httparse::parse_chunk_size(rest).ok()?
        else {
            return None;
        };
        if length == 0 {
            return Some(body);
        }
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        body.extend_from_slice(rest.get(start..end)?);
        rest = rest.get(end..)?.strip_prefix(b"\r\n")?;
    }
}

/// Neither a space nor a control character.
fn is_visible(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

/// A text as one value of a query or one segment of a path.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
