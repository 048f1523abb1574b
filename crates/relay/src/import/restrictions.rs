//! Who may send to whom by the lists of restrictions, walked as Postfix walks them.
//!
//! Invariant: what may permit, and is not known here, permits nobody; so nobody comes out trusted
//! whom Postfix did not trust. What may refuse, and is not known here, is told. Pure.

use super::{
    Postfix,
    networks::{ClientTable, client_table},
    scope::Scope,
    text::{without_braces, words},
};

/// A restriction with its argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Its name; for a table alone, that of the check that it stands for.
    pub name: String,
    /// A table, a zone, an address; `None` for those without.
    pub argument: Option<String>,
    /// Whether it only warns.
    pub is_warning: bool,
}

impl Item {
    /// As it is told.
    pub(super) fn shown(&self) -> String {
        match &self.argument {
            Some(argument) => format!("{} {argument}", self.name),
            None => self.name.clone(),
        }
    }
}

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// It has authenticated.
    Authenticated,
    /// It is in `mynetworks`.
    Network,
    /// Nobody vouches for it.
    Stranger,
}

/// Where the recipient is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recipient {
    /// In a domain that is not ours.
    Foreign,
    /// In one of ours.
    Ours,
}

/// What comes of a walk through all lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    /// Whether the mail is taken, if none of the checks refuses it.
    pub is_permitted: bool,
    /// The checks of tables of clients on the way.
    pub tables: Vec<ClientTable>,
    /// What on the way may refuse a client for reasons that are not known here.
    pub doubts: Vec<String>,
}

/// The lists that decide at RCPT, in the order in which they are walked.
pub(super) const LISTS: [&str; 5] = [
    "smtpd_client_restrictions",
    "smtpd_helo_restrictions",
    "smtpd_sender_restrictions",
    "smtpd_relay_restrictions",
    "smtpd_recipient_restrictions",
];

/// The restrictions of a list, those of classes in their place.
pub(super) fn items(scope: &Scope<'_>, list: &str) -> Vec<Item> {
    let classes = scope.words("smtpd_restriction_classes");
    let mut all = Vec::new();
    read(scope, list, &scope.value(list), &classes, &mut all);
    all
}

fn read(scope: &Scope<'_>, list: &str, text: &str, classes: &[String], all: &mut Vec<Item>) {
    let mut is_warning = false;
    let mut words = words(text).into_iter().flat_map(|word| unfolded(&word));
    while let Some(word) = words.next() {
        if all.len() > ITEMS_MAX {
            return;
        }
        if word == "warn_if_reject" {
            is_warning = true;
            continue;
        }
        if classes.contains(&word) {
            // A class within itself is no class there, or this would never end.
            let others: Vec<String> = classes.iter().filter(|one| **one != word).cloned().collect();
            read(scope, list, &scope.value(&word), &others, all);
        } else if word.contains(':') {
            // A table alone is a check of what the list is about.
            let about = list.trim_start_matches("smtpd_").trim_end_matches("_restrictions");
            let name = format!("check_{about}_access");
            all.push(Item { name, argument: Some(word), is_warning });
        } else {
            let argument = if has_argument(&word) { words.next() } else { None };
            all.push(Item { name: word, argument, is_warning });
        }
        is_warning = false;
    }
}

/// `{ check_client_access hash:x, search_order = … }` as its first two words.
fn unfolded(word: &str) -> Vec<String> {
    let inside = without_braces(word);
    if inside == word { vec![word.to_owned()] } else { words(inside).into_iter().take(2).collect() }
}

fn has_argument(name: &str) -> bool {
    name.starts_with("check_")
        || ["reject_rbl_", "reject_rhsbl_", "permit_dnswl_", "permit_rhswl_"]
            .iter()
            .any(|start| name.starts_with(start))
        || name == "sleep"
}

/// What becomes of a recipient of this kind from a client of this kind.
pub(super) fn walk(
    postfix: &Postfix,
    scope: &Scope<'_>,
    client: Client,
    recipient: Recipient,
) -> Walk {
    let mut walk = Walk { is_permitted: true, tables: Vec::new(), doubts: Vec::new() };
    for list in LISTS {
        for item in items(scope, list) {
            match step(&item, client, recipient) {
                Step::Goes => {}
                Step::Permits => break,
                Step::Refuses => walk.is_permitted = false,
                Step::Table(name) => {
                    let table = client_table(postfix, name);
                    walk.doubts.extend(table.doubt.clone());
                    if client == Client::Stranger && table.refuses_the_rest() {
                        walk.is_permitted = false;
                    }
                    walk.tables.push(table);
                }
                Step::Unknown => walk.doubts.push(item.shown()),
            }
        }
    }
    walk
}

/// What one restriction does.
enum Step<'a> {
    /// It says nothing about clients, or may refuse them for what they say.
    Goes,
    /// The list ends, and the next one is walked.
    Permits,
    /// The recipient is refused.
    Refuses,
    /// It looks the client up in this table.
    Table(&'a str),
    /// It may refuse the client.
    Unknown,
}

