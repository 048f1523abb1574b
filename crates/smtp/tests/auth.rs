//! Sessions in which a client says who it is (RFC 4954), as transcripts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(
    clippy::print_stderr,
    clippy::format_push_string,
    dead_code,
    missing_docs,
    unreachable_pub
)]

mod common;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{World, play, tls};
use merpati_smtp::server::{
    Auth, Channel, MailNeeds, Mechanism, Options, Session, Standing, StartTls,
};

/// A submission listener with every mechanism.
fn submission() -> Options {
    let mut options = Options::new("test", "mx.example");
    options.auth = Auth::OverTls;
    options.mail_needs = MailNeeds::Auth;
    options.starttls = StartTls::Offered;
    options.mechanisms = Mechanism::ALL.to_vec();
    options
}

/// A TLS session to which something can be bound, with a client for whom these names stand.
fn channel(names: Option<&[&str]>) -> Channel {
    let names = names.map(|names| names.iter().map(|&name| name.to_owned()).collect());
    Channel { facts: tls(), binding: Some([7; 32]), names }
}

/// Plays it over this TLS session behind EHLO; what was asked.
#[track_caller]
fn check_over(channel: &Channel, transcript: &str) -> Vec<String> {
    let mut questions = Vec::new();
    for step in [usize::MAX, 1] {
        let mut world = World::over(submission(), Some(channel.clone()));
        play(&mut world, &format!("S: 220\nE: x\n{transcript}"), step);
        questions = world.questions.split_off(2);
    }
    questions
}

/// Plays it over TLS behind EHLO.
fn check_auth(transcript: &str) {
    check_over(&tls().into(), transcript);
}

#[test]
fn the_certificate_of_an_introducer_is_not_that_of_whom_he_introduces() {
    let own = "S: 220\nE: x\nC: AUTH EXTERNAL =\nS: 235";
    let other = "S: 220\nE: x\nC: XCLIENT ADDR=192.0.2.7\nS: 220\nE: x\nC: AUTH EXTERNAL =\nS: 535";
    for transcript in [own, other] {
        let channel = channel(Some(&["ani@a.example"]));
        let mut world = World::over(submission(), None);
        let peer = "192.0.2.9:40000".parse().unwrap();
        let session = Session::new(world.now, submission().into(), peer, Some(channel));
        world.session = session.standing(Standing::Introducer);
        play(&mut world, transcript, usize::MAX);
    }
}

#[test]
fn failures_that_end_without_535_count_as_well() {
    let mut options = submission();
    options.limits.auth_failures_max = 2;
    for fails in [
        format!("C: AUTH XOAUTH2 {XOAUTH2_BAD}\nS: 334\nC: *\nS: 501"),
        "P: locked user\nC: AUTH PLAIN AHUAc2VjcmV0\nS: 454".to_owned(),
    ] {
        let mut world = World::over(options.clone(), Some(tls().into()));
        let last = fails.replace("S: 501", "S: 421 4.7.0").replace("S: 454", "S: 421 4.7.0");
        play(&mut world, &format!("S: 220\nE: x\n{fails}\n{last}\nX:"), usize::MAX);
    }
}

#[test]
fn plain_and_login_are_spoken_with_and_without_initial_response() {
    check_auth("C: AUTH PLAIN AHUAc2VjcmV0\nS: 235 2.7.0");
    check_auth("C: auth plain dQB1AHNlY3JldA==\nS: 235 2.7.0");
    check_auth("C: AUTH PLAIN\nS: 334 \nC: AHUAc2VjcmV0\nS: 235");
    check_auth(
        "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: dQ==\nS: 334 UGFzc3dvcmQ6\nC: c2VjcmV0\nS: 235",
    );
    check_auth("C: AUTH LOGIN dQ==\nS: 334 UGFzc3dvcmQ6\nC: c2VjcmV0\nS: 235");
}

