//! Which options there are about mail that goes out: routes, egress, delivery, retry, DNS.
//!
//! Each stands here with its meaning, unit and default, and with what the machines make of it.
//! Pure, but for [`RouteEntry::login`], which reads the file of a password.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    time::Duration,
};

use merpati_flow::{
    retry::RetryPlan,
    route::{Condition, Rule},
};
use merpati_mail::{Domain, Mailbox};
use merpati_smtp::client::Timeouts;

use super::{
    next_hop::{Secret, To},
    section::{Default, section},
    values::{Name, Network, Recipients, RouteTls},
};
use crate::certificates::Pair;

section! {
    /// Where mail goes that came in by a listener of kind `relay` or `submission`, and our own
    /// reports: a rule, as often as needed. The first one whose conditions all hold decides. What
    /// no route covers waits, and goes as soon as one does; it never goes anywhere by default.
    Named "route" RouteEntry {
        /// Its name in `explain`, in logs and metrics; each route has its own.
        name: Name = Default::Required;
        /// Condition: `local` covers recipients in `relay.local_domains`, and `<postmaster>`
        /// without a domain, who is ours (RFC 5321 §4.5.1); `any` covers all.
        recipients: Recipients = Default::Value("any");
        /// Condition: the recipient's domain is one of these; an empty list: any.
        recipient_domains: Vec<Domain> = Default::Value("");
        /// Condition: the recipient's domain is this one or below it; `off`: any.
        recipient_below: Option<Domain> = Default::Value("off");
        /// Condition: the domain of the reverse-path is this one or below it, which the null
        /// reverse-path never is; `off`: any.
        sender_below: Option<Domain> = Default::Value("off");
        /// Condition: this credential handed the message over; `off`: any, or none.
        credential: Option<String> = Default::Value("off");
        /// Where it goes: `mx` to the hosts that DNS names for the recipient's domain (RFC 5321
        /// §5.1); `smtp://host` to that host (port 25), or to the first of a list that answers;
        /// `smtps://host` the same with TLS from the first octet (port 465); `lmtp://host:port` or
        /// `lmtp:/path` to a store by LMTP (RFC 2033); `refuse` fails it at once with this text.
        to: To = Default::Required;
        /// Whether the connection is to be protected by STARTTLS: `opportunistic` where it is
        /// offered (RFC 7435), `required` or no mail, `never`.
        tls: RouteTls = Default::Found(
            "`opportunistic`; `required` for `smtps://`, which always speaks TLS, and where there \
             is a `user`; `never` for a Unix socket",
        );
        /// Whether the certificate must be valid for the host, and its issuer be known. Without
        /// `tls = "required"` an attacker can take TLS away altogether, so it can only be true
        /// there.
        tls_verify: bool = Default::Found("`true` where TLS is required, else `false`");
        /// Whether what domains publish of TLS is followed where `to` is `mx` and `tls` is not
        /// `never`: certificates named by DNSSEC (DANE, RFC 7672), else MTA-STS (RFC 8461). They
        /// ask for more than `tls` does, and what fails them waits. `false` is for partners whose
        /// records are broken.
        tls_policies: bool = Default::Value("true");
        /// The PEM file with the issuers to trust, in place of those of the system; `off`: those.
        tls_ca: Option<PathBuf> = Default::Value("off");
        /// The PEM file with the certificate that is shown to hosts which ask for one, and those
        /// that lead to its root: to a smart host that knows us by it. Read again within a minute
        /// when it changes; what cannot be used leaves the one before in place. `off`: none.
        tls_certificate: Option<PathBuf> = Default::Value("off");
        /// The PEM file with the private key of this certificate.
        tls_key: Option<PathBuf> = Default::Value("off");
        /// The egress source that it leaves from. `off`: the one with the name `default` where
        /// there is one, else any address of this machine, and `server.hostname` in EHLO.
        egress: Option<Name> = Default::Value("off");
        /// Whom to authenticate as at the next hop (RFC 4954); `off`: nobody.
        user: Option<String> = Default::Value("off");
        /// The password. It is shown nowhere; better is `password_file`.
        password: Option<Secret> = Default::Value("off");
        /// The file with the password, read at start; a line end behind it does not count.
        password_file: Option<PathBuf> = Default::Value("off");
        /// Whether the password may be said without TLS, or to a host that did not prove who it is:
        /// for a next hop on this machine.
        auth_clear: bool = Default::Value("false");
        /// Attempts at once towards the same hosts of this route; `off`: as
        /// `delivery.connections_per_host_max` says.
        connections_max: Option<NonZeroU32> = Default::Value("off");
    }
}

