//! When reports of TLS are made, for whom, and how often they are tried (RFC 8460 §4.1, §4.2).
//!
//! Not pure: asks name servers, draws, and writes files.

use std::{fs, hash::BuildHasher as _, io, sync::Arc, time::Duration};

use anyhow::Context as _;
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use merpati_auth::{
    dns::{Answer, Question},
    tlsrpt::{self, Endpoint},
};
use merpati_mail::{Domain, Mailbox, Time};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::timeout,
};

use super::{
    Options, Report, Shared,
    files::Waiting,
    mail::Letter,
    pack,
    post::{Posted, post},
    tally::{Day, Domains},
};
use crate::{drop_box, durable};

/// Makes the reports that are due, and tries those that wait.
pub(super) async fn turn(shared: &Arc<Shared>, options: &Options, from: &Mailbox, now: Time) {
    for day in shared.files.open_days() {
        if day.end() + delay(shared, day) > now || day >= Day::of(now) {
            continue;
        }
        if let Err(why) = make(shared, options, day, now).await {
            tracing::warn!(%day, "reports of TLS cannot be made yet: {why:#}");
        }
    }
    let mut sending = JoinSet::new();
    for name in shared.files.waiting() {
        let Some(waiting) = shared.files.take(&name) else { continue };
        if waiting.next_at > now {
            continue;
        }
        if sending.len() >= AT_ONCE {
            sending.join_next().await;
        }
        let (shared, options, from) = (Arc::clone(shared), options.clone(), from.clone());
        sending.spawn(async move {
            let tried = try_one(&shared, (&options, &from), (&name, &waiting), now).await;
            settle(&shared, (&name, waiting), tried, now);
        });
    }
    sending.join_all().await;
}

/// Up to four hours: the hosts that take reports are not to hear of everybody at midnight.
fn delay(shared: &Shared, day: Day) -> Duration {
    Duration::from_secs(shared.chance.hash_one(day) % DELAY_SECS_MAX)
}

/// Puts the reports of a day on their way. Where that is cut off it is done again: the names of
/// the files are the same.
async fn make(shared: &Arc<Shared>, options: &Options, day: Day, now: Time) -> anyhow::Result<()> {
    let (files, tally) = (shared.files.clone(), shared.tally.clone());
    let domains = spawn_blocking(move || files.read(day)).await?;
    // After a long sleep nobody wants to hear of it any more.
    let is_late = now.since(day.end()) > LATE;
    let wanted = if is_late { Vec::new() } else { wanted(shared, &domains, options.wait).await };
    let (files, options) = (shared.files.clone(), options.clone());
    let writing = spawn_blocking(move || -> anyhow::Result<()> {
        for (domain, endpoints) in wanted {
            let Some(policies) = domains.get(&domain) else { continue };
            let report = report(&options, day, policies.clone())?;
            for (endpoint, n) in endpoints.into_iter().zip(1..) {
                let waiting = Waiting {
                    domain: domain.clone(),
                    endpoint,
                    report: report.clone(),
                    tries: 0,
                    next_at: now,
                    until: now + GIVE_UP,
                };
                files.put(&format!("{day}.{}.{n}.json", short(&domain)), &waiting)?;
            }
        }
        files.done(day).context("what was counted cannot be renamed")
    });
    writing.await??;
    tally.forget(day);
    Ok(())
}

/// The domains that want reports, and where; `None` in place of what could not be found out.
async fn wanted(
    shared: &Arc<Shared>,
    domains: &Domains,
    wait: Duration,
) -> Vec<(Domain, Vec<Option<Endpoint>>)> {
    let (mut wanted, mut looking) = (Vec::new(), JoinSet::new());
    for domain in domains.keys() {
        if looking.len() >= AT_ONCE {
            wanted.extend(looking.join_next().await.and_then(Result::ok));
        }
        let (shared, domain) = (Arc::clone(shared), domain.clone());
        looking.spawn(async move {
            let endpoints = match look(&shared, &domain, wait).await {
                Ok(endpoints) => endpoints.into_iter().map(Some).collect(),
                Err(_) => vec![None],
            };
            (domain, endpoints)
        });
    }
    wanted.extend(looking.join_all().await);
    wanted
}

/// Where a domain wants reports; nowhere is none. Errs where that cannot be found out.
async fn look(shared: &Shared, domain: &Domain, wait: Duration) -> Result<Vec<Endpoint>, String> {
    let name = format!("_smtp._tls.{domain}");
    match timeout(wait, shared.resolver.look(&Question::Txt(name.clone()))).await {
        Ok(Answer::Texts(texts)) => Ok(tlsrpt::endpoints(&texts).unwrap_or_default()),
        Ok(Answer::Unknown) | Err(_) => Err(format!("TXT {name} cannot be found out")),
        Ok(
            Answer::Addresses(_)
            | Answer::Exchanges(_)
            | Answer::Names(_)
            | Answer::NoName
            | Answer::Nothing,
        ) => Ok(Vec::new()),
    }
}

fn report(
    options: &Options,
    day: Day,
    policies: Vec<super::PolicyReport>,
) -> anyhow::Result<Report> {
    let mut drawn = [0; 8];
    rand::fill(&mut drawn).map_err(|_| anyhow::anyhow!("the machine gives no random octets"))?;
    Ok(Report {
        organization: Some(options.organization.clone()),
        contact: Some(options.contact.clone()),
        id: Some(format!("{day}.{:016x}", u64::from_be_bytes(drawn))),
        begin: Some(day.begin().rfc3339()),
        // The last second, as in the example of §4.4: the next report begins with the one after.
        end: Some(Time::from_secs(day.end().as_secs().saturating_sub(1)).rfc3339()),
        policies,
    })
}

