//! Which options there are about the relay and about mail that comes in, and the list of all
//! sections.
//!
//! Each stands here with its meaning, unit and default. Pure.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use merpati_mail::{Domain, Mailbox};
use merpati_smtp::server::{Mechanism, Vrfy};

use super::{
    access::{Access, CredentialEntry, TokenIssuer},
    acme::Acme,
    aliases::AliasEntry,
    https::{Https, StsEntry},
    outbound::{Delivery, Dns, EgressEntry, Retry, RouteEntry, Signing},
    section::{Default, SectionDoc, section},
    strangers::{Authentication, AuthorEntry, Greylist, ListEntry, Recipients, Strangers},
    values::{
        AfterCapture, AuthUse, Bytes, Collector, FromCheck, Kind, LogTo, MemoryMax, Name, Network,
        Pipelining, TlsUse,
    },
};

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
        /// Where the HTTP API listens: health, metrics, status, the sandbox and the queue. It has
        /// no passwords yet, so anybody who reaches it may read captured mail, see the envelopes of
        /// what waits, and hold, cancel, retry or reroute it. What was said, what became of mail
        /// and its content are told at `server.control_socket` alone. An empty list: nowhere.
        http_listen: Vec<SocketAddr> = Default::Value("127.0.0.1:8025");
        /// The Unix socket over which the command line speaks to the relay; mode 0600.
        control_socket: PathBuf = Default::Found("`control.sock` in `server.data_dir`");
        /// How long sessions may go on after SIGTERM or `merpati drain` before they are told 421.
        drain_wait: Duration = Default::Value("30 s");
        /// As whom the relay works where it is started as root, by name or number from
        /// `/etc/passwd`: once its ports are bound, and before it opens anything else, it gives up
        /// all other rights. Files that are named here must be readable, and `data_dir` writable,
        /// for this user. `off`: as whoever starts it, as with `User=` of systemd.
        user: Option<String> = Default::Value("off");
        /// In which group the user works, by name or number from `/etc/group`. `off`: in its own.
        group: Option<String> = Default::Value("off");
        /// Whether the kernel (Landlock, Linux 5.13; wholly 6.2) forbids the relay to write
        /// anywhere but below `data_dir`, the directories of `control_socket` and of the log file,
        /// and `writable`, whatever its user may. Holds from the start on; a reload widens nothing.
        confine: bool = Default::Value("false");
        /// Directories below which it may write besides, such as that of backups.
        writable: Vec<PathBuf> = Default::Value("");
    }
}

