//! One connection of the sink: enough of RFC 5321 for a well-behaved relay, and the faults.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use memchr::memmem;
use tokio::{net::TcpStream, time::sleep};

use super::{Cut, Shared, Stage};
use crate::{message::recipient_number, stream::Stream, tls};

/// A connection.
pub(super) struct Session {
    shared: Arc<Shared>,
    /// `None` only while TLS begins.
    stream: Option<Stream>,
    out: Vec<u8>,
    transaction: Option<Transaction>,
    is_tls: bool,
    messages: u64,
}

/// Between MAIL and the end of data.
#[derive(Default)]
struct Transaction {
    /// A bounce: it suffers no fault.
    is_null: bool,
    recipients: Vec<u32>,
}

/// What a connection does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Close,
    Command,
    Content,
    Tls,
}

impl Session {
    pub(super) fn new(socket: TcpStream, shared: Arc<Shared>) -> Self {
        let stream = Some(Stream::new(socket));
        Self { shared, stream, out: Vec::new(), transaction: None, is_tls: false, messages: 0 }
    }

    /// Serves to the end, and tells how many messages came.
    pub(super) async fn run(mut self, is_admitted: bool) -> u64 {
        // A peer that goes away is its own business.
        let _ = self.serve(is_admitted).await;
        if let Some(mut stream) = self.stream {
            stream.close().await;
        }
        self.messages
    }

    async fn serve(&mut self, is_admitted: bool) -> io::Result<()> {
        if !is_admitted {
            self.reply("421 sink.test has too many connections").await?;
            return self.flush().await;
        }
        self.reply("220 sink.test ESMTP").await?;
        loop {
            let Some(line) = self.line().await? else { return Ok(()) };
            let next = self.command(&line).await?;
            match next {
                Next::Close => return self.flush().await,
                Next::Command => {}
                Next::Content => {
                    if self.content().await? == Next::Close {
                        return Ok(());
                    }
                }
                Next::Tls => self.begin_tls().await?,
            }
        }
    }

    async fn command(&mut self, line: &[u8]) -> io::Result<Next> {
        let verb = line.get(..4).unwrap_or(line).to_ascii_uppercase();
        let mut next = Next::Command;
        match verb.as_slice() {
            b"EHLO" => {
                self.transaction = None;
                let offers = self.offers();
                self.reply(&offers).await?;
            }
            b"HELO" => {
                self.transaction = None;
                self.reply("250 sink.test").await?;
            }
            b"MAIL" => self.mail(line).await?,
            b"RCPT" => self.rcpt(line).await?,
            b"DATA" => next = self.data().await?,
            b"RSET" => {
                self.transaction = None;
                self.reply("250 forgotten").await?;
            }
            b"NOOP" => self.reply("250 well").await?,
            b"STAR" if self.shared.acceptor.is_some() && !self.is_tls => {
                self.reply("220 go on").await?;
                self.flush().await?;
                next = Next::Tls;
            }
            b"QUIT" => {
                self.reply("221 goodbye").await?;
                next = Next::Close;
            }
            _ => self.reply("500 unknown command").await?,
        }
        Ok(next)
    }

    fn offers(&self) -> String {
        let pipelining = if self.shared.options.no_pipelining { "" } else { "250-PIPELINING\r\n" };
        let offers_tls = self.shared.acceptor.is_some() && !self.is_tls;
        let starttls = if offers_tls { "250-STARTTLS\r\n" } else { "" };
        format!("250-sink.test\r\n{pipelining}{starttls}250-8BITMIME\r\n250 SIZE {SIZE_MAX}")
    }

    async fn mail(&mut self, line: &[u8]) -> io::Result<()> {
        if self.transaction.is_some() {
            return self.reply("503 a transaction is open").await;
        }
        let is_null = path(line).is_empty();
        if self.refuses(Stage::Mail, is_null).await? {
            return Ok(());
        }
        self.transaction = Some(Transaction { is_null, recipients: Vec::new() });
        self.reply("250 sender").await
    }

    async fn rcpt(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(is_null) = self.transaction.as_ref().map(|open| open.is_null) else {
            return self.reply("503 MAIL comes first").await;
        };
        if self.refuses(Stage::Rcpt, is_null).await? {
            return Ok(());
        }
        if let Some(open) = &mut self.transaction {
            open.recipients.push(recipient_number(path(line)));
        }
        self.reply("250 recipient").await
    }

    async fn data(&mut self) -> io::Result<Next> {
        let Some(open) = self.transaction.as_ref().filter(|open| !open.recipients.is_empty())
        else {
            self.reply("503 there is no recipient").await?;
            return Ok(Next::Command);
        };
        let is_null = open.is_null;
        if self.refuses(Stage::Data, is_null).await? {
            self.transaction = None;
            return Ok(Next::Command);
        }
        self.reply("354 go on").await?;
        self.flush().await?;
        Ok(Next::Content)
    }

