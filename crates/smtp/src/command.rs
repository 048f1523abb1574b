//! What a client's command line says (RFC 5321 §4.1.1).
//!
//! Invariant: a [`Command`] that exists is well-formed; whether it is in sequence is decided by the
//! session. Nothing is copied but addresses. Pure.

use merpati_mail::address::Utf8Rule;
use merpati_mail::envelope::Utf8;
use merpati_mail::{AddressError, ForwardPath, Recipient, Reply, ReversePath};

use crate::parameters::{self, MailParameters, Offered, RecipientParameters};

/// A well-formed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// AUTH (RFC 4954 §4).
    Auth {
        /// The mechanism as it was written.
        mechanism: &'a str,
        /// The initial response in base64; `None` where there was none.
        initial: Option<&'a str>,
    },
    /// BDAT (RFC 3030 §2).
    Bdat {
        /// How many octets follow the line.
        octets: u64,
        /// Whether the chunk ends the content.
        is_last: bool,
    },
    /// DATA.
    Data,
    /// EHLO with the client's name.
    Ehlo(&'a str),
    /// HELO with the client's name.
    Helo(&'a str),
    /// HELP, whatever stands behind it.
    Help,
    /// MAIL.
    Mail(MailCommand),
    /// NOOP, whatever stands behind it.
    Noop,
    /// QUIT.
    Quit,
    /// RCPT.
    Rcpt {
        /// To whom, and what is told of it.
        recipient: Recipient,
        /// Whether it was written in other than ASCII characters, which needs `SMTPUTF8`.
        is_utf8: bool,
    },
    /// RSET.
    Rset,
    /// STARTTLS (RFC 3207 §4).
    StartTls,
    /// VRFY with something behind it.
    Vrfy,
    /// XCLIENT and its attributes, not read yet: most clients must not use it at all.
    Xclient(&'a str),
}

/// MAIL with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailCommand {
    /// From whom.
    pub reverse_path: ReversePath,
    /// What stands behind it.
    pub parameters: MailParameters,
}

/// Why a line is not a command that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What stands behind the verb is wrong; the text says how.
    Argument(&'static str),
    /// AUTH with blanks or other words where base64 should be.
    AuthSyntax,
    /// The count of BDAT is no number: nobody knows where the next command begins.
    ChunkCount,
    /// The count of BDAT is beyond 64 bits; the same.
    ChunkOverflow,
    /// NUL or CR in the line.
    ControlOctet,
    /// The forward-path of RCPT.
    ForwardPath(AddressError),
    /// A request of HTTP: a browser was made to talk to us.
    Http,
    /// A verb that we know and do not have.
    NotImplemented,
    /// The line is not UTF-8.
    NotUtf8,
    /// The PROXY protocol from somebody who is not listed. Whoever it is speaks for others, and
    /// must not be served as if he spoke for himself.
    Proxy,
    /// The reverse-path of MAIL.
    ReversePath(AddressError),
    /// `SIZE=` beyond 64 bits.
    SizeOverflow,
    /// No command at all.
    UnknownCommand,
    /// A parameter of MAIL or RCPT that was not offered.
    UnknownParameter,
}

impl Fault {
    /// What the client is told.
    pub fn reply(self) -> Reply {
        match self {
            Self::Argument(text) => Reply::new(501, (5, 5, 4), text),
            Self::AuthSyntax => Reply::new(501, (5, 5, 2), "The response is not base64"),
            Self::ChunkCount => {
                Reply::new(501, (5, 5, 4), "BDAT takes a count and at most the word LAST")
            }
            Self::ChunkOverflow => Reply::new(552, (5, 3, 4), "The chunk is too big"),
            Self::ControlOctet => {
                Reply::new(500, (5, 5, 2), "A command must not hold NUL, CR or LF")
            }
            Self::ForwardPath(error) => address_reply((5, 1, 3), error),
            Self::Http => Reply::new(421, (4, 7, 0), "This is not an HTTP server"),
            Self::NotImplemented => Reply::new(502, (5, 5, 1), "The command is not implemented"),
            Self::NotUtf8 => Reply::new(501, (5, 5, 2), "The command is not UTF-8 text"),
            Self::Proxy => Reply::new(554, (5, 7, 1), "The PROXY protocol is not taken from you"),
            Self::ReversePath(error) => address_reply((5, 1, 7), error),
            Self::SizeOverflow => Reply::new(552, (5, 3, 4), "The message is too big"),
            Self::UnknownCommand => Reply::new(500, (5, 5, 2), "The command is not known"),
            Self::UnknownParameter => Reply::new(555, (5, 5, 4), "The parameter is not known"),
        }
    }

    /// The name of the rule that refused, for logs.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Argument(_) | Self::AuthSyntax => "argument-syntax",
            Self::ChunkCount | Self::ChunkOverflow => "chunk-count",
            Self::ControlOctet => "control-octet",
            Self::ForwardPath(_) | Self::ReversePath(_) => "address-syntax",
            Self::Http => "http",
            Self::NotImplemented => "not-implemented",
            Self::NotUtf8 => "not-utf8",
            Self::Proxy => "proxy-denied",
            Self::SizeOverflow => "message-size",
            Self::UnknownCommand => "unknown-command",
            Self::UnknownParameter => "unknown-parameter",
        }
    }

    /// Whether nothing behind the line can be understood any more.
    pub const fn ends_session(self) -> bool {
        matches!(self, Self::ChunkCount | Self::ChunkOverflow | Self::Http | Self::Proxy)
    }
}

