//! What replies mean for recipients, messages and the connection.

use super::*;

#[test]
fn a_421_is_temporary_for_whoever_has_no_reply_yet() {
    let start = "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: RCPT TO:<r1@x.example>
        C: DATA\n";
    for rest in [
        "S: 421 down
        E: results Fresh
        R: 0 not Mail replied 421 down
        R: 1 not Mail replied 421 down
        E: close",
        "s: 250 ok\\r\\n550 no\\r\\n421 down\\r\\n
        E: results Fresh
        R: 0 not Recipient replied 550 no
        R: 1 not Recipient replied 421 down
        E: close",
        "s: 250 ok\\r\\n250 ok\\r\\n250 ok\\r\\n421 down\\r\\n
        E: results Fresh
        R: 0 not Data replied 421 down
        R: 1 not Data replied 421 down
        E: close",
    ] {
        check("PIPELINING", 2, &format!("{start}{rest}"));
    }
}

#[test]
fn too_many_recipients_is_no_failure_once_one_is_accepted() {
    let start = "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: RCPT TO:<r1@x.example>
        C: RCPT TO:<r2@x.example>
        C: RCPT TO:<r3@x.example>
        C: DATA\n";
    check(
        "PIPELINING",
        4,
        &format!(
            "{start}s: 250 ok\\r\\n452 full\\r\\n250 ok\\r\\n452 4.5.3 many\\r\\n552 many\\r\\n
            s: 354 go\\r\\n
            E: need body
            I: end
            C: .
            S: 250 ok
            E: results Fresh
            R: 0 not Recipient replied 452 full
            R: 1 delivered 250 ok
            R: 2 try again here
            R: 3 try again here
            E: ready"
        ),
    );
    check(
        "PIPELINING",
        4,
        &format!(
            "{start}s: 250 ok\\r\\n250 ok\\r\\n452 4.2.2 full\\r\\n552 5.2.2 full\\r\\n251 ok\\r\\n
            s: 451 no\\r\\n
            E: results Fresh
            R: 0 not Data replied 451 no
            R: 1 not Recipient replied 452 4.2.2 full
            R: 2 not Recipient replied 552 5.2.2 full
            R: 3 not Data replied 451 no
            C: RSET
            S: 250 ok
            E: ready"
        ),
    );
}

#[test]
fn a_refused_mail_settles_everyone_and_leaves_the_connection_in_use() {
    check(
        "",
        2,
        "I: start
        C: MAIL FROM:<a@us.example>
        S: 550 5.7.1 not you
        E: results Fresh
        R: 0 not Mail replied 550 5.7.1 not you
        R: 1 not Mail replied 550 5.7.1 not you
        E: ready",
    );
    check(
        "PIPELINING",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        s: 451 later\\r\\n503 no mail\\r\\n503 no rcpt\\r\\n
        E: results Fresh
        R: 0 not Mail replied 451 later
        E: ready",
    );
}

#[test]
fn in_lock_step_an_abandoned_transaction_is_reset_before_data() {
    check(
        "",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        S: 250 ok
        C: RCPT TO:<r0@x.example>
        S: 550 no
        E: results Fresh
        R: 0 not Recipient replied 550 no
        C: RSET
        S: 250 ok
        E: ready
        I: start
        C: MAIL FROM:<a@us.example>",
    );
}

#[test]
fn in_lock_step_a_reply_before_its_command_is_a_protocol_error() {
    check(
        "",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        s: 250 ok\\r\\n250 ok\\r\\n
        E: results Fresh
        R: 0 not Recipient protocol: a reply came before its command
        E: close",
    );
    check(
        "",
        1,
        "S: 250 unasked
        E: failed Mail protocol: a reply came before its command: 250 unasked
        E: close
        I: start
        E: results Fresh
        R: 0 not Mail protocol: a reply came before its command: 250 unasked",
    );
}

