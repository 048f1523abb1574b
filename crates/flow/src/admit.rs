//! Who may hand what over, to whom: the answers to the questions of a server session.
//!
//! Invariant: relay control is closed by default. Nothing goes to a domain that is not ours unless
//! a network or a credential was named in the configuration. Pure.

mod inside;
pub mod lists;
pub mod recipients;
mod strangers;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use merpati_mail::{
    Domain, ForwardPath, Mailbox, Priority, Reply, ReversePath, Stage, Time, Verdict, address,
    header, stage::Decision,
};

pub use self::strangers::{
    Answers, Greylisting, Names, SenderDomain, Step, Strangers, ahead, asks_provenance, hits,
    is_signed_for, step,
};

use crate::{alias::Aliases, content, repair, srs::NoReturn};

/// What a listener admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What becomes of what it admits.
    pub kind: ListenerKind,
    /// The domains that are ours, matched exactly; sub-domains are not meant.
    pub local_domains: BTreeSet<Domain>,
    /// The networks that may send anywhere.
    pub networks: Vec<Network>,
    /// As whom each credential may send, by its name. One that is not here may send as
    /// nobody, but for the domains below.
    pub senders: BTreeMap<String, Senders>,
    /// The domains in which others vouch for users who are in no list: such a credential is an
    /// address, and may send as that address alone.
    pub vouched_domains: BTreeSet<Domain>,
    /// Octets of the largest message.
    pub size_bytes_max: u64,
    /// Received fields beyond which a message is taken to go round (RFC 5321 §6.3: at least 100).
    pub hops_max: usize,
    /// What is asked about clients that nobody vouches for, and about recipients.
    pub strangers: Strangers,
    /// What is asked of contents.
    pub contents: content::Rules,
    /// What addresses in our domains stand for; `None` where they are only what they say.
    pub aliases: Option<Arc<Aliases>>,
    /// Domains of ours to which only our networks and credentials may send.
    pub internal_domains: BTreeSet<Domain>,
    /// Credentials that may send to our domains only.
    pub confined: BTreeSet<String>,
}

impl Policy {
    /// Whether [`content::decide`] wants to know how long the lines of a content are.
    pub fn asks_for_lines(&self) -> bool {
        self.kind == ListenerKind::Submission || self.contents.line_octets_max.is_some()
    }

    /// Whether a content with this beginning and this longest line goes through
    /// [`repair::repaired`] first: only what comes from its author.
    pub fn asks_for_repair(&self, head: &[u8], longest_line_octets: u64) -> bool {
        self.kind == ListenerKind::Submission && repair::is_needed(head, longest_line_octets)
    }
}

impl Policy {
    /// Whether what fails at an address is held against it: our own networks may stand for many
    /// users, and they are trusted with more than passwords.
    pub fn is_responsible(&self, address: IpAddr) -> bool {
        !self.networks.iter().any(|network| network.contains(address))
    }

    fn permits(&self, credential: &str, mailbox: &Mailbox) -> bool {
        match self.senders.get(credential) {
            Some(senders) => senders.permit(mailbox),
            None => self.vouched(credential).is_some_and(|own| key(&own) == key(mailbox)),
        }
    }

    /// Whether a credential may send as anybody at all.
    pub fn knows(&self, credential: &str) -> bool {
        match self.senders.get(credential) {
            Some(senders) => !senders.are_none(),
            None => self.vouched(credential).is_some(),
        }
    }

    /// The address of a credential that is in no list, in whatever case, and for which somebody
    /// vouches.
    fn vouched(&self, credential: &str) -> Option<Mailbox> {
        let own = Mailbox::parse(credential).ok()?;
        let is_listed = || self.senders.keys().any(|name| name.eq_ignore_ascii_case(credential));
        (self.vouched_domains.contains(own.domain()) && !is_listed()).then_some(own)
    }
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// Mail for our domains, and from our networks and credentials to everywhere.
    Relay,
    /// Everything is captured, nothing goes out.
    Sandbox,
    /// Mail from its authors, who must authenticate, to everywhere (RFC 6409).
    Submission,
}

/// As whom a credential may send: in the reverse-path, and in the header field From.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Senders {
    /// As anybody.
    Any,
    /// As these.
    Listed {
        /// Local parts in lower case, and their domains. Few domains tell `Ani` from `ani`, and
        /// those who do not would refuse an author his own address.
        addresses: BTreeSet<(String, Domain)>,
        /// Any address in these domains; subdomains are not meant.
        domains: BTreeSet<Domain>,
    },
}

/// One of [`Senders`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// This address.
    Address(Mailbox),
    /// Anybody.
    Any,
    /// Any address in this domain.
    Domain(Domain),
}

