//! What must hold at every step, kept apart from those who could be wrong about it.
//!
//! Nothing acknowledged is lost. Nothing is delivered that was not accepted, or not as it was sent.
//! Every waiting delivery has a reason, a next time and an advice. Mail comes twice only after a
//! crash or a lost reply to the end of data. A failure and its report are one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use merpati_flow::{Core, queue::View};
use merpati_mail::{
    Cause, Class, DeliveryId, Event, Outcome, QueueId, Recipient, Time,
    envelope::Notify,
    event::{Accepted, Attempted},
};
use merpati_spool::{Body, Group};

use crate::{mails, mark::Mark, plan};

/// Where a relay stands in a world, from 0.
pub(crate) type RelayId = usize;

/// The book of what was submitted, promised and delivered.
#[derive(Debug, Default)]
pub struct Ledger {
    /// What was written, by name.
    written: BTreeMap<String, Vec<u8>>,
    /// What relays answer for.
    promises: BTreeMap<(RelayId, QueueId), Promise>,
    /// Name and recipient of all that a relay or a host took.
    taken: BTreeSet<(String, String)>,
    /// How often a host got a mail for a recipient.
    delivered: BTreeMap<(String, String), u32>,
    /// Mail that may come twice.
    excused: BTreeSet<String>,
    /// What submitters wanted to hear of, by name and recipient.
    asked: BTreeMap<(String, String), Option<Notify>>,
    /// When outcomes were told to a relay; those that are recent may be forgotten in a crash.
    recent: BTreeMap<String, Time>,
    /// First choices among hosts of equal preference, by host.
    choices: BTreeMap<String, u32>,
    /// How deliveries stood when a relay crashed.
    before: BTreeMap<(RelayId, DeliveryId), (Option<Time>, u32)>,
    /// What does not hold.
    pub(crate) wrongs: Vec<String>,
    /// What out of the ordinary was seen.
    pub(crate) marks: BTreeSet<Mark>,
    /// How many messages clients heard 250 for.
    pub(crate) acknowledged: u32,
}

#[derive(Debug)]
struct Promise {
    token: String,
    is_report: bool,
    recipients: Vec<String>,
    /// What is to be told of each recipient.
    notify: Vec<Option<Notify>>,
    /// Recipients of whose delay the originator was told.
    delayed: BTreeSet<u32>,
    finished: BTreeSet<u32>,
    retired: bool,
}

/// What an originator may be told of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Delayed,
    Failed,
    /// A next hop has it, which tells of success itself or not.
    Taken {
        has_dsn: bool,
    },
}

impl Ledger {
    pub(crate) fn wrong(&mut self, now: Time, what: impl std::fmt::Display) {
        if self.wrongs.len() < WRONGS_MAX {
            self.wrongs.push(format!("{now} {what}"));
        }
    }

    /// A mail exists, under this name.
    pub(crate) fn written(&mut self, token: &str, content: &[u8]) {
        self.written.insert(token.to_owned(), content.to_vec());
    }

    /// A client heard 250 for a mail and these recipients.
    pub(crate) fn acknowledged(
        &mut self,
        now: Time,
        relay: RelayId,
        token: &str,
        recipients: &[String],
    ) {
        self.acknowledged += 1;
        for recipient in recipients {
            let is_promised = self.promises.iter().any(|((by, _), promise)| {
                *by == relay && promise.token == token && promise.recipients.contains(recipient)
            });
            if !is_promised {
                self.wrong(now, format!("{token} was acknowledged and is not in the journal"));
            }
        }
    }

    /// A relay has a group in its journal, and acts on it.
    pub(crate) fn committed(&mut self, now: Time, relay: RelayId, group: &Group) {
        let mut news = Vec::new();
        let mut reports = Vec::new();
        for entry in &group.entries {
            match &entry.event {
                Event::Accepted(accepted) => {
                    self.accepted(now, relay, (accepted, &entry.body), &mut reports);
                }
                Event::Attempted(attempted) => self.attempted(now, relay, attempted, &mut news),
                Event::Expired { delivery, .. } => {
                    self.marks.insert(Mark::Expired);
                    self.finish(relay, *delivery);
                    news.push((*delivery, Action::Failed));
                }
                Event::Delayed { message, recipients } => {
                    let delivery = |&recipient| DeliveryId { message: *message, recipient };
                    news.extend(recipients.iter().map(delivery).map(|d| (d, Action::Delayed)));
                }
                Event::Cancelled(delivery) => {
                    self.marks.insert(Mark::Cancelled);
                    self.finish(relay, *delivery);
                }
                Event::Held { .. } => {
                    self.marks.insert(Mark::Held);
                }
                Event::Released { .. } => {
                    self.marks.insert(Mark::Released);
                }
                Event::Rerouted { .. } => {
                    self.marks.insert(Mark::Rerouted);
                }
                Event::Retired(id) => self.retired(now, relay, *id),
                Event::Captured(_) | Event::Carried(_) | Event::ConfigChanged { .. } => {}
            }
        }
        for (delivery, action) in news {
            self.reported(now, relay, (delivery, action), &reports);
        }
    }