#[test]
fn a_354_for_nobody_gets_a_lone_dot_and_delivers_to_nobody() {
    let refused = "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        s: 250 ok\\r\\n550 no\\r\\n354 go\\r\\n
        E: results Fresh\n";
    check(
        "PIPELINING",
        1,
        &format!(
            "{refused}R: 0 not Recipient replied 550 no
            C: .
            S: 250 taken
            E: ready"
        ),
    );
    check_dialect(
        Dialect::Lmtp,
        "PIPELINING",
        1,
        &format!(
            "{refused}R: 0 not Recipient replied 550 no
            E: close"
        ),
    );
}

#[test]
fn a_peer_that_wants_content_again_for_nobody_is_out_of_step() {
    check(
        "PIPELINING",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        s: 250 ok\\r\\n550 no\\r\\n354 go\\r\\n
        E: results Fresh
        R: 0 not Recipient replied 550 no
        C: .
        S: 354 go on
        E: failed Mail protocol: a reply came before its command: 354 go on
        E: close",
    );
}

#[test]
fn a_peer_with_our_own_name_is_ourselves_where_that_is_looked_for() {
    let ours = || Some(Domain::parse("mx.us.example").unwrap());
    for (ourselves, hello, want) in [
        (ours(), "s: 250-MX.us.Example at your service\\r\\n250 SIZE\\r\\n", "ourselves"),
        (ours(), "S: 250 mx.us.example", "ourselves"),
        (ours(), "S: 250 mx.us.example.", ""),
        (ours(), "S: 250 us.example", ""),
        (ours(), "S: 250", ""),
        (ours(), "s: 250-x\\r\\n250 mx.us.example\\r\\n", ""),
        (None, "S: 250 mx.us.example", ""),
    ] {
        let end = if want.is_empty() { "E: ready" } else { "E: failed Hello ourselves\nC: QUIT" };
        let script = format!("S: 220 mx.us.example\nC: EHLO us.example\n{hello}\n{end}");
        let options = Options { ourselves, ..options() };
        check_with(options, transaction("", &[]), &script);
    }
    // Also where it does not know EHLO.
    check_with(
        Options { ourselves: ours(), ..options() },
        transaction("", &[]),
        "S: 220 x\nC: EHLO us.example\nS: 502 what\nC: HELO us.example
        S: 250 mx.us.example\nE: failed Hello ourselves\nC: QUIT",
    );
}

#[test]
fn the_last_code_of_a_reply_counts_and_odd_codes_are_judged_by_their_first_digit() {
    for (reply, accepted) in [
        ("250-yes\\r\\n550 no", false),
        ("550-no\\r\\n250 yes", true),
        ("299 odd", true),
        ("599 odd", false),
        ("250", true),
        ("250 ok\\n250-x\\r\\n250 y", true),
    ] {
        let mut play = Play::new(options(), transaction("", &["b@x.example"]));
        for line in ["S: 220 mx", "S: 250 mx", "I: start", &format!("s: {reply}\\r\\n")] {
            play.line(line);
        }
        let last = play.transcript.lines().last().unwrap();
        // The last of them is two replies at once, in lock-step.
        let want = if reply.contains("\\n250-x") {
            "E: close"
        } else if accepted {
            "C: RCPT TO:<b@x.example>"
        } else {
            "E: ready"
        };
        assert_eq!(last, want, "{reply}");
    }
}

#[test]
fn what_is_no_reply_code_is_a_protocol_error() {
    for reply in ["000 x", "99 x", "199 x", "600 x", "25", "250x", "2500", "text", ""] {
        check(
            "",
            1,
            &format!(
                "I: start
                C: MAIL FROM:<a@us.example>
                s: {reply}\\r\\n
                E: results Fresh
                R: 0 not Mail protocol: a line of a reply does not begin with a reply code
                E: close"
            ),
        );
    }
    check(
        "",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        s: 250 ok\\r
        T: 300
        E: results Fresh
        R: 0 not Mail timed out
        E: close",
    );
}

