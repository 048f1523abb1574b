//! `merpati serve`: reads the configuration, says what to type next, and runs the relay.

use std::{net::SocketAddr, process::ExitCode};

use super::{ConfigArguments, Failure, config_commands::load, output::Output};
use crate::{
    config::{Config, Kind},
    node,
};

pub(super) fn run(arguments: &ConfigArguments, output: &mut Output) -> Result<ExitCode, Failure> {
    let config = read(arguments)?;
    let steps = next_steps(&config);
    // Only a relay that listens says so: its port may belong to somebody else's server.
    let mut announce = || steps.iter().for_each(|line| drop(output.line(line)));
    let arguments = arguments.clone();
    let again = Box::new(move || read(&arguments).map_err(|why| why.to_string()));
    let ended = node::run(config, again, &mut announce);
    ended.map_err(|why| Failure::Other(format!("{why:#}")))
}

/// The configuration, with the files without which it cannot hold.
fn read(arguments: &ConfigArguments) -> Result<Config, Failure> {
    let config = load(arguments)?;
    config.check_needed_files().map_err(|why| Failure::Config(why.to_string()))?;
    Ok(config)
}

/// What to type next; nothing where there is no sandbox with a fixed port.
fn next_steps(config: &Config) -> Vec<String> {
    let sandboxes = config.listeners.iter().filter(|listener| listener.kind == Kind::Sandbox);
    let mut addresses = sandboxes.flat_map(|listener| &listener.listen);
    let Some(smtp) = addresses.find(|address| address.port() != 0).copied().map(reachable) else {
        return Vec::new();
    };
    let (host, port) = (smtp.ip(), smtp.port());
    let mut lines = vec![
        format!("Sandbox: everything sent to {smtp} is captured, nothing leaves."),
        "Send something:".to_owned(),
        format!("  swaks --server {smtp} --to ani@example.org"),
        format!("  merpati send --server {smtp} --to ani@example.org"),
        format!(
            "  python3 -c 'import smtplib; smtplib.SMTP(\"{host}\", {port}).sendmail(\
             \"a@example.org\", \"b@example.org\", \"Subject: Hello\\r\\n\\r\\nHello\")'"
        ),
        "See it:".to_owned(),
        format!("  MERPATI_SOCKET={} merpati sandbox ls", config.server.control_socket.display()),
    ];
    let mut http = config.server.http_listen.iter().copied().filter(|a| a.port() != 0);
    if let Some(http) = http.next().map(reachable) {
        lines.push(format!("  curl http://{http}/v1/sandbox/messages"));
    }
    lines
}

/// The address to type for one that is listened on.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        };
        address.set_ip(loopback);
    }
    address
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[track_caller]
    fn check(arguments: &[&str], lines: usize, part: &str) {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let config = Config::of(Vec::new(), &BTreeMap::new(), &arguments).unwrap();
        let steps = next_steps(&config);
        assert_eq!(steps.len(), lines, "{steps:?}");
        assert!(steps.join("\n").contains(part), "{steps:?}");
    }

    #[test]
    fn what_to_type_next_has_the_addresses_that_are_listened_on() {
        check(&[], 8, "swaks --server 127.0.0.1:1025");
        check(&["listener.sandbox.listen=0.0.0.0:2525"], 8, "smtplib.SMTP(\"127.0.0.1\", 2525)");
        check(&["listener.sandbox.listen=127.0.0.1:0"], 0, "");
        check(&["server.http_listen="], 7, "merpati sandbox ls");
    }
}