section! {
    /// A listener for SMTP, as often as needed. With none at all there is one: `sandbox`, of kind
    /// `sandbox`, on 127.0.0.1:1025.
    Named "listener" Listener {
        /// Its name in logs, metrics and rules; each listener has its own.
        name: Name = Default::Required;
        /// What it is for: `relay` takes mail for our domains from anybody, and from our networks
        /// and credentials to everywhere; `submission` takes mail from its authors, who must
        /// authenticate, to everywhere (RFC 6409), and mends it: what is missing in the header is
        /// added, Bcc is removed, long lines are encoded (`docs/messages.md`). `sandbox` captures
        /// all mail, and nothing leaves; `rehearsal` refuses what a `relay` would refuse, and
        /// captures the rest.
        kind: Kind = Default::Required;
        /// The addresses on which it listens; port 0 takes a free one.
        listen: Vec<SocketAddr> = Default::Required;
        /// Whether TLS is offered by STARTTLS (RFC 3207), spoken from the first octet (RFC 8314),
        /// or not there.
        tls: TlsUse = Default::Value("none");
        /// The PEM file with the certificate and those that lead to its root. While it cannot be
        /// used, STARTTLS is not offered, and answered with 454; mail goes on in the clear. `off`,
        /// with TLS: the one that the relay orders for `server.hostname` (`certificate.names`);
        /// where there is none, or none yet, one that it makes and signs itself, once, in `tls/` of
        /// `server.data_dir`. That hides mail from those who listen in, and proves nobody's name.
        tls_certificate: Option<PathBuf> = Default::Value("off");
        /// The PEM file with the private key of the certificate.
        tls_key: Option<PathBuf> = Default::Value("off");
        /// How long a TLS handshake may take.
        handshake_wait: Duration = Default::Value("1 min");
        /// A PEM file with the CAs whose certificates a client may show; it is then asked for one,
        /// and one that is not good ends the connection. It lets a client authenticate with
        /// EXTERNAL; see `credential.certificate_names`. `off`: no client is asked.
        tls_client_ca: Option<PathBuf> = Default::Value("off");
        /// A PEM file with the revocation lists of these CAs (RFC 5280 §5); read at start.
        tls_client_crl: Option<PathBuf> = Default::Value("off");
        /// Where AUTH is offered (RFC 4954). `allow-clear` lets passwords travel without TLS: for
        /// loopback and tests. A listener of kind `submission` takes no mail
        /// without AUTH.
        auth: AuthUse =
            Default::Found("`tls-only` for a listener of kind `submission`, else `off`");
        /// How a client may authenticate, in the order in which it is told. Those that cannot work
        /// are left out: `external` without `tls_client_ca`, the two for tokens without a
        /// `[[token_issuer]]`, and `scram-sha-256-plus` (RFC 9266) below TLS 1.3.
        auth_mechanisms: Vec<Mechanism> = Default::Value(
            "scram-sha-256-plus, scram-sha-256, external, oauthbearer, xoauth2, plain, login",
        );
        /// What the greeting says behind our name (RFC 5321 §4.2).
        greeting: String = Default::Value("ESMTP Merpati");
        /// Networks of proxies that speak the PROXY protocol, version 1 or 2, to this listener, and
        /// must: a connection from there without its header is closed after 5 seconds. Whom the
        /// header names counts as the client everywhere. From anybody else the header is refused.
        proxy_from: Vec<Network> = Default::Value("");
        /// Networks whose clients may introduce others with XCLIENT (as Postfix has it): addresses,
        /// names and, where `auth` is not `off`, credentials that logged in to them. Only programs
        /// that you trust to check passwords for you.
        xclient_from: Vec<Network> = Default::Value("");
        /// How long strangers wait for the greeting. Who talks before it is told 554 and sent away:
        /// senders of spam often do (RFC 5321 §3.1 obliges a client to wait). Clients in
        /// `relay.networks` are greeted at once. A few seconds are enough; each second is one more
        /// for all mail. `off`: greeted at once, early talk tolerated.
        greeting_wait: Option<Duration> = Default::Value("off");
        /// What becomes of clients that send on without waiting where RFC 2920 §3.1 obliges them to
        /// wait, behind EHLO and DATA: `enforced` tells them 554 and ends the session, unless they
        /// have authenticated; `tolerated` serves them.
        pipelining: Pipelining = Default::Found(
            "`enforced` for a listener of kind `relay` or `rehearsal`, else `tolerated`",
        );
        /// Open connections in all; one more is told 421. When three quarters of them are taken,
        /// strangers get no more than a tenth of `connections_per_address_max`, and who says
        /// nothing for 10 seconds loses his place.
        connections_max: NonZeroU32 = Default::Value("20000");
        /// Open connections from one address, or one IPv6 /64; one more is told 421. Not for those
        /// of `xclient_from`; behind a proxy of `proxy_from` the client's address counts.
        connections_per_address_max: NonZeroU32 = Default::Value("100");
        /// The same for strangers from one IPv4 /24 or IPv6 /48. `off`: any number.
        connections_per_network_max: Option<NonZeroU32> = Default::Value("off");
        /// New connections from one address, or one IPv6 /64, in a minute; one more is told 421.
        /// Like the next two it is for strangers: not for clients in `relay.networks` and for those
        /// who authenticated. `off`: any number.
        connections_per_minute_max: Option<NonZeroU32> = Default::Value("off");
        /// Messages from one address, or one IPv6 /64, in a minute; one more is refused with 450,
        /// except to `postmaster` and `abuse`. `off`: any number.
        messages_per_minute_max: Option<NonZeroU32> = Default::Value("off");
        /// Recipients from one address, or one IPv6 /64, in a minute; one more is refused with 450,
        /// except `postmaster` and `abuse`. `off`: any number.
        recipients_per_minute_max: Option<NonZeroU32> = Default::Value("off");
        /// The longest message, told as SIZE (RFC 1870); a longer one is refused with 552.
        message_size_max: Bytes = Default::Value("50 MiB");
        /// The longest line of a message in octets, without its CRLF; one with a longer line is
        /// refused with 550. RFC 5322 §2.1.1 allows 998, but many senders do not keep to that, and
        /// most next hops bear it. On a listener of kind `submission` lines are encoded or folded
        /// first. `off`: any, and mail that is only passed on keeps its lines.
        line_length_max: Option<Bytes> = Default::Value("off");
        /// What the header field From must be like in mail that is only passed on. `one` refuses
        /// with 550 what each reader takes for the mail of another author: several From (RFC 5322
        /// §3.6), one that names several domains, a group or an address in disguise, or with a
        /// blank before its colon. `readable` refuses also one that does not plainly name its
        /// authors; `off` takes all. A message without From is taken in any case. A listener of
        /// kind `submission` is always as strict as `readable`.
        from_check: FromCheck = Default::Value("one");
        /// Recipients of one message, told as RCPTMAX of LIMITS (RFC 9422); more are refused with
        /// 452. RFC 5321 §4.5.3.1.8 asks for at least 100.
        recipients_max: NonZeroU32 = Default::Value("1000");
        /// Messages on one connection; then 421. Told as MAILMAX of LIMITS (RFC 9422) where it is
        /// at most 10,000.
        transactions_max: NonZeroU32 = Default::Value("100000");
        /// The shortest time within which a client may have a message delivered or returned by
        /// DELIVERBY (RFC 2852, `BY=…;R`); a shorter one is refused with 555. `0 s`: any. `off`:
        /// DELIVERBY is not offered.
        deliver_by_min: Option<Duration> = Default::Value("0 s");
        /// How long a client may have a message held back by FUTURERELEASE (RFC 4865, `HOLDFOR=`
        /// and `HOLDUNTIL=`); longer is refused with 501. It is offered by listeners of kind
        /// `submission`, and by others to clients that have authenticated. `off`: nowhere.
        future_release_max: Option<Duration> = Default::Value("30 d");
        /// Whether MT-PRIORITY (RFC 6710) is offered: among the deliveries that are due for one
        /// next hop, those of a higher priority go first. A priority above 0 is granted to
        /// credentials and `relay.networks`; that of others is lowered to 0.
        mt_priority: bool = Default::Value("true");
        /// Whether REQUIRETLS (RFC 8689) is offered under TLS. Such a message leaves only by TLS
        /// with a host that has proven its name and offers REQUIRETLS itself; else it is returned.
        requiretls: bool = Default::Value("true");
        /// Commands that are unknown, malformed or out of order, in one session; then 421.
        bad_commands_max: NonZeroU32 = Default::Value("50");
        /// How VRFY is answered: `cannot-verify` with 252 for every name (RFC 5321 §7.3), or `off`
        /// with 502. EXPN is never there.
        vrfy: Vrfy = Default::Value("cannot-verify");
        /// Failed AUTH in one session; then 421.
        auth_failures_max: NonZeroU32 = Default::Value("10");
        /// How long a client may take for a command (RFC 5321 §4.5.3.2.7 asks for 5 minutes).
        command_wait: Duration = Default::Value("5 min");
        /// How long a client may take from one piece of content to the next (RFC 5321 §4.5.3.2.5
        /// asks for 3 minutes).
        data_block_wait: Duration = Default::Value("3 min");
        /// How long content may take, whatever its size; beyond it, only as long as
        /// `content_rate_min` is kept.
        content_grace: Duration = Default::Value("10 min");
        /// Octets of content in a second that a client must send on the whole, once
        /// `content_grace` is over.
        content_rate_min: NonZeroU32 = Default::Value("100");
        /// How long a client may take from MAIL to the end of the content.
        transaction_wait: Duration = Default::Value("2 h");
        /// How long a client may take to read our replies; then the connection is closed.
        write_wait: Duration = Default::Value("1 min");
    }
}