fn step(item: &Item, client: Client, recipient: Recipient) -> Step<'_> {
    let is_foreign = recipient == Recipient::Foreign;
    match item.name.as_str() {
        _ if item.is_warning => Step::Goes,
        "permit" => Step::Permits,
        "permit_auth_destination" if !is_foreign => Step::Permits,
        "permit_mynetworks" if client == Client::Network => Step::Permits,
        "permit_sasl_authenticated" if client == Client::Authenticated => Step::Permits,
        // What would be permitted later is deferred then, so nothing is permitted.
        "reject" | "defer" | "defer_if_permit" => Step::Refuses,
        "reject_unauth_destination" | "defer_unauth_destination" if is_foreign => Step::Refuses,
        "check_client_access" => Step::Table(item.argument.as_deref().unwrap_or_default()),
        "check_policy_service"
        | "check_ccert_access"
        | "check_sasl_access"
        | "check_reverse_client_hostname_access"
        | "reject_plaintext_session" => Step::Unknown,
        name if name.starts_with("check_client_") => Step::Unknown,
        // These look at what the client says, or at its names: who it is stays open.
        name if name.starts_with("check_")
            || name.starts_with("reject_")
            || name.starts_with("permit_")
            || ["defer_if_reject", "sleep"].contains(&name)
            || name.ends_with("_unauth_destination") =>
        {
            Step::Goes
        }
        _ => Step::Unknown,
    }
}

/// More than any list has.
const ITEMS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests::postfix;

    #[test]
    fn lists_are_read_with_arguments_tables_classes_and_warnings() {
        let text = "\
smtpd_restriction_classes = own
own = reject_unknown_sender_domain, permit
smtpd_client_restrictions = permit_mynetworks hash:/c, warn_if_reject reject_rbl_client bl.example,
  { check_client_access hash:/d, search_order = name }, own
";
        let postfix = postfix(text, "", &[]);
        let items = items(&postfix.scope(), "smtpd_client_restrictions");
        let shown: Vec<String> = items
            .iter()
            .map(|item| format!("{}{}", if item.is_warning { "?" } else { "" }, item.shown()))
            .collect();
        assert_eq!(
            shown,
            [
                "permit_mynetworks",
                "check_client_access hash:/c",
                "?reject_rbl_client bl.example",
                "check_client_access hash:/d",
                "reject_unknown_sender_domain",
                "permit"
            ]
        );
    }

    #[test]
    fn a_class_within_itself_ends() {
        let text = "smtpd_restriction_classes = a\na = permit_mynetworks, a\n\
                    smtpd_helo_restrictions = a\n";
        let postfix = postfix(text, "", &[]);
        let items = items(&postfix.scope(), "smtpd_helo_restrictions");
        let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["permit_mynetworks", "a"]);
    }

    #[test]
    fn who_may_send_where_is_what_postfix_says() {
        use Client::{Authenticated, Network, Stranger};
        use Recipient::{Foreign, Ours};
        let usual = "permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination";
        let relay = |value: &str| format!("smtpd_relay_restrictions = {value}\n");
        let recipients = |value: &str| format!("smtpd_recipient_restrictions = {value}\n");
        let modern = "compatibility_level = 3.6\n".to_owned();
        for (text, client, recipient, want) in [
            (modern.clone(), Stranger, Ours, true),
            (modern.clone(), Stranger, Foreign, false),
            (modern.clone(), Network, Foreign, true),
            (modern, Authenticated, Foreign, true),
            (relay(usual), Stranger, Foreign, false),
            (relay("reject_unauth_destination"), Network, Foreign, false),
            (relay("permit_sasl_authenticated, reject"), Network, Ours, false),
            (relay("permit_sasl_authenticated, reject"), Authenticated, Foreign, true),
            (relay(usual) + &recipients("permit_mynetworks, reject"), Stranger, Ours, false),
            (relay(usual) + &recipients("permit_mynetworks, reject"), Network, Foreign, true),
            (
                relay(usual) + "smtpd_client_restrictions = permit_sasl_authenticated, reject\n",
                Network,
                Foreign,
                false,
            ),
            (relay("permit_mx_backup, permit_mynetworks, reject"), Stranger, Ours, false),
            (relay("check_client_access hash:/c, reject"), Network, Foreign, false),
        ] {
            let postfix = postfix(&text, "", &[("/c", "10.0.0.1 OK\n")]);
            let walk = walk(&postfix, &postfix.scope(), client, recipient);
            assert_eq!(walk.is_permitted, want, "{text} {client:?} {recipient:?}");
        }
    }

    #[test]
    fn what_may_refuse_a_trusted_client_is_a_doubt() {
        for (list, doubts, tables) in [
            ("permit_mynetworks, check_policy_service inet:a:1", 0, 0),
            ("check_policy_service inet:a:1, permit_mynetworks", 1, 0),
            ("check_client_access hash:/c, permit_mynetworks", 0, 1),
            ("check_client_access pcre:/p, permit_mynetworks", 1, 1),
            ("check_sender_access hash:/c, permit_mynetworks", 0, 0),
            ("a_class_that_is_none, permit_mynetworks", 1, 0),
        ] {
            let text = format!("smtpd_client_restrictions = {list}\n");
            let postfix = postfix(&text, "", &[("/c", "10.0.0.1 REJECT\n")]);
            let walk = walk(&postfix, &postfix.scope(), Client::Network, Recipient::Foreign);
            assert_eq!((walk.doubts.len(), walk.tables.len()), (doubts, tables), "{list}");
        }
    }
}
