//! What a sink has received, in files and in numbers.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::{Context, Result};
use bytes::BytesMut;
use serde_json::{Value, json};

use crate::{
    message::{Found, has_in_header, inspect, reported},
    record::Received,
    stream::now_seconds,
};

/// Shared by all sessions.
#[derive(Default)]
pub(super) struct Tally {
    ids: Option<File>,
    bounced: Option<File>,
    lines: String,
    /// What to look for in headers, and in how many messages it stood.
    headers: Vec<(String, u64)>,
    seen: HashSet<(String, u32)>,
    connections: u64,
    connections_now: u64,
    connections_most: u64,
    connections_refused: u64,
    messages_most: u64,
    messages_ended: u64,
    transactions: u64,
    deliveries: u64,
    duplicates: u64,
    damaged: u64,
    foreign: u64,
    bounces: u64,
    octets: u64,
    first: Option<f64>,
    last: Option<f64>,
    /// The message that came last, where it is kept.
    pub(super) newest: BytesMut,
    /// Refused with 4yz.
    pub(super) deferred: u64,
    /// Refused with 5yz.
    pub(super) failed: u64,
    /// Connections cut on purpose.
    pub(super) cut: u64,
}

impl Tally {
    pub(super) fn open(ids: Option<&Path>, bounced: Option<&Path>) -> Result<Self> {
        let (ids, bounced) = (ids.map(append).transpose()?, bounced.map(append).transpose()?);
        Ok(Self { ids, bounced, ..Self::default() })
    }

    pub(super) fn looks_for(self, headers: Vec<String>) -> Self {
        Self { headers: headers.into_iter().map(|text| (text, 0)).collect(), ..self }
    }

    /// A connection; false if there are as many as there may be.
    pub(super) fn arrives(&mut self, most: u64) -> bool {
        if self.connections_now >= most {
            self.connections_refused += 1;
            return false;
        }
        self.connections += 1;
        self.connections_now += 1;
        self.connections_most = self.connections_most.max(self.connections_now);
        true
    }

    /// A connection that was admitted ends after so many messages.
    pub(super) fn leaves(&mut self, messages: u64) {
        self.connections_now -= 1;
        self.messages_ended += messages;
        self.messages_most = self.messages_most.max(messages);
    }

    /// A whole message; it is in the file when this returns.
    pub(super) fn takes(
        &mut self,
        content: &[u8],
        is_null: bool,
        recipients: &[u32],
    ) -> io::Result<()> {
        let at_seconds = now_seconds();
        let octets = content.len();
        let received = |id: String, recipient, is_whole| Received {
            id,
            recipient,
            at_seconds,
            octets,
            is_whole,
        };
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        let file = if is_null {
            self.bounces += 1;
            for (id, number) in reported(content) {
                received(id, number, true).write(&mut lines);
            }
            &mut self.bounced
        } else {
            self.transactions += 1;
            self.octets += u64::try_from(octets).unwrap_or(u64::MAX);
            for (text, count) in &mut self.headers {
                *count += u64::from(has_in_header(content, text.as_bytes()));
            }
            self.first.get_or_insert(at_seconds);
            self.last = Some(at_seconds);
            match inspect(content) {
                Found::Foreign => self.foreign += 1,
                Found::Ours { id, is_whole } => {
                    self.damaged += u64::from(!is_whole);
                    for &number in recipients {
                        self.deliveries += 1;
                        let is_new = self.seen.insert((id.clone(), number));
                        self.duplicates += u64::from(!is_new);
                        received(id.clone(), number, is_whole).write(&mut lines);
                    }
                }
            }
            &mut self.ids
        };
        // One write, straight to the file: what a killed process has written stays.
        let written = file.as_mut().map_or(Ok(()), |file| file.write_all(lines.as_bytes()));
        self.lines = lines;
        written
    }

    pub(super) fn to_json(&self) -> Value {
        let connections = self.connections.max(1);
        json!({
            "connections": self.connections,
            "connections_most": self.connections_most,
            "connections_refused": self.connections_refused,
            "messages_per_connection": {
                "mean": float(self.transactions + self.bounces) / float(connections),
                "most_of_the_ended": self.messages_most,
                "in_the_ended": self.messages_ended,
            },
            "transactions": self.transactions,
            "deliveries": self.deliveries,
            "unique": self.seen.len(),
            "duplicates": self.duplicates,
            "damaged": self.damaged,
            "foreign": self.foreign,
            "bounces": self.bounces,
            "deferred": self.deferred,
            "failed": self.failed,
            "cut": self.cut,
            "octets": self.octets,
            "headers": self.headers.iter().cloned().collect::<BTreeMap<_, _>>(),
            "first": self.first,
            "last": self.last,
        })
    }
}

/// Opens a file to write behind what is there, on a line of its own.
fn append(path: &Path) -> Result<File> {
    let open = || -> io::Result<File> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            // A sink that was killed left half a line, which it had told nobody of.
            if last != *b"\n" {
                remove_last_line(&mut file)?;
            }
        }
        Ok(file)
    };
    open().with_context(|| path.display().to_string())
}

fn remove_last_line(file: &mut File) -> io::Result<()> {
    let mut all = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut all)?;
    let whole = memchr::memrchr(b'\n', &all).map_or(0, |end| end + 1);
    file.set_len(u64::try_from(whole).unwrap_or(u64::MAX))
}

fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn half_a_line_of_a_killed_sink_goes_and_whole_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ids");
        for (before, after) in [("", ""), ("a 1\n", "a 1\n"), ("a 1\nb", "a 1\n"), ("b", "")] {
            fs::write(&path, before).unwrap();
            append(&path).unwrap().write_all(b"new\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{after}new\n"), "{before:?}");
        }
    }

    #[test]
    fn connections_are_admitted_up_to_the_most() {
        let mut tally = Tally::default();
        assert_eq!([tally.arrives(2), tally.arrives(2), tally.arrives(2)], [true, true, false]);
        tally.leaves(5);
        assert!(tally.arrives(2));
        assert_eq!((tally.connections_refused, tally.connections_most), (1, 2));
    }
}
