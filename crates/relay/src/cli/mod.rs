//! What an operator types: commands, their arguments, and what each ends with.
//!
//! Invariant: a command does nothing to a running relay that the HTTP API could not do: it speaks
//! to the router of `console` over the control socket. Exit codes: 0 done, 1 failed, 2 usage
//! or could not begin, 69 the relay does not run, 75 time is up, 78 the configuration has mistakes.

mod client;
mod config_commands;
mod config_init;
mod doctor;
mod domain;
mod explain;
mod import;
mod manuals;
mod msg;
mod output;
mod queue;
mod sandbox;
mod screen;
mod send;
mod sendmail;
mod serve;
mod sessions;
mod spool;
mod tls_reports;
mod top;
mod trace;

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use merpati_console::quantity;

use self::output::Output;
use crate::conversation::Trouble;

/// Reads the arguments of the process, does what they say, and tells how it ended.
pub fn main() -> ExitCode {
    let mut output = Output::standard();
    let mut words = std::env::args();
    let name = words.next().unwrap_or_default();
    let name = Path::new(&name).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ran = match name {
        "mailq" => queue::list_all(&client::Client::new(None), &mut output),
        "newaliases" => sendmail::new_aliases(&client::Client::new(None), &mut output),
        "sendmail" => send_mail(words, &mut output),
        _ => CommandLine::parse().run(&mut output),
    };
    match ran {
        Ok(code) => code,
        // As `head` does it: it has what it wanted.
        Err(Failure::Unheard) => ExitCode::SUCCESS,
        Err(failure) => {
            output.complain(&failure.to_string());
            failure.exit_code()
        }
    }
}

/// `sendmail`, by that name or as a command.
fn send_mail(
    words: impl IntoIterator<Item = String>,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let arguments = match sendmail::SendmailArguments::read(words) {
        Ok(arguments) => arguments,
        Err(why) => {
            output.complain(&format!("sendmail: {why}"));
            return Ok(ExitCode::from(64));
        }
    };
    match arguments.mode {
        sendmail::Mode::Initialise => sendmail::new_aliases(&client::Client::new(None), output),
        sendmail::Mode::List => queue::list_all(&client::Client::new(None), output),
        sendmail::Mode::Deliver | sendmail::Mode::RunQueue | sendmail::Mode::Speak => {
            Ok(sendmail::run(&arguments, output))
        }
    }
}

/// An SMTP relay, and a sandbox that captures mail.
#[derive(Debug, Parser)]
#[command(name = "merpati", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct CommandLine {
    /// The control socket of the relay [default: control.sock in the data directory].
    #[arg(long, global = true, env = "MERPATI_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the completions of a shell, to be read by it.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write, check, show or explain the configuration.
    #[command(subcommand)]
    Config(config_commands::ConfigCommand),
    /// Make the stored form of a password.
    #[command(subcommand)]
    Credential(CredentialCommand),
    /// Look at this host, its name, its addresses and what others say of them; say what to do.
    Doctor(doctor::DoctorArguments),
    /// Set up the domains that mail is sent from: keys, records, and whether DNS has them.
    #[command(subcommand)]
    Domain(domain::DomainCommand),
    /// Stop taking mail, let sessions end, and end the relay.
    Drain,
    /// Tell whether mail would be accepted and where it would go, and why.
    #[command(subcommand)]
    Explain(explain::ExplainCommand),
    /// Tell whether the relay takes mail.
    Health {
        /// How long to wait until it does, such as "30 s".
        #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
        wait: Option<Duration>,
    },
    /// Write a configuration from that of another mail server.
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Write the manual pages into a directory.
    Man {
        /// The directory; made where it is missing.
        directory: PathBuf,
    },
    /// Look at a message: its header, its octets, or what was said about it.
    #[command(subcommand)]
    Msg(msg::MsgCommand),
    /// Look at deliveries that wait, and try, hold, release, reroute or cancel them.
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Have the relay read its configuration again; where it has mistakes, nothing changes.
    Reload,
    /// Look at captured mail.
    #[command(subcommand)]
    Sandbox(sandbox::SandboxCommand),
    /// Send a test message by SMTP.
    Send(send::SendArguments),
    /// Send what comes on standard input, as programs call sendmail; see the book for its options.
    #[command(disable_help_flag = true)]
    Sendmail {
        /// Options and recipients of sendmail, such as `-t -i`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
        words: Vec<String>,
    },
    /// Run the relay; without a configuration, a sandbox on loopback.
    Serve(ConfigArguments),
    /// Show who is connected, in and out, and what each session does.
    Sessions(sessions::SessionsArguments),
    /// Check, measure, copy, export and import the spool.
    #[command(subcommand)]
    Spool(spool::SpoolCommand),
    /// Tell how the relay is.
    Status {
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Show what is said in sessions while it is said; secrets are hidden, content is left out.
    Tap(sessions::TapArguments),
    /// Look at reports of TLS: what others tell of sessions with your hosts.
    #[command(subcommand)]
    TlsReports(tls_reports::TlsReportsCommand),
    /// Show how the relay is doing, drawn anew every few seconds: rates, load, what waits and why.
    Top(top::TopArguments),
    /// Tell where a message is, how it came there and what to do, or why it was refused.
    Trace(trace::TraceArguments),
}

