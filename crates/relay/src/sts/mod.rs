//! Which policies of others are in force: MTA-STS, for mail that we send (RFC 8461).
//!
//! Invariant: a policy that was fetched once stays in force until it expires, whatever the DNS or
//! the host of the policy says or does not say (§10.2), over restarts too; only a newer policy
//! takes its place. For one domain at most one look is under way, and it goes on when they lose
//! interest who asked. Not pure: asks name servers and hosts, and writes files.
//!
//! `fetch` brings a policy from its host; `store` keeps it on disk; `state` says what is known.

mod fetch;
mod state;
mod store;
mod upkeep;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use merpati_auth::{
    dns::{Answer, Question},
    sts::{self, Mode, Policy, Record},
};
use merpati_mail::{Domain, Time};
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

pub use self::fetch::{FetchTrouble, TroubleKind};
use self::{
    fetch::Fetcher,
    state::{Boarded, Landing, Looked, State},
    store::Store,
};
use crate::{clock::Clock, resolve::Resolver};

/// What the cache of policies is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where policies are kept over a restart; made where it is not.
    pub directory: PathBuf,
    /// The port of the hosts that have policies: 443.
    pub port: u16,
    /// A PEM file with the CAs that are believed; `None`: those of this machine.
    pub roots: Option<PathBuf>,
    /// How long a look at the record may take, and how long a fetch. Default 10 s; RFC 8461 §3.3
    /// suggests at most a minute.
    pub fetch_wait: Duration,
}

impl Options {
    /// The defaults, with policies kept in this directory.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, port: 443, roots: None, fetch_wait: Duration::from_secs(10) }
    }
}

/// The policies of others. Clones share what is known.
#[derive(Clone)]
pub struct Policies(Arc<Shared>);

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies").finish_non_exhaustive()
    }
}

struct Shared {
    clock: Arc<Clock>,
    fetcher: Fetcher,
    /// Fetches at once, whoever wants them.
    fetches: Semaphore,
    resolver: Resolver,
    state: Mutex<State>,
    store: Store,
    wait: Duration,
}

/// What is in force for mail to a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This policy, whose mode is `enforce` or `testing`.
    Kept(Arc<Kept>),
    /// No policy: mail goes as if there were no MTA-STS.
    None {
        /// Why the policy that the domain has could not be fetched; none is kept from before.
        /// `None` where the domain has no policy, or takes it back.
        why_no_policy: Option<FetchTrouble>,
    },
}

impl Standing {
    /// No policy at all.
    const NOTHING: Self = Self::None { why_no_policy: None };

    /// Why the policy that the domain has is not known; `None` where it is, or there is none.
    pub fn trouble(&self) -> Option<&FetchTrouble> {
        match self {
            Self::Kept(_) => None,
            Self::None { why_no_policy } => why_no_policy.as_ref(),
        }
    }

    /// The policy in force.
    pub fn kept(&self) -> Option<&Arc<Kept>> {
        match self {
            Self::Kept(kept) => Some(kept),
            Self::None { .. } => None,
        }
    }
}

/// A policy that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whose it is.
    pub domain: Domain,
    /// The id that the record had when the policy was fetched.
    pub id: String,
    /// It.
    pub policy: Policy,
    /// When it was fetched last.
    pub fetched_at: Time,
    /// From when on it is good no more: `max_age` after that, and at least a minute, for which a
    /// look answers for others.
    pub expires_at: Time,
    /// Why it could not be looked at again last time; `None` where that went well.
    pub trouble: Option<String>,
}

impl Kept {
    fn new(domain: Domain, id: String, policy: Policy, fetched_at: Time) -> Self {
        let expires_at = fetched_at + policy.max_age.max(state::LOOK_KEPT);
        Self { domain, id, policy, fetched_at, expires_at, trouble: None }
    }
}

/// What the DNS says at `_mta-sts.DOMAIN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordSeen {
    /// A record with this id.
    Id(String),
    /// No record, or none that is well-formed, or more than one.
    None,
    /// It could not be found out.
    Unknown,
}

