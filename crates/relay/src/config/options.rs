//! Which options there are: each with its meaning, unit, default and parser in one place.
//!
//! Invariant: a field cannot exist without its doc comment and its default, because one macro makes
//! the struct, the reader and the reference entry. Pure.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use merpati_mail::Domain;

use super::{
    reader::Reader,
    setting::Setting,
    values::{AfterCapture, AuthUse, Bytes, Kind, LogTo, Name, Network, TlsUse},
};
use crate::credential::Credential;

/// The reference entry of a section.
#[derive(Clone, Copy, Debug)]
pub struct SectionDoc {
    /// Its name in the file.
    pub name: &'static str,
    /// What it is about; one or more lines with a leading space each.
    pub about: &'static str,
    /// How often it may stand.
    pub repeats: Repeats,
    /// Its options, in the order of the reference.
    pub options: &'static [OptionDoc],
}

/// How often a section may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// Any number of times: `[[name]]`, each with a `name` of its own.
    Named,
    /// Once: `[name]`.
    Once,
}

/// The reference entry of an option.
#[derive(Clone, Copy, Debug)]
pub struct OptionDoc {
    /// Its name in the section.
    pub name: &'static str,
    /// Meaning, unit, source; one or more lines with a leading space each.
    pub doc: &'static str,
    /// What may be written.
    pub form: &'static str,
    /// What holds where it is not set.
    pub default: Default,
}

/// What holds where an option is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Found out at start, as this sentence says.
    Found(&'static str),
    /// There is none: it must be set.
    Required,
    /// This value.
    Value(&'static str),
}

macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $repeats:ident $section:literal $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr; )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }

        impl $name {
            /// The reference entry.
            pub const DOC: SectionDoc = SectionDoc {
                name: $section,
                about: concat!($($about, "\n"),+),
                repeats: Repeats::$repeats,
                options: &[$( OptionDoc {
                    name: stringify!($field),
                    doc: concat!($($doc, "\n"),+),
                    form: <$type as Setting>::FORM,
                    default: $default,
                } ),+],
            };

            /// Reads all options first, so that all errors are told at once.
            pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
                $( let $field = reader.option::<$type>(stringify!($field), $default); )+
                Some(Self { $( $field: $field? ),+ })
            }
        }
    };
}

section! {
    /// The relay as a whole.
    Once "server" Server {
        /// Our own name in the greeting, in EHLO and in Received fields (RFC 5321 §4.1.1.1). A
        /// relay that others talk to needs a name that DNS leads back to its address.
        hostname: Domain = Default::Value("localhost");
        /// The directory of the spool, the sandbox and the control socket; made where it is
        /// missing.
        data_dir: PathBuf = Default::Found(
            "`MERPATI_DATA`; else `$XDG_DATA_HOME/merpati`; else `~/.local/share/merpati`; for \
             root, or without a home, `/var/lib/merpati`",
        );
        /// Where the HTTP API listens: health, metrics, status and the sandbox. It has no
        /// passwords yet, so anybody who reaches it may read captured mail. An empty list: nowhere.
        http_listen: Vec<SocketAddr> = Default::Value("127.0.0.1:8025");
        /// The Unix socket over which the command line speaks to the relay; mode 0600.
        control_socket: PathBuf = Default::Found("`control.sock` in `server.data_dir`");
        /// How long sessions may go on after SIGTERM or `merpati drain` before they are told 421.
        drain_wait: Duration = Default::Value("30 s");
    }
}

