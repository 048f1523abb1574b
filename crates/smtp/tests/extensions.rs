#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::format_push_string, missing_docs, unreachable_pub)]

mod common;

use std::time::Duration;

use common::{World, play, tls};
use merpati_mail::{ByMode, Priority, Requests, Time, TlsRequest};
use merpati_smtp::server::{Auth, MailNeeds, Offer, Offers, Options};

/// A relay that offers all that there is.
fn relay() -> Options {
    let mut options = Options::new("mx", "mx.example");
    options.auth = Auth::Anywhere;
    options.offers = Offers {
        deliver_by_min: Some(Duration::ZERO),
        future_release_max: Some(Duration::from_hours(24)),
        mt_priority: Offer::Offered,
        require_tls: Offer::Offered,
    };
    options
}

fn submission() -> Options {
    let mut options = relay();
    options.mail_needs = MailNeeds::Auth;
    options
}

/// Plays it with whole segments and octet by octet.
fn check(options: &Options, transcript: &str) {
    for step in [usize::MAX, 1, 3] {
        play(&mut World::new(options.clone()), transcript, step);
    }
}

/// Gives each of these parameters to MAIL, and compares the beginning of the reply.
fn check_mail(options: &Options, before: &str, cases: &[(&str, &str)]) {
    let mut transcript = format!("S: 220\nE: x\n{before}\n");
    for (parameters, reply) in cases {
        transcript.push_str(&format!("C: MAIL FROM:<a@a.example> {parameters}\nS: {reply}\n"));
        transcript.push_str("C: RSET\nS: 250\n");
    }
    check(options, &transcript);
}

/// What is asked for with a message that came with these parameters.
fn asked(options: Options, before: &str, parameters: &str) -> (Requests, Time) {
    let mut world = World::over(options, Some(tls().into()));
    let transcript = format!(
        "S: 220
        E: x
        {before}
        C: MAIL FROM:<a@a.example> {parameters}
        S: 250
        C: RCPT TO:<b@b.example>
        S: 250
        C: DATA
        S: 354
        C: .
        S: 250"
    );
    play(&mut world, &transcript, usize::MAX);
    (world.messages.pop().unwrap().0.requests, world.now)
}

const LOGIN: &str = "C: AUTH PLAIN AHUAc2VjcmV0\nS: 235";

#[test]
fn ehlo_names_what_is_taken_in_this_state() {
    let mut options = relay();
    options.offers.deliver_by_min = Some(Duration::from_mins(4));
    options.limits.transactions_max = 50;
    let before_login = "
        S: 250-mx.example greets
        S: 250-SIZE
        S: 250-PIPELINING
        S: 250-8BITMIME
        S: 250-SMTPUTF8
        S: 250-CHUNKING
        S: 250-ENHANCEDSTATUSCODES
        S: 250-DSN
        S: 250-HELP";
    let transcript = format!(
        "S: 220
        C: EHLO x
        {before_login}
        S: 250-AUTH
        S: 250-DELIVERBY 240
        S: 250-MT-PRIORITY
        S: 250-REQUIRETLS
        S: 250 LIMITS RCPTMAX=1000 MAILMAX=50
        {LOGIN}
        C: EHLO x
        {before_login}
        S: 250-DELIVERBY 240
        S: 250-FUTURERELEASE 86400 1970-01-13T13:46:40Z
        S: 250-MT-PRIORITY
        S: 250-REQUIRETLS
        S: 250 LIMITS RCPTMAX=1000 MAILMAX=50"
    );
    play(&mut World::over(options, Some(tls().into())), &transcript, usize::MAX);
}

