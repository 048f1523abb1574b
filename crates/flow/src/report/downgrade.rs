//! A report with octets above 127 once more, in ASCII as far as no transfer encoding reaches them,
//! for an originator whose host does not offer SMTPUTF8 (RFC 6533 §4, RFC 6857) or 8BITMIME
//! (RFC 6152 §3): a part of type `message` is not encoded.
//!
//! Invariant: only a report of ours that failed for that reason is made anew, and what comes out
//! needs neither any more, so it happens once. Pure.

use merpati_mail::{Mailbox, QueueId, Recipient, Time, envelope::Utf8, header, transfer, xtext};

use super::{Audience, Dsn, Item, News, dsn, internal, requests};
use crate::Loaded;

/// The report in ASCII; `None` where it failed for another reason, or can only go in UTF-8.
pub(super) fn downgraded(
    about: &Loaded,
    (id, now): (QueueId, Time),
    failed: &[&Item],
) -> Option<Dsn> {
    let envelope = &about.accepted.envelope;
    let place = |item: &&Item| usize::try_from(item.recipient).ok();
    let recipients = failed.iter().filter_map(|item| envelope.recipients.get(place(item)?));
    // No report of ours wants one, and an alias may have several readers.
    let recipients: Vec<Recipient> = recipients.cloned().collect();
    let needs_utf8 = |one: &Recipient| one.path.mailbox().is_some_and(Mailbox::needs_smtputf8);
    let is_ascii = !recipients.is_empty() && !recipients.iter().any(needs_utf8);
    let is_whole = about.header.len() as u64 == about.accepted.size_bytes;
    let details: &[u16] =
        if envelope.utf8 == Utf8::Declared { &[LACKS_UTF8, LACKS_8BIT] } else { &[LACKS_8BIT] };
    let is_for_that = failed.iter().all(|item| is_for_want_of(details, item));
    if !is_ascii || !is_whole || !is_for_that {
        return None;
    }
    let content = content(&about.header, id)?;
    let facts = (requests(about), internal(Audience::Originator, now));
    Some(dsn(id, recipients, false, facts, content))
}

/// RFC 6531 §3.5 has 5.6.7 for it, RFC 3463 §3.7 has 5.6.3; our own findings say the same.
fn is_for_want_of(details: &[u16], item: &Item) -> bool {
    let News::Failed { cause, .. } = &item.news else { return false };
    cause.reply.enhanced.is_some_and(|code| code.subject == 6 && details.contains(&code.detail))
}

/// The three parts of a report of ours, in ASCII as far as they stand in fields.
fn content(report: &[u8], id: QueueId) -> Option<Vec<u8>> {
    let (head, parts) = report.split_at_checked(header::body_start(report))?;
    let boundary = boundary(head)?;
    let delimiter = format!("--{boundary}\r\n");
    let mut parts = split(parts, delimiter.as_bytes());
    let (_, people, programs, returned) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let end = format!("\r\n--{boundary}--\r\n");
    let returned = returned.strip_suffix(end.as_bytes())?;
    let (status, original) = (status(programs)?, original(returned)?);
    // Text for people can be encoded, so it was not the reason.
    if head.is_ascii() && status == programs && original == returned {
        return None;
    }
    let mut out = Vec::with_capacity(report.len());
    let old = name(head)?;
    for field in header::fields(head) {
        // The name of the first report is not used again.
        let text = str::from_utf8(head.get(field.range.clone())?).ok()?;
        let is_named = field.is("Message-ID") || field.is("Received");
        let text = if is_named { text.replace(&old, &id.to_string()) } else { text.to_owned() };
        fields(text.as_bytes(), &mut out);
    }
    out.extend_from_slice(b"\r\n");
    for part in [people, &status, &original] {
        out.extend_from_slice(delimiter.as_bytes());
        out.extend_from_slice(part);
    }
    out.extend_from_slice(end.as_bytes());
    Some(out)
}

fn name(head: &[u8]) -> Option<String> {
    let field = header::first(head, "Message-ID")?.unfolded();
    Some(field.strip_prefix('<')?.split_once('@')?.0.to_owned())
}

fn boundary(head: &[u8]) -> Option<String> {
    let field = header::first(head, "Content-Type")?.unfolded();
    let (_, behind) = field.split_once("boundary=\"")?;
    Some(behind.split_once('"')?.0.to_owned())
}

fn split<'a>(text: &'a [u8], delimiter: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let at = text.windows(delimiter.len()).position(|window| window == delimiter);
        let Some(at) = at else { return Some(text) };
        rest = text.get(at + delimiter.len()..);
        text.get(..at)
    })
}

/// The status of the recipients: the type for ASCII, addresses as `utf-8-addr-xtext`.
fn status(part: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(part).ok()?;
    let text = text.replacen("message/global-delivery-status", "message/delivery-status", 1);
    let text = text.replacen("Content-Transfer-Encoding: 8bit\r\n", "", 1);
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive("\r\n") {
        match line.split_once("; ") {
            Some((field, address)) if !line.is_ascii() => {
                let (address, end) = match address.strip_suffix("\r\n") {
                    Some(address) => (address, "\r\n"),
                    None => (address, ""),
                };
                out.extend([field, "; ", &xtext::encode_utf8(address), end]);
            }
            Some(_) | None => out.push_str(line),
        }
    }
    Some(out.into_bytes())
}

/// What is returned, as the header alone: the message itself could only go as it is.
fn original(part: &[u8]) -> Option<Vec<u8>> {
    let (head, message) = part.split_at_checked(header::body_start(part))?;
    // A body in 8 bits may be signed, and is not to be encoded then.
    if part.is_ascii() || head.is_ascii() && transfer::seven_bit(message).is_ok() {
        return Some(part.to_vec());
    }
    let mut out = b"Content-Type: text/rfc822-headers\r\n\r\n".to_vec();
    fields(message, &mut out);
    Some(out)
}

/// Fields with their words in ASCII (RFC 2047).
fn fields(message: &[u8], out: &mut Vec<u8>) {
    for field in header::fields(message) {
        let Some(octets) = message.get(field.range.clone()) else { continue };
        if octets.is_ascii() {
            out.extend_from_slice(octets);
            continue;
        }
        out.extend_from_slice(field.name);
        out.push(b':');
        for word in field.unfolded().split_ascii_whitespace() {
            out.extend_from_slice(format!("\r\n {}", header::encode_word(word)).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Details of subject 6 (RFC 3463 §3.7, RFC 6531 §3.5).
const LACKS_8BIT: u16 = 3;
const LACKS_UTF8: u16 = 7;