section! {
    /// A source that mail leaves from, as often as needed: the addresses and the name that others
    /// know it by.
    Named "egress" EgressEntry {
        /// Its name in routes, logs and metrics. `default` is the one that routes without one take.
        name: Name = Default::Required;
        /// The addresses of this machine to connect from: one of IPv4, one of IPv6, or both. A
        /// host of a family that is missing is not connected to. An empty list: the system chooses.
        addresses: Vec<IpAddr> = Default::Value("");
        /// What it calls itself in EHLO: a name that DNS leads back to these addresses. `off`:
        /// `server.hostname`.
        hello: Option<Domain> = Default::Value("off");
    }
}

section! {
    /// Signatures (DKIM) on the mail of your users and your networks. `merpati domain` makes the
    /// keys and says which records to publish; [docs/signing.md](../signing.md) says more.
    Once "signing" Signing {
        /// For how long a signature is to be believed: who collects signed mail to send it to
        /// others has no longer. Mail may wait for days, here and elsewhere. `off`: for ever.
        lifetime: Option<Duration> = Default::Value("14 d");
        /// A file with a key of yours, 64 hexadecimal digits, under which the private keys are kept
        /// in the data directory. `off`: they are kept as they are, readable by the relay alone.
        key_file: Option<PathBuf> = Default::Value("off");
        /// Resolvers to ask beside those of `dns.servers`, each by itself: a key signs when all of
        /// them show its record. Name some that are not yours: they see what receivers see.
        resolvers: Vec<SocketAddr> = Default::Value("");
        /// How old keys get before the relay makes a new pair and says in the log which records to
        /// publish. The old ones sign until DNS has the new ones. `off`: `merpati domain rotate`
        /// makes them. In either case the relay looks once an hour, and at start, whether keys that
        /// wait are seen.
        rotate_every: Option<Duration> = Default::Value("off");
        /// As which domain of `merpati domain` mail of strangers is sealed behind the chain of
        /// those who forwarded it (ARC, RFC 8617), once it was looked at who sent it: so that where
        /// it goes on to somebody can see what SPF and DKIM said here. `off`: nothing is sealed.
        seal_as: Option<Domain> = Default::Value("off");
        /// Whether mail of your users and networks is refused (550 5.7.1) unless From names authors
        /// in domains of `merpati domain` only, or below them, of which DNS has shown a key: what
        /// leaves is signed.
        require_verified: bool = Default::Value("false");
    }
}

