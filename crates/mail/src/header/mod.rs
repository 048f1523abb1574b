//! Where the fields of a message are (RFC 5322 §2.2), without copying it.
//!
//! Invariant: the fields of a message are disjoint, in order, and without gaps from its first
//! octet on; scanning is linear in the header and never looks into the body.
//!
//! Pure.

mod fold;
mod overlay;
mod syntax;
mod words;

use std::fmt;
use std::ops::Range;

use memchr::memchr;

pub use fold::{Breaks, refolded};
pub use overlay::{MAX_LINE_OCTETS, Overlay, folded};
pub use syntax::{is_date, is_message_id, speaks_for};
pub use words::{decode_words, encode_word};

/// One header field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as written, without colon and without blanks before it.
    pub name: &'a [u8],
    /// Everything behind the colon, folds included, without the final line end.
    pub value: &'a [u8],
    /// The whole field with its final line end, in octets of the message.
    pub range: Range<usize>,
}

impl Field<'_> {
    /// Whether the field has this name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value on one line, trimmed, for views: folds undone (RFC 5322 §2.2.3), octets that are
    /// not UTF-8 replaced.
    pub fn unfolded(&self) -> String {
        let line: Vec<u8> =
            self.value.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n')).collect();
        String::from_utf8_lossy(&line).trim().to_owned()
    }
}

/// The fields of a message, from the top. Ends at the empty line, at the first line that is neither
/// a field nor a fold, or with the message.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    message: &'a [u8],
    at: usize,
}

impl Headers<'_> {
    /// The offset of the first octet behind the empty line; without an empty line, the offset at
    /// which the header ends.
    pub fn body_start(mut self) -> usize {
        while self.next().is_some() {}
        let rest = self.message.get(self.at..).unwrap_or_default();
        if rest.starts_with(b"\r\n") {
            self.at + 2
        } else if rest.starts_with(b"\n") {
            self.at + 1
        } else {
            self.at
        }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let start = self.at;
        let mut rest = self.message.get(start..)?;
        let mut end = start + line_octets(rest);
        let (name, colon) = name_of(rest)?;
        loop {
            rest = self.message.get(end..)?;
            if !matches!(rest.first(), Some(b' ' | b'\t')) {
                break;
            }
            end += line_octets(rest);
        }
        self.at = end;
        let value = without_line_end(self.message.get(start + colon + 1..end)?);
        Some(Field { name, value, range: start..end })
    }
}

/// The fields of a message as the laxest reader finds them: also behind lines that are no fields,
/// up to the first empty line.
#[derive(Clone, Debug)]
pub struct LaxHeaders<'a>(Headers<'a>);

impl LaxHeaders<'_> {
    /// Whether the empty line has been reached: nobody finds a field behind it.
    pub fn have_ended(&self) -> bool {
        let rest = self.0.message.get(self.0.at..).unwrap_or_default();
        rest.starts_with(b"\r\n") || rest.starts_with(b"\n")
    }
}

impl<'a> Iterator for LaxHeaders<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            if let Some(field) = self.0.next() {
                return Some(field);
            }
            let rest = self.0.message.get(self.0.at..)?;
            if rest.is_empty() || self.have_ended() {
                return None;
            }
            self.0.at += line_octets(rest);
        }
    }
}

/// See [`LaxHeaders`]: what must not be hidden from us is searched for in these.
pub fn lax_fields(message: &[u8]) -> LaxHeaders<'_> {
    LaxHeaders(fields(message))
}

/// The fields of `message`. Lines end with CRLF; a lone LF is taken for a line end too, so that
/// no octets can hide a field from us that a laxer reader would see.
pub fn fields(message: &[u8]) -> Headers<'_> {
    Headers { message, at: 0 }
}

/// The fields of `message` from this octet on, at which a line begins; ranges are in octets of the
/// message.
pub const fn fields_from(message: &[u8], at: usize) -> Headers<'_> {
    Headers { message, at }
}

/// The length of a separator line of the mbox format at the start (RFC 4155), `From a@b Thu Jan…`,
/// also one that was quoted with `>`, where a field follows it; else 0. It is no field and no part
/// of a message, but mail is handed over with it, and most readers pass over it.
pub fn mbox_line_octets(message: &[u8]) -> usize {
    if !message.starts_with(b"From ") && !message.starts_with(b">From ") {
        return 0;
    }
    let length = line_octets(message);
    let behind = message.get(length..).unwrap_or_default();
    if name_of(message).is_none() && name_of(behind).is_some() { length } else { 0 }
}

/// Whether a header begins here: with a field, with the empty line behind no field, or with a
/// separator line of the mbox format. What begins otherwise is a body.
pub fn is_header_start(message: &[u8]) -> bool {
    let is_empty_line = || matches!(message, [b'\n', ..] | [b'\r', b'\n', ..]);
    name_of(message).is_some() || is_empty_line() || mbox_line_octets(message) > 0
}

/// See [`Headers::body_start`].
pub fn body_start(message: &[u8]) -> usize {
    fields(message).body_start()
}

/// The topmost field of this name, in any case.
pub fn first<'a>(message: &'a [u8], name: &str) -> Option<Field<'a>> {
    fields(message).find(|field| field.is(name))
}

/// How many fields have this name, in any case.
pub fn count(message: &[u8], name: &str) -> usize {
    fields(message).filter(|field| field.is(name)).count()
}

/// Why an overlay cannot be made. All of them are mistakes of ours or of a rule, not of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// A line of a folded value is blank; a reader could take it for the end of the header.
    BlankLine,
    /// The name is not printable ASCII without colon (RFC 5322 §3.6.8).
    BadName,
    /// The removed ranges are empty, overlap, or are out of order.
    BadRanges,
    /// The value holds a control character, or a line end that is not a fold.
    BadValue,
    /// A line is longer than [`MAX_LINE_OCTETS`].
    LineTooLong,
    /// The octets are not a sequence of whole fields.
    NotFields,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BlankLine => "a folded line of the header field is blank",
            Self::BadName => "the name of the header field is not valid",
            Self::BadRanges => "the removed ranges are not sorted, disjoint and filled",
            Self::BadValue => "the header field holds a control character or a bare line end",
            Self::LineTooLong => "a line of the header field is too long",
            Self::NotFields => "the added octets are not whole header fields",
        })
    }
}

impl std::error::Error for HeaderError {}

/// The length of the first line with its LF, or of everything if there is none.
fn line_octets(text: &[u8]) -> usize {
    memchr(b'\n', text).map_or(text.len(), |at| at + 1)
}

fn without_line_end(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// The name at the start of a field, and where its colon is; `None` where no field begins. Blanks
/// before the colon are obsolete (RFC 5322 §4.5).
fn name_of(text: &[u8]) -> Option<(&[u8], usize)> {
    let name = text.get(..text.iter().position(|octet| !is_ftext(*octet))?)?;
    let behind = text.get(name.len()..)?;
    let colon = name.len() + behind.iter().position(|octet| !matches!(octet, b' ' | b'\t'))?;
    (!name.is_empty() && text.get(colon) == Some(&b':')).then_some((name, colon))
}

/// RFC 5322 §3.6.8: printable ASCII without colon.
const fn is_ftext(octet: u8) -> bool {
    octet.is_ascii_graphic() && octet != b':'
}

fn is_field_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|octet| is_ftext(*octet))
}
