//! STARTTLS and authentication.

use super::*;

#[test]
fn clear_text_behind_the_reply_to_starttls_ends_the_session() {
    let opportunistic = Options { tls: TlsUse::Opportunistic, ..options() };
    let start = "S: 220 mx
        C: EHLO us.example
        s: 250-mx\\r\\n250 STARTTLS\\r\\n
        C: STARTTLS\n";
    for rest in [
        "s: 220 go\\r\\n250-injected\\r\\n
        E: failed StartTls protocol: clear text follows the reply to STARTTLS
        E: close",
        "s: 220 go\\r\\n2
        E: failed StartTls protocol: clear text follows the reply to STARTTLS
        E: close",
        "S: 220 go
        E: starttls
        S: 250 injected
        E: failed StartTls protocol: clear text follows the reply to STARTTLS
        E: close",
        "S: 220 go
        E: starttls
        I: tls-failed expired
        E: failed StartTls tls: expired
        E: close",
        "S: 454 4.7.0 not now
        E: ready",
    ] {
        check_with(opportunistic.clone(), transaction("", &[]), &format!("{start}{rest}"));
    }
}

#[test]
fn after_starttls_only_the_second_list_of_extensions_counts() {
    check_with(
        Options { tls: TlsUse::Required, ..options() },
        transaction("", &["b@x.example"]),
        "S: 220 mx
        C: EHLO us.example
        s: 250-mx\\r\\n250-SIZE\\r\\n250-PIPELINING\\r\\n250 STARTTLS\\r\\n
        C: STARTTLS
        S: 220 go
        E: starttls
        I: tls-ready
        C: EHLO us.example
        S: 250 mx
        E: ready
        I: start
        C: MAIL FROM:<>",
    );
}

#[test]
fn replies_before_starttls_that_nobody_asked_for_are_a_protocol_error() {
    for early in ["235 you are in", "250 ok"] {
        check_with(
            Options { tls: TlsUse::Required, ..options() },
            transaction("", &[]),
            &format!(
                "s: 220 mx\\r\\n{early}\\r\\n
                E: failed Hello protocol: a reply came before its command
                E: close"
            ),
        );
    }
}

#[test]
fn required_tls_is_never_done_without() {
    for (hello, want) in [
        ("s: 250 mx\\r\\n", "E: failed StartTls lacks StartTls\nC: QUIT"),
        (
            "s: 250-mx\\r\\n250 STARTTLS\\r\\n",
            "C: STARTTLS\nS: 454 no\nE: failed StartTls replied 454 no\nC: QUIT",
        ),
    ] {
        check_with(
            Options { tls: TlsUse::Required, ..options() },
            transaction("", &[]),
            &format!("S: 220 mx\nC: EHLO us.example\n{hello}\n{want}"),
        );
    }
}

#[test]
fn a_password_is_said_only_over_tls() {
    let clear = Options { credential: Some(credential()), ..options() };
    let tls = Options { tls: TlsUse::Implicit, ..clear.clone() };
    let hello = |mechanisms: &str| {
        format!("S: 220 mx\nC: EHLO us.example\ns: 250-mx\\r\\n250 {mechanisms}\\r\\n\n")
    };
    for (options, script) in [
        (&clear, hello("AUTH PLAIN") + "E: failed Auth lacks StartTls\nC: QUIT"),
        (&tls, hello("AUTH LOGIN PLAIN") + "C: AUTH PLAIN AHUAcA==\nS: 235 in\nE: ready"),
        (
            &tls,
            hello("AUTH=LOGIN")
                + "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: dQ==\nS: 334 x\nC: cA==\nS: 235 in\n\
                   E: ready",
        ),
        (
            &tls,
            hello("AUTH PLAIN")
                + "C: AUTH PLAIN AHUAcA==\nS: 535 5.7.8 no\n\
                   E: failed Auth replied 535 5.7.8 no\nC: QUIT",
        ),
        (
            &tls,
            hello("AUTH PLAIN")
                + "C: AUTH PLAIN AHUAcA==\nS: 334 more\n\
                   E: failed Auth protocol: this reply makes no sense here: 334 more\nE: close",
        ),
        (
            &tls,
            hello("AUTH GSSAPI")
                + "E: failed Auth protocol: none of AUTH SCRAM-SHA-256, PLAIN and LOGIN is \
                   offered\nC: QUIT",
        ),
    ] {
        check_with(options.clone(), transaction("", &[]), &script);
    }
    assert!(!format!("{:?}", credential()).contains("password: \"p\""));
}

/// RFC 7677 §3, from the server's nonce on.
const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const PROOF: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SIGNATURE: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

/// What follows the first message of SCRAM; `[…]` stands for Base64 of what is inside.
#[track_caller]
fn check_scram(rest: &str) {
    let text = format!(
        "S: 220 mx\nC: EHLO us.example\ns: 250-mx\\r\\n250 AUTH PLAIN LOGIN SCRAM-SHA-256\\r\\n
        C: AUTH SCRAM-SHA-256 [n,,n=user,r={NONCE}]\n{rest}"
    );
    let mut script = String::new();
    for (at, part) in text.split(['[', ']']).enumerate() {
        script += &if at % 2 == 0 { part.to_owned() } else { STANDARD.encode(part) };
    }
    check_with(scram_options(), transaction("", &[]), &script);
}

#[test]
fn scram_goes_as_in_the_example_of_the_rfc() {
    check_scram(&format!(
        "S: 334 [{CHALLENGE}]\nC: [{PROOF}]\nS: 334 [{SIGNATURE}]\nC:\nS: 235 in\nE: ready"
    ));
}

