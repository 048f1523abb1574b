//! What the parameters of MAIL and RCPT say (RFC 5321 §4.1.2).
//!
//! Invariant: a parameter is taken only where its extension is offered in the present state of the
//! session, and only once. Nothing of it is decided here. Pure.

use std::time::Duration;

use merpati_mail::{
    BodyType, ByMode, Priority, Time,
    envelope::{Notify, Ret, Utf8},
};

use crate::{command::Fault, dsn};

/// The extensions with parameters that a client may use just now; none after HELO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered(u16);

/// An extension that has parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// AUTH (RFC 4954).
    Auth,
    /// DELIVERBY (RFC 2852).
    DeliverBy,
    /// DSN (RFC 3461).
    Dsn,
    /// 8BITMIME (RFC 6152).
    EightBitMime,
    /// FUTURERELEASE (RFC 4865).
    FutureRelease,
    /// MT-PRIORITY (RFC 6710).
    MtPriority,
    /// REQUIRETLS (RFC 8689).
    RequireTls,
    /// SIZE (RFC 1870).
    Size,
    /// SMTPUTF8 (RFC 6531).
    Smtputf8,
}

impl Offered {
    /// Besides the others, this one.
    #[must_use]
    pub const fn with(self, extension: Extension) -> Self {
        Self(self.0 | 1 << extension as u16)
    }

    /// Whether this one is among them.
    pub const fn has(self, extension: Extension) -> bool {
        self.0 & 1 << extension as u16 != 0
    }
}

impl FromIterator<Extension> for Offered {
    fn from_iter<I: IntoIterator<Item = Extension>>(all: I) -> Self {
        all.into_iter().fold(Self::default(), Self::with)
    }
}

/// The parameters of MAIL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// `SIZE=` (RFC 1870 §6); `None` where there was none.
    pub size_bytes: Option<u64>,
    /// `BODY=` (RFC 6152 §3).
    pub body: BodyType,
    /// `SMTPUTF8` (RFC 6531 §3.4).
    pub utf8: Utf8,
    /// `BY=` (RFC 2852 §4); `None` where there was none.
    pub by: Option<By>,
    /// `HOLDFOR=` or `HOLDUNTIL=` (RFC 4865 §4); `None` where there was neither.
    pub hold: Option<HoldTime>,
    /// `MT-PRIORITY=` (RFC 6710 §4); `None` where there was none.
    pub priority: Option<Priority>,
    /// Whether there was `REQUIRETLS` (RFC 8689 §2).
    pub requires_tls: bool,
    /// `RET=` (RFC 3461 §4.3); `None` where there was none.
    pub ret: Option<Ret>,
    /// `ENVID=` in xtext, as given (RFC 3461 §4.4); `None` where there was none.
    pub envid: Option<String>,
}

/// By when a message is to be delivered (RFC 2852 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct By {
    /// Seconds from now, at most nine digits; with [`ByMode::Return`] at least 1.
    pub seconds: i64,
    /// What happens then.
    pub mode: ByMode,
    /// Whether each hand-over is to be reported.
    pub is_traced: bool,
}

/// Before when a message is not to be sent (RFC 4865 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldTime {
    /// So long.
    For(Duration),
    /// Until then.
    Until(Time),
}

/// The parameters of RCPT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecipientParameters {
    /// `NOTIFY=` (RFC 3461 §4.1); `None` where there was none.
    pub notify: Option<Notify>,
    /// `ORCPT=`, as given (RFC 3461 §4.2); `None` where there was none. It may hold characters
    /// beyond ASCII, which need `SMTPUTF8`.
    pub orcpt: Option<String>,
}

/// Reads what stands behind the reverse-path.
pub(crate) fn mail(behind: &str, offered: Offered) -> Result<MailParameters, Fault> {
    read(behind, offered, MAIL)
}

/// Reads what stands behind the forward-path.
pub(crate) fn recipient(behind: &str, offered: Offered) -> Result<RecipientParameters, Fault> {
    read(behind, offered, RECIPIENT)
}

/// A parameter: its name, the extension that it belongs to, and how its value is taken.
struct Keyword<P> {
    name: &'static str,
    extension: Extension,
    take: fn(&mut P, Option<&str>) -> Result<(), Fault>,
}

