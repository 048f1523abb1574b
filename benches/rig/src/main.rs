//! The command line of the load tools: `merpati-rig load`, `sink` and `check`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use merpati_rig::{check, load, sink};
use serde_json::Value;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Load, sink and loss accounting for any relay.
#[derive(Parser)]
#[command(name = "merpati-rig")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Sends messages, and prints how fast they were acknowledged.
    Load {
        #[command(flatten)]
        options: load::Options,
        /// Where to write the figures, too.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Takes messages until SIGTERM or SIGINT. Prints `listening ADDRESS` for each address first,
    /// and figures last.
    Sink {
        #[command(flatten)]
        options: sink::Options,
    },
    /// Compares what was acknowledged with what came; ends with 1 if anything is lost.
    Check {
        #[command(flatten)]
        options: check::Options,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().what) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "merpati-rig: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(what: What) -> Result<ExitCode> {
    // One thread: the rest of the machine belongs to the relay.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match what {
        What::Load { options, json } => {
            let figures = runtime.block_on(async { load::run(options, signalled()?).await })?;
            tell(&figures, json.as_deref())?;
        }
        What::Sink { options } => {
            let figures = runtime.block_on(receive(options))?;
            tell(&figures, None)?;
        }
        What::Check { options } => {
            let balance = check::run(&options)?;
            tell(&balance.to_json(), None)?;
            if !balance.is_right(options.duplicates_max) {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn receive(options: sink::Options) -> Result<Value> {
    let stop = signalled()?;
    let sink = sink::Sink::bind(options).await?;
    for address in sink.addresses()? {
        writeln!(io::stdout(), "listening {address}")?;
    }
    io::stdout().flush()?;
    sink.run(stop).await
}

/// Becomes true with the first SIGTERM or SIGINT.
fn signalled() -> Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
    });
    Ok(stopped)
}

fn tell(figures: &Value, file: Option<&Path>) -> Result<()> {
    if let Some(path) = file {
        std::fs::write(path, format!("{figures}\n")).with_context(|| path.display().to_string())?;
    }
    writeln!(io::stdout(), "{figures}")?;
    Ok(())
}
