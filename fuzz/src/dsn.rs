//! Whether a report is well-formed whatever a peer and an originator said. Pure.

use merpati_flow::{
    Loaded,
    outcome::Voice,
    report::{Desk, Item, News, answer},
};
use merpati_mail::{Domain, EnhancedCode, ForwardPath, Mailbox, QueueId, Recipient, Reply, Time};

use crate::{plan::Plan, samples};

/// The first line is the plan; the rest, cut at NUL, is the reply, ORCPT, ENVID, an address and the
/// header of the message, which may end anywhere.
pub fn dsn(octets: &[u8]) {
    let (mut plan, rest) = Plan::split(octets);
    let mut parts = rest.splitn(5, |&octet| octet == 0);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (said, orcpt, envid, address) = (text(), text(), text(), text());
    let header = storable(parts.next().unwrap_or_default());

    let mut message = samples::accepted(QueueId::from_bits(5), 100);
    if plan.below(2) == 1 {
        message.envelope.envid = Some(envid);
    }
    if let Ok(mailbox) = Mailbox::parse(&address) {
        let path = ForwardPath::Mailbox(mailbox.clone());
        message.envelope.recipients.push(Recipient { path, notify: None, orcpt: Some(orcpt) });
        if plan.below(2) == 1 {
            message.envelope.reverse_path.0 = Some(mailbox);
        }
    }
    let enhanced = EnhancedCode { class: 5, subject: u16::from(plan.next()), detail: 999 };
    let code = 400 + u16::from(plan.next());
    let enhanced = Some(enhanced).filter(|_| code.is_multiple_of(2));
    let reply = Reply { code, enhanced, text: said.into() };
    let failures: Vec<Item> = (0..u32::try_from(message.envelope.recipients.len()).unwrap_or(0))
        .map(|recipient| {
            let remote = Domain::parse("mx.b.example").ok().filter(|_| recipient != 1);
            let cause = samples::cause(reply.clone(), remote);
            let news = News::Failed { cause, voice: Voice::Host };
            Item { recipient, news, at: Time::from_secs(1_000_000) }
        })
        .collect();
    let by = Domain::parse("mx.example").expect("a domain");
    let desk = Desk { by, postmaster: None, aliases: None };
    let named = (QueueId::from_bits(6), Time::from_secs(2_000_000));
    message.size_bytes = header.len() as u64;
    let about = Loaded { accepted: message, header: header.into() };
    let report = answer(&desk, named, &about, &failures).expect("somebody is told");
    check(&report.content, failures.len());
}

/// What a message can hold: a server takes no bare line end and no NUL.
fn storable(octets: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    for &octet in octets {
        match octet {
            b'\n' => stored.extend_from_slice(b"\r\n"),
            b'\r' | 0 => {}
            other => stored.push(other),
        }
    }
    // Only the first part of a long header is read, and it may end inside of a CRLF.
    if octets.ends_with(b"\r") {
        stored.push(b'\r');
    }
    stored
}

/// RFC 5322 §2.3 and RFC 6522: lines end with CRLF, and there are three parts. What is returned
/// stands in the last one as it was; nothing of it is a bound.
fn check(content: &[u8], failures: usize) {
    let text = String::from_utf8_lossy(content);
    assert!(text.ends_with("\r\n"));
    let (_, quoted) = text.split_once("boundary=\"").expect("a boundary");
    let (name, _) = quoted.split_once('"').expect("the end of a boundary");
    let boundary = format!("--{name}");
    let bounds: Vec<&str> = text.split("\r\n").filter(|l| l.starts_with(&boundary)).collect();
    let last = format!("{boundary}--");
    assert_eq!(bounds, [boundary.as_str(), &boundary, &boundary, &last]);
    let parts: Vec<&str> = text.split(format!("\r\n{boundary}").as_str()).collect();
    let ours = &parts[..3];
    assert!(!ours.concat().replace("\r\n", "").contains(['\r', '\n', '\0']), "a bare line end");
    for line in ours.iter().flat_map(|part| part.split("\r\n")) {
        assert!(line.len() <= 998, "{} octets: {line:?}", line.len());
        assert!(!line.contains(|c: char| c.is_control() && c != '\t'), "{line:?}");
    }
    let lines = |name| parts[2].split("\r\n").filter(|line| line.starts_with(name)).count();
    for name in ["Action: failed", "Status: 5.", "Final-Recipient: ", "Last-Attempt-Date: "] {
        assert_eq!(lines(name), failures, "{name}");
    }
    assert_eq!(lines("Action:"), failures);
    assert_eq!(lines("Reporting-MTA: "), 1);
}
