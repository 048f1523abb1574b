//! Who is connected just now, both ways, and what each does: for `merpati sessions` and `tap`.
//!
//! Invariant: an entry goes with its connection, also where a task panics; what a session does is
//! noted without waiting for anybody. Where nobody taps, a tap costs one look at a number. Not
//! pure: shared by all tasks.

mod redactor;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use merpati_console::sessions::{Direction, SessionFacts, TapLine};
use merpati_mail::{QueueId, Time};
use tokio::sync::broadcast;

pub use self::redactor::{client_line, lines, server_line};

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Entry>>>,
    taps: broadcast::Sender<TapLine>,
}

/// One session, for as long as it is held.
#[derive(Debug)]
pub struct Session {
    all: Arc<Sessions>,
    number: u64,
    entry: Arc<Entry>,
}

#[derive(Debug)]
struct Entry {
    direction: Direction,
    began: Time,
    doing: AtomicU8,
    /// Since when, in microseconds.
    since: AtomicU64,
    messages: AtomicU64,
    about: Mutex<About>,
}

/// With whom, and about what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The listener of a client, the route to a host.
    pub name: String,
    /// The other end.
    pub peer: Option<SocketAddr>,
    /// What a client calls itself, the name of a host; empty where that is not known.
    pub host: String,
    /// Which credential a client has shown; `None` where it has shown none.
    pub credential: Option<String>,
    /// The message that is handed over; `None` where none is, or it has no name yet.
    pub message: Option<QueueId>,
}

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Doing {
    /// A message becomes durable.
    Commits = 0,
    /// A connection is made.
    Connects,
    /// What the client wants is decided.
    Decides,
    /// A TLS handshake goes on.
    Handshakes,
    /// Nothing: it is kept for the next message.
    Idles,
    /// Commands and replies go to and fro; for a client: its next command is awaited.
    Talks,
    /// Content is on its way.
    Transfers,
}

impl Doing {
    const ALL: [Self; 7] = [
        Self::Commits,
        Self::Connects,
        Self::Decides,
        Self::Handshakes,
        Self::Idles,
        Self::Talks,
        Self::Transfers,
    ];

    /// In words.
    const fn word(self) -> &'static str {
        match self {
            Self::Commits => "commits a message",
            Self::Connects => "connects",
            Self::Decides => "decides about a command",
            Self::Handshakes => "TLS handshake",
            Self::Idles => "waits for a message",
            Self::Talks => "commands",
            Self::Transfers => "content",
        }
    }

    fn of(number: u8) -> &'static str {
        let found = Self::ALL.into_iter().find(|doing| *doing as u8 == number);
        found.map_or("", Self::word)
    }
}

impl Default for Sessions {
    fn default() -> Self {
        let (taps, _) = broadcast::channel(TAPPED_MAX);
        Self { next: AtomicU64::new(1), open: Mutex::default(), taps }
    }
}

impl Sessions {
    /// Takes note of a session that begins.
    pub fn begin(
        self: &Arc<Self>,
        now: Time,
        direction: Direction,
        doing: Doing,
        about: About,
    ) -> Session {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            direction,
            began: now,
            doing: AtomicU8::new(doing as u8),
            since: AtomicU64::new(now.as_micros()),
            messages: AtomicU64::new(0),
            about: Mutex::new(about),
        });
        self.lock().insert(number, Arc::clone(&entry));
        Session { all: Arc::clone(self), number, entry }
    }

    /// All that are open, the oldest first.
    pub fn facts(&self, now: Time) -> Vec<SessionFacts> {
        let open: Vec<(u64, Arc<Entry>)> =
            self.lock().iter().map(|(number, entry)| (*number, Arc::clone(entry))).collect();
        open.into_iter().map(|(number, entry)| entry.facts(number, now)).collect()
    }

    /// What is said from now on, in all sessions.
    pub fn tap(&self) -> broadcast::Receiver<TapLine> {
        self.taps.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Entry>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// What it does from now on.
    pub fn does(&self, now: Time, doing: Doing) {
        if self.entry.doing.swap(doing as u8, Ordering::Relaxed) != doing as u8 {
            self.entry.since.store(now.as_micros(), Ordering::Relaxed);
        }
    }

    /// One more message was handed over.
    pub fn took(&self) {
        self.entry.messages.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes what is known of it.
    pub fn learns(&self, change: impl FnOnce(&mut About)) {
        change(&mut self.entry.about.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether somebody wants to know what is said.
    pub fn is_tapped(&self) -> bool {
        self.all.taps.receiver_count() > 0
    }

    /// Tells those who tap what is said; `lines` are without their ends.
    pub fn tell(&self, now: Time, from_client: bool, lines: Vec<String>) {
        let about = self.entry.about();
        for line in lines {
            let told = TapLine {
                at: now,
                session: self.number,
                direction: self.entry.direction,
                name: about.name.clone(),
                peer: about.peer,
                host: about.host.clone(),
                from_client,
                line,
            };
            // Who has gone meanwhile need not know.
            self.all.taps.send(told).ok();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.all.lock().remove(&self.number);
    }
}

impl Entry {
    fn about(&self) -> About {
        self.about.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn facts(&self, number: u64, now: Time) -> SessionFacts {
        let About { name, peer, host, credential, message } = self.about();
        SessionFacts {
            number,
            direction: self.direction,
            name,
            peer,
            host,
            credential,
            message,
            lasted: now.since(self.began),
            doing: Doing::of(self.doing.load(Ordering::Relaxed)).to_owned(),
            doing_for: now.since(Time::from_micros(self.since.load(Ordering::Relaxed))),
            messages: self.messages.load(Ordering::Relaxed),
        }
    }
}

/// Lines that wait for a slow tap; more are lost for it.
const TAPPED_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_told_as_long_as_it_lasts() {
        let all = Arc::new(Sessions::default());
        let at = |seconds: u64| Time::from_secs(1_000 + seconds);
        let about = About { name: "mx".to_owned(), ..About::default() };
        let session = all.begin(at(0), Direction::In, Doing::Talks, about);
        session.does(at(2), Doing::Transfers);
        session.does(at(3), Doing::Transfers);
        session.took();
        session.learns(|about| about.host = "client.example".to_owned());
        let facts = all.facts(at(5)).remove(0);
        assert_eq!((facts.name.as_str(), facts.host.as_str()), ("mx", "client.example"));
        assert_eq!((facts.lasted.as_secs(), facts.doing_for.as_secs()), (5, 3));
        assert_eq!((facts.doing.as_str(), facts.messages), ("content", 1));
        drop(session);
        assert!(all.facts(at(6)).is_empty());
    }

    #[test]
    fn who_taps_hears_what_is_said_and_who_does_not_costs_nothing() {
        let all = Arc::new(Sessions::default());
        let session = all.begin(Time::EPOCH, Direction::Out, Doing::Talks, About::default());
        assert!(!session.is_tapped());
        let mut tap = all.tap();
        assert!(session.is_tapped());
        session.tell(Time::EPOCH, true, vec!["NOOP".to_owned()]);
        let heard = tap.try_recv().unwrap();
        assert_eq!((heard.line.as_str(), heard.from_client), ("NOOP", true));
        drop(tap);
        assert!(!session.is_tapped());
    }
}
