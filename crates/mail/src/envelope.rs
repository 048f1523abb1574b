//! What travels around the content: reverse-path, forward-paths, and where the message came from.
//!
//! Invariant: an envelope never changes after acceptance; what becomes of a recipient is an event.
//! Pure.

use std::{collections::BTreeSet, fmt, net::SocketAddr};

use crate::{Domain, ForwardPath, Mailbox, Requests, ReversePath, Time, xtext};

/// The envelope of a message (RFC 5321 §2.3.1), with where it came from; never the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Where reports of failure go; the null reverse-path is a value.
    pub reverse_path: ReversePath,
    /// At least one; a recipient's place in this list is its name in a `DeliveryId`.
    pub recipients: Vec<Recipient>,
    /// The `BODY` parameter of MAIL (RFC 6152).
    pub body: BodyType,
    /// Whether the client declared `SMTPUTF8` (RFC 6531 §3.4).
    pub utf8: Utf8,
    /// What a DSN returns (RFC 3461 §4.3); `None` leaves the choice to us.
    pub ret: Option<Ret>,
    /// The envelope identifier in xtext, as given (RFC 3461 §4.4); `None` where there was none.
    pub envid: Option<String>,
    /// What else was asked for with it.
    pub requests: Requests,
    /// Who handed it over, and how.
    pub origin: Origin,
}

/// One recipient of an envelope, with its DSN parameters (RFC 3461 §4.1, §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Where to.
    pub path: ForwardPath,
    /// On which outcomes to report; `None` where the client did not say: failures, and delay.
    pub notify: Option<Notify>,
    /// The original recipient, `addr-type;xtext` as given; `None` where there was none.
    pub orcpt: Option<String>,
}

impl Recipient {
    /// A recipient without DSN parameters.
    pub const fn new(path: ForwardPath) -> Self {
        Self { path, notify: None, orcpt: None }
    }

    /// The address that stands for this recipient: the one that was named, where that is another
    /// one (RFC 3461 §4.2); `None` where it is not, or cannot be read.
    pub fn via(&self) -> Option<String> {
        let (kind, written) = self.orcpt.as_deref()?.split_once(';')?;
        let named = if kind.eq_ignore_ascii_case("utf-8") {
            xtext::decode_utf8(written)?
        } else {
            xtext::decode(written)?
        };
        let is_itself = match &self.path {
            ForwardPath::Mailbox(mailbox) => {
                Mailbox::parse(&named).as_ref() == Ok(mailbox) || named == mailbox.to_string()
            }
            ForwardPath::Postmaster => named.eq_ignore_ascii_case("postmaster"),
        };
        (!is_itself).then_some(named)
    }
}

/// The recipients, each address once: who is named twice gets one copy, for which the DSN
/// parameters of the first naming count.
pub fn without_repetitions(recipients: Vec<Recipient>) -> Vec<Recipient> {
    if recipients.len() < 2 {
        return recipients;
    }
    let paths: BTreeSet<&ForwardPath> = recipients.iter().map(|one| &one.path).collect();
    if paths.len() == recipients.len() {
        return recipients;
    }
    let mut seen = BTreeSet::new();
    recipients.into_iter().filter(|one| seen.insert(one.path.clone())).collect()
}

/// The `NOTIFY` parameter of RCPT (RFC 3461 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notify {
    /// No report, whatever happens.
    Never,
    /// A report on each of these outcomes; at least one of them.
    On {
        /// When it is delayed.
        delay: bool,
        /// When it fails.
        failure: bool,
        /// When it is delivered.
        success: bool,
    },
}

/// The `RET` parameter of MAIL (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// Its header only.
    Headers,
}

/// The `BODY` parameter of MAIL (RFC 6152 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyType {
    /// `BODY=8BITMIME`.
    EightBitMime,
    /// `BODY=7BIT`, or no parameter; real mail without the parameter may hold 8-bit octets all the
    /// same.
    #[default]
    SevenBit,
}

/// Whether the client declared the message internationalised (RFC 6531 §3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Utf8 {
    /// `SMTPUTF8` was given.
    Declared,
    /// It was not.
    #[default]
    NotDeclared,
}

/// Who handed the message over, and how: the facts of the Received field, of rules and of logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The name of our listener; of messages of our own making [`Origin::REPORTS`] or
    /// [`Origin::DOUBLE_BOUNCES`].
    pub listener: String,
    /// The other end; `None` for messages of our own making.
    pub peer: Option<Peer>,
    /// The credential that authenticated; `None` where nothing did.
    pub credential: Option<String>,
    /// How it was handed over.
    pub protocol: Protocol,
    /// The TLS session; `None` in the clear.
    pub tls: Option<TlsFacts>,
    /// When the message was complete.
    pub received_at: Time,
}