impl Senders {
    /// All of these; of none, nobody.
    pub fn of(all: impl IntoIterator<Item = Sender>) -> Self {
        let (mut addresses, mut domains) = (BTreeSet::new(), BTreeSet::new());
        for sender in all {
            match sender {
                Sender::Address(mailbox) => {
                    addresses.insert(key(&mailbox));
                }
                Sender::Any => return Self::Any,
                Sender::Domain(domain) => {
                    domains.insert(domain);
                }
            }
        }
        Self::Listed { addresses, domains }
    }

    /// Whether this address is among them.
    pub fn permit(&self, mailbox: &Mailbox) -> bool {
        match self {
            Self::Any => true,
            Self::Listed { addresses, domains } => {
                domains.contains(mailbox.domain()) || addresses.contains(&key(mailbox))
            }
        }
    }

    /// Whether nobody is among them.
    pub fn are_none(&self) -> bool {
        match self {
            Self::Any => false,
            Self::Listed { addresses, domains } => addresses.is_empty() && domains.is_empty(),
        }
    }
}

fn key(mailbox: &Mailbox) -> (String, Domain) {
    (mailbox.local().to_ascii_lowercase(), mailbox.domain().clone())
}

/// What is known about a session when a question of it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The address of the other end.
    pub peer: IpAddr,
    /// The credential that authenticated; `None` where nothing did.
    pub credential: Option<&'a str>,
    /// Whether the spool can take more.
    pub room: Room,
    /// From whom the transaction is; `None` outside of one.
    pub reverse_path: Option<&'a ReversePath>,
    /// Wall time.
    pub now: Time,
}

/// Whether the spool can take more mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Not now: a watermark is reached.
    Full,
    /// It is poisoned: it will take nothing until the relay has been started again.
    Poisoned,
    /// Yes.
    Roomy,
}

/// The beginning of a content, in which its header is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    octets: &'a [u8],
    is_whole: bool,
}

impl<'a> Head<'a> {
    /// From the first octets of a content of `size_bytes` octets; of them, [`HEADER_OCTETS_MAX`]
    /// are looked at.
    pub fn of(first: &'a [u8], size_bytes: u64) -> Self {
        let octets = first.get(..HEADER_OCTETS_MAX).unwrap_or(first);
        Self { octets, is_whole: octets.len() as u64 >= size_bytes }
    }

    /// How many of the first octets of a content are to be kept, so that its header can be looked
    /// at: with little behind it, unless it is longer than what is looked at.
    pub fn octets_needed(first: &[u8]) -> usize {
        let header_octets = header::body_start(first);
        first.len().min(HEADER_OCTETS_MAX).min(header_octets + BEHIND_HEADER_OCTETS)
    }

    /// What is looked at.
    pub const fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// Whether nothing of the header lies behind what is looked at.
    pub fn has_whole_header(&self) -> bool {
        let end = header::fields(self.octets).last().map_or(0, |field| field.range.end);
        let behind = self.octets.get(end..).unwrap_or_default();
        // The line at which the header ends must be there to its end: cut off, a field is no field.
        self.is_whole || behind.contains(&b'\n')
    }

    /// Every field of this name that a reader may find, from the top; `None` where there may be
    /// more of them behind what is looked at.
    pub fn fields(&self, name: &str) -> Option<Vec<header::Field<'a>>> {
        let mut all = header::lax_fields(self.octets);
        let fields = all.by_ref().filter(|field| field.is(name)).collect();
        (self.is_whole || all.have_ended()).then_some(fields)
    }
}

/// The answer to a question of a session, as far as it follows from the policy alone; [`step`] is
/// the whole of it.
pub fn decide(policy: &Policy, facts: &Facts<'_>, stage: &Stage) -> Verdict {
    match stage {
        Stage::Connect => Verdict::accept("connect"),
        Stage::Hello { name: _ } => Verdict::accept("hello"),
        Stage::Mail { reverse_path, size_bytes, body: _, utf8: _, requests } => {
            let verdict = mail(policy, facts, reverse_path, *size_bytes);
            if verdict.decision == Decision::Accept {
                priority(policy, facts, requests.urgency()).unwrap_or(verdict)
            } else {
                verdict
            }
        }
        Stage::Recipient { path, accepted_before: _ } => recipient(policy, facts, path),
    }
}