impl<'a> Command<'a> {
    /// Reads a line without its CRLF.
    pub fn parse(line: &'a [u8], offered: Offered) -> Result<Self, Fault> {
        if memchr::memchr2(b'\0', b'\r', line).is_some() {
            return Err(if is_auth(line) { Fault::AuthSyntax } else { Fault::ControlOctet });
        }
        let (word, rest) = match memchr::memchr(b' ', line) {
            Some(blank) => line.split_at_checked(blank).unwrap_or((line, &[])),
            None => (line.trim_ascii_end(), &[][..]),
        };
        let Some((_, verb)) = VERBS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)) else {
            return Err(Fault::UnknownCommand);
        };
        let rest = str::from_utf8(rest).map_err(|_| Fault::NotUtf8)?;
        verb.command(rest.trim_matches([' ', '\t']), offered)
    }
}

/// Whether the line is AUTH, which may be longer than others.
pub(crate) fn is_auth(line: &[u8]) -> bool {
    line.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"AUTH "))
}

#[derive(Clone, Copy)]
enum Verb {
    Auth,
    Bdat,
    Data,
    Ehlo,
    Helo,
    Help,
    Http,
    Mail,
    Noop,
    NotImplemented,
    Proxy,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    Xclient,
}

/// In the order in which clients use them.
const VERBS: [(&[u8], Verb); 35] = [
    (b"RCPT", Verb::Rcpt),
    (b"MAIL", Verb::Mail),
    (b"DATA", Verb::Data),
    (b"BDAT", Verb::Bdat),
    (b"EHLO", Verb::Ehlo),
    (b"HELO", Verb::Helo),
    (b"RSET", Verb::Rset),
    (b"QUIT", Verb::Quit),
    (b"STARTTLS", Verb::StartTls),
    (b"AUTH", Verb::Auth),
    (b"NOOP", Verb::Noop),
    (b"VRFY", Verb::Vrfy),
    (b"HELP", Verb::Help),
    (b"EXPN", Verb::NotImplemented),
    (b"TURN", Verb::NotImplemented),
    (b"ATRN", Verb::NotImplemented),
    (b"ETRN", Verb::NotImplemented),
    (b"SEND", Verb::NotImplemented),
    (b"SOML", Verb::NotImplemented),
    (b"SAML", Verb::NotImplemented),
    (b"BURL", Verb::NotImplemented),
    (b"WIZ", Verb::NotImplemented),
    (b"DEBUG", Verb::NotImplemented),
    (b"XCLIENT", Verb::Xclient),
    (b"PROXY", Verb::Proxy),
    (b"GET", Verb::Http),
    (b"POST", Verb::Http),
    (b"HEAD", Verb::Http),
    (b"PUT", Verb::Http),
    (b"DELETE", Verb::Http),
    (b"OPTIONS", Verb::Http),
    (b"CONNECT", Verb::Http),
    (b"PATCH", Verb::Http),
    (b"TRACE", Verb::Http),
    (b"HOST:", Verb::Http),
];

impl Verb {
    fn command(self, rest: &str, offered: Offered) -> Result<Command<'_>, Fault> {
        match self {
            Self::Auth => auth(rest),
            Self::Bdat => bdat(rest),
            Self::Data => alone(rest, Command::Data),
            Self::Ehlo => client_name(rest).map(Command::Ehlo),
            Self::Helo => client_name(rest).map(Command::Helo),
            Self::Help => Ok(Command::Help),
            Self::Http => Err(Fault::Http),
            Self::Mail => mail(rest, offered),
            Self::Noop => Ok(Command::Noop),
            Self::NotImplemented => Err(Fault::NotImplemented),
            Self::Proxy => Err(Fault::Proxy),
            Self::Quit => alone(rest, Command::Quit),
            Self::Rcpt => rcpt(rest, offered),
            Self::Rset => alone(rest, Command::Rset),
            Self::StartTls => alone(rest, Command::StartTls),
            Self::Vrfy if rest.is_empty() => Err(Fault::Argument("VRFY takes a name")),
            Self::Vrfy => Ok(Command::Vrfy),
            Self::Xclient => Ok(Command::Xclient(rest)),
        }
    }
}

fn alone<'a>(rest: &str, command: Command<'a>) -> Result<Command<'a>, Fault> {
    if rest.is_empty() { Ok(command) } else { Err(Fault::Argument("Nothing may follow the word")) }
}