    fn accepted(
        &mut self,
        now: Time,
        relay: RelayId,
        (accepted, body): (&Accepted, &Body),
        reports: &mut Vec<String>,
    ) {
        let Body::Bytes(pieces) = body else {
            self.wrong(now, format!("{} has no content", accepted.id));
            return;
        };
        let content = pieces.concat();
        let Some(token) = mails::token(&content) else {
            self.wrong(now, format!("{} has lost its name", accepted.id));
            return;
        };
        let is_report = accepted.envelope.origin.peer.is_none();
        if is_report {
            reports.push(String::from_utf8_lossy(&content).into_owned());
            self.written(&token, &content);
        }
        let recipients: Vec<String> =
            accepted.envelope.recipients.iter().map(|r| r.path.to_string()).collect();
        for recipient in &recipients {
            self.taken.insert((token.clone(), recipient.clone()));
        }
        let notify: Vec<Option<Notify>> =
            accepted.envelope.recipients.iter().map(|r| r.notify).collect();
        let (delayed, finished) = (BTreeSet::new(), BTreeSet::new());
        for (recipient, notify) in recipients.iter().zip(&notify) {
            let asked = self.asked.get(&(token.clone(), recipient.clone()));
            if asked.is_some_and(|asked| asked != notify) {
                self.wrong(now, format!("{token} lost its NOTIFY for {recipient}"));
            }
        }
        let promise =
            Promise { token, is_report, recipients, notify, delayed, finished, retired: false };
        self.promises.insert((relay, accepted.id), promise);
    }

    fn attempted(
        &mut self,
        now: Time,
        relay: RelayId,
        attempted: &Attempted,
        news: &mut Vec<(DeliveryId, Action)>,
    ) {
        let message = attempted.message;
        let mut fates = (false, false);
        for (recipient, outcome) in &attempted.outcomes {
            let delivery = DeliveryId { message, recipient: *recipient };
            match outcome {
                Outcome::Delivered { .. } => {
                    fates.0 = true;
                    self.must_be_taken(now, relay, delivery);
                    self.finish(relay, delivery);
                    let host = attempted.attempt.path.as_ref().map(|path| path.host.to_string());
                    let has_dsn = host.is_none_or(|host| plan::has_dsn(&host));
                    news.push((delivery, Action::Taken { has_dsn }));
                }
                Outcome::Failed { cause } => {
                    fates.1 = true;
                    self.must_last(now, relay, delivery, cause);
                    self.finish(relay, delivery);
                    news.push((delivery, Action::Failed));
                }
                Outcome::Deferred { until, cause } => {
                    if cause.class == Class::NoRoute {
                        self.marks.insert(Mark::NoRoute);
                    }
                    if *until > now + Duration::from_hours(5 * 24) {
                        self.wrong(now, format!("{delivery} waits until {until}"));
                    }
                }
            }
        }
        if fates == (true, true) {
            self.marks.insert(Mark::PartlyRefused);
        }
        if let Some(promise) = self.promises.get(&(relay, message)) {
            self.recent.insert(promise.token.clone(), now);
        }
    }

    /// What fails for ever must have a reason that lasts: in this world a user called `no`, and
    /// domains that are not there.
    fn must_last(&mut self, now: Time, relay: RelayId, delivery: DeliveryId, cause: &Cause) {
        let promise = self.promises.get(&(relay, delivery.message));
        let place = usize::try_from(delivery.recipient).unwrap_or(usize::MAX);
        let Some(recipient) = promise.and_then(|p| p.recipients.get(place)).cloned() else {
            return;
        };
        let is_lasting = recipient.starts_with("<no@")
            || recipient.ends_with("@null.example>")
            || recipient.ends_with("@none.example>");
        if !is_lasting || cause.reply.is_transient() {
            self.wrong(now, format!("{recipient} failed for ever: {}", cause.reply));
        }
    }