#[test]
fn whatever_is_wrong_with_a_credential_has_one_answer() {
    let denied = "535 5.7.8 The credentials are not valid";
    for response in [
        "AHUAd3Jvbmc=",     // u, wrong
        "AHYAc2VjcmU=",     // v, secre
        "AABzZWNyZXQ=",     // no name
        "AHUA",             // no password
        "dgB1AHNlY3JldA==", // v acts for u
    ] {
        check_auth(&format!("C: AUTH PLAIN {response}\nS: {denied}"));
    }
    check_auth("P: unavailable\nC: AUTH PLAIN AHUAc2VjcmV0\nS: 454 4.7.0");
}

#[test]
fn broken_authentication_is_refused_in_sync() {
    for response in [
        "!!",
        "AHUAc2VjcmV0 x",
        "AHUA c2VjcmV0",
        "AHUAc2VjcmU",
        "=",
        "dXNlcg==",
        "AHUAc2VjcmV0AA==",
    ] {
        check_auth(&format!("C: AUTH PLAIN {response}\nS: 501 5.5.2\nC: NOOP\nS: 250"));
    }
    check_auth("C: AUTH PLAIN\nS: 334\nC: *\nS: 501 5.0.0\nC: NOOP\nS: 250");
    check_auth("C: AUTH CRAM-MD5\nS: 504 5.5.4\nC: AUTH\nS: 501 5.5.4");
    check_auth("C: HELO x\nS: 250\nC: AUTH PLAIN AHUAc2VjcmV0\nS: 503 5.5.1");
    check_auth("C: AUTH PLAIN AHUA\\rc2VjcmV0\nS: 501 5.5.2\nC: NOOP\nS: 250");
}

#[test]
fn authentication_lines_may_be_long_but_not_too_long() {
    let long = "A".repeat(12_288);
    check_auth(&format!("C: AUTH PLAIN\nS: 334\nC: {long}\nS: 501 5.5.2\nC: NOOP\nS: 250"));
    let longer = "A".repeat(20_000);
    check_auth(&format!("C: AUTH PLAIN\nS: 334\nC: {longer}\nS: 500 5.5.6\nC: NOOP\nS: 250"));
    check_auth(&format!("C: AUTH PLAIN {longer}\nS: 500 5.5.6\nC: NOOP\nS: 250"));
}

#[test]
fn guessing_passwords_ends_the_session() {
    let wrong = "C: AUTH PLAIN AHUAd3Jvbmc=\nS: 535\n".repeat(9);
    check_auth(&format!("{wrong}C: AUTH PLAIN AHUAd3Jvbmc=\nS: 421 4.7.0\nX:"));
}

#[test]
fn authentication_has_no_place_in_a_transaction() {
    let mut options = submission();
    options.mail_needs = MailNeeds::Nothing;
    for step in [usize::MAX, 1] {
        let mut world = World::over(options.clone(), Some(tls().into()));
        let transcript = "
            S: 220
            E: x
            C: MAIL FROM:<a@a.example>
            S: 250
            C: AUTH PLAIN AHUAc2VjcmV0
            S: 503 5.5.1
            C: AUTH SCRAM-SHA-256
            S: 503 5.5.1";
        play(&mut world, transcript, step);
    }
}

#[test]
fn what_is_told_is_what_can_be_used() {
    let check = |channel: &Channel, mechanisms: &[Mechanism], want: Option<&str>| {
        let mut options = submission();
        options.mechanisms = mechanisms.to_vec();
        let mut world = World::over(options, Some(channel.clone()));
        common::send(&mut world, b"EHLO x\r\n", usize::MAX);
        let reply = String::from_utf8(world.sent).unwrap();
        let told = reply.lines().find_map(|line| line.get(4..)?.strip_prefix("AUTH "));
        assert_eq!(told, want);
    };
    let all = Mechanism::ALL;
    let clear = Channel::from(tls());
    check(&clear, &all, Some("SCRAM-SHA-256 OAUTHBEARER XOAUTH2 PLAIN LOGIN"));
    let bound = "SCRAM-SHA-256-PLUS SCRAM-SHA-256 OAUTHBEARER XOAUTH2 PLAIN LOGIN";
    check(&channel(None), &all, Some(bound));
    check(&channel(Some(&[])), &all, Some(bound));
    check(&channel(Some(&["a"])), &all, Some(&bound.replace(" OAUTH", " EXTERNAL OAUTH")));
    check(&clear, &[Mechanism::Plain], Some("PLAIN"));
    check(&clear, &[Mechanism::ScramSha256Plus, Mechanism::External], None);
    check(&clear, &[], None);
}

