#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr, clippy::format_push_string, missing_docs, unreachable_pub)]

mod common;

use std::time::Duration;

use common::{World, play, tls, unescape};
use merpati_mail::{
    Protocol, ReversePath,
    envelope::{Notify, Ret},
};
use merpati_smtp::server::{
    Auth, Discipline, Input, MailNeeds, Options, SessionEnd, StartTls, Vrfy, Wants,
};

const ENVELOPE: &str = "
    S: 220 mx.example
    E: a.example
    C: MAIL FROM:<a@a.example>
    S: 250 2.1.0
    C: RCPT TO:<b@b.example>
    S: 250 2.1.5";

fn options() -> Options {
    Options::new("test", "mx.example")
}

fn submission() -> Options {
    let mut options = options();
    options.auth = Auth::OverTls;
    options.mail_needs = MailNeeds::Auth;
    options.starttls = StartTls::Offered;
    options
}

fn strict() -> Options {
    let mut options = options();
    options.pipelining = Discipline::Enforced;
    options.early_talkers = Discipline::Enforced;
    options
}

/// Plays it with whole segments and octet by octet.
fn check(options: &Options, transcript: &str) {
    for step in [usize::MAX, 1, 3] {
        play(&mut World::new(options.clone()), transcript, step);
    }
}

/// Plays it behind an accepted recipient.
fn check_transaction(options: &Options, transcript: &str) {
    check(options, &format!("{ENVELOPE}\n{transcript}"));
}

/// Plays it with whole segments only: it is about what came together.
fn check_segments(options: &Options, transcript: &str) {
    play(&mut World::new(options.clone()), transcript, usize::MAX);
}

#[test]
fn the_greeting_and_the_extensions_are_complete() {
    check(
        &options(),
        "
        S: 220 mx.example ESMTP Merpati
        C: EHLO x
        S: 250-mx.example greets [192.0.2.9]
        S: 250-SIZE 52428800
        S: 250-PIPELINING
        S: 250-8BITMIME
        S: 250-SMTPUTF8
        S: 250-CHUNKING
        S: 250-ENHANCEDSTATUSCODES
        S: 250-DSN
        S: 250-HELP
        S: 250 LIMITS RCPTMAX=1000
        C: HELO x
        S: 250 mx.example
        C: MAIL FROM:<a@b.example> SIZE=1
        S: 555 5.5.4
        C: MAIL FROM:<a@b.example>
        S: 250
        C: RCPT TO:<a@b.example>
        S: 250
        C: BDAT 3
        C> abc
        S: 503 5.5.1
        C: STARTTLS
        S: 502 5.5.1",
    );
}

#[test]
fn names_are_checked() {
    check(
        &options(),
        "
        S: 220
        C: EHLO
        S: 501 5.5.4
        C: HELO
        S: 501 5.5.4
        C: EHLO x y
        S: 501 5.5.4
        C: EHLO x) by evil; (a\"b
        S: 501 5.5.4
        C: EHLO [999.1.1.1]
        S: 501 5.5.4
        E: [127.0.0.1]
        E: [IPv6:::1]
        E: my_host",
    );
}

#[test]
fn vrfy_can_be_off() {
    let mut options = options();
    options.vrfy = Vrfy::Off;
    let transcript = "
        S: 220
        C: VRFY user
        S: 502 5.5.1
        C: EXPN list
        S: 502 5.5.1
        E: x";
    check(&options, transcript);
}

#[test]
fn commands_out_of_sequence_are_refused() {
    check(
        &options(),
        "
        S: 220
        C: NOOP
        S: 250 2.0.0
        C: RSET
        S: 250 2.0.0
        C: VRFY user
        S: 252 2.0.0
        C: EXPN list
        S: 502 5.5.1
        C: MAIL FROM:<a@b.example>
        S: 503 5.5.1
        E: x
        C: RCPT TO:<a@b.example>
        S: 503 5.5.1
        C: DATA
        S: 503 5.5.1
        C: MAIL FROM:<a@b.example>
        S: 250 2.1.0
        C: DATA
        S: 503 5.5.1
        C: MAIL FROM:<a@b.example>
        S: 503 5.5.1
        C: RSET
        S: 250
        C: RCPT TO:<a@b.example>
        S: 503 5.5.1
        C: MAIL FROM:<>
        S: 250 2.1.0
        E: again
        C: DATA
        S: 503 5.5.1
        C: QUIT
        S: 221 2.0.0
        X:",
    );
}

