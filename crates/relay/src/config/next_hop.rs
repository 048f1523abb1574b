//! Where a route leads and with which password: the values with a language of their own.
//!
//! Invariant: a password is shown by nothing. Pure, but for [`Secret::read`].

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use merpati_flow::admit::Sender;
use merpati_mail::{
    Domain, Mailbox, NextHop,
    route::{Endpoint, HostPort, Refusal},
};

use super::{
    schema::Shape,
    setting::{Setting, Wrong, quoted},
    source::Node,
};

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// To this LMTP server.
    Lmtp(Endpoint),
    /// To the hosts that DNS names.
    Mx,
    /// Nowhere.
    Refuse(Refusal),
    /// To these hosts, the first one first.
    Smtp(Vec<HostPort>),
    /// The same with TLS from the first octet (RFC 8314 §3).
    Smtps(Vec<HostPort>),
}

impl To {
    /// The next hop of the core.
    pub fn next_hop(&self) -> NextHop {
        match self {
            Self::Lmtp(endpoint) => NextHop::Lmtp(endpoint.clone()),
            Self::Mx => NextHop::Mx,
            Self::Refuse(refusal) => NextHop::Refuse(refusal.clone()),
            Self::Smtp(hosts) | Self::Smtps(hosts) => NextHop::Hosts(hosts.clone()),
        }
    }

    /// Whether mail leaves by it over a network.
    pub const fn is_network(&self) -> bool {
        match self {
            Self::Lmtp(Endpoint::Tcp(_)) | Self::Mx | Self::Smtp(_) | Self::Smtps(_) => true,
            Self::Lmtp(Endpoint::Unix(_)) | Self::Refuse(_) => false,
        }
    }

    /// Whether one can authenticate there: the operator knows whom he speaks to.
    pub const fn is_known_server(&self) -> bool {
        match self {
            Self::Lmtp(_) | Self::Smtp(_) | Self::Smtps(_) => true,
            Self::Mx | Self::Refuse(_) => false,
        }
    }

    /// One of a list, or the whole of it.
    fn one(text: &str) -> Result<Self, Wrong> {
        if text == "mx" {
            return Ok(Self::Mx);
        }
        if let Some(path) = text.strip_prefix("lmtp:").filter(|path| !path.starts_with("//")) {
            return socket(path);
        }
        let Some((scheme, place)) = text.split_once("://") else {
            let wrong = Wrong::new(format!("`{text}` is no next hop: {}", Self::FORM));
            return Err(match host_port(text, Some(SMTP_PORT)) {
                Ok(_) if text.contains(['.', ':']) => {
                    wrong.help(format!("did you mean \"smtp://{text}\"?"))
                }
                Ok(_) | Err(_) => wrong,
            });
        };
        if place.contains('@') {
            // Never said again: a password may stand there.
            let wrong = Wrong::new("a next hop has no user and no password in it");
            return Err(wrong.help("write user and password_file beside `to`"));
        }
        match scheme {
            "lmtp" => Ok(Self::Lmtp(Endpoint::Tcp(host_port(place, None)?))),
            "smtp" => Ok(Self::Smtp(vec![host_port(place, Some(SMTP_PORT))?])),
            "smtps" => Ok(Self::Smtps(vec![host_port(place, Some(SMTPS_PORT))?])),
            _ => Err(Wrong::new(format!("`{scheme}://` is none of smtp://, smtps:// and lmtp://"))),
        }
    }

    /// A list: hosts that are spoken to in the same way.
    fn all(items: impl IntoIterator<Item = Result<Self, Wrong>>) -> Result<Self, Wrong> {
        let mut items = items.into_iter();
        let first = items.next().unwrap_or_else(|| Err(Wrong::new("the list is empty")))?;
        items.try_fold(first, |all, next| match (all, next?) {
            (Self::Smtp(mut hosts), Self::Smtp(more)) => {
                hosts.extend(more);
                Ok(Self::Smtp(hosts))
            }
            (Self::Smtps(mut hosts), Self::Smtps(more)) => {
                hosts.extend(more);
                Ok(Self::Smtps(hosts))
            }
            (_, _) => Err(Wrong::new("a list holds smtp:// alone, or smtps:// alone")
                .help("write two routes with conditions of their own")),
        })
    }
}

impl Setting for To {
    const FORM: &'static str = "\"mx\", \"smtp://host[:port]\", \"smtps://host[:port]\" (or a \
                                list of either), \"lmtp://host:port\", \"lmtp:/path/of/socket\" \
                                or \"refuse TEXT\"";
    const SHAPE: Shape = Shape::List(&Shape::Text);

    fn parse(text: &str) -> Result<Self, Wrong> {
        if let Some(reason) = text.strip_prefix("refuse") {
            return refusal(reason);
        }
        Self::all(text.split(',').map(|item| Self::one(item.trim())))
    }

