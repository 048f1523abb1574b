//! What a parameter is for a service: its own setting, that of `main.cf`, or the default, with
//! everything that `$` stands for.
//!
//! Invariant: an expansion ends: nothing goes deeper than [`DEPTH_MAX`]. Pure.

use super::{
    catalog,
    main_cf::{Assignment, Assignments, MainCf},
    text::{closing_brace, without_braces, words},
};

/// The parameters as one service sees them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    main: &'a MainCf,
    own: Option<&'a Assignments>,
}

impl<'a> Scope<'a> {
    /// Those of `main.cf`, and of what a service sets for itself.
    pub(super) const fn new(main: &'a MainCf, own: Option<&'a Assignments>) -> Self {
        Self { main, own }
    }

    /// What sets the parameter; `None` where its default holds.
    pub(super) fn assignment(&self, name: &str) -> Option<&'a Assignment> {
        let own = self.own.and_then(|own| own.get(name));
        own.or_else(|| self.main.set.get(name))
    }

    /// Whether it is set and not empty.
    pub(super) fn has(&self, name: &str) -> bool {
        self.assignment(name).is_some() && !self.value(name).is_empty()
    }

    /// Its value, or its default.
    pub(super) fn value(&self, name: &str) -> String {
        self.of(name, 0)
    }

    /// What would be its value if it were not set.
    pub(super) fn default_of(&self, name: &str) -> String {
        self.expand(catalog::default_of(name), 0)
    }

    /// Its value as words between blanks and commas.
    pub(super) fn words(&self, name: &str) -> Vec<String> {
        words(&self.value(name))
    }

    /// Whether it is `yes`.
    pub(super) fn is_yes(&self, name: &str) -> bool {
        self.value(name).eq_ignore_ascii_case("yes")
    }

    /// `name (main.cf:3)`, or that it is not set.
    pub(super) fn origin(&self, name: &str) -> String {
        match self.assignment(name) {
            Some(set) => format!("{name} ({})", set.place),
            None => format!("{name} (not set: Postfix's default)"),
        }
    }

    /// A text with everything that `$` stands for.
    #[cfg(test)]
    fn expanded(&self, text: &str) -> String {
        self.expand(text, 0)
    }

    fn of(&self, name: &str, depth: usize) -> String {
        let raw = match self.assignment(name) {
            Some(set) => set.raw.as_str(),
            None => catalog::default_of(name),
        };
        let is_found = name == "mydomain" && self.assignment(name).is_none();
        if is_found && self.assignment("myhostname").is_some() {
            let hostname = self.of("myhostname", depth + 1);
            return hostname.split_once('.').map_or(hostname.clone(), |(_, d)| d.to_owned());
        }
        self.expand(raw, depth)
    }

    fn expand(&self, raw: &str, depth: usize) -> String {
        let (mut text, mut rest) = (String::new(), raw);
        if depth > DEPTH_MAX {
            return text;
        }
        while let Some((before, behind)) = rest.split_once('$') {
            text.push_str(before);
            if let Some(behind) = behind.strip_prefix('$') {
                text.push('$');
                rest = behind;
            } else if behind.starts_with('{') {
                let end = closing_brace(behind).unwrap_or(behind.len());
                let inside = behind.get(1..end).unwrap_or_default();
                text.push_str(&self.braces(inside, depth));
                rest = behind.get(end + 1..).unwrap_or_default();
            } else if let Some((inside, after)) =
                behind.strip_prefix('(').and_then(|behind| behind.split_once(')'))
            {
                text.push_str(&self.braces(inside, depth));
                rest = after;
            } else {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = behind.find(|c| !is_name(c)).unwrap_or(behind.len());
                let (name, after) = behind.split_at(end);
                text.push_str(&self.of(name, depth + 1));
                rest = after;
            }
        }
        text.push_str(rest);
        text.trim().to_owned()
    }

    /// What stands in `${…}`: `name`, `name?text`, `name:text`, `name?{text}:{text}`, and with
    /// `{text} == {text}` in place of the name.
    fn braces(&self, inside: &str, depth: usize) -> String {
        let inside = inside.trim();
        if inside.starts_with('{') {
            return self.comparison(inside, depth);
        }
        let end = inside.find(['?', ':']).unwrap_or(inside.len());
        let (name, choice) = inside.split_at(end);
        let value = self.of(name.trim(), depth + 1);
        match choice.chars().next() {
            None => value,
            // `name:text` is the text where the value is empty, and nothing where it is not.
            Some(':') => {
                let text = choice.get(1..).unwrap_or_default();
                let is_wanted = value.is_empty();
                if is_wanted { self.expand(without_braces(text), depth + 1) } else { String::new() }
            }
            Some(_) => self.choose(!value.is_empty(), choice, depth),
        }
    }

    /// `?{text}:{text}`, or `?text`.
    fn choose(&self, is_so: bool, choice: &str, depth: usize) -> String {
        let choice = choice.trim_start().strip_prefix('?').unwrap_or_default().trim_start();
        let (yes, no) = match closing_brace(choice).filter(|_| choice.starts_with('{')) {
            Some(end) => {
                let rest = choice.get(end + 1..).unwrap_or_default().trim_start();
                let no = rest.strip_prefix(':').unwrap_or_default();
                (choice.get(..=end).unwrap_or_default(), no)
            }
            None => (choice, ""),
        };
        self.expand(without_braces(if is_so { yes } else { no }), depth + 1)
    }

    fn comparison(&self, inside: &str, depth: usize) -> String {
        let part = |text: &str| {
            let end = closing_brace(text)?;
            let part = self.expand(without_braces(text.get(..=end)?), depth + 1);
            Some((part, text.get(end + 1..)?.trim_start().to_owned()))
        };
        let read = || {
            let (left, rest) = part(inside)?;
            let end = rest.find(['{', ' '])?;
            let (operator, rest) = rest.split_at(end);
            let (right, choice) = part(rest.trim_start())?;
            Some((compare(&left, operator, &right)?, choice))
        };
        read().map_or_else(String::new, |(is_so, choice)| self.choose(is_so, &choice, depth))
    }
}

