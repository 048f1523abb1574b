//! What DNS says of who may send for a domain (SPF), which record would do, and what it costs.
//!
//! Invariant: a record that is proposed keeps all that is there. Pure.

use std::net::{IpAddr, Ipv4Addr};

use merpati_auth::{
    dns::{Answer, Known, Missing, Question},
    spf::{self, Client, SpfFinding, SpfResult},
};

use super::{
    judge::{Judgement, Standing},
    records::{Host, Record, spf_terms},
};

pub(super) fn judge(known: &Known, record: &Record, host: &Host) -> Result<Judgement, Missing> {
    let receiver = host.hostname.to_string();
    let sender = format!("postmaster@{}", record.name);
    // Those who may not send, with the first reason.
    let (mut strangers, mut worst) = (Vec::new(), None::<(IpAddr, SpfFinding)>);
    for leaving in &host.leaves {
        let address = leaving.address;
        let client = Client { address, helo: &receiver, receiver: &receiver, now: 0 };
        let finding = spf::check(known, &client, Some(&sender))?;
        if finding.result != SpfResult::Pass {
            strangers.push(address);
            worst.get_or_insert((address, finding));
        }
    }
    if host.leaves.is_empty() {
        let words = format!("{receiver} has no address, so nobody knows from where mail leaves");
        return Ok(Judgement::new(Standing::Unknown, words));
    }
    let published = published(known, &record.name)?;
    let costs = match &published {
        Some(text) => Costs::of(known, text)?,
        None => Costs::default(),
    };
    let Some((address, finding)) = worst else {
        let standing = if costs.are_too_many() { Standing::Differs } else { Standing::Good };
        return Ok(Judgement::new(standing, costs.words()));
    };
    let why = finding.why.unwrap_or_default();
    let missing = spf_terms(&strangers, host);
    let instead = published.map(|text| format!("publish instead: {}", merged(&text, &missing)));
    let instead = instead.unwrap_or_default();
    Ok(match finding.result {
        SpfResult::Pass => Judgement::new(Standing::Good, costs.words()),
        SpfResult::None => Judgement::new(Standing::Missing, "publish it"),
        SpfResult::TempError => Judgement::new(Standing::Unknown, why),
        SpfResult::PermError if costs.are_too_many() => {
            let words = format!("receivers cannot use it: {}; {instead}", costs.words());
            Judgement::new(Standing::Differs, words)
        }
        SpfResult::PermError => {
            Judgement::new(Standing::Differs, format!("receivers cannot use it: {why}"))
        }
        SpfResult::Fail | SpfResult::Neutral | SpfResult::SoftFail => {
            let words = format!("it does not let {address} send ({}); {instead}", costs.words());
            Judgement::new(Standing::Differs, words)
        }
    })
}

/// The one record that is there; `None` where there is none, or several.
fn published(known: &Known, name: &str) -> Result<Option<String>, Missing> {
    let Answer::Texts(texts) = known.get(Question::Txt(name.to_lowercase()))? else {
        return Ok(None);
    };
    let texts = texts.iter().map(|text| String::from_utf8_lossy(text).into_owned());
    let mut records = texts.filter(|text| {
        text.split(' ').next().is_some_and(|version| version.eq_ignore_ascii_case(VERSION))
    });
    let first = records.next();
    Ok(first.filter(|_| records.next().is_none()))
}

/// A record with more terms. In front: they cost nothing there, and nothing before them fails.
fn merged(text: &str, terms: &[String]) -> String {
    let mut words = text.split(' ').filter(|word| !word.is_empty());
    let version = words.next().unwrap_or(VERSION);
    let own = terms.iter().map(String::as_str).chain(words);
    std::iter::once(version).chain(own).collect::<Vec<_>>().join(" ")
}

/// What the terms of a record cost those who match none of them.
#[derive(Debug, Default)]
struct Costs(Vec<(String, usize)>);

impl Costs {
    fn of(known: &Known, text: &str) -> Result<Self, Missing> {
        let mut costs = Vec::new();
        for term in text.split(' ').skip(1) {
            let bare = term.trim_start_matches(['+', '-', '?', '~']);
            let (name, target) = match bare.split_once([':', '=', '/']) {
                Some((name, target)) => (name.to_lowercase(), target),
                None => (bare.to_lowercase(), ""),
            };
            let cost = match name.as_str() {
                // Where a name depends on the client, so does what it costs.
                "include" | "redirect" if !target.contains('%') => 1 + behind(known, target)?,
                "a" | "exists" | "include" | "mx" | "ptr" | "redirect" => 1,
                _ => continue,
            };
            costs.push((bare.to_owned(), cost));
        }
        Ok(Self(costs))
    }

    fn total(&self) -> usize {
        self.0.iter().map(|(_, cost)| cost).sum()
    }

    fn are_too_many(&self) -> bool {
        self.total() > spf::TERMS_MAX
    }

    fn words(&self) -> String {
        let (total, max) = (self.total(), spf::TERMS_MAX);
        if !self.are_too_many() {
            return format!("{total} of {max} look-ups");
        }
        let each = self.0.iter().map(|(term, cost)| format!("{term} {cost}"));
        let each = each.collect::<Vec<_>>().join(", ");
        format!("{total} look-ups, and receivers give up after {max}: {each}")
    }
}

/// What the record of another domain costs; one more than may be where it is too much.
fn behind(known: &Known, domain: &str) -> Result<usize, Missing> {
    let client = Client { address: NOBODY, helo: domain, receiver: domain, now: 0 };
    Ok(spf::check(known, &client, Some(&format!("postmaster@{domain}")))?.terms)
}

const VERSION: &str = "v=spf1";
/// Whom no record names.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);
