//! How octets are written in 7 bits: quoted-printable and base64 (RFC 2045 §6.7, §6.8).
//!
//! Invariants: no line is longer than 76 characters; no line but those of the original begins with
//! a dash, so that none can be taken for a delimiter. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The name of the shorter encoding, and the body in it. Text in Latin letters comes out in
/// quoted-printable, most else in base64.
pub(super) fn shorter(body: &[u8]) -> (&'static str, Vec<u8>) {
    let escaped = body.iter().filter(|&&octet| !is_literal(octet) && !is_line_end(octet)).count();
    // Quoted-printable adds two octets to each that it escapes, base64 one to three.
    if escaped.saturating_mul(6) <= body.len() {
        ("quoted-printable", quoted_printable(body))
    } else {
        ("base64", base64_lines(body))
    }
}

fn quoted_printable(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + body.len() / 2);
    let mut rest = body;
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, b"\r\n").unwrap_or(rest.len());
        let (line, behind) = rest.split_at_checked(end).unwrap_or((rest, b""));
        quoted_line(line, &mut out);
        rest = match behind.strip_prefix(b"\r\n") {
            Some(next) => {
                out.extend_from_slice(b"\r\n");
                next
            }
            None => b"",
        };
    }
    out
}

fn quoted_line(line: &[u8], out: &mut Vec<u8>) {
    let mut columns = 0;
    for (at, &octet) in line.iter().enumerate() {
        let is_last = at + 1 == line.len();
        let room = if is_last { COLUMNS_MAX } else { COLUMNS_MAX - 1 };
        // RFC 2045 §6.7 (3): a blank at the end of a line could get lost.
        let mut is_plain = is_literal(octet) && !(is_last && matches!(octet, b' ' | b'\t'));
        if columns + if is_plain { 1 } else { 3 } > room {
            out.extend_from_slice(b"=\r\n");
            columns = 0;
            is_plain &= octet != b'-';
        }
        if is_plain {
            out.push(octet);
            columns += 1;
        } else {
            out.extend_from_slice(format!("={octet:02X}").as_bytes());
            columns += 3;
        }
    }
}

/// The lines end like the body: a last line end is no part of what is encoded and does no harm.
fn base64_lines(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() / 54 * 76 + 80);
    for (at, octets) in body.chunks(BASE64_OCTETS).enumerate() {
        if at > 0 {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(STANDARD.encode(octets).as_bytes());
    }
    if body.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// RFC 2045 §6.7 (2), (3), away from the end of a line.
const fn is_literal(octet: u8) -> bool {
    matches!(octet, b'\t' | b' '..=b'~') && octet != b'='
}

const fn is_line_end(octet: u8) -> bool {
    matches!(octet, b'\r' | b'\n')
}

/// The longest line (RFC 2045 §6.7 (5), §6.8).
pub(super) const COLUMNS_MAX: usize = 76;
/// So many octets make a line of 76 characters.
const BASE64_OCTETS: usize = 57;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_printable_breaks_lines_and_keeps_blanks_and_dashes_safe() {
        let x = |n| "x".repeat(n);
        for (body, want) in [
            ("a=b\u{e9}\r\n", "a=3Db=C3=A9\r\n".to_owned()),
            ("a \r\nb\t\r\n c", "a=20\r\nb=09\r\n c".to_owned()),
            ("\0\u{7f}", "=00=7F".to_owned()),
            ("\r\n\r\n", "\r\n\r\n".to_owned()),
            (&x(76), x(76)),
            (&x(77), format!("{}=\r\n{}", x(75), x(2))),
            (&format!("{}é", x(70)), format!("{}=C3=A9", x(70))),
            (&format!("{}é", x(71)), format!("{}=C3=\r\n=A9", x(71))),
            (&format!("{}--b", x(75)), format!("{}=\r\n=2D-b", x(75))),
            ("--b", "--b".to_owned()),
            (&format!("{} ", x(74)), format!("{}=\r\n=20", x(74))),
            (&format!("{} y", x(74)), format!("{} y", x(74))),
            (&format!("{} yz", x(74)), format!("{} =\r\nyz", x(74))),
        ] {
            let got = String::from_utf8(quoted_printable(body.as_bytes())).unwrap();
            assert_eq!(got, want, "{body:?}");
            assert!(got.lines().all(|line| line.len() <= COLUMNS_MAX), "{got}");
        }
    }

    #[test]
    fn the_shorter_encoding_is_taken() {
        assert_eq!(shorter("Grüße aus Jakarta\r\n".as_bytes()).0, "base64");
        assert_eq!(shorter("Grüße aus Jakarta, wo es regnet\r\n".as_bytes()).0, "quoted-printable");
        let octets = [0xff; 58];
        let want = format!("{}\r\n/w==", "/".repeat(76));
        assert_eq!(shorter(&octets), ("base64", want.into_bytes()));
        assert_eq!(shorter(b"\xff\r\n"), ("base64", b"/w0K\r\n".to_vec()));
    }
}
