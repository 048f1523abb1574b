//! What the operator wants: files, environment and command line, as types of the domain.
//!
//! Invariant: a [`Config`] that exists is complete and consistent, so nobody behind it looks again;
//! all mistakes are told at once, each with its place. Only [`files`] touches the disk,
//! [`Config::check_files`], [`Config::aliases`], and for a password
//! [`outbound::RouteEntry::login`].
//!
//! In the order of reading: texts ([`source`]), values ([`setting`], [`values`], [`next_hop`]),
//! options with their reference entries ([`section`], [`options`], [`access`], [`outbound`]), and
//! what reads as documentation ([`mod@reference`], [`schema`]).

pub mod access;
pub mod acme;
pub(crate) mod alias_text;
pub mod aliases;
mod check;
mod check_access;
mod check_acme;
mod check_aliases;
mod check_files;
mod check_https;
mod check_outbound;
pub mod diagnostic;
pub mod https;
pub mod next_hop;
pub mod options;
pub mod outbound;
mod reader;
pub mod reference;
pub mod schema;
pub mod section;
pub mod setting;
pub(crate) mod setting_aliases;
mod setting_strangers;
pub mod source;
pub mod strangers;
#[cfg(test)]
mod tests;
pub mod values;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use merpati_flow::{
    admit::{Sender, Senders},
    route::Router,
};
use merpati_mail::Domain;

use self::{
    access::{Access, CredentialEntry, TokenIssuer},
    acme::Acme,
    aliases::AliasEntry,
    check::Parts,
    diagnostic::Diagnostic,
    https::{Https, StsEntry},
    next_hop::To,
    options::{
        CertificateEntry, HealthChecks, History, Limits, Listener, Log, Relay, Sandbox, Server,
        Spool, Telemetry,
    },
    outbound::{Delivery, Dns, Egress, EgressEntry, Retry, RouteEntry, Signing},
    reader::Reader,
    section::SectionDoc,
    setting::Setting,
    source::{Sources, Span, Table, Tree},
    strangers::{
        Authentication, AuthorEntry, Greylist, ListEntry, Recipients as KnownRecipients, Strangers,
    },
};
pub use self::{
    diagnostic::Errors,
    options::TlsReports,
    setting_aliases::AliasFormat,
    source::Source,
    values::{
        AfterCapture, AuthUse, Bytes, Collector, FromCheck, Kind, LogTo, MemoryMax, Name, Network,
        Pipelining, Recipients, RouteTls, TlsUse,
    },
};

/// The whole configuration, complete and consistent.
#[derive(Clone, Debug)]
pub struct Config {
    /// The relay as a whole.
    pub server: Server,
    /// Where mail comes in; at least one, each with a name of its own.
    pub listeners: Vec<Listener>,
    /// Certificates beside those of the listeners; each with a name of its own.
    pub certificates: Vec<CertificateEntry>,
    /// From whom the relay orders some of them.
    pub acme: Acme,
    /// The listener for the web.
    pub https: Https,
    /// Policies of MTA-STS; each with a name of its own, and at most one for a domain.
    pub policies: Vec<StsEntry>,
    /// Who may send where.
    pub relay: Relay,
    /// What follows when authentication fails.
    pub auth: Access,
    /// Who may authenticate; each with a name of its own.
    pub credentials: Vec<CredentialEntry>,
    /// Whose tokens are taken; each with a name of its own.
    pub token_issuers: Vec<TokenIssuer>,
    /// Which recipients exist.
    pub recipients: KnownRecipients,
    /// What addresses of ours stand for; each table with a name of its own.
    pub aliases: Vec<AliasEntry>,
    /// What strangers must show.
    pub strangers: Strangers,
    /// Signatures on mail that goes out.
    pub signing: Signing,
    /// Whether their mail is from whom it says.
    pub authentication: Authentication,
    /// The same for authors in some domains.
    pub authors: Vec<AuthorEntry>,
    /// The DNS lists that they are looked for in; each with a name of its own.
    pub lists: Vec<ListEntry>,
    /// Whether their first contacts wait.
    pub greylist: Greylist,
    /// Where mail goes, the first rule first; each with a name of its own.
    pub routes: Vec<RouteEntry>,
    /// Where mail leaves from; each with a name of its own.
    pub egresses: Vec<EgressEntry>,
    /// How mail goes out.
    pub delivery: Delivery,
    /// When it is tried again.
    pub retry: Retry,
    /// How DNS is asked.
    pub dns: Dns,
    /// The journal.
    pub spool: Spool,
    /// How much may be under way.
    pub limits: Limits,
    /// What is kept of captured mail.
    pub sandbox: Sandbox,
    /// The mail log.
    pub log: Log,
    /// What `trace` looks through.
    pub history: History,
    /// What is told to other systems.
    pub telemetry: Telemetry,
    /// Reports of TLS.
    pub tls_reports: TlsReports,
    /// What is looked at when somebody asks how all is.
    pub health: HealthChecks,
    /// Every option with its value and where that comes from, in the order of reading.
    pub effective: Vec<Effective>,
    /// What was read.
    sources: Sources,
}

