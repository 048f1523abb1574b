//! How the program speaks to whoever typed a command: the one place that writes to the terminal.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

/// Standard output, and standard error for complaints.
pub(super) struct Output {
    out: Box<dyn Write>,
    complaints: Box<dyn Write>,
    has_person: bool,
}

impl Output {
    /// Those of the process.
    pub(super) fn standard() -> Self {
        let has_person = io::stdin().is_terminal();
        Self { out: Box::new(io::stdout()), complaints: Box::new(io::stderr()), has_person }
    }

    /// A writer of any kind: for the tests of commands.
    #[cfg(test)]
    pub(super) fn into(out: Box<dyn Write>) -> Self {
        Self { out, complaints: Box::new(io::sink()), has_person: false }
    }

    /// Writers of any kind for both.
    #[cfg(test)]
    pub(super) fn both(out: Box<dyn Write>, complaints: Box<dyn Write>) -> Self {
        Self { out, complaints, has_person: false }
    }

    /// Writes a line.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Writes names and what they stand for, each at its full length; control characters from mail
    /// never reach the terminal.
    pub(super) fn facts(&mut self, facts: &[(&str, String)]) -> io::Result<()> {
        let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in facts {
            writeln!(self.out, "{name:width$}  {}", harmless_line(value))?;
        }
        self.out.flush()
    }

    /// Writes octets as they are.
    pub(super) fn octets(&mut self, octets: &[u8]) -> io::Result<()> {
        self.out.write_all(octets)?;
        self.out.flush()
    }

    /// Writes columns as wide as they must be, under headings if there are any; control characters
    /// from mail never reach the terminal.
    pub(super) fn table(&mut self, headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        self.columns(headings, rows, harmless)
    }

    /// The same with cells at their full length, for what is copied from them.
    pub(super) fn long_table(&mut self, headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        self.columns(headings, rows, harmless_line)
    }

    fn columns(
        &mut self,
        headings: &[&str],
        rows: &[Vec<String>],
        shown: fn(&str) -> String,
    ) -> io::Result<()> {
        let headings: Vec<String> = headings.iter().map(ToString::to_string).collect();
        let headed = (!headings.is_empty()).then_some(headings);
        let rows: Vec<Vec<String>> = headed
            .into_iter()
            .chain(rows.iter().cloned())
            .map(|row| row.iter().map(|cell| shown(cell)).collect())
            .collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &rows {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(self.out, "{}", line.trim_end())?;
        }
        self.out.flush()
    }

    /// Writes rows for programs that read tables (RFC 4180), under a line with the headings.
    pub(super) fn csv(&mut self, headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let headings: Vec<String> = headings.iter().map(ToString::to_string).collect();
        for row in std::iter::once(&headings).chain(rows) {
            let cells: Vec<String> = row.iter().map(|cell| csv_cell(cell)).collect();
            write!(self.out, "{}\r\n", cells.join(","))?;
        }
        self.out.flush()
    }

    /// Writes a line to standard error. Where even that fails, nobody can be told.
    pub(super) fn complain(&mut self, text: &str) {
        let _ = writeln!(self.complaints, "{text}");
    }

    /// Whether standard input is a terminal, so that a person can be asked.
    pub(super) const fn has_person(&self) -> bool {
        self.has_person
    }

    /// Asks a person; says nothing where standard input is a file or a pipe.
    pub(super) fn prompt(&mut self, text: &str) -> io::Result<()> {
        if self.has_person {
            write!(self.complaints, "{text}")?;
            self.complaints.flush()?;
        }
        Ok(())
    }
}

/// A value of JSON as a person reads it: texts without quotation marks, lists with commas.
pub(super) fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            items.iter().map(|item| plain(Some(item))).collect::<Vec<_>>().join(", ")
        }
        Some(other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_))) => other.to_string(),
    }
}

/// A cell of RFC 4180 §2: in quotation marks where it holds what could end it.
fn csv_cell(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// The text with its control characters replaced, and cut to what a table can bear.
pub(super) fn harmless(text: &str) -> String {
    let mut short: String =
        text.chars().take(CELL_CHARS_MAX).map(|c| if steers(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(CELL_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

/// A line without control characters, at its full length.
pub(super) fn harmless_line(line: &str) -> String {
    let visible = |c: char| if steers(c) && c != '\t' { '\u{fffd}' } else { c };
    line.chars().map(visible).collect()
}

/// Whether a terminal does something at this character other than showing it: controls, marks that
/// turn the direction of what is around them, and what is not seen at all. The joiners U+200C and
/// U+200D stay: words of Persian and of Indic scripts need them.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
        )
}

const CELL_CHARS_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_of_a_table_for_programs_cannot_end_it() {
        for (text, want) in [
            ("a b", "a b"),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("a\nb", "\"a\nb\""),
        ] {
            assert_eq!(csv_cell(text), want);
        }
    }

    #[test]
    fn mail_cannot_control_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\r\n"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}");
        assert_eq!(harmless("a\u{202e}b\u{200b}c"), "a\u{fffd}b\u{fffd}c");
        assert_eq!(harmless("a\u{200c}b"), "a\u{200c}b");
        assert_eq!(harmless(&"x".repeat(100)).chars().count(), CELL_CHARS_MAX + 1);
    }
}
