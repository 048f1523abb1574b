//! Where a transport with its next hop leads: `smtp:[host]:port`, `lmtp:unix:path`, `error:text`.
//!
//! Invariant: what has no counterpart here leads nowhere, never to the hosts that DNS names. Pure.

use merpati_mail::{
    Domain,
    route::{Endpoint, HostPort, Refusal},
};

use super::{Postfix, text::words};
use crate::config::{next_hop::To, setting::Setting};

/// Where a transport leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// Nowhere here, for this reason.
    Lost(String),
    /// There.
    To(Way),
}

/// Where it leads, and how Postfix called it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// Where.
    pub to: To,
    /// The transport in `master.cf`.
    pub transport: String,
    /// The next hop as tables of passwords and of TLS name it; empty for the recipient's domain.
    pub next_hop: String,
    /// Hosts without brackets, for which Postfix asks DNS for MX records.
    pub without_brackets: Vec<Domain>,
}

/// What a program of Postfix does with mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Discard,
    Error,
    Lmtp,
    Mailbox,
    Other,
    Smtp,
}

/// Where `transport:nexthop` leads; without a next hop by SMTP to the recipient's domain.
pub(super) fn hop(postfix: &Postfix, text: &str) -> Hop {
    let (transport, next_hop) = text.split_once(':').unwrap_or((text, ""));
    let (transport, next_hop) = (transport.trim(), next_hop.trim());
    let way = |to, without_brackets| {
        let (transport, next_hop) = (transport.to_owned(), next_hop.to_owned());
        Hop::To(Way { to, transport, next_hop, without_brackets })
    };
    match program(postfix, transport) {
        Program::Smtp if next_hop.is_empty() => way(To::Mx, Vec::new()),
        Program::Smtp => match hosts(next_hop, 25) {
            Some(hosts) => {
                let is_wrapped =
                    postfix.scope_of_transport(transport).is_yes("smtp_tls_wrappermode");
                let bare = hosts.iter().filter(|(_, has_brackets)| !has_brackets);
                let bare = bare.map(|(host, _)| host.host.clone()).collect();
                let hosts = hosts.into_iter().map(|(host, _)| host).collect();
                way(if is_wrapped { To::Smtps(hosts) } else { To::Smtp(hosts) }, bare)
            }
            None => Hop::Lost(format!("`{next_hop}` is no host that can be written here")),
        },
        Program::Lmtp => match lmtp(postfix, transport, next_hop) {
            Some(endpoint) => way(To::Lmtp(endpoint), Vec::new()),
            None => Hop::Lost(format!("`{next_hop}` is no LMTP server that can be written here")),
        },
        Program::Error => way(To::Refuse(refusal(next_hop)), Vec::new()),
        Program::Discard => Hop::Lost("nothing is thrown away here".to_owned()),
        Program::Mailbox => Hop::Lost("there are no mailboxes on this machine".to_owned()),
        Program::Other => {
            Hop::Lost(format!("there is nothing like the transport `{transport}` here"))
        }
    }
}

/// Where a relayhost leads.
pub(super) fn relayhost(postfix: &Postfix, next_hop: &str, transport: &str) -> Hop {
    let transport = transport.split(':').next().unwrap_or(transport);
    hop(postfix, &format!("{transport}:{next_hop}"))
}

fn program(postfix: &Postfix, transport: &str) -> Program {
    let service = postfix.master.transport(transport);
    let command = service.map_or(transport, |service| service.command.as_str());
    match command {
        // Mail that waits for ever is no mail that is refused.
        _ if transport == "retry" => Program::Other,
        "discard" => Program::Discard,
        "error" => Program::Error,
        "lmtp" => Program::Lmtp,
        "local" | "virtual" => Program::Mailbox,
        "smtp" => Program::Smtp,
        "relay" if service.is_none() => Program::Smtp,
        _ => Program::Other,
    }
}

/// The hosts of a next hop, each with whether it stands in brackets; `None` where one is none.
fn hosts(next_hop: &str, port: u16) -> Option<Vec<(HostPort, bool)>> {
    let hosts = words(next_hop);
    let hosts: Option<Vec<_>> = hosts.iter().map(|host| host_port(host, port)).collect();
    hosts.filter(|hosts| !hosts.is_empty())
}

