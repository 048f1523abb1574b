//! Whether mail can leave: port 25 of others, and the hosts that routes name.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use merpati_console::health::{Finding, Grade};
use merpati_mail::{
    Domain,
    question::{Addresses, MxAnswer},
    route::{Endpoint, HostPort},
};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    net::{TcpSocket, TcpStream, UnixStream},
    time::timeout,
};

use super::{Bench, source::Source, within};
use crate::config::next_hop::To;

/// After how long a host greeted, or why it did not.
type Tried = Result<Duration, NoGreeting>;

/// Why a host did not greet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NoGreeting {
    /// Nobody is there, in words.
    Gone(String),
    /// It said something else; its first line.
    Odd(String),
}

/// Whether mail servers elsewhere can be reached from each address that mail leaves from.
pub(super) async fn check_port(bench: Bench<'_>, sources: &[Source]) -> Vec<Finding> {
    if !bench.sends_by_mx() || bench.config.health.reach.is_empty() {
        return Vec::new();
    }
    let servers = join_all(bench.config.health.reach.iter().map(|domain| server(bench, domain)));
    let servers = servers.await;
    let (servers, wait) = (&servers, greeting_wait(bench));
    let looks = sources.iter().map(|source| async move {
        let of_family = servers.iter().filter_map(|(domain, addresses)| {
            let same = |it: &&IpAddr| it.is_ipv4() == source.address.is_ipv4();
            Some((domain, *addresses.iter().find(same)?))
        });
        let port = bench.config.delivery.port.get();
        let tries = of_family.map(|(domain, address)| async move {
            let to = SocketAddr::new(address, port);
            (format!("{to}, of {domain},"), greeting(to, source.bound(), wait).await)
        });
        judge_port(source, port, &join_all(tries).await)
    });
    join_all(looks).await
}

/// The addresses of the first mail server of a domain that has any.
async fn server(bench: Bench<'_>, domain: &Domain) -> (Domain, Vec<IpAddr>) {
    let addresses = match bench.resolver.mx(domain).await {
        MxAnswer::Hosts { hosts, .. } => hosts.into_iter().find_map(|host| match host.addresses {
            Addresses::Known(addresses) => Some(addresses),
            Addresses::Forbidden(_)
            | Addresses::None
            | Addresses::Ourselves
            | Addresses::Unknown => None,
        }),
        MxAnswer::NoHost | MxAnswer::NoSuchDomain | MxAnswer::NullMx | MxAnswer::Unknown { .. } => {
            None
        }
    };
    (domain.clone(), addresses.unwrap_or_default())
}

fn judge_port(source: &Source, port: u16, tries: &[(String, Tried)]) -> Finding {
    let finding =
        |grade, words: String| Finding::new("port-25", source.address.to_string(), grade, words);
    let greeted = tries.iter().find_map(|(host, tried)| {
        let after = tried.as_ref().ok()?;
        Some(format!("{host} greeted after {} ms", after.as_millis()))
    });
    if let Some(words) = greeted {
        return finding(Grade::Good, words);
    }
    let Some((host, Err(failure))) = tries.first() else {
        let words = "no mail server of health.reach has an address of this family that DNS tells";
        return finding(Grade::Unknown, words.to_owned());
    };
    match failure {
        NoGreeting::Odd(line) => {
            let words = format!("{host} said {line:?}: somebody in between, or a refusal");
            let fix = "ask your provider who answers in the place of others at this port";
            finding(Grade::Bad, words).fix(fix)
        }
        NoGreeting::Gone(why) if source.address.is_ipv6() => {
            let fix = "have IPv6 routed, or take the address out of [[egress]]: IPv4 is tried too";
            finding(Grade::Warning, format!("{host} cannot be reached: {why}")).fix(fix)
        }
        NoGreeting::Gone(why) => finding(Grade::Bad, format!("{host} cannot be reached: {why}"))
            .fix(format!(
                "many providers keep port {port} closed until they are asked to open it; else send \
                 through a smart host (route.to)"
            )),
    }
}