/// The answer to the question at the end of data, from the header of the message.
///
/// `credential` is the one that authenticated; `None` where nothing did.
pub fn content(policy: &Policy, credential: Option<&str>, head: &Head<'_>) -> Verdict {
    match policy.kind {
        ListenerKind::Sandbox => return Verdict::accept("sandbox"),
        // What is not looked at can be neither removed nor checked.
        ListenerKind::Submission if !head.has_whole_header() => return header_too_long(),
        ListenerKind::Relay | ListenerKind::Submission => {}
    }
    if header::count(head.octets, "Received") > policy.hops_max {
        return Verdict::refuse(
            "too-many-hops",
            Reply::new(554, (5, 4, 6), "this message is going round: too many Received fields"),
        );
    }
    match credential {
        Some(credential) if policy.senders.get(credential) != Some(&Senders::Any) => {
            originators(policy, credential, head)
        }
        Some(_) | None => Verdict::accept("content"),
    }
}

/// Whether everybody in From, and who is in Sender, is one as whom the credential may send. Readers
/// are shown either (RFC 5322 §3.6.2).
fn originators(policy: &Policy, credential: &str, head: &Head<'_>) -> Verdict {
    for (name, not_allowed, unreadable) in [
        ("From", "from-not-allowed", "from-unreadable"),
        ("Sender", "sender-field-not-allowed", "sender-field-unreadable"),
    ] {
        let Some(fields) = head.fields(name) else { return header_too_long() };
        for field in fields {
            let Ok(all) = address::parse_header_list(field.value) else {
                let text = format!("the header field {name} cannot be read");
                return Verdict::refuse(unreadable, Reply::with_text(550, (5, 6, 0), text));
            };
            let stranger = all.iter().find(|one| !policy.permits(credential, &one.mailbox));
            if let Some(stranger) = stranger {
                let text = format!("you may not send as {} in {name}", stranger.mailbox);
                return Verdict::refuse(not_allowed, Reply::with_text(550, (5, 7, 1), text));
            }
        }
    }
    Verdict::accept("content")
}

fn header_too_long() -> Verdict {
    let text = format!("the header is longer than {HEADER_OCTETS_MAX} octets");
    Verdict::refuse("header-too-long", Reply::with_text(552, (5, 3, 4), text))
}

fn mail(
    policy: &Policy,
    facts: &Facts<'_>,
    reverse_path: &ReversePath,
    size_bytes: Option<u64>,
) -> Verdict {
    match facts.room {
        Room::Poisoned => {
            return Verdict::refuse("storage-trouble", storage_trouble());
        }
        Room::Full => {
            return Verdict::refuse(
                "spool-full",
                Reply::new(452, (4, 3, 1), "not enough storage now, try again later"),
            );
        }
        Room::Roomy => {}
    }
    if size_bytes.is_some_and(|size| size > policy.size_bytes_max) {
        return Verdict::refuse(
            "message-size",
            Reply::with_text(
                552,
                (5, 3, 4),
                format!("messages of at most {} octets are taken here", policy.size_bytes_max),
            ),
        );
    }
    sender(policy, facts, reverse_path)
}

/// What is said where a message shall go before others, and we do not know who wants that. RFC 6710
/// §5 has us trust some clients only; anybody may step back.
fn priority(policy: &Policy, facts: &Facts<'_>, asked: Priority) -> Option<Verdict> {
    let is_trusted = match policy.kind {
        ListenerKind::Sandbox => true,
        ListenerKind::Relay | ListenerKind::Submission => {
            facts.credential.is_some() || policy.networks.iter().any(|n| n.contains(facts.peer))
        }
    };
    let decision = Decision::AcceptLowered(Priority::NORMAL);
    (asked > Priority::NORMAL && !is_trusted)
        .then(|| Verdict { decision, rule: "priority-lowered".into() })
}

/// Whether the client may use this reverse-path. The null reverse-path is nobody's, and everybody
/// must be able to send reports with it (RFC 5321 §4.5.5).
fn sender(policy: &Policy, facts: &Facts<'_>, reverse_path: &ReversePath) -> Verdict {
    match (policy.kind, facts.credential, reverse_path.mailbox()) {
        (ListenerKind::Submission, None, _) => {
            let text = "authentication is needed first";
            Verdict::refuse("auth-required", Reply::new(530, (5, 7, 0), text))
        }
        // Somebody who was introduced by a name that is nobody's; also the null reverse-path is not
        // for him.
        (ListenerKind::Relay | ListenerKind::Submission, Some(credential), _)
            if !policy.knows(credential) =>
        {
            let reply = Reply::new(553, (5, 7, 1), "there is no such credential");
            Verdict::refuse("credential-unknown", reply)
        }
        (ListenerKind::Relay | ListenerKind::Submission, Some(credential), Some(mailbox))
            if !policy.permits(credential, mailbox) =>
        {
            let text = format!("you may not send as {mailbox}");
            Verdict::refuse("sender-not-allowed", Reply::with_text(553, (5, 7, 1), text))
        }
        (ListenerKind::Relay | ListenerKind::Sandbox | ListenerKind::Submission, _, _) => {
            Verdict::accept("sender")
        }
    }
}

