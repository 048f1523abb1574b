//! The generator: sessions that send messages as fast as they are acknowledged.
//!
//! Invariant: a message counts as acknowledged only by a 2yz to its end of data, and every message
//! whose end of data may have arrived is written down, with or without a reply. What is refused or
//! lost is not sent again: the next message has a new id.

mod connection;
mod ledger;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::TlsConnector;

use self::{
    connection::{Connection, Trouble},
    ledger::Ledger,
};
use crate::{message::Template, tls};

/// What to send where.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The relay.
    #[arg(long, value_name = "HOST:PORT")]
    pub to: String,
    /// How many messages are tried in all; without it, until the time limit or a signal.
    #[arg(long, value_name = "COUNT")]
    pub messages: Option<u64>,
    /// Octets of each message, header included.
    #[arg(long, default_value_t = 10_240, value_name = "OCTETS")]
    pub size: usize,
    /// A message to send instead of one that is made in this size; its lines end with CRLF.
    #[arg(long, value_name = "FILE")]
    pub content: Option<PathBuf>,
    /// Connections at the same time.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub sessions: u64,
    /// Messages after which a connection is closed and another one opened; without it, never.
    #[arg(long, value_name = "COUNT")]
    pub per_session: Option<u64>,
    /// Recipients of each message.
    #[arg(long = "rcpts", default_value_t = 1, value_name = "COUNT")]
    pub recipients: u32,
    /// Sends MAIL, RCPT and DATA together, if the relay offers PIPELINING (RFC 2920).
    #[arg(long)]
    pub pipelining: bool,
    /// Goes on under TLS; the relay's certificate is not looked at.
    #[arg(long)]
    pub starttls: bool,
    /// Where to write down each message.
    #[arg(long, value_name = "FILE")]
    pub ids: Option<PathBuf>,
    /// How each id begins; two loads for one sink need two of them.
    #[arg(long, default_value = "load", value_name = "TEXT")]
    pub prefix: String,
    /// Ends after this time, as with a signal.
    #[arg(long, value_name = "SECONDS")]
    pub time_limit: Option<u64>,
    /// No more messages per second than this in all.
    #[arg(long, value_name = "COUNT")]
    pub per_second: Option<u32>,
    /// Opens a new connection after a refusal or a loss, instead of ending the session.
    #[arg(long)]
    pub retry_connect: bool,
}

/// Sends until all messages are tried, the time is over or `stop` becomes true; then tells.
///
/// Errs if the file of ids cannot be written, or the given content not be sent.
pub async fn run(options: Options, mut stop: watch::Receiver<bool>) -> Result<Value> {
    let connector = if options.starttls { Some(tls::credulous()?) } else { None };
    let ledger = Ledger::new(options.ids.as_deref(), options.recipients)?;
    let (ends, end) = watch::channel(false);
    let load = Arc::new(Load {
        template: template(&options)?,
        connector,
        ledger,
        began: Instant::now(),
        tickets: AtomicU64::new(0),
        end,
        options,
    });
    let mut sessions = JoinSet::new();
    for _ in 0..load.options.sessions {
        sessions.spawn(session(load.clone()));
    }
    let limit = load.options.time_limit.map_or(FOREVER, Duration::from_secs);
    tokio::select! {
        () = all(&mut sessions) => {}
        _ = stop.wait_for(|stopped| *stopped) => {}
        () = sleep(limit) => {}
    }
    ends.send_replace(true);
    // What is on its way may still be acknowledged; then it is left open.
    let _ = timeout(GRACE, all(&mut sessions)).await;
    sessions.shutdown().await;
    load.ledger.finish()
}

fn template(options: &Options) -> Result<Template> {
    let Some(path) = &options.content else {
        return Ok(Template::new(&options.prefix, options.size));
    };
    let content = fs::read(path).with_context(|| path.display().to_string())?;
    Template::of_content(&options.prefix, &content)
        .with_context(|| format!("{} does not end with CRLF", path.display()))
}

async fn all(sessions: &mut JoinSet<()>) {
    while sessions.join_next().await.is_some() {}
}

/// What all sessions share.
struct Load {
    options: Options,
    template: Template,
    connector: Option<TlsConnector>,
    ledger: Ledger,
    began: Instant,
    /// Messages begun.
    tickets: AtomicU64,
    end: watch::Receiver<bool>,
}

impl Load {
    fn is_over(&self) -> bool {
        let begun = self.tickets.load(Ordering::Relaxed);
        *self.end.borrow() || self.options.messages.is_some_and(|most| begun >= most)
    }

    /// The number of the next message, when it is time for it.
    async fn ticket(&self) -> Option<u64> {
        let number = self.tickets.fetch_add(1, Ordering::Relaxed);
        if self.options.messages.is_some_and(|most| number >= most) {
            return None;
        }
        if let Some(rate) = self.options.per_second {
            let after = f64::from(u32::try_from(number).unwrap_or(u32::MAX)) / f64::from(rate);
            self.pause(sleep_until(self.began + Duration::from_secs_f64(after))).await;
        }
        (!*self.end.borrow()).then_some(number)
    }

    /// Waits, but not beyond the end.
    async fn pause(&self, wait: impl Future<Output = ()>) {
        let mut end = self.end.clone();
        tokio::select! {
            () = wait => {}
            _ = end.wait_for(|ended| *ended) => {}
        }
    }
}

/// One connection after another, until there is nothing more to send.
async fn session(load: Arc<Load>) {
    while !load.is_over() {
        let Err(trouble) = connection(&load).await else { continue };
        load.ledger.trouble(&trouble);
        if !load.options.retry_connect {
            return;
        }
        load.pause(sleep(RETRY_WAIT)).await;
    }
}

/// One connection, to its last message.
async fn connection(load: &Load) -> Result<(), Trouble> {
    load.ledger.connects();
    let mut connection = Connection::open(&load.options, load.connector.as_ref()).await?;
    for _ in 0..load.options.per_session.unwrap_or(u64::MAX) {
        let Some(number) = load.ticket().await else { break };
        let id = load.template.id(number);
        let sent = connection.transact(load, &id).await;
        if let Err(Trouble::Refused(_)) = &sent {
            load.ledger.refused(&id);
        }
        sent?;
    }
    connection.quit().await;
    Ok(())
}

/// Between the loss of a connection and the next try.
const RETRY_WAIT: Duration = Duration::from_millis(20);

/// For messages on their way at the end.
const GRACE: Duration = Duration::from_secs(10);

/// Without a time limit: longer than any trial.
const FOREVER: Duration = Duration::from_hours(24 * 365);
