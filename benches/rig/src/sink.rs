//! The receiver: takes everything at once, or with the faults that it is asked for.
//!
//! Invariant: what it acknowledges is written down first, so a sink that is killed never
//! acknowledged what it forgot. A bounce (null reverse-path) is never refused or cut, so that
//! every failure can be told.

mod session;
mod tally;

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use self::{session::Session, tally::Tally};
use crate::{draw::Draw, message::unstuffed, tls};

/// Where to listen, and which faults to have.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// An address; port 0 is a free one; may be repeated.
    #[arg(long, required = true, value_name = "HOST:PORT")]
    pub listen: Vec<String>,
    /// Waits so long before each reply.
    #[arg(long, default_value_t = 0, value_name = "MILLISECONDS")]
    pub latency_ms: u64,
    /// Answers 4yz there in so many of 100 cases; may be repeated.
    #[arg(long, value_name = "mail|rcpt|data|end=PERCENT")]
    pub defer: Vec<Chance<Stage>>,
    /// Answers 5yz there in so many of 100 cases; may be repeated.
    #[arg(long, value_name = "mail|rcpt|data|end=PERCENT")]
    pub fail: Vec<Chance<Stage>>,
    /// Cuts the connection in the content, before or after the reply to its end; may be repeated.
    #[arg(long, value_name = "content|before|after=PERCENT")]
    pub cut: Vec<Chance<Cut>>,
    /// Answers 421 to further connections.
    #[arg(long, value_name = "COUNT")]
    pub max_conns: Option<u64>,
    /// Offers STARTTLS, with a certificate made for this run unless there is one.
    #[arg(long)]
    pub starttls: bool,
    /// A certificate in PEM.
    #[arg(long, requires = "key", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Its key in PEM.
    #[arg(long, requires = "cert", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Does not offer PIPELINING.
    #[arg(long)]
    pub no_pipelining: bool,
    /// Where to write down each delivery, behind what is there.
    #[arg(long, value_name = "FILE")]
    pub ids: Option<PathBuf>,
    /// Where to write down each failure that a bounce tells of, behind what is there.
    #[arg(long, value_name = "FILE")]
    pub bounced: Option<PathBuf>,
    /// Counts the messages in whose header this stands; may be repeated.
    #[arg(long, value_name = "TEXT")]
    pub header: Vec<String>,
    /// Where to write the last message at the end, without stuffed dots.
    #[arg(long, value_name = "FILE")]
    pub keep: Option<PathBuf>,
    /// Where to write the figures, several times a second while they change, and at the end.
    #[arg(long, value_name = "FILE")]
    pub stats: Option<PathBuf>,
    /// Decides which cases are refused and cut.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
}

/// Where a transaction is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// In the reply to DATA.
    Data,
    /// In the reply to the end of data.
    End,
    /// In the reply to MAIL.
    Mail,
    /// In the reply to RCPT.
    Rcpt,
}

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// After the reply to the end of data.
    After,
    /// Taken and written down, but cut before the reply: the relay has to try again.
    Before,
    /// In the middle of the content.
    Content,
}

/// How often something happens somewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance<T> {
    /// Where.
    pub at: T,
    /// In so many of 100 cases.
    pub percent: f64,
}

impl FromStr for Chance<Stage> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = [
            ("data", Stage::Data),
            ("end", Stage::End),
            ("mail", Stage::Mail),
            ("rcpt", Stage::Rcpt),
        ];
        parse_chance(text, &names)
    }
}

impl FromStr for Chance<Cut> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = [("after", Cut::After), ("before", Cut::Before), ("content", Cut::Content)];
        parse_chance(text, &names)
    }
}

fn parse_chance<T: Copy>(text: &str, names: &[(&str, T)]) -> Result<Chance<T>, String> {
    let (name, percent) = text.split_once('=').ok_or("wanted: NAME=PERCENT")?;
    let (_, at) = names
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| names.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", "))?;
    let percent = percent.parse().map_err(|_| "the percentage is no number".to_owned())?;
    if !(0.0..=100.0).contains(&percent) {
        return Err("a percentage is from 0 to 100".to_owned());
    }
    Ok(Chance { at: *at, percent })
}