/// `host`, `host:port`, `[host]`, `[host]:port`, with addresses in brackets.
fn host_port(text: &str, port: u16) -> Option<(HostPort, bool)> {
    let (name, port_text, has_brackets) =
        if let Some((inside, behind)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
            (inside, behind.strip_prefix(':'), true)
        } else {
            let (name, port) = text.split_once(':').map_or((text, None), |(n, p)| (n, Some(p)));
            (name, port, false)
        };
    let port = port_text.map_or(Some(port), port_of)?;
    let address = name.strip_prefix("ipv6:").or_else(|| name.strip_prefix("IPv6:"));
    let host = match address.unwrap_or(name).parse() {
        Ok(address) => Domain::Literal(address),
        Err(_) => Domain::parse(name).ok()?,
    };
    let is_literal = host.as_name().is_none();
    Some((HostPort { host, port }, has_brackets || is_literal))
}

/// A port by its number or its usual name.
pub(super) fn port_of(text: &str) -> Option<u16> {
    match text {
        "lmtp" => Some(24),
        "smtp" => Some(25),
        "submission" => Some(587),
        "smtps" | "submissions" | "urd" => Some(465),
        digits => digits.parse().ok().filter(|port| *port > 0),
    }
}

fn lmtp(postfix: &Postfix, transport: &str, next_hop: &str) -> Option<Endpoint> {
    let scope = postfix.scope_of_transport(transport);
    if let Some(path) = next_hop.strip_prefix("unix:") {
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", scope.value("queue_directory"))
        };
        let is_good = To::parse(&format!("lmtp:{path}")).is_ok();
        return is_good.then_some(Endpoint::Unix(path));
    }
    let place = next_hop.strip_prefix("inet:").unwrap_or(next_hop);
    let port = port_of(&scope.value("lmtp_tcp_port")).unwrap_or(24);
    host_port(place, port).map(|(host, _)| Endpoint::Tcp(host))
}

/// The text of an error, with the status code in front of it.
fn refusal(text: &str) -> Refusal {
    let plain: String = text.chars().filter(|c| *c == ' ' || c.is_ascii_graphic()).collect();
    let plain: String = plain.trim().chars().take(REFUSAL_CHARACTERS_MAX).collect();
    let text =
        if plain.is_empty() { "mail to this address is not taken".to_owned() } else { plain };
    Refusal { text }
}

/// What a route can hold, with room to spare.
const REFUSAL_CHARACTERS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests::postfix;

    #[test]
    fn each_transport_leads_to_its_counterpart_or_nowhere() {
        let master = "\
smtp unix - - n - - smtp
slow unix - - n - 1 smtp
wrapped unix - - n - - smtp -o smtp_tls_wrappermode=yes
relay unix - - n - - smtp
store unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
local unix - n n - - local
maildrop unix - n n - - pipe
";
        let postfix = postfix("queue_directory = /q\n", master, &[]);
        for (text, want) in [
            ("smtp:[mail.example]", "\"smtp://mail.example:25\""),
            ("smtp:[mail.example]:2525", "\"smtp://mail.example:2525\""),
            ("smtp:[192.0.2.1]:submission", "\"smtp://[192.0.2.1]:587\""),
            ("smtp:[ipv6:2001:db8::1]:26", "\"smtp://[IPv6:2001:db8::1]:26\""),
            ("smtp:[2001:db8::1]", "\"smtp://[IPv6:2001:db8::1]:25\""),
            ("smtp:mail.example:26", "\"smtp://mail.example:26\" bare mail.example"),
            ("slow:[a.example], [b.example]", "\"smtp://a.example:25, smtp://b.example:25\""),
            ("wrapped:[a.example]:465", "\"smtps://a.example:465\""),
            ("relay:", "\"mx\""),
            ("smtp", "\"mx\""),
            ("store:unix:private/lmtp", "\"lmtp:/q/private/lmtp\""),
            ("lmtp:unix:/run/lmtp", "\"lmtp:/run/lmtp\""),
            ("lmtp:inet:store.example:2424", "\"lmtp://store.example:2424\""),
            ("lmtp:[127.0.0.1]", "\"lmtp://[127.0.0.1]:24\""),
            ("error:5.1.1 gone", "\"refuse 5.1.1 gone\""),
            ("error:", "\"refuse mail to this address is not taken\""),
            ("smtp:[a b]", "lost"),
            ("smtp:a:b:c", "lost"),
            ("lmtp:", "lost"),
            ("discard:", "lost"),
            ("local:", "lost"),
            ("virtual:", "lost"),
            ("maildrop:", "lost"),
            ("retry:4.0.0 later", "lost"),
            ("nobody:[a.example]", "lost"),
        ] {
            let shown = match hop(&postfix, text) {
                Hop::Lost(_) => "lost".to_owned(),
                Hop::To(way) => {
                    let bare: Vec<String> =
                        way.without_brackets.iter().map(|host| format!(" bare {host}")).collect();
                    way.to.show() + &bare.concat()
                }
            };
            assert_eq!(shown, want, "{text}");
        }
    }
}
