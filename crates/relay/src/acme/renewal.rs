//! When a certificate is ordered anew, and when an order that failed is tried again.
//!
//! Invariant: no certificate is renewed more often than once an hour, or in half of its life, and
//! none later than a tenth of its life before its end, whatever a CA says. Pure.

use std::time::Duration;

use aws_lc_rs::digest;
use merpati_mail::Time;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

/// From when on and until when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Life {
    /// Its first second.
    pub(super) from: Time,
    /// Its last one.
    pub(super) until: Time,
    /// Something between 0 and 1 that is the same whenever this certificate is looked at: so
    /// relays that began at once do not renew at once.
    pub(super) jitter: f64,
}

/// When a CA wants it to be renewed (RFC 9773 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The first moment.
    pub(super) start: Time,
    /// The last one.
    pub(super) end: Time,
}

impl Life {
    /// That of a certificate; `None` where it cannot be read.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let time = |secs: i64| Some(Time::from_secs(u64::try_from(secs).ok()?));
        let sum = digest::digest(&digest::SHA256, certificate);
        let first = sum.as_ref().first_chunk::<4>().copied()?;
        Some(Self {
            from: time(parsed.validity().not_before.timestamp())?,
            until: time(parsed.validity().not_after.timestamp())?,
            jitter: f64::from(u32::from_be_bytes(first)) / f64::from(u32::MAX),
        })
    }

    /// When it is renewed.
    pub(super) fn due(&self, window: Option<Window>) -> Time {
        let life = self.until.since(self.from);
        let wished = match window {
            Some(Window { start, end }) => after(start, end.since(start).mul_f64(self.jitter)),
            // Two thirds, or up to a thirtieth less.
            None => after(self.from, life.mul_f64(2.0 / 3.0 - self.jitter / 30.0)),
        };
        let earliest = after(self.from, (life / 2).min(RENEWAL_MIN));
        let latest = after(self.from, life.mul_f64(0.9));
        wished.clamp(earliest, latest)
    }
}

/// How long after so many failures in a row the next try is; `jitter` is in 0 to 1.
pub(super) fn wait(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_WAIT).mul_f64(1.0 - jitter / 4.0)
}

pub(super) fn after(time: Time, wait: Duration) -> Time {
    let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
    Time::from_micros(time.as_micros().saturating_add(micros))
}

/// The least time from one certificate to the next.
const RENEWAL_MIN: Duration = Duration::from_hours(1);
/// How long after the first failure the next try is.
const FIRST_WAIT: Duration = Duration::from_mins(1);
/// The longest wait: CAs count failures by the hour.
const LONGEST_WAIT: Duration = Duration::from_hours(6);

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn it_is_renewed_when_the_ca_says_so_but_in_time_and_not_always() {
        let from = Time::from_secs(1_000 * DAY);
        let life = Life { from, until: Time::from_secs(1_090 * DAY), jitter: 0.5 };
        let day = |window: Option<(u64, u64)>| {
            let window = window.map(|(start, end)| Window {
                start: Time::from_secs(start * DAY),
                end: Time::from_secs(end * DAY),
            });
            life.due(window).since(from).as_secs_f64() / 86_400.0
        };
        for (window, want) in [
            (None, 58.5),
            (Some((1_050, 1_052)), 51.0),
            // At once: something happened.
            (Some((900, 902)), 1.0 / 24.0),
            // Nobody waits until it is over.
            (Some((1_200, 1_202)), 81.0),
        ] {
            assert!((day(window) - want).abs() < 0.001, "{window:?}: {}", day(window));
        }
        // The life of a test, with a window that was made for months.
        let short = Life { until: Time::from_secs(1_000 * DAY + 30), ..life };
        let window = Window { start: Time::from_secs(999 * DAY), end: from };
        assert_eq!(short.due(Some(window)).since(from), Duration::from_secs(15));
    }

    #[test]
    fn failures_are_tried_again_less_and_less_often() {
        let minutes = [1, 2, 3, 9, 40].map(|failures| wait(failures, 0.0).as_secs() / 60);
        assert_eq!(minutes, [1, 2, 4, 256, 360]);
        assert_eq!(wait(1, 1.0), Duration::from_secs(45));
    }
}