#[derive(Debug, Subcommand)]
enum CredentialCommand {
    /// Read a password from standard input and print the line for `credential.password`.
    Hash,
}

/// Where the configuration is.
#[derive(Args, Clone, Debug)]
struct ConfigArguments {
    /// A TOML file, or a directory of them.
    #[arg(long, env = "MERPATI_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
    /// Set an option, such as `server.hostname=mx.example.org`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// How something is written.
#[derive(Args, Clone, Copy, Debug)]
struct FormatArguments {
    /// A table for people, or a line of JSON for each item.
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Table,
}

/// How a list is written that programs may want as a table.
#[derive(Args, Clone, Copy, Debug)]
struct ListFormatArguments {
    /// A table for people, a line of JSON for each item, or a table for programs (RFC 4180).
    #[arg(short = 'o', long = "output", value_enum, default_value_t = ListFormat::Table)]
    format: ListFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ListFormat {
    Csv,
    Jsonl,
    Table,
}

impl CommandLine {
    fn run(self, output: &mut Output) -> Result<ExitCode, Failure> {
        let client = client::Client::new(self.socket);
        match self.command {
            Command::Completions { shell } => manuals::completions(shell, output),
            Command::Config(command) => config_commands::run(&command, output),
            Command::Credential(CredentialCommand::Hash) => hash(output),
            Command::Doctor(arguments) => doctor::run(&arguments, &client, output),
            Command::Domain(command) => domain::run(&command, &client, output),
            Command::Drain => {
                client.post("/v1/drain")?;
                output.line("draining")?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Explain(command) => explain::run(&command, &client, output),
            Command::Health { wait } => health(&client, wait, output),
            Command::Import(command) => import::run(&command, output),
            Command::Man { directory } => manuals::write(&directory, output),
            Command::Msg(command) => msg::run(&command, &client, output),
            Command::Queue(command) => queue::run(&command, &client, output),
            Command::Reload => reload(&client, output),
            Command::Sandbox(command) => sandbox::run(&command, &client, output),
            Command::Send(arguments) => send::run(&arguments, output),
            Command::Sendmail { words } => send_mail(words, output),
            Command::Serve(arguments) => serve::run(&arguments, output),
            Command::Sessions(arguments) => sessions::list(&arguments, &client, output),
            Command::Spool(command) => spool::run(&command, &client, output),
            Command::Status { format } => status(&client, format.format, output),
            Command::Tap(arguments) => sessions::tap(&arguments, &client, output),
            Command::TlsReports(command) => tls_reports::run(&command, output),
            Command::Top(arguments) => top::run(&arguments, &client, output),
            Command::Trace(arguments) => trace::run(&arguments, &client, output),
        }
    }
}

/// Why a command did not do what it should.
#[derive(Debug)]
enum Failure {
    /// The configuration has mistakes, which are the text.
    Config(String),
    /// Something else; the text says what.
    Other(String),
    /// Nothing answers at the control socket.
    RelayDown(String),
    /// Time is up.
    Timeout(String),
    /// It could not even be begun; the text says why.
    Unable(String),
    /// Nobody reads what is written any more.
    Unheard,
    /// The arguments make no sense together.
    Usage(String),
}

impl Failure {
    /// By the codes of `sysexits.h` where there is one.
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) => 78,
            Self::Other(_) | Self::Unheard => 1,
            Self::RelayDown(_) => 69,
            Self::Timeout(_) => 75,
            Self::Unable(_) | Self::Usage(_) => 2,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(text)
            | Self::Other(text)
            | Self::RelayDown(text)
            | Self::Timeout(text)
            | Self::Unable(text)
            | Self::Usage(text) => f.write_str(text),
            Self::Unheard => f.write_str("nobody reads what is written"),
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Gone(why) => Self::RelayDown(why),
            Trouble::Name(_) | Trouble::Refused { .. } => Self::Other(trouble.to_string()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::Unheard;
        }
        Self::Other(error.to_string())
    }
}

fn hash(output: &mut Output) -> Result<ExitCode, Failure> {
    output.prompt("Password: ")?;
    let mut password = String::new();
    std::io::stdin().read_line(&mut password)?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::Usage("no password came on standard input".to_owned()));
    }
    let line = crate::credential::hash(password)
        .map_err(|why| Failure::Other(format!("the password cannot be stored: {why}")))?;
    output.line(&line)?;
    Ok(ExitCode::SUCCESS)
}

