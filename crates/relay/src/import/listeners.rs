//! The tables `[[listener]]`.
//!
//! Invariant: no two of them take the same address, and none says a password in the clear to other
//! machines. Pure.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use super::{
    Postfix,
    access::{Door, Doors, Role},
    document::Table,
    limits,
    names::Names,
    networks::Net,
    report::{Report, Weight},
    scope::Scope,
    ways::address_of,
};
use crate::config::{AuthUse, Kind, Network, TlsUse};

/// The listeners for these doors; one on loopback where Postfix had none.
pub(super) fn tables(postfix: &Postfix, doors: &Doors<'_>, report: &mut Report) -> Vec<Table> {
    let (mut tables, mut names, mut taken) = (Vec::new(), Names::default(), Vec::new());
    for door in &doors.all {
        let (addresses, from) = addresses(door, report);
        let (free, double): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|one| !taken.iter().any(|other| collide(*one, *other)));
        if !double.is_empty() {
            let shown: Vec<String> = double.iter().map(ToString::to_string).collect();
            let text = format!("{}: another listener takes it", shown.join(", "));
            report.line(Weight::Loud, &door.service.place, &door.service.name, &text);
        }
        taken.extend(free.iter().copied());
        if free.is_empty() {
            continue;
        }
        tables.extend(listener(door, &free, &from, &mut names, report));
    }
    if tables.is_empty() {
        tables.push(loopback(postfix));
    }
    tables
}

/// Two addresses of which only one can be had.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let is_any =
        |a: SocketAddr, b: SocketAddr| a.ip().is_unspecified() && a.is_ipv4() == b.is_ipv4();
    one.port() == other.port() && (one == other || is_any(one, other) || is_any(other, one))
}

/// Where programs of this machine can hand their mail over, as they did with `sendmail`.
fn loopback(postfix: &Postfix) -> Table {
    let mut table = Table::new("[[listener]]");
    let has_main = !postfix.main.set.is_empty();
    table.about(if has_main {
        "No service of master.cf becomes a listener. This one is for programs of this machine, \
         which have no sendmail command any more."
    } else {
        "main.cf sets nothing."
    });
    table.set("name", &"local".to_owned(), "");
    table.set("kind", &Kind::Relay, "");
    table.list("listen", &[SocketAddr::from((Ipv4Addr::LOCALHOST, 25))], "");
    table
}

fn listener(
    door: &Door<'_>,
    addresses: &[SocketAddr],
    from: &str,
    names: &mut Names,
    report: &mut Report,
) -> Option<Table> {
    let is_loopback = addresses.iter().all(|address| address.ip().is_loopback());
    let tls = tls(&door.scope);
    let auth = match (door.role, door.has_auth, &tls) {
        (Role::Submission, _, None) | (Role::Closed | Role::Open, true, None) if is_loopback => {
            Some(AuthUse::AllowClear)
        }
        (Role::Submission, _, None) => {
            let text = "the service is left out: passwords are taken under TLS alone, and there is \
                        no certificate; name one in smtpd_tls_cert_file, and import again";
            report.line(Weight::Loud, &door.service.place, &door.service.name, text);
            for name in door.service.own.keys() {
                report.left_with_its_service(&door.scope, name);
            }
            return None;
        }
        (Role::Closed | Role::Open, true, None) => {
            let text = "passwords are taken under TLS alone, and there is no certificate";
            report.left(&door.scope, "smtpd_sasl_auth_enable", Weight::Loud, text);
            None
        }
        (Role::Closed | Role::Open, true, Some(_)) => Some(AuthUse::TlsOnly),
        // The default of its kind.
        (Role::Submission, _, Some(_)) | (Role::Closed | Role::Open, false, _) => None,
    };
    let mut table = Table::new("[[listener]]");
    table.about(&format!("{} ({})", door.service.name, door.service.place));
    table.set("name", &names.give(&usual_name(door.port)), "");
    let (kind, why) = match door.role {
        Role::Closed => (Kind::Relay, "for networks and credentials alone"),
        Role::Open => (Kind::Relay, "for our domains from anybody"),
        Role::Submission => (Kind::Submission, "for who has authenticated alone"),
    };
    table.set("kind", &kind, &format!("By the lists of restrictions: {why}."));
    table.list("listen", addresses, from);
    if let Some(tls) = &tls {
        tls.write(&mut table, door, report);
    }
    if let Some(auth) = auth {
        table.set("auth", &auth, &door.scope.origin("smtpd_sasl_auth_enable"));
    }
    if door.has_auth {
        credentials(&door.scope, report);
    }
    limits::of_listener(&mut table, &door.scope, report);
    introducers(&mut table, &door.scope, report);
    Some(table)
}

