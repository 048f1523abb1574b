//! `merpati queue`: what waits and why, and the verbs of the operator.
//!
//! Invariant: a verb never concerns the whole queue by a forgotten argument, and what cannot be
//! taken back asks before it concerns more than one message.

mod shape;

use std::{io, process::ExitCode};

use clap::{
    Subcommand,
    builder::{NonEmptyStringValueParser, PossibleValuesParser},
};
use merpati_console::queue::Grouping;
use merpati_mail::QueueId;
use serde_json::Value;

use super::{
    Failure, Format, FormatArguments, ListFormat, ListFormatArguments,
    client::{Client, encoded},
    output::{Output, harmless_line, plain},
};

#[derive(Debug, Subcommand)]
pub(super) enum QueueCommand {
    /// Give deliveries up; nobody is told, no DSN is sent.
    Cancel {
        #[command(flatten)]
        which: Which,
        /// Do not ask, though it concerns more than one message.
        #[arg(long)]
        yes: bool,
    },
    /// Say how many deliveries wait, and of how many messages.
    Count {
        /// Which, as for `ls`; without any, all.
        #[arg(value_name = "SELECTION", long_help = SELECTION)]
        selection: Vec<String>,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Let deliveries wait until they are released.
    Hold {
        #[command(flatten)]
        which: Which,
        /// Why, for those who look at the queue later.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        why: String,
    },
    /// List deliveries that wait, the oldest message first, each with its reason and next time.
    Ls {
        /// Which: all of these terms must hold; quote what the shell would read, as in 'age>1h'.
        #[arg(value_name = "SELECTION", long_help = SELECTION)]
        selection: Vec<String>,
        /// How many at most.
        #[arg(short = 'n', long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        format: ListFormatArguments,
    },
    /// Let held deliveries go, at once.
    Release {
        #[command(flatten)]
        which: Which,
    },
    /// Lead deliveries by another route from now on, and try them at once; held ones stay held.
    Reroute {
        #[command(flatten)]
        which: Which,
        /// The name of the route, whatever its conditions are.
        #[arg(
            long,
            value_name = "ROUTE",
            required_unless_present = "by_rules",
            value_parser = NonEmptyStringValueParser::new()
        )]
        to: Option<String>,
        /// By the first route whose conditions they meet, as all others.
        #[arg(long, conflicts_with = "to")]
        by_rules: bool,
    },
    /// Try waiting deliveries at once; held ones stay held.
    Retry {
        #[command(flatten)]
        which: Which,
    },
    /// Show how old what waits is, by where it goes or by something else.
    Shape {
        /// Which, as for `ls`; without any, all.
        #[arg(value_name = "SELECTION", long_help = SELECTION)]
        selection: Vec<String>,
        /// By what; those about the envelope read each message from the disk.
        #[arg(
            long,
            value_name = "WHAT",
            default_value = "next-hop",
            value_parser = PossibleValuesParser::new(Grouping::ALL.map(Grouping::word))
        )]
        by: String,
        #[command(flatten)]
        format: ListFormatArguments,
    },
    /// Show a message and each of its deliveries: reason, what to do, next time, route.
    Show {
        /// Its id, or the beginning of it.
        id: String,
        #[command(flatten)]
        format: FormatArguments,
    },
}

