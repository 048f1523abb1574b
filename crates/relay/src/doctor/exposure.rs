//! What the configuration lets others do: whether strangers can send through us, and who reaches
//! the API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use merpati_console::health::{Finding, Grade};
use merpati_flow::admit::{self, Answers, Facts, Policy, Room, Step};
use merpati_mail::{Domain, ForwardPath, Mailbox, ReversePath, Stage, Time, stage::Decision};

use crate::{
    config::{Config, values::Kind},
    node,
};

/// Asks the rules of each listener that delivers what they tell strangers: the very code that
/// decides for clients.
pub(super) fn check_relaying(config: &Config) -> Vec<Finding> {
    let delivers = |kind| matches!(kind, Kind::Relay | Kind::Submission);
    let listeners = config.listeners.iter().filter(|listener| delivers(listener.kind));
    let looks = listeners.map(|listener| {
        let about = format!("listener {}", listener.name);
        match node::policy(config, listener, None) {
            Ok(policy) => judge(about, &taken(&policy, config)),
            Err(why) => Finding::new("open-relay", about, Grade::Unknown, format!("{why:#}"))
                .fix("`merpati config check` says more"),
        }
    });
    looks.collect()
}

/// What strangers may send to addresses that are not ours, in words.
fn taken(policy: &Policy, config: &Config) -> Vec<String> {
    let own = config.relay.local_domains.first().unwrap_or(&config.server.hostname);
    let ours = |local: &str| Mailbox::new(local, own.clone()).ok();
    let stranger = |text: &str| Mailbox::parse(text).ok();
    let senders = [
        ReversePath(None),
        ReversePath(stranger("x@elsewhere.example")),
        ReversePath(ours("postmaster")),
        ReversePath(ours("x")),
    ];
    let recipients = [
        stranger("u@elsewhere.example"),
        stranger("u@[192.0.2.9]"),
        stranger("\"u@elsewhere.example\"@elsewhere.example"),
        Mailbox::new("u", Domain::Literal(IpAddr::V6(Ipv6Addr::LOCALHOST))).ok(),
    ];
    let clients = [
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        IpAddr::V6(Ipv6Addr::from(0x2001_0db8_u128 << 96)),
    ];
    let mut taken = Vec::new();
    for client in clients {
        for reverse_path in &senders {
            for recipient in recipients.iter().flatten() {
                let facts = Facts {
                    peer: client,
                    credential: None,
                    room: Room::Roomy,
                    now: Time::EPOCH,
                    reverse_path: Some(reverse_path),
                };
                let path = ForwardPath::Mailbox(recipient.clone());
                let stage = Stage::Recipient { path, accepted_before: 0 };
                // What would still have to be asked about is not refused.
                let is_refused = match admit::step(policy, &facts, &stage, &Answers::default()) {
                    Step::Ask(_) => false,
                    Step::Verdict(verdict) => {
                        matches!(verdict.decision, Decision::Disconnect(_) | Decision::Refuse(_))
                    }
                };
                if !is_refused {
                    let from = reverse_path.mailbox().map(ToString::to_string).unwrap_or_default();
                    taken.push(format!("{client} may send from <{from}> to <{recipient}>"));
                }
            }
        }
    }
    taken
}

fn judge(about: String, taken: &[String]) -> Finding {
    match taken {
        [] => {
            let words = "strangers are refused who want to send elsewhere";
            Finding::new("open-relay", about, Grade::Good, words)
        }
        [first, ..] => Finding::new("open-relay", about, Grade::Bad, first)
            .fix("see relay.networks and relay.local_domains: others will send spam through you"),
    }
}

/// The API has no passwords yet.
pub(super) fn check_api(config: &Config) -> Vec<Finding> {
    let reached =
        config.server.http_listen.iter().filter(|it| !it.ip().to_canonical().is_loopback());
    let findings = reached.map(|address| {
        let words = "whoever reaches it may read captured mail, and hold or cancel what waits";
        Finding::new("api", address.to_string(), Grade::Bad, words)
            .fix("set server.http_listen to an address of loopback; a proxy may ask for passwords")
    });
    findings.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn config() -> Config {
        crate::samples::config(
            "[server]\nhostname = \"mx.ours.example\"\n\
             [relay]\nlocal_domains = [\"ours.example\"]\n\
             [[listener]]\nname = \"mx\"\nkind = \"relay\"\nlisten = [\"127.0.0.1:0\"]\n\
             [[route]]\nname = \"all\"\nto = \"mx\"\n",
        )
    }

    #[test]
    fn a_relay_for_everybody_is_noticed() {
        let closed = config();
        assert_eq!(check_relaying(&closed)[0].grade, Grade::Good);
        let mut open = closed;
        open.relay.networks = vec![crate::config::Network::parse("192.0.2.0/24").unwrap()];
        let finding = &check_relaying(&open)[0];
        assert_eq!(finding.grade, Grade::Bad, "{finding:?}");
        assert!(finding.words.contains("192.0.2.7 may send"), "{finding:?}");
    }

    #[test]
    fn an_api_that_everybody_reaches_is_noticed() {
        let mut config = config();
        assert_eq!(check_api(&config), []);
        config.server.http_listen = vec!["0.0.0.0:8025".parse().unwrap()];
        assert_eq!(check_api(&config)[0].grade, Grade::Bad);
    }
}