section! {
    /// A listener for SMTP, as often as needed. With none at all there is one: `sandbox`, of kind
    /// `sandbox`, on 127.0.0.1:1025.
    Named "listener" Listener {
        /// Its name in logs, metrics and rules; each listener has its own.
        name: Name = Default::Required;
        /// What becomes of the mail: `sandbox` captures all of it; `rehearsal` refuses what a relay
        /// with the rules of `[relay]` would refuse, and captures the rest. Nothing leaves.
        kind: Kind = Default::Required;
        /// The addresses on which it listens; port 0 takes a free one.
        listen: Vec<SocketAddr> = Default::Required;
        /// Whether TLS is offered by STARTTLS (RFC 3207), spoken from the first octet (RFC 8314),
        /// or not there.
        tls: TlsUse = Default::Value("none");
        /// The PEM file with the certificate and those that lead to its root.
        tls_certificate: Option<PathBuf> = Default::Value("off");
        /// The PEM file with the private key of the certificate.
        tls_key: Option<PathBuf> = Default::Value("off");
        /// Where AUTH PLAIN and LOGIN are offered (RFC 4954). `allow-clear` lets passwords travel
        /// without TLS: for loopback and tests.
        auth: AuthUse = Default::Value("off");
        /// What the greeting says behind our name (RFC 5321 §4.2).
        greeting: String = Default::Value("ESMTP Merpati");
        /// Open connections in all; one more is told 421.
        connections_max: NonZeroU32 = Default::Value("10000");
        /// Open connections from one address; one more is told 421.
        connections_per_address_max: NonZeroU32 = Default::Value("100");
        /// The longest message, told as SIZE (RFC 1870); a longer one is refused with 552.
        message_size_max: Bytes = Default::Value("50 MiB");
        /// Recipients of one message; more are refused with 452. RFC 5321 §4.5.3.1.8 asks for at
        /// least 100.
        recipients_max: NonZeroU32 = Default::Value("1000");
        /// Messages on one connection; then 421.
        transactions_max: NonZeroU32 = Default::Value("100000");
        /// Commands that are unknown, malformed or out of order, in one session; then 421.
        bad_commands_max: NonZeroU32 = Default::Value("50");
        /// Failed AUTH in one session; then 421.
        auth_failures_max: NonZeroU32 = Default::Value("10");
        /// How long a client may take for a command (RFC 5321 §4.5.3.2.7 asks for 5 minutes).
        command_wait: Duration = Default::Value("5 min");
        /// How long a client may take from one piece of content to the next (RFC 5321 §4.5.3.2.5
        /// asks for 3 minutes).
        data_block_wait: Duration = Default::Value("3 min");
        /// How long a client may take from MAIL to the end of the content.
        transaction_wait: Duration = Default::Value("2 h");
    }
}

section! {
    /// Relay control: who may send where through listeners of kind `relay`. It is closed until it
    /// is opened here or by credentials.
    Once "relay" Relay {
        /// Domains for which mail is accepted from anybody; subdomains do not count.
        local_domains: Vec<Domain> = Default::Value("");
        /// Networks whose clients may send to any domain. Never a network that strangers can use.
        networks: Vec<Network> = Default::Value("");
    }
}

section! {
    /// A user who may authenticate, as often as needed.
    Named "credential" CredentialEntry {
        /// The name that the client gives in AUTH.
        name: String = Default::Required;
        /// The stored form of the password: an Argon2id hash and SCRAM-SHA-256 keys in one line.
        password: Credential = Default::Required;
    }
}

section! {
    /// The journal and the bodies beside it.
    Once "spool" Spool {
        /// The size of one segment of the journal; a spool keeps the size with which it was made.
        segment_size: Bytes = Default::Value("64 MiB");
        /// The journal grows no further than this; then new mail is refused with 452. `off`: as far
        /// as the disk goes.
        journal_max: Option<Bytes> = Default::Value("off");
        /// With less than this left on the disk, new mail is refused with 452.
        disk_free_min: Bytes = Default::Value("512 MiB");
    }
}

section! {
    /// What is kept of captured mail; the oldest goes first.
    Once "sandbox" Sandbox {
        /// Messages; `off`: any number.
        keep_count_max: Option<u64> = Default::Value("100000");
        /// Their age; `off`: any.
        keep_age_max: Option<Duration> = Default::Value("30 d");
        /// Octets of their content; `off`: any number.
        keep_bytes_max: Option<Bytes> = Default::Value("10 GiB");
        /// Whether a message is kept once it is durable, or forgotten at once, which is for
        /// measuring.
        after_capture: AfterCapture = Default::Value("keep");
    }
}

section! {
    /// The mail log: a line of JSON for each thing that happened to mail.
    Once "log" Log {
        /// Where the mail log goes.
        to: LogTo = Default::Value("stdout");
    }
}

/// All sections, in the order of the reference.
pub const SECTIONS: [SectionDoc; 7] = [
    Server::DOC,
    Listener::DOC,
    Relay::DOC,
    CredentialEntry::DOC,
    Spool::DOC,
    Sandbox::DOC,
    Log::DOC,
];
