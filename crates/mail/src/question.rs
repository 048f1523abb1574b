//! What pure code asks the world, and what the world may answer.
//!
//! Invariant: every question may be answered by "unknown", and whoever asks must then choose the
//! side on which nothing is lost. Pure.

use std::{fmt, net::IpAddr};

use crate::{Domain, Time};

/// A question to the world.
#[derive(Clone, PartialEq, Eq)]
pub enum Question {
    /// Which hosts take mail for this domain (RFC 5321 §5.1)?
    Mx(Domain),
    /// Does this password belong to this user?
    Password {
        /// The authentication identity (RFC 4616 §2), prepared.
        user: String,
        /// The password as the client gave it.
        password: String,
    },
}

impl fmt::Debug for Question {
    /// Never shows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mx(domain) => f.debug_tuple("Mx").field(domain).finish(),
            Self::Password { user, password: _ } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
        }
    }
}

/// An answer of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Mx`].
    Mx(MxAnswer),
    /// To [`Question::Password`].
    Password(PasswordAnswer),
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
