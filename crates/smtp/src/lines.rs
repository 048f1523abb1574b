//! Where a command line ends.
//!
//! Invariant: only CRLF ends a line (RFC 5321 §2.3.8), and no octet is searched twice, however the
//! octets arrive. Pure.

use memchr::memchr;

/// Finds lines in a buffer that somebody else owns; remembers how far it has looked.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// Octets at the start of the buffer that are known to hold no LF.
    searched: usize,
    /// The line that is being dropped because it is too long; `None` in an ordinary line.
    dropped: Option<Dropped>,
}

/// What stands at the start of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// An LF without CR before it. Nobody knows where the next command begins.
    BareLf,
    /// A part of a line that is too long: take these octets away and ask again.
    Dropping(usize),
    /// A line that is longer than anybody may ever send.
    Endless,
    /// No whole line yet; take nothing away.
    Partial,
    /// The end of a line that was too long; take these octets away.
    TooLong {
        /// How many octets to take away.
        octets: usize,
        /// The limit that it broke.
        limit: LineLimit,
    },
    /// A line.
    Whole {
        /// Without its CRLF.
        line: &'a [u8],
        /// How many octets to take away: the line and its CRLF.
        octets: usize,
    },
}

/// How long a line may be, and what it is called there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineLimit {
    /// The longest line in octets, without its CRLF.
    pub octets_max: usize,
    /// Which kind of line it is.
    pub kind: LineKind,
}

/// Kinds of lines that have limits of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// A line of a SASL exchange (RFC 4954 §4).
    Auth,
    /// Any other command.
    Command,
}

#[derive(Clone, Copy, Debug)]
struct Dropped {
    octets: usize,
    limit: LineLimit,
}

impl Lines {
    /// What stands at the start of `buffer`, which begins where the last answer said it would.
    ///
    /// A line above `endless_octets` is [`Line::Endless`], whatever its limit is.
    pub fn next<'a>(
        &mut self,
        buffer: &'a [u8],
        limit: LineLimit,
        endless_octets: usize,
    ) -> Line<'a> {
        let unseen = buffer.get(self.searched..).unwrap_or_default();
        let before = self.dropped.map_or(0, |dropped| dropped.octets);
        let Some(found) = memchr(b'\n', unseen) else {
            return self.without_end(buffer, limit, endless_octets);
        };
        let lf = self.searched + found;
        if before + lf > endless_octets {
            return Line::Endless;
        }
        let Some(line) = buffer.get(..lf).and_then(|text| text.strip_suffix(b"\r")) else {
            return Line::BareLf;
        };
        self.searched = 0;
        match self.dropped.take() {
            Some(dropped) => Line::TooLong { octets: lf + 1, limit: dropped.limit },
            None if line.len() > limit.octets_max => Line::TooLong { octets: lf + 1, limit },
            None => Line::Whole { line, octets: lf + 1 },
        }
    }

    /// Whether the buffer begins with the beginning of a line.
    pub const fn is_at_start(&self) -> bool {
        self.dropped.is_none()
    }

    fn without_end(
        &mut self,
        buffer: &[u8],
        limit: LineLimit,
        endless_octets: usize,
    ) -> Line<'static> {
        let before = self.dropped.map_or(0, |dropped| dropped.octets);
        if before + buffer.len() > endless_octets {
            return Line::Endless;
        }
        // One more than the limit: the CR of its end may be the last octet.
        if self.dropped.is_none() && buffer.len() <= limit.octets_max + 1 {
            self.searched = buffer.len();
            return Line::Partial;
        }
        // A CR stays in the buffer until it is known what follows it.
        let octets = buffer.len() - usize::from(buffer.last() == Some(&b'\r'));
        self.searched = buffer.len() - octets;
        let limit = self.dropped.map_or(limit, |dropped| dropped.limit);
        self.dropped = Some(Dropped { octets: before + octets, limit });
        Line::Dropping(octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: LineLimit = LineLimit { octets_max: 8, kind: LineKind::Command };

    fn check(text: &[u8], step: usize) -> Vec<String> {
        let (mut lines, mut buffer, mut seen) = (Lines::default(), Vec::new(), Vec::new());
        for piece in text.chunks(step) {
            buffer.extend_from_slice(piece);
            loop {
                let taken = match lines.next(&buffer, LIMIT, 20) {
                    Line::Dropping(0) | Line::Partial => break,
                    Line::Dropping(octets) => octets,
                    Line::TooLong { octets, .. } => {
                        seen.push("too long".into());
                        octets
                    }
                    Line::Whole { line, octets } => {
                        seen.push(String::from_utf8(line.to_vec()).unwrap());
                        octets
                    }
                    end @ (Line::BareLf | Line::Endless) => {
                        seen.push(format!("{end:?}"));
                        return seen;
                    }
                };
                buffer.drain(..taken);
            }
        }
        seen
    }

    #[test]
    fn lines_are_the_same_however_the_octets_arrive() {
        for (text, want) in [
            (&b"a\r\nbc\r\n\r\nd"[..], vec!["a", "bc", ""]),
            (b"12345678\r\n123456789\r\nx\r\n", vec!["12345678", "too long", "x"]),
            (b"a\rb\r\nc\r\n", vec!["a\rb", "c"]),
            (b"a\nb\r\n", vec!["BareLf"]),
            (b"\n", vec!["BareLf"]),
            (b"123456789\n", vec!["BareLf"]),
            (b"123456789\r\r\r\nx\r\n", vec!["too long", "x"]),
            (b"1234567890123456789\r\nx\r\n", vec!["too long", "x"]),
            (b"12345678901234567890\r\nx\r\n", vec!["Endless"]),
            (b"12345678901234567890123\r\n", vec!["Endless"]),
            (b"123456789012345678901234567890", vec!["Endless"]),
        ] {
            for step in 1..=text.len() {
                assert_eq!(check(text, step), want, "{text:?} by {step}");
            }
        }
    }
}
