use std::{collections::BTreeMap, path::Path};

use merpati_mail::Time;

use super::*;
use crate::{
    config::{Config, Source},
    import::{Imported, Passwords, tests::postfix},
};

const MASTER: &str = "smtp inet n - y - - smtpd\n";
const HEAD: &str =
    "compatibility_level = 3.6\nmyhostname = mx.ours.example\nmynetworks = 10.0.0.0/8\n";

fn import(main: &str, files: &[(&str, &str)]) -> Imported {
    postfix(&format!("{HEAD}{main}"), MASTER, files).import("/etc/postfix", Passwords::Shown)
}

/// The tables `[[alias]]` without names and comments, and the loud lines about aliases.
fn shown(main: &str, files: &[(&str, &str)]) -> (String, String) {
    let imported = import(main, files);
    let source = Source { name: "merpati.toml".to_owned(), text: imported.toml.clone() };
    Config::of(vec![source], &BTreeMap::new(), &[])
        .unwrap_or_else(|why| panic!("{}\n{why}", imported.toml));
    let parts = imported.toml.split("\n\n").filter(|part| part.contains("[[alias]]"));
    let lines = parts.map(|part| {
        let kept = part.lines().filter(|line| !line.starts_with(['#', '[']));
        kept.filter(|line| !line.starts_with("name = ")).collect::<Vec<_>>().join("; ")
    });
    let tables: Vec<String> = lines.collect();
    let about = ["virtual_alias_maps", "alias_maps", "luser_relay", "virtual_alias_domains"];
    let loud = imported.lines.iter().filter(|line| {
        line.weight == Weight::Loud && about.iter().any(|name| line.about.starts_with(name))
    });
    let loud: Vec<String> = loud.map(|line| format!("{} {}", line.place, line.text)).collect();
    (tables.join("\n"), loud.join("\n"))
}

/// `lost`: what the loud lines say, one part for each.
#[track_caller]
fn check(main: &str, table: &str, want: &[&str], lost: &[&str]) {
    let (tables, loud) = shown(main, &[("/v", table), ("/list", "dewi@b.example\nani\n")]);
    assert_eq!(tables.lines().collect::<Vec<_>>(), want, "{main}\n{table}\n{loud}");
    assert_eq!(loud.lines().count(), lost.len(), "{main}\n{table}\n{loud}");
    for part in lost {
        assert!(loud.contains(part), "{loud}\nlacks {part}");
    }
}

const RELAY: &str = "mydestination =\nrelay_domains = b.example\nvirtual_alias_maps = hash:/v\n";

#[test]
fn a_file_that_means_the_same_here_is_named() {
    let plain = "info@b.example ani@b.example, budi@far.example\n@b.example ani@b.example\n";
    check(RELAY, plain, &["file = \"/v\""], &[]);
    // A name without a domain is in myorigin, which is the only one of ours.
    let main = format!("{RELAY}myorigin = b.example\n");
    check(&main, "info ani\n", &["file = \"/v\"; domain = \"b.example\""], &[]);
}

#[test]
fn a_line_that_is_refused_is_left_out_whole_and_told_with_its_place() {
    let table = "info@b.example ani@b.example\nrun@b.example ani@b.example, |program\n\
                 bad@@b.example ani@b.example\n  budi@b.example\n";
    check(
        RELAY,
        table,
        &["addresses = [\"info@b.example\"]; to = [\"ani@b.example\"]"],
        &["/v:2 `|program`: no program is run", "/v:3 `bad@@b.example`"],
    );
}

#[test]
fn aliases_of_domains_of_others_and_loops_are_left_out() {
    check(
        RELAY,
        "a@far.example b@b.example\nx@b.example y@b.example\ny@b.example x@b.example\n\
         z@b.example z@b.example, w@far.example\n",
        &[
            "addresses = [\"y@b.example\"]; to = [\"x@b.example\"]",
            "addresses = [\"z@b.example\"]; to = [\"z@b.example\", \"w@far.example\"]",
        ],
        &[
            "/v:1 a@far.example: far.example is no domain of ours",
            "/v:2 x@b.example: it leads back",
        ],
    );
}

