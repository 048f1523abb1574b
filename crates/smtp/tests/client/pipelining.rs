//! Commands that go out together, and replies that must come one by one.

use super::*;

#[test]
fn a_message_goes_out_in_lock_step_where_pipelining_is_not_offered() {
    check(
        "",
        2,
        "I: start
        C: MAIL FROM:<a@us.example>
        S: 250 ok
        C: RCPT TO:<r0@x.example>
        S: 250 ok
        C: RCPT TO:<r1@x.example>
        S: 550 5.1.1 no
        C: DATA
        S: 354 go
        E: need body
        I: body a\\r\\n.b\\r\\n
        C: a
        C: ..b
        I: end
        C: .
        S: 250 2.0.0 taken
        E: results Fresh
        R: 0 delivered 250 2.0.0 taken
        R: 1 not Recipient replied 550 5.1.1 no
        E: ready
        I: quit
        C: QUIT
        S: 221 bye
        E: close",
    );
}

#[test]
fn pipelined_replies_are_mapped_strictly_in_order() {
    check(
        "PIPELINING,SIZE",
        3,
        "I: start
        C: MAIL FROM:<a@us.example> SIZE=1000
        C: RCPT TO:<r0@x.example>
        C: RCPT TO:<r1@x.example>
        C: RCPT TO:<r2@x.example>
        C: DATA
        s: 250 ok\\r\\n550 no\\r\\n450 later
        s: \\r\\n250 ok\\r\\n354 go\\r\\n
        E: need body
        I: body hi
        C: hi\\
        I: end
        C:
        C: .
        S: 250 ok
        E: results Fresh
        R: 0 not Recipient replied 550 no
        R: 1 not Recipient replied 450 later
        R: 2 delivered 250 ok
        E: ready",
    );
}

#[test]
fn surplus_replies_are_a_protocol_error_and_never_the_reply_to_the_end_of_data() {
    check(
        "PIPELINING",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        s: 250 ok\\r\\n250 ok\\r\\n354 go\\r\\n250 taken\\r\\n
        E: results Fresh
        R: 0 not Content protocol: a reply came before its command: 250 taken
        E: close",
    );
}

#[test]
fn missing_replies_end_in_a_time_out() {
    check(
        "PIPELINING",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        s: 250 ok\\r\\n250 ok\\r\\n
        T: 119
        T: 1
        E: results Fresh
        R: 0 not Data timed out
        E: close",
    );
}

#[test]
fn a_reply_that_is_there_before_the_end_of_data_is_a_desync() {
    let to_content = "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        s: 250 ok\\r\\n250 ok\\r\\n354 go\\r\\n
        E: need body
        I: body hi\\r\\n
        C: hi\n";
    for rest in [
        "S: 250 taken
        E: results Fresh
        R: 0 not Content protocol: a reply came before its command: 250 taken
        E: close
        I: end",
        "S: 552 5.3.4 too large
        E: results Fresh
        R: 0 not Content replied 552 5.3.4 too large
        E: close
        I: end",
        "s: 250 tak
        I: end
        E: results Fresh
        R: 0 not Content protocol: a reply came before its command
        E: close",
        "S: 421 4.3.2 going down
        E: results Fresh
        R: 0 not Content replied 421 4.3.2 going down
        E: close",
        "I: closed
        E: results Fresh
        R: 0 not Content cut
        E: close",
        "T: 180
        E: results Fresh
        R: 0 not Content timed out
        E: close",
    ] {
        check("PIPELINING", 1, &format!("{to_content}{rest}"));
    }
}

#[test]
fn a_cut_or_time_out_after_the_final_dot_is_ambiguous_and_waited_for_ten_minutes() {
    let to_end = "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        s: 250 ok\\r\\n250 ok\\r\\n354 go\\r\\n
        E: need body
        I: end
        C: .\n";
    for rest in [
        "I: closed
        E: results Fresh
        R: 0 not EndOfData cut
        E: close",
        "T: 599
        s: 2
        T: 1
        E: results Fresh
        R: 0 not EndOfData timed out
        E: close",
        "S: 451 4.3.0 later
        E: results Fresh
        R: 0 not EndOfData replied 451 4.3.0 later
        E: ready",
        "S: 421 down
        E: results Fresh
        R: 0 not EndOfData replied 421 down
        E: close",
        "S: 354 again
        E: results Fresh
        R: 0 not EndOfData protocol: this reply makes no sense here: 354 again
        E: close",
        "S: 250 ok
        E: results Fresh
        R: 0 delivered 250 ok
        E: ready
        I: closed
        E: failed Mail cut
        E: close",
        "s: 250 ok\\r\\n421 bye\\r\\n
        E: results Fresh
        R: 0 delivered 250 ok
        E: failed Mail replied 421 bye
        E: close",
    ] {
        check("PIPELINING", 1, &format!("{to_end}{rest}"));
    }
}
