//! Which services of Postfix become listeners, and who may send by them.
//!
//! Invariant: who was refused by Postfix for who he is, is refused here: a service that takes mail
//! from some clients only is not opened to others for the sake of another service. Pure.

use super::{
    Postfix,
    hop::port_of,
    master_cf::Service,
    networks::{Net, mynetworks},
    report::{Report, Weight},
    restrictions::{Client, Recipient, walk},
    scope::Scope,
};

/// What a service is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It takes mail from networks and credentials alone.
    Closed,
    /// It takes mail for our domains from anybody.
    Open,
    /// It takes mail from who has authenticated alone.
    Submission,
}

/// A service that becomes a listener.
#[derive(Clone, Debug)]
pub(super) struct Door<'a> {
    /// Its line in `master.cf`.
    pub service: &'a Service,
    /// Its parameters: those of the program that speaks SMTP.
    pub scope: Scope<'a>,
    /// Its port.
    pub port: u16,
    /// What it is for.
    pub role: Role,
    /// Whether it offers AUTH.
    pub has_auth: bool,
    /// The networks that may send to everywhere by it.
    pub networks: Vec<Net>,
}

/// All listeners, and what is so of them together.
#[derive(Clone, Debug, Default)]
pub(super) struct Doors<'a> {
    /// Those that stay.
    pub all: Vec<Door<'a>>,
    /// Networks that may send to everywhere by each of them.
    pub networks: Vec<Net>,
    /// Networks that may not, because it is in doubt whether Postfix let them.
    pub doubtful: Vec<Net>,
    /// Whether strangers may send nowhere.
    pub is_closed: bool,
}

/// The doors of a configuration. `has_domains`: whether any domain is ours; without one, a door is
/// open to nobody.
pub(super) fn doors<'a>(postfix: &'a Postfix, has_domains: bool, report: &mut Report) -> Doors<'a> {
    let mut doors = Doors::default();
    for service in postfix.master.services.iter().filter(|service| service.kind == "inet") {
        match door(postfix, service, &mut doors.doubtful, report) {
            Ok(door) => doors.all.push(door),
            Err(why) => leave_out(postfix, service, &why, report),
        }
    }
    let is_open = |door: &Door<'_>| door.role == Role::Open;
    if has_domains && doors.all.iter().any(is_open) {
        let (closed, kept) = doors.all.into_iter().partition(|door| door.role == Role::Closed);
        doors.all = kept;
        for door in closed {
            let why = "it takes mail from some clients alone, while another service takes mail \
                       from anybody; Merpati has one rule for all listeners of kind relay";
            leave_out(postfix, door.service, why, report);
        }
    }
    doors.is_closed = !doors.all.iter().any(is_open);
    let mut relays = doors.all.iter().filter(|door| door.role != Role::Submission);
    if let Some(first) = relays.next() {
        let others: Vec<&Door<'_>> = relays.collect();
        let is_for_all = |net: &&Net| {
            let holds = |door: &&Door<'_>| door.networks.iter().any(|other| other.holds(**net));
            others.iter().all(holds)
        };
        doors.networks = first.networks.iter().filter(is_for_all).copied().collect();
        let most = doors.all.iter().filter(|door| door.role != Role::Submission);
        if most.clone().any(|door| door.networks != doors.networks) {
            let text = "the listeners trust different networks, and Merpati has one list for all: \
                        those that not all of them trust are left out";
            report.line(Weight::Loud, &first.service.place, "mynetworks", text);
        }
    }
    doors
}

/// A service, and all that it sets for itself, does not become a listener.
fn leave_out(postfix: &Postfix, service: &Service, why: &str, report: &mut Report) {
    let text = format!("the service is left out: {why}");
    report.line(Weight::Loud, &service.place, &service.name, &text);
    let scope = postfix.scope_of(service);
    for name in service.own.keys() {
        report.left_with_its_service(&scope, name);
    }
}

