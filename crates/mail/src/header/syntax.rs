//! Whether the values of some fields keep to their grammar: a date, a message identifier, and in
//! whose name an `Authentication-Results` field speaks.
//!
//! Invariant: the work is linear in the octets, and comments may nest to any depth without
//! recursion. Pure.

use crate::Domain;

/// Whether `value` is a date-time (RFC 5322 §3.3), obsolete forms (§4.3) and comments included. An
/// hour of one digit is tolerated; that the name of the day fits the date is not asked.
pub fn is_date(value: &[u8]) -> bool {
    read_date(&mut Words { rest: value }).is_some()
}

/// Whether `value` is a message identifier (RFC 5322 §3.6.4, RFC 6532 §3.3): something with an `@`
/// in it between angle brackets, and nothing else but comments.
///
/// More is not asked of the two sides of the `@`: others have stored the identifier and refer to
/// it, and real ones hold colons, brackets and dots in all places.
pub fn is_message_id(value: &[u8]) -> bool {
    let inside = || {
        let (inside, behind) = bracketed(skip_cfws(value)?)?;
        skip_cfws(behind)?.is_empty().then_some(inside)
    };
    let has_both_sides = |inside: &[u8]| {
        let at = inside.iter().rposition(|octet| *octet == b'@');
        at.is_some_and(|at| at > 0 && at + 1 < inside.len())
    };
    inside().is_some_and(|inside| std::str::from_utf8(inside).is_ok() && has_both_sides(inside))
}

/// Whether an `Authentication-Results` field with this value speaks in the name of `authserv`
/// (RFC 8601 §2.2): in any case, quoted, in A- or U-labels, with comments, folds and a version.
///
/// What some readers could take for that name counts too, also a value that cannot be read and
/// holds the name anywhere. Names of which it is only a part do not.
pub fn speaks_for(value: &[u8], authserv: &Domain) -> bool {
    let text = String::from_utf8_lossy(value);
    let is_ours = |id: &str| {
        let id = id.trim_end_matches('.');
        Domain::parse(id).is_ok_and(|domain| &domain == authserv)
    };
    match authserv_id(&text) {
        Some((first, all)) => {
            let without_version = all.trim_end_matches(|c: char| c.is_ascii_digit());
            is_ours(first)
                || is_ours(&all)
                || (without_version.len() >= first.len() && is_ours(without_version))
        }
        None => text.to_ascii_lowercase().contains(&authserv.to_string().to_ascii_lowercase()),
    }
}

/// What stands before the first `;`: its first word, and all of it without blanks, comments and
/// quotes. `None` where a comment or a quoted string does not end.
fn authserv_id(text: &str) -> Option<(&str, String)> {
    let mut all = String::new();
    let (mut depth, mut is_quoted) = (0_usize, false);
    let mut first: Option<(usize, usize)> = None;
    let mut is_first_over = false;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        let is_part = c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || !c.is_ascii();
        match c {
            '\\' if depth > 0 => {
                chars.next();
            }
            '(' if !is_quoted => depth += 1,
            ')' if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            '"' => is_quoted = !is_quoted,
            ';' if !is_quoted => break,
            '\\' => {}
            _ if is_part => {
                all.push(c);
                if !is_first_over {
                    let start = first.map_or(at, |(start, _)| start);
                    first = Some((start, at + c.len_utf8()));
                }
                continue;
            }
            c if c.is_whitespace() => {}
            other => all.push(other),
        }
        is_first_over |= first.is_some();
    }
    if depth > 0 || is_quoted {
        return None;
    }
    let (start, end) = first.unwrap_or_default();
    Some((text.get(start..end)?, all))
}

