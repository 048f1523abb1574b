//! Where configuration is written, and what stands there before anybody asks what it means.
//!
//! Invariant: every key and value keeps its place, also those from the environment and the command
//! line. A later source wins over an earlier one; within the files nothing is set twice. Pure.

use std::{collections::BTreeMap, fmt, ops::Range};

use merpati_console::near::nearest;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    diagnostic::Diagnostic,
    options::{SECTIONS, SECTIONS_COUNT},
    section::{Repeats, SectionDoc},
};

/// A text with a name: a file, a variable of the environment, an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path, `environment` or `command line`.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// All texts that were read.
#[derive(Clone, Default)]
pub struct Sources(Vec<Source>);

impl fmt::Debug for Sources {
    /// Names only: a text may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|source| &source.name)).finish()
    }
}

impl Sources {
    /// The text in which a span lies; `None` for defaults.
    pub fn of(&self, span: &Span) -> Option<&Source> {
        self.0.get(span.source)
    }

    /// A span as file, line and column, or as the name of what set it.
    pub fn place(&self, span: &Span) -> String {
        let Some(source) = self.of(span) else { return "default".to_owned() };
        if [ENVIRONMENT, COMMAND_LINE].contains(&source.name.as_str()) {
            let key = source.text.split_once('=').map_or("", |(key, _)| key);
            return format!("{} {key}", source.name);
        }
        let before = source.text.get(..span.range.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", source.name)
    }

    /// The same with stars in place of what may be a password; places stay what they are.
    pub(super) fn without_secrets(&self) -> Self {
        let masked = self.0.iter().map(|Source { name, text }| Source {
            name: name.clone(),
            text: without_secrets(text),
        });
        Self(masked.collect())
    }

    pub(super) fn add(&mut self, source: Source) -> usize {
        self.0.push(source);
        self.0.len() - 1
    }
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which text.
    pub source: usize,
    /// Which octets of it.
    pub range: Range<usize>,
}

impl Span {
    /// The place of what nobody wrote.
    pub const fn nowhere() -> Self {
        Self { source: usize::MAX, range: 0..0 }
    }

    /// Whether nobody wrote it.
    pub const fn is_nowhere(&self) -> bool {
        self.source == usize::MAX
    }

    /// The range, cut to what the text has.
    pub fn within(&self, text: &str) -> Range<usize> {
        self.range.start.min(text.len())..self.range.end.min(text.len())
    }
}

/// A value as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A list with the places of its items.
    List(Vec<(Self, Span)>),
    /// Something that no option is, by its name.
    Other(&'static str),
    /// A string.
    Text(String),
}

impl Node {
    /// What it is, with its article.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "a number",
            Self::List(_) => "a list",
            Self::Other(kind) => kind,
            Self::Text(_) => "a string",
        }
    }

    fn of(value: &DeValue<'_>, source: usize) -> Self {
        match value {
            DeValue::Array(items) => Self::List(
                items
                    .iter()
                    .map(|item| {
                        let span = Span { source, range: item.span() };
                        (Self::of(item.get_ref(), source), span)
                    })
                    .collect(),
            ),
            DeValue::Boolean(value) => Self::Boolean(*value),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Float(_) => Self::Other("a number with a fraction"),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Self::Other("a number that is too large"), Self::Integer),
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }
}

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was written.
    pub node: Node,
    /// Where the key stands.
    pub key: Span,
    /// Where the value stands.
    pub value: Span,
}

/// The entries of one `[section]` or `[[section]]`.
#[derive(Clone, Debug)]
pub struct Table {
    /// Where it begins.
    pub head: Span,
    /// By key; all keys are known.
    pub entries: BTreeMap<String, Entry>,
}

impl Table {
    fn new(head: Span) -> Self {
        Self { head, entries: BTreeMap::new() }
    }

    /// Its `name`; `?` where it has none that could be read.
    pub fn name(&self) -> &str {
        match self.entries.get("name").map(|entry| &entry.node) {
            Some(Node::Text(name)) => name,
            _ => "?",
        }
    }

    /// Sets an option from outside of the files.
    pub fn preset(&mut self, key: &str, text: &str) {
        let entry = Entry {
            node: Node::Text(text.to_owned()),
            key: Span::nowhere(),
            value: Span::nowhere(),
        };
        self.entries.entry(key.to_owned()).or_insert(entry);
    }
}

/// Everything that was written, by section.
#[derive(Debug, Default)]
pub struct Tree {
    /// The texts.
    pub sources: Sources,
    /// The tables of each section, in the order in which they were read.
    pub tables: BTreeMap<&'static str, Vec<Table>>,
    /// What is wrong so far.
    pub diagnostics: Vec<Diagnostic>,
}