fn usual_name(port: u16) -> String {
    match port {
        25 => "mx".to_owned(),
        465 => "submissions".to_owned(),
        587 => "submission".to_owned(),
        port => format!("smtp-{port}"),
    }
}

/// The addresses of a service, and what says so.
fn addresses(door: &Door<'_>, report: &mut Report) -> (Vec<SocketAddr>, String) {
    let scope = &door.scope;
    let own = door.service.name.rsplit_once(':').map(|(host, _)| host.to_owned());
    let name = "inet_interfaces";
    let (words, from) = match own.filter(|host| !host.is_empty()) {
        Some(host) => {
            report.nothing(scope, name, "the services name their addresses");
            (vec![host], format!("{} ({})", door.service.name, door.service.place))
        }
        None => (scope.words(name), report.carried(scope, name)),
    };
    let protocols = scope.value("inet_protocols");
    let has = |family: &str| protocols.contains("all") || protocols.contains(family);
    let (v4, v6) = (has("ipv4"), has("ipv6"));
    if scope.assignment("inet_protocols").is_some() {
        report.carried(scope, "inet_protocols");
        if !(v4 && v6) {
            let text = "mail goes out by both families, where a host has both and this machine too";
            report.left(scope, "inet_protocols", Weight::Plain, text);
        }
    }
    let mut found: Vec<IpAddr> = Vec::new();
    for word in &words {
        match word.as_str() {
            "all" => found.extend([any_v4(), any_v6()]),
            "loopback-only" | "localhost" => found.extend([loopback_v4(), loopback_v6()]),
            word => {
                if let Some(address) = address_of(word) {
                    found.push(address);
                } else {
                    let text =
                        format!("the address of `{word}` is not known here: add it to listen");
                    report.line(Weight::Loud, &door.service.place, &door.service.name, &text);
                }
            }
        }
    }
    found.retain(|address| if address.is_ipv4() { v4 } else { v6 });
    if found.is_empty() {
        // Nowhere else than where nobody else can come from.
        found.push(loopback_v4());
    }
    let all = found.into_iter().map(|address| SocketAddr::new(address, door.port)).collect();
    (all, format!("{from}, {}", scope.origin("inet_protocols")))
}

fn any_v4() -> IpAddr {
    Ipv4Addr::UNSPECIFIED.into()
}

fn any_v6() -> IpAddr {
    Ipv6Addr::UNSPECIFIED.into()
}

fn loopback_v4() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

fn loopback_v6() -> IpAddr {
    Ipv6Addr::LOCALHOST.into()
}

/// How a service speaks TLS.
struct Tls {
    how: TlsUse,
    chain: PathBuf,
    key: PathBuf,
    /// The parameters that say so.
    from: Vec<&'static str>,
}

/// `None` where it speaks none, or has no certificate.
fn tls(scope: &Scope<'_>) -> Option<Tls> {
    let is_wrapped = scope.is_yes("smtpd_tls_wrappermode");
    let level = scope.value("smtpd_tls_security_level");
    let by_level = ["may", "encrypt"].contains(&level.as_str());
    let is_old = level.is_empty()
        && ["smtpd_use_tls", "smtpd_enforce_tls"].iter().any(|name| scope.is_yes(name));
    if !(is_wrapped || by_level || is_old) {
        return None;
    }
    let how = if is_wrapped { TlsUse::Implicit } else { TlsUse::StartTls };
    let files = scope.words("smtpd_tls_chain_files");
    if let (Some(first), second) = (files.first(), files.get(1)) {
        // A key may stand in front of its certificates, in a file of its own.
        let is_key = first.to_lowercase().contains("key");
        let chain = second.filter(|_| is_key).unwrap_or(first);
        let (chain, key) = (PathBuf::from(chain), PathBuf::from(first));
        return Some(Tls { how, chain, key, from: vec!["smtpd_tls_chain_files"] });
    }
    let (chain, key) = (scope.value("smtpd_tls_cert_file"), scope.value("smtpd_tls_key_file"));
    let is_there = !chain.is_empty() && chain != "none" && !key.is_empty();
    let from = vec!["smtpd_tls_cert_file", "smtpd_tls_key_file"];
    is_there.then(|| Tls { how, chain: chain.into(), key: key.into(), from })
}

