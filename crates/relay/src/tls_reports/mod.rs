//! Reports of TLS (TLSRPT, RFC 8460): what others tell of sessions with us, and what we tell them.
//!
//! Invariant: what is counted in a day is told once to each place that the domain names, after the
//! day's end; a crash in between may tell it twice, and costs at most the counts of the last
//! minute. Not pure: it waits, asks name servers, and writes files.
//!
//! `tally` counts, `files` keeps, `send` makes reports and sends them as [`Report`]s, by `mail` and
//! `post`; [`open`] takes those of others apart.

mod files;
mod mail;
mod open;
mod post;
mod report;
mod send;
mod tally;

use std::{
    hash::RandomState,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use merpati_mail::{Domain, Mailbox, Time};
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use self::{files::Files, tally::Day};
pub use self::{
    open::{open, pack},
    report::{Detail, PolicyReport, Report},
    tally::{Failed, ResultType, Seen, SeenPolicy, Tally},
};
use crate::{
    clock::Clock,
    config::{Config, TlsReports},
    drop_box,
    resolve::Resolver,
    tls::{self, Trust},
    web_client::Https,
};

/// What the reports are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// From whom reports are sent; `None`: nothing is counted, and none is sent.
    pub from: Option<Mailbox>,
    /// Who we are, in words.
    pub organization: String,
    /// Whom to ask about a report.
    pub contact: String,
    /// Our name.
    pub hostname: Domain,
    /// How long what was counted is kept once it was told.
    pub keep: Duration,
    /// How long a look at a record, or a POST, may take. Default 30 s.
    pub wait: Duration,
}

impl Options {
    /// As the configuration has it.
    pub fn of(config: &Config) -> Self {
        let TlsReports { from, organization, contact, keep } = config.tls_reports.clone();
        let hostname = config.server.hostname.clone();
        let own = from.as_ref().map(ToString::to_string).unwrap_or_default();
        Self {
            from,
            organization: organization.unwrap_or_else(|| hostname.to_string()),
            contact: contact.unwrap_or(own),
            hostname,
            keep,
            wait: Duration::from_secs(30),
        }
    }
}

/// Where reports keep what they keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// What was counted, and what waits to be sent; made where it is not.
    pub directory: PathBuf,
    /// The directory from which the relay collects mail.
    pub drop: PathBuf,
}

impl Places {
    /// Those of the data directory.
    pub fn of(config: &Config) -> Self {
        let data = &config.server.data_dir;
        Self { directory: data.join("tls-reports"), drop: data.join(drop_box::DIRECTORY) }
    }
}

/// Counts sessions, and tells of them. Clones are the same.
#[derive(Clone)]
pub struct Reports(Arc<Shared>);

struct Shared {
    /// Draws how long after a day's end its reports go.
    chance: RandomState,
    drop: PathBuf,
    files: Files,
    https: Https,
    options: Mutex<Options>,
    resolver: Resolver,
    tally: Tally,
    /// One turn at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Reports {
    /// Goes on from what was counted before, and begins to send what is due. Must run within a
    /// tokio runtime; reads files. Errs where the directory cannot be made.
    pub fn new(
        places: Places,
        options: Options,
        resolver: Resolver,
        clock: Arc<Clock>,
    ) -> anyhow::Result<Self> {
        let Places { directory, drop } = places;
        let files = Files::open(directory)?;
        let tally = Tally::new(options.from.is_some());
        for day in files.open_days() {
            tally.put(day, files.read(day));
        }
        // A host whose certificate is wrong is to hear of that (RFC 8460 §3: it may be ignored).
        let https = Https::new(resolver.clone(), tls::connector(Trust::Any, None)?);
        let shared = Arc::new(Shared {
            chance: RandomState::new(),
            drop,
            files,
            https,
            options: Mutex::new(options),
            resolver,
            tally,
            turn: tokio::sync::Mutex::new(()),
        });
        begin(&shared, clock);
        Ok(Self(shared))
    }

    /// Where sessions are counted.
    pub fn tally(&self) -> Tally {
        self.0.tally.clone()
    }

    /// From now on it is like this.
    pub fn configure(&self, options: Options) {
        self.0.tally.switch(options.from.is_some());
        *self.0.options() = options;
    }

    /// Writes what was counted, so that a stop costs nothing.
    pub async fn keep(&self) {
        let _turn = self.0.turn.lock().await;
        self.0.keep().await;
    }

    /// Does what is due at this time. A task does that every minute.
    pub async fn turn(&self, now: Time) {
        self.0.turn(now).await;
    }
}

impl Shared {
    fn options(&self) -> MutexGuard<'_, Options> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(self: &Arc<Self>, now: Time) {
        let _turn = self.turn.lock().await;
        self.keep().await;
        let options = self.options().clone();
        if let Some(from) = &options.from {
            send::turn(self, &options, from, now).await;
        }
        let keep_days = options.keep.as_secs() / 86_400;
        let oldest = Day(Day::of(now).0.saturating_sub(keep_days));
        let files = self.files.clone();
        spawn_blocking(move || files.forget_before(oldest)).await.ok();
    }

    /// Writes what was counted since the last turn.
    async fn keep(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        let writing = spawn_blocking(move || {
            for (day, domains) in shared.tally.changed() {
                if let Err(why) = shared.files.keep(day, &domains) {
                    tracing::warn!(%day, %why, "what was counted of TLS is not on disk");
                    shared.tally.unkept(day);
                }
            }
        });
        writing.await.ok();
    }
}

fn begin(shared: &Arc<Shared>, clock: Arc<Clock>) {
    let shared = Arc::downgrade(shared);
    tokio::spawn(async move {
        let mut turns = interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            let Some(shared) = Weak::upgrade(&shared) else { return };
            shared.turn(clock.now()).await;
        }
    });
}

/// How often it is looked what is due.
const TURN: Duration = Duration::from_mins(1);
