//! A plain conversation in SMTP over TCP, in the clear, one command at a time: for trying a
//! listener out, and for mail that a program of this machine hands over.
//!
//! Deliveries are made elsewhere, by the machine of `smtp::client`. Not pure: a socket, and it
//! blocks.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

/// The lines of a connection.
#[derive(Debug)]
pub struct Conversation {
    reader: BufReader<TcpStream>,
}

/// Why a conversation does not go on.
#[derive(Debug)]
pub enum Trouble {
    /// The server is not there, or hung up; in words.
    Gone(String),
    /// It cannot be named so; in words.
    Name(String),
    /// It says no: the last line of its reply, and after which command.
    Refused {
        /// What it said.
        reply: String,
        /// The command; `content` for a content.
        command: String,
    },
}

impl Trouble {
    /// Whether another time may do.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Gone(_) => true,
            Self::Name(_) => false,
            Self::Refused { reply, .. } => !reply.starts_with('5'),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(why) | Self::Name(why) => f.write_str(why),
            Self::Refused { reply, command } => {
                write!(f, "refused: {reply}\n  after: {command}")
            }
        }
    }
}

impl std::error::Error for Trouble {}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Gone(error.to_string())
    }
}

impl Conversation {
    /// Connects to a server, such as `127.0.0.1:25`. The greeting is still to be awaited.
    pub fn open(server: &str) -> Result<Self, Trouble> {
        let bad = |why: io::Error| Trouble::Name(format!("{server}: {why}"));
        let addresses = server.to_socket_addrs().map_err(bad)?;
        let mut last = None;
        for address in addresses {
            match TcpStream::connect_timeout(&address, REPLY_WAIT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(REPLY_WAIT))?;
                    stream.set_write_timeout(Some(REPLY_WAIT))?;
                    return Ok(Self { reader: BufReader::new(stream) });
                }
                Err(why) => last = Some(why),
            }
        }
        let why = last.map_or_else(|| "no address".to_owned(), |why| why.to_string());
        Err(Trouble::Gone(format!("{server} does not answer: {why}")))
    }

    /// Says a line, without its end, and gives back the last line of the reply; an error where that
    /// is a refusal.
    pub fn say(&mut self, line: &str) -> Result<String, Trouble> {
        self.reader.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.reply(line)
    }

    /// Sends a content with the line ends of SMTP, and awaits the reply to it.
    pub fn send(&mut self, content: &[u8]) -> Result<String, Trouble> {
        self.send_stuffed(&stuffed(content))
    }

    /// The same for a content whose dots are stuffed already.
    pub fn send_stuffed(&mut self, content: &[u8]) -> Result<String, Trouble> {
        self.reader.get_mut().write_all(content)?;
        self.reader.get_mut().write_all(b".\r\n")?;
        self.reply("content")
    }

    /// Awaits a reply: the last line of it, or an error where that is a refusal.
    pub fn reply(&mut self, command: &str) -> Result<String, Trouble> {
        for _ in 0..REPLY_LINES_MAX {
            let mut line = Vec::new();
            let limited = &mut (&mut self.reader).take(REPLY_OCTETS_MAX);
            limited.read_until(b'\n', &mut line)?;
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.as_bytes().get(3) == Some(&b'-') {
                continue;
            }
            return match line.bytes().next() {
                Some(b'2' | b'3') => Ok(line),
                Some(_) => Err(Trouble::Refused { reply: line, command: command.to_owned() }),
                None => Err(Trouble::Gone("the server hung up".to_owned())),
            };
        }
        Err(Trouble::Gone("the reply does not end".to_owned()))
    }

    /// The connection itself, for who speaks himself.
    pub fn into_stream(self) -> TcpStream {
        self.reader.into_inner()
    }
}

/// With a dot before each line that begins with one (RFC 5321 §4.5.2).
pub fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(content.len() + content.len() / 64);
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    stuffed
}

const REPLY_WAIT: Duration = Duration::from_mins(5);
const REPLY_LINES_MAX: usize = 200;
const REPLY_OCTETS_MAX: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_begins_with_a_dot_gets_another() {
        assert_eq!(stuffed(b"a\r\n.b\r\n"), b"a\r\n..b\r\n");
        assert_eq!(stuffed(b".a\r\n"), b"..a\r\n");
        assert_eq!(stuffed(b""), b"");
    }
}
