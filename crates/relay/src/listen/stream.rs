//! Octets from and to a client, in the clear or over TLS.
//!
//! Not pure: sockets.

use std::{io, time::Duration};

use bytes::BytesMut;
use merpati_mail::TlsFacts;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::tls;

/// A connection.
pub(super) enum Stream {
    /// In the clear.
    Clear(TcpStream),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Reads what is there into the free room of the buffer; 0 at the end of the stream.
    pub(super) async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.read_buf(buffer).await,
            Self::Tls(stream) => stream.read_buf(buffer).await,
        }
    }

    /// Sends all of it within `wait`.
    pub(super) async fn send(&mut self, octets: &[u8], wait: Duration) -> io::Result<()> {
        match self {
            Self::Clear(stream) => timeout(wait, stream.write_all(octets)).await?,
            Self::Tls(stream) => {
                let write = async {
                    stream.write_all(octets).await?;
                    stream.flush().await
                };
                timeout(wait, write).await?
            }
        }
    }

    /// Speaks TLS from here on, within `wait`.
    pub(super) async fn handshake(
        self,
        acceptor: &TlsAcceptor,
        wait: Duration,
    ) -> io::Result<(Self, TlsFacts)> {
        let Self::Clear(stream) = self else {
            return Err(io::Error::other("TLS runs already"));
        };
        let stream = timeout(wait, acceptor.accept(stream)).await??;
        let facts = tls::facts(stream.get_ref().1);
        Ok((Self::Tls(Box::new(stream)), facts))
    }

    /// Says that nothing more will be sent; best effort, the client may be gone.
    pub(super) async fn close(mut self, wait: Duration) {
        let shutdown = async {
            match &mut self {
                Self::Clear(stream) => stream.shutdown().await,
                Self::Tls(stream) => stream.shutdown().await,
            }
        };
        timeout(wait, shutdown).await.ok();
    }
}