/// An option as it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// `section.option` or `section.name.option`.
    pub key: String,
    /// The value as it may stand in a file.
    pub value: String,
    /// File, line and column, or the name of what set it; `None` for a default.
    pub source: Option<String>,
    /// The same as a part of a text.
    pub at: Span,
}

impl Config {
    /// The configuration that these texts, these variables of the environment and these arguments
    /// (`section.option=value`) make; the later win.
    pub fn of(
        texts: Vec<Source>,
        environment: &BTreeMap<String, String>,
        arguments: &[String],
    ) -> Result<Self, Errors> {
        let mut tree = Tree::default();
        let is_set = |name: &String| {
            name.starts_with("MERPATI_") && name.contains("__") || name == "MERPATI_DATA"
        };
        let mut is_blank = !texts.is_empty();
        for text in texts {
            tree.file(text);
        }
        is_blank &= tree.tables.is_empty() && tree.diagnostics.is_empty();
        if is_blank && arguments.is_empty() && !environment.keys().any(is_set) {
            let at = Span { source: 0, range: 0..0 };
            tree.diagnostics.push(Diagnostic::new("nothing is set here", at).help(BLANK));
        }
        // Without a listener in a file there is the sandbox, unless others come from outside.
        let has_listeners = tree.tables.contains_key("listener");
        if !has_listeners {
            tree.tables.insert("listener", vec![sandbox_listener()]);
        }
        for (name, value) in environment {
            tree.variable(name, value);
        }
        for argument in arguments {
            tree.argument(argument);
        }
        let listeners = tree.tables.entry("listener").or_default();
        if !has_listeners && listeners.len() > 1 {
            listeners.retain(|table| table.entries.values().any(|entry| !entry.key.is_nowhere()));
        }
        found(&mut tree, environment);
        Self::read(tree)
    }