/// Everything that is known of a domain, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What the DNS says now.
    pub record: RecordSeen,
    /// The policy that is kept, also where its mode is `none`.
    pub kept: Option<Arc<Kept>>,
    /// What that means for mail.
    pub standing: Standing,
}

impl Policies {
    /// Reads what is kept, and begins to keep it fresh. Must run within a tokio runtime; reads
    /// files. Errs where the directory or the CAs cannot be read.
    pub fn new(options: Options, resolver: Resolver, clock: Arc<Clock>) -> anyhow::Result<Self> {
        let Options { directory, port, roots, fetch_wait } = options;
        let now = clock.now();
        let (store, kept) = Store::open(directory, now, state::POLICIES_MAX)?;
        let fetcher = Fetcher::new(resolver.clone(), roots.as_ref(), port, fetch_wait)?;
        let shared = Arc::new(Shared {
            clock,
            fetcher,
            fetches: Semaphore::new(FETCHES_MAX),
            resolver,
            state: Mutex::new(State::new(kept, now)),
            store,
            wait: fetch_wait,
        });
        upkeep::begin(&shared);
        Ok(Self(shared))
    }

    /// What is in force for mail to this domain. Waits for the DNS and the fetch, twice
    /// `fetch_wait` at most; what was looked at within the last minute is not looked at again.
    pub async fn of(&self, domain: &Domain) -> Standing {
        self.0.look(domain, Reason::Mail).await
    }

    /// The same, after a host failed the policy that is kept: a newer one may say otherwise, and
    /// is to be looked for before mail fails (§5.1). At most once a minute for a domain.
    pub async fn renew(&self, domain: &Domain) -> Standing {
        self.0.look(domain, Reason::Refresh).await
    }

    /// Everything that is known of this domain; looks where it is not known.
    pub async fn explain(&self, domain: &Domain) -> Explanation {
        let standing = self.of(domain).await;
        let record = self.0.record(domain).await;
        let kept = self.0.state().kept(domain, self.0.clock.now());
        Explanation { record, kept, standing }
    }

    /// Looks again at those that are due, and lets those go that have expired. A task does that
    /// every ten minutes.
    pub async fn keep_fresh(&self) {
        upkeep::keep_fresh(&self.0).await;
    }
}

/// Where policies are kept, in the data directory.
pub const DIRECTORY: &str = "mta-sts";

