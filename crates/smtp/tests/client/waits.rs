//! How long is waited for what, and inputs at the wrong time.

use super::*;

#[test]
fn content_that_cannot_go_out_is_never_ended() {
    for (content, why) in
        [("a\\nb", "an LF without CR"), ("a\\r.\\r\\nb", "a CR without LF"), ("a\\0", "a NUL")]
    {
        check(
            "PIPELINING",
            1,
            &format!(
                "I: start
                C: MAIL FROM:<a@us.example>
                C: RCPT TO:<r0@x.example>
                C: DATA
                s: 250 ok\\r\\n250 ok\\r\\n354 go\\r\\n
                E: need body
                I: body {content}
                E: results Fresh
                R: 0 not Content protocol: our content has {why} and was not sent
                E: close
                I: end"
            ),
        );
    }
}

#[test]
fn a_quit_waits_for_the_transaction_and_a_start_at_the_wrong_time_comes_back() {
    check(
        "",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        I: start
        E: results Reused
        R: 0 try again here
        I: quit
        S: 550 no
        E: results Fresh
        R: 0 not Mail replied 550 no
        C: QUIT
        I: start
        E: results Reused
        R: 0 not Mail cut
        T: 5
        E: close",
    );
}

#[test]
fn a_transaction_has_an_end_however_long_its_parts_take() {
    let mut options = options();
    options.timeouts.transaction = Duration::from_secs(400);
    check_with(
        options,
        transaction("", &["b@x.example"]),
        &behind_hello(
            Dialect::Smtp,
            "",
            "I: start
            C: MAIL FROM:<>
            T: 299
            S: 250 ok
            C: RCPT TO:<b@x.example>
            T: 101
            E: results Fresh
            R: 0 not Recipient timed out
            E: close",
        ),
    );
}

/// A session with a wait of its own for each thing.
fn with_odd_waits() -> Options {
    let seconds = Duration::from_secs;
    let timeouts = Timeouts {
        greeting: seconds(11),
        hello: seconds(12),
        tls: seconds(13),
        mail: seconds(14),
        recipient: seconds(15),
        data_init: seconds(16),
        data_block: seconds(17),
        end_of_data: seconds(18),
        quit: seconds(19),
        transaction: seconds(1_000),
    };
    Options { timeouts, ..options() }
}

#[test]
fn each_thing_is_waited_for_as_long_as_it_has() {
    const STEPS: &[(&str, Option<u64>)] = &[
        ("S: 220 mx", Some(12)),
        ("s: 250-mx\\r\\n250 STARTTLS\\r\\n", Some(13)),
        ("S: 220 go", Some(13)),
        ("I: tls-ready", Some(12)),
        ("s: 250-mx\\r\\n250 AUTH LOGIN\\r\\n", Some(12)),
        ("S: 334 VXNlcm5hbWU6", Some(12)),
        ("S: 334 UGFzc3dvcmQ6", Some(12)),
        ("S: 235 in", None),
        ("I: start", Some(14)),
        ("S: 250 ok", Some(15)),
        ("S: 250 ok", Some(15)),
        ("S: 250 ok", Some(16)),
        ("S: 354 go", Some(17)),
        ("I: body x", Some(17)),
        ("I: end", Some(18)),
        ("S: 250 ok", None),
        ("I: start", Some(14)),
        ("S: 250 ok", Some(15)),
        ("S: 550 no", Some(15)),
        ("S: 550 no", Some(12)),
        ("S: 250 reset", None),
        ("I: quit", Some(19)),
        ("S: 221 bye", None),
    ];
    let options =
        Options { tls: TlsUse::Required, credential: Some(credential()), ..with_odd_waits() };
    let mut play = Play::new(options, transaction("", &["b@x.example", "c@x.example"]));
    let left = |play: &Play| play.session.deadline().map(|at| at.since(play.now).as_secs());
    assert_eq!(left(&play), Some(11));
    for (line, want) in STEPS {
        play.line(line);
        assert_eq!(left(&play), *want, "{line}\n{}", play.transcript);
        if want.is_some() {
            // Time that passes prolongs nothing.
            play.line("T: 3");
            assert_eq!(left(&play), want.map(|seconds| seconds - 3), "{line}");
        }
    }
    assert!(play.transcript.ends_with("E: close\n"), "{}", play.transcript);
}

#[test]
fn pipelined_replies_have_their_waits_one_after_the_other() {
    let next = transaction("", &["b@x.example"]);
    let mut play = Play::new(with_odd_waits(), next);
    for line in ["S: 220 mx", "s: 250-mx\\r\\n250 PIPELINING\\r\\n", "I: start"] {
        play.line(line);
    }
    for (line, want) in [("", 14), ("S: 250 ok", 15), ("S: 250 ok", 16), ("S: 354 go", 17)] {
        if !line.is_empty() {
            play.line("T: 5");
            play.line(line);
        }
        let left = play.session.deadline().map(|at| at.since(play.now).as_secs());
        assert_eq!(left, Some(want), "{line}");
    }
}

