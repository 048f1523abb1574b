//! How a report is written: a part for people, one for programs, what is returned of the message
//! (RFC 6522, RFC 3464, RFC 6533).
//!
//! Invariant: no line is above 998 octets, whatever peers and clients said; what they said is data
//! and neither ends a line nor a part. Pure.

use std::{collections::BTreeSet, fmt::Write as _};

use merpati_mail::{
    Cause, Class, Domain, EnhancedCode, ForwardPath, QueueId, Recipient, Reply, Time,
    header::{self, decode_words},
    xtext,
};

use super::{Audience, Item, News, original::Returned, words};
use crate::{Loaded, outcome::Voice};

/// A report to be written.
pub(super) struct Text<'a> {
    pub(super) by: &'a Domain,
    pub(super) id: QueueId,
    pub(super) now: Time,
    pub(super) message: &'a Loaded,
    pub(super) to: &'a ForwardPath,
    pub(super) audience: Audience,
    /// Failures first.
    pub(super) items: &'a [(&'a Item, &'a Recipient)],
    /// Whether an address in it needs UTF-8 (RFC 6533).
    pub(super) is_global: bool,
}

impl Text<'_> {
    pub(super) fn content(&self, returned: &Returned) -> Vec<u8> {
        let (programs, named) = self.for_programs();
        let people = self.for_people(returned.is_full, named);
        let boundary = boundary(self.id, &returned.octets);
        let status_type = if self.is_global {
            "message/global-delivery-status"
        } else {
            "message/delivery-status"
        };
        let parts = [people.as_bytes(), programs.as_bytes(), returned.octets.as_slice()];
        let mut content = self.head(&boundary, encoding(&parts.concat())).into_bytes();
        let types = ["text/plain; charset=utf-8", status_type, returned.media_type];
        for (media_type, octets) in types.into_iter().zip(parts) {
            let encoding = encoding(octets);
            let head = format!("--{boundary}\r\nContent-Type: {media_type}\r\n{encoding}\r\n");
            content.extend_from_slice(head.as_bytes());
            content.extend_from_slice(octets);
            content.extend_from_slice(b"\r\n");
        }
        content.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        content
    }

    fn head(&self, boundary: &str, encoding: &str) -> String {
        let (by, id, date) = (self.by, self.id, self.now.rfc5322());
        let mut head = format!(
            "Received: by {by} with local id {id};\r\n\t{date}\r\n\
             Date: {date}\r\n\
             From: Mail Delivery System <postmaster@{by}>\r\n\
             To: {to}\r\n\
             Subject: {subject}\r\n\
             Message-ID: <{id}@{by}>\r\n",
            to = self.to,
            subject = self.subject(),
        );
        // RFC 3834 §3.1.5: so that it stands beside the message that it is about.
        if let Some(original) = self.original_message_id() {
            let _ = write!(head, "In-Reply-To: {original}\r\nReferences: {original}\r\n");
        }
        let _ = write!(
            head,
            "Auto-Submitted: auto-replied\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\
             \tboundary=\"{boundary}\"\r\n{encoding}\r\n",
        );
        head
    }

    fn original_message_id(&self) -> Option<String> {
        let edits = &self.message.accepted.edits;
        let own = header::first(&edits.prepend, "Message-ID");
        let field = own.or_else(|| header::first(&self.message.header, "Message-ID"))?;
        let id = field.unfolded();
        let inside = id.strip_prefix('<')?.strip_suffix('>')?;
        let is_plain = |octet: u8| octet.is_ascii_graphic() && !b"<>".contains(&octet);
        let is_id = inside.contains('@') && inside.bytes().all(is_plain);
        (is_id && id.len() <= MESSAGE_ID_OCTETS_MAX).then_some(id)
    }

    /// In other than ASCII characters where an address is: such a report needs SMTPUTF8 itself, and
    /// where that is not to be had, another one is made (see `downgrade`).
    fn subject(&self) -> String {
        let what = match (self.audience, self.items.first().map(|(item, _)| &item.news)) {
            (Audience::Postmaster, _) => return "A report could not be delivered".to_owned(),
            (Audience::Originator, Some(News::Failed { .. })) => "could not be delivered",
            (Audience::Originator, Some(News::Delayed { .. })) => "is delayed",
            (Audience::Originator, Some(News::Expanded | News::Relayed { .. })) => "was handed on",
            (Audience::Originator, Some(News::Delivered { .. }) | None) => "was delivered",
        };
        let beyond = self.items.iter().find(|(_, recipient)| !is_ascii(&recipient.path));
        match beyond {
            Some((_, recipient)) => format!("Your message to {} {what}", bare(&recipient.path)),
            None => format!("Your message {what}"),
        }
    }

    /// `named` is how many recipients the part for programs names.
    fn for_people(&self, is_full: bool, named: usize) -> String {
        let mut text = format!("This is the mail system at {}.\r\n", self.by);
        if self.audience == Audience::Postmaster {
            text.push_str(FOR_POSTMASTER);
        }
        let mut last = None;
        let mut shown = 0;
        for (item, recipient) in self.items {
            let heading = heading(&item.news);
            if last.replace(heading) != Some(heading) {
                let _ = write!(text, "\r\n{heading}\r\n");
            }
            if text.len() > PEOPLE_OCTETS_MAX {
                break;
            }
            person(&mut text, item, recipient, shown < EXPLAINED_MAX);
            shown += 1;
        }
        if shown < self.items.len() {
            let left = self.items.len() - shown;
            let _ = write!(text, "\r\n  and {left} more\r\n");
        }
        if named < self.items.len() {
            let all = self.items.len();
            let _ = write!(
                text,
                "\r\nThe part of this report for programs names the first {named} of {all}.\r\n"
            );
        }
        text.push_str("\r\nThe message in question:\r\n");
        if let Some(field) = header::first(&self.message.header, "Subject") {
            let subject = decode_words(&field.unfolded());
            let _ = write!(text, "  Subject: {}\r\n", prose(&subject, SUBJECT_CHARS_MAX));
        }
        let accepted = &self.message.accepted;
        let arrival = accepted.envelope.origin.received_at.rfc5322();
        let _ = write!(text, "  Received: {arrival}\r\n  Queue id: {}\r\n", accepted.id);
        text.push_str(if is_full { "It is attached.\r\n" } else { "Its header is attached.\r\n" });
        text
    }

    /// The fields for programs, and of how many recipients.
    fn for_programs(&self) -> (String, usize) {
        let mut text = format!("Reporting-MTA: dns; {}\r\n", self.by);
        let envelope = &self.message.accepted.envelope;
        if let Some(envid) = &envelope.envid {
            let meant = xtext::decode(envid).unwrap_or_else(|| envid.clone());
            let _ = write!(text, "Original-Envelope-Id: {}\r\n", line(&meant, FIELD_OCTETS_MAX));
        }
        let _ = write!(text, "Arrival-Date: {}\r\n", envelope.origin.received_at.rfc5322());
        // RFC 2852 §3, RFC 4865 §7.
        if let Some(by) = envelope.requests.deliver_by {
            let _ = write!(text, "Deliver-By-Date: {}\r\n", by.deadline.rfc5322());
        }
        if let Some(release) = envelope.requests.release_at {
            let _ = write!(text, "Future-Release-Request: until; {release}\r\n");
        }
        // Of what hosts said there is less where there are many recipients, and only those are not
        // named for whom there is no room at all.
        let room = DIAGNOSTICS_OCTETS_MAX / self.items.len().max(1);
        let mut named = 0;
        for (item, recipient) in self.items {
            if text.len() > PROGRAMS_OCTETS_MAX {
                break;
            }
            self.program(&mut text, item, recipient, room.clamp(80, FIELD_OCTETS_MAX));
            named += 1;
        }
        (text, named)
    }

    /// The fields of one recipient (RFC 3464 §2.3).
    fn program(&self, text: &mut String, item: &Item, recipient: &Recipient, octets_max: usize) {
        text.push_str("\r\n");
        let original = recipient.orcpt.as_deref().and_then(|o| original(o, self.is_global));
        if let Some((kind, address)) = original {
            let address = address_line(&address, self.is_global);
            let _ = write!(text, "Original-Recipient: {kind}; {address}\r\n");
        }
        let kind = if is_ascii(&recipient.path) { "rfc822" } else { "utf-8" };
        let address = address_line(&bare(&recipient.path), self.is_global);
        let _ = write!(text, "Final-Recipient: {kind}; {address}\r\n");
        let (action, status) = (action(&item.news), status(&item.news));
        let _ = write!(text, "Action: {action}\r\nStatus: {status}\r\n");
        let (reply, remote, voice) = match &item.news {
            News::Failed { cause, voice } | News::Delayed { cause, voice, .. } => {
                (&cause.reply, cause.remote.as_ref(), *voice)
            }
            News::Delivered { reply, remote } | News::Relayed { reply, remote, .. } => {
                (reply, remote.as_ref(), Voice::Host)
            }
            // Nobody said anything: it is an alias of ours.
            News::Expanded => return,
        };
        if let Some(remote) = remote {
            let _ = write!(text, "Remote-MTA: dns; {remote}\r\n");
        }
        // RFC 3464 §2.3.6: `smtp` is for what a server said.
        let is_own = voice == Voice::Ours || remote.is_none();
        let kind = if is_own { "x-merpati" } else { "smtp" };
        let said = line(&reply.one_line(), octets_max);
        let _ = write!(text, "Diagnostic-Code: {kind}; {said}\r\n");
        let _ = write!(text, "Last-Attempt-Date: {}\r\n", item.at.rfc5322());
        if let News::Delayed { until, .. } = &item.news {
            let _ = write!(text, "Will-Retry-Until: {}\r\n", until.rfc5322());
        }
    }
}

