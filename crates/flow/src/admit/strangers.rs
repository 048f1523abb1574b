//! What must be known of the world before a client is answered, and what follows from it.
//!
//! Invariant: whatever is not known is decided so that no legitimate mail is lost. Who
//! authenticated, and whom the operator named, is never asked about; the postmaster is reached
//! by everybody whose own domain exists (RFC 5321 §4.5.1). Pure.
//!
//! A decision is made in [`step`]s: what is still missing is asked, and with the answers the same
//! step is made again. The shell asks all at once, with one deadline for a stage.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use merpati_mail::{
    Answer, Domain, ForwardPath, Mailbox, Question, Reply, ReversePath, Stage, Verdict,
    question::{
        GreylistAnswer, HostNameAnswer, ListEntry, ListedAnswer, MailDomainAnswer, RecipientAnswer,
        Triplet,
    },
    stage::Decision,
};

use super::{
    Facts, ListenerKind, Network, Policy, decide,
    lists::{List, ListAction},
    recipients::{self, CallAhead, Look, Verification},
};
use crate::{
    alias::{Kind, Meaning},
    greylist,
};

/// What is asked about strangers; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strangers {
    /// Whose names are looked up.
    pub names: Names,
    /// Whether there must be mail for the domain of the reverse-path.
    pub sender_domain: SenderDomain,
    /// The lists that are asked.
    pub lists: Vec<List>,
    /// Whether first contacts wait.
    pub greylisting: Greylisting,
    /// Networks whose clients are no strangers, although they may send to our domains only.
    pub known: Vec<Network>,
    /// Which recipients in our domains exist.
    pub recipients: Verification,
}

/// Whose names are looked up in the DNS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Everybody's.
    All,
    /// Nobody's.
    #[default]
    Off,
    /// Those of addresses that the public DNS can know: not of loopback and private ones.
    Public,
}

/// Whether there must be mail for the domain of the reverse-path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SenderDomain {
    /// It need not.
    #[default]
    Any,
    /// There must: what cannot be answered is not taken.
    MustExist,
}

/// Whether first contacts wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Greylisting {
    /// They do not.
    #[default]
    Off,
    /// They do.
    On,
}

/// What is needed for a decision, or the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These must be asked first; never empty.
    Ask(Vec<Question>),
    /// It is decided.
    Verdict(Verdict),
}

/// The answers that a session got.
#[derive(Clone, Debug, Default)]
pub struct Answers(Vec<(Question, Answer)>);

impl Answers {
    /// Takes more of them.
    pub fn add(&mut self, answers: impl IntoIterator<Item = (Question, Answer)>) {
        self.0.extend(answers);
    }

    /// Forgets what is not about the client itself: the next command asks anew.
    pub fn forget_transaction(&mut self) {
        self.0.retain(|(question, _)| match question {
            Question::HostName(_) => true,
            Question::Listed { zone: _, entry } => matches!(entry, ListEntry::Address(_)),
            Question::Credential(_)
            | Question::Greylist(_)
            | Question::MailDomain(_)
            | Question::Mx(_)
            | Question::Recipient(_) => false,
        });
    }

    /// The name of the client; `None` where it has none that leads back to its address, or where
    /// that is not known.
    pub fn name_of(&self, peer: IpAddr) -> Option<&Domain> {
        let answer = self.about(&Question::HostName(peer))?;
        let Answer::HostName(HostNameAnswer::Confirmed(name)) = answer else { return None };
        Some(name)
    }

    fn about(&self, question: &Question) -> Option<&Answer> {
        self.0.iter().find(|(asked, _)| asked == question).map(|(_, answer)| answer)
    }
}

/// What to begin asking at this stage, so that it is known when it is needed: what is about the
/// client, as soon as it is there. Nobody waits for it.
pub fn ahead(policy: &Policy, facts: &Facts<'_>, stage: &Stage) -> Vec<Question> {
    let mut questions = Vec::new();
    match stage {
        Stage::Connect => {}
        Stage::Hello { .. } | Stage::Mail { .. } | Stage::Recipient { .. } => return questions,
    }
    if asks_name(policy, facts) {
        questions.push(Question::HostName(facts.peer));
    }
    if is_stranger(policy, facts) {
        questions.extend(policy.strangers.lists.iter().filter_map(|list| asked(list, facts)));
    }
    questions
}

