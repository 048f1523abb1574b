//! How Postfix writes texts: logical lines, words with braces, places.
//!
//! Pure.

use std::{fmt, rc::Rc};

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it is shown.
    pub file: Rc<str>,
    /// Its line, from 1; 0 for no line at all.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// A line with those that continue it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Logical {
    /// Each line of the file with its number, the first one first; never empty.
    pub parts: Vec<(usize, String)>,
}

impl Logical {
    /// The number of the first line.
    pub(super) fn line(&self) -> usize {
        self.parts.first().map_or(0, |(line, _)| *line)
    }

    /// The whole text.
    pub(super) fn text(&self) -> String {
        let parts: Vec<&str> = self.parts.iter().map(|(_, text)| text.as_str()).collect();
        parts.join(" ")
    }

    /// The number of the first line that holds this text; else of the first.
    pub(super) fn line_of(&self, text: &str) -> usize {
        let found = self.parts.iter().find(|(_, part)| part.contains(text));
        found.map_or_else(|| self.line(), |(line, _)| *line)
    }
}

/// The logical lines: what begins with a blank continues the line before; empty lines and comments
/// count nowhere, also not between a line and its continuation.
pub(super) fn logical_lines(text: &str) -> Vec<Logical> {
    let mut all: Vec<Logical> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let part = (at + 1, trimmed.to_owned());
        match all.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => last.parts.push(part),
            // Postfix takes a continuation of nothing for a line as well.
            Some(_) | None => all.push(Logical { parts: vec![part] }),
        }
    }
    all
}

/// The words between blanks and commas; what stands in braces is one word, with its braces.
pub(super) fn words(text: &str) -> Vec<String> {
    split(text, |c| c == ',' || c.is_whitespace())
}

/// The words between blanks; what stands in braces is one word, with its braces.
pub(super) fn arguments(text: &str) -> Vec<String> {
    split(text, char::is_whitespace)
}

fn split(text: &str, is_separator: impl Fn(char) -> bool) -> Vec<String> {
    let (mut all, mut word, mut depth) = (Vec::new(), String::new(), 0_usize);
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && is_separator(c) {
            if !word.is_empty() {
                all.push(std::mem::take(&mut word));
            }
        } else {
            word.push(c);
        }
    }
    if !word.is_empty() {
        all.push(word);
    }
    all
}

/// What stands in the braces around a text; the text itself where there are none.
pub(super) fn without_braces(text: &str) -> &str {
    let inside = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    inside.unwrap_or(text).trim()
}

/// Where the brace that opens at the beginning of a text is closed.
pub(super) fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_continued_across_comments_and_keep_their_numbers() {
        let text = "# head\na = 1\n\n  2\n# between\n\t3\nb = 4\n   # indented comment\n";
        let lines = logical_lines(text);
        let shown: Vec<(usize, String)> =
            lines.iter().map(|line| (line.line(), line.text())).collect();
        assert_eq!(shown, [(2, "a = 1 2 3".to_owned()), (7, "b = 4".to_owned())]);
        assert_eq!(lines[0].line_of("3"), 6);
    }

    #[test]
    fn braces_keep_words_together() {
        for (text, want) in [
            ("a, b\tc", vec!["a", "b", "c"]),
            ("a,,b,", vec!["a", "b"]),
            ("{ a, b } c", vec!["{ a, b }", "c"]),
            ("inline:{x=y, {z = u v}}", vec!["inline:{x=y, {z = u v}}"]),
            ("", vec![]),
        ] {
            assert_eq!(words(text), want, "{text}");
        }
        assert_eq!(arguments("-o { a = b, c } -o d=e,f"), ["-o", "{ a = b, c }", "-o", "d=e,f"]);
        assert_eq!(without_braces(" { a = b } "), "a = b");
        assert_eq!(closing_brace("{a{b}c}d"), Some(6));
        assert_eq!(closing_brace("{a"), None);
    }
}
