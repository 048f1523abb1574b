//! Commands, their order and their parameters.

use super::*;

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
