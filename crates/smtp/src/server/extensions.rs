//! Which extensions a client may use in the present state of its session, and what it asks for by
//! them.
//!
//! Invariant: what EHLO names is what is taken, and every limit that it tells is the one that is
//! kept. Pure.

use std::{fmt::Write as _, time::Duration};

use merpati_mail::{ByMode, DeliverBy, Reply, Requests, Time, TlsRequest};

use super::{HelloKind, MailNeeds, Mechanism, Offer, Session, Standing, StartTls};
use crate::parameters::{By, Extension, HoldTime, MailParameters, Offered};
use crate::xclient::ATTRIBUTES;

impl Session {
    /// The reply to EHLO: who we are, whom we see, what we have.
    pub(super) fn ehlo_reply(&self, now: Time) -> Reply {
        let options = &self.options;
        let mut text = format!("{} greets [{}]", options.hostname, self.client.address.ip());
        let size = options.limits.message_bytes_max;
        let extensions = "PIPELINING\n8BITMIME\nSMTPUTF8\nCHUNKING\nENHANCEDSTATUSCODES\nDSN\nHELP";
        // Writing into a `String` cannot fail.
        let _ = write!(text, "\nSIZE {size}\n{extensions}");
        if options.starttls == StartTls::Offered && self.client.tls.is_none() {
            text.push_str("\nSTARTTLS");
        }
        if self.client.credential.is_none() {
            let mut mechanisms = self.offered_mechanisms().map(Mechanism::name).peekable();
            if mechanisms.peek().is_some() {
                text.push_str("\nAUTH");
            }
            for mechanism in mechanisms {
                let _ = write!(text, " {mechanism}");
            }
        }
        if self.standing == Standing::Introducer {
            let _ = write!(text, "\nXCLIENT {ATTRIBUTES}");
        }
        self.add_offers(&mut text, now);
        Reply::bare(250, text)
    }

    fn add_offers(&self, text: &mut String, now: Time) {
        let offers = &self.options.offers;
        // RFC 2852 §3: the shortest time stands behind the keyword where there is one.
        match offers.deliver_by_min.map(|min| min.as_secs()) {
            None => {}
            Some(0) => text.push_str("\nDELIVERBY"),
            Some(secs) => _ = write!(text, "\nDELIVERBY {secs}"),
        }
        if let Some(max) = self.future_release_max() {
            // RFC 4865 §4: the longest time, and the furthest date.
            let _ = write!(text, "\nFUTURERELEASE {} {}", max.as_secs(), (now + max).rfc3339());
        }
        if offers.mt_priority == Offer::Offered {
            text.push_str("\nMT-PRIORITY");
        }
        if self.offers_require_tls() {
            text.push_str("\nREQUIRETLS");
        }
        text.push_str(&self.limits());
    }

    /// The LIMITS that are kept (RFC 9422); empty where none can be told in six digits.
    fn limits(&self) -> String {
        let limits = &self.options.limits;
        let recipients_max = Some(limits.recipients_max).filter(|&max| max <= LIMIT_MAX);
        let mail_max = Some(limits.transactions_max).filter(|&max| max <= MAILMAX_MAX);
        let mut text = String::new();
        if let Some(max) = recipients_max {
            let _ = write!(text, " RCPTMAX={max}");
        }
        if let Some(max) = mail_max {
            let _ = write!(text, " MAILMAX={max}");
        }
        if text.is_empty() { text } else { format!("\nLIMITS{text}") }
    }

    /// The extensions with parameters that the client may use just now. RFC 5321 §4.1.1.1: none
    /// of them after HELO.
    pub(super) fn offered(&self) -> Offered {
        if self.client.hello.as_ref().is_some_and(|hello| hello.kind == HelloKind::Helo) {
            return Offered::default();
        }
        let offers = &self.options.offers;
        let always =
            [Extension::Dsn, Extension::EightBitMime, Extension::Size, Extension::Smtputf8];
        let sometimes = [
            (Extension::Auth, self.may_authenticate()),
            (Extension::DeliverBy, offers.deliver_by_min.is_some()),
            (Extension::FutureRelease, self.future_release_max().is_some()),
            (Extension::MtPriority, offers.mt_priority == Offer::Offered),
            (Extension::RequireTls, self.offers_require_tls()),
        ];
        let now = sometimes.into_iter().filter_map(|(extension, is_so)| is_so.then_some(extension));
        always.into_iter().chain(now).collect()
    }

    /// What a client asks for by parameters that could be read; errs with the refusal.
    pub(super) fn requests(&self, now: Time, mail: &MailParameters) -> Result<Requests, Reply> {
        let release_at = match mail.hold {
            None => None,
            Some(hold) => self.release_at(now, hold)?,
        };
        let deliver_by = match mail.by {
            None => None,
            Some(by) => Some(self.deliver_by(release_at.unwrap_or(now), by)?),
        };
        let tls = if mail.requires_tls { TlsRequest::Required } else { TlsRequest::AsRouted };
        Ok(Requests { deliver_by, priority: mail.priority, release_at, tls })
    }

    /// RFC 2852 §4. Of a message that is held, the time begins with its release.
    fn deliver_by(&self, from: Time, by: By) -> Result<DeliverBy, Reply> {
        let By { seconds, mode, is_traced } = by;
        let span = Duration::from_secs(seconds.unsigned_abs());
        let min = self.options.offers.deliver_by_min.unwrap_or_default();
        if mode == ByMode::Return && span < min {
            let text = format!("BY= with R takes at least {} seconds here", min.as_secs());
            return Err(Reply::with_text(555, (5, 5, 4), text));
        }
        let deadline = if seconds < 0 { from - span } else { from + span };
        Ok(DeliverBy { deadline, mode, is_traced })
    }

    /// RFC 4865 §4: what is over is sent at once.
    fn release_at(&self, now: Time, hold: HoldTime) -> Result<Option<Time>, Reply> {
        let max = self.future_release_max().unwrap_or_default();
        let until = match hold {
            HoldTime::For(span) => now + span,
            HoldTime::Until(time) => time,
        };
        if until > now + max {
            let text = format!("A message is held for at most {} seconds here", max.as_secs());
            return Err(Reply::with_text(501, (5, 5, 4), text));
        }
        Ok(Some(until).filter(|until| *until > now))
    }

    /// RFC 4865 is a service of submission: strangers cannot park their mail with us.
    fn future_release_max(&self) -> Option<Duration> {
        let is_for_authors = match self.options.mail_needs {
            MailNeeds::Auth => true,
            MailNeeds::Nothing | MailNeeds::Tls => self.client.credential.is_some(),
        };
        self.options.offers.future_release_max.filter(|_| is_for_authors)
    }

    /// RFC 8689 §2: who asks in the clear has shown the message to everybody already.
    fn offers_require_tls(&self) -> bool {
        self.options.offers.require_tls == Offer::Offered && self.client.tls.is_some()
    }
}

/// The largest number that RFC 9422 §3 can tell: six digits.
const LIMIT_MAX: usize = 999_999;
/// Above it nobody plans with the number of transactions.
const MAILMAX_MAX: u32 = 10_000;
