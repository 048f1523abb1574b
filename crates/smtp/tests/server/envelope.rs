//! Addresses, and what an envelope tells.

use super::*;

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