impl Tree {
    /// Reads a file; what it sets must not be set by an earlier file.
    pub fn file(&mut self, file: Source) {
        let text = file.text.clone();
        let source = self.sources.add(file);
        let (root, errors) = DeTable::parse_recoverable(&text);
        for error in errors {
            let range = error.span().unwrap_or(0..0);
            self.wrong(error.message().trim().to_owned(), Span { source, range });
        }
        for (key, value) in root.get_ref() {
            let at = Span { source, range: key.span() };
            let Some(section) = self.section(key.get_ref(), at) else { continue };
            let head = Span { source, range: value.span() };
            match (section.repeats, value.get_ref()) {
                (Repeats::Once, DeValue::Table(table)) => {
                    let mut all = self.tables.remove(section.name).unwrap_or_default();
                    let mut own = all.pop().unwrap_or_else(|| Table::new(head));
                    self.entries(section, table, source, &mut own);
                    self.tables.insert(section.name, vec![own]);
                }
                (Repeats::Named, DeValue::Array(items)) => {
                    for item in items {
                        self.named(section, item, source);
                    }
                }
                (Repeats::Once, _) => {
                    self.wrong(format!("write [{}] and its options below", section.name), head);
                }
                (Repeats::Named, _) => {
                    self.wrong(format!("write [[{}]] and its options below", section.name), head);
                }
            }
        }
    }

    /// Reads a variable `MERPATI_<SECTION>__<KEY>` or `MERPATI_<SECTION>__<NAME>__<KEY>`; others
    /// are none of ours.
    pub fn variable(&mut self, name: &str, value: &str) {
        let Some(path) = name.strip_prefix("MERPATI_").filter(|path| path.contains("__")) else {
            return;
        };
        let path: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        self.overrule(ENVIRONMENT, (name, value), &path);
    }

    /// Reads an argument `section.key=value` or `section.name.key=value`.
    pub fn argument(&mut self, argument: &str) {
        let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
        let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
        self.overrule(COMMAND_LINE, (key, value), &path);
    }

    fn overrule(&mut self, origin: &str, (key, value): (&str, &str), path: &[String]) {
        let source =
            self.sources.add(Source { name: origin.to_owned(), text: format!("{key}={value}") });
        let at = Span { source, range: 0..key.len() };
        let value_at = Span { source, range: key.len() + 1..key.len() + 1 + value.len() };
        let Some(section) = path.first().and_then(|name| self.section(name, at.clone())) else {
            return;
        };
        let (name, option) = match (section.repeats, path) {
            (Repeats::Once, [_, option]) => (None, option),
            (Repeats::Named, [_, name, option]) => (Some(name), option),
            (Repeats::Once, _) => {
                return self.wrong(format!("write {}.option=value", section.name), at);
            }
            (Repeats::Named, _) => {
                return self.wrong(format!("write {}.name.option=value", section.name), at);
            }
        };
        if !self.knows(section, option, at.clone()) {
            return;
        }
        let text = |text: &str, value: &Span| Entry {
            node: Node::Text(text.to_owned()),
            key: at.clone(),
            value: value.clone(),
        };
        let tables = self.tables.entry(section.name).or_default();
        let place = match name {
            None => tables.len().checked_sub(1),
            Some(name) => tables.iter().position(|table| table.name() == name),
        };
        let place = place.unwrap_or_else(|| {
            tables.push(Table::new(at.clone()));
            tables.len() - 1
        });
        if let Some(table) = tables.get_mut(place) {
            if let Some(name) = name {
                table.entries.entry("name".to_owned()).or_insert_with(|| text(name, &at));
            }
            table.entries.insert(option.clone(), text(value, &value_at));
        }
    }

    fn named(&mut self, section: &SectionDoc, item: &Spanned<DeValue<'_>>, source: usize) {
        let head = Span { source, range: item.span() };
        let DeValue::Table(table) = item.get_ref() else {
            return self.wrong(format!("write [[{}]] and its options below", section.name), head);
        };
        let mut own = Table::new(head);
        self.entries(section, table, source, &mut own);
        let twin = self.tables.get(section.name).and_then(|tables| {
            tables.iter().find(|table| table.name() == own.name() && table.name() != "?")
        });
        if let (Some(twin), Some(entry)) = (twin, own.entries.get("name")) {
            let first = twin.entries.get("name").map_or(&twin.head, |entry| &entry.value).clone();
            let why = format!("two tables of {} are called `{}`", section.name, own.name());
            let diagnostic = Diagnostic::new(why, entry.value.clone())
                .beside(first, "the first is here")
                .help("give each its own name");
            return self.diagnostics.push(diagnostic);
        }
        self.tables.entry(section.name).or_default().push(own);
    }

