//! Decides whether every variant of `Event` is documented and handled by each sink.
//!
//! Silent until `crates/relay/src/sinks` exists. Pure.

use crate::finding::Finding;
use crate::tree::{Tree, has_word};

/// Findings for each variant without a heading in the reference or a mention in a sink.
pub fn check(tree: &Tree) -> Vec<Finding> {
    if !tree.has(SINKS) {
        return Vec::new();
    }
    let Some((source, text)) = SOURCES.iter().find_map(|path| Some((*path, tree.text(path)?)))
    else {
        let wrong = "the source of `enum Event` is not here";
        return vec![Finding::new("crates/mail/src/event.rs", 1, wrong, REMEDY_SOURCE)];
    };
    let variants = variants(text);
    if variants.is_empty() {
        return vec![Finding::new(source, 1, "no variant of `enum Event` found", REMEDY_SOURCE)];
    }
    let mut findings = undocumented(tree.text(PAGE), &variants);
    for sink in ["log", "metrics"] {
        findings.extend(unhandled(tree, sink, &variants));
    }
    findings
}

fn undocumented(page: Option<&str>, variants: &[(usize, String)]) -> Vec<Finding> {
    let Some(page) = page else {
        return vec![Finding::new(PAGE, 1, "the page is missing", "describe every event in it")];
    };
    variants
        .iter()
        .filter(|(_, name)| !page.lines().any(|line| line == format!("### {name}")))
        .map(|(_, name)| {
            let remedy = "add the heading, what it means, its fields and when it is written";
            Finding::new(PAGE, 1, format!("no heading `### {name}`"), remedy)
        })
        .collect()
}

fn unhandled(tree: &Tree, sink: &str, variants: &[(usize, String)]) -> Vec<Finding> {
    let file = format!("{SINKS}/{sink}.rs");
    let directory = format!("{SINKS}/{sink}/");
    let text: String = tree
        .texts()
        .filter(|(path, _)| *path == file || path.starts_with(&directory))
        .map(|(_, text)| text)
        .collect();
    variants
        .iter()
        .filter(|(_, name)| !has_word(&text, name))
        .map(|(_, name)| {
            let wrong = format!("`Event::{name}` is not named in this sink");
            Finding::new(&file, 1, wrong, "handle it, or name it among those it leaves out")
        })
        .collect()
}

/// The variants of `pub enum Event` in the source `text`, each with its line.
///
/// Counts on rustfmt: a variant begins a line at the first level of the braces.
fn variants(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut inside = false;
    for (at, line) in crate::tree::numbered(text) {
        let code = line.split("//").next().unwrap_or_default().trim();
        if code == "pub enum Event {" {
            (inside, depth) = (true, 1);
            continue;
        }
        if !inside {
            continue;
        }
        let name: String = code.chars().take_while(|c| c.is_alphanumeric()).collect();
        if depth == 1 && name.starts_with(char::is_uppercase) {
            found.push((at, name));
        }
        depth += code.matches(['{', '(', '[']).count();
        depth = depth.saturating_sub(code.matches(['}', ')', ']']).count());
        if depth == 0 {
            break;
        }
    }
    found
}

const SINKS: &str = "crates/relay/src/sinks";
const PAGE: &str = "docs/reference/events.md";
const SOURCES: [&str; 2] = ["crates/mail/src/event.rs", "crates/mail/src/event/mod.rs"];
const REMEDY_SOURCE: &str = "tell crates/xtask/src/tidy/events.rs where it is now";

#[cfg(test)]
mod tests {
    use super::*;

    const ENUM: &str = "\
/// What happened.
#[derive(Clone)]
pub enum Event {
    /// One (A).
    Accepted(Box<Accepted>),
    #[allow(dead_code)]
    Held {
        /// Which {.
        Delivery: u8,
    },
    Retired(QueueId), // Gone {
}
pub enum Other {
    Thing,
}
";

    #[track_caller]
    fn check_events(page: Option<&str>, log: &str, want: usize) {
        let mut files = vec![
            ("crates/mail/src/event.rs", ENUM),
            ("crates/relay/src/sinks/log.rs", log),
            ("crates/relay/src/sinks/metrics.rs", "Event::Accepted | Event::Held | Event::Retired"),
        ];
        files.extend(page.map(|text| (PAGE, text)));
        let findings = check(&Tree::made_up(&files));
        assert_eq!(findings.len(), want, "{findings:?}");
    }

    #[test]
    fn the_variants_are_read_from_the_source() {
        let want = [(5, "Accepted"), (7, "Held"), (11, "Retired")];
        assert_eq!(variants(ENUM), want.map(|(at, name)| (at, name.to_owned())));
    }

    #[test]
    fn every_event_is_documented_and_handled_by_each_sink() {
        let page = "# Events\n\n### Accepted\n\n### Held\n\n### Retired\n";
        let log = "Event::Accepted, Event::Held, Event::Retired";
        check_events(Some(page), log, 0);
        check_events(None, log, 1);
        check_events(Some("### Accepted\n### HeldBack\n### Retired\n"), log, 1);
        check_events(Some(page), "Event::Accepted, Event::HeldBack", 2);
    }

    #[test]
    fn without_sinks_there_is_nothing_to_handle() {
        let tree = Tree::made_up(&[("crates/mail/src/event.rs", ENUM)]);
        assert_eq!(check(&tree), vec![]);
    }
}