#[test]
fn a_mechanism_that_a_listener_does_not_have_is_not_known() {
    let mut options = submission();
    options.mechanisms = vec![Mechanism::ScramSha256];
    let mut world = World::over(options, Some(channel(Some(&["a"]))));
    let tries = ["PLAIN AHUAc2VjcmV0", "LOGIN", "EXTERNAL =", "SCRAM-SHA-256-PLUS", "XOAUTH2"];
    let tries = tries.map(|auth| format!("C: AUTH {auth}\nS: 504 5.5.4\n"));
    play(&mut world, &format!("S: 220\nE: x\n{}", tries.concat()), usize::MAX);
    check_auth("C: AUTH SCRAM-SHA-256-PLUS\nS: 504 5.5.4");
}

#[test]
fn scram_shows_each_end_that_the_other_knows_the_password() {
    let (first, challenge, last, signature) = SCRAM;
    for (begin, end) in [
        (format!("C: AUTH SCRAM-SHA-256 {first}"), "C:"),
        (format!("C: AUTH scram-sha-256\nS: 334 \nC: {first}"), "C: ="),
    ] {
        let questions = check_over(
            &tls().into(),
            &format!(
                "{begin}
                S: 334 {challenge}
                C: {last}
                S: 334 {signature}
                C: NOOP
                S: 501 5.5.2
                C: MAIL FROM:<a@a.example>
                S: 530 5.7.0
                {begin}
                S: 334 {challenge}
                C: {last}
                S: 334 {signature}
                {end}
                S: 235 2.7.0
                C: MAIL FROM:<a@a.example>
                S: 250"
            ),
        );
        assert_eq!(questions[..2], ["verifier user", "shown Some(\"user\") Some(\"user\")"]);
    }
}

#[test]
fn a_wrong_proof_and_an_unknown_user_are_answered_alike() {
    for (first, challenge, last, _) in [SCRAM_WRONG, SCRAM_NOBODY] {
        let questions = check_over(
            &tls().into(),
            &format!(
                "C: AUTH SCRAM-SHA-256 {first}
                S: 334 {challenge}
                C: {last}
                S: 535 5.7.8 The credentials are not valid
                C: AUTH SCRAM-SHA-256 {first}
                S: 334 {challenge}
                C: *
                S: 501 5.0.0"
            ),
        );
        assert!(questions[1].starts_with("shown") && questions[1].ends_with("None"));
    }
    check_auth("P: unavailable\nC: AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9eA==\nS: 454 4.7.0");
    check_auth("C: AUTH SCRAM-SHA-256 biws\nS: 501 5.5.2\nC: NOOP\nS: 250");
    // n,a=other,n=user,r=x
    check_auth("C: AUTH SCRAM-SHA-256 bixhPW90aGVyLG49dXNlcixyPXg=\nS: 535 5.7.8");
}

#[test]
fn scram_plus_is_bound_to_this_tls_session() {
    let (first, challenge, last, signature) = SCRAM_PLUS;
    let channel = channel(None);
    check_over(
        &channel,
        &format!(
            "C: AUTH SCRAM-SHA-256-PLUS {first}
            S: 334 {challenge}
            C: {last}
            S: 334 {signature}
            C:
            S: 235"
        ),
    );
    let (first, challenge, last, _) = SCRAM_PLUS_ELSEWHERE;
    check_over(
        &channel,
        &format!(
            "C: AUTH SCRAM-SHA-256-PLUS {first}
            S: 334 {challenge}
            C: {last}
            S: 535 5.7.8"
        ),
    );
    let (first, ..) = SCRAM_PLUS;
    check_over(&channel, &format!("C: AUTH SCRAM-SHA-256 {first}\nS: 501 5.5.2"));
}