impl Tls {
    fn write(&self, table: &mut Table, door: &Door<'_>, report: &mut Report) {
        let scope = &door.scope;
        let names = [
            "smtpd_tls_wrappermode",
            "smtpd_tls_security_level",
            "smtpd_use_tls",
            "smtpd_enforce_tls",
        ];
        let from: Vec<String> = names
            .iter()
            .filter(|name| scope.has(name))
            .map(|name| report.carried(scope, name))
            .collect();
        table.set("tls", &self.how, &from.join(", "));
        let from: Vec<String> = self
            .from
            .iter()
            .filter(|name| scope.has(name))
            .map(|name| report.carried(scope, name))
            .collect();
        table.set("tls_certificate", &self.chain, &from.join(", "));
        table.set("tls_key", &self.key, "");
        if scope.words("smtpd_tls_chain_files").len() > 2 {
            let text = "a listener has one certificate: the first";
            report.left(scope, "smtpd_tls_chain_files", Weight::Plain, text);
        }
        let is_forced = scope.value("smtpd_tls_security_level") == "encrypt"
            || scope.is_yes("smtpd_enforce_tls");
        let takes_clear = door.role != Role::Submission && self.how != TlsUse::Implicit;
        if is_forced && takes_clear {
            let name = if scope.is_yes("smtpd_enforce_tls") {
                "smtpd_enforce_tls"
            } else {
                "smtpd_tls_security_level"
            };
            let text = "TLS is offered, and mail in the clear is taken as well: a listener of kind \
                        relay cannot demand it";
            report.left(scope, name, Weight::Loud, text);
        }
    }
}

/// Who may authenticate cannot be read.
fn credentials(scope: &Scope<'_>, report: &mut Report) {
    report.carried(scope, "smtpd_sasl_auth_enable");
    let text = "the users of Dovecot or Cyrus SASL cannot be read: write a [[credential]] for \
                each, with a line from `merpati credential hash`";
    report.left(scope, "smtpd_sasl_auth_enable", Weight::Loud, text);
    for name in ["smtpd_sasl_type", "smtpd_sasl_path"] {
        report.nothing(scope, name, "credentials stand in the configuration");
    }
    if scope.is_yes("smtpd_tls_auth_only") {
        report.nothing(scope, "smtpd_tls_auth_only", "AUTH is offered under TLS alone");
    } else {
        let text = "AUTH is offered under TLS alone";
        if scope.assignment("smtpd_tls_auth_only").is_some() {
            report.left(scope, "smtpd_tls_auth_only", Weight::Plain, text);
        }
    }
}

/// Networks whose clients may introduce others.
fn introducers(table: &mut Table, scope: &Scope<'_>, report: &mut Report) {
    let name = "smtpd_authorized_xclient_hosts";
    if !scope.has(name) {
        return;
    }
    let words = scope.words(name);
    let nets: Vec<Network> = words
        .iter()
        .filter_map(|word| Net::parse(word))
        .filter_map(|net| Network::parse(&net.to_string()).ok())
        .filter(|net| !net.is_everybody())
        .collect();
    if !nets.is_empty() {
        let from = report.carried(scope, name);
        table.list("xclient_from", &nets, &from);
    }
    if nets.len() < words.len() {
        let text = "names and tables are left out: write the networks into listener.xclient_from";
        report.left(scope, name, Weight::Plain, text);
    }
}