/// Why somebody looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// There is mail: what is kept is good while the record names it.
    Mail,
    /// What is kept is to be fetched again, whatever the record says.
    Refresh,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half-done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(self: &Arc<Self>, domain: &Domain, reason: Reason) -> Standing {
        if domain.as_name().is_none() {
            return Standing::NOTHING;
        }
        // Who wants a fetch may find a look under way that makes none; after that he begins one.
        let standing = self.join(domain, reason).await;
        match (reason, standing) {
            (Reason::Mail | Reason::Refresh, Joined { standing, is_as_wanted: true }) => standing,
            (_, Joined { is_as_wanted: false, .. }) => self.join(domain, reason).await.standing,
        }
    }

    async fn join(self: &Arc<Self>, domain: &Domain, reason: Reason) -> Joined {
        let boarded = self.state().board(domain, reason, self.clock.now());
        let (mut answer, is_as_wanted) = match boarded {
            Boarded::Known(standing) => return Joined { standing, is_as_wanted: true },
            Boarded::Waiting { answer, is_as_wanted } => (answer, is_as_wanted),
            Boarded::First { promise, answer } => {
                self.begin(domain.clone(), reason, promise);
                (answer, true)
            }
        };
        // An error means that the look ended without an answer, which is a panic in it: what is
        // kept stays in force then.
        let standing = answer.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        let now = self.clock.now();
        let standing = standing.unwrap_or_else(|| self.state().standing(domain, now));
        Joined { standing, is_as_wanted }
    }

    fn begin(
        self: &Arc<Self>,
        domain: Domain,
        reason: Reason,
        promise: watch::Sender<Option<Standing>>,
    ) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let landing = Landing { shared: Arc::clone(&shared), domain: domain.clone() };
            let looked = shared.find_out(&domain, reason).await;
            let standing = shared.state().note(&domain, looked, shared.clock.now());
            promise.send_replace(Some(standing));
            drop(landing);
        });
    }

    /// What a look brings; what it brings anew is on disk then.
    async fn find_out(self: &Arc<Self>, domain: &Domain, reason: Reason) -> Looked {
        let record = self.record(domain).await;
        let kept = self.state().kept(domain, self.clock.now());
        let id = match (&record, &kept) {
            (RecordSeen::Id(id), _) => id.clone(),
            // A host of the policy without a record says nothing to those who never had it; to
            // those who have, the record may have been taken out by somebody between (§10.2).
            (RecordSeen::None | RecordSeen::Unknown, Some(kept)) if reason == Reason::Refresh => {
                kept.id.clone()
            }
            (RecordSeen::None, Some(_)) => return Looked::Failed(no_record(domain)),
            (RecordSeen::Unknown, Some(_)) => return Looked::Failed(unknown_record(domain)),
            (RecordSeen::None | RecordSeen::Unknown, None) => return Looked::Nothing,
        };
        let is_the_same = kept.as_ref().is_some_and(|kept| kept.id == id);
        if is_the_same && reason == Reason::Mail {
            return Looked::Same;
        }
        // A domain must not wait for longer than a fetch may take because others are slow.
        let Ok(Ok(_permit)) = timeout(self.wait, self.fetches.acquire()).await else {
            return Looked::Failed(FetchTrouble {
                kind: TroubleKind::Fetch,
                why: "too many policies are being fetched".to_owned(),
            });
        };
        match self.fetcher.fetch(domain).await {
            Ok(policy) => {
                let kept = Kept::new(domain.clone(), id, policy, self.clock.now());
                self.keep(Arc::new(kept)).await
            }
            Err(trouble) => {
                tracing::warn!(%domain, %trouble, "a policy of MTA-STS could not be fetched");
                Looked::FetchFailed(trouble)
            }
        }
    }

    /// Puts a policy on disk. Where that fails it is in force all the same, until a restart.
    async fn keep(self: &Arc<Self>, kept: Arc<Kept>) -> Looked {
        let evicted = self.state().make_room(&kept.domain);
        let (shared, writing) = (Arc::clone(self), Arc::clone(&kept));
        let written = tokio::task::spawn_blocking(move || {
            if let Some(evicted) = evicted {
                shared.store.forget(&evicted);
            }
            shared.store.keep(&writing)
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                tracing::warn!(domain = %kept.domain, %why, "a policy of MTA-STS is not on disk");
            }
            Err(why) => tracing::warn!(%why, "a policy of MTA-STS was not written"),
        }
        Looked::Fetched(kept)
    }

    async fn record(&self, domain: &Domain) -> RecordSeen {
        let question = Question::Txt(format!("_mta-sts.{domain}"));
        match timeout(self.wait, self.resolver.look(&question)).await {
            Ok(Answer::Texts(texts)) => match sts::record(&texts) {
                Some(Record { id }) => RecordSeen::Id(id),
                None => RecordSeen::None,
            },
            Ok(Answer::Unknown) | Err(_) => RecordSeen::Unknown,
            Ok(
                Answer::Addresses(_)
                | Answer::Exchanges(_)
                | Answer::Names(_)
                | Answer::NoName
                | Answer::Nothing,
            ) => RecordSeen::None,
        }
    }
}

/// What came of joining a look.
struct Joined {
    standing: Standing,
    /// Whether the look did what was wanted: another one may have been under way.
    is_as_wanted: bool,
}

fn no_record(domain: &Domain) -> FetchTrouble {
    let why = format!("_mta-sts.{domain} has no record any more");
    FetchTrouble { kind: TroubleKind::Fetch, why }
}

fn unknown_record(domain: &Domain) -> FetchTrouble {
    let why = format!("the record at _mta-sts.{domain} could not be found out");
    FetchTrouble { kind: TroubleKind::Fetch, why }
}

/// Whether a policy demands anything.
fn demands(kept: &Kept) -> bool {
    match kept.policy.mode {
        Mode::Enforce | Mode::Testing => true,
        Mode::None => false,
    }
}

/// Policies that are fetched at once.
const FETCHES_MAX: usize = 16;
