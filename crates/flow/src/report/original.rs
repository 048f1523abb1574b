//! What a report returns of the message: all of it, or its header (RFC 3461 §4.3, RFC 6522 §3).
//!
//! Invariant: what is returned is whole fields, and the body as it was or not at all; no line of it
//! is above 998 octets, and there is a bound on all of it. Pure.

use merpati_mail::{
    TlsRequest,
    envelope::Ret,
    header::{self, MAX_LINE_OCTETS},
};

use crate::Loaded;

/// The last part of a report.
pub(super) struct Returned {
    /// Its type.
    pub(super) media_type: &'static str,
    /// Its octets.
    pub(super) octets: Vec<u8>,
    /// Whether it is the whole message.
    pub(super) is_full: bool,
}

/// What is returned of a message. Only of a failure all of it (RFC 3461 §4.3).
pub(super) fn returned(message: &Loaded, has_failure: bool) -> Returned {
    let edits = &message.accepted.edits;
    let content: Vec<u8> = edits.slices(&message.header).flatten().copied().collect();
    let header = header_of(&content);
    let is_global = !header.is_ascii();
    if has_failure && is_wanted_whole(message) && is_clean(&content) {
        let media_type = if is_global { "message/global" } else { "message/rfc822" };
        return Returned { media_type, octets: content, is_full: true };
    }
    let media_type = if is_global { "message/global-headers" } else { "text/rfc822-headers" };
    Returned { media_type, octets: header, is_full: false }
}

fn is_wanted_whole(message: &Loaded) -> bool {
    let size_bytes = message.accepted.size_bytes;
    // RFC 8689 §5: what was to be protected does not come back in the open.
    if message.accepted.envelope.requests.tls == TlsRequest::Required {
        return false;
    }
    let octets_max = match message.accepted.envelope.ret {
        Some(Ret::Headers) => return false,
        Some(Ret::Full) => FULL_OCTETS_MAX,
        None => UNASKED_OCTETS_MAX,
    };
    // Of a message in a file of its own only the beginning is here.
    size_bytes <= octets_max && message.header.len() as u64 == size_bytes
}

/// Whether it can be a part of a report as it is: CRLF ends every line, and none is too long.
fn is_clean(content: &[u8]) -> bool {
    content.split_inclusive(|octet| *octet == b'\n').all(|line| {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        text.len() <= MAX_LINE_OCTETS && !text.iter().any(|octet| b"\r\n\0".contains(octet))
    })
}

/// The header: whole fields up to a limit. A field with a line that is too long is folded.
fn header_of(content: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for field in header::fields(content) {
        // A content that is not all here may stop inside of a field, also behind its last CR.
        let Some(octets) = content.get(field.range).filter(|o| o.ends_with(b"\r\n")) else {
            continue;
        };
        if text.len() + octets.len() > HEADERS_OCTETS_MAX {
            break;
        }
        if is_clean(octets) {
            text.extend_from_slice(octets);
        } else {
            fold(octets, &mut text);
        }
    }
    text
}

/// Writes a field with its lines cut to size; what is no line end and no text is left out.
fn fold(field: &[u8], out: &mut Vec<u8>) {
    for line in field.split(|octet| *octet == b'\n') {
        let mut rest: Vec<u8> =
            line.iter().copied().filter(|octet| !b"\r\n\0".contains(octet)).collect();
        if rest.trim_ascii().is_empty() {
            continue;
        }
        // A blank may come in front of what is left.
        while rest.len() >= MAX_LINE_OCTETS {
            let room = rest.get(1..MAX_LINE_OCTETS - 1).unwrap_or_default();
            let blank = room.iter().rposition(|octet| matches!(octet, b' ' | b'\t'));
            let end = blank.map_or(MAX_LINE_OCTETS - 1, |at| at + 1);
            let behind = rest.split_off(end);
            let has_blank = matches!(behind.first(), Some(b' ' | b'\t'));
            out.extend_from_slice(&rest);
            out.extend_from_slice(if has_blank { b"\r\n" } else { b"\r\n " });
            rest = behind;
        }
        out.extend_from_slice(&rest);
        out.extend_from_slice(b"\r\n");
    }
}

/// The largest message that `RET=FULL` returns whole. It is what the journal holds in one piece;
/// RFC 3461 §4.3 leaves the bound to us, and most servers have a smaller one.
const FULL_OCTETS_MAX: u64 = 256 << 10;
/// The largest message that is returned whole where `RET` was not given.
const UNASKED_OCTETS_MAX: u64 = 10 << 10;
/// The most of the original header that a report returns.
const HEADERS_OCTETS_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_cut_off_is_not_returned() {
        for header in ["A: b\r\nX: cut", "A: b\r\nX: cut\r", "A: b\r\nX: cut\r\n\ty\r"] {
            assert_eq!(header_of(header.as_bytes()), b"A: b\r\n", "{header:?}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_folded_and_nothing_of_it_is_lost() {
        for long in ["x".repeat(3_000), "word ".repeat(900), format!("{} end", "y".repeat(1_200))] {
            let field = format!("References: {long}\r\n");
            let header = header_of(format!("A: b\r\n{field}C: d\r\n\r\nbody").as_bytes());
            let text = String::from_utf8(header).unwrap();
            assert!(text.lines().all(|line| line.len() <= MAX_LINE_OCTETS));
            assert_eq!(header::fields(text.as_bytes()).count(), 3);
            let graphic = |text: &str| text.replace(char::is_whitespace, "");
            assert!(graphic(&text).contains(&graphic(&field)));
        }
    }

    #[test]
    fn what_could_break_a_line_is_not_clean() {
        for content in ["a\rb\r\n", "a\nb\r\n", "a\0\r\n", "a\n"] {
            assert!(!is_clean(content.as_bytes()), "{content:?}");
        }
        assert!(is_clean(b"a: b\r\n\r\n.\r\nno end") && is_clean(b""));
    }
}
