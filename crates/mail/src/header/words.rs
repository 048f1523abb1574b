//! How encoded words of a header read to a person, and how a word is encoded (RFC 2047).
//!
//! Decoding is for views only: nothing that comes out of it goes into a decision or back into a
//! message.
//!
//! Pure.

use std::fmt::Write as _;

/// Decodes the encoded words in `value`: B or Q, in UTF-8, US-ASCII or ISO-8859-1. Anything else is
/// left as it is. Blanks between two encoded words disappear (§6.2); what is not text in the
/// charset, and every control character, becomes U+FFFD.
pub fn decode_words(value: &str) -> String {
    let mut shown = String::with_capacity(value.len());
    // Octets of adjacent words are joined first: senders split characters between words.
    let mut pending: Option<(Charset, Vec<u8>)> = None;
    let mut rest = value;
    while let Some(at) = rest.find("=?") {
        let (before, from_word) = rest.split_at(at);
        let Some((word, behind)) = encoded_word(from_word) else {
            flush(&mut pending, &mut shown);
            let (mark, behind) = from_word.split_at("=?".len());
            shown.push_str(before);
            shown.push_str(mark);
            rest = behind;
            continue;
        };
        let is_adjacent = before.chars().all(char::is_whitespace);
        match &mut pending {
            Some((charset, octets)) if is_adjacent && *charset == word.charset => {
                octets.extend_from_slice(&word.octets);
            }
            Some(_) if is_adjacent => {
                flush(&mut pending, &mut shown);
                pending = Some((word.charset, word.octets));
            }
            Some(_) | None => {
                flush(&mut pending, &mut shown);
                shown.push_str(before);
                pending = Some((word.charset, word.octets));
            }
        }
        rest = behind;
    }
    flush(&mut pending, &mut shown);
    shown.push_str(rest);
    shown
}

/// A word, or a phrase (RFC 5322 §3.2.5), as encoded words in UTF-8 and Q, one a line, for a folded
/// field; as it is where it is ASCII.
pub fn encode_word(word: &str) -> String {
    if word.is_ascii() {
        return word.to_owned();
    }
    let mut encoded = String::new();
    let mut column = 0;
    for c in word.chars() {
        let mut octets = String::new();
        for octet in c.encode_utf8(&mut [0; 4]).bytes() {
            if octet.is_ascii_alphanumeric() {
                octets.push(char::from(octet));
            } else {
                // Writing to a string cannot fail.
                let _ = write!(octets, "={octet:02X}");
            }
        }
        if encoded.is_empty() || column + octets.len() > ENCODED_CHARS_MAX {
            encoded.push_str(if encoded.is_empty() { "=?utf-8?Q?" } else { "?=\r\n =?utf-8?Q?" });
            column = 0;
        }
        column += octets.len();
        encoded.push_str(&octets);
    }
    encoded.push_str("?=");
    encoded
}

/// An encoded word has at most 75 characters, 12 of them around its text (RFC 2047 §2).
const ENCODED_CHARS_MAX: usize = 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charset {
    Ascii,
    Latin1,
    Utf8,
}

impl Charset {
    fn parse(label: &str) -> Option<Self> {
        // RFC 2231 §5 lets a language follow: `utf-8*en`.
        let name = label.split('*').next().unwrap_or(label).to_ascii_lowercase();
        match name.as_str() {
            "us-ascii" | "ascii" => Some(Self::Ascii),
            "iso-8859-1" | "latin1" => Some(Self::Latin1),
            "utf-8" | "utf8" => Some(Self::Utf8),
            _ => None,
        }
    }

    fn decode(self, octets: &[u8]) -> String {
        match self {
            Self::Ascii => octets
                .iter()
                .map(|&o| if o.is_ascii() { char::from(o) } else { char::REPLACEMENT_CHARACTER })
                .collect(),
            Self::Latin1 => octets.iter().copied().map(char::from).collect(),
            Self::Utf8 => String::from_utf8_lossy(octets).into_owned(),
        }
    }
}

struct Word {
    charset: Charset,
    octets: Vec<u8>,
}

fn flush(pending: &mut Option<(Charset, Vec<u8>)>, shown: &mut String) {
    if let Some((charset, octets)) = pending.take() {
        let text = charset.decode(&octets);
        shown.extend(text.chars().map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        }));
    }
}

/// Decodes the encoded word at the start of `text`; returns it with what stands behind it. Looks
/// no farther than the third `?`, which keeps the whole decoding linear.
fn encoded_word(text: &str) -> Option<(Word, &str)> {
    let (charset, rest) = text.strip_prefix("=?")?.split_once('?')?;
    let (encoding, rest) = rest.split_once('?')?;
    let (encoded, rest) = rest.split_once('?')?;
    let behind = rest.strip_prefix('=')?;
    if encoded.contains(|c: char| c.is_whitespace()) {
        return None;
    }
    let octets = match encoding {
        "B" | "b" => decode_b(encoded)?,
        "Q" | "q" => decode_q(encoded),
        _ => return None,
    };
    Some((Word { charset: Charset::parse(charset)?, octets }, behind))
}

/// Base64 (RFC 4648 §4); missing padding is tolerated, other octets are not.
fn decode_b(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let mut bits: u32 = 0;
    let mut bit_count = 0;
    for octet in text.trim_end_matches('=').bytes() {
        let six = match octet {
            b'A'..=b'Z' => octet - b'A',
            b'a'..=b'z' => octet - b'a' + 26,
            b'0'..=b'9' => octet - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(six)) & 0xFFFF;
        bit_count += 6;
        if bit_count >= 8 {
            bit_count -= 8;
            octets.push(u8::try_from(bits >> bit_count & 0xFF).ok()?);
        }
    }
    Some(octets)
}

/// RFC 2047 §4.2. A `=` without two hex digits stays as it is.
fn decode_q(text: &str) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&octet, behind)) = rest.split_first() {
        rest = behind;
        match (octet, behind) {
            (b'_', _) => octets.push(b' '),
            (b'=', &[high, low, ref after @ ..]) => match (hex(high), hex(low)) {
                (Some(high), Some(low)) => {
                    octets.push(high << 4 | low);
                    rest = after;
                }
                (None, _) | (_, None) => octets.push(octet),
            },
            _ => octets.push(octet),
        }
    }
    octets
}

fn hex(octet: u8) -> Option<u8> {
    char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_word_is_short_enough_and_reads_as_before() {
        for word in ["δοκιμή", "<grün@x.example>,", "plain", &"→".repeat(100), "a?=_b é"]
        {
            let encoded = encode_word(word);
            assert!(encoded.split("\r\n ").all(|line| line.len() <= 75 || line.is_ascii()));
            assert!(encoded.is_ascii());
            assert_eq!(decode_words(&encoded), *word, "{encoded}");
        }
        assert!(encode_word(&"→".repeat(100)).split("\r\n ").all(|line| line.len() <= 75));
    }
}
