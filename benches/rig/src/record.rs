//! Lines of the files in which load and sink write down what they know.
//!
//! Five columns with blanks between, the form that the tools beside the checkout use, too:
//!
//! - sent: id, number of recipients, `A` acknowledged, `R` refused or `U` unknown (lost before the
//!   reply), seconds since 1970 at the reply, microseconds from the last octet to the reply;
//! - received or bounced: id, number of the recipient, seconds since 1970, octets, `1` for a body
//!   that is whole and `0` for one that is damaged.
//!
//! Pure.

use std::fmt::Write;

/// How the try to send one message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The reply to the end of data was 2yz: the relay is responsible now.
    Acknowledged,
    /// A reply 4yz or 5yz.
    Refused,
    /// The end of data may have arrived, but no reply came: both delivery and loss are right.
    Unknown,
}

/// One line of a file of sent messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// The message.
    pub id: String,
    /// How many forward-paths it had.
    pub recipients: u32,
    /// How it ended.
    pub fate: Fate,
    /// When, in seconds since 1970.
    pub at_seconds: f64,
    /// From the last octet of the content to the reply; 0 without one.
    pub latency_micros: u64,
}

impl Sent {
    /// Appends the line.
    pub fn write(&self, out: &mut String) {
        let fate = match self.fate {
            Fate::Acknowledged => 'A',
            Fate::Refused => 'R',
            Fate::Unknown => 'U',
        };
        let Self { id, recipients, at_seconds, latency_micros, .. } = self;
        let written = writeln!(out, "{id} {recipients} {fate} {at_seconds:.6} {latency_micros}");
        debug_assert!(written.is_ok(), "a String takes everything");
    }

    /// Reads a line; `None` if it is not of this form.
    pub fn parse(line: &str) -> Option<Self> {
        let [id, recipients, fate, at, latency] = columns(line)?;
        let fate = match fate {
            "A" => Fate::Acknowledged,
            "R" => Fate::Refused,
            "U" => Fate::Unknown,
            _ => return None,
        };
        Some(Self {
            id: id.to_owned(),
            recipients: recipients.parse().ok()?,
            fate,
            at_seconds: at.parse().ok()?,
            latency_micros: latency.parse().ok()?,
        })
    }
}

/// One line of a file of received or bounced messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// The message.
    pub id: String,
    /// Which of its recipients.
    pub recipient: u32,
    /// When, in seconds since 1970.
    pub at_seconds: f64,
    /// Of the content as it came over the wire.
    pub octets: usize,
    /// Whether the body is the one that was sent.
    pub is_whole: bool,
}

impl Received {
    /// Appends the line.
    pub fn write(&self, out: &mut String) {
        let Self { id, recipient, at_seconds, octets, is_whole } = self;
        let whole = u8::from(*is_whole);
        let written = writeln!(out, "{id} {recipient} {at_seconds:.6} {octets} {whole}");
        debug_assert!(written.is_ok(), "a String takes everything");
    }

    /// Reads a line; `None` if it is not of this form.
    pub fn parse(line: &str) -> Option<Self> {
        let [id, recipient, at, octets, whole] = columns(line)?;
        let is_whole = match whole {
            "0" => false,
            "1" => true,
            _ => return None,
        };
        Some(Self {
            id: id.to_owned(),
            recipient: recipient.parse().ok()?,
            at_seconds: at.parse().ok()?,
            octets: octets.parse().ok()?,
            is_whole,
        })
    }
}

fn columns(line: &str) -> Option<[&str; 5]> {
    let mut words = line.split_ascii_whitespace();
    let columns = [words.next()?, words.next()?, words.next()?, words.next()?, words.next()?];
    words.next().is_none().then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_sent_messages_comes_back_as_it_was() {
        for fate in [Fate::Acknowledged, Fate::Refused, Fate::Unknown] {
            let id = "k-00000001".to_owned();
            let sent = Sent { id, recipients: 3, fate, at_seconds: 1.5, latency_micros: 250 };
            let mut line = String::new();
            sent.write(&mut line);
            assert_eq!(Sent::parse(&line), Some(sent), "{line}");
        }
    }

    #[test]
    fn a_line_of_received_messages_comes_back_as_it_was() {
        for is_whole in [false, true] {
            let id = "k-00000001".to_owned();
            let received = Received { id, recipient: 2, at_seconds: 0.25, octets: 10, is_whole };
            let mut line = String::new();
            received.write(&mut line);
            assert_eq!(Received::parse(&line), Some(received), "{line}");
        }
    }

    #[test]
    fn half_a_line_is_none() {
        for line in ["", "k-1", "k-1 0 1.5 10", "k-1 0 1.5 10 ", "k-1 0 1.5 10 1 2", "k-1 x 1 1 1"]
        {
            assert_eq!(Received::parse(line), None, "{line:?}");
        }
        assert_eq!(Sent::parse("k-1 1 X 1.5 10"), None);
    }
}
