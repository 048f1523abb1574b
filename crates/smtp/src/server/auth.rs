//! What a SASL exchange yields: something to ask about, or nothing (RFC 4422, RFC 4616; LOGIN de
//! facto).
//!
//! Invariant: whatever is wrong with a name or password is denied like a wrong password, so nobody
//! learns which names exist. Pure.

use std::{borrow::Cow, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use merpati_mail::{
    precis,
    question::{Claim, Verifier},
};

use super::{
    Channel, bearer,
    bearer::Dialect,
    options::Mechanism,
    scram::{self, Binding, Challenged, First, Shown},
};

/// What the next line of the client answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// OAUTHBEARER and XOAUTH2: everything.
    Bearer(Dialect),
    /// The same, after the client was told that its token is no good: nothing of importance. It
    /// has to wait so long for the reply.
    BearerRefused { wait: Duration },
    /// EXTERNAL: as whom the client wants to act, with a certificate for these names.
    External { names: Vec<String> },
    /// LOGIN: the name.
    LoginName,
    /// LOGIN: the password of this name.
    LoginPassword { user: String },
    /// PLAIN: everything.
    Plain,
    /// SCRAM: nothing, to our signature.
    ScramEnd { credential: String },
    /// SCRAM: the first message.
    ScramFirst(Binding),
    /// SCRAM: the last message.
    ScramLast(Box<Challenged>),
}

/// What was asked in an exchange, and what the answer leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Whether a token is good.
    Bearer(Dialect),
    /// What a proof is checked with.
    Verifier(Box<First>),
    /// Whether a proof may hold; this is then the signature of ours, in base64.
    Proof { signature: String },
    /// Whether the client is who it says.
    Whole,
}

/// How the exchange goes on.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Find this out.
    Ask(Claim, Asked),
    /// Send this challenge, in base64, and wait.
    Challenge(Cow<'static, str>, Exchange),
    /// No, after this time: it was found out before, and the client told.
    Denied { wait: Duration },
    /// Yes: everything was found out already.
    Granted { credential: String },
    /// The response is no base64, or no message of the mechanism.
    Malformed,
}

/// The exchange that a mechanism begins.
pub(super) fn begin(
    mechanism: Mechanism,
    channel: Option<&Channel>,
    is_bindable: bool,
) -> Exchange {
    let binding = channel.and_then(|channel| channel.binding).filter(|_| is_bindable);
    match mechanism {
        Mechanism::External => Exchange::External {
            names: channel.and_then(|channel| channel.names.clone()).unwrap_or_default(),
        },
        Mechanism::Login => Exchange::LoginName,
        Mechanism::Oauthbearer => Exchange::Bearer(Dialect::Oauthbearer),
        Mechanism::Plain => Exchange::Plain,
        Mechanism::ScramSha256 if binding.is_some() => Exchange::ScramFirst(Binding::Declined),
        Mechanism::ScramSha256 => Exchange::ScramFirst(Binding::Impossible),
        Mechanism::ScramSha256Plus => {
            Exchange::ScramFirst(binding.map_or(Binding::Impossible, Binding::Bound))
        }
        Mechanism::Xoauth2 => Exchange::Bearer(Dialect::Xoauth2),
    }
}

impl Exchange {
    /// The challenge that a client without initial response waits for.
    pub(super) fn challenge(self) -> Step {
        let challenge = match &self {
            Self::LoginName => "VXNlcm5hbWU6",
            Self::LoginPassword { .. } => "UGFzc3dvcmQ6",
            // RFC 4954 §4: the empty challenge.
            Self::Bearer(_)
            | Self::BearerRefused { .. }
            | Self::External { .. }
            | Self::Plain
            | Self::ScramEnd { .. }
            | Self::ScramFirst(_)
            | Self::ScramLast(_) => "",
        };
        Step::Challenge(Cow::Borrowed(challenge), self)
    }

