//! What the originator is told of a failure: delivery status notifications (RFC 3464, RFC 6522).
//!
//! Invariant: a report never answers a report (RFC 5321 §4.5.5): where the reverse-path is null
//! there is none. Its own reverse-path is null. What a peer said is data and forges no line. Pure.

use std::fmt::Write as _;

use merpati_mail::{
    BodyType, Cause, Domain, Envelope, ForwardPath, Origin, Overlay, Protocol, QueueId, Recipient,
    Requests, ReversePath, Time,
    envelope::{Notify, Utf8},
    event::Accepted,
    header,
};

/// A report, ready to be accepted as a message of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dsn {
    /// Its envelope.
    pub accepted: Accepted,
    /// Its content: header and body, lines ended by CRLF.
    pub content: Vec<u8>,
}

/// A delivery that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The place of the recipient in the envelope.
    pub recipient: u32,
    /// Why.
    pub cause: Cause,
    /// When the last attempt ended.
    pub at: Time,
}

/// The report on these failures of one message, or `None` where nobody wants one.
///
/// `by` is our host name, `id` the name of the report, `header` the header of the message (all of
/// it or its first part), `now` wall time.
pub fn failed(
    by: &Domain,
    (id, now): (QueueId, Time),
    message: &Accepted,
    header: &[u8],
    failures: &[Failure],
) -> Option<Dsn> {
    let to = message.envelope.reverse_path.mailbox()?.clone();
    let wanted: Vec<(&Failure, &Recipient)> =
        failures.iter().filter_map(|f| Some((f, wants(message, f)?))).collect();
    if wanted.is_empty() {
        return None;
    }
    let is_global = !to.to_string().is_ascii()
        || wanted.iter().any(|(_, recipient)| !recipient.path.to_string().is_ascii());
    let report = Text { by, id, now, message, is_global };
    let content = report.content(&to.to_string(), &wanted, header).into_bytes();
    let envelope = Envelope {
        reverse_path: ReversePath(None),
        recipients: vec![Recipient {
            path: ForwardPath::Mailbox(to),
            notify: Some(Notify::Never),
            orcpt: None,
        }],
        body: if content.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime },
        utf8: if is_global { Utf8::Declared } else { Utf8::NotDeclared },
        ret: None,
        envid: None,
        requests: Requests::default(),
        origin: Origin {
            listener: "internal".to_owned(),
            peer: None,
            credential: None,
            protocol: Protocol::Internal,
            tls: None,
            received_at: now,
        },
    };
    let size_bytes = content.len() as u64;
    Some(Dsn {
        accepted: Accepted { id, envelope, edits: Overlay::default(), size_bytes },
        content,
    })
}

/// The recipient of a failure, if a report on it is wanted (RFC 3461 §4.1; failures are reported
/// where nothing was asked for).
fn wants<'a>(message: &'a Accepted, failure: &Failure) -> Option<&'a Recipient> {
    let place = usize::try_from(failure.recipient).ok()?;
    let recipient = message.envelope.recipients.get(place)?;
    match recipient.notify {
        None | Some(Notify::On { failure: true, .. }) => Some(recipient),
        Some(Notify::Never | Notify::On { failure: false, .. }) => None,
    }
}

struct Text<'a> {
    by: &'a Domain,
    id: QueueId,
    now: Time,
    message: &'a Accepted,
    /// Whether an address needs UTF-8 (RFC 6533).
    is_global: bool,
}

