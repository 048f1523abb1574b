//! Certificates that the relay orders and renews by itself (ACME, RFC 8555).
//!
//! Invariant: mail never waits for a CA: until there is a certificate, another one is shown, and
//! what is there stays in use until a better one is. The key of a certificate is kept when it is
//! renewed, so that a published TLSA 3 1 1 stays true (RFC 7672 §3.1.1). Not pure: asks the CA,
//! reads and writes files.

pub mod challenges;
mod client;
pub mod files;
mod hook;
mod order;
mod renewal;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use aws_lc_rs::rand;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use instant_acme::{Account, CertificateIdentifier, ExternalAccountKey, NewAccount};
use merpati_mail::Time;
use rustls_pki_types::CertificateDer;
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use self::{
    challenges::Challenges,
    client::Client,
    files::Files,
    hook::Hook,
    order::{Prover, order},
    renewal::{Life, Window, after},
};
use crate::{
    certificates,
    clock::Clock,
    config::{Config, acme::Acme, options::CertificateEntry},
    node,
    sinks::{CertificateFailed, CertificateOrdered, Notice, Sinks},
    tls::{self, Trust},
};

/// Orders what is missing and renews what is due, as long as the process lives.
pub(crate) struct Keeper {
    /// The configuration that holds.
    pub(crate) config: watch::Receiver<Arc<Config>>,
    /// What is shown to the CA.
    pub(crate) challenges: Arc<Challenges>,
    /// The clock.
    pub(crate) clock: Arc<Clock>,
    /// Who is told.
    pub(crate) sinks: Sinks,
    /// Rings when there is a new certificate.
    pub(crate) bell: mpsc::Sender<()>,
}

/// What is known of a certificate beside its file.
#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Nothing is tried before.
    not_before: Option<Time>,
    /// What the CA said of its renewal, and when it is to be asked again.
    advice: Option<Advice>,
}

#[derive(Clone, Debug)]
struct Advice {
    of: CertificateDer<'static>,
    window: Option<Window>,
    ask_again: Time,
}

impl Keeper {
    /// Goes on until nobody changes the configuration any more.
    pub(crate) async fn run(mut self) {
        let mut states: BTreeMap<String, State> = BTreeMap::new();
        loop {
            let config = Arc::clone(&self.config.borrow_and_update());
            let next = self.look(&config, &mut states).await;
            let wait = next.since(self.clock.now()).clamp(LOOK_MIN, LOOK_MAX);
            tokio::select! {
                changed = self.config.changed() => match changed {
                    // What failed may be what was corrected.
                    Ok(()) => states.values_mut().for_each(|state| state.not_before = None),
                    Err(_) => return,
                },
                () = sleep(wait) => {}
            }
        }
    }

    /// Orders what is due now; gives when something is due next.
    async fn look(&self, config: &Config, states: &mut BTreeMap<String, State>) -> Time {
        let mut next = after(self.clock.now(), LOOK_MAX);
        let ordered = config.certificates.iter().filter(|entry| entry.is_ordered());
        let ordered: Vec<&CertificateEntry> = ordered.collect();
        states.retain(|name, _| ordered.iter().any(|entry| entry.name.as_str() == name));
        for entry in ordered {
            let state = states.entry(entry.name.as_str().to_owned()).or_default();
            let due = match state.not_before.filter(|not_before| *not_before > self.clock.now()) {
                Some(not_before) => not_before,
                None => self.see_to(config, entry, state).await,
            };
            next = next.min(due);
        }
        next
    }

    /// Orders this certificate if it is due; gives when it is looked at again.
    async fn see_to(&self, config: &Config, entry: &CertificateEntry, state: &mut State) -> Time {
        match self.renew(config, entry, state).await {
            Ok(due) => {
                (state.failures, state.not_before) = (0, None);
                due
            }
            Err(why) => {
                state.failures = state.failures.saturating_add(1);
                let again = after(self.clock.now(), renewal::wait(state.failures, chance()));
                state.not_before = Some(again);
                self.tell_failure(entry, format!("{why:#}"), again);
                again
            }
        }
    }

    /// The same; errs where it was due and did not come.
    async fn renew(
        &self,
        config: &Config,
        entry: &CertificateEntry,
        state: &mut State,
    ) -> anyhow::Result<Time> {
        let current = current(config, entry);
        let now = self.clock.now();
        let account = match &current {
            Some(certificate) => {
                let life = Life::of(certificate).context("the certificate cannot be read")?;
                let asked = self.advise(config, certificate, state).await;
                let due = life.due(asked.window);
                self.sinks.metrics().certificate_until(entry.name.as_str(), life.until);
                if due > now {
                    return Ok(due.min(asked.ask_again));
                }
                account(config, &self.clock).await?
            }
            None => account(config, &self.clock).await?,
        };
        let files = Files::open(&config.server.data_dir)?;
        let key = files.key(entry.name.as_str())?;
        let options = &config.acme;
        let prover = Prover {
            by: options.challenge,
            challenges: &self.challenges,
            hook: Hook { command: &options.dns_hook, wait: options.dns_hook_wait },
        };
        let replaces = current.as_ref().and_then(|it| CertificateIdentifier::try_from(it).ok());
        let replaces = replaces.map(CertificateIdentifier::into_owned);
        let ordered = order(&account, (&entry.names, &key), replaces, prover);
        let chain = timeout(ORDER_WAIT, ordered).await.context("the order takes too long")??;
        files.keep(entry.name.as_str(), &key, &chain)?;
        let made = self::current(config, entry).context("the certificate is not as ordered")?;
        let life = Life::of(&made).context("the certificate cannot be read")?;
        self.tell_success(entry, life.until);
        // Then the CA is asked when it wants to renew it.
        Ok(self.clock.now())
    }

