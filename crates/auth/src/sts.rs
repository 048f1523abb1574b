//! What a domain demands of TLS for its mail: the record and the policy of MTA-STS (RFC 8461 §3).
//!
//! Invariant: a record or a policy that is not well-formed demands nothing, and never half of what
//! stands in it. Pure: somebody else asks the DNS and fetches the policy.

use std::{fmt, time::Duration};

use merpati_mail::Domain;

/// What stands at `_mta-sts.DOMAIN` (§3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which policy is in force: another one has another id. 1 to 32 letters and digits.
    pub id: String,
}

/// The record among the TXT records of a name. `None` where there is none, more than one, or one
/// that is not well-formed: then the domain has no policy.
pub fn record(texts: &[impl AsRef<[u8]>]) -> Option<Record> {
    let mut records = texts.iter().filter_map(|text| fields(text.as_ref()));
    let (Some(fields), None) = (records.next(), records.next()) else { return None };
    let mut id = None;
    let fields = str::from_utf8(fields).ok()?.trim_matches(is_blank);
    for field in fields.strip_suffix(';').unwrap_or(fields).split(';') {
        let (name, value) = field.trim_matches(is_blank).split_once('=')?;
        let is_id = name == "id";
        // Two of them: nobody can tell which is meant.
        if !is_name(name) || (is_id && (!is_policy_id(value) || id.is_some())) {
            return None;
        }
        if is_id {
            id = Some(value.to_owned());
        }
    }
    Some(Record { id: id? })
}

/// What stands behind the version, where a text has the version of such records.
fn fields(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"v=STSv1")?.trim_ascii_start().strip_prefix(b";")
}

/// Whether this is the id of a policy.
pub fn is_policy_id(text: &str) -> bool {
    (1..=ID_OCTETS_MAX).contains(&text.len()) && text.bytes().all(|o| o.is_ascii_alphanumeric())
}

/// Whether this names a field; names of fields that we do not know are kept to that too (§3.1).
fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.len() <= NAME_OCTETS_MAX
        && text.bytes().all(|o| o.is_ascii_alphanumeric() || matches!(o, b'_' | b'-' | b'.'))
}

/// What is to become of mail where a host does not do what the policy demands (§5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It must not go to that host.
    Enforce,
    /// As if there were no policy; so a domain takes its policy back (§8.3).
    None,
    /// It goes, and the failure is reported.
    Testing,
}

impl Mode {
    /// As policies write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::None => "none",
            Self::Testing => "testing",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which hosts are meant by a line `mx` of a policy (§4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Those with one label before this name.
    Below(Domain),
    /// The host with this name.
    Host(Domain),
}

impl Pattern {
    /// Reads a name, or a name behind `*.`; `None` where it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (is_wild, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let name = Domain::parse(name.strip_suffix('.').unwrap_or(name)).ok()?;
        name.as_name()?;
        Some(if is_wild { Self::Below(name) } else { Self::Host(name) })
    }

    /// Whether this host is meant.
    pub fn allows(&self, host: &Domain) -> bool {
        match self {
            Self::Below(parent) => {
                let behind = host.as_name().and_then(|name| name.split_once('.'));
                behind.is_some_and(|(_, behind)| parent.as_name() == Some(behind))
            }
            Self::Host(name) => name == host,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Host(name) => write!(f, "{name}"),
        }
    }
}

/// What a domain demands (§3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What becomes of mail where a host does not do as it should.
    pub mode: Mode,
    /// For how long the policy is good, from when it was fetched; whole seconds, at most
    /// [`AGE_SECS_MAX`].
    pub max_age: Duration,
    /// The hosts to which mail may go; empty only where the mode is `none`.
    pub mx: Vec<Pattern>,
}