/// Says what changed.
fn reload(client: &client::Client, output: &mut Output) -> Result<ExitCode, Failure> {
    let answer = client.post("/v1/reload")?;
    let names = |key: &str| output::plain(answer.get(key));
    match names("changed") {
        none if none.is_empty() => {
            output.line("reloaded, with the files that are named there; no option has changed")?;
        }
        changed => output.line(&format!("reloaded; changed: {changed}"))?,
    }
    let later = names("at_restart");
    if !later.is_empty() {
        output.complain(&format!("these hold with the next start: {later}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn health(
    client: &client::Client,
    wait: Option<Duration>,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let start = std::time::Instant::now();
    loop {
        let Err(failure) = client.get("/readyz") else {
            output.line("ready")?;
            return Ok(ExitCode::SUCCESS);
        };
        match wait {
            None => return Err(failure),
            Some(wait) if start.elapsed() >= wait => {
                return Err(Failure::Timeout(failure.to_string()));
            }
            Some(_) => std::thread::sleep(HEALTH_PAUSE),
        }
    }
}

fn status(
    client: &client::Client,
    format: Format,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let status = client.json("/v1/status")?;
    if format == Format::Jsonl {
        output.line(&status.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = |pointer: &str| output::plain(status.pointer(pointer));
    let state = if text("/ready") == "true" { "ready".to_owned() } else { text("/reason") };
    let unread = status.pointer("/spool/segments_unread").and_then(serde_json::Value::as_u64);
    let queued = match unread {
        None | Some(0) => text("/spool/messages"),
        Some(unread) => {
            format!("{} so far, {unread} segments are unread", text("/spool/messages"))
        }
    };
    let rows = [
        ("version", text("/version")),
        ("state", state),
        ("up for", format!("{} s", text("/uptime_seconds"))),
        ("spool", format!("{}, {} octets", text("/spool/directory"), text("/spool/size_bytes"))),
        ("queued", queued),
        (
            "captured",
            format!(
                "{} kept, {} since start",
                text("/sandbox/messages"),
                text("/sandbox/captured")
            ),
        ),
    ];
    output.table(&[], &rows.map(|(name, value)| vec![name.to_owned(), value]))?;
    let listeners = status.pointer("/listeners").and_then(serde_json::Value::as_array);
    let rows: Vec<Vec<String>> = listeners
        .into_iter()
        .flatten()
        .map(|one| {
            ["name", "kind", "address", "connections"].map(|key| output::plain(one.get(key))).into()
        })
        .collect();
    output.line("")?;
    output.table(&["LISTENER", "KIND", "ADDRESS", "CONNECTIONS"], &rows)?;
    let is_ours = |one: &&serde_json::Value| output::plain(one.get("self_signed")) == "true";
    let shown = listeners.into_iter().flatten().filter(is_ours);
    let shown: BTreeSet<String> = shown.map(|one| output::plain(one.get("name"))).collect();
    for name in shown {
        output.line(&format!(
            "\n{name} shows a certificate that the relay signed itself: set tls_certificate and \
             tls_key of this listener."
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

const HEALTH_PAUSE: Duration = Duration::from_millis(100);

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 usage or could not begin, 69 the \
                          relay does not run, 75 time is up, 78 the configuration has mistakes.";

#[cfg(test)]
#[path = "documented_tests.rs"]
mod documented;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    const LINES: &[(&str, bool)] = &[
        ("serve", true),
        ("top", true),
        ("top -n 2 --every 5s -o jsonl", true),
        ("top --every never", false),
        ("queue reroute 028T5CY4TQKFF --to backup", true),
        ("queue reroute --all --by-rules --dry-run", true),
        ("queue reroute --all", false),
        ("queue reroute --all --to=", false),
        ("serve --config a.toml --set server.hostname=x --set log.to=off", true),
        ("config check a.toml", true),
        ("config check", true),
        ("config show --changed", true),
        ("config explain server.hostname", true),
        ("config explain", false),
        ("sandbox ls -o jsonl --query from:shop --limit 5", true),
        ("sandbox ls -o csv", true),
        ("sandbox show 028T5CY4TQKFF -o csv", false),
        ("sandbox show 028T5CY4TQKFF --raw", true),
        ("sandbox wait --query subject:code --timeout 30s", true),
        ("sandbox wait --timeout soon", false),
        ("sandbox export out --maildir", true),
        ("sandbox clear", true),
        ("send --to ani@example.id", true),
        ("send --to ani@example.id --to b@example.id --server localhost:25 --body -", true),
        ("send", false),
        ("send --to nobody", false),
        ("credential hash", true),
        ("health --wait 30s", true),
        ("drain --socket var/control.sock", true),
        ("spool verify", true),
        ("spool verify --spool copy -o jsonl", true),
        ("spool stats --config a.toml", true),
        ("spool export out 028T5CY4TQKFF --spool copy", true),
        ("spool export", false),
        ("spool export out shop", false),
        ("spool import out --skip-present", true),
        ("spool import", false),
        ("spool backup copy", true),
        ("spool backup copy --spool old -o jsonl", true),
        ("spool backup", false),
        ("completions bash", true),
        ("completions tcl", false),
        ("man out", true),
        ("msg show 028T5CY4TQKFF --headers", true),
        ("msg show 028T5CY4TQKFF --raw", true),
        ("msg show 028T5CY4TQKFF --raw --headers", false),
        ("msg show 028T5CY4TQKFF --transcript", true),
        ("import postfix /etc/postfix", true),
        ("import postfix /etc/postfix --output merpati.toml", true),
        ("import postfix", false),
        ("import sendmail /etc/mail", false),
        ("reload", true),
        ("domain add shop.example", true),
        ("domain add", false),
        ("domain ls -o jsonl", true),
        ("domain records shop.example -o zone", true),
        ("domain records shop.example -o csv", false),
        ("domain check shop.example --resolver 192.0.2.53 --resolver [2001:db8::1]:5353", true),
        ("domain check shop.example --resolver dns.example", false),
        ("domain rotate shop.example --force", true),
        ("sendmail -t -oi -f a@b.example -- c@d.example", true),
        ("sessions -o csv", true),
        ("tap in --ip 192.0.2.1 -n 3", true),
        ("tap", false),
        ("status -o jsonl", true),
        ("queue ls", true),
        ("queue ls from:shop age>1h -n 5 -o jsonl", true),
        ("queue ls -n many", false),
        ("queue show 028T5CY4TQKFF", true),
        ("queue show", false),
        ("queue retry --all --dry-run", true),
        ("queue retry --all from:shop", false),
        ("queue hold 028T5CY4TQKFF --why odd", true),
        ("queue release status:held", true),
        ("queue cancel 028T5CY4TQKFF.0 from:shop --yes", true),
        ("queue release 028T5CY4TQKFF --why odd", false),
        ("explain route ani@example.id --from a@b.example --credential shop -o jsonl", true),
        ("explain route", false),
        ("explain accept --ip 192.0.2.1 --from a@b.example --rcpt c@d.example", true),
        ("explain accept --ip here --rcpt c@d.example", false),
        ("trace ani@example.id -n 5 --transcript -o csv", true),
        ("trace from:shop age<1h", true),
        ("trace", false),
        ("queue count", true),
        ("queue count reason:connection -o jsonl", true),
        ("queue shape --by reason status:waiting -o csv", true),
        ("queue shape --by colour", false),
    ];

    #[test]
    fn the_arguments_are_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn commands_are_understood_or_refused() {
        for (line, is_good) in LINES {
            let words = std::iter::once("merpati").chain(line.split(' '));
            let parsed = CommandLine::try_parse_from(words);
            assert_eq!(parsed.is_ok(), *is_good, "{line}: {parsed:?}");
        }
    }

    #[test]
    fn a_failure_ends_with_its_code() {
        let text = String::new;
        for (failure, code) in [
            (Failure::Config(text()), 78),
            (Failure::Other(text()), 1),
            (Failure::RelayDown(text()), 69),
            (Failure::Timeout(text()), 75),
            (Failure::Unable(text()), 2),
            (Failure::Usage(text()), 2),
        ] {
            assert_eq!(failure.exit_code(), ExitCode::from(code), "{failure:?}");
        }
    }
}
