//! What became of mail: reads the history, and asks the queue about what of it still waits.
//!
//! Invariant: a line that cannot be read is passed over; what lives in the queue is told from
//! there, whatever the history says. Not pure: reads files.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use merpati_console::{
    AdminError,
    queue::Delivery,
    trace::{Attempt, Happened, RefusedMail, Step, Story, Taken, TraceQuery, Traced, Trouble},
};
use merpati_flow::alias::Aliases;
use merpati_mail::{Class, Mailbox, QueueId, Time, TlsDemand, TlsPolicy, TlsSource};
use serde::Deserialize;
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::Control;
use crate::sinks::history::each_line;

impl Control {
    /// What became of the mail that `query` means.
    pub(super) async fn look_back(
        &self,
        query: &TraceQuery,
        limit: usize,
    ) -> Result<Traced, AdminError> {
        self.sinks.flush();
        let (directory, query, now) = (self.history.clone(), query.clone(), self.clock.now());
        let named = query.named();
        let aliases = self.setup.get().aliases.clone();
        let read = move || {
            let Some(directory) = directory.as_deref() else { return Ok(Traced::default()) };
            look(directory, &query, limit, (now, aliases.as_deref()))
        };
        let read = spawn_blocking(read).await;
        let failed = |why: String| AdminError::Storage(format!("reading the history: {why}"));
        let read = read.map_err(|why| failed(why.to_string()))?;
        let mut traced = read.map_err(|why| failed(why.to_string()))?;
        if let Some(id) = named.filter(|id| traced.stories.iter().all(|story| story.id != *id)) {
            traced.stories.push(Story { id, taken: None, steps: Vec::new(), living: Vec::new() });
        }
        for story in &mut traced.stories {
            story.living = self.living(story.id).await?;
        }
        traced.stories.retain(|story| {
            story.taken.is_some() || !story.steps.is_empty() || !story.living.is_empty()
        });
        Ok(traced)
    }

    async fn living(&self, id: QueueId) -> Result<Vec<Delivery>, AdminError> {
        Ok(self.queue_message(id).await?.map(|message| message.deliveries).unwrap_or_default())
    }
}

/// Looks through the history twice: for the messages that are meant, and for what became of them.
fn look(
    directory: &Path,
    query: &TraceQuery,
    limit: usize,
    (now, aliases): (Time, Option<&Aliases>),
) -> io::Result<Traced> {
    let mut meant: VecDeque<QueueId> = query.named().into_iter().collect();
    let mut refused: VecDeque<RefusedMail> = VecDeque::new();
    let (mut has_more, mut since) = (false, None);
    each_line(directory, |line| {
        let event = event_of(line);
        if since.is_none() {
            since = Line::read(line).map(|line| line.at());
        }
        if event == b"SessionEnded" {
            let Some(line) = Line::read(line) else { return };
            for mail in line.refused_mail() {
                if query.means_refused(&mail, now) {
                    has_more |= push(&mut refused, mail, limit);
                }
            }
        } else if is_taking(event) && query.named().is_none() {
            let Some((id, taken)) = Line::read(line).and_then(|line| line.taken(aliases)) else {
                return;
            };
            if query.means(id, &taken, now) {
                has_more |= push(&mut meant, id, limit);
            }
        }
    })?;
    let mut stories: BTreeMap<QueueId, Draft> =
        meant.iter().map(|id| (*id, Draft::default())).collect();
    each_line(directory, |line| {
        let Some(id) = id_of(line) else { return };
        let Some(story) = stories.get_mut(&id) else { return };
        if let Some(line) = Line::read(line) {
            story.add(&line, aliases);
        }
    })?;
    let tell = |id: QueueId, draft: Draft| {
        let Draft { taken, steps, .. } = draft;
        Story { id, taken, steps, living: Vec::new() }
    };
    // The names of messages grow; so the newest is the last.
    let stories = stories.into_iter().rev().map(|(id, draft)| tell(id, draft)).collect();
    Ok(Traced { stories, refused: refused.into_iter().rev().collect(), has_more, since })
}

/// Adds the newest, and lets the oldest go where there are too many: true then.
fn push<T>(all: &mut VecDeque<T>, one: T, limit: usize) -> bool {
    all.push_back(one);
    let is_full = all.len() > limit;
    if is_full {
        all.pop_front();
    }
    is_full
}

