//! What values of the options about aliases mean, also where they stand in files of their own.
//!
//! Pure.

use merpati_flow::alias::{Key, Target, To};
use merpati_mail::{AddressError, Domain, Mailbox};

use super::setting::{Setting, Wrong, choose, quoted};

/// How a file of aliases is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasFormat {
    /// As Postfix's aliases(5), and Sendmail's: `name: target, target`.
    Aliases,
    /// As Postfix's virtual(5): `address target, target`.
    Virtual,
}

impl Setting for AliasFormat {
    const FORM: &'static str = "\"virtual\" or \"aliases\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        choose(text, &[("virtual", Self::Virtual), ("aliases", Self::Aliases)])
    }

    fn show(&self) -> String {
        quoted(match self {
            Self::Aliases => "aliases",
            Self::Virtual => "virtual",
        })
    }
}

impl Setting for Key {
    const FORM: &'static str = "an address such as \"info@shop.example\", a domain such as \
                                \"@shop.example\", or a name such as \"info\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        if let Some(domain) = text.strip_prefix('@') {
            return Domain::parse(domain).map(Self::Domain).map_err(|why| not_an_alias(text, why));
        }
        Ok(match address_or_name(text).map_err(|why| not_an_alias(text, why))? {
            AddressOrName::Address(mailbox) => Self::Address(mailbox),
            AddressOrName::Name(name) => Self::Name(name),
        })
    }

    fn show(&self) -> String {
        quoted(&match self {
            Self::Address(mailbox) => mailbox.to_string(),
            Self::Domain(domain) => format!("@{domain}"),
            Self::Name(name) => shown_name(name),
        })
    }
}

impl Setting for Target {
    const FORM: &'static str = "an address such as \"ani@shop.example\", a name such as \"ani\", \
                                or for a whole domain another one such as \"@shop.example\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let (is_final, rest) = match text.strip_prefix('\\') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if let Some(wrong) = not_executed(rest) {
            return Err(wrong);
        }
        if let Some(domain) = rest.strip_prefix('@') {
            let domain = Domain::parse(domain).map_err(|why| not_a_target(text, why))?;
            return Ok(Self { to: To::Domain(domain), is_final });
        }
        let to = match address_or_name(rest).map_err(|why| not_a_target(text, why))? {
            AddressOrName::Address(mailbox) => To::Address(mailbox),
            AddressOrName::Name(name) => To::Name(name),
        };
        Ok(Self { to, is_final })
    }

    fn show(&self) -> String {
        let mark = if self.is_final { "\\" } else { "" };
        quoted(&match &self.to {
            To::Address(mailbox) => format!("{mark}{mailbox}"),
            To::Domain(domain) => format!("{mark}@{domain}"),
            To::Name(name) => format!("{mark}{}", shown_name(name)),
        })
    }
}

enum AddressOrName {
    Address(Mailbox),
    Name(String),
}

fn address_or_name(text: &str) -> Result<AddressOrName, AddressError> {
    match Mailbox::parse(text) {
        Ok(mailbox) => Ok(AddressOrName::Address(mailbox)),
        Err(AddressError::NoDomain) => {
            let name = Mailbox::parse(&format!("{text}@localhost"))?;
            Ok(AddressOrName::Name(name.local().to_owned()))
        }
        Err(why) => Err(why),
    }
}

/// A local part as it may be written.
fn shown_name(name: &str) -> String {
    let whole = Mailbox::new(name, Domain::localhost()).map(|mailbox| mailbox.to_string());
    whole.ok().and_then(|it| Some(it.rsplit_once('@')?.0.to_owned())).unwrap_or_default()
}

/// What other mail systems run or write to, and we do not.
fn not_executed(text: &str) -> Option<Wrong> {
    let (why, help) = match text.trim_start_matches('"') {
        rest if rest.starts_with('|') => (
            "no program is run here: a relay that runs what a file says can be made to run \
             anything",
            "let the program fetch the mail from a mailbox, or name a server of your own that \
             runs it",
        ),
        rest if rest.starts_with('/') || rest.starts_with("./") => (
            "mail is not written to files here",
            "name a mailbox; mail that nobody wants is refused by a route with to = \"refuse …\"",
        ),
        rest if rest.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(":include:")) => (
            "a list of members is included only from a file of aliases",
            "name a file of aliases with `file`, and include the list there",
        ),
        rest if rest.starts_with(':') => (
            "there is no such word for what becomes of mail",
            "name an address; mail that nobody wants is refused by a route with to = \"refuse …\"",
        ),
        _ => return None,
    };
    Some(Wrong::new(why).help(help))
}

fn not_an_alias(text: &str, why: AddressError) -> Wrong {
    Wrong::new(format!("`{text}` is no alias: {}", lower(why)))
        .help("write an address, @ and a domain, or a name without a domain")
}

fn not_a_target(text: &str, why: AddressError) -> Wrong {
    Wrong::new(format!("`{text}` is no address: {}", lower(why)))
        .help("write an address such as ani@shop.example, or a name without a domain")
}

/// A sentence as a clause.
fn lower(why: AddressError) -> String {
    let text = why.to_string();
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_shown_as_it_may_be_written() {
        for (text, shown) in [
            ("info@SHOP.example", "\"info@shop.example\""),
            ("@Shop.example", "\"@shop.example\""),
            ("info", "\"info\""),
            ("\"a b\"", "\"\\\"a b\\\"\""),
            ("\"a b\"@shop.example", "\"\\\"a b\\\"@shop.example\""),
        ] {
            assert_eq!(Key::parse(text).unwrap().show(), shown, "{text}");
            assert_eq!(Target::parse(text).unwrap().show(), shown, "{text}");
        }
        let own = Target::parse("\\ani").unwrap();
        assert_eq!((own.is_final, own.show().as_str()), (true, "\"\\\\ani\""));
        for text in ["", "@", "a@", "a b", "a@b@c", "ani <ani@shop.example>", "\\"] {
            assert!(Target::parse(text).is_err(), "{text:?}");
            assert!(Key::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn programs_and_files_are_no_targets_and_it_is_said_why() {
        for (text, why) in [
            ("|/usr/bin/vacation", "no program is run"),
            ("\"|vacation ani\"", "no program is run"),
            ("/dev/null", "not written to files"),
            (":include:/etc/list", "from a file of aliases"),
            (":fail: gone", "no such word"),
        ] {
            let wrong = Target::parse(text).unwrap_err();
            assert!(wrong.why.contains(why) && wrong.help.is_some(), "{text}: {wrong:?}");
        }
    }
}