    #[expect(clippy::too_many_lines, reason = "it has two lines for each section")]
    fn read(mut tree: Tree) -> Result<Self, Errors> {
        let mut diagnostics = std::mem::take(&mut tree.diagnostics);
        let mut effective = Vec::new();
        let mut reading =
            Reading { tree: &tree, diagnostics: &mut diagnostics, effective: &mut effective };
        let server = reading.one(&Server::DOC, Server::read);
        let listeners = reading.all(&Listener::DOC, Listener::read);
        let certificates = reading.all(&CertificateEntry::DOC, CertificateEntry::read);
        let acme = reading.one(&Acme::DOC, Acme::read);
        let https = reading.one(&Https::DOC, Https::read);
        let policies = reading.all(&StsEntry::DOC, StsEntry::read);
        let relay = reading.one(&Relay::DOC, Relay::read);
        let auth = reading.one(&Access::DOC, Access::read);
        let credentials = reading.all(&CredentialEntry::DOC, CredentialEntry::read);
        let token_issuers = reading.all(&TokenIssuer::DOC, TokenIssuer::read);
        let recipients = reading.one(&KnownRecipients::DOC, KnownRecipients::read);
        let aliases = reading.all(&AliasEntry::DOC, AliasEntry::read);
        let strangers = reading.one(&Strangers::DOC, Strangers::read);
        let authentication = reading.one(&Authentication::DOC, Authentication::read);
        let authors = reading.all(&AuthorEntry::DOC, AuthorEntry::read);
        let lists = reading.all(&ListEntry::DOC, ListEntry::read);
        let greylist = reading.one(&Greylist::DOC, Greylist::read);
        let routes = reading.all(&RouteEntry::DOC, RouteEntry::read);
        let egresses = reading.all(&EgressEntry::DOC, EgressEntry::read);
        let signing = reading.one(&Signing::DOC, Signing::read);
        let delivery = reading.one(&Delivery::DOC, Delivery::read);
        let retry = reading.one(&Retry::DOC, Retry::read);
        let dns = reading.one(&Dns::DOC, Dns::read);
        let spool = reading.one(&Spool::DOC, Spool::read);
        let limits = reading.one(&Limits::DOC, Limits::read);
        let sandbox = reading.one(&Sandbox::DOC, Sandbox::read);
        let log = reading.one(&Log::DOC, Log::read);
        let history = reading.one(&History::DOC, History::read);
        let telemetry = reading.one(&Telemetry::DOC, Telemetry::read);
        let tls_reports = reading.one(&TlsReports::DOC, TlsReports::read);
        let health = reading.one(&HealthChecks::DOC, HealthChecks::read);
        let parts = Parts {
            tree: &tree,
            server: server.as_ref(),
            retry: retry.as_ref(),
            listeners: &listeners,
            certificates: &certificates,
            acme: acme.as_ref(),
            https: https.as_ref(),
            policies: &policies,
            relay: relay.as_ref(),
            credentials: &credentials,
            token_issuers: &token_issuers,
            recipients: recipients.as_ref(),
            aliases: &aliases,
            routes: &routes,
            egresses: &egresses,
        };
        check::together(&parts, &mut diagnostics);
        let complete = move || {
            Some(Self {
                server: server?,
                listeners: without_places(listeners),
                certificates: without_places(certificates),
                acme: acme?,
                https: https?,
                policies: without_places(policies),
                relay: relay?,
                auth: auth?,
                credentials: without_places(credentials),
                token_issuers: without_places(token_issuers),
                recipients: recipients?,
                aliases: without_places(aliases),
                strangers: strangers?,
                authentication: authentication?,
                authors: without_places(authors),
                lists: without_places(lists),
                greylist: greylist?,
                routes: without_places(routes),
                egresses: without_places(egresses),
                signing: signing?,
                delivery: delivery?,
                retry: retry?,
                dns: dns?,
                spool: spool?,
                limits: limits?,
                sandbox: sandbox?,
                log: log?,
                history: history?,
                telemetry: telemetry?,
                tls_reports: tls_reports?,
                health: health?,
                effective,
                sources: Sources::default(),
            })
        };
        match complete() {
            Some(config) if diagnostics.is_empty() => Ok(Self { sources: tree.sources, ..config }),
            Some(_) | None => Err(Errors::new(&tree.sources, diagnostics)),
        }
    }

    /// What is wrong at an option, with its place: `section.option` or `section.name.option`.
    pub fn wrong_at(&self, key: &str, why: impl Into<String>, help: impl Into<String>) -> Errors {
        Errors::new(&self.sources, vec![self.diagnostic(key, why, help)])
    }

    fn diagnostic(&self, key: &str, why: impl Into<String>, help: impl Into<String>) -> Diagnostic {
        Diagnostic::new(why, self.place(key)).help(help)
    }

    /// Where an option was written.
    fn place(&self, key: &str) -> Span {
        let option = self.effective.iter().find(|option| option.key == key);
        option.map_or_else(Span::nowhere, |option| option.at.clone())
    }

    /// The rules that say where a delivery goes.
    pub fn router(&self) -> Router {
        let mut local = self.relay.local_domains.clone();
        // <postmaster> without a domain is a recipient at our host name.
        local.push(self.server.hostname.clone());
        Router { rules: self.routes.iter().map(|route| route.rule(&local)).collect() }
    }