fn door<'a>(
    postfix: &'a Postfix,
    service: &'a Service,
    doubtful: &mut Vec<Net>,
    report: &mut Report,
) -> Result<Door<'a>, String> {
    let scope = match service.command.as_str() {
        "smtpd" => postfix.scope_of(service),
        "postscreen" => {
            let mut services = postfix.master.services.iter();
            let inner = services.find(|one| one.kind == "pass" && one.command == "smtpd");
            report.line(Weight::Loud, &service.place, &service.name, POSTSCREEN);
            inner.map_or_else(|| postfix.scope(), |inner| postfix.scope_of(inner))
        }
        other => return Err(format!("there is nothing like {other} here")),
    };
    let port = service.name.rsplit(':').next().and_then(port_of);
    let port = port.ok_or_else(|| format!("`{}` is no port that is known here", service.name))?;
    if scope.has("smtpd_upstream_proxy_protocol") {
        let why = "its clients are told by a proxy: write the listener with proxy_from, the \
                   addresses of the proxy, or every client counts as the proxy";
        return Err(why.to_owned());
    }
    let permitted = |client, recipient| walk(postfix, &scope, client, recipient);
    if permitted(Client::Stranger, Recipient::Foreign).is_permitted {
        let text = "its restrictions permit anybody to send to everywhere; Merpati does not";
        report.line(Weight::Loud, &service.place, &service.name, text);
    }
    let is_open = permitted(Client::Stranger, Recipient::Ours).is_permitted;
    let has_auth = scope.is_yes("smtpd_sasl_auth_enable")
        && permitted(Client::Authenticated, Recipient::Foreign).is_permitted;
    let networks = networks(postfix, &scope, doubtful, report);
    let is_usual = port == 465 || port == 587;
    let role = match (is_open, has_auth) {
        (true, _) => Role::Open,
        (false, true) if networks.is_empty() || is_usual => {
            if !networks.is_empty() {
                let text = "networks need a password here as well: a listener of kind submission \
                            takes mail from who has authenticated alone";
                report.line(Weight::Loud, &service.place, &service.name, text);
            }
            Role::Submission
        }
        (false, _) if !networks.is_empty() => Role::Closed,
        (false, _) => return Err("it takes mail from nobody who is known here".to_owned()),
    };
    let is_trusting = walk(postfix, &scope, Client::Network, Recipient::Foreign).is_permitted;
    if role != Role::Submission && !is_trusting && scope.has("mynetworks") {
        let text = "these networks are not trusted to send to everywhere: permit_mynetworks does \
                    not stand where it would permit that";
        report.left(&scope, "mynetworks", Weight::Plain, text);
    }
    Ok(Door { service, scope, port, role, has_auth, networks })
}

/// The networks that may send to everywhere.
fn networks(
    postfix: &Postfix,
    scope: &Scope<'_>,
    doubtful: &mut Vec<Net>,
    report: &mut Report,
) -> Vec<Net> {
    let walk = walk(postfix, scope, Client::Network, Recipient::Foreign);
    let name = "mynetworks";
    if !walk.is_permitted {
        return Vec::new();
    }
    let own = mynetworks(postfix, scope, report);
    let all = walk.tables.iter().fold(own.clone(), |nets, table| table.pass(nets));
    if walk.doubts.is_empty() {
        report.carried(scope, name);
        if all != own {
            let text = "clients that check_client_access refuses are left out of it";
            report.left(scope, name, Weight::Plain, text);
        }
        return all;
    }
    let text = format!(
        "no network may send to everywhere: in front of permit_mynetworks stands what may refuse a \
         client for reasons that are not known here ({}); take away the # in front of \
         relay.networks where it concerns none of them",
        walk.doubts.join("; ")
    );
    report.left(scope, name, Weight::Loud, &text);
    for net in all {
        if !doubtful.contains(&net) {
            doubtful.push(net);
        }
    }
    Vec::new()
}

