//! Senders of forwarded mail are rewritten, and what comes back for them finds them: with real
//! sockets, and the hosts of who sent it and of who gets it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{fs, net::TcpStream, os::unix::fs::PermissionsExt as _};

use common::{
    Relay, Smtp, data_dir,
    internet::{Internet, merpati},
};

const LETTER: &[u8] = b"From: ani@b.example\r\nSubject: a letter\r\n\r\nbody\r\n";

const ALIASES: [&str; 2] =
    ["alias.away.addresses=info@ours.example", "alias.away.to=x@far.example"];

/// The host of b.example has the number 2, that of far.example the number 3.
fn internet() -> Internet {
    let net = Internet::new();
    for (domain, host, last) in [("b.example", "h2.example", 2), ("far.example", "h3.example", 3)] {
        net.set(domain, &[&format!("MX 10 {host}")]);
        net.set(host, &[&format!("A ${last}")]);
    }
    net
}

fn relay(net: &Internet, dir: &tempfile::TempDir, more: &[&str]) -> Relay {
    let own = [
        "relay.networks=",
        "relay.local_domains=ours.example,srs.example",
        "relay.srs_domain=srs.example",
    ];
    net.relay(dir, &[&own, more].concat())
}

fn client(net: &Internet, relay: &Relay) -> Smtp<TcpStream> {
    let mut smtp = Smtp::from(net.ip(7), relay.address("mx"));
    smtp.say("EHLO client.example", "250");
    smtp
}

/// Sends a letter as a stranger.
#[track_caller]
fn send(net: &Internet, relay: &Relay, from: &str, to: &str) {
    let reply = client(net, relay).data(from, to, LETTER);
    assert!(reply.starts_with("250"), "{from} {to}: {reply}");
}