section! {
    /// How mail goes out.
    Once "delivery" Delivery {
        /// The port of the hosts that are found by MX.
        port: NonZeroU16 = Default::Value("25");
        /// Networks that MX may lead to although they are loopback, private or otherwise not for
        /// the public; hosts of a route may be anywhere.
        allow_networks: Vec<Network> = Default::Value("");
        /// Whether hosts must show the certificates that DNS names for them where DNSSEC proves it
        /// (DANE, RFC 7672). It needs resolvers that hand over signatures: the relay looks at start
        /// and says in its log where they do not, then goes on without, and looks again.
        dane: bool = Default::Value("true");
        /// Whether the policies of domains are looked at (MTA-STS, RFC 8461): fetched from
        /// `https://mta-sts.` and the domain where DNS says that there is one, and kept over a
        /// restart for as long as they say.
        mta_sts: bool = Default::Value("true");
        /// The port from which these are fetched.
        mta_sts_port: NonZeroU16 = Default::Value("443");
        /// Attempts that go on at once.
        attempts_max: NonZeroU32 = Default::Value("1000");
        /// Open connections, idle ones included.
        connections_max: NonZeroU32 = Default::Value("1000");
        /// Open connections from one egress source to one host, and attempts at once towards the
        /// same hosts, however many domains lead there.
        connections_per_host_max: NonZeroU32 = Default::Value("20");
        /// Messages on one connection; then a new one is made.
        messages_per_connection_max: NonZeroU32 = Default::Value("100");
        /// Recipients in one transaction. RFC 5321 §4.5.3.1.8 has every server take 100.
        recipients_max: NonZeroU32 = Default::Value("100");
        /// How long a connection is kept without a message for it.
        idle_wait: Duration = Default::Value("5 s");
        /// How long a connection to one address may take to come about.
        connect_wait: Duration = Default::Value("30 s");
        /// How long one attempt may take, up to the end of the content, over all hosts.
        attempt_wait: Duration = Default::Value("1 h");
        /// How long a host may take for its greeting (RFC 5321 §4.5.3.2.1 asks for 5 minutes).
        greeting_wait: Duration = Default::Value("5 min");
        /// How long a host may take for the reply to a command (RFC 5321 §4.5.3.2.2 and 3 ask for 5
        /// minutes), and for a TLS handshake, which gets 2 minutes at most.
        command_wait: Duration = Default::Value("5 min");
        /// How long a host may take for the reply to DATA (RFC 5321 §4.5.3.2.4 asks for 2 minutes).
        data_wait: Duration = Default::Value("2 min");
        /// How long a host may take to accept a piece of content (RFC 5321 §4.5.3.2.5 asks for 3
        /// minutes).
        data_block_wait: Duration = Default::Value("3 min");
        /// How long a host may take for the reply to the end of the content. RFC 5321 §4.5.3.2.6
        /// asks for 10 minutes; a shorter wait makes duplicates (RFC 1047).
        data_end_wait: Duration = Default::Value("10 min");
        /// Who is told where a report of ours cannot be delivered, because the sender of a message
        /// takes no mail: once, and nobody is told where that fails too. `off`: nobody; the mail
        /// log has it in any case.
        postmaster: Option<Mailbox> = Default::Value("off");
    }
}

section! {
    /// When a delivery that did not succeed is tried again (RFC 5321 §4.5.4.1). Each wait is cut
    /// short by up to a fifth, at random.
    Once "retry" Retry {
        /// The wait after the first attempt; doubles with each further one.
        first_wait: Duration = Default::Value("5 min");
        /// No wait is longer than this.
        longest_wait: Duration = Default::Value("4 h");
        /// The age at which a message fails. RFC 5321 §4.5.4.1 asks for at least 4 to 5 days.
        give_up_after: Duration = Default::Value("5 d");
        /// The age at which the sender of a message is told, once for each recipient and with the
        /// next attempt that fails, that it is delayed (RFC 3461 §4.1): where the message came with
        /// `NOTIFY=DELAY`, or without `NOTIFY` and not from a list, in bulk or sent by a program.
        /// `off`: never.
        delay_report_after: Option<Duration> = Default::Value("4 h");
    }
}

section! {
    /// How DNS is asked.
    Once "dns" Dns {
        /// The resolvers; an empty list: those of the system.
        servers: Vec<SocketAddr> = Default::Value("");
        /// How long to wait for the answer to one question.
        query_wait: Duration = Default::Value("5 s");
        /// How often a question is asked before the answer is unknown.
        tries: NonZeroU32 = Default::Value("2");
        /// Whether all answers must be proven by DNSSEC where their zone is signed, whether or not
        /// the resolvers hand over the signatures. `false`: those that deliveries ask for are, as
        /// soon as the resolvers are seen to hand them over (see `delivery.dane`).
        validate: bool = Default::Value("false");
        /// A file with the keys of the root as DNSKEY records, in place of those of the Internet:
        /// for a network with a root of its own. `off`: those of the Internet.
        trust_anchor: Option<PathBuf> = Default::Value("off");
        /// Answers that are kept until they expire.
        cache_entries: NonZeroU32 = Default::Value("10000");
    }
}

