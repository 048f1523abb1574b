//! `merpati doctor`: what is good and what is wrong with this host, and what to do.
//!
//! It looks by the configuration, also before the relay has run; the relay itself tells the same at
//! `/v1/health`, as it sees it.

use std::{process::ExitCode, sync::Arc};

use clap::Args;
use merpati_console::health::{Finding, Grade};
use merpati_mail::Time;
use serde_json::json;

use super::{
    ConfigArguments, Failure, Format, FormatArguments, client::Client, config_commands::load,
    output::Output,
};
use crate::{clock::Clock, config::Config, doctor, node};

#[derive(Args, Debug)]
pub(super) struct DoctorArguments {
    #[command(flatten)]
    from: ConfigArguments,
    /// Tell only what is not good.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    format: FormatArguments,
}

pub(super) fn run(
    arguments: &DoctorArguments,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let config = load(&arguments.from)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| Failure::Other(why.to_string()))?;
    let mut findings = vec![relay(&client.by(&config))];
    findings.extend(runtime.block_on(look(&config))?);
    let told = findings.iter().filter(|it| !arguments.quiet || it.grade != Grade::Good);
    match arguments.format.format {
        Format::Jsonl => {
            for Finding { check, about, grade, words, fix } in told {
                let line = json!({
                    "check": check, "about": about, "grade": grade.as_str(), "words": words,
                    "fix": fix,
                });
                output.line(&line.to_string())?;
            }
        }
        Format::Table => {
            let rows: Vec<Vec<String>> = told.clone().map(row).collect();
            if !rows.is_empty() {
                output.table(&["", "CHECK", "OF", "FOUND"], &rows)?;
            }
            for Finding { check, about, fix, .. } in told {
                if let Some(fix) = fix {
                    let of = if about.is_empty() { String::new() } else { format!(" {about}") };
                    output.line(&format!("\n{check}{of}:\n  {fix}"))?;
                }
            }
            output.line(&summary(&findings))?;
        }
    }
    let is_bad = findings.iter().any(|finding| finding.grade == Grade::Bad);
    Ok(ExitCode::from(u8::from(is_bad)))
}

async fn look(config: &Config) -> Result<Vec<Finding>, Failure> {
    let clock = Arc::new(Clock::start(Time::EPOCH));
    let resolver = node::resolver(config, Vec::new(), clock);
    let resolver = resolver.map_err(|why| Failure::Other(format!("{why:#}")))?;
    Ok(doctor::examine(config, &resolver).await)
}

/// Whether the relay runs and takes mail.
fn relay(client: &Client) -> Finding {
    match client.get("/readyz") {
        Ok(_) => Finding::new("relay", "", Grade::Good, "it runs and takes mail"),
        Err(Failure::RelayDown(_)) => {
            let words = "it does not run, or has another control socket";
            Finding::new("relay", "", Grade::Unknown, words)
                .fix("`merpati serve` starts it; --socket names its socket")
        }
        Err(why) => {
            Finding::new("relay", "", Grade::Bad, why.to_string()).fix("`merpati status` says more")
        }
    }
}

fn row(finding: &Finding) -> Vec<String> {
    let Finding { check, about, grade, words, .. } = finding;
    vec![grade.as_str().to_owned(), (*check).to_owned(), about.clone(), words.clone()]
}

fn summary(findings: &[Finding]) -> String {
    let count = |grade| findings.iter().filter(|finding| finding.grade == grade).count();
    format!(
        "\n{} good, {} unknown, {} to mind, {} to mend",
        count(Grade::Good),
        count(Grade::Unknown),
        count(Grade::Warning),
        count(Grade::Bad)
    )
}
