//! `merpati completions` and `merpati man`: made from the commands themselves, so that they never
//! differ.

use std::{fs, path::Path, process::ExitCode};

use clap::{Command, CommandFactory};

use super::{CommandLine, Failure, output::Output};

pub(super) fn completions(
    shell: clap_complete::Shell,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "merpati", &mut script);
    output.octets(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// A page for the program and one for each command, as `merpati-queue-ls.1`.
pub(super) fn write(directory: &Path, output: &mut Output) -> Result<ExitCode, Failure> {
    fs::create_dir_all(directory)?;
    let mut command = CommandLine::command();
    command.build();
    let count = write_page(&command, "merpati", directory)?;
    output.line(&format!("{count} pages written to {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn write_page(command: &Command, name: &str, directory: &Path) -> Result<usize, Failure> {
    let mut page = Vec::new();
    let named = command.clone().name(name.to_owned()).disable_help_subcommand(true);
    clap_mangen::Man::new(named).render(&mut page)?;
    fs::write(directory.join(format!("{name}.1")), page)?;
    let mut count = 1;
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        count += write_page(below, &format!("{name}-{}", below.get_name()), directory)?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &mut Output::into(Box::new(std::io::sink()))).unwrap();
        for name in ["merpati", "merpati-queue", "merpati-queue-ls", "merpati-config-check"] {
            let page = fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
            assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
        }
    }
}
