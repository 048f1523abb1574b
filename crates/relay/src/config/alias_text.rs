//! How files of aliases are read: the text of Postfix's virtual(5) and aliases(5).
//!
//! Invariant: every key and target keeps its place; a line that cannot be meant is told, and no
//! line is passed over in silence. Pure.

use std::{ops::Range, path::PathBuf};

use merpati_flow::alias::{Key, Target};

use super::{
    setting::{Setting, Wrong},
    setting_aliases::AliasFormat,
};

/// What stands in a file.
#[derive(Debug, Default)]
pub(crate) struct AliasText {
    /// Its entries.
    pub lines: Vec<AliasLine>,
    /// What is wrong, and where.
    pub wrong: Vec<(Wrong, Range<usize>)>,
}

/// One entry.
#[derive(Debug)]
pub(crate) struct AliasLine {
    pub key: Key,
    /// Where the key stands.
    pub at: Range<usize>,
    pub members: Vec<Member>,
    /// Whether one of its members cannot be read.
    pub is_broken: bool,
}

/// What a key stands for.
#[derive(Debug, PartialEq)]
pub(crate) enum Member {
    /// The addresses in this file.
    Included(PathBuf, Range<usize>),
    Target(Target),
}

/// Reads a file.
pub(crate) fn read(text: &str, format: AliasFormat) -> AliasText {
    let mut read = AliasText::default();
    let mut has_key = false;
    for (line, start) in lines(text) {
        let body = line.trim_end();
        if body.trim_start().is_empty() || body.trim_start().starts_with('#') {
            continue;
        }
        let indent = body.len() - body.trim_start().len();
        if indent > 0 {
            if has_key {
                read.members(body, start);
            } else {
                let why = "a line that begins with a blank goes on with the one before it";
                let help = "begin the line with an address or a name";
                read.wrong.push((Wrong::new(why).help(help), start..start + body.len()));
            }
            continue;
        }
        has_key = true;
        let (key, rest) = split(body, format);
        let at = start..start + key.trim_end().len();
        let rest = match (rest, format) {
            (Some(rest), _) => rest,
            // What it stands for may come in the lines behind it.
            (None, AliasFormat::Virtual) => "",
            (None, AliasFormat::Aliases) => {
                read.wrong.push((unseparated(format), at));
                continue;
            }
        };
        match Key::parse(key.trim_end()) {
            Ok(key) => {
                read.lines.push(AliasLine { key, at, members: Vec::new(), is_broken: false });
                let behind = body.len() - rest.len();
                read.members(rest, start + behind);
            }
            Err(wrong) => read.wrong.push((wrong, at)),
        }
    }
    let empty = read.lines.iter().filter(|line| line.members.is_empty() && !line.is_broken);
    read.wrong.extend(empty.map(|line| (unseparated(format), line.at.clone())));
    read
}

/// Reads a list of members that another file includes.
pub(crate) fn read_list(text: &str) -> (Vec<Target>, Vec<(Wrong, Range<usize>)>) {
    let (mut targets, mut wrong) = (Vec::new(), Vec::new());
    for (line, start) in lines(text) {
        if line.trim_start().starts_with('#') {
            continue;
        }
        for range in words(line) {
            let word = line.get(range.clone()).unwrap_or_default();
            let at = start + range.start..start + range.end;
            match Target::parse(word) {
                Ok(target) => targets.push(target),
                Err(why) => wrong.push((why, at)),
            }
        }
    }
    (targets, wrong)
}

impl AliasText {
    /// Adds what stands in a part of a line to the last entry.
    fn members(&mut self, text: &str, start: usize) {
        for range in words(text) {
            let word = text.get(range.clone()).unwrap_or_default();
            let at = start + range.start..start + range.end;
            if word.starts_with('#') {
                let why = "a comment has a line of its own, that begins with #";
                self.note(Wrong::new(why), at);
                return;
            }
            match member(word, &at) {
                Ok(member) => {
                    if let Some(last) = self.lines.last_mut() {
                        last.members.push(member);
                    }
                }
                Err(wrong) => self.note(wrong, at),
            }
        }
    }

    /// Notes what is wrong with a member of the last entry.
    fn note(&mut self, wrong: Wrong, at: Range<usize>) {
        if let Some(last) = self.lines.last_mut() {
            last.is_broken = true;
        }
        self.wrong.push((wrong, at));
    }
}

fn member(word: &str, at: &Range<usize>) -> Result<Member, Wrong> {
    let bare = word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(word);
    let (start, path) = bare.split_at_checked(INCLUDE.len()).unwrap_or(("", ""));
    if !start.eq_ignore_ascii_case(INCLUDE) {
        return Target::parse(word).map(Member::Target);
    }
    if !path.starts_with('/') {
        return Err(Wrong::new("an included file is named by its whole path")
            .help("write :include:/etc/merpati/members"));
    }
    Ok(Member::Included(path.into(), at.clone()))
}

/// The lines of a text without their ends, and where they begin.
fn lines(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        (line.trim_end_matches(['\n', '\r']), start)
    })
}

/// The key of a line and what is behind it; `None` where nothing separates them.
fn split(line: &str, format: AliasFormat) -> (&str, Option<&str>) {
    let ends = |c: char| match format {
        AliasFormat::Aliases => c == ':',
        AliasFormat::Virtual => c == ' ' || c == '\t',
    };
    match outside_quotes(line).find(|(_, c)| ends(*c)) {
        Some((at, c)) => {
            let (key, rest) = line.split_at(at);
            (key, rest.get(c.len_utf8()..))
        }
        None => (line, None),
    }
}