    fn entries(&mut self, section: &SectionDoc, from: &DeTable<'_>, source: usize, to: &mut Table) {
        for (key, value) in from {
            let at = Span { source, range: key.span() };
            if !self.knows(section, key.get_ref(), at.clone()) {
                continue;
            }
            if let Some(first) = to.entries.get(key.get_ref().as_ref()) {
                let why = format!("`{}.{}` is set twice", section.name, key.get_ref());
                let diagnostic =
                    Diagnostic::new(why, at).beside(first.key.clone(), "first set here");
                self.diagnostics.push(diagnostic);
                continue;
            }
            let mut node = Node::of(value.get_ref(), source);
            if key.get_ref() == "name"
                && let Node::Integer(number) = node
            {
                // A name is a word, whatever it is made of.
                node = Node::Text(number.to_string());
            }
            let entry = Entry { node, key: at, value: Span { source, range: value.span() } };
            to.entries.insert(key.get_ref().to_string(), entry);
        }
    }

    fn section(&mut self, name: &str, at: Span) -> Option<&'static SectionDoc> {
        let known = SECTIONS_STATIC.iter().find(|section| section.name == name);
        if known.is_none() {
            let names = SECTIONS_STATIC.iter().map(|section| section.name);
            let help = match nearest(name, names.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("sections are {}", names.collect::<Vec<_>>().join(", ")),
            };
            let why = format!("there is no section `{name}`");
            self.diagnostics.push(Diagnostic::new(why, at).help(help));
        }
        known
    }

    fn knows(&mut self, section: &SectionDoc, option: &str, at: Span) -> bool {
        let names = section.options.iter().map(|option| option.name);
        if names.clone().any(|name| name == option) {
            return true;
        }
        let help = match nearest(option, names.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("options are {}", names.collect::<Vec<_>>().join(", ")),
        };
        let why = format!("{} has no option `{option}`", section.name);
        self.diagnostics.push(Diagnostic::new(why, at).help(help));
        false
    }

    fn wrong(&mut self, why: String, at: Span) {
        self.diagnostics.push(Diagnostic::new(why, at));
    }
}

/// Stars for whatever stands behind a key that sounds like a password, well or badly written, and
/// in front of the `@` of a next hop.
fn without_secrets(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    // What ends a string of several lines.
    let mut closing: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        let (mut open, mut secret) = ("", line);
        if let Some(quotes) = closing {
            if let Some(end) = line.find(quotes) {
                secret = line.get(..end).unwrap_or_default();
                closing = None;
            }
        } else {
            (open, secret) = line.split_at(secret_at(line).unwrap_or(line.len()));
            let mut quotes = ["\"\"\"", "'''"].into_iter();
            closing = quotes.find(|quotes| secret.matches(quotes).count() == 1);
        }
        shown.push_str(open);
        for character in secret.chars() {
            if character.is_control() {
                shown.push(character);
            } else {
                shown.push_str(&"*".repeat(character.len_utf8()));
            }
        }
        shown.push_str(line.get(open.len() + secret.len()..).unwrap_or_default());
    }
    shown
}

/// Where in a line something begins that nobody else may see.
fn secret_at(line: &str) -> Option<usize> {
    let lower = line.to_ascii_lowercase();
    let is_key = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let of_key = lower.match_indices("pas").find_map(|(at, _)| {
        let rest = lower.get(at..)?;
        let (key, behind) = rest.split_at(rest.find(|c| !is_key(c))?);
        let spaces = behind.len() - behind.trim_start_matches(['"', '\'', ' ', '\t']).len();
        let is_assigned = behind.get(spaces..)?.starts_with('=');
        (is_assigned && !key.ends_with("file")).then_some(at + key.len() + spaces + 1)
    });
    let of_hop = || {
        let place = lower.find("://")? + 3;
        lower.get(place..)?.contains('@').then_some(place)
    };
    of_key.or_else(of_hop)
}

static SECTIONS_STATIC: [SectionDoc; SECTIONS_COUNT] = SECTIONS;

const ENVIRONMENT: &str = "environment";
const COMMAND_LINE: &str = "command line";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_password_is_starred_and_nothing_moves() {
        for (text, want) in [
            ("password = \"hunter2\"\n", "password =**********\n"),
            ("passwrd=x", "passwrd=*"),
            ("\"password\" = 'x'", "\"password\" =****"),
            ("route = [{ Password=\"x\" }]", "route = [{ Password=******"),
            ("MERPATI_ROUTE__HUB__PASWORD=\u{fc}", "MERPATI_ROUTE__HUB__PASWORD=**"),
            ("to = \"smtp://ani:x@b.example\"", "to = \"smtp://****************"),
            ("password = \"\"\"\nx\n\"\"\"\nuser = 1", "password =****\n*\n\"\"\"\nuser = 1"),
            ("password_file = \"/etc/x\"", "password_file = \"/etc/x\""),
            ("hostname = \"passau.example\"", "hostname = \"passau.example\""),
            ("to = \"smtp://b.example\"", "to = \"smtp://b.example\""),
        ] {
            let shown = without_secrets(text);
            assert_eq!(shown, want);
            assert_eq!(shown.len(), text.len());
        }
    }
}
