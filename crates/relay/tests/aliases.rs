//! Aliases, groups and domains of an organisation, with real processes: one relay, and a sandbox
//! that is its next hop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{fs, net::TcpStream, process::Command};

use common::{Relay, Smtp, data_dir, queued_as};
use serde_json::Value;

const LETTER: &[u8] = b"Subject: a letter\r\n\r\nbody\r\n";

/// A relay of three domains, and the sandbox that takes all of its mail.
struct Site {
    relay: Relay,
    store: Relay,
    dir: tempfile::TempDir,
    _there: tempfile::TempDir,
}

/// Two files of aliases, and a group in the configuration.
const VIRTUAL: &str = "\
# of the shop
info@ours.example   ani@ours.example, budi@ours.example
    citra@far.example
ani@ours.example    ani@ours.example copy@far.example
one@ours.example    dewi@far.example
bad@ours.example    gone@no.example, ani@ours.example
dead@ours.example   x@dead.example
@caught.example     boss@ours.example
@old.example        @ours.example
";

const ALIASES: &str = "\
postmaster: root
root:       boss@ours.example
team:       :include:MEMBERS
owner-team: boss
";

fn site(more: &str) -> Site {
    let (dir, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Relay::start(&data_dir(&there), &["listener.sandbox.message_size_max=20 MiB"]);
    let members = dir.path().join("members");
    fs::write(dir.path().join("virtual"), VIRTUAL).unwrap();
    fs::write(dir.path().join("aliases"), ALIASES.replace("MEMBERS", &members.to_string_lossy()))
        .unwrap();
    fs::write(members, "# staff\nani@far.example\nbudi@far.example\ngone@no.example\n").unwrap();
    let at = dir.path().to_string_lossy();
    let next = store.address("sandbox");
    let text = format!(
        "[server]\nhostname = \"mx.ours.example\"\n\
         [relay]\nlocal_domains = [\"ours.example\", \"old.example\", \"caught.example\", \
         \"in.example\"]\ninternal_domains = [\"in.example\"]\n\
         [recipients]\nknown = [\"ani@ours.example\", \"budi@ours.example\", \
         \"boss@ours.example\", \"eka@caught.example\", \"@in.example\"]\n\
         [[alias]]\nname = \"shop\"\nfile = \"{at}/virtual\"\n\
         [[alias]]\nname = \"system\"\nfile = \"{at}/aliases\"\nformat = \"aliases\"\n\
         [[alias]]\nname = \"all\"\naddresses = [\"all@ours.example\"]\n\
         to = [\"ani@ours.example\", \"budi@ours.example\"]\ninternal_only = true\n\
         [[route]]\nname = \"no\"\nrecipient_domains = [\"no.example\"]\n\
         to = \"refuse nobody here\"\n\
         {more}[[route]]\nname = \"all\"\nto = \"smtp://{next}\"\n"
    );
    fs::write(dir.path().join("data.toml"), text).unwrap();
    let settings = [
        "listener.mx.kind=relay",
        "listener.mx.listen=127.0.0.1:0",
        "listener.mx.auth=allow-clear",
    ];
    let relay = Relay::start(&data_dir(&dir), &settings);
    Site { relay, store, dir, _there: there }
}

impl Site {
    fn client(&self) -> Smtp<TcpStream> {
        let mut smtp = Smtp::connect(self.relay.address("mx"));
        smtp.say("EHLO client.example", "250");
        smtp
    }

    /// Sends a letter as a stranger; gives the id.
    fn send(&self, to: &[&str], content: &[u8]) -> String {
        let mut smtp = self.client();
        smtp.say("MAIL FROM:<a@b.example>", "250");
        for to in to {
            smtp.say(&format!("RCPT TO:{to}"), "250");
        }
        smtp.say("DATA", "354");
        smtp.send(&common::stuffed(content));
        let reply = smtp.reply();
        queued_as(&reply).unwrap_or_else(|| panic!("{reply}"))
    }

    /// Who got something from whom, once all of so many copies are there.
    fn arrived(&self, copies: usize) -> Vec<(String, String)> {
        let mut all = Vec::new();
        // One transaction may bring several copies.
        for count in 1..=copies {
            self.store.wait_for_all(count, |line| line["event"] == "Captured");
            let messages = self.store.get_json("/v1/sandbox/messages");
            all = messages["data"].as_array().unwrap().iter().flat_map(copies_of).collect();
            if all.len() >= copies {
                break;
            }
        }
        all.sort();
        all
    }

    /// The report that arrived, as a text.
    fn report(&self) -> String {
        let messages = self.store.get_json("/v1/sandbox/messages");
        let messages = messages["data"].as_array().unwrap().clone();
        let report = messages.iter().find(|one| one["envelope_from"] == "").unwrap();
        String::from_utf8(self.store.raw(report["id"].as_str().unwrap()).unwrap()).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> String {
        let socket = data_dir(&self.dir).join("control.sock");
        let output = Command::new(env!("CARGO_BIN_EXE_merpati"))
            .args(arguments)
            .env_clear()
            .env("MERPATI_SOCKET", socket)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }
}

fn copies_of(message: &Value) -> Vec<(String, String)> {
    let from = message["envelope_from"].as_str().unwrap();
    let to = message["envelope_to"].as_array().unwrap().iter();
    to.map(|to| (from.to_owned(), to.as_str().unwrap().to_owned())).collect()
}

fn pairs(from: &str, to: &[&str]) -> Vec<(String, String)> {
    to.iter().map(|to| (from.to_owned(), (*to).to_owned())).collect()
}

#[test]
fn mail_from_a_stranger_to_an_alias_goes_to_all_for_whom_it_stands() {
    let site = site("");
    let id = site.send(&["<info@ours.example>", "<budi@ours.example>"], LETTER);
    let want = ["ani@ours.example", "budi@ours.example", "citra@far.example", "copy@far.example"];
    assert_eq!(site.arrived(4), pairs("a@b.example", &want));
    let line = site.relay.wait_for(|line| line["event"] == "Accepted").unwrap();
    assert_eq!(line["id"], *id);
    assert_eq!(line["via"].to_string(), "[\"info@ours.example\"]");
}

#[test]
fn extensions_domains_and_whoever_nobody_is_find_their_way() {
    for (to, want) in [
        (
            "<info+x@ours.example>",
            &["ani+x@ours.example", "budi+x@ours.example", "citra@far.example", "copy@far.example"]
                [..],
        ),
        ("<budi+x@ours.example>", &["budi+x@ours.example"]),
        ("<one@old.example>", &["dewi@far.example"]),
        ("<budi@old.example>", &["budi@ours.example"]),
        ("<anybody@caught.example>", &["boss@ours.example"]),
        ("<eka@caught.example>", &["eka@caught.example"]),
        ("<postmaster>", &["boss@ours.example"]),
        ("<postmaster@old.example>", &["boss@ours.example"]),
    ] {
        let site = site("");
        site.send(&[to], LETTER);
        assert_eq!(site.arrived(want.len()), pairs("a@b.example", want), "{to}");
    }
}

#[test]
fn an_alias_never_opens_the_relay() {
    let site = site("");
    let mut smtp = site.client();
    smtp.say("MAIL FROM:<a@b.example>", "250");
    for (to, want) in [
        ("citra@far.example", "550 5.7.1"),
        ("info@far.example", "550 5.7.1"),
        ("root@far.example", "550 5.7.1"),
        ("ani%far.example@far.example", "550 5.7.1"),
        ("nobody@ours.example", "550 5.1.1"),
        ("nobody@old.example", "550 5.1.1"),
        ("all@ours.example", "550 5.7.1 <all@ours.example> takes mail from inside"),
        ("all+x@old.example", "550 5.7.1"),
        ("ani@in.example", "550 5.7.1 <ani@in.example> takes mail from inside"),
        ("info@ours.example", "250"),
    ] {
        smtp.say(&format!("RCPT TO:<{to}>"), want);
    }
}

#[test]
fn our_own_networks_reach_what_is_internal() {
    let site = site("");
    drop(site.relay);
    let settings =
        ["listener.mx.kind=relay", "listener.mx.listen=127.0.0.1:0", "relay.networks=127.0.0.0/8"];
    let relay = Relay::start(&data_dir(&site.dir), &settings);
    let mut smtp = Smtp::connect(relay.address("mx"));
    smtp.say("EHLO client.example", "250");
    smtp.say("MAIL FROM:<a@b.example>", "250");
    for to in ["all@ours.example", "all@old.example", "ani@in.example", "x@far.example"] {
        smtp.say(&format!("RCPT TO:<{to}>"), "250");
    }
}

#[test]
fn mail_of_a_confined_credential_never_leaves_the_organisation() {
    let stored = merpati_relay::credential::hash("open sesame").unwrap();
    let credential = format!(
        "[[credential]]\nname = \"fax\"\npassword = \"{}\"\nsenders = [\"*\"]\n\
         internal_only = true\n",
        stored.trim()
    );
    let site = site(&credential);
    let mut smtp = site.client();
    // NUL fax NUL open sesame.
    smtp.say("AUTH PLAIN AGZheABvcGVuIHNlc2FtZQ==", "235");
    smtp.say("MAIL FROM:<fax@ours.example>", "250");
    for (to, want) in [
        ("x@far.example", "550 5.7.1 fax may not send to <x@far.example>"),
        ("info@ours.example", "550 5.7.1 fax may not send to <info@ours.example>, which leads"),
        ("one@old.example", "550 5.7.1"),
        // One of them forwards a copy.
        ("all@ours.example", "550 5.7.1"),
        ("postmaster", "250"),
        ("budi@ours.example", "250"),
        ("anybody@caught.example", "250"),
    ] {
        smtp.say(&format!("RCPT TO:<{to}>"), want);
    }
}

#[test]
fn a_report_names_the_alias_and_goes_to_who_sent_the_message() {
    let site = site("");
    site.send(&["<bad@ours.example> NOTIFY=FAILURE"], LETTER);
    let want = [
        ("", "a@b.example"),
        ("a@b.example", "ani@ours.example"),
        ("a@b.example", "copy@far.example"),
    ];
    let want = want.map(|(from, to)| (from.to_owned(), to.to_owned()));
    assert_eq!(site.arrived(3), want);
    let report = site.report();
    for part in [
        "Original-Recipient: rfc822; bad@ours.example\r\n",
        "Final-Recipient: rfc822; gone@no.example\r\n",
        "Action: failed\r\n",
        "This address stands for bad@ours.example.",
    ] {
        assert!(report.contains(part), "{report}\nlacks {part}");
    }
}

#[test]
fn failures_behind_a_list_are_told_to_its_owner_and_large_mail_goes_there_too() {
    let content =
        [&b"Subject: large\r\n\r\n"[..], &b"0123456789abcdef\r\n".repeat(40_000)].concat();
    for content in [LETTER, &content] {
        let site = site("");
        let to = ["<team@ours.example> NOTIFY=SUCCESS,FAILURE", "<budi@ours.example>"];
        let id = site.send(&to, content);
        let want = [
            ("", "a@b.example"),
            ("", "boss@ours.example"),
            ("a@b.example", "budi@ours.example"),
            ("owner-team@ours.example", "ani@far.example"),
            ("owner-team@ours.example", "budi@far.example"),
        ];
        let want = want.map(|(from, to)| (from.to_owned(), to.to_owned()));
        assert_eq!(site.arrived(5), want);
        let messages = site.store.get_json("/v1/sandbox/messages");
        for message in messages["data"].as_array().unwrap() {
            let text = site.store.raw(message["id"].as_str().unwrap()).unwrap();
            let is_report = message["envelope_from"] == "";
            assert!(is_report || text.ends_with(content));
            let text = String::from_utf8_lossy(&text).into_owned();
            let (action, recipient) = match message["envelope_to"][0].as_str().unwrap() {
                "a@b.example" => ("delivered", "Final-Recipient: rfc822; team@ours.example"),
                "boss@ours.example" => ("failed", "Final-Recipient: rfc822; gone@no.example"),
                _ => continue,
            };
            let action = format!("Action: {action}\r\n");
            assert!(text.contains(&action) && text.contains(recipient), "{text}");
        }
        let own = site.relay.wait_for(|line| line["event"] == "Accepted" && line["id"] == *id);
        assert_eq!(own.unwrap()["from"], "a@b.example");
    }
}

#[test]
fn who_asked_for_success_hears_that_an_alias_goes_on_to_several() {
    let site = site("");
    site.send(&["<info@ours.example> NOTIFY=SUCCESS"], LETTER);
    assert_eq!(site.arrived(5)[0], (String::new(), "a@b.example".to_owned()));
    let report = site.report();
    for part in [
        "Final-Recipient: rfc822; info@ours.example\r\n",
        "Action: expanded\r\nStatus: 2.0.0\r\n",
        "goes on to everybody",
    ] {
        assert!(report.contains(part), "{report}\nlacks {part}");
    }
    assert!(!report.contains("far.example"), "it does not say who they are: {report}");
}

#[test]
fn an_operator_sees_what_an_alias_stands_for() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = closed.local_addr().unwrap();
    drop(closed);
    let site = site(&format!(
        "[[route]]\nname = \"dead\"\nrecipient_domains = [\"dead.example\"]\n\
         to = \"smtp://{nowhere}\"\n"
    ));
    let shown = site.command(&["explain", "route", "info@ours.example"]);
    for part in [
        "info@ours.example is an alias (",
        "virtual:2) for ani@ours.example and 3 others",
        "Mail for ours.example goes by the rule `all`",
        "virtual:4",
    ] {
        assert!(shown.contains(part), "{shown}\nlacks {part}");
    }
    // Where nobody listens, mail waits.
    let id = site.send(&["<dead@ours.example>"], LETTER);
    let shown = site.command(&["queue", "show", &id]);
    assert!(shown.contains("to x@dead.example via dead@ours.example"), "{shown}");
}

#[test]
fn a_loop_is_a_mistake_that_is_told_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("aliases");
    fs::write(&path, "# system\na: b\nb: c\nc: a\nd: |/bin/sh\n").unwrap();
    let text = format!(
        "[relay]\nlocal_domains = [\"ours.example\"]\n[[alias]]\nname = \"system\"\n\
         file = \"{}\"\nformat = \"aliases\"\n",
        path.display()
    );
    fs::write(dir.path().join("data.toml"), text).unwrap();
    let said = |what: &str| {
        let Err((status, said)) = Relay::try_start(&data_dir(&dir), &[]) else {
            panic!("it starts with {what}")
        };
        assert_eq!(status.code(), Some(78), "{said}");
        said
    };
    let program = said("a program");
    assert!(program.contains("aliases:5:4") && program.contains("no program is run"), "{program}");
    fs::write(&path, "# system\na: b\nb: c\nc: a\n").unwrap();
    let ring = said("a loop");
    assert!(ring.contains("aliases:2:1") && ring.contains("leads back to itself"), "{ring}");
    assert!(ring.contains(" -> "), "{ring}");
}