fn recipient(policy: &Policy, facts: &Facts<'_>, path: &ForwardPath) -> Verdict {
    let verdict = relayed(policy, facts, path);
    match verdict.decision {
        // What an alias leads to was written by the operator; whether a client may send there is
        // not asked of it, so it never opens the relay for an address that a client names.
        Decision::Accept | Decision::AcceptLowered(_) => {
            inside::decide(policy, facts, path).unwrap_or(verdict)
        }
        Decision::Disconnect(_) | Decision::Refuse(_) => verdict,
    }
}

fn relayed(policy: &Policy, facts: &Facts<'_>, path: &ForwardPath) -> Verdict {
    match (policy.kind, path) {
        (ListenerKind::Sandbox, _) => Verdict::accept("sandbox"),
        // RFC 5321 §4.5.1: <Postmaster> without a domain is always taken.
        (ListenerKind::Relay | ListenerKind::Submission, ForwardPath::Postmaster) => {
            Verdict::accept("postmaster")
        }
        (ListenerKind::Submission, ForwardPath::Mailbox(_)) => match facts.credential {
            Some(_) => Verdict::accept("authenticated"),
            None => relay_denied(),
        },
        (ListenerKind::Relay, ForwardPath::Mailbox(mailbox)) => {
            if policy.local_domains.contains(mailbox.domain()) {
                Verdict::accept("local-domain")
            } else if facts.credential.is_some() {
                Verdict::accept("authenticated")
            } else if policy.networks.iter().any(|network| network.contains(facts.peer)) {
                Verdict::accept("relay-network")
            } else {
                relay_denied()
            }
        }
    }
}

const fn relay_denied() -> Verdict {
    let reply = Reply::new(550, (5, 7, 1), "relaying to this domain is not allowed");
    Verdict::refuse("relay-denied", reply)
}

/// What is said of an address for reports that leads to nobody.
pub(crate) fn no_return(why: NoReturn, path: &ForwardPath) -> Verdict {
    let (rule, why) = match why {
        NoReturn::Expired => ("srs-expired", "was for reports on a message of long ago"),
        NoReturn::Forged => ("srs-unknown", "is no address of ours for reports"),
    };
    Verdict::refuse(rule, Reply::with_text(550, (5, 7, 1), format!("{path} {why}")))
}

/// What is said when the spool has failed (RFC 3463: other or undefined mail system status).
pub const fn storage_trouble() -> Reply {
    Reply::new(451, (4, 3, 0), "storage trouble, try again later")
}

/// A network in CIDR notation, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the address lies in the network; an IPv4-mapped address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                (own.to_bits() ^ other.to_bits()) & mask == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                (own.to_bits() ^ other.to_bits()) & mask == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) if digits.bytes().all(|o| o.is_ascii_digit()) => {
                digits.parse().map_err(|_| NetworkError::Prefix)?
            }
            Some(_) => return Err(NetworkError::Prefix),
        };
        if prefix > longest {
            return Err(NetworkError::Prefix);
        }
        let network = Self { address, prefix };
        if network.first() == address { Ok(network) } else { Err(NetworkError::HostBits) }
    }
}

impl Network {
    fn first(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(own) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(own.to_bits() & mask))
            }
            IpAddr::V6(own) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(own.to_bits() & mask))
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Why a text is not a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// What stands before the slash is not an IP address.
    Address,
    /// The address has bits behind the prefix: a typing error, or a host was meant.
    HostBits,
    /// What stands behind the slash is not a number up to 32 or 128.
    Prefix,
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "a network begins with an IP address",
            Self::HostBits => "the address has bits set behind its prefix",
            Self::Prefix => "a prefix is a number up to 32 (IPv4) or 128 (IPv6)",
        })
    }
}

impl std::error::Error for NetworkError {}

/// How much of a content is looked at for its header, in octets. A longer header is taken as it is
/// where nothing depends on it, and refused where something does: at submission listeners, and from
/// credentials that may not send as anybody.
pub const HEADER_OCTETS_MAX: usize = 192 << 10;
/// How much behind a header is kept with it: lines that some readers take for a part of it.
const BEHIND_HEADER_OCTETS: usize = 32 << 10;

#[cfg(test)]
#[path = "admit_tests.rs"]
mod tests;
