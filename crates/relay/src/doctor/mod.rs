//! What is wrong with the host, its name, its addresses and what others say of them: `merpati
//! doctor` and `/v1/health`.
//!
//! Invariant: what could not be found out is told as unknown, never as good; nothing is changed,
//! and no mail is sent. Each check has a file: what it asks is there, and what the answers mean is
//! a pure function beside it. Not pure: DNS, sockets, files.

mod certificate;
mod clock;
mod disk;
mod domain;
mod exposure;
mod listed;
mod name;
mod reach;
mod resolver;
mod source;

use std::{future::Future, pin::Pin, time::Duration};

use futures_util::future::join_all;
use merpati_console::health::{Finding, Grade};
use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    config::{Config, next_hop::To},
    resolve::Resolver,
};

/// What each check sees.
#[derive(Clone, Copy, Debug)]
struct Bench<'a> {
    config: &'a Config,
    resolver: &'a Resolver,
}

impl Bench<'_> {
    /// Whether mail goes to the hosts that DNS names: then what others think of us counts.
    fn sends_by_mx(&self) -> bool {
        self.config.routes.iter().any(|route| route.to == To::Mx)
    }
}

type Checking<'a> = Pin<Box<dyn Future<Output = Vec<Finding>> + Send + 'a>>;

/// Looks at everything, side by side; each check takes `health.wait` at most. The findings stand in
/// the order of the checks, from our own name to what others say.
pub async fn examine(config: &Config, resolver: &Resolver) -> Vec<Finding> {
    let bench = Bench { config, resolver };
    let sources = source::all(config);
    let checks: Vec<(&'static str, Checking<'_>)> = vec![
        ("name", Box::pin(name::check(bench))),
        ("source", Box::pin(source::check(bench, &sources))),
        ("port-25", Box::pin(reach::check_port(bench, &sources))),
        ("next-hop", Box::pin(reach::check_next_hops(bench))),
        ("resolver", Box::pin(resolver::check(bench))),
        ("clock", Box::pin(clock::check(bench))),
        ("certificate", Box::pin(blocking(config, certificate::check))),
        ("disk", Box::pin(blocking(config, disk::check))),
        ("open-relay", Box::pin(blocking(config, exposure::check_relaying))),
        ("api", Box::pin(blocking(config, exposure::check_api))),
        ("domain", Box::pin(domain::check(bench))),
        ("list", Box::pin(listed::check(bench, &sources))),
    ];
    let wait = config.health.wait;
    let asked = checks.into_iter().map(|(check, findings)| async move {
        // Those of several parts have given each its time before, so that none hides another.
        let findings = timeout(wait + GRACE, findings).await;
        findings.unwrap_or_else(|_| vec![late(check, String::new(), wait)])
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// One part of a check, which takes `health.wait` at most.
async fn within(
    bench: Bench<'_>,
    check: &'static str,
    about: String,
    finding: impl Future<Output = Finding>,
) -> Finding {
    let wait = bench.config.health.wait;
    timeout(wait, finding).await.unwrap_or_else(|_| late(check, about, wait))
}

fn late(check: &'static str, about: String, wait: Duration) -> Finding {
    let words = format!("not found out within {} s", wait.as_secs());
    Finding::new(check, about, Grade::Unknown, words).fix("ask again, or raise health.wait")
}

/// How much longer a whole check may take than its parts.
const GRACE: Duration = Duration::from_secs(1);

/// A check that reads files.
async fn blocking(config: &Config, check: fn(&Config) -> Vec<Finding>) -> Vec<Finding> {
    let config = config.clone();
    let found = spawn_blocking(move || check(&config)).await;
    found.unwrap_or_else(|why| vec![Finding::new("files", "", Grade::Unknown, why.to_string())])
}
