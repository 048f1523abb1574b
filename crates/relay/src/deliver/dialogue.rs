//! What was said on a connection since its last transaction began, for who asks why it went wrong.
//!
//! Invariant: bounded; neither content nor what proves a credential is ever shown. Pure.

use crate::sessions::{client_line, lines, server_line};

/// The octets of both sides, in the order in which they were said.
#[derive(Debug, Default)]
pub(super) struct Dialogue {
    octets: Vec<u8>,
    /// Who spoke, and where in `octets` he ended.
    turns: Vec<(Side, usize)>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// We; a line of an exchange of AUTH is secret.
    Client {
        /// Whether it is.
        is_secret: bool,
    },
    /// The host.
    Server,
}

impl Dialogue {
    /// Forgets what was said.
    pub(super) fn clear(&mut self) {
        self.octets.clear();
        self.turns.clear();
    }

    /// Takes note of what a side says; what is too much is left out.
    pub(super) fn say(&mut self, side: Side, octets: &[u8]) {
        let room = OCTETS_MAX.saturating_sub(self.octets.len());
        let kept = octets.get(..octets.len().min(room)).unwrap_or_default();
        if kept.is_empty() {
            return;
        }
        self.octets.extend_from_slice(kept);
        match self.turns.last_mut() {
            Some((last, end)) if *last == side => *end = self.octets.len(),
            Some(_) | None => self.turns.push((side, self.octets.len())),
        }
    }

    /// Line by line, `C:` for ours and `S:` for the host's.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut shown = Vec::new();
        let mut began = 0;
        for &(side, end) in &self.turns {
            let said = self.octets.get(began..end).unwrap_or_default();
            began = end;
            shown.extend(lines(said).map(|line| match side {
                Side::Client { is_secret } => format!("C: {}", client_line(&line, is_secret)),
                Side::Server => format!("S: {}", server_line(&line)),
            }));
        }
        if self.octets.len() >= OCTETS_MAX {
            shown.push("(and more)".to_owned());
        }
        shown
    }
}

/// Octets of a dialogue that are kept.
const OCTETS_MAX: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialogue_shows_commands_and_replies_but_no_secret() {
        let mut dialogue = Dialogue::default();
        let client = Side::Client { is_secret: false };
        let secret = Side::Client { is_secret: true };
        for (side, octets) in [
            (Side::Server, "220 mx.example ESM"),
            (Side::Server, "TP\r\n"),
            (client, "EHLO us.example\r\n"),
            (Side::Server, "250-mx.example\r\n250 AUTH LOGIN PLAIN\r\n"),
            (client, "AUTH LOGIN\r\n"),
            (Side::Server, "334 VXNlcg==\r\n"),
            (secret, "YW5p\r\n"),
            (Side::Server, "334 UGFzcw==\r\n"),
            (secret, "c2VjcmV0\r\n"),
            (Side::Server, "535 5.7.8 no\r\n"),
            (client, "auth PLAIN AGFuaQBzZWNyZXQ=\r\n"),
            (Side::Server, "235 2.7.0 ok\r\n"),
            (client, "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"),
        ] {
            dialogue.say(side, octets.as_bytes());
        }
        let want = "\
S: 220 mx.example ESMTP
C: EHLO us.example
S: 250-mx.example
S: 250 AUTH LOGIN PLAIN
C: AUTH LOGIN
S: 334 (hidden)
C: (hidden)
S: 334 (hidden)
C: (hidden)
S: 535 5.7.8 no
C: AUTH PLAIN (hidden)
S: 235 2.7.0 ok
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c@d.example>";
        assert_eq!(dialogue.lines().join("\n"), want);
        dialogue.clear();
        assert!(dialogue.lines().is_empty());
    }

    #[test]
    fn a_host_that_talks_for_ever_is_cut() {
        let mut dialogue = Dialogue::default();
        for _ in 0..1_000 {
            dialogue.say(Side::Server, b"250-more of the same\r\n");
        }
        let lines = dialogue.lines();
        assert!(lines.join("\n").len() < 2 * OCTETS_MAX);
        assert_eq!(lines.last().unwrap(), "(and more)");
    }
}
