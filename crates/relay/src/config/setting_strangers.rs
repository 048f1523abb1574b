//! What values of the options about strangers mean.
//!
//! Pure.

use merpati_flow::{
    admit::{
        Names, SenderDomain,
        lists::{ListAbout, ListAction},
        recipients::{CallAhead, KnownRecipient},
    },
    provenance::{OwnDomains, Stance},
};
use merpati_mail::{Domain, Mailbox};
use merpati_smtp::server::Vrfy;

use super::{
    setting::{Setting, Wrong, choose, quoted},
    values::Separator,
};

/// A type whose values are a few words.
macro_rules! words {
    ($type:ty, $form:literal, $($word:literal => $value:path),+) => {
        impl Setting for $type {
            const FORM: &'static str = $form;

            fn parse(text: &str) -> Result<Self, Wrong> {
                choose(text, &[$(($word, $value)),+])
            }

            fn show(&self) -> String {
                quoted(match self { $($value => $word),+ })
            }
        }
    };
}

words!(
    Names, "\"public\", \"all\" or \"off\"",
    "public" => Names::Public, "all" => Names::All, "off" => Names::Off
);
words!(
    SenderDomain, "\"must-exist\" or \"any\"",
    "must-exist" => SenderDomain::MustExist, "any" => SenderDomain::Any
);
words!(
    Stance, "\"follow\", \"report\" or \"off\"",
    "follow" => Stance::Follow, "report" => Stance::Report, "off" => Stance::Off
);
words!(
    OwnDomains, "\"must-pass\" or \"any\"",
    "must-pass" => OwnDomains::MustPass, "any" => OwnDomains::Any
);
words!(
    ListAbout, "\"client\" or \"sender-domain\"",
    "client" => ListAbout::Client, "sender-domain" => ListAbout::SenderDomain
);
words!(
    ListAction, "\"refuse\" or \"note\"",
    "refuse" => ListAction::Refuse, "note" => ListAction::Note
);
words!(
    CallAhead, "\"off\", \"defer\" or \"accept\"",
    "off" => CallAhead::Off, "defer" => CallAhead::OrDefer, "accept" => CallAhead::OrAccept
);
words!(
    Vrfy, "\"cannot-verify\" or \"off\"",
    "cannot-verify" => Vrfy::CannotVerify, "off" => Vrfy::Off
);

impl Setting for KnownRecipient {
    const FORM: &'static str = "an address such as \"ani@shop.example\", or a domain such as \
                                \"@shop.example\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = |why| Wrong::new(format!("not a recipient: {why}"));
        match text.strip_prefix('@') {
            Some(domain) => Domain::parse(domain).map(Self::Domain).map_err(wrong),
            None => Mailbox::parse(text).map(Self::Address).map_err(wrong),
        }
    }

    fn show(&self) -> String {
        quoted(&match self {
            Self::Address(mailbox) => mailbox.to_string(),
            Self::Domain(domain) => format!("@{domain}"),
        })
    }
}

impl Setting for Separator {
    const FORM: &'static str = "a character such as \"+\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(one), None) if one.is_ascii_punctuation() && one != '@' && one != '"' => {
                Ok(Self(one))
            }
            _ => Err(Wrong::new("a separator is one character, and no letter, digit or quote")
                .help("write \"+\" or \"-\"")),
        }
    }

    fn show(&self) -> String {
        quoted(&self.0.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_and_separators_are_read_and_shown() {
        for (text, shown) in
            [("ani@shop.example", "\"ani@shop.example\""), ("@SHOP.example", "\"@shop.example\"")]
        {
            assert_eq!(KnownRecipient::parse(text).unwrap().show(), shown, "{text}");
        }
        for text in ["", "shop.example", "ani@", "@", "a@b@shop.example"] {
            assert!(KnownRecipient::parse(text).is_err(), "{text:?}");
        }
        for (text, want) in [("+", true), ("-", true), ("", false), ("++", false), ("a", false)] {
            assert_eq!(Separator::parse(text).is_ok(), want, "{text:?}");
        }
    }
}