    fn show(&self) -> String {
        let list = |scheme: &str, hosts: &[HostPort]| {
            let hosts: Vec<String> =
                hosts.iter().map(|host| format!("{scheme}://{host}")).collect();
            hosts.join(", ")
        };
        quoted(&match self {
            Self::Lmtp(Endpoint::Tcp(host)) => format!("lmtp://{host}"),
            Self::Lmtp(Endpoint::Unix(path)) => format!("lmtp:{path}"),
            Self::Mx => "mx".to_owned(),
            Self::Refuse(refusal) => format!("refuse {}", refusal.text),
            Self::Smtp(hosts) => list("smtp", hosts),
            Self::Smtps(hosts) => list("smtps", hosts),
        })
    }

    fn read(node: &Node) -> Result<Self, Wrong> {
        match node {
            Node::List(items) => Self::all(items.iter().map(|(item, span)| match item {
                Node::Text(text) => {
                    Self::one(text).map_err(|wrong| Wrong { at: Some(span.clone()), ..wrong })
                }
                Node::Boolean(_) | Node::Integer(_) | Node::List(_) | Node::Other(_) => {
                    Err(Wrong {
                        at: Some(span.clone()),
                        ..Wrong::new(format!("a string is wanted, not {}", item.kind()))
                    })
                }
            })),
            Node::Text(text) => Self::parse(text),
            Node::Boolean(_) | Node::Integer(_) | Node::Other(_) => {
                Err(Wrong::new(format!("{} is wanted, not {}", Self::FORM, node.kind())))
            }
        }
    }
}

fn refusal(reason: &str) -> Result<To, Wrong> {
    let text = reason.trim();
    let is_line = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    if text.is_empty() || !is_line || !reason.starts_with(' ') || text.len() > REFUSAL_OCTETS_MAX {
        let why = format!("a refusal has a reason of 1 to {REFUSAL_OCTETS_MAX} ASCII characters");
        return Err(Wrong::new(why).help("write \"refuse this address is not in use any more\""));
    }
    Ok(To::Refuse(Refusal { text: text.to_owned() }))
}

fn socket(path: &str) -> Result<To, Wrong> {
    if !path.starts_with('/') || path.contains(['\0', ',']) || path.len() > SOCKET_OCTETS_MAX {
        let why = format!("a socket has an absolute path of at most {SOCKET_OCTETS_MAX} octets");
        return Err(Wrong::new(why).help("write \"lmtp:/run/dovecot/lmtp\""));
    }
    Ok(To::Lmtp(Endpoint::Unix(path.to_owned())))
}

/// `host`, `host:port`, `[address]` or `[address]:port`; `port` is taken where there is none.
fn host_port(text: &str, port: Option<u16>) -> Result<HostPort, Wrong> {
    let (host, digits) =
        if let Some((inside, behind)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
            (literal(inside), behind)
        } else {
            let (name, behind) = text.split_at(text.find(':').unwrap_or(text.len()));
            (named(name), behind)
        };
    let port = match (digits.strip_prefix(':'), port) {
        (Some(digits), _) => digits.parse().ok().filter(|port| *port > 0),
        (None, port) if digits.is_empty() => port,
        (None, _) => None,
    };
    let port = port.ok_or_else(|| {
        Wrong::new(format!("`{text}` lacks a port from 1 to 65535")).help("write host:port")
    })?;
    Ok(HostPort { host: host?, port })
}

fn named(name: &str) -> Result<Domain, Wrong> {
    match name.parse::<Ipv4Addr>() {
        Ok(address) => Ok(Domain::Literal(IpAddr::V4(address))),
        Err(_) => Domain::parse(name).map_err(|why| Wrong::new(format!("not a host: {why}"))),
    }
}

fn literal(inside: &str) -> Result<Domain, Wrong> {
    let plain = inside.parse().map(Domain::Literal);
    plain.or_else(|_| Domain::parse(&format!("[{inside}]"))).map_err(|_| {
        Wrong::new(format!("`[{inside}]` is no IP address"))
            .help("write \"smtp://[192.0.2.1]\" or \"smtp://[2001:db8::1]\"")
    })
}

impl Setting for Sender {
    const FORM: &'static str = "an address such as \"ani@shop.example\", a domain such as \
                                \"shop.example\", or \"*\" for anybody";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = |why| Wrong::new(format!("not a sender: {why}"));
        match text.split_once('@') {
            _ if text == "*" => Ok(Self::Any),
            None => Domain::parse(text).map(Self::Domain).map_err(wrong),
            Some(("", domain)) => Domain::parse(domain).map(Self::Domain).map_err(wrong),
            Some(_) => Mailbox::parse(text).map(Self::Address).map_err(wrong),
        }
    }

    fn show(&self) -> String {
        quoted(&match self {
            Self::Address(mailbox) => mailbox.to_string(),
            Self::Any => "*".to_owned(),
            Self::Domain(domain) => domain.to_string(),
        })
    }
}

