//! What stands in the tables that a configuration names, and which files those are.
//!
//! Invariant: a table is read whole or not at all; what cannot be read says why. Pure: the texts
//! were read before.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::{
    main_cf::assignment,
    text::{Place, logical_lines, without_braces, words},
};

/// The texts of the files that are named, by the path at which they are named.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The text of each, or why there is none.
    pub texts: BTreeMap<String, Result<String, String>>,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// In lower case, but for patterns.
    pub key: String,
    /// What it leads to.
    pub value: String,
    /// Where it stands.
    pub place: Place,
}

/// What a table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// This value for every key.
    All(String),
    /// Networks in their order, the first that holds an address counts.
    Networks(Vec<Row>),
    /// Keys that are looked up as they are.
    Rows(Vec<Row>),
    /// It cannot be read here, for this reason.
    Unread(String),
}

impl Table {
    /// The rows of one or several tables; with what could not be read.
    pub(super) fn rows_of(names: &[String], files: &Files) -> (Vec<Row>, Vec<String>) {
        let (mut rows, mut unread) = (Vec::new(), Vec::new());
        for name in names {
            match files.table(name) {
                Self::Rows(more) => rows.extend(more),
                Self::All(value) => {
                    let place = Place { file: name.as_str().into(), line: 0 };
                    rows.push(Row { key: "*".to_owned(), value, place });
                }
                Self::Networks(_) => {
                    unread.push(format!("{name}: networks are no keys of this table"));
                }
                Self::Unread(why) => unread.push(format!("{name}: {why}")),
            }
        }
        // Of several tables the first that has a key counts.
        let mut seen = BTreeSet::new();
        rows.retain(|row| seen.insert(row.key.clone()));
        (rows, unread)
    }
}

impl Files {
    /// The table of this name, such as `hash:/etc/postfix/transport`.
    pub(super) fn table(&self, name: &str) -> Table {
        let name = name.strip_prefix("proxy:").unwrap_or(name);
        let Some((kind, rest)) = name.split_once(':') else {
            return Table::Unread("it has no type".to_owned());
        };
        match kind {
            "inline" => Table::Rows(inline(rest)),
            "static" => Table::All(without_braces(rest).to_owned()),
            "cidr" => match self.text(rest) {
                Ok(text) => networks(rest, text),
                Err(why) => Table::Unread(why),
            },
            _ if is_indexed(kind) => match self.text(rest) {
                Ok(text) => Table::Rows(rows(rest, text)),
                Err(why) => Table::Unread(why),
            },
            "pcre" | "regexp" => Table::Unread("patterns are not carried over".to_owned()),
            "unix" => Table::Unread("the users of this machine are not looked up".to_owned()),
            _ => Table::Unread(format!("tables of the type {kind} are not read")),
        }
    }

    /// The entries of a plain file that is named in a list.
    pub(super) fn list(&self, path: &str) -> Result<Vec<(String, Place)>, String> {
        let file: Rc<str> = path.into();
        let lines = logical_lines(self.text(path)?);
        let entries = lines.into_iter().flat_map(|line| {
            let place = Place { file: Rc::clone(&file), line: line.line() };
            words(&line.text()).into_iter().map(move |word| (word, place.clone()))
        });
        Ok(entries.collect())
    }

    /// The text of a file.
    pub(super) fn text(&self, path: &str) -> Result<&str, String> {
        match self.texts.get(path) {
            Some(Ok(text)) => Ok(text),
            Some(Err(why)) => Err(format!("{path}: {why}")),
            None => Err(format!("{path} was not read")),
        }
    }
}

/// The paths that a value of a parameter may name.
pub(super) fn paths(value: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in words(value) {
        let inside = without_braces(&word);
        if inside != word {
            found.extend(paths(inside));
            continue;
        }
        let word = word.trim_start_matches('!');
        let word = word.strip_prefix("proxy:").unwrap_or(word);
        match word.split_once(':') {
            Some((kind, path)) if kind == "cidr" || is_indexed(kind) => {
                found.push(path.to_owned());
            }
            None if word.starts_with('/') => found.push(word.to_owned()),
            Some(_) | None => {}
        }
    }
    found
}

/// Tables that are made from a text with `postmap`.
fn is_indexed(kind: &str) -> bool {
    ["hash", "btree", "lmdb", "cdb", "dbm", "sdbm", "texthash"].contains(&kind)
}

