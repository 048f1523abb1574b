//! `merpati top`: how the relay is doing, drawn anew every few seconds.
//!
//! Invariant: what it asks costs the relay a small part of its time, however much waits.

use std::{
    process::ExitCode,
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use clap::Args;
use merpati_console::quantity;
use serde_json::{Value, json};

use super::{
    Failure, Format, FormatArguments,
    client::Client,
    output::{Output, plain},
    queue::coarse,
    screen::Screen,
};

#[derive(Args, Debug)]
pub(super) struct TopArguments {
    /// How often, such as "5 s".
    #[arg(long, value_name = "DURATION", default_value = "2 s", value_parser = quantity::duration)]
    every: Duration,
    /// End after so many times [default: never on a terminal, else 1].
    #[arg(short = 'n', long, value_name = "TIMES")]
    times: Option<u64>,
    #[command(flatten)]
    format: FormatArguments,
}

pub(super) fn run(
    arguments: &TopArguments,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let mut before: Option<Sample> = None;
    // Where nothing answers, the terminal is left alone.
    let mut sample = Sample::take(client)?;
    let is_table = arguments.format.format == Format::Table;
    let screen = if is_table && arguments.times.is_none() { Screen::open()? } else { None };
    let mut left = arguments.times.or_else(|| screen.is_none().then_some(1));
    loop {
        match &screen {
            Some(screen) => screen.draw(&sample.lines(before.as_ref(), "q: end"))?,
            None if is_table => {
                for line in sample.lines(before.as_ref(), "") {
                    output.line(&super::output::harmless_line(&line))?;
                }
            }
            None => output.line(&sample.json(before.as_ref()).to_string())?,
        }
        if let Some(left) = &mut left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return Ok(ExitCode::SUCCESS);
            }
        }
        // A long queue takes a while to be counted; that is not to be all that the relay does.
        let pause = arguments.every.max(sample.took * PAUSES_MIN);
        let next = match &screen {
            Some(screen) if screen.wait(pause)? => return Ok(ExitCode::SUCCESS),
            Some(screen) => match take_again(client, screen)? {
                Some(next) => next,
                None => return Ok(ExitCode::SUCCESS),
            },
            None => {
                std::thread::sleep(pause);
                Sample::take(client)?
            }
        };
        before = Some(std::mem::replace(&mut sample, next));
    }
}

/// Takes a sample as soon as that can be had: a relay that has gone may come again, and whoever
/// watches wants to see that. `None` where that wants the end.
fn take_again(client: &Client, screen: &Screen) -> Result<Option<Sample>, Failure> {
    loop {
        match take_beside(client, screen) {
            Err(failure) => {
                let why = failure.to_string();
                let lines = why.lines().chain(["", "q: end"]).map(str::to_owned);
                screen.draw(&lines.collect::<Vec<String>>())?;
                if screen.wait(PAUSE_WITHOUT_RELAY)? {
                    return Ok(None);
                }
            }
            taken => return taken,
        }
    }
}

/// Takes a sample, and hears the keys meanwhile: a relay that hangs must not hold the person who
/// wants to know why. `None` where that wants the end.
fn take_beside(client: &Client, screen: &Screen) -> Result<Option<Sample>, Failure> {
    let (sender, taken) = mpsc::channel();
    let client = client.clone();
    // It ends with its answer, or with the process.
    std::thread::spawn(move || sender.send(Sample::take(&client)).ok());
    loop {
        match taken.recv_timeout(KEYS_EVERY) {
            Ok(sample) => return sample.map(Some),
            Err(RecvTimeoutError::Timeout) if screen.wait(Duration::ZERO)? => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Other("the asking ended badly".to_owned()));
            }
        }
    }
}

/// How the relay was at one time.
struct Sample {
    at: Instant,
    /// How long the asking took.
    took: Duration,
    status: Value,
    metrics: Vec<Metric>,
    reasons: Groups,
    hops: Groups,
}