/// What stands between angle brackets at the start, and what is behind them. No blank and no
/// bracket may be inside, but in a quoted string.
fn bracketed(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"<")?;
    let mut is_quoted = false;
    let mut octets = text.iter().enumerate();
    while let Some((at, octet)) = octets.next() {
        match octet {
            b'>' if !is_quoted => return Some((text.get(..at)?, text.get(at + 1..)?)),
            b'"' => is_quoted = !is_quoted,
            b'\\' if is_quoted => {
                octets.next();
            }
            b' ' if is_quoted => {}
            0..=b' ' | b'<' | 0x7f => return None,
            _ => {}
        }
    }
    None
}

/// Passes folding white space and comments (RFC 5322 §3.2.2); `None` where a comment does not end.
fn skip_cfws(text: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_usize;
    let mut octets = text.iter().enumerate();
    while let Some((at, octet)) = octets.next() {
        match octet {
            b'(' => depth += 1,
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b')' if depth > 0 => depth -= 1,
            b'\\' if depth > 0 => {
                octets.next();
            }
            _ if depth > 0 => {}
            _ => return text.get(at..),
        }
    }
    (depth == 0).then_some(b"")
}

/// The words and signs of a date.
struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    /// The next one; empty at the end, `None` where something else stands there.
    fn next(&mut self) -> Option<&'a [u8]> {
        let text = skip_cfws(self.rest)?;
        let is_word = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-');
        let length = match text.first() {
            None => 0,
            Some(b',' | b':') => 1,
            Some(_) => text.iter().position(|octet| !is_word(octet)).unwrap_or(text.len()),
        };
        let (word, rest) = text.split_at_checked(length)?;
        self.rest = rest;
        (length > 0 || text.is_empty()).then_some(word)
    }

    fn sign(&mut self, sign: u8) -> Option<()> {
        (self.next()? == [sign]).then_some(())
    }
}

fn read_date(words: &mut Words<'_>) -> Option<()> {
    let mut word = words.next()?;
    if is_one_of(word, &DAYS) {
        words.sign(b',')?;
        word = words.next()?;
    }
    number(word, 1..=2, 1..=31)?;
    is_one_of(words.next()?, &MONTHS).then_some(())?;
    // Two and three digits: RFC 5322 §4.3.
    number(words.next()?, 2..=4, 0..=9_999)?;
    number(words.next()?, 1..=2, 0..=23)?;
    words.sign(b':')?;
    number(words.next()?, 2..=2, 0..=59)?;
    let mut zone = words.next()?;
    if zone == b":" {
        number(words.next()?, 2..=2, 0..=60)?;
        zone = words.next()?;
    }
    is_zone(zone).then_some(())?;
    words.next()?.is_empty().then_some(())
}

fn is_zone(zone: &[u8]) -> bool {
    match zone {
        [b'+' | b'-', digits @ ..] => {
            let minutes = digits.get(2..).unwrap_or_default();
            digits.len() == 4
                && number(digits, 4..=4, 0..=9_999).is_some()
                && number(minutes, 2..=2, 0..=59).is_some()
        }
        // Names of zones (RFC 5322 §4.3): readers take what they do not know for -0000.
        letters => (1..=5).contains(&letters.len()) && letters.iter().all(u8::is_ascii_alphabetic),
    }
}

fn number(
    digits: &[u8],
    lengths: std::ops::RangeInclusive<usize>,
    values: std::ops::RangeInclusive<u32>,
) -> Option<()> {
    let is_number = lengths.contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let value = is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()?;
    values.contains(&value).then_some(())
}