/// A name for a domain that is short enough for a file.
fn short(domain: &Domain) -> String {
    let hash = digest(&SHA256, domain.to_string().as_bytes());
    hash.as_ref().iter().take(8).fold(String::new(), |name, octet| format!("{name}{octet:02x}"))
}

/// What came of a try.
enum Tried {
    Done,
    /// It goes to these places, which were not known before.
    Found(Vec<Endpoint>),
    Later(String),
    Never(String),
}

async fn try_one(
    shared: &Arc<Shared>,
    (options, from): (&Options, &Mailbox),
    (name, waiting): (&str, &Waiting),
    now: Time,
) -> Tried {
    let Some(endpoint) = &waiting.endpoint else {
        return match look(shared, &waiting.domain, options.wait).await {
            Ok(endpoints) => Tried::Found(endpoints),
            Err(why) => Tried::Later(why),
        };
    };
    let packed = match pack(waiting.report.to_json().to_string().as_bytes()) {
        Ok(packed) => packed,
        Err(why) => return Tried::Later(why.to_string()),
    };
    match endpoint {
        Endpoint::Https(uri) => match post(&shared.https, uri, packed, options.wait).await {
            Posted::Done => Tried::Done,
            Posted::Later(why) => Tried::Later(why),
            Posted::Never(why) => Tried::Never(why),
        },
        Endpoint::Mail(to) => {
            let id = waiting.report.id.as_deref().unwrap_or(name);
            let file = file_name(options, waiting, id);
            let letter = Letter {
                domain: &waiting.domain,
                from,
                hostname: &options.hostname,
                id,
                packed: &packed,
                file: &file,
                now,
                to,
            };
            match drop_off(shared, name, now, &letter.batch()) {
                Ok(()) => Tried::Done,
                Err(why) => Tried::Later(format!("{}: {why}", shared.drop.display())),
            }
        }
    }
}

/// `<sender>!<policy-domain>!<begin>!<end>!<id>.json.gz` (§5.1), times in seconds.
fn file_name(options: &Options, waiting: &Waiting, id: &str) -> String {
    let secs = |time: &Option<String>| {
        let time = time.as_deref().and_then(Time::parse_rfc3339);
        time.unwrap_or(Time::EPOCH).as_secs()
    };
    let (sender, domain) = (&options.hostname, &waiting.domain);
    let (begin, end) = (secs(&waiting.report.begin), secs(&waiting.report.end));
    format!("{sender}!{domain}!{begin}!{end}!{id}.json.gz")
}

/// Leaves a mail where the relay collects it: a listener of ours takes it as it takes that of
/// programs of this machine, and signs it.
fn drop_off(shared: &Shared, name: &str, now: Time, batch: &str) -> io::Result<()> {
    drop_box::make(&shared.drop)?;
    let stem = format!("{}.tls-{name}", now.as_micros());
    // Neither is collected: a name that begins with a dot, and one that does not end in `.mail`.
    let draft = shared.drop.join(format!(".{stem}"));
    durable::create(&draft, batch.as_bytes(), 0o640)?;
    let whole = shared.drop.join(format!("{stem}{}", drop_box::SUFFIX));
    durable::rename(&draft, &whole).inspect_err(|_| _ = fs::remove_file(&draft))
}

fn settle(shared: &Shared, (name, waiting): (&str, Waiting), tried: Tried, now: Time) {
    let domain = waiting.domain.clone();
    match tried {
        Tried::Done => shared.files.drop(name),
        Tried::Found(endpoints) => {
            let stem = name.strip_suffix(".json").unwrap_or(name);
            for (endpoint, n) in endpoints.into_iter().zip(1..) {
                let found = Waiting { endpoint: Some(endpoint), tries: 0, ..waiting.clone() };
                keep(shared, &format!("{stem}.{n}.json"), &found);
            }
            shared.files.drop(name);
        }
        Tried::Later(why) => {
            let wait = FIRST_WAIT.saturating_mul(1 << waiting.tries.min(6)).min(LONGEST_WAIT);
            let next_at = now + wait;
            if next_at > waiting.until {
                tracing::warn!(%domain, why, "a report of TLS is given up");
                shared.files.drop(name);
                return;
            }
            tracing::info!(%domain, why, "a report of TLS has to wait");
            let waiting = Waiting { tries: waiting.tries.saturating_add(1), next_at, ..waiting };
            keep(shared, name, &waiting);
        }
        Tried::Never(why) => {
            tracing::warn!(%domain, why, "a report of TLS is not taken");
            shared.files.drop(name);
        }
    }
}

fn keep(shared: &Shared, name: &str, waiting: &Waiting) {
    if let Err(why) = shared.files.put(name, waiting) {
        tracing::warn!(name, %why, "a report of TLS that waits is not on disk");
    }
}

/// Within this time after its end the reports of a day go (§4.1 suggests up to four hours).
const DELAY_SECS_MAX: u64 = 4 * 3_600;

/// A day that ended longer ago than this is told to nobody.
const LATE: Duration = Duration::from_hours(72);

/// How long a report is tried (§4.2 suggests 24 hours).
const GIVE_UP: Duration = Duration::from_hours(24);

/// The wait after the first try; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_mins(5);

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_hours(4);

/// Look-ups, and reports, that are under way at once.
const AT_ONCE: usize = 8;
