//! How passwords and names are prepared before they are compared (RFC 8265 §4.2 `OpaqueString`).
//!
//! Invariant: nothing is cut off, and preparing twice is preparing once. Pure.
//!
//! Keyboards differ in how they write `é`: as one code point or as two. Prepared, both are the
//! same password.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{
        DefaultIgnorableCodePoint, GeneralCategory, HangulSyllableType, JoinControl,
        NoncharacterCodePoint,
    },
};

/// The prepared form of a password or a name; `None` where it is empty or holds what none may
/// hold: control characters, unassigned code points, and what is not to be seen.
///
/// Where RFC 8264 §9 ties a character to its context (ZERO WIDTH JOINER, MIDDLE DOT and some more)
/// we take it anywhere: that rule protects from names that look alike, while passwords are not
/// looked at, and people have emoji in them that hold such joiners.
pub fn opaque(text: &str) -> Option<Cow<'_, str>> {
    if text.is_empty() {
        return None;
    }
    if text.is_ascii() {
        let is_good = text.bytes().all(|octet| matches!(octet, b' '..=b'~'));
        return is_good.then_some(Cow::Borrowed(text));
    }
    if !text.chars().all(is_allowed) {
        return None;
    }
    let nfc = ComposingNormalizerBorrowed::new_nfc();
    if text.chars().any(is_other_space) {
        let spaced: String =
            text.chars().map(|c| if is_other_space(c) { ' ' } else { c }).collect();
        return Some(Cow::Owned(nfc.normalize(&spaced).into_owned()));
    }
    Some(nfc.normalize(text))
}

/// Whether the `FreeformClass` of RFC 8264 §4.3 has the character, in whatever context.
fn is_allowed(character: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(character);
    let is_shown = !matches!(
        category,
        GeneralCategory::Control
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::PrivateUse
            | GeneralCategory::Surrogate
            | GeneralCategory::Unassigned
    );
    is_shown && !is_ignorable(character) && !is_old_jamo(character)
}

/// RFC 8264 §9.13, without the characters that depend on their context.
fn is_ignorable(character: char) -> bool {
    let has = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character);
    let joins = CodePointSetData::new::<JoinControl>().contains(character);
    // VARIATION SELECTOR-16 stands behind half of all emoji; keyboards put it there unasked.
    let is_selector = ('\u{fe00}'..='\u{fe0f}').contains(&character);
    let is_none = CodePointSetData::new::<NoncharacterCodePoint>().contains(character);
    (has && !joins && !is_selector) || is_none
}

/// RFC 8264 §9.9.
fn is_old_jamo(character: char) -> bool {
    let syllable = CodePointMapData::<HangulSyllableType>::new().get(character);
    [
        HangulSyllableType::LeadingJamo,
        HangulSyllableType::VowelJamo,
        HangulSyllableType::TrailingJamo,
    ]
    .contains(&syllable)
}

/// RFC 8265 §4.2.2, rule 2: the spaces of Unicode become that of ASCII.
fn is_other_space(character: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(character);
    character != ' ' && category == GeneralCategory::SpaceSeparator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<&str>) {
        let got = opaque(text);
        assert_eq!(got.as_deref(), want, "{text:?}");
        if let Some(once) = got {
            assert_eq!(opaque(&once).as_deref(), Some(&*once), "prepared again, {text:?}");
        }
    }

    #[test]
    fn what_reads_alike_is_prepared_alike() {
        for (text, want) in [
            ("correct horse", "correct horse"),
            ("Correct Horse ", "Correct Horse "),
            ("cafe\u{301}", "caf\u{e9}"),
            ("caf\u{e9}", "caf\u{e9}"),
            ("\u{212b}ngstr\u{f6}m", "\u{c5}ngstr\u{f6}m"),
            ("a\u{a0}b\u{3000}c", "a b c"),
            ("\u{ff21}\u{ff22}", "\u{ff21}\u{ff22}"),
            ("\u{3c0}\u{df}\u{e5}", "\u{3c0}\u{df}\u{e5}"),
            (
                "\u{1f469}\u{200d}\u{1f680}\u{2764}\u{fe0f}",
                "\u{1f469}\u{200d}\u{1f680}\u{2764}\u{fe0f}",
            ),
        ] {
            check(text, Some(want));
        }
        let long = "\u{e9}".repeat(4_000);
        check(&long, Some(&long));
    }

    #[test]
    fn what_nobody_can_type_or_see_is_no_password() {
        for text in [
            "",
            "\0",
            "a\0b",
            "a\tb",
            "a\r\n",
            "\u{7f}",
            "a\u{80}",
            "a\u{ad}b",
            "a\u{200b}b",
            "a\u{202e}b",
            "a\u{2028}b",
            "a\u{fdd0}",
            "a\u{ffff}",
            "a\u{e000}",
            "a\u{378}",
            "\u{1100}\u{1161}",
        ] {
            check(text, None);
        }
    }
}
