//! Where the content ends, which octets belong to it, and whether it may be kept.
//!
//! Invariant: only CRLF "." CRLF ends the content of DATA (RFC 5321 §4.1.1.4), and only its count
//! ends a chunk of BDAT. A bare CR, a bare LF or a NUL makes the content void, never shorter: what
//! stands behind it is read as content up to the true end, so no part of it can become a command.
//! The verdict depends on the octets and not on how they were cut. Pure.

use std::{collections::VecDeque, ops::Range};

use memchr::{memchr, memchr_iter};

use super::Output;

/// Content that is arriving.
#[derive(Clone, Debug)]
pub(super) struct Content {
    /// Octets so far, without stuffed dots.
    pub(super) size_bytes: u64,
    size_bytes_max: u64,
    /// Whether the next octet of DATA begins a line.
    is_line_start: bool,
    cr: u64,
    lf: u64,
    crlf: u64,
    has_nul: bool,
    ends_in_cr: bool,
    held: Held,
}

/// What the shell holds of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// Nothing any more: it was told that the content is void.
    Dropped,
    /// Nothing yet.
    Nothing,
    /// All octets so far.
    Octets,
}

/// Why content is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentFault {
    BareCr,
    BareLf,
    Nul,
    Size,
}

/// How far DATA was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Octets that are done with.
    pub(super) octets: usize,
    /// Whether they include the end of the content.
    pub(super) is_end: bool,
}

impl Content {
    pub(super) const fn new(size_bytes_max: u64) -> Self {
        Self {
            size_bytes: 0,
            size_bytes_max,
            is_line_start: true,
            cr: 0,
            lf: 0,
            crlf: 0,
            has_nul: false,
            ends_in_cr: false,
            held: Held::Nothing,
        }
    }

    /// Reads octets of DATA that begin at `at` in the shell's buffer.
    ///
    /// What cannot be judged before more octets came is left: a last CR, and a dot at the start of
    /// a line.
    pub(super) fn read_lines(
        &mut self,
        octets: &[u8],
        at: usize,
        outputs: &mut VecDeque<Output>,
    ) -> Progress {
        let before = outputs.len();
        let mut kept_from = 0;
        let mut is_end = false;
        // The first octet that is not read; everything before it is content or a dropped dot.
        let mut read = octets.len() - usize::from(octets.last() == Some(&b'\r'));
        let mut line = self.is_line_start.then_some(0);
        self.is_line_start &= read == 0;
        let mut feeds = memchr_iter(b'\n', octets);
        loop {
            if let Some(start) = line {
                match dot(octets.get(start..).unwrap_or_default()) {
                    Dot::End => (read, is_end) = (start, true),
                    Dot::None => {}
                    Dot::Stuffed => {
                        self.keep(kept_from..start, at, outputs);
                        kept_from = start + 1;
                    }
                    Dot::Unknown => read = start,
                }
                if is_end || read == start {
                    self.is_line_start = true;
                    break;
                }
            }
            let Some(feed) = feeds.next() else { break };
            self.lf += 1;
            let is_crlf = feed.checked_sub(1).and_then(|cr| octets.get(cr)) == Some(&b'\r');
            self.crlf += u64::from(is_crlf);
            line = is_crlf.then_some(feed + 1);
        }
        self.keep(kept_from..read, at, outputs);
        let seen = octets.get(..read).unwrap_or_default();
        self.cr += memchr_iter(b'\r', seen).count() as u64;
        self.has_nul |= memchr(b'\0', seen).is_some();
        self.drop_if_void(before, outputs);
        Progress { octets: if is_end { read + 3 } else { read }, is_end }
    }

    /// Reads octets of a BDAT chunk that begin at `at` in the shell's buffer.
    pub(super) fn read_chunk(&mut self, octets: &[u8], at: usize, outputs: &mut VecDeque<Output>) {
        let Some(&last) = octets.last() else { return };
        let before = outputs.len();
        for feed in memchr_iter(b'\n', octets) {
            self.lf += 1;
            let is_crlf = match feed.checked_sub(1) {
                Some(cr) => octets.get(cr) == Some(&b'\r'),
                None => self.ends_in_cr,
            };
            self.crlf += u64::from(is_crlf);
        }
        self.cr += memchr_iter(b'\r', octets).count() as u64;
        self.ends_in_cr = last == b'\r';
        self.has_nul |= memchr(b'\0', octets).is_some();
        self.keep(0..octets.len(), at, outputs);
        self.drop_if_void(before, outputs);
    }

    /// Why the content must be refused, as far as it has come; `None` while it may be kept.
    pub(super) const fn fault(&self) -> Option<ContentFault> {
        // A CR at the end of a chunk may be followed by its LF in the next.
        if self.size_bytes > self.size_bytes_max {
            Some(ContentFault::Size)
        } else if self.has_nul {
            Some(ContentFault::Nul)
        } else if self.lf > self.crlf {
            Some(ContentFault::BareLf)
        } else if self.cr > self.crlf + self.ends_in_cr as u64 {
            Some(ContentFault::BareCr)
        } else {
            None
        }
    }

    /// Makes void what was collected; what the shell must be told, if anything.
    pub(super) const fn drop_content(&mut self) -> Option<Output> {
        let is_news = self.is_collected();
        self.held = Held::Dropped;
        if is_news { Some(Output::BodyDropped) } else { None }
    }

    /// Says that no octet will come any more.
    pub(super) const fn end(&mut self) {
        self.ends_in_cr = false;
    }

    /// Whether the shell holds octets of it.
    pub(super) const fn is_collected(&self) -> bool {
        matches!(self.held, Held::Octets)
    }

    fn keep(&mut self, range: Range<usize>, at: usize, outputs: &mut VecDeque<Output>) {
        if range.is_empty() {
            return;
        }
        self.size_bytes = self.size_bytes.saturating_add(range.len() as u64);
        if self.held != Held::Dropped {
            self.held = Held::Octets;
            outputs.push_back(Output::Body(range.start + at..range.end + at));
        }
    }

    /// Takes back the ranges since `before` if the content is void now.
    fn drop_if_void(&mut self, before: usize, outputs: &mut VecDeque<Output>) {
        if self.held != Held::Dropped && self.fault().is_some() {
            outputs.truncate(before);
            outputs.push_back(Output::BodyDropped);
            self.held = Held::Dropped;
        }
    }
}

impl ContentFault {
    /// The name of the rule.
    pub(super) const fn rule(self) -> &'static str {
        match self {
            Self::BareCr => "bare-cr",
            Self::BareLf => "bare-lf",
            Self::Nul => "nul",
            Self::Size => "message-size",
        }
    }
}

enum Dot {
    End,
    None,
    Stuffed,
    Unknown,
}

/// What a line begins with; `line` may hold more than the line, or less.
fn dot(line: &[u8]) -> Dot {
    match line {
        [b'.', b'\r', b'\n', ..] => Dot::End,
        [b'.'] | [b'.', b'\r'] => Dot::Unknown,
        [b'.', ..] => Dot::Stuffed,
        [..] => Dot::None,
    }
}