#[test]
fn words_are_read_in_any_case_and_arguments_only_where_they_belong() {
    check(
        &options(),
        r"
        S: 220
        C: eHlO x
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-DSN
        S: 250-HELP
        S: 250 LIMITS
        C: mAiL fRoM:<a@b.example>
        S: 250
        C: NOOP \x20 \x20
        S: 250
        C: NOOP arg
        S: 250
        C: HELP me
        S: 214-2.0.0
        S: 214 2.0.0
        C: DATA x
        S: 501 5.5.4
        C: RSET x
        S: 501 5.5.4
        C: QUIT x
        S: 501 5.5.4
        C: STARTTLS x
        S: 501 5.5.4
        C: VRFY
        S: 501 5.5.4
        C: FOO
        S: 500 5.5.2
        C:
        S: 500 5.5.2
        C: EXPN list
        S: 502 5.5.1
        C: ETRN x
        S: 502 5.5.1
        C: SOML FROM:<a@b.example>
        S: 502 5.5.1
        C: DEBUG
        S: 502 5.5.1",
    );
}

#[test]
fn parameters_that_were_not_offered_leave_the_transaction_as_it_was() {
    check(
        &options(),
        "
        S: 220
        E: x
        C: MAIL FROM:<a@b.example> XFOO=1
        S: 555 5.5.4
        C: MAIL FROM:<a@b.example> BODY=BINARYMIME
        S: 555 5.5.4
        C: MAIL FROM:<a@b.example> NOTIFY=NEVER
        S: 555 5.5.4
        C: MAIL FROM:<a@b.example> REQUIRETLS
        S: 555 5.5.4
        C: MAIL FROM:<a@b.example> AUTH=<>
        S: 555 5.5.4
        C: MAIL FROM:<a@b.example> SMTPUTF8=x
        S: 501 5.5.4
        C: MAIL FROM:<a@b.example> BODY=9BIT
        S: 501 5.5.4
        C: MAIL FROM:<a@b.example> BODY=7BIT BODY=8BITMIME
        S: 501 5.5.4
        C: MAIL FROM:<a@b.example>SIZE=1
        S: 501 5.5.4
        C: MAIL FROM:<a@b.example> BODY=8BITMIME SIZE=100 SMTPUTF8
        S: 250 2.1.0
        C: RCPT TO:<a@b.example> XFOO=1
        S: 555 5.5.4
        C: RCPT TO:<a@b.example> RET=FULL
        S: 555 5.5.4
        C: RCPT TO:<a@b.example>
        S: 250 2.1.5",
    );
}