#[test]
fn nothing_is_taken_that_is_not_offered_nor_after_helo() {
    let absent = Options::new("mx", "mx.example");
    let names = ["BY=120;R", "HOLDFOR=60", "MT-PRIORITY=1", "REQUIRETLS", "BODY=BINARYMIME"];
    for options in [absent, relay()] {
        let mut transcript = "S: 220\nC: HELO x\nS: 250\n".to_owned();
        for name in names {
            transcript.push_str(&format!("C: MAIL FROM:<a@a.example> {name}\nS: 555 5.5.4\n"));
        }
        check(&options, &transcript);
    }
    let refused = names.map(|name| (name, "555 5.5.4"));
    check_mail(&Options::new("mx", "mx.example"), "", &refused);
    // In the clear, and to somebody who has not authenticated.
    check_mail(&relay(), "", &[("REQUIRETLS", "555 5.5.4"), ("HOLDFOR=60", "555 5.5.4")]);
    check_mail(&relay(), LOGIN, &[("HOLDFOR=60", "250"), ("REQUIRETLS", "555 5.5.4")]);
    check_mail(&submission(), "", &[("HOLDFOR=60", "530 5.7.0")]);
}

#[test]
fn a_refused_parameter_changes_nothing() {
    check(
        &relay(),
        "
        S: 220
        E: x
        C: MAIL FROM:<a@a.example> BY=0;R
        S: 501 5.5.4
        C: RCPT TO:<b@b.example>
        S: 503 5.5.1
        C: MAIL FROM:<a@a.example>
        S: 250
        C: MAIL FROM:<c@c.example> BY=5;N
        S: 503 5.5.1
        C: RCPT TO:<b@b.example> BY=5;N
        S: 555 5.5.4
        C: RCPT TO:<b@b.example>
        S: 250",
    );
}

#[test]
fn deliver_by_has_nine_digits_and_returns_only_what_has_time() {
    let cases = [
        ("BY=120;R", "250"),
        ("BY=+5;N", "250"),
        ("BY=-5;N", "250"),
        ("BY=0;N", "250"),
        ("by=120;rt", "250"),
        ("BY=999999999;N", "250"),
        ("BY=-5;R", "501 5.5.4"),
        ("BY=0;R", "501 5.5.4"),
        ("BY=1234567890;R", "501 5.5.4"),
        ("BY=;R", "501 5.5.4"),
        ("BY=5", "501 5.5.4"),
        ("BY", "501 5.5.4"),
        ("BY=5;", "501 5.5.4"),
        ("BY=5;X", "501 5.5.4"),
        ("BY=5;RTT", "501 5.5.4"),
        ("BY=+-5;N", "501 5.5.4"),
        ("BY=5;N BY=6;N", "501 5.5.4"),
    ];
    check_mail(&relay(), "", &cases);
    let mut options = relay();
    options.offers.deliver_by_min = Some(Duration::from_mins(1));
    let cases = [("BY=59;R", "555 5.5.4"), ("BY=60;R", "250"), ("BY=1;N", "250")];
    check_mail(&options, "", &cases);
    for (parameters, seconds, mode, is_traced) in [
        ("BY=120;R", 120, ByMode::Return, false),
        ("BY=+5;NT", 5, ByMode::Notify, true),
        ("BY=-5;N", -5, ByMode::Notify, false),
    ] {
        let (requests, now) = asked(relay(), "", parameters);
        let by = requests.deliver_by.unwrap();
        assert_eq!((by.mode, by.is_traced), (mode, is_traced), "{parameters}");
        let secs = now.as_secs().checked_add_signed(seconds).unwrap();
        assert_eq!(by.deadline, Time::from_secs(secs), "{parameters}");
    }
}