/// Whom to authenticate as at a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
    /// Whether it may be said without TLS.
    pub may_be_clear: bool,
}

impl RouteEntry {
    /// The rule that it is; `local` are the domains that `recipients = "local"` means.
    pub fn rule(&self, local: &[Domain]) -> Rule {
        let mut when = Vec::new();
        if self.recipients == Recipients::Local {
            when.push(Condition::RecipientDomain(local.to_vec()));
        }
        if !self.recipient_domains.is_empty() {
            when.push(Condition::RecipientDomain(self.recipient_domains.clone()));
        }
        when.extend(self.recipient_below.clone().map(Condition::RecipientBelow));
        when.extend(self.sender_below.clone().map(Condition::SenderBelow));
        when.extend(self.credential.clone().map(Condition::Credential));
        Rule {
            name: self.name.as_str().into(),
            when,
            then: self.to.next_hop(),
            attempts_max: self.connections_max.map(count),
        }
    }

    /// The certificate that hosts are shown which ask for one; `None` for none.
    pub fn certificate(&self) -> Option<Pair> {
        Some(Pair { chain: self.tls_certificate.clone()?, key: self.tls_key.clone()? })
    }

    /// Whom to authenticate as, with the password from its file; `None` for nobody. Errs where the
    /// file cannot be read or holds no password.
    pub fn login(&self) -> io::Result<Option<Login>> {
        let Some(user) = self.user.clone() else { return Ok(None) };
        let password = match (&self.password, &self.password_file) {
            (Some(password), _) => password.clone(),
            (None, Some(path)) => Secret::read(path)?,
            (None, None) => return Ok(None),
        };
        Ok(Some(Login { user, password, may_be_clear: self.auth_clear }))
    }

    /// Whether mail for this domain can go by it, whoever it is from.
    pub(super) fn can_cover(&self, domain: &Domain, is_local: bool) -> bool {
        (self.recipients == Recipients::Any || is_local)
            && (self.recipient_domains.is_empty() || self.recipient_domains.contains(domain))
            && self.recipient_below.as_ref().is_none_or(|parent| domain.is_or_is_below(parent))
    }
}

/// A source that mail leaves from, with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Its name; `default` where the route names none.
    pub name: String,
    /// The addresses to connect from, at most one of each family; where there is none at all, the
    /// system chooses; otherwise a family that is missing is not used.
    pub addresses: Vec<IpAddr>,
    /// What it calls itself in EHLO.
    pub hello: Domain,
}

impl Egress {
    /// The source of this name among these; without a name the one called `default`, and where
    /// there is none, what the system chooses.
    pub(super) fn of(name: Option<&Name>, all: &[EgressEntry], hostname: &Domain) -> Self {
        let name = name.map_or(DEFAULT_EGRESS, Name::as_str);
        let entry = all.iter().find(|entry| entry.name.as_str() == name);
        Self {
            name: name.to_owned(),
            addresses: entry.map(|entry| entry.addresses.clone()).unwrap_or_default(),
            hello: entry.and_then(|entry| entry.hello.as_ref()).unwrap_or(hostname).clone(),
        }
    }
}

impl Delivery {
    /// How long a session with a host waits for what.
    pub fn timeouts(&self) -> Timeouts {
        let usual = Timeouts::default();
        Timeouts {
            greeting: self.greeting_wait,
            hello: self.command_wait,
            tls: self.command_wait.min(usual.tls),
            mail: self.command_wait,
            recipient: self.command_wait,
            data_init: self.data_wait,
            data_block: self.data_block_wait,
            end_of_data: self.data_end_wait,
            transaction: self.attempt_wait,
            ..usual
        }
    }
}

impl Retry {
    /// The plan of the core.
    pub const fn plan(&self) -> RetryPlan {
        RetryPlan {
            first: self.first_wait,
            longest: self.longest_wait,
            give_up: self.give_up_after,
        }
    }
}

fn count(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}

/// The egress source of routes that name none.
pub const DEFAULT_EGRESS: &str = "default";
