//! What a value of the configuration means: from text or number to a type of the domain.
//!
//! Invariant: what [`Setting::show`] writes, [`Setting::read`] reads back unchanged; what cannot be
//! meant is refused here and nowhere later. Pure.

use std::{
    net::{IpAddr, SocketAddr},
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    time::Duration,
};

use merpati_console::{near::nearest, quantity};
use merpati_mail::{Domain, Mailbox};

use super::{
    schema::Shape,
    source::{Node, Span},
    values::{
        AfterCapture, AuthUse, Bytes, Collector, FromCheck, Kind, LogTo, MemoryMax, Name, Network,
        Pipelining, Recipients, RouteTls, TlsUse,
    },
};
use crate::credential::Credential;

/// A type that an option can have.
pub trait Setting: Sized {
    /// What may be written, as the reference says it.
    const FORM: &'static str;
    /// The same for an editor.
    const SHAPE: Shape = Shape::Text;

    /// Reads the value from words; the error is a clause without a full stop.
    fn parse(text: &str) -> Result<Self, Wrong>;

    /// Writes it as it may stand in the file.
    fn show(&self) -> String;

    /// Reads the value from what stands in the file; numbers count as words.
    fn read(node: &Node) -> Result<Self, Wrong> {
        match node {
            Node::Integer(number) => Self::parse(&number.to_string()),
            Node::Text(text) => Self::parse(text),
            Node::Boolean(_) | Node::List(_) | Node::Other(_) => {
                Err(Wrong::new(format!("{} is wanted, not {}", Self::FORM, node.kind())))
            }
        }
    }
}

/// Why a value is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong, without a full stop.
    pub why: String,
    /// What to write instead; `None` where the reason says it all.
    pub help: Option<String>,
    /// The part of the value that is wrong; `None` for all of it.
    pub at: Option<Span>,
    /// What else is wrong in the same value: other items of a list.
    pub others: Vec<Self>,
}

impl Wrong {
    /// A reason without help.
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), help: None, at: None, others: Vec::new() }
    }

    /// The same with help.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Reads one word of a few.
pub(super) fn choose<T: Clone>(text: &str, words: &[(&'static str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(value.clone());
    }
    let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    let wrong = Wrong::new(format!("\"{text}\" is not one of {}", known.join(", ")));
    Err(match nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(near) => wrong.help(format!("did you mean \"{near}\"?")),
        None => wrong,
    })
}

/// A text as TOML has it.
pub(super) fn quoted(text: &str) -> String {
    // The text of TOML's basic strings is that of JSON, but for DEL, which no value of ours has.
    serde_json::to_string(text).unwrap_or_default()
}

impl Setting for String {
    const FORM: &'static str = "a line of text";

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.chars().any(char::is_control) {
            return Err(Wrong::new("a line of text has no control characters"));
        }
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

impl Setting for u64 {
    const FORM: &'static str = "a whole number";
    const SHAPE: Shape = Shape::Number(0);

    fn parse(text: &str) -> Result<Self, Wrong> {
        text.parse().map_err(|_| Wrong::new("a whole number from 0 is wanted").help(NUMBER))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for NonZeroU32 {
    const FORM: &'static str = "a whole number from 1";
    const SHAPE: Shape = Shape::Number(1);

    fn parse(text: &str) -> Result<Self, Wrong> {
        let most = format!("a whole number from 1 to {} is wanted", u32::MAX);
        text.parse().map_err(|_| Wrong::new(most).help(NUMBER))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for NonZeroU16 {
    const FORM: &'static str = "a port from 1 to 65535";
    const SHAPE: Shape = Shape::Number(1);

    fn parse(text: &str) -> Result<Self, Wrong> {
        text.parse()
            .map_err(|_| Wrong::new("a port from 1 to 65535 is wanted").help("write 25 or 587"))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for bool {
    const FORM: &'static str = "true or false";
    const SHAPE: Shape = Shape::Boolean;

    fn parse(text: &str) -> Result<Self, Wrong> {
        choose(text, &[("true", true), ("false", false)])
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn read(node: &Node) -> Result<Self, Wrong> {
        match node {
            Node::Boolean(value) => Ok(*value),
            Node::Text(text) => Self::parse(text),
            Node::Integer(_) | Node::List(_) | Node::Other(_) => {
                Err(Wrong::new(format!("{} is wanted, not {}", Self::FORM, node.kind())))
            }
        }
    }
}

impl Setting for Duration {
    const FORM: &'static str = "a duration such as \"30 s\", \"5 min\", \"2 h\" or \"5 d\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        quantity::duration(text).map_err(|why| {
            Wrong::new(why.to_string()).help("write a duration such as \"30 s\" or \"5 min\"")
        })
    }

    fn show(&self) -> String {
        quoted(&quantity::show_duration(*self))
    }
}

impl Setting for Bytes {
    const FORM: &'static str = "a size such as \"64 KiB\", \"25 MiB\" or \"4 GiB\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        quantity::bytes(text)
            .map(Self)
            .map_err(|why| Wrong::new(why.to_string()).help("write a size such as \"25 MiB\""))
    }

    fn show(&self) -> String {
        quoted(&quantity::show_bytes(self.0))
    }
}

impl Setting for SocketAddr {
    const FORM: &'static str = "an address with a port such as \"127.0.0.1:25\" or \"[::]:25\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        text.parse().map_err(|_| {
            Wrong::new("an address with a port is wanted")
                .help("write \"127.0.0.1:25\", \"[::1]:25\" or \"0.0.0.0:25\"; no host names")
        })
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for IpAddr {
    const FORM: &'static str = "an IP address such as \"192.0.2.1\" or \"2001:db8::1\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        text.parse().map_err(|_| {
            Wrong::new("an IP address is wanted")
                .help("write \"192.0.2.1\" or \"2001:db8::1\"; no port, no host name")
        })
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for PathBuf {
    const FORM: &'static str = "a path";

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() || text.contains('\0') {
            return Err(Wrong::new("a path is wanted"));
        }
        Ok(Self::from(text))
    }

