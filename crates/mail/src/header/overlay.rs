//! What a message gains and loses in its header while it is sent.
//!
//! Invariant: the stored message never changes, so a signed body never changes by accident; and
//! an overlay can only add whole, well-formed fields, so it can neither end the header early nor
//! smuggle a line. What it adds is sent as it is: no line of the message continues it.
//!
//! Pure.

use std::ops::Range;

use super::{HeaderError, fields, is_field_name, is_header_start};

/// Longest line without its CRLF, in octets (RFC 5322 §2.1.1).
pub const MAX_LINE_OCTETS: usize = 998;

/// Header additions and removals, applied while sending; the stored message never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Whole fields, each ended by CRLF, that go on top of the message.
    pub prepend: Vec<u8>,
    /// Ranges of the original that are left out: whole fields, in octets, sorted and disjoint.
    pub remove: Vec<Range<u32>>,
}

impl Overlay {
    /// Joins the parts of a stored overlay, and checks them as if they came from a stranger.
    pub fn from_parts(prepend: Vec<u8>, remove: Vec<Range<u32>>) -> Result<Self, HeaderError> {
        check_fields(&prepend)?;
        let mut free_from = 0;
        for range in &remove {
            if range.start < free_from || range.is_empty() {
                return Err(HeaderError::BadRanges);
            }
            free_from = range.end;
        }
        Ok(Self { prepend, remove })
    }

    /// Puts a field above everything. Folds in `value` are the caller's, see [`folded`].
    pub fn prepend_field(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        if !is_field_name(name.as_bytes()) {
            return Err(HeaderError::BadName);
        }
        let field = format!("{name}: {value}\r\n");
        check_fields(field.as_bytes())?;
        // A line end in `value` without a fold would begin a second field.
        if fields(field.as_bytes()).count() != 1 {
            return Err(HeaderError::BadValue);
        }
        self.prepend.splice(..0, field.into_bytes());
        Ok(())
    }

    /// Puts whole fields, each ended by CRLF, above everything.
    pub fn prepend_fields(&mut self, octets: &[u8]) -> Result<(), HeaderError> {
        check_fields(octets)?;
        self.prepend.splice(..0, octets.iter().copied());
        Ok(())
    }

    /// Leaves out whole fields of the message; those that are left out already may be among them.
    ///
    /// What lies beyond the first 4 GiB stays: no message of that size is ever accepted.
    pub fn remove_ranges(&mut self, ranges: impl IntoIterator<Item = Range<usize>>) {
        let ranges = ranges.into_iter().filter(|range| !range.is_empty()).filter_map(|range| {
            Some(u32::try_from(range.start).ok()?..u32::try_from(range.end).ok()?)
        });
        self.remove.extend(ranges);
        self.remove.sort_by_key(|range| (range.start, range.end));
        // Whole fields are equal or disjoint, so what overlaps is the same field again.
        self.remove.dedup();
    }

    /// Leaves out every field of `message` with this name, in any case. Fields added by this
    /// overlay stay.
    pub fn remove_fields(&mut self, message: &[u8], name: &str) {
        self.remove_ranges(fields(message).filter(|field| field.is(name)).map(|field| field.range));
    }