impl Origin {
    /// The listener of a report that could not be delivered, told to the postmaster.
    pub const DOUBLE_BOUNCES: &'static str = "double-bounce";
    /// The listener of reports of our own making.
    pub const REPORTS: &'static str = "internal";
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Address and port.
    pub address: SocketAddr,
    /// What it called itself in EHLO, HELO or LHLO; empty before that.
    pub hello: String,
    /// The name of the address, where the DNS leads from the address to it and back; `None` where
    /// it does not, or nobody asked.
    pub name: Option<Domain>,
}

/// How a message was handed over: the `with` of its Received field (RFC 3848, RFC 6531 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// EHLO was said.
    Esmtp,
    /// EHLO, and a credential.
    Esmtpa,
    /// EHLO, over TLS.
    Esmtps,
    /// EHLO, over TLS, and a credential.
    Esmtpsa,
    /// Made by us.
    Internal,
    /// HELO was said.
    Smtp,
    /// EHLO and SMTPUTF8.
    Utf8Smtp,
    /// EHLO, SMTPUTF8 and a credential.
    Utf8Smtpa,
    /// EHLO, SMTPUTF8 over TLS.
    Utf8Smtps,
    /// EHLO, SMTPUTF8 over TLS, and a credential.
    Utf8Smtpsa,
}

impl Protocol {
    /// All of them, in alphabetical order.
    pub const ALL: [Self; 10] = [
        Self::Esmtp,
        Self::Esmtpa,
        Self::Esmtps,
        Self::Esmtpsa,
        Self::Internal,
        Self::Smtp,
        Self::Utf8Smtp,
        Self::Utf8Smtpa,
        Self::Utf8Smtps,
        Self::Utf8Smtpsa,
    ];

    /// The registered keyword.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Esmtp => "ESMTP",
            Self::Esmtpa => "ESMTPA",
            Self::Esmtps => "ESMTPS",
            Self::Esmtpsa => "ESMTPSA",
            Self::Internal => "local",
            Self::Smtp => "SMTP",
            Self::Utf8Smtp => "UTF8SMTP",
            Self::Utf8Smtpa => "UTF8SMTPA",
            Self::Utf8Smtps => "UTF8SMTPS",
            Self::Utf8Smtpsa => "UTF8SMTPSA",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.keyword())
    }
}

/// What was negotiated in a TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: String,
    /// The cipher suite by its IANA name.
    pub cipher: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Utf8Rule;

    #[test]
    fn what_stands_for_a_recipient_is_told_where_it_is_another_address() {
        let mailbox = |text| ForwardPath::Mailbox(Mailbox::parse(text).unwrap());
        for (path, orcpt, want) in [
            (mailbox("ani@b.example"), None, None),
            (mailbox("ani@b.example"), Some("rfc822;ani@b.example"), None),
            (mailbox("ani@b.example"), Some("rfc822;ani@B.EXAMPLE"), None),
            (mailbox("ani@b.example"), Some("rfc822;info+2Bx@a.example"), Some("info+x@a.example")),
            (mailbox("ani@b.example"), Some("utf-8;\\x{E4}@a.example"), Some("\u{e4}@a.example")),
            (mailbox("ani@b.example"), Some("rfc822;+0A"), None),
            (mailbox("ani@b.example"), Some("nonsense"), None),
            (ForwardPath::Postmaster, Some("rfc822;Postmaster"), None),
        ] {
            let recipient = Recipient { orcpt: orcpt.map(str::to_owned), ..Recipient::new(path) };
            assert_eq!(recipient.via().as_deref(), want, "{orcpt:?}");
        }
    }

    #[test]
    fn who_is_named_twice_is_one_recipient_with_the_parameters_of_the_first_naming() {
        let named = |path: &str, notify| {
            let path = ForwardPath::parse_prefix(path, Utf8Rule::Allowed).unwrap().0;
            Recipient { notify, ..Recipient::new(path) }
        };
        let all = |paths: &[&str]| paths.iter().map(|path| named(path, None)).collect::<Vec<_>>();
        for (given, want) in [
            (&["<a@b.example>"][..], &["<a@b.example>"][..]),
            (&["<a@b.example>", "<A@b.example>"], &["<a@b.example>", "<A@b.example>"]),
            (
                &["<c@b.example>", "<a@b.example>", "<\"a\"@B.EXAMPLE>", "<c@b.example>"],
                &["<c@b.example>", "<a@b.example>"],
            ),
            (&["<postmaster>", "<Postmaster>"], &["<Postmaster>"]),
            (&[], &[]),
        ] {
            assert_eq!(without_repetitions(all(given)), all(want), "{given:?}");
        }
        let first = named("<a@b.example>", Some(Notify::Never));
        let twice = vec![first.clone(), named("<a@b.example>", None)];
        assert_eq!(without_repetitions(twice), [first]);
    }
}