    fn show(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Setting for Domain {
    const FORM: &'static str = "a domain name or address literal such as \"mail.example.org\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        Self::parse(text).map_err(|_| {
            Wrong::new(format!("`{text}` is not a domain")).help(
                "write a name such as \"mail.example.org\": letters, digits and hyphens between \
                 dots",
            )
        })
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for Mailbox {
    const FORM: &'static str = "an address such as \"postmaster@example.org\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        Self::parse(text).map_err(|why| {
            Wrong::new(why.to_string().to_lowercase())
                .help("write an address such as \"postmaster@example.org\"")
        })
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for Network {
    const FORM: &'static str = "a network such as \"10.0.0.0/8\", \"fd00::/8\" or \"192.0.2.7\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        Self::parse(text).map_err(|why| {
            let help = Self::correction(text);
            Wrong::new(why).help(help.unwrap_or_else(|| format!("write {}", Self::FORM)))
        })
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for Name {
    const FORM: &'static str = "a name of letters, digits, `-` and `_`";

    fn parse(text: &str) -> Result<Self, Wrong> {
        Self::parse(text).ok_or_else(|| {
            Wrong::new("a name has 1 to 64 of a-z, 0-9, `-` and `_`").help("write \"mx-1\"")
        })
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for Credential {
    const FORM: &'static str = "a line from `merpati credential hash`";

    fn parse(text: &str) -> Result<Self, Wrong> {
        Self::parse(text).map_err(|why| {
            Wrong::new(format!("not a credential: {why}"))
                .help("paste the line that `merpati credential hash` prints; never a password")
        })
    }

    /// Never shown: `config show` is pasted into tickets.
    fn show(&self) -> String {
        quoted("***")
    }
}

impl Setting for Kind {
    const FORM: &'static str = "\"relay\", \"submission\", \"sandbox\" or \"rehearsal\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        choose(text, &Self::ALL.map(|kind| (kind.word(), kind)))
    }

    fn show(&self) -> String {
        quoted(self.word())
    }
}

impl Setting for FromCheck {
    const FORM: &'static str = "\"one\", \"readable\" or \"off\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        choose(text, &Self::ALL.map(|check| (check.word(), check)))
    }

    fn show(&self) -> String {
        quoted(self.word())
    }
}

impl Setting for Recipients {
    const FORM: &'static str = "\"any\" or \"local\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        choose(text, &[("any", Self::Any), ("local", Self::Local)])
    }

    fn show(&self) -> String {
        let word = match self {
            Self::Any => "any",
            Self::Local => "local",
        };
        quoted(word)
    }
}

impl Setting for RouteTls {
    const FORM: &'static str = "\"never\", \"opportunistic\" or \"required\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        choose(text, &Self::ALL.map(|tls| (tls.word(), tls)))
    }

    fn show(&self) -> String {
        quoted(self.word())
    }
}

impl Setting for TlsUse {
    const FORM: &'static str = "\"none\", \"starttls\" or \"implicit\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let words =
            [("none", Self::None), ("starttls", Self::StartTls), ("implicit", Self::Implicit)];
        choose(text, &words)
    }

    fn show(&self) -> String {
        let word = match self {
            Self::Implicit => "implicit",
            Self::None => "none",
            Self::StartTls => "starttls",
        };
        quoted(word)
    }
}