/// The answer to a question of a session, or what must be known first.
///
/// A question is asked once: the answer to it has to be among the answers the next time, be it
/// that it is unknown.
pub fn step(policy: &Policy, facts: &Facts<'_>, stage: &Stage, answers: &Answers) -> Step {
    let verdict = decide(policy, facts, stage);
    match verdict.decision {
        Decision::Accept | Decision::AcceptLowered(_) => {}
        Decision::Disconnect(_) | Decision::Refuse(_) => return Step::Verdict(verdict),
    }
    let mut asking = Asking { answers, missing: Vec::new() };
    let refusal = match stage {
        Stage::Mail { reverse_path, .. } => mail(policy, facts, reverse_path, &mut asking),
        Stage::Recipient { path, .. } => recipient(policy, facts, path, &mut asking),
        Stage::Connect | Stage::Hello { .. } => None,
    };
    if asking.missing.is_empty() {
        Step::Verdict(refusal.unwrap_or(verdict))
    } else {
        Step::Ask(asking.missing)
    }
}

/// The names of the lists that have the client or its sender, with what they say.
pub fn hits(policy: &Policy, facts: &Facts<'_>, answers: &Answers) -> Vec<Arc<str>> {
    let is_hit = |list: &&List| {
        let answer = asked(list, facts).and_then(|question| answers.about(&question));
        matches!(answer, Some(Answer::Listed(listed)) if list.hit(listed).is_some())
    };
    policy.strangers.lists.iter().filter(is_hit).map(|list| Arc::clone(&list.name)).collect()
}

/// What was answered, and what is still to be asked.
struct Asking<'a> {
    answers: &'a Answers,
    missing: Vec<Question>,
}

impl<'a> Asking<'a> {
    fn about(&mut self, question: Question) -> Option<&'a Answer> {
        let answer = self.answers.about(&question);
        if answer.is_none() && !self.missing.contains(&question) {
            self.missing.push(question);
        }
        answer
    }
}

fn mail(
    policy: &Policy,
    facts: &Facts<'_>,
    reverse_path: &ReversePath,
    asking: &mut Asking<'_>,
) -> Option<Verdict> {
    if !is_stranger(policy, facts) {
        return None;
    }
    if asks_name(policy, facts) {
        // It decides nothing, but stands in the Received field, which is written soon.
        asking.about(Question::HostName(facts.peer));
    }
    let domain = asked_domain(policy, reverse_path)?;
    if is_nowhere(domain) {
        return sender_domain(&MailDomainAnswer::NoSuchDomain, domain);
    }
    let answer = asking.about(Question::MailDomain(domain.clone()))?;
    let Answer::MailDomain(answer) = answer else { return None };
    sender_domain(answer, domain)
}

/// The domain of the reverse-path, where there must be mail for it. Our own need not be asked
/// about, and an address literal needs no DNS.
fn asked_domain<'a>(policy: &Policy, reverse_path: &'a ReversePath) -> Option<&'a Domain> {
    let domain = reverse_path.mailbox()?.domain();
    let must_exist = match policy.strangers.sender_domain {
        SenderDomain::Any => false,
        SenderDomain::MustExist => true,
    };
    let is_asked =
        must_exist && domain.as_name().is_some() && !policy.local_domains.contains(domain);
    is_asked.then_some(domain)
}

/// Whether no sender can be there, whatever a name server says: `.invalid` never exists, and the
/// `localhost` of a stranger is not ours (RFC 6761 §6.3, §6.4).
fn is_nowhere(domain: &Domain) -> bool {
    domain.as_name().is_some_and(|name| {
        let last = name.rsplit('.').next();
        matches!(last, Some("invalid" | "localhost"))
    })
}

fn sender_domain(answer: &MailDomainAnswer, domain: &Domain) -> Option<Verdict> {
    let (rule, code, enhanced, why) = match answer {
        // Where nobody answers us, the fault may be ours, and the sender's mail is not lost by it.
        MailDomainAnswer::Exists | MailDomainAnswer::Unknown => return None,
        MailDomainAnswer::NoHost => {
            ("sender-domain", 550, (5, 1, 8), "has neither MX nor address records")
        }
        MailDomainAnswer::NoSuchDomain => ("sender-domain", 550, (5, 1, 8), "does not exist"),
        // RFC 7505 §4.2: it never sends what could be answered.
        MailDomainAnswer::NullMx => {
            ("sender-null-mx", 550, (5, 7, 27), "takes no mail (null MX), so it sends none")
        }
        MailDomainAnswer::Trouble => {
            ("sender-domain-trouble", 451, (4, 1, 8), "cannot be looked up just now: its DNS fails")
        }
    };
    let text = format!("the domain of the sender, {domain}, {why}");
    Some(Verdict::refuse(rule, Reply::with_text(code, enhanced, text)))
}

