//! The tables `[[route]]`.
//!
//! Invariant: the last one covers all mail, so nothing that is taken waits without a route. Pure.

use merpati_mail::{Domain, route::Refusal};

use super::{
    Passwords, Postfix,
    document::Table,
    hop::{Hop, Way},
    names::{Names, few},
    report::{Report, Weight},
    rules::{Rule, Ways, When},
    text::Place,
    ways,
};
use crate::config::next_hop::To;

/// The routes, and the transports that they use.
pub(super) fn tables(
    ways: &Ways<'_>,
    passwords: Passwords,
    report: &mut Report,
) -> (Vec<Table>, Vec<String>) {
    let rules = with_policies(ways.postfix, ways.rules(report), report);
    let (mut tables, mut transports, mut names) = (Vec::new(), Vec::new(), Names::default());
    for rule in rules {
        let mut table = Table::new("[[route]]");
        table.about(&about(&rule));
        table.set("name", &names.give(&rule.name), "");
        condition(&mut table, &rule.when);
        match &rule.hop {
            Hop::Lost(why) => lost(&mut table, ways.postfix, &rule, why, report),
            Hop::To(way) => {
                table.set("to", &way.to, "");
                let one = match &rule.when {
                    When::Domains(domains) => domains.first().filter(|_| domains.len() == 1),
                    When::Any | When::Below(_) | When::SenderBelow(_) => None,
                };
                ways::fill(&mut table, ways.postfix, (way, one), passwords, report);
                transports.push(way.transport.clone());
            }
        }
        tables.push(table);
    }
    (tables, transports)
}

fn about(rule: &Rule) -> String {
    let who = match &rule.when {
        When::Any => "All other mail.",
        When::Below(_) | When::Domains(_) => "",
        When::SenderBelow(_) => "By the sender.",
    };
    format!("{who} {}", rule.from)
}

fn condition(table: &mut Table, when: &When) {
    match when {
        When::Any => {}
        When::Below(domain) => table.set("recipient_below", domain, ""),
        When::Domains(domains) => table.list("recipient_domains", domains, ""),
        When::SenderBelow(domain) => table.set("sender_below", domain, ""),
    }
}

/// Mail that Postfix took to where nothing leads here: it is refused, and goes nowhere else.
fn lost(table: &mut Table, postfix: &Postfix, rule: &Rule, why: &str, report: &mut Report) {
    let text = "mail for this address is not taken here".to_owned();
    table.set("to", &To::Refuse(Refusal { text }), &format!("Not carried over: {why}."));
    let for_whom = match &rule.when {
        When::Any => "all other mail".to_owned(),
        When::Below(domain) => format!("mail for domains below {domain}"),
        When::Domains(domains) => {
            let domains: Vec<String> = domains.iter().map(ToString::to_string).collect();
            format!("mail for {}", few(&domains))
        }
        When::SenderBelow(domain) => format!("mail from {domain}"),
    };
    let but = if rule.name == "this-machine" { ", but for its aliases" } else { "" };
    let text =
        format!("{for_whom} is refused{but}: {why}; write where it goes into `to` of its route");
    let scope = postfix.scope();
    match rule.name.as_str() {
        "this-machine" => {
            let weight = if scope.has("mydestination") { Weight::Loud } else { Weight::Plain };
            let text = format!(
                "{text}, such as lmtp:/run/dovecot/lmtp, and add the domains to \
                 relay.local_domains"
            );
            report.left(&scope, "mydestination", weight, &text);
        }
        "mailboxes" => report.left(&scope, "virtual_mailbox_domains", Weight::Loud, &text),
        _ => {
            let place = Place { file: rule.from.as_str().into(), line: 0 };
            report.line(Weight::Loud, &place, "a route", &text);
        }
    }
}

