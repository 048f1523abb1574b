//! What the documentation tells people to type exists: each command line is one of ours, and each
//! option of a configuration too.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::{Parser, error::ErrorKind};

use super::CommandLine;
use crate::config::{Config, Source};

/// The pages for readers, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    paths.push(root.join("README.md"));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The command lines of a page: in blocks, and in the running text between backquotes.
fn commands(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut unfinished = String::new();
    let mut is_block = false;
    for line in page.lines() {
        if line.starts_with("```") {
            is_block = !is_block;
            continue;
        }
        if !is_block && !line.starts_with("    ") {
            let quoted = line.split('`').skip(1).step_by(2);
            found.extend(quoted.filter(|text| text.starts_with("merpati ")).map(str::to_owned));
            continue;
        }
        let line = format!("{unfinished}{}", line.trim().trim_start_matches(['$', '#']).trim());
        if let Some(beginning) = line.strip_suffix('\\') {
            beginning.clone_into(&mut unfinished);
        } else {
            unfinished.clear();
            found.extend(line.starts_with("merpati ").then_some(line));
        }
    }
    found
}

/// The words of a command as a shell parts them, up to the end of the command.
fn words(command: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in command.chars() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '|' | '>' | '<' | ';' | '&') => break,
            (None, '#') if word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[test]
fn words_are_parted_as_by_a_shell() {
    for (command, want) in [
        ("merpati queue ls 'age>1h' x # all", &["merpati", "queue", "ls", "age>1h", "x"][..]),
        ("merpati send --subject \"a b\" | cat", &["merpati", "send", "--subject", "a b"]),
        ("merpati man '' > file", &["merpati", "man", ""]),
        ("merpati x#y", &["merpati", "x#y"]),
    ] {
        assert_eq!(words(command), want, "{command}");
    }
}

#[test]
fn every_command_of_the_documentation_is_one_of_ours() {
    let mut count = 0;
    for (path, page) in pages() {
        for command in commands(&page) {
            // `merpati queue retry|hold` and `merpati sandbox …` name several at once.
            if command.contains('…') || words(&command).len() < 2 || command.contains('[') {
                continue;
            }
            count += 1;
            let parsed = CommandLine::try_parse_from(words(&command));
            let is_known = parsed.as_ref().err().is_none_or(|error| {
                // Running text names a command without what it wants.
                matches!(
                    error.kind(),
                    ErrorKind::MissingRequiredArgument
                        | ErrorKind::MissingSubcommand
                        | ErrorKind::DisplayHelp
                        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                )
            });
            assert!(is_known, "{}: {command}\n{}", path.display(), parsed.unwrap_err());
        }
    }
    assert!(count > 60, "only {count} commands were found");
}

#[test]
fn every_option_of_the_documentation_is_one_of_ours() {
    let mut count = 0;
    for (path, page) in pages() {
        let blocks = page.split("```toml\n").skip(1);
        for block in blocks.filter_map(|rest| rest.split("```").next()) {
            count += 1;
            let source = Source { name: "page".to_owned(), text: block.to_owned() };
            let Err(errors) = Config::of(vec![source], &BTreeMap::new(), &[]) else { continue };
            let errors = errors.to_string();
            // A block is part of a configuration, and its files are those of the reader.
            let is_ours = |line: &&str| {
                line.starts_with("error") && !CONTEXT.iter().any(|it| line.contains(it))
            };
            let wrong: Vec<&str> = errors.lines().filter(is_ours).collect();
            assert!(wrong.is_empty(), "{}: {wrong:?}\n{block}\n{errors}", path.display());
        }
    }
    assert!(count >= 7, "only {count} blocks were found");
}

/// What is wrong only because the rest of the configuration is the reader's.
const CONTEXT: [&str; 5] =
    ["cannot read", "not a credential", "is missing", "is not one of your domains", "needs"];