const POSTSCREEN: &str = "postscreen stands in front of this service, and nothing like it here: \
                          see listener.greeting_wait, listener.connections_per_minute_max and \
                          [[list]]";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests::postfix;

    const USUAL: &str = "compatibility_level = 3.6\nmynetworks = 127.0.0.0/8, 10.0.0.0/8\n";
    const SMTP: &str = "smtp inet n - y - - smtpd\n";

    fn shown(main: &str, master: &str, files: &[(&str, &str)]) -> String {
        let postfix = postfix(main, master, files);
        let mut report = Report::default();
        let doors = doors(&postfix, true, &mut report);
        let all: Vec<String> = doors
            .all
            .iter()
            .map(|door| {
                let auth = if door.has_auth { " auth" } else { "" };
                format!("{} {:?}{auth}", door.port, door.role)
            })
            .collect();
        let nets =
            |nets: &[Net]| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let doubt = nets(&doors.doubtful);
        let doubt = if doubt.is_empty() { doubt } else { format!(" ({doubt})") };
        let lines = report.into_lines();
        let loud = lines.iter().filter(|line| line.weight == Weight::Loud).count();
        format!("{}: {}{doubt}; {loud}", all.join(", "), nets(&doors.networks))
    }

    #[track_caller]
    fn check(main: &str, master: &str, want: &str) {
        let files = [
            ("/c", "10.128.0.0/9 REJECT\n"),
            ("/only", "10.0.0.0/9 OK\n0.0.0.0/1 REJECT\n128.0.0.0/1 REJECT\n"),
        ];
        let master = format!("{SMTP}{master}");
        assert_eq!(shown(&format!("{USUAL}{main}\n"), &master, &files), want, "{main} {master}");
    }

    #[test]
    fn each_service_is_as_open_as_postfix_made_it() {
        let auth = "-o smtpd_sasl_auth_enable=yes -o smtpd_relay_restrictions=";
        for (master, want) in [
            (String::new(), "25 Open: 127.0.0.0/8 10.0.0.0/8; 0"),
            (
                format!("587 inet n - y - - smtpd {auth}permit_sasl_authenticated,reject\n"),
                "25 Open, 587 Submission auth: 127.0.0.0/8 10.0.0.0/8; 0",
            ),
            (
                format!(
                    "submission inet n - y - - smtpd {auth}permit_mynetworks,\
                     permit_sasl_authenticated,reject\n"
                ),
                "25 Open, 587 Submission auth: 127.0.0.0/8 10.0.0.0/8; 1",
            ),
            (
                "127.0.0.1:10025 inet n - y - - smtpd \
                 -o smtpd_recipient_restrictions=permit_mynetworks,reject\n"
                    .to_owned(),
                "25 Open: 127.0.0.0/8 10.0.0.0/8; 1",
            ),
            (
                "2525 inet n - y - - smtpd -o mynetworks=127.0.0.0/8\n".to_owned(),
                "25 Open, 2525 Open: 127.0.0.0/8; 1",
            ),
            ("628 inet n - y - - qmqpd\n".to_owned(), "25 Open: 127.0.0.0/8 10.0.0.0/8; 1"),
        ] {
            check("", &master, want);
        }
    }

    #[test]
    fn clients_may_send_where_the_lists_let_them() {
        let lists = [
            ("relay", "permit_sasl_authenticated, reject_unauth_destination", "25 Open: ; 0"),
            ("recipient", "permit_mynetworks, reject", "25 Closed: 127.0.0.0/8 10.0.0.0/8; 0"),
            (
                "client",
                "check_policy_service inet:p:1, permit_mynetworks",
                "25 Open:  (127.0.0.0/8 10.0.0.0/8); 1",
            ),
            (
                "client",
                "permit_mynetworks, check_policy_service inet:p:1",
                "25 Open: 127.0.0.0/8 10.0.0.0/8; 0",
            ),
            ("client", "check_client_access cidr:/c", "25 Open: 10.0.0.0/9 127.0.0.0/8; 0"),
            // Only those of the first row are not refused.
            ("client", "check_client_access cidr:/only", "25 Closed: 10.0.0.0/9; 0"),
            ("client", "check_client_access static:REJECT", ": ; 1"),
            ("relay", "permit", "25 Open: 127.0.0.0/8 10.0.0.0/8; 1"),
            ("relay", "reject", ": ; 1"),
        ];
        for (list, items, want) in lists {
            check(&format!("smtpd_{list}_restrictions = {items}"), "", want);
        }
        // Every client would be the proxy.
        check("smtpd_upstream_proxy_protocol = haproxy", "", ": ; 1");
    }
}
