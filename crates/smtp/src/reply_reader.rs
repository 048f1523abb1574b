//! Where one reply of a peer ends and what it says (RFC 5321 §4.2).
//!
//! Invariant: whatever the octets, memory stays within four times [`ReplyLimits::octets_max`] (what
//! is no UTF-8 becomes three octets for one) and a little for each line, each octet is scanned
//! once, and a text is only ever text: it has no line end and no control character inside a line.
//! How much of a reply is kept is not decided here. Pure.

use std::fmt;

use memchr::memchr;
use merpati_mail::{EnhancedCode, Reply};

/// How much a peer may say in one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Longest line in octets with its line end. RFC 5321 §4.5.3.1.5 allows peers 512; many send
    /// more. Default 2,048.
    pub line_octets_max: usize,
    /// Most lines. Default 512.
    pub lines_max: usize,
    /// Most octets of all lines together. Default 65,536.
    pub octets_max: usize,
}

impl Default for ReplyLimits {
    fn default() -> Self {
        Self { line_octets_max: 2_048, lines_max: 512, octets_max: 65_536 }
    }
}

/// Reads replies out of octets that arrive in any pieces.
#[derive(Clone, Debug)]
pub struct ReplyReader {
    limits: ReplyLimits,
    /// The complete lines of the reply that is being read: code and text.
    lines: Vec<(u16, String)>,
    /// The octets of those lines.
    octets: usize,
    /// How much of the next line, not yet complete, has been searched for its end.
    scanned: usize,
}

/// What [`ReplyReader::read`] found at the start of the octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// This is no reply; there is no way to find where the next one begins.
    Broken(ReplyError),
    /// So many octets are used up; the rest is an incomplete line and comes again with more.
    Incomplete(usize),
    /// A whole reply, and the octets used up by it.
    Reply(Reply, usize),
}

/// Why octets are not a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// A line does not begin with three digits of which the first is 2, 3, 4 or 5, or something
    /// other than a blank or a hyphen follows them.
    Code,
    /// A line is longer than [`ReplyLimits::line_octets_max`].
    LineTooLong,
    /// The reply is longer than [`ReplyLimits::octets_max`].
    TooLong,
    /// The reply has more lines than [`ReplyLimits::lines_max`].
    TooManyLines,
}

impl ReplyReader {
    /// A reader at the start of a reply.
    pub const fn new(limits: ReplyLimits) -> Self {
        Self { limits, lines: Vec::new(), octets: 0, scanned: 0 }
    }

    /// Reads up to the end of one reply.
    ///
    /// `octets` begins with what the last call left unused. Lines may end in LF alone (RFC 5321
    /// §2.3.8 has CRLF; reading a reply tolerates it, since nothing is forwarded). Where the lines
    /// of a reply differ in their codes the last one counts.
    pub fn read(&mut self, octets: &[u8]) -> Read {
        let mut used = 0;
        loop {
            let rest = octets.get(used..).unwrap_or_default();
            let unseen = rest.get(self.scanned..).unwrap_or_default();
            let Some(at) = memchr(b'\n', unseen) else {
                if rest.len() >= self.limits.line_octets_max {
                    return Read::Broken(ReplyError::LineTooLong);
                }
                self.scanned = rest.len();
                return Read::Incomplete(used);
            };
            let end = self.scanned + at;
            self.scanned = 0;
            used += end + 1;
            match self.line(rest.get(..end).unwrap_or_default()) {
                Ok(Some(reply)) => return Read::Reply(reply, used),
                Ok(None) => {}
                Err(error) => return Read::Broken(error),
            }
        }
    }

    /// Whether nothing of a reply has been seen since the end of the last one.
    pub fn is_idle(&self) -> bool {
        self.scanned == 0 && self.lines.is_empty()
    }

