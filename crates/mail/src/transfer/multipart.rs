//! Where the parts of a multipart begin and end (RFC 2046 §5.1).
//!
//! Invariant: a line is a delimiter for us only where it is one for every reader; one that some
//! would take for a delimiter and others not is an error. Pure.

use std::ops::Range;

use memchr::memmem;

use super::content::{ContentType, Kind};
use super::{Aim, DEPTH_MAX, NotConvertible, Place};
use crate::header;

/// Whether every reader finds the parts of `message` ended where we do.
///
/// A multipart that lacks its end ends with the one around it. Some readers look for its boundary
/// still: where that stands once more, behind the end, they see other parts than we. That is
/// [`NotConvertible::Boundary`], also where the parts themselves need no change.
pub(super) fn check_ends(message: &[u8]) -> Result<(), NotConvertible> {
    Ends { searches_left: SEARCHES_MAX }.check(message, message.len(), Kind::Leaf, 0)
}

/// How often the rest of a message is searched for the boundary of a multipart without an end. In
/// real mail those are headers that reports on mail return: as many as reports that somebody
/// forwards together.
const SEARCHES_MAX: u32 = 64;

struct Ends {
    searches_left: u32,
}

impl Ends {
    /// Checks the entity that is the first `len` octets of `rest`, which goes to the end of the
    /// message. What cannot be read has no parts: whether it may stay is not asked here.
    fn check(
        &mut self,
        rest: &[u8],
        len: usize,
        default: Kind,
        depth: u32,
    ) -> Result<(), NotConvertible> {
        // What would have to be encoded there cannot be; the rest stays as it is.
        if depth > DEPTH_MAX {
            return Ok(());
        }
        let entity = rest.get(..len).unwrap_or_default();
        let body_start = header::body_start(entity);
        let head = entity.get(..body_start).unwrap_or_default();
        let content = match header::first(head, "Content-Type") {
            Some(field) => ContentType::parse(&field.unfolded()).ok(),
            None => Some(ContentType::without_parameters(default)),
        };
        let (within, body_len) = (rest.get(body_start..).unwrap_or_default(), len - body_start);
        match content {
            Some(ContentType { kind: Kind::Message, .. }) => {
                self.check(within, body_len, Kind::Leaf, depth + 1)
            }
            Some(ContentType { kind, boundary: Some(boundary) }) => {
                self.parts(within, body_len, (kind, &boundary), depth)
            }
            _ => Ok(()),
        }
    }

    /// Checks the parts of a multipart whose body is the first `len` octets of `rest`.
    fn parts(
        &mut self,
        rest: &[u8],
        len: usize,
        (kind, boundary): (Kind, &str),
        depth: u32,
    ) -> Result<(), NotConvertible> {
        let default = if kind == Kind::Digest { Kind::Message } else { Kind::Leaf };
        let body = rest.get(..len).unwrap_or_default();
        let mut delimiters = Delimiters { body, needle: format!("\r\n--{boundary}"), at: 0 };
        let mut part_start = None;
        loop {
            let found = delimiters.next_one();
            let part_end =
                found.as_ref().ok().and_then(Option::as_ref).map_or(len, |one| one.range.start);
            if let Some(start) = part_start {
                let part = rest.get(start..).unwrap_or_default();
                self.check(part, part_end.saturating_sub(start), default, depth + 1)?;
            }
            match found {
                Ok(Some(one)) if one.is_last => return Ok(()),
                Ok(Some(one)) => part_start = Some(one.range.end),
                // A delimiter that is none for every reader may not be an end for some.
                Ok(None) | Err(_) => break,
            }
        }
        // The line end in front of a delimiter may be the last of the body.
        let behind = rest.get(len.saturating_sub(LINE_END.len())..).unwrap_or_default();
        if behind.len() <= LINE_END.len() {
            return Ok(());
        }
        self.searches_left = self.searches_left.checked_sub(1).ok_or(NotConvertible::Boundary)?;
        match memmem::find(behind, delimiters.needle.as_bytes()) {
            Some(_) => Err(NotConvertible::Boundary),
            None => Ok(()),
        }
    }
}

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