/// A story in the making.
#[derive(Default)]
struct Draft {
    taken: Option<Taken>,
    steps: Vec<Step>,
    /// What was said in the attempt whose end is told next.
    transcript: Vec<String>,
}

impl Draft {
    fn add(&mut self, line: &Line<'_>, aliases: Option<&Aliases>) {
        match &*line.event {
            "Accepted" | "Captured" => self.taken = line.taken(aliases).map(|(_, taken)| taken),
            "Transcript" => self.transcript.clone_from(&line.transcript),
            "Attempted" => {
                let transcript = std::mem::take(&mut self.transcript);
                self.steps.extend(line.outcomes(&transcript));
            }
            _ => self.steps.extend(line.step()),
        }
    }
}

/// A line of the history; what it does not have is empty.
#[derive(Deserialize)]
#[serde(default)]
struct Line<'a> {
    time: Cow<'a, str>,
    event: Cow<'a, str>,
    id: Cow<'a, str>,
    recipient: Option<u32>,
    /// How many there are, or which.
    recipients: Value,
    listener: String,
    peer: Option<SocketAddr>,
    hello: Option<String>,
    protocol: String,
    tls: Option<String>,
    tls_demand: Option<String>,
    tls_source: Option<String>,
    credential: Option<String>,
    from: String,
    to: Vec<String>,
    via: Vec<String>,
    message_id: Option<String>,
    size: u64,
    host: Option<String>,
    address: Option<String>,
    ms: u64,
    outcomes: Vec<Outcome>,
    class: String,
    reply: String,
    limit: String,
    value: String,
    until: Option<String>,
    rule: Option<String>,
    refused: Vec<Refused>,
    transcript: Vec<String>,
}