const MAIL: &[Keyword<MailParameters>] = &[
    Keyword { name: "SIZE", extension: Extension::Size, take: size },
    Keyword { name: "BODY", extension: Extension::EightBitMime, take: body },
    Keyword { name: "SMTPUTF8", extension: Extension::Smtputf8, take: smtputf8 },
    Keyword { name: "AUTH", extension: Extension::Auth, take: auth },
    Keyword { name: "BY", extension: Extension::DeliverBy, take: by },
    Keyword { name: "HOLDFOR", extension: Extension::FutureRelease, take: hold_for },
    Keyword { name: "HOLDUNTIL", extension: Extension::FutureRelease, take: hold_until },
    Keyword { name: "MT-PRIORITY", extension: Extension::MtPriority, take: mt_priority },
    Keyword { name: "REQUIRETLS", extension: Extension::RequireTls, take: require_tls },
    Keyword { name: "RET", extension: Extension::Dsn, take: ret },
    Keyword { name: "ENVID", extension: Extension::Dsn, take: envid },
];

const RECIPIENT: &[Keyword<RecipientParameters>] = &[
    Keyword { name: "NOTIFY", extension: Extension::Dsn, take: notify },
    Keyword { name: "ORCPT", extension: Extension::Dsn, take: orcpt },
];

fn read<P: Default>(
    behind: &str,
    offered: Offered,
    keywords: &'static [Keyword<P>],
) -> Result<P, Fault> {
    if !behind.is_empty() && !behind.starts_with(' ') {
        return Err(Fault::Argument("A blank must follow the address"));
    }
    let mut parameters = P::default();
    let mut seen: Vec<&str> = Vec::new();
    for word in behind.split(' ').filter(|word| !word.is_empty()) {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let keyword = keywords
            .iter()
            .find(|keyword| name.eq_ignore_ascii_case(keyword.name))
            .filter(|keyword| offered.has(keyword.extension))
            .ok_or(Fault::UnknownParameter)?;
        if seen.contains(&keyword.name) {
            return Err(Fault::Argument("A parameter is given twice"));
        }
        seen.push(keyword.name);
        (keyword.take)(&mut parameters, value)?;
    }
    Ok(parameters)
}

fn size(mail: &mut MailParameters, value: Option<&str>) -> Result<(), Fault> {
    let digits = value.unwrap_or_default();
    // RFC 1870 §6: 1 to 20 digits.
    if !(1..=20).contains(&digits.len()) || !digits.bytes().all(|o| o.is_ascii_digit()) {
        return Err(Fault::Argument("SIZE= takes a number"));
    }
    mail.size_bytes = Some(digits.parse().map_err(|_| Fault::SizeOverflow)?);
    Ok(())
}

fn body(mail: &mut MailParameters, value: Option<&str>) -> Result<(), Fault> {
    let value = value.unwrap_or_default();
    mail.body = if value.eq_ignore_ascii_case("8BITMIME") {
        BodyType::EightBitMime
    } else if value.eq_ignore_ascii_case("7BIT") {
        BodyType::SevenBit
    } else if value.eq_ignore_ascii_case("BINARYMIME") {
        // RFC 3030 §3: a value of an extension that we do not offer.
        return Err(Fault::UnknownParameter);
    } else {
        return Err(Fault::Argument("BODY= takes 7BIT or 8BITMIME"));
    };
    Ok(())
}

fn smtputf8(mail: &mut MailParameters, value: Option<&str>) -> Result<(), Fault> {
    if value.is_some() {
        return Err(Fault::Argument("SMTPUTF8 takes no value"));
    }
    mail.utf8 = Utf8::Declared;
    Ok(())
}

/// RFC 4954 §5: we trust no such claim, so it is checked and forgotten.
fn auth(_: &mut MailParameters, value: Option<&str>) -> Result<(), Fault> {
    if value.is_some_and(|value| value == "<>" || is_xtext(value, AUTH_OCTETS_MAX)) {
        Ok(())
    } else {
        Err(Fault::Argument("AUTH= takes an address in xtext"))
    }
}

/// `by-value` of RFC 2852 §4: a time of one to nine digits, a mode and perhaps a trace.
fn by(mail: &mut MailParameters, value: Option<&str>) -> Result<(), Fault> {
    const WRONG: Fault = Fault::Argument("BY= takes seconds, a semicolon, N or R, and perhaps T");
    let (time, mode) = value.unwrap_or_default().split_once(';').ok_or(WRONG)?;
    let digits = time.strip_prefix(['+', '-']).unwrap_or(time);
    let number = i64::try_from(number(digits).ok_or(WRONG)?).map_err(|_| WRONG)?;
    let seconds = if time.starts_with('-') { -number } else { number };
    let (mode, is_traced) = match mode.as_bytes() {
        [b'N' | b'n'] => (ByMode::Notify, false),
        [b'N' | b'n', b'T' | b't'] => (ByMode::Notify, true),
        [b'R' | b'r'] => (ByMode::Return, false),
        [b'R' | b'r', b'T' | b't'] => (ByMode::Return, true),
        _ => return Err(WRONG),
    };
    if mode == ByMode::Return && seconds <= 0 {
        return Err(Fault::Argument("BY= with R takes a time above 0"));
    }
    mail.by = Some(By { seconds, mode, is_traced });
    Ok(())
}