section! {
    /// A certificate beside those of the listeners, as often as needed. Every listener with TLS
    /// shows it to clients that name (SNI, RFC 6066 §3) a host in it. It has either `chain` and
    /// `key`, which are files of yours, or `names`, for which the relay orders it (`[acme]`).
    /// Files of certificates and keys are read again within a minute when they change, and at once
    /// after SIGHUP; sessions go on. A file that cannot be used is told on standard error, and what
    /// was read before stays.
    Named "certificate" CertificateEntry {
        /// Its name; each certificate has its own.
        name: Name = Default::Required;
        /// The PEM file with the certificate and those that lead to its root. `off`: it is ordered.
        chain: Option<PathBuf> = Default::Value("off");
        /// The PEM file with the private key of the certificate. `off`: the relay makes one, once,
        /// and keeps it when the certificate is renewed.
        key: Option<PathBuf> = Default::Value("off");
        /// The names for which it is ordered, such as that of your host and those of the policies
        /// of MTA-STS (`mta-sts.example.org`). An empty list: it is not ordered.
        names: Vec<Domain> = Default::Value("");
    }
}

section! {
    /// Relay control: who may send where through listeners of kind `relay`. It is closed until it
    /// is opened here or by credentials. Where the mail goes then is said by `[[route]]`.
    Once "relay" Relay {
        /// Domains for which mail is accepted from anybody; subdomains do not count.
        local_domains: Vec<Domain> = Default::Value("");
        /// Those of `local_domains` to which only `networks` and credentials may send, and aliases
        /// in the others. Strangers are refused with 550 5.7.1, but for `postmaster` and `abuse`.
        internal_domains: Vec<Domain> = Default::Value("");
        /// The one of `local_domains` into which senders are rewritten (SRS): what an alias leads
        /// out of your domains leaves from `SRS0=…` there, so that SPF is yours, and what is sent
        /// to such an address goes back to who sent the message, for 21 days. `off`: it leaves from
        /// who sent it. `docs/aliases.md` says more.
        srs_domain: Option<Domain> = Default::Value("off");
        /// Networks whose clients may send to any domain. Never a network that strangers can use.
        networks: Vec<Network> = Default::Value("");
        /// Received fields in a message; one with more goes round, and is refused with 554
        /// (RFC 5321 §6.3 asks for at least 100).
        hops_max: NonZeroU32 = Default::Value("100");
        /// Names of ours in `Authentication-Results`, besides `server.hostname` and
        /// `local_domains`: where a client
        /// outside of `networks` brings such a field with one of them, it is removed (RFC 8601 §5),
        /// because our own readers would believe it.
        authserv_ids: Vec<Domain> = Default::Value("");
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
    /// How much may be under way before senders are slowed down, and then told to come again later.
    /// What was accepted is delivered all the while. `docs/overload.md` says more.
    Once "limits" Limits {
        /// Resident memory of the process. From 80 % of it on, content is read slowly; from 90 %
        /// on, new mail is refused with 452; from 100 % on, new connections are refused with 421.
        /// `auto`: three quarters of the memory of the machine, or of the control group where that
        /// is less. `off`: any.
        memory_max: MemoryMax = Default::Value("auto");
        /// Deliveries that wait or are attempted. From 90 % of it on, content is read slowly; from
        /// 100 % on, new mail is refused with 452 by the listeners whose mail is delivered. Each
        /// takes some 250 octets of memory. `off`: any number.
        queue_max: Option<NonZeroU32> = Default::Value("20000000");
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
        /// Where the mail log goes. `journal` is that of systemd, in its native protocol: `MESSAGE`
        /// is the line, and `MERPATI_EVENT`, `MERPATI_ID` and `MERPATI_LISTENER` are fields.
        to: LogTo = Default::Value("stdout");
        /// Octets of a log file: with the line that would go beyond it becomes `FILE.1`, that
        /// `FILE.2` and so on. `off`: any number, as where logrotate sees to it.
        size_max: Option<Bytes> = Default::Value("off");
        /// How many of these older files are kept.
        files_max: NonZeroU32 = Default::Value("10");
    }
}

section! {
    /// What `merpati trace` looks through: what became of mail lately, in files of the data
    /// directory, whatever becomes of the log. Envelopes are in it, contents are not.
    Once "history" History {
        /// Octets in all; the oldest are forgotten first. A message takes some 1,000. `off`:
        /// nothing is kept, and a trace knows only what waits.
        size_max: Option<Bytes> = Default::Value("256 MiB");
    }
}

section! {
    /// What is told to other systems of the operator's.
    Once "telemetry" Telemetry {
        /// The collector of OpenTelemetry to which traces go, by OTLP over HTTP, such as
        /// `http://127.0.0.1:4318/v1/traces`: a trace for each message, a span for each attempt,
        /// without addresses of mail. Only in a build with the Cargo feature `opentelemetry`.
        traces_to: Option<Collector> = Default::Value("off");
    }
}

section! {
    /// Reports of TLS (TLSRPT, RFC 8460): domains that want to know are told each day how many of
    /// our sessions with their hosts came about, and why others did not. `docs/tls-reports.md` says
    /// more.
    Once "tls_reports" TlsReports {
        /// From whom reports are sent. It should be of a domain that mail is signed for: who gets a
        /// report that is not signed may ignore it (RFC 8460 §3). `off`: nothing is counted, and
        /// nobody is told.
        from: Option<Mailbox> = Default::Value("off");
        /// Who we are, in the words of `organization-name`. `off`: `server.hostname`.
        organization: Option<String> = Default::Value("off");
        /// Whom to ask about a report: an address, or whatever else leads to you. `off`: the
        /// address of `from`.
        contact: Option<String> = Default::Value("off");
        /// How long what was counted in a day is kept in `tls-reports/` of `server.data_dir` once
        /// it was told.
        keep: Duration = Default::Value("30 d");
    }
}

section! {
    /// What `merpati doctor` and `/v1/health` look at. Nothing is asked before somebody asks them.
    Once "health" HealthChecks {
        /// Whose mail servers are connected to, to see whether mail can leave by port 25; nothing
        /// is sent to them. An empty list: nobody's.
        reach: Vec<Domain> = Default::Value("gmail.com, outlook.com");
        /// The DNS lists that our own addresses are looked for in. An empty list: none.
        lists: Vec<Domain> = Default::Value("zen.spamhaus.org, bl.spamcop.net, psbl.surriel.com");
        /// Beside whose clock ours is held (SNTP, RFC 4330). `off`: beside nobody's.
        time_server: Option<Domain> = Default::Value("pool.ntp.org");
        /// How long one check may take; what is not known then is told as unknown.
        wait: Duration = Default::Value("15 s");
    }
}

/// All sections, in the order of the reference.
pub const SECTIONS: [SectionDoc; SECTIONS_COUNT] = [
    Server::DOC,
    Listener::DOC,
    CertificateEntry::DOC,
    Acme::DOC,
    Https::DOC,
    StsEntry::DOC,
    Relay::DOC,
    Access::DOC,
    CredentialEntry::DOC,
    TokenIssuer::DOC,
    Recipients::DOC,
    AliasEntry::DOC,
    Strangers::DOC,
    Authentication::DOC,
    AuthorEntry::DOC,
    ListEntry::DOC,
    Greylist::DOC,
    RouteEntry::DOC,
    EgressEntry::DOC,
    Signing::DOC,
    Delivery::DOC,
    Retry::DOC,
    Dns::DOC,
    Spool::DOC,
    Limits::DOC,
    Sandbox::DOC,
    Log::DOC,
    History::DOC,
    Telemetry::DOC,
    TlsReports::DOC,
    HealthChecks::DOC,
];

pub(super) const SECTIONS_COUNT: usize = 31;
