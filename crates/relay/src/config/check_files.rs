//! Whether the files that the configuration names can be used.
//!
//! Not pure: it reads them, as the relay will.

use std::io;

use super::{Config, diagnostic::Diagnostic, diagnostic::Errors, values::TlsUse};
use crate::{
    certificates::Pair,
    tls::{self, Trust},
};

impl Config {
    /// Tries all files that the configuration names.
    pub fn check_files(&self) -> Result<(), Errors> {
        let mut wrong = self.certificate_files();
        wrong.extend(self.needed_files());
        self.with_aliases(wrong)
    }

    /// Tries the files without which the relay does not start. Without a good certificate it does,
    /// and answers STARTTLS with 454.
    pub fn check_needed_files(&self) -> Result<(), Errors> {
        self.with_aliases(self.needed_files())
    }

    /// What is wrong with these files, and with those of aliases.
    fn with_aliases(&self, wrong: Vec<Diagnostic>) -> Result<(), Errors> {
        let others = if wrong.is_empty() { None } else { Some(Errors::new(&self.sources, wrong)) };
        match (others, self.aliases()) {
            (None, Ok(_)) => Ok(()),
            (None, Err(of_aliases)) => Err(of_aliases),
            (Some(others), Ok(_)) => Err(others),
            (Some(others), Err(of_aliases)) => Err(others.and(of_aliases)),
        }
    }

    fn certificate_files(&self) -> Vec<Diagnostic> {
        let mut wrong = Vec::new();
        let listeners = self.listeners.iter().filter(|listener| listener.tls != TlsUse::None);
        let own = listeners.filter_map(|listener| {
            let chain = listener.tls_certificate.clone()?;
            let pair = Pair { chain, key: listener.tls_key.clone()? };
            Some((format!("listener.{}", listener.name), ("tls_certificate", "tls_key"), pair))
        });
        // What is ordered may be still to come.
        let others = self.certificates.iter().filter(|one| !one.is_ordered());
        let others = others
            .map(|one| (format!("certificate.{}", one.name), ("chain", "key"), self.files_of(one)));
        let web = self.https.tls_certificate.clone().zip(self.https.tls_key.clone());
        let web = web.map(|(chain, key)| {
            ("https".to_owned(), ("tls_certificate", "tls_key"), Pair { chain, key })
        });
        for (table, options, pair) in own.chain(others).chain(web) {
            wrong.extend(self.pair(&table, options, &pair));
        }
        wrong
    }

    /// What is wrong with a certificate and its key, which these options of a table name.
    fn pair(&self, table: &str, (chain, key): (&str, &str), pair: &Pair) -> Option<Diagnostic> {
        if let Err(why) = tls::certificates_of(&pair.chain) {
            return Some(self.diagnostic(&format!("{table}.{chain}"), said(&why), PEM));
        }
        let why = pair.read().err()?;
        let help = "name the key that this certificate was made for, as a PEM file";
        Some(self.diagnostic(&format!("{table}.{key}"), said(&why), help))
    }

    fn needed_files(&self) -> Vec<Diagnostic> {
        let mut wrong = Vec::new();
        let ca = self.acme.ca_file.as_deref().map(|ca| tls::connector(Trust::File(ca), None));
        if let Some(Err(why)) = ca {
            wrong.push(self.diagnostic("acme.ca_file", said(&why), PEM));
        }
        for listener in &self.listeners {
            let Some(ca) = &listener.tls_client_ca else { continue };
            let table = format!("listener.{}", listener.name);
            if let Err(why) = tls::client_verifier(ca, None) {
                wrong.push(self.diagnostic(&format!("{table}.tls_client_ca"), said(&why), PEM));
            } else if let Err(why) = tls::client_verifier(ca, listener.tls_client_crl.as_deref()) {
                wrong.push(self.diagnostic(&format!("{table}.tls_client_crl"), said(&why), PEM));
            }
        }
        for route in &self.routes {
            let table = format!("route.{}", route.name);
            if let Some(Err(why)) =
                route.tls_ca.as_deref().map(|ca| tls::connector(Trust::File(ca), None))
            {
                wrong.push(self.diagnostic(&format!("{table}.tls_ca"), said(&why), PEM));
            }
            if let Some(pair) = route.certificate() {
                wrong.extend(self.pair(&table, ("tls_certificate", "tls_key"), &pair));
            }
            if let Err(why) = route.login() {
                let help = help(&why, "write the password, and nothing else, into this file");
                wrong.push(self.diagnostic(
                    &format!("{table}.password_file"),
                    why.to_string(),
                    help,
                ));
            }
        }
        if let Err(why) = self.recipients.verification() {
            let help = help(&why, "write one address or @domain a line; behind a # is a comment");
            wrong.push(self.diagnostic("recipients.known_file", why.to_string(), help));
        }
        wrong
    }
}

