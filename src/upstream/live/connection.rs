//! One connection to a provider, plain or TLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::catalog::Origin;
use crate::failure::{Failure, FailureKind};

/// A connection and the bytes that were read ahead of their use.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    /// Read but not used. Empty, and without memory of its own, between requests.
    pub(super) buffer: BytesMut,
    /// Whether a byte of the current answer was read.
    touched: bool,
}

/// The socket under a connection.
#[derive(Debug)]
pub(super) enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Opens connections; reads the system's certificates once, when the first TLS connection is made.
#[derive(Debug, Default)]
pub(super) struct Connector {
    tls: OnceLock<Arc<ClientConfig>>,
}

// === impl Connector ===

impl Connector {
    /// Connects to an origin: to `address`, or to whatever its host stands for.
    pub(super) async fn connect(
        &self,
        origin: &Origin,
        pinned: Option<SocketAddr>,
    ) -> Result<Connection, Failure> {
        let address = (&*origin.host, origin.port);
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            let (host, port) = address;
            Failure::new(FailureKind::Transport, format!("{what} {host}:{port}: {error}"))
        };
        let tcp = match pinned {
            Some(pinned) => TcpStream::connect(pinned).await,
            None => TcpStream::connect(address).await,
        };
        let tcp = tcp.map_err(|error| failed("connect to", &error))?;
        // A prompt's last segment must not wait for the acknowledgement of the one before.
        tcp.set_nodelay(true).map_err(|error| failed("connect to", &error))?;
        let stream = if origin.https {
            let name = ServerName::try_from(origin.host.to_string())
                .map_err(|error| failed("TLS with", &error))?;
            let connector = TlsConnector::from(self.tls().clone());
            let tls = connector.connect(name, tcp).await;
            Stream::Tls(Box::new(tls.map_err(|error| failed("TLS with", &error))?))
        } else {
            Stream::Plain(tcp)
        };
        Ok(Connection { stream, buffer: BytesMut::new(), touched: false })
    }

    fn tls(&self) -> &Arc<ClientConfig> {
        self.tls.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            let (_added, _ignored) = roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                // A container without certificates: Mozilla's, as of the build.
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            let config = ClientConfig::builder().with_root_certificates(roots);
            Arc::new(config.with_no_client_auth())
        })
    }
}

// === impl Connection ===

impl Connection {
    /// Writes a request to its last byte. A TLS stream takes bytes before they are on the wire, and
    /// reading does not send them: without the flush the end of a large body could stay behind, and
    /// both sides would wait for each other.
    pub(super) async fn send(&mut self, head: &[u8], rest: &[u8]) -> io::Result<()> {
        match rest {
            [] => self.stream.write_all(head).await?,
            rest => self.stream.write_all_buf(&mut Buf::chain(head, rest)).await?,
        }
        self.stream.flush().await
    }

    /// Reads once into the buffer; 0 at the end of the connection.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(4 * 1024);
        let read = self.stream.read_buf(&mut self.buffer).await?;
        self.touched |= read > 0;
        Ok(read)
    }

    /// Takes `length` bytes off the buffer.
    pub(super) fn consume(&mut self, length: usize) {
        self.buffer.advance(length);
    }

    /// Gives the buffer's memory back, if nothing is in it: a stream may last for minutes.
    pub(super) fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Whether not a byte of the answer has come.
    pub(super) fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// Makes the connection ready for another request; `false` where it is not fit for one.
    pub(super) fn recycle(&mut self) -> bool {
        let clean = self.buffer.is_empty();
        self.buffer = BytesMut::new();
        self.touched = false;
        clean
    }

    /// Whether the peer has neither closed the connection nor sent something unasked.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut read = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream).poll_read(&mut cx, &mut read).is_pending()
    }
}

// === impl Stream ===

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