fn recipient(
    policy: &Policy,
    facts: &Facts<'_>,
    path: &ForwardPath,
    asking: &mut Asking<'_>,
) -> Option<Verdict> {
    let mailbox = path.mailbox().filter(|mailbox| is_ours(policy, mailbox))?;
    if recipients::is_role(mailbox) {
        return None;
    }
    let meaning = policy.aliases.as_ref().and_then(|aliases| aliases.meaning(path, facts.now));
    let look = look(policy, mailbox, meaning.as_ref());
    if look == Look::Unknown {
        return Some(Verdict::refuse("recipient-unknown", recipients::unknown(mailbox)));
    }
    let is_stranger = is_stranger(policy, facts);
    let listed = if is_stranger { listed(policy, facts, asking) } else { None };
    let verified = if look == Look::Ask {
        let asked = meaning.as_ref().map_or(mailbox, |meaning| &meaning.mailbox);
        verify(policy, facts, (mailbox, asked), asking)
    } else {
        None
    };
    if let Some(refusal) = listed.or(verified) {
        return Some(refusal);
    }
    // Last, and only for what is taken otherwise: who is refused for good need not come again.
    if is_stranger && asking.missing.is_empty() {
        return greylisted(policy, facts, mailbox, asking);
    }
    None
}

/// What is known of a recipient, or of what it stands for. An alias exists; where only the domain
/// has another name, the mailbox there exists or not, unless that is the business of others.
fn look(policy: &Policy, mailbox: &Mailbox, meaning: Option<&Meaning>) -> Look {
    let recipients = &policy.strangers.recipients;
    match meaning {
        None => recipients.look(mailbox),
        Some(Meaning { kind: Kind::Mailbox | Kind::Return, mailbox, .. })
            if is_ours(policy, mailbox) =>
        {
            recipients.look(mailbox)
        }
        Some(Meaning { kind: Kind::Alias | Kind::Mailbox | Kind::Return, .. }) => Look::Taken,
        Some(Meaning { kind: Kind::Nobody(_), .. }) => Look::Unknown,
    }
}

/// Whether the recipient is one of ours at a listener that delivers.
fn is_ours(policy: &Policy, mailbox: &Mailbox) -> bool {
    match policy.kind {
        ListenerKind::Relay | ListenerKind::Submission => {
            policy.local_domains.contains(mailbox.domain())
        }
        ListenerKind::Sandbox => false,
    }
}

fn listed(policy: &Policy, facts: &Facts<'_>, asking: &mut Asking<'_>) -> Option<Verdict> {
    let mut refusal = None;
    for list in &policy.strangers.lists {
        let Some(Answer::Listed(answer)) = asked(list, facts).and_then(|q| asking.about(q)) else {
            continue;
        };
        if let (Some(code), ListAction::Refuse, None) = (list.hit(answer), list.action, &refusal) {
            let reason = match answer {
                ListedAnswer::Yes { reason: Some(reason), .. } => format!(": {reason}"),
                ListedAnswer::No | ListedAnswer::Unknown | ListedAnswer::Yes { .. } => {
                    format!(" ({code})")
                }
            };
            let text = format!("{} is listed by {}{reason}", about(list, facts), list.name);
            refusal = Some(Verdict {
                decision: Decision::Refuse(Reply::with_text(550, (5, 7, 1), text)),
                rule: format!("list-{}", list.name).into(),
            });
        }
    }
    refusal
}

fn about(list: &List, facts: &Facts<'_>) -> String {
    match list.entry(facts) {
        Some(ListEntry::Address(address)) => format!("[{address}]"),
        Some(ListEntry::Domain(domain)) => domain.to_string(),
        None => "the client".to_owned(),
    }
}

fn asked(list: &List, facts: &Facts<'_>) -> Option<Question> {
    list.entry(facts).map(|entry| Question::Listed { zone: list.zone.clone(), entry })
}