/// RFC 3461 §4: what is well-formed is kept as it was given.
#[test]
fn dsn_parameters_come_into_the_envelope_as_they_were_given() {
    let mut world = World::new(options());
    play(
        &mut world,
        "
        S: 220
        E: x
        C: MAIL FROM:<a@b.example> RET=BODY
        S: 501 5.5.4
        C: MAIL FROM:<a@b.example> ENVID=a=b
        S: 501 5.5.4
        C: MAIL FROM:<a@b.example> RET=FULL RET=HDRS
        S: 501 5.5.4
        C: MAIL FROM:<a@b.example> ret=hdrs envid=QQ+2B1 SMTPUTF8
        S: 250 2.1.0
        C: RCPT TO:<u@b.example> NOTIFY=NEVER,DELAY
        S: 501 5.5.4
        C: RCPT TO:<u@b.example> NOTIFY=DELAY NOTIFY=DELAY
        S: 501 5.5.4
        C: RCPT TO:<u@b.example> ORCPT=rfc822
        S: 501 5.5.4
        C: RCPT TO:<u@b.example> notify=success,Failure ORCPT=utf-8;δ@c.example
        S: 250 2.1.5
        C: RCPT TO:<v@b.example> ORCPT=rfc822;x+2By@c.example NOTIFY=NEVER
        S: 250 2.1.5
        C: RCPT TO:<w@b.example>
        S: 250 2.1.5
        C: DATA
        S: 354
        C: x
        C: .
        S: 250
        C: MAIL FROM:<a@b.example>
        S: 250 2.1.0
        C: RCPT TO:<u@b.example> ORCPT=utf-8;δ@c.example
        S: 553 5.6.7",
        usize::MAX,
    );
    let envelope = &world.messages[0].0;
    assert_eq!((envelope.ret, envelope.envid.as_deref()), (Some(Ret::Headers), Some("QQ+2B1")));
    let told: Vec<_> = envelope.recipients.iter().map(|r| (r.notify, r.orcpt.as_deref())).collect();
    let on = Notify::On { delay: false, failure: true, success: true };
    assert_eq!(
        told,
        [
            (Some(on), Some("utf-8;δ@c.example")),
            (Some(Notify::Never), Some("rfc822;x+2By@c.example")),
            (None, None),
        ]
    );
}

#[test]
fn a_wrong_size_is_refused_at_once() {
    check(
        &options(),
        "
        S: 220
        E: x
        C: MAIL FROM:<a@b.example> SIZE=52428801
        S: 552 5.3.4
        C: MAIL FROM:<a@b.example> SIZE=18446744073709551617
        S: 552 5.3.4
        C: MAIL FROM:<a@b.example> SIZE=99999999999999999999
        S: 552 5.3.4
        C: MAIL FROM:<a@b.example> SIZE=abc
        S: 501 5.5.4
        C: MAIL FROM:<a@b.example> SIZE=-1
        S: 501 5.5.4
        C: MAIL FROM:<a@b.example> SIZE=+5
        S: 501 5.5.4
        C: MAIL FROM:<a@b.example> SIZE=
        S: 501 5.5.4
        C: MAIL FROM:<a@b.example> SIZE=52428800
        S: 250 2.1.0",
    );
}

#[test]
fn a_message_goes_to_those_recipients_that_were_accepted() {
    check(
        &options(),
        "
        S: 220
        E: x
        C: MAIL FROM:<a@b.example>
        S: 250 2.1.0
        C: RCPT TO:<a@b.example>
        S: 250 2.1.5
        Q: rcpt 550 5.1.1 unknown
        C: RCPT TO:<c@b.example>
        S: 550 5.1.1 unknown
        C: DATA
        S: 354
        C: Subject: x
        C:
        C: text
        C: .
        S: 250 2.0.0 queued as 0000000000007
        B: Subject: x\\r\\n\\r\\ntext\\r\\n
        M: 1",
    );
}

#[test]
fn without_any_recipient_data_is_refused() {
    check(
        &options(),
        "
        S: 220
        E: x
        C+ MAIL FROM:<a@b.example>
        Q: rcpt 550 5.1.1 unknown
        C+ RCPT TO:<c@b.example>
        C: DATA
        S: 250 2.1.0
        S: 550 5.1.1
        S: 554 5.5.1
        C: RSET
        S: 250",
    );
}

#[test]
fn a_pipelined_group_is_answered_in_order_and_in_one_write() {
    let mut world = World::new(strict());
    play(
        &mut world,
        "
        S: 220
        E: x",
        usize::MAX,
    );
    world.sends = 0;
    let transcript = "
        Q: rcpt 250 lies
        C+ MAIL FROM:<a@b.example>
        C+ RCPT TO:<a@b.example>
        C+ RCPT TO:<b@b.example>
        C: DATA
        S: 250 2.1.0
        S: 451 4.3.0
        S: 250 2.1.5
        S: 354
        C+ text
        C+ .
        C+ MAIL FROM:<>
        C+ RCPT TO:<b@b.example>
        C: DATA
        S: 250 2.0.0
        S: 250 2.1.0
        S: 250 2.1.5
        S: 354
        C: .
        S: 250 2.0.0
        B:
        M: 2";
    play(&mut world, transcript, usize::MAX);
    assert_eq!(world.sends, 3);
}