impl Text<'_> {
    fn content(&self, to: &str, failures: &[(&Failure, &Recipient)], header: &[u8]) -> String {
        let boundary = format!("report-{}", self.id);
        let (status_type, headers_type) = if self.is_global {
            ("message/global-delivery-status", "message/global-headers")
        } else {
            ("message/delivery-status", "text/rfc822-headers")
        };
        let mut text = self.head(to, &boundary);
        let _ = write!(
            text,
            "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 8bit\r\n\r\n{}\r\n\
             --{boundary}\r\nContent-Type: {status_type}\r\n\r\n{}\r\n\
             --{boundary}\r\nContent-Type: {headers_type}\r\n\r\n{}\r\n--{boundary}--\r\n",
            self.for_people(failures),
            self.for_programs(failures),
            original_headers(header, &boundary),
        );
        text
    }

    fn head(&self, to: &str, boundary: &str) -> String {
        format!(
            "Received: by {by} with local id {id};\r\n\t{date}\r\n\
             Date: {date}\r\n\
             From: Mail Delivery System <postmaster@{by}>\r\n\
             To: <{to}>\r\n\
             Subject: Your message could not be delivered\r\n\
             Message-ID: <{id}@{by}>\r\n\
             Auto-Submitted: auto-replied\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\
             \tboundary=\"{boundary}\"\r\n\r\n",
            by = self.by,
            id = self.id,
            date = self.now.rfc5322(),
        )
    }

    fn for_people(&self, failures: &[(&Failure, &Recipient)]) -> String {
        let mut text = format!(
            "This is the mail relay at {}.\r\n\r\n\
             Your message could not be delivered to:\r\n",
            self.by
        );
        for (failure, recipient) in failures {
            let said = match &failure.cause.remote {
                Some(remote) => format!("{remote} said"),
                None => "the reason".to_owned(),
            };
            let _ = write!(
                text,
                "\r\n  {}\r\n  {said}: {}\r\n",
                recipient.path,
                line(&failure.cause.reply.one_line(), PROSE_OCTETS_MAX)
            );
        }
        let _ = write!(text, "\r\nIts queue id was {}.\r\n", self.message.id);
        text
    }

    fn for_programs(&self, failures: &[(&Failure, &Recipient)]) -> String {
        let mut text = format!("Reporting-MTA: dns; {}\r\n", self.by);
        if let Some(envid) = &self.message.envelope.envid {
            let _ = write!(text, "Original-Envelope-Id: {}\r\n", line(envid, FIELD_OCTETS_MAX));
        }
        let arrival = self.message.envelope.origin.received_at.rfc5322();
        let _ = write!(text, "Arrival-Date: {arrival}\r\n");
        let address_type = if self.is_global { "utf-8" } else { "rfc822" };
        for (failure, recipient) in failures {
            text.push_str("\r\n");
            if let Some(orcpt) = &recipient.orcpt {
                let _ = write!(text, "Original-Recipient: {}\r\n", line(orcpt, FIELD_OCTETS_MAX));
            }
            let reply = &failure.cause.reply;
            let status = match reply.enhanced {
                // What failed for good says so, also where the last reply was transient.
                Some(e) => format!("5.{}.{}", e.subject, e.detail),
                None => "5.0.0".to_owned(),
            };
            let _ = write!(
                text,
                "Final-Recipient: {address_type}; {}\r\nAction: failed\r\nStatus: {status}\r\n",
                bare(&recipient.path),
            );
            if let Some(remote) = &failure.cause.remote {
                let _ = write!(
                    text,
                    "Remote-MTA: dns; {remote}\r\nDiagnostic-Code: smtp; {}\r\n",
                    line(&reply.one_line(), FIELD_OCTETS_MAX)
                );
            }
            let _ = write!(text, "Last-Attempt-Date: {}\r\n", failure.at.rfc5322());
        }
        text
    }
}

fn bare(path: &ForwardPath) -> String {
    match path {
        ForwardPath::Mailbox(mailbox) => mailbox.to_string(),
        ForwardPath::Postmaster => "postmaster".to_owned(),
    }
}

/// A peer's words on one line: no control characters, ASCII only, not too long.
fn line(text: &str, octets_max: usize) -> String {
    let plain = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().take(octets_max).map(plain).collect()
}

/// The original header, whole fields only, up to a limit; a line that could end the part is left
/// out with its field.
fn original_headers(header: &[u8], boundary: &str) -> String {
    let mut text = String::new();
    for field in header::fields(header) {
        // A header that is not here to its end may stop inside of a field, also behind its last CR.
        let Some(octets) = header.get(field.range.clone()).filter(|o| o.ends_with(b"\r\n")) else {
            continue;
        };
        let kept = String::from_utf8_lossy(octets);
        if text.len() + kept.len() > HEADERS_OCTETS_MAX {
            break;
        }
        if !kept.contains(boundary) {
            text.push_str(&kept);
        }
    }
    text
}

