//! STARTTLS and submission.

use super::*;

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
