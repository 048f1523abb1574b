//! One connection of the load: greeting, EHLO, STARTTLS, transactions.
//!
//! Invariant: any reply that is not the wished one ends the connection, so that a pipelining
//! client is never out of step with the replies.

use std::{io, io::Write as _};

use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::TlsConnector;

use super::{Load, Options};
use crate::{
    message::{SENDER, recipient},
    stream::Stream,
    tls,
};

/// Why a connection cannot go on.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No connection, or none any more.
    Lost(io::Error),
    /// A reply that was not the wished one.
    Refused(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// A connection that is ready for a transaction.
pub(super) struct Connection {
    stream: Stream,
    pipelines: bool,
    out: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(
        options: &Options,
        connector: Option<&TlsConnector>,
    ) -> Result<Self, Trouble> {
        let socket = TcpStream::connect(&options.to).await?;
        socket.set_nodelay(true)?;
        let mut this = Self { stream: Stream::new(socket), pipelines: false, out: Vec::new() };
        this.reply(Wish::Completed).await?;
        let mut offers = this.hello().await?;
        if let Some(connector) = connector {
            this.stream.send(b"STARTTLS\r\n").await?;
            this.reply(Wish::Completed).await?;
            let io = this.stream.into_io();
            let io = tls::connect(connector, io).await.map_err(io::Error::other)?;
            this = Self { stream: Stream::new(io), pipelines: false, out: this.out };
            offers = this.hello().await?;
        }
        this.pipelines = options.pipelining
            && offers.lines().any(|line| line.trim_ascii_end().ends_with("PIPELINING"));
        Ok(this)
    }

    /// One transaction to its acknowledgement.
    pub(super) async fn transact(&mut self, load: &Load, id: &str) -> Result<(), Trouble> {
        self.envelope(load.options.recipients).await?;
        load.ledger.opens(id);
        self.out.clear();
        load.template.write(id, &mut self.out);
        self.stream.send(&self.out).await?;
        let sent = Instant::now();
        self.reply(Wish::Completed).await?;
        load.ledger.acknowledged(id, sent.elapsed());
        Ok(())
    }

    /// Ends it; what the relay says to that changes nothing.
    pub(super) async fn quit(&mut self) {
        if self.stream.send(b"QUIT\r\n").await.is_ok() {
            let _ = self.reply(Wish::Completed).await;
        }
        self.stream.close().await;
    }

    /// Up to the 354 of DATA.
    async fn envelope(&mut self, recipients: u32) -> Result<(), Trouble> {
        self.out.clear();
        writeln_crlf(&mut self.out, &format!("MAIL FROM:<{SENDER}>"));
        let mut waiting = 1;
        self.step(&mut waiting, 0).await?;
        for number in 0..recipients {
            writeln_crlf(&mut self.out, &format!("RCPT TO:<{}>", recipient(number)));
            waiting += 1;
            self.step(&mut waiting, GROUP_MAX).await?;
        }
        writeln_crlf(&mut self.out, "DATA");
        self.stream.send(&self.out).await?;
        for _ in 0..waiting {
            self.reply(Wish::Completed).await?;
        }
        self.reply(Wish::Content).await?;
        Ok(())
    }

    /// Sends what waits if it is too much for a group, or if this connection does not pipeline.
    async fn step(&mut self, waiting: &mut usize, group_max: usize) -> Result<(), Trouble> {
        if self.pipelines && (group_max == 0 || *waiting < group_max) {
            return Ok(());
        }
        self.stream.send(&self.out).await?;
        self.out.clear();
        for _ in 0..std::mem::take(waiting) {
            self.reply(Wish::Completed).await?;
        }
        Ok(())
    }

    async fn hello(&mut self) -> Result<String, Trouble> {
        self.stream.send(b"EHLO load.test\r\n").await?;
        self.reply(Wish::Completed).await
    }

    /// The text of the next reply, with all its lines.
    async fn reply(&mut self, wish: Wish) -> Result<String, Trouble> {
        let mut text = String::new();
        loop {
            let line = self.line().await?;
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            // One line is the usual case and needs no copy.
            text = if text.is_empty() { line } else { text + &line };
            if text.len() > REPLY_OCTETS_MAX {
                return Err(io::Error::other("a reply without an end").into());
            }
            if is_last {
                break;
            }
        }
        let is_wished = match wish {
            Wish::Completed => text.starts_with('2'),
            Wish::Content => text.starts_with("354"),
        };
        if is_wished { Ok(text) } else { Err(Trouble::Refused(text.trim_ascii_end().to_owned())) }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.stream.input) {
                let line = self.stream.input.split_to(end + 1);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.stream.input.len() > REPLY_OCTETS_MAX {
                return Err(io::Error::other("a line without an end"));
            }
            if !self.stream.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Which reply lets a connection go on.
#[derive(Clone, Copy)]
enum Wish {
    /// Any 2yz.
    Completed,
    /// 354, which asks for the content.
    Content,
}

fn writeln_crlf(out: &mut Vec<u8>, command: &str) {
    let written = write!(out, "{command}\r\n");
    debug_assert!(written.is_ok(), "a Vec takes everything");
}

/// Commands sent without waiting for replies: few enough for the buffers of both sockets, so that
/// two peers never wait for each other (RFC 2920 §3.1).
const GROUP_MAX: usize = 100;

/// No reply is longer.
const REPLY_OCTETS_MAX: usize = 64 * 1_024;
