//! Verification of recipients, and requests for a message.

use super::*;

#[test]
fn a_verification_ends_before_data() {
    let pipelined = "I: verify
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: RCPT TO:<r1@x.example>
        S: 250 2.1.0 ok
        S: 250 2.1.5 ok
        S: 550 5.1.1 no such user
        E: results Fresh
        R: 0 verified
        R: 1 not Recipient replied 550 5.1.1 no such user
        C: RSET
        S: 250 2.0.0 ok
        E: ready";
    check("PIPELINING", 2, pipelined);
    let in_lock_step = "I: verify
        C: MAIL FROM:<a@us.example>
        S: 250 ok
        C: RCPT TO:<r0@x.example>
        S: 250 ok
        E: results Fresh
        R: 0 verified
        C: RSET
        S: 250 ok
        E: ready
        I: start
        C: MAIL FROM:<a@us.example>
        S: 550 5.7.1 no
        E: results Reused
        R: 0 not Mail replied 550 5.7.1 no
        E: ready";
    check("", 1, in_lock_step);
    let refused = "I: verify
        C: MAIL FROM:<a@us.example>
        S: 451 4.3.0 later
        E: results Fresh
        R: 0 not Mail replied 451 4.3.0 later
        E: ready";
    check("", 1, refused);
    let cut = "I: verify
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        S: 250 ok
        I: closed
        E: results Fresh
        R: 0 not Recipient cut
        E: close";
    check("PIPELINING", 1, cut);
}

/// What asks for nothing that a peer must know of; the session is at 1,000,000 seconds.
fn asking(requests: Requests) -> Transaction {
    Transaction { requests, ..transaction("a@us.example", &["b@x.example"]) }
}

fn deliver_by(seconds: i64, mode: ByMode, is_traced: bool) -> Requests {
    let deadline = Time::from_secs(1_000_000u64.checked_add_signed(seconds).unwrap());
    let deliver_by = Some(DeliverBy { deadline, mode, is_traced });
    Requests { deliver_by, ..Requests::default() }
}

#[test]
fn what_was_asked_for_goes_on_where_it_is_offered() {
    use ByMode::{Notify, Return};
    let priority = |n| Requests { priority: Priority::new(n), ..Requests::default() };
    let required = || Requests { tls: TlsRequest::Required, ..Requests::default() };
    let released = Requests { release_at: Some(Time::from_secs(9)), ..Requests::default() };
    let all = Requests { tls: TlsRequest::Required, priority: Priority::new(-3), ..released };
    for (requests, offered, parameters) in [
        (deliver_by(120, Return, false), "DELIVERBY", " BY=120;R"),
        (deliver_by(120, Return, true), "DELIVERBY 120", " BY=120;RT"),
        (deliver_by(120, Notify, false), "DELIVERBY 240", " BY=120;N"),
        (deliver_by(-7, Notify, true), "DELIVERBY", " BY=-7;NT"),
        (deliver_by(0, Notify, false), "DELIVERBY", " BY=0;N"),
        (deliver_by(-7, Return, false), "DELIVERBY", " BY=1;R"),
        (deliver_by(120, Notify, false), "DSN", ""),
        (deliver_by(5_000_000_000, Notify, false), "DELIVERBY", " BY=999999999;N"),
        (priority(4), "MT-PRIORITY", " MT-PRIORITY=4"),
        (priority(0), "MT-PRIORITY", " MT-PRIORITY=0"),
        (priority(4), "DSN", ""),
        (required(), "REQUIRETLS", " REQUIRETLS"),
        (Requests::default(), "REQUIRETLS,MT-PRIORITY,DELIVERBY", ""),
        (all, "REQUIRETLS,FUTURERELEASE 9 x,MT-PRIORITY", " MT-PRIORITY=-3 REQUIRETLS"),
    ] {
        let script = format!("I: start\nC: MAIL FROM:<a@us.example>{parameters}");
        check_with(options(), asking(requests), &behind_hello(Dialect::Smtp, offered, &script));
    }
}

#[test]
fn what_must_not_be_done_without_is_not_handed_over() {
    let required = || Requests { tls: TlsRequest::Required, ..Requests::default() };
    let returned = || deliver_by(120, ByMode::Return, false);
    for (requests, offered, need) in [
        (required(), "DELIVERBY,STARTTLS", "RequireTls"),
        (returned(), "REQUIRETLS", "DeliverBy"),
        (returned(), "DELIVERBY 121", "DeliverBy"),
        (Requests { tls: TlsRequest::Required, ..returned() }, "DELIVERBY", "RequireTls"),
    ] {
        let script = format!("I: start\nE: results Fresh\nR: 0 not Mail lacks {need}\nE: ready");
        let options = Options { tls: TlsUse::Never, ..options() };
        check_with(options, asking(requests), &behind_hello(Dialect::Smtp, offered, &script));
    }
    // A store is the last hop.
    for requests in [required(), returned()] {
        let options = Options { dialect: Dialect::Lmtp, ..options() };
        let script = "I: start\nC: MAIL FROM:<a@us.example>";
        check_with(options, asking(requests), &behind_hello(Dialect::Lmtp, "DSN", script));
    }
}

/// 350 recipients, and 64 KiB of 0xff for each: little is kept of it, and the code is there.
#[test]
fn little_is_kept_of_what_a_peer_says_without_end() {
    let recipients: Vec<String> = (0..350).map(|n| format!("r{n}@d.example")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let now = Time::from_secs(1);
    let mut session = Session::new(now, Options { recipients_max: 1_000, ..options() });
    session.handle(now, Input::Octets(b"220 hi\r\n"));
    session.handle(now, Input::Octets(b"250-peer\r\n250 PIPELINING\r\n"));
    session.handle(now, Input::Start(transaction("a@b.example", &recipients)));
    while session.poll().is_some() {}
    session.handle(now, Input::Octets(b"250 ok\r\n"));
    let mut refusal = Vec::new();
    for _ in 0..31 {
        refusal.extend_from_slice(b"550-5.1.1 ");
        refusal.extend_from_slice(&[0xff; 2_000]);
        refusal.extend_from_slice(b"\r\n");
    }
    refusal.extend_from_slice(b"550 5.1.1 who\r\n");
    for _ in 0..350 {
        assert_eq!(session.handle(now, Input::Octets(&refusal)), refusal.len());
    }
    session.handle(now, Input::Octets(b"554 5.5.1 nobody\r\n"));
    let results = std::iter::from_fn(|| session.poll()).find_map(|output| {
        if let Output::Results(results) = output { Some(results) } else { None }
    });
    let mut octets = 0;
    for (_, result) in results.unwrap().recipients {
        let RecipientResult::NotDelivered(found) = result else { panic!("{result:?}") };
        let merpati_mail::outcome::Fact::Replied(reply) = found.fact else { panic!() };
        assert_eq!((reply.code, reply.enhanced.unwrap().to_string().as_str()), (550, "5.1.1"));
        assert!(reply.text.ends_with('…'));
        octets += reply.text.len();
    }
    assert!(octets <= 350 * 2_048, "{octets}");
}