    /// Takes a response in base64; `=` is the empty one (RFC 4954 §4).
    pub(super) fn respond(self, response: &[u8]) -> Step {
        // RFC 7628 §3.2.3: whatever a client says to the refusal of its token is the end of it.
        if let Self::BearerRefused { wait } = self {
            return Step::Denied { wait };
        }
        let octets = if response == b"=" { Ok(Vec::new()) } else { STANDARD.decode(response) };
        let Some(text) = octets.ok().and_then(|octets| String::from_utf8(octets).ok()) else {
            return Step::Malformed;
        };
        match self {
            Self::Bearer(dialect) => match bearer::parse(&text, dialect) {
                Ok(claim) => Step::Ask(claim, Asked::Bearer(dialect)),
                Err(bearer::Breach::Denied) => Step::Ask(denied(None), Asked::Bearer(dialect)),
                Err(bearer::Breach::Malformed) => Step::Malformed,
            },
            Self::BearerRefused { wait } => Step::Denied { wait },
            Self::External { names } => external(names, &text),
            Self::LoginName => Self::LoginPassword { user: text }.challenge(),
            Self::LoginPassword { user } => password(&user, &text),
            Self::Plain => plain(&text),
            Self::ScramEnd { credential } if text.is_empty() => Step::Granted { credential },
            Self::ScramEnd { .. } => Step::Malformed,
            Self::ScramFirst(binding) => match First::parse(&text, &binding) {
                Ok(first) => {
                    let claim = Claim::Verifier { user: first.user.clone() };
                    Step::Ask(claim, Asked::Verifier(Box::new(first)))
                }
                Err(breach) => breached(breach),
            },
            Self::ScramLast(challenged) => match challenged.finish(&text) {
                Ok(Shown::Nothing { user }) => Step::Ask(denied(Some(user)), Asked::Whole),
                Ok(Shown::Proof { user, credential, signature }) => {
                    let claim = Claim::Shown { user: Some(user), credential: Some(credential) };
                    Step::Ask(claim, Asked::Proof { signature: STANDARD.encode(signature) })
                }
                Err(breach) => breached(breach),
            },
        }
    }
}

/// The challenge of SCRAM with these keys.
pub(super) fn scram_challenge(first: First, verifier: Box<Verifier>) -> Step {
    let challenged = first.challenge(verifier);
    let challenge = STANDARD.encode(challenged.challenge());
    Step::Challenge(Cow::Owned(challenge), Exchange::ScramLast(Box::new(challenged)))
}

fn breached(breach: scram::Breach) -> Step {
    match breach {
        scram::Breach::Denied => Step::Ask(denied(None), Asked::Whole),
        scram::Breach::Malformed => Step::Malformed,
    }
}

/// RFC 4616 §2: authorization identity, authentication identity and password, between them NUL.
fn plain(text: &str) -> Step {
    let mut parts = text.split('\0');
    let (Some(acts_as), Some(user), Some(secret), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Step::Malformed;
    };
    // Nobody may act for somebody else.
    if !acts_as.is_empty() && precis::opaque(acts_as) != precis::opaque(user) {
        return Step::Ask(denied(precis::opaque(user).map(String::from)), Asked::Whole);
    }
    password(user, secret)
}

fn password(user: &str, password: &str) -> Step {
    let claim = match (precis::opaque(user), precis::opaque(password)) {
        (Some(user), Some(password)) => {
            Claim::Password { user: user.into_owned(), password: password.into_owned() }
        }
        (user, _) => denied(user.map(String::from)),
    };
    Step::Ask(claim, Asked::Whole)
}

/// RFC 4422, Appendix A: the response is as whom the client wants to act; empty, as who it is.
fn external(names: Vec<String>, acts_as: &str) -> Step {
    let claim = match (names.is_empty(), acts_as, precis::opaque(acts_as)) {
        (false, "", _) => Claim::Certificate { names, acts_as: None },
        (false, _, Some(user)) => Claim::Certificate { names, acts_as: Some(user.into_owned()) },
        (true, _, _) | (false, _, None) => denied(None),
    };
    Step::Ask(claim, Asked::Whole)
}

/// What cannot be, told to those who count failures.
const fn denied(user: Option<String>) -> Claim {
    Claim::Shown { user, credential: None }
}
