//! The greeting, EHLO and HELO.

use super::*;

#[test]
fn the_greeting_has_five_minutes_in_all_however_slowly_it_comes() {
    let mut play = Play::new(options(), transaction("", &[]));
    play.line("s: 220 ");
    for _ in 0..299 {
        play.line("T: 1");
        play.line("s: x");
        assert!(!play.has_failed);
    }
    play.line("T: 1");
    assert!(play.transcript.ends_with("E: failed Greeting timed out\nE: close\n"));
}

#[test]
fn an_endless_greeting_meets_a_limit() {
    let mut play = Play::new(options(), transaction("", &[]));
    for _ in 0..1_000_000 {
        play.octets(b"220-\r\n");
        if let Some(output) = play.session.poll() {
            assert!(shown(output).contains("a reply has too many lines"));
            return;
        }
    }
    panic!("no limit");
}

#[test]
fn greetings_that_refuse_end_the_session() {
    for (greeting, want) in [
        ("554 no", "E: failed Greeting replied 554 no\nC: QUIT"),
        ("521 no mail", "E: failed Greeting replied 521 no mail\nC: QUIT"),
        ("450 busy", "E: failed Greeting replied 450 busy\nC: QUIT"),
        ("421 busy", "E: failed Greeting replied 421 busy\nE: close"),
        ("220-mx", ""),
        ("220 no e s m t p", "C: EHLO us.example"),
        (
            "354 what",
            "E: failed Greeting protocol: this reply makes no sense here: 354 what\nC: QUIT",
        ),
        (
            "hello",
            "E: failed Greeting protocol: \
             a line of a reply does not begin with a reply code\nE: close",
        ),
    ] {
        check_with(options(), transaction("", &[]), &format!("S: {greeting}\n{want}"));
    }
}

#[test]
fn helo_is_tried_once_on_a_permanent_reply_to_ehlo() {
    for code in ["500 what", "502 no", "550 no"] {
        check_with(
            options(),
            transaction("a@us.example", &["b@x.example"]),
            &format!(
                "S: 220 mx
                C: EHLO us.example
                S: {code}
                C: HELO us.example
                S: 250 mx
                E: ready
                I: start
                C: MAIL FROM:<a@us.example>"
            ),
        );
    }
    check_with(
        options(),
        transaction("", &[]),
        "S: 220 mx
        C: EHLO us.example
        S: 500 what
        C: HELO us.example
        S: 500 what
        E: failed Hello replied 500 what
        C: QUIT
        T: 5
        E: close",
    );
    check_with(
        options(),
        transaction("", &[]),
        "S: 220 mx
        C: EHLO us.example
        I: closed
        E: failed Hello cut
        E: close",
    );
}

#[test]
fn helo_is_not_tried_where_tls_or_authentication_is_needed_or_with_lmtp() {
    let required = Options { tls: TlsUse::Required, ..options() };
    let with_credential = Options { credential: Some(credential()), ..options() };
    let lmtp = Options { dialect: Dialect::Lmtp, ..options() };
    let hidden = "protocol: EHLO is not known, and so there is no AUTH";
    for (options, verb, code, want) in [
        (&required, "EHLO", 502, "StartTls lacks StartTls"),
        (&required, "EHLO", 500, "StartTls lacks StartTls"),
        (&required, "EHLO", 550, "Hello replied 550 no"),
        (&with_credential, "EHLO", 501, &format!("Auth {hidden}")),
        (&with_credential, "EHLO", 504, &format!("Auth {hidden}")),
        (&with_credential, "EHLO", 554, "Hello replied 554 no"),
        (&lmtp, "LHLO", 502, "Hello protocol: LHLO is not known: this is no server for LMTP"),
        (&lmtp, "LHLO", 550, "Hello replied 550 no"),
    ] {
        check_with(
            options.clone(),
            transaction("", &[]),
            &format!(
                "S: 220 mx
                C: {verb} us.example
                S: {code} no
                E: failed {want}
                C: QUIT
                S: 221 bye
                E: close"
            ),
        );
    }
}

#[test]
fn a_hello_reply_of_500_lines_is_tolerated() {
    let lines = "250-X-JUNK\\r\\n".repeat(500);
    check_with(
        options(),
        transaction("", &[]),
        &format!(
            "S: 220 mx
            C: EHLO us.example
            s: 250-mx\\r\\n{lines}250 \\0\\r\\n
            E: ready"
        ),
    );
}
