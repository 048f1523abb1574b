//! Where the sockets come from on which the relay listens: the service manager passes them
//! (`sd_listen_fds(3)`), or they are bound here.
//!
//! Invariant: a socket that is passed is used for exactly one option, or the relay does not start;
//! what an option names and nobody passes is bound. Not pure.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    os::unix::{fs::MetadataExt, net::UnixListener},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use listenfd::ListenFd;
use rustix::net::sockopt;

use crate::{
    config::{Config, options::Listener},
    listen,
    node::plan,
};

/// Sockets that have their addresses, until those take them who accept from them.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Those that were passed listen already.
    tcp: Vec<(Owner, TcpListener)>,
    control: Control,
}

/// Who made the control socket.
#[derive(Debug, Default)]
enum Control {
    /// We ourselves, when all is ready.
    #[default]
    Ours,
    /// Whoever passed it, and who removes its file; `None` once it is in use.
    Passed(Option<UnixListener>),
}

/// The option that a socket is for, and the name under which one may be passed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    /// `section.option` or `section.name.option`.
    key: String,
    name: String,
}

/// An option that names addresses.
struct Wish<'a> {
    owner: Owner,
    addresses: &'a [SocketAddr],
}

impl Sockets {
    /// Takes what was passed and binds the rest.
    pub(super) fn open(config: &Config) -> anyhow::Result<Self> {
        let Passed { tcp: passed, unix } = passed()?;
        let wishes: Vec<Wish<'_>> = wishes(config).collect();
        let mut sockets = Self::default();
        let known: Vec<(&str, SocketAddr)> =
            passed.iter().map(|(name, address, _)| (name.as_str(), *address)).collect();
        let assigned = assign(&known, &wishes)?;
        let bound = unpassed(&known, &assigned, &wishes);
        for ((_, _, socket), wish) in passed.into_iter().zip(assigned) {
            sockets.tcp.extend(wishes.get(wish).map(|wish| (wish.owner.clone(), socket)));
        }
        for (owner, address) in bound {
            let socket = bind(config, &owner.key, address)?;
            sockets.tcp.push((owner, socket));
        }
        for (name, path, socket) in unix {
            sockets.take_control(config, &name, path.as_deref(), socket)?;
        }
        Ok(sockets)
    }

    fn take_control(
        &mut self,
        config: &Config,
        name: &str,
        path: Option<&Path>,
        socket: UnixListener,
    ) -> anyhow::Result<()> {
        let is_meant = name == CONTROL || path == Some(config.server.control_socket.as_path());
        let shown = path.unwrap_or(Path::new("without a path")).display();
        if !is_meant || self.is_control_passed() {
            bail!(
                "the service manager passes the Unix socket {shown} (`{name}`), and it is not \
                 server.control_socket\nhelp: name it there, or write \
                 FileDescriptorName={CONTROL} into the .socket unit"
            );
        }
        let mode = path.and_then(|path| fs::metadata(path).ok()).map(|facts| facts.mode());
        if mode.is_some_and(|mode| mode & FOR_OTHERS != 0) {
            bail!(
                "everybody on this machine could command the relay at {shown}\nhelp: write \
                 SocketMode=0600 into the .socket unit"
            );
        }
        self.control = Control::Passed(Some(socket));
        Ok(())
    }

    /// The sockets of a listener: those that are open for it, or else new ones at its addresses.
    pub(crate) fn of(
        &mut self,
        config: &Config,
        listener: &Listener,
    ) -> anyhow::Result<Vec<TcpListener>> {
        self.take(config, &listener_owner(listener), &listener.listen)
    }

    /// The same for the HTTP API.
    pub(crate) fn http(&mut self, config: &Config) -> anyhow::Result<Vec<TcpListener>> {
        self.take(config, &http_owner(), &config.server.http_listen)
    }

    /// Those of the listener for the web: with TLS, and without.
    pub(crate) fn web(&mut self, config: &Config) -> anyhow::Result<[Vec<TcpListener>; 2]> {
        let [with, without] = web_owners();
        Ok([
            self.take(config, &with, &config.https.listen)?,
            self.take(config, &without, &config.https.http_listen)?,
        ])
    }