impl Policy {
    /// Reads the text of a policy, at most [`POLICY_OCTETS_MAX`] octets.
    ///
    /// Fields may be in any order. Of a field that stands there twice the first counts, but for
    /// `mx`; fields that we do not know are passed over, and so are empty lines.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        if text.len() > POLICY_OCTETS_MAX {
            return Err(PolicyError::TooLong);
        }
        let text = str::from_utf8(text).map_err(|_| PolicyError::NotText)?;
        let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
        for (line, at) in text.lines().zip(1_usize..) {
            let line = line.trim_matches(is_blank);
            if line.is_empty() {
                continue;
            }
            let (name, value) = line.split_once(':').ok_or(PolicyError::BadLine(at))?;
            let value = value.trim_matches(is_blank);
            match name {
                "version" => _ = version.get_or_insert(value),
                "mode" => _ = mode.get_or_insert(value),
                "max_age" => _ = max_age.get_or_insert(value),
                "mx" if mx.len() == MX_MAX => return Err(PolicyError::TooManyHosts),
                "mx" => mx.push(Pattern::parse(value).ok_or(PolicyError::BadHost(at))?),
                other if is_name(other) => {}
                _ => return Err(PolicyError::BadLine(at)),
            }
        }
        if version != Some("STSv1") {
            return Err(PolicyError::Version);
        }
        let mode = match mode {
            Some("enforce") => Mode::Enforce,
            Some("none") => Mode::None,
            Some("testing") => Mode::Testing,
            Some(_) | None => return Err(PolicyError::Mode),
        };
        let max_age = max_age.and_then(age).ok_or(PolicyError::MaxAge)?;
        if mx.is_empty() && mode != Mode::None {
            return Err(PolicyError::NoHost);
        }
        Ok(Self { mode, max_age, mx })
    }

    /// Whether mail may go to this host.
    pub fn allows(&self, host: &Domain) -> bool {
        self.mx.iter().any(|pattern| pattern.allows(host))
    }

    /// The policy line by line, as reports of TLS give it (RFC 8460 §4.4, `policy-string`).
    /// [`Self::parse`] reads it again.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec!["version: STSv1".to_owned(), format!("mode: {}", self.mode)];
        lines.extend(self.mx.iter().map(|pattern| format!("mx: {pattern}")));
        lines.push(format!("max_age: {}", self.max_age.as_secs()));
        lines
    }

    /// The hosts to which mail may go, as reports of TLS give them (`mx-host`).
    pub fn hosts(&self) -> Vec<String> {
        self.mx.iter().map(ToString::to_string).collect()
    }
}

/// Why a text is no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// A line `mx` names no host; its number.
    BadHost(usize),
    /// A line is no name with a value; its number.
    BadLine(usize),
    /// `max_age` is missing, no number, or too great.
    MaxAge,
    /// `mode` is missing, or none that there is.
    Mode,
    /// No host may take mail, though the mode is not `none`.
    NoHost,
    /// It is not UTF-8.
    NotText,
    /// It is longer than [`POLICY_OCTETS_MAX`].
    TooLong,
    /// It has more than [`MX_MAX`] lines `mx`.
    TooManyHosts,
    /// `version` is missing, or not `STSv1`.
    Version,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadHost(line) => write!(f, "line {line} names no host behind `mx:`"),
            Self::BadLine(line) => write!(f, "line {line} is no `name: value`"),
            Self::MaxAge => write!(f, "`max_age` is no number of seconds up to {AGE_SECS_MAX}"),
            Self::Mode => f.write_str("`mode` is none of enforce, testing and none"),
            Self::NoHost => f.write_str("no line `mx` names a host"),
            Self::NotText => f.write_str("it is not UTF-8"),
            Self::TooLong => write!(f, "it is longer than {POLICY_OCTETS_MAX} octets"),
            Self::TooManyHosts => write!(f, "it has more than {MX_MAX} lines `mx`"),
            Self::Version => f.write_str("`version` is not STSv1"),
        }
    }
}

impl std::error::Error for PolicyError {}

/// One to ten digits, up to [`AGE_SECS_MAX`].
fn age(text: &str) -> Option<Duration> {
    let is_number = (1..=10).contains(&text.len()) && text.bytes().all(|o| o.is_ascii_digit());
    let secs = text.parse::<u64>().ok().filter(|secs| is_number && *secs <= AGE_SECS_MAX)?;
    Some(Duration::from_secs(secs))
}

/// WSP (RFC 5234, appendix B.1).
const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// The longest time for which a policy may be good: a year (§3.2).
pub const AGE_SECS_MAX: u64 = 31_557_600;

/// The longest text of a policy that is read (§3.3 suggests this limit).
pub const POLICY_OCTETS_MAX: usize = 65_536;

/// Lines `mx` of one policy. Who has more hosts than that uses `*.`.
pub const MX_MAX: usize = 256;

/// The longest id (§3.1).
const ID_OCTETS_MAX: usize = 32;