/// Asks the next hop about `asked`, which is where `mailbox` is.
fn verify(
    policy: &Policy,
    facts: &Facts<'_>,
    (mailbox, asked): (&Mailbox, &Mailbox),
    asking: &mut Asking<'_>,
) -> Option<Verdict> {
    let answer = asking.about(Question::Recipient(asked.clone()))?;
    let Answer::Recipient(answer) = answer else { return None };
    match (answer, policy.strangers.recipients.call_ahead) {
        (RecipientAnswer::Refused, _) => {
            Some(Verdict::refuse("recipient-unknown", recipients::unknown(mailbox)))
        }
        // An author can do nothing with a 451; his message waits with us as well as with him.
        (RecipientAnswer::Unknown, CallAhead::OrDefer) if facts.credential.is_none() => {
            Some(Verdict::refuse("recipient-unverified", recipients::unverified(mailbox)))
        }
        (RecipientAnswer::Taken | RecipientAnswer::Unknown, _) => None,
    }
}

fn greylisted(
    policy: &Policy,
    facts: &Facts<'_>,
    mailbox: &Mailbox,
    asking: &mut Asking<'_>,
) -> Option<Verdict> {
    match policy.strangers.greylisting {
        Greylisting::Off => return None,
        Greylisting::On => {}
    }
    // Reports and callbacks from everywhere come with the null reverse-path, and few come again.
    let sender = facts.reverse_path?.mailbox()?.domain().clone();
    let network = greylist::network(facts.peer);
    let triplet = Triplet { network, sender, recipient: mailbox.clone() };
    let answer = asking.about(Question::Greylist(triplet))?;
    let Answer::Greylist(GreylistAnswer::Waits { until: _ }) = answer else { return None };
    let text = "greylisted: this is the first message from you, try again in some minutes";
    Some(Verdict::refuse("greylist", Reply::new(451, (4, 7, 1), text)))
}

/// Whether it is to be found out who sent the messages of a client: those of strangers, where
/// anybody wants to know. Our users have a password, and our other hosts send what others wrote.
pub fn asks_provenance(policy: &Policy, facts: &Facts<'_>) -> bool {
    policy.contents.authors.ask() && is_stranger(policy, facts)
}

/// Whether the messages of a client are signed for the domains of their authors: those of our users
/// and of our networks.
pub fn is_signed_for(policy: &Policy, facts: &Facts<'_>) -> bool {
    let is_ours = || policy.networks.iter().any(|network| network.contains(facts.peer));
    match policy.kind {
        ListenerKind::Relay => facts.credential.is_some() || is_ours(),
        ListenerKind::Sandbox => false,
        ListenerKind::Submission => true,
    }
}

/// Whether nobody vouches for the client: it did not authenticate, and the operator did not name
/// it. At listeners of other kinds there are no strangers.
fn is_stranger(policy: &Policy, facts: &Facts<'_>) -> bool {
    let is_named = |networks: &[Network]| networks.iter().any(|it| it.contains(facts.peer));
    match policy.kind {
        ListenerKind::Relay => {
            facts.credential.is_none()
                && !is_named(&policy.networks)
                && !is_named(&policy.strangers.known)
        }
        ListenerKind::Sandbox | ListenerKind::Submission => false,
    }
}

fn asks_name(policy: &Policy, facts: &Facts<'_>) -> bool {
    match (policy.kind, policy.strangers.names) {
        // Nothing leaves a sandbox, and a question is something.
        (ListenerKind::Sandbox, _) | (_, Names::Off) => false,
        (ListenerKind::Relay | ListenerKind::Submission, Names::All) => true,
        (ListenerKind::Relay | ListenerKind::Submission, Names::Public) => !is_private(facts.peer),
    }
}

/// Whether the public DNS has no name for the address: loopback, private, link local, shared.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => match v4.octets() {
            [0 | 10 | 127, ..] | [100, 64..=127, ..] | [169, 254, ..] | [192, 168, ..] => true,
            [172, second, ..] => (16..=31).contains(&second),
            _ => false,
        },
        IpAddr::V6(v6) => {
            let [first, ..] = v6.segments();
            v6 == Ipv6Addr::LOCALHOST || first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80
        }
    }
}

#[cfg(test)]
#[path = "strangers_tests.rs"]
mod tests;