fn auth(rest: &str) -> Result<Command<'_>, Fault> {
    let mut words = rest.splitn(2, ' ');
    let mechanism = words.next().unwrap_or_default();
    if mechanism.is_empty() {
        return Err(Fault::Argument("AUTH takes a mechanism"));
    }
    let initial = words.next();
    if initial.is_some_and(|text| text.is_empty() || text.contains([' ', '\t'])) {
        return Err(Fault::AuthSyntax);
    }
    Ok(Command::Auth { mechanism, initial })
}

fn bdat(rest: &str) -> Result<Command<'_>, Fault> {
    let (count, word) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_last = match word.trim_start() {
        "" => false,
        last if last.eq_ignore_ascii_case("LAST") => true,
        _ => return Err(Fault::ChunkCount),
    };
    if count.is_empty() || !count.bytes().all(|o| o.is_ascii_digit()) {
        return Err(Fault::ChunkCount);
    }
    let octets = count.parse().map_err(|_| Fault::ChunkOverflow)?;
    Ok(Command::Bdat { octets, is_last })
}

/// A name or address literal (RFC 5321 §4.1.1.1). Real clients have underscores in their names.
fn client_name(rest: &str) -> Result<&str, Fault> {
    const WRONG: Fault = Fault::Argument("A host name or address literal must follow");
    if rest.is_empty() || rest.len() > CLIENT_NAME_OCTETS_MAX {
        return Err(WRONG);
    }
    let is_right = match rest.strip_prefix('[') {
        Some(literal) => literal.strip_suffix(']').is_some_and(is_literal),
        None => rest.bytes().all(|o| o.is_ascii_alphanumeric() || b".-_:".contains(&o)),
    };
    if is_right { Ok(rest) } else { Err(WRONG) }
}

fn is_literal(text: &str) -> bool {
    match text.split_once(':') {
        Some((tag, v6)) if tag.eq_ignore_ascii_case("IPv6") => {
            v6.parse::<std::net::Ipv6Addr>().is_ok()
        }
        Some(_) | None => text.parse::<std::net::Ipv4Addr>().is_ok(),
    }
}

fn mail(rest: &str, offered: Offered) -> Result<Command<'_>, Fault> {
    let path = after_colon(rest, "FROM:").ok_or(Fault::Argument("Use MAIL FROM:<address>"))?;
    let (reverse_path, behind) =
        ReversePath::parse_prefix(path, Utf8Rule::Allowed).map_err(Fault::ReversePath)?;
    let parameters = parameters::mail(behind, offered)?;
    let written = path.strip_suffix(behind).unwrap_or(path);
    // RFC 6531 §3.5; the parameter stands behind the path that needs it.
    if parameters.utf8 == Utf8::NotDeclared && !written.is_ascii() {
        return Err(Fault::ReversePath(AddressError::NeedsSmtputf8));
    }
    Ok(Command::Mail(MailCommand { reverse_path, parameters }))
}

fn rcpt(rest: &str, offered: Offered) -> Result<Command<'_>, Fault> {
    let path = after_colon(rest, "TO:").ok_or(Fault::Argument("Use RCPT TO:<address>"))?;
    // Whether the transaction has SMTPUTF8 is known to the session, which refuses for want of it.
    let (forward_path, behind) =
        ForwardPath::parse_prefix(path, Utf8Rule::Allowed).map_err(Fault::ForwardPath)?;
    let RecipientParameters { notify, orcpt } = parameters::recipient(behind, offered)?;
    let recipient = Recipient { path: forward_path, notify, orcpt };
    Ok(Command::Rcpt { recipient, is_utf8: !path.is_ascii() })
}

/// What stands behind `FROM:` or `TO:`; a blank there is a habit of many clients.
fn after_colon<'a>(rest: &'a str, keyword: &str) -> Option<&'a str> {
    let (word, path) = rest.split_at_checked(keyword.len())?;
    word.eq_ignore_ascii_case(keyword).then(|| path.trim_start_matches(' '))
}

/// How an address that cannot be taken is refused.
pub(crate) fn address_reply(enhanced: (u8, u16, u16), error: AddressError) -> Reply {
    let text = error.to_string();
    match error {
        AddressError::NeedsSmtputf8 => Reply::with_text(553, (5, 6, 7), text),
        AddressError::BadUtf8Text => Reply::with_text(501, (5, 5, 2), text),
        AddressError::BadDomain
        | AddressError::BadLiteral
        | AddressError::BadLocalPart
        | AddressError::DomainTooLong
        | AddressError::Empty
        | AddressError::LabelTooLong
        | AddressError::LocalPartTooLong
        | AddressError::NoDomain
        | AddressError::NoPath
        | AddressError::TooDeep
        | AddressError::TooLong
        | AddressError::TooMany
        | AddressError::TrailingText
        | AddressError::UnclosedComment
        | AddressError::UnclosedPath
        | AddressError::UnclosedQuote => Reply::with_text(501, enhanced, text),
    }
}

/// The longest name a client may give itself in octets: a domain (RFC 5321 §4.5.3.1.2).
const CLIENT_NAME_OCTETS_MAX: usize = 255;

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