/// The longest name of a field (§3.1).
const NAME_OCTETS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(texts: &[&str]) -> Option<String> {
        record(texts).map(|record| record.id)
    }

    #[test]
    fn a_record_that_is_not_one_and_well_formed_is_none() {
        let long = format!("v=STSv1; id={};", "a".repeat(32));
        let too_long = format!("v=STSv1; id={};", "a".repeat(33));
        for (texts, want) in [
            (&["v=STSv1; id=20160831085700Z;"][..], Some("20160831085700Z")),
            (&["v=STSv1;id=1"], Some("1")),
            (&["v=STSv1 ; id=1 ; "], Some("1")),
            (&["v=STSv1; ext=a/b c; id=1;"], Some("1")),
            (&["v=STSv1; id=1; x-y.z_0=;"], Some("1")),
            (&["google-site-verification=1", "v=STSv1; id=1", "v=STSv2; id=2"], Some("1")),
            (&["v=STSv1; id=1", "v=STSv10; id=1"], Some("1")),
            (&[&long], Some(&long[12..44])),
            (&[&too_long], None),
            (&["v=STSv1; id=1", "v=STSv1; id=1"], None),
            (&["v=STSv1; id=1", "v=STSv1; junk"], None),
            (&["v=STSv1"], None),
            (&["v=STSv1;"], None),
            (&["v=STSv1 id=1"], None),
            (&["V=STSv1; id=1"], None),
            (&["v=stsv1; id=1"], None),
            (&[" v=STSv1; id=1"], None),
            (&["v=STSv1; id="], None),
            (&["v=STSv1; id=a-b"], None),
            (&["v=STSv1; id=a b"], None),
            (&["v=STSv1; ID=1"], None),
            (&["v=STSv1; id=1; id=1"], None),
            (&["v=STSv1; id=1;; x=1"], None),
            (&["v=STSv1; id=1; junk"], None),
            (&["v=STSv1; id=1; =x"], None),
            (&["v=STSv1; id=\u{e9}"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(id(texts).as_deref(), want, "{texts:?}");
        }
        assert_eq!(record(&[b"v=STSv1; id=1; x=\xff"]), None);
    }

    #[test]
    fn a_policy_is_read_by_its_fields() {
        let good = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\n\
                    mx: *.example.net\r\nmx: backupmx.example.com\r\nmax_age: 604800\r\n";
        let policy = Policy::parse(good.as_bytes()).unwrap();
        assert_eq!((policy.mode, policy.max_age.as_secs()), (Mode::Enforce, 604_800));
        assert_eq!(policy.hosts(), ["mail.example.com", "*.example.net", "backupmx.example.com"]);
        assert_eq!(policy.lines()[..2], ["version: STSv1", "mode: enforce"]);
        for same in [
            good.replace("\r\n", "\n"),
            good.replace(": ", ":"),
            good.replace("\r\n", " \t\r\n"),
            good.trim_end().to_owned(),
            format!("{good}\r\n\r\n"),
            format!("{good}mode: none\r\nmax_age: 1\r\nversion: STSv2\r\n"),
            format!("x-new.field: \u{e9} anything: at all\r\n{good}empty:\r\n"),
            good.replace("mail.example.com", "MAIL.Example.com."),
        ] {
            assert_eq!(Policy::parse(same.as_bytes()), Ok(policy.clone()), "{same}");
        }
    }

    #[test]
    fn what_is_no_policy_says_why() {
        let many = "mx: a.example\n".repeat(MX_MAX + 1);
        let of = |version: &str, mode: &str, rest: &str| format!("{version}\n{mode}\n{rest}");
        let (v, e) = ("version: STSv1", "mode: enforce");
        let mx = "mx: a.example";
        for (text, want) in [
            (String::new(), PolicyError::Version),
            (of("version: STSv2", e, "mx: a.example\nmax_age: 1"), PolicyError::Version),
            (of("Version: STSv1", e, "mx: a.example\nmax_age: 1"), PolicyError::Version),
            (of(v, mx, "max_age: 1"), PolicyError::Mode),
            (of(v, "mode: Enforce", "mx: a.example\nmax_age: 1"), PolicyError::Mode),
            (of(v, e, mx), PolicyError::MaxAge),
            (of(v, e, "mx: a.example\nmax_age: 31557601"), PolicyError::MaxAge),
            (of(v, e, "mx: a.example\nmax_age: +1"), PolicyError::MaxAge),
            (of(v, e, "mx: a.example\nmax_age: -1"), PolicyError::MaxAge),
            (of(v, e, "mx: a.example\nmax_age: 00000000001"), PolicyError::MaxAge),
            (of(v, e, "mx: a.example\nmax_age:"), PolicyError::MaxAge),
            (of(v, e, "max_age: 1"), PolicyError::NoHost),
            (of(v, "mode: testing", "max_age: 1"), PolicyError::NoHost),
            (of(v, e, "mx: .example\nmax_age: 1"), PolicyError::BadHost(3)),
            (of(v, e, "mx: a.*.example\nmax_age: 1"), PolicyError::BadHost(3)),
            (of(v, e, "mx: *\nmax_age: 1"), PolicyError::BadHost(3)),
            (of(v, e, "mx: *.*.example\nmax_age: 1"), PolicyError::BadHost(3)),
            (of(v, e, "mx: [192.0.2.1]\nmax_age: 1"), PolicyError::BadHost(3)),
            (of(v, e, "mx: a.example, b.example\nmax_age: 1"), PolicyError::BadHost(3)),
            (of(v, e, "a line\nmax_age: 1"), PolicyError::BadLine(3)),
            (of(v, e, "<html>: x\nmax_age: 1"), PolicyError::BadLine(3)),
            (of(v, e, &many), PolicyError::TooManyHosts),
            (of(v, e, &" ".repeat(POLICY_OCTETS_MAX)), PolicyError::TooLong),
        ] {
            assert_eq!(Policy::parse(text.as_bytes()), Err(want), "{text}");
            assert!(!want.to_string().is_empty());
        }
        assert_eq!(Policy::parse(b"version: \xff"), Err(PolicyError::NotText));
        for (age, secs) in [("0", 0), ("31557600", AGE_SECS_MAX), ("0000000007", 7)] {
            let text = of(v, "mode: none", &format!("max_age: {age}"));
            assert_eq!(Policy::parse(text.as_bytes()).unwrap().max_age.as_secs(), secs);
        }
    }

    #[test]
    fn a_star_is_one_label_and_not_the_name_itself() {
        for (pattern, host, want) in [
            ("*.example.com", "mx.example.com", true),
            ("*.example.com", "MX.Example.COM", true),
            ("*.EXAMPLE.com", "mx.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", "mx.example.com.evil.example", false),
            ("*.example.com", "mxexample.com", false),
            ("*.b\u{fc}cher.example", "mx.xn--bcher-kva.example", true),
            ("*.xn--bcher-kva.example", "mx.b\u{fc}cher.example", true),
            ("mx.example.com", "mx.example.com", true),
            ("MX.example.com.", "mx.example.com", true),
            ("mx.example.com", "a.mx.example.com", false),
            ("example.com", "mx.example.com", false),
            ("*.example", "[192.0.2.1]", false),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            let host = Domain::parse(host).unwrap();
            assert_eq!(pattern.allows(&host), want, "{pattern} {host}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets: Vec<u8>) {
            record(&[&octets]);
            if let Ok(policy) = Policy::parse(&octets) {
                prop_assert_eq!(Policy::parse(policy.lines().join("\n").as_bytes()), Ok(policy));
            }
        }

        #[test]
        fn a_policy_reads_back_from_its_lines(
            mode in prop_oneof![Just("enforce"), Just("testing"), Just("none")],
            age in 0..=AGE_SECS_MAX,
            hosts in prop::collection::vec(
                r"(\*\.)?[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{1,8}){0,3}", 1..9
            ),
            end in prop_oneof![Just("\n"), Just("\r\n")],
        ) {
            let hosts: Vec<_> = hosts.iter().map(|host| format!("mx: {host}{end}")).collect();
            let text = format!(
                "version: STSv1{end}mode: {mode}{end}max_age: {age}{end}{}", hosts.concat()
            );
            if let Ok(policy) = Policy::parse(text.as_bytes()) {
                prop_assert_eq!(policy.mx.len(), hosts.len());
                let again = Policy::parse(policy.lines().join(end).as_bytes());
                prop_assert_eq!(again, Ok(policy));
            }
        }

        #[test]
        fn a_star_never_reaches_further_than_one_label(
            labels in prop::collection::vec("[a-z]{1,6}", 1..5),
        ) {
            let host = Domain::parse(&format!("{}.example", labels.join("."))).unwrap();
            let pattern = Pattern::parse("*.example").unwrap();
            prop_assert_eq!(pattern.allows(&host), labels.len() == 1);
        }
    }
}
