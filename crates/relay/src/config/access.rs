//! Which options there are about who may authenticate, and how.
//!
//! Each stands here with its meaning, unit and default. Pure.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use merpati_flow::{admit::Sender, lockout::Rules};
use merpati_mail::Domain;
use merpati_smtp::server::Mechanism;

use super::{
    section::{Default, section},
    setting::{Setting, Wrong, choose, quoted},
    values::Name,
};
use crate::{auth::jwt::Algorithm, credential::Credential};

section! {
    /// What follows when authentication fails. What failed is remembered across connections, for
    /// at most 100,000 addresses and users, until the relay is started again.
    Once "auth" Access {
        /// How long a client waits for the answer to each of its first ten failures; for those to
        /// the next ten twice as long, and so on. `0 s`: nobody waits.
        failure_wait: Duration = Default::Value("500 ms");
        /// The longest such wait.
        failure_wait_max: Duration = Default::Value("10 s");
        /// Failures that lock out an address, or an IPv6 /64: AUTH is then answered with 421.
        /// Addresses in `relay.networks` are never locked out, and nobody is who has authenticated
        /// from there before. `off`: none are.
        failures_per_address_max: Option<NonZeroU32> = Default::Value("30");
        /// Failures that lock out a user for everybody who does not come from where the user has
        /// authenticated before, or from `relay.networks`: AUTH is then answered with 454. There,
        /// the user's failures are counted apart. `off`: none are.
        failures_per_user_max: Option<NonZeroU32> = Default::Value("20");
        /// After so long, one failure is forgotten: at the limit, this is the time between two
        /// tries.
        failure_forgotten_after: Duration = Default::Value("1 min");
    }
}

section! {
    /// A user who may authenticate, as often as needed.
    Named "credential" CredentialEntry {
        /// The name that the client gives in AUTH.
        name: String = Default::Required;
        /// The stored form of the password: an Argon2id hash and SCRAM-SHA-256 keys in one line.
        /// `off`: the user has none, and comes with a certificate or a token.
        password: Option<Credential> = Default::Value("off");
        /// Whether the user may authenticate at all. With `false`, the right password is answered
        /// like a wrong one.
        enabled: bool = Default::Value("true");
        /// Mail addresses and DNS names: who shows a certificate that was issued for one of them
        /// may authenticate with EXTERNAL; see `listener.tls_client_ca`.
        certificate_names: Vec<String> = Default::Value("");
        /// The names of `[[token_issuer]]` whose tokens for this user are taken.
        token_issuers: Vec<Name> = Default::Value("");
        /// As whom the user may send, in MAIL and in the header fields From and Sender: addresses,
        /// domains (subdomains do not count), or `*` for anybody. Others are refused with 553 and
        /// 550. An empty list: any address in `relay.local_domains`.
        senders: Vec<Sender> = Default::Value("");
        /// Whether the user's mail never leaves the organisation: recipients outside of
        /// `relay.local_domains`, and aliases that lead there, are refused with 550 5.7.1.
        internal_only: bool = Default::Value("false");
    }
}

section! {
    /// Somebody who vouches for users with signed tokens (JWT, RFC 7519), for OAUTHBEARER (RFC
    /// 7628) and XOAUTH2; as often as needed.
    Named "token_issuer" TokenIssuer {
        /// Its name for `credential.token_issuers`.
        name: Name = Default::Required;
        /// What the claim `iss` of its tokens says, to the letter.
        issuer: String = Default::Required;
        /// One of these must be in the claim `aud`: what this relay is called at the issuer.
        audience: Vec<String> = Default::Required;
        /// The file with its public keys: a JWK set (RFC 7517), or PEM. It is read again when it
        /// has changed; while it cannot be read, tokens are answered with 454.
        keys: PathBuf = Default::Required;
        /// The algorithms that it may sign with (RFC 7518, RFC 8037).
        algorithms: Vec<Algorithm> = Default::Value("RS256, PS256, ES256, EdDSA");
        /// The claim that names the user: the name of a `[[credential]]`, or an address in one of
        /// the `domains`.
        user_claim: String = Default::Value("email");
        /// Users with an address in these domains need no `[[credential]]`; they may send as that
        /// address only.
        domains: Vec<Domain> = Default::Value("");
    }
}

impl Access {
    /// What failures lead to.
    pub fn rules(&self) -> Rules {
        Rules {
            wait: self.failure_wait,
            wait_max: self.failure_wait_max,
            per_address_max: self.failures_per_address_max.map(NonZeroU32::get),
            per_user_max: self.failures_per_user_max.map(NonZeroU32::get),
            forgotten_after: self.failure_forgotten_after,
            ..Rules::default()
        }
    }
}

impl Setting for Mechanism {
    const FORM: &'static str = "names of mechanisms: \"scram-sha-256-plus\", \"scram-sha-256\", \
                                \"external\", \"oauthbearer\", \"xoauth2\", \"plain\", \"login\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        choose(&text.to_ascii_lowercase(), &Self::ALL.map(|mechanism| (word(mechanism), mechanism)))
    }

    fn show(&self) -> String {
        quoted(word(*self))
    }
}

impl Setting for Algorithm {
    const FORM: &'static str = "names of algorithms: \"RS256\", \"PS256\", \"ES256\", \"EdDSA\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        choose(text, &Self::ALL.map(|algorithm| (algorithm.name(), algorithm)))
    }

    fn show(&self) -> String {
        quoted(self.name())
    }
}

/// The word of the configuration.
const fn word(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::External => "external",
        Mechanism::Login => "login",
        Mechanism::Oauthbearer => "oauthbearer",
        Mechanism::Plain => "plain",
        Mechanism::ScramSha256 => "scram-sha-256",
        Mechanism::ScramSha256Plus => "scram-sha-256-plus",
        Mechanism::Xoauth2 => "xoauth2",
    }
}

#[cfg(test)]
impl CredentialEntry {
    /// A user with this password and nothing else.
    pub(crate) fn for_test(name: &str, password: &str) -> Self {
        Self {
            name: name.to_owned(),
            password: Some(Credential::of(password).unwrap()),
            enabled: true,
            certificate_names: Vec::new(),
            token_issuers: Vec::new(),
            senders: Vec::new(),
            internal_only: false,
        }
    }
}