/// What to do about a file: where it could be read, what stands in it is wrong.
fn help(why: &io::Error, content: &'static str) -> &'static str {
    if why.kind() == io::ErrorKind::InvalidData { content } else { UNREADABLE }
}

/// An error with its causes, in one line.
fn said(why: &anyhow::Error) -> String {
    format!("{why:#}")
}

const UNREADABLE: &str = "name a file that is there and that the user who runs merpati may read";
const PEM: &str = "name a PEM file that the user who runs merpati may read";

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::Path};

    use rcgen::generate_simple_self_signed;

    use super::{super::Source, *};

    /// Writes good files and others into a folder.
    fn furnish(folder: &Path) {
        let make = || generate_simple_self_signed(["mx.ours.example".to_owned()]).unwrap();
        let (own, other) = (make(), make());
        for (name, text) in [
            ("chain.pem", own.cert.pem()),
            ("key.pem", own.signing_key.serialize_pem()),
            ("other.pem", other.signing_key.serialize_pem()),
            ("nonsense", "nonsense".to_owned()),
            ("empty", String::new()),
            ("recipients", "ani@ours.example\nani@@ours.example\n".to_owned()),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    /// What is said of the files of this configuration; `@` stands for the folder.
    fn said(folder: &Path, text: &str) -> String {
        let text = text.replace('@', &folder.to_string_lossy());
        let source = Source { name: "merpati.toml".to_owned(), text };
        let config = Config::of(vec![source], &BTreeMap::new(), &[]).unwrap();
        config.check_files().err().map_or_else(|| "ok".to_owned(), |why| why.to_string())
    }

    #[test]
    fn files_that_are_of_no_use_are_told_with_the_option_that_names_them() {
        let folder = tempfile::tempdir().unwrap();
        furnish(folder.path());
        let listener = |more: &str| {
            format!(
                "[[listener]]\nname = \"mx\"\nkind = \"rehearsal\"\nlisten = \"127.0.0.1:25\"\n\
                 tls = \"starttls\"\n{more}"
            )
        };
        let good = "tls_certificate = \"@/chain.pem\"\ntls_key = \"@/key.pem\"\n";
        let route = "[[route]]\nname = \"hub\"\nto = \"smtp://hub.example:587\"\n";
        for (text, line, part) in [
            (
                listener("tls_certificate = \"@/chain.pem\"\ntls_key = \"@/other.pem\"\n"),
                7,
                "are not a certificate and its key",
            ),
            (
                listener("tls_certificate = \"@/gone.pem\"\ntls_key = \"@/key.pem\"\n"),
                6,
                "No such file",
            ),
            (
                listener("tls_certificate = \"@/chain.pem\"\ntls_key = \"@/nonsense\"\n"),
                7,
                "cannot read a private key",
            ),
            (listener(&format!("{good}tls_client_ca = \"@/nonsense\"\n")), 8, "nonsense"),
            (
                listener(&format!(
                    "{good}tls_client_ca = \"@/chain.pem\"\ntls_client_crl = \"@/gone\"\n"
                )),
                9,
                "No such file",
            ),
            (
                "[[certificate]]\nname = \"a\"\nchain = \"@/empty\"\nkey = \"@/key.pem\"\n"
                    .to_owned(),
                3,
                "there is no certificate in",
            ),
            (format!("{route}user = \"ani\"\npassword_file = \"@/gone\"\n"), 5, "No such file"),
            (format!("{route}tls = \"required\"\ntls_ca = \"@/nonsense\"\n"), 5, "nonsense"),
            (
                format!("{route}tls_certificate = \"@/gone.pem\"\ntls_key = \"@/key.pem\"\n"),
                4,
                "gone.pem",
            ),
            (
                format!("{route}tls_certificate = \"@/chain.pem\"\ntls_key = \"@/other.pem\"\n"),
                5,
                "are not a certificate and its key",
            ),
            (
                "[relay]\nlocal_domains = [\"ours.example\"]\n[recipients]\n\
                 known_file = \"@/recipients\"\n"
                    .to_owned(),
                4,
                "recipients: line 2: not a recipient",
            ),
        ] {
            let told = said(folder.path(), &text);
            for part in [part, &format!("merpati.toml:{line}:"), "= help: ", "1 mistake in"] {
                assert!(told.contains(part), "{text}\n{told}\nlacks {part}");
            }
        }
        assert_eq!(said(folder.path(), &listener(good)), "ok");
    }
}