fn rows(path: &str, text: &str) -> Vec<Row> {
    let file: Rc<str> = path.into();
    let row = |line: &super::text::Logical| {
        let text = line.text();
        let (key, value) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
        Row {
            key: key.to_lowercase(),
            value: value.trim().to_owned(),
            place: Place { file: Rc::clone(&file), line: line.line() },
        }
    };
    logical_lines(text).iter().map(row).collect()
}

/// `if`, `endif` and `!` make networks depend on others, which nothing here can hold.
fn networks(path: &str, text: &str) -> Table {
    let rows = rows(path, text);
    let odd = rows
        .iter()
        .find(|row| row.key.starts_with('!') || ["if", "endif"].contains(&row.key.as_str()));
    match odd {
        Some(row) => Table::Unread(format!("{}: `{}` is not carried over", row.place, row.key)),
        None => Table::Networks(rows),
    }
}

/// `{ key = value, { key = text with blanks } }`.
fn inline(text: &str) -> Vec<Row> {
    let place = Place { file: "inline:".into(), line: 0 };
    let entries = words(without_braces(text));
    let read = entries.iter().filter_map(|entry| assignment(without_braces(entry)));
    read.map(|(key, value)| Row { key: key.to_lowercase(), value, place: place.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(texts: &[(&str, &str)]) -> Files {
        let texts = texts.iter().map(|(path, text)| ((*path).to_owned(), Ok((*text).to_owned())));
        Files { texts: texts.collect() }
    }

    #[test]
    fn each_kind_of_table_is_read_or_says_why_not() {
        let files = files(&[
            ("/t", "# head\nA.example  smtp:[b]\n  :25\n\nc.example x\n"),
            ("/c", "10.0.0.0/8 OK\n"),
            ("/d", "if 10.0.0.0/8\n10.1.0.0/16 OK\nendif\n"),
        ]);
        for (name, want) in [
            ("hash:/t", "a.example=smtp:[b] :25@/t:2 c.example=x@/t:5"),
            ("proxy:btree:/t", "a.example=smtp:[b] :25@/t:2 c.example=x@/t:5"),
            ("inline:{a=b, { C = d e }}", "a=b@inline: c=d e@inline:"),
            ("static:OK", "all OK"),
            ("static:{x y}", "all x y"),
            ("cidr:/c", "networks 10.0.0.0/8=OK@/c:1"),
            ("cidr:/d", "unread: /d:1: `if` is not carried over"),
            ("hash:/gone", "unread: /gone was not read"),
            ("pcre:/t", "unread: patterns are not carried over"),
            ("ldap:/t", "unread: tables of the type ldap are not read"),
            ("unix:passwd.byname", "unread: the users of this machine are not looked up"),
        ] {
            let shown = |rows: &[Row]| -> Vec<String> {
                let show = |row: &Row| format!("{}={}@{}", row.key, row.value, row.place);
                rows.iter().map(show).collect()
            };
            let table = match files.table(name) {
                Table::All(value) => format!("all {value}"),
                Table::Networks(rows) => format!("networks {}", shown(&rows).join(" ")),
                Table::Rows(rows) => shown(&rows).join(" "),
                Table::Unread(why) => format!("unread: {why}"),
            };
            assert_eq!(table, want, "{name}");
        }
    }

    #[test]
    fn the_paths_that_a_value_names_are_found() {
        for (value, want) in [
            ("hash:/a, proxy:cidr:/b !/c x.example", vec!["/a", "/b", "/c"]),
            ("permit, { check_client_access hash:/d, x=y }", vec!["/d"]),
            ("pcre:/e ldap:/f static:/g mysql:/h", vec![]),
            ("lmtp:unix:/run/lmtp", vec![]),
        ] {
            assert_eq!(paths(value), want, "{value}");
        }
    }

    #[test]
    fn of_several_tables_the_first_that_has_a_key_counts() {
        let files = files(&[("/a", "x 1\n"), ("/b", "x 2\ny 3\n")]);
        let names = ["hash:/a".to_owned(), "hash:/b".to_owned(), "pcre:/p".to_owned()];
        let (rows, unread) = Table::rows_of(&names, &files);
        let shown: Vec<String> =
            rows.iter().map(|row| format!("{}={}", row.key, row.value)).collect();
        assert_eq!(shown, ["x=1", "y=3"]);
        assert_eq!(unread, ["pcre:/p: patterns are not carried over"]);
    }
}