/// The longest diagnostic: a line has at most 998 octets (RFC 5322 §2.1.1).
const FIELD_OCTETS_MAX: usize = 900;
/// The longest reply shown to a person.
const PROSE_OCTETS_MAX: usize = 500;
/// The most of the original header that a report returns.
const HEADERS_OCTETS_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use merpati_mail::{Class, Mailbox, NodeId, Reply, Scope};

    use super::*;

    fn message(reverse_path: &str, recipients: &[(&str, Option<Notify>)]) -> Accepted {
        let recipients = recipients
            .iter()
            .map(|(address, notify)| Recipient {
                path: ForwardPath::Mailbox(Mailbox::parse(address).unwrap()),
                notify: *notify,
                orcpt: None,
            })
            .collect();
        Accepted {
            id: QueueId::new(NodeId::default(), 1, 1),
            envelope: Envelope {
                reverse_path: ReversePath(Mailbox::parse(reverse_path).ok()),
                recipients,
                body: BodyType::SevenBit,
                utf8: Utf8::NotDeclared,
                ret: None,
                envid: None,
                requests: Requests::default(),
                origin: Origin {
                    listener: "mx".to_owned(),
                    peer: None,
                    credential: None,
                    protocol: Protocol::Esmtp,
                    tls: None,
                    received_at: Time::EPOCH,
                },
            },
            edits: Overlay::default(),
            size_bytes: 3,
        }
    }

    fn failure(recipient: u32, reply: Reply) -> Failure {
        let remote = Some(Domain::parse("mx.other.example").unwrap());
        let cause = Cause { class: Class::MailboxUnknown, scope: Scope::Recipient, reply, remote };
        Failure { recipient, cause, at: Time::from_secs(60) }
    }

    fn dsn(message: &Accepted, failures: &[Failure]) -> Option<Dsn> {
        let by = Domain::parse("mx.ours.example").unwrap();
        let id = QueueId::new(NodeId::default(), 1, 2);
        let header = b"Subject: hi\r\nX-A: b\r\n\r\nbody";
        failed(&by, (id, Time::from_secs(120)), message, header, failures)
    }

    fn unknown() -> Reply {
        Reply::new(550, (5, 1, 1), "no such user")
    }

    #[test]
    fn a_null_reverse_path_never_bounces() {
        assert_eq!(dsn(&message("", &[("u@other.example", None)]), &[failure(0, unknown())]), None);
    }

    #[test]
    fn never_means_never_and_the_others_share_one_report() {
        let on = |failure| Notify::On { delay: true, failure, success: false };
        let message = message(
            "a@ours.example",
            &[
                ("n@other.example", Some(Notify::Never)),
                ("s@other.example", Some(on(false))),
                ("f@other.example", Some(on(true))),
                ("d@other.example", None),
            ],
        );
        let failures: Vec<Failure> = (0..4).map(|n| failure(n, unknown())).collect();
        let dsn = dsn(&message, &failures).unwrap();
        let text = String::from_utf8(dsn.content).unwrap();
        assert_eq!(text.matches("Action: failed").count(), 2);
        assert!(text.contains("Final-Recipient: rfc822; f@other.example\r\n"));
        assert!(text.contains("Final-Recipient: rfc822; d@other.example\r\n"));
        assert!(dsn.accepted.envelope.reverse_path.is_null());
    }

    #[test]
    fn the_report_has_the_three_parts_of_rfc_6522() {
        let message = message("a@ours.example", &[("u@other.example", None)]);
        let dsn = dsn(&message, &[failure(0, unknown())]).unwrap();
        let text = String::from_utf8(dsn.content).unwrap();
        for wanted in [
            "To: <a@ours.example>\r\n",
            "Auto-Submitted: auto-replied\r\n",
            "Content-Type: multipart/report; report-type=delivery-status;\r\n",
            "mx.other.example said: 550 5.1.1 no such user\r\n",
            "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.ours.example\r\n",
            "Status: 5.1.1\r\nRemote-MTA: dns; mx.other.example\r\n\
             Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
            "Content-Type: text/rfc822-headers\r\n\r\nSubject: hi\r\nX-A: b\r\n\r\n--report",
        ] {
            assert!(text.contains(wanted), "{wanted}\n in\n{text}");
        }
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
    }

    #[test]
    fn a_field_that_is_cut_off_is_not_returned() {
        for header in ["A: b\r\nX: cut", "A: b\r\nX: cut\r", "A: b\r\nX: cut\r\n\ty\r"] {
            assert_eq!(original_headers(header.as_bytes(), "report"), "A: b\r\n", "{header:?}");
        }
    }

    #[test]
    fn a_hostile_reply_forges_no_line() {
        let message = message("a@ours.example", &[("u@other.example", None)]);
        let hostile = "no\r\nX-Evil: 1\nAction: delivered\x1b[2J\0é".repeat(400);
        let reply = Reply::with_text(550, (5, 1, 1), hostile);
        let dsn = dsn(&message, &[failure(0, reply)]).unwrap();
        let text = String::from_utf8(dsn.content).unwrap();
        assert!(text.lines().all(|l| l.len() <= 998 && !l.starts_with("X-Evil")));
        assert_eq!(text.lines().filter(|l| l.starts_with("Action:")).count(), 1);
        assert!(
            text.bytes()
                .all(|o| o == b'\r' || o == b'\n' || (b' '..0x7f).contains(&o) || o == b'\t')
        );
    }
}