#[test]
fn forty_recipients_in_one_segment_have_forty_replies() {
    let mut transcript = "S: 220\nE: x\nC+ MAIL FROM:<a@b.example>\n".to_owned();
    for n in 0..40 {
        let kind = if n == 39 { "C:" } else { "C+" };
        transcript += &format!("{kind} RCPT TO:<r{n}@b.example>\n");
    }
    transcript += &"S: 250 2.1\n".repeat(41);
    check(&strict(), &transcript);
}

#[test]
fn clients_that_do_not_wait_are_sent_away_where_it_is_enforced() {
    check_segments(
        &strict(),
        "
        S: 220
        C+ EHLO x
        C: MAIL FROM:<a@b.example>
        S: 554 5.5.0
        X:",
    );
    check_segments(
        &strict(),
        &format!(
            "{ENVELOPE}
            C+ DATA
            C: Subject: too early
            S: 554 5.5.0
            X:
            M: 0"
        ),
    );
    check_segments(
        &options(),
        &format!(
            "{ENVELOPE}
            C+ DATA
            C+ early
            C: .
            S: 354
            S: 250
            B: early\\r\\n"
        ),
    );
}

#[test]
fn early_talkers_are_sent_away_where_it_is_enforced() {
    let mut world = World::new(strict());
    world.buffer.extend(b"EHLO x\r\n");
    play(&mut world, "S: 554 5.5.1\nX:", usize::MAX);
    let mut world = World::new(options());
    world.buffer.extend(b"NOOP\r\n");
    play(&mut world, "S: 220\nS: 250", usize::MAX);
}

#[test]
fn bad_commands_end_the_session() {
    let mut transcript = "S: 220\n".to_owned();
    for _ in 0..49 {
        transcript += "C: FOO\nS: 500 5.5.2\n";
    }
    check(&options(), &(transcript + "C: FOO\nS: 421 4.7.0\nX:"));
}

#[test]
fn browsers_and_tls_in_the_clear_are_cut_off() {
    for line in ["POST / HTTP/1.1", "GET / HTTP/1.0", "Host: mx.example", r"\x16\x03\x01"] {
        check_segments(
            &options(),
            &format!(
                "
                S: 220
                C+ {line}
                C+ EHLO x
                C: MAIL FROM:<a@b.example>
                S: 421
                X:"
            ),
        );
    }
}

#[test]
fn long_lines_are_refused_and_skipped_and_endless_ones_end_the_session() {
    let ok = "x".repeat(507);
    let long = "x".repeat(2_000);
    check(
        &options(),
        &format!(
            "
            S: 220
            C: NOOP {ok}
            S: 250
            C: NOOP {long}
            S: 500 5.5.2
            C: NOOP
            S: 250"
        ),
    );
    let mut world = World::new(options());
    play(&mut world, "S: 220", 1);
    let mut held_max = 0;
    for _ in 0..1_000 {
        if world.is_closed {
            break;
        }
        common::send(&mut world, &[b'x'; 4_096], 4_096);
        held_max = held_max.max(world.buffer.len());
    }
    assert!(held_max <= 4_096, "{held_max}");
    play(&mut world, "S: 421 4.7.0\nX:", 1);
}

#[test]
fn command_lines_end_in_crlf_and_hold_no_controls() {
    check_segments(&options(), "S: 220\nC: NOOP\\nRSET\nS: 500 5.5.2\nX:");
    check(
        &options(),
        r"
        S: 220
        E: x
        C: RSET\rRCPT TO:<a@b.example>
        S: 500 5.5.2
        C: NO\0OP
        S: 500 5.5.2
        C: MAIL FROM:<>
        S: 250
        C: RCPT TO:<u@other.example\0@b.example>
        S: 500 5.5.2
        C: RCPT TO:<u\x07@b.example>
        S: 501 5.1.3",
    );
}

