use std::{collections::BTreeMap, fs, path::Path};

use merpati_mail::{ForwardPath, Time};

use super::*;

/// A configuration with these tables of aliases; `@@` stands for the folder.
fn config(folder: &Path, tables: &str) -> Config {
    let text = format!(
        "[server]\nhostname = \"mx.ours.example\"\n\
         [relay]\nlocal_domains = [\"ours.example\", \"old.example\"]\n{tables}"
    );
    let text = text.replace("@@", &folder.to_string_lossy());
    let source = Source { name: "merpati.toml".to_owned(), text };
    Config::of(vec![source], &BTreeMap::new(), &[]).unwrap()
}

fn targets(aliases: &Aliases, named: &str) -> Vec<String> {
    let path = ForwardPath::Mailbox(Mailbox::parse(named).unwrap());
    let expansion = aliases.expand(&path, Time::EPOCH).unwrap();
    expansion.iter().flat_map(|it| &it.targets).map(|it| it.mailbox.to_string()).collect()
}

#[test]
fn aliases_come_from_files_of_both_formats_and_from_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let team = folder.path().join("team");
    fs::write(&team, "# the team\nani@ours.example, budi\n\ncitra@far.example\n").unwrap();
    fs::write(folder.path().join("virtual"), "# ours\ninfo@ours.example  team, root\n").unwrap();
    let system = format!("root: ani\nteam: :include:{}\n", team.display());
    fs::write(folder.path().join("system"), system).unwrap();
    let tables = "[[alias]]\nname = \"shop\"\nfile = \"@@/virtual\"\n\
                  [[alias]]\nname = \"system\"\nfile = \"@@/system\"\nformat = \"aliases\"\n\
                  [[alias]]\nname = \"own\"\naddresses = [\"boss\", \"@old.example\"]\n\
                  to = [\"eka\"]\ndomain = \"ours.example\"\n";
    let tables = config(folder.path(), tables).aliases().unwrap();
    let aliases = tables.aliases.unwrap();
    for (named, want) in [
        ("info@ours.example", &["ani@ours.example", "budi@ours.example", "citra@far.example"][..]),
        ("root@old.example", &["ani@old.example"]),
        ("boss@ours.example", &["eka@ours.example"]),
        ("boss@old.example", &["eka@ours.example"]),
        ("fajar@ours.example", &[]),
    ] {
        assert_eq!(targets(&aliases, named), want, "{named}");
    }
    let info = ForwardPath::Mailbox(Mailbox::parse("info@ours.example").unwrap());
    let steps = aliases.expand(&info, Time::EPOCH).unwrap().unwrap().steps;
    let origins: Vec<String> = steps.iter().map(|step| step.origin.to_string()).collect();
    let here = folder.path().display();
    let want =
        [format!("{here}/virtual:2"), format!("{here}/system:2"), format!("{here}/system:1")];
    assert_eq!(origins, want);
    assert!(tables.doubts.is_none(), "there is no list of recipients");
}

#[test]
fn mistakes_in_files_of_aliases_are_told_with_line_caret_and_help() {
    let folder = tempfile::tempdir().unwrap();
    let table = "[[alias]]\nname = \"a\"\nfile = \"@@/aliases\"\nformat = \"aliases\"\n";
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("bad", "ani\n|cmd\n");
    for (text, parts) in [
        (
            "# system\nroot: |/bin/sh\n",
            &["error: no program is run here", "aliases:2:7", "2 | root: |/bin/sh", "^^^^^^^^"][..],
        ),
        ("a: /dev/null\n", &["mail is not written to files here", "aliases:1:4"]),
        ("a: b\nb: a\n", &["leads back to itself: a@old.example -> b@old.example -> a"]),
        ("a: b\n\na: c\n", &["\"a\" is an alias already", "aliases:3:1", "the first is here"]),
        ("a@far.example: b\n", &["`far.example` is not one of your domains", "aliases:1:1"]),
        ("a: @ours.example\n", &["only a whole domain stands for a whole domain"]),
        ("a: :include:@@/gone\n", &["cannot read", "gone: No such file", "aliases:1:4"]),
        ("a: :include:@@/bad\n", &["bad:2:1", "no program is run"]),
        ("a b\n", &["this alias stands for nothing", "aliases:1:1", "write `name: ani@"]),
        (
            "a: |x\nb c\nd: ani@@ours.example\n",
            &["aliases:1:4", "aliases:2:1", "aliases:3:4", "3 mistakes in the configuration"],
        ),
    ] {
        // What is doubled in the text of an alias is no folder.
        let text = text.replace("@@/", &format!("{}/", folder.path().display()));
        write("aliases", &text);
        let said = config(folder.path(), table).check_files().unwrap_err().to_string();
        for part in parts.iter().chain(&[if text.contains('x') { "error" } else { "= help: " }]) {
            assert!(said.contains(part), "{text}\n{said}\nlacks {part}");
        }
    }
    fs::remove_file(folder.path().join("aliases")).unwrap();
    let said = config(folder.path(), table).check_files().unwrap_err().to_string();
    assert!(said.contains("cannot read") && said.contains("merpati.toml:7:8"), "{said}");
    fs::write(folder.path().join("aliases"), b"a: \xff\n").unwrap();
    let said = config(folder.path(), table).check_files().unwrap_err().to_string();
    assert!(said.contains("it is not UTF-8"), "{said}");
}

#[test]
fn what_is_wrong_with_aliases_stands_beside_what_is_wrong_with_other_files() {
    let folder = tempfile::tempdir().unwrap();
    let tables = "[recipients]\nknown_file = \"@@/gone\"\n\
                  [[alias]]\nname = \"a\"\naddresses = [\"x@ours.example\", \"X@ours.example\"]\n\
                  to = [\"y\"]\n";
    let said = config(folder.path(), tables).check_files().unwrap_err().to_string();
    for part in ["known_file", "\"X@ours.example\" is an alias already", "2 mistakes"] {
        assert!(said.contains(part), "{said}\nlacks {part}");
    }
}

#[test]
fn targets_that_no_list_knows_are_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let tables = "[recipients]\nknown = [\"ani@ours.example\"]\n\
                  [[alias]]\nname = \"a\"\naddresses = [\"x\", \"z\"]\n\
                  to = [\"ani@ours.example\", \"gone@ours.example\", \"far@far.example\"]\n";
    let config = config(folder.path(), tables);
    assert!(config.check_files().is_ok());
    let tables = config.aliases().unwrap();
    let said = tables.doubts.unwrap().as_warnings();
    assert_eq!(said.matches("warning: nobody is `gone@ours.example`").count(), 2, "{said}");
    assert!(said.contains("merpati.toml:9:13") && !said.contains("far@far"), "{said}");
}