fn said(dir: &tempfile::TempDir, arguments: &[&str]) -> String {
    let output = merpati(dir, arguments);
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn a_bounce_of_forwarded_mail_finds_who_sent_it() {
    let (net, dir) = (internet(), tempfile::tempdir().unwrap());
    let (theirs, far) = (net.host(2), net.host(3));
    let relay = relay(&net, &dir, &ALIASES);
    send(&net, &relay, "Ani@b.example", "info@ours.example");
    let forwarded = far.wait_for(1).pop().unwrap();
    let address = forwarded.from.clone();
    assert_eq!(forwarded.to, ["x@far.example"]);
    assert!(address.starts_with("SRS0="), "{address}");
    assert!(address.ends_with("=b.example=Ani@srs.example"), "{address}");
    // A report, also from a host that lower-cases what it sends, and whatever else.
    send(&net, &relay, "", &address);
    send(&net, &relay, "", &address.to_lowercase());
    send(&net, &relay, "robot@far.example", &address);
    let mails = theirs.wait_for(3);
    let mut to: Vec<(bool, &str)> =
        mails.iter().map(|mail| (mail.from.is_empty(), mail.to[0].as_str())).collect();
    to.sort_unstable();
    assert_eq!(to, [(false, "Ani@b.example"), (true, "Ani@b.example"), (true, "ani@b.example")]);
    // What is no report is forwarded like all that is: its sender has an address of ours as well.
    let other = mails.iter().find(|mail| !mail.from.is_empty()).unwrap();
    assert!(other.from.ends_with("=far.example=robot@srs.example"), "{}", other.from);
}

#[test]
fn nothing_goes_out_by_an_address_that_is_not_ours() {
    let (net, dir) = (internet(), tempfile::tempdir().unwrap());
    let far = net.host(3);
    let relay = relay(&net, &dir, &ALIASES);
    send(&net, &relay, "Ani@b.example", "info@ours.example");
    let address = far.wait_for(1).pop().unwrap().from;
    for sender in ["", "c@d.example"] {
        let mut smtp = client(&net, &relay);
        smtp.say(&format!("MAIL FROM:<{sender}>"), "250");
        for forged in [
            address.replace("Ani@", "Budi@"),
            address.replace("b.example", "c.example"),
            address.replace("SRS0", "SRS1"),
            "SRS0=AAAAAAAA=AA=b.example=ani@srs.example".to_owned(),
            "SRS1=AAAAAAAA=b.example==x=y@srs.example".to_owned(),
        ] {
            let text = format!("550 5.7.1 <{forged}> is no address of ours for reports");
            smtp.say(&format!("RCPT TO:<{forged}>"), &text);
        }
        let elsewhere = address.replace("srs.example", "b.example");
        smtp.say(&format!("RCPT TO:<{elsewhere}>"), "550 5.7.1");
    }
}

#[test]
fn our_own_report_goes_to_who_sent_the_message() {
    let (net, dir) = (internet(), tempfile::tempdir().unwrap());
    let (theirs, far) = (net.host(2), net.host(3));
    far.answers("x@far.example", "550 5.1.1 nobody");
    let relay = relay(&net, &dir, &ALIASES);
    send(&net, &relay, "Ani@b.example", "info@ours.example");
    let report = theirs.wait_for(1).pop().unwrap();
    assert_eq!((report.from.as_str(), &report.to[..]), ("", &["Ani@b.example".to_owned()][..]));
    for part in [
        "To: <Ani@b.example>\r\n",
        "Original-Recipient: rfc822; info@ours.example\r\n",
        "Final-Recipient: rfc822; x@far.example\r\n",
        "Action: failed\r\n",
    ] {
        assert!(report.content.contains(part), "{}\nlacks {part}", report.content);
    }
}

#[test]
fn an_operator_sees_who_is_behind_an_address() {
    let (net, dir) = (internet(), tempfile::tempdir().unwrap());
    let far = net.host(3);
    let relay = relay(&net, &dir, &ALIASES);
    send(&net, &relay, "Ani@b.example", "info@ours.example");
    let address = far.wait_for(1).pop().unwrap().from;
    let forged = address.replace("Ani@", "Budi@");
    let accept = |rcpt| said(&dir, &["explain", "accept", "--ip", "192.0.2.1", "--rcpt", rcpt]);
    let route = |words: &[&str]| said(&dir, &[&["explain", "route"], words].concat());
    for (shown, part) in [
        (route(&["info@ours.example", "--from", "Ani@b.example"]), "It leaves from SRS0="),
        (
            route(&[&address]),
            "stands for Ani@b.example, whose mail was forwarded (relay.srs_domain). Mail for \
             b.example goes",
        ),
        (route(&[&forged]), "is none that a sender was rewritten to here, and refused"),
        (accept(&address), "by rule srs."),
        (accept(&forged), "by rule srs-unknown"),
        (said(&dir, &["trace", "from:ani@b.example"]), "forwarded for Ani@b.example"),
    ] {
        assert!(shown.contains(part), "{shown}\nlacks {part}");
    }
}

#[test]
fn an_address_is_honoured_for_as_long_as_its_key_is_there() {
    let (net, dir) = (internet(), tempfile::tempdir().unwrap());
    let far = net.host(3);
    let address = {
        let relay = relay(&net, &dir, &ALIASES);
        send(&net, &relay, "Ani@b.example", "info@ours.example");
        far.wait_for(1).pop().unwrap().from
    };
    let key = data_dir(&dir).join("srs.key");
    let file = fs::metadata(&key).unwrap();
    assert_eq!((file.len(), file.permissions().mode() & 0o777), (32, 0o600));
    let asked = |want: &str| {
        // The aliases may be gone by then.
        let relay = relay(&net, &dir, &[]);
        let mut smtp = client(&net, &relay);
        smtp.say("MAIL FROM:<>", "250");
        smtp.say(&format!("RCPT TO:<{address}>"), want);
    };
    asked("250");
    fs::remove_file(&key).unwrap();
    asked("550 5.7.1");
    // One that was cut off is no key.
    fs::write(&key, [7; 31]).unwrap();
    let sets = ["relay.local_domains=srs.example", "relay.srs_domain=srs.example"];
    let Err((status, said)) = Relay::try_start(&data_dir(&dir), &sets) else { panic!("it starts") };
    assert!(!status.success() && said.contains("srs.key"), "{said}");
}