/// Numbers by their value, others as texts; levels by their parts.
fn compare(left: &str, operator: &str, right: &str) -> Option<bool> {
    let (operator, by_level) = match operator.strip_suffix("level") {
        Some(operator) => (operator, true),
        None => (operator, false),
    };
    let level =
        |text: &str| -> Vec<u32> { text.split('.').map_while(|n| n.parse().ok()).collect() };
    let numbers = (left.parse::<i64>(), right.parse::<i64>());
    let order = match numbers {
        _ if by_level => level(left).cmp(&level(right)),
        (Ok(left), Ok(right)) => left.cmp(&right),
        (_, _) => left.cmp(right),
    };
    match operator {
        "==" => Some(order.is_eq()),
        "!=" => Some(order.is_ne()),
        "<" => Some(order.is_lt()),
        "<=" => Some(order.is_le()),
        ">" => Some(order.is_gt()),
        ">=" => Some(order.is_ge()),
        _ => None,
    }
}

/// How deep one parameter may lead to another.
const DEPTH_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_expansion_is_read() {
        let main = MainCf::parse(
            "main.cf",
            "myhostname = mx.shop.example\nempty =\nround = $round x\nown = ${mydomain}\n",
        );
        let scope = Scope::new(&main, None);
        for (raw, want) in [
            ("$myhostname, localhost.$mydomain", "mx.shop.example, localhost.shop.example"),
            ("$(own)|${own}|$own.x", "shop.example|shop.example|shop.example.x"),
            ("${empty?yes}|${own?yes}", "|yes"),
            ("${empty:no}|${own:no}", "no|"),
            ("${empty?{yes}:{no}} ${own?{yes}:{no $$}}", "no yes"),
            ("${stress?{10}:{300}}s", "300s"),
            ("${{$own} == {shop.example} ? {same} : {other}}", "same"),
            ("${{1} > {2}?{a}:{$mydomain}}", "shop.example"),
            ("${{$compatibility_level} <level {1} ? {old} : {new}}", "old"),
            ("${{3.6} >=level {3.10} ? {late} : {early}}", "early"),
            ("$nobody_knows_this", ""),
            ("cost: $$5", "cost: $5"),
        ] {
            assert_eq!(scope.expanded(raw), want, "{raw}");
        }
        assert!(scope.value("round").len() < 100, "a circle ends");
    }

    #[test]
    fn a_service_sees_its_own_settings_first() {
        let main = MainCf::parse("main.cf", "a = 1\nb = $a\n");
        let own = MainCf::parse("master.cf", "a = 2\n").set;
        let scope = Scope::new(&main, Some(&own));
        assert_eq!(scope.value("b"), "2");
        assert_eq!(scope.origin("a"), "a (master.cf:1)");
        assert_eq!(scope.origin("b"), "b (main.cf:2)");
        assert_eq!(scope.origin("relayhost"), "relayhost (not set: Postfix's default)");
    }
}
