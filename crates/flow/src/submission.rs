//! What is mended in the header of a message from its author, and what is refused (RFC 6409 §8).
//!
//! Invariant: a content keeps its octets; what is mended is an overlay of whole fields. A header to
//! which nothing is to be done stays octet for octet, and nothing of this happens to mail that is
//! only passed on: there, the header belongs to somebody else. Pure.

use std::{collections::BTreeMap, ops::Range};

use merpati_mail::{
    Domain, Mailbox, Overlay, QueueId, Reply, ReversePath, Time, Verdict,
    address::{self, NamedMailbox},
    header::{self, Breaks, Field},
};

/// Who hands the message over, and what it gets from us.
#[derive(Clone, Copy, Debug)]
pub struct Submitted<'a> {
    /// Our name for it.
    pub id: QueueId,
    /// Our own name.
    pub hostname: &'a Domain,
    /// The reverse-path, as which the client may send.
    pub reverse_path: &'a ReversePath,
    /// When, in wall time.
    pub at: Time,
}

/// What such a message gains and loses, or why it is refused.
///
/// Added are Message-ID, Date and From where they are missing, Message-ID and Date also where they
/// are malformed and nobody has signed them (§8.2, §8.3), and Sender where From names several
/// authors of one domain (§8.1).
/// Removed are Bcc, Resent-Bcc and Return-Path (RFC 5322 §3.6.3, §3.6.6, RFC 5321 §4.4), fields
/// that are empty and must not be, and repetitions. Several To or Cc become one (RFC 5322 §4.5.3),
/// and lines that are too long are folded, unless somebody has signed the message.
///
/// Refused with 550 is what readers would understand differently: several From, Sender, Date,
/// Subject and the like (RFC 5322 §3.6), and a From that does not plainly name its authors.
///
/// `head` is the beginning of the content with its whole header.
pub fn edits(head: &[u8], by: &Submitted<'_>) -> Result<Overlay, Verdict> {
    let mut mending = Mending::read(head);
    mending.join_repeated()?;
    mending.check_authors(by)?;
    mending.add_missing(by);
    mending.fold_long_lines()?;
    let Mending { mut edits, added, .. } = mending;
    match edits.prepend_fields(&added) {
        Ok(()) => Ok(edits),
        // Octets of the message are in what is added: no other can be bad.
        Err(why) => Err(refuse("field-malformed", &format!("a header field is malformed: {why}"))),
    }
}

/// The authors that a From field names, where all readers agree on them; else why they do not.
pub(crate) fn authors(value: &[u8]) -> Result<Vec<NamedMailbox>, Verdict> {
    let Ok(authors) = address::parse_header_list(value) else {
        return Err(refuse("from-unreadable", "the header field From cannot be read"));
    };
    // A group is for those who have no address (RFC 6854 §3); authors of ours have one.
    if address::holds_group(value) {
        return Err(refuse("from-unreadable", "the header field From names a group"));
    }
    if authors.is_empty() {
        return Err(refuse("from-unreadable", "the header field From names nobody"));
    }
    match authors.iter().find(|author| shows_another(author, &authors)) {
        Some(author) => {
            let text = format!("the name of {} in From hides another address", author.mailbox);
            Err(Verdict::refuse("from-disguised", Reply::with_text(550, (5, 7, 1), text)))
        }
        None => Ok(authors),
    }
}

/// Whether all readers who can read this From take the same domain for that of the author; else
/// why they do not. Mail that is passed on must not suffer for a From that is only badly written.
pub(crate) fn check_one_author(head: &[u8], from: &Field<'_>) -> Result<(), Verdict> {
    check_colon(head, from)?;
    let Ok(all) = address::parse_header_list(from.value) else { return Ok(()) };
    if all.is_empty() && !address::holds_group(from.value) {
        return Ok(());
    }
    let authors = authors(from.value)?;
    let mut domains = authors.iter().map(|author| author.mailbox.domain());
    let first = domains.next();
    if domains.any(|domain| Some(domain) != first) {
        return Err(refuse("from-repeated", "the header field From names several domains"));
    }
    Ok(())
}

/// Blanks before the colon are obsolete, and some readers see no From there.
fn check_colon(head: &[u8], from: &Field<'_>) -> Result<(), Verdict> {
    if head.get(from.range.start + from.name.len()) != Some(&b':') {
        let text = "the header field From has a blank before its colon";
        return Err(refuse("from-unreadable", text));
    }
    Ok(())
}

