//! What the fields `Content-Type` and `Content-Transfer-Encoding` say (RFC 2045 §5, §6).
//!
//! Invariant: what a reader might understand otherwise is an error or [`Encoding::Other`]. Pure.

use super::NotConvertible;

/// A content type, as far as it decides what may be encoded.
pub(super) struct ContentType {
    pub(super) kind: Kind,
    /// The boundary of a multipart; `None` where none is named, or not clearly.
    pub(super) boundary: Option<String>,
}

/// What a transfer encoding may do to an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A type `message` into which we cannot look.
    Composite,
    /// A multipart of messages (RFC 2046 §5.1.5).
    Digest,
    /// It may be encoded.
    Leaf,
    /// A message in a part (RFC 2046 §5.2.1, RFC 6532 §3.7).
    Message,
    /// Its parts may be encoded.
    Multipart,
    /// Nothing in it may change.
    Signed,
}

/// A transfer encoding, as far as it makes a difference here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// base64 (RFC 2045 §6.8).
    Base64,
    /// 8bit or binary.
    EightBit,
    /// An unknown one.
    Other,
    /// quoted-printable (RFC 2045 §6.7).
    QuotedPrintable,
    /// 7bit, also where it is not true.
    SevenBit,
}

impl ContentType {
    /// Reads the value of the field on one line.
    pub(super) fn parse(value: &str) -> Result<Self, NotConvertible> {
        let mut scanner = Scanner { rest: value };
        let whole = (scanner.token(), scanner.sign('/'), scanner.token());
        let (Some(first), true, Some(second)) = whole else {
            return Err(NotConvertible::ContentType);
        };
        let (first, second) = (first.to_ascii_lowercase(), second.to_ascii_lowercase());
        let kind = match (first.as_str(), second.as_str()) {
            ("multipart", "signed" | "encrypted")
            | ("application", "pkcs7-mime" | "x-pkcs7-mime") => Kind::Signed,
            ("multipart", "digest") => Kind::Digest,
            ("multipart", _) => Kind::Multipart,
            ("message", "rfc822" | "global") => Kind::Message,
            ("message", _) => Kind::Composite,
            _ => Kind::Leaf,
        };
        Ok(Self { kind, boundary: if first == "multipart" { scanner.boundary() } else { None } })
    }

    /// The type of an entity that does not say.
    pub(super) const fn without_parameters(kind: Kind) -> Self {
        Self { kind, boundary: None }
    }
}

impl Encoding {
    /// Reads the value of the field on one line.
    pub(super) fn parse(value: &str) -> Self {
        let mut scanner = Scanner { rest: value };
        let name = scanner.token().unwrap_or_default().to_ascii_lowercase();
        scanner.skip_blanks();
        match name.as_str() {
            _ if !scanner.rest.is_empty() => Self::Other,
            "7bit" => Self::SevenBit,
            "8bit" | "binary" => Self::EightBit,
            "base64" => Self::Base64,
            "quoted-printable" => Self::QuotedPrintable,
            _ => Self::Other,
        }
    }
}

/// Reads tokens between blanks and comments.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    /// Passes blanks and comments (RFC 5322 §3.2.2).
    fn skip_blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t']);
            let Some(after) = self.rest.starts_with('(').then(|| behind_comment(self.rest)) else {
                return;
            };
            let Some(after) = after else { return };
            self.rest = after;
        }
    }

    /// A token (RFC 2045 §5.1); `None` where there is none.
    fn token(&mut self) -> Option<&'a str> {
        self.skip_blanks();
        let is_special = |c: char| !c.is_ascii_graphic() || "()<>@,;:\\\"/[]?=".contains(c);
        let end = self.rest.find(is_special).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    fn sign(&mut self, sign: char) -> bool {
        self.skip_blanks();
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// The value of a parameter: a quoted string, or everything up to a blank or semicolon. That is
    /// wider than a token: `boundary=----=_Part` is everywhere.
    fn value(&mut self) -> Option<String> {
        self.skip_blanks();
        if !self.rest.starts_with('"') {
            let end = self.rest.find([' ', '\t', ';']).unwrap_or(self.rest.len());
            let (value, rest) = self.rest.split_at_checked(end)?;
            self.rest = rest;
            return (!value.is_empty() && !value.contains(['"', '(', '\\']))
                .then(|| value.to_owned());
        }
        let mut value = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = self.rest.get(at + 1..)?;
                    return Some(value);
                }
                '\\' => value.push(chars.next()?.1),
                _ => value.push(c),
            }
        }
        None
    }

    /// The one parameter `boundary` among those that follow. `None` also where it could be read in
    /// two ways: twice, cut into pieces (RFC 2231 §3), or behind something that is no parameter.
    fn boundary(mut self) -> Option<String> {
        let mut boundary = None;
        while self.sign(';') {
            self.skip_blanks();
            if self.rest.is_empty() || self.rest.starts_with(';') {
                continue;
            }
            let name = self.token()?.to_ascii_lowercase();
            let value = if self.sign('=') { self.value()? } else { return None };
            let is_second = name == "boundary" && boundary.replace(value).is_some();
            if is_second || name.starts_with("boundary*") {
                return None;
            }
        }
        let is_whole = self.rest.is_empty();
        boundary.filter(|text| {
            is_whole
                && !text.is_empty()
                && !text.ends_with(' ')
                && text.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic())
        })
    }
}