/// Routes by MX for domains with a TLS policy of their own, in front of the last one.
fn with_policies(postfix: &Postfix, mut rules: Vec<Rule>, report: &mut Report) -> Vec<Rule> {
    let Some(Rule { hop: Hop::To(way), .. }) = rules.last() else { return rules };
    if way.to != To::Mx {
        return rules;
    }
    let way: Way = way.clone();
    let scope = postfix.scope_of_transport(&way.transport);
    let mut more = Vec::new();
    for row in ways::policies(postfix, &scope, report) {
        let domain = Domain::parse(&row.key);
        let is_host = row.key.starts_with('[') || row.key.contains(':');
        match domain {
            _ if is_host => {}
            Ok(domain) => {
                let covers = |rule: &Rule| match &rule.when {
                    When::Domains(domains) => domains.contains(&domain),
                    When::Any | When::Below(_) | When::SenderBelow(_) => false,
                };
                if !rules.iter().any(covers) {
                    more.push(Rule {
                        name: format!("tls-{domain}"),
                        when: When::Domains(vec![domain]),
                        hop: Hop::To(way.clone()),
                        from: format!("smtp_tls_policy_maps: {} ({})", row.key, row.place),
                    });
                }
            }
            Err(_) => {
                let text = format!(
                    "`{}`: write a route with recipient_below and this TLS before the last one",
                    row.key
                );
                report.line(Weight::Loud, &row.place, "smtp_tls_policy_maps", &text);
            }
        }
    }
    let last = rules.len().saturating_sub(1);
    rules.splice(last..last, more);
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{classes::Classes, document::text, rules::Transports, tests::postfix};

    /// The routes of a configuration, without comments.
    fn routes(main: &str, files: &[(&str, &str)]) -> String {
        let postfix = postfix(main, "", files);
        let mut report = Report::default();
        let classes = Classes::of(&postfix, &mut report);
        let transports = Transports::of(&postfix, &mut report);
        let ways = Ways { postfix: &postfix, classes: &classes, transports: &transports };
        let (tables, _) = tables(&ways, Passwords::Shown, &mut report);
        let text = text(&tables);
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines: Vec<&str> = lines.collect();
        lines.join(" ").replace("[[route]] name", "\nname").trim().to_owned()
    }

    #[track_caller]
    fn check(main: &str, files: &[(&str, &str)], want: &[&str]) {
        let found = routes(main, files);
        let lines: Vec<&str> = found.lines().map(str::trim).collect();
        assert_eq!(lines, want, "{main}");
    }

    const QUIET: &str = "mydestination =\ncompatibility_level = 3.6\n";

    #[test]
    fn without_anything_mail_goes_to_the_hosts_of_dns() {
        check(QUIET, &[], &["name = \"world\" to = \"mx\""]);
    }

    #[test]
    fn the_transport_table_is_followed_from_the_longest_key_to_the_shortest() {
        let table = "a.example smtp:[h1]\n.example smtp:[h2]\n.b.example smtp:[h3]:26\n\
                     c.example :[h1]\nd.example :\nani@d.example smtp:[h4]\n";
        check(
            &format!("{QUIET}transport_maps = hash:/t\nrelayhost = [r]\n"),
            &[("/t", table)],
            &[
                "name = \"h1\" recipient_domains = [\"a.example\", \"c.example\"] \
                 to = \"smtp://h1:25\"",
                "name = \"r\" recipient_domains = [\"d.example\"] to = \"smtp://r:25\"",
                "name = \"b-example\" recipient_domains = [\"b.example\"] to = \"smtp://h2:25\"",
                "name = \"below-b-example\" recipient_below = \"b.example\" to = \"smtp://h3:26\"",
                "name = \"example\" recipient_domains = [\"example\"] to = \"smtp://r:25\"",
                "name = \"below-example\" recipient_below = \"example\" to = \"smtp://h2:25\"",
                "name = \"world\" to = \"smtp://r:25\"",
            ],
        );
    }

    #[test]
    fn a_star_covers_all_and_ends_the_rules() {
        check(
            "mydestination = m.example\n\
             transport_maps = inline:{*=smtp:[h], a.example=error:gone}\n",
            &[],
            &[
                "name = \"gone\" recipient_domains = [\"a.example\"] to = \"refuse gone\"",
                "name = \"all\" to = \"smtp://h:25\"",
            ]
            .map(|line| line.replace("name = \"gone\"", "name = \"a-example\""))
            .each_ref()
            .map(String::as_str),
        );
    }

    #[test]
    fn classes_and_senders_have_routes_of_their_own() {
        let main = "mydestination = m.example\nvirtual_mailbox_domains = v.example\n\
                    virtual_transport = lmtp:unix:/l\nrelay_domains = r.example\n\
                    relay_transport = relay:[in]\nparent_domain_matches_subdomains =\n\
                    sender_dependent_relayhost_maps = inline:{@s.example=[s], a@b.example=[t]}\n";
        check(
            main,
            &[],
            &[
                "name = \"this-machine\" recipient_domains = [\"m.example\"] to = \"refuse mail \
                 for this address is not taken here\"",
                "name = \"mailboxes\" recipient_domains = [\"v.example\"] to = \"lmtp:/l\"",
                "name = \"relay-domains\" recipient_domains = [\"r.example\"] \
                 to = \"smtp://in:25\"",
                "name = \"from-s-example\" sender_below = \"s.example\" to = \"smtp://s:25\"",
                "name = \"world\" to = \"mx\"",
            ],
        );
    }

    #[test]
    fn tls_is_as_strict_as_in_postfix() {
        for (more, want) in [
            ("", "to = \"mx\""),
            ("smtp_tls_security_level = may\n", "to = \"mx\""),
            ("smtp_tls_security_level = none\n", "to = \"mx\" tls = \"never\""),
            (
                "smtp_tls_security_level = encrypt\n",
                "to = \"mx\" tls = \"required\" tls_verify = false",
            ),
            ("smtp_tls_security_level = secure\n", "to = \"mx\" tls = \"required\""),
            ("smtp_tls_security_level = dane-only\n", "to = \"mx\" tls = \"required\""),
            (
                "relayhost = [r]:465\nsmtp_tls_wrappermode = yes\n\
                 smtp_tls_security_level = encrypt\n",
                "to = \"smtps://r:465\" tls_verify = false",
            ),
            (
                "relayhost = [r]\nsmtp_tls_policy_maps = inline:{[r]=secure}\n\
                 smtp_tls_CAfile = /ca\n",
                "to = \"smtp://r:25\" tls = \"required\" tls_ca = \"/ca\"",
            ),
        ] {
            check(&format!("{QUIET}{more}"), &[], &[&format!("name = \"world\" {want}")]);
        }
        check(
            &format!(
                "{QUIET}smtp_tls_policy_maps = inline:{{a.example=encrypt, .b.example=none}}\n"
            ),
            &[],
            &[
                "name = \"tls-a-example\" recipient_domains = [\"a.example\"] to = \"mx\" \
                 tls = \"required\" tls_verify = false",
                "name = \"world\" to = \"mx\"",
            ],
        );
    }

    #[test]
    fn a_password_is_said_under_tls_or_on_this_machine() {
        let sasl = "smtp_sasl_auth_enable = yes\n";
        for (host, table, want) in [
            ("[r]:587", "[r]:587 ani:x:y", "user = \"ani\" password = \"x:y\""),
            ("[r]:587", "r ani:x", "user = \"ani\" password = \"x\""),
            ("[r]:587", "[r] ani:x", ""),
            (
                "[127.0.0.1]:587",
                "[127.0.0.1]:587 ani:x",
                "user = \"ani\" password = \"x\" tls = \"opportunistic\" auth_clear = true",
            ),
        ] {
            let main =
                format!("{QUIET}{sasl}relayhost = {host}\nsmtp_sasl_password_maps = hash:/p\n");
            let found = routes(&main, &[("/p", table)]);
            let (_, options) = found.split_once("587\" ").unwrap_or_default();
            assert_eq!(options, want, "{table}");
        }
    }
}
