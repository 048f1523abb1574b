//! Which recipients in our domains exist: by list, and by what the next hop says.
//!
//! Invariant: who does not exist is refused at RCPT and never accepted and returned later, which
//! would go to forged senders. The postmaster always exists (RFC 5321 §4.5.1). Pure.

use std::{collections::BTreeSet, sync::Arc};

use merpati_mail::{
    Domain, Mailbox, Reply,
    outcome::{Class, Finding, Phase},
    question::RecipientAnswer,
};

use crate::outcome::{Fate, classify};

/// How recipients in our domains are verified; by default not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Those that exist; `None` where no list says so.
    pub known: Option<Arc<Known>>,
    /// Whether the next hop is asked about those that no list has.
    pub call_ahead: CallAhead,
}

/// Whether the next hop is asked about recipients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallAhead {
    /// It is not.
    #[default]
    Off,
    /// It is; where it does not say, the recipient is accepted.
    OrAccept,
    /// It is; where it does not say, the recipient is told 451.
    OrDefer,
}

/// The recipients of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Local parts in lower case, and their domains. Few domains tell `Ani` from `ani`, and those
    /// who do would gain nothing but returned mail.
    addresses: BTreeSet<(String, Domain)>,
    /// The domains in which every address exists.
    whole: BTreeSet<Domain>,
    /// What ends a local part before its extension; `None` for no extensions.
    separator: Option<char>,
}

/// One entry of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownRecipient {
    /// This address exists.
    Address(Mailbox),
    /// Every address in this domain exists.
    Domain(Domain),
}

impl Known {
    /// All of these. `separator` ends a local part before its extension: with `+`, mail to
    /// `ani+list` is for `ani`.
    pub fn of(all: impl IntoIterator<Item = KnownRecipient>, separator: Option<char>) -> Self {
        let mut known = Self { separator, ..Self::default() };
        for one in all {
            match one {
                KnownRecipient::Address(mailbox) => {
                    let local = mailbox.local().to_lowercase();
                    known.addresses.insert((local, mailbox.domain().clone()));
                }
                KnownRecipient::Domain(domain) => {
                    known.whole.insert(domain);
                }
            }
        }
        known
    }

    /// Whether this address exists.
    pub fn has(&self, mailbox: &Mailbox) -> bool {
        self.whole.contains(mailbox.domain()) || self.lists(mailbox)
    }

    /// Whether this address itself is in the list, and not only its domain.
    pub fn lists(&self, mailbox: &Mailbox) -> bool {
        let local = mailbox.local().to_lowercase();
        let stem = self.separator.and_then(|separator| local.split_once(separator));
        let stem = stem.map(|(stem, _)| stem.to_owned()).filter(|stem| !stem.is_empty());
        let is_listed = |local: String| self.addresses.contains(&(local, mailbox.domain().clone()));
        is_listed(local) || stem.is_some_and(is_listed)
    }
}

/// What is known of a recipient in one of our domains before anybody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Only the next hop knows.
    Ask,
    /// It is taken.
    Taken,
    /// It does not exist.
    Unknown,
}

impl Verification {
    pub(super) fn look(&self, mailbox: &Mailbox) -> Look {
        let known = self.known.as_ref().map(|known| known.has(mailbox));
        match (known, self.call_ahead) {
            (Some(true), _) | (None, CallAhead::Off) => Look::Taken,
            (Some(false), CallAhead::Off) => Look::Unknown,
            (Some(false) | None, CallAhead::OrAccept | CallAhead::OrDefer) => Look::Ask,
        }
    }
}

/// Whether the address is one that every domain has (RFC 5321 §4.5.1, RFC 2142 §4): whoever must
/// tell us of trouble has to reach it, also who is listed, unknown or comes for the first time.
pub(super) fn is_role(mailbox: &Mailbox) -> bool {
    let is = |role: &str| mailbox.local().eq_ignore_ascii_case(role);
    is("postmaster") || is("abuse")
}