    /// The octets to send, in order: the added fields, then what is left of `message`. Where that
    /// does not begin with a header, an empty line goes between: the body that it is begins there,
    /// and no line of it is read as a field or as a fold of one.
    pub fn slices<'a>(&'a self, message: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let kept = self.kept(message.len() as u64).filter_map(|range| slice(message, &range));
        let gap = if self.has_gap(message) { GAP } else { b"" };
        [self.prepend.as_slice(), gap].into_iter().chain(kept).filter(|slice| !slice.is_empty())
    }

    /// The length in octets of a message of `message_len` octets with this overlay applied.
    ///
    /// `beginning` is the message from its first octet on, at least up to the first line that
    /// stays, and with that line: its header and two lines more are always enough.
    pub fn len(&self, message_len: u64, beginning: &[u8]) -> u64 {
        let kept: u64 = self.kept(message_len).map(|range| range.end - range.start).sum();
        let gap = if self.has_gap(beginning) { GAP.len() } else { 0 };
        kept + (self.prepend.len() + gap) as u64
    }

    /// Whether the message is sent as it was stored.
    pub fn is_empty(&self) -> bool {
        self.prepend.is_empty() && self.remove.is_empty()
    }

    /// Whether what stays would be read as a part of the header that is added (RFC 5322 §2.2).
    fn has_gap(&self, beginning: &[u8]) -> bool {
        if self.prepend.is_empty() {
            return false;
        }
        let mut kept = self.kept(beginning.len() as u64).filter(|range| !range.is_empty());
        let first = kept.next().and_then(|range| slice(beginning, &range));
        first.is_some_and(|first| !is_header_start(first))
    }

    /// The ranges of a message that stay. Never runs backwards or past the end, whatever the
    /// removed ranges are.
    fn kept(&self, message_len: u64) -> impl Iterator<Item = Range<u64>> {
        let mut at = 0;
        let ends = self.remove.iter().map(|range| (u64::from(range.start), u64::from(range.end)));
        ends.chain(std::iter::once((message_len, message_len))).map(move |(start, end)| {
            let from = at;
            at = end.min(message_len).max(from);
            from..start.clamp(from, message_len)
        })
    }
}

fn slice<'a>(message: &'a [u8], range: &Range<u64>) -> Option<&'a [u8]> {
    message.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// Joins tokens with a blank, or with CRLF and a tab where the line would grow beyond 78
/// characters (RFC 5322 §2.1.1). The first line leaves 32 for the name of the field.
///
/// A longer token keeps a line of its own; it is never broken.
pub fn folded(tokens: &[&str]) -> String {
    let mut text = String::new();
    let mut column = FIELD_NAME_ROOM;
    for token in tokens.iter().filter(|token| !token.is_empty()) {
        let width = token.chars().count();
        if text.is_empty() {
            column += width;
        } else if column + 1 + width > FOLD_COLUMNS {
            text.push_str("\r\n\t");
            column = 1 + width;
        } else {
            text.push(' ');
            column += 1 + width;
        }
        text.push_str(token);
    }
    text
}

/// Whether `text` is nothing or whole fields, each ended by CRLF, that are safe to put on top of a
/// message.
fn check_fields(text: &[u8]) -> Result<(), HeaderError> {
    if text.is_empty() {
        return Ok(());
    }
    let lines = text.strip_suffix(b"\r\n").ok_or(HeaderError::NotFields)?;
    for line in lines.split(|octet| *octet == b'\n') {
        check_line(line)?;
    }
    // Every LF but the last is behind a CR, which is then the only one in its line.
    let is_crlf = |(at, octet): (usize, &u8)| {
        *octet != b'\n' || at.checked_sub(1).and_then(|cr| lines.get(cr)) == Some(&b'\r')
    };
    if !lines.iter().enumerate().all(is_crlf) || lines.ends_with(b"\r") {
        return Err(HeaderError::BadValue);
    }
    let end = fields(text).last().map_or(0, |field| field.range.end);
    if end == text.len() { Ok(()) } else { Err(HeaderError::BadValue) }
}

/// Checks a line whose LF is taken off; the CR of its CRLF may still be there.
fn check_line(line: &[u8]) -> Result<(), HeaderError> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > MAX_LINE_OCTETS {
        return Err(HeaderError::LineTooLong);
    }
    if line.iter().any(|octet| octet.is_ascii_control() && *octet != b'\t') {
        return Err(HeaderError::BadValue);
    }
    if line.trim_ascii().is_empty() {
        return Err(HeaderError::BlankLine);
    }
    Ok(())
}

/// The empty line between a header and a body.
const GAP: &[u8] = b"\r\n";
const FIELD_NAME_ROOM: usize = 32;
const FOLD_COLUMNS: usize = 78;
