//! Which options about aliases and about what stays inside do not go together.
//!
//! Pure.

use super::{
    aliases::AliasEntry,
    check::{Parts, place_of},
    diagnostic::Diagnostic,
    source::Table,
};

/// Notes every pair of options that cannot both hold.
pub(super) fn together(parts: &Parts<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for (table, alias) in parts.with_tables("alias", parts.aliases) {
        diagnostics.extend(halves(alias, table));
        diagnostics.extend(elsewhere(parts, alias, table));
    }
    diagnostics.extend(internal(parts));
    diagnostics.extend(srs(parts));
}

/// Tables of which one half is missing.
fn halves(alias: &AliasEntry, table: &Table) -> Option<Diagnostic> {
    let name = &alias.name;
    let (option, why, help) = match (&alias.file, alias.addresses.is_empty(), alias.to.is_empty()) {
        (None, true, true) => (
            "name",
            format!("there are no aliases in `{name}`"),
            "add file = \"/etc/merpati/aliases\", or addresses = [\"info@shop.example\"] and \
                 to = [\"ani@shop.example\"]",
        ),
        (_, false, true) => {
            ("addresses", "these stand for nobody".to_owned(), "add to = [\"ani@shop.example\"]")
        }
        (_, true, false) => {
            ("to", "nothing stands for these".to_owned(), "add addresses = [\"info@shop.example\"]")
        }
        (None | Some(_), false, false) | (Some(_), true, true) => return None,
    };
    Some(Diagnostic::new(why, place_of(table, option)).help(help))
}

/// Names that would be in a domain of others.
fn elsewhere(parts: &Parts<'_>, alias: &AliasEntry, table: &Table) -> Option<Diagnostic> {
    let (relay, domain) = (parts.relay?, alias.domain.as_ref()?);
    let why = format!("`{domain}` is not one of your domains");
    let help = "add it to relay.local_domains, or name one that is there";
    (!relay.local_domains.contains(domain))
        .then(|| Diagnostic::new(why, place_of(table, "domain")).help(help))
}

/// Domains that are to be internal, and are not ours.
fn internal(parts: &Parts<'_>) -> Option<Diagnostic> {
    let relay = parts.relay?;
    let mut domains = relay.internal_domains.iter();
    let domain = domains.find(|domain| !relay.local_domains.contains(domain))?;
    let why = format!("`{domain}` is not one of your domains");
    let table = parts.tables("relay").first()?;
    let help = "add it to relay.local_domains as well: internal_domains are some of those";
    Some(Diagnostic::new(why, place_of(table, "internal_domains")).help(help))
}

/// A domain for reports that cannot come there.
fn srs(parts: &Parts<'_>) -> Option<Diagnostic> {
    let relay = parts.relay?;
    let domain = relay.srs_domain.as_ref()?;
    let (why, help) = if !relay.local_domains.contains(domain) {
        (
            format!("`{domain}` is not one of your domains"),
            "add it to relay.local_domains as well, with an MX record that leads here",
        )
    } else if relay.internal_domains.contains(domain) {
        (
            format!("strangers may not send to `{domain}`, and reports come from them"),
            "name another one of relay.local_domains",
        )
    } else {
        return None;
    };
    let table = parts.tables("relay").first()?;
    Some(Diagnostic::new(why, place_of(table, "srs_domain")).help(help))
}