/// Whether the hosts that routes name are there.
pub(super) async fn check_next_hops(bench: Bench<'_>) -> Vec<Finding> {
    let mut named: Vec<(String, Hop)> = Vec::new();
    for route in &bench.config.routes {
        let hops: Vec<Hop> = match &route.to {
            To::Lmtp(Endpoint::Unix(path)) => vec![Hop::Unix(path.clone())],
            To::Lmtp(Endpoint::Tcp(host)) => vec![Hop::Tcp(host.clone(), true)],
            To::Smtp(hosts) => hosts.iter().map(|host| Hop::Tcp(host.clone(), true)).collect(),
            To::Smtps(hosts) => hosts.iter().map(|host| Hop::Tcp(host.clone(), false)).collect(),
            To::Mx | To::Refuse(_) => Vec::new(),
        };
        named.extend(hops.into_iter().map(|hop| (route.name.to_string(), hop)));
    }
    join_all(named.iter().map(|(route, hop)| {
        let about = format!("{hop}, of route {route}");
        within(bench, "next-hop", about.clone(), async move {
            judge_hop(about, &hop.reach(bench).await, hop.greets())
        })
    }))
    .await
}

/// A host that a route names.
enum Hop {
    /// One over TCP, and whether it greets in the clear.
    Tcp(HostPort, bool),
    /// One at this socket.
    Unix(String),
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, _) => host.fmt(f),
            Self::Unix(path) => path.fmt(f),
        }
    }
}

impl Hop {
    /// Whether it greets in the clear.
    const fn greets(&self) -> bool {
        match self {
            Self::Tcp(_, greets) => *greets,
            Self::Unix(_) => true,
        }
    }

    async fn reach(&self, bench: Bench<'_>) -> Tried {
        let (host, greets) = match self {
            Self::Unix(path) => {
                return greeted(UnixStream::connect(path), greeting_wait(bench)).await;
            }
            Self::Tcp(host, greets) => (host, *greets),
        };
        let found = bench.resolver.addresses(&host.host).await;
        let addresses = found.map_err(|why| NoGreeting::Gone(why.to_string()))?;
        let mut failed = NoGreeting::Gone("it has no address".to_owned());
        for address in addresses {
            let to = SocketAddr::new(address, host.port);
            let wait = greeting_wait(bench);
            let tried =
                if greets { greeting(to, None, wait).await } else { answers(to, wait).await };
            match tried {
                Ok(after) => return Ok(after),
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }
}

fn judge_hop(about: String, tried: &Tried, greets: bool) -> Finding {
    match tried {
        Ok(after) if !greets => {
            let ms = after.as_millis();
            let words = format!("it took a connection after {ms} ms; TLS with it was not tried");
            Finding::new("next-hop", about, Grade::Good, words)
        }
        Ok(after) => {
            let words = format!("it greeted after {} ms", after.as_millis());
            Finding::new("next-hop", about, Grade::Good, words)
        }
        Err(NoGreeting::Odd(line)) => {
            let words = format!("it said {line:?} in the place of a greeting");
            Finding::new("next-hop", about, Grade::Bad, words)
                .fix("see that route.to names an SMTP or LMTP server, and that it takes mail")
        }
        Err(NoGreeting::Gone(why)) => Finding::new("next-hop", about, Grade::Bad, why)
            .fix("start it, or correct route.to; mail for it waits meanwhile"),
    }
}

/// Whether somebody takes a connection.
async fn answers(to: SocketAddr, wait: Duration) -> Tried {
    let began = Instant::now();
    match timeout(wait, TcpStream::connect(to)).await {
        Ok(Ok(_)) => Ok(began.elapsed()),
        Ok(Err(why)) => Err(NoGreeting::Gone(why.to_string())),
        Err(_) => Err(NoGreeting::Gone(TOO_LONG.to_owned())),
    }
}

/// Whether a mail server greets there; it is told QUIT.
async fn greeting(to: SocketAddr, from: Option<SocketAddr>, wait: Duration) -> Tried {
    let connect = async {
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = from {
            socket.bind(from)?;
        }
        socket.connect(to).await
    };
    greeted(connect, wait).await
}

async fn greeted<S: AsyncRead + AsyncWrite + Unpin>(
    connect: impl Future<Output = io::Result<S>>,
    wait: Duration,
) -> Tried {
    let began = Instant::now();
    let said = async {
        let mut stream = BufReader::new(connect.await?);
        let mut line = Vec::new();
        let mut limited = (&mut stream).take(LINE_OCTETS_MAX);
        limited.read_until(b'\n', &mut line).await?;
        // It need not hear it.
        stream.write_all(b"QUIT\r\n").await.ok();
        stream.shutdown().await.ok();
        io::Result::Ok(line)
    };
    match timeout(wait, said).await {
        Ok(Ok(line)) if line.starts_with(b"220") => Ok(began.elapsed()),
        Ok(Ok(line)) => {
            let shown = String::from_utf8_lossy(&line);
            Err(NoGreeting::Odd(shown.trim_end().chars().take(SHOWN_CHARS).collect()))
        }
        Ok(Err(why)) => Err(NoGreeting::Gone(why.to_string())),
        Err(_) => Err(NoGreeting::Gone(TOO_LONG.to_owned())),
    }
}

/// How long a host may take to greet: less than the check may, so that it is told which did not.
fn greeting_wait(bench: Bench<'_>) -> Duration {
    bench.config.health.wait / 2
}

const TOO_LONG: &str = "it does not answer";
/// A line of a reply (RFC 5321 §4.5.3.1.5).
const LINE_OCTETS_MAX: u64 = 512;
const SHOWN_CHARS: usize = 80;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const WAIT: Duration = Duration::from_mins(1);

    /// What is found out about a server that says this.
    async fn tried(says: &'static [u8]) -> Tried {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(says).await.unwrap();
            let mut heard = String::new();
            stream.read_to_string(&mut heard).await.unwrap();
            heard
        };
        let (tried, heard) =
            tokio::join!(greeting(to, Some("127.0.0.1:0".parse().unwrap()), WAIT), server);
        assert_eq!(heard, "QUIT\r\n");
        tried
    }