#[test]
fn a_client_that_was_not_told_of_channel_binding_is_warned_by_failing() {
    let (first, challenge, last, signature) = SCRAM_Y;
    let questions = check_over(&channel(None), &format!("C: AUTH SCRAM-SHA-256 {first}\nS: 535"));
    assert_eq!(questions, ["shown None None"]);
    let whole = format!(
        "C: AUTH SCRAM-SHA-256 {first}
        S: 334 {challenge}
        C: {last}
        S: 334 {signature}
        C:
        S: 235"
    );
    check_auth(&whole);
    // Where the operator does not want it, it was not offered to anybody.
    let mut options = submission();
    options.mechanisms.retain(|mechanism| *mechanism != Mechanism::ScramSha256Plus);
    let mut world = World::over(options, Some(channel(None)));
    play(&mut world, &format!("S: 220\nE: x\n{whole}"), usize::MAX);
}

#[test]
fn a_token_is_taken_or_refused_in_two_steps() {
    for (mechanism, good, bad, refusal) in [
        ("XOAUTH2", XOAUTH2_GOOD, XOAUTH2_BAD, "eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIn0="),
        ("OAUTHBEARER", OAUTH_GOOD, OAUTH_BAD, "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0="),
    ] {
        for answer in ["AQ==", "", "=", "!"] {
            check_auth(&format!(
                "C: AUTH {mechanism} {bad}
                S: 334 {refusal}
                C: {answer}
                S: 535 5.7.8 The credentials are not valid
                C: AUTH {mechanism}
                S: 334
                C: {good}
                S: 235 2.7.0"
            ));
        }
        check_auth(&format!("C: AUTH {mechanism} {bad}\nS: 334 {refusal}\nC: *\nS: 501 5.0.0"));
        check_auth(&format!("P: unavailable\nC: AUTH {mechanism} {good}\nS: 454 4.7.0"));
        check_auth(&format!("C: AUTH {mechanism} AAAA\nS: 501 5.5.2"));
    }
    check_auth(&format!("C: AUTH OAUTHBEARER {OAUTH_ASKS}\nS: 334 eyJ\nC: AQ==\nS: 535"));
}

#[test]
fn a_certificate_speaks_for_its_names_and_nothing_else_does() {
    let with = channel(Some(&["ani@a.example", "host.a.example"]));
    for (response, acts_as) in [("=", "None"), ("YW5p", "Some(\"ani\")")] {
        let questions = check_over(&with, &format!("C: AUTH EXTERNAL {response}\nS: 235"));
        assert_eq!(questions, [format!("certificate {acts_as}")]);
        check_over(&with, &format!("C: AUTH EXTERNAL\nS: 334 \nC: {response}\nS: 235"));
    }
    check_over(&with, "C: AUTH EXTERNAL\nS: 334 \nC:\nS: 235");
    check_over(&with, "P: denied after 0 s\nC: AUTH EXTERNAL Ym9i\nS: 535 5.7.8");
    check_over(&with, "C: AUTH EXTERNAL AA==\nS: 535 5.7.8");
    check_over(&with, "C: AUTH EXTERNAL !\nS: 501 5.5.2");
    for without in [channel(None), channel(Some(&[]))] {
        let questions = check_over(&without, "C: AUTH EXTERNAL =\nS: 535 5.7.8");
        assert_eq!(questions, ["shown None None"]);
    }
}

#[test]
fn who_guesses_waits_and_who_hangs_up_has_still_failed() {
    check_auth(
        "P: denied after 3 s
        C: AUTH PLAIN AHUAd3Jvbmc=
        S-
        C: NOOP
        S-
        T: 2 s
        S-
        T: 1 s
        S: 535 5.7.8
        S: 250 2.0.0
        P: denied after 3 s
        C: AUTH PLAIN AHUAd3Jvbmc=
        I: shutdown
        S-
        T: 3 s
        S: 535
        S: 421
        X:",
    );
    check_auth("P: denied after 3 s\nC: AUTH PLAIN AHUAd3Jvbmc=\nI: closed\nX:");
}

#[test]
fn too_many_failures_lock_an_address_out_and_a_user_for_strangers() {
    check_auth("P: locked address\nC: AUTH PLAIN AHUAc2VjcmV0\nS: 421 4.7.0\nX:");
    let user = "P: locked user\nC: AUTH PLAIN AHUAc2VjcmV0\nS: 454 4.7.0\nC: NOOP\nS: 250";
    check_auth(user);
    let (first, ..) = SCRAM;
    check_auth(&format!("P: locked user\nC: AUTH SCRAM-SHA-256 {first}\nS: 454 4.7.0"));
}

