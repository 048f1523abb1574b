//! What pure code asks the world, and what the world may answer.
//!
//! Invariant: every question may be answered by "unknown", and whoever asks must then choose the
//! side on which nothing is lost. Pure.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU32,
    time::Duration,
};

use crate::{Domain, Mailbox, Time};

/// A question to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Who is it that claims this?
    Credential(Claim),
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
    /// Would the next hop take mail for this mailbox?
    Recipient(Mailbox),
}

/// What a client brings to show who it is, one for each way of SASL (RFC 4422).
///
/// Names and passwords are prepared (RFC 8265 §4.2).
#[derive(Clone, PartialEq, Eq)]
pub enum Claim {
    /// A certificate, which the TLS handshake has found good (RFC 4422, Appendix A).
    Certificate {
        /// The mail addresses and DNS names that it was issued for; may be empty.
        names: Vec<String>,
        /// As whom the client wants to act; `None` where that follows from the certificate.
        acts_as: Option<String>,
    },
    /// A password (RFC 4616; LOGIN).
    Password {
        /// The authentication identity.
        user: String,
        /// The password.
        password: String,
    },
    /// What an exchange has shown already; may it hold?
    Shown {
        /// The name that was given; `None` where it did not come to that.
        user: Option<String>,
        /// The credential that was proven; `None` where the proof was wrong.
        credential: Option<String>,
    },
    /// A token of somebody who vouches for the user (RFC 7628).
    Token {
        /// As whom the client wants to act; `None` where that follows from the token.
        user: Option<String>,
        /// The token.
        token: String,
    },
    /// The wish to prove that one knows a password, without saying it (RFC 5802).
    Verifier {
        /// The authentication identity.
        user: String,
    },
}

impl fmt::Debug for Claim {
    /// Never shows a password or a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate { names, acts_as } => {
                let mut shown = f.debug_struct("Certificate");
                shown.field("names", names).field("acts_as", acts_as).finish()
            }
            Self::Password { user, password: _ } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
            Self::Shown { user, credential } => {
                let mut shown = f.debug_struct("Shown");
                shown.field("user", user).field("credential", credential).finish()
            }
            Self::Token { user, token: _ } => {
                f.debug_struct("Token").field("user", user).finish_non_exhaustive()
            }
            Self::Verifier { user } => f.debug_struct("Verifier").field("user", user).finish(),
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
    /// To [`Question::Credential`].
    Credential(CredentialAnswer),
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
        /// Whether DNSSEC proves that these are the hosts; never where it is not checked.
        is_proven: bool,
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

/// Who it is that made a [`Claim`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialAnswer {
    /// Nobody; nor is it told whether the user exists.
    Denied {
        /// How long the client has to wait before it is told; grows with each failure.
        wait: Duration,
    },
    /// The holder of a credential.
    Granted {
        /// The name of the credential, for rules, limits and logs.
        credential: String,
    },
    /// Nobody may try just now: too much has failed.
    Locked(Lock),
    /// It could not be found out just now (RFC 4954 §6: 454).
    Unavailable,
    /// To [`Claim::Verifier`], and to no other: this is what a proof is checked with.
    Verifier(Box<Verifier>),
}

/// What is locked after too many failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// The address of the client.
    Address,
    /// The user, for clients that do not know him from before.
    User,
}

/// What a proof of SCRAM is checked with, and the rest of what the server says first.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    /// The credential that the proof belongs to; `None` where the user is not known: then the keys
    /// are made up, and no proof will do.
    pub credential: Option<String>,
    /// The keys.
    pub keys: ScramKeys,
    /// Random octets, drawn for this exchange alone.
    pub nonce: [u8; Self::NONCE_OCTETS],
}

impl Verifier {
    /// Octets of a nonce: 144 bits, in base64 24 characters.
    pub const NONCE_OCTETS: usize = 18;
}

impl fmt::Debug for Verifier {
    /// Shows nothing that could be attacked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("credential", &self.credential).finish_non_exhaustive()
    }
}

/// The keys of SCRAM-SHA-256 (RFC 5802 §3, RFC 7677).
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// How often the hash is repeated.
    pub iterations: NonZeroU32,
    /// The salt; never empty.
    pub salt: Vec<u8>,
    /// H(ClientKey).
    pub stored_key: [u8; Self::KEY_OCTETS],
    /// HMAC(SaltedPassword, "Server Key").
    pub server_key: [u8; Self::KEY_OCTETS],
}

impl ScramKeys {
    /// Octets of a key: those of SHA-256.
    pub const KEY_OCTETS: usize = 32;
}

impl fmt::Debug for ScramKeys {
    /// Shows nothing that could be attacked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramKeys").finish_non_exhaustive()
    }
}
