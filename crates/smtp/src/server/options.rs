//! What a listener offers, and how much of it.
//!
//! Invariant: whatever a client can make us hold or wait for has a name here. Pure.

use std::time::Duration;

/// What the sessions of one listener offer and bear; shared by all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The name of the listener, for envelopes, rules and logs.
    pub listener: String,
    /// Our own name in the greeting and in EHLO (RFC 5321 §4.1.1.1); a domain or address literal.
    pub hostname: String,
    /// What the greeting says behind the name; default `ESMTP Merpati`.
    pub greeting: String,
    /// Whether STARTTLS is there; default absent.
    pub starttls: StartTls,
    /// Where AUTH is offered; default nowhere.
    pub auth: Auth,
    /// How a client may authenticate, in the order in which it is told; default
    /// [`Mechanism::PASSWORDS`].
    pub mechanisms: Vec<Mechanism>,
    /// How VRFY is answered; default with 252.
    pub vrfy: Vrfy,
    /// What must have been done before MAIL; default nothing.
    pub mail_needs: MailNeeds,
    /// What becomes of clients that do not wait where RFC 2920 §3.1 obliges them; default
    /// tolerated.
    pub pipelining: Discipline,
    /// What becomes of clients that talk before the greeting (RFC 5321 §3.1); default tolerated.
    pub early_talkers: Discipline,
    /// What clients may ask for besides delivery; default nothing.
    pub offers: Offers,
    /// How much.
    pub limits: Limits,
    /// How long.
    pub waits: Waits,
}

impl Options {
    /// The defaults, for a listener of this name on a host of that name.
    pub fn new(listener: impl Into<String>, hostname: impl Into<String>) -> Self {
        Self {
            listener: listener.into(),
            hostname: hostname.into(),
            greeting: "ESMTP Merpati".to_owned(),
            starttls: StartTls::Absent,
            auth: Auth::Off,
            mechanisms: Mechanism::PASSWORDS.to_vec(),
            vrfy: Vrfy::CannotVerify,
            mail_needs: MailNeeds::Nothing,
            pipelining: Discipline::Tolerated,
            early_talkers: Discipline::Tolerated,
            offers: Offers::default(),
            limits: Limits::default(),
            waits: Waits::default(),
        }
    }

    /// How many octets the input buffer of the shell must be able to hold: the longest line that is
    /// read whole, with room for its end.
    pub fn buffer_octets_min(&self) -> usize {
        self.limits.command_octets_max.max(self.limits.auth_octets_max) + 4
    }
}

/// Whether STARTTLS (RFC 3207) is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTls {
    /// It is not: 502.
    Absent,
    /// It is offered, until TLS runs.
    Offered,
    /// It should be, but there is no usable certificate: not offered, 454 (RFC 3207 §4).
    Unavailable,
}

/// Where AUTH (RFC 4954) is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Everywhere, also in the clear: for the sandbox and for loopback.
    Anywhere,
    /// Nowhere: 502.
    Off,
    /// Only over TLS; in the clear 538 5.7.11.
    OverTls,
}

/// How VRFY is answered. EXPN is not there: it tells who reads a list (RFC 5321 §7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vrfy {
    /// With 252, whoever is asked about: nobody learns which names exist (RFC 5321 §7.3).
    CannotVerify,
    /// It is not there: 502.
    Off,
}

/// A mechanism of SASL (RFC 4422), in the order in which we like them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256-PLUS (RFC 7677) with `tls-exporter` (RFC 9266): where TLS can give it.
    ScramSha256Plus,
    /// SCRAM-SHA-256 (RFC 5802, RFC 7677): the password is not shown.
    ScramSha256,
    /// EXTERNAL (RFC 4422, Appendix A): told to clients that came with a certificate.
    External,
    /// OAUTHBEARER (RFC 7628).
    Oauthbearer,
    /// XOAUTH2, never standardised: what OAUTHBEARER was made from.
    Xoauth2,
    /// PLAIN (RFC 4616).
    Plain,
    /// LOGIN, never standardised, widely used.
    Login,
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ScramSha256Plus,
        Self::ScramSha256,
        Self::External,
        Self::Oauthbearer,
        Self::Xoauth2,
        Self::Plain,
        Self::Login,
    ];

    /// Those that need a password and nothing else.
    pub const PASSWORDS: [Self; 4] =
        [Self::ScramSha256Plus, Self::ScramSha256, Self::Plain, Self::Login];

    /// The name by which it is registered.
    pub const fn name(self) -> &'static str {
        match self {
            Self::External => "EXTERNAL",
            Self::Login => "LOGIN",
            Self::Oauthbearer => "OAUTHBEARER",
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::Xoauth2 => "XOAUTH2",
        }
    }
}