#[test]
fn passwords_are_prepared_and_never_cut_off() {
    let plain = |text: &str| STANDARD.encode(text);
    let long = "x".repeat(9_000);
    for (text, want) in [
        ("\0cafe\u{301}\0secret".to_owned(), "password caf\u{e9}"),
        ("caf\u{e9}\0cafe\u{301}\0secret".to_owned(), "password caf\u{e9}"),
        (format!("\0u\0{long}"), "password u"),
        ("\0u\0a\tb".to_owned(), "shown Some(\"u\") None"),
        ("\0a\nb\0secret".to_owned(), "shown None None"),
        ("v\0u\0secret".to_owned(), "shown Some(\"u\") None"),
    ] {
        let mut world = World::over(submission(), Some(tls().into()));
        let line = format!("EHLO x\r\nAUTH PLAIN {}\r\n", plain(&text));
        common::send(&mut world, line.as_bytes(), usize::MAX);
        assert_eq!(world.questions.last().map(String::as_str), Some(want), "{text:?}");
    }
    // LOGIN with a NUL in it.
    check_auth("C: AUTH LOGIN dQ==\nS: 334\nC: c2VjAHJldA==\nS: 535 5.7.8");
}

#[test]
fn the_auth_parameter_is_checked_and_forgotten() {
    let logged_in = "C: AUTH PLAIN AHUAc2VjcmV0\nS: 235\n";
    let long = "x".repeat(10_240);
    for (value, reply) in [
        ("<>", "250"),
        ("ani+2Bx@a.example", "250"),
        ("ani@a.example", "250"),
        ("e+3DmC+C3+A9@a.example", "250"),
        ("a+0Ab", "501 5.5.4"),
        ("a+0D+0Ab", "501 5.5.4"),
        ("a+7F", "501 5.5.4"),
        ("a+2b", "501 5.5.4"),
        ("a+2", "501 5.5.4"),
        ("a+", "501 5.5.4"),
        ("a=b", "501 5.5.4"),
        ("", "501 5.5.4"),
        (&long, "500 5.5.2"),
    ] {
        check_auth(&format!("{logged_in}C: MAIL FROM:<a@a.example> AUTH={value}\nS: {reply}"));
    }
}

/// What a client and a server with the keys of the tests say: the first message, the challenge, the
/// last message, the signature. The password is `pencil`, the user `user`.
type Exchange = (&'static str, &'static str, &'static str, &'static str);