    /// What the CA says of the renewal of this certificate; nothing, where it cannot be asked.
    async fn advise(
        &self,
        config: &Config,
        certificate: &CertificateDer<'static>,
        state: &mut State,
    ) -> Advice {
        let now = self.clock.now();
        let known = state.advice.as_ref();
        if let Some(advice) = known.filter(|it| it.of == *certificate && it.ask_again > now) {
            return advice.clone();
        }
        let asked = self.ask(config, certificate).await;
        let (window, wait) = match asked {
            Ok((window, wait)) => (Some(window), wait.clamp(ADVICE_MIN, ADVICE_MAX)),
            Err(why) => {
                tracing::debug!("the CA says nothing of renewals: {why:#}");
                (None, ADVICE_MAX)
            }
        };
        let advice = Advice { of: certificate.clone(), window, ask_again: after(now, wait) };
        state.advice = Some(advice.clone());
        advice
    }

    async fn ask(
        &self,
        config: &Config,
        certificate: &CertificateDer<'static>,
    ) -> anyhow::Result<(Window, Duration)> {
        let id = CertificateIdentifier::try_from(certificate).map_err(anyhow::Error::msg)?;
        let (info, again) = account(config, &self.clock).await?.renewal_info(&id).await?;
        let time = |secs: i64| u64::try_from(secs).map(Time::from_secs);
        let start = time(info.suggested_window.start.unix_timestamp())?;
        let end = time(info.suggested_window.end.unix_timestamp())?;
        anyhow::ensure!(start <= end, "the window ends before it begins");
        Ok((Window { start, end }, again))
    }

    fn tell_success(&self, entry: &CertificateEntry, until: Time) {
        let name = entry.name.as_str();
        tracing::warn!("certificate {name} was ordered; it is good until {}", until.rfc3339());
        self.sinks.metrics().certificate_ordered(true);
        self.sinks.metrics().certificate_until(name, until);
        self.sinks.tell([Notice::CertificateOrdered(CertificateOrdered {
            at: self.clock.now(),
            certificate: name.to_owned(),
            names: entry.names.clone(),
            until,
        })]);
        // One that waits is as good as two.
        self.bell.try_send(()).ok();
    }

    fn tell_failure(&self, entry: &CertificateEntry, why: String, again: Time) {
        let name = entry.name.as_str();
        tracing::error!("certificate {name} was not ordered: {why}");
        self.sinks.metrics().certificate_ordered(false);
        self.sinks.tell([Notice::CertificateFailed(CertificateFailed {
            at: self.clock.now(),
            certificate: name.to_owned(),
            why,
            again,
        })]);
    }
}

/// The certificate that is there, if it has all names.
fn current(config: &Config, entry: &CertificateEntry) -> Option<CertificateDer<'static>> {
    let key = config.files_of(entry).read().ok()?;
    let has_all = entry.names.iter().all(|name| certificates::is_named(&key, &name.to_string()));
    key.cert.first().filter(|_| has_all).cloned()
}

/// Our account with the CA; made where there is none.
async fn account(config: &Config, clock: &Arc<Clock>) -> anyhow::Result<Account> {
    let options = &config.acme;
    let directory = options.directory.clone().context("acme.directory is not set")?;
    let trust = options.ca_file.as_deref().map_or(Trust::System, Trust::File);
    let client = Client {
        connector: tls::connector(trust, None)?,
        resolver: node::resolver(config, Vec::new(), Arc::clone(clock))?,
    };
    let builder = Account::builder_with_http(Box::new(client));
    let files = Files::open(&config.server.data_dir)?;
    if let Some(credentials) = files.account(&directory)? {
        return builder.from_credentials(credentials).await.context("the CA is not there");
    }
    let contact: Vec<String> = options.contact.iter().map(|to| format!("mailto:{to}")).collect();
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: options.terms_agreed,
        only_return_existing: false,
    };
    let external = external_key(options)?;
    let made = builder.create(&new, directory.clone(), external.as_ref()).await;
    let (account, credentials) = made.context("the CA gives no account")?;
    files.keep_account(&directory, credentials)?;
    Ok(account)
}

/// The key of an account that the operator has with the CA elsewhere.
fn external_key(options: &Acme) -> anyhow::Result<Option<ExternalAccountKey>> {
    let Some((id, path)) = options.eab_key_id.clone().zip(options.eab_key_file.as_ref()) else {
        return Ok(None);
    };
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let key = BASE64_URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('='));
    let key = key.with_context(|| format!("{} is no base64url", path.display()))?;
    Ok(Some(ExternalAccountKey::new(id, &key)))
}

/// Something from 0 to 1, so that relays that failed at once do not try again at once.
fn chance() -> f64 {
    let mut octets = [0; 4];
    rand::fill(&mut octets).ok();
    f64::from(u32::from_le_bytes(octets)) / f64::from(u32::MAX)
}

/// How long an order may take, with the operator's program.
const ORDER_WAIT: Duration = Duration::from_mins(30);
/// The shortest wait from one look to the next.
const LOOK_MIN: Duration = Duration::from_secs(1);
/// The longest one: the files may have changed.
const LOOK_MAX: Duration = Duration::from_hours(1);
/// How often a CA is asked for its advice: RFC 9773 §4.3 leaves it to the CA, and us to keep it
/// within reason.
const ADVICE_MIN: Duration = Duration::from_mins(1);
const ADVICE_MAX: Duration = Duration::from_hours(24);
