//! `merpati send`: a test message by SMTP, with every reply told.

use std::{
    fmt::Write as _,
    io::Read,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use merpati_mail::{Mailbox, Time};

use super::{Failure, output::Output};
use crate::conversation::{Conversation, Trouble};

/// What to send where.
#[derive(clap::Args, Debug)]
pub(super) struct SendArguments {
    /// A recipient; may be repeated.
    #[arg(long, required = true, value_name = "ADDRESS", value_parser = Mailbox::parse)]
    to: Vec<Mailbox>,
    /// The reverse-path and the From field.
    #[arg(long, default_value = "merpati@localhost", value_parser = Mailbox::parse)]
    from: Mailbox,
    /// The Subject field.
    #[arg(long, default_value = "A test from Merpati")]
    subject: String,
    /// The text, or - for standard input.
    #[arg(long, default_value = "This is a test.")]
    body: String,
    /// Where to.
    #[arg(long, default_value = "127.0.0.1:1025", value_name = "HOST:PORT")]
    server: String,
}

pub(super) fn run(arguments: &SendArguments, output: &mut Output) -> Result<ExitCode, Failure> {
    let message = message(arguments, now())?;
    let mut conversation = Conversation::open(&arguments.server).map_err(named)?;
    conversation.reply("the connection")?;
    conversation.say("EHLO localhost")?;
    let is_8bit = !message.is_ascii();
    let parameter = if is_8bit { " BODY=8BITMIME" } else { "" };
    conversation.say(&format!("MAIL FROM:<{}>{parameter}", arguments.from))?;
    for to in &arguments.to {
        conversation.say(&format!("RCPT TO:<{to}>"))?;
    }
    conversation.say("DATA")?;
    let reply = conversation.send(message.as_bytes())?;
    output.line(&super::output::harmless(&reply))?;
    // The message is accepted: what the server says to QUIT changes nothing.
    let _ = conversation.say("QUIT");
    Ok(ExitCode::SUCCESS)
}

/// A server that cannot be named so was named by an argument.
fn named(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Name(why) => Failure::Usage(format!("--server {why}")),
        other @ (Trouble::Gone(_) | Trouble::Refused { .. }) => other.into(),
    }
}

fn message(arguments: &SendArguments, now: Time) -> Result<String, Failure> {
    let mut body = arguments.body.clone();
    if body == "-" {
        body.clear();
        std::io::stdin().read_to_string(&mut body)?;
    }
    if arguments.subject.chars().any(char::is_control) {
        return Err(Failure::Usage("the subject has control characters".to_owned()));
    }
    let to: Vec<String> = arguments.to.iter().map(|to| format!("<{to}>")).collect();
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write!(
        text,
        "Date: {}\r\nFrom: <{}>\r\nTo: {}\r\nSubject: {}\r\nMessage-ID: <{}.{}@{}>\r\n",
        now.rfc5322(),
        arguments.from,
        to.join(",\r\n "),
        arguments.subject,
        now.as_micros(),
        std::process::id(),
        arguments.from.domain(),
    );
    text.push_str("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n");
    text.push_str("Content-Transfer-Encoding: 8bit\r\n\r\n");
    for line in body.lines() {
        text.push_str(line.trim_end_matches('\r'));
        text.push_str("\r\n");
    }
    Ok(text)
}

pub(super) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(u64::try_from(since.as_micros()).unwrap_or(0))
}
