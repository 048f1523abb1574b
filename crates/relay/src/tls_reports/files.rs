//! What lies in the directory of reports: what was counted in each day, and what is to be sent.
//!
//! Invariant: a file is there whole or not at all; one that cannot be read is told and left out.
//! Not pure: reads and writes files. The format stands in `docs/format.md`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use merpati_auth::tlsrpt::Endpoint;
use merpati_mail::{Domain, Time};
use serde_json::{Value, json};

use super::{
    PolicyReport, Report,
    tally::{Day, Domains},
};
use crate::durable;

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct Files {
    directory: PathBuf,
}

/// A report on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Whose sessions it tells of.
    pub(super) domain: Domain,
    /// Where it goes; `None` where that could not be found out yet.
    pub(super) endpoint: Option<Endpoint>,
    /// It.
    pub(super) report: Report,
    /// How often it was tried.
    pub(super) tries: u32,
    /// When it is tried next.
    pub(super) next_at: Time,
    /// When it is given up.
    pub(super) until: Time,
}

impl Files {
    /// Makes the directory where it is not.
    pub(super) fn open(directory: PathBuf) -> anyhow::Result<Self> {
        let files = Self { directory };
        let out = files.out();
        fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
        Ok(files)
    }

    /// Writes what was counted in a day.
    pub(super) fn keep(&self, day: Day, domains: &Domains) -> io::Result<()> {
        let all: Vec<Value> = domains
            .values()
            .map(|policies| Report { policies: policies.clone(), ..Report::default() }.to_json())
            .filter_map(|mut report| report.get_mut("policies").map(Value::take))
            .collect();
        let value = json!({ "version": 1, "day": day.to_string(), "domains": all });
        durable::replace(&self.day(day), value.to_string().as_bytes(), 0o644)
    }

    /// What was counted in a day; nothing where there is no file, or none that can be read.
    pub(super) fn read(&self, day: Day) -> Domains {
        let path = self.day(day);
        match fs::read(&path) {
            Ok(octets) => domains_of(&octets).unwrap_or_else(|| {
                tracing::warn!(path = %path.display(), "what was counted cannot be read");
                Domains::new()
            }),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Domains::new(),
            Err(why) => {
                tracing::warn!(path = %path.display(), %why, "what was counted cannot be read");
                Domains::new()
            }
        }
    }

    /// The days whose reports are still to be made.
    pub(super) fn open_days(&self) -> Vec<Day> {
        let names = names(&self.directory);
        names.iter().filter_map(|name| Day::parse(name.strip_suffix(".json")?)).collect()
    }

    /// The reports of this day are on their way.
    pub(super) fn done(&self, day: Day) -> io::Result<()> {
        durable::rename(&self.day(day), &self.directory.join(format!("{day}{DONE}")))
    }

    /// Removes what was counted before this day and is done with.
    pub(super) fn forget_before(&self, day: Day) {
        for name in names(&self.directory) {
            let own = name.strip_suffix(DONE).and_then(Day::parse);
            if own.is_some_and(|own| own < day) {
                remove(&self.directory.join(name));
            }
        }
    }

    /// The names of reports that are on their way, in the order of their days.
    pub(super) fn waiting(&self) -> Vec<String> {
        let mut names = names(&self.out());
        names.retain(|name| Path::new(name).extension().is_some_and(|it| it == "json"));
        names.sort_unstable();
        names
    }

    /// A report that is on its way; one that cannot be read goes.
    pub(super) fn take(&self, name: &str) -> Option<Waiting> {
        let path = self.out().join(name);
        let read = fs::read(&path).ok().and_then(|octets| waiting_of(&octets));
        if read.is_none() {
            tracing::warn!(path = %path.display(), "a report of TLS that waits cannot be read");
            remove(&path);
        }
        read
    }

    /// Writes a report that is on its way.
    pub(super) fn put(&self, name: &str, waiting: &Waiting) -> io::Result<()> {
        let value = json!({
            "version": 1,
            "domain": waiting.domain.to_string(),
            "endpoint": waiting.endpoint.as_ref().map(ToString::to_string),
            "report": waiting.report.to_json(),
            "tries": waiting.tries,
            "next": waiting.next_at.rfc3339(),
            "until": waiting.until.rfc3339(),
        });
        durable::replace(&self.out().join(name), value.to_string().as_bytes(), 0o644)
    }

    /// It has arrived, or is given up.
    pub(super) fn drop(&self, name: &str) {
        remove(&self.out().join(name));
    }

    fn day(&self, day: Day) -> PathBuf {
        self.directory.join(format!("{day}.json"))
    }

    fn out(&self) -> PathBuf {
        self.directory.join("out")
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn remove(path: &Path) {
    if let Err(why) = durable::remove(path) {
        tracing::warn!(path = %path.display(), %why, "an old file of reports of TLS stays");
    }
}

fn domains_of(octets: &[u8]) -> Option<Domains> {
    let value: Value = serde_json::from_slice(octets).ok()?;
    if value.get("version") != Some(&json!(1)) {
        return None;
    }
    let mut domains = Domains::new();
    for policies in value.get("domains")?.as_array()? {
        let report = Report::of(&json!({ "policies": policies }))?;
        let name = report.policies.first().map(|policy: &PolicyReport| policy.domain.clone())?;
        domains.insert(Domain::parse(&name).ok()?, report.policies);
    }
    Some(domains)
}

fn waiting_of(octets: &[u8]) -> Option<Waiting> {
    let value: Value = serde_json::from_slice(octets).ok()?;
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    if value.get("version") != Some(&json!(1)) {
        return None;
    }
    Some(Waiting {
        domain: Domain::parse(text("domain")?).ok()?,
        endpoint: match text("endpoint") {
            Some(uri) => Some(Endpoint::parse(uri)?),
            None => None,
        },
        report: Report::of(value.get("report")?)?,
        tries: u32::try_from(value.get("tries")?.as_u64()?).ok()?,
        next_at: Time::parse_rfc3339(text("next")?)?,
        until: Time::parse_rfc3339(text("until")?)?,
    })
}

/// How the name of a file ends whose reports are on their way.
const DONE: &str = ".done.json";