/// A sink that listens and does not accept yet.
pub struct Sink {
    listeners: Vec<TcpListener>,
    shared: Arc<Shared>,
}

impl Sink {
    /// Opens ports and files.
    pub async fn bind(options: Options) -> Result<Self> {
        let acceptor = match (&options.cert, &options.key) {
            (Some(cert), Some(key)) => Some(tls::from_files(cert, key)?),
            _ if options.starttls => Some(tls::self_made()?),
            _ => None,
        };
        let mut listeners = Vec::new();
        for address in &options.listen {
            listeners.push(TcpListener::bind(address).await.with_context(|| address.clone())?);
        }
        let tally = Tally::open(options.ids.as_deref(), options.bounced.as_deref())?
            .looks_for(options.header.clone());
        let draw = Mutex::new(Draw::new(options.seed));
        let tally = Mutex::new(tally);
        Ok(Self { listeners, shared: Arc::new(Shared { options, acceptor, tally, draw }) })
    }

    /// Where it listens, in the order of the options.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>> {
        self.listeners.iter().map(|listener| Ok(listener.local_addr()?)).collect()
    }

    /// Takes messages until `stop` becomes true, then tells.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<Value> {
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(accept(listener, self.shared.clone()));
        }
        let mut told = Value::Null;
        while timeout(STATS_PAUSE, stop.wait_for(|stopped| *stopped)).await.is_err() {
            told = self.shared.tells(&told)?;
        }
        // The listeners own their sessions, so all end together.
        accepting.shutdown().await;
        if let Some(path) = &self.shared.options.keep {
            let content = self.shared.with_tally(|tally| unstuffed(&tally.newest));
            fs::write(path, content).with_context(|| path.display().to_string())?;
        }
        self.shared.tells(&told)
    }
}

/// Accepts for ever.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => { sessions.spawn(one(socket, shared.clone())); }
                // No descriptor is left, or the peer is gone already: others are served.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}

async fn one(socket: TcpStream, shared: Arc<Shared>) {
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let most = shared.options.max_conns.unwrap_or(u64::MAX);
    let is_admitted = shared.with_tally(|tally| tally.arrives(most));
    let messages = Session::new(socket, shared.clone()).run(is_admitted).await;
    if is_admitted {
        shared.with_tally(|tally| tally.leaves(messages));
    }
}

/// What all sessions share.
struct Shared {
    options: Options,
    acceptor: Option<TlsAcceptor>,
    tally: Mutex<Tally>,
    draw: Mutex<Draw>,
}

impl Shared {
    fn with_tally<T>(&self, look: impl FnOnce(&mut Tally) -> T) -> T {
        look(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The figures, written to their file if they are others than `before`.
    fn tells(&self, before: &Value) -> Result<Value> {
        let figures = self.with_tally(|tally| tally.to_json());
        if let Some(path) = self.options.stats.as_deref().filter(|_| figures != *before) {
            let write = || {
                // A reader sees all of them or the ones before.
                let new = path.with_extension("new");
                fs::write(&new, format!("{figures}\n"))?;
                fs::rename(&new, path)
            };
            write().with_context(|| path.display().to_string())?;
        }
        Ok(figures)
    }

    /// Whether it happens this time.
    fn draws<T: PartialEq>(&self, chances: &[Chance<T>], at: &T) -> bool {
        chances.iter().filter(|chance| chance.at == *at).any(|chance| {
            self.draw.lock().unwrap_or_else(PoisonError::into_inner).percent(chance.percent)
        })
    }
}

/// Between two looks at the figures.
const STATS_PAUSE: Duration = Duration::from_millis(100);

/// After an error of accept(2).
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_is_a_known_place_and_a_percentage() {
        for (text, want) in [
            ("rcpt=20", Some((Stage::Rcpt, 20.0))),
            ("end=0.5", Some((Stage::End, 0.5))),
            ("end", None),
            ("quit=1", None),
            ("end=101", None),
            ("end=-1", None),
            ("end=NaN", None),
        ] {
            let found =
                text.parse::<Chance<Stage>>().ok().map(|chance| (chance.at, chance.percent));
            assert_eq!(found, want, "{text}");
        }
        assert!("before=3".parse::<Chance<Cut>>().is_ok());
    }
}
