//! DATA and BDAT.

use super::*;

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
