//! Octets from and to a client, in the clear or over TLS.
//!
//! Not pure: sockets.

use std::{future::poll_fn, io, pin::pin, task::Poll, time::Duration};

use bytes::BytesMut;
use merpati_smtp::server::Channel;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::tls::{self, Handshake};

/// A connection.
pub(super) enum Stream {
    /// In the clear.
    Clear(TcpStream),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Waits until there is something to read, or an end: a client that says nothing costs no
    /// buffer.
    pub(super) async fn readable(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(stream) => stream.readable().await,
            Self::Tls(stream) => stream.fill_buf().await.map(drop),
        }
    }

    /// Reads what is there into the free room of the buffer; 0 at the end of the stream, and an
    /// error of the kind `WouldBlock` where there was nothing after all.
    pub(super) async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            // Not `try_read_buf`: it does not learn from a short read that nothing is left, and
            // each read would be followed by one in vain.
            Self::Clear(stream) => {
                let mut reading = pin!(stream.read_buf(buffer));
                poll_fn(|context| match reading.as_mut().poll(context) {
                    Poll::Ready(read) => Poll::Ready(read),
                    Poll::Pending => Poll::Ready(Err(io::ErrorKind::WouldBlock.into())),
                })
                .await
            }
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
    ) -> io::Result<(Self, Channel)> {
        let Self::Clear(stream) = self else {
            return Err(io::Error::other("TLS runs already"));
        };
        let stream = timeout(wait, acceptor.accept(stream)).await??;
        let channel = tls::channel(stream.get_ref().1);
        Ok((Self::Tls(Box::new(stream)), channel))
    }

    /// How TLS came about; `None` in the clear.
    pub(super) fn how_protected(&self) -> Option<Handshake> {
        match self {
            Self::Clear(_) => None,
            Self::Tls(stream) => Some(Handshake::of(stream.get_ref().1)),
        }
    }

    /// Says that nothing more will be sent; best effort, the client may be gone.
    pub(super) async fn close(mut self, how: Closing) {
        let shutdown = async {
            match &mut self {
                Self::Clear(stream) => stream.shutdown().await,
                Self::Tls(stream) => stream.shutdown().await,
            }
        };
        timeout(CLOSE_WAIT, shutdown).await.ok();
        match how {
            Closing::AtOnce => {}
            Closing::Heard => {
                let socket = match &self {
                    Self::Clear(stream) => stream,
                    Self::Tls(stream) => stream.get_ref().0,
                };
                timeout(LINGER_WAIT, discard(socket)).await.ok();
            }
        }
    }
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// The client expects it.
    AtOnce,
    /// The client may still be sending. What it sends is taken, so that the kernel does not answer
    /// with a reset, at which many clients forget our last reply.
    Heard,
}

/// Reads to the end of the stream, or as much as anybody can have sent without hearing us.
async fn discard(socket: &TcpStream) {
    let mut octets = 0;
    while octets < LINGER_OCTETS && socket.readable().await.is_ok() {
        match socket.try_read(&mut [0; 4_096]) {
            Ok(0) => return,
            Ok(read) => octets += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// How long the end of a connection may take.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// How long a client may take to hear that we have ended the session.
const LINGER_WAIT: Duration = Duration::from_secs(1);
/// What it may send meanwhile.
const LINGER_OCTETS: usize = 1 << 20;
