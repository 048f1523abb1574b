//! Octets to and from a host: over TCP or a Unix socket, in the clear or over TLS.
//!
//! Not pure: sockets.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use merpati_mail::{Domain, TlsFacts};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::tls::{self, Handshake};

/// What carries the octets at the bottom.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    /// In the clear.
    Clear(Socket),
    /// Over TLS.
    Tls(Box<TlsStream<Socket>>),
}

impl Socket {
    /// Connects to an address, from one of ours if one is given.
    pub(super) async fn tcp(to: SocketAddr, from: Option<IpAddr>) -> io::Result<Self> {
        let socket = match to {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let stream = socket.connect(to).await?;
        // Commands are small, and each group of them is waited for.
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Connects to a socket of this machine.
    pub(super) async fn unix(path: &str) -> io::Result<Self> {
        UnixStream::connect(path).await.map(Self::Unix)
    }
}

impl Stream {
    /// Speaks TLS from here on, with a host of this name.
    pub(super) async fn handshake(
        self,
        connector: &TlsConnector,
        host: &Domain,
    ) -> io::Result<(Self, TlsFacts)> {
        let Self::Clear(socket) = self else {
            return Err(io::Error::other("TLS runs already"));
        };
        let name = match host {
            Domain::Literal(address) => ServerName::from(*address),
            Domain::Name(name) => {
                let name = ServerName::try_from(name.as_str().to_owned());
                name.map_err(|_| io::Error::other("no certificate can have the name of the host"))?
            }
        };
        let stream = connector.connect(name, socket).await?;
        let facts = tls::client_facts(stream.get_ref().1);
        Ok((Self::Tls(Box::new(stream)), facts))
    }

    /// Our address; `None` for a Unix socket.
    pub(super) fn from(&self) -> Option<IpAddr> {
        let socket = match self {
            Self::Clear(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        };
        match socket {
            Socket::Tcp(stream) => Some(stream.local_addr().ok()?.ip()),
            Socket::Unix(_) => None,
        }
    }

    /// The certificates that the host has shown, its own first; none in the clear.
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        match self {
            Self::Clear(_) => Vec::new(),
            Self::Tls(stream) => {
                let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
                shown.iter().map(|certificate| certificate.clone().into_owned()).collect()
            }
        }
    }

    /// How TLS came about; `None` in the clear.
    pub(super) fn how_protected(&self) -> Option<Handshake> {
        match self {
            Self::Clear(_) => None,
            Self::Tls(stream) => Some(Handshake::of(stream.get_ref().1)),
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Clear(socket) => Pin::new(socket).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }

    /// Takes octets to be sent. They are on their way only when [`Self::poll_flush`] says so.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Clear(socket) => Pin::new(socket).poll_write(cx, octets),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, octets),
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Clear(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
}

/// Whether an error of a handshake says that the host does not do or prove what it should, rather
/// than that the connection ended.
pub(super) fn is_of_tls(error: &io::Error) -> bool {
    // What is wrong with TLS comes as `InvalidData`, our own reasons as `Other`, all else from the
    // socket; the end of the connection is `UnexpectedEof`.
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::Other)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The kernel holds nothing back that could be flushed.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
