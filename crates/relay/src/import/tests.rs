//! Whole configurations of Postfix, and what becomes of them.

use std::{collections::BTreeMap, fs, path::PathBuf};

use super::*;
use crate::config::{Config, Source, reference};

/// A configuration from texts; the others are files by their paths.
pub(super) fn postfix(main: &str, master: &str, files: &[(&str, &str)]) -> Postfix {
    let texts = files.iter().map(|(path, text)| ((*path).to_owned(), Ok((*text).to_owned())));
    Postfix {
        main: MainCf::parse("main.cf", main),
        master: MasterCf::parse("master.cf", master),
        files: Files { texts: texts.collect() },
    }
}

const MASTER: &str = "\
smtp inet n - y - - smtpd
smtp unix - - y - - smtp
relay unix - - y - - smtp
lmtp unix - - y - - lmtp
error unix - - y - - error
local unix - n n - - local
virtual unix - n n - - virtual
";

/// The configuration as Merpati reads it.
fn read(imported: &Imported) -> Config {
    let source = Source { name: "merpati.toml".to_owned(), text: imported.toml.clone() };
    Config::of(vec![source], &BTreeMap::new(), &[])
        .unwrap_or_else(|why| panic!("{}\n{why}", imported.toml))
}

/// The folder of a configuration, its files by the paths at which main.cf names them.
fn golden(name: &str) -> (PathBuf, Postfix) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/import/golden").join(name);
    let text = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let postfix = Postfix::new(&text("main.cf"), Some(&text("master.cf")));
    let texts = postfix.paths().into_iter().map(|path| {
        let file = path.rsplit('/').next().unwrap();
        let read = fs::read_to_string(folder.join(file));
        (path.clone(), read.map_err(|_| "No such file".to_owned()))
    });
    let files = Files { texts: texts.collect() };
    (folder, postfix.with_files(files))
}

const GOLDEN: [&str; 5] = ["backup-mx", "gateway", "mailboxes", "null-client", "smart-host"];

/// With `GOLDEN=write` what came of them is written, to be looked at and committed.
#[test]
fn whole_configurations_become_what_they_should() {
    for name in GOLDEN {
        let (folder, postfix) = golden(name);
        let imported = postfix.import("/etc/postfix", Passwords::Shown);
        read(&imported);
        let fates =
            imported.fates.iter().map(|(place, name, fate)| format!("{fate:?} {place} {name}\n"));
        for (file, text) in
            [("expected.toml", imported.toml.clone()), ("fates.txt", fates.collect::<String>())]
        {
            let path = folder.join(file);
            if std::env::var("GOLDEN").as_deref() == Ok("write") {
                fs::write(&path, &text).unwrap();
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "{name}/{file}");
        }
    }
}

#[test]
fn every_parameter_that_is_set_has_one_fate_and_what_is_left_says_why() {
    for name in GOLDEN {
        let (_, postfix) = golden(name);
        let own: usize = postfix.master.services.iter().map(|service| service.own.len()).sum();
        let set = postfix.main.set.len() + own;
        let imported = postfix.import("/etc/postfix", Passwords::Shown);
        assert_eq!(imported.fates.len(), set, "{name}");
        for (place, parameter, fate) in &imported.fates {
            let is_told = imported.lines.iter().any(|line| {
                line.place == *place && line.about == *parameter
                    // A service that is left out speaks for what it sets.
                    || line.text.contains("the service is left out")
            });
            match fate {
                Fate::InPart | Fate::Left => assert!(is_told, "{name}: {place} {parameter}"),
                Fate::Carried | Fate::Nothing => {}
            }
        }
    }
}

/// What is asked of relay control: `networks`, and `local_domains` with a listener for strangers.
fn opened(main: &str, files: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let imported = postfix(main, MASTER, files).import("/etc/postfix", Passwords::Shown);
    let config = read(&imported);
    let networks = config.relay.networks.iter().map(ToString::to_string).collect();
    (networks, config.relay.local_domains.iter().map(ToString::to_string).collect())
}

#[test]
fn nobody_is_trusted_whom_postfix_did_not_trust() {
    let ours = "mydestination =\nrelay_domains = ours.example\nmynetworks = 10.0.0.0/8\n";
    for (more, networks, domains) in [
        ("compatibility_level = 3.6\n", vec!["10.0.0.0/8"], vec!["ours.example"]),
        ("smtpd_relay_restrictions = reject_unauth_destination\n", vec![], vec!["ours.example"]),
        ("smtpd_relay_restrictions = permit_mynetworks, reject\n", vec!["10.0.0.0/8"], vec![]),
        (
            "smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n\
             smtpd_client_restrictions = pcre:/clients, permit_mynetworks\n",
            vec![],
            vec!["ours.example"],
        ),
        (
            "smtpd_relay_restrictions = permit_tls_all_clientcerts, reject_unauth_destination\n",
            vec![],
            vec!["ours.example"],
        ),
        (
            "smtpd_relay_restrictions = permit\nmynetworks = 0.0.0.0/0\n",
            vec![],
            vec!["ours.example"],
        ),
        (
            "compatibility_level = 3.6\nmynetworks = !10.0.0.0/9, 10.0.0.0/8\n",
            vec!["10.128.0.0/9"],
            vec!["ours.example"],
        ),
        ("smtpd_relay_restrictions = reject\n", vec![], vec![]),
    ] {
        let found = opened(&format!("{ours}{more}"), &[]);
        let want = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect::<Vec<String>>();
        assert_eq!(found, (want(networks), want(domains)), "{more}");
    }
}

#[test]
fn nonsense_makes_a_configuration_that_opens_nothing() {
    for (main, master) in [
        ("", ""),
        ("nonsense\n= = =\n{{{\n$\n", "nonsense\n"),
        ("relayhost = ${relayhost}\nmyhostname = ..\nmydestination = $$,@,[\n", MASTER),
        ("mynetworks = ${{1} == {1} ? {10.0.0.1} : {0.0.0.0/0}\nmyhostname = ä b\n", MASTER),
        ("transport_maps = inline:{a=, .=x, *}\nrelay_domains = inline:{} static: :\n", MASTER),
        ("relayhost = a\u{1b}[2J\u{202e}\nalways_bcc = \u{7f}\n", "smtp inet n - y - - smtpd -o\n"),
    ] {
        let imported = postfix(main, master, &[]).import("x\u{7}y", Passwords::Shown);
        let config = read(&imported);
        assert!(config.relay.local_domains.is_empty(), "{main}");
        assert!(config.relay.networks.iter().all(|net| !net.is_everybody()), "{main}");
        assert!(!imported.toml.contains('\u{1b}') && !imported.toml.contains('\u{7}'), "{main}");
    }
}

#[test]
fn what_is_written_says_where_it_comes_from() {
    let main = "myhostname = mx.ours.example\ncompatibility_level = 3.6\nmynetworks = 10.0.0.0/8\n\
                mydestination =\nrelayhost = [hub.example]\n";
    let imported = postfix(main, MASTER, &[]).import("/etc/postfix", Passwords::Shown);
    for part in [
        "# myhostname (main.cf:1)\nhostname = \"mx.ours.example\"",
        "# mynetworks (main.cf:3)\nnetworks = [\"10.0.0.0/8\"]",
        "# All other mail. relayhost (main.cf:5)\n[[route]]",
    ] {
        assert!(imported.toml.contains(part), "{}\nlacks {part}", imported.toml);
    }
    let shown = reference::show(&read(&imported).effective, true);
    assert!(shown.contains("route.world.to = \"smtp://hub.example:25\""), "{shown}");
}
