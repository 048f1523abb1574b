//! `merpati trace`: where a message is, how it came there, and what to do about it.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::{
    Failure, ListFormat, ListFormatArguments,
    client::{Client, encoded},
    output::{Output, harmless_line, plain},
    queue::coarse,
};

/// What is looked for, and how it is told.
#[derive(Args, Debug)]
pub(super) struct TraceArguments {
    /// An id, an address, a Message-ID, or terms that must all hold, such as 'to:ani@example.org'.
    #[arg(value_name = "WHAT", required = true, long_help = WHAT)]
    what: Vec<String>,
    /// How many messages at most.
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
    /// Show what was said with hosts where it went wrong.
    #[arg(long)]
    transcript: bool,
    #[command(flatten)]
    format: ListFormatArguments,
}

pub(super) fn run(
    arguments: &TraceArguments,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let TraceArguments { what, limit, transcript, format } = arguments;
    let query = encoded(&what.join(" "));
    let found = client.json(&format!("/v1/trace?query={query}&limit={limit}"))?;
    let messages = list(&found, "data");
    let refused = list(&found, "refused");
    match format.format {
        ListFormat::Csv => {
            let rows: Vec<Vec<String>> =
                messages.iter().flat_map(|message| rows(message)).collect();
            output.csv(&HEADINGS, &rows)?;
        }
        ListFormat::Jsonl => {
            messages.iter().try_for_each(|message| output.line(&message.to_string()))?;
            refused.iter().try_for_each(|mail| output.line(&mail.to_string()))?;
        }
        ListFormat::Table => {
            for message in &messages {
                show(message, *transcript, output)?;
            }
            for mail in &refused {
                show_refused(mail, output)?;
            }
        }
    }
    if messages.is_empty() && refused.is_empty() {
        output.complain(&nothing(&found));
        return Ok(ExitCode::FAILURE);
    }
    if found.pointer("/page/has_more").and_then(Value::as_bool) == Some(true) {
        output.complain("these are the newest, there are more; see --limit");
    }
    Ok(ExitCode::SUCCESS)
}

fn list<'a>(of: &'a Value, key: &str) -> Vec<&'a Value> {
    of.get(key).and_then(Value::as_array).into_iter().flatten().collect()
}

/// Why nothing was found, and what to do.
fn nothing(found: &Value) -> String {
    match found.get("history_since").and_then(Value::as_str) {
        Some(since) => format!(
            "nothing is known of it since {since}: it has not reached this relay, or by another \
             name\nhelp: look for the other address, or for the Message-ID"
        ),
        None => "nothing of it is in the queue, and there is no history\nhelp: history.size_max \
                 is off, or no mail has come yet"
            .to_owned(),
    }
}

fn show(message: &Value, with_transcript: bool, output: &mut Output) -> Result<(), Failure> {
    let text = |pointer: &str| plain(message.pointer(pointer));
    let sender = match text("/envelope_from") {
        empty if empty.is_empty() => "<>".to_owned(),
        sender => sender,
    };
    output.line(&harmless_line(&format!("{}  from {sender}", text("/id"))))?;
    if let Some(id) = message.get("message_id").and_then(Value::as_str) {
        output.line(&harmless_line(&format!("  Message-ID {id}")))?;
    }
    match message.get("sentence").and_then(Value::as_str) {
        Some(sentence) => {
            let line = format!("  {}  {sentence}", seconds(&text("/accepted_at")));
            output.line(&harmless_line(&line))?;
        }
        None => output.line("  It was accepted before the history begins.")?,
    }
    for step in list(message, "steps") {
        let text = |pointer: &str| plain(step.pointer(pointer));
        let whom = text("/recipients");
        let line = format!("  {}  {whom}: {}", seconds(&text("/at")), text("/sentence"));
        output.line(&harmless_line(&line))?;
        if with_transcript {
            for line in list(step, "transcript") {
                output.line(&harmless_line(&format!("      {}", plain(Some(line)))))?;
            }
        }
    }
    for one in list(message, "recipients") {
        let text = |pointer: &str| plain(one.pointer(pointer));
        let to = match text("/recipient") {
            unknown if unknown == "-" => format!("recipient {}", text("/number")),
            known => known,
        };
        output.line(&harmless_line(&format!("  to {to}: {}", text("/state"))))?;
        output.line(&harmless_line(&format!("    {}", text("/sentence"))))?;
        output.line(&harmless_line(&format!("    to do: {}", text("/advice"))))?;
        if let Some(next) = one.get("next_at").and_then(Value::as_str) {
            let wait = coarse(one.get("next_in_seconds"));
            output.line(&format!("    next: {} (in {wait})", seconds(next)))?;
        }
    }
    output.line("")?;
    Ok(())
}

fn show_refused(mail: &Value, output: &mut Output) -> Result<(), Failure> {
    let text = |pointer: &str| plain(mail.pointer(pointer));
    let sender = match text("/envelope_from") {
        empty if empty.is_empty() => "<>".to_owned(),
        sender => sender,
    };
    let to = text("/envelope_to");
    output.line(&harmless_line(&format!("refused  from {sender} to {to}")))?;
    output.line(&harmless_line(&format!("  {}  {}", seconds(&text("/at")), text("/sentence"))))?;
    output.line("")?;
    Ok(())
}

/// A row for each recipient.
fn rows(message: &Value) -> Vec<Vec<String>> {
    let of = |value: &Value, pointer: &str| plain(value.pointer(pointer));
    let row = |one: &Value| {
        vec![
            of(message, "/id"),
            of(message, "/accepted_at"),
            of(message, "/envelope_from"),
            of(one, "/recipient"),
            of(one, "/state"),
            of(one, "/at"),
            of(one, "/sentence"),
            of(one, "/advice"),
            of(one, "/next_at"),
        ]
    };
    list(message, "recipients").into_iter().map(row).collect()
}

/// A time without its milliseconds.
fn seconds(at: &str) -> String {
    at.split_once('.').map_or_else(|| at.to_owned(), |(at, _)| format!("{at}Z"))
}

const HEADINGS: [&str; 9] = [
    "id",
    "accepted_at",
    "envelope_from",
    "recipient",
    "state",
    "at",
    "sentence",
    "advice",
    "next_at",
];

const WHAT: &str = "\
The id of a message (028T5CY4TQKFF), an address or a part of one, a Message-ID, or terms that must
all hold:

  from: to: domain:             text of the envelope; domain: also means those below it
  id: message-id:               the names of the message
  age> age< before: after:      such as 'age<2h', before:2026-11-23

`!` before a term turns it round. Quote what the shell would read itself.";
