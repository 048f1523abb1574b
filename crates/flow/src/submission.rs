//! What is mended in the header of a message from its author (RFC 6409 §8).
//!
//! Invariant: the content stays as it was handed over; what is mended is an overlay. Nothing of it
//! happens to mail that is only passed on: there, the header belongs to somebody else. Pure.

use merpati_mail::{Domain, Overlay, QueueId, Time, header};

/// What such a message gains and loses: a Date (RFC 6409 §8.2) and a Message-ID (§8.3) where there
/// is none, and every Bcc and Resent-Bcc (RFC 5322 §3.6.3, §3.6.6): its recipients are in the
/// envelope.
///
/// `head` is the beginning of the content with its whole header, `date` is wall time. A content
/// without header gets one.
pub fn edits(head: &[u8], id: QueueId, hostname: &Domain, date: Time) -> Overlay {
    let mut edits = Overlay::default();
    if header::first(head, "Message-ID").is_none() {
        // A queue id is never used twice on one host, so the whole is unique (RFC 5322 §3.6.4).
        edits.prepend.extend(format!("Message-ID: <{id}@{hostname}>\r\n").into_bytes());
    }
    if header::first(head, "Date").is_none() {
        edits.prepend.extend(format!("Date: {}\r\n", date.rfc5322()).into_bytes());
    }
    for name in ["Bcc", "Resent-Bcc"] {
        edits.remove_fields(head, name);
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `head` as it is sent on.
    fn mended(head: &str) -> String {
        let id: QueueId = ID.parse().unwrap();
        let hostname = Domain::parse("mail.example.org").unwrap();
        let date = Time::from_secs(1_767_225_600);
        let edits = edits(head.as_bytes(), id, &hostname, date);
        let checked = Overlay::from_parts(edits.prepend.clone(), edits.remove.clone());
        assert_eq!(checked, Ok(edits.clone()), "{head:?}");
        let sent: Vec<u8> = edits.slices(head.as_bytes()).flatten().copied().collect();
        assert_eq!(edits.len(head.len() as u64, head.as_bytes()), sent.len() as u64);
        String::from_utf8(sent).unwrap()
    }

    const ID: &str = "0000000000001";
    const MESSAGE_ID: &str = "Message-ID: <0000000000001@mail.example.org>\r\n";
    const DATE: &str = "Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n";

    #[test]
    fn what_is_missing_is_added_and_blind_copies_are_removed() {
        for (head, added, left) in [
            ("Date: x\r\nMessage-ID: <a@b>\r\n\r\nhi\r\n", "", None),
            ("message-id: <a@b>\r\ndate : x\r\n\r\nhi\r\n", "", None),
            ("Message-ID: <a@b>\r\n\r\nDate: x\r\n", DATE, None),
            ("Date: x\r\n\r\nMessage-ID: <a@b>\r\n", MESSAGE_ID, None),
            ("Subject: x\r\n\r\n", "both", None),
            (
                "Date: x\r\nBcc: a@x,\r\n b@x\r\nMessage-ID: <a@b>\r\nbcc:\r\nTo: c@x\r\n\r\n\
                 Bcc: d\r\n",
                "",
                Some("Date: x\r\nMessage-ID: <a@b>\r\nTo: c@x\r\n\r\nBcc: d\r\n"),
            ),
            ("Resent-Bcc : a@x\r\nDate: x\r\n\r\n", MESSAGE_ID, Some("Date: x\r\n\r\n")),
            ("Bcc: a@x\r\n\r\nhi\r\n", "both", Some("\r\nhi\r\n")),
            ("X-Bcc: a@x\r\nBcc-X: b\r\n\r\n", "both", None),
            ("\r\nhi\r\n", "both", None),
            ("", "both", None),
        ] {
            let both = format!("{MESSAGE_ID}{DATE}");
            let added = if added == "both" { both.as_str() } else { added };
            assert_eq!(mended(head), format!("{added}{}", left.unwrap_or(head)), "{head:?}");
        }
    }

    #[test]
    fn a_content_without_header_gets_one() {
        let sent = mended("hi there\r\n");
        assert!(sent.ends_with("hi there\r\n"), "{sent}");
        assert!(header::first(sent.as_bytes(), "Message-ID").is_some(), "{sent}");
        let sent = mended(" hi there\r\n");
        assert!(sent.ends_with("\r\n\r\n hi there\r\n"), "{sent}");
    }
}