fn is_one_of(word: &[u8], names: &[&str]) -> bool {
    names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_known_in_all_their_forms() {
        for date in [
            "Thu, 1 Jan 2026 00:00:00 +0000",
            " thu, 01 JAN 2026 00:00 -0330",
            "1 Jan 2026 23:59:60 +1400",
            "Thu, 1 Jan 2026 00:00:00 GMT",
            "Thu, 1 Jan 26 9:05:00 EST",
            "Thu,\r\n 1 Jan\r\n\t2026 00:00:00 +0100 (CET)",
            "Thu (day), 1(one)Jan 2026 00 : 00 : 00 Z ((a) \\) b)",
            // Nobody can be sure of the calendar of another.
            "Fri, 31 Feb 2026 00:00:00 +0000",
        ] {
            assert!(is_date(date.as_bytes()), "{date}");
        }
        for junk in [
            "",
            "x",
            "now",
            "Thu 1 Jan 2026 00:00:00 +0000",
            "Thu Jan  1 00:00:00 2026",
            "2026-01-01T00:00:00Z",
            "Thu, 32 Jan 2026 00:00:00 +0000",
            "Thu, 1 Jam 2026 00:00:00 +0000",
            "Thu, 1 Jan 2026 24:00:00 +0000",
            "Thu, 1 Jan 2026 00:60:00 +0000",
            "Thu, 1 Jan 2026 00:00:00",
            "Thu, 1 Jan 2026 00:00:00 +0060",
            "Thu, 1 Jan 2026 00:00:00 +00000",
            "Thu, 1 Jan 2026 00:00:00 +0000 x",
            "Thu, 1 Jan 2026 00:00:00 +0000 (x",
            "Thu, 1 Jän 2026 00:00:00 +0000",
            "99999999999999999999 Jan 2026 00:00:00 +0000",
        ] {
            assert!(!is_date(junk.as_bytes()), "{junk}");
        }
    }

    #[test]
    fn a_message_id_has_an_at_sign_between_brackets() {
        for id in [
            "<a@b>",
            " <a.b+c@[192.0.2.1]>\r\n ",
            "(x) <a@b> (y)",
            "<a:b@c@d..e>",
            "<\"a b>\"@c>",
            "<jörg@b>",
        ] {
            assert!(is_message_id(id.as_bytes()), "{id}");
        }
        for junk in [
            "",
            "a@b",
            "<a>",
            "<a@>",
            "<@b>",
            "<>",
            "<a@b",
            "<a @b>",
            "<a@b> c",
            "<a@b><c@d>",
            "<a@b>(",
            "<<a@b>>",
            "<a\t@b>",
            "<\"a@b>",
        ] {
            assert!(!is_message_id(junk.as_bytes()), "{junk}");
        }
        assert!(!is_message_id(b"<a\xff@b>"));
    }

    #[test]
    fn results_in_our_name_are_recognised_and_those_of_others_are_not() {
        let ours = Domain::parse("mx.local.test").unwrap();
        for value in [
            "mx.local.test; spf=pass",
            " MX.Local.Test 1; spf=pass",
            "\r\n\tmx.local.test;\r\n\tnone",
            "(c (d) \\) e) mx.local.test (f); none",
            "\"mx.local.test\"; none",
            "mx.local.test. ; none",
            "mx.local.test",
            "mx.local.test/1; none",
            // Some readers drop comments first, or all blanks.
            "mx.(x)local.test; none",
            "mx.local\r\n .test 1; none",
            "m\"x.local\".test; none",
            // It cannot be read, and a reader that searches would find the name.
            "(mx.local.test; none",
            "\"MX.local.test; none",
        ] {
            assert!(speaks_for(value.as_bytes(), &ours), "{value}");
        }
        for value in [
            "mx.local.test.evil; spf=pass",
            "evil.mx.local.test; spf=pass",
            "mx2.local.test; spf=pass (mx.local.test)",
            "other.example; mx.local.test",
            "mx.local; none",
            "local.test 1; none",
            "",
            ";",
            "(x",
        ] {
            assert!(!speaks_for(value.as_bytes(), &ours), "{value}");
        }
        let one = Domain::parse("mx1").unwrap();
        assert!(speaks_for(b"mx1; none", &one) && speaks_for(b"mx1 1; none", &one));
        let short = Domain::parse("mx").unwrap();
        assert!(!speaks_for(b"mx1; none", &short) && speaks_for(b"mx 1; none", &short));
        let wide = Domain::parse("münchen.example").unwrap();
        assert!(speaks_for("MÜNCHEN.example; none".as_bytes(), &wide));
        assert!(speaks_for(b"xn--mnchen-3ya.example; none", &wide));
    }
}
