//! `merpati sandbox`: captured mail in the terminal and in files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Subcommand;
use merpati_console::{TIMEOUT_MAX, quantity};
use serde_json::Value;

use super::{
    Failure, Format, FormatArguments, ListFormat, ListFormatArguments,
    client::{Client, encoded},
    output::{Output, harmless, harmless_line, plain},
};

#[derive(Debug, Subcommand)]
pub(super) enum SandboxCommand {
    /// Delete captured mail: all of it, or what a query selects.
    Clear {
        #[command(flatten)]
        selection: Selection,
    },
    /// Write captured mail into files, octet for octet.
    Export {
        /// The directory; made where it is missing.
        directory: PathBuf,
        /// As a Maildir, instead of one `.eml` for each message.
        #[arg(long)]
        maildir: bool,
        #[command(flatten)]
        selection: Selection,
    },
    /// List captured mail, the newest first.
    Ls {
        /// How many at most.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        format: ListFormatArguments,
    },
    /// Show one message.
    Show {
        /// Its id, as `ls` shows it.
        id: String,
        /// The message octet for octet, and nothing else.
        #[arg(long)]
        raw: bool,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Wait until a message is there, and tell it.
    Wait {
        /// How long, at most 5 minutes.
        #[arg(long, default_value = "30 s", value_parser = quantity::duration)]
        timeout: Duration,
        /// Only messages newer than the one with this id.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        format: ListFormatArguments,
    },
}

/// Which messages.
#[derive(clap::Args, Debug)]
pub(super) struct Selection {
    /// Which messages, such as 'from:shop subject:"your code" age<5m'.
    #[arg(long, default_value = "", hide_default_value = true)]
    query: String,
}

pub(super) fn run(
    command: &SandboxCommand,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match command {
        SandboxCommand::Clear { selection } => {
            let query = encoded(&selection.query);
            let answer = client.delete(&format!("{MESSAGES}?query={query}"))?;
            output.line(&format!("{} deleted", plain(answer.get("deleted"))))?;
        }
        SandboxCommand::Export { directory, maildir, selection } => {
            let count = export(client, directory, *maildir, &selection.query)?;
            output.line(&format!("{count} messages written to {}", directory.display()))?;
        }
        SandboxCommand::Ls { limit, selection, format } => {
            let messages = list(client, &selection.query, *limit)?;
            tell(&messages, format.format, output)?;
        }
        SandboxCommand::Show { id, raw: true, format: _ } => {
            output.octets(&client.get(&format!("{MESSAGES}/{}/raw", encoded(id)))?)?;
        }
        SandboxCommand::Show { id, raw: false, format } => {
            let message = client.json(&format!("{MESSAGES}/{}", encoded(id)))?;
            match format.format {
                Format::Jsonl => output.line(&message.to_string())?,
                Format::Table => show(&message, output)?,
            }
        }
        SandboxCommand::Wait { timeout, after, selection, format } => {
            if *timeout > TIMEOUT_MAX {
                return Err(Failure::Usage("the longest wait is 5 minutes".to_owned()));
            }
            let (query, milliseconds) = (encoded(&selection.query), timeout.as_millis());
            let after = encoded(after.as_deref().unwrap_or_default());
            let target = format!("{MESSAGES}/wait?query={query}&after={after}");
            let message = client.json(&format!("{target}&timeout={milliseconds}ms"))?;
            tell(&[message], format.format, output)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads pages until there are `limit` messages or no more.
fn list(client: &Client, query: &str, limit: usize) -> Result<Vec<Value>, Failure> {
    let mut messages = Vec::new();
    let mut after = String::new();
    while messages.len() < limit {
        let page = (limit - messages.len()).min(500);
        let query = encoded(query);
        let mut answer =
            client.json(&format!("{MESSAGES}?query={query}&limit={page}&after={after}"))?;
        let next = answer.pointer("/page/next").and_then(Value::as_str).map(encoded);
        if let Some(Value::Array(data)) = answer.get_mut("data").map(Value::take) {
            messages.extend(data);
        }
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    Ok(messages)
}

fn tell(messages: &[Value], format: ListFormat, output: &mut Output) -> Result<(), Failure> {
    let keys = ["id", "received_at", "envelope_from", "envelope_to", "size_bytes", "subject"];
    let row = |message: &Value| keys.map(|key| plain(message.get(key))).to_vec();
    let rows: Vec<Vec<String>> = messages.iter().map(row).collect();
    match format {
        ListFormat::Csv => output.csv(&keys, &rows)?,
        ListFormat::Jsonl => {
            messages.iter().try_for_each(|message| output.line(&message.to_string()))?;
        }
        ListFormat::Table => {
            output.table(&["ID", "RECEIVED", "FROM", "TO", "OCTETS", "SUBJECT"], &rows)?;
        }
    }
    Ok(())
}

fn show(message: &Value, output: &mut Output) -> Result<(), Failure> {
    let text = |pointer: &str| plain(message.pointer(pointer));
    let rows = [
        ("id", text("/id")),
        ("received", text("/received_at")),
        ("listener", text("/received/listener")),
        ("protocol", text("/received/protocol")),
        (
            "client",
            format!("{} ({})", text("/received/peer/address"), text("/received/peer/hello")),
        ),
        ("tls", text("/received/tls/version")),
        ("credential", text("/received/credential")),
        ("octets", text("/size_bytes")),
        ("envelope from", text("/envelope/from")),
        ("envelope to", text("/envelope/to")),
        ("headers say", text("/says/headers")),
        ("hidden", text("/says/hidden")),
    ];
    output.table(&[], &rows.map(|(name, value)| vec![name.to_owned(), value]))?;
    output.line("")?;
    for field in message.get("headers").and_then(Value::as_array).into_iter().flatten() {
        let line = format!("{}: {}", plain(field.get("name")), plain(field.get("value")));
        output.line(&harmless_line(&line))?;
    }
    output.line("")?;
    match message.get("body").and_then(Value::as_str) {
        Some(body) => body.lines().try_for_each(|line| output.line(&harmless_line(line)))?,
        None => output.line("(not text; see --raw)")?,
    }
    Ok(())
}

fn export(
    client: &Client,
    directory: &Path,
    is_maildir: bool,
    query: &str,
) -> Result<usize, Failure> {
    let base = if is_maildir {
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(directory.join(part))?;
        }
        directory.join("new")
    } else {
        fs::create_dir_all(directory)?;
        directory.to_path_buf()
    };
    let messages = list(client, query, usize::MAX)?;
    for message in &messages {
        // The id becomes a name of a file: only what the relay could have meant.
        let id: String =
            plain(message.get("id")).chars().filter(char::is_ascii_alphanumeric).collect();
        let content = client.get(&format!("{MESSAGES}/{id}/raw"))?;
        let name = if is_maildir { format!("{id}.merpati") } else { format!("{id}.eml") };
        fs::write(base.join(harmless(&name)), content)?;
    }
    Ok(messages.len())
}

const MESSAGES: &str = "/v1/sandbox/messages";

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use axum::{Router, http::Uri, routing::get};
    use clap::Parser;

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: SandboxCommand,
    }

    /// Two pages of one message each, whatever is asked.
    async fn list(uri: Uri) -> String {
        let query = uri.query().unwrap_or_default();
        let (id, page) = if query.contains("after=A1") {
            ("B2", r#"{"next":null,"has_more":false}"#)
        } else {
            ("A1", r#"{"next":"A1","has_more":true}"#)
        };
        let subject = query.split('&').next().unwrap_or_default();
        format!(r#"{{"data":[{{"id":"{id}","subject":"{subject}\u001b"}}],"page":{page}}}"#)
    }

    /// Runs commands against a router of canned answers; gives back what each says.
    fn say(lines: &[&str]) -> Vec<Result<String, String>> {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let router = Router::new()
            .route("/v1/sandbox/messages", get(list).delete(async || r#"{"deleted":2}"#))
            .route("/v1/sandbox/messages/{id}/raw", get(async || "octets\r\n"));
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::bind(&socket).unwrap()
        };
        runtime.spawn(async move { axum::serve(listener, router).await });
        let client = Client::new(Some(socket));
        let out = directory.path().join("out");
        let answer = |line: &&str| {
            let line = line.replace("OUT", out.to_str().unwrap());
            let words = std::iter::once("sandbox").chain(line.split(' '));
            let page = Page::default();
            let mut output = Output::into(Box::new(page.clone()));
            let ended = run(&Line::parse_from(words).command, &client, &mut output);
            let said = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
            let files = out.join("new").read_dir().into_iter().flatten().count();
            let said = said.replace(out.to_str().unwrap(), &format!("{files} files of OUT"));
            ended.map(|_| said).map_err(|failure| failure.to_string())
        };
        lines.iter().map(answer).collect()
    }

    #[test]
    fn commands_say_what_the_api_answers() {
        let said = say(&[
            "ls --query a&b -o jsonl --limit 1",
            "ls",
            "show A1 --raw",
            "clear",
            "export OUT --maildir",
            "wait",
        ]);
        let want = [
            Ok("{\"id\":\"A1\",\"subject\":\"query=a%26b\\u001b\"}\n"),
            Ok("ID  RECEIVED  FROM  TO  OCTETS  SUBJECT\n\
                A1  -         -     -   -       query=\u{fffd}\n\
                B2  -         -     -   -       query=\u{fffd}\n"),
            Ok("octets\r\n"),
            Ok("2 deleted\n"),
            Ok("2 messages written to 2 files of OUT\n"),
            Err("no reason was given"),
        ];
        for (said, want) in said.iter().zip(want) {
            assert_eq!(said.as_deref().map_err(String::as_str), want);
        }
    }

    #[test]
    fn without_a_relay_the_command_says_how_to_start_one() {
        let directory = tempfile::tempdir().unwrap();
        let client = Client::new(Some(directory.path().join("none")));
        let failure = client.get("/readyz").unwrap_err();
        assert!(matches!(failure, Failure::RelayDown(_)), "{failure:?}");
        assert!(failure.to_string().contains("merpati serve"), "{failure}");
    }
}
