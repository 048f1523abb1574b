//! How the configuration is written: tables with options, and beside each where it comes from.
//!
//! Pure.

use crate::config::setting::Setting;

/// A table of the file.
#[derive(Clone, Debug)]
pub(super) struct Table {
    head: String,
    about: Vec<String>,
    lines: Vec<String>,
    options: usize,
}

impl Table {
    /// A table with this head, such as `[relay]` or `[[route]]`; without one, for what is only
    /// said.
    pub(super) fn new(head: &str) -> Self {
        Self { head: head.to_owned(), about: Vec::new(), lines: Vec::new(), options: 0 }
    }

    /// Says something above the head.
    pub(super) fn about(&mut self, text: &str) {
        self.about.extend(comment(text));
    }

    /// Sets an option; `from` says where it comes from.
    pub(super) fn set<T: Setting>(&mut self, key: &str, value: &T, from: &str) {
        self.lines.extend(comment(from));
        self.lines.push(format!("{key} = {}", value.show()));
        self.options += 1;
    }

    /// The same for a list, which stands in several lines where it is long.
    pub(super) fn list<T: Setting>(&mut self, key: &str, values: &[T], from: &str) {
        self.lines.extend(comment(from));
        self.lines.extend(list(key, values));
        self.options += 1;
    }

    /// Says something behind what is set so far.
    pub(super) fn note(&mut self, text: &str) {
        self.lines.extend(comment(text));
    }

    /// Shows lines that do nothing until the `#` in front of them is taken away.
    pub(super) fn offer(&mut self, lines: &[String]) {
        self.lines.extend(lines.iter().map(|line| format!("# {line}")));
    }

    /// How many options are set in it.
    pub(super) const fn options(&self) -> usize {
        self.options
    }

    /// Whether nothing is set in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.options == 0 && self.lines.is_empty()
    }

    fn text(&self) -> String {
        let mut lines = self.about.clone();
        if !self.head.is_empty() {
            lines.push(self.head.clone());
        }
        lines.extend(self.lines.iter().cloned());
        lines.join("\n") + "\n"
    }
}

/// The text of all tables that are not empty.
pub(super) fn text(tables: &[Table]) -> String {
    let texts: Vec<String> =
        tables.iter().filter(|table| !table.is_empty()).map(Table::text).collect();
    texts.join("\n")
}

/// A list as the lines of a file.
pub(super) fn list<T: Setting>(key: &str, values: &[T]) -> Vec<String> {
    let items: Vec<String> = values.iter().map(Setting::show).collect();
    let short = format!("{key} = [{}]", items.join(", "));
    if short.chars().count() <= COLUMNS {
        return vec![short];
    }
    let mut lines = vec![format!("{key} = [")];
    lines.extend(items.iter().map(|item| format!("    {item},")));
    lines.push("]".to_owned());
    lines
}

/// A text as lines of comment.
pub(super) fn comment(text: &str) -> Vec<String> {
    wrapped(text, COLUMNS - 2).into_iter().map(|line| format!("# {line}")).collect()
}

/// A text in lines of so many columns, where its words allow it. No control character gets through:
/// it could end the comment.
pub(super) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let harmless: String =
        text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    let mut lines: Vec<String> = Vec::new();
    for paragraph in harmless.split('\n') {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let width = line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && width > columns {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        if !line.is_empty() {
            lines.push(line);
        }
    }
    lines
}

const COLUMNS: usize = 98;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Network;

    #[test]
    fn tables_are_written_with_comments_and_long_lists_in_lines() {
        let mut table = Table::new("[relay]");
        table.about("Who may send.");
        let few = [Network::parse("10.0.0.0/8").unwrap()];
        table.list("networks", &few, "mynetworks (main.cf:3)");
        table.set("hops_max", &7_u64, "hopcount_limit");
        table.offer(&["off = 1".to_owned()]);
        let text = text(&[table, Table::new("[empty]")]);
        let want = "# Who may send.\n[relay]\n# mynetworks (main.cf:3)\n\
                    networks = [\"10.0.0.0/8\"]\n# hopcount_limit\nhops_max = 7\n# off = 1\n";
        assert_eq!(text, want);
        let many = vec![few[0]; 20];
        assert_eq!(list("networks", &many).len(), 22);
    }

    #[test]
    fn a_comment_stays_a_comment() {
        assert_eq!(comment("a\rb = 1\nc"), ["# a b = 1", "# c"]);
        assert!(comment(&"word ".repeat(50)).iter().all(|line| line.len() <= 98));
    }
}