/// A password that we say to others; nothing shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The password itself, for the one who needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The password in a file, without the line end behind it. Errs where the file cannot be read
    /// or holds no password.
    pub fn read(path: &Path) -> io::Result<Self> {
        let about = |why: &dyn fmt::Display| format!("{}: {why}", path.display());
        let text =
            fs::read_to_string(path).map_err(|why| io::Error::new(why.kind(), about(&why)))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        Self::parse(text)
            .map_err(|wrong| io::Error::new(io::ErrorKind::InvalidData, about(&wrong.why)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Setting for Secret {
    const FORM: &'static str = "a password";

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() || text.contains(['\0', '\r', '\n']) || text.len() > SECRET_OCTETS_MAX {
            let why = format!("a password is one line of 1 to {SECRET_OCTETS_MAX} octets");
            return Err(Wrong::new(why));
        }
        Ok(Self(text.to_owned()))
    }

    /// Never shown: `config show` is pasted into tickets.
    fn show(&self) -> String {
        quoted("***")
    }
}

/// RFC 5321 §4.5.4.2.
const SMTP_PORT: u16 = 25;
/// RFC 8314 §7.3.
const SMTPS_PORT: u16 = 465;
/// The text goes into one line of a reply and of a DSN.
const REFUSAL_OCTETS_MAX: usize = 400;
/// What the address of a Unix socket can hold on Linux, with its NUL.
const SOCKET_OCTETS_MAX: usize = 107;
/// More than any server takes: SASL lines have 12,288 octets in base64 (RFC 4954 §4).
const SECRET_OCTETS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_are_read_and_shown() {
        for (text, shown) in [
            ("mx", "mx"),
            ("smtp://mail.example", "smtp://mail.example:25"),
            ("smtps://MAIL.example", "smtps://mail.example:465"),
            ("smtp://127.0.0.1:2525", "smtp://[127.0.0.1]:2525"),
            ("smtp://[2001:db8::1]", "smtp://[IPv6:2001:db8::1]:25"),
            ("smtp://[IPv6:2001:db8::1]:26", "smtp://[IPv6:2001:db8::1]:26"),
            ("smtp://a.example,smtp://b.example:26", "smtp://a.example:25, smtp://b.example:26"),
            ("lmtp://store.example:24", "lmtp://store.example:24"),
            ("lmtp:/run/dovecot/lmtp", "lmtp:/run/dovecot/lmtp"),
            ("refuse gone, for good", "refuse gone, for good"),
        ] {
            let to = To::parse(text).unwrap();
            assert_eq!(to.show(), quoted(shown), "{text}");
            assert_eq!(To::parse(shown), Ok(to), "{shown}");
        }
        for text in [
            "",
            "MX",
            "mail.example",
            "http://mail.example",
            "smtp://",
            "smtp://mail.example:0",
            "smtp://mail.example:65536",
            "smtp://mail.example:25/path",
            "smtp://user@mail.example",
            "smtp://[nonsense]",
            "smtp://[::1]x",
            "smtp://a.example,smtps://b.example",
            "smtp://a.example,mx",
            "mx,mx",
            "lmtp://store.example",
            "lmtp:run/lmtp",
            "refuse",
            "refuse ",
            "refuse\nme",
            "refused",
        ] {
            assert!(To::parse(text).is_err(), "{text:?}");
        }
        let help = To::parse("mail.example:2525").unwrap_err().help;
        assert_eq!(help.as_deref(), Some("did you mean \"smtp://mail.example:2525\"?"));
    }

    #[test]
    fn senders_are_read_and_shown() {
        for (text, shown) in [
            ("ani@shop.example", "\"ani@shop.example\""),
            ("@SHOP.example", "\"shop.example\""),
            ("shop.example", "\"shop.example\""),
            ("*", "\"*\""),
        ] {
            assert_eq!(Sender::parse(text).unwrap().show(), shown, "{text}");
        }
        for text in ["", "@", "*@shop.example.", "a@b@shop.example", "ani@"] {
            assert!(Sender::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_password_comes_from_a_file_without_its_line_end_and_is_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        for (content, want) in [
            ("open sesame\n", Ok("open sesame")),
            ("open sesame\r\n", Ok("open sesame")),
            ("open sesame ", Ok("open sesame ")),
            ("open\nsesame\n", Err(())),
            ("\n", Err(())),
        ] {
            fs::write(&path, content).unwrap();
            let secret = Secret::read(&path);
            assert_eq!(secret.as_ref().map(Secret::expose).map_err(drop), want, "{content:?}");
            if let Ok(secret) = secret {
                assert_eq!(format!("{secret:?} {}", secret.show()), "*** \"***\"");
            }
        }
        let missing = Secret::read(&directory.path().join("missing")).unwrap_err();
        assert!(missing.to_string().contains("missing: "), "{missing}");
    }
}