    /// The source that mail by this route leaves from.
    pub fn egress(&self, route: &RouteEntry) -> Egress {
        Egress::of(route.egress.as_ref(), &self.egresses, &self.server.hostname)
    }

    /// Whether the system chooses the address of some mail that goes by MX.
    pub fn system_chooses(&self) -> bool {
        let by_mx = self.routes.iter().filter(|route| route.to == To::Mx);
        by_mx.map(|route| self.egress(route)).any(|egress| egress.addresses.is_empty())
    }

    /// As whom each credential may send, by its name; one that is disabled as nobody.
    pub fn senders(&self) -> BTreeMap<String, Senders> {
        let local = &self.relay.local_domains;
        let entries = self.credentials.iter();
        entries.map(|entry| (entry.name.clone(), senders(entry, local))).collect()
    }
}

/// As whom a credential may send.
fn senders(entry: &CredentialEntry, local_domains: &[Domain]) -> Senders {
    if !entry.enabled {
        Senders::of([])
    } else if entry.senders.is_empty() {
        Senders::of(local_domains.iter().cloned().map(Sender::Domain))
    } else {
        Senders::of(entry.senders.iter().cloned())
    }
}

fn without_places<T>(all: Vec<(usize, T)>) -> Vec<T> {
    all.into_iter().map(|(_, one)| one).collect()
}

/// The texts of a file, or of all `*.toml` of a directory in the order of their names.
pub fn files(path: &Path) -> Result<Vec<Source>, Errors> {
    let paths = paths(path).map_err(|why| unreadable(path, &why))?;
    if paths.is_empty() {
        let why = format!("there is no *.toml in {}", path.display());
        return Err(Errors::of_none(why, BLANK));
    }
    paths.iter().map(|path| file(path)).collect()
}

fn paths(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = path.read_dir()?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = entries.collect::<io::Result<_>>()?;
    let is_hidden =
        |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    // Editors leave their own files beside those of people.
    paths.retain(|path| {
        path.extension().is_some_and(|end| end == "toml") && path.is_file() && !is_hidden(path)
    });
    paths.sort();
    Ok(paths)
}

fn file(path: &Path) -> Result<Source, Errors> {
    let name = path.display().to_string();
    let octets = std::fs::read(path).map_err(|why| unreadable(path, &why))?;
    match String::from_utf8(octets) {
        Ok(text) => Ok(Source { name, text }),
        Err(error) => {
            let start = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let range = start..start + char::REPLACEMENT_CHARACTER.len_utf8();
            let mut sources = Sources::default();
            let source = sources.add(Source { name, text });
            let why = "these octets are not UTF-8, in which TOML is written";
            let help = "save the file as UTF-8, or write the character anew";
            let diagnostic = Diagnostic::new(why, Span { source, range }).help(help);
            Err(Errors::new(&sources, vec![diagnostic]))
        }
    }
}

fn unreadable(path: &Path, why: &io::Error) -> Errors {
    let help = if why.kind() == io::ErrorKind::NotFound {
        "write it, or leave the path away: then there is a sandbox on loopback"
    } else if why.kind() == io::ErrorKind::PermissionDenied {
        "let the user who runs merpati read it: `chown` or `chmod`, also on the directory"
    } else {
        "look at the file and its disk"
    };
    Errors::of_none(format!("cannot read {}: {why}", path.display()), help)
}

const BLANK: &str = "\
write what the relay is for; without any configuration there is a sandbox on loopback:

[[listener]]
name = \"sandbox\"
kind = \"sandbox\"
listen = \"127.0.0.1:1025\"";

/// The directory of the spool where no option names one.
pub fn data_dir(environment: &BTreeMap<String, String>) -> PathBuf {
    let value = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    if let Some(directory) = value("MERPATI_DATA") {
        return directory.into();
    }
    let system = PathBuf::from("/var/lib/merpati");
    if value("USER").is_some_and(|user| user == "root") {
        return system;
    }
    let home = value("HOME").filter(|home| home.as_str() != "/root");
    let base = value("XDG_DATA_HOME").map(PathBuf::from);
    let base = base.or_else(|| home.map(|home| Path::new(home).join(".local/share")));
    base.map_or(system, |base| base.join("merpati"))
}

