//! Where the parts of a multipart begin and end (RFC 2046 §5.1).
//!
//! Invariant: a line is a delimiter for us only where it is one for every reader; one that some
//! would take for a delimiter and others not is an error. Pure.

use std::ops::Range;

use memchr::memmem;

use super::{Aim, NotConvertible, Place};

/// Appends the body of a multipart, delimiters and all, with its parts as they are wanted.
///
/// A delimiter ends whatever is open inside, so that a multipart within, which lacks its own end,
/// ends there. One that lacks its end itself ends with `body`; some readers do not decode its last
/// part then, which therefore must be as wanted already.
pub(super) fn convert(
    body: &[u8],
    boundary: &str,
    place: &Place,
    out: &mut Vec<u8>,
) -> Result<(), NotConvertible> {
    let mut delimiters = Delimiters { body, needle: format!("\r\n--{boundary}"), at: 0 };
    let mut part: Option<Range<usize>> = None;
    let mut copied = 0;
    loop {
        let found = delimiters.next_one()?;
        let end = found.as_ref().map_or(body.len(), |found| found.range.start);
        if let Some(part) = part.take() {
            // Where two delimiters share a line end, there is nothing between them.
            let entity = body.get(part.start..end.max(part.start)).unwrap_or_default();
            if found.is_none() && !place.aim.is_met(entity) {
                return Err(NotConvertible::NoEnd);
            }
            super::convert(entity, place, out)?;
            copied = part.start + entity.len();
        }
        let Some(found) = found else { break };
        outside(body, copied..found.range.end, place.aim, out)?;
        copied = found.range.end;
        if found.is_last {
            break;
        }
        part = Some(found.range.end..body.len());
    }
    outside(body, copied..body.len(), place.aim, out)
}

/// Appends what is no part.
fn outside(
    body: &[u8],
    range: Range<usize>,
    aim: Aim,
    out: &mut Vec<u8>,
) -> Result<(), NotConvertible> {
    let text = body.get(range).unwrap_or_default();
    if !aim.is_met(text) {
        return Err(NotConvertible::Outside);
    }
    out.extend_from_slice(text);
    Ok(())
}

/// The delimiters of one multipart, in order.
struct Delimiters<'a> {
    body: &'a [u8],
    /// The boundary with its two dashes behind a line end: only there it counts.
    needle: String,
    /// Where the next line begins.
    at: usize,
}

struct Delimiter {
    /// From the line end in front, which belongs to it, to the line end behind, in octets of the
    /// body.
    range: Range<usize>,
    is_last: bool,
}

impl Delimiters<'_> {
    fn next_one(&mut self) -> Result<Option<Delimiter>, NotConvertible> {
        let (needle, dashed) = (self.needle.as_bytes(), self.needle.trim_start().as_bytes());
        let rest = self.body.get(self.at..).unwrap_or_default();
        let start = if rest.starts_with(dashed) {
            self.at
        } else {
            let Some(found) = memmem::find(rest, needle) else { return Ok(None) };
            self.at + found + LINE_END.len()
        };
        let line = self.body.get(start..).unwrap_or_default();
        let line_len = memmem::find(line, LINE_END).map_or(line.len(), |at| at + LINE_END.len());
        let tail = line.get(dashed.len()..line_len).unwrap_or_default().trim_ascii_end();
        let is_last = tail == b"--";
        if !is_last && !tail.is_empty() {
            return Err(NotConvertible::Boundary);
        }
        self.at = start + line_len;
        // The first line of a body has no line end in front of it.
        Ok(Some(Delimiter { range: start.saturating_sub(LINE_END.len())..self.at, is_last }))
    }
}

const LINE_END: &[u8] = b"\r\n";
