//! `merpati send`: a test message by SMTP, with every reply told.
//!
//! A conversation of one transaction in the clear, for trying a listener out; deliveries are made
//! elsewhere, by the machine of `smtp::client`.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use merpati_mail::{Mailbox, Time};

use super::{Failure, output::Output};

/// What to send where.
#[derive(clap::Args, Debug)]
pub(super) struct SendArguments {
    /// A recipient; may be repeated.
    #[arg(long, required = true, value_name = "ADDRESS", value_parser = Mailbox::parse)]
    to: Vec<Mailbox>,
    /// The reverse-path and the From field.
    #[arg(long, default_value = "merpati@localhost", value_parser = Mailbox::parse)]
    from: Mailbox,
    /// The Subject field.
    #[arg(long, default_value = "A test from Merpati")]
    subject: String,
    /// The text, or - for standard input.
    #[arg(long, default_value = "This is a test.")]
    body: String,
    /// Where to.
    #[arg(long, default_value = "127.0.0.1:1025", value_name = "HOST:PORT")]
    server: String,
}

pub(super) fn run(arguments: &SendArguments, output: &mut Output) -> Result<ExitCode, Failure> {
    let message = message(arguments, now())?;
    let mut conversation = Conversation::open(&arguments.server)?;
    conversation.expect("")?;
    conversation.expect("EHLO localhost\r\n")?;
    let is_8bit = !message.is_ascii();
    let parameter = if is_8bit { " BODY=8BITMIME" } else { "" };
    conversation.expect(&format!("MAIL FROM:<{}>{parameter}\r\n", arguments.from))?;
    for to in &arguments.to {
        conversation.expect(&format!("RCPT TO:<{to}>\r\n"))?;
    }
    conversation.expect("DATA\r\n")?;
    let reply = conversation.expect(&format!("{}.\r\n", stuffed(&message)))?;
    output.line(&super::output::harmless(&reply))?;
    // The message is accepted: what the server says to QUIT changes nothing.
    let _ = conversation.expect("QUIT\r\n");
    Ok(ExitCode::SUCCESS)
}

/// The lines of a connection.
struct Conversation {
    reader: BufReader<TcpStream>,
}

impl Conversation {
    fn open(server: &str) -> Result<Self, Failure> {
        let bad = |why: std::io::Error| Failure::Usage(format!("--server {server}: {why}"));
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
        Err(Failure::RelayDown(format!("{server} does not answer: {why}")))
    }

    /// Says something, and gives back the last line of the reply; an error where that is a refusal.
    fn expect(&mut self, command: &str) -> Result<String, Failure> {
        self.reader.get_mut().write_all(command.as_bytes())?;
        for _ in 0..REPLY_LINES_MAX {
            let mut line = Vec::new();
            let limited = &mut (&mut self.reader).take(REPLY_OCTETS_MAX);
            limited.read_until(b'\n', &mut line)?;
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.as_bytes().get(3) == Some(&b'-') {
                continue;
            }
            let verb =
                command.lines().next().filter(|_| command.len() < 1_000).unwrap_or("content");
            return match line.bytes().next() {
                Some(b'2' | b'3') => Ok(line),
                Some(_) => Err(Failure::Other(format!("refused: {line}\n  after: {verb}"))),
                None => Err(Failure::Other("the server hung up".to_owned())),
            };
        }
        Err(Failure::Other("the reply does not end".to_owned()))
    }
}

fn message(arguments: &SendArguments, now: Time) -> Result<String, Failure> {
    let mut body = arguments.body.clone();
    if body == "-" {
        body.clear();
        std::io::stdin().read_to_string(&mut body)?;
    }
    if arguments.subject.chars().any(char::is_control) {
        return Err(Failure::Usage("the subject has control characters".to_owned()));
    }
    let to: Vec<String> = arguments.to.iter().map(|to| format!("<{to}>")).collect();
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write!(
        text,
        "Date: {}\r\nFrom: <{}>\r\nTo: {}\r\nSubject: {}\r\nMessage-ID: <{}.{}@{}>\r\n",
        now.rfc5322(),
        arguments.from,
        to.join(",\r\n "),
        arguments.subject,
        now.as_micros(),
        std::process::id(),
        arguments.from.domain(),
    );
    text.push_str("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n");
    text.push_str("Content-Transfer-Encoding: 8bit\r\n\r\n");
    for line in body.lines() {
        text.push_str(line.trim_end_matches('\r'));
        text.push_str("\r\n");
    }
    Ok(text)
}

/// With a dot before each line that begins with one (RFC 5321 §4.5.2).
fn stuffed(message: &str) -> String {
    let text = message.replace("\r\n.", "\r\n..");
    if text.starts_with('.') { format!(".{text}") } else { text }
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(u64::try_from(since.as_micros()).unwrap_or(0))
}

const REPLY_WAIT: Duration = Duration::from_mins(5);
const REPLY_LINES_MAX: usize = 200;
const REPLY_OCTETS_MAX: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_begins_with_a_dot_gets_another() {
        assert_eq!(stuffed("a\r\n.b\r\n"), "a\r\n..b\r\n");
        assert_eq!(stuffed(".a\r\n"), "..a\r\n");
    }
}
