//! What became of each parameter, and what is to be told about it.
//!
//! Invariant: every parameter that is set has exactly one [`Fate`] at the end. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{scope::Scope, text::Place};

/// What became of a parameter that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It is carried over.
    Carried,
    /// It is carried over, but for what the lines about it say.
    InPart,
    /// It is not carried over; a line about it says why.
    Left,
    /// It needs nothing: it is so here anyway, or has no meaning here.
    Nothing,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Mail is taken, refused or changed otherwise than before.
    Loud,
    /// It is good to know.
    Plain,
}

/// Something that is not carried over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// How much it matters.
    pub weight: Weight,
    /// Where it stands.
    pub place: Place,
    /// The parameter or service.
    pub about: String,
    /// Why, and what to do.
    pub text: String,
}

/// A parameter at its place.
type Key = (Place, String);

/// Everything that is to be told.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    carried: BTreeSet<Key>,
    left: BTreeSet<Key>,
    nothing: BTreeMap<Key, String>,
    lines: BTreeSet<Line>,
}

impl Report {
    /// A parameter is carried over; says where it comes from.
    pub(super) fn carried(&mut self, scope: &Scope<'_>, name: &str) -> String {
        self.carried.extend(key(scope, name));
        scope.origin(name)
    }

    /// A parameter needs nothing, for this reason; one that is carried over elsewhere stays so.
    pub(super) fn nothing(&mut self, scope: &Scope<'_>, name: &str, why: &str) {
        if let Some(key) = key(scope, name) {
            self.nothing.entry(key).or_insert_with(|| why.to_owned());
        }
    }

    /// A parameter, or a part of it, is not carried over.
    pub(super) fn left(&mut self, scope: &Scope<'_>, name: &str, weight: Weight, text: &str) {
        if let Some(key) = key(scope, name) {
            self.line(weight, &key.0, name, text);
            self.left.insert(key);
        } else {
            let place = Place { file: "main.cf".into(), line: 0 };
            self.line(weight, &place, &format!("{name} (Postfix's default)"), text);
        }
    }

    /// A parameter is not carried over with the service that sets it, of which a line tells.
    pub(super) fn left_with_its_service(&mut self, scope: &Scope<'_>, name: &str) {
        self.left.extend(key(scope, name));
    }

    /// Something at a place is not carried over.
    pub(super) fn line(&mut self, weight: Weight, place: &Place, about: &str, text: &str) {
        let (place, about, text) = (place.clone(), about.to_owned(), text.to_owned());
        self.lines.insert(Line { weight, place, about, text });
    }

    /// What became of an assignment; `None` where nobody has looked at it.
    pub(super) fn fate(&self, place: &Place, name: &str) -> Option<Fate> {
        let key = (place.clone(), name.to_owned());
        match (self.carried.contains(&key), self.left.contains(&key)) {
            (true, false) => Some(Fate::Carried),
            (true, true) => Some(Fate::InPart),
            (false, true) => Some(Fate::Left),
            (false, false) => self.nothing.contains_key(&key).then_some(Fate::Nothing),
        }
    }

    /// Why a parameter needs nothing.
    pub(super) fn why_nothing(&self, place: &Place, name: &str) -> Option<&str> {
        self.nothing.get(&(place.clone(), name.to_owned())).map(String::as_str)
    }

    /// The lines, what matters more first, then by place.
    pub(super) fn into_lines(self) -> Vec<Line> {
        self.lines.into_iter().collect()
    }
}

fn key(scope: &Scope<'_>, name: &str) -> Option<Key> {
    scope.assignment(name).map(|set| (set.place.clone(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::main_cf::MainCf;

    #[test]
    fn a_parameter_has_one_fate() {
        let main = MainCf::parse("main.cf", "a = 1\nb = 2\nc = 3\nd = 4\ne = 5\n");
        let scope = Scope::new(&main, None);
        let mut report = Report::default();
        assert_eq!(report.carried(&scope, "a"), "a (main.cf:1)");
        report.left(&scope, "b", Weight::Loud, "why");
        report.carried(&scope, "c");
        report.left(&scope, "c", Weight::Plain, "in part");
        report.nothing(&scope, "c", "none");
        report.nothing(&scope, "d", "none");
        report.left(&scope, "relayhost", Weight::Loud, "not set");
        for (name, want) in [
            ("a", Some(Fate::Carried)),
            ("b", Some(Fate::Left)),
            ("c", Some(Fate::InPart)),
            ("d", Some(Fate::Nothing)),
            ("e", None),
        ] {
            let place = &main.set[name].place;
            assert_eq!(report.fate(place, name), want, "{name}");
        }
        let lines = report.into_lines();
        let shown: Vec<String> = lines
            .iter()
            .map(|line| format!("{} {}: {}", line.place, line.about, line.text))
            .collect();
        assert_eq!(
            shown,
            [
                "main.cf relayhost (Postfix's default): not set",
                "main.cf:2 b: why",
                "main.cf:3 c: in part"
            ]
        );
    }
}