fn hold_for(mail: &mut MailParameters, value: Option<&str>) -> Result<(), Fault> {
    let digits = value.unwrap_or_default();
    // RFC 4865 §4: the first digit is not 0.
    let secs = number(digits).filter(|_| !digits.starts_with('0'));
    let secs = secs.ok_or(Fault::Argument("HOLDFOR= takes seconds, at least 1"))?;
    hold(mail, HoldTime::For(Duration::from_secs(secs)))
}

fn hold_until(mail: &mut MailParameters, value: Option<&str>) -> Result<(), Fault> {
    let time = Time::parse_rfc3339(value.unwrap_or_default())
        .ok_or(Fault::Argument("HOLDUNTIL= takes a date and time of RFC 3339"))?;
    hold(mail, HoldTime::Until(time))
}

/// RFC 4865 §4: only one of the two may be given.
fn hold(mail: &mut MailParameters, time: HoldTime) -> Result<(), Fault> {
    match mail.hold.replace(time) {
        None => Ok(()),
        Some(_) => Err(Fault::Argument("Only one of HOLDFOR and HOLDUNTIL may be given")),
    }
}

/// `priority-value` of RFC 6710 §8: neither a plus sign nor a leading 0.
fn mt_priority(mail: &mut MailParameters, value: Option<&str>) -> Result<(), Fault> {
    let value = value.unwrap_or_default();
    let digit = match value.as_bytes() {
        [b'0'] => Some(0),
        [digit @ b'1'..=b'9'] => Some((digit - b'0').cast_signed()),
        [b'-', digit @ b'1'..=b'9'] => Some(-(digit - b'0').cast_signed()),
        _ => None,
    };
    mail.priority = digit.and_then(Priority::new);
    match mail.priority {
        Some(_) => Ok(()),
        None => Err(Fault::Argument("MT-PRIORITY= takes a number from -9 to 9")),
    }
}

fn require_tls(mail: &mut MailParameters, value: Option<&str>) -> Result<(), Fault> {
    if value.is_some() {
        return Err(Fault::Argument("REQUIRETLS takes no value"));
    }
    mail.requires_tls = true;
    Ok(())
}

/// One to nine digits, as RFC 2852 §4 and RFC 4865 §4 have them.
fn number(digits: &str) -> Option<u64> {
    let is_number =
        (1..=9).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

fn ret(mail: &mut MailParameters, value: Option<&str>) -> Result<(), Fault> {
    mail.ret = Some(dsn::ret(value)?);
    Ok(())
}

fn envid(mail: &mut MailParameters, value: Option<&str>) -> Result<(), Fault> {
    mail.envid = Some(dsn::envid(value)?);
    Ok(())
}

fn notify(recipient: &mut RecipientParameters, value: Option<&str>) -> Result<(), Fault> {
    recipient.notify = Some(dsn::notify(value)?);
    Ok(())
}

fn orcpt(recipient: &mut RecipientParameters, value: Option<&str>) -> Result<(), Fault> {
    recipient.orcpt = Some(dsn::orcpt(value)?);
    Ok(())
}

/// Xtext (RFC 3461 §4) of printable octets, at least one; a hidden line end is refused.
fn is_xtext(value: &str, octets_max: usize) -> bool {
    let mut octets = value.bytes();
    while let Some(octet) = octets.next() {
        let is_right = match octet {
            b'+' => matches!(
                (octets.next(), octets.next()),
                (Some(b'2'..=b'6' | b'8' | b'9' | b'A'..=b'F'), Some(b'0'..=b'9' | b'A'..=b'F'))
                    | (Some(b'7'), Some(b'0'..=b'9' | b'A'..=b'E'))
            ),
            b'=' => false,
            other => other.is_ascii_graphic(),
        };
        if !is_right {
            return false;
        }
    }
    (1..=octets_max).contains(&value.len())
}

/// The longest value of `AUTH=` in octets (RFC 4954 §5).
const AUTH_OCTETS_MAX: usize = 500;
