//! `merpati domain`: from no domain to one whose mail is proven, in commands that say what to do
//! next.
//!
//! It changes files in the data directory and has the relay read them again; without a relay that
//! runs, the next start does.

use std::{
    net::{IpAddr, SocketAddr},
    process::ExitCode,
};

use clap::{Args, Subcommand, ValueEnum};
use merpati_auth::dmarc;
use merpati_mail::{Domain, Time};
use serde_json::json;

use super::{
    ConfigArguments, Failure, Format, FormatArguments, client::Client, config_commands::load,
    output::Output,
};
use crate::{
    config::Config,
    domains::{
        self, Key, SendingDomain, Stage, Store,
        judge::{Judgement, Standing},
        look::{self, Resolvers, Seen},
        records::{self, Choices, Host, Purpose, Record},
        rotation, schedule,
        tlsa::Shown,
    },
    process,
};

#[derive(Debug, Subcommand)]
pub(super) enum DomainCommand {
    /// Make keys for a domain, and say which records to publish.
    Add {
        #[command(flatten)]
        which: Which,
    },
    /// Ask DNS for the records, say what to do next, and let keys sign that are seen.
    Check(CheckArguments),
    /// Tell the domains and how their keys stand.
    Ls {
        #[command(flatten)]
        from: ConfigArguments,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Tell which records to publish.
    Records {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        chosen: Chosen,
        /// A table for people, JSON, or lines for a zone file.
        #[arg(short = 'o', long = "output", value_enum, default_value_t = RecordsFormat::Table)]
        format: RecordsFormat,
    },
    /// Make new keys beside those that sign; they take over when DNS has them.
    Rotate {
        #[command(flatten)]
        which: Which,
        /// Also while others are still to be published.
        #[arg(long)]
        force: bool,
    },
    /// The same as `records -o zone`.
    Zone {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        chosen: Chosen,
    },
}

/// Which domain, by which configuration.
#[derive(Args, Debug)]
pub(super) struct Which {
    /// The domain, such as shop.example.
    domain: Domain,
    #[command(flatten)]
    from: ConfigArguments,
}

/// What the operator chooses of the records.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Chosen {
    /// How far you are with DMARC: what receivers are to do with mail that only claims to be
    /// yours. Go on when `domain check` says so.
    #[arg(long, value_enum, default_value_t = DmarcPolicy::None)]
    dmarc: DmarcPolicy,
    /// Also the record of the certificate that the host shows (DANE). Only if the zone of the host
    /// is signed by DNSSEC; whenever the key of the certificate changes, it must change first.
    #[arg(long)]
    tlsa: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum DmarcPolicy {
    None,
    Quarantine,
    Reject,
}

impl Chosen {
    const fn choices(self) -> Choices {
        let dmarc = match self.dmarc {
            DmarcPolicy::None => dmarc::Policy::None,
            DmarcPolicy::Quarantine => dmarc::Policy::Quarantine,
            DmarcPolicy::Reject => dmarc::Policy::Reject,
        };
        Choices { dmarc, tlsa: self.tlsa }
    }
}

#[derive(Args, Debug)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    which: Which,
    /// Ask this resolver besides those of the configuration; may be repeated. A key signs when all
    /// of them have it.
    #[arg(long = "resolver", value_name = "ADDRESS[:PORT]", value_parser = resolver_address)]
    resolvers: Vec<SocketAddr>,
    #[command(flatten)]
    format: FormatArguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum RecordsFormat {
    Json,
    Table,
    Zone,
}

pub(super) fn run(
    command: &DomainCommand,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match command {
        DomainCommand::Add { which } => add(which, client, output),
        DomainCommand::Check(arguments) => check(arguments, client, output),
        DomainCommand::Ls { from, format } => ls(&load(from)?, format.format, output),
        DomainCommand::Records { which, chosen, format } => show(which, (*chosen, *format), output),
        DomainCommand::Rotate { which, force } => rotate(which, *force, client, output),
        DomainCommand::Zone { which, chosen } => {
            show(which, (*chosen, RecordsFormat::Zone), output)
        }
    }
}

/// A configuration, and the files of its domains.
struct Desk {
    config: Config,
    store: Store,
}

impl Desk {
    fn open(from: &ConfigArguments) -> Result<Self, Failure> {
        let config = load(from)?;
        let store = domains::store(&config).map_err(|why| unable(&why))?;
        Ok(Self { config, store })
    }

    fn domain(&self, name: &Domain) -> Result<SendingDomain, Failure> {
        let found = self.store.one(name).map_err(|why| unable(&why))?;
        found.ok_or_else(|| {
            Failure::Other(format!("{name} is no domain of ours: `merpati domain add {name}`"))
        })
    }

    fn host(&self, domain: &Domain) -> Host {
        Host::of(&self.config, domain)
    }

