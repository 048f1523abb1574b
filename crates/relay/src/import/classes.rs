//! Which domains are ours for Postfix, and where their mail goes without a transport table.
//!
//! Invariant: a domain is in the first class that has it, as in Postfix. Pure.

use merpati_mail::Domain;

use super::{
    Postfix,
    domains::{Domains, domains},
    hop::{Hop, hop, relayhost},
    report::Report,
};

/// The classes of addresses.
#[derive(Clone, Debug)]
pub(super) struct Classes {
    /// `mydestination`: mailboxes of users of the machine.
    pub local: Domains,
    /// `virtual_alias_domains`: every address leads to others.
    pub alias: Domains,
    /// `virtual_mailbox_domains`: mailboxes of others.
    pub mailbox: Domains,
    /// `relay_domains`: mail that goes on.
    pub relay: Domains,
}

/// A class of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// All of `virtual_alias_domains`.
    Alias,
    /// Every other domain.
    Default,
    /// All of `mydestination`.
    Local,
    /// All of `virtual_mailbox_domains`.
    Mailbox,
    /// All of `relay_domains`.
    Relay,
}

impl Class {
    /// The parameter that names its domains.
    pub(super) const fn parameter(self) -> &'static str {
        match self {
            Self::Alias => "virtual_alias_domains",
            Self::Default => "default_transport",
            Self::Local => "mydestination",
            Self::Mailbox => "virtual_mailbox_domains",
            Self::Relay => "relay_domains",
        }
    }

    /// The parameter that says where its mail goes.
    pub(super) const fn transport(self) -> &'static str {
        match self {
            Self::Alias => "virtual_alias_maps",
            Self::Default => "default_transport",
            Self::Local => "local_transport",
            Self::Mailbox => "virtual_transport",
            Self::Relay => "relay_transport",
        }
    }
}

impl Classes {
    /// Those of a configuration.
    pub(super) fn of(postfix: &Postfix, report: &mut Report) -> Self {
        let scope = postfix.scope();
        let mut read = |class: Class| domains(postfix, &scope, class.parameter(), report);
        Self {
            local: read(Class::Local),
            alias: read(Class::Alias),
            mailbox: read(Class::Mailbox),
            relay: read(Class::Relay),
        }
    }

    /// The class of a domain.
    pub(super) fn class(&self, domain: &Domain) -> Class {
        if self.local.hold(domain) {
            Class::Local
        } else if self.alias.hold(domain) {
            Class::Alias
        } else if self.mailbox.hold(domain) {
            Class::Mailbox
        } else if self.relay.hold(domain) {
            Class::Relay
        } else {
            Class::Default
        }
    }

    /// The domains that are named for a class.
    pub(super) fn named(&self, class: Class) -> &[Domain] {
        match class {
            Class::Alias => &self.alias.named,
            Class::Default => &[],
            Class::Local => &self.local.named,
            Class::Mailbox => &self.mailbox.named,
            Class::Relay => &self.relay.named,
        }
    }
}

/// The transport of a class, with its next hop if it has one.
pub(super) fn transport_of(postfix: &Postfix, class: Class) -> String {
    let scope = postfix.scope();
    let transport = scope.value(class.transport());
    let mailbox = scope.value("mailbox_transport");
    let is_local = transport.split(':').next() == Some("local");
    // The local delivery agent hands all mail on where `mailbox_transport` says so.
    if class == Class::Local && is_local && !mailbox.is_empty() { mailbox } else { transport }
}

/// Where mail of a class goes.
pub(super) fn hop_of(postfix: &Postfix, class: Class) -> Hop {
    let transport = transport_of(postfix, class);
    let has_next_hop = transport.split_once(':').is_some_and(|(_, next_hop)| !next_hop.is_empty());
    match class {
        // What is no alias there is nobody.
        Class::Alias => hop(postfix, "error:there is no such address here"),
        Class::Default | Class::Relay if !has_next_hop => {
            relayhost(postfix, &postfix.scope().value("relayhost"), &transport)
        }
        Class::Default | Class::Local | Class::Mailbox | Class::Relay => hop(postfix, &transport),
    }
}

/// The parameters that said where mail of a class goes.
pub(super) fn origin_of(postfix: &Postfix, class: Class) -> Vec<&'static str> {
    let scope = postfix.scope();
    let mut names = match class {
        Class::Alias => vec!["virtual_alias_domains"],
        Class::Default => Vec::new(),
        Class::Local if scope.has("mailbox_transport") => {
            vec!["mydestination", "mailbox_transport"]
        }
        Class::Local | Class::Mailbox | Class::Relay => vec![class.parameter()],
    };
    if scope.has(class.transport()) && class != Class::Alias {
        names.push(class.transport());
    }
    let transport = transport_of(postfix, class);
    let has_next_hop = transport.split_once(':').is_some_and(|(_, next_hop)| !next_hop.is_empty());
    let is_relayed = matches!(class, Class::Default | Class::Relay) && !has_next_hop;
    if is_relayed && (scope.has("relayhost") || class == Class::Default) {
        names.push("relayhost");
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::setting::Setting;
    use crate::import::tests::postfix;

    #[test]
    fn a_domain_is_in_the_first_class_that_has_it() {
        let text = "mydestination = a.example\nvirtual_alias_domains = a.example b.example\n\
                    virtual_mailbox_domains = c.example\nrelay_domains = c.example d.example\n";
        let postfix = postfix(text, "", &[]);
        let classes = Classes::of(&postfix, &mut Report::default());
        for (name, want) in [
            ("a.example", Class::Local),
            ("b.example", Class::Alias),
            ("c.example", Class::Mailbox),
            ("d.example", Class::Relay),
            ("x.d.example", Class::Relay),
            ("x.a.example", Class::Default),
        ] {
            assert_eq!(classes.class(&Domain::parse(name).unwrap()), want, "{name}");
        }
    }

    #[test]
    fn mail_of_a_class_goes_where_its_transport_and_relayhost_say() {
        for (text, class, want) in [
            ("", Class::Default, "\"mx\""),
            ("relayhost = [r.example]", Class::Default, "\"smtp://r.example:25\""),
            ("relayhost = [r.example]", Class::Relay, "\"smtp://r.example:25\""),
            ("default_transport = smtp:[d.example]", Class::Default, "\"smtp://d.example:25\""),
            (
                "relayhost = [r.example]\nrelay_transport = lmtp:[s.example]",
                Class::Relay,
                "\"lmtp://s.example:24\"",
            ),
            ("", Class::Local, "lost"),
            ("mailbox_transport = lmtp:unix:/l", Class::Local, "\"lmtp:/l\""),
            ("local_transport = error:no", Class::Local, "\"refuse no\""),
            ("", Class::Mailbox, "lost"),
            (
                "virtual_transport = lmtp:unix:p/l",
                Class::Mailbox,
                "\"lmtp:/var/spool/postfix/p/l\"",
            ),
            ("", Class::Alias, "\"refuse there is no such address here\""),
        ] {
            let postfix = postfix(text, "", &[]);
            let shown = match hop_of(&postfix, class) {
                Hop::Lost(_) => "lost".to_owned(),
                Hop::To(way) => way.to.show(),
            };
            assert_eq!(shown, want, "{text}");
        }
    }
}