/// What a person is told of one recipient.
fn person(text: &mut String, item: &Item, recipient: &Recipient, is_explained: bool) {
    let _ = write!(text, "\r\n  {}\r\n", recipient.path);
    if !is_explained {
        return;
    }
    if let Some(original) = recipient.orcpt.as_deref().and_then(|o| original(o, true))
        && original.1 != bare(&recipient.path)
    {
        wrap(text, &format!("This address stands for {}.", prose(&original.1, 320)));
    }
    match &item.news {
        News::Failed { cause, voice } => {
            wrap(text, words::reason(cause.class));
            wrap(text, &words::advice(cause.class, *voice));
            quote(text, cause, *voice);
        }
        News::Delayed { cause, voice, until } => {
            wrap(text, words::reason(cause.class));
            let until = until.rfc5322();
            wrap(text, &format!("You need not do anything: we go on trying until {until}."));
            quote(text, cause, *voice);
        }
        News::Delivered { reply, remote } | News::Relayed { reply, remote, .. } => {
            said(text, reply, remote.as_ref());
        }
        News::Expanded => {}
    }
}

/// What stands above the recipients of one kind.
const fn heading(news: &News) -> &'static str {
    match news {
        News::Failed { .. } => {
            "Your message could not be delivered to, and will not be tried again for:"
        }
        News::Delayed { .. } => "Your message is not delivered yet, and is still tried, for:",
        News::Relayed { is_owed: true, .. } => {
            "Your message was handed on to another mail server, for:"
        }
        News::Relayed { is_owed: false, .. } => {
            "Your message was handed on for these recipients, to a mail server that sends no\r\n\
             reports of success. You will hear of it again only if it fails:"
        }
        News::Delivered { .. } => "Your message was delivered to:",
        News::Expanded => {
            "Your message goes on to everybody for whom these addresses stand. You will hear of\r\n\
             it again only if it fails:"
        }
    }
}