const SCRAM: Exchange = (
    "biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=",
    "cj1yT3ByTkdmd0ViZVJXZ2JORWtxT0FBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQSxzPVcyMlphSjBTTlk3c29F\
     c1VFamI2Z1E9PSxpPTQwOTY=",
    "Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU9BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUEscD1tbnRLSVVF\
     ZVZ1d3ZHblFxeGRCenpZc2pBZEtlNVdsVG82YXlnMDhRa3NNPQ==",
    "dj1RcVJQUUszdXhwT0Rmczg0V0VkN0g3YjFOeUVabkFuWjVnelRVNkRDY2VnPQ==",
);
/// With another password.
const SCRAM_WRONG: Exchange = (
    "biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=",
    "cj1yT3ByTkdmd0ViZVJXZ2JORWtxT0FBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQSxzPVcyMlphSjBTTlk3c29F\
     c1VFamI2Z1E9PSxpPTQwOTY=",
    "Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU9BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUEscD15S1NTcENB\
     cXc2SHdqcVVWSW9paFRpY1ptYXRGa0JzMGVtUlJkSklicktzPQ==",
    "dj11dG8zZzJoUGluSUZHZGxHSldrZnJCbEdYR1M2bG0rM2ZabkRmZG9CUUZVPQ==",
);
/// As `nobody`.
const SCRAM_NOBODY: Exchange = (
    "biwsbj1ub2JvZHkscj1yT3ByTkdmd0ViZVJXZ2JORWtxTw==",
    "cj1yT3ByTkdmd0ViZVJXZ2JORWtxT0FBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQSxzPVcyMlphSjBTTlk3c29F\
     c1VFamI2Z1E9PSxpPTQwOTY=",
    "Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU9BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUEscD16SGV2L0pO\
     aDlmSzZKZDlGYnpIcUVwVytTcG43T0FjajhoTXNhdTRzS2FBPQ==",
    "dj1WUnNqaHdsR3pjQXVsRGg3Q1o1TmdyaThwOGhuS1pYemkzZkZnUC9Udmd3PQ==",
);
/// By a client that believes that we have no channel binding.
const SCRAM_Y: Exchange = (
    "eSwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=",
    "cj1yT3ByTkdmd0ViZVJXZ2JORWtxT0FBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQSxzPVcyMlphSjBTTlk3c29F\
     c1VFamI2Z1E9PSxpPTQwOTY=",
    "Yz1lU3dzLHI9ck9wck5HZndFYmVSV2diTkVrcU9BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUEscD1VR05qNnk1\
     bUFVUExkcUJBQkp6d2hkeDVlU0t6YndIYXNGUHI3Nk1EYTg4PQ==",
    "dj1tSU5hNEFwaWp1YlR6NzdLZzVpSG5jbnpsMlRkMTlnc0g4eVpFY28rTXYwPQ==",
);
/// Bound to 32 times 7.
const SCRAM_PLUS: Exchange = (
    "cD10bHMtZXhwb3J0ZXIsLG49dXNlcixyPXJPcHJOR2Z3RWJlUldnYk5Fa3FP",
    "cj1yT3ByTkdmd0ViZVJXZ2JORWtxT0FBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQSxzPVcyMlphSjBTTlk3c29F\
     c1VFamI2Z1E9PSxpPTQwOTY=",
    "Yz1jRDEwYkhNdFpYaHdiM0owWlhJc0xBY0hCd2NIQndjSEJ3Y0hCd2NIQndjSEJ3Y0hCd2NIQndjSEJ3Y0hC\
     d2NILHI9ck9wck5HZndFYmVSV2diTkVrcU9BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUEscD1LdEtWbmNmOGlu\
     d05iOXV0TnRWUjh3NWltV0ZqSEZKWWFkZzliL0lUbDVJPQ==",
    "dj1wdFlvOHRoS1JCaWVqOU1zWlRheEpmbUpCQW5zamgxWFozcDQrV0FRNVVBPQ==",
);
/// Bound to 32 times 8.
const SCRAM_PLUS_ELSEWHERE: Exchange = (
    "cD10bHMtZXhwb3J0ZXIsLG49dXNlcixyPXJPcHJOR2Z3RWJlUldnYk5Fa3FP",
    "cj1yT3ByTkdmd0ViZVJXZ2JORWtxT0FBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQSxzPVcyMlphSjBTTlk3c29F\
     c1VFamI2Z1E9PSxpPTQwOTY=",
    "Yz1jRDEwYkhNdFpYaHdiM0owWlhJc0xBZ0lDQWdJQ0FnSUNBZ0lDQWdJQ0FnSUNBZ0lDQWdJQ0FnSUNBZ0lD\
     QWdJLHI9ck9wck5HZndFYmVSV2diTkVrcU9BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUEscD0yK0xBZC8zQzEr\
     VG9NUk9qdTV2T252QjJjdjFaL0gyVWdLQWIraG1rT1NJPQ==",
    "dj1nblE2UkJwL3dyK2xVanhhUzBINWZBODlGOVd2UDBNczhNRGZjL2ZxeXRJPQ==",
);
const XOAUTH2_GOOD: &str = "dXNlcj1hbmkBYXV0aD1CZWFyZXIgZ29vZAEB";
const XOAUTH2_BAD: &str = "dXNlcj1hbmkBYXV0aD1CZWFyZXIgYmFkAQE=";
const OAUTH_GOOD: &str = "bixhPWFuaSwBaG9zdD1teAFhdXRoPUJlYXJlciBnb29kAQE=";
const OAUTH_BAD: &str = "biwsAWF1dGg9QmVhcmVyIGJhZAEB";
const OAUTH_ASKS: &str = "biwsAQE=";
