//! Decides what was acknowledged and never came: acknowledged − received − bounced − queued.
//!
//! The unit is a delivery, one message and one recipient, except that a queued id stands for the
//! whole message. A duplicate is not a loss; RFC 5321 §6.1 allows it after a lost reply, so how
//! many are too many is said by the caller. Reads files; everything behind them is pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::record::{Fate, Received, Sent};

/// What to compare.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// What a load sent; may be repeated.
    #[arg(long, required = true, value_name = "FILE")]
    pub sent: Vec<PathBuf>,
    /// What a sink received; may be repeated.
    #[arg(long, required = true, value_name = "FILE")]
    pub received: Vec<PathBuf>,
    /// Which failures a sink was told of; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub bounced: Vec<PathBuf>,
    /// Ids of messages that still wait in the relay, first word of each line; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub queued: Vec<PathBuf>,
    /// More extra copies than this are an error, too; without it, any number is right.
    #[arg(long, value_name = "COUNT")]
    pub duplicates_max: Option<u64>,
}

/// The balance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Deliveries that the relay took responsibility for.
    pub acknowledged: u64,
    /// Deliveries that the relay refused.
    pub refused: u64,
    /// Deliveries without a reply to their end of data.
    pub unknown: u64,
    /// Different deliveries that came.
    pub received: u64,
    /// Acknowledged deliveries that did not come, but whose failure was told.
    pub bounced: u64,
    /// Acknowledged deliveries that neither came nor failed, and whose message waits.
    pub queued: u64,
    /// Acknowledged deliveries of which nothing is known.
    pub lost: BTreeSet<(String, u32)>,
    /// Copies beyond the first of each delivery.
    pub duplicates: u64,
    /// Copies with a body that is not the one that was sent.
    pub damaged: u64,
    /// Deliveries that came, though they were refused or never sent by these loads.
    pub unexpected: u64,
    /// Deliveries that came, and whose failure was told as well.
    pub contradicted: u64,
}

impl Balance {
    /// Compares.
    pub fn of(sent: &[Sent], received: &[Received], bounced: &[Received], queued: &[&str]) -> Self {
        let mut copies: BTreeMap<(&str, u32), u64> = BTreeMap::new();
        for one in received {
            *copies.entry((one.id.as_str(), one.recipient)).or_default() += 1;
        }
        let failed: BTreeSet<_> = bounced.iter().map(|b| (b.id.as_str(), b.recipient)).collect();
        let waiting: BTreeSet<&str> = queued.iter().copied().collect();
        let mut balance = Self {
            received: count(copies.len()),
            duplicates: copies.values().map(|copies| copies - 1).sum(),
            damaged: count(received.iter().filter(|one| !one.is_whole).count()),
            contradicted: count(failed.iter().filter(|one| copies.contains_key(one)).count()),
            ..Self::default()
        };
        let mut possible = BTreeSet::new();
        let each = sent.iter().flat_map(|one| (0..one.recipients).map(move |number| (one, number)));
        for (message, recipient) in each {
            let delivery = (message.id.as_str(), recipient);
            match message.fate {
                Fate::Acknowledged => balance.acknowledged += 1,
                Fate::Refused => balance.refused += 1,
                Fate::Unknown => balance.unknown += 1,
            }
            if message.fate != Fate::Refused {
                possible.insert(delivery);
            }
            if message.fate != Fate::Acknowledged || copies.contains_key(&delivery) {
                continue;
            }
            if failed.contains(&delivery) {
                balance.bounced += 1;
            } else if waiting.contains(delivery.0) {
                balance.queued += 1;
            } else {
                balance.lost.insert((message.id.clone(), recipient));
            }
        }
        balance.unexpected = count(copies.keys().filter(|one| !possible.contains(*one)).count());
        balance
    }

    /// Whether nothing is lost or damaged, and no more came twice than may.
    pub fn is_right(&self, duplicates_max: Option<u64>) -> bool {
        let few = duplicates_max.is_none_or(|most| self.duplicates <= most);
        self.lost.is_empty() && self.damaged == 0 && self.unexpected == 0 && few
    }

    /// As one object; at most ten of the lost are named.
    pub fn to_json(&self) -> Value {
        let examples: Vec<_> =
            self.lost.iter().take(10).map(|(id, number)| format!("{id}/{number}")).collect();
        json!({
            "acknowledged": self.acknowledged,
            "refused": self.refused,
            "unknown": self.unknown,
            "received": self.received,
            "bounced": self.bounced,
            "queued": self.queued,
            "lost": self.lost.len(),
            "lost_examples": examples,
            "duplicates": self.duplicates,
            "damaged": self.damaged,
            "unexpected": self.unexpected,
            "contradicted": self.contradicted,
        })
    }
}