#[test]
fn timeouts_are_those_of_the_rfc() {
    check(&options(), "S: 220\nT: 299\nC: NOOP\nS: 250\nT: 299\nS-\nT: 1\nS: 421 4.4.2\nX:");
    check_transaction(&options(), "C: DATA\nS: 354\nT: 179\nC: x\nT: 179\nS-\nT: 1\nS: 421\nX:");
    check_transaction(&options(), "C: BDAT 9\nT: 180\nS: 421 4.4.2\nX:\nM: 0");
    // A command that comes drop by drop has no longer time than one that comes at once.
    check(&options(), "S: 220\nT: 200\nC> NO\nT: 99\nC> OP\nT: 1\nS: 421 4.4.2\nX:");
}

#[test]
fn a_transaction_has_an_end_also_for_a_client_that_keeps_talking() {
    let mut transcript = String::new();
    for _ in 0..24 {
        transcript += "T: 299\nC: NOOP\nS: 250\n";
    }
    check_transaction(&options(), &(transcript + "T: 24\nS: 421 4.4.2\nX:"));
}

#[test]
fn a_tls_record_is_seen_only_at_the_start_of_a_line() {
    let long = "x".repeat(1_600);
    check(&options(), &format!("S: 220\nC: {long}\\x16\nS: 500 5.5.2\nC: NOOP\nS: 250"));
}

#[test]
fn content_that_drips_has_an_end() {
    let mut world = World::new(options());
    play(&mut world, &format!("{ENVELOPE}\nC: DATA\nS: 354"), 1);
    let begun = world.now;
    while !world.is_closed {
        world.now = world.now + Duration::from_secs(10);
        common::send(&mut world, b"x", 1);
        world.give(Input::Timeout);
    }
    assert_eq!(world.now.since(begun).as_secs(), 600);
    assert_eq!(world.session.summary().end, Some(SessionEnd::Timeout));
    assert!(world.body.is_empty(), "the shell was told to drop it");
}

#[test]
fn a_shutdown_never_cuts_an_end_of_data() {
    check(&options(), "S: 220\nI: shutdown\nS: 421 4.3.2\nX:");
    check_transaction(
        &options(),
        "
        I: hold
        C: DATA
        S: 354
        I: shutdown
        S-
        C: text
        C: .
        S-
        I: commit
        S: 250 2.0.0
        S: 421 4.3.2
        X:
        M: 1",
    );
}

#[test]
fn a_connection_that_breaks_delivers_nothing() {
    check_transaction(&options(), "C: DATA\nS: 354\nC> x\\r\\n.\\r\nI: closed\nX:\nM: 0");
    check_transaction(&options(), "C: BDAT 10 LAST\nC> abc\nI: closed\nX:\nM: 0");
}

#[test]
fn refusals_say_what_the_rule_says() {
    check(&options(), "Q: hello 550 5.7.1 no\nS: 220\nC: EHLO x\nS: 550 5.7.1 no\nE: y");
    check(&options(), "Q: hello disconnect 554 5.7.1 no\nS: 220\nC: EHLO x\nS: 554 5.7.1 no\nX:");
    check_transaction(
        &options(),
        "
        Q: end 451 4.3.0 later
        C: DATA
        S: 354
        C: .
        S: 451 4.3.0 later
        M: 0
        C: MAIL FROM:<a@b.example>
        S: 250",
    );
    let mut world = World::new(options());
    let refusal = merpati_mail::Reply::new(421, (4, 7, 0), "too many");
    let verdict = merpati_mail::Verdict::refuse("per-address", refusal);
    world.verdicts.entry("connect").or_default().push_back(verdict);
    play(&mut world, "S: 421 4.7.0 too many\nX:", 1);
    assert_eq!(world.session.summary().refusals.get("per-address"), Some(&1));
}

