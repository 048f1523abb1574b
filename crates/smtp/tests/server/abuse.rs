//! Bad commands, endless lines, time-outs and connections that end.

use super::*;

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