/// What follows a comment, which may hold others; `None` where it does not end.
fn behind_comment(text: &str) -> Option<&str> {
    let mut depth = 0_usize;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '\\' => {
                chars.next();
            }
            _ => {}
        }
        if depth == 0 {
            return text.get(at + 1..);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_in_any_case_with_comments_and_quotes() {
        use Kind::{Composite, Digest, Leaf, Message, Multipart, Signed};
        for (value, kind, boundary) in [
            ("text/plain", Leaf, None),
            ("TEXT / plain (x (y) \\)) ; charset", Leaf, None),
            ("Multipart/Mixed; boundary=\"a b\"", Multipart, Some("a b")),
            ("multipart/x;Boundary = a; x=\"y\\\"z\";;", Multipart, Some("a")),
            ("multipart/x; boundary=----=_Part_1", Multipart, Some("----=_Part_1")),
            ("multipart/x; boundary=\"a\\b\"", Multipart, Some("ab")),
            ("multipart/x; boundary=\"a;b\" (why)", Multipart, Some("a;b")),
            ("multipart/digest; boundary=a", Digest, Some("a")),
            ("message/RFC822", Message, None),
            ("message/partial; id=x", Composite, None),
            ("message/delivery-status", Composite, None),
            ("multipart/signed; boundary=a", Signed, Some("a")),
            ("multipart/encrypted", Signed, None),
            ("application/X-pkcs7-MIME; smime-type=x", Signed, None),
            // No boundary, or none that all would find.
            ("multipart/x", Multipart, None),
            ("multipart/x; boundary", Multipart, None),
            ("multipart/x; boundary=", Multipart, None),
            ("multipart/x; boundary=\"\"", Multipart, None),
            ("multipart/x; boundary=\"a", Multipart, None),
            ("multipart/x; boundary=\"a \"", Multipart, None),
            ("multipart/x; boundary=a; boundary=b", Multipart, None),
            ("multipart/x; boundary*0=a; boundary*1=b", Multipart, None),
            ("multipart/x boundary=a", Multipart, None),
            ("multipart/x; boundary=a b", Multipart, None),
            ("multipart/x; boundary=a\"b", Multipart, None),
            ("multipart/x; (boundary=a", Multipart, None),
        ] {
            let read = ContentType::parse(value).unwrap();
            assert_eq!((read.kind, read.boundary.as_deref()), (kind, boundary), "{value}");
        }
        for junk in ["", "text", "text/", "/plain", "(text/plain)", "te xt/plain", "text\\/x"] {
            let read = ContentType::parse(junk).err();
            assert_eq!(read, Some(NotConvertible::ContentType), "{junk}");
        }
    }

    #[test]
    fn the_five_encodings_are_known_in_any_case() {
        for (value, want) in [
            ("7BIT", Encoding::SevenBit),
            (" 8bit (sic)", Encoding::EightBit),
            ("binary", Encoding::EightBit),
            ("quoted-Printable", Encoding::QuotedPrintable),
            ("Base64 (x)", Encoding::Base64),
            ("8 bit", Encoding::Other),
            ("7bit 8bit", Encoding::Other),
            ("", Encoding::Other),
            ("x-uuencode", Encoding::Other),
        ] {
            assert_eq!(Encoding::parse(value), want, "{value}");
        }
    }
}