    /// The control socket, where one was passed.
    pub(crate) const fn control(&mut self) -> Option<UnixListener> {
        match &mut self.control {
            Control::Ours => None,
            Control::Passed(socket) => socket.take(),
        }
    }

    /// Whether the file of the control socket belongs to whoever passed it.
    pub(crate) const fn is_control_passed(&self) -> bool {
        matches!(self.control, Control::Passed(_))
    }

    fn take(
        &mut self,
        config: &Config,
        owner: &Owner,
        addresses: &[SocketAddr],
    ) -> anyhow::Result<Vec<TcpListener>> {
        let mut sockets: Vec<TcpListener> =
            self.tcp.extract_if(.., |(one, _)| one == owner).map(|(_, socket)| socket).collect();
        if sockets.is_empty() {
            let bound = addresses.iter().map(|address| bind(config, &owner.key, *address));
            sockets = bound.collect::<anyhow::Result<_>>()?;
        }
        for socket in &sockets {
            if !sockopt::socket_acceptconn(socket)? {
                let address = socket.local_addr()?;
                listen::begin(socket)
                    .map_err(|why| plan::cannot_listen(config, &owner.key, address, &why))?;
            }
        }
        Ok(sockets)
    }
}

fn bind(config: &Config, key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    listen::reserve(address, plan::families(config, address))
        .map_err(|why| plan::cannot_listen(config, key, address, &why))
}

fn wishes(config: &Config) -> impl Iterator<Item = Wish<'_>> {
    let http = Wish { owner: http_owner(), addresses: &config.server.http_listen };
    let listeners = config.listeners.iter();
    let listeners = listeners
        .map(|listener| Wish { owner: listener_owner(listener), addresses: &listener.listen });
    let [with, without] = web_owners();
    let web = [
        Wish { owner: with, addresses: &config.https.listen },
        Wish { owner: without, addresses: &config.https.http_listen },
    ];
    listeners.chain([http]).chain(web)
}

fn listener_owner(listener: &Listener) -> Owner {
    let name = listener.name.as_str().to_owned();
    Owner { key: format!("listener.{name}.listen"), name }
}

fn http_owner() -> Owner {
    Owner { key: "server.http_listen".to_owned(), name: "http".to_owned() }
}

/// The sockets of the listener for the web, with TLS and without.
fn web_owners() -> [Owner; 2] {
    [("https.listen", "https"), ("https.http_listen", "https-plain")]
        .map(|(key, name)| Owner { key: key.to_owned(), name: name.to_owned() })
}