/// Reads the files and compares.
pub fn run(options: &Options) -> Result<Balance> {
    let sent = read(&options.sent, Sent::parse)?;
    let received = read(&options.received, Received::parse)?;
    let bounced = read(&options.bounced, Received::parse)?;
    let first_word = |line: &str| line.split_ascii_whitespace().next().map(str::to_owned);
    let queued = read(&options.queued, first_word)?;
    let queued: Vec<&str> = queued.iter().map(String::as_str).collect();
    Ok(Balance::of(&sent, &received, &bounced, &queued))
}

fn read<T>(files: &[PathBuf], parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    for path in files {
        all.extend(lines(path, &parse)?);
    }
    Ok(all)
}

fn lines<T>(path: &Path, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    // A writer that was killed may leave half a line at the end: it had told nobody yet.
    let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    let mut all = Vec::new();
    for (at, line) in whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match parse(line) {
            Some(one) => all.push(one),
            None => bail!("{}:{}: not a line of this file: {line}", path.display(), at + 1),
        }
    }
    Ok(all)
}

fn count(number: usize) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(rows: &[(&str, u32, Fate)]) -> Vec<Sent> {
        rows.iter()
            .map(|&(id, recipients, fate)| {
                let id = id.to_owned();
                Sent { id, recipients, fate, at_seconds: 0.0, latency_micros: 0 }
            })
            .collect()
    }

    fn came(rows: &[(&str, u32, bool)]) -> Vec<Received> {
        rows.iter()
            .map(|&(id, recipient, is_whole)| {
                let id = id.to_owned();
                Received { id, recipient, at_seconds: 0.0, octets: 0, is_whole }
            })
            .collect()
    }

    #[test]
    fn lost_is_what_was_acknowledged_and_is_neither_received_nor_bounced_nor_queued() {
        let balance = Balance::of(
            &sent(&[
                ("came", 1, Fate::Acknowledged),
                ("failed", 2, Fate::Acknowledged),
                ("gone", 2, Fate::Acknowledged),
                ("open", 1, Fate::Unknown),
                ("refused", 1, Fate::Refused),
                ("waits", 3, Fate::Acknowledged),
            ]),
            &came(&[("came", 0, true), ("failed", 0, true), ("gone", 1, true), ("open", 0, true)]),
            &came(&[("failed", 1, true)]),
            &["waits"],
        );
        let want = Balance {
            acknowledged: 8,
            refused: 1,
            unknown: 1,
            received: 4,
            bounced: 1,
            queued: 3,
            lost: [("gone".to_owned(), 0)].into(),
            ..Balance::default()
        };
        assert_eq!(balance, want);
        assert!(!balance.is_right(None));
    }

    #[test]
    fn duplicates_are_counted_and_only_wrong_above_the_bound() {
        let one = sent(&[("a", 1, Fate::Acknowledged)]);
        let copies = came(&[("a", 0, true), ("a", 0, true), ("a", 0, true)]);
        let balance = Balance::of(&one, &copies, &[], &[]);
        assert_eq!(balance.duplicates, 2);
        for (most, right) in [(None, true), (Some(2), true), (Some(1), false)] {
            assert_eq!(balance.is_right(most), right, "{most:?}");
        }
    }

    #[test]
    fn a_damaged_body_and_a_message_from_nowhere_are_wrong() {
        let one = sent(&[("a", 1, Fate::Acknowledged)]);
        assert!(!Balance::of(&one, &came(&[("a", 0, false)]), &[], &[]).is_right(None));
        let balance = Balance::of(&one, &came(&[("a", 0, true), ("b", 0, true)]), &[], &[]);
        assert_eq!((balance.unexpected, balance.is_right(None)), (1, false));
    }

    #[test]
    fn half_a_line_at_the_end_is_left_out_and_one_in_the_middle_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("received");
        fs::write(&path, "a 0 1.0 10 1\nb 0 1.0 1").unwrap();
        assert_eq!(lines(&path, Received::parse).unwrap().len(), 1);
        fs::write(&path, "a 0 1.0\nb 0 1.0 10 1\n").unwrap();
        let error = lines(&path, Received::parse).unwrap_err().to_string();
        assert!(error.contains("received:1:"), "{error}");
    }
}