impl Default for Line<'_> {
    fn default() -> Self {
        Self {
            time: Cow::Borrowed(""),
            event: Cow::Borrowed(""),
            id: Cow::Borrowed(""),
            recipient: None,
            recipients: Value::Null,
            listener: String::new(),
            peer: None,
            hello: None,
            protocol: String::new(),
            tls: None,
            tls_demand: None,
            tls_source: None,
            credential: None,
            from: String::new(),
            to: Vec::new(),
            via: Vec::new(),
            message_id: None,
            size: 0,
            host: None,
            address: None,
            ms: 0,
            outcomes: Vec::new(),
            class: String::new(),
            reply: String::new(),
            limit: String::new(),
            value: String::new(),
            until: None,
            rule: None,
            refused: Vec::new(),
            transcript: Vec::new(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Outcome {
    recipient: u32,
    #[serde(rename = "outcome")]
    word: String,
    class: String,
    reply: String,
    until: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refused {
    from: String,
    to: Option<String>,
    rule: String,
    reply: String,
}

impl<'a> Line<'a> {
    fn read(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    fn at(&self) -> Time {
        time(&self.time)
    }

    fn taken(&self, aliases: Option<&Aliases>) -> Option<(QueueId, Taken)> {
        let id = self.id.parse().ok()?;
        let count = self.recipients.as_u64().and_then(|count| u32::try_from(count).ok());
        let taken = Taken {
            at: self.at(),
            is_captured: self.event == "Captured",
            listener: self.listener.clone(),
            peer: self.peer,
            hello: self.hello.clone().unwrap_or_default(),
            protocol: self.protocol.clone(),
            tls: self.tls.clone(),
            credential: self.credential.clone(),
            reverse_path: self.from.clone(),
            originator: aliases.and_then(|aliases| originator(aliases, &self.from)),
            recipients: self.to.clone(),
            via: self.via.clone(),
            recipients_count: count.unwrap_or_default(),
            message_id: self.message_id.clone(),
            size_bytes: self.size,
        };
        Some((id, taken))
    }

    fn refused_mail(&self) -> impl Iterator<Item = RefusedMail> {
        self.refused.iter().map(|mail| RefusedMail {
            at: self.at(),
            listener: self.listener.clone(),
            peer: self.peer,
            hello: self.hello.clone().unwrap_or_default(),
            reverse_path: mail.from.clone(),
            recipient: mail.to.clone(),
            rule: mail.rule.clone(),
            reply: mail.reply.clone(),
        })
    }

    /// How the connection had to be protected; `None` where it is not told, or in words of a later
    /// program.
    fn policy(&self) -> Option<TlsPolicy> {
        Some(TlsPolicy {
            demand: TlsDemand::from_word(self.tls_demand.as_deref()?)?,
            source: TlsSource::from_word(self.tls_source.as_deref()?)?,
        })
    }

    /// What an attempt came to: one step for all recipients with the same outcome.
    fn outcomes(&self, transcript: &[String]) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for outcome in &self.outcomes {
            let has_failed = outcome.word != "Delivered";
            let attempt = Attempt {
                host: self.host.clone(),
                address: self.address.clone(),
                tls: self.tls.clone(),
                policy: self.policy(),
                took: Duration::from_millis(self.ms),
                transcript: if has_failed { transcript.to_vec() } else { Vec::new() },
            };
            let trouble = || trouble(&outcome.class, &outcome.reply);
            let what = match outcome.word.as_str() {
                "Delivered" => Happened::Delivered { reply: outcome.reply.clone(), attempt },
                "Failed" => Happened::Failed { trouble: trouble(), attempt },
                _ => {
                    let until = outcome.until.as_deref().map(time).unwrap_or_default();
                    Happened::Deferred { trouble: trouble(), until, attempt }
                }
            };
            if let Some(same) = steps.iter_mut().find(|step| step.what == what) {
                same.recipients.push(outcome.recipient);
            } else {
                let recipients = vec![outcome.recipient];
                steps.push(Step { at: self.at(), recipients, what });
            }
        }
        steps
    }

    /// What happened to a delivery without an attempt; `None` where it is nothing for a story.
    fn step(&self) -> Option<Step> {
        let until = || self.until.as_deref().map(time).unwrap_or_default();
        let what = match &*self.event {
            "Cancelled" => Happened::Cancelled,
            "Delayed" => Happened::Delayed,
            "Expired" => Happened::Expired(trouble(&self.class, &self.reply)),
            "Held" => Happened::Held { limit: self.limit.clone(), value: self.value.clone() },
            "Released" => Happened::Released { until: until() },
            "Rerouted" => Happened::Rerouted { rule: self.rule.clone() },
            _ => return None,
        };
        let many = self.recipients.as_array().into_iter().flatten();
        let many = many.filter_map(|number| u32::try_from(number.as_u64()?).ok());
        Some(Step {
            at: self.at(),
            recipients: self.recipient.into_iter().chain(many).collect(),
            what,
        })
    }
}

/// Who sent what left from this address; `None` where that is he himself.
fn originator(aliases: &Aliases, from: &str) -> Option<String> {
    let from = Mailbox::parse(from).ok()?;
    let originator = aliases.originator(&from);
    (originator != from).then(|| originator.to_string())
}

fn trouble(class: &str, reply: &str) -> Trouble {
    let known = Class::ALL.iter().copied().find(|known| known.advice_id() == class);
    // A class of an older or a newer relay.
    let class = known.unwrap_or(Class::UnknownTransient);
    Trouble { class, reply: reply.to_owned() }
}

fn time(text: &str) -> Time {
    Time::parse_rfc3339(text).unwrap_or_default()
}

fn is_taking(event: &[u8]) -> bool {
    matches!(event, b"Accepted" | b"Captured")
}

/// The name of the event of a line, without reading the rest: `{"time":"…","event":"NAME"`.
fn event_of(line: &[u8]) -> &[u8] {
    let after = |line: &'static [u8], from: &[u8]| -> Option<usize> {
        from.windows(line.len()).position(|part| part == line).map(|at| at + line.len())
    };
    let head = line.get(..HEAD_OCTETS).unwrap_or(line);
    let Some(name) = after(b"\"event\":\"", head).and_then(|at| head.get(at..)) else {
        return &[];
    };
    let end = name.iter().position(|octet| *octet == b'"').unwrap_or(0);
    name.get(..end).unwrap_or_default()
}

/// The message that a line is about, without reading the rest: `id` comes before all that a peer
/// could have said.
fn id_of(line: &[u8]) -> Option<QueueId> {
    let head = line.get(..HEAD_OCTETS).unwrap_or(line);
    let at = head.windows(ID_KEY.len()).position(|part| part == ID_KEY)? + ID_KEY.len();
    let end = head.get(at..)?.iter().position(|octet| *octet == b'"')? + at;
    std::str::from_utf8(head.get(at..end)?).ok()?.parse().ok()
}

const ID_KEY: &[u8] = b"\"id\":\"";
/// Time, event, place, node and id fit into so many octets.
const HEAD_OCTETS: usize = 160;

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