/// Which deliveries a verb concerns.
#[derive(clap::Args, Debug)]
pub(super) struct Which {
    /// Ids, or terms that must all hold; quote what the shell would read, as in 'age>1h'.
    #[arg(
        value_name = "ID|SELECTION",
        required_unless_present = "all",
        conflicts_with = "all",
        long_help = SELECTION
    )]
    selection: Vec<String>,
    /// The whole queue.
    #[arg(long)]
    all: bool,
    /// Only say how many it would concern.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(
    command: &QueueCommand,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match command {
        QueueCommand::Cancel { which, yes } => {
            let verb = Verb::of("cancel");
            if !yes && !which.dry_run && !confirm(&verb, which, client, output)? {
                output.line("nothing is cancelled")?;
                return Ok(ExitCode::FAILURE);
            }
            verb.run(which, client, output)
        }
        QueueCommand::Count { selection, format } => {
            shape::count(&query(selection), format.format, client, output)
        }
        QueueCommand::Hold { which, why } => {
            Verb { name: "hold", parameter: ("why", why) }.run(which, client, output)
        }
        QueueCommand::Ls { selection, limit, format } => {
            list(&query(selection), *limit, format.format, client, output)
        }
        QueueCommand::Release { which } => Verb::of("release").run(which, client, output),
        QueueCommand::Reroute { which, to, by_rules: _ } => {
            let route = to.as_deref().unwrap_or_default();
            Verb { name: "reroute", parameter: ("route", route) }.run(which, client, output)
        }
        QueueCommand::Retry { which } => Verb::of("retry").run(which, client, output),
        QueueCommand::Shape { selection, by, format } => {
            shape::run(&query(selection), by, format.format, client, output)
        }
        QueueCommand::Show { id, format } => {
            let message = message(id, client)?;
            match format.format {
                Format::Jsonl => output.line(&message.to_string())?,
                Format::Table => show(&message, output)?,
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Shows a message as `show` does.
pub(super) fn show_one(
    id: &str,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    show(&message(id, client)?, output)?;
    Ok(ExitCode::SUCCESS)
}

fn message(id: &str, client: &Client) -> Result<Value, Failure> {
    let id = whole_id(id, client)?;
    client.json(&format!("{QUEUE}/{}", encoded(&id)))
}

/// The message of a name that may be that of a delivery.
pub(super) fn message_id(name: &str) -> &str {
    name.split_once('.').map_or(name, |(message, _)| message)
}

/// The whole queue, as `mailq` shows it.
pub(super) fn list_all(client: &Client, output: &mut Output) -> Result<ExitCode, Failure> {
    list("", usize::MAX, ListFormat::Table, client, output)
}

/// The words of the command line as one query: ids are meant one or the other, terms together.
fn query(words: &[String]) -> String {
    let (ids, terms): (Vec<&String>, Vec<&String>) = words.iter().partition(|word| is_id(word));
    let mut parts: Vec<String> = terms.into_iter().cloned().collect();
    if !ids.is_empty() {
        let ids: Vec<&str> = ids.into_iter().map(String::as_str).collect();
        parts.insert(0, format!("id:{}", ids.join(",")));
    }
    parts.join(" ")
}

/// Whether a word is the id of a message or of a delivery. Words of thirteen letters could be one
/// too; but none was ever given that has no digit.
fn is_id(word: &str) -> bool {
    let (id, recipient) = word.split_once('.').unwrap_or((word, "0"));
    id.bytes().any(|octet| octet.is_ascii_digit())
        && id.parse::<QueueId>().is_ok()
        && recipient.parse::<u32>().is_ok()
}

/// A verb of the API, as it is told.
struct Verb<'a> {
    name: &'static str,
    /// What it takes besides a selection; no name where that is nothing.
    parameter: (&'static str, &'a str),
}

/// How many a verb concerned.
#[derive(Default)]
struct Tally {
    messages: u64,
    deliveries: u64,
    passed_over: u64,
    missing: Vec<String>,
}

impl Verb<'_> {
    const fn of(name: &'static str) -> Self {
        Self { name, parameter: ("", "") }
    }

    fn run(
        &self,
        which: &Which,
        client: &Client,
        output: &mut Output,
    ) -> Result<ExitCode, Failure> {
        let tally = self.carry_out(which, which.dry_run, client)?;
        output.line(&self.sentence(&tally, which.dry_run))?;
        if tally.missing.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        for id in &tally.missing {
            output.complain(&format!("no message in the queue is called `{id}`"));
        }
        Ok(ExitCode::FAILURE)
    }

    /// Asks for one part of the queue after the other.
    fn carry_out(
        &self,
        which: &Which,
        is_dry_run: bool,
        client: &Client,
    ) -> Result<Tally, Failure> {
        let query = encoded(&query(&which.selection));
        let more = match self.parameter {
            ("", _) => String::new(),
            (name, value) => format!("&{name}={}", encoded(value)),
        };
        let target = format!("{QUEUE}/{}?query={query}&dry_run={is_dry_run}{more}", self.name);
        let mut tally = Tally::default();
        let mut after = String::new();
        loop {
            let answer = client.post(&format!("{target}&after={after}"))?;
            let number = |key| answer.get(key).and_then(Value::as_u64).unwrap_or(0);
            tally.messages += number("messages");
            tally.deliveries += number("deliveries");
            tally.passed_over += number("passed_over");
            let missing = answer.get("missing").and_then(Value::as_array);
            tally.missing.extend(missing.into_iter().flatten().map(|id| plain(Some(id))));
            match answer.pointer("/page/next").and_then(Value::as_str) {
                Some(next) => after = encoded(next),
                None => return Ok(tally),
            }
        }
    }

    fn sentence(&self, tally: &Tally, is_dry_run: bool) -> String {
        let Tally { messages, deliveries, passed_over, .. } = tally;
        let many = |number: &u64, one: &str, more: &str| {
            format!("{number} {}", if *number == 1 { one } else { more })
        };
        let what = format!(
            "{} of {}",
            many(deliveries, "delivery", "deliveries"),
            many(messages, "message", "messages")
        );
        let text = match (self.name, is_dry_run) {
            (name, true) => format!("would {name} {what}"),
            ("cancel", false) => format!("cancelled {what}; no DSN is sent"),
            ("hold", false) => format!("held {what}"),
            ("release", false) => format!("released {what}"),
            ("reroute", false) => match self.parameter.1 {
                "" => format!("{what} led by the rules"),
                route => format!("{what} led by the route {}", harmless_line(route)),
            },
            (_, false) => format!("{what} tried now"),
        };
        let why = match self.name {
            "hold" => "held already",
            "release" => "not held",
            "reroute" => "being tried, or at their end",
            _ => "held, or being tried",
        };
        match passed_over {
            0 => text,
            _ => format!("{text}; {passed_over} passed over: {why}"),
        }
    }
}

/// Whether an operator wants to cancel what is selected; more than one message needs a word.
fn confirm(
    verb: &Verb<'_>,
    which: &Which,
    client: &Client,
    output: &mut Output,
) -> Result<bool, Failure> {
    let tally = verb.carry_out(which, true, client)?;
    if tally.messages <= 1 {
        return Ok(true);
    }
    let what = verb.sentence(&tally, true);
    if !output.has_person() {
        return Err(Failure::Usage(format!("{what}\nhelp: say --yes to do it")));
    }
    output.prompt(&format!("{what}, and no DSN is sent. Do it? [y/N] "))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Reads pages until there are `limit` deliveries or no more.
fn list(
    query: &str,
    limit: usize,
    format: ListFormat,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let (deliveries, has_more) = pages(query, limit, client)?;
    match format {
        ListFormat::Csv => {
            let rows: Vec<Vec<String>> = deliveries.iter().map(csv_row).collect();
            output.csv(&CSV_KEYS.map(|key| key.0), &rows)?;
        }
        ListFormat::Jsonl => {
            deliveries.iter().try_for_each(|delivery| output.line(&delivery.to_string()))?;
        }
        ListFormat::Table if deliveries.is_empty() => {
            output.line(if query.is_empty() { "nothing waits" } else { "nothing is selected" })?;
        }
        ListFormat::Table => {
            let rows: Vec<Vec<String>> = deliveries.iter().map(row).collect();
            output.table(&HEADINGS, &rows)?;
        }
    }
    if has_more {
        output.complain(&format!("{} shown, more follow; see --limit", deliveries.len()));
    }
    Ok(ExitCode::SUCCESS)
}

fn pages(query: &str, limit: usize, client: &Client) -> Result<(Vec<Value>, bool), Failure> {
    let query = encoded(query);
    let mut deliveries = Vec::new();
    let mut after = String::new();
    while deliveries.len() < limit {
        let page = (limit - deliveries.len()).min(1_000);
        let mut answer =
            client.json(&format!("{QUEUE}?query={query}&limit={page}&after={after}"))?;
        let next = answer.pointer("/page/next").and_then(Value::as_str).map(encoded);
        if let Some(Value::Array(data)) = answer.get_mut("data").map(Value::take) {
            deliveries.extend(data);
        }
        match next {
            Some(next) => after = next,
            None => return Ok((deliveries, false)),
        }
    }
    Ok((deliveries, true))
}

fn row(delivery: &Value) -> Vec<String> {
    let text = |key: &str| plain(delivery.get(key));
    vec![
        text("id"),
        coarse(delivery.get("age_seconds")),
        text("size_bytes"),
        from(delivery),
        text("envelope_to"),
        text("status"),
        reason(delivery),
        next(delivery),
        text("attempts"),
    ]
}

fn csv_row(delivery: &Value) -> Vec<String> {
    let cell = |pointer: &str| match delivery.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        some => plain(some),
    };
    CSV_KEYS.map(|(_, pointer)| cell(pointer)).to_vec()
}

fn from(delivery: &Value) -> String {
    match delivery.get("envelope_from").and_then(Value::as_str) {
        Some("") => "<>".to_owned(),
        _ => plain(delivery.get("envelope_from")),
    }
}

/// The id of the reason, and the code of the reply behind it.
fn reason(delivery: &Value) -> String {
    let id = plain(delivery.pointer("/reason/id"));
    match delivery.pointer("/reason/code").and_then(Value::as_u64) {
        Some(code) => format!("{id} ({code})"),
        None => id,
    }
}

/// The next time, absolute and from now.
fn next(delivery: &Value) -> String {
    let Some(at) = delivery.get("next_at").and_then(Value::as_str) else {
        return "when somebody acts".to_owned();
    };
    match delivery.get("next_in_seconds").and_then(Value::as_u64) {
        None | Some(0) => "now".to_owned(),
        Some(_) => {
            // Milliseconds tell nobody anything here.
            let at = at.split_once('.').map_or_else(|| at.to_owned(), |(at, _)| format!("{at}Z"));
            format!("{at} (in {})", coarse(delivery.get("next_in_seconds")))
        }
    }
}

/// A number of seconds in the unit in which a person counts.
pub(super) fn coarse(seconds: Option<&Value>) -> String {
    let Some(seconds) = seconds.and_then(Value::as_u64) else { return "-".to_owned() };
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn show(message: &Value, output: &mut Output) -> Result<(), Failure> {
    let text = |pointer: &str| plain(message.pointer(pointer));
    let sender = match text("/envelope/from") {
        empty if empty.is_empty() => "<>".to_owned(),
        sender => sender,
    };
    output.facts(&[
        ("id", text("/id")),
        ("accepted", text("/received_at")),
        ("listener", format!("{} ({})", text("/received/listener"), text("/received/protocol"))),
        (
            "client",
            format!("{} ({})", text("/received/peer/address"), text("/received/peer/hello")),
        ),
        ("credential", text("/received/credential")),
        ("octets", text("/size_bytes")),
        ("envelope from", sender),
        ("From", text("/from")),
        ("To", text("/to")),
        ("Subject", text("/subject")),
        ("Date", text("/date")),
        ("Message-ID", text("/message_id")),
    ])?;
    if message.get("content_error").is_some() {
        let why = harmless_line(&text("/content_error"));
        output.line(&format!("the content cannot be read: {why}"))?;
    }
    for delivery in message.get("deliveries").and_then(Value::as_array).into_iter().flatten() {
        output.line("")?;
        let text = |pointer: &str| plain(delivery.pointer(pointer));
        let via = delivery.get("envelope_via").and_then(Value::as_str);
        let via = via.map_or_else(String::new, |via| format!(" via {via}"));
        let to = format!("{}  to {}{via}", text("/id"), text("/envelope_to"));
        output.line(&harmless_line(&to))?;
        let route = match delivery.get("route") {
            None | Some(Value::Null) => "no rule covers it".to_owned(),
            Some(_) => {
                let is_chosen = delivery.get("is_rerouted").and_then(Value::as_bool);
                let by = if is_chosen == Some(true) { ", chosen by an operator" } else { "" };
                format!("{} (rule {}{by})", text("/route/next_hop"), text("/route/rule"))
            }
        };
        output.facts(&[
            ("  status", text("/status")),
            ("  reason", format!("{}: {}", reason(delivery), text("/reason/sentence"))),
            ("  to do", text("/reason/advice")),
            ("  next", next(delivery)),
            ("  attempts", text("/attempts")),
            ("  route", route),
        ])?;
    }
    let finished = message.get("finished").and_then(Value::as_array);
    if let Some(finished) = finished.filter(|finished| !finished.is_empty()) {
        output.line("")?;
        let names = plain(Some(&Value::Array(finished.clone())));
        output.line(&harmless_line(&format!("finished: {names}")))?;
    }
    Ok(())
}

/// The id of the one message that begins so.
pub(super) fn whole_id(id: &str, client: &Client) -> Result<String, Failure> {
    let id = message_id(id);
    if id.parse::<QueueId>().is_ok() {
        return Ok(id.to_owned());
    }
    let (found, has_more) = pages(&format!("id:{id}"), 100, client)?;
    let mut ids: Vec<String> = found.iter().map(|one| plain(one.get("message"))).collect();
    ids.dedup();
    match ids.as_slice() {
        [one] if !has_more => Ok(one.clone()),
        [] => Err(Failure::Other(format!("no message in the queue is called `{id}`"))),
        [first, ..] => Err(Failure::Usage(format!(
            "more than one message begins with `{id}`\nhelp: write the whole id, such as {first}"
        ))),
    }
}

const QUEUE: &str = "/v1/queue";

const HEADINGS: [&str; 9] =
    ["ID", "AGE", "OCTETS", "FROM", "TO", "STATUS", "REASON", "NEXT", "ATTEMPTS"];

/// The columns for programs: their names, and where each stands in the answer.
const CSV_KEYS: [(&str, &str); 13] = [
    ("id", "/id"),
    ("accepted_at", "/accepted_at"),
    ("size_bytes", "/size_bytes"),
    ("envelope_from", "/envelope_from"),
    ("envelope_to", "/envelope_to"),
    ("status", "/status"),
    ("reason", "/reason/id"),
    ("code", "/reason/code"),
    ("sentence", "/reason/sentence"),
    ("advice", "/reason/advice"),
    ("next_at", "/next_at"),
    ("attempts", "/attempts"),
    ("next_hop", "/route/next_hop"),
];

const SELECTION: &str = "\
Ids of messages (028T5CY4TQKFF) or of one delivery (028T5CY4TQKFF.0), and terms that must all hold:

  from: to: domain: credential: listener:   text of the envelope; domain: also means those below it
  status:waiting|attempting|held            how it stands
  reason:connection                         the id of its reason
  age> age< attempts> attempts<             such as 'age>1h'
  size> size< before: after:                such as 'size>1MiB', before:2026-11-23
  word \"a phrase\"                           in the sender or the recipient

`!` before a term turns it round. Quote what the shell would read itself.";

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