    /// From the 354 to the reply to the end of data; `Next::Close` for a cut.
    async fn content(&mut self) -> io::Result<Next> {
        let open = self.transaction.take().unwrap_or_default();
        let cuts = |at| !open.is_null && self.shared.draws(&self.shared.options.cut, &at);
        let (content, before, after) = (cuts(Cut::Content), cuts(Cut::Before), cuts(Cut::After));
        if content {
            self.stream()?.fill().await?;
            return Ok(self.cut());
        }
        let octets = self.until_end().await?;
        if self.refuses(Stage::End, open.is_null).await? {
            return Ok(Next::Command);
        }
        self.messages += 1;
        let taken =
            self.shared.with_tally(|tally| tally.takes(&octets, open.is_null, &open.recipients));
        if taken.is_err() {
            self.reply("451 the sink could not write that down").await?;
            return Ok(Next::Command);
        }
        if before {
            return Ok(self.cut());
        }
        if self.shared.options.keep.is_some() {
            self.shared.with_tally(|tally| tally.newest = octets);
        }
        self.reply("250 taken").await?;
        if after {
            self.flush().await?;
            return Ok(self.cut());
        }
        Ok(Next::Command)
    }

    /// The content, without the end-of-data line, which is consumed.
    async fn until_end(&mut self) -> io::Result<BytesMut> {
        let stream = self.stream()?;
        let mut looked_at = 0;
        loop {
            if stream.input.starts_with(b".\r\n") {
                stream.input.advance(3);
                return Ok(BytesMut::new());
            }
            let new = stream.input.get(looked_at..).unwrap_or_default();
            if let Some(at) = memmem::find(new, b"\r\n.\r\n") {
                let content = stream.input.split_to(looked_at + at + 2);
                stream.input.advance(3);
                return Ok(content);
            }
            // The end may be cut anywhere, between two reads as well.
            looked_at = stream.input.len().saturating_sub(4);
            if stream.input.len() > SIZE_MAX {
                return Err(io::Error::other("content without an end"));
            }
            if !stream.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Refuses, if this is such a case.
    async fn refuses(&mut self, stage: Stage, is_null: bool) -> io::Result<bool> {
        if is_null {
            return Ok(false);
        }
        if self.shared.draws(&self.shared.options.defer, &stage) {
            self.shared.with_tally(|tally| tally.deferred += 1);
            self.reply("450 not now").await?;
            return Ok(true);
        }
        if self.shared.draws(&self.shared.options.fail, &stage) {
            self.shared.with_tally(|tally| tally.failed += 1);
            self.reply("550 never").await?;
            return Ok(true);
        }
        Ok(false)
    }

    fn cut(&self) -> Next {
        self.shared.with_tally(|tally| tally.cut += 1);
        Next::Close
    }

    async fn begin_tls(&mut self) -> io::Result<()> {
        let (Some(stream), Some(acceptor)) = (self.stream.take(), &self.shared.acceptor) else {
            return Err(io::Error::other("no socket or no certificate"));
        };
        let io = tls::accept(acceptor, stream.into_io()).await?;
        self.stream = Some(Stream::new(io));
        self.is_tls = true;
        self.transaction = None;
        Ok(())
    }

    /// The next line; `None` at the end of the connection.
    async fn line(&mut self) -> io::Result<Option<BytesMut>> {
        loop {
            let input = &mut self.stream()?.input;
            if let Some(end) = memchr::memchr(b'\n', input) {
                return Ok(Some(input.split_to(end + 1)));
            }
            if input.len() > LINE_OCTETS_MAX {
                return Err(io::Error::other("a line without an end"));
            }
            // Replies of one group go out together (RFC 2920 §3.2).
            self.flush().await?;
            if !self.stream()?.fill().await? {
                return Ok(None);
            }
        }
    }

    async fn reply(&mut self, text: &str) -> io::Result<()> {
        let wait = self.shared.options.latency_ms;
        if wait > 0 {
            self.flush().await?;
            sleep(Duration::from_millis(wait)).await;
        }
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        self.stream()?.send(&out).await?;
        self.out = out;
        self.out.clear();
        Ok(())
    }

    fn stream(&mut self) -> io::Result<&mut Stream> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// What stands between the angle brackets of a MAIL or RCPT command.
fn path(line: &[u8]) -> &[u8] {
    let from = memchr::memchr(b'<', line).map_or(line.len(), |at| at + 1);
    let inside = line.get(from..).unwrap_or_default();
    inside.get(..memchr::memchr(b'>', inside).unwrap_or(0)).unwrap_or_default()
}

/// No message is longer.
const SIZE_MAX: usize = 64 * 1_024 * 1_024;

/// No command is longer (RFC 5321 §4.5.3.1.4 has 512, extensions add to it).
const LINE_OCTETS_MAX: usize = 4_096;