    /// Has the relay read the files again; says so where that is still to be done.
    fn reload(&self, client: &Client, output: &mut Output) -> Result<(), Failure> {
        match client.by(&self.config).post("/v1/reload") {
            Ok(_) => Ok(()),
            Err(Failure::RelayDown(_)) => {
                output.complain("the relay does not run: it takes this up when it starts");
                Ok(())
            }
            Err(why) => {
                Err(Failure::Other(format!("kept, but the relay did not take it up: {why}")))
            }
        }
    }
}

fn add(which: &Which, client: &Client, output: &mut Output) -> Result<ExitCode, Failure> {
    let desk = Desk::open(&which.from)?;
    let name = &which.domain;
    if name.as_name().is_none() {
        return Err(Failure::Usage(format!("{name} is an address, and no domain")));
    }
    process::make_data_dir(&desk.config).map_err(|why| unable(&why))?;
    let lock = desk.store.lock().map_err(|why| unable(&why))?;
    if desk.store.one(name).map_err(|why| unable(&why))?.is_some() {
        return Err(Failure::Other(format!(
            "{name} is there already: `merpati domain check {name}` says how it stands"
        )));
    }
    let domain = SendingDomain::new(name.clone(), now()).map_err(|why| unable(&why))?;
    desk.store.keep(&domain).map_err(|why| unable(&why))?;
    drop(lock);
    output.line(&format!(
        "Keys were made for {name}. Publish these records where its DNS is kept:"
    ))?;
    output.line("")?;
    let host = desk.host(name);
    let wanted = records::wanted(&domain, &host, Choices::default());
    output.octets(records::zone(&wanted).as_bytes())?;
    output.line("")?;
    let bounces = if host.takes_mail { "to this relay" } else { "to where its mailboxes are" };
    output.line(&format!(
        "Let your programs send with a reverse-path (MAIL FROM) in {name} too: SPF then speaks for \
         it, and bounces come {bounces}."
    ))?;
    output.line(&format!(
        "Then `merpati domain check {name}`: it says what is missing, and lets the keys sign."
    ))?;
    desk.reload(client, output)?;
    Ok(ExitCode::SUCCESS)
}

fn rotate(
    which: &Which,
    force: bool,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let desk = Desk::open(&which.from)?;
    let lock = desk.store.lock().map_err(|why| unable(&why))?;
    let mut domain = desk.domain(&which.domain)?;
    let name = &domain.name;
    if !force && domain.keys.iter().any(|key| key.stage == Stage::New) {
        return Err(Failure::Other(format!(
            "keys of {name} are still to be published: `merpati domain check {name}` says which; \
             --force makes others"
        )));
    }
    domain.add_keys(now()).map_err(|why| unable(&why))?;
    desk.store.keep(&domain).map_err(|why| unable(&why))?;
    drop(lock);
    let new = schedule::waiting(&domain);
    output.line("New keys were made. Publish these records beside the others:")?;
    output.line("")?;
    output.octets(records::zone(&new).as_bytes())?;
    output.line("")?;
    let name = &domain.name;
    output.line(&format!(
        "Then `merpati domain check {name}`: when DNS has them, they sign, and the old ones retire."
    ))?;
    desk.reload(client, output)?;
    Ok(ExitCode::SUCCESS)
}

fn show(
    which: &Which,
    (chosen, format): (Chosen, RecordsFormat),
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let desk = Desk::open(&which.from)?;
    let domain = desk.domain(&which.domain)?;
    let host = desk.host(&domain.name);
    if chosen.tlsa && host.shown.record().is_none() {
        let why = match host.shown {
            Shown::Chain(_) => "the certificate cannot be understood".to_owned(),
            Shown::Nothing => "no listener of kind relay has tls = \"starttls\"".to_owned(),
            Shown::Unread(why) => why,
        };
        return Err(Failure::Other(format!("there is no TLSA record to publish: {why}")));
    }
    let all = records::wanted(&domain, &host, chosen.choices());
    match format {
        RecordsFormat::Json => {
            let list: Vec<_> = all.iter().map(as_json).collect();
            output
                .line(&json!({ "domain": domain.name.to_string(), "records": list }).to_string())?;
        }
        RecordsFormat::Table => {
            let rows: Vec<Vec<String>> = all.iter().map(row).collect();
            output.long_table(&["FOR", "TYPE", "NAME", "VALUE"], &rows)?;
        }
        RecordsFormat::Zone => output.octets(records::zone(&all).as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn row(record: &Record) -> Vec<String> {
    let Record { purpose, name, value } = record;
    vec![purpose.as_str().to_owned(), purpose.kind().to_owned(), name.clone(), value.clone()]
}

fn as_json(record: &Record) -> serde_json::Value {
    let Record { purpose, name, value } = record;
    json!({ "for": purpose.as_str(), "type": purpose.kind(), "name": name, "value": value })
}

fn ls(config: &Config, format: Format, output: &mut Output) -> Result<ExitCode, Failure> {
    let all = domains::store(config).and_then(|store| store.all()).map_err(|why| unable(&why))?;
    match format {
        Format::Jsonl => {
            for domain in &all {
                let keys: Vec<_> = domain.keys.iter().map(key_json).collect();
                output.line(
                    &json!({ "domain": domain.name.to_string(), "keys": keys }).to_string(),
                )?;
            }
        }
        Format::Table if all.is_empty() => output.line("no domain yet: `merpati domain add`")?,
        Format::Table => {
            let rows: Vec<Vec<String>> = all.iter().flat_map(key_rows).collect();
            output.table(&["DOMAIN", "SELECTOR", "KIND", "STAGE", "SINCE"], &rows)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn key_json(key: &Key) -> serde_json::Value {
    json!({
        "selector": key.selector, "kind": key.kind().as_str(), "stage": key.stage.as_str(),
        "since": key.since.rfc3339(),
    })
}

fn key_rows(domain: &SendingDomain) -> Vec<Vec<String>> {
    let row = |key: &Key| {
        vec![
            domain.name.to_string(),
            key.selector.clone(),
            key.kind().as_str().to_owned(),
            key.stage.as_str().to_owned(),
            key.since.rfc3339(),
        ]
    };
    domain.keys.iter().map(row).collect()
}

fn check(
    arguments: &CheckArguments,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let desk = Desk::open(&arguments.which.from)?;
    let domain = desk.domain(&arguments.which.domain)?;
    let host = desk.host(&domain.name);
    let mut wanted = records::wanted(&domain, &host, Choices::default());
    wanted.extend(records::watched(&domain, &host));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| unable(&why.into()))?;
    let resolvers = Resolvers::of(&desk.config, &arguments.resolvers);
    let resolvers = resolvers.map_err(|why| unable(&why))?;
    let by_resolver = runtime.block_on(resolvers.look(&wanted, &host));
    tell(arguments.format.format, &domain, &by_resolver, output)?;
    // Others may have changed it meanwhile.
    let lock = desk.store.lock().map_err(|why| unable(&why))?;
    let mut domain = desk.domain(&domain.name)?;
    let moved = rotation::advance(&mut domain, &look::seen_by_all(&by_resolver), now());
    if !moved.is_empty() {
        desk.store.keep(&domain).map_err(|why| unable(&why))?;
        for line in &moved {
            output.line(line)?;
        }
    }
    drop(lock);
    // Also where nothing has moved: it may have missed what moved last time.
    desk.reload(client, output)?;
    let is_good = |(_, seen): &(String, Seen)| {
        seen.iter().all(|(_, judgement)| judgement.standing == Standing::Good)
    };
    Ok(ExitCode::from(u8::from(!by_resolver.iter().all(is_good))))
}

fn tell(
    format: Format,
    domain: &SendingDomain,
    by_resolver: &[(String, Seen)],
    output: &mut Output,
) -> Result<(), Failure> {
    for (resolver, seen) in by_resolver {
        match format {
            Format::Jsonl => {
                for (record, judgement) in seen {
                    let Judgement { standing, words } = judgement;
                    let line = json!({
                        "resolver": resolver, "record": as_json(record),
                        "standing": standing.as_str(), "words": words,
                    });
                    output.line(&line.to_string())?;
                }
            }
            Format::Table => {
                output.line(&format!("{} as {resolver} sees it:", domain.name))?;
                let rows: Vec<Vec<String>> = seen.iter().map(judged_row).collect();
                output.long_table(&["FOR", "NAME", "STANDING", "WHAT TO DO"], &rows)?;
                output.line("")?;
            }
        }
    }
    Ok(())
}

fn judged_row((record, judgement): &(Record, Judgement)) -> Vec<String> {
    let mut purpose = record.purpose.as_str().to_owned();
    if let Purpose::Key(_, stage, _) = &record.purpose {
        purpose = format!("{purpose} ({})", stage.as_str());
    }
    let Judgement { standing, words } = judgement;
    vec![purpose, record.name.clone(), standing.as_str().to_owned(), words.clone()]
}

fn now() -> Time {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Time::from_secs(since.as_secs())
}

/// An address of a resolver, with port 53 where none is named.
fn resolver_address(text: &str) -> Result<SocketAddr, String> {
    let ip = text.trim_start_matches('[').trim_end_matches(']');
    let with_port = || ip.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    text.parse().or_else(|_| with_port()).map_err(|_| format!("{text} is no address"))
}

fn unable(why: &anyhow::Error) -> Failure {
    Failure::Other(format!("{why:#}"))
}

const DNS_PORT: u16 = 53;
