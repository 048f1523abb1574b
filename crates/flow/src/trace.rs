//! What we write on top of a message: the Received field (RFC 5321 §4.4).
//!
//! Invariant: nothing that a peer said can end the field, forge another one or open a comment of
//! its own. Pure.

use std::{fmt::Write as _, net::IpAddr};

use merpati_mail::{Domain, Envelope, Peer, QueueId, Time};

/// The Received field for a message that `by` accepted as `id`, complete with its CRLF.
///
/// `date` is wall time. The `for` clause is written for a single recipient only, so that no
/// recipient learns of another one (RFC 5321 §7.6).
pub fn received(by: &Domain, envelope: &Envelope, id: QueueId, date: Time) -> String {
    let origin = &envelope.origin;
    let mut field = String::from("Received: ");
    if let Some(peer) = &origin.peer {
        field.push_str(&from_clause(peer));
        field.push_str("\r\n\t");
    }
    let _ = write!(field, "by {by} with {} id {id}", origin.protocol);
    if let Some(tls) = &origin.tls {
        let _ = write!(field, "\r\n\t({} {})", safe(&tls.version), safe(&tls.cipher));
    }
    if let [only] = envelope.recipients.as_slice() {
        let path = only.path.to_string();
        if path.is_ascii() && path.len() <= FOR_OCTETS_MAX {
            let _ = write!(field, "\r\n\tfor {path}");
        }
    }
    // RFC 6710 §4.1: each host tells which priority it gave to the message.
    if let Some(priority) = envelope.requests.priority {
        let _ = write!(field, "\r\n\tPRIORITY {priority}");
    }
    let _ = write!(field, ";\r\n\t{}\r\n", date.rfc5322());
    field
}

fn from_clause(peer: &Peer) -> String {
    let literal = match peer.address.ip().to_canonical() {
        IpAddr::V4(v4) => format!("[{v4}]"),
        IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
    };
    // What is in brackets is our own knowledge (RFC 5321 §4.4); what is before them is a claim.
    // Where the DNS has no name, others write `unknown`, and readers of these fields expect it.
    let name = peer.name.as_ref().map_or_else(|| "unknown".to_owned(), |it| safe(&it.to_string()));
    let hello = safe(&peer.hello);
    if hello.is_empty() {
        format!("from {literal} ({name} {literal})")
    } else {
        format!("from {hello} ({name} {literal})")
    }
}

/// Only what a domain or an address literal may hold, and not too much of it.
fn safe(text: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "-._:[]".contains(*c);
    text.chars().filter(allowed).take(NAME_CHARS_MAX).collect()
}

/// A domain has at most 255 octets (RFC 5321 §4.5.3.1.2).
const NAME_CHARS_MAX: usize = 255;
/// A path has at most 256 octets (RFC 5321 §4.5.3.1.3); the line limit is 998.
const FOR_OCTETS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use merpati_mail::{
        BodyType, ForwardPath, Mailbox, NodeId, Origin, Priority, Protocol, Recipient, Requests,
        ReversePath, TlsFacts, envelope::Utf8,
    };

    use super::*;

    fn field(hello: &str, recipients: &[&str]) -> String {
        named_field(None, hello, recipients)
    }

    fn named_field(name: Option<&str>, hello: &str, recipients: &[&str]) -> String {
        written(&envelope(name, hello, recipients))
    }

    fn written(envelope: &Envelope) -> String {
        let by = Domain::parse("mx.ours.example").unwrap();
        received(&by, envelope, QueueId::new(NodeId::default(), 1, 1), Time::from_secs(0))
    }

    fn envelope(name: Option<&str>, hello: &str, recipients: &[&str]) -> Envelope {
        let to = |a: &&str| Recipient::new(ForwardPath::Mailbox(Mailbox::parse(a).unwrap()));
        Envelope {
            reverse_path: ReversePath(None),
            recipients: recipients.iter().map(to).collect(),
            body: BodyType::SevenBit,
            utf8: Utf8::NotDeclared,
            ret: None,
            envid: None,
            requests: Requests::default(),
            origin: Origin {
                listener: "mx".to_owned(),
                peer: Some(Peer {
                    address: "192.0.2.7:4711".parse().unwrap(),
                    hello: hello.to_owned(),
                    name: name.map(|name| Domain::parse(name).unwrap()),
                }),
                credential: None,
                protocol: Protocol::Esmtps,
                tls: Some(TlsFacts {
                    version: "TLSv1.3".to_owned(),
                    cipher: "TLS_AES_128_GCM_SHA256".to_owned(),
                }),
                received_at: Time::EPOCH,
            },
        }
    }

    #[test]
    fn one_recipient_is_named_and_several_are_not() {
        assert_eq!(
            field("client.example", &["u@ours.example"]),
            "Received: from client.example (unknown [192.0.2.7])\r\n\t\
             by mx.ours.example with ESMTPS id 0000004000001\r\n\t\
             (TLSv1.3 TLS_AES_128_GCM_SHA256)\r\n\t\
             for <u@ours.example>;\r\n\t\
             Thu, 1 Jan 1970 00:00:00 +0000\r\n"
        );
        assert!(!field("client.example", &["u@ours.example", "v@ours.example"]).contains("for "));
    }

    #[test]
    fn the_name_of_the_address_stands_beside_it_and_unknown_where_there_is_none() {
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        for (name, want) in [
            (Some("mx1.client.example"), "(mx1.client.example [192.0.2.7])"),
            (Some("xn--mx-fka.example"), "(xn--mx-fka.example [192.0.2.7])"),
            (Some("mx_1.example"), "(mx_1.example [192.0.2.7])"),
            (Some(&*longest), &format!("({longest} [192.0.2.7])")),
            (None, "(unknown [192.0.2.7])"),
        ] {
            let field = named_field(name, "client.example", &["u@ours.example"]);
            let from = format!("Received: from client.example {want}\r\n\tby mx.ours.example");
            assert!(field.starts_with(&from), "{field}");
        }
    }

    #[test]
    fn a_priority_that_was_asked_for_is_told() {
        let mut envelope = envelope(None, "c.example", &["u@ours.example", "v@ours.example"]);
        envelope.requests.priority = Priority::new(-3);
        let field = written(&envelope);
        assert!(field.ends_with("\r\n\tPRIORITY -3;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n"));
    }

    #[test]
    fn a_hostile_name_forges_no_syntax() {
        let hostile = field("x) by evil; (a\"b\r\nBcc: z\u{7}", &["u@ours.example"]);
        assert!(
            hostile.starts_with("Received: from xbyevilabBcc:z (unknown [192.0.2.7])\r\n\tby mx")
        );
        assert!(hostile.lines().skip(1).all(|line| line.starts_with('\t')));
        assert!(field("\u{1b}", &["u@ours.example"]).starts_with("Received: from [192.0.2.7] ("));
    }
}