/// A sample of a metric.
struct Metric {
    name: String,
    /// What stands between the braces.
    labels: String,
    value: f64,
}

/// What waits, by one thing: the largest group first.
struct Groups {
    rows: Vec<(String, u64)>,
    /// Whether there is more than was counted.
    is_part: bool,
}

impl Sample {
    fn take(client: &Client) -> Result<Self, Failure> {
        let at = Instant::now();
        let status = client.json("/v1/status")?;
        let metrics = metrics(&String::from_utf8_lossy(&client.get("/metrics")?));
        // A relay that still reads its spool has no queue to tell of.
        let is_read = status.pointer("/spool/segments_unread").and_then(Value::as_u64) == Some(0);
        let groups = |by| if is_read { Groups::ask(by, client) } else { Ok(Groups::none()) };
        let (reasons, hops) = (groups("reason")?, groups("next-hop")?);
        Ok(Self { at, took: at.elapsed(), status, metrics, reasons, hops })
    }

    /// The sum of a metric over the labels that have this in them.
    fn sum(&self, name: &str, label: &str) -> f64 {
        let fits = |one: &&Metric| one.name == name && one.labels.contains(label);
        self.metrics.iter().filter(fits).fold(0.0, |sum, one| sum + one.value)
    }

    /// How many of a counter came in a second since the sample before; `None` without one, and
    /// where the relay was started anew between the two.
    fn rate(&self, before: Option<&Self>, counters: &[(&str, &str)]) -> Option<f64> {
        let before = before?;
        let sum = |of: &Self| -> f64 { counters.iter().map(|one| of.sum(one.0, one.1)).sum() };
        let (grown, seconds) = (sum(self) - sum(before), (self.at - before.at).as_secs_f64());
        let is_same = self.status.get("started_at") == before.status.get("started_at");
        (is_same && seconds > 0.0).then(|| grown / seconds)
    }

    fn lines(&self, before: Option<&Self>, hint: &str) -> Vec<String> {
        let text = |pointer: &str| plain(self.status.pointer(pointer));
        let state = if text("/ready") == "true" { "ready".to_owned() } else { text("/reason") };
        let up = coarse(self.status.get("uptime_seconds"));
        let mut lines = vec![
            format!("merpati {}, up {up}, {}: {state}  {hint}", text("/version"), text("/now"))
                .trim_end()
                .to_owned(),
            String::new(),
        ];
        let rates = RATES.map(|(name, counters)| {
            let rate = self.rate(before, counters);
            format!("{name} {}", rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}")))
        });
        lines.push(format!("a second   {}", rates.join("   ")));
        let whole = |name| self.sum(name, "");
        lines.push(format!(
            "now        connections {:.0}   attempts {:.0}   waiting {:.0}",
            whole("merpati_sessions_open"),
            whole("merpati_attempts_running"),
            whole("merpati_queue_deliveries"),
        ));
        lines.push(format!(
            "           memory {:.0} MiB   spool {:.0} MiB, {:.0} MiB free",
            whole("merpati_memory_resident_bytes") / MIB,
            whole("merpati_spool_used_bytes") / MIB,
            whole("merpati_spool_free_bytes") / MIB,
        ));
        let loads = LOADS.iter().filter_map(|resource| {
            let level = self.sum("merpati_load_level", &format!("resource=\"{resource}\""));
            let words = if level >= 2.0 {
                "new mail is refused"
            } else if level >= 1.0 {
                "reads are slow"
            } else {
                return None;
            };
            Some(format!("short of {resource}: {words}"))
        });
        lines.extend(loads);
        for (heading, groups) in [("WHY IT WAITS", &self.reasons), ("WHERE IT GOES", &self.hops)] {
            lines.push(String::new());
            let part = if groups.is_part { " (of the oldest)" } else { "" };
            lines.push(format!("{:>10}  {heading}{part}", "DELIVERIES"));
            let rows = groups.rows.iter().take(ROWS_MAX);
            lines.extend(rows.map(|(name, count)| format!("{count:>10}  {name}")));
            if groups.rows.is_empty() {
                lines.push(format!("{:>10}  nothing waits", 0));
            }
            if let Some(more) = groups.rows.len().checked_sub(ROWS_MAX).filter(|more| *more > 0) {
                lines.push(format!("{:>10}  and {more} more", ""));
            }
        }
        lines
    }