#[test]
fn a_server_that_cannot_do_scram_rightly_is_left_with_an_asterisk() {
    let signature = "SCRAM: the server does not know the password";
    let malformed = "SCRAM: the server's message is malformed";
    let nonce = "SCRAM: the server's nonce does not continue ours";
    let rounds = "SCRAM: the rounds are not a number from 4096 to 1000000";
    let after_proof = |message: &str| format!("334 [{CHALLENGE}]\nC: [{PROOF}]\nS: 334 {message}");
    for (said, why) in [
        (after_proof("[v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=]"), signature),
        (after_proof("[v=]"), signature),
        (after_proof("%%%"), malformed),
        (after_proof("[e=other]"), "SCRAM: the server names an error and no signature"),
        (format!("334 [r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096]"), nonce),
        ("334 [r=rOprN,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096]".to_owned(), nonce),
        (format!("334 [r={NONCE}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095]"), rounds),
        (format!("334 [r={NONCE}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1000001]"), rounds),
        ("334 %%%".to_owned(), malformed),
        ("334".to_owned(), malformed),
    ] {
        let start = format!("S: {said}\nC: *\n");
        for rest in ["S: 501 as you wish", "S: 235 in"] {
            let end = format!("E: failed Auth protocol: {why}\nC: QUIT\nS: 221 bye\nE: close");
            check_scram(&format!("{start}{rest}\n{end}"));
        }
        for rest in ["S: 421 bye", "I: closed", "T: 300"] {
            let end = format!("E: failed Auth protocol: {why}\nE: close");
            check_scram(&format!("{start}{rest}\n{end}"));
        }
    }
}

#[test]
fn a_refusal_at_any_step_of_scram_is_the_refusal_of_the_credential() {
    for start in [
        String::new(),
        format!("S: 334 [{CHALLENGE}]\nC: [{PROOF}]\n"),
        format!("S: 334 [{CHALLENGE}]\nC: [{PROOF}]\nS: 334 [{SIGNATURE}]\nC:\n"),
    ] {
        check_scram(&format!(
            "{start}S: 535 5.7.8 no\nE: failed Auth replied 535 5.7.8 no\nC: QUIT"
        ));
    }
    check_scram(&format!(
        "S: 334 [{CHALLENGE}]\nC: [{PROOF}]\nS: 334 [{SIGNATURE}]\nC:\nS: 334 more
        E: failed Auth protocol: this reply makes no sense here: 334 more\nE: close"
    ));
}

#[test]
fn success_without_a_signature_is_none() {
    for start in [String::new(), format!("S: 334 [{CHALLENGE}]\nC: [{PROOF}]\n")] {
        check_scram(&format!(
            "{start}S: 235 in
            E: failed Auth protocol: SCRAM: the server agrees without having shown that it knows \
            the password
            E: close"
        ));
    }
}

#[test]
fn the_strongest_mechanism_that_both_know_is_taken() {
    let scram = format!("SCRAM-SHA-256 {}", STANDARD.encode(format!("n,,n=user,r={NONCE}")));
    let plain = "PLAIN AHVzZXIAcGVuY2ls";
    let without_nonce = Options { nonce: None, ..scram_options() };
    for (options, offered, want) in [
        (scram_options(), "PLAIN SCRAM-SHA-256 LOGIN", scram.as_str()),
        (scram_options(), "LOGIN SCRAM-SHA-256-PLUS PLAIN", plain),
        (without_nonce.clone(), "SCRAM-SHA-256 LOGIN PLAIN", plain),
        (without_nonce, "SCRAM-SHA-256 LOGIN", "LOGIN"),
        (scram_options(), "CRAM-MD5 LOGIN", "LOGIN"),
    ] {
        let hello =
            format!("S: 220 mx\nC: EHLO us.example\ns: 250-mx\\r\\n250 AUTH {offered}\\r\\n");
        check_with(options, transaction("", &[]), &format!("{hello}\nC: AUTH {want}"));
    }
}

#[test]
fn a_first_message_that_does_not_fit_into_the_line_follows_the_command() {
    let long = "x".repeat(500);
    let long_password = Credential { password: long.clone(), ..credential() };
    let message = STANDARD.encode(format!("\0u\0{long}"));
    check_with(
        Options { tls: TlsUse::Implicit, credential: Some(long_password), ..options() },
        transaction("", &[]),
        &format!(
            "S: 220 mx\nC: EHLO us.example\ns: 250-mx\\r\\n250 AUTH PLAIN\\r\\n
            C: AUTH PLAIN\nS: 334\nC: {message}\nS: 235 in\nE: ready"
        ),
    );
}

#[test]
fn where_starttls_fails_a_credential_is_kept_back_and_the_caller_can_tell_why() {
    let hello = "S: 220 mx\nC: EHLO us.example
        s: 250-mx\\r\\n250-STARTTLS\\r\\n250 AUTH PLAIN LOGIN SCRAM-SHA-256\\r\\nC: STARTTLS\n";
    let hello = hello.replace("\\r\\nC:", "\\r\\n\nC:");
    for rest in [
        "S: 220 go\nE: starttls\nI: tls-failed expired\nE: failed StartTls tls: expired\nE: close",
        "S: 454 no\nE: failed Auth lacks StartTls\nC: QUIT",
        "S: 502 no\nE: failed Auth lacks StartTls\nC: QUIT",
    ] {
        let options = Options { tls: TlsUse::Opportunistic, ..scram_options() };
        check_with(options, transaction("", &[]), &format!("{hello}{rest}"));
    }
    // The next connection, in the clear: the credential still counts.
    check_with(
        Options { tls: TlsUse::Never, ..scram_options() },
        transaction("", &[]),
        "S: 220 mx\nC: EHLO us.example\ns: 250-mx\\r\\n250 AUTH SCRAM-SHA-256\\r\\n
        E: failed Auth lacks StartTls\nC: QUIT",
    );
}
