//! `merpati msg`: a message that waits or is captured, as it is.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::{
    Failure,
    client::{Client, encoded},
    output::{Output, harmless_line, plain},
    queue,
};

#[derive(Debug, Subcommand)]
pub(super) enum MsgCommand {
    /// Show a message: what is known of it, or one of these alone.
    Show {
        /// Its id, or the beginning of it.
        id: String,
        /// Its header, as it is sent on.
        #[arg(long, conflicts_with_all = ["raw", "transcript"])]
        headers: bool,
        /// The message octet for octet, as it is sent on.
        #[arg(long, conflicts_with = "transcript")]
        raw: bool,
        /// What was said with hosts that did not take it.
        #[arg(long)]
        transcript: bool,
    },
}

pub(super) fn run(
    command: &MsgCommand,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let MsgCommand::Show { id, headers, raw, transcript } = command;
    if *transcript {
        return show_transcript(id, client, output);
    }
    let id = queue::message_id(id);
    if !headers && !raw {
        return queue::show_one(id, client, output);
    }
    let octets = octets(id, client)?;
    if *raw {
        output.octets(&octets)?;
    } else {
        // What a terminal is shown must not steer it.
        let end = merpati_mail::header::body_start(&octets);
        let header = String::from_utf8_lossy(octets.get(..end).unwrap_or_default()).into_owned();
        for line in header.trim_end().lines() {
            output.line(&harmless_line(line))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The content of a message that waits, or else of one that is captured.
fn octets(id: &str, client: &Client) -> Result<Vec<u8>, Failure> {
    let waiting = queue::whole_id(id, client)
        .and_then(|id| client.get(&format!("/v1/queue/{}/raw", encoded(&id))));
    match waiting {
        Ok(octets) => Ok(octets.to_vec()),
        Err(Failure::Other(why)) => {
            let captured = client.get(&format!("/v1/sandbox/messages/{}/raw", encoded(id)));
            captured.map(|octets| octets.to_vec()).map_err(|_| Failure::Other(why))
        }
        Err(other) => Err(other),
    }
}

fn show_transcript(id: &str, client: &Client, output: &mut Output) -> Result<ExitCode, Failure> {
    let found = client.json(&format!("/v1/trace?query={}&limit=1", encoded(id)))?;
    let steps = found.pointer("/data/0/steps").and_then(Value::as_array);
    let mut is_told = false;
    for step in steps.into_iter().flatten() {
        let lines: Vec<&Value> =
            step.get("transcript").and_then(Value::as_array).into_iter().flatten().collect();
        if lines.is_empty() {
            continue;
        }
        is_told = true;
        let text = |key: &str| plain(step.get(key));
        let head = format!("{}  {}: {}", text("at"), text("recipients"), text("host"));
        output.line(&harmless_line(&head))?;
        for line in lines {
            output.line(&harmless_line(&format!("  {}", plain(Some(line)))))?;
        }
    }
    if is_told {
        return Ok(ExitCode::SUCCESS);
    }
    output.complain("nothing went wrong with it that the history knows; see merpati trace");
    Ok(ExitCode::FAILURE)
}