    #[tokio::test]
    async fn a_server_is_one_that_greets() {
        assert!(tried(b"220 mx.example ESMTP\r\n").await.is_ok());
        assert!(tried(b"220-mx.example\r\n220 hello\r\n").await.is_ok());
        let odd = |line: &str| Err(NoGreeting::Odd(line.to_owned()));
        assert_eq!(tried(b"554 go away\r\n").await, odd("554 go away"));
        assert_eq!(tried(b"HTTP/1.1 400 Bad Request\r\n").await, odd("HTTP/1.1 400 Bad Request"));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(matches!(greeting(closed, None, WAIT).await, Err(NoGreeting::Gone(_))));
    }

    #[test]
    fn one_server_that_greets_is_enough() {
        let source = |address: &str| Source {
            egress: "default".to_owned(),
            address: address.parse().unwrap(),
            hello: Domain::parse("mx.ours.example").unwrap(),
            is_named: true,
        };
        let good = || ("a".to_owned(), Ok(Duration::from_millis(20)));
        let gone = || ("b".to_owned(), Err(NoGreeting::Gone("timed out".to_owned())));
        let odd = || ("c".to_owned(), Err(NoGreeting::Odd("554 no".to_owned())));
        for (address, tries, want) in [
            ("192.0.2.1", vec![gone(), good()], Grade::Good),
            ("192.0.2.1", vec![gone(), odd()], Grade::Bad),
            ("192.0.2.1", vec![odd()], Grade::Bad),
            ("192.0.2.1", vec![], Grade::Unknown),
            ("2001:db8::1", vec![gone()], Grade::Warning),
        ] {
            let finding = judge_port(&source(address), 25, &tries);
            assert_eq!(finding.grade, want, "{finding:?}");
            assert_eq!(finding.fix.is_some(), want >= Grade::Warning, "{finding:?}");
        }
    }
}
