//! What a message becomes whose parts must be encoded anew: one with 8-bit content for a peer
//! without 8BITMIME (RFC 6152 §3), and one with lines that are too long (RFC 5322 §2.1.1).
//!
//! Invariant: the result has no octet above 127, or no long line in a body; the same parts in the
//! same order, and in each the same content once it is decoded. Where that is not certain for every
//! reader, or a signature would break, the answer is [`NotConvertible`] and never a guess.
//!
//! Pure. Content grows by half at most, and each part that is encoded by up to 115 octets of
//! header, so that a message of nothing but tiny parts becomes some ten times as long. How long a
//! message may be is for the caller to say.

mod content;
mod encode;
mod lines;
mod multipart;

use std::fmt;

use memchr::{memchr_iter, memchr2_iter};

use crate::header::{self, Field};
use content::{ContentType, Encoding, Kind};
pub use lines::LongestLine;

/// Gives `message` with every part that holds octets above 127 in quoted-printable or base64,
/// whichever is shorter, its `Content-Transfer-Encoding` changed or added, and everything else
/// octet for octet. A message without such octets is given as it is.
///
/// Containers that say 8bit or binary say 7bit then (RFC 2045 §6.4). A message that is not MIME
/// becomes one part of text in an unknown character set (RFC 1428).
///
/// A DKIM signature over the body is of no use afterwards; whoever calls this for a signed message
/// has decided that the message matters more.
pub fn seven_bit(message: &[u8]) -> Result<Vec<u8>, NotConvertible> {
    if message.is_ascii() {
        return Ok(message.to_vec());
    }
    if !has_whole_line_ends(message) {
        return Err(NotConvertible::LineEnd);
    }
    whole(message, Aim::SevenBit)
}

/// Gives `message` with no line of a body longer than [`header::MAX_LINE_OCTETS`]: each part with
/// longer ones in quoted-printable or base64, or, where it is in one of them already, with other
/// line breaks. Everything else stays octet for octet, long lines of the uppermost header too.
///
/// What is said of signatures at [`seven_bit`] holds here as well.
pub fn short_lines(message: &[u8]) -> Result<Vec<u8>, NotConvertible> {
    if !has_whole_line_ends(message) {
        return Err(NotConvertible::LineEnd);
    }
    whole(message, Aim::ShortLines)
}

fn whole(message: &[u8], aim: Aim) -> Result<Vec<u8>, NotConvertible> {
    multipart::check_ends(message)?;
    let mut out = Vec::with_capacity(message.len() + message.len() / 2);
    let place = Place { aim, role: Role::Message, default: Kind::Leaf, depth: 0 };
    convert(message, &place, &mut out)?;
    Ok(out)
}

/// Why a message cannot be given in 7 bits or in short lines. *It* is what would have to be
/// encoded: octets above 127, or a long line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotConvertible {
    /// A multipart names no boundary, or a line begins with it and goes on otherwise: only some
    /// readers would take that line for the end of the part (RFC 2046 §5.1.1). Or it lacks its end,
    /// and its boundary stands once more behind the multipart that it is in.
    Boundary,
    /// It is in a part of type `message` that has to be 7bit, or of which we know nothing
    /// (RFC 2046 §5.2).
    Composite,
    /// A `Content-Type` cannot be read, or there are two.
    ContentType,
    /// Parts are nested more than [`DEPTH_MAX`] deep.
    Depth,
    /// A `Content-Transfer-Encoding` is unknown, or there are two, or what follows is not encoded
    /// so, or it stands at a container, which it must not (RFC 2045 §6.4).
    Encoding,
    /// It is in a header field, which no transfer encoding reaches.
    Header,
    /// A CR or LF stands alone, so that readers disagree on what is a line.
    LineEnd,
    /// A header does not end with an empty line.
    NoEmptyLine,
    /// It is in the last part of a multipart without an end, which some readers do not decode.
    NoEnd,
    /// It is in front of the first part of a multipart or behind its last one, where there is
    /// nothing to encode.
    Outside,
    /// It is in what is signed or encrypted: no octet of that may change (RFC 1847 §2.1).
    Signed,
}

impl fmt::Display for NotConvertible {
    /// For reports on what could not be had in 7 bits: long lines go as they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boundary => "a multipart has no boundary, or one that readers disagree on",
            Self::Composite => "a part of type message holds 8-bit octets and must not be encoded",
            Self::ContentType => "a Content-Type cannot be read, or there are two",
            Self::Depth => "parts are nested too deeply",
            Self::Encoding => "a Content-Transfer-Encoding does not fit its part",
            Self::Header => "a header field holds 8-bit octets",
            Self::LineEnd => "a CR or LF stands alone",
            Self::NoEmptyLine => "a header does not end with an empty line",
            Self::NoEnd => "a multipart does not end",
            Self::Outside => "8-bit octets stand outside of the parts of a multipart",
            Self::Signed => "8-bit octets are signed or encrypted",
        })
    }
}

impl std::error::Error for NotConvertible {}

/// Most levels of parts within parts. Real mail has fewer than ten.
pub const DEPTH_MAX: u32 = 32;

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// No octet above 127.
    SevenBit,
    /// No line longer than [`header::MAX_LINE_OCTETS`].
    ShortLines,
}

impl Aim {
    /// Whether these octets, which are whole lines, are as wanted.
    fn is_met(self, octets: &[u8]) -> bool {
        match self {
            Self::SevenBit => octets.is_ascii(),
            Self::ShortLines => !lines::has_long_line(octets),
        }
    }
}