impl Setting for AuthUse {
    const FORM: &'static str = "\"off\", \"tls-only\" or \"allow-clear\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let words =
            [("off", Self::Off), ("tls-only", Self::TlsOnly), ("allow-clear", Self::AllowClear)];
        choose(text, &words)
    }

    fn show(&self) -> String {
        let word = match self {
            Self::AllowClear => "allow-clear",
            Self::Off => "off",
            Self::TlsOnly => "tls-only",
        };
        quoted(word)
    }
}

impl Setting for Pipelining {
    const FORM: &'static str = "\"enforced\" or \"tolerated\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        choose(text, &[Self::Enforced, Self::Tolerated].map(|one| (one.word(), one)))
    }

    fn show(&self) -> String {
        quoted(self.word())
    }
}

impl Setting for AfterCapture {
    const FORM: &'static str = "\"keep\" or \"discard\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        choose(text, &[("keep", Self::Keep), ("discard", Self::Discard)])
    }

    fn show(&self) -> String {
        let word = match self {
            Self::Discard => "discard",
            Self::Keep => "keep",
        };
        quoted(word)
    }
}

impl Setting for LogTo {
    const FORM: &'static str = "\"stdout\", \"journal\", \"off\" or an absolute path";

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.starts_with('/') || text.starts_with("./") {
            return PathBuf::parse(text).map(Self::File);
        }
        let words = [("stdout", Self::Stdout), ("journal", Self::Journal), ("off", Self::Off)];
        choose(text, &words).map_err(|wrong| {
            if wrong.help.is_some() { wrong } else { wrong.help("a path begins with / or ./") }
        })
    }

    fn show(&self) -> String {
        match self {
            Self::File(path) => path.show(),
            Self::Journal => quoted("journal"),
            Self::Off => quoted("off"),
            Self::Stdout => quoted("stdout"),
        }
    }
}

impl Setting for Collector {
    const FORM: &'static str = "a URL like \"http://127.0.0.1:4318/v1/traces\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        if cfg!(not(feature = "opentelemetry")) {
            let help = "leave it out, or build with `cargo build --features opentelemetry`";
            return Err(Wrong::new("this build knows nothing of OpenTelemetry").help(help));
        }
        Self::parse(text).ok_or_else(|| {
            Wrong::new(format!("`{text}` is not the URL of a collector"))
                .help("it begins with http://, and ends in /v1/traces; one with TLS needs a proxy")
        })
    }

    fn show(&self) -> String {
        quoted(self.as_str())
    }
}

impl Setting for MemoryMax {
    const FORM: &'static str = "\"auto\", \"off\" or a size like \"2 GiB\"";

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            size => Bytes::parse(size).map(Self::Upto),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => quoted("auto"),
            Self::Off => quoted("off"),
            Self::Upto(bytes) => bytes.show(),
        }
    }
}

impl<T: Setting> Setting for Option<T> {
    const FORM: &'static str = T::FORM;
    const SHAPE: Shape = Shape::Optional(&T::SHAPE);

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text == "off" { Ok(None) } else { T::parse(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| quoted("off"), T::show)
    }
}

impl<T: Setting> Setting for Vec<T> {
    const FORM: &'static str = T::FORM;
    const SHAPE: Shape = Shape::List(&T::SHAPE);

    /// Items between commas; nothing is the empty list.
    fn parse(text: &str) -> Result<Self, Wrong> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(T::parse).collect()
    }

    fn show(&self) -> String {
        let items: Vec<String> = self.iter().map(T::show).collect();
        format!("[{}]", items.join(", "))
    }

    fn read(node: &Node) -> Result<Self, Wrong> {
        match node {
            Node::List(items) => {
                let read = items.iter().map(|(item, span)| {
                    T::read(item).map_err(|wrong| Wrong { at: Some(span.clone()), ..wrong })
                });
                let (good, bad): (Vec<_>, Vec<_>) = read.partition(Result::is_ok);
                let mut bad = bad.into_iter().filter_map(Result::err);
                match bad.next() {
                    None => Ok(good.into_iter().flatten().collect()),
                    Some(first) => Err(Wrong { others: bad.collect(), ..first }),
                }
            }
            Node::Text(text) => Self::parse(text),
            Node::Boolean(_) | Node::Integer(_) | Node::Other(_) => {
                Err(Wrong::new(format!("a list is wanted, not {}: {}", node.kind(), T::FORM)))
            }
        }
    }
}

const NUMBER: &str = "write a number such as 100, without a unit";