#[test]
fn a_domain_of_aliases_is_ours_and_nobody_else_is_there() {
    let main = "mydestination =\nvirtual_alias_maps = hash:/v\n";
    let table = "a.example x\ninfo@a.example ani@far.example\n";
    let imported = import(main, &[("/v", table)]);
    for part in [
        "local_domains = [\"a.example\"]",
        // An empty list would let everybody exist.
        "known = [\"postmaster@a.example\"]",
        "to = \"refuse there is no such address here\"",
    ] {
        assert!(imported.toml.contains(part), "{}\nlacks {part}", imported.toml);
    }
    // The line for the domain would be an alias of that name here.
    let want = "addresses = [\"info@a.example\"]; to = [\"ani@far.example\"]";
    assert_eq!(shown(main, &[("/v", table)]).0.replace("file = \"/v\"", want), want);
    // Without an alias, nothing leads from there, and it is not taken.
    let lost = import(main, &[("/v", "a.example x\n")]).toml;
    assert!(!lost.contains("local_domains"), "{lost}");
    assert!(lost.contains("mail for a.example is refused"), "{lost}");
}

#[test]
fn aliases_of_the_machine_are_in_its_domains_alone() {
    let main = "mydestination = $myhostname, localhost\nrelay_domains = b.example\n\
                myorigin = b.example\nalias_maps = hash:/v\n";
    check(
        main,
        "root: ani\nteam: :include:/list\nowner-team: ani\nlog: \"|log\"\nme: me@mx.ours.example\n",
        &[
            "addresses = [\"root@mx.ours.example\", \"root@localhost\"]; to = [\"ani@b.example\"]",
            "addresses = [\"team@mx.ours.example\", \"team@localhost\"]; \
             to = [\"dewi@b.example\", \"ani@b.example\"]",
            "addresses = [\"owner-team@mx.ours.example\", \"owner-team@localhost\"]; \
             to = [\"ani@b.example\"]",
        ],
        // The mailboxes of this machine are nowhere, under each of its names.
        &[
            "/v:4 `\"|log\"`: no program",
            "me@mx.ours.example: it leads to",
            "me@localhost: it leads to",
        ],
    );
    let only = "mydestination = mx.ours.example\nalias_maps = hash:/v\n";
    check(only, "root: ani@far.example\n", &["file = \"/v\"; format = \"aliases\""], &[]);
    check(only, "postmaster: root\n", &[], &["postmaster@mx.ours.example: it leads to", "none is"]);
}

#[test]
fn who_is_nobody_goes_to_luser_relay_where_postfix_took_his_mail() {
    let main = "mydestination = mx.ours.example\nalias_maps =\nluser_relay = ";
    let open = "local_recipient_maps =\n";
    check(
        &format!("{main}boss@far.example\n{open}"),
        "",
        &["addresses = [\"@mx.ours.example\"]; to = [\"boss@far.example\"]"],
        &["it is a catch-all here"],
    );
    check(
        &format!("{main}$user@far.example\n{open}"),
        "",
        &["addresses = [\"@mx.ours.example\"]; to = [\"@far.example\"]"],
        &["it is a catch-all here"],
    );
    check(&format!("{main}boss@far.example\n"), "", &[], &[]);
    check(&format!("{main}$shell@far.example\n{open}"), "", &[], &["cannot be written"]);
}

