//! `merpati import`: the configuration of another mail server, in our words.
//!
//! Invariant: nothing but files is read, and no relay is asked; a file that is there already is
//! never touched. What is written has no mistakes, because it is read first.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};

use super::{
    Failure,
    output::{Output, harmless_line},
};
use crate::{
    config::{Config, Source},
    import::{Fate, Files, Imported, Passwords, Postfix, shown},
};

#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// Read main.cf, master.cf and their tables, and write a configuration that does the same.
    Postfix(PostfixArguments),
}

#[derive(Args, Debug)]
pub(super) struct PostfixArguments {
    /// The folder with main.cf, such as `/etc/postfix`.
    dir: PathBuf,
    /// Where to write the configuration; `-` is standard output, without passwords.
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
}

pub(super) fn run(command: &ImportCommand, output: &mut Output) -> Result<ExitCode, Failure> {
    match command {
        ImportCommand::Postfix(arguments) => postfix(arguments, output),
    }
}

fn postfix(arguments: &PostfixArguments, output: &mut Output) -> Result<ExitCode, Failure> {
    let PostfixArguments { dir, output: file } = arguments;
    let is_standard_output = file == Path::new("-");
    if !is_standard_output && file.exists() {
        let why = format!("{} is there already\nhelp: --output names another", file.display());
        return Err(Failure::Unable(why));
    }
    let main = text(&dir.join("main.cf")).map_err(|why| {
        let path = dir.join("main.cf");
        let help = "name the folder of Postfix: `merpati import postfix /etc/postfix`";
        Failure::Unable(format!("cannot read {}: {why}\nhelp: {help}", path.display()))
    })?;
    let master = match text(&dir.join("master.cf")) {
        Ok(text) => Some(text),
        Err(why) if why.kind() == io::ErrorKind::NotFound => None,
        Err(why) => {
            let path = dir.join("master.cf");
            return Err(Failure::Unable(format!("cannot read {}: {why}", path.display())));
        }
    };
    let postfix = Postfix::new(&main, master.as_deref());
    let named = files(dir, &postfix, postfix.paths());
    let postfix = postfix.with_files(named);
    let included = files(dir, &postfix, postfix.included_paths());
    let passwords = if is_standard_output { Passwords::Hidden } else { Passwords::Shown };
    let imported = postfix.with_files(included).import(&dir.display().to_string(), passwords);
    let source = Source { name: file.display().to_string(), text: imported.toml.clone() };
    Config::of(vec![source], &BTreeMap::new(), &[]).map_err(|why| {
        Failure::Other(format!("{why}\nThis is an error of merpati import: nothing is written."))
    })?;
    write(file, &imported, is_standard_output, output)?;
    tell(file, &imported, is_standard_output, output);
    Ok(ExitCode::SUCCESS)
}

fn write(
    file: &Path,
    imported: &Imported,
    is_standard_output: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    if is_standard_output {
        output.octets(imported.toml.as_bytes())?;
        return Ok(());
    }
    let permissions = if imported.has_password { 0o600 } else { 0o640 };
    let made = OpenOptions::new().write(true).create_new(true).mode(permissions).open(file);
    made.and_then(|mut made| made.write_all(imported.toml.as_bytes()))
        .map_err(|why| Failure::Unable(format!("cannot write {}: {why}", file.display())))
}

/// What became of the parameters, for the person who typed the command.
fn tell(file: &Path, imported: &Imported, is_standard_output: bool, output: &mut Output) {
    let count = |wanted: Fate| imported.fates.iter().filter(|(_, _, fate)| *fate == wanted).count();
    output.complain(&format!(
        "{} parameters are set: {} carried over, {} in part, {} need nothing, {} not carried over",
        imported.fates.len(),
        count(Fate::Carried),
        count(Fate::InPart),
        count(Fate::Nothing),
        count(Fate::Left),
    ));
    let lines = shown(&imported.lines, COLUMNS);
    if !lines.is_empty() {
        output.complain("");
    }
    for line in lines {
        output.complain(&harmless_line(&line));
    }
    if !is_standard_output {
        let file = file.display();
        output
            .complain(&format!("\n{file} is written. Read it, then: merpati config check {file}"));
        if imported.has_password {
            output.complain(&format!("{file} holds a password: only its owner can read it"));
        }
    }
}

/// The texts of the files that the configuration names.
fn files(dir: &Path, postfix: &Postfix, paths: Vec<String>) -> Files {
    let folder = postfix.folder();
    let texts = paths.into_iter().map(|path| {
        let place = place(dir, &folder, &path);
        let read = match &place {
            Some(place) => text(place).map_err(|why| reason(place, &why)),
            None => Err("it is no absolute path".to_owned()),
        };
        (path, read)
    });
    Files { texts: texts.collect() }
}

/// Where a file lies: what Postfix has in its own folder lies in `dir`, which may be a copy.
fn place(dir: &Path, folder: &str, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    if !path.is_absolute() {
        return None;
    }
    let inside = path.strip_prefix(folder).ok().map(|inside| dir.join(inside));
    Some(inside.unwrap_or_else(|| path.to_owned()))
}

fn reason(place: &Path, why: &io::Error) -> String {
    let is_missing = why.kind() == io::ErrorKind::NotFound;
    let indexed = ["db", "lmdb", "cdb", "dir"].map(|end| {
        let mut name = place.as_os_str().to_owned();
        name.push(".");
        name.push(end);
        PathBuf::from(name)
    });
    if is_missing && indexed.iter().any(|path| path.exists()) {
        return "only its indexed form is there: `postmap -s` prints its rows; save them as this \
                file"
            .to_owned();
    }
    why.to_string()
}

/// The text of a file; what is not UTF-8 in it is replaced.
fn text(path: &Path) -> io::Result<String> {
    let mut octets = Vec::new();
    fs::File::open(path)?.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > FILE_OCTETS_MAX {
        let why = format!("it is longer than {} MiB", FILE_OCTETS_MAX >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

const COLUMNS: usize = 100;
/// A million recipients have some 30 MiB.
const FILE_OCTETS_MAX: u64 = 256 << 20;

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