/// Whether an encoded word in the name of an author holds an address that is none of the authors':
/// readers show it, or even take it for the author. One that is not encoded everybody can see.
fn shows_another(author: &NamedMailbox, authors: &[NamedMailbox]) -> bool {
    let Some(name) = author.name.as_deref().filter(|name| name.contains("=?")) else {
        return false;
    };
    let shown = header::decode_words(name);
    let ends = |c: char| c.is_whitespace() || "<>()[]\",;:'".contains(c);
    let is_another = |mailbox: &Mailbox| {
        let is_host = mailbox.domain().to_string().contains('.');
        is_host && authors.iter().all(|author| &author.mailbox != mailbox)
    };
    shown.split(ends).filter_map(|word| Mailbox::parse(word).ok()).any(|found| is_another(&found))
}

/// A field that may stand once, as often as it stands.
struct Seen<'a> {
    first: Field<'a>,
    others: Vec<Field<'a>>,
}

struct Mending<'a> {
    head: &'a [u8],
    edits: Overlay,
    /// Whole fields that go on top.
    added: Vec<u8>,
    seen: BTreeMap<&'static str, Seen<'a>>,
    /// Names of Resent fields, where somebody sends the message of another once more
    /// (RFC 5322 §3.6.6).
    resent: Vec<&'a [u8]>,
    /// Whether somebody has signed it: what is signed keeps its fields, but for those that must not
    /// leave.
    is_signed: bool,
}

