//! What pure code asks the world, and what the world may answer.
//!
//! Invariant: every question may be answered by "unknown", and whoever asks must then choose the
//! side on which nothing is lost. Pure.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use crate::{Domain, Mailbox, Time};

/// A question to the world.
#[derive(Clone, PartialEq, Eq)]
pub enum Question {
    /// Has this first contact waited?
    Greylist(Triplet),
    /// What is the name of this address, confirmed by the addresses of that name?
    HostName(IpAddr),
    /// Is this entry in the DNS list of that zone (RFC 5782)?
    Listed {
        /// The zone of the list.
        zone: Domain,
        /// What is looked for in it.
        entry: ListEntry,
    },
    /// Is there mail for this domain: has it MX or address records?
    MailDomain(Domain),
    /// Which hosts take mail for this domain (RFC 5321 §5.1)?
    Mx(Domain),
    /// Does this password belong to this user?
    Password {
        /// The authentication identity (RFC 4616 §2), prepared.
        user: String,
        /// The password as the client gave it.
        password: String,
    },
    /// Would the next hop take mail for this mailbox?
    Recipient(Mailbox),
}

impl fmt::Debug for Question {
    /// Never shows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Greylist(triplet) => f.debug_tuple("Greylist").field(triplet).finish(),
            Self::HostName(address) => f.debug_tuple("HostName").field(address).finish(),
            Self::Listed { zone, entry } => {
                f.debug_struct("Listed").field("zone", zone).field("entry", entry).finish()
            }
            Self::MailDomain(domain) => f.debug_tuple("MailDomain").field(domain).finish(),
            Self::Mx(domain) => f.debug_tuple("Mx").field(domain).finish(),
            Self::Password { user, password: _ } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
            Self::Recipient(mailbox) => f.debug_tuple("Recipient").field(mailbox).finish(),
        }
    }
}

/// Who writes to whom from where, as greylisting tells it (RFC 6647 §2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Triplet {
    /// The first address of the client's network: /24 of IPv4, /64 of IPv6.
    pub network: IpAddr,
    /// The domain of the reverse-path.
    pub sender: Domain,
    /// The recipient.
    pub recipient: Mailbox,
}

/// What a DNS list may hold (RFC 5782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListEntry {
    /// An address.
    Address(IpAddr),
    /// A domain.
    Domain(Domain),
}

/// An answer of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Greylist`].
    Greylist(GreylistAnswer),
    /// To [`Question::HostName`].
    HostName(HostNameAnswer),
    /// To [`Question::Listed`].
    Listed(ListedAnswer),
    /// To [`Question::MailDomain`].
    MailDomain(MailDomainAnswer),
    /// To [`Question::Mx`].
    Mx(MxAnswer),
    /// To [`Question::Password`].
    Password(PasswordAnswer),
    /// To [`Question::Recipient`].
    Recipient(RecipientAnswer),
}

/// Whether a first contact has waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GreylistAnswer {
    /// It has, now or before: mail may come.
    Passed,
    /// Nobody can say.
    Unknown,
    /// It has not, for so long yet.
    Waits {
        /// When it may come again.
        until: Time,
    },
}

/// What the name of an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostNameAnswer {
    /// This one, which leads back to the address.
    Confirmed(Domain),
    /// There is none, or none leads back.
    None,
    /// It could not be found out just now.
    Unknown,
}

/// Whether something is in a DNS list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListedAnswer {
    /// No; or the list is not to be believed just now.
    No,
    /// It could not be found out just now.
    Unknown,
    /// Yes.
    Yes {
        /// What the list says of it: addresses in 127.0.0.0/8 (RFC 5782 §2.3); never empty.
        codes: Vec<Ipv4Addr>,
        /// Its text, for those who are refused; `None` where it has none.
        reason: Option<String>,
    },
}

/// Whether there is mail for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailDomainAnswer {
    /// It has MX or address records.
    Exists,
    /// It exists, and has neither.
    NoHost,
    /// It does not exist.
    NoSuchDomain,
    /// It says that it takes no mail (RFC 7505).
    NullMx,
    /// Its name servers are in trouble: so says the resolver (SERVFAIL).
    Trouble,
    /// The resolver did not say.
    Unknown,
}

/// Whether the next hop takes mail for a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientAnswer {
    /// It does not know the mailbox.
    Refused,
    /// It does.
    Taken,
    /// It could not be asked, or did not say.
    Unknown,
}

/// Which hosts take mail for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MxAnswer {
    /// These, in no particular order.
    Hosts {
        /// The hosts of the MX records, or the domain itself with preference 0 where it has only
        /// addresses (the implicit MX); never empty.
        hosts: Vec<MxHost>,
        /// Until when the answer may be used.
        valid_until: Time,
    },
    /// The domain exists but has neither MX nor address records.
    NoHost,
    /// The domain does not exist.
    NoSuchDomain,
    /// A null MX: the domain takes no mail (RFC 7505).
    NullMx,
    /// The resolver could not say; a time-out, SERVFAIL or a bogus signature.
    Unknown {
        /// What went wrong, in words.
        why: String,
    },
}

/// A host that takes mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxHost {
    /// Lower is tried first.
    pub preference: u16,
    /// Its name.
    pub name: Domain,
    /// What its name leads to.
    pub addresses: Addresses,
}

/// What the name of a host leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Only to addresses to which mail from strangers' zones must not lead: loopback, private or
    /// reserved ones; this is the first of them.
    Forbidden(IpAddr),
    /// To these; never empty.
    Known(Vec<IpAddr>),
    /// To none: the name does not exist or has no address.
    None,
    /// To us.
    Ourselves,
    /// It could not be found out just now.
    Unknown,
}

impl Addresses {
    /// Those to which mail may be sent.
    pub fn known(&self) -> &[IpAddr] {
        match self {
            Self::Known(addresses) => addresses,
            Self::Forbidden(_) | Self::None | Self::Ourselves | Self::Unknown => &[],
        }
    }
}

/// Whether a password belongs to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordAnswer {
    /// No; nor is it told whether the user exists.
    Denied,
    /// Yes.
    Granted {
        /// The name of the credential, for rules, limits and logs.
        credential: String,
    },
    /// It could not be checked just now (RFC 4954 §6: 454).
    Unavailable,
}