#[test]
fn only_so_many_recipients_are_taken_and_the_earlier_ones_stay() {
    let mut options = options();
    options.limits.recipients_max = 100;
    let mut transcript = ENVELOPE.to_owned();
    for n in 1..100 {
        transcript += &format!("\nC: RCPT TO:<r{n}@b.example>\nS: 250");
    }
    transcript += "
        C: RCPT TO:<r@b.example>
        S: 452 4.5.3
        C: DATA
        S: 354
        C: .
        S: 250";
    let mut world = World::new(options);
    play(&mut world, &transcript, usize::MAX);
    assert_eq!(world.messages[0].0.recipients.len(), 100);
}

#[test]
fn content_that_is_too_long_is_read_to_its_end_and_refused() {
    let mut options = options();
    options.limits.message_bytes_max = 20;
    let transcript = "
        C: DATA
        S: 354
        C: 1234567890
        C: 1234567890
        C: .
        S: 552 5.3.4
        C: MAIL FROM:<a@b.example>
        S: 250
        C: RCPT TO:<a@b.example>
        S: 250
        C: DATA
        S: 354
        C: 123456789012345678
        C: .
        S: 250
        M: 1";
    check_transaction(&options, transcript);
    options.limits.drained_bytes_max = 10;
    check_transaction(
        &options,
        "C: DATA\nS: 354\nC> 1234567890123456789012345678901\nS: 552 5.3.4\nX:",
    );
}

#[test]
fn long_content_lines_stay_whole() {
    for octets in [998, 1_000, 2_000, 100_000] {
        let line = "x".repeat(octets);
        let transcript =
            format!("{ENVELOPE}\nC: DATA\nS: 354\nC: {line}\nC: .\nS: 250\nB: {line}\\r\\n");
        check_segments(&options(), &transcript);
    }
}

#[test]
fn transactions_of_one_connection_are_limited() {
    let mut options = options();
    options.limits.transactions_max = 1;
    check_transaction(&options, "C: RSET\nS: 250\nC: MAIL FROM:<>\nS: 421 4.5.3\nX:");
}

#[test]
fn starttls_forgets_everything_and_drops_what_follows_it() {
    let mut options = submission();
    options.mail_needs = MailNeeds::Nothing;
    for tail in ["NOOP", r"EHLO x\r\nMAIL FROM:<a@b.example>", "AUTH PLAIN AHUAc2VjcmV0"] {
        let mut world = World::new(options.clone());
        let transcript = format!(
            "
            S: 220
            E: before.example
            C: MAIL FROM:<a@b.example>
            S: 250
            C: RCPT TO:<a@b.example>
            S: 250
            C+ STARTTLS
            C+ {tail}
            C> NOOP part
            S: 220 2.0.0
            C: DATA
            S: 503 5.5.1
            C: MAIL FROM:<a@b.example>
            S: 503 5.5.1
            C: STARTTLS
            S: 503 5.5.1
            C: EHLO after.example
            S: 250-
            S: 250-
            S: 250-
            S: 250-
            S: 250-
            S: 250-
            S: 250-
            S: 250-DSN
            S: 250-HELP
            S: 250-AUTH SCRAM-SHA-256 PLAIN LOGIN
            S: 250 LIMITS"
        );
        play(&mut world, &transcript, usize::MAX);
        assert!(world.questions.iter().all(|q| !q.starts_with("password")));
        assert_eq!(world.session.tls(), Some(&tls()));
    }
}

#[test]
fn starttls_without_a_certificate_is_refused_for_now() {
    let mut options = options();
    options.starttls = StartTls::Unavailable;
    check(&options, "S: 220\nE: x\nC: STARTTLS\nS: 454 4.7.0\nC: NOOP\nS: 250");
}

