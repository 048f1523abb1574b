//! A connection, in the clear or under TLS, with the limits of time that hold for both.

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// What a socket and a TLS session on one have in common.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection and what has come over it and is not looked at yet.
pub struct Stream {
    io: Box<dyn Duplex>,
    /// Octets not yet taken.
    pub input: BytesMut,
}

impl Stream {
    /// Over a socket or a TLS session.
    pub fn new(io: impl Duplex + 'static) -> Self {
        Self { io: Box::new(io), input: BytesMut::with_capacity(READ_OCTETS) }
    }

    /// The socket alone, to begin TLS on it. What has come in the clear is dropped
    /// (RFC 3207 §4.2).
    pub fn into_io(self) -> Box<dyn Duplex> {
        self.io
    }

    /// Waits for more octets; false at the end of the connection.
    pub async fn fill(&mut self) -> io::Result<bool> {
        self.input.reserve(READ_OCTETS);
        let read = self.io.read_buf(&mut self.input);
        let count = timeout(IDLE_MAX, read).await.map_err(|_| silence())??;
        Ok(count > 0)
    }

    /// Sends all of it.
    pub async fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        let sent = async {
            self.io.write_all(octets).await?;
            self.io.flush().await
        };
        timeout(IDLE_MAX, sent).await.map_err(|_| silence())?
    }

    /// Says that nothing more will come; errors do not matter any more.
    pub async fn close(&mut self) {
        let _ = timeout(CLOSE_MAX, self.io.shutdown()).await;
    }
}

/// Seconds since 1970.
pub fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn silence() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the peer was silent for too long")
}

/// Room for one read: a message of 10 KiB with its commands comes in one.
const READ_OCTETS: usize = 64 * 1_024;

/// Silence after which a connection is given up (RFC 5321 §4.5.3.2 has 5 minutes for most).
const IDLE_MAX: Duration = Duration::from_mins(5);

/// Patience with a peer that does not take the last octets.
const CLOSE_MAX: Duration = Duration::from_secs(2);
