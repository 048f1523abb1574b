//! What one end of SMTP says to the other: replies and enhanced status codes.
//!
//! Invariant: a [`Reply`] on the wire is complete, ends in CRLF, has no line above 512 octets
//! (RFC 5321 §4.5.3.1.5) and no control character that came from elsewhere. Pure.

use std::{borrow::Cow, fmt};

/// A reply of SMTP or LMTP (RFC 5321 §4.2): code, enhanced code, text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits, 200 to 599.
    pub code: u16,
    /// The enhanced status code (RFC 3463); `None` for greetings, EHLO and 3yz, and where a peer
    /// sent none.
    pub enhanced: Option<EnhancedCode>,
    /// The text; `\n` separates the lines of a multi-line reply.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A reply with an enhanced code `(class, subject, detail)`.
    pub const fn new(code: u16, enhanced: (u8, u16, u16), text: &'static str) -> Self {
        let (class, subject, detail) = enhanced;
        Self {
            code,
            enhanced: Some(EnhancedCode { class, subject, detail }),
            text: Cow::Borrowed(text),
        }
    }

    /// The same with a text made at run time.
    pub const fn with_text(code: u16, enhanced: (u8, u16, u16), text: String) -> Self {
        let (class, subject, detail) = enhanced;
        Self {
            code,
            enhanced: Some(EnhancedCode { class, subject, detail }),
            text: Cow::Owned(text),
        }
    }

    /// A reply without an enhanced code: greetings, EHLO, 3yz.
    pub fn bare(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced: None, text: text.into() }
    }

    /// 2yz: done.
    pub const fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3yz: go on.
    pub const fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// 4yz: not now.
    pub const fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5yz: never.
    pub const fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Writes the reply as it goes over the wire, each line ended by CRLF.
    ///
    /// Characters that could break the line or a terminal become `?`, and so does what is not
    /// ASCII: only a client that asked for SMTPUTF8 could read it (RFC 6531 §3.7.4). Long lines are
    /// split.
    pub fn write(&self, out: &mut Vec<u8>) {
        let enhanced = self.enhanced.map(|e| format!("{e} ")).unwrap_or_default();
        // 512 octets less code, separator and CRLF.
        let room = LINE_OCTETS_MAX - 6 - enhanced.len();
        let mut lines = self.text.split('\n').flat_map(|line| pieces(line, room)).peekable();
        while let Some(line) = lines.next() {
            let separator = if lines.peek().is_some() { '-' } else { ' ' };
            out.extend_from_slice(format!("{:03}{separator}{enhanced}", self.code).as_bytes());
            let shown = |c: char| u8::try_from(c).ok().filter(|o| (b' '..0x7f).contains(o));
            out.extend(line.chars().map(|c| shown(c).unwrap_or(b'?')));
            out.extend_from_slice(b"\r\n");
        }
    }

    /// The reply with at most [`KEPT_OCTETS_MAX`] octets of its text: what is kept of it, in the
    /// journal and in reports. Where more was said, whole lines are left out, or of a single line
    /// whole characters, and `…` stands for them.
    #[must_use]
    pub fn shortened(self) -> Self {
        self.shortened_to(KEPT_OCTETS_MAX)
    }

    /// The same with a limit of its own.
    #[must_use]
    pub fn shortened_to(mut self, octets_max: usize) -> Self {
        if self.text.len() <= octets_max {
            return self;
        }
        let room = octets_max.saturating_sub(ELLIPSIS.len());
        let head = self.text.get(..self.text.floor_char_boundary(room)).unwrap_or_default();
        // With its line end, so that one sees that it is not the line that is cut.
        let lines = head.rfind('\n').filter(|at| *at >= room / 2).and_then(|at| head.get(..=at));
        self.text = Cow::Owned(format!("{}{ELLIPSIS}", lines.unwrap_or(head)));
        self
    }

    /// The reply on one line, as logs and DSNs show it: `550 5.1.1 no such user`.
    pub fn one_line(&self) -> String {
        let text: String =
            self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match self.enhanced {
            Some(enhanced) => format!("{} {enhanced} {}", self.code, text.trim()),
            None => format!("{} {}", self.code, text.trim()),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.one_line())
    }
}

