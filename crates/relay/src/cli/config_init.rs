//! `merpati config init`: a first configuration, with the words that explain it.
//!
//! Invariant: what is written has no mistakes, because it is read first; a file that is there
//! already is never touched. Where a person sits, what was not given is asked; elsewhere it is an
//! error, or a default.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use merpati_mail::Domain;

use super::{Failure, output::Output};
use crate::config::{Config, Network, Source, next_hop::To, setting::Setting};

#[derive(Args, Debug)]
pub(super) struct InitArguments {
    /// What the relay is for.
    role: Option<Role>,
    /// Where to write it; `-` is standard output.
    #[arg(long, value_name = "PATH", default_value = "merpati.toml")]
    file: PathBuf,
    /// Our own name, as other servers see it.
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Our domains, with commas between them: mail for them is taken from anybody.
    #[arg(long, value_name = "DOMAINS")]
    domains: Option<String>,
    /// Where mail for our domains goes, such as `lmtp:/run/dovecot/lmtp`.
    #[arg(long, value_name = "NEXT_HOP")]
    deliver_to: Option<String>,
    /// The host that takes all our mail, such as `smtp://smtp.provider.example:587`.
    #[arg(long, value_name = "NEXT_HOP")]
    smart_host: Option<String>,
    /// As whom to log in there; `off`: nobody.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A file with the password in it, and nothing else.
    #[arg(long, value_name = "PATH")]
    password_file: Option<String>,
    /// Networks and addresses, with commas between them, that may send to everywhere without a
    /// password.
    #[arg(long, value_name = "NETWORKS")]
    networks: Option<String>,
}

/// What a relay is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Takes mail for our domains, and mail of our networks to everywhere.
    Relay,
    /// Captures all mail, and nothing leaves.
    Sandbox,
    /// Hands the mail of our networks to one host.
    SmartHost,
}