#[test]
fn content_has_its_wait_from_piece_to_piece_within_that_of_the_transaction() {
    let mut options = with_odd_waits();
    options.timeouts.transaction = Duration::from_secs(40);
    let mut play = Play::new(options, transaction("", &["b@x.example"]));
    let lines = ["S: 220 mx", "S: 250 mx", "I: start", "S: 250 ok", "S: 250 ok", "S: 354 go"];
    for line in lines {
        play.line(line);
    }
    for (passed, want) in [(0, 17), (10, 17), (10, 17), (10, 10), (9, 1)] {
        play.line(&format!("T: {passed}"));
        play.line("I: body x");
        let left = play.session.deadline().map(|at| at.since(play.now).as_secs());
        assert_eq!(left, Some(want), "after {passed} s");
    }
    // What was sent is never given up for that.
    play.line("I: end");
    assert_eq!(play.session.deadline().map(|at| at.since(play.now).as_secs()), Some(18));
}

#[test]
fn each_reply_behind_the_content_has_a_wait_of_its_own_by_lmtp() {
    let options = Options { dialect: Dialect::Lmtp, ..with_odd_waits() };
    let mut play = Play::new(options, transaction("", &["b@x.example", "c@x.example"]));
    let lines = ["S: 220 mx", "S: 250 mx", "I: start", "S: 250 ok", "S: 250 ok", "S: 250 ok"];
    for line in lines.iter().chain(&["S: 354 go", "I: end"]) {
        play.line(line);
    }
    for line in ["T: 5", "S: 250 b has it"] {
        play.line(line);
    }
    assert_eq!(play.session.deadline().map(|at| at.since(play.now).as_secs()), Some(18));
}

#[test]
fn a_session_tells_what_the_peer_offers_and_what_protects_it() {
    let options = Options { tls: TlsUse::Required, ..options() };
    let mut play = Play::new(options, transaction("", &[]));
    play.line("S: 220 mx");
    play.line("s: 250-mx\\r\\n250-SIZE 5\\r\\n250 STARTTLS\\r\\n");
    assert_eq!(play.session.capabilities().size_octets_max, Some(5));
    assert!(play.session.tls().is_none());
    play.line("S: 220 go");
    play.line("I: tls-ready");
    assert_eq!(play.session.capabilities(), &Capabilities::default());
    assert_eq!(play.session.tls().map(|facts| facts.version.as_str()), Some("TLSv1.3"));
    play.line("s: 250-mx\\r\\n250 DSN\\r\\n");
    let offers = |extension| play.session.capabilities().offers(extension);
    assert!(offers(Extension::Dsn) && !offers(Extension::Size));
}

#[test]
fn inputs_at_the_wrong_time_have_no_effect() {
    check(
        "",
        1,
        "I: tls-ready
        I: tls-failed x
        I: body x
        I: end
        T: 100000
        I: start
        C: MAIL FROM:<a@us.example>
        I: tls-ready
        I: tls-failed x
        I: body x
        I: end
        T: 299
        S: 250 ok
        C: RCPT TO:<r0@x.example>",
    );
}

#[test]
fn an_intermediate_reply_is_one_to_data_alone() {
    let mail = "I: start\nC: MAIL FROM:<a@us.example>\n";
    let rcpt = "S: 250 ok\nC: RCPT TO:<r0@x.example>\n";
    let sense = "this reply makes no sense here";
    for (script, phase) in
        [(format!("{mail}S: 354 x"), "Mail"), (format!("{mail}{rcpt}S: 334 x"), "Recipient")]
    {
        let code = script.rsplit(' ').nth(1).unwrap().to_owned();
        let want =
            format!("E: results Fresh\nR: 0 not {phase} protocol: {sense}: {code} x\nE: close");
        check("", 1, &format!("{script}\n{want}"));
    }
    check(
        "",
        1,
        &format!(
            "{mail}{rcpt}S: 250 ok\nC: DATA\nS: 250 x\nE: results Fresh\n\
             R: 0 not Data protocol: {sense}: 250 x\nE: close"
        ),
    );
}

#[test]
fn our_own_limit_of_recipients_holds_beside_that_of_the_peer() {
    for (ours, theirs, sent) in [(1, 9, 1), (2, 9, 2), (9, 2, 2), (0, 9, 1), (2, 2, 2)] {
        let options = Options { recipients_max: ours, ..options() };
        let names = ["a@x.example", "b@x.example", "c@x.example"];
        let mut play = Play::new(options, transaction("", &names));
        play.line("S: 220 mx");
        play.line(&format!("s: 250-mx\\r\\n250-PIPELINING\\r\\n250 LIMITS RCPTMAX={theirs}\\r\\n"));
        play.line("I: start");
        assert_eq!(play.transcript.matches("RCPT TO").count(), sent, "{ours} and {theirs}");
    }
}