/// An enhanced status code (RFC 3463), such as `5.1.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnhancedCode {
    /// 2 success, 4 transient, 5 permanent.
    pub class: u8,
    /// 0 to 999: what it is about.
    pub subject: u16,
    /// 0 to 999: what exactly.
    pub detail: u16,
}

impl EnhancedCode {
    /// Reads `class.subject.detail` at the start of a reply's text (RFC 2034 §4) and gives the text
    /// behind it; `None` where there is none.
    pub fn parse_prefix(text: &str) -> Option<(Self, &str)> {
        let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut parts = code.split('.');
        let class = match parts.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let subject = digits(parts.next()?)?;
        let detail = digits(parts.next()?)?;
        parts.next().is_none().then_some((Self { class, subject, detail }, rest))
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

fn digits(text: &str) -> Option<u16> {
    let plain = (1..=3).contains(&text.len()) && text.bytes().all(|o| o.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The line in pieces of at most `room` octets, cut between characters; one empty piece for an
/// empty line.
fn pieces(line: &str, room: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest?;
        let (piece, behind) = text.split_at(text.floor_char_boundary(room));
        rest = (!behind.is_empty()).then_some(behind);
        Some(piece)
    })
}

/// RFC 5321 §4.5.3.1.5: the maximum length of a reply line, code and CRLF included.
pub const LINE_OCTETS_MAX: usize = 512;
/// The most octets of the text of a reply that are kept: four lines of the longest kind.
pub const KEPT_OCTETS_MAX: usize = 2_048;
/// Stands for what is left out.
const ELLIPSIS: &str = "…";

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_line_carries_code_and_enhanced_code() {
        let reply = Reply::new(550, (5, 7, 1), "relaying is not allowed\nask postmaster");
        assert_eq!(
            wire(&reply),
            "550-5.7.1 relaying is not allowed\r\n550 5.7.1 ask postmaster\r\n"
        );
        assert_eq!(wire(&Reply::bare(220, "mx.example")), "220 mx.example\r\n");
        assert_eq!(wire(&Reply::bare(354, "")), "354 \r\n");
    }

    #[test]
    fn no_line_is_above_512_octets_and_none_can_be_forged() {
        let reply = Reply::with_text(554, (5, 6, 0), "é".repeat(700));
        assert!(wire(&reply).split_inclusive("\r\n").all(|line| line.len() <= 512));
        let reply = Reply::with_text(554, (5, 6, 0), "a\r250 ok\x1b[0m\0b".to_owned());
        assert_eq!(wire(&reply), "554 5.6.0 a?250 ok?[0m?b\r\n");
    }

    #[test]
    fn what_is_kept_of_a_reply_has_a_bound_and_is_cut_between_characters_or_lines() {
        let kept = |text: String| Reply::with_text(550, (5, 1, 1), text).shortened();
        assert_eq!(kept("x".repeat(KEPT_OCTETS_MAX)).text.len(), KEPT_OCTETS_MAX);
        let long = kept("\u{fffd}".repeat(65_536));
        assert!(long.text.len() <= KEPT_OCTETS_MAX && long.text.len() > KEPT_OCTETS_MAX - 4);
        assert!(long.text.ends_with("\u{fffd}…"));
        assert_eq!(long.enhanced.unwrap().to_string(), "5.1.1");
        let lines = kept(format!("{}\n", "y".repeat(99)).repeat(30));
        assert_eq!(lines.text.lines().count(), 21, "{}", lines.text);
        assert!(lines.text.ends_with("y\n…"));
        let short = Reply::bare(550, "é".repeat(10)).shortened_to(6);
        assert_eq!(short.text, "é…");
    }

    #[test]
    fn enhanced_codes_are_read_from_the_text() {
        let code = |class, subject, detail| EnhancedCode { class, subject, detail };
        for (text, want) in [
            ("5.1.1 no such user", Some((code(5, 1, 1), "no such user"))),
            ("2.0.0", Some((code(2, 0, 0), ""))),
            ("4.7.650 slow down", Some((code(4, 7, 650), "slow down"))),
            ("3.1.1 x", None),
            ("5.1 x", None),
            ("5.1.1.1 x", None),
            ("5.1.1000 x", None),
            ("5.+1.1 x", None),
            ("OK", None),
        ] {
            assert_eq!(EnhancedCode::parse_prefix(text), want, "{text}");
        }
    }
}