/// RFC 3464 §2.3.3.
const fn action(news: &News) -> &'static str {
    match news {
        News::Delayed { .. } => "delayed",
        News::Delivered { .. } => "delivered",
        News::Expanded => "expanded",
        News::Failed { .. } => "failed",
        News::Relayed { .. } => "relayed",
    }
}

/// RFC 3464 §2.3.4: of the last reply, in the class of what became of it.
fn status(news: &News) -> EnhancedCode {
    let (class, (subject, detail)) = match news {
        News::Delayed { cause, .. } => (4, detail(&cause.reply, cause.class)),
        News::Delivered { reply, .. } | News::Relayed { reply, .. } => {
            (2, reply.enhanced.map_or((0, 0), |e| (e.subject, e.detail)))
        }
        News::Expanded => (2, (0, 0)),
        News::Failed { cause, .. } => match (cause.class, cause.reply.enhanced) {
            (Class::Expired, Some(own)) if (own.subject, own.detail) == EXPIRED => return own,
            // What passes in itself, and did not in time (RFC 3463 §3.5).
            (Class::Expired, _) => (4, EXPIRED),
            // What failed for good says so, also where the reply was transient.
            _ => (5, detail(&cause.reply, cause.class)),
        },
    };
    EnhancedCode { class, subject, detail }
}

fn detail(reply: &Reply, class: Class) -> (u16, u16) {
    match reply.enhanced {
        Some(code) => (code.subject, code.detail),
        None => words::status(class),
    }
}

/// What a host said about a recipient, or what we found, for people.
fn quote(text: &mut String, cause: &Cause, voice: Voice) {
    if voice == Voice::Ours {
        let host = cause.remote.as_ref().map_or_else(String::new, |remote| format!(" ({remote})"));
        wrap(text, &format!("What we found{host}: {}", prose(&cause.reply.text, PROSE_CHARS_MAX)));
    } else {
        said(text, &cause.reply, cause.remote.as_ref());
    }
}

fn said(text: &mut String, reply: &Reply, remote: Option<&Domain>) {
    let who = remote.map_or_else(|| "The reason".to_owned(), |remote| format!("{remote} said"));
    wrap(text, &format!("{who}: {}", line(&reply.one_line(), PROSE_CHARS_MAX)));
}