    fn json(&self, before: Option<&Self>) -> Value {
        let rates = RATES.map(|(name, counters)| {
            (format!("{name}_per_second"), json!(self.rate(before, counters)))
        });
        let groups = |groups: &Groups| -> Value {
            groups.rows.iter().map(|(name, count)| (name.clone(), json!(count))).collect()
        };
        let mut all: serde_json::Map<String, Value> = rates.into_iter().collect();
        for (key, metric) in [
            ("connections", "merpati_sessions_open"),
            ("attempts", "merpati_attempts_running"),
            ("waiting", "merpati_queue_deliveries"),
            ("memory_bytes", "merpati_memory_resident_bytes"),
            ("spool_used_bytes", "merpati_spool_used_bytes"),
            ("spool_free_bytes", "merpati_spool_free_bytes"),
        ] {
            all.insert(key.to_owned(), json!(self.sum(metric, "")));
        }
        all.insert("now".to_owned(), self.status.get("now").cloned().unwrap_or_default());
        all.insert("ready".to_owned(), self.status.get("ready").cloned().unwrap_or_default());
        all.insert("reasons".to_owned(), groups(&self.reasons));
        all.insert("next_hops".to_owned(), groups(&self.hops));
        Value::Object(all)
    }
}

impl Groups {
    const fn none() -> Self {
        Self { rows: Vec::new(), is_part: false }
    }

    fn ask(by: &str, client: &Client) -> Result<Self, Failure> {
        let answer = client.json(&format!("/v1/queue/shape?query=&by={by}"))?;
        let data = answer.get("data").and_then(Value::as_array).into_iter().flatten();
        let row = |one: &Value| {
            let count = one.get("deliveries").and_then(Value::as_u64).unwrap_or(0);
            (plain(one.get("group")), count)
        };
        let mut rows: Vec<(String, u64)> = data.map(row).collect();
        rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let is_part = answer.pointer("/page/next").is_some_and(|next| !next.is_null());
        Ok(Self { rows, is_part })
    }
}

/// The samples of Prometheus' text format.
fn metrics(text: &str) -> Vec<Metric> {
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let (name, labels) = (name.to_owned(), labels.trim_end_matches('}').to_owned());
        Some(Metric { name, labels, value: value.parse().ok()? })
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

/// What is counted in a second: a word, and the counters that make it up.
const RATES: [(&str, &[(&str, &str)]); 5] = [
    (
        "taken",
        &[
            ("merpati_events_total", "event=\"Accepted\""),
            ("merpati_events_total", "event=\"Captured\""),
        ],
    ),
    ("delivered", &[("merpati_outcomes_total", "outcome=\"Delivered\"")]),
    ("deferred", &[("merpati_outcomes_total", "outcome=\"Deferred\"")]),
    ("failed", &[("merpati_outcomes_total", "outcome=\"Failed\"")]),
    ("refused", &[("merpati_refusals_total", "")]),
];
const LOADS: [&str; 3] = ["disk", "memory", "queue"];
/// Groups of one kind that are shown.
const ROWS_MAX: usize = 10;
/// The pause is at least so many times as long as the asking took.
const PAUSES_MIN: u32 = 4;
/// How long a relay that does not answer is left alone.
const PAUSE_WITHOUT_RELAY: Duration = Duration::from_secs(1);
/// How often keys are heard while the relay is asked.
const KEYS_EVERY: Duration = Duration::from_millis(50);
const MIB: f64 = 1_048_576.0;

#[cfg(test)]
#[path = "top_tests.rs"]
mod tests;
