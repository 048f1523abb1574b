//! Hides what proves a credential in what is shown of a session.
//!
//! Invariant: whatever the mechanism, of AUTH (RFC 4954) its name is shown and nothing else. Pure.

/// Reads along, for one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redactor {
    is_secret: bool,
}

impl Redactor {
    /// A line of the client, without its end.
    pub fn client(&mut self, line: &str) -> String {
        if self.is_secret {
            return HIDDEN.to_owned();
        }
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some(auth), Some(mechanism)) if auth.eq_ignore_ascii_case("AUTH") => {
                self.is_secret = true;
                let rest = if words.next().is_some() { " (hidden)" } else { "" };
                format!("AUTH {mechanism}{rest}")
            }
            _ => line.to_owned(),
        }
    }

    /// A line of the server, without its end.
    pub fn server(&mut self, line: &str) -> String {
        if self.is_secret && line.starts_with("334") {
            return format!("334 {HIDDEN}");
        }
        // Anything else ends the exchange.
        self.is_secret = false;
        line.to_owned()
    }
}

/// Splits what was said into lines without their ends.
pub fn lines(octets: &[u8]) -> impl Iterator<Item = String> {
    octets.split_inclusive(|octet| *octet == b'\n').map(|line| {
        let line = String::from_utf8_lossy(line);
        line.trim_end_matches(['\r', '\n']).to_owned()
    })
}

const HIDDEN: &str = "(hidden)";