#[test]
fn where_mail_would_go_elsewhere_it_is_told() {
    check(
        &format!("{RELAY}relay_recipient_maps = inline:{{ani@b.example=x, budi@b.example=x}}\n"),
        "@b.example budi@b.example\nbudi@b.example budi@b.example\n",
        &["file = \"/v\""],
        &["a catch-all took the mail for ani@b.example as well"],
    );
    check(
        RELAY,
        "team@b.example dewi@far.example\nowner-team@b.example ani@b.example\n",
        &["file = \"/v\""],
        &["team@b.example has an owner here"],
    );
    // What an alias leads to is caught there, and is written here.
    check(
        RELAY,
        "info@b.example gone@b.example\n@b.example boss@far.example\n",
        &[
            "addresses = [\"info@b.example\"]; to = [\"gone@b.example\"]",
            "addresses = [\"@b.example\", \"gone@b.example\"]; to = [\"boss@far.example\"]",
        ],
        &[],
    );
    let lines = import(
        &format!("{RELAY}recipient_delimiter = +\n"),
        &[("/v", "info@b.example ani@far.example\n")],
    );
    assert!(lines.toml.contains("separator = \"+\""), "{}", lines.toml);
    assert!(lines.lines.iter().any(|line| line.text.contains("does not go along")));
}

#[test]
fn tables_that_cannot_be_read_and_closed_relays_are_told() {
    check(
        "mydestination =\nrelay_domains = b.example\nvirtual_alias_maps = pcre:/p \
         static:x@y.example inline:{info@b.example=ani@b.example}\nvirtual_alias_domains =\n",
        "",
        &["addresses = [\"info@b.example\"]; to = [\"ani@b.example\"]"],
        &["pcre:/p: patterns are not carried over", "every address anywhere would lead to"],
    );
    let closed = format!("{RELAY}smtpd_relay_restrictions = permit_mynetworks, reject\n");
    let imported = import(&closed, &[("/v", "info@b.example ani@far.example\n")]);
    assert!(!imported.toml.contains("[[alias]]") && !imported.toml.contains("local_domains"));
    assert!(imported.toml.contains("aliases are not carried over"), "{}", imported.toml);
}

/// The reader of the configuration takes what is written, with the files that it names.
#[test]
fn what_is_written_is_read_with_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let texts = [
        (path("v"), "info@b.example ani@b.example\n@a.example @b.example\na.example x\n"),
        (path("l"), "root: ops@far.example\nteam: :include:LIST\nowner-team: root\n"),
        (path("list"), "# staff\nani@b.example, ops@far.example\n"),
    ];
    let texts = texts.map(|(path, text)| (path, text.replace("LIST", &self::path(folder.path()))));
    for (path, text) in &texts {
        std::fs::write(path, text).unwrap();
    }
    let main = format!(
        "mydestination = mx.ours.example\nrelay_domains = b.example\n\
         virtual_alias_maps = hash:{}\nalias_maps = hash:{}\n",
        path("v"),
        path("l")
    );
    let files: Vec<(&str, &str)> =
        texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let imported = import(&main, &files);
    let source = Source { name: "merpati.toml".to_owned(), text: imported.toml.clone() };
    let config = Config::of(vec![source], &BTreeMap::new(), &[]).unwrap();
    let read = config.aliases().unwrap_or_else(|why| panic!("{}\n{why}", imported.toml));
    let aliases = read.aliases.unwrap();
    for (address, want) in [
        ("info@b.example", "ani@b.example"),
        ("info@a.example", "ani@b.example"),
        ("root@mx.ours.example", "ops@far.example"),
        ("team@mx.ours.example", "ani@b.example ops@far.example"),
    ] {
        let path = merpati_mail::ForwardPath::Mailbox(Mailbox::parse(address).unwrap());
        let expansion = aliases.expand(&path, Time::EPOCH).unwrap().unwrap();
        let targets: Vec<String> =
            expansion.targets.iter().map(|one| one.mailbox.to_string()).collect();
        assert_eq!(targets.join(" "), want, "{address}\n{}", imported.toml);
    }
    let other = merpati_mail::ForwardPath::Mailbox(Mailbox::parse("root@b.example").unwrap());
    assert!(aliases.expand(&other, Time::EPOCH).unwrap().is_none(), "{}", imported.toml);
}

fn path(folder: &Path) -> String {
    folder.join("list").display().to_string()
}