/// Adds a paragraph below an address, in lines of a width that people read.
fn wrap(text: &mut String, paragraph: &str) {
    let mut column = 0;
    for word in paragraph.split(' ').filter(|word| !word.is_empty()) {
        let width = word.chars().count();
        if column == 0 || column + 1 + width > WIDTH {
            text.push_str(if column == 0 { "    " } else { "\r\n    " });
            column = 4 + width;
        } else {
            text.push(' ');
            column += 1 + width;
        }
        text.push_str(word);
    }
    text.push_str("\r\n");
}

/// The type and the meaning of an original recipient; `None` where it cannot be read. An address of
/// the type `utf-8` is in its own characters where that is possible.
fn original(orcpt: &str, is_global: bool) -> Option<(String, String)> {
    let (kind, written) = orcpt.split_once(';')?;
    if !kind.eq_ignore_ascii_case("utf-8") {
        return Some((line(kind, 32), xtext::decode(written)?));
    }
    let meant = xtext::decode_utf8(written)?;
    Some(("utf-8".to_owned(), if is_global { meant } else { xtext::encode_utf8(&meant) }))
}

fn bare(path: &ForwardPath) -> String {
    match path {
        ForwardPath::Mailbox(mailbox) => mailbox.to_string(),
        ForwardPath::Postmaster => "postmaster".to_owned(),
    }
}

fn is_ascii(path: &ForwardPath) -> bool {
    path.mailbox().is_none_or(|mailbox| !mailbox.needs_smtputf8())
}

/// An address on one line; a field with it stays below the limit.
fn address_line(address: &str, is_global: bool) -> String {
    if is_global { prose(address, ADDRESS_CHARS_MAX) } else { line(address, FIELD_OCTETS_MAX) }
}

/// A peer's words on one line: no control characters, ASCII only, not too long.
fn line(text: &str, octets_max: usize) -> String {
    let plain = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().take(octets_max).map(plain).collect()
}

/// Text of others on one line: no control characters, not too long.
fn prose(text: &str, chars_max: usize) -> String {
    // Characters that turn the direction of writing could hide what the rest says.
    let is_turn = |c| matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}');
    let is_hidden = |c| is_turn(c) || matches!(c, '\u{2066}'..='\u{2069}');
    let plain = |c: char| if c.is_control() || is_hidden(c) { '?' } else { c };
    text.chars().take(chars_max).map(plain).collect()
}

fn encoding(octets: &[u8]) -> &'static str {
    if octets.is_ascii() { "" } else { "Content-Transfer-Encoding: 8bit\r\n" }
}

/// A boundary that does not occur in what is returned: the first number that no line of it uses.
fn boundary(id: QueueId, returned: &[u8]) -> String {
    let base = format!("report-{id}-");
    let number = |at: usize| {
        let digits = returned.get(at + base.len()..)?.get(..BOUNDARY_DIGITS)?;
        str::from_utf8(digits).ok()?.parse().ok()
    };
    let found = returned.windows(base.len()).enumerate().filter(|(_, w)| *w == base.as_bytes());
    let used: BTreeSet<u32> = found.filter_map(|(at, _)| number(at)).collect();
    let free = (1..=u32::MAX).find(|number| !used.contains(number)).unwrap_or(0);
    format!("{base}{free:0BOUNDARY_DIGITS$}")
}

/// All numbers of boundaries are of one length, so that none begins with another one.
const BOUNDARY_DIGITS: usize = 9;
/// Subject and detail of what waited too long (RFC 3463 §3.5).
const EXPIRED: (u16, u16) = (4, 7);
/// The columns of the part for people.
const WIDTH: usize = 76;
/// The longest diagnostic: a line has at most 998 octets (RFC 5322 §2.1.1).
const FIELD_OCTETS_MAX: usize = 900;
/// The longest address in UTF-8: four octets a character.
const ADDRESS_CHARS_MAX: usize = 220;
/// The longest reply shown to a person.
const PROSE_CHARS_MAX: usize = 500;
const SUBJECT_CHARS_MAX: usize = 200;
const MESSAGE_ID_OCTETS_MAX: usize = 250;
/// Recipients of which a person is told why; of the others the address.
const EXPLAINED_MAX: usize = 50;
/// The most of the part for people, and of all diagnostics.
const PEOPLE_OCTETS_MAX: usize = 64 << 10;
const DIAGNOSTICS_OCTETS_MAX: usize = 128 << 10;
/// The most of the part for programs. A thousand recipients with long addresses fit.
const PROGRAMS_OCTETS_MAX: usize = 640 << 10;
const FOR_POSTMASTER: &str = "\r\nA report that it sent could not be delivered to the sender of a \
                              message.\r\nNobody else is told of it.\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_just_fits_ends_before_the_next_word() {
        let full = "x".repeat(WIDTH - 4 - 2);
        let mut text = String::new();
        wrap(&mut text, &format!("{full} y z"));
        assert_eq!(text, format!("    {full} y\r\n    z\r\n"));
    }
}