/// Where an entity (RFC 2045 §2.4) stands.
struct Place {
    aim: Aim,
    role: Role,
    /// What it is if it does not say (RFC 2046 §5.1.5).
    default: Kind,
    /// How many others it is in.
    depth: u32,
}

/// What an entity is to the one around it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A message, whose header says whether it is MIME at all.
    Message,
    /// A part of a multipart.
    Part,
}

/// Appends an entity, header and body, as it is wanted.
fn convert(entity: &[u8], place: &Place, out: &mut Vec<u8>) -> Result<(), NotConvertible> {
    let aim = place.aim;
    if aim.is_met(entity) {
        out.extend_from_slice(entity);
        return Ok(());
    }
    if place.depth > DEPTH_MAX {
        return Err(NotConvertible::Depth);
    }
    let header_end = header::fields(entity).last().map_or(0, |field| field.range.end);
    let (head, rest) = entity.split_at_checked(header_end).unwrap_or((entity, b""));
    let may_be_long = aim == Aim::ShortLines && place.depth == 0;
    if !may_be_long && !aim.is_met(head) {
        return Err(NotConvertible::Header);
    }
    if may_be_long && aim.is_met(rest) {
        out.extend_from_slice(entity);
        return Ok(());
    }
    let body = rest.strip_prefix(b"\r\n").ok_or(NotConvertible::NoEmptyLine)?;
    let content = match only(head, "Content-Type").map_err(|_| NotConvertible::ContentType)? {
        Some(field) => ContentType::parse(&field.unfolded())?,
        None => ContentType::without_parameters(place.default),
    };
    let encoding = match only(head, ENCODING).map_err(|_| NotConvertible::Encoding)? {
        Some(field) => Encoding::parse(&field.unfolded()),
        None => Encoding::SevenBit,
    };
    let inner = |role, default| Place { aim, role, default, depth: place.depth + 1 };
    match (content.kind, encoding) {
        (Kind::Signed, _) => Err(NotConvertible::Signed),
        (Kind::Leaf, Encoding::Base64 | Encoding::QuotedPrintable) if aim == Aim::ShortLines => {
            out.extend_from_slice(head);
            out.extend_from_slice(b"\r\n");
            lines::broken_anew(body, encoding, out)
        }
        (_, Encoding::Base64 | Encoding::Other | Encoding::QuotedPrintable) => {
            Err(NotConvertible::Encoding)
        }
        (Kind::Composite, _) => Err(NotConvertible::Composite),
        (Kind::Digest | Kind::Multipart, _) => {
            let boundary = content.boundary.ok_or(NotConvertible::Boundary)?;
            let is_digest = content.kind == Kind::Digest;
            let default = if is_digest { Kind::Message } else { Kind::Leaf };
            relabel(head, encoding, aim, out);
            multipart::convert(body, &boundary, &inner(Role::Part, default), out)
        }
        (Kind::Leaf, _) => {
            leaf(head, body, place.role, out);
            Ok(())
        }
        (Kind::Message, _) => {
            relabel(head, encoding, aim, out);
            convert(body, &inner(Role::Message, Kind::Leaf), out)
        }
    }
}

/// A part without parts in it that has to be encoded.
fn leaf(head: &[u8], body: &[u8], role: Role, out: &mut Vec<u8>) {
    let (name, encoded) = encode::shorter(body);
    let has_label = replace_label(head, name, out);
    if role == Role::Message && header::first(head, "MIME-Version").is_none() {
        out.extend_from_slice(b"MIME-Version: 1.0\r\n");
        // Without a type it is text in US-ASCII (RFC 2045 §5.2).
        if header::first(head, "Content-Type").is_none() && !body.is_ascii() {
            out.extend_from_slice(b"Content-Type: text/plain; charset=unknown-8bit\r\n");
        }
    }
    if !has_label {
        out.extend_from_slice(format!("{ENCODING}: {name}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&encoded);
}

/// The header of a container with the empty line. It is 7bit where all its parts are.
fn relabel(head: &[u8], encoding: Encoding, aim: Aim, out: &mut Vec<u8>) {
    if (aim, encoding) == (Aim::SevenBit, Encoding::EightBit) {
        replace_label(head, "7bit", out);
    } else {
        out.extend_from_slice(head);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the header with another transfer encoding, and says whether it had one.
fn replace_label(head: &[u8], name: &str, out: &mut Vec<u8>) -> bool {
    let Some(Field { range, .. }) = header::first(head, ENCODING) else {
        out.extend_from_slice(head);
        return false;
    };
    out.extend_from_slice(head.get(..range.start).unwrap_or_default());
    out.extend_from_slice(format!("{ENCODING}: {name}\r\n").as_bytes());
    out.extend_from_slice(head.get(range.end..).unwrap_or_default());
    true
}

/// The one field of this name; an error where there are more: readers take the first or the last.
fn only<'a>(head: &'a [u8], name: &str) -> Result<Option<Field<'a>>, Twice> {
    let mut found = header::fields(head).filter(|field| field.is(name));
    let first = found.next();
    if found.next().is_some() { Err(Twice) } else { Ok(first) }
}

/// A field stands twice that may stand once.
struct Twice;

/// Whether each CR stands before an LF and each LF behind a CR.
fn has_whole_line_ends(message: &[u8]) -> bool {
    let line_ends = memchr_iter(b'\n', message)
        .filter(|&at| at.checked_sub(1).and_then(|before| message.get(before)) == Some(&b'\r'));
    2 * line_ends.count() == memchr2_iter(b'\r', b'\n', message).count()
}

const ENCODING: &str = "Content-Transfer-Encoding";
