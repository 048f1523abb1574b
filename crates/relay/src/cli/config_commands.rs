//! `merpati config`: what is wrong, what holds, what an option means.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use clap::Subcommand;

use super::{
    ConfigArguments, Failure,
    config_init::{self, InitArguments},
    output::Output,
};
use crate::config::{self, Config, reference, schema};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Tell all mistakes, also in the files that it names, or `ok`.
    Check {
        /// A TOML file, or a directory of them.
        path: Option<PathBuf>,
        #[command(flatten)]
        from: ConfigArguments,
    },
    /// Tell what an option or a section means.
    Explain {
        /// `section.option` or `section`.
        key: String,
    },
    /// Write a first configuration, with comments; asks for what is not given.
    Init(InitArguments),
    /// Print a JSON Schema of the file, for editors.
    Schema,
    /// Tell what holds, and where it was set.
    Show {
        /// Only what is not a default.
        #[arg(long)]
        changed: bool,
        #[command(flatten)]
        from: ConfigArguments,
    },
}

pub(super) fn run(command: &ConfigCommand, output: &mut Output) -> Result<ExitCode, Failure> {
    match command {
        ConfigCommand::Check { path, from } => {
            let mut from = from.clone();
            from.config = path.clone().or(from.config);
            let config = load(&from)?;
            config.check_files().map_err(|why| Failure::Config(why.to_string()))?;
            let doubts = config.aliases().ok().and_then(|tables| tables.doubts);
            if let Some(doubts) = doubts {
                output.line(&doubts.as_warnings())?;
                output.line("")?;
            }
            output.line("ok")?;
        }
        ConfigCommand::Explain { key } => {
            let text = reference::explain(key).map_err(Failure::Usage)?;
            output.line(text.trim_end())?;
        }
        ConfigCommand::Init(arguments) => return config_init::run(arguments, output),
        ConfigCommand::Schema => output.octets(schema::schema().as_bytes())?,
        ConfigCommand::Show { changed, from } => {
            let text = reference::show(&load(from)?.effective, *changed);
            output.octets(text.as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The variables of the environment. One that is not UTF-8 can be no option of ours.
pub(super) fn environment() -> BTreeMap<String, String> {
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads the configuration from files, environment and arguments.
pub(super) fn load(from: &ConfigArguments) -> Result<Config, Failure> {
    let texts = from.config.as_ref().map_or(Ok(Vec::new()), |path| {
        config::files(path).map_err(|why| Failure::Config(why.to_string()))
    })?;
    Config::of(texts, &environment(), &from.settings)
        .map_err(|why| Failure::Config(why.to_string()))
}
