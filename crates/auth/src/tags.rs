//! Lists of tags: `a=b; c=d` (RFC 6376 §3.2), of signatures, keys and DMARC records.
//!
//! Pure.

/// The tags of a list, in its order: names, and values without the blanks around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tags<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Tags<'a> {
    /// Reads a list; `None` where it is not well-formed, holds a name twice, or what is not UTF-8.
    pub(crate) fn parse(list: &'a [u8]) -> Option<Self> {
        let list = str::from_utf8(list).ok()?.trim_matches(is_blank);
        let mut tags: Vec<(&str, &str)> = Vec::new();
        for tag in list.strip_suffix(';').unwrap_or(list).split(';') {
            let (name, value) = tag.split_once('=')?;
            let name = name.trim_matches(is_blank);
            let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_');
            // The library reads names in any case: two that differ in that alone are one twice.
            let is_twice = tags.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
            if !is_name || is_twice || tags.len() == TAGS_MAX {
                return None;
            }
            tags.push((name, value.trim_matches(is_blank)));
        }
        Some(Self(tags))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(it, _)| *it == name).map(|(_, value)| *value)
    }

    /// A number in decimal digits; `Err` where the value is no such number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, ()> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let is_number = !value.is_empty() && value.bytes().all(|octet| octet.is_ascii_digit());
        // What is greater than any number of ours is as great as the greatest (§3.5, x=).
        if is_number { Ok(Some(value.parse().unwrap_or(u64::MAX))) } else { Err(()) }
    }

    /// The words of a value, parted by colons.
    pub(crate) fn words(&self, name: &str) -> Option<impl Iterator<Item = &'a str>> {
        Some(self.get(name)?.split(':').map(|word| word.trim_matches(is_blank)))
    }

    /// A value in base64, with blanks anywhere; `None` where it is absent or not base64.
    pub(crate) fn octets(&self, name: &str) -> Option<Vec<u8>> {
        use base64::Engine as _;
        let text: String = self.get(name)?.chars().filter(|c| !is_blank(*c)).collect();
        base64::engine::general_purpose::STANDARD.decode(text).ok()
    }
}

/// Tags of one list at most: those of all rules together are fewer.
const TAGS_MAX: usize = 64;

/// A signature field without the value of `b=` and the blanks around it (RFC 6376 §3.7).
pub(crate) fn without_signature(value: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(value.len());
    for (at, tag) in value.split(|octet| *octet == b';').enumerate() {
        if at > 0 {
            kept.push(b';');
        }
        let equals = tag.iter().position(|octet| *octet == b'=');
        match equals.and_then(|equals| tag.split_at_checked(equals + 1)) {
            Some((name, _)) if name.trim_ascii() == b"b=" || is_spaced_b(name) => {
                kept.extend_from_slice(name);
            }
            Some(_) | None => kept.extend_from_slice(tag),
        }
    }
    kept
}

/// Whether this is `b`, blanks and an equals sign.
fn is_spaced_b(name: &[u8]) -> bool {
    let name = name.strip_suffix(b"=").unwrap_or(name);
    name.trim_ascii() == b"b"
}

/// Blanks of folding white space.
pub(crate) const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_not_well_formed_says_nothing() {
        let tags = Tags::parse(b" v=1; a = x y ;b=\r\n c=;").unwrap();
        assert_eq!(tags.get("a"), Some("x y"));
        assert_eq!(tags.get("b"), Some("c="));
        assert_eq!(tags.get("c"), None);
        let many: Vec<_> = (0..65).map(|n| format!("a{n}=1")).collect();
        assert_eq!(Tags::parse(many.join(";").as_bytes()), None);
        assert!(Tags::parse(many[..64].join(";").as_bytes()).is_some());
        for bad in ["", ";", "a", "a=1;;b=2", "a=1;a=2", "a=1;A=2", "=1", "1a=1", "a b=1", "a=1; ;"]
        {
            assert_eq!(Tags::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Tags::parse(b"a=\xff"), None);
    }

    #[test]
    fn numbers_are_digits() {
        let tags = Tags::parse(b"a=7;b=x;c=;d=99999999999999999999999").unwrap();
        assert_eq!(tags.number("a"), Ok(Some(7)));
        assert_eq!(tags.number("b"), Err(()));
        assert_eq!(tags.number("c"), Err(()));
        assert_eq!(tags.number("d"), Ok(Some(u64::MAX)));
        assert_eq!(tags.number("e"), Ok(None));
    }

    #[test]
    fn only_the_value_of_b_is_taken_out() {
        for (value, want) in [
            (" v=1; b=abc; bh=def", " v=1; b=; bh=def"),
            (" b=\r\n abc==\r\n\t;bh=x", " b=;bh=x"),
            (" bh=b=; b = x", " bh=b=; b ="),
            (" b=x", " b="),
            (" a=b", " a=b"),
        ] {
            let got = without_signature(value.as_bytes());
            assert_eq!(String::from_utf8(got).unwrap(), want, "{value:?}");
        }
    }
}