/// What to write for each user.
pub(super) fn example_of_credentials() -> Vec<String> {
    vec![
        "[[credential]]".to_owned(),
        "name = \"ani\"".to_owned(),
        "password = \"…\"   # the line that `merpati credential hash` prints".to_owned(),
        "senders = [\"*\"]  # as Postfix without smtpd_sender_login_maps; better their addresses"
            .to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{access::doors, document::text, tests::postfix};

    fn listeners(main: &str, master: &str) -> String {
        let main = format!("compatibility_level = 3.6\nmynetworks = 127.0.0.0/8\n{main}");
        let postfix = postfix(&main, master, &[]);
        let mut report = Report::default();
        let doors = doors(&postfix, true, &mut report);
        let text = text(&tables(&postfix, &doors, &mut report));
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines: Vec<&str> = lines.filter(|line| !line.starts_with("[[")).collect();
        lines.join(" ")
    }

    const SMTP: &str = "smtp inet n - y - - smtpd\n";

    #[test]
    fn listeners_listen_where_postfix_listened() {
        for (main, master, want) in [
            ("", SMTP, "\"0.0.0.0:25\", \"[::]:25\""),
            ("inet_protocols = ipv4", SMTP, "\"0.0.0.0:25\""),
            ("inet_interfaces = loopback-only", SMTP, "\"127.0.0.1:25\", \"[::1]:25\""),
            (
                "inet_interfaces = 192.0.2.1, [2001:db8::1]",
                SMTP,
                "\"192.0.2.1:25\", \"[2001:db8::1]:25\"",
            ),
            ("inet_interfaces = $myhostname", SMTP, "\"127.0.0.1:25\""),
            ("", "192.0.2.9:2525 inet n - y - - smtpd\n", "\"192.0.2.9:2525\""),
            ("", "[::1]:smtp inet n - y - - smtpd\n", "\"[::1]:25\""),
            ("", "", "\"127.0.0.1:25\""),
            (
                "",
                "smtp inet n - y - - smtpd\n127.0.0.1:25 inet n - y - - smtpd\n",
                "\"0.0.0.0:25\", \"[::]:25\"",
            ),
        ] {
            let found = listeners(main, master);
            assert!(found.contains(&format!("listen = [{want}]")), "{main} {master}: {found}");
            assert_eq!(found.matches("listen = ").count(), 1, "{found}");
        }
    }

    #[test]
    fn tls_and_auth_are_offered_as_far_as_passwords_are_safe() {
        let certificate = "smtpd_tls_cert_file = /c\nsmtpd_tls_key_file = /k\n";
        let may = format!("{certificate}smtpd_tls_security_level = may\n");
        let auth = "smtpd_sasl_auth_enable = yes\n";
        let submission = " -o smtpd_sasl_auth_enable=yes \
                          -o smtpd_relay_restrictions=permit_sasl_authenticated,reject";
        let files = "tls_certificate = \"/c\" tls_key = \"/k\"";
        for (main, master, want, has) in [
            (may.clone(), SMTP.to_owned(), format!("tls = \"starttls\" {files}"), true),
            (certificate.to_owned(), SMTP.to_owned(), "tls".to_owned(), false),
            (
                "smtpd_tls_chain_files = /a.key, /a.pem\nsmtpd_tls_security_level = may\n"
                    .to_owned(),
                SMTP.to_owned(),
                "tls = \"starttls\" tls_certificate = \"/a.pem\" tls_key = \"/a.key\"".to_owned(),
                true,
            ),
            (format!("{may}{auth}"), SMTP.to_owned(), "auth = \"tls-only\"".to_owned(), true),
            (auth.to_owned(), SMTP.to_owned(), "auth".to_owned(), false),
            (
                format!("{auth}inet_interfaces = 127.0.0.1\n"),
                SMTP.to_owned(),
                "auth = \"allow-clear\"".to_owned(),
                true,
            ),
            (
                certificate.to_owned(),
                format!("465 inet n - y - - smtpd -o smtpd_tls_wrappermode=yes{submission}\n"),
                format!(
                    "name = \"submissions\" kind = \"submission\" listen = [\"0.0.0.0:465\", \
                         \"[::]:465\"] tls = \"implicit\" {files}"
                ),
                true,
            ),
            (
                String::new(),
                format!("587 inet n - y - - smtpd{submission}\n"),
                "submission".to_owned(),
                false,
            ),
        ] {
            let found = listeners(&main, &master);
            assert_eq!(found.contains(&want), has, "{main} {master}: {found}");
        }
    }
}
