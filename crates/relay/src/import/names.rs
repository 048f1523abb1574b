//! What tables are called.
//!
//! Invariant: every name is one that a table may have, and none is given twice. Pure.

use std::collections::BTreeSet;

/// The names that were given.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// A name that is like this one, and nobody's yet.
    pub(super) fn give(&mut self, like: &str) -> String {
        let base = sanitized(like);
        let mut name = base.clone();
        let mut number = 2_u32;
        while !self.0.insert(name.clone()) {
            name = format!("{base}-{number}");
            number += 1;
        }
        name
    }
}

/// A text as a name: what a name cannot hold becomes a hyphen.
pub(super) fn sanitized(text: &str) -> String {
    let mut name = String::new();
    for c in text.to_ascii_lowercase().chars() {
        let c = if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        if c != '-' || !name.is_empty() && !name.ends_with('-') {
            name.push(c);
        }
    }
    // Room for a number behind it.
    name.truncate(56);
    let name = name.trim_end_matches('-');
    if name.is_empty() { "one".to_owned() } else { name.to_owned() }
}

/// The first of many texts, and how many there are besides.
pub(super) fn few(all: &[String]) -> String {
    let shown = all.get(..FEW).unwrap_or(all).join(", ");
    match all.len().saturating_sub(FEW) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// As many as are read with one look.
const FEW: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Name;

    #[test]
    fn of_many_the_first_are_shown() {
        let all = |count: usize| (0..count).map(|at| at.to_string()).collect::<Vec<_>>();
        assert_eq!(few(&all(3)), "0, 1, 2");
        assert_eq!(few(&all(20)), "0, 1, 2, 3, 4, 5, 6, 7 and 12 more");
        assert_eq!(few(&[]), "");
    }

    #[test]
    fn names_are_good_and_never_given_twice() {
        let mut names = Names::default();
        for (like, want) in [
            ("[Mail.example]:2525", "mail-example-2525"),
            ("mail.example:2525", "mail-example-2525-2"),
            ("---", "one"),
            ("", "one-2"),
            ("münchen.example", "m-nchen-example"),
        ] {
            assert_eq!(names.give(like), want, "{like}");
        }
        let long = names.give(&"x".repeat(200));
        assert!(Name::parse(&long).is_some());
        assert!(Name::parse(&names.give(&"x".repeat(200))).is_some());
    }
}