pub(super) fn run(arguments: &InitArguments, output: &mut Output) -> Result<ExitCode, Failure> {
    let file = &arguments.file;
    let is_standard_output = file == Path::new("-");
    if !is_standard_output && file.exists() {
        let why = format!("{} is there already\nhelp: --file names another", file.display());
        return Err(Failure::Unable(why));
    }
    let role = match arguments.role {
        Some(role) => role,
        None => ask_role(output)?,
    };
    let text = match role {
        Role::Relay => relay(arguments, output)?,
        Role::Sandbox => format!("{HEAD}{SANDBOX}"),
        Role::SmartHost => smart_host(arguments, output)?,
    };
    let source = Source { name: file.display().to_string(), text: text.clone() };
    Config::of(vec![source], &BTreeMap::new(), &[])
        .map_err(|why| Failure::Usage(format!("{why}\nhelp: give other answers")))?;
    if is_standard_output {
        output.octets(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    // Somebody may write a password into it one day.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o640).open(file);
    made.and_then(|mut made| made.write_all(text.as_bytes()))
        .map_err(|why| Failure::Unable(format!("cannot write {}: {why}", file.display())))?;
    let file = file.display();
    output.line(&format!("{file} is written. Look at it, then:"))?;
    output.line(&format!("  merpati config check {file}"))?;
    output.line(&format!("  merpati serve --config {file}"))?;
    Ok(ExitCode::SUCCESS)
}

fn ask_role(output: &mut Output) -> Result<Role, Failure> {
    let missing = || Failure::Usage("say what it is for: relay, sandbox or smart-host".to_owned());
    if !output.has_person() {
        return Err(missing());
    }
    loop {
        output.prompt("What is it for: relay, sandbox or smart-host? ")?;
        let Some(answer) = line()? else { return Err(missing()) };
        match Role::from_str(&answer, true) {
            Ok(role) => return Ok(role),
            Err(_) => output.complain("Write one of the three."),
        }
    }
}

/// The value of a flag; asked where it was not given and a person can be asked. An empty default
/// is none.
fn answer<T: Setting>(
    output: &mut Output,
    (flag, given): (&str, Option<&String>),
    question: &str,
    default: &str,
) -> Result<T, Failure> {
    let read = |text: &str| {
        T::parse(text).map_err(|wrong| {
            let help = wrong.help.map(|help| format!("\nhelp: {help}"));
            format!("{}{}", wrong.why, help.unwrap_or_default())
        })
    };
    if let Some(given) = given {
        return read(given).map_err(|why| Failure::Usage(format!("--{flag}: {why}")));
    }
    let missing = || Failure::Usage(format!("--{flag} is missing: {}", T::FORM));
    if !output.has_person() {
        return if default.is_empty() {
            Err(missing())
        } else {
            read(default).map_err(Failure::Usage)
        };
    }
    loop {
        let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        output.prompt(&format!("{question}{shown} "))?;
        let Some(answer) = line()? else { return Err(missing()) };
        let answer = if answer.is_empty() { default.to_owned() } else { answer };
        match read(&answer) {
            _ if answer.is_empty() => output.complain(&format!("Write {}.", T::FORM)),
            Ok(value) => return Ok(value),
            Err(why) => output.complain(&why),
        }
    }
}

/// A line from standard input; `None` at its end.
fn line() -> io::Result<Option<String>> {
    let mut line = String::new();
    let octets = io::stdin().read_line(&mut line)?;
    Ok((octets > 0).then(|| line.trim().to_owned()))
}

fn relay(arguments: &InitArguments, output: &mut Output) -> Result<String, Failure> {
    let name = ("hostname", arguments.hostname.as_ref());
    let hostname: Domain = answer(output, name, "Our own name, as other servers see it?", "")?;
    let domains = ("domains", arguments.domains.as_ref());
    let domains: Vec<Domain> = answer(output, domains, "Our domains, with commas?", "")?;
    if domains.is_empty() {
        return Err(Failure::Usage("--domains names no domain".to_owned()));
    }
    let deliver_to = ("deliver-to", arguments.deliver_to.as_ref());
    let question = "Where does mail for them go?";
    let deliver_to: To = answer(output, deliver_to, question, "lmtp:/run/dovecot/lmtp")?;
    let networks = ("networks", arguments.networks.as_ref());
    let networks: Vec<Network> = answer(output, networks, NETWORKS_QUESTION, LOOPBACK)?;
    Ok(format!(
        "{HEAD}\
         [server]\n\
         # Our name, as other servers see it: DNS leads from it to our address and back.\n\
         hostname = {}\n\n\
         [relay]\n\
         # Mail for these domains is taken from anybody.\n\
         local_domains = {}\n\
         # Machines in these networks may send to everywhere without a password.\n\
         networks = {}\n\n\
         {LISTENER}\n\
         # Routes are tried in this order. Mail for our domains:\n\
         [[route]]\n\
         name = \"local\"\n\
         recipients = \"local\"\n\
         to = {}\n\n\
         # All other mail: to the hosts that DNS names.\n\
         [[route]]\n\
         name = \"world\"\n\
         to = \"mx\"\n",
        hostname.show(),
        domains.show(),
        networks.show(),
        deliver_to.show(),
    ))
}

fn smart_host(arguments: &InitArguments, output: &mut Output) -> Result<String, Failure> {
    let name = ("hostname", arguments.hostname.as_ref());
    let hostname: Domain = answer(output, name, "Our own name, as other servers see it?", "")?;
    let to = ("smart-host", arguments.smart_host.as_ref());
    let to: To = answer(output, to, "Which host takes our mail, as smtp://HOST:587?", "")?;
    let user = ("user", arguments.user.as_ref());
    let user: Option<String> = answer(output, user, "As whom do we log in there?", "off")?;
    let login = match user {
        None => "# user = \"name\"\n# password_file = \"/etc/merpati/password\"\n".to_owned(),
        Some(user) => {
            let file = ("password-file", arguments.password_file.as_ref());
            let question = "Which file holds the password, and nothing else?";
            let file: PathBuf = answer(output, file, question, "/etc/merpati/password")?;
            format!(
                "# The password is said under TLS only, to a host that has proven its name.\n\
                 user = {}\n\
                 password_file = {}\n",
                user.show(),
                file.show()
            )
        }
    };
    let networks = ("networks", arguments.networks.as_ref());
    let networks: Vec<Network> = answer(output, networks, NETWORKS_QUESTION, LOOPBACK)?;
    Ok(format!(
        "{HEAD}\
         [server]\n\
         # Our name in the greeting and in Received fields.\n\
         hostname = {}\n\n\
         [relay]\n\
         # Machines in these networks may send to everywhere without a password.\n\
         networks = {}\n\n\
         {LISTENER}\n\
         # All mail goes to one host.\n\
         [[route]]\n\
         name = \"smart-host\"\n\
         to = {}\n\
         {login}",
        hostname.show(),
        networks.show(),
        to.show(),
    ))
}

const NETWORKS_QUESTION: &str = "Which machines may send to everywhere, as 192.0.2.0/24?";
const LOOPBACK: &str = "127.0.0.0/8, ::1";

const HEAD: &str = "\
# Written by `merpati config init`. `merpati config explain OPTION` tells what an option means and
# `merpati config check FILE` all mistakes; everything that may be set is in
# docs/reference/configuration.md.

";

const LISTENER: &str = "\
[[listener]]
name = \"mx\"
kind = \"relay\"
# \"[::]:25\" takes IPv6 as well. Ports below 1024 are for root, or with CAP_NET_BIND_SERVICE.
listen = \"0.0.0.0:25\"
# Mail may come encrypted; without a certificate of yours with one that proves no name:
# tls = \"starttls\"
# tls_certificate = \"/etc/merpati/fullchain.pem\"
# tls_key = \"/etc/merpati/privkey.pem\"
";

const SANDBOX: &str = "\
# All mail that is sent here is captured, and nothing leaves: `merpati sandbox ls`.
[[listener]]
name = \"sandbox\"
kind = \"sandbox\"
listen = \"127.0.0.1:1025\"

[sandbox]
# The oldest mail goes when there is more, or when it is older.
keep_count_max = 100000
keep_age_max = \"30 d\"
";

#[cfg(test)]
#[path = "config_init_tests.rs"]
mod tests;