    fn must_be_taken(&mut self, now: Time, relay: RelayId, delivery: DeliveryId) {
        let Some(promise) = self.promises.get(&(relay, delivery.message)) else { return };
        let place = usize::try_from(delivery.recipient).unwrap_or(usize::MAX);
        let Some(recipient) = promise.recipients.get(place) else { return };
        let key = (promise.token.clone(), recipient.clone());
        // The relay that holds it has taken it itself; another one must have, too.
        let is_elsewhere = self.delivered.contains_key(&key)
            || self.promises.iter().any(|((by, _), other)| {
                *by != relay && other.token == key.0 && other.recipients.contains(&key.1)
            });
        if !is_elsewhere {
            self.wrong(now, format!("{} counts as delivered to {} and is not", key.0, key.1));
        }
    }

    fn finish(&mut self, relay: RelayId, delivery: DeliveryId) {
        if let Some(promise) = self.promises.get_mut(&(relay, delivery.message)) {
            promise.finished.insert(delivery.recipient);
        }
    }

    fn retired(&mut self, now: Time, relay: RelayId, id: QueueId) {
        let Some(promise) = self.promises.get_mut(&(relay, id)) else { return };
        promise.retired = true;
        if promise.finished.len() < promise.recipients.len() {
            let token = promise.token.clone();
            self.wrong(now, format!("{token} was retired while it lived"));
        }
    }

    /// A report is in the group of what it is about, and there is none that nobody asked for.
    fn reported(
        &mut self,
        now: Time,
        relay: RelayId,
        (delivery, action): (DeliveryId, Action),
        reports: &[String],
    ) {
        let Some(promise) = self.promises.get_mut(&(relay, delivery.message)) else { return };
        if promise.is_report && action == Action::Failed {
            self.marks.insert(Mark::ReportUndeliverable);
        }
        let place = usize::try_from(delivery.recipient).unwrap_or(usize::MAX);
        let recipient = promise.recipients.get(place).cloned().unwrap_or_default();
        let bare = recipient.trim_matches(['<', '>']).to_owned();
        let (token, is_report) = (promise.token.clone(), promise.is_report);
        let is_asked = action.is_asked(promise.notify.get(place).copied().flatten());
        let is_again = action == Action::Delayed && !promise.delayed.insert(delivery.recipient);
        let is_wanted = is_asked && self.is_report_wanted(&token);
        let word = action.word();
        let is_there = reports.iter().any(|text| {
            let of = format!("Final-Recipient: rfc822; {bare}\r\nAction: {word}\r\n");
            text.contains(&of) && !is_report
        });
        match action {
            Action::Delayed => drop(self.marks.insert(Mark::DelayReport)),
            Action::Taken { .. } if is_there => drop(self.marks.insert(Mark::SuccessReport)),
            Action::Failed | Action::Taken { .. } => {}
        }
        if is_again || is_wanted != is_there {
            let what = format!("report {is_there}, again {is_again}");
            self.wrong(now, format!("{token} is {word} for {bare}: {what}"));
        }
    }

    /// Reports go to whoever has a reverse-path; names say so: see [`Self::expect_report`].
    fn is_report_wanted(&self, token: &str) -> bool {
        self.written.contains_key(&format!("{token} wants reports"))
    }

    /// A submitter wants to hear of these recipients what their NOTIFY says.
    pub(crate) fn ask(&mut self, token: &str, recipients: &[Recipient]) {
        for recipient in recipients {
            let key = (token.to_owned(), recipient.path.to_string());
            self.asked.insert(key, recipient.notify);
        }
    }

    /// Failures of this mail are to be reported.
    pub(crate) fn expect_report(&mut self, token: &str) {
        self.written.insert(format!("{token} wants reports"), Vec::new());
    }

