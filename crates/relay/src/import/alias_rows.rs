//! What stands in tables of aliases, line by line, as the reader of `[[alias]]` takes it.
//!
//! Invariant: a line is taken whole or not at all, and what is not taken says why. Pure.

use merpati_flow::alias::{Key, Target};

use super::{
    Postfix,
    tables::{Files, Table},
    text::{Place, logical_lines},
};
use crate::config::{
    alias_text::{self, Member},
    setting_aliases::AliasFormat,
};

/// A table that a parameter names.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    /// The parameter that names it.
    pub parameter: &'static str,
    /// Its file; `None` where it stands in `main.cf`.
    pub path: Option<String>,
    /// How it is written.
    pub format: AliasFormat,
    /// What was read.
    pub rows: Vec<Row>,
    /// The lines that were not taken, and why.
    pub refused: Vec<(Place, String)>,
}

/// A line.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What stands for others.
    pub key: Key,
    /// What it stands for, with those of files that it includes.
    pub targets: Vec<Target>,
    /// Where it stands.
    pub place: Place,
}

/// Reads a table such as `hash:/etc/aliases`. Errs where it cannot be read at all.
pub(super) fn read(
    postfix: &Postfix,
    parameter: &'static str,
    name: &str,
    format: AliasFormat,
) -> Result<Lookup, String> {
    let files = &postfix.files;
    let plain = name.strip_prefix("proxy:").unwrap_or(name);
    let lines: Vec<(String, Place)> = match files.table(name) {
        Table::All(value) => {
            return Err(format!("{name}: every address anywhere would lead to `{value}`"));
        }
        Table::Networks(_) => return Err(format!("{name}: it holds networks")),
        Table::Rows(rows) if plain.starts_with("inline:") => rows
            .into_iter()
            .map(|row| (format!("{}{}{}", row.key, separator(format), row.value), row.place))
            .collect(),
        Table::Rows(_) => lines(files, path(plain))?,
        Table::Unread(why) => return Err(format!("{name}: {why}")),
    };
    let path = (!plain.starts_with("inline:")).then(|| path(plain).to_owned());
    let (mut rows, mut refused) = (Vec::new(), Vec::new());
    for (line, place) in lines {
        match row(files, &line, format) {
            Ok((key, targets)) => rows.push(Row { key, targets, place }),
            Err(why) => refused.push((place, why)),
        }
    }
    Ok(Lookup { parameter, path, format, rows, refused })
}

/// All entries of a file as the reader of `[[alias]]` takes them at start; `None` where it would
/// refuse the file.
pub(super) fn as_loaded(files: &Files, lookup: &Lookup) -> Option<Vec<(Key, Vec<Target>)>> {
    let text = files.text(lookup.path.as_deref()?).ok()?;
    if text.len() > FILE_OCTETS_MAX || text.contains(char::REPLACEMENT_CHARACTER) {
        return None;
    }
    let read = alias_text::read(text, lookup.format);
    if !read.wrong.is_empty() {
        return None;
    }
    let entry = |line: alias_text::AliasLine| Some((line.key, members(files, line.members).ok()?));
    read.lines.into_iter().map(entry).collect()
}

/// The files that a file of aliases includes.
pub(super) fn included(files: &Files, name: &str) -> Vec<String> {
    let plain = name.strip_prefix("proxy:").unwrap_or(name);
    let Ok(lines) = lines(files, path(plain)) else { return Vec::new() };
    let members = lines
        .into_iter()
        .flat_map(|(line, _)| alias_text::read(&line, AliasFormat::Aliases).lines)
        .flat_map(|line| line.members);
    members
        .filter_map(|member| match member {
            Member::Included(path, _) => Some(path.display().to_string()),
            Member::Target(_) => None,
        })
        .collect()
}

fn path(plain: &str) -> &str {
    plain.split_once(':').map_or("", |(_, path)| path)
}

const fn separator(format: AliasFormat) -> &'static str {
    match format {
        AliasFormat::Aliases => ": ",
        AliasFormat::Virtual => " ",
    }
}

fn lines(files: &Files, path: &str) -> Result<Vec<(String, Place)>, String> {
    let all = logical_lines(files.text(path)?);
    let line =
        |line: super::text::Logical| (line.text(), Place { file: path.into(), line: line.line() });
    Ok(all.into_iter().map(line).collect())
}

/// Each line is read by itself: what is wrong in one says nothing of another.
fn row(files: &Files, line: &str, format: AliasFormat) -> Result<(Key, Vec<Target>), String> {
    if line.contains(char::REPLACEMENT_CHARACTER) {
        return Err("it is not UTF-8".to_owned());
    }
    let mut read = alias_text::read(line, format);
    if let Some((wrong, at)) = read.wrong.first() {
        return Err(format!("`{}`: {}", line.get(at.clone()).unwrap_or_default(), wrong.why));
    }
    let entry = read.lines.pop().ok_or("there is nothing in it")?;
    Ok((entry.key, members(files, entry.members)?))
}

fn members(files: &Files, members: Vec<Member>) -> Result<Vec<Target>, String> {
    let mut targets = Vec::with_capacity(members.len());
    for member in members {
        match member {
            Member::Included(path, _) => {
                let path = path.display().to_string();
                let (more, wrong) = alias_text::read_list(files.text(&path)?);
                if let Some((wrong, _)) = wrong.first() {
                    return Err(format!("the list {path} that it includes: {}", wrong.why));
                }
                if more.is_empty() {
                    return Err(format!("there is nobody in {path}"));
                }
                targets.extend(more);
            }
            Member::Target(target) => targets.push(target),
        }
    }
    Ok(targets)
}

/// The largest file that is read at start.
const FILE_OCTETS_MAX: usize = 64 << 20;
