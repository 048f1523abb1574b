//! Groups of commands, and clients that do not wait.

use super::*;

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