/// Where the words of a line are: what commas and blanks part.
fn words(line: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = 0;
    for (at, c) in outside_quotes(line) {
        if c == ',' || c == ' ' || c == '\t' {
            words.push(start..at);
            start = at + c.len_utf8();
        }
    }
    words.push(start..line.len());
    words.retain(|range| !range.is_empty());
    words
}

/// The characters that are in no quoted string, with their places.
fn outside_quotes(line: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    line.char_indices().filter(move |(_, c)| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match c {
            '\\' if !was_escaped => is_escaped = true,
            '"' if !was_escaped => is_quoted = !is_quoted,
            _ => return !is_quoted && !was_escaped,
        }
        false
    })
}

fn unseparated(format: AliasFormat) -> Wrong {
    let help = match format {
        AliasFormat::Aliases => "write `name: ani@shop.example`",
        AliasFormat::Virtual => "write `info@shop.example ani@shop.example`",
    };
    Wrong::new("this alias stands for nothing").help(help)
}

const INCLUDE: &str = ":include:";

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries in short: `key=member,member`.
    fn shown(text: &str, format: AliasFormat) -> Vec<String> {
        let read = read(text, format);
        assert!(read.wrong.is_empty(), "{text}: {:?}", read.wrong);
        let member = |member: &Member| match member {
            Member::Included(path, _) => format!("include {}", path.display()),
            Member::Target(target) => target.show().trim_matches('"').to_owned(),
        };
        let line = |line: &AliasLine| {
            let members: Vec<String> = line.members.iter().map(member).collect();
            format!("{}={}", line.key.show().trim_matches('"'), members.join(","))
        };
        read.lines.iter().map(line).collect()
    }

    #[test]
    fn the_text_of_virtual_is_read() {
        let text = "# ours\n\
                    info@ours.example  ani@ours.example, budi@other.example\n\
                    \n\
                    team@ours.example\n  ani@ours.example\n\t# members\n\tbudi citra\n\
                    @ours.example\tani@ours.example\r\n\
                    @old.example @new.example\n\
                    \"a b\"@ours.example ani\n\
                    root ani";
        assert_eq!(
            shown(text, AliasFormat::Virtual),
            [
                "info@ours.example=ani@ours.example,budi@other.example",
                "team@ours.example=ani@ours.example,budi,citra",
                "@ours.example=ani@ours.example",
                "@old.example=@new.example",
                "\\\"a b\\\"@ours.example=ani",
                "root=ani",
            ]
        );
    }

    #[test]
    fn the_text_of_aliases_is_read() {
        let text = "# system\n\
                    postmaster: root\n\
                    root:ani,\n    budi@other.example\n\
                    \"odd: name\": ani\n\
                    staff : :include:/etc/staff, \\ani\n\
                    ani: \\ani, ani@other.example\n";
        assert_eq!(
            shown(text, AliasFormat::Aliases),
            [
                "postmaster=root",
                "root=ani,budi@other.example",
                "\\\"odd: name\\=ani",
                "staff=include /etc/staff,\\\\ani",
                "ani=\\\\ani,ani@other.example",
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_told_where_it_stands() {
        use AliasFormat::{Aliases, Virtual};
        for (text, format, at, why) in [
            ("info@ours.example", Virtual, "info@ours.example", "stands for nothing"),
            ("info:\n", Aliases, "info", "stands for nothing"),
            ("info ani\n", Aliases, "info ani", "stands for nothing"),
            ("  ani\n", Virtual, "  ani", "goes on with the one before"),
            ("a: |cmd, ani", Aliases, "|cmd", "no program"),
            ("a: \"|cmd x\"", Aliases, "\"|cmd x\"", "no program"),
            ("a: /var/mail/a", Aliases, "/var/mail/a", "files"),
            ("a: :include:list", Aliases, ":include:list", "whole path"),
            ("a: ani # he", Aliases, "#", "a comment has a line of its own"),
            ("a@@x ani", Virtual, "a@@x", "no alias"),
            ("a ani@@x", Virtual, "ani@@x", "no address"),
        ] {
            let read = read(text, format);
            let [(wrong, range)] = read.wrong.as_slice() else { panic!("{text}: {read:?}") };
            assert_eq!(&text[range.clone()], at, "{text}");
            assert!(wrong.why.contains(why), "{text}: {}", wrong.why);
        }
    }

    #[test]
    fn a_list_of_members_has_comments_and_tells_its_mistakes() {
        let (targets, wrong) = read_list("# staff\nani, budi@other.example\n\ncitra\n|cmd\n");
        assert_eq!((targets.len(), wrong.len()), (3, 1));
        assert_eq!(wrong[0].1, 39..43);
    }

    #[test]
    fn whatever_stands_in_a_file_every_place_is_in_it() {
        let odd =
            "a: b\r\n\tc, \"d \\\" e\", \\f\n\u{e4}@x \u{2028}\"\u{fc}\n@ @\n: :\n\"\n ,,\n#\n\\";
        for (end, _) in odd.char_indices().chain([(odd.len(), ' ')]) {
            let text = &odd[..end];
            for format in [AliasFormat::Aliases, AliasFormat::Virtual] {
                let AliasText { lines, wrong } = read(text, format);
                let keys = lines.into_iter().map(|line| line.at);
                for at in keys.chain(wrong.into_iter().map(|(_, at)| at)) {
                    assert!(text.get(at.clone()).is_some(), "{text:?} {at:?}");
                }
            }
            for (_, at) in read_list(text).1 {
                assert!(text.get(at.clone()).is_some(), "{text:?} {at:?}");
            }
        }
    }
}