/// The control socket of a relay with this directory where no option names one.
pub fn control_socket(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Sets the options whose default has to be found out.
fn found(tree: &mut Tree, environment: &BTreeMap<String, String>) {
    let server = tree.tables.entry("server").or_default();
    if server.is_empty() {
        server.push(Table { head: Span::nowhere(), entries: BTreeMap::new() });
    }
    for table in server {
        table.preset("data_dir", &data_dir(environment).to_string_lossy());
        let directory = match table.entries.get("data_dir").map(|entry| &entry.node) {
            Some(source::Node::Text(directory)) => PathBuf::from(directory),
            _ => data_dir(environment),
        };
        table.preset("control_socket", &control_socket(&directory).to_string_lossy());
    }
    for table in tree.tables.entry("listener").or_default() {
        let kind = read::<Kind>(table, "kind");
        let is_submission = kind == Some(Kind::Submission);
        table.preset("auth", if is_submission { "tls-only" } else { "off" });
        // Authors' programs are many and old, and have a password; strangers are mail servers.
        let pipelining = match kind {
            Some(Kind::Rehearsal | Kind::Relay) => Pipelining::Enforced,
            Some(Kind::Sandbox | Kind::Submission) | None => Pipelining::Tolerated,
        };
        table.preset("pipelining", pipelining.word());
    }
    for table in tree.tables.entry("route").or_default() {
        let has_login = table.entries.contains_key("user");
        let is_clear = read::<bool>(table, "auth_clear") == Some(true);
        let tls = match read::<To>(table, "to") {
            Some(to) if !to.is_network() => RouteTls::Never,
            Some(To::Smtps(_)) => RouteTls::Required,
            Some(_) if has_login && !is_clear => RouteTls::Required,
            Some(_) | None => RouteTls::Opportunistic,
        };
        table.preset("tls", tls.word());
        let is_required = read::<RouteTls>(table, "tls") == Some(RouteTls::Required);
        table.preset("tls_verify", if is_required { "true" } else { "false" });
    }
}

/// What an option says; `None` where it is not there or cannot be meant.
fn read<T: Setting>(table: &Table, option: &str) -> Option<T> {
    table.entries.get(option).and_then(|entry| T::read(&entry.node).ok())
}

fn sandbox_listener() -> Table {
    let mut table = Table { head: Span::nowhere(), entries: BTreeMap::new() };
    for (key, text) in [("name", "sandbox"), ("kind", "sandbox"), ("listen", "127.0.0.1:1025")] {
        table.preset(key, text);
    }
    table
}

/// What the sections have in common while they are read.
struct Reading<'a> {
    tree: &'a Tree,
    diagnostics: &'a mut Vec<Diagnostic>,
    effective: &'a mut Vec<Effective>,
}

impl Reading<'_> {
    fn one<T>(
        &mut self,
        section: &SectionDoc,
        read: fn(&mut Reader<'_>) -> Option<T>,
    ) -> Option<T> {
        let absent = Table { head: Span::nowhere(), entries: BTreeMap::new() };
        let tables = self.tree.tables.get(section.name);
        let table = tables.and_then(|tables| tables.first()).unwrap_or(&absent);
        read(&mut self.reader(section, table))
    }

    fn all<T>(
        &mut self,
        section: &SectionDoc,
        read: fn(&mut Reader<'_>) -> Option<T>,
    ) -> Vec<(usize, T)> {
        let tree = self.tree;
        let tables = tree.tables.get(section.name).into_iter().flatten().enumerate();
        tables.filter_map(|(at, t)| Some((at, read(&mut self.reader(section, t))?))).collect()
    }

    fn reader<'r>(&'r mut self, section: &'r SectionDoc, table: &'r Table) -> Reader<'r> {
        Reader {
            section,
            table,
            sources: &self.tree.sources,
            diagnostics: self.diagnostics,
            effective: self.effective,
        }
    }
}