    /// A host took a mail for a recipient.
    pub(crate) fn delivered(&mut self, now: Time, recipient: &str, content: &[u8]) {
        let Some(token) = mails::token(content) else {
            return self.wrong(now, format!("{recipient} got mail without a name"));
        };
        let Some(written) = self.written.get(&token) else {
            return self.wrong(now, format!("{recipient} got {token}, which nobody wrote"));
        };
        if !is_untouched(written, content) {
            self.wrong(now, format!("{token} was changed on its way to {recipient}"));
        }
        let key = (token.clone(), recipient.to_owned());
        if !self.taken.contains(&key) {
            self.wrong(now, format!("{recipient} got {token}, which nobody accepted for it"));
        }
        if token.starts_with('<') {
            self.marks.insert(Mark::Report);
        }
        let count = self.delivered.entry(key).or_default();
        *count += 1;
        if *count > 1 {
            self.marks.insert(Mark::Duplicate);
            if !self.excused.contains(&token) {
                self.wrong(now, format!("{recipient} got {token} twice without an excuse"));
            }
        }
    }

    /// A reply to the end of data was lost: the mail may come twice.
    pub(crate) fn ambiguous(&mut self, token: &str) {
        self.marks.insert(Mark::CutAfterEndOfData);
        self.excused.insert(token.to_owned());
    }

    /// A host of several with equal preference was tried first.
    pub(crate) fn chosen(&mut self, host: &str) {
        *self.choices.entry(host.to_owned()).or_default() += 1;
    }

    /// A relay ends without warning; `core` is what it believed.
    ///
    /// What was on its way into the journal about `unsettled` messages may or may not be there.
    pub(crate) fn crashed(
        &mut self,
        now: Time,
        relay: RelayId,
        core: Option<&Core>,
        unsettled: &BTreeSet<QueueId>,
    ) {
        // Who died before he had read his spool has changed nothing of what waits in it.
        if core.is_some() {
            self.before.retain(|(by, _), _| *by != relay);
        }
        let is_sure = |view: &View| !view.is_taken && !unsettled.contains(&view.delivery.message);
        for view in core.into_iter().flat_map(Core::views).filter(is_sure) {
            self.before.insert((relay, view.delivery), (view.next, view.attempts));
        }
        let unsure = |promise: &&Promise| {
            let recent = self.recent.get(&promise.token);
            // What was on its way may have arrived; what came of it within the bound of lazy
            // events may be forgotten.
            promise.finished.len() < promise.recipients.len()
                || recent.is_some_and(|&at| now.since(at) < LAZY_MAX)
        };
        let mine = self.promises.iter().filter(|((by, _), _)| *by == relay).map(|(_, p)| p);
        let excused: Vec<String> = mine.filter(unsure).map(|p| p.token.clone()).collect();
        self.excused.extend(excused);
    }

    /// A relay found an event that was in the journal; perhaps nobody had been told of it.
    pub(crate) fn replayed(&mut self, relay: RelayId, event: &Event) {
        match event {
            Event::Attempted(attempted) => {
                for (recipient, outcome) in &attempted.outcomes {
                    if !matches!(outcome, Outcome::Deferred { .. }) {
                        let message = attempted.message;
                        self.finish(relay, DeliveryId { message, recipient: *recipient });
                    }
                }
            }
            Event::Cancelled(delivery) | Event::Expired { delivery, .. } => {
                self.finish(relay, *delivery);
            }
            Event::Retired(id) => {
                if let Some(promise) = self.promises.get_mut(&(relay, *id)) {
                    promise.retired = true;
                }
            }
            Event::Accepted(_)
            | Event::Captured(_)
            | Event::Carried(_)
            | Event::ConfigChanged { .. }
            | Event::Delayed { .. }
            | Event::Held { .. }
            | Event::Released { .. }
            | Event::Rerouted { .. } => {}
        }
    }

    /// A relay found a message that it had written before a crash and told nobody about.
    pub(crate) fn adopted(
        &mut self,
        now: Time,
        relay: RelayId,
        accepted: &Accepted,
        content: Vec<u8>,
    ) {
        if !self.promises.contains_key(&(relay, accepted.id)) {
            // Whoever handed it over heard no 250, and may come again.
            self.excused.extend(mails::token(&content));
            let body = Body::Bytes(vec![content.into()]);
            self.accepted(now, relay, (accepted, &body), &mut Vec::new());
        }
    }

    /// A relay runs again; `core` is what it found.
    pub(crate) fn recovered(&mut self, now: Time, relay: RelayId, core: &Core) {
        for view in core.views() {
            let before = self.before.get(&(relay, view.delivery)).copied();
            // What was due is tried when it can be; what waits has its time in the journal.
            let is_moved = |(next, n): (Option<Time>, u32)| {
                n == view.attempts && next > Some(now) && next != view.next
            };
            if before.is_some_and(is_moved) {
                self.wrong(now, format!("{} is due at another time than before", view.delivery));
            }
            if let Some(promise) = self.promises.get_mut(&(relay, view.delivery.message))
                && promise.finished.remove(&view.delivery.recipient)
            {
                promise.retired = false;
                self.marks.insert(Mark::LazyLost);
            }
        }
        self.check(now, relay, core, None);
    }

