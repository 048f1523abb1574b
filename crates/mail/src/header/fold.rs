//! How a field with a line that is too long is folded (RFC 5322 §2.1.1, §2.2.3).
//!
//! Invariant: unfolding gives back what was there, but for a blank behind a comma of a list, which
//! means nothing. No line becomes blank. Where that cannot be had, the answer is `None`. Pure.

use super::MAX_LINE_OCTETS;

/// Where a field may be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaks {
    /// At blanks only.
    Blanks,
    /// Behind commas too, outside of quoted strings and comments: the field is a list of addresses
    /// (RFC 5322 §3.4).
    BlanksAndCommas,
}

/// A whole field, ended by CRLF, with no line longer than [`MAX_LINE_OCTETS`]; lines that are not
/// too long stay as they are. `None` where there is no place to fold it.
pub fn refolded(field: &[u8], breaks: Breaks) -> Option<Vec<u8>> {
    let text = field.strip_suffix(b"\r\n")?;
    let out = Vec::with_capacity(field.len() + field.len() / 16);
    let mut folder = Folder { out, column: 0, breaks, place: Place::default() };
    for (number, line) in text.split(|octet| *octet == b'\n').enumerate() {
        if number > 0 {
            folder.out.push(b'\n');
        }
        folder.line(line, number == 0);
    }
    folder.out.extend_from_slice(b"\r\n");
    let is_short = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).len() <= MAX_LINE_OCTETS;
    folder.out.split(|octet| *octet == b'\n').all(is_short).then_some(folder.out)
}

struct Folder {
    out: Vec<u8>,
    /// Octets of the line so far.
    column: usize,
    breaks: Breaks,
    place: Place,
}

impl Folder {
    /// Appends a line, which may still have its CR, folded where it is too long.
    fn line(&mut self, line: &[u8], is_first: bool) {
        self.column = 0;
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        let is_long = text.len() > MAX_LINE_OCTETS;
        // Blanks at the end have no line of their own.
        let last = text.trim_ascii_end().len();
        // The first line keeps more than the name if it can: some readers want it so.
        let mut columns = if is_first { MAX_LINE_OCTETS } else { COLUMNS };
        let (mut start, mut before) = (0, b' ');
        let mut is_behind_comma = false;
        for (at, &octet) in text.iter().enumerate() {
            let is_break =
                if is_blank(octet) { !is_blank(before) } else { is_behind_comma && at > start };
            if is_long && is_break && at < last {
                self.piece(text.get(start..at).unwrap_or_default(), columns);
                columns = if start == 0 { columns } else { COLUMNS };
                start = at;
            }
            is_behind_comma = self.place.pass(octet) && self.breaks == Breaks::BlanksAndCommas;
            before = octet;
        }
        self.piece(text.get(start..).unwrap_or_default(), columns);
        self.out.extend_from_slice(line.get(text.len()..).unwrap_or_default());
    }

    /// Appends a piece that is not broken, on a line of its own where the line would grow beyond
    /// so many columns.
    fn piece(&mut self, piece: &[u8], columns: usize) {
        if self.column > 0 && self.column + piece.len() > columns {
            self.out.extend_from_slice(b"\r\n");
            self.column = 0;
            if !piece.first().is_some_and(|octet| is_blank(*octet)) {
                self.out.push(b' ');
                self.column = 1;
            }
        }
        self.out.extend_from_slice(piece);
        self.column += piece.len();
    }
}

/// What surrounds an octet of a list of addresses.
#[derive(Clone, Copy, Default)]
struct Place {
    comments: usize,
    is_quoted: bool,
    is_escaped: bool,
}

impl Place {
    /// Passes an octet, and says whether it is a comma between two members.
    fn pass(&mut self, octet: u8) -> bool {
        let is_inside = self.is_quoted || self.comments > 0;
        match octet {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if is_inside => self.is_escaped = true,
            b'"' if self.comments == 0 => self.is_quoted = !self.is_quoted,
            b'(' if !self.is_quoted => self.comments += 1,
            b')' if !self.is_quoted => self.comments = self.comments.saturating_sub(1),
            b',' => return !is_inside,
            _ => {}
        }
        false
    }
}

const fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// RFC 5322 §2.1.1: lines of no more than this should be written.
const COLUMNS: usize = 78;

#[cfg(test)]
mod tests {
    use super::*;

    fn refold(field: &str, breaks: Breaks) -> Option<String> {
        refolded(field.as_bytes(), breaks).map(|out| String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_line_that_is_too_long_is_folded_at_blanks() {
        let words = "word ".repeat(300);
        let field = format!("Subject: {words}end\r\n");
        let got = refold(&field, Breaks::Blanks).unwrap();
        assert!(got.starts_with("Subject: word word"), "{got}");
        assert!(got.split("\r\n").skip(1).all(|line| line.len() <= COLUMNS), "{got}");
        assert_eq!(got.replace("\r\n", ""), field.replace("\r\n", ""));
        assert!(!got.contains("\r\n\r\n"));
    }

    #[test]
    fn what_is_short_or_has_no_place_to_fold_stays_as_it_is() {
        let short = format!("A: {}\r\n b\r\n", "x ".repeat(400));
        assert_eq!(refold(&short, Breaks::Blanks).as_deref(), Some(short.as_str()));
        let solid = "x".repeat(999);
        assert_eq!(refold(&format!("A: {solid}\r\n"), Breaks::Blanks), None);
        assert_eq!(refold(&format!("A: b{}\r\n", " ".repeat(999)), Breaks::Blanks), None);
        // A long word fits on a line of its own.
        let word = "x".repeat(997);
        let got = refold(&format!("A: {word}\r\n"), Breaks::Blanks);
        assert_eq!(got, Some(format!("A:\r\n {word}\r\n")));
        assert_eq!(refold("A: b", Breaks::Blanks), None);
    }

    #[test]
    fn a_list_is_folded_behind_its_commas_and_nowhere_else() {
        let list = "\"a,b\\\"\"<a@x>,(c,(d)),b@x,".repeat(60);
        let got = refold(&format!("To:{list}c@x\r\n"), Breaks::BlanksAndCommas).unwrap();
        assert_eq!(got.replace("\r\n ", ""), format!("To:{list}c@x\r\n"));
        for line in got.trim_end().split("\r\n") {
            let is_whole =
                line.ends_with("<a@x>,") || line.ends_with("),") || line.ends_with("@x,");
            assert!(line.len() <= MAX_LINE_OCTETS && (is_whole || line.ends_with("c@x")), "{line}");
        }
        assert_eq!(refold(&format!("To:{list}c@x\r\n"), Breaks::Blanks), None);
    }
}
