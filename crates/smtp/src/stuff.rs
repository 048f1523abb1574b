//! How content goes out between `354` and the lone dot (RFC 5321 §4.5.2).
//!
//! Invariant: what is emitted has no bare CR, no bare LF and no NUL, no line of it is a lone dot
//! before the end, and un-stuffing it gives back the content. So no reader of ours, however
//! lenient, can see the end of the data earlier than we do. Pure.

use std::fmt;

use memchr::memchr3;

/// Where in a line the content has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind a CR, which is held back until the LF is seen.
    BehindCr,
    /// Inside a line.
    Inside,
    /// Before the first octet of a line.
    LineStart,
}

/// Doubles leading dots, and stops at what must not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuffer {
    place: Place,
}

/// Why content cannot go out as mail data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StuffError {
    /// A CR without an LF behind it.
    BareCr,
    /// An LF without a CR before it.
    BareLf,
    /// A NUL.
    Nul,
}

impl Stuffer {
    /// At the start of the content.
    pub const fn new() -> Self {
        Self { place: Place::LineStart }
    }

    /// Emits the next piece of the content as slices of it, with dots between where a line begins
    /// with one. On an error what was emitted until then is a clean beginning of the content; the
    /// data must not be ended after it.
    pub fn push(&mut self, piece: &[u8], emit: &mut dyn FnMut(&[u8])) -> Result<(), StuffError> {
        // `rest` begins where nothing has been emitted yet, `at` is the octet under the eye.
        let mut rest = piece;
        if self.place == Place::BehindCr && !piece.is_empty() {
            rest = piece.strip_prefix(b"\n").ok_or(StuffError::BareCr)?;
            emit(b"\r\n");
            self.place = Place::LineStart;
        }
        let mut at = 0;
        while let Some(&octet) = rest.get(at) {
            if self.place == Place::LineStart && octet == b'.' {
                let (before, line) = rest.split_at_checked(at).unwrap_or((rest, &[]));
                emit_some(before, emit);
                emit(b".");
                rest = line;
                at = 0;
            }
            self.place = Place::Inside;
            let line = rest.get(at..).unwrap_or_default();
            let Some(found) = memchr3(b'\r', b'\n', 0, line) else { break };
            let end = at + found;
            match (line.get(found), line.get(found + 1)) {
                (Some(b'\r'), Some(b'\n')) => at = end + 2,
                (Some(b'\r'), None) => {
                    emit_some(rest.get(..end).unwrap_or_default(), emit);
                    self.place = Place::BehindCr;
                    return Ok(());
                }
                (Some(b'\r'), Some(_)) => return Err(StuffError::BareCr),
                (Some(b'\n'), _) => return Err(StuffError::BareLf),
                (Some(_) | None, _) => return Err(StuffError::Nul),
            }
            self.place = Place::LineStart;
        }
        emit_some(rest, emit);
        Ok(())
    }

    /// Emits the end of the data; a last line without CRLF is completed.
    pub fn end(self, emit: &mut dyn FnMut(&[u8])) -> Result<(), StuffError> {
        match self.place {
            Place::BehindCr => return Err(StuffError::BareCr),
            Place::Inside => emit(b"\r\n.\r\n"),
            Place::LineStart => emit(b".\r\n"),
        }
        Ok(())
    }
}

impl Default for Stuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for StuffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BareCr => "our content has a CR without LF and was not sent",
            Self::BareLf => "our content has an LF without CR and was not sent",
            Self::Nul => "our content has a NUL and was not sent",
        })
    }
}

impl std::error::Error for StuffError {}

fn emit_some(slice: &[u8], emit: &mut dyn FnMut(&[u8])) {
    if !slice.is_empty() {
        emit(slice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuffed(pieces: &[&str]) -> Result<String, StuffError> {
        let mut out = Vec::new();
        let mut stuffer = Stuffer::new();
        for piece in pieces {
            stuffer.push(piece.as_bytes(), &mut |slice| out.extend_from_slice(slice))?;
        }
        stuffer.end(&mut |slice| out.extend_from_slice(slice))?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn leading_dots_are_doubled_once_and_the_last_line_is_completed() {
        for (pieces, want) in [
            (&[][..], ".\r\n"),
            (&[""], ".\r\n"),
            (&["\r\n"], "\r\n.\r\n"),
            (&["a"], "a\r\n.\r\n"),
            (&["a\r\n"], "a\r\n.\r\n"),
            (&["."], "..\r\n.\r\n"),
            (&[".\r\n"], "..\r\n.\r\n"),
            (&["..\r\n...\r\n..x\r\n.. \r\n"], "...\r\n....\r\n...x\r\n... \r\n.\r\n"),
            (&["a.b\r\n. \r\n .\r\n"], "a.b\r\n.. \r\n .\r\n.\r\n"),
            (&["a\r", "\n", ".", "\r", "\n", ".b"], "a\r\n..\r\n..b\r\n.\r\n"),
            (&["a\r", "", "\n.\r\n"], "a\r\n..\r\n.\r\n"),
        ] {
            assert_eq!(stuffed(pieces).as_deref(), Ok(want), "{pieces:?}");
        }
    }

    #[test]
    fn no_look_alike_of_the_end_of_data_goes_out() {
        for (content, error) in [
            ("a\n.\nb", StuffError::BareLf),
            ("a\n.\r\nb", StuffError::BareLf),
            ("a\r\n.\nb", StuffError::BareLf),
            ("a\r.\rb", StuffError::BareCr),
            ("a\r.\r\nb", StuffError::BareCr),
            ("a\r\n.\rb", StuffError::BareCr),
            ("a\n.\rb", StuffError::BareLf),
            ("a\r.\nb", StuffError::BareCr),
            ("a\r\n.\r\r\nb", StuffError::BareCr),
            ("a\r\r\n.\r\r\nb", StuffError::BareCr),
            ("a\r\n\0.\r\nb", StuffError::Nul),
            ("a\r\n.\0\r\nb", StuffError::Nul),
            ("a\r\0\n.\r\nb", StuffError::BareCr),
            ("a\r", StuffError::BareCr),
            ("a\r\n\r", StuffError::BareCr),
        ] {
            assert_eq!(stuffed(&[content]), Err(error), "{content:?}");
            let octets: Vec<&str> = content.split_inclusive(|_| true).collect();
            assert_eq!(stuffed(&octets), Err(error), "{content:?} in single octets");
        }
    }
}