    /// What must hold for a relay that runs; `messages` is how many its spool keeps.
    pub(crate) fn check(
        &mut self,
        now: Time,
        relay: RelayId,
        core: &Core,
        messages: Option<usize>,
    ) {
        let mut wrongs = Vec::new();
        let mine =
            self.promises.iter().filter(|((by, _), promise)| *by == relay && !promise.retired);
        for ((_, id), promise) in mine {
            for (recipient, address) in (0u32..).zip(&promise.recipients) {
                let delivery = DeliveryId { message: *id, recipient };
                if !promise.finished.contains(&recipient) && !core.queue().contains(delivery) {
                    wrongs.push(format!("{} for {address} is lost", promise.token));
                }
            }
        }
        for view in core.views() {
            let is_explained = view.next.is_some() || view.hold.is_some();
            if !is_explained || view.advice_id().is_empty() {
                wrongs.push(format!("{} waits for no reason", view.delivery));
            }
            match view.hold.as_ref().map(|hold| (hold.limit.as_str(), hold.until)) {
                Some(("connections-per-next-hop", _)) => {
                    self.marks.insert(Mark::LaneParked);
                }
                Some(("back-off", Some(until))) if until < now => {
                    wrongs.push(format!("{} rests for ever", view.delivery));
                }
                Some(("back-off", _)) => {
                    self.marks.insert(Mark::BackedOff);
                }
                Some(_) | None => {}
            }
        }
        if let Some(id) = core.queue().messages().find(|&id| core.queue().is_last(id, &[])) {
            wrongs.push(format!("{id} lives without a delivery"));
        }
        let queued = core.queue().messages().count();
        if messages.is_some_and(|kept| kept != queued) {
            wrongs.push(format!("the spool keeps {messages:?} messages, the queue {queued}"));
        }
        for wrong in wrongs {
            self.wrong(now, wrong);
        }
    }

    /// What must hold at the end, when every fault has stopped and nothing is left to do.
    pub(crate) fn close(&mut self, now: Time) {
        let open: Vec<String> = self
            .promises
            .values()
            .filter(|p| p.finished.len() < p.recipients.len() || !p.retired)
            .map(|p| format!("{} is still open at the end", p.token))
            .collect();
        for wrong in open {
            self.wrong(now, wrong);
        }
        let total: u32 = self.choices.values().sum();
        if total >= CHOICES_MIN && self.choices.len() < 2 {
            self.wrong(now, format!("the same host was first {total} times of {total}"));
        }
    }
}

impl Action {
    /// The action of its report.
    const fn word(self) -> &'static str {
        match self {
            Self::Delayed => "delayed",
            Self::Failed => "failed",
            Self::Taken { .. } => "relayed",
        }
    }

    /// Whether who asked for this wants to hear of it, and from us (RFC 3461 §4.1, §5.2).
    const fn is_asked(self, notify: Option<Notify>) -> bool {
        let (delay, failure, success) = match notify {
            None => (true, true, false),
            Some(Notify::Never) => (false, false, false),
            Some(Notify::On { delay, failure, success }) => (delay, failure, success),
        };
        match self {
            Self::Delayed => delay,
            Self::Failed => failure,
            Self::Taken { has_dsn } => success && !has_dsn,
        }
    }
}

/// Whether `content` is `written` with nothing but Received fields on top.
fn is_untouched(written: &[u8], content: &[u8]) -> bool {
    let Some(trace) = content.strip_suffix(written) else { return false };
    let fields: Vec<_> = merpati_mail::header::fields(trace).collect();
    let length: usize = fields.iter().map(|field| field.range.len()).sum();
    length == trace.len() && fields.iter().all(|field| field.is("Received"))
}

/// Wrongs that are kept of one run.
const WRONGS_MAX: usize = 20;
/// How long an outcome may be forgotten in a crash: the bound of lazy events, and the sync.
const LAZY_MAX: Duration = Duration::from_secs(2);
/// First choices from which on they must differ; they are the same by chance once in 8 million.
const CHOICES_MIN: u32 = 24;