/// Which wish each passed socket is for: the one that names its address, or else the one whose name
/// it has.
fn assign(passed: &[(&str, SocketAddr)], wishes: &[Wish<'_>]) -> anyhow::Result<Vec<usize>> {
    let wish_of = |(name, address): &(&str, SocketAddr)| {
        let by_address = wishes.iter().position(|wish| wish.addresses.contains(address));
        by_address.or_else(|| wishes.iter().position(|wish| wish.owner.name == *name))
    };
    passed
        .iter()
        .map(|socket| {
            wish_of(socket).with_context(|| {
                let (name, address) = socket;
                format!(
                    "the service manager passes a socket at {address} (`{name}`), and no listener \
                     asks for it\nhelp: name this address in a `listen`, write the name of a \
                     listener as FileDescriptorName= into the .socket unit, or take it out there"
                )
            })
        })
        .collect()
}

/// What is left to bind: addresses at which nothing was passed, but for those of a wish that got
/// sockets at other addresses by its name. Those stand for all of its own.
fn unpassed(
    passed: &[(&str, SocketAddr)],
    assigned: &[usize],
    wishes: &[Wish<'_>],
) -> Vec<(Owner, SocketAddr)> {
    let mut left = Vec::new();
    for (at, wish) in wishes.iter().enumerate() {
        let got = passed.iter().zip(assigned).filter(|(_, wish)| **wish == at);
        let got: Vec<SocketAddr> = got.map(|((_, address), _)| *address).collect();
        if got.iter().all(|address| wish.addresses.contains(address)) {
            let missing = wish.addresses.iter().filter(|address| !got.contains(address));
            left.extend(missing.map(|address| (wish.owner.clone(), *address)));
        }
    }
    left
}

/// What the service manager passed: each with its name.
#[derive(Default)]
struct Passed {
    tcp: Vec<(String, SocketAddr, TcpListener)>,
    unix: Vec<(String, Option<PathBuf>, UnixListener)>,
}

/// Takes the sockets that were passed to this process.
fn passed() -> anyhow::Result<Passed> {
    let variable = |name: &str| env::var(name).ok();
    // `listenfd` would also take those of a process that forgot to say for whom they are.
    if variable("LISTEN_PID").and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
        return Ok(Passed::default());
    }
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    let mut fds = ListenFd::from_env();
    let mut passed = Passed::default();
    for at in 0..fds.len() {
        let name = names.next().unwrap_or("unknown").to_owned();
        if let Ok(Some(socket)) = fds.take_unix_listener(at) {
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            passed.unix.push((name, address.as_pathname().map(Path::to_path_buf), socket));
            continue;
        }
        let socket = fds.take_tcp_listener(at).ok().flatten();
        let listens = |socket: &TcpListener| sockopt::socket_acceptconn(socket).unwrap_or(false);
        let Some(socket) = socket.filter(listens) else {
            bail!(
                "what the service manager passes as `{name}` is no socket that listens for \
                 streams\nhelp: the .socket unit needs ListenStream= and Accept=no"
            )
        };
        socket.set_nonblocking(true)?;
        listen::keep_alive(&socket)?;
        passed.tcp.push((name, socket.local_addr()?, socket));
    }
    Ok(passed)
}

/// The name under which the control socket may be passed.
const CONTROL: &str = "control";
/// What a file lets those do who are neither its owner nor in its group.
const FOR_OTHERS: u32 = 0o007;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Which wish each gets, and what is bound; the wishes are `mx` at two addresses, `sub` and
    /// `http` at one each.
    #[track_caller]
    fn check(passed: &[(&str, &str)], wants: Result<&[usize], &str>, bound: &[&str]) {
        let mx = [address("0.0.0.0:25"), address("[::]:25")];
        let (sub, http) = ([address("0.0.0.0:587")], [address("127.0.0.1:8025")]);
        let owner = |name: &str| Owner { key: name.to_owned(), name: name.to_owned() };
        let wishes = [
            Wish { owner: owner("mx"), addresses: &mx },
            Wish { owner: owner("sub"), addresses: &sub },
            Wish { owner: owner("http"), addresses: &http },
        ];
        let passed: Vec<_> = passed.iter().map(|(name, at)| (*name, address(at))).collect();
        match (assign(&passed, &wishes), wants) {
            (Ok(assigned), Ok(wants)) => {
                assert_eq!(assigned, wants, "{passed:?}");
                let left = unpassed(&passed, &assigned, &wishes);
                let left: Vec<String> = left.iter().map(|(_, at)| at.to_string()).collect();
                assert_eq!(left, bound, "{passed:?}");
            }
            (Err(why), Err(part)) => assert!(why.to_string().contains(part), "{why}"),
            (got, wants) => panic!("{got:?}, {wants:?}"),
        }
    }

    #[test]
    fn a_socket_goes_to_its_address_then_to_its_name_and_the_rest_is_bound() {
        let all = ["0.0.0.0:25", "[::]:25", "0.0.0.0:587", "127.0.0.1:8025"];
        check(&[], Ok(&[]), &all);
        check(&[("merpati.socket", "[::]:25")], Ok(&[0]), &[all[0], all[2], all[3]]);
        // The address says more than the name, which all sockets of a unit share.
        check(&[("mx", "0.0.0.0:587")], Ok(&[1]), &[all[0], all[1], all[3]]);
        // By name, the listener has the passed ones instead of its own.
        check(&[("mx", "192.0.2.1:25"), ("mx", "[::]:25")], Ok(&[0, 0]), &all[2..]);
        check(&[("http", "127.0.0.1:80")], Ok(&[2]), &all[..3]);
        check(
            &[("unknown", "127.0.0.1:2525")],
            Err("passes a socket at 127.0.0.1:2525 (`unknown`), and no listener asks for it"),
            &[],
        );
    }
}