    /// Takes one line without its LF; gives the reply if that was its last.
    fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyError> {
        if line.len() >= self.limits.line_octets_max {
            return Err(ReplyError::LineTooLong);
        }
        if self.lines.len() >= self.limits.lines_max {
            return Err(ReplyError::TooManyLines);
        }
        self.octets += line.len() + 1;
        if self.octets > self.limits.octets_max {
            return Err(ReplyError::TooLong);
        }
        let (code, is_last, text) = split_line(line)?;
        self.lines.push((code, text));
        if !is_last {
            return Ok(None);
        }
        self.octets = 0;
        Ok(Some(joined(code, &std::mem::take(&mut self.lines))))
    }
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Code => "a line of a reply does not begin with a reply code",
            Self::LineTooLong => "a line of a reply is too long",
            Self::TooLong => "a reply is too long",
            Self::TooManyLines => "a reply has too many lines",
        })
    }
}

impl std::error::Error for ReplyError {}

/// Code, whether it is the last line, and text. Only the first digit of the code is judged: what
/// the other two mean does not change what a client does (RFC 5321 §4.2.1, §4.3.2).
fn split_line(line: &[u8]) -> Result<(u16, bool, String), ReplyError> {
    let mut line = line;
    while let Some(shorter) = line.strip_suffix(b"\r") {
        line = shorter;
    }
    let (digits, rest) = line.split_at_checked(3).ok_or(ReplyError::Code)?;
    if !matches!(digits, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']) {
        return Err(ReplyError::Code);
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    let (is_last, text) = match rest.split_first() {
        None => (true, rest),
        Some((b' ', text)) => (true, text),
        Some((b'-', text)) => (false, text),
        Some(_) => return Err(ReplyError::Code),
    };
    let text = String::from_utf8_lossy(text);
    Ok((code, is_last, text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()))
}

/// The reply of these lines. An enhanced code counts where its class is that of the code
/// (RFC 2034 §4); in which of the lines it stands makes no difference.
fn joined(code: u16, lines: &[(u16, String)]) -> Reply {
    let enhanced = lines.iter().rev().find_map(|(_, text)| {
        let (found, _) = EnhancedCode::parse_prefix(text)?;
        (u16::from(found.class) == code / 100).then_some(found)
    });
    let mut all = String::new();
    for (at, (_, text)) in lines.iter().enumerate() {
        if at > 0 {
            all.push('\n');
        }
        all.push_str(match EnhancedCode::parse_prefix(text) {
            Some((found, rest)) if Some(found) == enhanced => rest,
            Some(_) | None => text,
        });
    }
    Reply { code, enhanced, text: all.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(octets: &str) -> Result<String, ReplyError> {
        match ReplyReader::new(ReplyLimits::default()).read(octets.as_bytes()) {
            Read::Broken(error) => Err(error),
            Read::Incomplete(used) => Ok(format!("incomplete {used}")),
            Read::Reply(reply, used) => {
                let enhanced = reply.enhanced.map(|e| format!("{e} ")).unwrap_or_default();
                Ok(format!("{used} {} {enhanced}{:?}", reply.code, reply.text))
            }
        }
    }

    #[test]
    fn what_a_reply_is_and_what_is_none() {
        for (octets, want) in [
            ("250 ok\r\n", Ok("8 250 \"ok\"")),
            ("250\r\n", Ok("5 250 \"\"")),
            ("250 \r\n", Ok("6 250 \"\"")),
            ("250 ok\n", Ok("7 250 \"ok\"")),
            ("250-a\n250 b\n", Ok("12 250 \"a\\nb\"")),
            ("250-a\r\n550 b\r\n", Ok("14 550 \"a\\nb\"")),
            ("250-2.1.0 a\r\n550 5.1.1 b\r\n", Ok("26 550 5.1.1 \"2.1.0 a\\nb\"")),
            ("550-5.1.1 a\r\n550 5.1.1 b\r\n", Ok("26 550 5.1.1 \"a\\nb\"")),
            ("550 2.1.1 a\r\n", Ok("13 550 \"2.1.1 a\"")),
            ("299 odd\r\n", Ok("9 299 \"odd\"")),
            ("250 a\0\x1bb\rc\r\n", Ok("12 250 \"a??b?c\"")),
            ("250 ok\r\n250 next\r\n", Ok("8 250 \"ok\"")),
            ("250-a\r\n250 b", Ok("incomplete 7")),
            ("250 ok\r", Ok("incomplete 0")),
            ("", Ok("incomplete 0")),
            ("000 x\r\n", Err(ReplyError::Code)),
            ("99 x\r\n", Err(ReplyError::Code)),
            ("199 x\r\n", Err(ReplyError::Code)),
            ("600 x\r\n", Err(ReplyError::Code)),
            ("25\r\n", Err(ReplyError::Code)),
            ("250x\r\n", Err(ReplyError::Code)),
            ("2500\r\n", Err(ReplyError::Code)),
            ("2\u{b2}0 x\r\n", Err(ReplyError::Code)),
            ("ok\r\n", Err(ReplyError::Code)),
            ("\r\n", Err(ReplyError::Code)),
            ("\n", Err(ReplyError::Code)),
        ] {
            assert_eq!(read_all(octets), want.map(str::to_owned), "{octets:?}");
        }
    }

    #[test]
    fn a_reply_without_end_meets_a_limit() {
        assert_eq!(read_all(&"2".repeat(2_048)), Err(ReplyError::LineTooLong));
        assert_eq!(
            read_all(&format!("250 {}\r\n", "x".repeat(3_000))),
            Err(ReplyError::LineTooLong)
        );
        assert_eq!(read_all(&"220-\r\n".repeat(1_000_000)), Err(ReplyError::TooManyLines));
        let line = format!("220-{}\r\n", "x".repeat(1_000));
        assert_eq!(read_all(&line.repeat(100)), Err(ReplyError::TooLong));
    }

    #[test]
    fn the_limits_are_those_that_are_named_to_the_octet_and_the_line() {
        let limits = ReplyLimits { line_octets_max: 10, lines_max: 3, octets_max: 25 };
        let read = |octets: &str| match ReplyReader::new(limits).read(octets.as_bytes()) {
            Read::Broken(error) => error.to_string(),
            Read::Incomplete(used) => format!("incomplete {used}"),
            Read::Reply(reply, used) => format!("{used} {}", reply.code),
        };
        for (octets, want) in [
            ("250 45678\n", "10 250"),
            ("250 456789\n", "a line of a reply is too long"),
            ("250 45678", "incomplete 0"),
            ("250 456789", "a line of a reply is too long"),
            ("250-\n250-\n250 \n", "15 250"),
            ("250-\n250-\n250-\n250 \n", "a reply has too many lines"),
            ("250-5678\n250-5678\n250 56\n", "25 250"),
            ("250-5678\n250-5678\n250 567\n", "a reply is too long"),
        ] {
            assert_eq!(read(octets), want, "{octets:?}");
        }
        // Each reply has its own.
        let mut reader = ReplyReader::new(limits);
        for _ in 0..3 {
            assert!(matches!(reader.read(b"250-5678\n250-5678\n250 56\n"), Read::Reply(_, 25)));
        }
    }

    #[test]
    fn a_reply_of_30_lines_in_single_octets_is_read() {
        let octets = format!("{}250 end\r\n", "250-line\r\n".repeat(29)).into_bytes();
        let mut reader = ReplyReader::new(ReplyLimits::default());
        let mut start = 0;
        for end in 1..=octets.len() {
            match reader.read(&octets[start..end]) {
                Read::Incomplete(used) => start += used,
                Read::Reply(reply, used) => {
                    assert_eq!((end, start + used), (octets.len(), octets.len()));
                    assert_eq!(reply.text.lines().count(), 30);
                    assert!(reader.is_idle());
                    return;
                }
                Read::Broken(error) => panic!("{error}"),
            }
            assert!(!reader.is_idle());
        }
        panic!("no reply");
    }
}