#[test]
fn nothing_is_submitted_without_authentication() {
    check(
        &submission(),
        "
        S: 220
        C: EHLO x
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-DSN
        S: 250-HELP
        S: 250-STARTTLS
        S: 250 LIMITS
        C: AUTH PLAIN AHUAc2VjcmV0
        S: 538 5.7.11
        C: MAIL FROM:<a@b.example>
        S: 530 5.7.0
        C: STARTTLS
        S: 220 2.0.0
        E: x
        C: MAIL FROM:<a@b.example>
        S: 530 5.7.0
        C: AUTH PLAIN AHUAc2VjcmV0
        S: 235 2.7.0
        C: AUTH PLAIN AHUAc2VjcmV0
        S: 503 5.5.1
        C: MAIL FROM:<a@b.example> AUTH=<>
        S: 250 2.1.0
        C: RSET
        S: 250
        C: MAIL FROM:<a@b.example> AUTH=a+0Ab
        S: 501 5.5.4",
    );
}

#[test]
fn addresses_are_checked() {
    for (address, reply) in [
        (r"<.u@b.example>", "501 5.1.3"),
        (r"<u..v@b.example>", "501 5.1.3"),
        (r"<u v@b.example>", "501 5.1.3"),
        (r#"<"ab@b.example>"#, "501 5.1.3"),
        (r"Bob <u@b.example>", "501 5.1.3"),
        (r"<u@[999.1.1.1]>", "501 5.1.3"),
        (r"<u@[1.2.3.4>", "501 5.1.3"),
        (r"<a@b@b.example>", "501 5.1.3"),
        (r"<>", "501 5.1.3"),
        (r"u@b.example", "501 5.1.3"),
        ("<\\xc3\\xa4@b.example>", "553 5.6.7"),
        (r"<\xc0\xaf@b.example>", "501 5.5.2"),
        (r"<\xed\xa0\x80@b.example>", "501 5.5.2"),
        (r"<\xe2\x82@b.example>", "501 5.5.2"),
        (r"<\xff@b.example>", "501 5.5.2"),
        (r"<\xf4\x90\x80\x80@b.example>", "501 5.5.2"),
        (r#"<"a b"@b.example>"#, "250"),
        (r#"<"a\\"b"@b.example>"#, "250"),
        (r#"<"a>b"@b.example>"#, "250"),
        (r"<postmaster>", "250"),
        (r"<PostMaster>", "250"),
        (r"<@x.example,@y.example:u@b.example>", "250"),
    ] {
        check_transaction(&options(), &format!("C: RCPT TO:{address}\nS: {reply}"));
    }
    check(
        &options(),
        r"
        S: 220
        E: x
        C: MAIL FROM:<a@@b.example>
        S: 501 5.1.7
        C: MAIL FROM:<\xc3\xa4@b.example>
        S: 553 5.6.7
        C: MAIL FROM:<\xff@b.example> SMTPUTF8
        S: 501 5.5.2
        C: MAIL FROM:<\xc3\xa4@b.example> SMTPUTF8
        S: 250
        C: RCPT TO:<\xc3\xa4@b.example>
        S: 250",
    );
}

#[test]
fn the_envelope_says_who_handed_over_what_and_how() {
    let mut world = World::over(submission(), Some(tls().into()));
    play(
        &mut world,
        "
        S: 220
        E: client.example
        C: AUTH PLAIN AHUAc2VjcmV0
        S: 235
        C: MAIL FROM:<> SMTPUTF8 BODY=8BITMIME
        S: 250
        C: RCPT TO:<b@b.example>
        S: 250
        C: DATA
        S: 354
        C: .
        S: 250",
        usize::MAX,
    );
    let envelope = &world.messages[0].0;
    assert_eq!(envelope.reverse_path, ReversePath(None));
    let origin = &envelope.origin;
    assert_eq!(origin.protocol, Protocol::Utf8Smtpsa);
    assert_eq!(origin.peer.as_ref().unwrap().hello, "client.example");
    assert_eq!((origin.credential.as_deref(), origin.tls.clone()), (Some("u"), Some(tls())));
    assert_eq!(origin.listener, "test");
    assert_eq!(world.session.summary().accepted, 1);
    assert_eq!(world.session.wants(), Wants::Commands);
}

#[test]
fn chunks_are_taken_as_they_are() {
    check_transaction(
        &options(),
        r"
        C: BDAT 7 LAST
        C> .a\r\n..b
        S: 250 2.0.0 queued
        B: .a\r\n..b",
    );
    check_transaction(
        &options(),
        r"
        C: BDAT 2
        C> a\r
        S: 250 2.0.0 2 octets received
        C: BDAT 3
        C> \n.\r
        S: 250 2.0.0
        C: BDAT 1
        C> \n
        S: 250 2.0.0
        C: BDAT 0 LAST
        S: 250 2.0.0 queued
        B: a\r\n.\r\n
        C: BDAT 4 LAST
        C> RSET
        S: 503 5.5.1
        C: NOOP
        S: 250",
    );
    check_transaction(
        &options(),
        r"
        C: BDAT 37 LAST
        C> a\r\n.\r\nMAIL FROM:<x@y.example>\r\nQUIT\r\n
        S: 250 2.0.0 queued
        B: a\r\n.\r\nMAIL FROM:<x@y.example>\r\nQUIT\r\n
        M: 1",
    );
}

#[test]
fn octets_of_refused_chunks_are_swallowed() {
    check(&options(), "S: 220\nC: BDAT 6\nC> NOOP\\r\\n\nS: 503 5.5.1\nC: NOOP\nS: 250");
    check(&options(), "S: 220\nE: x\nC: BDAT 6 LAST\nC> NOOP\\r\\n\nS: 503 5.5.1\nC: NOOP\nS: 250");
    check_transaction(
        &options(),
        r"
        C: BDAT 2
        C> ab
        S: 250
        C: DATA
        S: 503 5.5.1
        C: RCPT TO:<c@b.example>
        S: 503 5.5.1
        C: RSET
        S: 250
        C: MAIL FROM:<a@b.example>
        S: 250
        C: RCPT TO:<a@b.example>
        S: 250
        C: BDAT 1 LAST
        C> c
        S: 250
        B: c
        M: 1",
    );
    let mut options = options();
    options.limits.message_bytes_max = 5;
    check_transaction(
        &options,
        r"
        C: BDAT 3
        C> abc
        S: 250
        C: BDAT 3
        C> abc
        S: 552 5.3.4
        C: BDAT 6
        C> NOOP\r\n
        S: 552 5.3.4
        C: RSET
        S: 250
        C: NOOP
        S: 250
        M: 0",
    );
}

#[test]
fn chunk_counts_that_are_no_numbers_end_the_session() {
    for (count, reply) in [
        ("abc", "501 5.5.4"),
        ("-1", "501 5.5.4"),
        ("+5", "501 5.5.4"),
        ("", "501 5.5.4"),
        ("5 FIRST", "501 5.5.4"),
        ("18446744073709551621", "552 5.3.4"),
        ("99999999999999999999", "552 5.3.4"),
        ("9999999999999999999", "552 5.3.4"),
    ] {
        check_transaction(&options(), &format!("C: BDAT {count}\nS: {reply}\nX:\nM: 0"));
    }
}

#[test]
fn bare_line_ends_in_chunks_are_refused_by_name() {
    for (content, rule) in [
        (r"a\nb\r\n", "bare-lf"),
        (r"a\rb\r\n", "bare-cr"),
        (r"a\0b\r\n", "nul"),
        (r"aaab\r", "bare-cr"),
    ] {
        let octets = unescape(content).len();
        let transcript = format!("{ENVELOPE}\nC: BDAT {octets} LAST\nC> {content}\nS: 550 5.6.0");
        let mut world = World::new(options());
        play(&mut world, &transcript, 1);
        assert_eq!(world.session.summary().refusals.get(rule), Some(&1), "{content}");
        play(&mut world, "C: NOOP\nS: 250\nM: 0", 1);
    }
}

#[test]
fn stuffed_dots_lose_one_dot() {
    check_transaction(
        &options(),
        r"
        C: DATA
        S: 354
        C: ..
        C: ...
        C: ..x
        C: .. x
        C: .y
        C: .
        S: 250
        B: .\r\n..\r\n.x\r\n. x\r\ny\r\n",
    );
}
