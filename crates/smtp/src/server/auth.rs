//! What a SASL exchange yields: a name and a password to ask about (RFC 4616; LOGIN de facto).
//!
//! Invariant: whatever is wrong with a name or password is denied like a wrong password, so nobody
//! learns which names exist. Pure.

use base64::{Engine, engine::general_purpose::STANDARD};

/// What the next line of the client answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// LOGIN: the name.
    LoginName,
    /// LOGIN: the password of this name.
    LoginPassword { user: String },
    /// PLAIN: everything.
    Plain,
}

/// How the exchange goes on.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Send this challenge, in base64, and wait.
    Challenge(&'static str, Exchange),
    /// Find out whether this password belongs to this user.
    Check { user: String, password: String },
    /// No, without asking anybody.
    Denied,
    /// The response is no base64, or no message of the mechanism.
    Malformed,
}

/// The exchange that a mechanism begins; `None` for a mechanism that we do not have.
pub(super) fn begin(mechanism: &str) -> Option<Exchange> {
    if mechanism.eq_ignore_ascii_case("PLAIN") {
        Some(Exchange::Plain)
    } else if mechanism.eq_ignore_ascii_case("LOGIN") {
        Some(Exchange::LoginName)
    } else {
        None
    }
}

impl Exchange {
    /// The challenge that a client without initial response waits for.
    pub(super) fn challenge(self) -> Step {
        match self {
            // RFC 4954 §4: the empty challenge.
            Self::Plain => Step::Challenge("", self),
            Self::LoginName => Step::Challenge("VXNlcm5hbWU6", self),
            Self::LoginPassword { .. } => Step::Challenge("UGFzc3dvcmQ6", self),
        }
    }

    /// Takes a response in base64; `=` is the empty one (RFC 4954 §4).
    pub(super) fn respond(self, response: &[u8]) -> Step {
        let octets = if response == b"=" { Ok(Vec::new()) } else { STANDARD.decode(response) };
        let Some(text) = octets.ok().and_then(|octets| String::from_utf8(octets).ok()) else {
            return Step::Malformed;
        };
        match self {
            Self::LoginName => Self::LoginPassword { user: text }.challenge(),
            Self::LoginPassword { user } => credential(user, text),
            Self::Plain => plain(&text),
        }
    }
}

/// RFC 4616 §2: authorization identity, authentication identity and password, between them NUL.
fn plain(text: &str) -> Step {
    let mut parts = text.split('\0');
    let (Some(acts_as), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Step::Malformed;
    };
    // Nobody may act for somebody else.
    if !acts_as.is_empty() && acts_as != user {
        return Step::Denied;
    }
    credential(user.to_owned(), password.to_owned())
}

fn credential(user: String, password: String) -> Step {
    let is_possible = !user.is_empty()
        && !password.is_empty()
        && !user.chars().any(char::is_control)
        && !password.contains('\0');
    if is_possible { Step::Check { user, password } } else { Step::Denied }
}
