//! `merpati sessions` and `merpati tap`: who is connected, and what is said.

use std::{net::IpAddr, process::ExitCode};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{
    Failure, Format, FormatArguments, ListFormat, ListFormatArguments,
    client::{Client, encoded},
    output::{Output, harmless_line, plain},
};

#[derive(Args, Debug)]
pub(super) struct SessionsArguments {
    #[command(flatten)]
    format: ListFormatArguments,
}

/// What is listened to.
#[derive(Args, Debug)]
pub(super) struct TapArguments {
    /// Sessions of clients with us, or ours with hosts.
    direction: Direction,
    /// Only with the other end at this address.
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<IpAddr>,
    /// Only with hosts, or clients, in whose name this is.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    domain: String,
    /// End after so many lines.
    #[arg(short = 'n', long, value_name = "LINES")]
    limit: Option<usize>,
    #[command(flatten)]
    format: FormatArguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Direction {
    In,
    Out,
}

pub(super) fn list(
    arguments: &SessionsArguments,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let answer = client.json("/v1/sessions")?;
    let sessions: Vec<&Value> =
        answer.get("data").and_then(Value::as_array).into_iter().flatten().collect();
    match arguments.format.format {
        ListFormat::Csv => {
            let rows: Vec<Vec<String>> = sessions.iter().map(|one| row(one, &CSV_KEYS)).collect();
            output.csv(&CSV_KEYS, &rows)?;
        }
        ListFormat::Jsonl => {
            sessions.iter().try_for_each(|one| output.line(&one.to_string()))?;
        }
        ListFormat::Table if sessions.is_empty() => output.line("nobody is connected")?,
        ListFormat::Table => {
            let rows: Vec<Vec<String>> = sessions.iter().map(|one| table_row(one)).collect();
            output.table(&HEADINGS, &rows)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(session: &Value, keys: &[&str]) -> Vec<String> {
    let cell = |key: &&str| match session.get(*key) {
        None | Some(Value::Null) => String::new(),
        some => plain(some),
    };
    keys.iter().map(cell).collect()
}

fn table_row(session: &Value) -> Vec<String> {
    let text = |key: &str| plain(session.get(key));
    let seconds = |key: &str| {
        let ms = session.get(key).and_then(Value::as_u64).unwrap_or(0);
        format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
    };
    vec![
        text("number"),
        text("direction"),
        text("name"),
        text("peer"),
        text("host"),
        seconds("ms"),
        format!("{} ({})", text("doing"), seconds("doing_ms")),
        text("messages"),
        text("message"),
    ]
}

pub(super) fn tap(
    arguments: &TapArguments,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let TapArguments { direction, ip, domain, limit, format } = arguments;
    let direction = match direction {
        Direction::In => "in",
        Direction::Out => "out",
    };
    let ip = ip.map(|ip| ip.to_string()).unwrap_or_default();
    let (ip, host) = (encoded(&ip), encoded(domain));
    let target = format!("/v1/tap?direction={direction}&ip={ip}&host={host}");
    let mut told = 0;
    client.lines(&target, |line| {
        match format.format {
            Format::Jsonl => output.line(line)?,
            Format::Table => {
                let said: Value = serde_json::from_str(line).unwrap_or_default();
                output.line(&harmless_line(&spoken(&said)))?;
            }
        }
        told += 1;
        Ok(limit.is_none_or(|limit| told < limit))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn spoken(said: &Value) -> String {
    let text = |key: &str| plain(said.get(key));
    let at = text("at");
    let clock = at.split_once('T').map_or(at.as_str(), |(_, clock)| clock.trim_end_matches('Z'));
    format!("{clock} {} {} {}: {}", text("session"), text("peer"), text("side"), text("line"))
}

const HEADINGS: [&str; 9] =
    ["NUMBER", "WAY", "LISTENER/ROUTE", "PEER", "HOST", "OPEN FOR", "DOES", "MESSAGES", "MESSAGE"];
const CSV_KEYS: [&str; 11] = [
    "number",
    "direction",
    "name",
    "peer",
    "host",
    "credential",
    "message",
    "ms",
    "doing",
    "doing_ms",
    "messages",
];
