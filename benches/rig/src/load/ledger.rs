//! What became of each message of a load, in a file and in numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::connection::Trouble;
use crate::{
    record::{Fate, Sent},
    stream::now_seconds,
};

/// Shared by all sessions.
pub(super) struct Ledger {
    recipients: u32,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    file: Option<BufWriter<File>>,
    /// The first error of the file, told at the end.
    broken: Option<std::io::Error>,
    line: String,
    /// Messages whose end of data may have arrived.
    open: BTreeSet<String>,
    latencies_micros: Vec<u64>,
    connects: u64,
    lost_connections: u64,
    refused: u64,
    first_connect: Option<f64>,
    last_acknowledged: Option<f64>,
    errors: BTreeMap<String, u64>,
}

impl Ledger {
    pub(super) fn new(ids: Option<&Path>, recipients: u32) -> Result<Self> {
        let create = |path: &Path| File::create(path).with_context(|| path.display().to_string());
        let file = ids.map(create).transpose()?.map(BufWriter::new);
        Ok(Self { recipients, pages: Mutex::new(Pages { file, ..Pages::default() }) })
    }

    pub(super) fn connects(&self) {
        let mut pages = self.pages();
        pages.connects += 1;
        pages.first_connect.get_or_insert_with(now_seconds);
    }

    /// Before the first octet of content goes out.
    pub(super) fn opens(&self, id: &str) {
        self.pages().open.insert(id.to_owned());
    }

    pub(super) fn acknowledged(&self, id: &str, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let mut pages = self.pages();
        pages.latencies_micros.push(micros);
        pages.last_acknowledged = Some(now_seconds());
        pages.ends(id, self.recipients, Fate::Acknowledged, micros);
    }

    pub(super) fn refused(&self, id: &str) {
        let mut pages = self.pages();
        pages.refused += 1;
        pages.ends(id, self.recipients, Fate::Refused, 0);
    }

    /// Why a connection is given up; the first so many kinds are kept with their count.
    pub(super) fn trouble(&self, trouble: &Trouble) {
        let mut pages = self.pages();
        let text = match trouble {
            Trouble::Lost(error) => {
                pages.lost_connections += 1;
                format!("lost: {error}")
            }
            Trouble::Refused(reply) => format!("refused: {reply}"),
        };
        if pages.errors.len() < ERROR_KINDS_MAX || pages.errors.contains_key(&text) {
            *pages.errors.entry(text).or_default() += 1;
        }
    }

    /// Writes down what is still open, and sums up.
    pub(super) fn finish(&self) -> Result<Value> {
        let mut pages = self.pages();
        let open: Vec<String> = pages.open.iter().cloned().collect();
        for id in &open {
            pages.ends(id, self.recipients, Fate::Unknown, 0);
        }
        if let Some(mut file) = pages.file.take() {
            let flushed = file.flush();
            pages.broken.take().map_or(flushed, Err).context("file of ids")?;
        }
        let mut latencies = std::mem::take(&mut pages.latencies_micros);
        latencies.sort_unstable();
        let seconds = match (pages.first_connect, pages.last_acknowledged) {
            (Some(first), Some(last)) => last - first,
            _ => 0.0,
        };
        let acked = latencies.len();
        let rate = if seconds > 0.0 { float(acked) / seconds } else { 0.0 };
        Ok(json!({
            "acked": acked,
            "refused": pages.refused,
            "unknown": open.len(),
            "connects": pages.connects,
            "lost_connections": pages.lost_connections,
            "first_connect": pages.first_connect,
            "last_ack": pages.last_acknowledged,
            "seconds": seconds,
            "accept_per_s": rate,
            "lat_ms": {
                "p50": percentile_ms(&latencies, 500),
                "p99": percentile_ms(&latencies, 990),
                "max": percentile_ms(&latencies, 1_000),
            },
            "errors": pages.errors,
        }))
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn ends(&mut self, id: &str, recipients: u32, fate: Fate, latency_micros: u64) {
        self.open.remove(id);
        let Some(file) = &mut self.file else { return };
        let id = id.to_owned();
        let sent = Sent { id, recipients, fate, at_seconds: now_seconds(), latency_micros };
        self.line.clear();
        sent.write(&mut self.line);
        if let Err(error) = file.write_all(self.line.as_bytes()) {
            self.broken.get_or_insert(error);
        }
    }
}

/// The value below which so many of 1,000 lie; `None` without values.
fn percentile_ms(sorted_micros: &[u64], of_1000: usize) -> Option<f64> {
    let rank = (sorted_micros.len() * of_1000).div_ceil(1_000).saturating_sub(1);
    let micros = *sorted_micros.get(rank)?;
    Some(Duration::from_micros(micros).as_secs_f64() * 1_000.0)
}

fn float(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// No more kinds of trouble are told apart.
const ERROR_KINDS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_value_at_its_rank() {
        let micros: Vec<u64> = (1..=1_000).map(|n| n * 1_000).collect();
        for (of_1000, want) in [(0, 1.0), (500, 500.0), (990, 990.0), (1_000, 1_000.0)] {
            assert_eq!(percentile_ms(&micros, of_1000), Some(want), "{of_1000}");
        }
        assert_eq!(percentile_ms(&[2_500], 990), Some(2.5));
        assert_eq!(percentile_ms(&[], 500), None);
    }
}
