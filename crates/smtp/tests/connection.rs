//! How a connection begins, who it is with, and how long it is borne.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(dead_code, missing_docs, unreachable_pub)]

mod common;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use common::{World, play, send};
use merpati_mail::{Domain, Protocol};
use merpati_smtp::server::{
    Auth, Discipline, MailNeeds, Options, Session, SessionEnd, Standing, StartTls,
};

fn options() -> Options {
    Options::new("test", "mx.example")
}

/// A listener that lets strangers wait for the greeting.
fn patient() -> Options {
    let mut options = options();
    options.early_talkers = Discipline::Enforced;
    options.waits.greeting_wait = Duration::from_secs(5);
    options
}

fn world(options: &Options, standing: Standing) -> World {
    let mut world = World::new(options.clone());
    let peer = "198.51.100.1:40000".parse().unwrap();
    world.session =
        Session::new(world.now, Arc::new(options.clone()), peer, None).standing(standing);
    world
}

/// Plays it with whole segments and octet by octet; gives the last world.
fn check(options: &Options, standing: Standing, transcript: &str) -> World {
    let mut last = world(options, standing);
    for step in [1, 3, usize::MAX] {
        last = world(options, standing);
        play(&mut last, transcript, step);
    }
    last
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn a_stranger_waits_for_the_greeting_and_whom_we_know_does_not() {
    let waits = "S-\nT: 4 s\nS-\nT: 1 s\nS: 220 mx.example\nC: NOOP\nS: 250";
    check(&patient(), Standing::Stranger, waits);
    for standing in [Standing::Introducer, Standing::Known] {
        check(&patient(), standing, "S: 220\nC: NOOP\nS: 250");
    }
    check(&options(), Standing::Stranger, "S: 220");
}

#[test]
fn who_talks_before_the_greeting_is_sent_away() {
    for text in ["EHLO x", "x", "GET / HTTP/1.1", r"\x16\x03\x01"] {
        let transcript = format!("S-\nT: 1 s\nC: {text}\nS: 554 5.5.1\nX:");
        let mut world = world(&patient(), Standing::Stranger);
        play(&mut world, &transcript, usize::MAX);
        let summary = world.session.summary();
        assert_eq!(summary.end, Some(SessionEnd::Refused));
        assert_eq!(summary.refusals["early-talker"], 1);
    }
    // Talk that waits for us already when the wait begins.
    let mut early = world(&patient(), Standing::Stranger);
    early.buffer.extend(b"EHLO x\r\n");
    play(&mut early, "S: 554 5.5.1\nX:", usize::MAX);
    let mut known = world(&patient(), Standing::Known);
    known.buffer.extend(b"NOOP\r\n");
    play(&mut known, "S: 220\nS: 250", usize::MAX);
}

#[test]
fn where_early_talk_is_tolerated_it_is_answered_after_the_greeting() {
    let mut options = patient();
    options.early_talkers = Discipline::Tolerated;
    play(
        &mut world(&options, Standing::Stranger),
        "T: 1 s\nC: NOOP\nS-\nT: 5 s\nS: 220\nS: 250",
        usize::MAX,
    );
}

#[test]
fn a_shutdown_does_not_wait_for_the_greeting() {
    check(&patient(), Standing::Stranger, "S-\nI: shutdown\nS: 421 4.3.2\nX:");
}

#[test]
fn a_stranger_is_not_waited_for_where_others_need_the_place() {
    let mut options = options();
    options.auth = Auth::Anywhere;
    for (standing, login, wait, want) in [
        (Standing::Stranger, "", 9, "S-"),
        (Standing::Stranger, "", 10, "S: 421 4.4.2\nX:"),
        (Standing::Known, "", 299, "S-"),
        (Standing::Stranger, "C: AUTH PLAIN AGFuaQBzZWNyZXQ=\nS: 235\n", 299, "S-"),
    ] {
        let mut world = world(&options, standing);
        play(&mut world, &format!("S: 220\nE: x\n{login}"), usize::MAX);
        world.session.hurry(true);
        play(&mut world, &format!("T: {wait} s\n{want}"), usize::MAX);
    }
    let mut dripping = world(&options, Standing::Stranger);
    let envelope = "S: 220\nE: x\nC: MAIL FROM:<>\nS: 250\nC: RCPT TO:<a@b.example>\nS: 250";
    play(&mut dripping, &format!("{envelope}\nC: DATA\nS: 354\nC> a"), usize::MAX);
    dripping.session.hurry(true);
    play(&mut dripping, "T: 9 s\nS-\nC> a\nT: 9 s\nS-", usize::MAX);
    dripping.session.hurry(false);
    play(&mut dripping, "T: 11 s\nS-", usize::MAX);
    dripping.session.hurry(true);
    play(&mut dripping, "T: 0 s\nS: 421 4.4.2\nX:\nM: 0", usize::MAX);
}

#[test]
fn a_stranger_introduces_nobody() {
    for standing in [Standing::Known, Standing::Stranger] {
        let world = check(
            &options(),
            standing,
            "
            S: 220
            E: x
            C: XCLIENT ADDR=192.0.2.7
            S: 550 5.7.1
            C: XFORWARD ADDR=192.0.2.7
            S: 500 5.5.2",
        );
        assert_eq!(world.session.peer(), address("198.51.100.1:40000"));
    }
}

#[test]
fn a_stranger_who_speaks_for_others_is_not_served_as_himself() {
    for line in ["PROXY TCP4 192.0.2.7 198.51.100.1 1 25", "PROXY UNKNOWN", "proxy x"] {
        let mut world = world(&options(), Standing::Stranger);
        let transcript = format!("S: 220\nC+ {line}\nC: EHLO x\nS: 554 5.7.1\nX:");
        play(&mut world, &transcript, usize::MAX);
        assert_eq!(world.session.peer(), address("198.51.100.1:40000"));
    }
    // Version 2 begins with empty lines and ends its signature in a bare LF.
    play(
        &mut world(&options(), Standing::Stranger),
        r"
        S: 220
        C> \r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x19
        S: 500
        S: 500
        S: 500
        S: 500
        X:",
        usize::MAX,
    );
}

#[test]
fn an_introduction_begins_the_session_anew_with_another_client() {
    let world = check(
        &options(),
        Standing::Introducer,
        "
        S: 220
        E: proxy.example
        C: XCLIENT ADDR=192.0.2.7 PORT=4711 NAME=client.example
        S: 220 mx.example ESMTP
        C: MAIL FROM:<a@a.example>
        S: 503
        C: HELO client.example
        S: 250
        C: MAIL FROM:<a@a.example>
        S: 250
        C: RCPT TO:<b@b.example>
        S: 250
        C: DATA
        S: 354
        C: x
        C: .
        S: 250
        M: 1
        C: XCLIENT ADDR=IPV6:2001:db8::7 PROTO=ESMTP HELO=[IPv6:2001:db8::7]
        S: 220
        C: MAIL FROM:<a@a.example>
        S: 250",
    );
    let origin = &world.messages[0].0.origin;
    let peer = origin.peer.as_ref().unwrap();
    assert_eq!((peer.address, origin.protocol), (address("192.0.2.7:4711"), Protocol::Smtp));
    assert_eq!(peer.name, Some(Domain::parse("client.example").unwrap()));
    assert_eq!(world.session.peer(), address("[2001:db8::7]:0"));
    assert_eq!(world.session.peer_name(), None);
    assert_eq!(world.session.summary().hello.as_deref(), Some("[IPv6:2001:db8::7]"));
}

#[test]
fn what_an_introducer_does_not_know_is_not_filled_in_with_himself() {
    let world = check(
        &options(),
        Standing::Introducer,
        "S: 220\nC: XCLIENT ADDR=[UNAVAILABLE] NAME=[TEMPUNAVAIL]\nS: 220\nE: x",
    );
    assert_eq!(world.session.peer(), address("0.0.0.0:0"));
    assert_eq!(world.session.peer_name(), None);
    let named = check(
        &options(),
        Standing::Introducer,
        "S: 220\nC: XCLIENT NAME=client.example\nS: 220\nC: XCLIENT PORT=1\nS: 220",
    );
    assert_eq!(named.session.peer(), address("0.0.0.0:1"), "nor is the introducer's own");
    assert_eq!(named.session.peer_name(), Some(&Domain::parse("client.example").unwrap()));
}

#[test]
fn an_introduction_has_no_place_in_a_transaction_and_must_be_well_formed() {
    let world = check(
        &options(),
        Standing::Introducer,
        "
        S: 220
        E: x
        C: XCLIENT
        S: 501 5.5.4
        C: XCLIENT ADDR=localhost
        S: 501 5.5.4
        C: XCLIENT COLOUR=red
        S: 501 5.5.4
        C: MAIL FROM:<a@a.example>
        S: 250
        C: XCLIENT ADDR=192.0.2.7
        S: 503 5.5.1
        C: RCPT TO:<b@b.example>
        S: 250
        C: DATA
        S: 354
        C: x
        C: .
        S: 250",
    );
    let peer = world.messages[0].0.origin.peer.as_ref().unwrap();
    assert_eq!(peer.address, address("198.51.100.1:40000"));
}

#[test]
fn a_login_is_believed_only_where_clients_may_authenticate() {
    check(&options(), Standing::Introducer, "S: 220\nC: XCLIENT LOGIN=ani\nS: 501 5.5.4");
    check(&options(), Standing::Introducer, "S: 220\nC: XCLIENT LOGIN=\nS: 220");
    let mut submission = options();
    (submission.auth, submission.mail_needs) = (Auth::OverTls, MailNeeds::Auth);
    submission.starttls = StartTls::Offered;
    let world = check(
        &submission,
        Standing::Introducer,
        "
        S: 220
        E: x
        C: MAIL FROM:<a@a.example>
        S: 530 5.7.0
        C: XCLIENT ADDR=192.0.2.7 LOGIN=ani
        S: 220
        E: x
        C: MAIL FROM:<a@a.example>
        S: 250
        C: RSET
        S: 250
        C: XCLIENT ADDR=192.0.2.8
        S: 220
        E: x
        C: MAIL FROM:<a@a.example>
        S: 530 5.7.0",
    );
    assert_eq!(world.session.credential(), None);
}

#[test]
fn the_verdict_on_a_connection_is_asked_for_again_after_an_introduction() {
    check(
        &options(),
        Standing::Introducer,
        "
        S: 220
        Q: connect 550 5.7.1 blocked
        C: XCLIENT ADDR=192.0.2.7
        S: 550 5.7.1 blocked
        X:",
    );
}

#[test]
fn a_group_behind_an_introduction_belongs_to_who_was_introduced() {
    let mut world = world(&options(), Standing::Introducer);
    play(&mut world, "S: 220", usize::MAX);
    send(&mut world, b"XCLIENT ADDR=192.0.2.7\r\nEHLO x\r\n", usize::MAX);
    let said = String::from_utf8(world.sent).unwrap();
    assert!(said.starts_with("220 mx.example "), "{said}");
    assert!(said.contains("\r\n250-mx.example greets [192.0.2.7]\r\n"), "{said}");
}

#[test]
fn xclient_is_offered_to_introducers_only() {
    for standing in [Standing::Introducer, Standing::Known, Standing::Stranger] {
        let mut world = world(&options(), standing);
        play(&mut world, "S: 220", usize::MAX);
        send(&mut world, b"EHLO x\r\n", usize::MAX);
        let said = String::from_utf8(world.sent).unwrap();
        let is_offered = said.contains("XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT");
        assert_eq!(is_offered, standing == Standing::Introducer, "{said}");
    }
}