#[test]
fn a_release_in_future_has_a_limit_and_one_in_the_past_is_now() {
    // The session is at 1970-01-12T13:46:40Z, and messages are held for a day at most.
    let cases = [
        ("HOLDFOR=60", "250"),
        ("HOLDFOR=86400", "250"),
        ("HOLDFOR=86401", "501 5.5.4"),
        ("HOLDFOR=0", "501 5.5.4"),
        ("HOLDFOR=060", "501 5.5.4"),
        ("HOLDFOR=-1", "501 5.5.4"),
        ("HOLDFOR=1234567890", "501 5.5.4"),
        ("HOLDFOR", "501 5.5.4"),
        ("HOLDUNTIL=1970-01-13T13:46:40Z", "250"),
        ("HOLDUNTIL=1970-01-13T13:46:41Z", "501 5.5.4"),
        ("HOLDUNTIL=1970-01-13T14:46:40+01:00", "250"),
        ("HOLDUNTIL=1970-01-12T13:46:40Z", "250"),
        ("HOLDUNTIL=1969-01-12T13:46:40Z", "250"),
        ("HOLDUNTIL=1970-01-12", "501 5.5.4"),
        ("HOLDUNTIL=tomorrow", "501 5.5.4"),
        ("HOLDFOR=60 HOLDUNTIL=1970-01-12T13:50:00Z", "501 5.5.4"),
        ("HOLDUNTIL=1970-01-12T13:50:00Z HOLDFOR=60", "501 5.5.4"),
        ("HOLDFOR=60 HOLDFOR=60", "501 5.5.4"),
    ];
    check_mail(&relay(), LOGIN, &cases);
    for (parameters, released) in [
        ("HOLDFOR=60", Some(1_000_060)),
        ("HOLDUNTIL=1970-01-12T13:46:41Z", Some(1_000_001)),
        ("HOLDUNTIL=1970-01-12T13:46:40Z", None),
        ("HOLDUNTIL=1969-12-31T23:59:59Z", None),
    ] {
        let (requests, _) = asked(submission(), LOGIN, parameters);
        assert_eq!(requests.release_at, released.map(Time::from_secs), "{parameters}");
    }
    // The time for the delivery of what is held begins with its release.
    let (requests, _) = asked(submission(), LOGIN, "HOLDFOR=60 BY=30;R");
    assert_eq!(requests.deliver_by.unwrap().deadline, Time::from_secs(1_000_090));
}

#[test]
fn a_priority_is_a_number_and_may_be_lowered() {
    let cases = [
        ("MT-PRIORITY=9", "250 2.1.0"),
        ("MT-PRIORITY=-9", "250 2.1.0"),
        ("mt-priority=0", "250 2.1.0"),
        ("MT-PRIORITY=10", "501 5.5.4"),
        ("MT-PRIORITY=-10", "501 5.5.4"),
        ("MT-PRIORITY=+1", "501 5.5.4"),
        ("MT-PRIORITY=-0", "501 5.5.4"),
        ("MT-PRIORITY=01", "501 5.5.4"),
        ("MT-PRIORITY=x", "501 5.5.4"),
        ("MT-PRIORITY=", "501 5.5.4"),
        ("MT-PRIORITY", "501 5.5.4"),
        ("MT-PRIORITY=1 MT-PRIORITY=1", "501 5.5.4"),
    ];
    check_mail(&relay(), "", &cases);
    assert_eq!(asked(relay(), "", "MT-PRIORITY=4").0.priority, Priority::new(4));
    assert_eq!(asked(relay(), "", "").0, Requests::default());
    let mut world = World::new(relay());
    play(
        &mut world,
        "S: 220
        E: x
        Q: mail lowered 0
        C: MAIL FROM:<a@a.example> MT-PRIORITY=4
        S: 250 2.3.6 0 
        C: RCPT TO:<b@b.example>
        S: 250
        C: DATA
        S: 354
        C: .
        S: 250",
        usize::MAX,
    );
    assert_eq!(world.messages[0].0.requests.priority, Priority::new(0));
}

#[test]
fn required_tls_takes_no_value() {
    let (requests, _) = asked(relay(), "", "REQUIRETLS");
    assert_eq!(requests.tls, TlsRequest::Required);
    let transcript = "S: 220
        E: x
        C: MAIL FROM:<a@a.example> REQUIRETLS=1
        S: 501 5.5.4
        C: MAIL FROM:<a@a.example> REQUIRETLS REQUIRETLS
        S: 501 5.5.4
        C: MAIL FROM:<a@a.example> RequireTls
        S: 250";
    play(&mut World::over(relay(), Some(tls().into())), transcript, usize::MAX);
}

#[test]
fn limits_that_six_digits_cannot_tell_are_not_told() {
    let mut options = Options::new("mx", "mx.example");
    options.limits.recipients_max = 1_000_000;
    let transcript = "S: 220
        C: EHLO x
        S: 250-mx
        S: 250-SIZE
        S: 250-PIPELINING
        S: 250-8BITMIME
        S: 250-SMTPUTF8
        S: 250-CHUNKING
        S: 250-ENHANCEDSTATUSCODES
        S: 250-DSN
        S: 250 HELP";
    check(&options, transcript);
}
