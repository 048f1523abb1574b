//! What is repaired in a content from its author before it is kept: lines that are too long, and a
//! header without an empty line behind it (RFC 6409 §8, RFC 5322 §2.1).
//!
//! Invariant: what somebody has signed or encrypted keeps its octets, and each part keeps its
//! content once it is decoded. What cannot be repaired so goes as it is. Pure.

use merpati_mail::{
    Verdict,
    header::{self, MAX_LINE_OCTETS},
    transfer,
};

use crate::submission::{is_of_header, is_signature, refuse};

/// Whether a content with this beginning and this longest line is to be repaired: then
/// [`repaired`] wants all of it.
pub fn is_needed(head: &[u8], longest_line_octets: u64) -> bool {
    longest_line_octets > MAX_LINE_OCTETS as u64 || unended_header(head).is_some()
}

/// The content that is kept; `None` where it stays as it is.
///
/// Where a header is followed by a line that is neither empty nor a field, the body begins there
/// and gets its empty line, as it does in other mailers. Where that line stands in the midst of a
/// header, so that a field which means something follows, the message is refused: readers disagree
/// on what is its header, and what must not be shown would be.
pub fn repaired(content: &[u8]) -> Result<Option<Vec<u8>>, Verdict> {
    let mbox_line = header::mbox_line_octets(content);
    let mut text = content.get(mbox_line..).unwrap_or_default().to_vec();
    if let Some(end) = unended_header(&text) {
        if hides_fields(text.get(end..).unwrap_or_default()) {
            return Err(broken());
        }
        text.splice(end..end, *b"\r\n");
    } else if !header::is_header_start(&text) {
        // All of it is body.
        text.splice(..0, *b"\r\n");
    }
    // Whoever signs has seen these lines, and a signature over other ones is worth nothing.
    if !header::fields(&text).any(|field| is_signature(&field))
        && let Ok(short) = transfer::short_lines(&text)
    {
        text = short;
    }
    Ok((text != content).then_some(text))
}

/// Whether a content that is too long for [`repaired`] can be taken as it is; `head` is its
/// beginning with its whole header.
pub fn check_unrepaired(head: &[u8]) -> Result<(), Verdict> {
    match unended_header(head) {
        Some(_) => Err(broken()),
        None => Ok(()),
    }
}

fn broken() -> Verdict {
    refuse("header-broken", "a line of the header is no header field")
}

/// Where the fields of a header end, if what is there is neither an empty line nor the end.
fn unended_header(head: &[u8]) -> Option<usize> {
    let fields = header::fields_from(head, header::mbox_line_octets(head));
    let end = fields.last()?.range.end;
    let behind = head.get(end..).unwrap_or_default();
    let is_good = behind.is_empty() || behind.starts_with(b"\r\n") || behind.starts_with(b"\n");
    (!is_good).then_some(end)
}

/// Whether a line before the next empty one is a field that some readers would find.
fn hides_fields(text: &[u8]) -> bool {
    text.split_inclusive(|octet| *octet == b'\n')
        .take_while(|line| !line.trim_ascii().is_empty())
        .any(|line| header::fields(line).next().is_some_and(|field| is_of_header(&field)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(content: &str) -> Option<String> {
        let longest = content.split("\r\n").map(str::len).max().unwrap_or(0);
        if !is_needed(content.as_bytes(), longest as u64) {
            return None;
        }
        repaired(content.as_bytes()).unwrap().map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn a_header_gets_its_empty_line() {
        for (content, want) in [
            ("A: b\r\n\r\nhi\r\n", None),
            ("A: b\r\n", None),
            ("hi\r\n", None),
            ("", None),
            ("A: b\r\nhi\r\n\r\nFrom: x\r\n", Some("A: b\r\n\r\nhi\r\n\r\nFrom: x\r\n")),
            ("From x\r\nA: b\r\nhi\r\n", Some("A: b\r\n\r\nhi\r\n")),
            ("A: b\r\nhi: there\r\n 1\r\n", None),
            ("A: b\r\nhi there: 1\r\n", Some("A: b\r\n\r\nhi there: 1\r\n")),
        ] {
            assert_eq!(kept(content).as_deref(), want, "{content:?}");
        }
    }

    #[test]
    fn a_line_in_the_midst_of_a_header_is_refused() {
        for content in [
            "A: b\r\njunk\r\nFrom: a@x\r\n\r\nhi\r\n",
            "A: b\r\n\u{fc}: c\r\nSubject : d\r\n\r\n",
            "A: b\r\n: c\r\nDate: d\r\n\r\n",
            "From: a@x\r\nnot a field\r\nBcc: boss@x\r\n\r\nhi\r\n",
            "From: a@x\r\nnot a field\r\nresent-to: boss@x\r\n\r\nhi\r\n",
            "From: a@x\r\nnot a field\r\nContent-Type: text/html\r\n\r\nhi\r\n",
            "From: a@x\r\nnot a field\r\nAuthentication-Results: mx; spf=pass\r\n\r\nhi\r\n",
        ] {
            assert!(is_needed(content.as_bytes(), 0), "{content:?}");
            let verdict = repaired(content.as_bytes()).unwrap_err();
            assert_eq!(verdict.rule, "header-broken", "{content:?}");
        }
    }

    #[test]
    fn long_lines_are_encoded_unless_they_are_signed() {
        let long = "x".repeat(1_200);
        let soft = transfer::short_lines(format!("\r\n{long}\r\n").as_bytes()).unwrap();
        let encoded = String::from_utf8(soft).unwrap();
        assert_eq!(kept(&format!("{long}\r\n")), Some(encoded.clone()));
        let with_header = format!("A: b\r\n\r\n{long}\r\n");
        assert_eq!(kept(&with_header), Some(format!("A: b\r\n{encoded}")));
        assert_eq!(
            kept(&format!("A: b\r\n{}\r\n", "x".repeat(998))),
            Some(with_header.replace(&long, &"x".repeat(998)))
        );
        for head in [
            "DKIM-Signature: v=1",
            "ARC-Message-Signature: i=1",
            "Content-Type: multipart/signed",
            "Content-Type: application/pkcs7-mime",
            "Content-Type: multipart/encrypted",
        ] {
            assert_eq!(kept(&format!("{head}\r\n\r\n{long}\r\n")), None, "{head}");
        }
        // A long line of the header alone is not for this.
        assert_eq!(kept(&format!("A: {long}\r\n\r\nhi\r\n")), None);
    }
}