/// What a next hop's reply to RCPT, or the lack of one, says of the recipient.
///
/// Only that the mailbox does not exist is a no. What is refused for other reasons (our address,
/// the null reverse-path, a policy) says nothing of the mailbox; a full one exists.
pub fn answer_of(finding: &Finding) -> RecipientAnswer {
    let (cause, fate) = classify(finding, None);
    match (finding.phase, fate, cause.class) {
        (Phase::Recipient, _, Class::MailboxFull) => RecipientAnswer::Taken,
        (
            Phase::Recipient,
            Fate::Final,
            Class::DomainUnknown
            | Class::MailboxDisabled
            | Class::MailboxUnknown
            | Class::UnknownPermanent,
        ) => RecipientAnswer::Refused,
        (_, _, _) => RecipientAnswer::Unknown,
    }
}

pub(super) fn unknown(mailbox: &Mailbox) -> Reply {
    Reply::with_text(550, (5, 1, 1), format!("<{mailbox}> is not known here"))
}

pub(super) fn unverified(mailbox: &Mailbox) -> Reply {
    let text = format!("<{mailbox}> cannot be verified just now, try again later");
    Reply::with_text(451, (4, 3, 0), text)
}

#[cfg(test)]
mod tests {
    use merpati_mail::outcome::{Fact, Need};

    use super::*;

    fn known(entries: &[&str], separator: Option<char>) -> Known {
        let entry = |text: &&str| match text.strip_prefix('@') {
            Some(domain) => KnownRecipient::Domain(Domain::parse(domain).unwrap()),
            None => KnownRecipient::Address(Mailbox::parse(text).unwrap()),
        };
        Known::of(entries.iter().map(entry), separator)
    }

    #[test]
    fn a_list_knows_addresses_extensions_and_whole_domains() {
        let known = known(&["Ani@ours.example", "b+x@ours.example", "@all.example"], Some('+'));
        for (address, want) in [
            ("ani@ours.example", true),
            ("ANI@OURS.example", true),
            ("ani+list@ours.example", true),
            ("ani+a+b@ours.example", true),
            ("b+x@ours.example", true),
            ("b@ours.example", false),
            ("b+y@ours.example", false),
            ("+ani@ours.example", false),
            ("anita@ours.example", false),
            ("ani@sub.ours.example", false),
            ("anybody@all.example", true),
            ("anybody@sub.all.example", false),
        ] {
            assert_eq!(known.has(&Mailbox::parse(address).unwrap()), want, "{address}");
        }
        assert!(!known.lists(&address("anybody@all.example")), "only its domain is in it");
        assert!(known.lists(&address("ani+list@ours.example")));
        let plain = Known::of([KnownRecipient::Address(address("ani@ours.example"))], None);
        assert!(!plain.has(&address("ani+list@ours.example")));
    }

    fn address(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    #[test]
    fn only_a_mailbox_that_does_not_exist_is_refused() {
        use RecipientAnswer::{Refused, Taken, Unknown};
        let reply = |code, enhanced: Option<(u8, u16, u16)>, text: &'static str| match enhanced {
            Some(enhanced) => Fact::Replied(Reply::new(code, enhanced, text)),
            None => Fact::Replied(Reply::bare(code, text)),
        };
        for (phase, fact, want) in [
            (Phase::Recipient, reply(550, Some((5, 1, 1)), "no such user"), Refused),
            (Phase::Recipient, reply(550, None, "User unknown"), Refused),
            (Phase::Recipient, reply(553, None, "no"), Refused),
            (Phase::Recipient, reply(552, Some((5, 2, 2)), "mailbox full"), Taken),
            (Phase::Recipient, reply(452, Some((4, 2, 2)), "over quota"), Taken),
            (Phase::Recipient, reply(451, Some((4, 3, 0)), "trouble"), Unknown),
            (Phase::Recipient, reply(450, Some((4, 7, 1)), "greylisted"), Unknown),
            (Phase::Mail, reply(550, Some((5, 7, 1)), "no null sender"), Unknown),
            (Phase::Greeting, reply(554, None, "go away"), Unknown),
            (Phase::Connect, Fact::Unreachable("refused".to_owned()), Unknown),
            (Phase::Recipient, Fact::TimedOut, Unknown),
            (Phase::Recipient, Fact::Cut, Unknown),
            (Phase::Recipient, Fact::Lacks(Need::Smtputf8), Unknown),
        ] {
            let finding = Finding { phase, fact };
            assert_eq!(answer_of(&finding), want, "{finding:?}");
        }
    }
}