impl<'a> Mending<'a> {
    /// Looks at each field once.
    fn read(head: &'a [u8]) -> Self {
        let (mut edits, mut seen) = (Overlay::default(), BTreeMap::<_, Seen<'a>>::new());
        let (mut resent, mut is_signed) = (Vec::new(), false);
        let start = header::mbox_line_octets(head);
        let mut gone: Vec<Range<usize>> = std::iter::once(0..start).collect();
        for field in header::fields_from(head, start) {
            is_signed |= is_signature(&field);
            let is_blank = field.value.trim_ascii().is_empty();
            if REMOVED.iter().any(|name| field.is(name)) {
                gone.push(field.range);
            } else if let Some((name, _)) = SINGLE.iter().find(|(name, _)| field.is(name)) {
                match seen.get_mut(*name) {
                    _ if is_blank && NEVER_EMPTY.contains(name) => gone.push(field.range),
                    Some(seen) => seen.others.push(field),
                    None => {
                        seen.insert(*name, Seen { first: field, others: Vec::new() });
                    }
                }
            } else if field.name.get(..7).is_some_and(|name| name.eq_ignore_ascii_case(b"Resent-"))
            {
                resent.push(field.name);
            }
        }
        edits.remove_ranges(gone);
        Self { head, edits, added: Vec::new(), seen, resent, is_signed }
    }

    /// Leaves one of each field that may stand once.
    fn join_repeated(&mut self) -> Result<(), Verdict> {
        for (name, repeated) in SINGLE {
            let Some(seen) = self.seen.get_mut(name) else { continue };
            let others = std::mem::take(&mut seen.others);
            if others.is_empty() {
                continue;
            }
            let first = unfolded(&seen.first);
            let differs = others.iter().any(|other| unfolded(other) != first);
            let joint = match repeated {
                Repeated::First | Repeated::Joined(_) if self.is_signed => continue,
                Repeated::Joined(joint) => joint,
                Repeated::First => {
                    self.edits.remove_ranges(others.into_iter().map(|other| other.range));
                    continue;
                }
                Repeated::Refused if !differs => "",
                Repeated::Never | Repeated::Refused => {
                    let text = format!("the header field {name} must not stand more than once");
                    return Err(refuse("field-repeated", &text));
                }
            };
            if differs {
                let all = [&seen.first].into_iter().chain(&others);
                let joined = joined(name, all, joint);
                self.edits.remove_ranges([seen.first.range.clone()]);
                self.added.extend(joined);
            }
            self.edits.remove_ranges(others.into_iter().map(|other| other.range));
        }
        Ok(())
    }

    /// Whether From and Sender plainly say who is who.
    fn check_authors(&mut self, by: &Submitted<'_>) -> Result<(), Verdict> {
        let is_own = self.resent.is_empty();
        let author = by.reverse_path.mailbox();
        let has_sender = self.has_good_sender()?;
        let Some(Seen { first: from, .. }) = self.seen.get("From") else {
            let Some(author) = author.filter(|_| is_own) else {
                return Err(refuse("from-missing", "the header field From is missing"));
            };
            self.add("From", &author.to_string());
            return Ok(());
        };
        check_colon(self.head, from)?;
        let authors = authors(from.value)?;
        if has_sender {
            return Ok(());
        }
        let domains = authors.iter().map(|author| author.mailbox.domain());
        let is_one_domain = domains.clone().all(|domain| Some(domain) == domains.clone().next());
        match (authors.len(), author) {
            (..=1, _) => Ok(()),
            (_, _) if !is_own => Ok(()),
            (_, Some(author)) if is_one_domain => {
                self.add("Sender", &author.to_string());
                Ok(())
            }
            // RFC 5322 §3.6.2: several authors need a Sender, and nobody could say whose domain
            // answers for the message.
            (_, _) => Err(refuse("sender-missing", "several authors in From need a Sender")),
        }
    }

    /// Whether there is a Sender; errs where it does not name one mailbox.
    fn has_good_sender(&self) -> Result<bool, Verdict> {
        let Some(Seen { first: sender, .. }) = self.seen.get("Sender") else { return Ok(false) };
        let is_one = address::parse_header_list(sender.value).is_ok_and(|list| list.len() == 1);
        let text = "the header field Sender must name one mailbox";
        if is_one { Ok(true) } else { Err(refuse("field-malformed", text)) }
    }

    /// Adds what each message must have. A message that is sent once more keeps the date and the
    /// name that its author gave it, however they look.
    fn add_missing(&mut self, by: &Submitted<'_>) {
        let date = by.at.rfc5322();
        // A queue id is never used twice on one host, so the whole is unique (RFC 5322 §3.6.4).
        let id = format!("<{}@{}>", by.id, by.hostname);
        for (name, is_good, value) in [
            ("Date", header::is_date as fn(&[u8]) -> bool, &date),
            ("Message-ID", header::is_message_id, &id),
        ] {
            let found = self.seen.get(name).map(|seen| &seen.first);
            let stays = |field: &Field<'_>| self.is_signed || is_good(field.value);
            if found.is_some_and(|field| !self.resent.is_empty() || stays(field)) {
                continue;
            }
            let range = found.map(|field| field.range.clone());
            self.edits.remove_ranges(range);
            self.add(name, value);
        }
        if self.resent.is_empty() {
            return;
        }
        let author = by.reverse_path.mailbox().map(ToString::to_string);
        let resent_id = format!("<{}.r@{}>", by.id, by.hostname);
        for (name, value) in [
            ("Resent-From", author.as_ref()),
            ("Resent-Date", Some(&date)),
            ("Resent-Message-ID", Some(&resent_id)),
        ] {
            let is_there = self.resent.iter().any(|n| n.eq_ignore_ascii_case(name.as_bytes()));
            if let Some(value) = value.filter(|_| !is_there) {
                self.add(name, value);
            }
        }
    }

    /// Folds fields of the author with lines that are too long. Trace fields and signatures are of
    /// others, and stay as they are; so does all of a message that is signed.
    fn fold_long_lines(&mut self) -> Result<(), Verdict> {
        if self.is_signed {
            return Ok(());
        }
        let added = std::mem::take(&mut self.added);
        for field in header::fields(&added) {
            let text = added.get(field.range.clone()).unwrap_or_default();
            self.added.extend(folded(&field, text)?);
        }
        let start = header::mbox_line_octets(self.head);
        for field in header::fields_from(self.head, start) {
            let Ok(start) = u32::try_from(field.range.start) else { continue };
            let text = self.head.get(field.range.clone()).unwrap_or_default();
            let is_kept = text.len() <= header::MAX_LINE_OCTETS
                || KEPT.iter().any(|name| field.is(name))
                || self.edits.remove.binary_search_by_key(&start, |range| range.start).is_ok();
            if is_kept {
                continue;
            }
            let folded = folded(&field, text)?;
            if folded != text {
                self.added.extend(folded);
                self.edits.remove_ranges([field.range]);
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, value: &str) {
        self.added.extend(format!("{name}: {value}\r\n").into_bytes());
    }
}

/// The value on one line, octet for octet, without blanks around it.
fn unfolded(field: &Field<'_>) -> Vec<u8> {
    let line: Vec<u8> =
        field.value.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n')).collect();
    line.trim_ascii().to_vec()
}

/// One field with the values of all of them, each on lines of its own.
fn joined<'f>(name: &str, all: impl Iterator<Item = &'f Field<'f>>, joint: &str) -> Vec<u8> {
    let mut whole = format!("{name}: ").into_bytes();
    for (number, field) in all.enumerate() {
        if number > 0 {
            whole.extend_from_slice(joint.as_bytes());
            whole.extend_from_slice(b"\r\n ");
        }
        whole.extend_from_slice(field.value.trim_ascii());
    }
    whole.extend_from_slice(b"\r\n");
    whole
}

/// The whole field without a line that is too long.
fn folded(field: &Field<'_>, text: &[u8]) -> Result<Vec<u8>, Verdict> {
    let is_list = LISTS.iter().any(|name| field.is(name));
    let breaks = if is_list { Breaks::BlanksAndCommas } else { Breaks::Blanks };
    header::refolded(text, breaks).ok_or_else(|| {
        let name: String = String::from_utf8_lossy(field.name).chars().take(NAME_CHARS).collect();
        let text = format!("a line of the header field {name} is too long and cannot be folded");
        refuse("line-too-long", &text)
    })
}

/// Whether a field with this name belongs into the header and nowhere else: it says who, what or
/// which way, and readers who find it would go by it.
pub(crate) fn is_of_header(field: &Field<'_>) -> bool {
    let begins = |start: &str| {
        field.name.get(..start.len()).is_some_and(|it| it.eq_ignore_ascii_case(start.as_bytes()))
    };
    SINGLE.iter().map(|(name, _)| name).chain(&REMOVED).chain(&KEPT).any(|name| field.is(name))
        || ["Content-", "Resent-", "List-", "ARC-"].iter().any(|start| begins(start))
}

/// Whether somebody has signed the message with this field (RFC 6376, RFC 8617).
pub(crate) fn is_signature(field: &Field<'_>) -> bool {
    field.is("DKIM-Signature") || field.is("ARC-Message-Signature")
}

pub(crate) fn refuse(rule: &'static str, text: &str) -> Verdict {
    Verdict::refuse(rule, Reply::with_text(550, (5, 6, 0), text.to_owned()))
}

/// What becomes of a field that stands twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeated {
    /// The others go, whatever they say: there is one version only.
    First,
    /// The values are joined by this; repetitions go.
    Joined(&'static str),
    /// The message is refused, also where the second says the same.
    Never,
    /// The message is refused where the second says something else; repetitions go.
    Refused,
}

/// The fields that may stand once (RFC 5322 §3.6, RFC 2045 §3). The order is that in which they are
/// written.
const SINGLE: [(&str, Repeated); 13] = [
    ("From", Repeated::Never),
    ("Sender", Repeated::Refused),
    ("Reply-To", Repeated::Refused),
    ("To", Repeated::Joined(",")),
    ("Cc", Repeated::Joined(",")),
    ("Date", Repeated::Refused),
    ("Message-ID", Repeated::Refused),
    ("In-Reply-To", Repeated::Joined("")),
    ("References", Repeated::Joined("")),
    ("Subject", Repeated::Refused),
    ("MIME-Version", Repeated::First),
    ("Content-Type", Repeated::Refused),
    ("Content-Transfer-Encoding", Repeated::Refused),
];
/// Those of them that must not be empty; an empty one says nothing and goes.
const NEVER_EMPTY: [&str; 8] =
    ["Sender", "Reply-To", "To", "Cc", "Date", "Message-ID", "In-Reply-To", "References"];
/// What never leaves an author.
const REMOVED: [&str; 3] = ["Bcc", "Resent-Bcc", "Return-Path"];
/// Lists of addresses.
const LISTS: [&str; 8] =
    ["From", "Reply-To", "To", "Cc", "Resent-From", "Resent-To", "Resent-Cc", "Resent-Reply-To"];
/// What others have written.
const KEPT: [&str; 7] = [
    "Received",
    "DKIM-Signature",
    "ARC-Seal",
    "ARC-Message-Signature",
    "ARC-Authentication-Results",
    "Authentication-Results",
    "Received-SPF",
];
/// So much of a name is told in a reply.
const NAME_CHARS: usize = 40;

#[cfg(test)]
#[path = "submission_tests.rs"]
mod tests;