#[test]
fn lines_of_replies_may_end_in_lf_alone() {
    check_with(
        options(),
        transaction("", &["b@x.example"]),
        "s: 220-mx\\n220 mx\\n
        C: EHLO us.example
        s: 250-mx\\n250 SIZE\\n
        E: ready
        I: start
        C: MAIL FROM:<> SIZE=1000",
    );
}

#[test]
fn a_connection_carries_many_messages_until_the_peer_has_enough() {
    let one = |connection: &str| {
        format!(
            "I: start
            C: MAIL FROM:<a@us.example>
            C: RCPT TO:<r0@x.example>
            C: DATA
            s: 250 ok\\r\\n250 ok\\r\\n354 go\\r\\n
            E: need body
            I: end
            C: .
            S: 250 ok
            E: results {connection}
            R: 0 delivered 250 ok\n"
        )
    };
    let ready = "E: ready\n";
    let (first, more) = (one("Fresh"), one("Reused"));
    let closed = "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        I: closed
        E: results Reused
        R: 0 not Mail cut
        E: close";
    check("PIPELINING", 1, &format!("{first}{ready}{}{closed}", (more.clone() + ready).repeat(48)));
    let quit = "C: QUIT\nS: 221 bye\nE: close";
    check("PIPELINING,LIMITS MAILMAX=2", 1, &format!("{first}{ready}{more}{quit}"));
}

#[test]
fn the_limits_of_the_peer_split_the_recipients() {
    check(
        "PIPELINING,LIMITS RCPTMAX=2",
        3,
        "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: RCPT TO:<r1@x.example>
        C: DATA
        s: 250 ok\\r\\n550 no\\r\\n550 no\\r\\n554 none\\r\\n
        E: results Fresh
        R: 0 not Recipient replied 550 no
        R: 1 not Recipient replied 550 no
        R: 2 try again here
        C: RSET",
    );
    check_with(
        options(),
        transaction("", &["a@x.example", "b@y.example", "c@x.example"]),
        &behind_hello(
            Dialect::Smtp,
            "PIPELINING,LIMITS RCPTDOMAINMAX=1",
            "I: start
            C: MAIL FROM:<>
            C: RCPT TO:<a@x.example>
            C: RCPT TO:<c@x.example>
            C: DATA",
        ),
    );
}

#[test]
fn lmtp_gives_each_accepted_recipient_its_own_reply() {
    let start = "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: RCPT TO:<r1@x.example>
        C: RCPT TO:<r2@x.example>
        C: RCPT TO:<r3@x.example>
        C: RCPT TO:<r4@x.example>
        C: DATA
        s: 250 ok\\r\\n250 ok\\r\\n250 ok\\r\\n250 ok\\r\\n250 ok\\r\\n250 ok\\r\\n354 go\\r\\n
        E: need body
        I: end
        C: .\n";
    for rest in [
        "s: 250 a\\r\\n550 b\\r\\n421 down\\r\\n
        E: results Fresh
        R: 0 delivered 250 a
        R: 1 not EndOfData replied 550 b
        R: 2 not EndOfData replied 421 down
        R: 3 not EndOfData replied 421 down
        R: 4 not EndOfData replied 421 down
        E: close",
        "s: 250 a\\r\\n550 b\\r\\n
        I: closed
        E: results Fresh
        R: 0 delivered 250 a
        R: 1 not EndOfData replied 550 b
        R: 2 not EndOfData cut
        R: 3 not EndOfData cut
        R: 4 not EndOfData cut
        E: close",
        "s: 250 a\\r\\n250 b\\r\\n452 c\\r\\n250 d\\r\\n
        S: 250 e
        E: results Fresh
        R: 0 delivered 250 a
        R: 1 delivered 250 b
        R: 2 not EndOfData replied 452 c
        R: 3 delivered 250 d
        R: 4 delivered 250 e
        E: ready",
    ] {
        check_dialect(Dialect::Lmtp, "PIPELINING", 5, &format!("{start}{rest}"));
    }
}
