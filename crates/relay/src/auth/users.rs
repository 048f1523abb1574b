//! Which users there are, and by which ways each may show that it is he.
//!
//! Pure.

use std::{collections::BTreeMap, sync::Arc};

use merpati_mail::{Mailbox, precis};

use super::{Found, tokens::Bearer};
use crate::{
    config::{Name, access::CredentialEntry},
    credential::Credential,
};

/// The users of the configuration.
#[derive(Debug)]
pub(super) struct Users {
    by_name: BTreeMap<String, User>,
    /// Whose certificate is issued for a name; in lower case.
    by_certificate_name: BTreeMap<String, String>,
}

#[derive(Debug)]
struct User {
    /// `None` where there is none, and where the user is disabled.
    password: Option<Arc<Credential>>,
    token_issuers: Vec<Name>,
    is_enabled: bool,
}

impl Users {
    /// All of these, by their prepared names.
    pub(super) fn of(entries: &[CredentialEntry]) -> Self {
        let (mut by_name, mut by_certificate_name) = (BTreeMap::new(), BTreeMap::new());
        for entry in entries {
            let user = User {
                password: entry.password.clone().filter(|_| entry.enabled).map(Arc::new),
                token_issuers: entry.token_issuers.clone(),
                is_enabled: entry.enabled,
            };
            by_name.insert(entry.name.clone(), user);
            for name in &entry.certificate_names {
                by_certificate_name.insert(name.to_ascii_lowercase(), entry.name.clone());
            }
        }
        Self { by_name, by_certificate_name }
    }

    /// What is kept of the password of this user; `None` where nothing is.
    pub(super) fn password(&self, user: &str) -> Option<&Arc<Credential>> {
        self.by_name.get(user)?.password.as_ref()
    }

    /// What is kept of all passwords.
    pub(super) fn passwords(&self) -> impl Iterator<Item = &Arc<Credential>> {
        self.by_name.values().filter_map(|user| user.password.as_ref())
    }

    /// The user with a certificate for these names. One that names several users has to say as whom
    /// it acts.
    pub(super) fn by_certificate(&self, names: &[String], acts_as: Option<&str>) -> Found {
        let users = names.iter().filter_map(|name| {
            let user = self.by_certificate_name.get(&name.to_ascii_lowercase())?;
            let is_wanted =
                acts_as.is_none_or(|wanted| wanted == user || wanted.eq_ignore_ascii_case(name));
            (is_wanted && self.by_name.get(user).is_some_and(|user| user.is_enabled))
                .then_some(user)
        });
        let mut found = Found::Nobody;
        for user in users {
            match &found {
                Found::Credential(other) if other != user => return Found::Nobody,
                Found::Credential(_) | Found::Nobody | Found::Unknown => {
                    found = Found::Credential(user.clone());
                }
            }
        }
        found
    }

    /// The user for whom an issuer vouches: one of ours who takes the word of this issuer, or one
    /// whose address lies in a domain of the issuer. The latter is in no list, and may send as
    /// himself alone.
    pub(super) fn by_token(&self, bearer: &Bearer, wanted: Option<&str>) -> Found {
        // A client writes the name of its user as the user likes; the token decides.
        if wanted.is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&bearer.user)) {
            return Found::Nobody;
        }
        let Some(name) = precis::opaque(&bearer.user) else { return Found::Nobody };
        let own = self.by_name.get_key_value(&*name).or_else(|| self.by_address(&name));
        let is_good = match own {
            Some((_, user)) => user.is_enabled && user.token_issuers.contains(&bearer.issuer),
            None => {
                Mailbox::parse(&name).is_ok_and(|mailbox| bearer.domains.contains(mailbox.domain()))
            }
        };
        let name = own.map_or(&*name, |(name, _)| name);
        if is_good { Found::Credential(name.to_owned()) } else { Found::Nobody }
    }

    /// The user whose name is this address in another case: an issuer may keep the case in which
    /// somebody wrote it once.
    fn by_address(&self, name: &str) -> Option<(&String, &User)> {
        let _: Mailbox = Mailbox::parse(name).ok()?;
        self.by_name.iter().find(|(own, _)| own.eq_ignore_ascii_case(name))
    }
}