/// What must have been done before MAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailNeeds {
    /// AUTH (RFC 6409 §4.3): otherwise 530 5.7.0.
    Auth,
    /// Nothing.
    Nothing,
    /// TLS (RFC 3207 §4): otherwise 530 5.7.0.
    Tls,
}

/// What clients may ask for besides delivery. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// DELIVERBY (RFC 2852), with the shortest time that is taken for mode `R`; shorter: 555 5.5.4.
    /// `None` where it is not offered.
    pub deliver_by_min: Option<Duration>,
    /// FUTURERELEASE (RFC 4865), with the longest time that a message may be held; longer: 501
    /// 5.5.4. It is a service for authors: offered where [`MailNeeds::Auth`] holds, and elsewhere
    /// to clients that have authenticated. `None` where it is not offered.
    pub future_release_max: Option<Duration>,
    /// MT-PRIORITY (RFC 6710).
    pub mt_priority: Offer,
    /// REQUIRETLS (RFC 8689); only ever under TLS.
    pub require_tls: Offer,
}

/// Whether an extension is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offer {
    /// It is not: its parameters are told 555 5.5.4.
    #[default]
    Absent,
    /// It is.
    Offered,
}

/// What becomes of a client that does not keep to the order of the dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discipline {
    /// 554 5.5.0 and the end, unless the client has authenticated.
    Enforced,
    /// Nothing.
    Tolerated,
}

/// What the lists of the operator say of who connects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// He may introduce the clients that he speaks for, with XCLIENT.
    Introducer,
    /// We know him.
    Known,
    /// Nothing.
    #[default]
    Stranger,
}

/// How much a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest command line in octets without CRLF; longer: 500 5.5.2. Default 1,536: 512 of
    /// RFC 5321 §4.5.3.1.4 and the growth that RFC 1870, 3461, 4954, 6152 and 6531 ask for.
    pub command_octets_max: usize,
    /// The longest line of a SASL exchange in octets without CRLF; longer: 500 5.5.6. Default
    /// 12,288 (RFC 4954 §4).
    pub auth_octets_max: usize,
    /// The longest line that is skipped in order to go on behind it; longer: 421 and the end.
    /// Default 65,536 octets.
    pub skipped_line_octets_max: usize,
    /// The longest content in octets, told as `SIZE` (RFC 1870); longer: 552 5.3.4. At least 1;
    /// default 52,428,800.
    pub message_bytes_max: u64,
    /// How many octets of content that is too long are read in order to go on behind them; more:
    /// 552 and the end. Default 1 GiB.
    pub drained_bytes_max: u64,
    /// The most recipients of one transaction, told as `RCPTMAX` (RFC 9422); more: 452 4.5.3. At
    /// least 100 (RFC 5321 §4.5.3.1.8); default 1,000.
    pub recipients_max: usize,
    /// The most transactions of one connection; more: 421 4.5.3. Told as `MAILMAX` (RFC 9422) where
    /// it is at most 10,000, beyond which no client plans. Default 100,000.
    pub transactions_max: u32,
    /// The number of bad commands at which a session ends: 421 4.7.0. Default 50.
    pub bad_commands_max: u32,
    /// The number of failed AUTH at which a session ends: 421 4.7.0. Default 10.
    pub auth_failures_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_octets_max: 1_536,
            auth_octets_max: 12_288,
            skipped_line_octets_max: 65_536,
            message_bytes_max: 50 << 20,
            drained_bytes_max: 1 << 30,
            recipients_max: 1_000,
            transactions_max: 100_000,
            bad_commands_max: 50,
            auth_failures_max: 10,
        }
    }
}

/// How long we wait for a client; then 421 4.4.2 and the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// For a whole command. Default 5 minutes (RFC 5321 §4.5.3.2.7).
    pub command_wait: Duration,
    /// For the next octets of content. Default 3 minutes (RFC 5321 §4.5.3.2.5).
    pub data_block_wait: Duration,
    /// How long content may take, whatever its size. Default 10 minutes.
    pub content_grace: Duration,
    /// How many octets of content buy a second more. At least 1; default 100.
    pub content_rate_min: u64,
    /// How long a stranger waits for the greeting. Default 0: not at all.
    pub greeting_wait: Duration,
    /// For a command or the next octets of content where others need the place: see
    /// [`Session::hurry`](super::Session::hurry). Default 10 seconds.
    pub hurried_wait: Duration,
    /// From MAIL to the end of the content. Default 2 hours.
    pub transaction_wait: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            command_wait: Duration::from_mins(5),
            data_block_wait: Duration::from_mins(3),
            content_grace: Duration::from_mins(10),
            content_rate_min: 100,
            greeting_wait: Duration::ZERO,
            hurried_wait: Duration::from_secs(10),
            transaction_wait: Duration::from_hours(2),
        }
    }
}
