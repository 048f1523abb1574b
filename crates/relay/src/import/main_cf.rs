//! What `main.cf` sets, and where.
//!
//! Invariant: the last of several assignments counts, as in Postfix; the others are told. Pure.

use std::{collections::BTreeMap, rc::Rc};

use super::text::{Place, logical_lines};

/// A parameter that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    /// What was written, with its `$name`.
    pub raw: String,
    /// Where.
    pub place: Place,
}

/// Parameters by name.
pub(super) type Assignments = BTreeMap<String, Assignment>;

/// The parameters of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct MainCf {
    /// What holds.
    pub set: Assignments,
    /// What was set and then set again further below: its name, its place and that of the last.
    pub overruled: Vec<(String, Place, Place)>,
    /// What is no assignment.
    pub unread: Vec<(Place, String)>,
}

impl MainCf {
    /// Reads the text of the file; `name` is how places call it.
    pub(super) fn parse(name: &str, text: &str) -> Self {
        let file: Rc<str> = name.into();
        let mut read = Self::default();
        for line in logical_lines(text) {
            let place = Place { file: Rc::clone(&file), line: line.line() };
            let text = line.text();
            let Some((name, raw)) = assignment(&text) else {
                read.unread.push((place, text));
                continue;
            };
            let now = Assignment { raw, place: place.clone() };
            if let Some(before) = read.set.insert(name.clone(), now) {
                read.overruled.push((name, before.place, place));
            }
        }
        read
    }
}

/// `name = value`; `None` where it is something else.
pub(super) fn assignment(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim();
    let is_name = !name.is_empty() && !name.contains(char::is_whitespace);
    is_name.then(|| (name.to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_assignment_counts_and_what_is_none_is_told_with_its_line() {
        let text = "a = 1\nb=\n# c = 3\nmistake\na =\n  2,\n  3\nd = x = y\n";
        let read = MainCf::parse("main.cf", text);
        let shown: Vec<String> = read
            .set
            .iter()
            .map(|(name, set)| format!("{name}|{}|{}", set.raw, set.place))
            .collect();
        assert_eq!(shown, ["a|2, 3|main.cf:5", "b||main.cf:2", "d|x = y|main.cf:8"]);
        assert_eq!(read.unread.len(), 1);
        assert_eq!(read.unread[0].0.to_string(), "main.cf:4");
        let (name, before, after) = &read.overruled[0];
        assert_eq!(format!("{name} {before} {after}"), "a main.cf:1 main.cf:5");
    }
}
