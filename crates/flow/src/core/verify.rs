//! How a next hop is asked whether it would take mail for a recipient.
//!
//! Invariant: only a next hop that the operator named is asked; hosts of strangers are not, because
//! that would be work for them by which nobody is helped. Pure.

use std::sync::Arc;

use bytes::Bytes;
use merpati_mail::{
    BodyType, Envelope, ForwardPath, Mailbox, NextHop, Origin, Overlay, Protocol, QueueId,
    Recipient, Requests, ReversePath, Time, envelope::Utf8, event::Accepted, route::Endpoint,
};

use super::{Dialect, Job, JobId, Loaded, Protection};
use crate::route::{Facts, Router, Target};

impl Job {
    /// An attempt that asks the next hop of a recipient about it, and hands nothing over; `None`
    /// where its mail goes to hosts found by MX, or nowhere.
    ///
    /// It comes with the null reverse-path, as a report would: that must be taken for whoever gets
    /// mail (RFC 5321 §6.1), and asks nobody back.
    pub fn verification(router: &Router, mailbox: &Mailbox) -> Option<Self> {
        let reverse_path = ReversePath(None);
        let recipient = mailbox.domain();
        let facts = Facts { recipient, reverse_path: &reverse_path, credential: None };
        let route = router.route(&facts)?;
        let target = |endpoint| Target { endpoint, address: None };
        let (dialect, targets) = match route.next_hop {
            NextHop::Hosts(hosts) => {
                let targets = hosts.into_iter().map(|host| target(Endpoint::Tcp(host)));
                (Dialect::Smtp, targets.collect())
            }
            NextHop::Lmtp(endpoint) => (Dialect::Lmtp, vec![target(endpoint)]),
            NextHop::Mx | NextHop::Refuse(_) => return None,
        };
        let recipient = Recipient::new(ForwardPath::Mailbox(mailbox.clone()));
        let recipients = vec![(0, recipient.clone())];
        let message = Arc::new(nothing(vec![recipient]));
        let protection = Protection::AsRouted;
        Some(Self {
            id: JobId(0),
            message,
            rule: route.rule,
            recipients,
            dialect,
            protection,
            by_mx: None,
            targets,
        })
    }
}

/// A message that is never handed over.
fn nothing(recipients: Vec<Recipient>) -> Loaded {
    let envelope = Envelope {
        reverse_path: ReversePath(None),
        recipients,
        body: BodyType::SevenBit,
        utf8: Utf8::NotDeclared,
        ret: None,
        envid: None,
        requests: Requests::default(),
        origin: Origin {
            listener: "internal".to_owned(),
            peer: None,
            credential: None,
            protocol: Protocol::Internal,
            tls: None,
            received_at: Time::EPOCH,
        },
    };
    let (id, edits) = (QueueId::from_bits(0), Overlay::default());
    Loaded { accepted: Accepted { id, envelope, edits, size_bytes: 0 }, header: Bytes::new() }
}

#[cfg(test)]
mod tests {
    use merpati_mail::{Domain, route::HostPort};

    use super::*;
    use crate::route::{Condition, Rule};

    #[test]
    fn only_next_hops_that_the_operator_named_are_asked() {
        let domain = |text: &str| Domain::parse(text).unwrap();
        let host = HostPort { host: domain("store.example"), port: 2525 };
        let rule = |name: &str, then| Rule {
            name: name.into(),
            when: vec![Condition::RecipientDomain(vec![domain(&format!("{name}.example"))])],
            then,
            attempts_max: None,
        };
        let router = Router {
            rules: vec![
                rule("hosts", NextHop::Hosts(vec![host.clone()])),
                rule("lmtp", NextHop::Lmtp(Endpoint::Unix("/run/lmtp".to_owned()))),
                rule("mx", NextHop::Mx),
            ],
        };
        for (address, want) in [
            ("u@hosts.example", Some((Dialect::Smtp, Endpoint::Tcp(host)))),
            ("u@lmtp.example", Some((Dialect::Lmtp, Endpoint::Unix("/run/lmtp".to_owned())))),
            ("u@mx.example", None),
            ("u@other.example", None),
        ] {
            let job = Job::verification(&router, &Mailbox::parse(address).unwrap());
            let got = job.map(|job| (job.dialect, job.targets[0].endpoint.clone()));
            assert_eq!(got, want, "{address}");
        }
    }
}
